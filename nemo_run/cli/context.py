"""``RunContext``: how something is run that was asked for on a command line."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nemo_run.errors import CommandLineError, OverrideError

if TYPE_CHECKING:
    import typer
    from typing_extensions import Self

    from nemo_run.cli.command import Kind
    from nemo_run.cli.lazy import LazyEntrypoint
    from nemo_run.cli.overriding.parse import Override
    from nemo_run.config import Config, Partial
    from nemo_run.core.execution.base import Executor
    from nemo_run.run.experiment import Experiment
    from nemo_run.run.plugin import ExperimentPlugin


@dataclass(kw_only=True)
class RunContext:
    """What was said on the command line of how to run something; an experiment entrypoint gets it as ``ctx``.

    Attributes:
        name: Name of the run.
        direct: Run in this process.
        dryrun: Only show what would be launched.
        factory: Factory, or ``@file``, that the configuration begins with.
        load: Not supported.
        repl: Change the configuration in an interactive shell before it is run.
        detach: Return once it is launched.
        skip_confirmation: Do not ask.
        tail_logs: Show logs.
        yaml: File with arguments; or several, the later ones winning.
        to_yaml: Write the configuration to this file, and run nothing.
        to_toml: The same in TOML.
        to_json: The same in JSON.
        to_python: The same as Python source.
        sweep: Try several values, as the arguments say.
        executor: Where it runs; ``None`` for this process.
        plugins: Plugins for tasks and executors.

    Example:
        >>> ctx = RunContext(name="example")
        >>> ctx.parse_args(["executor=local", "executor.env_vars={A: 1}", "detach=true"])
        >>> ctx.executor.env_vars, ctx.detach
        ({'A': '1'}, True)
    """

    name: str
    direct: bool = False
    dryrun: bool = False
    factory: str | None = None
    load: str | None = None
    repl: bool = False
    detach: bool = False
    skip_confirmation: bool = False
    tail_logs: bool = False
    yaml: str | list[str] | None = None
    to_yaml: str | None = None
    to_toml: str | None = None
    to_json: str | None = None
    to_python: str | None = None
    sweep: bool = False

    executor: Executor | None = field(init=False)
    plugins: list[ExperimentPlugin] = field(init=False)

    def __post_init__(self) -> None:
        self.executor, self.plugins = None, []
        self._launched: list[Experiment] = []
        self._quiet_logs = False

    @classmethod
    def cli_command(
        cls,
        parent: typer.Typer,
        name: str,
        fn: Callable[..., Any] | LazyEntrypoint,
        default_factory: Callable[..., Any] | None = None,
        default_executor: Any = None,
        default_plugins: Any = None,
        type: Kind = "task",
        command_kwargs: dict[str, Any] = {},  # noqa: B006  (its public default)
        is_main: bool = False,  # noqa: ARG003
        cmd_defaults: dict[str, Any] | None = None,
    ) -> Callable[..., Any]:
        """Add a command that runs a function to a Typer app.

        Args:
            parent: The app.
            name: Name of the command.
            fn: What it runs.
            default_factory: What the configuration begins with where ``--factory`` says nothing else.
            default_executor: The executor where ``run.executor`` says nothing else.
            default_plugins: The plugins where ``run.plugins`` says nothing else.
            type: ``"task"`` or ``"experiment"``.
            command_kwargs: More arguments of Typer's ``command``.
            is_main: Accepted for compatibility.
            cmd_defaults: What options are that are not given, by the names of the attributes.

        Returns:
            The function that Typer calls.
        """
        from nemo_run.cli.command import CommandSpec, add_command

        spec = CommandSpec(cls, fn, type, default_factory, default_executor, default_plugins, cmd_defaults or {})
        return add_command(parent, name, spec, command_kwargs)

    @classmethod
    def of_options(cls, name: str, factory: Any, options: Mapping[str, Any]) -> Self:
        """Return the context of a run.

        Args:
            name: Name of the run.
            factory: What the configuration begins with.
            options: What was said of how to run it; options that the class does not have are left out.
        """
        known = {one.name for one in dataclasses.fields(cls) if one.init} - {"name", "factory"}
        context = cls(name=name, factory=factory, **{key: options[key] for key in known & options.keys()})
        context._quiet_logs = options.get("tail_logs") is False
        return context

    @classmethod
    def get_help(cls) -> str:
        """Return what the class is for."""
        return cls.__doc__ or "No help available."

    def to_config(self) -> Config[Any]:
        """Return a configuration of the context, without executor and plugins."""
        from nemo_run.config import Config

        own = {one.name: getattr(self, one.name) for one in dataclasses.fields(self) if one.init}
        return Config(type(self), validate=False, **own)

    # --- how it is run -----------------------------------------------------------------------------------------

    def parse_args(self, args: Sequence[str], lazy: bool = False) -> None:
        """Take over what was typed after ``run.``: ``executor=...``, ``plugins=...``, or an attribute.

        Args:
            args: Overrides, without ``run.``.
            lazy: Accepted for compatibility.

        Raises:
            OverrideError: Something typed cannot be read, or does not fit.
        """
        from nemo_run.cli.overriding.parse import parse_override

        self.apply_overrides([parse_override(arg) for arg in args])

    def apply_overrides(self, overrides: Iterable[Override]) -> None:
        """Take over overrides of the executor, the plugins, or attributes."""
        from nemo_run.cli.overriding.overrides import Overrider
        from nemo_run.config.paths import parse_path
        from nemo_run.config.suggest import did_you_mean

        names = [one.name for one in dataclasses.fields(self)]
        of_place: list[Override] = []
        of_self: list[Override] = []
        for override in overrides:
            first = str(parse_path(override.path)[0].key)
            if first not in names:
                raise OverrideError(f"run.{first}: there is no such option{did_you_mean(first, names)}")
            (of_place if first in ("executor", "plugins") else of_self).append(override)
        options = self.to_config()
        Overrider(options, prefix="run.").apply_all(of_self)
        for name, value in options.__arguments__.items():
            setattr(self, str(name), value)
        self._place(of_place)

    def _place(self, overrides: list[Override]) -> None:
        """Apply overrides of the executor and the plugins to those by default, and build both."""
        if not (overrides or self.executor or self.plugins):
            return
        import fiddle as fdl

        from nemo_run.cli.overriding.overrides import Overrider
        from nemo_run.core.execution.base import Executor

        config = self._configured_place()
        Overrider(config, prefix="run.", owner=type(self)).apply_all(overrides)
        executor, plugins = fdl.build(config)
        if type(executor) is Executor:
            raise OverrideError("run.executor: say which executor, as in run.executor=local; see: nemorun executors")
        self.executor = executor
        self.plugins = list(plugins) if isinstance(plugins, (list, tuple)) else [plugins] if plugins else []

    def _configured_place(self) -> Config[Any]:
        from nemo_run.config import Config
        from nemo_run.core.execution.base import Executor
        from nemo_run.run.plugin import ExperimentPlugin

        def place(executor: Any = None, plugins: Any = None) -> tuple[Any, Any]:
            return executor, plugins

        place.__annotations__ = {
            "executor": Executor | None,
            "plugins": list[ExperimentPlugin] | ExperimentPlugin | None,
        }
        return Config(place, executor=self.executor, plugins=self.plugins or None)

    def parse_executor(self, name: str, *args: str) -> Any:
        """Return the configuration of an executor by its name, with overrides; nothing is built."""
        return self._named("executor", name, args)

    def parse_plugin(self, name: str, *args: str) -> Any:
        """Return the configuration of a plugin, or of several, by a name, with overrides; nothing is built."""
        return self._named("plugins", name, args)

    def _named(self, kind: str, name: str, args: Sequence[str]) -> Any:
        from nemo_run.cli.overriding.overrides import Overrider
        from nemo_run.cli.overriding.parse import parse_override

        config = self._configured_place()
        typed = [f"{kind}={name}", *(f"{kind}{arg if arg.startswith('[') else f'.{arg}'}" for arg in args)]
        Overrider(config, prefix="run.", owner=type(self)).apply_all(map(parse_override, typed))
        return getattr(config, kind)

    # --- what is run -------------------------------------------------------------------------------------------

    def cli_execute(self, fn: Callable[..., Any], args: Sequence[str], entrypoint_type: Kind = "task") -> None:
        """Run a function as the command line says.

        Args:
            fn: The function.
            args: Values by position and overrides, among them those of the run.
            entrypoint_type: ``"task"`` or ``"experiment"``.

        Raises:
            CommandLineError: What was typed makes no sense.
            JobFailedError: Something that was launched failed.
        """
        from nemo_run.cli.overriding.parse import parse_override
        from nemo_run.cli.recipe import run_options, split_run_arguments

        execute = {"task": self._execute_task, "experiment": self._execute_experiment}.get(entrypoint_type)
        if execute is None:
            raise CommandLineError(f"Unknown entrypoint type: {entrypoint_type}; it is 'task' or 'experiment'")
        if self.load:
            raise CommandLineError(
                "--load is not supported; begin with a file: --factory @FILE, or run an experiment again: "
                "nemorun experiment rerun ID"
            )
        run_args, own_args = split_run_arguments(fn, args)
        of_files = run_options(fn, self.factory, self.yaml)
        self.apply_overrides([*of_files, *map(parse_override, run_args)])
        if self.detach and self.executor is None and entrypoint_type == "task":
            raise CommandLineError("--detach needs an executor: run.executor=local")
        execute(fn, own_args)

    def parse_fn(self, fn: Callable[..., Any], args: Sequence[str], **default_kwargs: Any) -> Partial[Any]:
        """Return the configuration of a function: from the factory, the file and what was typed.

        Args:
            fn: The function.
            args: Values by position and overrides.
            **default_kwargs: Arguments that are set, whatever was typed.
        """
        from nemo_run.cli.recipe import configure

        config = configure(fn, args, factory=self.factory, file=self.yaml)
        for name, value in default_kwargs.items():
            setattr(config, name, value)
        return config

    def _execute_task(self, fn: Callable[..., Any], args: Sequence[str]) -> None:
        from nemo_run.cli.overriding.overrides import bind_default_configs

        if self.sweep:
            self._execute_sweep(fn, args)
            return
        task = self.parse_fn(fn, args)
        bind_default_configs(task)
        if self._export(task):
            return
        if self.repl:
            self._interact(task, lambda: self._run_task(task))
            return
        self._check_complete(task)
        if self._may_go_on(task):
            self._run_task(task)

    def _execute_sweep(self, fn: Callable[..., Any], args: Sequence[str]) -> None:
        from nemo_run.cli.overriding.overrides import bind_default_configs
        from nemo_run.cli.typed_sweep import typed_sweep
        from nemo_run.run.experiment import Experiment

        typed = typed_sweep(args)
        task = self.parse_fn(fn, typed.others)
        bind_default_configs(task)
        self._check_complete(task, given=[path for path in typed.spaces if path.isidentifier()])
        with Experiment(self.name, executor=self.executor, enable_goodbye_message=not self.dryrun) as experiment:
            sweep = experiment.sweep(task, typed.spaces, plugins=self.plugins, **typed.options)
            if not self._may_go_on(task, f"these {len(sweep.jobs)} jobs, each {_where(experiment.executor)}"):
                return
            if self.dryrun:
                experiment.dryrun()
                return
            experiment.run(detach=self.detach, tail_logs=self.tail_logs)
        if not self.detach:
            experiment.raise_for_failure()

    def _run_task(self, task: Partial[Any]) -> None:
        from nemo_run.run.api import run

        run(
            task,
            executor=self.executor,
            plugins=self.plugins,
            name=self.name,
            dryrun=self.dryrun,
            direct=self.direct,
            detach=self.detach,
            tail_logs=not self._quiet_logs,
        )

    def _execute_experiment(self, fn: Callable[..., Any], args: Sequence[str]) -> None:
        import inspect

        takes_context = {"ctx": self} if "ctx" in inspect.signature(fn).parameters else {}
        experiment = self.parse_fn(fn, args)
        if self._export(experiment):
            return
        if self.repl:
            self._interact(experiment, lambda: self._run_experiment(experiment, takes_context))
            return
        self._check_complete(experiment, given=takes_context)
        if self._may_go_on(experiment, "it" if self.executor is None else ""):  # its code may say where
            self._run_experiment(experiment, takes_context)

    def _run_experiment(self, config: Partial[Any], context: dict[str, Any]) -> None:
        """Call the function. Where it wants configurations it gets them as such, and otherwise what they build."""
        from nemo_run.cli.recipe import built_arguments

        config.__fn_or_cls__(**built_arguments(config), **context)
        if not self.detach and not self.dryrun:
            for experiment in self._launched:
                if experiment.jobs:  # nothing is launched of one without jobs
                    experiment.raise_for_failure()

    def launch(self, experiment: Experiment, sequential: bool = False) -> None:
        """Launch an experiment as the command line says: dry, detached, in this process, with logs.

        Args:
            experiment: The experiment.
            sequential: One job at a time.
        """
        if self.dryrun:
            experiment.dryrun()
            return
        self._launched.append(experiment)
        experiment.run(
            sequential=sequential,
            detach=self.detach,
            direct=self.direct or self.executor is None,
            tail_logs=self.tail_logs,
        )

    def execute_lazy(self, entrypoint: LazyEntrypoint, args: Sequence[str], name: str) -> None:
        """Launch something whose code is imported only where it runs.

        Args:
            entrypoint: What is launched.
            args: Values by position and overrides, among them those of the run.
            name: Name of the command; accepted for compatibility.
        """
        from nemo_run.cli.recipe import split_run_arguments

        for option in ("dryrun", "repl", "direct"):
            if getattr(self, option):
                raise CommandLineError(f"--{option} needs the code here, which --lazy leaves alone")
        run_args, own_args = split_run_arguments(None, args)
        self.parse_args(run_args)
        if self.executor is None:
            raise CommandLineError("--lazy needs an executor: run.executor=local")
        task = entrypoint.to_task(factory=self.factory, yaml=self.yaml, overwrites=own_args)
        if not self._export(task) and self._may_go_on(task):
            self._run_task(task)

    # --- before it is run --------------------------------------------------------------------------------------

    def _check_complete(self, config: Partial[Any], given: Iterable[str] = ()) -> None:
        from nemo_run.errors import MissingArgumentError
        from nemo_run.run.tasks import check_arguments

        whole = config.clone()
        whole.__arguments__.update(dict.fromkeys(given))
        try:
            check_arguments(whole)
        except MissingArgumentError as error:
            raise OverrideError(f"{error}; give one, such as NAME=VALUE, and see --help") from None

    def _export(self, config: Partial[Any]) -> bool:
        """Write the configuration where that was asked for; whether it was."""
        from nemo_run.cli.recipe import export

        wanted = {kind: path for kind in ("yaml", "toml", "json", "python") if (path := getattr(self, f"to_{kind}"))}
        for kind, path in wanted.items():
            export(config, kind, path)
        return bool(wanted)

    def _may_go_on(self, config: Partial[Any], what: str = "") -> bool:
        """Show what is to be run where somebody wants to see it, and ask where somebody is there to answer."""
        asks = not (self.skip_confirmation or self.dryrun) and _somebody_is_there()
        if self.dryrun or asks:
            from nemo_run.cli.show import print_configuration

            print_configuration(config)
        if not asks:
            return True
        import typer

        from nemo_run.run.terminal import columns_of, wrapped

        question = f"Run {what or f'it {_where(None if self.direct else self.executor)}'}?"
        room = (columns_of(sys.stdout) or 80) - len(" [y/N]: y")
        return typer.confirm("\n".join(line.text for line in wrapped(question, room)))

    def _interact(self, task: Partial[Any], run_task: Callable[[], None]) -> None:
        from nemo_run.cli.show import interact

        names = {"task": task, "run_task": run_task}
        interact("`task` is the configuration: look at it, change it. `run_task()` runs it.", names)


def _where(executor: Executor | None) -> str:
    """Where something is run, on how many nodes and GPUs, and for how long at most."""
    if executor is None:
        return "in this process"
    parts = [f"on {executor.info()}"]
    with contextlib.suppress(NotImplementedError):
        nodes = executor.nnodes()
        parts.append(f"{nodes} nodes" if nodes > 1 else "1 node")
    gpus = executor.gpus_in_all
    parts += [f"{gpus} GPUs" if gpus > 1 else "1 GPU"] if gpus else []
    limit = getattr(executor, "time", None) or executor.timeout or getattr(executor, "active_deadline_seconds", None)
    parts += [f"for {_as_time(limit)} at most"] if limit else ["without a time limit"]
    return ", ".join(parts)


def _as_time(limit: object) -> str:
    from nemo_run.run.terminal import duration

    return duration(limit) if isinstance(limit, int | float) else str(limit)


def _somebody_is_there() -> bool:
    """Check whether a person can answer: not in CI, not in a pipe, and not in each of many processes at once."""
    if int(os.environ.get("WORLD_SIZE") or 1) > 1:
        return False
    return bool(sys.stdin and sys.stdin.isatty() and sys.stdout.isatty())
