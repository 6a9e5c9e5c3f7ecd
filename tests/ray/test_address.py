"""Jobs on a Ray cluster that somebody else manages, by its address."""

from __future__ import annotations

from pathlib import Path

import pytest

from nemo_run import LocalExecutor
from nemo_run.cli import app
from nemo_run.cli.running import run_app
from nemo_run.errors import ExecutorError, NemoRunError, RayJobFailedError
from nemo_run.run.ray import RayCluster, RayJob


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give an executor, or the address"),
        ({"address": "127.0.0.1:8265"}, "give that of the dashboard"),
        ({"address": "http://me:secret@127.0.0.1:8265"}, "a token is given as token"),
        ({"address": "http://ray.example.com:8265", "token": "hush"}, "would be readable"),
    ],
)
def test_what_is_wrong_with_an_address_is_said(options: dict[str, str], message: str) -> None:
    with pytest.raises(NemoRunError, match=message) as caught:
        RayJob("there", **options)  # type: ignore[arg-type]
    assert "hush" not in str(caught.value)


@pytest.mark.needs("ray")
def test_a_job_on_a_cluster_of_somebody_else(
    cluster: RayCluster,
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    status = cluster.status(display=False)
    address, token = status["dashboard"], Path(status["token_file"]).read_text()
    monkeypatch.setenv("NEMORUN_HOME", str(tmp_path / "another-home"))
    job = RayJob("there", LocalExecutor(env_vars={"A": "$b"}), address=address, token=token)
    assert token not in repr(job)
    job.start("cat hello.txt; echo $A; exit 3", str(project))
    job.logs(follow=True)
    assert {"hello", "$b"} < set(capsys.readouterr().out.splitlines())
    with pytest.raises(RayJobFailedError, match="exit code 3"):
        job.wait()
    assert run_app(app.nemorun, ["ray", "logs", "there"]) == 0  # the token is known by now
    assert "hello" in capsys.readouterr().out
    kept = [
        path
        for path in (tmp_path / "another-home").rglob("*")
        if path.is_file() and token.encode() in path.read_bytes()
    ]
    assert [(path.parent.name, path.stat().st_mode & 0o077) for path in kept] == [("tokens", 0)]
    monkeypatch.setenv("RAY_AUTH_TOKEN", token)
    assert run_app(app.nemorun, ["ray", "submit", "again", "--address", address, "--", "exit 4"]) == 4
    assert run_app(app.nemorun, ["ray", "stop", address]) == 1
    assert "somebody else's" in capsys.readouterr().err


@pytest.mark.needs("ray")
def test_a_wrong_token_is_refused_in_the_words_of_ray(
    cluster: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = cluster.status(display=False)["dashboard"]
    monkeypatch.setenv("NEMORUN_HOME", str(tmp_path / "another-home"))
    job = RayJob("there", address=address, token="wrong")
    with pytest.raises(ExecutorError, match="token"):
        job.start("true", "")
