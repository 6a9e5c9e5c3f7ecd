"""The console that existing code prints with, and the level of what it logs."""

from __future__ import annotations

import logging

from rich.console import Console
from rich.logging import RichHandler

CONSOLE = Console()
_LOGGER = logging.getLogger("nemo_run")
_HANDLER = RichHandler(console=CONSOLE, rich_tracebacks=True, show_path=False)


class CustomConfigRepr:
    """Shows a configuration as a call of its class, for code that prints it so."""

    def __init__(self, obj: object) -> None:
        """Take what is shown."""
        self.obj = obj

    def __repr__(self) -> str:
        """Return its ``repr`` without the words that say that it is a configuration."""
        return repr(self.obj).replace("<Config[", "").replace("]>", "")


def configure_logging(level: str) -> None:
    """Show what this package logs, from a level on."""
    _LOGGER.setLevel(level)
    if _HANDLER not in _LOGGER.handlers:
        _LOGGER.addHandler(_HANDLER)


def deconfigure_logging() -> None:
    """Undo :func:`configure_logging`."""
    _LOGGER.removeHandler(_HANDLER)
    _LOGGER.setLevel(logging.NOTSET)
