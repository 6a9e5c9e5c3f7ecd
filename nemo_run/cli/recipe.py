"""What is to be run: a function, its factory, its files, and what was typed, together as one configuration."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Container, Iterable, Sequence
from pathlib import Path
from typing import Any, get_origin

import fiddle as fdl

from nemo_run.cli import registry
from nemo_run.cli.overriding import making, wanted
from nemo_run.cli.overriding.arguments import as_overrides, overrider_for
from nemo_run.cli.overriding.files import is_file, item_of, load, operator_of, piped, split_section
from nemo_run.cli.overriding.items import Configured, Item, Made, Pairs
from nemo_run.cli.overriding.overrides import MAKER
from nemo_run.cli.overriding.parse import Override, is_override, parse_value
from nemo_run.cli.overriding.place import Place, UnfitError
from nemo_run.cli.script import function_of
from nemo_run.config.buildable import Partial
from nemo_run.config.building import build
from nemo_run.config.document.symbols import resolve
from nemo_run.config.export import load_words, to_json, to_python, to_toml, to_yaml
from nemo_run.config.names import get_type_namespace
from nemo_run.config.paths import get_value
from nemo_run.config.typecheck import bare
from nemo_run.errors import CommandLineError, NemoRunError, OverrideError, SerializationError

Change = tuple[str, str, Item]


def split_run_arguments(fn: Callable[..., Any] | None, args: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the arguments of the run, without ``run.``, and those of the function.

    ``executor`` and ``plugins`` need no ``run.`` where the function has no argument of that name.

    Example:
        >>> split_run_arguments(sorted, ["run.detach=true", "executor=local", "reverse=true"])
        (['detach=true', 'executor=local'], ['reverse=true'])
    """
    own_names = inspect.signature(fn).parameters if fn else {}
    prefixes = ["run.", *(["ctx."] if "ctx" in own_names else [])]
    bare = _bare_starts(own_names)
    of_run: list[str] = []
    of_function: list[str] = []
    for arg in args:
        prefix = next(filter(arg.startswith, prefixes), "")
        is_of_run = prefix or arg.startswith(bare)
        (of_run if is_of_run else of_function).append(arg.removeprefix(prefix))
    return of_run, of_function


def _bare_starts(own_names: Container[str]) -> tuple[str, ...]:
    """Return how arguments of the run start that need no ``run.``."""
    free = [name for name in ("executor", "plugins") if name not in own_names]
    return tuple(f"{name}{end}" for name in free for end in "=.[")


def configure(
    fn: Callable[..., Any],
    args: Iterable[str] = (),
    *,
    factory: Callable[..., Any] | str | None = None,
    file: Any = None,
    changes: Sequence[Change] = (),
) -> Partial[Any]:
    """Return the configuration of a function.

    Args:
        fn: The function.
        args: Values by position and overrides; they have the last word.
        factory: What it begins with: a factory, its name, or ``@file``.
        file: A file with arguments, or what such a file holds; or a list of these, the later ones winning.
        changes: Changes made in Python, before ``args``.

    Raises:
        CommandLineError: Something of it makes no sense.
    """
    files = _task_files(fn, factory, file)
    config = _begun(fn, factory, files)
    overrider = overrider_for(config, known=fn)
    for one in files:
        overrider.merge(one.changes)
    overrider.merge(changes)
    overrider.apply_all(as_overrides(fn, args))
    return config


def _begun(fn: Callable[..., Any], factory: Any, files: list[_TaskFile]) -> Partial[Any]:
    """Return what a configuration begins with."""
    if not factory or _is_task_file(factory):
        factory = next((one.factory for one in files if one.factory), "")
    elif isinstance(factory, str):  # whereas what a file names has to be registered
        let_be_factory(fn, factory)
    return _made(fn, factory) if factory else Partial(fn)


def run_options(fn: Callable[..., Any], factory: Any = None, file: Any = None) -> list[Override]:
    """Return what the files of a task say, in a section ``run``, of how to run it."""
    return [option for one in _task_files(fn, factory, file) for option in one.run_options]


def _task_files(fn: Callable[..., Any], factory: Any, file: Any) -> list[_TaskFile]:
    sources = [factory if _is_task_file(factory) else None, *(file if isinstance(file, list) else [file])]
    return [_TaskFile(fn, source) for source in sources if source]


def _is_task_file(factory: Any) -> bool:
    return isinstance(factory, str) and is_file(factory)


def _made(fn: Callable[..., Any], factory: Callable[..., Any] | str) -> Partial[Any]:
    """Return what a factory makes, as a Partial of the function."""
    if isinstance(factory, str):
        try:
            made = making.make(parse_value(factory), Place("--factory", fn, maker=MAKER))
        except UnfitError as error:
            hint = error.why or "it is no name of a factory"
            raise OverrideError(f"--factory {factory}: {hint} (it must be for {fn.__name__})") from None
    else:
        made = factory()
    if not isinstance(made, fdl.Buildable):
        raise OverrideError(f"--factory {factory}: it gives {made!r}, which is no configuration of {fn.__name__}")
    partial: Partial[Any] = fdl.cast(Partial, made.clone() if hasattr(made, "clone") else made)
    return partial


