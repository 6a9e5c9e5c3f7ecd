"""A container may write to its job's folder, and leaves links there: no other file of this machine is touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import nemo_run as run
from nemo_run.core.execution.docker import DockerExecutor
from tests.services.docker import IMAGE

pytestmark = pytest.mark.needs("docker")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A private file of this machine."""
    file = tmp_path / "private" / "key"
    file.parent.mkdir()
    file.write_text("HOST ONLY\n")
    file.chmod(0o600)
    return file


def launch(text: str, artifacts: list[str] | None = None, **options: Any) -> run.Experiment:
    Path("code.txt").touch()
    packager = run.PatternPackager(include_pattern="code.txt", relative_path=str(Path.cwd()))
    executor = DockerExecutor(container_image=IMAGE, packager=packager, **options)
    with run.Experiment("links", executor=executor, clean_mode=True) as exp:
        exp.add(run.Script(inline=text), name="t", artifacts=artifacts or [])
        exp.run()
    return exp


def test_no_file_of_this_machine_becomes_an_artifact(key: Path) -> None:
    text = f"""echo 1 > "$NEMO_RUN_ARTIFACTS/real"; ln -s {key} "$NEMO_RUN_ARTIFACTS/stolen"
ln -s {key.parent} "$NEMO_RUN_ARTIFACTS/folder"
mkdir ckpt; ln -s {key} ckpt/evil.pt; echo 2 > ckpt/1.pt; ln -s 1.pt ckpt/last.pt; ln -s {key.parent} other"""
    exp = launch(text, ["ckpt/*.pt", "other/*"])
    assert [one.path for one in exp.artifacts()] == ["ckpt/1.pt", "ckpt/last.pt", "real"]
    assert "leads out of the task's folder" in exp.status(return_dict=True)["t"]["reason"]  # type: ignore[index]
    kept = [path for path in exp.directory.rglob("*") if path.is_file() and not path.is_symlink()]
    assert not [path for path in kept if b"HOST ONLY" in path.read_bytes().replace(b"echo", b"")]


def test_no_artifact_is_written_through_a_link(key: Path) -> None:
    text = f"""echo theirs > key; rm -r "$NEMO_RUN_ARTIFACTS" && ln -s {key.parent} "$NEMO_RUN_ARTIFACTS" """
    exp = launch(text, ["key"])
    assert (exp.directory / "t" / "artifacts").is_symlink()
    assert key.read_text() == "HOST ONLY\n"
    assert exp.artifacts() == []


ENTRY = ["sh", "-c", 'echo "from the container"; exec "$@"', "sh"]


@pytest.mark.parametrize(
    "options", [{}, {"additional_kwargs": {"entrypoint": ENTRY}}, {"additional_kwargs": {"user": "1234"}, "retries": 1}]
)
@pytest.mark.parametrize("what", ["log", "attempt"])
def test_nothing_is_written_to_or_changed_at_a_link(what: str, options: dict[str, Any], key: Path) -> None:
    end = "exit 3" if options.get("retries") else "true"
    file = {
        "log": f"rm -f $d/log; ln -s {key} $d/log",
        "attempt": f"mv $d /nemo_run/moved; ln -s {key.parent} $d; d=$(dirname $d)/2; mkdir $d; ln -s {key} $d/log",
    }[what]
    exp = launch(f"d=$NEMO_RUN_ATTEMPT_DIR; {file}; echo more; {end}", retry_delay=0.01, **options)
    assert key.read_text() == "HOST ONLY\n"
    assert key.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in key.parent.iterdir()] == ["key"]
    exp.status()
