"""Reading what is typed, under the names that existing code imports; the work is done in ``overriding``."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_origin

import fiddle as fdl

from nemo_run.cli import registry
from nemo_run.cli.overriding import arguments, values
from nemo_run.cli.overriding.overrides import MAKER
from nemo_run.cli.overriding.parse import parse_override, parse_value as read_value
from nemo_run.cli.overriding.place import NoArgumentError, Place, UnfitError
from nemo_run.config.buildable import Config, Partial
from nemo_run.errors import ConfigError, OverrideError, UnsetArgumentError

_KINDS = {list: "list", dict: "dict", Literal: "literal"}


class Operation(enum.Enum):
    """What an override does with a value."""

    ASSIGN = "="
    ADD = "+="
    SUBTRACT = "-="
    MULTIPLY = "*="
    DIVIDE = "/="
    OR = "|="
    AND = "&="
    UNION = "|="  # noqa: PIE796  (another name for OR)


class CLIException(OverrideError):  # noqa: N818  (its name in NeMo-Run)
    """What was typed makes no sense.

    Attributes:
        arg: What was typed.
        context: More about it.
    """

    def __init__(self, message: str, arg: str, context: dict[str, Any]) -> None:
        super().__init__(message)
        self.arg = arg
        self.context = context

    def user_friendly_message(self) -> str:
        """Return the message with what was typed before it."""
        return f"Error processing argument '{self.arg}': {self}"


class ArgumentParsingError(CLIException):
    """It is not an argument."""


class TypeParsingError(CLIException):
    """It is not of the type that is wanted."""


class OperationError(CLIException):
    """Its operator does not go with the values."""


class ArgumentValueError(CLIException):
    """There is no such argument, or it does not take this value."""


class UndefinedVariableError(CLIException):
    """It changes a value that is not there."""


class ParseError(CLIException):
    """A value is not of the type that is wanted.

    Attributes:
        value: The value, as it was typed.
        expected_type: The type.
        reason: Why.
    """

    def __init__(self, value: str, expected_type: Any, reason: str) -> None:
        context = {"expected_type": expected_type}
        super().__init__(f"Failed to parse {value!r} as {expected_type}: {reason}", value, context)
        self.value = value
        self.expected_type = expected_type
        self.reason = reason


class LiteralParseError(ParseError):
    """A value is none of those that are allowed."""


class CollectionParseError(ParseError):
    """A value is no collection of the type that is wanted."""


class ListParseError(CollectionParseError):
    """A value is no list."""


class DictParseError(CollectionParseError):
    """A value is no dict."""


class UnknownTypeError(ParseError):
    """Nothing can be read as this type."""


_ERRORS: dict[str, type[ParseError]] = {
    "list": ListParseError, "dict": DictParseError, "literal": LiteralParseError,
}  # fmt: skip


def parse_value(value: str, annotation: Any = None) -> Any:
    """Read a value as one of a type.

    >>> parse_value("[1, 2]", list[int]), parse_value("1e-3")
    ([1, 2], 0.001)

    Raises:
        ParseError: It is none.
    """
    item, place = read_value(value), Place("value", Any if annotation is None else annotation, maker=MAKER)
    try:
        return values.convert(item, place)
    except UnfitError as error:
        raise _unfit(error) from None
    except OverrideError as error:
        raise UnknownTypeError(value, annotation, str(error)) from None


def parse_cli_args(fn: Callable[..., Any] | fdl.Buildable[Any], args: Sequence[str], output_type: Any = Partial) -> Any:
    """Return what :func:`nemo_run.cli.parse_cli_args` does.

    Raises:
        CLIException: Something that was typed cannot be read, or does not fit.
    """
    try:
        return arguments.parse_cli_args(fn, args, output_type)
    except CLIException:
        raise
    except OverrideError as error:
        raise _of(error, " ".join(args)) from error


def parse_partial(fn: Callable[..., Any], *args: str) -> Any:
    """Return a :class:`nemo_run.Partial` of a function; see :func:`parse_cli_args`."""
    return parse_cli_args(fn, args, Partial)


def parse_config(fn: Callable[..., Any], *args: str) -> Any:
    """Return a :class:`nemo_run.Config` of a class or function; see :func:`parse_cli_args`."""
    return parse_cli_args(fn, args, Config)


def parse_factory(parent: Any, arg_name: str, arg_type: Any, value: str) -> Any:
    """Return what a factory makes for an argument.

    Args:
        parent: The class or function that the argument is of.
        arg_name: The argument.
        arg_type: Its type.
        value: A factory's name, with or without arguments.

    Raises:
        ParseError: There is no such factory.
    """
    registry.load_everything()
    place = Place(arg_name, arg_type, owner=parent, name=arg_name, maker=MAKER)
    try:
        return values.convert(read_value(value), place)
    except UnfitError as error:
        raise _unfit(error) from None


def parse_attribute(attr: str, nested: Any) -> Any:
    """Return the value of an attribute of what was parsed so far.

    Raises:
        ArgumentValueError: There is none.
    """
    try:
        return getattr(nested, attr)
    except AttributeError as error:
        raise ArgumentValueError(f"Invalid attribute {attr!r}: {error}", attr, {"nested": nested}) from error


class PythonicParser:
    """Reads overrides one at a time, by the one grammar that reads all that is typed."""

    def parse(self, arg: str) -> dict[str, tuple[Operation, str]]:
        """Return what an override changes, with its operator and its value as it was typed.

        >>> PythonicParser().parse("model.size*=2")
        {'model.size': (<Operation.MULTIPLY: '*='>, '2')}

        Raises:
            ArgumentParsingError: It is no override.
        """
        try:
            override = parse_override(arg)
        except OverrideError as error:
            raise ArgumentParsingError(str(error), arg, {}) from None
        return {override.path: (Operation(override.operator), override.value.source)}

    def parse_value(self, value: str) -> Any:
        """Read a value as what it looks like; see :func:`parse_value`."""
        return parse_value(value)


def cli_exception_handler(func: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function as it is: its caller sees the errors, and commands print them."""
    return func


