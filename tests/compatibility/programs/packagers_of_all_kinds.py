"""Every option of packagers of repositories, patterns and both, and which of them are refused."""

import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import nemo_run as run

TOP = Path("repository").resolve()


def git(*arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)


def write(name, text="x"):
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text)


def inside(packager, path=None):
    target = TOP.parent / "packages"
    target.mkdir()
    try:
        package = packager.package(path or Path.cwd(), str(target), "code")
        with tarfile.open(package) as tar:
            return [Path(package).name, sorted(os.path.normpath(one.name) for one in tar.getmembers() if one.isfile())]
    finally:
        shutil.rmtree(target)


def refused(kind, packager):
    try:
        inside(packager)
    except kind:
        return True
    return False


class Checked(run.GitArchivePackager):
    """A packager of a user's own."""

    def package(self, path, job_dir, name):
        assert (Path(path) / "a.py").exists()
        return super().package(path, job_dir, f"checked-{name}")


if __name__ == "__main__":
    TOP.mkdir()
    os.chdir(TOP)
    for name in ("a.py", "src/pkg/__init__.py", "src/pkg/m.py", "configs/a/x.yaml", "configs/top.yaml", "data/d.bin"):
        write(name)
    write("sub folder/a file.txt")
    write(".gitignore", "data/\n")
    git("init", "-q", "-b", "main")
    git("add", ".")
    git("commit", "-qm", "first")
    Pattern, Git, Hybrid = run.PatternPackager, run.GitArchivePackager, run.HybridPackager
    here = str(TOP)
    seen = {
        "folder": inside(Pattern(include_pattern="src/*", relative_path=here)),
        "several": inside(Pattern(include_pattern=["configs/*", "a.py"], relative_path=[here, here])),
        "git": inside(Git()),
        "subpath": inside(Git(subpath="src")),
        "more": inside(Git(subpath="src", include_pattern=f"{here}/data/*", include_pattern_relative_path=here)),
        "a folder more": inside(Git(include_pattern="data", include_pattern_relative_path=here)),
        "ref": inside(Git(ref="HEAD")),
        "from below": inside(Git(), TOP / "src"),
        "no submodules": inside(Git(include_submodules=False)),
        "own": inside(Checked(subpath="src")),
        "hybrid": inside(
            Hybrid(sub_packagers={"code": Git(), "cfg": Pattern(include_pattern="configs/*", relative_path=here)})
        ),
        "at the root": inside(
            Hybrid(
                sub_packagers={
                    "code": Git(subpath="src"),
                    "cfg": Pattern(include_pattern="configs/*", relative_path=here),
                },
                extract_at_root=True,
            )
        ),
    }
    write("a.py", "changed")
    seen["uncommitted"] = refused(RuntimeError, Git(check_uncommitted_changes=True))
    seen["uncommitted, not asked for"] = inside(Git(check_uncommitted_changes=False))
    git("commit", "-qam", "second")
    write("new.txt")
    seen["untracked"] = refused(AssertionError, Git(check_untracked_files=True))
    os.chdir(TOP.parent)
    shutil.rmtree(TOP)
    Path("result.json").write_text(json.dumps(seen, indent=1))
