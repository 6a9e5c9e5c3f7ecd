"""What a document is written with: its reserved words, references inside it, and paths in messages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from nemo_run.config.document.symbols import type_name
from nemo_run.config.document.values import BY_TARGET
from nemo_run.errors import ConfigError, SerializationError

TARGET, PARTIAL, ARGS, CONVERT, RECURSIVE = "_target_", "_partial_", "_args_", "_convert_", "_recursive_"
RESERVED = frozenset({TARGET, PARTIAL, ARGS, CONVERT, RECURSIVE})
CALL = "_call_"  # only read
EXISTING = "object"  # what `_convert_` says of an object that is stored as it is

CLASS, CALLABLE, OBJECT = "hydra.utils.get_class", "hydra.utils.get_method", "hydra.utils.get_object"
REFERENCES = frozenset({CLASS, CALLABLE, OBJECT})
BUILDABLE = "nemo_run.config.document.buildable"
AS_GIVEN = "nemo_run.config.document.as_given"  # around an argument's value that does not fit its type hint
VALUES = (
    REFERENCES | BY_TARGET.keys() | {BUILDABLE, AS_GIVEN}
)  # targets that stand for a value, not for a configuration

_MISSING = "???"  # what Hydra takes for a value that is still to be given
_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPE = re.compile(r"(\\+)\$\{")
_NAME = r"[^\\{}()\[\]:.\s'\"$]+"
_STEP = re.compile(rf"(?:^|\.)({_NAME})|\[(\d+)\]|\[(\"(?:[^\"\\]|\\.)*\")\]")


class RefusedError(Exception):
    """Something cannot be stored or loaded; the path to it is put together on the way up.

    Attributes:
        what: What is wrong and what to do, without the place.
        error: The public error to raise in the end.
        path: The steps to the place, innermost first.
    """

    def __init__(self, what: str, error: type[ConfigError] = SerializationError) -> None:
        super().__init__(what)
        self.what = what
        self.error = error
        self.path: list[Any] = []

    def message(self) -> str:
        """Return the place and what is wrong there."""
        where = path_text(reversed(self.path))
        return f"{where}: {self.what}" if where else self.what


def path_text(path: Iterable[Any]) -> str:
    """Write a path as it is typed: ``model.layers[2].size``; a key that is no name is in brackets.

    Example:
        >>> path_text(["model", "layers", 2, "size"])
        'model.layers[2].size'
    """
    text = ""
    for step in path:
        if not isinstance(step, str):
            text += f"[{step!r}]"
        elif re.fullmatch(_NAME, step):
            text += f".{step}" if text else step
        else:
            text += f"[{json.dumps(step)}]"
    return text


def is_unicode(text: str) -> bool:
    """Check whether a text can be stored: a file name that is not Unicode has characters that are none."""
    return text.isascii() or not _SURROGATE.search(text)


def spell_out(text: str) -> Any:
    """Write a string; as a call that makes it if it is nothing to write in UTF-8, or has a meaning to Hydra."""
    if text == _MISSING or not is_unicode(text):
        return {TARGET: "json.loads", ARGS: [json.dumps(text).replace("$", "\\u0024")]}
    if "${" not in text:
        return text
    return {TARGET: "builtins.str.join", ARGS: ["$", re.split(r"\$(?=\{)", text)]}


def unescape(text: str) -> str:
    """Return what a person means by a string in which ``${`` is escaped for Hydra."""

    def plain(found: re.Match[str]) -> str:
        slashes = found[1]
        return f"{slashes[: len(slashes) // 2]}${{" if len(slashes) % 2 else found[0]

    return _ESCAPE.sub(plain, text)


def reference_path(text: str) -> list[str | int]:
    """Return the path that ``${path}`` refers to; empty if the text is something else."""
    if not (text.startswith("${") and text.endswith("}")):
        return []
    inner, position, path = text[2:-1], 0, []
    while position < len(inner):
        found = _STEP.match(inner, position)
        if found is None:
            return []
        name, index, quoted = found.groups()
        path.append(int(index) if index else json.loads(quoted) if quoted else name)
        position = found.end()
    return path


def shown(value: Any) -> str:
    """Return a value in a message: short, on one line, whatever its ``repr`` does."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # noqa: BLE001  # any repr may fail, and the message matters more
        text = f"<{type_name(type(value))}>"
    return text if len(text) <= 80 else f"{text[:77]}..."
