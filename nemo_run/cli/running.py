"""How command lines of ours are run, and what happens when one of them fails.

Exit codes: 0 when all went well, 1 when something that was asked for failed, 2 when what was typed makes no sense,
130 after Ctrl-C.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

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


def app_options() -> dict[str, Any]:
    """Return the arguments of every Typer app of ours."""
    return {
        "pretty_exceptions_enable": False,
        "rich_markup_mode": "rich" if in_terminal(sys.stdout) else None,
        "context_settings": {"help_option_names": ["-h", "--help"]},
    }


def run_app(app: Callable[..., object], args: Sequence[str] | None = None) -> int:
    """Run a Typer app, print what went wrong, and return its exit code.

    Args:
        app: The app, or something else that takes ``args``.
        args: The command line; that of the process by default.
    """
    args = list(sys.argv[1:] if args is None else args)
    try:
        app(args=args)
    except NemoRunError as error:
        return _report(error, args)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0


def _report(error: NemoRunError, args: Sequence[str]) -> int:
    """Print an error while it is handled, and return the exit code for it."""
    if {"-v", "--verbose"} & set(args):
        traceback.print_exc()
    print_error(str(error))
    return 2 if isinstance(error, _MISTAKES) else 1
