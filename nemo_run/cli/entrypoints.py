"""Entrypoints: functions that can be run from a command line."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar, overload

from nemo_run.cli import registry
from nemo_run.cli.context import RunContext
from nemo_run.cli.script import name_main
from nemo_run.errors import CommandLineError

if TYPE_CHECKING:
    import typer

F = TypeVar("F", bound=Callable[..., Any])


class Entrypoint:
    """A function that can be run from a command line.

    Attributes:
        fn: The function.
        name: Name of its command.
        namespace: The dotted path before its name, in :func:`list_entrypoints`.
        help_str: What it is for.
        type: ``"task"`` or ``"experiment"``.
        default_factory: What its configuration begins with.
        default_executor: Where it runs by default.
        default_plugins: Its plugins by default.
        enable_executor: Whether it takes the options of a run; otherwise it is just called.
        skip_confirmation: Whether it runs without being confirmed.
        run_ctx_cls: Class of its context.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        namespace: str,
        default_factory: Callable[..., Any] | None = None,
        default_executor: Any = None,
        default_plugins: Any = None,
        env: dict[str, str] | None = None,
        name: str | None = None,
        help_str: str | None = None,
        enable_executor: bool = True,
        skip_confirmation: bool = False,
        type: Literal["task", "experiment"] = "task",
        run_ctx_cls: type[RunContext] = RunContext,
    ) -> None:
        if type == "task" and "executor" in inspect.signature(fn).parameters:
            raise ValueError(f"{fn.__qualname__}: a task cannot have an argument named `executor`; run.executor is it")
        self.fn = fn
        self.namespace = namespace
        self.default_factory = default_factory
        self.default_executor = default_executor
        self.default_plugins = default_plugins
        self.env = env or {}
        self.name = name or fn.__name__
        self.help_str = help_str or inspect.getdoc(fn) or ""
        self.enable_executor = enable_executor
        self.skip_confirmation = skip_confirmation
        self.type = type
        self.run_ctx_cls = run_ctx_cls

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self.fn(*args, **kwargs)

    @property
    def path(self) -> str:
        """Its dotted path."""
        return f"{self.namespace}.{self.fn.__name__}"

    @property
    def summary(self) -> str:
        """What it is for, without its arguments."""
        return self.help_str.split("Args:")[0].strip()

    def parse_partial(self, args: list[str], **default_args: Any) -> Any:
        """Return the configuration of the function, from what was typed."""
        from nemo_run.cli.overriding.arguments import parse_cli_args

        config = parse_cli_args(self.fn, args)
        for name, value in default_args.items():
            setattr(config, name, value)
        return config

    def cli(self, parent: typer.Typer) -> None:
        """Add its command to a Typer app."""
        self._add_to(parent)

    def main(self, cmd_defaults: dict[str, Any] | None = None) -> None:
        """Run it with the command line of this process. Where that fails, the process ends with its exit code."""
        import typer

        from nemo_run.cli.running import app_options, run_app

        app = typer.Typer(**app_options(), add_completion=True)
        self._add_to(app, is_main=True, cmd_defaults=cmd_defaults)
        if code := run_app(app):
            sys.exit(code)

    def help(self, console: Any = None, with_docs: bool = True) -> None:
        """Print its arguments and factories."""
        from nemo_run.cli.help import help as print_help

        print_help(self.fn, console=console, with_docs=with_docs)

    def _add_to(
        self, parent: typer.Typer, *, is_main: bool = False, cmd_defaults: dict[str, Any] | None = None
    ) -> None:
        from nemo_run.cli.command import EntrypointCommand

        command = type("EntrypointCommand", (EntrypointCommand,), {"entrypoint": self})
        settings = {"allow_extra_args": True, "help_option_names": ["-h", "--help"]}
        options = {"help": self.summary, "cls": command, "context_settings": settings}
        if not self.enable_executor:
            self._add_plain_to(parent, options)
            return
        self.run_ctx_cls.cli_command(
            parent,
            self.name,
            self.fn,
            type=self.type,
            default_factory=self.default_factory,
            default_executor=self.default_executor,
            default_plugins=self.default_plugins,
            command_kwargs=options,
            is_main=is_main,
            cmd_defaults={"skip_confirmation": self.skip_confirmation, **(cmd_defaults or {})},
        )

    def _add_plain_to(self, parent: typer.Typer, options: dict[str, Any]) -> None:
        import typer

        def command(ctx: typer.Context) -> None:
            import fiddle as fdl

            from nemo_run.cli.overriding.overrides import bind_default_configs
            from nemo_run.core.runners.calling import call

            config = self.parse_partial(ctx.args)
            bind_default_configs(config)
            call(fdl.build(config))

        command.__annotations__ = {"ctx": typer.Context, "return": None}
        parent.command(self.name, **options)(command)


class CommandDefaults(TypedDict, total=False):
    """What the options of a command are that are not given."""

    direct: bool
    dryrun: bool
    load: str
    yaml: str
    repl: bool
    detach: bool
    skip_confirmation: bool
    tail_logs: bool
    rich_exceptions: bool
    rich_traceback: bool
    rich_locals: bool
    rich_theme: str
    verbose: bool


