"""``artifacts_to``: copies of artifacts in a folder, or in storage of objects; with a server that speaks S3."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import nemo_run as run
from nemo_run.core.storage import check_storage
from nemo_run.errors import ExecutorError, MissingExtraError
from tests.services import environment, s3

_LEAVES = """
mkdir -p "$NEMO_RUN_ARTIFACTS/deep"
for name in a b deep/c 'x ü?#%20'; do echo "$name" > "$NEMO_RUN_ARTIFACTS/$name"; done
"""


def _launch(to: str, direct: bool = False, **options: Any) -> run.Experiment:
    with run.Experiment("elsewhere", executor=run.LocalExecutor(artifacts_to=to, **options)) as exp:
        exp.add(run.Script(inline=_LEAVES), name="t")
        exp.run(direct=direct)
    return exp


def _names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("direct", [False, True])
def test_copies_are_in_a_folder(direct: bool, work: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    exp = _launch(str(kept), direct)
    assert _names(kept / exp.id / "t") == ["a", "b", "deep/c", "x ü?#%20"]
    assert exp.results()["t"].reason == ""
    assert {one.path: one.copy for one in exp.artifacts()}["deep/c"] == f"{kept}/{exp.id}/t/deep/c"


def test_a_relative_folder_is_that_of_the_launch(work: Path) -> None:
    exp = _launch("kept")
    assert _names(Path.cwd() / "kept" / exp.id / "t")


def test_what_cannot_be_copied_is_named_and_the_rest_arrives(work: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    with run.Experiment("elsewhere", executor=run.LocalExecutor(artifacts_to=str(kept))) as exp:
        (kept / exp.id / "t" / "b").mkdir(parents=True)  # a folder is where the file is to go
        exp.add(run.Script(inline=_LEAVES), name="t")
        exp.run()
    status = exp.results()["t"]
    assert str(status.state) == "SUCCEEDED"
    assert "'b' (not copied to" in status.reason
    assert "'a'" not in status.reason
    assert _names(kept / exp.id / "t") == ["a", "deep/c", "x ü?#%20"]
    copies = {one.path: one.copy for one in exp.artifacts()}
    assert copies["b"] == ""
    assert copies["a"]


def test_storage_that_refuses_all_is_asked_three_times(work: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    exp = _launch(str(tmp_path / "file"))
    reason = exp.results()["t"].reason
    assert reason.count("Not a directory") == 3
    assert "as the others" in reason
    assert len(exp.artifacts()) == 4


@pytest.mark.parametrize(
    ("address", "error", "words"),
    [
        ("s3://key:secret@bucket/x", ExecutorError, "has a password"),
        ("floppy://a/b", ExecutorError, "knows no storage 'floppy'"),
        ("gs://bucket/x", MissingExtraError, r"nemo-run\[gcs\]"),
    ],
)
def test_addresses_are_checked_before_anything_starts(address: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        check_storage("LocalExecutor.artifacts_to", address)


@pytest.fixture(scope="module")
def server() -> Iterator[Mapping[str, str]]:
    with s3.server() as variables:
        yield variables


_PROGRAM = """
import json, sys
import fsspec, s3fs
import nemo_run as run

address, bucket, script = sys.argv[1:]
storage = s3fs.S3FileSystem()
if bucket:
    storage.mkdir(bucket)
with run.Experiment("elsewhere", executor=run.LocalExecutor(artifacts_to=address)) as exp:
    exp.add(run.Script(inline=script), name="t")
    exp.run()
status = exp.results()["t"]
found = storage.find(bucket) if bucket else []
print("RESULT" + json.dumps({
    "state": status.state.name, "reason": status.reason, "found": {path: storage.cat(path).decode() for path in found},
    "copies": [one.copy for one in exp.artifacts()], "id": exp.id, "buckets": storage.ls(""),
}))
"""


def _in_environment(server: Mapping[str, str], work: Path, *arguments: str) -> Any:
    env = {**os.environ, **server, "PYTHONPATH": str(environment.ROOT)}
    program = work / "program.py"
    program.write_text(_PROGRAM)
    done = subprocess.run(
        [s3.PYTHON, program, *arguments], capture_output=True, text=True, env=env, cwd=work, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads(done.stdout.partition("RESULT")[2].splitlines()[0])


@pytest.mark.needs("s3")
def test_copies_are_in_a_bucket(server: Mapping[str, str], work: Path) -> None:
    said = _in_environment(server, work, "s3://bucket/some where", "bucket", _LEAVES)
    top = f"bucket/some where/{said['id']}/t"
    assert said["state"] == "SUCCEEDED"
    assert said["reason"] == ""
    assert said["found"] == {f"{top}/{name}": f"{name}\n" for name in ("a", "b", "deep/c", "x ü?#%20")}
    assert said["copies"] == [f"s3://{path}" for path in said["found"]]


@pytest.mark.needs("s3")
def test_a_bucket_that_is_not_there_is_not_made(server: Mapping[str, str], work: Path) -> None:
    said = _in_environment(server, work, "s3://misspelt/kept", "", _LEAVES)
    assert said["state"] == "SUCCEEDED"
    assert "'a' (not copied to s3://misspelt/kept" in said["reason"]
    assert "The specified bucket does not exist" in said["reason"]
    assert "misspelt" not in said["buckets"]


@pytest.mark.needs("s3")
def test_what_a_bucket_cannot_hold_is_named_and_the_rest_arrives(server: Mapping[str, str], work: Path) -> None:
    script = r'cd "$NEMO_RUN_ARTIFACTS"; touch good "$(printf "latin-\377")"'
    said = _in_environment(server, work, "s3://odd/kept", "odd", script)
    assert [path.rpartition("/")[2] for path in said["found"]] == ["good"]
    assert "latin-" in said["reason"]
