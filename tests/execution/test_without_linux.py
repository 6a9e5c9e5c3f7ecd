"""The local engine on a system that has not what Linux has: the names are found in one module, and it works without."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import nemo_run
from nemo_run.core.execution.local import system

ROOT = Path(__file__).parents[2]
PACKAGE = Path(nemo_run.__file__).parent
HOME = "core/execution/local/system.py"
LINUX_ONLY = re.compile(
    r"/proc\b(?!ess)|\bprctl\b|\bpidfd|\bsched_[gs]etaffinity\b|\bsigtimedwait\b|\bsigwaitinfo\b|\bPR_SET_"
    r"|\bmemfd_create\b|\bepoll\b|\binotify|\beventfd|\bO_TMPFILE\b|\bO_PATH\b|\bsplice\b|\bcopy_file_range\b|\bunshare\("
)
RUNS_IN_THE_CLUSTER = {  # there, Linux is what they find
    "core/execution/dgxcloud/spec.py",
    "core/execution/pods/spec.py",
    "core/execution/slurm/lines.py",
    "core/ray/node.py",
}
NOT_NEEDED = {"core/execution/docker/client.py": "/proc/net/route", "core/runners/elastic.py": "/proc"}
"""What is read where it is there; elsewhere, ps tells as much."""


def test_what_only_linux_has_is_used_in_one_module() -> None:
    found = {
        str(path.relative_to(PACKAGE)): names
        for path in PACKAGE.rglob("*.py")
        if (names := set(LINUX_ONLY.findall(path.read_text(encoding="utf-8"))))
    }
    assert found.keys() - RUNS_IN_THE_CLUSTER - NOT_NEEDED.keys() == {HOME}


def test_the_search_finds_them() -> None:
    assert len(set(LINUX_ONLY.findall("os.pidfd_open(1); open('/proc/1/stat'); signal.sigtimedwait; lib.prctl"))) == 4
    assert not LINUX_ONLY.search("/process subprocess")


# Takes away /proc and the functions, for all processes below; ps, which needs /proc here, finds it elsewhere.
WITHOUT = r"""
set -eu
mkdir -p "$1/proc"
mount --make-rprivate /
mount --bind /proc "$1/proc"
"$2" - "$1" <<'END'
import ctypes, os, signal, sys
folder = sys.argv[1]
for module, code in (
    (signal, "globals().pop('sigtimedwait', None)\nimport os\n"  # os is frozen into the interpreter
             "for name in ('pidfd_open', 'sched_setaffinity', 'sched_getaffinity'):\n"
             "    os.__dict__.pop(name, None)\n"),
    (ctypes, "class CDLL(CDLL):\n    def __getattr__(self, name):\n        if name == 'prctl':\n"
             "            raise AttributeError(name)\n        return super().__getattr__(name)\n"),
):
    with open(module.__file__) as source, open(f"{folder}/{module.__name__}.py", "w") as changed:
        changed.write(source.read() + "\n" + code)
    os.symlink(module.__file__, f"{folder}/{module.__name__}.link")
END
for name in signal ctypes; do mount --bind "$1/$name.py" "$(readlink "$1/$name.link")"; done
printf '#!%s -IS\nPROC = "%s/proc"\n' "$(readlink -f "$2")" "$1" > "$1/ps"
cat "$3" >> "$1/ps"
chmod 755 "$1/ps"
mount --bind "$1/ps" "$(readlink -f /bin/ps)"
mount -t tmpfs none /proc
shift 3
exec "$@"
"""


@pytest.mark.needs("root", "mounts")
def test_the_contract_holds_without_them(tmp_path: Path) -> None:
    tests = "tests/execution/test_local_backend.py::TestLocalBackend"
    command = [
        "unshare",
        "-m",
        "bash",
        "-c",
        WITHOUT,
        "without",
        tmp_path,
        sys.executable,
        Path(__file__).with_name("ps.py"),
    ]
    # What a task finds is read from /proc there.
    chosen = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "not what_a_task_finds", tests]
    check = "import signal, os; assert not hasattr(os, 'pidfd_open') and not os.path.exists('/proc/self')"
    subprocess.run([*command, sys.executable, "-c", check], check=True, timeout=60)
    clean(tmp_path)
    doctor = [*command, sys.executable, "-m", "nemo_run", "doctor", "--json"]
    told = subprocess.run(doctor, capture_output=True, text=True, check=False, timeout=60).stdout
    assert "tasks are not bound to the cores that they reserve; memory limits count" in told
    clean(tmp_path)
    done = subprocess.run([*command, *chosen], capture_output=True, text=True, cwd=ROOT, timeout=500, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert re.search(r"\d\d passed", done.stdout)


def clean(folder: Path) -> None:
    for name in ("signal.link", "ctypes.link"):
        (folder / name).unlink()


def test_ps_tells_what_the_kernel_tells() -> None:
    """The two ways to know a process agree; here, where there are both."""
    child = subprocess.Popen(["/bin/sleep", "60"], env={system.MARKER: "/a folder"}, start_new_session=True)
    try:
        found = next(one for one in system.processes() if one.pid == child.pid)
        assert (found.parent, found.group, found.is_alive) == (os.getpid(), child.pid, True)
        assert "sleep 60" in found.command
        assert found.memory > 0
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert system.one_process(child.pid) is None
