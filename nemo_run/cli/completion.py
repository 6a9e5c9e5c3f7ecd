"""What can be typed next: paths of arguments, names of factories and classes, choices, files.

It works on whatever is known of the function and applies what was typed before. Where nothing can be said, nothing is
completed. Shells see ``model=sm`` differently: for bash it is three words, for others one; that is settled here.
"""

from __future__ import annotations

import contextlib
import enum
import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

import fiddle as fdl

from nemo_run.cli import registry
from nemo_run.cli.overriding import making, wanted
from nemo_run.cli.overriding.arguments import overrider_for
from nemo_run.cli.overriding.files import SUFFIXES
from nemo_run.cli.overriding.overrides import Overrider
from nemo_run.cli.overriding.parse import is_override, parse_override
from nemo_run.cli.overriding.place import Place
from nemo_run.cli.recipe import split_run_arguments
from nemo_run.config.buildable import Partial
from nemo_run.config.paths import get_value
from nemo_run.config.target import MISSING, target_of
from nemo_run.config.typecheck import LITERALS, bare, hint_name
from nemo_run.errors import NemoRunError

Candidate = tuple[str, str]  # text, and what it is


def complete(fn: Callable[..., Any], context: type, before: Sequence[str], incomplete: str) -> list[Candidate]:
    """Return what a word may become.

    Args:
        fn: The function whose arguments are typed.
        context: The class of its context.
        before: The words before.
        incomplete: What is there of the word.

    Example:
        >>> from nemo_run.cli.context import RunContext
        >>> def train(rate: float = 0.1, resume: bool = False): ...
        >>> [text for text, _ in complete(train, RunContext, [], "re")]
        ['resume=', 'resume=true', 'resume=false']
    """
    words, word, cut = _as_typed(before, incomplete)
    try:
        found = list(_candidates(fn, context, words, word))
    except NemoRunError:
        return []
    return [(text[cut:], what) for text, what in found if text.startswith(word)]


def factory_names(fn: Callable[..., Any], incomplete: str) -> list[Candidate]:
    """Return the factories, and files, that a function can begin with."""
    registry.load_workspace()
    names = [(entry.name, _first_line(entry.function)) for entry in making.factories_for(Place("--factory", fn))]
    return [(text, what) for text, what in [*names, *_files(incomplete)] if text.startswith(incomplete)]


def _as_typed(before: Sequence[str], incomplete: str) -> tuple[list[str], str, int]:
    """Return the words as they were typed, the last of them, and how much of it the shell does not want back."""
    if "COMP_WORDS" not in os.environ:
        return list(before), incomplete, 0
    split = os.environ["COMP_WORDS"].split()[: int(os.environ.get("COMP_CWORD", "0")) + 1]
    if len(split) <= int(os.environ.get("COMP_CWORD", "0")):
        split.append("")
    whole: list[str] = []
    for position, word in enumerate(split):
        joins = word == "=" or (position and split[position - 1] == "=")
        if joins and whole:
            whole[-1] += word
        else:
            whole.append(word)
    last = whole[-1]
    return whole[1:-1], last, last.rfind("=") + 1


def _candidates(fn: Callable[..., Any], context: type, before: Sequence[str], word: str) -> Iterator[Candidate]:
    registry.load_workspace()
    if word.startswith("run."):
        of_run, _ = split_run_arguments(fn, before)
        overrider = _run_overrider(context)
        _apply(overrider, of_run)
        yield from (
            (f"run.{text}", what) for text, what in _inside(overrider, word.removeprefix("run."), skip=("name", "load"))
        )
        return
    _, own = split_run_arguments(fn, before)
    overrider = overrider_for(Partial(fn))
    _apply(overrider, own)
    yield from _inside(overrider, word, skip=("ctx",))
    if "=" not in word and "run.".startswith(word):
        yield from (("run.executor=", "where it runs"), ("run.", "options of the run"))


def _apply(overrider: Overrider, args: Iterable[str]) -> None:
    for arg in filter(is_override, args):
        with contextlib.suppress(NemoRunError):
            overrider.apply(parse_override(arg))


