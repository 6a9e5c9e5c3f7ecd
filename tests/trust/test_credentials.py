"""Credentials and commands: what a handle may be, and where a token is not sent."""

from __future__ import annotations

import pytest

from nemo_run.config.masking import MASK, holds_secret, masked
from nemo_run.core.execution.dgxcloud.client import DGXCloudClient
from nemo_run.core.execution.slurm.handle import Handle
from nemo_run.core.rest import RestClient
from nemo_run.errors import ExecutorError


@pytest.mark.parametrize(
    "text", ["slurm://123/x/attempts/1", "slurm://123_4/x#y/attempts/1#2", "slurm://12+1", "slurm://7#0"]
)
def test_a_handle_of_slurm_is_read_as_it_was_written(text: str) -> None:
    assert str(Handle.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["slurm://--me/x", "slurm://1 2/x", "slurm://-1/x", "slurm:///x", "1/x", "slurm://1,2/x"]
)
def test_an_option_is_no_handle_of_slurm(text: str) -> None:
    with pytest.raises(ExecutorError, match="no handle of a Slurm job"):
        Handle.parse(text)


@pytest.mark.parametrize("url", ["http://cloud.example/api", "http://127.0.0.1.example/api", "ftp://cloud.example"])
def test_a_token_goes_encrypted_or_stays_on_this_machine(url: str) -> None:
    asked: list[str] = []
    client = RestClient(url, service="Example", extra="lepton", token=lambda: asked.append("token") or "hush")
    with pytest.raises(ExecutorError, match=r"readable by others.*https://"):
        client.get("x")
    assert asked == []


def test_a_secret_goes_encrypted_or_stays_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DGXCLOUD_CLIENT_SECRET", "hush")
    client = DGXCloudClient("http://cloud.example", "", "me", "project")
    with pytest.raises(ExecutorError, match=r"readable by others.*https://"):
        client.project()


@pytest.mark.parametrize("value", ["x" * 2_000_000, "a://" * 500_000, "a://x" + "y" * 2_000_000, "a:" * 1_000_000])
def test_a_long_value_is_looked_through_in_one_go(value: str) -> None:
    assert not holds_secret("DATA", value)
    assert holds_secret("DATA", f"{value} postgres://me:pw@db/x")
    assert masked({"DATA": f"{value} postgres://me:pw@db/x"})["DATA"].endswith(f"postgres://{MASK}@db/x")
