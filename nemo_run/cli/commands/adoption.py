"""Showing what is adopted, and adopting all experiments of a home that has them from before they were marked."""

from __future__ import annotations

from nemo_run.cli.show import confirm, say, tell
from nemo_run.errors import NemoRunError
from nemo_run.run import adopting, catalog


def show(adoption: adopting.Adoption) -> None:
    """Print all that an experiment would connect to and run."""
    say(f"experiment {adoption.store.id}")
    for line in adopting.description(adoption):
        say(f"  {line}")


def adopt_all(*, yes: bool) -> None:
    """Adopt all experiments that are not this user's yet; of each, where it would connect to is shown."""
    adoptions = []
    for store in catalog.launched():
        try:
            if store.is_received:
                adoptions.append(adopting.prepare(store))
        except NemoRunError as error:
            _tell_left(store.id, error)
    for adoption in adoptions:
        say(f"{adoption.store.id}: {'; '.join(adopting.connections(adoption))}")
    if not adoptions:
        tell("there is nothing to adopt")
    elif confirm(f"Are all these {len(adoptions)} yours, and none received from somebody else?", yes=yes):
        for adoption in adoptions:
            try:
                adopting.adopt(adoption)
            except NemoRunError as error:
                _tell_left(adoption.store.id, error)


def _tell_left(experiment_id: str, error: NemoRunError) -> None:
    tell(f"{experiment_id} is left as it is: {error}")
