"""What can be named on a command line: factories and entrypoints, and where they come from.

They are registered when the code that defines them is imported. Beyond that, code is looked for in a workspace file and
in installed packages that announce themselves under the entry-point group ``nemo_run.cli``; both are loaded only when a
name is not known yet, or when all names are wanted.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import os
import sys
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, get_args, get_origin, overload

from nemo_run.cli.script import is_loaded, name_main
from nemo_run.cli.trusted import why_not_trusted
from nemo_run.config.home import get_nemorun_home
from nemo_run.config.names import get_type_namespace, get_underlying_types
from nemo_run.core import extras
from nemo_run.errors import CommandLineError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    import typer

F = TypeVar("F", bound=Callable[..., Any])

GROUP = "nemo_run.cli"
DEFAULT = "default"

_factories: dict[tuple[str, str], Factory] = {}
_entrypoints: dict[str, RegisteredEntrypoint] = {}


class RegisteredEntrypoint(Protocol):
    """What is known here of an entrypoint."""

    fn: Callable[..., Any]
    name: str

    @property
    def path(self) -> str:
        """Its dotted path."""

    def cli(self, parent: typer.Typer) -> None:
        """Add its command to a Typer app."""


# ---------------------------------------------------------------- factories
class Factory:
    """A registered factory.

    Attributes:
        function: What is called.
        name: Its name on a command line.
        namespace: The type, or the argument of a class or function, that it is registered for.
    """

    def __init__(self, function: Callable[..., Any], name: str, target: Any, namespace: str | None) -> None:
        self.function = function
        self.name = name
        self._makes = target
        self._namespace = namespace

    @property
    def makes(self) -> Any:
        """The type of what it makes; a name, as long as nothing of that name is defined."""
        if self._makes is None or isinstance(self._makes, str):
            self._makes = made_by(self.function)
        return self._makes

    @property
    def is_for_one_place(self) -> bool:
        """Whether it is for one argument, or one namespace, whatever it makes."""
        return self._namespace is not None

    @property
    def namespace(self) -> str:  # noqa: D102
        return self._namespace or get_type_namespace(self.makes)


def made_by(function: Callable[..., Any]) -> Any:
    """Return what a function says it returns; of ``run.Config[T]`` and ``run.Partial[T]``, T.

    Raises:
        TypeError: It does not say so.
    """
    annotation = return_annotation(function)
    if isinstance(annotation, type) or get_origin(annotation) is None:
        return annotation
    from fiddle import Buildable

    origin = get_origin(annotation)
    if isinstance(origin, type) and issubclass(origin, Buildable):
        (inner,) = get_args(annotation)
        return _in_module_of(function, inner.__forward_arg__) if isinstance(inner, typing.ForwardRef) else inner
    return annotation


def return_annotation(function: Callable[..., Any]) -> Any:
    """Return what a function is annotated to return.

    Raises:
        TypeError: It is not annotated.
    """
    annotation = getattr(function, "__annotations__", {}).get("return", None)
    if annotation is None:
        raise TypeError(
            f"Missing return type annotation for function {function!r}: write what it makes, as in "
            "`def small() -> run.Config[Model]:`"
        )
    if not isinstance(annotation, str):
        return annotation
    from nemo_run.config.hints import all_hints

    return all_hints(function).get("return", annotation)


def _in_module_of(function: Callable[..., Any], name: str) -> Any:
    """Return what a name in a function's source stands for: ``run.Partial["train"]`` may come before ``train``."""
    return getattr(inspect.unwrap(function), "__globals__", {}).get(name, name)


