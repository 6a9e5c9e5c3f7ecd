"""Whose an experiment is: marks that only the user who launched it on this home can have made.

Files of an experiment are data of unknown origin.  Looking at them does nothing that they say.  Acting does (asking an
engine, cancelling, going on, loading a task), and is for experiments that carry a mark: an HMAC over the id
and the digests of all files that can make this process act, made at the launch with a key that is readable by its user
only and never leaves the home.  A handle, which changes as the experiment goes on, is marked wherever it is stored.

The mark itself is no secret.  It may go along with a copy of the experiment, and is worth nothing in any other home.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import hmac
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nemo_run.core.files import make_folder, read_object, write_json
from nemo_run.core.sealing import is_mark_of, made_key, mark_of, own_key
from nemo_run.errors import ReceivedExperimentError, StoreError

NOT_ASKED = "received: not asked"
"""Reason of a task that had not ended when it was stored, in an experiment that is not ours."""

DEFINITION = "experiment.json"
"""Name of the file that says what the experiment is."""

_MARK = "mark.json"
_BLOCK = 1 << 20
_OF_EXPERIMENT = ("environment.json", "provenance.json", "code", "packages", "notify.json", "studies", "trackers.json")
_OF_TASK = ("plan.json", "task.json", "main.pkl", "scripts", "configs")


class Ownership:
    """Whether an experiment was launched, or adopted, by this user on this home; its folder is all that it knows."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: Mapping[str, str] | None = None  # digests by path, once the mark has been found to be right

    @property
    def _root(self) -> Path:
        return self._folder.parents[1]

    # marking

    def survey(self, definition: bytes, directories: Iterable[str]) -> dict[str, str]:
        """Return the digests of all files of the experiment that can make this process act, by their paths.

        Args:
            definition: The content that the file with its definition has, or will have.
            directories: The folders of its tasks, relative to its own.

        Raises:
            StoreError: A file is a link or cannot be read.
        """
        files = {DEFINITION: digest(definition)}
        places = [*_OF_EXPERIMENT, *(f"{directory}/{part}" for directory in directories for part in _OF_TASK)]
        for path in (path for place in places for path in self._below(place)):
            files[path] = _file_digest(self._folder / path)
        return files

    def mark(self, files: Mapping[str, str]) -> None:
        """Mark the experiment as ours, with the digests of these files.

        Raises:
            StoreError: The key cannot be made, or is not ours.
        """
        make_folder(self._root)
        document = {"id": self._folder.name, "files": files}
        write_json(self._folder / _MARK, {**document, "mark": mark_of(made_key(self._root), document)}, indent=None)
        self._files = files

    def _below(self, place: str) -> Iterator[str]:
        """Yield the file of this path, or those in the folder of this path."""
        path = self._folder / place
        try:
            if not stat.S_ISDIR(path.lstat().st_mode):
                yield place
                return
            names = sorted(entry.name for entry in path.iterdir())
        except FileNotFoundError:
            return
        except OSError as e:
            raise StoreError(f"{path}: cannot be read: {e.strerror}") from e
        for name in names:
            yield from self._below(f"{place}/{name}")

    def mark_of(self, *what: Any) -> str:
        """Return the mark of a further document of this experiment, such as its handles."""
        key = own_key(self._root)
        return mark_of(key, [self._folder.name, *what]) if key else ""

    def is_mark_of(self, mark: str, *what: Any) -> bool:
        """Check whether this is the mark of a further document of this experiment."""
        return bool(mark) and hmac.compare_digest(mark.encode("utf-8", "replace"), self.mark_of(*what).encode())

    # checking

    @property
    def is_ours(self) -> bool:
        """Whether this user on this home launched the experiment or adopted it, and its definition is as it was."""
        try:
            return bool(self._marked())
        except StoreError:
            return False

    def _marked(self) -> Mapping[str, str]:
        """Return the digests of the marked files by their paths; empty where there is no mark, or it is not ours."""
        if self._files is None:
            document = read_object(self._folder / _MARK) or {}
            files, key = document.get("files"), own_key(self._root)
            signed = {"id": self._folder.name, "files": files}
            if not (
                isinstance(files, dict)
                and key
                and _is_own(self._folder)
                and is_mark_of(document.get("mark"), key, signed)
            ):
                return {}
            with contextlib.suppress(FileNotFoundError):  # it is being launched
                if _file_digest(self._folder / DEFINITION) != files[DEFINITION]:
                    return {}
            self._files = files
        return self._files

    def read(self, path: str) -> bytes:
        """Return the content of a file that this process is going to act on.

        Raises:
            FileNotFoundError: It is not there.
            ReceivedExperimentError: The experiment is not ours, or the file is not the one that was marked.
        """
        marked = self._marked()
        if not marked:
            raise self.refusal()
        content = content_of(self._folder / path)
        if marked.get(path) != digest(content):
            raise self._changed(path)
        return content

    def check(self) -> None:
        """Check that the experiment is ours, and every marked file as it was.

        Raises:
            ReceivedExperimentError: It is not; the message says what can be done.
        """
        marked = self._marked()
        if not marked:
            raise self.refusal()
        for path, known in marked.items():
            with contextlib.suppress(FileNotFoundError):  # its reader reports that
                if _file_digest(self._folder / path) != known:
                    raise self._changed(path)

    def marked_below(self, place: str) -> list[str]:
        """Return the paths of the files in a folder that were marked; of what was put there since, none."""
        return [path for path in self._marked() if path == place or path.startswith(f"{place}/")]

    def must_be_own_folder(self) -> None:
        """Check that this user owns the experiment's folder.

        Raises:
            ReceivedExperimentError: Somebody else does.
        """
        if not _is_own(self._folder):
            raise ReceivedExperimentError(
                f"{self._folder}: is another user's folder; copy it to experiments/{self._folder.parent.name} of a "
                "home of your own, and adopt the copy"
            )

    def _changed(self, path: str) -> ReceivedExperimentError:
        return ReceivedExperimentError(
            f"{self._folder / path}: is not the file that was launched, so nothing is done with it; have a look: "
            f"nemorun experiment adopt {self._folder.name}"
        )

    def refusal(self, action: str = "asked for or acted on") -> ReceivedExperimentError:
        """Return the error of acting on an experiment that is not ours."""
        return ReceivedExperimentError(
            f"experiment {self._folder.name!r} was not launched by this user on this home, or was changed since (its "
            f"mark would be {self._folder / _MARK}): it can be looked at, but not {action}. To see what it would "
            f"connect to and run, and to make it yours: nemorun experiment adopt {self._folder.name}"
        )


