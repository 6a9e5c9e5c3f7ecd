"""``nemorun``, ``nemo`` and ``python -m nemo_run``."""

from __future__ import annotations

import io
import sys


def main() -> None:
    """Run the command that was typed, and exit with its code."""
    from nemo_run.cli.app import nemorun
    from nemo_run.cli.running import run_app

    if isinstance(sys.stdout, io.TextIOWrapper):  # a file name or a remote error may hold what no encoding has
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(run_app(nemorun))


if __name__ == "__main__":
    main()
