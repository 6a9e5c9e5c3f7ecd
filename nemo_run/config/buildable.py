"""``Config`` and ``Partial``: fiddle's, checked, and with more to do with them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any, Generic, Optional, TypeVar, cast, get_origin, overload

import fiddle as fdl
from fiddle._src.casting import register_supported_cast  # there is no public name for it
from fiddle.config import BuildableTraverserMetadata
from fiddle.history import Location
from fiddle.tagging import TaggedValueCls

from nemo_run.config import kinds, tree
from nemo_run.config.building import build
from nemo_run.config.changes import ArgumentHistory, user_location
from nemo_run.config.checking import bind, check_argument, check_complete, name_of, target_of_node, unknown
from nemo_run.config.convert import dataclasses_to_configs
from nemo_run.config.equality import equal
from nemo_run.config.masking import is_secret_argument, unveiled
from nemo_run.config.strictness import AsGiven
from nemo_run.config.target import target_of
from nemo_run.errors import ConfigError, UnsetArgumentError

if TYPE_CHECKING:
    import graphviz
    from typing_extensions import Self

    from nemo_run.config.diff import ConfigDiff

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

if TYPE_CHECKING:

    class _Buildable(fdl.Buildable[T], Any, Generic[T]):
        """Fits where its object is wanted, as in ``def train(model: Model = small())``."""
else:
    _Buildable = fdl.Buildable

_NOT_GIVEN: Any = object()


class _Metadata(BuildableTraverserMetadata):
    """Metadata of a node that was not checked in full, so that copies made by fiddle are not checked either."""

    validate = True
    accepted: frozenset[str | int] = frozenset()


class _UnlessArgument:
    """A method, unless the target has an argument of this name: then ``cfg.name`` is the argument."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self.method = method
        self.__doc__ = method.__doc__

    def __get__(self, node: _Checked[Any] | None, owner: type | None = None) -> Any:
        if node is None:
            return self.method
        name = self.method.__name__
        return node.__getattr__(name) if _has_argument(node, name) else self.method.__get__(node, owner)


def _unless_argument(method: F) -> F:
    return cast("F", _UnlessArgument(method))