# --- documents and files -------------------------------------------------------------------------------------------


def digest(content: bytes) -> str:
    """Return the digest of a file's content."""
    return hashlib.sha256(content).hexdigest()


def _file_digest(path: Path) -> str:
    """Return the digest of a regular file's content, in bounded memory; see :func:`_opened` for the errors."""
    found = hashlib.sha256()
    with os.fdopen(_opened(path), "rb") as file:
        while block := file.read(_BLOCK):
            found.update(block)
    return found.hexdigest()


def content_of(path: Path) -> bytes:
    """Return what is in a regular file; see :func:`_opened` for the errors."""
    with os.fdopen(_opened(path), "rb") as file:
        return file.read()


def _opened(path: Path) -> int:
    """Open a regular file that is no link.

    Raises:
        FileNotFoundError: It is not there.
        StoreError: It is a link or something else, or cannot be read.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY)
    except FileNotFoundError:
        raise
    except OSError as e:
        raise StoreError(f"{path}: {'is a link' if e.errno == errno.ELOOP else e.strerror}") from e
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise StoreError(f"{path}: is no regular file")
    return fd


def _is_own(path: Path) -> bool:
    """Check whether a file or folder is this user's."""
    try:
        return path.lstat().st_uid == os.geteuid()
    except OSError:
        return False