def _run_overrider(context: type) -> Overrider:
    from nemo_run.core.execution.base import Executor
    from nemo_run.run.plugin import ExperimentPlugin

    def options(executor: Any = None, plugins: Any = None, **options: Any) -> None: ...

    own = [p for p in inspect.signature(context).parameters.values() if p.name not in ("executor", "plugins")]
    places: list[inspect.Parameter] = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hint)
        for name, hint in (("executor", Executor | None), ("plugins", list[ExperimentPlugin] | ExperimentPlugin | None))
    ]
    options.__signature__ = inspect.Signature([*places, *own])  # type: ignore[attr-defined]
    hints = {p.name: wanted.hint_of(context, p.name) for p in own}
    options.__annotations__ = {**hints, **{p.name: p.annotation for p in places}}
    return Overrider(Partial(options), owner=context)


# ---------------------------------------------------------------- one word
def _inside(overrider: Overrider, word: str, skip: Sequence[str] = ()) -> Iterator[Candidate]:
    path, equals, value = word.partition("=")
    path = path.rstrip("+-*/|&")
    if equals:
        yield from ((f"{word.partition('=')[0]}={text}", what) for text, what in _values(overrider, path, value))
        return
    holder, dot, _ = path.rpartition(".")
    node = overrider.config
    if dot:
        place = overrider.place_of(holder)
        found = _present(overrider, holder)
        node = found if isinstance(found, fdl.Buildable) else _empty(place)
    if node is not None:
        yield from _arguments(node, holder + dot, skip)


def _present(overrider: Overrider, path: str) -> Any:
    with contextlib.suppress(NemoRunError):
        return get_value(overrider.config, path)
    return None


def _empty(place: Place) -> Any:
    classes = wanted.classes_of(place.hint)
    return Partial(classes[0]) if len(classes) == 1 else None


def _arguments(node: fdl.Buildable[Any], prefix: str, skip: Sequence[str]) -> Iterator[Candidate]:
    target = target_of(node.__fn_or_cls__)
    for name in target.parameters:
        if name in skip or name not in target.keywords:
            continue
        hint = wanted.hint_of(node.__fn_or_cls__, name)
        value = node.__arguments__.get(name, target.default_values.get(name, MISSING))
        kind = hint_name(hint)
        yield f"{prefix}{name}=", kind
        if wanted.classes_of(hint) or isinstance(value, fdl.Buildable):
            yield f"{prefix}{name}.", kind
            continue
        # A second candidate keeps the shell from adding a space after the first.
        yield from ((f"{prefix}{name}={text}", kind) for text in list(_choices(hint)) or _as_text(value))


def _as_text(value: Any) -> list[str]:
    return [str(value)] if isinstance(value, (int, float, str)) else []


def _values(overrider: Overrider, path: str, typed: str) -> Iterator[Candidate]:
    place = overrider.place_of(path)
    yield from ((text, "") for text in _choices(place.hint))
    docs = {entry.name: _first_line(entry.function) for entry in making.factories_for(place)}
    yield from ((name, docs.get(name, "class")) for name in making.names_for(place))
    yield from _files(typed)


def _choices(hint: Any) -> Iterator[str]:
    for one in map(bare, wanted.union_members(hint)):
        if one is bool:
            yield from ("true", "false")
        elif one is type(None):
            yield "none"
        elif get_origin(one) in LITERALS:
            yield from map(str, get_args(one))
        elif isinstance(one, type) and issubclass(one, enum.Enum):
            yield from one.__members__


def _files(typed: str) -> Iterator[Candidate]:
    """Yield the files and folders for ``@...``."""
    if not typed.startswith("@"):
        return
    folder, slash, _ = typed.removeprefix("@").rpartition("/")
    base = Path(folder + slash or ".").expanduser()
    for entry in sorted(base.iterdir()) if base.is_dir() else ():
        if entry.is_dir():
            yield f"@{folder}{slash}{entry.name}/", "folder"
        elif entry.suffix.lower() in SUFFIXES:
            yield f"@{folder}{slash}{entry.name}", "file"


def _first_line(function: Any) -> str:
    return (inspect.getdoc(function) or "").partition("\n")[0]
