"""All experiments: creating one, finding one, and listing those that were launched."""

from __future__ import annotations

import functools
import glob
import logging
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from nemo_run.config.home import get_nemorun_home
from nemo_run.core.files import folder_name, make_folder, write_text
from nemo_run.errors import ExperimentNotFoundError, InvalidNameError, StoreError
from nemo_run.run.ownership import DEFINITION
from nemo_run.run.store import ExperimentStore

logger = logging.getLogger(__name__)

_DIGITS = 8  # of the random number in an id
_ID = re.compile(r"(?P<title>[A-Za-z0-9_][A-Za-z0-9._-]*)_(?P<time>\d{8}_\d{6})(?:_(?P<number>\d+))?\Z")

_HASH = re.compile(r"-[0-9a-f]{6}\Z")  # of a title whose folder cannot have its name


def experiments_root(base: str | None = None) -> Path:
    """Return the folder of all experiments, under ``base`` or the NeMo-Run home."""
    return Path(base or get_nemorun_home(), "experiments").absolute()


def check_title(title: str) -> str:
    """Return the title, if it is acceptable.

    Raises:
        InvalidNameError: It is empty or has control characters.
    """
    if not isinstance(title, str) or not title.strip() or any(ord(c) < 32 or ord(c) == 127 for c in title):
        raise InvalidNameError(
            f"{title!r} cannot be the title of an experiment; give it a name of printable characters"
        )
    return title


def create(title: str, base: str | None = None, experiment_id: str | None = None) -> ExperimentStore:
    """Create an empty experiment with an id that no other process, user or machine gets.

    Raises:
        InvalidNameError: The title or the id is not acceptable.
        StoreError: The folder cannot be created.
    """
    parent = make_folder(experiments_root(base) / folder_name(check_title(title)))
    _keep_out_of_git(parent.parent)
    while True:
        path = parent / (_check_id(experiment_id) if experiment_id is not None else _new_id(parent.name))
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            if experiment_id is not None:
                raise InvalidNameError(f"there is an experiment {experiment_id!r} already, in {path}") from None
        except OSError as e:
            raise StoreError(f"{path}: cannot be created: {e.strerror}") from e
        else:
            return ExperimentStore(path)


def create_planned(path: Path) -> ExperimentStore:
    """Create the experiment of a planned folder, in which a program may have put files already.

    Raises:
        InvalidNameError: There is an experiment in it.
        StoreError: The folder cannot be created.
    """
    _keep_out_of_git(make_folder(path.parent).parent)
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        path.chmod(0o700)
    except OSError as e:
        raise StoreError(f"{path}: cannot be created: {e.strerror}") from e
    if (path / DEFINITION).exists():
        raise InvalidNameError(f"there is an experiment {path.name!r} already, in {path}")
    return ExperimentStore(path)


def planned(title: str, base: str | None = None, experiment_id: str | None = None) -> Path:
    """Return the folder that an experiment will have; nothing is created.

    Raises:
        InvalidNameError: The title or the id is not acceptable.
    """
    parent = experiments_root(base) / folder_name(check_title(title))
    return parent / (_check_id(experiment_id) if experiment_id is not None else _new_id(parent.name))


def base_of(store: ExperimentStore) -> Path:
    """Return the folder in place of the NeMo-Run home, or that home itself, in which an experiment is stored."""
    return store.path.parents[2]


def _new_id(name: str) -> str:
    """Return an id with the time, and a random number: names at services and folders on clusters are made of ids."""
    number = int.from_bytes(os.urandom(16), "big") % 10**_DIGITS
    return f"{name}_{_time_text(time.time())}_{number:0{_DIGITS}}"


def launch_text(experiment_id: str) -> str:
    """Return a random text for an id that another machine may have, too; empty for one with a random number of ours."""
    match = _ID.match(experiment_id)
    return "" if match and len(match["number"] or "") == _DIGITS else os.urandom(8).hex()


def _time_text(seconds: float) -> str:
    return time.strftime("%Y%m%d_%H%M%S", time.localtime(seconds))


def _check_id(text: str) -> str:
    if not _is_id(text):
        raise InvalidNameError(f"{text!r} cannot be the id of an experiment; use letters, digits, '.', '_', '-'")
    return text


def _keep_out_of_git(root: Path) -> None:
    """Keep experiments in a checkout out of its code and its packages."""
    if not (root / ".gitignore").exists():
        write_text(root / ".gitignore", "*\n")


def _is_id(text: object) -> bool:
    return isinstance(text, str) and bool(re.fullmatch(r"\w[\w.-]{0,199}", text, re.ASCII))


def _is_foreign_id(text: object) -> bool:
    """Check whether this can be an id of NeMo-Run, which begins with the title as it is."""
    if not isinstance(text, str) or not _is_file_name(text) or not text.isprintable():
        return False
    from nemo_run.run.foreign import launch_time

    return launch_time(text) is not None


def store_of(path: Path) -> ExperimentStore:
    """Return the files of an experiment of this package or of NeMo-Run."""
    from nemo_run.run import foreign

    ours = (path / DEFINITION).exists() or not (path / foreign.TASKS).is_file()
    return ExperimentStore(path) if ours else foreign.ForeignStore(path)


