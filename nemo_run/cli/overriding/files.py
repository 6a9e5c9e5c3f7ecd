"""Configuration files as items: ``@path`` and ``@path:section``, in YAML, TOML or JSON.

Reading a file imports and calls nothing. Beside what :mod:`nemo_run.config.document` describes, a file may say
``_factory_: name`` (or ``name(argument=value)``) with changes of what the factory makes, write an operator into a key
(``size*=: 2``), and name other files, relative to itself: ``optimizer: "@optimizers/adam.yaml"``. Inside a text,
``${path}`` stands for the value at that path of the file, and ``${oc.env:NAME}`` or ``${oc.env:NAME,default}`` for an
environment variable.
"""

from __future__ import annotations

import functools
import operator
import os
import re
import reprlib
import sys
from pathlib import Path
from typing import Any

from nemo_run.cli.overriding.items import (
    Accepted,
    Configured,
    Given,
    Item,
    Loaded,
    Made,
    Pairs,
    Reference,
    Several,
    Shared,
    Switch,
    Text,
)
from nemo_run.cli.overriding.parse import parse_value
from nemo_run.config.document import from_document
from nemo_run.config.document.layout import (
    ARGS,
    AS_GIVEN,
    BUILDABLE,
    CONVERT,
    EXISTING,
    PARTIAL,
    REFERENCES,
    RESERVED,
    TARGET,
    reference_path,
    unescape,
)
from nemo_run.config.document.values import BY_TARGET
from nemo_run.config.export import load_words
from nemo_run.config.suggest import did_you_mean
from nemo_run.config.words import Switchable
from nemo_run.errors import CommandLineError, SerializationError

FACTORY = "_factory_"
SUFFIXES = (".yaml", ".yml", ".toml", ".json")

_INSIDE = re.compile(r"(?<!\\)\$\{([^${}]+)\}")
_VARIABLE = "oc.env:"
_KEY = re.compile(r"(.+?)\s*([-+*/|&]?=)\Z")


def is_file(text: str) -> bool:
    """Check whether a text is written as the name of a configuration file, with or without a section.

    Example:
        >>> is_file("@model.yaml"), is_file("@model.yaml:small"), is_file("@someone")
        (True, True, False)
    """
    return text.startswith("@") and split_section(text)[0].suffix.lower() in SUFFIXES


def split_section(text: str) -> tuple[Path, str]:
    """Return the path and section of ``@path:section``.

    Example:
        >>> split_section("@model.yaml:small")
        (PosixPath('model.yaml'), 'small')
    """
    path, colon, section = text.removeprefix("@").rpartition(":")
    if not colon or "/" in section or ("." in Path(section).suffix and Path(section).suffix in SUFFIXES):
        return Path(text.removeprefix("@")), ""
    return Path(path), section


def load(text: str, named_in: tuple[Path, ...] = ()) -> Item:
    """Return what is in a file.

    Args:
        text: ``@path`` or ``@path:section``.
        named_in: The file that names it, and those that led there.

    Raises:
        CommandLineError: There is no such file, or no such section in it.
        SerializationError: It is broken.
    """
    path, section = split_section(text)
    path = Path(named_in[-1].parent if named_in else "", path.expanduser())
    if path.resolve() in named_in:
        raise CommandLineError(f"{path} leads back to itself: {' -> '.join(map(str, [*named_in, path]))}")
    document = _document(path)
    return _Reader(document, (*named_in, path.resolve())).item(_section(document, section, path))


def piped(name: str) -> str | None:
    """Return the text that comes through a pipe: ``-`` and ``/dev/stdin``, or ``/dev/fd/3``; None for other names."""
    is_pipe = name == "-" or ("\n" not in name and Path(name).is_fifo())
    return _piped(name) if is_pipe else None


@functools.cache
def _piped(name: str) -> str:
    """Return what came through a pipe, which is read once. The newline at its end tells it from a file name."""
    text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    return f"{text}\n"


def read(text: str) -> Any:
    """Return what is in a file, or comes through a pipe, as a plain document; see :func:`load`."""
    path, section = split_section(text)
    through_pipe = piped(str(path))
    document = _document(path.expanduser()) if through_pipe is None else load_words(through_pipe)
    return _meant(_section(document, section, path))


def _document(path: Path) -> Any:
    if path.is_dir():
        raise CommandLineError(f"{str(path)!r} is a folder; name a file in it")
    if not path.is_file():
        raise CommandLineError(f"there is no file {str(path)!r}{_files_near(path)}")
    return load_words(path)


def _files_near(path: Path) -> str:
    if not path.parent.is_dir():
        return f", nor a folder {str(path.parent)!r}"
    names = sorted(entry.name for entry in path.parent.iterdir() if entry.suffix.lower() in SUFFIXES)
    return did_you_mean(path.name, names) if names else ""


def _section(document: Any, section: str, path: Path) -> Any:
    for name in section.split(".") if section else ():
        if not isinstance(document, dict) or name not in document:
            known = map(str, document) if isinstance(document, dict) else ()
            raise CommandLineError(f"{path} has no section {section!r}{did_you_mean(name, known)}")
        document = document[name]
    return document


def item_of(value: Any) -> Item:
    """Return a value that Python code gives, as an item; strings may name factories and files as if they were typed."""
    return _Reader(value, ()).item(value)


