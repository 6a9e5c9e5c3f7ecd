"""Records of Ray clusters and jobs name where to connect to; those that somebody else wrote are not used."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nemo_run.errors import ReceivedRecordError
from nemo_run.run.ray import records
from nemo_run.run.ray.records import StoredCluster, StoredRayJob

ADDRESS = {"address": "http://attacker.example.org:8265", 10: "x", 2: "y", "many": (1, 2)}


@pytest.fixture
def stored(nemorun_home: Path) -> Path:
    """The file of a cluster that this user has started."""
    records.write(StoredCluster("one", "ray_address", "there", ADDRESS, 1.5))
    (file,) = nemorun_home.glob("ray/clusters/*/one.json")
    return file


def test_ones_own_is_read_as_it_was_written(stored: Path, nemorun_home: Path) -> None:
    found = records.read(StoredCluster, "ray_address", "there", "one")
    assert found is not None
    assert found.record == {**{str(key): value for key, value in ADDRESS.items()}, "many": [1, 2]}
    assert records.read_all(StoredCluster) == [found]
    assert records.read(StoredRayJob, "ray_address", "there", "one") is None
    assert (nemorun_home / f"ray/.key-{os.geteuid()}").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda doc: doc["record"].update(address="http://elsewhere.example.org"),
        lambda doc: doc.pop("mark"),
        lambda doc: doc.update(mark=7),
        lambda doc: doc.update(mark="\udc80"),
    ],
)
def test_one_that_was_changed_is_refused_and_hides_no_other(
    change: Callable[[dict[str, Any]], object], stored: Path, caplog: pytest.LogCaptureFixture
) -> None:
    records.write(StoredCluster("two", "ray_address", "there", {}, 2.5))
    document = json.loads(stored.read_text())
    change(document)
    stored.write_text(json.dumps(document))
    with pytest.raises(ReceivedRecordError, match="not written by this user"):
        records.read(StoredCluster, "ray_address", "there", "one")
    with caplog.at_level(logging.WARNING):
        assert [one.name for one in records.read_all(StoredCluster)] == ["two"]
    assert str(stored) in caplog.text


def test_one_of_another_home_is_refused(stored: Path, nemorun_home: Path) -> None:
    (nemorun_home / f"ray/.key-{os.geteuid()}").unlink()
    assert records.read_all(StoredCluster) == []
