"""``--yaml``: several files, pipes, and words that YAML takes for true or false."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.cli.recipe import configure
from tests.cli.conftest import Nemorun

SCRIPT = """
from enum import Enum
from typing import Any, Literal

import nemo_run as run


class Light(Enum):
    ON = 1
    OFF = 2


@run.cli.entrypoint
def main(
    n: int = 1,
    rate: float = 0.1,
    mode: Literal["on", "off"] = "on",
    light: Light = Light.ON,
    text: str = "",
    flag: bool = True,
    words: list[str] = [],
    either: bool | str = "",
    size: int | None = 0,
    unknown=None,
    no: str = "",
):
    print(n, rate, mode, light.name, repr(text), flag, words, repr(either), size, unknown, no)


if __name__ == "__main__":
    run.cli.main(main)
"""
DEFAULTS = "1 0.1 on ON '' True [] '' 0 None \n"


@pytest.fixture
def folder(here: Path) -> Path:
    (here / "task.py").write_text(SCRIPT)
    (here / "base.yaml").write_text("n: 3\nrate: 0.5\n")
    (here / "mine.toml").write_text("rate = 0.7\n")
    return here


def said(script: Nemorun, *typed: str) -> str:
    return script("task.py", "--yes", *typed).stdout


# ---------------------------------------------------------------- several files
@pytest.mark.parametrize(
    ("typed", "begins"),
    [
        (["--yaml", "base.yaml", "--yaml", "mine.toml"], "3 0.7"),
        (["--yaml", "mine.toml", "--yaml", "base.yaml"], "3 0.5"),
        (["--yaml", "base.yaml", "--yaml", "mine.toml", "rate=0.9"], "3 0.9"),
        (["--factory", "@base.yaml", "--yaml", "mine.toml"], "3 0.7"),
        (["--lazy", "run.executor=local", "--yaml", "base.yaml", "--yaml", "mine.toml"], "3 0.7"),
    ],
)
def test_the_last_of_several_files_wins(folder: Path, script: Nemorun, typed: list[str], begins: str) -> None:
    assert f"{begins} on" in said(script, *typed)


def test_a_mistake_in_any_of_several_files_is_told(folder: Path, script: Nemorun) -> None:
    (folder / "wrong.yaml").write_text("m: 3\n")
    for files in (["wrong.yaml", "base.yaml"], ["base.yaml", "wrong.yaml"]):
        typed = [word for file in files for word in ("--yaml", file)]
        assert "has no argument 'm'" in script("task.py", "--yes", *typed, code=2).stderr


def test_sections_of_several_files_say_how_it_runs(folder: Path, script: Nemorun) -> None:
    (folder / "dry.yaml").write_text("run: {dryrun: true}\n")
    (folder / "named.yaml").write_text("run: {name: another}\nn: 8\n")
    done = script("task.py", "--yes", "--yaml", "dry.yaml", "--yaml", "named.yaml")
    assert "n: 8" in done.stdout
    assert DEFAULTS not in done.stdout


# ---------------------------------------------------------------- pipes
@pytest.mark.parametrize("name", ["-", "/dev/stdin", "/dev/fd/0"])
@pytest.mark.parametrize("text", ["n: 3\n", "n: 3", '{"n": 3}', "n = 3\n"])
def test_arguments_come_through_a_pipe(folder: Path, name: str, text: str) -> None:
    code = "import sys\nfrom nemo_run.cli.recipe import configure\ndef main(n: int = 1): ...\n"
    code += "print(configure(main, file=sys.argv[1]), configure(main, file=sys.argv[1]))  # once more"
    command = [sys.executable, "-c", code, name]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, cwd=folder)
    assert done.stdout == "<Partial[main(n=3)]> <Partial[main(n=3)]>\n", done.stderr


def test_a_script_reads_standard_input_and_files(folder: Path) -> None:
    command = [sys.executable, "task.py", "--yes", "--yaml", "-", "--yaml", "mine.toml"]
    done = subprocess.run(command, input="n: 9\nrate: 1", capture_output=True, text=True, check=False, cwd=folder)
    assert done.stdout.startswith("9 0.7 "), done.stderr


def test_an_empty_pipe_is_a_mistake(folder: Path) -> None:
    command = [sys.executable, "task.py", "--yes", "--yaml", "-"]
    done = subprocess.run(command, input="", capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 2
    assert "what comes from - cannot be used" in done.stderr


# ---------------------------------------------------------------- words
@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("mode: off", "1 0.1 off ON '' True [] '' 0 None \n"),
        ("light: off", "1 0.1 on OFF '' True [] '' 0 None \n"),
        ("text: No", "1 0.1 on ON 'No' True [] '' 0 None \n"),
        ("text: 4:00:00", "1 0.1 on ON '4:00:00' True [] '' 0 None \n"),
        ("text: 2024-01-02", "1 0.1 on ON '2024-01-02' True [] '' 0 None \n"),
        ("n: 1:30", "90 0.1 on ON '' True [] '' 0 None \n"),
        ("flag: off", "1 0.1 on ON '' False [] '' 0 None \n"),
        ("flag: False", "1 0.1 on ON '' False [] '' 0 None \n"),
        ("words: [on, off, ok]", "1 0.1 on ON '' True ['on', 'off', 'ok'] '' 0 None \n"),
        ("either: off", "1 0.1 on ON '' True [] False 0 None \n"),
        ("either: 'off'", "1 0.1 on ON '' True [] 'off' 0 None \n"),
        ("unknown: {a: [yes]}", "1 0.1 on ON '' True [] '' 0 {'a': [True]} \n"),
        ("no: yes", "1 0.1 on ON '' True [] '' 0 None yes\n"),
    ],
)
def test_a_word_is_what_is_wanted(folder: Path, script: Nemorun, text: str, printed: str) -> None:
    (folder / "words.yaml").write_text(text)
    assert said(script, "--yaml", "words.yaml") == printed


@pytest.mark.parametrize("text", ["n: off", "rate: off", "size: off", "flag: 4:00:00", "n: 2024-01-02"])
def test_a_word_that_fits_nowhere_is_told_as_it_stands(folder: Path, script: Nemorun, text: str) -> None:
    (folder / "words.yaml").write_text(text)
    assert f"got {text.split(maxsplit=1)[1]!r}" in script("task.py", "--yes", "--yaml", "words.yaml", code=2).stderr


def test_words_in_values_and_objects_are_true_and_false(folder: Path) -> None:
    def main(a: object = None, b: object = None, c: object = None) -> None: ...

    (folder / "deep.yaml").write_text(
        "a: {_target_: builtins.set, _args_: [[yes]]}\nb: &x {deep: off}\nc: ${b}\n", encoding="utf-8"
    )
    config = configure(main, file=str(folder / "deep.yaml"))
    assert (config.a, config.b, config.c) == ({True}, {"deep": False}, {"deep": False})
    assert run.Partial(main) == configure(main, file={})
