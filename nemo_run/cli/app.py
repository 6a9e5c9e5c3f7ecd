"""``nemorun``: its commands, and what happens when one of them fails.

Exit codes: 0 when all went well, 1 when something that was asked for failed, 2 when what was typed makes no sense,
130 after Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer

from nemo_run.cli import experiment
from nemo_run.cli.show import in_terminal, print_error
from nemo_run.errors import (
    CommandLineError,
    ConfigError,
    DependencyError,
    ExperimentNotFoundError,
    InvalidNameError,
    JobNotFoundError,
    NemoRunError,
    ScriptError,
)

_MISTAKES = (
    CommandLineError, ConfigError, ScriptError,
    InvalidNameError, DependencyError, ExperimentNotFoundError, JobNotFoundError,
)  # fmt: skip


def create_cli(
    add_verbose_callback: bool = False,  # noqa: ARG001
    nested_entrypoints_creation: bool = True,  # noqa: ARG001
) -> typer.Typer:
    """The ``nemorun`` command, as a Typer app.

    Args:
        add_verbose_callback: Accepted for compatibility.
        nested_entrypoints_creation: Accepted for compatibility; what other packages add is loaded when it is used.
    """
    app = typer.Typer(
        name="nemorun",
        help="Configure, launch and manage machine-learning experiments.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich" if in_terminal(sys.stdout) else None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.add_typer(experiment.create(), name="experiment", help="Look at experiments, and manage them.")
    return app


def run_app(app: typer.Typer | None = None, args: Sequence[str] | None = None) -> int:
    """Run a Typer app, and tell people what went wrong; its exit code.

    Args:
        app: The app; ``nemorun`` by default.
        args: The command line; that of the process by default.
    """
    try:
        (app or create_cli())(args=args)
    except NemoRunError as error:
        print_error(str(error))
        return 2 if isinstance(error, _MISTAKES) else 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0