def let_be_factory(fn: Callable[..., Any], named: str) -> None:
    """Register the function of the script that ``--factory`` names, where no factory has this name.

    Args:
        fn: The function that is configured.
        named: ``NAME``, ``NAME(...)`` or ``ARGUMENT=NAME``.
    """
    argument, equals, text = named.partition("=") if is_override(named) else ("", "", named)
    call = making.as_call(parse_value(text))
    own = function_of(fn, call.name) if call else None
    if call is None or own is None or any(name == call.name for _, name in registry.factories()):
        return
    if not equals:
        registry.factory(own, target=fn)
    elif argument in inspect.signature(fn).parameters:
        registry.factory(own, target=fn, target_arg=argument)


class _TaskFile:
    """What a file says of a task.

    Attributes:
        factory: The factory that it begins with, if it names one.
        changes: The arguments.
        run_options: What its section ``run`` says.
    """

    def __init__(self, fn: Callable[..., Any], source: Any) -> None:
        whole = _read(source)
        self.factory = whole.call.source if isinstance(whole, Made) else ""
        found = _changes_in(fn, whole, source)
        section = "" if "run" in inspect.signature(fn).parameters else "run"
        self.changes = [change for change in found if change[0] != section]
        self.run_options: list[Override] = []
        for _, _, item in (change for change in found if change[0] == section):
            self._take_run(item)

    def _take_run(self, item: Item) -> None:
        if not isinstance(item, Pairs):
            raise CommandLineError(f"the section `run` of the file holds {item.source}, which are no options of a run")
        for key, value in item.pairs:
            name, operator = operator_of(key.source)
            if name == "factory":
                self.factory = self.factory or value.source
            else:
                self.run_options.append(Override(name, operator, value, f"run.{name}{operator}{value.source}"))


def _read(source: Any) -> Item:
    """Return a file by its name, or what a file could hold: text, or a mapping, OmegaConf's too."""
    if isinstance(source, Path) or (isinstance(source, str) and is_file(f"@{source.removeprefix('@')}")):
        return load(f"@{str(source).removeprefix('@')}")
    if isinstance(source, str):
        return _of_text(source)
    if hasattr(source, "_get_node"):  # of OmegaConf, which nobody here needs otherwise
        from omegaconf import OmegaConf

        return item_of(OmegaConf.to_container(source))
    return item_of(source)


def _of_text(source: str) -> Item:
    text = piped(source)
    if text is None:
        return item_of(load_words(source))
    try:
        return item_of(load_words(text))
    except SerializationError as error:
        raise CommandLineError(f"what comes from {source} cannot be used: {error}") from None


def _changes_in(fn: Callable[..., Any], item: Item, source: Any) -> list[Change]:
    if isinstance(item, Made):
        return list(item.changes)
    if isinstance(item, Configured):
        _check_is_for(fn, item, source)
        return [(*operator_of(name), value) for name, value in item.kwargs]
    if isinstance(item, Pairs):
        return [(*operator_of(key.source), value) for key, value in item.pairs]
    raise CommandLineError(f"{source} holds {item.source}, which are no arguments of {fn.__name__}")


def _check_is_for(fn: Callable[..., Any], item: Configured, source: Any) -> None:
    if item.args:
        raise CommandLineError(f"{source}: `_args_` cannot be used for {fn.__name__}; give its arguments by name")
    own = inspect.unwrap(fn)
    names = (get_type_namespace(fn), f"{own.__module__}.{own.__qualname__}", own.__qualname__)
    if item.name in names:
        return
    try:
        found = resolve(item.name)
    except SerializationError as error:
        raise CommandLineError(f"{source}: {error}") from None
    if inspect.unwrap(found) is not own:
        raise CommandLineError(f"{source} is for {item.name}, not for {names[0]}")


def built_arguments(config: Partial[Any]) -> dict[str, Any]:
    """Return the arguments that are set, built; those that are wanted as configurations stay as they are."""
    fn = config.__fn_or_cls__
    return {
        str(name): value if _wants_configuration(wanted.hint_of(fn, str(name))) else build(value)
        for name, value in config.__arguments__.items()
    }


def _wants_configuration(hint: Any) -> bool:
    kinds = [get_origin(one) or one for one in wanted.union_members(hint)]
    return any(isinstance(kind, type) and issubclass(kind, fdl.Buildable) for kind in map(bare, kinds))


_WRITERS: dict[str, Callable[..., str]] = {"yaml": to_yaml, "toml": to_toml, "json": to_json, "python": to_python}


def export(config: Partial[Any], kind: str, where: str) -> None:
    """Write a configuration, or a part of it.

    Args:
        config: The configuration.
        kind: ``"yaml"``, ``"toml"``, ``"json"`` or ``"python"``.
        where: ``path``, ``path:section``, or ``-`` for standard output.
    """
    import typer

    path, section = split_section(where)
    try:
        part = get_value(config, section) if section else config
        text = _WRITERS[kind](part, None if where == "-" else path.expanduser())
    except NemoRunError as error:
        raise CommandLineError(f"--to-{kind} {where}: {error}") from None
    if where == "-":
        typer.echo(text, nl=False)
    else:
        typer.echo(f"written to {path}; nothing is run", err=True)
