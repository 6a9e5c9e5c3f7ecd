"""Script: what is refused when it is created, and that every argument arrives byte for byte."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from nemo_run.config import Config, ConfigurableMixin, Script
from nemo_run.errors import ScriptError

HOSTILE = [
    "", " ", "a b", "it's", '"quoted"', "$HOME", "$(echo no)", "`echo no`", "a\nb", "tab\there", "back\\slash",
    "*", "~", "-e", "--", "é 漢 🚀", "a;b|c&d>e", "!x", "#", "{a,b}", "%s", "\r\n",
]  # fmt: skip
PRINT_ARGS = "import sys; sys.stdout.buffer.write(b'\\0'.join(arg.encode() for arg in sys.argv[1:]))"


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(argv: list[str]) -> str:
    return subprocess.run(argv, capture_output=True, check=True).stdout.decode()


# ---------------------------------------------------------------- what is refused
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, r"either path= .* or inline= .*; neither was given"),
        ({"inline": "true", "entrypoint": ""}, "entrypoint is empty"),
        ({"inline": "true", "entrypoint": " "}, "entrypoint is empty"),
        ({"inline": "true", "entrypoint": "bash 'a"}, "cannot be split into words: No closing quotation"),
        ({"path": "package.module", "m": True}, "m=True is `python -m`, but entrypoint is 'bash'"),
        ({"inline": "true", "env": {"A B": "1"}}, "'A B', which is not a name for an environment variable"),
        ({"inline": "true", "env": {"1A": "1"}}, "'1A', which is not a name"),
        ({"inline": "true", "env": {"A=B": "1"}}, "'A=B', which is not a name"),
        ({"inline": "true", "env": {"A\n": "1"}}, "which is not a name"),
        ({"inline": "true", "env": {"": "1"}}, "'', which is not a name"),
        ({"inline": "true", "env": {"A": 1}}, r"env\['A'\] must be a str, got 1 of type int"),
        ({"inline": "true", "env": ["A=1"]}, "env must be a dict"),
        ({"inline": "true", "args": "a b"}, "args must be a list of str, got 'a b' of type str"),
        ({"inline": "true", "args": ["a", 1]}, r"args\[1\] must be a str, got 1 of type int"),
        ({"inline": "true", "args": ["a\0b"]}, r"args\[0\] contains a NUL character"),
        ({"inline": "true", "env": {"A": "a\0b"}}, r"env\['A'\] contains a NUL"),
        ({"inline": 1}, "inline must be a str"),
        ({"path": b"a.sh"}, "path must be a str"),
    ],
)
def test_what_is_refused(arguments, message):
    with pytest.raises(ScriptError, match=message):
        Script(**arguments)
    assert issubclass(ScriptError, ValueError)


def test_the_case_of_environment_variables_is_kept():
    assert Script(inline="true", env={"Path": "a", "path_2": "b", "_X": ""}).env == {
        "Path": "a",
        "path_2": "b",
        "_X": "",
    }


# ---------------------------------------------------------------- a description
@pytest.mark.parametrize("path", ["no-such.sh", "no/such.sh", "/no/such/folder/train.sh", "."])
def test_creating_a_script_looks_at_no_file(path):
    script = Script(path)
    assert script.argv() == ["bash", path]
    assert Script(path, working_dir="somewhere").to_config().build() == Script(path, working_dir="somewhere")


def test_the_text_runs_where_a_path_is_given_too():
    script = Script(path="no-such.sh", inline="echo text", args=["a"])
    assert script.argv("/tmp/text.sh") == ["bash", "/tmp/text.sh", "a"]
    assert script.get_name() == "echo_text"


def test_none_is_a_field_that_is_left_out():
    script = Script(path=None, inline="true", args=None, env=None, metadata=None, working_dir=None)
    assert script == Script(inline="true")
    assert Script("a.sh", inline=None) == Script("a.sh")


def test_a_module_is_not_looked_for():
    assert Script("json.tool", m=True, entrypoint="python", args=["a"]).argv() == ["python", "-m", "json.tool", "a"]


# ---------------------------------------------------------------- commands
def test_arguments_reach_a_file_byte_for_byte():
    Path("my script.py").write_text(PRINT_ARGS)
    script = Script("my script.py", args=HOSTILE, entrypoint=f"{shlex.quote(sys.executable)} -B")
    assert run(script.argv()).split("\0") == HOSTILE
    assert script.argv() == script.to_command(with_entrypoint=True)
    assert run(["bash", "-c", shlex.join(script.argv())]).split("\0") == HOSTILE


@pytest.mark.parametrize("text", HOSTILE)
def test_an_inline_text_is_kept(text):
    code = f"import sys; sys.stdout.buffer.write({text!r}.encode() + b'|' + sys.argv[1].encode())"
    script = Script(inline=code, args=[text], entrypoint=shlex.quote(sys.executable))
    assert run(script.to_command(with_entrypoint=True)) == f"{text}|{text}"
    Path("inline").write_text(script.inline)
    assert run(script.argv("inline")) == f"{text}|{text}"


def test_an_inline_shell_script():
    script = Script(inline='printf \'%s|\' "$0" "$@"\nexit 0', args=["a b", "$c"])
    assert run(script.to_command(with_entrypoint=True)) == "bash|a b|$c|"
    assert Script(inline="env").to_command() == ["-c", "env"]
    assert Script(inline="env").to_command(with_entrypoint=True) == ["bash", "-c", "env"]
    with pytest.raises(ScriptError, match="say which"):
        script.argv()


def test_an_inline_script_can_be_written_to_a_file(tmp_path):
    file = tmp_path / "a/b c/script.sh"
    script = Script(inline='cat /nemo_run/x; echo "$1"', args=["a b"])
    local = script.to_command(filename=str(file), is_local=True, substitute_rundir_path=str(tmp_path / "run"))
    assert local == [str(file), "a b"]
    assert os.access(file, os.X_OK)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/x").write_text("x\n")
    assert run(local) == "x\na b\n"
    in_the_job = script.to_command(with_entrypoint=True, filename=str(file))
    assert in_the_job == ["bash", "/nemo_run/scripts/script.sh", "a b"]
    assert file.read_text().endswith('cat /nemo_run/x; echo "$1"')


def test_a_written_script_keeps_its_own_first_line(tmp_path):
    file = tmp_path / "script"
    Script(inline="#!/bin/sh\necho hi").to_command(filename=str(file))
    assert file.read_text() == "#!/bin/sh\necho hi"


@pytest.mark.parametrize(
    ("script", "name"),
    [
        (Script(inline='echo "hello world"'), "echo_hell"),
        (Script(inline="\n\nenv\n"), "env"),
        (Script("/no/such/folder/train.sh"), "train.sh"),
    ],
)
def test_names(script, name):
    assert script.get_name() == name


# ---------------------------------------------------------------- as a configuration
def test_a_script_as_a_configuration():
    script = Script(inline="env", args=["a"], env={"A": "b"}, metadata={"note": 1})
    cfg = script.to_config()
    assert isinstance(cfg, Config)
    assert isinstance(script, ConfigurableMixin)
    assert cfg.build() == script


def test_a_configuration_outlives_the_file(tmp_path):
    file = tmp_path / "train.sh"
    file.touch()
    script = Script(str(file))
    cfg = script.to_config()
    nested = Config(dict, task=script)
    file.unlink()
    assert cfg.build() == script
    assert nested.build() == {"task": script}
