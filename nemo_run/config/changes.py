"""Which line of code set which argument: fiddle's history, kept so that copies of a configuration can share it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from fiddle import history
from fiddle._src import history as fiddle_history  # for its counter and location provider, which are not public

# The line to be noted is the user's, not one of these files'.
for _file in ("autoconfig", "buildable", "building", "changes", "checking", "convert", "mixin", "paths", "tree"):
    history.add_exclude_location(os.path.join("nemo_run", "config", f"{_file}.py"))  # noqa: PTH118  # a suffix


class ArgumentHistory(history.History):
    """Argument name to what it was set to, when and where.

    A list of entries is replaced, never appended to, so a shallow copy is a copy.
    """

    def add_new_value(self, param_name: Any, value: Any, location: history.Location | None = None) -> None:
        """Note that an argument was set."""
        self._add(param_name, history.ChangeKind.NEW_VALUE, value, location)

    def add_deleted_value(self, param_name: Any) -> None:
        """Note that an argument was deleted."""
        self._add(param_name, history.ChangeKind.NEW_VALUE, history.DELETED)

    def add_updated_tags(self, param_name: Any, updated_tags: Iterable[Any]) -> None:
        """Note which tags an argument has now."""
        self._add(param_name, history.ChangeKind.UPDATE_TAGS, frozenset(updated_tags))

    def _add(self, name: Any, kind: history.ChangeKind, value: Any, location: history.Location | None = None) -> None:
        if history.tracking_enabled():
            number = next(fiddle_history._set_counter)  # noqa: SLF001
            entry = history.HistoryEntry(number, name, kind, value, location or user_location())
            self[name] = [*self.get(name, ()), entry]


def copied(entries: history.History) -> ArgumentHistory:
    """Return a history to which entries can be added without adding them to the other."""
    if type(entries) is ArgumentHistory:
        return ArgumentHistory(entries)
    return ArgumentHistory({name: list(of_name) for name, of_name in entries.items()})


def user_location() -> history.Location | None:
    """Return the line of the user's code that is being run; it is found once for all that the line sets."""
    return fiddle_history._location_provider() if history.tracking_enabled() else None  # noqa: SLF001
