"""YAML that every reader takes for the same: ours, PyYAML's and Hydra's.

Readers disagree on words such as ``no``, ``1e-3`` and ``0o17``: where a string looks like one to any of them, it is
written in quotes. Reading is PyYAML's safe loader, but ``1e-3`` is a number and a key that is there twice an error.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from nemo_run.config.words import Switchable

try:
    from yaml import CSafeDumper as SafeDumper, CSafeLoader as SafeLoader
except ImportError:  # PyYAML without libyaml
    from yaml import SafeDumper, SafeLoader  # type: ignore[assignment]

_EXPONENT = re.compile(r"[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)[eE][-+]?[0-9]+")
_TIME = re.compile(r"[0-9]{1,9}(?::[0-9]{1,2}){1,2}")  # which YAML 1.1 counts in seconds
_OCTAL = re.compile(r"[-+]?0o[0-7_]+")
_FLOAT, _INT, _MERGE = "tag:yaml.org,2002:float", "tag:yaml.org,2002:int", "tag:yaml.org,2002:merge"
_MOST_NODES = 1_000_000
_LONGEST_LINE = 72


class _Dumper(SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # a document says itself what is shared
        return True


class _Loader(SafeLoader):
    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            name = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE else key
            if name in seen:
                raise ValueError(
                    f"the key {key.value!r} is there twice in one mapping, in line {key.start_mark.line + 1}"
                )
            seen.add(name)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


class _WordLoader(_Loader):
    """Keeps words that are not plainly true or false."""

    def construct_yaml_bool(self, node: Any) -> Any:
        meant = super().construct_yaml_bool(node)
        if node.value.lower() in ("true", "false"):
            return meant
        return _word(node, meant)

    def construct_yaml_int(self, node: Any) -> Any:
        meant = super().construct_yaml_int(node)
        return _word(node, meant) if _TIME.fullmatch(node.value) else meant

    def construct_yaml_timestamp(self, node: Any) -> Any:
        return _word(node, super().construct_yaml_timestamp(node))


def _word(node: Any, meant: Any) -> Switchable:
    word = Switchable(node.value)
    word.meant = meant
    return word


for _kind in ("bool", "int", "timestamp"):
    _WordLoader.add_constructor(f"tag:yaml.org,2002:{_kind}", getattr(_WordLoader, f"construct_yaml_{_kind}"))


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _sequence(dumper: _Dumper, items: list[Any]) -> yaml.SequenceNode:
    short = len(items) <= _LONGEST_LINE // 3 and all(type(item) is not dict for item in items)
    text = repr(items) if short else ""
    on_one_line = short and len(text) <= _LONGEST_LINE and "{" not in text and "\\n" not in text
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=on_one_line)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(list, _sequence)
for _handler in (_Dumper, _Loader):
    _handler.add_implicit_resolver(_FLOAT, _EXPONENT, [*"-+.0123456789"])
_Dumper.add_implicit_resolver(_INT, _OCTAL, [*"-+0"])


def dump(document: Any) -> str:
    """Write a document as YAML."""
    return yaml.dump(  # a safe dumper
        document, Dumper=_Dumper, sort_keys=False, default_flow_style=False, allow_unicode=True, width=2**30
    )


def load(text: str) -> Any:
    """Read a document; ``ValueError`` if it is not YAML, or has tags that make objects."""
    return _loaded(text, _Loader)


def load_words(text: str) -> Any:
    """Read a document in which words such as ``off`` are :class:`Switchable`."""
    return _loaded(text, _WordLoader)


def _loaded(text: str, loader: type[_Loader]) -> Any:
    try:
        document = yaml.load(text, Loader=loader)  # noqa: S506  # a safe loader
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    if "*" in text:
        _check_size(document)
    return document


def _check_size(document: Any) -> None:
    """Refuses a text whose aliases make something endless, or huge, of a few lines."""
    sizes: dict[int, float] = {}

    def size(node: Any) -> float:
        if not isinstance(node, (dict, list)):
            return 1
        if id(node) not in sizes:
            sizes[id(node)] = float("inf")  # what a node that holds itself finds
            sizes[id(node)] = 1 + sum(map(size, node.values() if isinstance(node, dict) else node))
        return sizes[id(node)]

    if size(document) > _MOST_NODES:
        raise ValueError(f"its aliases make more than {_MOST_NODES} values of it; write out what is meant")