class _Checked(_Buildable[T]):
    """What ``Config`` and ``Partial`` have in common."""

    __module__ = "nemo_run.config"
    __validate__ = True
    __accepted__: frozenset[str | int] = frozenset()  # arguments whose values do not fit, and are not checked again

    @overload
    def __init__(
        self: _Checked[dict[str, Any]],
        fn_or_cls: type[dict[Any, Any]],
        *args: Any,
        bind_args: bool = True,
        validate: bool = ...,
        **kwargs: Any,
    ) -> None: ...
    @overload
    def __init__(
        self, fn_or_cls: Callable[..., T], *args: Any, bind_args: bool = True, validate: bool = ..., **kwargs: Any
    ) -> None: ...
    def __init__(
        self,
        fn_or_cls: fdl.Buildable[T] | Callable[..., T] | type[T],
        *args: Any,
        bind_args: bool = True,
        validate: bool = _NOT_GIVEN,
        **kwargs: Any,
    ) -> None:
        if get_origin(fn_or_cls) is dict or (isinstance(fn_or_cls, dict) and not fn_or_cls):
            fn_or_cls = dict
        self.__init_callable__(fn_or_cls)
        target = target_of_node(self)
        if validate is not _NOT_GIVEN and target.takes_argument_validate:
            kwargs["validate"] = validate
            validate = True
        state = self.__dict__
        state["__argument_history__"] = ArgumentHistory()
        state["__argument_tags__"] = defaultdict(set)
        if not validate:
            state["__validate__"] = False
        location = user_location()
        self.__argument_history__.add_new_value("__fn_or_cls__", fn_or_cls, location)
        for name, value in bind(self, args, kwargs).items():
            self._arguments_set_value(name, value, location)
        if bind_args:
            for name, (kind, wanted) in target.default_configs.items():
                if name not in self.__arguments__:
                    self._arguments_set_value(name, kind(wanted), location)
        for name, tags in target.tags.items():
            self.__argument_tags__[name].update(tags)
            self.__argument_history__.add_updated_tags(name, self.__argument_tags__[name])

    def __init_callable__(self, fn_or_cls: Any) -> None:
        if isinstance(fn_or_cls, fdl.Buildable):
            super().__init_callable__(fn_or_cls)  # refuses, and says what to use instead
        self.__dict__.update(__fn_or_cls__=fn_or_cls, __arguments__={}, __signature_info__=target_of(fn_or_cls))

    # ---------------------------------------------------------------- arguments
    def __setattr__(self, name: str, value: Any) -> None:
        target = target_of_node(self)
        if name not in target.keywords:
            if name == "__orig_class__":  # what Config[Model](...) leaves behind
                return
            if not target.takes_any_keyword:
                raise unknown(self, name)
        self._arguments_set_value(name, value)

    def _arguments_set_value(self, key: str | int, value: Any, location: Location | None = None) -> None:
        """Every way to set an argument leads here."""
        checked = self.__validate__ and type(value) is not AsGiven
        value = dataclasses_to_configs(value.value if type(value) is AsGiven else value, Config)
        if isinstance(value, TaggedValueCls):
            self._set_tagged(key, value)
            return
        fits = checked and check_argument(self, key, value, location)
        if fits is (key in self.__accepted__):
            self._accept(key, not fits)
        self.__arguments__[key] = value
        self.__argument_history__.add_new_value(key, value, location)

    def _set_tagged(self, key: str | int, tagged: TaggedValueCls[Any]) -> None:
        if self.__validate__ and "value" in tagged.__arguments__:
            self._accept(key, not check_argument(self, key, tagged.__arguments__["value"]))
        super()._arguments_set_value(key, tagged)  # sets the tags, and the value inside if there is one

    def _accept(self, key: str | int, accepted: bool) -> None:
        """Note whether a value was accepted that does not fit."""
        self.__dict__["__accepted__"] = self.__accepted__ | {key} if accepted else self.__accepted__ - {key}

    def __getattr__(self, name: str) -> Any:
        arguments = self.__dict__.get("__arguments__", {})
        if name in arguments:
            return arguments[name]
        if name.startswith("__"):  # what copying, pickling and notebooks ask for
            raise AttributeError(name)
        target = target_of_node(self)
        if name not in target.keywords:
            raise unknown(self, name)
        if name in target.factories:
            raise UnsetArgumentError(
                f"{name_of(self)}.{name} has no value yet: its default is made anew for each object "
                f"(default_factory). Set it first, then change it"
            )
        default = target.parameters[name].default
        if default is not target.signature.empty:
            return default
        raise UnsetArgumentError(f"{name_of(self)}.{name} has no value yet, and no default; set it first")

    def __flatten__(self) -> tuple[tuple[Any, ...], BuildableTraverserMetadata]:
        values, metadata = super().__flatten__()
        if self.__validate__ and not self.__accepted__:
            return values, metadata
        marked = _Metadata(*metadata)
        marked.validate, marked.accepted = self.__validate__, self.__accepted__
        return values, marked

    @classmethod
    def __unflatten__(cls, values: Iterable[Any], metadata: BuildableTraverserMetadata) -> Self:
        node: Self = super().__unflatten__(values, metadata)
        node.__dict__["__argument_history__"] = ArgumentHistory(node.__argument_history__)
        if isinstance(metadata, _Metadata):
            node.__dict__.update(__validate__=metadata.validate, __accepted__=metadata.accepted)
        return node

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        copied: Self = tree.clone(self, memo)
        return copied

    def __eq__(self, other: object) -> bool:
        same = equal(self, other)
        return super().__eq__(other) if same is None else same

    __hash__ = None  # type: ignore[assignment]  # it can change

    def __repr__(self) -> str:
        values = {k: v for k, v in self.__arguments__.items() if not isinstance(v, str) or is_secret_argument(k)}
        return unveiled(super().__repr__(), values)

    # ---------------------------------------------------------------- the whole configuration
    def clone(self) -> Self:
        """Return a deep copy; what is shared in the original is shared in the copy.

        Example:
            >>> import nemo_run as run
            >>> a = run.Config(dict, x=[1])
            >>> b = a.clone()
            >>> b.x.append(2)
            >>> a.x
            [1]
        """
        return self.__deepcopy__({})

    @_unless_argument
    def build(self) -> Any:
        """Make what is configured, nested configurations first: the object, or for a Partial the callable.

        Example:
            >>> import nemo_run as run
            >>> run.Config(complex, real=1, imag=run.Config(float, 2)).build()
            (1+2j)
        """
        return build(self)

    def broadcast(self, /, **kwargs: Any) -> Self:
        """Set every argument that has one of these names, at every depth; the configuration itself is changed.

        Returns:
            The configuration.

        Example:
            >>> import nemo_run as run
            >>> cfg = run.Config(dict, size=1, parts=[run.Config(dict, size=2)])
            >>> cfg.broadcast(size=3).parts[0].size
            3
        """
        location = user_location()
        values = {name: dataclasses_to_configs(value, Config) for name, value in kwargs.items()}
        for node in tree.nodes(self, apart_from=values.values()):
            for name, value in values.items():
                if _has_argument(node, name):
                    _set_below(self, node, name, value, location)
        return self

    def walk(self, /, **kwargs: Callable[[Any], Any]) -> Self:
        """Set every argument that has one of these names, at every depth, to what a function says.

        The function is given the configuration that holds the argument. The configuration itself is changed.

        Returns:
            The configuration.

        Example:
            >>> import nemo_run as run
            >>> cfg = run.Config(dict, size=1, parts=[run.Config(dict, size=2)])
            >>> cfg.walk(size=lambda node: node.size * 10).parts[0].size
            20
        """
        location = user_location()
        for node in tree.nodes(self):
            for name, function in kwargs.items():
                if _has_value(node, name):
                    _set_below(self, node, name, function(node), location)
        return self

    # ---------------------------------------------------------------- showing and storing
    def diff(self, old: Self, trim: bool = True, **kwargs: Any) -> ConfigDiff:
        """Return what has changed since ``old``."""
        from nemo_run.config.diff import diff

        return diff(self, old, trim=trim, **kwargs)

    def visualize(self, **kwargs: Any) -> graphviz.Graph:
        """Return a drawing of the configuration."""
        from nemo_run.config.visualize import visualize

        return visualize(self, **kwargs)

    def save_config_img(self, path_str: str) -> None:
        """Save the drawing of :meth:`visualize` as a PNG file."""
        from nemo_run.config.visualize import save_config_img

        save_config_img(self, path_str)

    def _repr_svg_(self) -> str | None:
        from nemo_run.config.visualize import repr_svg

        return repr_svg(self)

    @_unless_argument
    def to_yaml(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the configuration as YAML, also written to ``path`` where one is given."""
        from nemo_run.config.export import to_yaml

        return to_yaml(self, path)

    @_unless_argument
    def to_toml(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the configuration as TOML, also written to ``path`` where one is given."""
        from nemo_run.config.export import to_toml

        return to_toml(self, path)

    @_unless_argument
    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the configuration as JSON, also written to ``path`` where one is given."""
        from nemo_run.config.export import to_json

        return to_json(self, path)

    @_unless_argument
    def to_python(self, path: str | os.PathLike[str] | None = None) -> str:
        """Python source that makes an equal configuration, also written to ``path`` where one is given."""
        from nemo_run.config.export import to_python

        return to_python(self, path)


class Config(_Checked[T], fdl.Config[T], Generic[T]):
    """How to make an object: a class or function, and its arguments.

    It is a ``fiddle.Config``. An argument is checked against its type hint when it is set; a dataclass instance
    given as an argument becomes a nested Config; ``validate=False`` accepts everything.

    Args:
        fn_or_cls: The class or function.
        *args: Its positional arguments.
        bind_args: Fill in the Configs that hints such as ``Annotated[Optional[T], Config[T]]`` ask for.
        validate: Check arguments. (A target that has an argument of this name gets it instead, and so does one that
            takes any keyword and has no type hints to check, such as ``dict``.)
        **kwargs: Its keyword arguments.

    Example:
        >>> import nemo_run as run
        >>> cfg = run.Config(complex, real=1)
        >>> cfg.imag = 2
        >>> cfg.build()
        (1+2j)
    """

    __module__ = "nemo_run.config"

    if TYPE_CHECKING:

        def build(self) -> T:
            """Make the object, nested configurations first."""
            ...

    def __build__(self, /, *args: Any, **kwargs: Any) -> T:
        try:
            built: T = super().__build__(*args, **kwargs)
        except TypeError:
            check_complete(self, args, kwargs)  # says it better where an argument is missing
            raise
        return built


class Partial(_Checked[T], fdl.Partial[T], Generic[T]):
    """How to make a callable: a function or class, and some of its arguments.

    Building it builds the nested Configs and gives a ``functools.partial``; the function itself is not called. It takes
    what :class:`Config` takes.

    Example:
        >>> import nemo_run as run
        >>> run.Partial(complex, imag=2).build()(1)
        (1+2j)
    """

    __module__ = "nemo_run.config"

    if TYPE_CHECKING:

        def build(self) -> Callable[..., T]:
            """Make the callable, nested configurations first."""
            ...


kinds.register(Config, Partial)

for _source in (fdl.Config, fdl.Partial, fdl.ArgFactory, Config, Partial):
    for _destination in (fdl.Config, fdl.Partial, fdl.ArgFactory, Config, Partial):
        register_supported_cast(_source, _destination)

# For parameters that are optional for a caller and configured by default: `model: OptionalDefaultConfig[Model] = None`.
OptionalDefaultConfig = Annotated[Optional[T], Config[T]]  # noqa: UP045  # a subscriptable alias
OptionalDefaultPartial = Annotated[Optional[T], Partial[T]]  # noqa: UP045


# ---------------------------------------------------------------- one node
def _has_argument(node: fdl.Buildable[Any], name: str) -> bool:
    return name in node.__arguments__ or name in target_of_node(node).keywords


def _has_value(node: fdl.Buildable[Any], name: str) -> bool:
    if name in node.__arguments__:
        return True
    target = target_of_node(node)
    return name in target.keywords and name not in target.required


def _set_below(
    root: fdl.Buildable[Any], node: fdl.Buildable[Any], name: str, value: Any, location: Location | None
) -> None:
    try:
        if isinstance(node, _Checked):
            node._arguments_set_value(name, value, location)  # noqa: SLF001
        else:
            setattr(node, name, value)
    except ConfigError as error:
        if where := tree.path_to(root, node):
            raise type(error)(f"{where}: {error}") from None
        raise