class TypeParser:
    """Reads values; types may have readers of their own."""

    def __init__(self, strict_mode: bool = True) -> None:
        """Begin with no reader. ``strict_mode`` is accepted for compatibility: a value that does not fit is refused."""
        self.strict_mode = strict_mode

    @property
    def custom_parsers(self) -> dict[Any, Callable[[str, Any], Any]]:
        """Readers by the types that they are for."""
        return dict(values.READERS_OF_USERS)

    def parse(self, value: str, annotation: Any) -> Any:
        """Read a value as one of a type; see :func:`parse_value`."""
        return parse_value(value, annotation)

    def register_parser(self, type_: type) -> Callable[[Callable[[str, Any], Any]], Callable[[str, Any], Any]]:
        """Make a function the reader of a type; it takes the text and the type."""

        def register(function: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
            values.use_reader(type_, function)
            return function

        return register

    def infer_type(self, value: str) -> type:
        """Return the type that a value has where any will do.

        >>> type_parser.infer_type("3")
        <class 'int'>
        """
        return type(parse_value(value))


type_parser = TypeParser()


def _unfit(error: UnfitError) -> ParseError:
    hint = error.place.hint
    kind = _ERRORS.get(_KINDS.get(get_origin(hint) or hint, ""), ParseError)
    return kind(error.item.source, hint, error.why or str(error))


def _of(error: OverrideError, typed: str) -> CLIException:
    """Our error as the one that existing code expects; what it was made of tells which."""
    cause = error.__context__
    if isinstance(cause, UnfitError):
        return _unfit(cause)
    if isinstance(cause, UnsetArgumentError):
        kind: type[CLIException] = UndefinedVariableError
    elif isinstance(cause, ConfigError) or isinstance(error, NoArgumentError):
        kind = ArgumentValueError
    elif isinstance(cause, (TypeError, ArithmeticError, ValueError)):
        kind = OperationError
    else:
        kind = ArgumentParsingError
    return kind(str(error), typed, {})
