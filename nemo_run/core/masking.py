"""Values that must not be shown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_SECRET_NAME = re.compile(r"(_KEY|_TOKEN)\Z|SECRET|PASSWORD|PASSWD|CREDENTIAL|\A(API_?KEY|TOKEN)\Z", re.IGNORECASE)
MASK = "****"


def is_secret(name: str) -> bool:
    """Whether a name says that its value is a secret.

    >>> is_secret("WANDB_API_KEY"), is_secret("KEYBOARD")
    (True, False)
    """
    return bool(_SECRET_NAME.search(name))


def masked(values: Mapping[str, str]) -> dict[str, str]:
    """The mapping with the values of secret-looking names masked."""
    return {name: MASK if is_secret(name) else value for name, value in values.items()}


def masked_arguments(argv: Sequence[str]) -> list[str]:
    """A command line in which the values of secret-looking options and overrides are masked.

    >>> masked_arguments(["--api-key", "x", "--token=y", "env.HF_TOKEN=z", "lr=1"])
    ['--api-key', '****', '--token=****', 'env.HF_TOKEN=****', 'lr=1']
    """
    shown: list[str] = []
    hide = False
    for argument in argv:
        name, equals, _ = argument.partition("=")
        secret = is_secret(re.split(r"[.\[]", name.lstrip("-"))[-1].replace("-", "_"))
        shown.append(MASK if hide else f"{name}={MASK}" if secret and equals else argument)
        hide = not hide and secret and not equals and argument.startswith("-")
    return shown
