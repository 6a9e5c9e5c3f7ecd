"""Tags and notes that people give to experiments, beside what was launched."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from nemo_run.core.files import read_object, write_json
from nemo_run.errors import InvalidNameError, StoreError
from nemo_run.run.store import ExperimentStore

_FILE = "labels.json"
_TAG = re.compile(r"[^\W_][\w.:/+-]{0,63}")


@dataclass(frozen=True)
class Labels:
    """What people say about an experiment.

    Attributes:
        tags: Its tags, sorted.
        note: A note, of any length.
        name: What it is called in lists, beside its id.
        archived: Whether lists leave it out.
    """

    tags: tuple[str, ...] = ()
    note: str = ""
    name: str = ""
    archived: bool = False


def read_labels(store: ExperimentStore) -> Labels:
    """Return the labels of an experiment; none where the file is damaged."""
    try:
        document = read_object(store.path / _FILE) or {}
    except StoreError:
        return Labels()
    tags, note, name = document.get("tags"), document.get("note"), document.get("name")
    known = [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []
    note, name = (text if isinstance(text, str) else "" for text in (note, name))
    return Labels(tuple(sorted(set(known))), note, name, document.get("archived") is True)


def change_labels(
    store: ExperimentStore, add: Iterable[str] = (), remove: Iterable[str] = (), **changes: Any
) -> Labels:
    """Change the labels of an experiment, and return them.

    Args:
        store: The experiment.
        add: Tags that it gets.
        remove: Tags that it loses.
        **changes: Further labels, by the names in :class:`Labels`.

    Raises:
        InvalidNameError: A tag has spaces or other characters that tags do not have.
        StoreError: The file cannot be written.
    """
    for tag in (added := list(add)):
        if not _TAG.fullmatch(tag):
            raise InvalidNameError(
                f"{tag!r} cannot be a tag; a tag begins with a letter or a digit, and has no spaces: at most 64 of "
                "letters, digits and . : / + - _"
            )
    store.must_be_of_this_program("labelled")
    before = read_labels(store)
    tags = tuple(sorted({*before.tags, *added} - set(remove)))
    after = replace(before, tags=tags, **changes)
    write_json(store.path / _FILE, asdict(after))
    return after
