"""What a function task needs where only Python is installed: this package and its dependencies, in one zip file.

A Python of another machine, or of a container, runs the file itself: ``python3 runner-….zip -n NAME TASK``.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path

from nemo_run.core.files import replacing
from nemo_run.errors import MissingExtraError

RUNNER = "nemo_run.core.runners.fdl_runner"
"""The module that runs a function task."""

_DEPENDENCIES = ("absl", "cloudpickle", "fiddle", "typing_extensions")
_LEFT_OUT = ("*_test.py", "*/testing/*", "*/example/*", "*/absl_flags/*", "*/codegen/*")

# This package comes first, so that an older one in the image does not stand in for it; what it depends on comes last,
# so that the image's own versions count.
_MAIN = f"""\
import os
import sys

if sys.version_info < (3, 9):
    sys.exit("this task needs Python 3.9 or newer, but runs on Python %d.%d (%s): name another one with python= of "
             "its executor, or use another image or environment"
             % (sys.version_info[0], sys.version_info[1], sys.executable))
if __name__ == "__main__":
    sys.path.insert(1, os.getcwd())
    sys.path.append(os.path.join(sys.path[0], "dependencies"))
    from nemo_run.core.runners import older_python
    older_python.complete()
    from {RUNNER} import main
    main()
"""

# fiddle imports libcst, which is compiled for one Python, for auto_config of lambdas only.
_LIBCST = '''\
"""Stands in for libcst, which running a task does not need."""


class CSTVisitor:
    pass


class metadata:
    PositionProvider = None


def __getattr__(name):
    raise AttributeError(f"libcst.{name} is needed to read source code, but libcst is not installed here")
'''


def runner_bundle(folder: Path) -> Path:
    """Return the zip file, written into a folder unless it is there already; its name tells its content.

    Example:
        >>> import subprocess, sys, tempfile
        >>> bundle = runner_bundle(Path(tempfile.mkdtemp()))
        >>> subprocess.run([sys.executable, "-I", "-S", bundle, "--help"], capture_output=True).returncode
        0
    """
    files = _files()
    path = folder / f"runner-{_digest(files)}.zip"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(path) as f:
        import zipfile

        with zipfile.ZipFile(f, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files:
                archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
        os.fchmod(f.fileno(), 0o644)  # it holds no secret, and a task may run as another user
    return path


@lru_cache(maxsize=1)
def _files() -> Sequence[tuple[str, bytes]]:
    own = list(_modules("nemo_run"))
    needed = [(f"dependencies/{name}", content) for package in _DEPENDENCIES for name, content in _modules(package)]
    return [("__main__.py", _MAIN.encode()), ("dependencies/libcst.py", _LIBCST.encode()), *own, *needed]


def _modules(package: str) -> Iterator[tuple[str, bytes]]:
    """Yield the Python files of an installed package or module, with their names relative to where it is installed."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise MissingExtraError(f"{package} is not installed; install it again: pip install --force-reinstall nemo-run")
    origin = Path(spec.origin)
    if origin.name != "__init__.py":
        yield origin.name, origin.read_bytes()
        return
    for path in sorted(origin.parent.rglob("*.py")):
        name = path.relative_to(origin.parent.parent).as_posix()
        if not any(fnmatch(name, pattern) for pattern in _LEFT_OUT):
            yield name, path.read_bytes()


def _digest(files: Sequence[tuple[str, bytes]]) -> str:
    digest = hashlib.sha256()
    for name, content in files:
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:16]
