"""Values that must not be shown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_SECRET_NAME = re.compile(r"(_KEY|_TOKEN|_PAT)\Z|SECRET|PASSWORD|PASSWD|CREDENTIAL|\A(API_?KEY|TOKEN)\Z", re.IGNORECASE)
MASK = "****"


def is_secret(name: str) -> bool:
    """Check whether a name says that its value is a secret.

    >>> is_secret("WANDB_API_KEY"), is_secret("KEYBOARD")
    (True, False)
    """
    return bool(_SECRET_NAME.search(name))


_PASSWORD_IN_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/\s:@]*:[^/\s@]+@")


def holds_secret(name: str, value: str) -> bool:
    """Check whether a variable is a secret: its name says so, or its value is an address with a password.

    >>> holds_secret("GITHUB_PAT", "x"), holds_secret("DATABASE_URL", "postgres://me:pw@db/x")
    (True, True)
    >>> holds_secret("DATABASE_URL", "postgres://db/x")
    False
    """
    return is_secret(name) or bool(_PASSWORD_IN_ADDRESS.search(value))


def masked(values: Mapping[str, str]) -> dict[str, str]:
    """Return the mapping with the values of secret-looking names masked."""
    return {name: MASK if holds_secret(name, value) else value for name, value in values.items()}


def masked_arguments(argv: Sequence[str]) -> list[str]:
    """Return a command line in which the values of secret-looking options and overrides are masked.

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
