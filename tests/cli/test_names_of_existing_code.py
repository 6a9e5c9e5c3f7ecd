"""What existing code imports to read what is typed, and the commands that it knows."""

from __future__ import annotations

import enum
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal, Optional, Union

import pytest

import nemo_run as run
from nemo_run.cli import cli_parser
from nemo_run.core.serialization.zlib_json import ZlibJSONSerializer
from nemo_run.errors import OverrideError
from tests.cli.conftest import Nemorun
from tests.support import eventually


class Colour(enum.Enum):
    RED = "red"


def train(
    size: int,
    names: list[str] = [],  # noqa: B006
    rate: Optional[float] = None,  # noqa: UP045
    kind: Literal["x", "y"] = "x",
    colour: Colour = Colour.RED,
) -> None: ...


# What the parsers of NeMo-Run 0.11.1 give, where they can read it.
@pytest.mark.parametrize(
    ("text", "annotation", "value"),
    [
        ("3", int, 3),
        ("3.5", float, 3.5),
        ("true", bool, True),
        ("hi", str, "hi"),
        ("'hi'", str, "hi"),
        ("[1,2]", list[int], [1, 2]),
        ("{'a':1}", dict[str, int], {"a": 1}),
        ("x", Literal["x", "y"], "x"),
        ("None", Optional[int], None),  # noqa: UP045
        ("5", Union[int, str], 5),  # noqa: UP007
        ("/tmp", Path, Path("/tmp")),
        ("3", None, 3),
        ("abc", None, "abc"),
    ],
)
def test_values(text: str, annotation: Any, value: object) -> None:
    assert cli_parser.parse_value(text, annotation) == value
    assert cli_parser.type_parser.parse(text, annotation) == value


@pytest.mark.parametrize(
    ("text", "annotation", "error"),
    [
        ("abc", int, cli_parser.ParseError),
        ("maybe", bool, cli_parser.ParseError),
        ("[1,", list[int], cli_parser.ListParseError),
        ("{", dict[str, int], cli_parser.DictParseError),
        ("z", Literal["x", "y"], cli_parser.LiteralParseError),
    ],
)
def test_values_that_do_not_fit(text: str, annotation: Any, error: type[cli_parser.ParseError]) -> None:
    with pytest.raises(cli_parser.ParseError) as raised:
        cli_parser.parse_value(text, annotation)
    assert type(raised.value) is error
    assert (raised.value.value, raised.value.arg, raised.value.expected_type) == (text, text, annotation)
    assert raised.value.reason
    assert raised.value.context == {"expected_type": annotation}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["size=abc"], cli_parser.ParseError),
        (["size=3", "kind=z"], cli_parser.LiteralParseError),
        (["sise=1"], cli_parser.ArgumentValueError),
        (["size=3", "names.c.d=3"], cli_parser.ArgumentValueError),
        (["size=3", "rate*=2"], cli_parser.OperationError),
        (["size+=1"], cli_parser.UndefinedVariableError),
        (["1", "[a]", "1", "x", "RED", "one too many"], cli_parser.ArgumentParsingError),
    ],
)
def test_arguments_that_do_not_fit(arguments: list[str], error: type[cli_parser.CLIException]) -> None:
    with pytest.raises(OverrideError) as raised:
        cli_parser.parse_cli_args(train, arguments)
    assert type(raised.value) is error
    assert str(raised.value)


def test_arguments_that_fit() -> None:
    assert cli_parser.parse_partial(train, "size=3", "names+=[a]") == run.Partial(train, size=3, names=["a"])
    assert cli_parser.parse_config(complex, "real=1") == run.Config(complex, real=1)
    assert cli_parser.parse_attribute("size", run.Config(train, size=3)) == 3
    with pytest.raises(cli_parser.ArgumentValueError, match="sise"):
        cli_parser.parse_attribute("sise", run.Config(train, size=3))


class Tokenizer:
    def __init__(self, size: int) -> None:
        self.size = size


@cli_parser.type_parser.register_parser(Tokenizer)
def read_tokenizer(text: str, annotation: type) -> Tokenizer:
    name, _, size = text.partition(":")
    if name != "null":
        raise cli_parser.ParseError(text, annotation, "no such tokenizer")
    return Tokenizer(int(size))


def tokenize(tokenizer: Tokenizer) -> None: ...


def test_a_type_has_a_reader_of_its_own() -> None:
    assert cli_parser.type_parser.custom_parsers == {Tokenizer: read_tokenizer}
    assert run.cli.parse_partial(tokenize, "tokenizer=null:5").tokenizer.size == 5
    with pytest.raises(cli_parser.ParseError, match="no such tokenizer"):
        cli_parser.parse_partial(tokenize, "tokenizer=other:5")


def test_a_development_space_needs_an_executor_that_has_them(nemorun: Nemorun) -> None:
    shown = nemorun("devspace", "launch", "space=DevSpace(name=mine,executor=local)", code=1)
    assert "LocalExecutor has no launch_devspace()" in shown.stderr


def test_an_ssh_server_wants_a_development_space(nemorun: Nemorun) -> None:
    text = ZlibJSONSerializer().serialize(run.Config(complex, real=1))
    assert "this is no development space, but a complex" in nemorun("devspace", "sshserver", text, code=1).stderr


@pytest.mark.needs("sshd", "root")
def test_an_ssh_server_of_a_development_space_answers(tmp_path: Path) -> None:
    executor = run.SlurmExecutor(tunnel=run.SSHTunnel(host="login", user="me", job_dir=str(tmp_path)))
    text = ZlibJSONSerializer().serialize(run.Config(run.DevSpace, name="my space", executor=executor.to_config()))
    command = [sys.executable, "-m", "nemo_run", "devspace", "sshserver", text]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "SLURM_JOB_NAME": "job"}
    ) as server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline().rpartition(" ")[2])
            folder = tmp_path / "devspaces" / "my-space"
            assert server.stdout.readline().endswith(f"nemorun devspace connect me@login {folder}\n")
            assert json.loads((folder / "devspace.json").read_text()) == {"name": "my space", "job_name": "job"}
            assert eventually(lambda: _banner(port)).startswith(b"SSH-2.0-")
        finally:
            server.terminate()


def _banner(port: int) -> bytes:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            return connection.recv(64)
    except OSError:
        return b""
