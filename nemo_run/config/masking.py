"""Values that must not be shown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_SECRET_NAME = re.compile(r"(_KEY|_TOKEN|_PAT)\Z|SECRET|PASSWORD|PASSWD|CREDENTIAL|\A(API_?KEY|TOKEN)\Z", re.IGNORECASE)
MASK = "****"


def is_secret(name: str) -> bool:
    """Check whether a name says that its value is a secret.

    >>> is_secret("WANDB_API_KEY"), is_secret("KEYBOARD")
    (True, False)
    """
    return bool(_SECRET_NAME.search(name))


_PASSWORD_IN_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}://[^/\s:@]*:[^/\s@]+@")  # bounded: the time is linear


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
    return {
        name: MASK if is_secret(name) else _without_password(value) if isinstance(value, str) else value
        for name, value in values.items()
    }


def is_masked(name: str, value: str) -> bool:
    """Check whether a value stands for a secret that is not there.

    >>> is_masked("A_TOKEN", "****"), is_masked("URL", "postgres://****@db"), is_masked("PLAIN", "****")
    (True, True, False)
    """
    return (value == MASK and is_secret(name)) or f"://{MASK}@" in value


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
        shown.append(MASK if hide else f"{name}={MASK}" if secret and equals else _without_password(argument))
        hide = not hide and secret and not equals and argument.startswith("-")
    return shown


def _without_password(text: str) -> str:
    return _PASSWORD_IN_ADDRESS.sub(lambda found: f"{found[0].partition('://')[0]}://{MASK}@", text)


def is_secret_argument(name: str) -> bool:
    """Check whether an argument of a function is a secret; those of models have names that look like one.

    >>> is_secret_argument("client_secret"), is_secret_argument("api_key"), is_secret_argument("eos_token")
    (True, True, False)
    """
    return is_secret(name) and (name.endswith("api_key") or not name.endswith(("_key", "_token", "_pat")))


def unveiled(text: str, values: Any) -> str:
    """Return a text that shows values, such as the ``repr`` of an object, without the secrets that they hold.

    Secrets are texts under secret-looking names in dictionaries, such as variables of an environment, and what follows
    secret-looking options in lists of arguments.

    >>> unveiled("Script(env={'HF_TOKEN': 'x1'})", {"env": {"HF_TOKEN": "x1"}})
    "Script(env={'HF_TOKEN': '****'})"
    """
    for secret in sorted(set(_secrets_in(values)), key=len, reverse=True):
        text = text.replace(repr(secret), repr(MASK))
    return text


def _secrets_in(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if isinstance(inner, str) and isinstance(name, str) and inner and holds_secret(name, inner):
                yield inner
            yield from _secrets_in(inner)
    elif isinstance(value, (list, tuple)):
        words = [word for word in value if isinstance(word, str)]
        yield from (word for word, shown in zip(words, masked_arguments(words), strict=True) if word != shown)
        for inner in value:
            yield from _secrets_in(inner)