@overload
def factory(
    fn: F,
    target: Any = None,
    *,
    target_arg: str | None = None,
    is_target_default: bool = False,
    name: str | None = None,
    namespace: str | None = None,
) -> F: ...
@overload
def factory(
    fn: None = None,
    target: Any = None,
    *,
    target_arg: str | None = None,
    is_target_default: bool = False,
    name: str | None = None,
    namespace: str | None = None,
) -> Callable[[F], F]: ...
def factory(
    fn: F | None = None,
    target: Any = None,
    *,
    target_arg: str | None = None,
    is_target_default: bool = False,
    name: str | None = None,
    namespace: str | None = None,
) -> Callable[[F], F] | F:
    """Let a function be named on a command line, to configure an argument: ``model=small(layers=2)``.

    Without ``target`` it is there for every argument of the type that it says it returns, or a base class of that type.

    Args:
        fn: The function. Without it, a decorator is returned.
        target: The class or function that it is for, instead of what it returns: with ``target_arg`` for one argument
            of it, without for all of it.
        target_arg: The argument.
        is_target_default: Also call it ``default``; it is then used where nothing else is said.
        name: Its name on the command line; that of the function by default.
        namespace: Register it under this name instead, for :func:`resolve_factory`.

    Example:
        >>> import nemo_run as run
        >>> from dataclasses import dataclass
        >>> @dataclass
        ... class Model:
        ...     layers: int = 1
        >>> @run.cli.factory
        ... def small(layers: int = 2) -> run.Config[Model]:
        ...     return run.Config(Model, layers=layers)
        >>> def train(model: Model): ...
        >>> run.cli.parse_partial(train, "model=small(3)").model.layers
        3

    Raises:
        TypeError: It does not say what it returns, and there is no target.
        ValueError: ``target_arg`` is given without ``target``.
    """
    if target_arg and target is None:
        raise ValueError("`target_arg` cannot be used without specifying a `target`.")

    def register(function: F) -> F:
        _check_function(function)
        if target is None and namespace is None:
            return_annotation(function)  # so that a missing one is found where it is missing

        as_factory = _as_factory(function)
        where = f"{get_type_namespace(target)}.{target_arg}" if target_arg else namespace
        entry = Factory(as_factory, name or function.__name__, None if target_arg else target, where)
        _factories[entry.namespace, entry.name] = entry
        if is_target_default:
            _factories[entry.namespace, DEFAULT] = entry
        return as_factory

    return register if fn is None else register(fn)


def _check_function(function: Any) -> None:
    if not callable(function) or not hasattr(function, "__name__"):
        raise TypeError(f"{function!r} is no function, so it cannot be a factory")


