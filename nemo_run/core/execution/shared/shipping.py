"""What goes with a job to an engine that sees none of this machine's files, and how it is laid out there.

In the job's folder over there lie the same names as in its folder in the store, and beside them ``code/`` (what was
packaged, in which the task runs) and ``runner.zip``.
"""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from nemo_run.config.home import get_nemorun_home
from nemo_run.core.execution.jobs import Command, Plan
from nemo_run.core.execution.shared.shell_words import word
from nemo_run.core.execution.shared.small_tar import tar_of, zipped
from nemo_run.core.packaging.archive import package_digest
from nemo_run.core.runners.bundle import RUNNER, runner_bundle

_SHIPPED = ("task.json", "inputs.json", "main.pkl", "scripts", "configs", "environment")


@dataclass(frozen=True)
class Package:
    """Bytes that go along with jobs; equal names mean equal content, so that they are sent only once.

    Attributes:
        name: Name of the file with them, made from what is in it.
        source: The file on this machine, or the bytes.
    """

    name: str
    source: Path | bytes

    @classmethod
    def of(cls, kind: str, content: bytes, suffix: str = ".tar.gz") -> Package:
        """Return a package that is named by its content.

        >>> Package.of("run", b"exit 0", ".sh").name
        'run-c22995adc29757a99bc9242926a5d5b5.sh'
        """
        return cls(f"{kind}-{hashlib.sha256(content).hexdigest()[:32]}{suffix}", content)

    @functools.cached_property
    def content(self) -> bytes:
        """The bytes."""
        return self.source.read_bytes() if isinstance(self.source, Path) else self.source


def relocated(command: Command, directory: str, folder: str, runner: str = "") -> Command:
    """Return the command as it is run elsewhere: paths into the job's folder, its Python, its runner. Pure.

    Args:
        command: A command, not yet wrapped by a launcher.
        directory: The job's folder in the store.
        folder: The job's folder where the command runs.
        runner: Where the runner lies there, if not in that folder.

    Example:
        >>> relocated(Command((sys.executable, "/job/scripts/a.py")), "/job", "/nemo_run").argv
        ('python3', '/nemo_run/scripts/a.py')
    """

    def there(text: str) -> str:
        return folder + text[len(directory) :] if text == directory or text.startswith(f"{directory}/") else text

    command = run_by_bundle(command, runner or f"{folder}/runner.zip")
    argv = ("python3" if arg == sys.executable else there(arg) for arg in command.argv)
    return replace(command, argv=tuple(argv), env={name: there(value) for name, value in command.env.items()})


def needs_runner(command: Command) -> bool:
    """Return whether a command, not yet relocated, is that of a function task."""
    return command.argv[1:3] == ("-m", RUNNER)


def job_files(directory: str) -> dict[str, Path]:
    """Return the files of a job that it needs where it runs, by their names in its folder."""
    found: dict[str, Path] = {}
    for name in _SHIPPED:
        source = Path(directory, name)
        files = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
        found.update({str(path.relative_to(directory)): path for path in files})
    return found


def job_archive(directory: str) -> bytes:
    """Return those files as a gzipped tar file; the same files give the same bytes."""
    return zipped(tar_of(job_files(directory)))


def job_packages(plan: Plan) -> dict[str, Package]:
    """Return all that goes with a job: its own files (``job``), and what it shares with others."""
    return {"job": Package.of("job", job_archive(plan.directory)), **shared_packages(plan)}


def shared_packages(plan: Plan) -> dict[str, Package]:
    """Return what a job shares with others: ``code`` and ``runner``, as far as it needs them."""
    found = {}
    if code := plan.spec["code_archive"]:
        found["code"] = Package(f"code-{package_digest(code)[:32]}.tar.gz", Path(code))
    if plan.spec["runner"]:
        bundle = runner_bundle(Path(get_nemorun_home(), "runners"))
        found["runner"] = Package(bundle.name, bundle)
    return found


def layout_script(folder: str, files: Mapping[str, str]) -> str:
    """Return the lines for ``sh`` that lay out a job's folder from files that have arrived. Pure.

    Paths may have shell variables in them, as :func:`~nemo_run.core.execution.shared.shell_words.word` takes them.

    Args:
        folder: The job's folder, where the task runs.
        files: Where the ``job`` archive, the ``code`` and the ``runner`` have arrived, as far as there are any.
    """
    where = word(folder)
    lines = ["umask 077", f"mkdir -p {where}/artifacts {where}/code {where}/services"]
    if "job" in files:
        lines.append(f"tar -xzf {word(files['job'])} -C {where}")
    if "code" in files:
        lines.append(f"tar -xzf {word(files['code'])} -C {where}/code")
    if "runner" in files and files["runner"] != f"{folder}/runner.zip":
        lines.append(f"cp {word(files['runner'])} {where}/runner.zip")
    return "\n".join(lines) + "\n"


def run_by_bundle(command: Command, bundle: str) -> Command:
    """Return the command with a bundle in place of this package's runner; any other command is left as it is. Pure.

    Args:
        command: A command, not yet wrapped by a launcher.
        bundle: Path of the bundle where the command runs.
    """
    if command.argv[1:3] != ("-m", RUNNER):
        return command
    return replace(command, argv=(command.argv[0], bundle, *command.argv[3:]))
