"""An environment for a job: what it depends on, found in its code, and a script that makes it where the job runs.

The script stands before the job's command, on every engine alike. It makes a virtual environment, unless there is one
with the same content, and runs the command in it. Jobs that need the same one wait for the one that makes it.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo_run.core.execution.jobs import Command
from nemo_run.core.files import replacing
from nemo_run.core.packaging.archive import extract
from nemo_run.errors import ExecutorError

FOLDER = "environment"
"""Folder of the files of an environment, in the folder of a job."""
REQUIREMENTS, SCRIPT = "requirements.txt", "make.sh"
AUTO = "auto"
_KINDS = ("uv.lock", "pyproject.toml", "requirements.txt")

# Arguments: a folder that keeps environments, the Python to make one with, and a command; without one it is only made.
_MAKE = r"""
say() { echo "nemo-run: $*" >&2; }
here=${0%/*} python=$2 whose=$1/$(id -u) shipped=$1/uv
[ -d "$1" ] || { mkdir -p -- "$1" && chmod --reference="$1/.." -- "$1"; } 2>/dev/null
(umask 077; mkdir -p -- "$whose") || exit
shift 2
about=$("$python" -c '
import platform, sys, zlib
print("%d.%d" % sys.version_info[:2], sys.implementation.cache_tag, platform.machine(),
      "%x" % zlib.crc32((sys.base_prefix + "".join(platform.libc_ver())).encode()))' 2>/dev/null)
environment=$whose/$name-$(echo "${about:-none}" | tr ' ' -)
uv=$(command -v uv || { "$shipped" --version >/dev/null 2>&1 && echo "$shipped"; })

make() (  # the home may be another one here, or not be written to
  export UV_CACHE_DIR="${UV_CACHE_DIR:-$whose/cache}" PIP_CACHE_DIR="${PIP_CACHE_DIR:-$whose/cache/pip}"
  rm -rf -- "$environment" || return
  if [ -n "$uv" ]; then
    if [ "${about%% *}" = "$wanted" ] || ! "$uv" venv --python "$wanted" "$environment"; then
      "$uv" venv --python "$python" "$environment" || return
    fi
    "$uv" pip install --python "$environment/bin/python" -r "$here/requirements.txt" "$@"
  else
    "$python" -m venv "$environment" &&
      "$environment/bin/python" -m pip install --disable-pip-version-check -r "$here/requirements.txt" "$@"
  fi
)

provide() {  # one makes it, and the others wait
  while [ ! -e "$environment/made" ]; do
    if mkdir -- "$environment.lock" 2>/dev/null; then
      ( while sleep 20 && kill -0 $$; do touch "$environment.lock"; done ) </dev/null >/dev/null 2>&1 &
      beat=$!
      say "makes an environment from $source${uv:+ with uv}; log: $environment.log"
      code=0
      [ -e "$environment/made" ] || { make "$@" > "$environment.log" 2>&1 && : > "$environment/made"; } || code=$?
      kill "$beat"
      rm -rf -- "$environment.lock"
      [ "$code" -eq 0 ] && continue
      tail -n 20 -- "$environment.log" >&2
      say "the environment could not be made from $source; the whole log: $environment.log"
      return 1
    fi
    [ -n "$told" ] || say "waits for the environment, which another job makes; log: $environment.log"
    told=1
    if [ -n "$(find "$environment.lock" -prune -mmin +2 2>/dev/null)" ]; then  # who made it is gone
      mv -- "$environment.lock" "$environment.gone.$$" 2>/dev/null && rm -rf -- "$environment.gone.$$"
    fi
    sleep 1
  done
}

told=
if [ -n "$wheels" ]; then provide --no-index --find-links "$wheels"; else provide; fi || exit
[ $# -gt 0 ] || exit 0
unset PYTHONHOME
export VIRTUAL_ENV="$environment" PATH="$environment/bin:$PATH"
exec "$@"
"""


@dataclass(frozen=True)
class Environment:
    """What a job depends on.

    Attributes:
        source: Name of the file that it was found in.
        requirements: The requirements, as pip and uv read them.
        python: The version of Python that is wanted, where one can choose: that of the launching process.
        wheels: Folder, where the job runs, of wheels; nothing else is asked for packages then.
    """

    source: str
    requirements: str
    python: str
    wheels: str = ""

    @property
    def name(self) -> str:
        """Name of the environment, made from its content."""
        content = f"{self.python}\n{self.wheels}\n{self.requirements}"
        return f"env-{hashlib.sha256(content.encode()).hexdigest()[:20]}"

    def files(self) -> dict[str, str]:
        """Return the files that make it, by their names in the folder of a job."""
        values = {"name": self.name, "source": self.source, "wanted": self.python, "wheels": self.wheels}
        head = "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())
        return {f"{FOLDER}/{REQUIREMENTS}": self.requirements, f"{FOLDER}/{SCRIPT}": head + _MAKE.lstrip()}


def making(folder: str, kept: str, python: str) -> list[str]:
    """Return the command that makes an environment, unless it is there already; other arguments may follow. Pure.

    Args:
        folder: The job's folder, where it runs.
        kept: Folder there that keeps environments.
        python: The Python to make one with.
    """
    return ["/bin/sh", f"{folder}/{FOLDER}/{SCRIPT}", kept, python]


def inside(command: Command, folder: str, kept: str, python: str) -> Command:
    """Return the command as it runs in an environment, which is made before where it is not there. Pure."""
    return Command((*making(folder, kept, python), *command.argv), command.env, command.cwd, with_ray=command.with_ray)


def find(value: str, wheels: str, archive: str, cwd: Path) -> Environment:
    """Find what a job depends on.

    Args:
        value: A file on this machine; or ``"auto"``: that of the packaged code, or of the folder where there is none.
        wheels: Folder, where the job runs, of wheels.
        archive: The packaged code; empty where there is none.
        cwd: The folder.

    Raises:
        ExecutorError: There is no such file, or it tells no dependencies.
    """
    python = ".".join(map(str, sys.version_info[:2]))
    with tempfile.TemporaryDirectory() as folder:
        path = cwd / Path(value).expanduser() if value != AUTO else _found(_unpacked(archive, folder) or cwd)
        if not path.is_file():
            raise ExecutorError(f"environment={value!r}: there is no such file in {cwd}")
        return Environment(path.name, _requirements(path), python, wheels)


def _unpacked(archive: str, folder: str) -> Path | None:
    if not archive:
        return None
    code = Path(folder, "code")
    extract(archive, code)
    return code


def _found(folder: Path) -> Path:
    """Return the first file of a folder that tells dependencies."""
    for name in _KINDS:
        path = folder / name
        if path.is_file() and (name != "pyproject.toml" or "dependencies" in _project(path)):
            return path
    raise ExecutorError(
        f"environment='auto': the code has none of {', '.join(_KINDS)} with dependencies at its top; name a file with "
        "environment='path/requirements.txt', or leave it out"
    )


def _project(path: Path) -> dict[str, Any]:
    toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        project = toml.loads(path.read_text()).get("project", {})
    except (ValueError, OSError) as e:
        raise ExecutorError(f"environment: {path.name} cannot be read: {e}") from e
    return project if isinstance(project, dict) else {}


def _requirements(path: Path) -> str:
    """Return the requirements in a file."""
    if path.name == "uv.lock":
        return _exported(path.parent)
    if path.suffix != ".toml":
        return path.read_text()
    project = _project(path)
    if "dependencies" not in project:
        raise ExecutorError(f"environment: {path.name} has no list of dependencies in its table [project]")
    return "".join(f"{requirement}\n" for requirement in project["dependencies"])


def own_uv() -> str | None:
    """Return the program uv of this machine."""
    return shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))


def provide_uv(kept: Path) -> None:
    """Put uv into a folder that keeps environments, where this machine has it: tasks may have none."""
    uv, shipped = own_uv(), kept / "uv"
    if uv and not shipped.exists():
        with replacing(shipped) as f:
            f.write(Path(uv).read_bytes())
            os.fchmod(f.fileno(), 0o755)


def _exported(folder: Path) -> str:
    """Return what uv has locked; its own format is read by itself only."""
    uv = own_uv()
    if uv is None:
        raise ExecutorError("environment: uv.lock is read by uv, which is not installed here: pip install uv")
    argv = [uv, "export", "--frozen", "--no-dev", "--no-emit-workspace", "--no-header", "--format=requirements-txt"]
    done = subprocess.run([*argv, "--quiet"], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ExecutorError(f"environment: uv cannot read uv.lock: {done.stderr.strip()[-500:]}")
    return done.stdout