def _as_factory(function: F) -> F:
    @functools.wraps(function)
    def as_factory(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    as_factory.wrapped = function  # type: ignore[attr-defined]
    as_factory.__factory__ = True  # type: ignore[attr-defined]
    return as_factory  # type: ignore[return-value]


def factories() -> dict[tuple[str, str], Factory]:
    """Return all factories that are known now, by namespace and name."""
    return _factories


def resolve_factory(target: Any, name: str) -> Callable[..., Any]:
    """Return the factory of a name for a type, or for a namespace.

    Example:
        >>> import nemo_run as run
        >>> @run.cli.factory
        ... def imaginary(size: float = 1) -> run.Config[complex]:
        ...     return run.Config(complex, 0, size)
        >>> run.cli.resolve_factory(complex, "imaginary")().build()
        1j

    Raises:
        CommandLineError: There is none.
    """
    spaces = [target] if isinstance(target, str) else [get_type_namespace(t) for t in get_underlying_types(target)]
    for _ in searching():
        for space in spaces:
            if (space, name) in _factories:
                return _factories[space, name].function
    from nemo_run.config.suggest import did_you_mean

    known = sorted({known for space, known in _factories if space in spaces})
    raise CommandLineError(f"No factory found for {target} under {name!r}{did_you_mean(name, known)}")


def list_factories(type_or_namespace: Any) -> list[Callable[..., Any]]:
    """Return the factories of a type, or of a namespace."""
    load_everything()
    is_name = isinstance(type_or_namespace, str)
    space = type_or_namespace if is_name else get_type_namespace(type_or_namespace)
    found = [entry.function for (where, _), entry in _factories.items() if where == space]
    return list(dict.fromkeys(found))


# ---------------------------------------------------------------- entrypoints
def add_entrypoint(entry: RegisteredEntrypoint) -> None:
    """Let an entrypoint be found."""
    _entrypoints[entry.path] = entry


def list_entrypoints(namespace: str | None = None) -> dict[str, Any]:
    """Return the entrypoints, in dicts nested as their dotted paths are.

    Args:
        namespace: Only those whose path begins with this.
    """
    load_everything()
    return known_entrypoints(namespace)


def known_entrypoints(namespace: str | None = None) -> dict[str, Any]:
    """Return the entrypoints of :func:`list_entrypoints` that are known by now; nothing is loaded."""
    found: dict[str, Any] = {}
    for path, entry in _entrypoints.items():
        if namespace and not f"{path}.".startswith(f"{namespace}."):
            continue
        *parents, name = path.split(".")
        level = found
        for parent in parents:
            inner = level.get(parent)
            level[parent] = level = inner if isinstance(inner, dict) else {}
        level[name] = entry
    return found


# ---------------------------------------------------------------- where code comes from
def searching() -> Iterator[None]:
    """To look for a name: once among what is known, and again after more code was loaded each time."""
    yield
    if load_workspace():
        yield
    if load_packages():
        yield


def load_everything() -> None:
    """Load the workspace file and all packages that announce themselves."""
    load_workspace()
    load_packages()


@functools.cache
def workspace_file() -> Path | None:
    """Return the workspace file: in this folder or one above it, or in the NeMo-Run home.

    ``INCLUDE_WORKSPACE_FILE=false`` says that there is none. One that others may have written is passed over, unless it
    is ``always``.
    """
    wanted = os.environ.get("INCLUDE_WORKSPACE_FILE", "true").lower()
    if wanted not in ("true", "always"):
        return None
    here = Path.cwd()
    names = ("workspace_private.py", "workspace.py")
    places = [folder / name for folder in (here, *here.parents) for name in names]
    found = filter(_is_file, [*places, Path(get_nemorun_home(), "workspace.py")])
    return next((path for path in found if wanted == "always" or _is_trusted(path)), None)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # in a folder that we may not look into
        return False


def _is_trusted(path: Path) -> bool:
    why = why_not_trusted(path)
    if why:
        from nemo_run.cli.show import print_warning

        print_warning(f"{path} is not executed: {why} (INCLUDE_WORKSPACE_FILE=always executes it, =false is silent)")
    return not why


@functools.cache
def _load_workspace_once() -> list[Path]:
    path = workspace_file()
    spec = importlib.util.spec_from_file_location("workspace", path) if path else None
    if path is None or spec is None or spec.loader is None or is_loaded(path):
        return []
    name_main()  # as the file may import the script
    sys.path.insert(1, str(path.parent))  # it imports its neighbours, as a script does; those of the script come first
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault("workspace", module)  # what it defines can then be stored by name
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        if sys.modules.get("workspace") is module:  # as an import does, so that the next attempt tells the same
            del sys.modules["workspace"]
        raise CommandLineError(
            f"{path}: the workspace file cannot be loaded: {type(error).__name__}: {error} "
            "(INCLUDE_WORKSPACE_FILE=false goes without it)"
        ) from error
    return [path]


def load_workspace() -> bool:
    """Load the workspace file; whether that brought anything new."""
    before = len(_factories) + len(_entrypoints)
    _load_workspace_once()
    return len(_factories) + len(_entrypoints) > before


@functools.cache
def packages() -> dict[str, EntryPoint]:
    """Return the installed packages that announce themselves, by the names that they give."""
    return {point.name: point for point in extras.entry_points(GROUP)}


def load_packages(*names: str) -> bool:
    """Load packages that announce themselves, all by default; whether that brought anything new."""
    before = len(_factories) + len(_entrypoints)
    for name in names or packages():
        _load_package(name)
    return len(_factories) + len(_entrypoints) > before


@functools.cache
def _load_package(name: str) -> None:
    try:
        packages()[name].load()
    except Exception as error:  # noqa: BLE001  # somebody else's code: the others still work
        from nemo_run.cli.show import print_warning

        print_warning(f"{packages()[name].value}, which provides {name!r}, cannot be loaded: {error}")
