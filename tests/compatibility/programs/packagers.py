"""Packages of code: of a repository, of patterns, and of both; what is inside of each."""

import json
import os
import subprocess
import tarfile
from pathlib import Path

import nemo_run as run


def git(*arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)


def inside(packager, name):
    target = Path.cwd().parent / "packages" / name
    target.mkdir(parents=True)
    with tarfile.open(packager.package(Path.cwd(), str(target), name)) as tar:
        return sorted(os.path.normpath(member.name) for member in tar.getmembers() if member.isfile())


if __name__ == "__main__":
    for name in ("src/train.py", "src/model/net.py", "conf/a.yaml", "README"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(name + "\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    Path("extra").mkdir()
    Path("extra/data.txt").write_text("not committed\n")
    here = str(Path.cwd())
    pattern = run.PatternPackager(include_pattern=f"{here}/src/*.py", relative_path=here)
    seen = {
        "git": inside(run.GitArchivePackager(), "git"),
        "subpath": inside(run.GitArchivePackager(subpath="src"), "subpath"),
        "more": inside(
            run.GitArchivePackager(include_pattern=f"{here}/extra/*", include_pattern_relative_path=here), "more"
        ),
        "pattern": inside(pattern, "pattern"),
        "hybrid": inside(
            run.HybridPackager(sub_packagers={"code": run.GitArchivePackager(subpath="src"), "p": pattern}), "hybrid"
        ),
    }
    Path("src/train.py").write_text("changed\n")
    try:
        inside(run.GitArchivePackager(check_uncommitted_changes=True), "changed")
    except RuntimeError:
        seen["uncommitted"] = "RuntimeError"
    try:
        inside(run.GitArchivePackager(check_untracked_files=True), "untracked")
    except AssertionError:
        seen["untracked"] = "AssertionError"
    Path("result.json").write_text(json.dumps(seen, indent=1))
