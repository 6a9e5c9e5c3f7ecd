"""The pictures of the documentation are those that the code and its tests make today."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import nemo_run as run

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import draw_docs  # noqa: E402

sys.path.remove(str(ROOT / "tools"))


@pytest.mark.parametrize("page", draw_docs.PAGES, ids=lambda page: page.name)
def test_a_page_is_up_to_date(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert draw_docs.drawn(text) == text, "run: python tools/draw_docs.py"


def test_a_picture_that_is_out_of_date_is_drawn_again() -> None:
    page = "a\n<!-- drawing: causes -->\n```text\nold\n```\nb\n"
    assert draw_docs.drawn(page) == page.replace("old\n", draw_docs.causes())


def test_every_state_phase_and_executor_is_drawn() -> None:
    assert all(state.name in draw_docs.states() for state in run.JobState)
    assert all(phase.name in draw_docs.phase_list() for phase in draw_docs.phases.Phase)
    page = (ROOT / "docs" / "support.md").read_text(encoding="utf-8").partition("<!-- drawing")[0]
    assert [name for name in draw_docs.executors() if f"`{name}`" not in page] == []
