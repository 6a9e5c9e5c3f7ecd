"""Values that must not be shown."""

from __future__ import annotations

import re
from collections.abc import Mapping

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
