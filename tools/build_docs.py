#!/usr/bin/env python3
"""Builds the documentation as a site: the guides of docs/, and a reference made from the code.

    tools/build_docs.py [FOLDER]             by default build/docs
    tools/build_docs.py --beside FOLDER      into a folder below, named by the version, and a list of all versions there

Warnings are errors: a link that leads nowhere, a page that is in no list, a docstring that cannot be read. Nothing is
downloaded, and the site needs no server: open index.html. Needs the extra "docs".
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import nemo_run as run
from nemo_run import errors

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
_LINK_OUT = re.compile(r"\[([^\]]+)\]\((?:\.\./)+[^)]*\)")
_SURFACE = ROOT / "tests" / "conformance" / "api_surface.json"
_ENTRY = re.compile(r" {4}(?P<name>\w+): (?P<text>.*)")

# Which public names are on which page of the reference, in this order; a name that is on none is an error.
GROUPS: dict[str, tuple[str, ...]] = {
    "Configuration": (
        "Config", "Partial", "Script", "ConfigurableMixin", "autoconvert", "load_config", "dryrun_fn", "lazy_imports",
        "LazyEntrypoint",
    ),
    "Experiments": ("run", "Experiment", "Plugin", "JobState", "Restarts", "stopping", "checkpointed",
                    "continue_later", "DevSpace"),
    "Results, metrics and sweeps": (
        "log_metrics", "MLflowPlugin", "WandbPlugin", "TensorBoardPlugin", "choice", "loguniform", "randint", "uniform",
    ),
    "Executors": ("Executor", "ExecutorMacros", "import_executor", "Image", "Soonest", "KubeRayWorkerGroup"),
    "Launchers": ("Torchrun", "FaultTolerance", "SlurmRay", "SlurmTemplate"),
    "Packagers": ("Packager", "GitArchivePackager", "PatternPackager", "HybridPackager"),
    "Tunnels": ("LocalTunnel", "SSHTunnel"),
}  # fmt: skip
MODULES = {
    "nemo_run.cli": "The command line",
    "nemo_run.config": "Settings",
    "nemo_run.run.ray": "Ray",
    "nemo_run.testing": "For engines of your own",
}
_NO_OBJECTS = ("__version__", "help", "cli", "config", "errors", "ray")


def executors() -> list[type]:
    """Return all public executors."""
    return [getattr(run, name) for name in run.__all__ if name.endswith("Executor") and name != "Executor"]


def unlisted() -> set[str]:
    """Return the public names that are on no page."""
    named = {name for names in GROUPS.values() for name in names} | set(_NO_OBJECTS)
    named |= {one.__name__ for one in executors()} | {one.__name__ for one in error_classes()} | {"ConfigTypeWarning"}
    return set(run.__all__) - named


def error_classes() -> list[type]:
    """Return all errors, each after the one that it is a kind of."""
    found = [one for _, one in inspect.getmembers(errors, inspect.isclass) if one.__module__ == errors.__name__]
    return sorted(
        (one for one in found if issubclass(one, Exception)), key=lambda one: [c.__name__ for c in one.__mro__[::-1]]
    )


def described(cls: type) -> dict[str, str]:
    """Return what docstrings say of the fields of a class, by their names: its own, and those of its bases."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        lines = iter(inspect.cleandoc(base.__dict__.get("__doc__") or "").splitlines())
        for line in lines:
            if line.strip() in ("Attributes:", "Args:"):
                found |= dict(_entries(lines))
    return found


def _entries(lines: Iterator[str]) -> Iterator[tuple[str, str]]:
    name, text = "", ""
    for line in lines:
        if line.strip() and not line.startswith("    "):
            break
        if match := _ENTRY.match(line):
            if name:
                yield name, text
            name, text = match["name"], match["text"]
        elif line.strip():
            text += " " + line.strip()
    if name:
        yield name, text


def options(cls: type) -> str:
    """Return a table of the options of an executor."""
    texts, theirs = described(cls), options_of_nemo_run(cls)
    lines = ["| option | type | default | since | is |", "|---|---|---|---|---|"]
    for field in dataclasses.fields(cls):
        if field.name.startswith("_") or not field.init:
            continue
        kind = _cell(field.type if isinstance(field.type, str) else getattr(field.type, "__name__", str(field.type)))
        text = re.sub(r"``([^`]*)``", r"`\1`", re.sub(r":\w+:`~?([^`]*)`", r"`\1`", texts.get(field.name, "")))
        since = "NeMo-Run" if field.name in theirs else field.metadata.get("since", "1.0")
        lines.append(f"| `{field.name}` | `{kind}` | {_default(field)} | {since} | {_cell(text)}{_theirs(field)} |")
    return "\n".join(lines)


def options_of_nemo_run(cls: type) -> set[str]:
    """Return the options that the executor of this name has in NVIDIA's NeMo-Run 0.11."""
    surface = json.loads(_SURFACE.read_text(encoding="utf-8"))
    return {
        name for path, one in surface.items() if path.endswith(f".{cls.__name__}") for name in one.get("fields", ())
    }


def _theirs(field: Any) -> str:
    """Return what the engine itself calls an option, where it is another word."""
    return f" (`sbatch --{field.name.replace('_', '-')}`)" if field.metadata.get("sbatch") else ""


