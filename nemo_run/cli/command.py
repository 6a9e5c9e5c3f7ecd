"""The command of an entrypoint: its options, and what is done with what was typed."""

from __future__ import annotations

import copy
import importlib
import inspect
import logging
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

import typer
from typer import core

from nemo_run.cli.groups import with_plain_values
from nemo_run.cli.show import in_terminal
from nemo_run.errors import CommandLineError

if TYPE_CHECKING:
    from typing_extensions import Self

    from nemo_run.cli.lazy import LazyEntrypoint

Kind = Literal["task", "experiment"]
Text = str | None
Flag = bool | None


class Context(Protocol):
    """How a command runs something: what it needs of :class:`nemo_run.cli.RunContext`."""

    name: str
    executor: Any
    plugins: Any

    @classmethod
    def of_options(cls, name: str, factory: Any, options: dict[str, Any]) -> Self:
        """Return the context of a run."""

    def cli_execute(self, fn: Callable[..., Any], args: Sequence[str], entrypoint_type: Kind) -> None:
        """Run a function."""

    def execute_lazy(self, entrypoint: LazyEntrypoint, args: Sequence[str], name: str) -> None:
        """Launch something whose code is imported only where it runs."""


@dataclass(frozen=True)
class CommandSpec:
    """What a command runs, and what holds where nothing is typed.

    Attributes:
        context: The class of the context.
        fn: The function, or something lazy.
        kind: ``"task"`` or ``"experiment"``.
        factory: The factory.
        executor: The executor.
        plugins: The plugins.
        defaults: What options are that are not given.
    """

    context: type[Context]
    fn: Any
    kind: Kind
    factory: Any = None
    executor: Any = None
    plugins: Any = None
    defaults: dict[str, Any] | None = None


def add_command(
    parent: typer.Typer, name: str, spec: CommandSpec, command_kwargs: dict[str, Any]
) -> Callable[..., Any]:
    """Add the command to a Typer app."""
    settings = {"allow_extra_args": True, "help_option_names": ["-h", "--help"]}
    command_kwargs = {"cls": EntrypointCommand, "context_settings": settings, **command_kwargs}

    def factories(incomplete: str) -> list[tuple[str, str]]:
        from nemo_run.cli.completion import factory_names

        return factory_names(spec.fn, incomplete)

    @parent.command(name, **command_kwargs)
    def command(
        ctx: typer.Context,
        run_name: Annotated[Text, typer.Option("--name", "-n", metavar="NAME", help="Name of the run.")] = None,
        factory: list[str] = typer.Option(  # noqa: B008  (not Annotated, as it needs `factories`)
            [],
            "--factory",
            "-f",
            metavar="NAME",
            help="Begin with this factory or @file; ARGUMENT=FACTORY for one argument.",
            autocompletion=factories,
        ),
        yaml: Annotated[
            list[str] | None,
            typer.Option(
                "--yaml",
                metavar="FILE",
                help="File with arguments, in YAML, TOML or JSON; - is standard input. Several are merged in order.",
            ),
        ] = None,
        direct: Annotated[Flag, typer.Option("--direct/--no-direct", help="Run in this process.")] = None,
        dryrun: Annotated[Flag, typer.Option("--dryrun", help="Only show what would be launched.")] = None,
        detach: Annotated[Flag, typer.Option("--detach", help="Return once it is launched.")] = None,
        skip_confirmation: Annotated[Flag, typer.Option("--yes", "-y", "--no-confirm", help="Do not ask.")] = None,
        tail_logs: Annotated[Flag, typer.Option("--tail-logs/--no-tail-logs", help="Show logs.")] = None,
        repl: Annotated[Flag, typer.Option("--repl", "-r", help="Change the configuration in a shell first.")] = None,
        sweep: Annotated[
            Flag, typer.Option("--sweep", "-m", "--multirun", help="Try several values: lr=0.1,0.01 kind=choice(a,b).")
        ] = None,
        lazy: Annotated[bool, typer.Option("--lazy", help="Import the code only where it runs.")] = False,
        to_yaml: Annotated[
            Text, typer.Option("--to-yaml", metavar="FILE", help="Write the configuration; run nothing.")
        ] = None,
        to_toml: Annotated[Text, typer.Option("--to-toml", metavar="FILE", help="The same in TOML.")] = None,
        to_json: Annotated[Text, typer.Option("--to-json", metavar="FILE", help="The same in JSON.")] = None,
        to_python: Annotated[
            Text, typer.Option("--to-python", metavar="FILE", help="The same as Python source.")
        ] = None,
        verbose: Annotated[Flag, typer.Option("--verbose", "-v", help="More log messages; tracebacks.")] = None,
        load: Annotated[Text, typer.Option("--load", "-l", hidden=True)] = None,
        rich_exceptions: Annotated[Flag, typer.Option("--rich-exceptions/--no-rich-exceptions", hidden=True)] = None,
        rich_traceback: Annotated[
            Flag, typer.Option("--rich-traceback-short/--rich-traceback-full", hidden=True)
        ] = None,
        rich_locals: Annotated[Flag, typer.Option("--rich-show-locals/--rich-hide-locals", hidden=True)] = None,
        rich_theme: Annotated[Text, typer.Option("--rich-theme", hidden=True)] = None,
    ) -> None:
        typed: dict[str, Any] = {
            "direct": direct, "dryrun": dryrun, "detach": detach, "skip_confirmation": skip_confirmation,
            "tail_logs": tail_logs, "repl": repl, "yaml": one_or_all(yaml), "load": load,
            "to_yaml": to_yaml, "to_toml": to_toml, "to_json": to_json, "to_python": to_python,
            "rich_exceptions": rich_exceptions, "verbose": verbose, "sweep": sweep,
        }  # fmt: skip
        options = {**(spec.defaults or {}), **_given(typed)}
        _configure_output(options)
        del rich_traceback, rich_locals, rich_theme
        of_arguments, whole = _split_factories(factory)
        context = _context(spec, run_name or name, whole or spec.factory, options)
        _execute(spec, context, of_arguments, ctx.args, lazy=lazy)

    return command