@overload
def entrypoint(fn: F) -> F: ...
@overload
def entrypoint(
    fn: None = None,
    *,
    name: str | None = None,
    namespace: str | None = None,
    help: str | None = None,
    skip_confirmation: bool = False,
    enable_executor: bool = True,
    default_factory: Callable[..., Any] | None = None,
    default_executor: Any = None,
    default_plugins: Any = None,
    entrypoint_cls: type[Entrypoint] | None = None,
    type: Literal["task", "experiment"] = "task",
    run_ctx_cls: type[RunContext] | None = None,
) -> Callable[[F], F]: ...
def entrypoint(
    fn: F | None = None,
    *,
    name: str | None = None,
    namespace: str | None = None,
    help: str | None = None,
    skip_confirmation: bool = False,
    enable_executor: bool = True,
    default_factory: Callable[..., Any] | None = None,
    default_executor: Any = None,
    default_plugins: Any = None,
    entrypoint_cls: type[Entrypoint] | None = None,
    type: Literal["task", "experiment"] = "task",
    run_ctx_cls: type[RunContext] | None = None,
) -> Callable[[F], F] | F:
    """Let a function be run from a command line, every argument of it settable: ``model.layers=3 rate*=2``.

    Args:
        fn: The function. Without it, a decorator is returned.
        name: Name of its command; that of the function by default.
        namespace: Dotted path of the groups that its command is in; the module by default.
        help: What it is for; its docstring by default.
        skip_confirmation: Run it without asking.
        enable_executor: Give it the options of a run; otherwise it is just called.
        default_factory: What its configuration begins with.
        default_executor: Where it runs by default.
        default_plugins: Its plugins by default.
        entrypoint_cls: Class of the entrypoint.
        type: ``"task"`` for a function that is run as one task, ``"experiment"`` for one that makes an experiment and
            takes a :class:`RunContext` as ``ctx``.
        run_ctx_cls: Class of its context.

    Example:
        >>> import nemo_run as run
        >>> @run.cli.entrypoint
        ... def greet(name: str = "world", times: int = 1):
        ...     print(f"hello {name} " * times)
        >>> greet.cli_entrypoint.name
        'greet'
        >>> if __name__ == "__main__":
        ...     run.cli.main(greet)  # doctest: +SKIP

    Raises:
        ValueError: A task has an argument named ``executor``.
    """

    def register(function: F) -> F:
        if default_factory:
            registry.factory(default_factory, target=function, is_target_default=True)
        entry = (entrypoint_cls or Entrypoint)(
            function,
            namespace=namespace or function.__module__,
            name=name,
            help_str=help,
            skip_confirmation=skip_confirmation,
            default_factory=default_factory,
            default_executor=default_executor,
            default_plugins=default_plugins,
            enable_executor=enable_executor,
            type=type,
            run_ctx_cls=run_ctx_cls or RunContext,
        )
        registry.add_entrypoint(entry)
        function.cli_entrypoint = entry  # type: ignore[attr-defined]
        return function

    return register if fn is None else register(fn)


def main(
    fn: Callable[..., Any],
    default_factory: Callable[..., Any] | None = None,
    default_executor: Any = None,
    default_plugins: Any = None,
    cmd_defaults: CommandDefaults | None = None,
    **kwargs: Any,
) -> None:
    """Run a function with the command line of this process.

    It returns when all went well. Otherwise the process ends with exit code 1, or 2 where what was typed makes no
    sense.

    Args:
        fn: The function, decorated with :func:`entrypoint` or not.
        default_factory: What its configuration begins with.
        default_executor: Where it runs by default.
        default_plugins: Its plugins by default: a configuration, or a list of them.
        cmd_defaults: What options are that are not given.
        **kwargs: Arguments of :func:`entrypoint`.
    """
    from nemo_run.cli import lazy

    name_main()
    if lazy.is_lazy_object(fn):
        fn = lazy.imported(fn)
    if not hasattr(fn, "cli_entrypoint"):
        fn = entrypoint(**kwargs)(fn)
    entry: Entrypoint = vars(fn)["cli_entrypoint"]
    if lazy.takes_entrypoint(entry):
        return
    given = {
        "default_factory": default_factory,
        "default_executor": default_executor,
        "default_plugins": _checked_plugins(default_plugins),
    }
    before = {name: getattr(entry, name) for name in given}
    vars(entry).update({name: value for name, value in given.items() if value})
    try:
        entry.main(dict(cmd_defaults or {}))
    finally:
        vars(entry).update(before)


def _checked_plugins(plugins: Any) -> Any:
    import fiddle as fdl

    for plugin in plugins if isinstance(plugins, list) else [plugins] if plugins else []:
        if not isinstance(plugin, fdl.Buildable):
            raise CommandLineError(f"default_plugins must be run.Config objects, and {plugin!r} is none")
    return plugins
