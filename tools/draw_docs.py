#!/usr/bin/env python3
"""Draws pictures of the documentation from the code and its tests, as text, and writes them into the pages."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import nemo_run as run
from nemo_run.core.execution.base import Backend
from nemo_run.core.execution.jobs import CAUSES
from nemo_run.run import phases, store as files

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "docs" / name for name in ("how-it-works.md", "support.md")]
_PLACE = re.compile(r"(<!-- drawing: (\w+) -->\n```text\n).*?(^```$)", re.DOTALL | re.MULTILINE)


def states() -> str:
    """Return the states of a job: those on the way, one after the other, and those that it ends in."""
    way = [state.name for state in run.JobState if not state.is_final and state is not run.JobState.UNKNOWN]
    ends = [state.name for state in run.JobState if state.is_final]
    first = " -> ".join(way)
    lines = [f"{first} --+--> {ends[0]}", *(f"{' ' * len(first)}   +--> {end}" for end in ends[1:])]
    return "\n".join([*lines, "", f"{run.JobState.UNKNOWN.name}: {_unknown()}"]) + "\n"


def _unknown() -> str:
    return (inspect.getdoc(run.JobState) or "").partition("means that ")[2].rstrip(".")


def phase_list() -> str:
    """Return the phases of a task, each with what the code says of it."""
    lines, name = [], ""
    for node in ast.walk(ast.parse(inspect.getsource(phases.Phase))):
        match node:
            case ast.Assign(targets=[ast.Name(id=found)]):
                name = found
            case ast.Expr(value=ast.Constant(value=str(text))) if name:
                lines.append(f"{name:<11} {text}")
    return "\n".join(lines) + "\n"


def causes() -> str:
    """Return the causes of an end that a program is not to blame for."""
    return "\n".join([*CAUSES, f"exit code {phases.CONTINUE}: the task asks to be continued"]) + "\n"


def flow() -> str:
    """Return what is handed on from the configuration to the engine and back; the files are those of the store."""
    tree = (inspect.getdoc(files) or "").partition("::")[2]
    named = [line.split()[0] for line in tree.splitlines() if line.split()]
    asked, planned, state = (next(name for name in named if name.endswith(end)) for end in _FILES)
    steps = [method for method in ("render", "submit", "states", "open_log") if hasattr(Backend, method)]
    left = [
        "Config, Partial, Script  +  Executor, Launcher, Packager",
        "        |  exp.add, exp.run",
        "        v",
        f"{asked} (what was asked for)",
        f"        |  Backend.{steps[0]}: no side effect; a dry run ends here",
        "        v",
        f"{planned} (what the engine is to run)",
        f"        |  Backend.{steps[1]}: an attempt is written down, then handed to the engine",
        "        v",
        "engine: this machine, Slurm, Docker, Kubernetes, ...",
        f"        |  Backend.{steps[2]}, Backend.{steps[3]}",
        "        v",
        f"{state} (how far it is)  ->  nemorun experiment status, logs, results",
    ]
    return "\n".join(left) + "\n"


_FILES = ("experiment.json", "plan.json", "state.json")
_FOLDERS = {"local": "execution", "skypilot_jobs": "skypilot"}  # of tests; the others are called as their engine
_SUITE = re.compile(r"^class \w+\(\w*Contract\):", re.MULTILINE)
_NEEDS = re.compile(r"mark\.needs\(([^)]*)\)")


def executors() -> dict[str, str]:
    """Return the public executors, and the names of their engines."""
    names = [name for name in run.__all__ if name.endswith("Executor") and name != "Executor"]
    return {name: getattr(run, name).engine for name in names}


def support() -> str:
    """Return what the tests say of each executor: the suite for all engines, and what they need."""
    lines = [f"{'executor':<22} {'suite':<6} {'tests':<20} need"]
    for name, engine in executors().items():
        folder = ROOT / "tests" / _FOLDERS.get(engine, engine)
        files = [folder / "test_local_backend.py"] if engine == "local" else sorted(folder.rglob("*.py"))
        code = "\n".join(path.read_text(encoding="utf-8") for path in files)
        needs = sorted(set(re.findall(r'"([^"]+)"', " ".join(_NEEDS.findall(code)))))
        suite = "passes" if _SUITE.search(code) else "-"
        lines.append(f"{name:<22} {suite:<6} {f'tests/{folder.name}':<20} {', '.join(needs)}".rstrip())
    return "\n".join(lines) + "\n"


DRAWINGS = {"support": support, "flow": flow, "states": states, "phases": phase_list, "causes": causes}


def drawn(page: str) -> str:
    """Return the text of the page with the pictures of today."""
    return _PLACE.sub(lambda match: f"{match[1]}{DRAWINGS[match[2]]()}{match[3]}", page)


def main() -> None:
    """Write the pages."""
    for page in PAGES:
        page.write_text(drawn(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