def _given(typed: dict[str, Any]) -> dict[str, Any]:
    return {option: value for option, value in typed.items() if value is not None}


def _split_factories(typed: list[str]) -> tuple[list[str], str]:
    """Return what ``--factory`` says of arguments, and what it says of the whole."""
    from nemo_run.cli.overriding.parse import is_override

    of_arguments = [one for one in typed if is_override(one) and not one.startswith("@")]
    whole = [one for one in typed if one not in of_arguments]
    if len(whole) > 1:
        raise CommandLineError(f"--factory is given {len(whole)} times: {', '.join(whole)}; say one")
    return of_arguments, "".join(whole)


def one_or_all(given: list[str] | None) -> str | list[str] | None:
    """Return what an option was given: by itself where it was given once, None where it was not given."""
    return given[0] if given and len(given) == 1 else given or None


def _context(spec: CommandSpec, name: str, factory: Any, options: dict[str, Any]) -> Context:
    context = spec.context.of_options(name, factory, options)
    context.executor = copy.deepcopy(spec.executor)  # what is typed changes those of this run only
    if spec.plugins is not None:
        context.plugins = copy.deepcopy(spec.plugins if isinstance(spec.plugins, list) else [spec.plugins])
    return context


def _execute(spec: CommandSpec, context: Context, factories: list[str], args: list[str], *, lazy: bool) -> None:
    from nemo_run.cli.lazy import LazyEntrypoint
    from nemo_run.cli.recipe import let_be_factory

    args = [*factories, *args]
    if lazy and not isinstance(spec.fn, LazyEntrypoint):
        context.execute_lazy(LazyEntrypoint.of_script(sys.argv[0]), args, context.name)
    elif isinstance(spec.fn, LazyEntrypoint):
        context.execute_lazy(spec.fn, args, context.name)
    else:
        for one in factories:
            let_be_factory(spec.fn, one)
        context.cli_execute(spec.fn, args, spec.kind)


def _configure_output(options: dict[str, Any]) -> None:
    if options.get("verbose"):
        logging.basicConfig(level=logging.INFO)
        logging.getLogger("nemo_run").setLevel(logging.DEBUG)
    if options.get("rich_exceptions"):
        from rich.traceback import install

        install()


def _completion_item() -> Any:
    """Return the class of completions, for which Typer has no public name; it was Click's until Typer had its own."""
    if "CompletionItem" in vars(core):
        return vars(core)["CompletionItem"]
    return importlib.import_module("click.shell_completion").CompletionItem


class EntrypointCommand(core.TyperCommand):
    """A command whose help shows the arguments of what it runs, and that completes them."""

    entrypoint: Any = None

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options."""
        return with_plain_values(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options; arguments with dashes before them are refused with the way to write them."""
        for typed, following in zip(args, [*args[1:], "-"], strict=False):  # there may be none at all
            self._check_dashes(typed, "VALUE" if following.startswith("-") else following)
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed

    def _check_dashes(self, typed: str, following: str) -> None:
        option, equals, value = typed.partition("=")
        known = {name for one in self.params for name in (*one.opts, *one.secondary_opts)}
        if self.entrypoint is None or not option.startswith("--") or option in known:
            return
        path = option[2:].replace("-", "_")
        if re.split(r"[.\[]", path)[0] in inspect.signature(self.entrypoint.fn).parameters:
            raise CommandLineError(f"{option} is no option: write {path}={value if equals else following}")

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return how it is called."""
        return [*super().collect_usage_pieces(ctx), "[ARGUMENT=VALUE]..."]

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Return the options, and arguments of what it runs."""
        found = super().shell_complete(ctx, incomplete)
        if self.entrypoint is None or incomplete.startswith("-"):
            return found
        from nemo_run.cli.completion import complete

        make = _completion_item()
        candidates = complete(self.entrypoint.fn, self.entrypoint.run_ctx_cls, ctx.args, incomplete)
        return [*found, *(make(text, help=what) for text, what in candidates)]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the options, then arguments and factories."""
        from nemo_run.cli.help import help_text, run_help

        super().format_help(ctx, formatter)
        if self.entrypoint is None:
            return
        if in_terminal(sys.stdout):  # where what is above was printed already
            self.entrypoint.help()
        else:
            formatter.write(f"\n{help_text(self.entrypoint.fn)}")
        if self.entrypoint.enable_executor:
            formatter.write(f"\n{run_help()}")
