"""Secrets are shown nowhere: not by repr, not by a dry run, not by an error, not in a list of processes."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.config.masking import masked_arguments
from nemo_run.errors import CommandError
from tests.support import bash

SECRETS = {"HF_TOKEN": "MADEUP-1", "DB_PASSWORD": "MADEUP-2", "DATABASE_URL": "postgres://me:MADEUP-3@db/x"}
ENGINES = {
    "local": lambda: run.LocalExecutor(env_vars=dict(SECRETS)),
    "docker": lambda: run.DockerExecutor(container_image="x", env_vars=dict(SECRETS)),
    "slurm": lambda: run.SlurmExecutor(account="a", env_vars=dict(SECRETS)),
    "lepton": lambda: run.LeptonExecutor(container_image="x", nemo_run_dir="/x", env_vars=dict(SECRETS)),
    "skypilot": lambda: run.SkypilotExecutor(container_image="x", env_vars=dict(SECRETS)),
    "dgxcloud": lambda: run.DGXCloudExecutor(
        base_url="https://x", client_id="a", client_secret="MADEUP-1", kube_apiserver_url="", project_name="p",
        container_image="x", pvc_nemo_run_dir="/x", env_vars=dict(SECRETS),
    ),
}  # fmt: skip


@pytest.mark.parametrize("engine", ENGINES)
def test_no_executor_shows_its_secrets(engine: str) -> None:
    executor = ENGINES[engine]()
    for shown in (repr(executor), repr(executor.to_config()), repr(run.Config(dict, x=executor.to_config()))):
        assert "MADEUP-1" not in shown
        assert "MADEUP-2" not in shown
        assert "MADEUP-3" not in shown
        assert "HF_TOKEN" in shown


def test_executors_of_others_show_no_secrets() -> None:
    @dataclasses.dataclass(kw_only=True)
    class Own(run.LocalExecutor):
        extra: int = 1

    assert repr(Own(env_vars=dict(SECRETS))).startswith(f"{Own.__qualname__}(packager=")
    assert "MADEUP" not in repr(Own(env_vars=dict(SECRETS)))


def test_no_script_shows_its_secrets() -> None:
    script = run.Script(inline="x", env=dict(SECRETS), args=["--api-key", "MADEUP-5", "token=MADEUP-6"])
    assert "MADEUP" not in repr(script)
    assert "MADEUP" not in repr(script.to_config())
    assert script.env == SECRETS, "they are still there"


def test_words_of_models_are_no_secrets() -> None:
    shown = repr(run.Config(dict, eos_token="</s>", sort_key="length", api_key="MADEUP-1"))
    assert "</s>" in shown
    assert "length" in shown
    assert "MADEUP" not in shown


def test_what_is_no_secret_is_shown() -> None:
    script = run.Script(inline="echo", env={"A": "1"}, args=["--lr", "1"])
    assert eval(repr(script), {"Script": run.Script}) == script


def test_a_dry_run_shows_no_secret(capfd: pytest.CaptureFixture[str]) -> None:
    exp = run.Experiment("secrets", clean_mode=True)
    args = ["--api-key", "MADEUP-5", "token=MADEUP-6", "--url=s3://me:MADEUP-7@host/x"]
    exp.add(bash("echo hi", *args, env=dict(SECRETS)), executor=ENGINES["local"]())
    exp.dryrun()
    said = "".join(capfd.readouterr())
    assert "--api-key" in said
    assert "MADEUP" not in said


def test_arguments_with_an_address() -> None:
    assert masked_arguments(["s3://me:pw@host/x", "s3://host/x"]) == ["s3://****@host/x", "s3://host/x"]


@pytest.mark.parametrize("hide", [True, False])
def test_variables_of_a_command_are_not_in_its_error_nor_in_a_list_of_processes(
    hide: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tunnel = run.LocalTunnel(job_dir=str(tmp_path))
    value = "MADEUP 'x' \\n $HOME"
    result = tunnel.run('printf "%s" "$HF_TOKEN"', env={"HF_TOKEN": value}, hide=hide)
    assert result.stdout == value
    assert "MADEUP" not in result.command
    listed = tunnel.run("cat /proc/$$/cmdline /proc/$PPID/cmdline", env={"HF_TOKEN": value}, hide=True).stdout
    assert "MADEUP" not in listed
    with pytest.raises(CommandError) as caught:
        tunnel.run("exit 3", env={"HF_TOKEN": value}, hide=hide)
    assert "MADEUP" not in str(caught.value) + repr(vars(caught.value))
    assert "HF_TOKEN" not in os.environ