def _default(field: Any) -> str:
    if field.default is not dataclasses.MISSING:
        return f"`{_cell(repr(field.default))}`"
    if field.default_factory is dataclasses.MISSING:
        return "must be given"
    made = field.default_factory()
    return f"`{_cell(repr(made))}`" if made in ([], {}, set(), ()) else f"a new `{type(made).__name__}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def options_page() -> str:
    """Return the page of the options of all executors."""
    parts = [
        "# Options of executors\n\nMade from the code. The guides say how they are used.\n",
        "*Since* is the version that an option came with, or `NeMo-Run` for those of NVIDIA's version 0.11.\n",
    ]
    for cls in executors():
        first = (inspect.getdoc(cls) or "").partition("\n")[0]
        parts.append(f"## {cls.__name__}\n\n{first}\n\n{options(cls)}\n")
    return "\n".join(parts)


def api_page() -> str:
    """Return the page with all public names and their docstrings."""
    parts = [
        "# Public names\n\nEverything here is `run.NAME` after `import nemo_run as run`, where nothing else is said.\n"
    ]
    for title, names in GROUPS.items():
        parts.append(f"## {title}\n")
        parts += [_documented(getattr(run, name), f"nemo_run.{name}") for name in names]
        if title == "Executors":
            parts += [_documented(cls, f"nemo_run.{cls.__name__}") for cls in executors()]
    for module, title in MODULES.items():
        parts.append(f"## {title}: `{module}`\n")
        found = importlib.import_module(module)
        for name in getattr(found, "__all__", ()):
            one = getattr(found, name)
            if inspect.isclass(one) or inspect.isroutine(one):
                parts.append(_documented(one, f"{module}.{name}"))
    return "\n".join(parts)


def _documented(one: Any, path: str) -> str:
    members = (
        "   :members:\n   :inherited-members: object, Exception, dict, Generic, ABC\n"
        if path == "nemo_run.Experiment"
        else "   :members:\n"
    )
    kind = "autoclass" if inspect.isclass(one) else "autofunction"
    return f"```{{eval-rst}}\n.. {kind}:: {path}\n{members if kind == 'autoclass' else ''}```\n"


def commands_page() -> str:
    """Return the page of all commands, as their help says."""
    import typer

    from nemo_run.cli.app import create_cli

    parts = ["# Commands\n\nMade from the command line itself; `--help` shows the same.\n"]
    root = typer.main.get_command(create_cli())
    for words, command in _walked(("nemorun",), root):
        parts.append(f"## {' '.join(words)}\n\n{(command.help or '').strip()}\n")
        rows = [_parameter(parameter) for parameter in command.params if not getattr(parameter, "hidden", False)]
        if rows:
            parts.append("\n".join(["| argument | is |", "|---|---|", *rows]) + "\n")
    return "\n".join(parts)


def _walked(words: tuple[str, ...], command: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    commands = getattr(command, "commands", None)
    if commands is None:
        yield words, command
        return
    for name, inner in commands.items():
        yield from _walked((*words, name), inner)


def _parameter(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"| `{parameter.metavar or parameter.name.upper()}` | {_cell(parameter.help or '')} |"
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    return f"| {names} | {_cell(parameter.help or '')} |"


def write_sources(folder: Path) -> None:
    """Write all pages into a folder, as Sphinx reads them."""
    shutil.copytree(DOCS, folder, ignore=shutil.ignore_patterns("site"), dirs_exist_ok=True)
    shutil.copy(DOCS / "site" / "index.md", folder / "index.md")
    for page in folder.rglob("*.md"):
        page.write_text(_LINK_OUT.sub(r"\1", page.read_text(encoding="utf-8")), encoding="utf-8")
    (folder / "reference").mkdir()
    pages = {"options": options_page, "api": api_page, "commands": commands_page}
    for name, make in pages.items():
        (folder / "reference" / f"{name}.md").write_text(make(), encoding="utf-8")


def build(target: Path, *options: str) -> int:
    """Build the site; the exit code of Sphinx."""
    from sphinx.cmd.build import main as sphinx

    if left_out := unlisted():
        sys.exit(f"public names that are on no page of the reference (GROUPS): {', '.join(sorted(left_out))}")
    with tempfile.TemporaryDirectory() as work:
        write_sources(Path(work, "source"))
        words = ["-q", "-W", "--keep-going", "-b", "html", "-c", str(DOCS / "site"), "-d", f"{work}/doctrees", *options]
        return sphinx([*words, f"{work}/source", str(target)])


def build_beside(folder: Path) -> int:
    """Build the site of this version beside those of others, and list them all; the exit code of Sphinx."""
    code = build(folder / run.__version__, "-A", "beside=1")
    if not code:
        found = [path.parent.name for path in folder.glob("*/index.html")]
        found.sort(key=lambda name: [int(part) if part.isdigit() else -1 for part in name.split(".")], reverse=True)
        items = "".join(f'<li><a href="{quote(name)}/index.html">{escape(name)}</a></li>' for name in found)
        page = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Versions</title><ul>{items}</ul></html>\n'
        (folder / "index.html").write_text(page, encoding="utf-8")
    return code


def main() -> int:
    """Build what is asked for."""
    *option, where = sys.argv[1:] or [str(ROOT / "build" / "docs")]
    code = build_beside(Path(where)) if option == ["--beside"] else build(Path(where))
    if not code:
        print(f"the site is in {where}: open {Path(where) / 'index.html'}")
    return code


if __name__ == "__main__":
    sys.exit(main())