class _Reader:
    """Turns a document into items."""

    def __init__(self, document: Any, files: tuple[Path, ...]) -> None:
        self.document = document
        self.files = files
        self.where = f"{files[-1]}: " if files else ""
        self.shared = {id(found): found for text in _strings(document) if (found := self.referred(text)) is not None}
        self.done: dict[int, Shared | None] = {}

    def referred(self, text: str) -> Any:
        """Return the node of the document that ``${path}`` refers to; None if the text is something else."""
        path = reference_path(text)
        try:
            return functools.reduce(operator.getitem, path, self.document) if path else None
        except (KeyError, IndexError, TypeError):
            return None

    def followed(self, document: Any) -> Any:
        """Return what a reference leads to, which may be another reference; anything else as it is."""
        passed = []
        while isinstance(document, str) and (found := self.referred(document)) is not None:
            if document in passed:
                raise SerializationError(f"{self.where}the reference {document!r} leads back to itself")
            passed.append(document)
            document = found
        return document

    def item(self, document: Any) -> Item:
        document = self.followed(document)
        if isinstance(document, Switchable):
            text = str(document)
            return Switch(text, document.meant, Text(text, text, self.files))
        if isinstance(document, str):
            text = self.filled(document) if self.files and "${" in document else document
            return Text(text, unescape(text), self.files)
        if id(document) not in self.shared or not isinstance(document, (dict, list)):
            return self.plain(document)
        if id(document) not in self.done:
            self.done[id(document)] = None
            item = self.plain(document)
            self.done[id(document)] = Shared(item.source, item)
        shared = self.done[id(document)]
        if shared is None:
            raise SerializationError(f"{self.where}a reference in {reprlib.repr(document)} leads back to itself")
        return shared

    def filled(self, text: str, passed: tuple[str, ...] = ()) -> str:
        """Return a text in which values stand for references to them; other ones stay as they are."""

        def value(found: re.Match[str]) -> str:
            if found[0] in passed:
                raise SerializationError(f"{self.where}the reference {found[0]!r} leads back to itself")
            if found[1].startswith(_VARIABLE):
                return self.variable(found[1].removeprefix(_VARIABLE))
            node = self.referred(found[0])
            if node is None or isinstance(node, (dict, list)):
                return found[0]
            return self.filled(str(node), (*passed, found[0]))

        return _INSIDE.sub(value, text)

    def variable(self, text: str) -> str:
        name, comma, default = text.partition(",")
        value = os.environ.get(name.strip(), default.strip() if comma else None)
        if value is None:
            raise SerializationError(f"{self.where}the variable {name.strip()!r} of ${{{_VARIABLE}{text}}} is not set")
        return value

    def plain(self, document: Any) -> Item:
        source = reprlib.repr(document)
        if isinstance(document, (list, tuple)):
            return Several(source, "list", tuple(map(self.item, document)))
        if not isinstance(document, dict):
            return Given(source, document)
        if FACTORY in document:
            return self.made(document, source)
        if TARGET in document:
            return self.target(document, source)
        return Pairs(source, tuple((self.key(key), self.item(value)) for key, value in document.items()))

    def key(self, key: Any) -> Item:
        return Text(key, key) if isinstance(key, str) else Given(repr(key), key)

    def made(self, document: dict[str, Any], source: str) -> Item:
        name = document[FACTORY]
        if not isinstance(name, str):
            raise SerializationError(f"`{FACTORY}` must be the name of a factory, not {name!r}")
        changes = [(key, self.item(value)) for key, value in document.items() if key != FACTORY]
        return Made(source, parse_value(name), tuple((*operator_of(str(key)), item) for key, item in changes))

    def target(self, document: dict[str, Any], source: str) -> Item:
        name, args, partial = _head(document)
        if PARTIAL not in document and (value := self.value(document, source)) is not None:
            return value
        if name == AS_GIVEN and len(args) == 1:
            return Accepted(source, from_document(_meant(args[0]), validate=True))
        if name == BUILDABLE or document.get(CONVERT) == EXISTING:
            return Loaded(source, from_document(_meant(document), validate=True))
        kwargs = tuple((str(key), self.item(value)) for key, value in document.items() if key not in RESERVED)
        return Configured(source, name, tuple(map(self.item, args)), kwargs, partial)

    def value(self, document: dict[str, Any], source: str) -> Item | None:
        """Return what stands for a value, or refers to something; None for anything else."""
        name, names = document[TARGET], document.keys() - RESERVED
        if name in BY_TARGET and not names:
            return Given(source, from_document(_meant(document), resolve=_nothing))
        return Reference(source, str(document["path"])) if name in REFERENCES and names == {"path"} else None


def _head(document: dict[str, Any]) -> tuple[str, list[Any], bool]:
    """Return the name, the arguments by position, and whether it is a partial."""
    name, args, partial = document[TARGET], document.get(ARGS, []), document.get(PARTIAL, False)
    if not isinstance(name, str) or not isinstance(args, list) or not isinstance(partial, bool):
        raise SerializationError(f"`{TARGET}` must be a dotted name, `{ARGS}` a list and `{PARTIAL}` true or false")
    return name, args, partial


def operator_of(key: str) -> tuple[str, str]:
    """Return the path and the operator of a key.

    Example:
        >>> operator_of("size*="), operator_of("size")
        (('size', '*='), ('size', '='))
    """
    found = _KEY.match(key)
    return (found[1], found[2]) if found else (key, "=")


def _strings(document: Any) -> list[str]:
    found, todo = [], [document]
    while todo:
        one = todo.pop()
        if isinstance(one, str) and one.startswith("${"):
            found.append(one)
        elif isinstance(one, (dict, list)):
            todo.extend(one.values() if isinstance(one, dict) else one)
    return found


def _meant(document: Any) -> Any:
    """Return a document with the values that YAML takes its words for."""
    if isinstance(document, Switchable):
        return document.meant
    if isinstance(document, list):
        return [_meant(one) for one in document]
    return {key: _meant(one) for key, one in document.items()} if isinstance(document, dict) else document


def _nothing(name: str) -> Any:
    raise SerializationError(f"{name!r} cannot stand inside a value")
