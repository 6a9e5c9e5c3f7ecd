"""Images that are built for a launch: what they are made of, and the names that follow from it."""

from __future__ import annotations

import copy
import hashlib
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from nemo_run.config.mixin import ConfigurableMixin
from nemo_run.errors import ExecutorError

E = TypeVar("E")

_REPOSITORY = re.compile(r"[a-z0-9][a-z0-9._-]*(:\d+)?(/[a-z0-9][a-z0-9._-]*)*", re.IGNORECASE)
_FOLDER = "/opt/nemo_run_env"
_OF_LOCK = """\
FROM {base}
WORKDIR {folder}
COPY pyproject.toml uv.lock ./
RUN command -v uv >/dev/null || python3 -m pip install --no-cache-dir uv
ENV UV_LINK_MODE=copy UV_PROJECT_ENVIRONMENT={folder}/.venv
RUN uv sync --frozen --no-dev --no-install-project
ENV VIRTUAL_ENV={folder}/.venv PATH={folder}/.venv/bin:$PATH
WORKDIR /
"""


@dataclass(kw_only=True)
class Image(ConfigurableMixin):
    """An image that is built before the launch, for the image of an executor. Its name tells its content.

    It is built by the Docker engine of the executor, or of this machine, unless there is one of that name already.

    Example:
        >>> import nemo_run as run
        >>> run.Image(dockerfile="docker/Dockerfile", context=".", push_to="registry.example/team/train").push_to
        'registry.example/team/train'

    Attributes:
        dockerfile: Path of the Dockerfile.
        context: Folder whose files it may copy; by default its own. What ``.dockerignore`` there says is left out.
        uv_lock: In place of a Dockerfile, the path of a ``uv.lock``, with ``pyproject.toml`` beside it: an image with
            the packages that it locks, without the project itself and its group ``dev``.
        base: Image on which that is built; by default ``python`` of this minor version, ``slim``.
        build_args: Values of the Dockerfile's ``ARG``. They can be read in the image: no place for secrets.
        target: Stage of the Dockerfile.
        network: Network of the build, such as ``"host"``.
        push_to: Repository to which it is pushed, without a tag. Engines other than Docker pull it from there.
    """

    dockerfile: str = ""
    context: str = ""
    uv_lock: str = ""
    base: str = ""
    build_args: dict[str, str] = field(default_factory=dict)
    target: str = ""
    network: str = ""
    push_to: str = ""

    def __str__(self) -> str:
        return self.name

    @property
    def repository(self) -> str:
        """The name without the part that tells the content."""
        if self.push_to:
            return self.push_to
        source = Path(self.dockerfile or self.uv_lock).absolute()
        return f"nemo-run/{re.sub('[^a-z0-9]+', '-', source.parent.name.lower()).strip('-') or 'image'}"

    @property
    def name(self) -> str:
        """The name, which another content changes. The files are read for it.

        Raises:
            ExecutorError: A file is not there, or cannot be read.
        """
        try:
            return f"{self.repository}:{self._digest()}"
        except OSError as e:
            raise ExecutorError(f"Image: {e.filename}: {e.strerror}") from e

    def check(self, where: str) -> None:
        """Raise :class:`~nemo_run.errors.ExecutorError` where it cannot be built.

        Args:
            where: The field that has it.
        """
        if bool(self.dockerfile) == bool(self.uv_lock):
            raise ExecutorError(f"{where}: an Image needs dockerfile= or uv_lock=, one of them")
        files = [Path(self.dockerfile)] if self.dockerfile else [Path(self.uv_lock), self._project]
        for file in files:
            if not file.is_file():
                raise ExecutorError(f"{where}: there is no file {str(file)!r}")
        if self.dockerfile and not self.folder.is_dir():
            raise ExecutorError(f"{where}: the context {self.context!r} is no folder")
        if self.push_to and not _REPOSITORY.fullmatch(self.push_to):
            raise ExecutorError(
                f"{where}: push_to={self.push_to!r} is not a repository such as 'registry.example/team/train'; the "
                "tag is made from the content"
            )

    @property
    def folder(self) -> Path:
        """The folder whose files the build may copy."""
        return Path(self.context or Path(self.dockerfile).parent)

    @property
    def _project(self) -> Path:
        return Path(self.uv_lock).with_name("pyproject.toml")

    def own_files(self) -> dict[str, bytes]:
        """Return the files of a build that has none of a context: of an image for a lock."""
        base = self.base or f"python:{sys.version_info[0]}.{sys.version_info[1]}-slim"
        return {
            "Dockerfile": _OF_LOCK.format(base=base, folder=_FOLDER).encode(),
            "pyproject.toml": self._project.read_bytes(),
            "uv.lock": Path(self.uv_lock).read_bytes(),
        }

    def _digest(self) -> str:
        digest = hashlib.sha256()
        for part in (*sorted(self.build_args.items()), ("target", self.target)):
            _add(digest, *(text.encode() for text in part))
        if self.uv_lock:
            for name, content in self.own_files().items():
                _add(digest, name.encode(), content)
        else:
            _add(digest, Path(self.dockerfile).read_bytes())
            for path, name in _files(self.folder):
                _add(digest, *_described(path, name))
        return digest.hexdigest()[:16]


def _add(digest: Any, *parts: bytes) -> None:
    for part in parts:
        digest.update(f"{len(part)}:".encode() + part)


def _described(path: Path, name: str) -> tuple[bytes, bytes, bytes]:
    """Return a file's name, whether it is executable, and its content; of a link, where it leads."""
    if path.is_symlink():
        return os.fsencode(name), b"link", os.fsencode(path.readlink())
    return os.fsencode(name), b"x" if os.access(path, os.X_OK) else b"-", path.read_bytes() if path.is_file() else b""


def _files(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield what the engine would be sent of a context, as ``.dockerignore`` there says."""
    from docker.utils.build import exclude_paths

    ignore = folder / ".dockerignore"
    patterns = ignore.read_text().splitlines() if ignore.is_file() else []
    patterns = [line.strip() for line in patterns if line.strip() and not line.startswith("#")]
    for name in sorted(exclude_paths(str(folder), patterns)):
        if not (folder / name).is_dir() or (folder / name).is_symlink():
            yield folder / name, name


def images_of(executor: object) -> list[Image]:
    """Return the images that are to be built for an executor."""
    if not is_dataclass(executor):
        return []
    return [value for part in fields(executor) if isinstance(value := getattr(executor, part.name, None), Image)]


def named(executor: E) -> E:
    """Return the executor with the names of its images in place of these; itself where it has none."""
    if not images_of(executor):
        return executor
    other = copy.copy(executor)
    for name, value in vars(executor).items():
        if isinstance(value, Image):
            setattr(other, name, value.name)
    return other
