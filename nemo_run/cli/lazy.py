"""Entrypoints whose code is imported late: when they are resolved, or only where they run."""

from __future__ import annotations

import builtins
import contextlib
import contextvars
import functools
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import fiddle as fdl

from nemo_run.config.buildable import Partial
from nemo_run.config.document.symbols import LAZY_NAME, resolve
from nemo_run.config.suggest import did_you_mean
from nemo_run.config.target import target_of
from nemo_run.errors import CommandLineError, SerializationError

if TYPE_CHECKING:
    from nemo_run.cli.registry import RegisteredEntrypoint

_PROGRAMS = ("nemorun", "nemo", "nemo_run")
_OPERATORS = {
    "__iadd__": "+=",
    "__isub__": "-=",
    "__imul__": "*=",
    "__itruediv__": "/=",
    "__ior__": "|=",
    "__iand__": "&=",
}

# The entrypoints that a script gives to main(), while it is only looked at.
_captured: contextvars.ContextVar[list[RegisteredEntrypoint] | None] = contextvars.ContextVar("captured", default=None)


# ---------------------------------------------------------------- targets
@dataclass
class LazyTarget:
    """Something to be imported late.

    Attributes:
        import_path: A dotted name; or the words of a command, such as ``"llm pretrain"``; or the name of a script.
        script: The text of the script.
    """

    import_path: str
    script: str = ""

    def __post_init__(self) -> None:
        words = shlex.split(self.import_path)
        if words and words[0].endswith(".py") and not self.script:
            try:
                self.script = Path(words[0]).read_text(encoding="utf-8")
            except OSError as error:
                raise CommandLineError(f"the script {words[0]!r} cannot be read: {error.strerror}") from None
        if len(words) > 1 and Path(words[0]).name in _PROGRAMS:
            self.import_path = shlex.join(words[1:])

    @functools.cached_property
    def target(self) -> Callable[..., Any]:
        """What it stands for; imported now.

        Raises:
            CommandLineError: There is no such thing.
        """
        if self.script:
            return _entrypoint_of_script(self.script, shlex.split(self.import_path)[0]).fn
        if " " in self.import_path or "." not in self.import_path:
            return _entrypoint_of_command(self.import_path.split()).fn
        try:
            found: Callable[..., Any] = resolve(self.import_path)
        except SerializationError as error:
            raise CommandLineError(str(error)) from None
        return found

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Import it and call it."""
        return self.target(*args, **kwargs)


def _entrypoint_of_command(words: Sequence[str]) -> RegisteredEntrypoint:
    from nemo_run.cli import registry

    level: Any = registry.list_entrypoints()
    for position, word in enumerate(words):
        inner = level if isinstance(level, dict) else {}
        by_name: dict[str, Any] = {str(getattr(entry, "name", key)): entry for key, entry in inner.items()}
        if word not in by_name:
            command = " ".join(words[: position + 1])
            raise CommandLineError(f"there is no command {command!r}{did_you_mean(word, by_name)}")
        level = by_name[word]
    if isinstance(level, dict):
        raise CommandLineError(f"{' '.join(words)!r} is a group of commands: {', '.join(level)}; say which")
    found: RegisteredEntrypoint = level
    return found


def _entrypoint_of_script(text: str, name: str) -> RegisteredEntrypoint:
    """Return the entrypoint that a script gives to ``run.cli.main()``; the script runs as ``__main__``."""
    module = ModuleType("__main__")
    module.__file__ = name = str(Path(name).absolute())
    sys.modules["__main__"] = module  # where its classes are looked up from now on
    found: list[RegisteredEntrypoint] = []
    token = _captured.set(found)
    try:
        exec(compile(text, name, "exec"), module.__dict__)  # noqa: S102  (the user's own script, as Python runs it)
    finally:
        _captured.reset(token)
    if not found:
        raise CommandLineError(f"{name} calls run.cli.main() for no entrypoint")
    return found[-1]


def takes_entrypoint(entry: RegisteredEntrypoint) -> bool:
    """Check whether somebody only wants to know what is given to ``main()``; it is then told."""
    found = _captured.get()
    if found is None:
        return False
    found.append(entry)
    return True


# ---------------------------------------------------------------- entrypoints
class LazyEntrypoint(fdl.Buildable[Any]):
    """A task that is imported late; what is set in it is noted, and applied when it is resolved.

    Args:
        target: A function; its dotted name; a command such as ``"nemorun llm pretrain"``; or a script. A command and a
            script may be followed by overrides.
        factory: What its configuration begins with: a factory, its name, or ``@file``.
        yaml: A file with arguments, or what such a file holds; or a list of these, the later ones winning.
        overwrites: Overrides.

    Example:
        >>> import nemo_run as run
        >>> task = run.LazyEntrypoint("builtins.complex", overwrites=["real=1"])
        >>> task.imag = 2
        >>> task.resolve()
        <Partial[complex(real=1, imag=2)]>
    """

    def __init__(
        self,
        target: Callable[..., Any] | str,
        factory: Callable[..., Any] | str | None = None,
        yaml: Any = None,
        overwrites: list[str] | None = None,
    ) -> None:
        target, typed = _split_overrides(target) if isinstance(target, str) else (target, [])
        self._set(
            _target_=_as_target(target),
            _factory_=_named(factory),
            _yaml_=yaml,
            _typed_=[*typed, *(overwrites or [])],
            _args_=[],
            _path_="",
        )

    @classmethod
    def of_script(cls, script: str) -> LazyEntrypoint:
        """Return the entrypoint of a script."""
        return cls(script)

    def _set(self, **values: Any) -> None:
        self.__dict__.update(values)

    @property
    def is_lazy(self) -> bool:
        """Always true; what is run asks for it."""
        return True

    def resolve(self, ctx: object = None) -> Partial[Any]:
        """Return the configuration, with all that was set; the code is imported now.

        Args:
            ctx: The context, where the function takes one.

        Raises:
            CommandLineError: The target is not there, or something that was set does not fit.
        """
        import inspect

        from nemo_run.cli.overriding.files import item_of
        from nemo_run.cli.recipe import configure

        target = self._target_
        fn = target.target if isinstance(target, LazyTarget) else target
        changes = [(path, operator, item_of(value)) for path, operator, value in self._args_]
        config = configure(fn, self._typed_, factory=self._factory_, file=self._yaml_, changes=changes)
        if "ctx" in inspect.signature(fn).parameters:
            if ctx is None:
                raise CommandLineError(f"{fn.__name__} takes a `ctx`: resolve(ctx=...), or run it from a command line")
            config.ctx = ctx
        return config

    def to_task(self, factory: Any = None, yaml: Any = None, overwrites: Sequence[str] = ()) -> Partial[Any]:
        """Return a task that imports and resolves only where it runs; for a function, its configuration.

        Args:
            factory: In place of its own.
            yaml: In place of its own.
            overwrites: After its own.
        """
        whole = LazyEntrypoint(
            self._target_, factory or self._factory_, yaml or self._yaml_, [*self._typed_, *overwrites]
        )
        whole._set(_args_=self._args_)
        if not isinstance(self._target_, LazyTarget) or callable(whole._factory_):
            return whole.resolve()
        return Partial(
            run_lazily,
            target=self._target_.import_path,
            script=self._target_.script,
            factory=whole._factory_ or "",
            document=_document(whole._yaml_),
            changes=[list(change) for change in self._args_],
            overrides=list(whole._typed_),
        )

    # --- recording ---------------------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "_path_" not in self.__dict__:
            raise AttributeError(name)
        inner = object.__new__(LazyEntrypoint)
        inner._set(**self.__dict__)
        inner._set(_path_=f"{self._path_}.{name}" if self._path_ else name)
        return inner

    def __setattr__(self, name: str, value: Any) -> None:
        if not isinstance(value, LazyEntrypoint):  # which is what an operator has left
            self._args_.append((f"{self._path_}.{name}" if self._path_ else name, "=", value))

    # --- what fiddle asks for: that of the task ------------------------------------------------------------------

    @property
    def __fn_or_cls__(self) -> Any:
        return run_lazily

    @property
    def __arguments__(self) -> dict[str, Any]:
        return dict(self.to_task().__arguments__)

    @property
    def __signature_info__(self) -> Any:
        return target_of(run_lazily)

    @property
    def __argument_tags__(self) -> dict[str, Any]:
        return {}

    @property
    def __argument_history__(self) -> dict[str, Any]:
        return {}

    def __build__(self, *args: Any, **kwargs: Any) -> Any:
        return functools.partial(run_lazily, *args, **kwargs)

    def __flatten__(self) -> Any:
        return self.to_task().__flatten__()

    @classmethod
    def __unflatten__(cls, values: Any, metadata: Any) -> Any:
        return Partial.__unflatten__(values, metadata)

    def __repr__(self) -> str:
        return f"<LazyEntrypoint {self._target_}>"


def _recorder(operator: str) -> Callable[[LazyEntrypoint, Any], LazyEntrypoint]:
    def record(self: LazyEntrypoint, other: Any) -> LazyEntrypoint:
        self._args_.append((self._path_, operator, other))
        return self

    return record


for _name, _operator in _OPERATORS.items():
    setattr(LazyEntrypoint, _name, _recorder(_operator))


def _split_overrides(target: str) -> tuple[str, list[str]]:
    """Return a command or a script, and the overrides that follow it."""
    if " " not in target and not target.endswith(".py"):
        return target, []
    words = shlex.split(target)
    typed = [word for word in words if "=" in word and not word.startswith("-")]
    return shlex.join(word for word in words if word not in [*typed, "--lazy"]), typed


def _as_target(target: Any) -> Any:
    if isinstance(target, LazyName):
        return LazyTarget(target.name)
    return LazyTarget(target) if isinstance(target, str) else target


def _named(factory: Any) -> Any:
    return factory.name.rpartition(".")[2] if isinstance(factory, LazyName) else factory


def _document(source: Any) -> Any:
    """Return what a file holds, so that it need not be there where the task runs."""
    from nemo_run.config.export import load_document

    if isinstance(source, list):
        return [_document(one) for one in source]
    if isinstance(source, (str, os.PathLike)):
        from nemo_run.cli.overriding.files import piped

        if (piped_text := piped(str(source))) is not None:
            return load_document(piped_text)
        text = str(source).removeprefix("@")
        return load_document(Path(text) if Path(text).suffix and "\n" not in text else text)
    return dict(source) if isinstance(source, Mapping) else source


def run_lazily(
    target: str,
    script: str = "",
    factory: str = "",
    document: Any = None,
    changes: Sequence[Sequence[Any]] = (),
    overrides: Sequence[str] = (),
) -> Any:
    """Import an entrypoint, configure it, and run it: what a lazy task does where it runs.

    Args:
        target: A dotted name, a command, or the name of a script.
        script: The text of the script.
        factory: What the configuration begins with.
        document: What a file with arguments holds.
        changes: Path, operator and value of what was set in Python.
        overrides: What was typed.
    """
    from nemo_run.cli.overriding.overrides import bind_default_configs
    from nemo_run.core.runners.calling import call

    lazy = LazyEntrypoint(LazyTarget(target, script), factory or None, document, list(overrides))
    lazy._set(_args_=[tuple(change) for change in changes])  # noqa: SLF001  (ours)
    config = lazy.resolve()
    bind_default_configs(config)
    return call(config.build())


# ---------------------------------------------------------------- lazy imports
class LazyName(ModuleType):
    """Stands for a module, or for something in it, until it is called."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name
        vars(self)[LAZY_NAME] = name

    def __deepcopy__(self, memo: dict[int, Any]) -> LazyName:
        """Return itself, as for a module or a class."""
        return self

    def __reduce__(self) -> tuple[type[LazyName], tuple[str]]:
        """Pickle the name."""
        return LazyName, (self.name,)

    def __getattr__(self, name: str) -> LazyName:
        if name.startswith("__"):
            raise AttributeError(name)
        found = LazyName(f"{self.name}.{name}")
        setattr(self, name, found)
        return found

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Import it and call it."""
        return imported(self)(*args, **kwargs)


def is_lazy_object(value: Any) -> bool:
    """Check whether something still has to be imported."""
    return isinstance(value, (LazyName, LazyTarget))


def imported(value: Any) -> Any:
    """Return what a lazy object stands for."""
    return value.target if isinstance(value, LazyTarget) else LazyTarget(value.name).target


@contextlib.contextmanager
def lazy_imports(fallback_to_lazy: bool = False) -> Iterator[None]:
    """Import nothing in a block: every name imported there stands for what it would be, for :class:`LazyEntrypoint`.

    Args:
        fallback_to_lazy: Import what can be imported, and be lazy only about the rest.

    Example:
        >>> import nemo_run as run
        >>> with run.lazy_imports():
        ...     from nowhere.models import pretrain
        >>> task = run.LazyEntrypoint(pretrain)
        >>> task.layers = 3
    """
    really_import = builtins.__import__

    def lazy_import(
        name: str, globals: Any = None, locals: Any = None, fromlist: Sequence[str] = (), level: int = 0
    ) -> Any:
        if level:
            raise ImportError("relative imports cannot be lazy; write the whole name")
        if fallback_to_lazy:
            with contextlib.suppress(ImportError):
                return really_import(name, globals, locals, fromlist, level)
        return LazyName(name if fromlist else name.partition(".")[0])

    builtins.__import__ = lazy_import  # type: ignore[assignment]
    try:
        yield
    finally:
        builtins.__import__ = really_import
