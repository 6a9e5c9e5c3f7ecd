"""JSON Schema of the arguments of a function or class, so that editors complete and check configuration files."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import types
from collections.abc import Callable, Mapping, Sequence, Set as AbstractSet
from pathlib import PurePath
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from nemo_run.config.hints import all_hints
from nemo_run.config.names import get_type_namespace

Schema = dict[str, Any]

_PLAIN: Mapping[Any, Schema] = {
    str: {"type": "string"}, int: {"type": "integer"}, float: {"type": "number"}, bool: {"type": "boolean"},
    type(None): {"type": "null"}, None: {"type": "null"}, Any: {}, object: {},
    dict: {"type": "object"}, list: {"type": "array"}, tuple: {"type": "array"}, set: {"type": "array"},
}  # fmt: skip
_FACTORY = {"type": "string", "description": "A factory, such as my_model(hidden=3), or @file.yaml."}


def schema(target: Callable[..., Any]) -> Schema:
    """Return the JSON Schema of a configuration file for a function or class.

    What cannot be told as a schema is accepted: a file that is refused by the schema is refused when it is loaded.

    Args:
        target: The function or class.

    Example:
        >>> def train(lr: float, layers: int = 2): ...
        >>> schema(train)["properties"]["layers"]
        {'type': 'integer', 'default': 2}
    """
    made = _SchemaWriter()
    found = made.of_target(target)
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": get_type_namespace(target)}
    return {**head, **found, **({"$defs": made.definitions} if made.definitions else {})}


class _SchemaWriter:
    """Writes schemas; those of classes once each."""

    def __init__(self) -> None:
        self.definitions: dict[str, Schema] = {}

    def of_target(self, target: Callable[..., Any]) -> Schema:
        """Return the schema of an object with the arguments of a target."""
        hints = all_hints(target)
        parameters = _parameters(target)
        properties: dict[str, Schema] = {
            "_target_": {"type": "string", "description": "The function or class, by its dotted path."},
            "_partial_": {"type": "boolean"},
            "_args_": {"type": "array"},
        }
        takes_any = False
        for name, parameter in parameters.items():
            if parameter.kind is parameter.VAR_KEYWORD:
                takes_any = True
            elif parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                properties[name] = {**self.of_hint(hints.get(name, Any)), **_default(parameter)}
        about = (inspect.getdoc(target) or "").partition("\n")[0]
        found: Schema = {"type": "object", "properties": properties, "additionalProperties": takes_any}
        return {**({"description": about} if about else {}), **found}

    def of_hint(self, hint: Any) -> Schema:
        """Return the schema of the values that a hint accepts."""
        if get_origin(hint) is Annotated:
            hint = get_args(hint)[0]
        try:
            if hint in _PLAIN:
                return dict(_PLAIN[hint])
        except TypeError:  # not hashable
            return {}
        origin, inner = get_origin(hint), get_args(hint)
        if origin in (Union, types.UnionType):
            return {"anyOf": [self.of_hint(one) for one in inner]}
        if origin is Literal:
            return {"enum": [value.name if isinstance(value, enum.Enum) else value for value in inner]}
        if isinstance(origin, type):
            return self._of_container(origin, inner)
        return self._of_class(hint) if isinstance(hint, type) else {}

    def _of_container(self, origin: type, inner: Sequence[Any]) -> Schema:
        if issubclass(origin, Mapping):
            return {"type": "object", "additionalProperties": self.of_hint(inner[1]) if len(inner) == 2 else True}
        if issubclass(origin, tuple) and Ellipsis not in inner:
            return {"type": "array", "prefixItems": [self.of_hint(one) for one in inner], "maxItems": len(inner)}
        if issubclass(origin, (Sequence, AbstractSet)):
            return {"type": "array", "items": self.of_hint(inner[0] if inner else Any)}
        return self._of_class(origin)

    def _of_class(self, cls: type) -> Schema:
        if issubclass(cls, enum.Enum):
            names = list(cls.__members__)
            return {"enum": [*names, *(one.value for one in cls if one.value not in names)]}
        if issubclass(cls, PurePath):
            return {"type": "string"}
        if cls.__module__ in ("builtins", "typing", "collections.abc", "abc"):
            return {}
        name = get_type_namespace(cls)
        if name not in self.definitions:
            self.definitions[name] = {}  # it may have itself for an argument
            own = self.of_target(cls)
            if not dataclasses.is_dataclass(cls) or cls.__subclasses__():
                own["additionalProperties"] = True  # a class below it may be named, with arguments of its own
            self.definitions[name] = own
        return {"anyOf": [{"$ref": f"#/$defs/{name.replace('~', '~0').replace('/', '~1')}"}, dict(_FACTORY)]}


def _parameters(target: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(target).parameters
    except (TypeError, ValueError):  # of a class of C code
        return {"kwargs": inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD)}


def _default(parameter: inspect.Parameter) -> Schema:
    value = parameter.default
    if isinstance(value, enum.Enum):
        value = value.name
    is_plain = value is None or isinstance(value, bool | int | float | str)
    return {"default": value} if is_plain and value is not parameter.empty else {}
