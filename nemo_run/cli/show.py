"""What the commands print: drawn with Rich in a terminal, plain lines anywhere else."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from nemo_run.config.escaping import escaped
from nemo_run.errors import CommandLineError
from nemo_run.run.terminal import in_terminal, plain_table

if TYPE_CHECKING:
    from nemo_run.config.diff import ConfigDiff

__all__ = ["in_terminal"]  # what is used from elsewhere


def say(text: str) -> None:
    """Print a line for people; nothing in it acts on the terminal."""
    typer.echo(escaped(text))


def tell(text: str) -> None:
    """Print a line beside the result of a command, on standard error."""
    typer.echo(escaped(text), err=True)


def print_error(message: str) -> None:
    """Tell what went wrong, on standard error."""
    _print_note("error", "bold red", message)


def print_warning(message: str) -> None:
    """Tell what may be wrong, on standard error."""
    _print_note("warning", "bold yellow", message)


def _print_note(kind: str, style: str, message: str) -> None:
    message = escaped(message)
    if not in_terminal(sys.stderr):
        typer.echo(f"{kind}: {message}", err=True)
        return
    from rich.console import Console
    from rich.text import Text

    note = Text.assemble((f"{kind}: ", style), message)
    Console(stderr=True, highlight=False, soft_wrap=True).print(note)


def confirm(question: str, *, yes: bool) -> bool:
    """Check whether a person agrees. Where there is nobody to ask, that has to be said with ``--yes``.

    Raises:
        CommandLineError: There is nobody to ask.
    """
    if yes:
        return True
    if not (sys.stdin and sys.stdin.isatty()):
        raise CommandLineError(f"{question} There is no terminal to ask in; say --yes")
    return typer.confirm(question, err=True)


def print_json(document: Any) -> None:
    """Print a document for programs; what the output cannot encode is written as JSON's own escapes."""
    text = json.dumps(document, indent=2, ensure_ascii=False)
    if escaped(text) != text:
        text = json.dumps(document, indent=2)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(document, indent=2)
    typer.echo(text)


def print_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table as CSV, the first line with the names of the columns."""
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    typer.echo(escaped(text.getvalue()), nl=False)


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[str] = (),
    styles: Mapping[str, str] | None = None,
    below: str = "",
) -> None:
    """Print a table.

    Args:
        columns: Names of the columns; one that is empty throughout is left out.
        rows: Its cells.
        right: Columns that are aligned to the right, and never cut.
        styles: Styles of the cells with these texts.
        below: A column whose text stands, in a terminal, behind its row or below it.
    """
    if not in_terminal(sys.stdout):
        say(plain_table(columns, rows))
        return
    from rich.console import Console

    from nemo_run.cli.tables import drawn
    from nemo_run.run.terminal import columns_of

    text = drawn(columns, rows, columns_of(sys.stdout) or 80, right=right, styles=styles or {}, below=below)
    Console(highlight=False, soft_wrap=True).print(text)


def print_configuration(config: Any) -> None:
    """Print a configuration as YAML, which a file with arguments may hold."""
    from nemo_run.config.export import to_yaml
    from nemo_run.errors import ConfigError

    try:
        text = to_yaml(config).rstrip()
    except ConfigError:  # it holds what has no name; it can be run here all the same
        text = repr(config)
    print_yaml(text)


def print_yaml(text: str) -> None:
    """Print YAML, in colours where there are any."""
    text = escaped(text)
    if not in_terminal(sys.stdout):
        typer.echo(text)
        return
    from rich.console import Console
    from rich.syntax import Syntax

    Console().print(Syntax(text, "yaml", theme="ansi_dark", background_color="default", word_wrap=True))


def print_diff(found: ConfigDiff) -> None:
    """Print differences, in colours where there are any."""
    typer.echo(found.to_text(colour=in_terminal(sys.stdout) and "NO_COLOR" not in os.environ))


def print_differences(found: ConfigDiff) -> None:
    """Print differences for programs; values are texts, as Python writes them."""
    print_json(
        [
            {"kind": change.kind, "path": change.path, "old": repr(change.old), "new": repr(change.new)}
            for change in found.changes
        ]
    )


def interact(banner: str, names: dict[str, Any]) -> None:
    """Let a person work with some names: in IPython where it is installed.

    Raises:
        CommandLineError: There is no terminal.
    """
    if not (sys.stdin and sys.stdin.isatty()):
        raise CommandLineError("--repl needs a terminal")
    typer.echo(banner)
    try:
        from IPython import embed  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        import code

        code.interact(banner="", local=names, exitmsg="")
    else:
        embed(user_ns=names, banner1="", colors="neutral")