def find(experiment_id: str, base: str | None = None) -> ExperimentStore:
    """Return the experiment with this id.

    Raises:
        InvalidNameError: This cannot be an id.
        ExperimentNotFoundError: There is none; the message names similar ones.
    """
    if not _is_id(experiment_id) and not _is_foreign_id(experiment_id):
        raise InvalidNameError(f"{experiment_id!r} is not the id of an experiment{_near(experiment_id, base)}")
    root = experiments_root(base)
    match = _ID.match(experiment_id)
    if match and (root / match["title"] / experiment_id).is_dir():
        return store_of(root / match["title"] / experiment_id)
    for path in root.glob(f"*/{glob.escape(experiment_id)}"):
        return store_of(path)
    raise ExperimentNotFoundError(f"there is no experiment {experiment_id!r} in {root}{_near(experiment_id, base)}")


def latest(title: str, base: str | None = None) -> ExperimentStore:
    """Return the newest experiment with this title.

    Raises:
        ExperimentNotFoundError: There is none.
    """
    found = ids(check_title(title), base)
    if not found:
        raise ExperimentNotFoundError(
            f"there is no experiment with the title {title!r} in {experiments_root(base)}{_near(title, base)}"
        )
    return find(found[-1], base)


def _near(wanted: str, base: str | None) -> str:
    """Return the end of a message about an experiment that is not there: titles and ids that are written nearly so."""
    from difflib import get_close_matches

    stored = _launched("", base)
    titles_ = _titles(stored)
    named = {one.name[: len(wanted)]: one.name for one in stored}  # the newest of those that begin so
    named |= {one.name: one.name for one in stored} | {title: title for title in titles_}
    named |= {_HASH.sub("", title): title for title in titles_}
    text = wanted if _is_id(wanted) or not wanted else _HASH.sub("", folder_name(wanted))
    near = dict.fromkeys(named[one] for one in get_close_matches(text, named, n=3, cutoff=0.7))
    return f"; did you mean {' or '.join(near)}?" if near else "; see them: nemorun experiment list"


def titles() -> list[str]:
    """Return the titles of all experiments that were launched, as their folders have them, by the alphabet."""
    return _titles(_launched("", None))


def _titles(stored: list[_Found]) -> list[str]:
    return sorted({one.path.rsplit("/", 2)[1] for one in stored})


def ids(title: str = "", base: str | None = None) -> list[str]:
    """Return the ids of all experiments that were launched, of one title or of all, the oldest first."""
    return [found.name for found in _launched(title, base)]


def launched(title: str = "", base: str | None = None) -> list[ExperimentStore]:
    """Return all experiments that were launched, of one title or of all, the oldest first."""
    return [store_of(Path(found.path)) for found in _launched(title, base)]


def launched_in(folder: str) -> dict[str, str]:
    """Return the folders of the experiments in the folder of a title that were launched, by their ids."""
    return {found.name: found.path for found in _launched_in(folder)}


class _Found(NamedTuple):
    name: str
    path: str
    defined: int  # when its definition was written, in nanoseconds

    @property
    def age(self) -> tuple[str, int, int, str]:
        """Key that sorts by age; the time in an id has seconds only, and an id of the user's own has none."""
        if match := _ID.match(self.name):
            return (match["time"], self.defined, int(match["number"] or 1), self.name)
        from nemo_run.run.foreign import launch_time

        if (made := launch_time(self.name)) is not None:
            return (_time_text(made), int(made * 1e9), 1, self.name)
        return (_time_text(self.defined / 1e9), self.defined, 0, self.name)


def _launched(title: str, base: str | None) -> list[_Found]:
    """Return the ids and folders, the oldest first."""
    root = experiments_root(base)
    try:
        parents = sorted(_folders_of(root, title)) if title else [e.path for e in os.scandir(root) if _is_folder(e)]
    except FileNotFoundError:
        return []
    except NotADirectoryError as e:
        raise StoreError(f"{e.filename}: {e.strerror}; set NEMORUN_HOME to a folder") from e
    return sorted((found for parent in parents for found in _launched_in(parent)), key=lambda found: found.age)


def _folders_of(root: Path, title: str) -> set[str]:
    """Return the folders of a title: NeMo-Run's have the title itself for a name."""
    own = {str(root / folder_name(title))}
    return own | {str(root / title)} if _is_file_name(title) else own


def _is_file_name(text: str) -> bool:
    return "/" not in text and text not in (".", "..") and len(os.fsencode(text)) < 256


def _launched_in(folder: str) -> Iterator[_Found]:
    """Yield experiments in the folder of a title. One that is only being prepared has no definition yet."""
    try:
        entries = os.scandir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as e:  # it is another user's, say; the others are not hidden by it
        _tell_unreadable(folder, e.strerror)
        return
    with entries:
        for entry in entries:
            if not entry.name.startswith("."):
                yield from _found(entry)


def _found(entry: os.DirEntry[str]) -> Iterator[_Found]:
    from nemo_run.run import foreign

    for file in (DEFINITION, foreign.TASKS):
        try:
            defined = os.lstat(f"{entry.path}/{file}").st_mtime_ns  # a link that leads nowhere is told by its reader
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as e:
            _tell_unreadable(entry.path, e.strerror)
            return
        yield _Found(entry.name, entry.path, defined)
        return


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself, or to where we may not look
        return False


@functools.cache
def _tell_unreadable(folder: str, why: str) -> None:
    """Tell once that a folder is passed over."""
    logger.warning("%s: cannot be read, and is passed over: %s", folder, why)
