"""``nemorun config``: look at configuration files, compare, convert and check them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nemo_run.cli.commands.arguments import AsJson
from nemo_run.cli.groups import CommandGroup
from nemo_run.cli.show import say

if TYPE_CHECKING:
    import fiddle as fdl

File = Annotated[str, typer.Argument(metavar="FILE[:SECTION]", help="File in YAML, TOML or JSON.")]


def create() -> typer.Typer:
    """Return the group of commands."""
    app = typer.Typer(cls=CommandGroup, no_args_is_help=True, pretty_exceptions_enable=False)
    for command in (show, diff, convert, validate, schema):
        app.command(command.__name__)(command)
    return app


def show(file: File, json: AsJson = False) -> None:
    """Show what a file holds, as YAML. Nothing that it names is imported."""
    from nemo_run.cli.show import print_yaml
    from nemo_run.config.export import write_document

    document = _document(file)
    if json:
        say(write_document(document, "json").rstrip())
    else:
        print_yaml(write_document(document, "yaml").rstrip())


def diff(
    old: File,
    new: File,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 1 if there are differences.")] = False,
    json: AsJson = False,
) -> None:
    """Show what is different between two files. Nothing that they name is imported."""
    from nemo_run.cli.show import print_diff, print_differences
    from nemo_run.config.diff import diff as compare

    found = compare(_document(new), _document(old))
    (print_differences if json else print_diff)(found)
    if exit_code and found:
        raise typer.Exit(1)


def convert(
    file: File,
    target: Annotated[Path, typer.Argument(help="File to write; its ending says the format, .py for Python source.")],
) -> None:
    """Write what a file holds in another format. What it names is imported only for Python source."""
    from nemo_run.config.export import to_python, write_document
    from nemo_run.errors import CommandLineError

    formats = {".yaml": "yaml", ".yml": "yaml", ".toml": "toml", ".json": "json"}
    ending = target.suffix.lower()
    if ending == ".py":
        to_python(_config(file, validate=False), target)
    elif ending in formats:
        write_document(_document(file), formats[ending], target)  # type: ignore[arg-type]
    else:
        raise CommandLineError(f"{target}: no format has this ending; there are {', '.join([*formats, '.py'])}")


def validate(file: File, json: AsJson = False) -> None:
    """Check that a file can be loaded: that all it names is there, and that every argument fits its type."""
    from nemo_run.cli.show import print_json
    from nemo_run.errors import NemoRunError

    try:
        target = _target(file)
    except NemoRunError as error:
        if json:
            print_json({"file": file, "valid": False, "error": str(error)})
        raise
    if json:
        print_json({"file": file, "valid": True, "target": target})
    else:
        say(f"{file}: a valid configuration of {target}")


def _target(file: str) -> str:
    """Return the name of what a file configures, once all of it is checked."""
    from nemo_run.config.names import get_type_namespace
    from nemo_run.run.tasks import check_arguments

    config = _config(file, validate=True)
    check_arguments(config)
    return get_type_namespace(config.__fn_or_cls__)


def schema(
    target: Annotated[
        str, typer.Argument(help="Function or class, such as my_package.train or nemo_run.SlurmExecutor.")
    ],
    file: Annotated[Path | None, typer.Argument(help="File to write; standard output by default.")] = None,
) -> None:
    """Print the JSON Schema of files for a function or class, with which editors complete and check them."""
    import pkgutil
    import sys

    from nemo_run.cli.show import print_json
    from nemo_run.config.schema import schema as made
    from nemo_run.core.files import json_bytes
    from nemo_run.errors import CommandLineError

    sys.path.insert(0, "")  # a module of the current folder
    try:
        found = pkgutil.resolve_name(target)
    except (ImportError, AttributeError, ValueError) as error:
        raise CommandLineError(
            f"{target!r} cannot be imported: {error}; name it like my_package.my_module.train"
        ) from None
    if not callable(found):
        raise CommandLineError(f"{target!r} is neither a function nor a class")
    if file is None:
        print_json(made(found))
        return
    file.write_bytes(json_bytes(made(found)))
    typer.echo(f"at the top of a YAML file, for editors: # yaml-language-server: $schema={file}", err=True)


def _document(file: str) -> Any:
    from nemo_run.cli.overriding.files import read

    return read(f"@{file}")


def _config(file: str, *, validate: bool) -> fdl.Buildable[Any]:
    import fiddle as fdl

    from nemo_run.config.document import from_document
    from nemo_run.errors import CommandLineError, ConfigError

    try:
        config = from_document(_document(file), validate=validate)
    except ConfigError as error:
        of_script = "'__main__." in str(error)
        hint = "; a script has written it, so check it there: python SCRIPT --yaml FILE --dryrun" if of_script else ""
        raise CommandLineError(f"{file}: {error}{hint}") from None
    if not isinstance(config, fdl.Buildable):
        raise CommandLineError(f"{file}: it holds no configuration: there is no `_target_` at the top")
    return config
