#!/usr/bin/env python3
"""Does what a newcomer does: a clean clone, and the commands of the README's "Try it", as they are written there.

    .ci/newcomer.py            the commit that is checked out
    .ci/newcomer.py COMMIT     another one

The newcomer is an ordinary user with an empty home, on a machine that has Debian's own programs, python3, make and git:
no Docker, Slurm, Kubernetes or Ray, neither on the PATH nor behind a socket.  Needs root, and a Debian system.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
USER = "nemo-newcomer"
PACKAGES = ("make", "git", "python3", "python3-minimal")  # beside those that every Debian system has
PATIENCE = 45 * 60  # seconds for one command
_BASE = ("required", "important", "standard")
_TRY_IT = re.compile(r"^## Try it$.*?^```bash\n(?P<commands>.*?)^```$", re.DOTALL | re.MULTILINE)
# How packages are downloaded here is a matter of the machine, not of the newcomer.
_DOWNLOADS = re.compile(r"(?i)PIP_.*|.*_PROXY|SSL_CERT_.*|.*_CA_BUNDLE")


def commands(readme: str) -> list[str]:
    """Return the commands that a README tells a newcomer to type.

    Raises:
        SystemExit: There are not two of them.
    """
    match = _TRY_IT.search(readme)
    found = [line.partition("#")[0].strip() for line in match["commands"].splitlines()] if match else []
    found = [command for command in found if command]
    if len(found) != 2:
        sys.exit(f'README.md, "Try it": two commands are expected, but there are {found}')
    return found


def link_programs(folder: Path) -> None:
    """Fill a folder with links to the programs of a plain Debian system with ``PACKAGES``."""
    query = ["dpkg-query", "--show", "--showformat", "${Package} ${Priority}\n"]
    rows = [line.split() for line in subprocess.check_output(query, text=True).splitlines()]
    packages = [row[0] for row in rows if row[1:] and row[1] in _BASE]
    packages += [row[0] for row in rows if row[0] in PACKAGES or re.fullmatch(r"python3\.\d+(-minimal)?", row[0])]
    files = subprocess.check_output(["dpkg-query", "--listfiles", *packages], text=True).splitlines()
    theirs = {str(Path(file).resolve()) for file in files if "/bin/" in file and Path(file).is_file()}
    for program in Path("/usr/bin").iterdir():
        if str(program.resolve()) in theirs:
            (folder / program.name).symlink_to(program)


def clone(commit: str, folder: Path) -> None:
    """Clone this repository, with a commit of it checked out."""
    quiet = ["git", "-c", "advice.detachedHead=false", "-c", f"safe.directory={ROOT}"]
    subprocess.run([*quiet, "clone", "--quiet", "--no-local", "--no-checkout", ROOT, folder], check=True)
    subprocess.run([*quiet, "-C", folder, "checkout", "--quiet", commit], check=True)


def run(command: str, clone: Path, home: Path, programs: Path, **more: str) -> int:
    """Run a command as the newcomer, without what other programs of this machine keep under /run and /usr/sbin.

    More variables of its environment may be given.
    """
    user = pwd.getpwnam(USER)
    env = {name: value for name, value in os.environ.items() if _DOWNLOADS.fullmatch(name)}
    env |= {"PATH": str(programs), "HOME": str(home), "USER": USER, "LOGNAME": USER, "SHELL": "/bin/bash"}
    env |= {"LANG": "C.UTF-8", "TMPDIR": str(home.parent / "tmp"), **more}
    as_newcomer = [
        "setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--no-new-privs",
        "env", "-i", *(f"{name}={value}" for name, value in env.items()), "/bin/bash", "-c", command,
    ]  # fmt: skip
    hidden = "mount -t tmpfs -o mode=755 none /run && mount -t tmpfs -o mode=755 none /usr/sbin"
    inside = f"{hidden} && exec {shlex.join(as_newcomer)}"
    try:
        return subprocess.run(
            ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", inside],
            cwd=clone, stdin=subprocess.DEVNULL, check=False, timeout=PATIENCE,
        ).returncode  # fmt: skip
    except subprocess.TimeoutExpired:
        print(f"newcomer: no end after {PATIENCE} s", flush=True)
        return 124


def failed_tests(clone: Path) -> list[str]:
    """Return the tests that failed in the last run of a checkout's tests."""
    try:
        return sorted(json.loads((clone / ".pytest_cache/v/cache/lastfailed").read_text(encoding="utf-8")))
    except FileNotFoundError:
        return []


def main() -> int:
    """Do it; the exit code of the first command that fails."""
    if os.geteuid() != 0:
        sys.exit("newcomer: needs root, to become another user")
    commit = sys.argv[1] if len(sys.argv) > 1 else "HEAD"
    commit = subprocess.check_output(
        ["git", "-c", f"safe.directory={ROOT}", "-C", ROOT, "rev-parse", commit], text=True
    ).strip()
    try:
        pwd.getpwnam(USER)
    except KeyError:
        subprocess.run(["useradd", "--no-create-home", "--shell", "/bin/bash", USER], check=True)
    folder = Path(tempfile.mkdtemp(prefix="newcomer-", dir="/var/tmp"))  # where there is room
    try:
        for name in ("home", "tmp", "programs"):
            (folder / name).mkdir()
        link_programs(folder / "programs")
        clone(commit, folder / "nemo-run")
        subprocess.run(["chown", "-R", f"{USER}:", folder], check=True)
        for command in commands((folder / "nemo-run" / "README.md").read_text(encoding="utf-8")):
            print(f"newcomer: $ {command}", flush=True)
            start = time.monotonic()
            where = (folder / "nemo-run", folder / "home", folder / "programs")
            code = run(command, *where)
            if code and (tests := failed_tests(folder / "nemo-run")):  # a machine may be slow for reasons of its own
                code = run(command, *where, PYTEST_ADDOPTS="--last-failed --last-failed-no-failures=none")
                outcome = "failed twice" if code else "needed a second run"
                print(f"newcomer: {outcome}:", *tests, sep="\n  ", flush=True)
            if code:
                print(f"newcomer: {command} FAILED with exit code {code} at {commit[:10]}", flush=True)
                return code
            print(f"newcomer: {command}: good ({time.monotonic() - start:.0f} s)", flush=True)
    finally:
        subprocess.run(["pkill", "-KILL", "-u", USER], check=False)
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
