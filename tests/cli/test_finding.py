"""Finding experiments again: filters of the list, tags, notes, ``show``."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given, strategies as st

import nemo_run as run
from nemo_run.errors import CommandLineError
from nemo_run.run import catalog
from nemo_run.run.where import condition
from tests.cli.conftest import Nemorun
from tests.run import work as tasks


@pytest.fixture
def two() -> tuple[str, str]:
    """Ids of an experiment that succeeded and of one that failed, with parameters."""
    ids = []
    for title, kind in (("good", "a"), ("bad", "b")):
        with run.Experiment(title, clean_mode=True) as exp:
            exp.sweep(run.Partial(tasks.scores, kind=kind), {"lr": [0.1, 0.5]})
            exp.run()
        ids.append(exp.id)
    return ids[0], ids[1]


def listed(nemorun: Nemorun, *options: str) -> list[str]:
    return [entry["id"] for entry in json.loads(nemorun("experiment", "list", "--json", *options).stdout)]


def test_filters(nemorun: Nemorun, two: tuple[str, str]) -> None:
    good, bad = two
    assert listed(nemorun) == [good, bad]
    assert listed(nemorun, "--state", "failed") == [bad]
    assert listed(nemorun, "--state", "failed", "--state", "SUCCEEDED") == [good, bad]
    assert listed(nemorun, "--since", "1h") == [good, bad]
    assert listed(nemorun, "--since", "0s") == []
    assert listed(nemorun, "--where", "lr > 0.2 and kind == 'a'") == [good]
    assert listed(nemorun, "--where", "lr > 0.6 or other == 3") == []
    assert listed(nemorun, "--state", "succeeded", "--limit", "1") == [good]
    assert "none of the experiments" in nemorun("experiment", "list", "--state", "running").stderr
    assert "is no state" in nemorun("experiment", "list", "--state", "done", code=2).stderr
    assert "is no condition" in nemorun("experiment", "list", "--where", "lr >", code=2).stderr


def test_tags_and_notes(nemorun: Nemorun, two: tuple[str, str]) -> None:
    good, bad = two
    nemorun("experiment", "tag", good, "paper", "v1.0")
    nemorun("experiment", "tag", "bad", "paper")
    assert listed(nemorun, "--tag", "paper") == [good, bad]
    assert listed(nemorun, "--tag", "paper", "--tag", "v1.0") == [good]
    assert "tags: paper, v1.0" in nemorun("experiment", "list").stdout
    nemorun("experiment", "tag", good, "paper", "--remove")
    assert listed(nemorun, "--tag", "paper") == [bad]
    nemorun("experiment", "note", good, "lr is too high\n")
    assert json.loads(nemorun("experiment", "show", good, "--json").stdout)["note"] == "lr is too high\n"
    assert "cannot be a tag" in nemorun("experiment", "tag", good, "two words", code=2).stderr
    assert catalog.find(good).is_ours  # what people say of an experiment does not make it another one


def test_show(nemorun: Nemorun, two: tuple[str, str]) -> None:
    shown = nemorun("experiment", "show", "bad").stdout
    for text in (f"id: {two[1]}", "state: FAILED", "user:", "lr: 0.5", "ValueError: kind b", "tests.run.work.scores"):
        assert text in shown


@pytest.mark.parametrize("content", ["[", "[]", '{"tags": 3, "note": []}', '{"tags": [1, "x"]}'])
def test_damaged_labels_hide_nothing(nemorun: Nemorun, two: tuple[str, str], content: str) -> None:
    (catalog.find(two[0]).path / "labels.json").write_text(content)
    assert listed(nemorun) == list(two)


PARAMETERS = {"lr": 0.1, "model.layers": 8, "name": "x", "sizes[0]": 3, "data['a b']": 1, "flag": True}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("lr == 0.1", True),
        ("0 < lr <= 0.1", True),
        ("model.layers > 8", False),
        ("not model.layers > 8", True),
        ("name in ('x', 'y') and flag", True),
        ("name not in ['x']", False),
        ("sizes[0] == 3 and data['a b'] == 1", True),
        ("lr == -0.1 or (name == 'x' and model.layers == 8)", True),
        ("unknown > 3", False),
        ("unknown", False),
        ("name > 3", False),
    ],
)
def test_conditions(text: str, holds: bool) -> None:
    assert bool(condition(text)(PARAMETERS)) is holds


@pytest.mark.parametrize(
    "text", ["__import__('os').getcwd()", "lr + 1 > 0", "(lambda: 1)()", "[x for x in lr]", "lr is 3", "", "("]
)
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(CommandLineError, match="condition"):
        condition(text)


@given(st.text())
def test_no_text_ends_in_another_error(text: str) -> None:
    with contextlib.suppress(CommandLineError):
        condition(text)(PARAMETERS)


def test_further_columns_and_order(nemorun: Nemorun) -> None:
    ids = []
    for size in (3, 11, 7):
        with run.Experiment(f"sized{size}", executor=run.LocalExecutor(), skip_status_at_exit=True) as exp:
            exp.add(tasks.trial, x=size, kind="steep")
            exp.run()
        ids.append(exp.id)
    out = nemorun("experiment", "list", "--sort", "score", "--columns", "score, x,nothing").stdout.splitlines()
    assert [line.split()[-1] for line in out[1:]] == [ids[0], ids[2], ids[1]]
    assert "score" in out[0] and "nothing" not in out[0]  # noqa: PT018
    assert out[-1].split().count("11") == 2
    assert nemorun("experiment", "list", "--sort", "score", "-n", "1").stdout.split()[-1] == ids[1]
    document = json.loads(nemorun("experiment", "list", "--json", "--columns", "score").stdout)
    assert [one["columns"]["score"] for one in document] == [3, 11, 7]


def test_names_and_the_archive(nemorun: Nemorun, two: tuple[str, str]) -> None:
    first, second = two
    nemorun("experiment", "rename", first, "the one of the paper")
    assert "the one of the paper" in nemorun("experiment", "list").stdout
    nemorun("experiment", "archive", first)
    assert first not in nemorun("experiment", "list").stdout
    assert second in nemorun("experiment", "list", "-n", "1").stdout
    assert "archived" in nemorun("experiment", "list", "--archived").stdout
    nemorun("experiment", "status", first)  # it is there as before
    nemorun("experiment", "archive", first, "--undo")
    assert first in nemorun("experiment", "list").stdout


def test_the_room_that_experiments_take(nemorun: Nemorun, two: tuple[str, str]) -> None:
    large = run.Experiment.from_id(two[0]).directory / "large"
    large.write_bytes(b"x" * 5_000_000)
    large.with_name("again").hardlink_to(large)
    largest, other = json.loads(nemorun("experiment", "du", "--json").stdout)
    assert largest["id"] == two[0]
    assert 4_900_000 <= largest["bytes"] - other["bytes"] < 5_100_000
    assert "all 2" in nemorun("experiment", "du", "-n", "1").stdout
