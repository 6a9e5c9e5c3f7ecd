"""The page as a person uses it, in a real browser, on real experiments."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from nemo_run.ui import exporting
from tests.support import eventually
from tests.ui.conftest import Served, id_of, launch, serve

pytestmark = [pytest.mark.needs("chromium")]
PAGES = ("", "/timeline", "/results", "/metrics", "/sweep", "/artifacts", "/code")
JOB_PAGES = ("", "/configuration", "/metrics", "/artifacts", "/result")


def _until(page: Any, condition: str) -> None:
    """Wait for a condition; the page's own rules forbid the browser to evaluate one by itself."""
    eventually(lambda: page.evaluate(condition) or page.wait_for_timeout(50), condition)


def _open(page: Any, served: Served, where: str = "") -> None:
    if served.base not in page.url:
        page.goto(served.address)
        page.wait_for_selector("#live:has-text('live')")
    page.goto(f"{served.base}#/{where}")


def test_an_experiment_is_seen_from_its_launch_to_its_end(page: Any, served: Served, tmp_path: Path) -> None:
    _open(page, served)
    page.wait_for_selector(".row")
    flag = tmp_path / "flag"
    one = launch(served.home, "waiting", str(flag))
    page.wait_for_selector(f"a.title:has-text('{one}')")  # without a reload
    page.click(f"a.title:has-text('{one}')")
    page.wait_for_selector("h1 .RUNNING")
    page.click("td a:has-text('wait')")
    page.wait_for_selector(".log:has-text('tick 3')")
    before = page.inner_text(".log").count("tick")
    _until(page, f"document.querySelector('.log').innerText.split('tick').length > {before + 3}")  # it grows
    flag.write_text("")
    page.wait_for_selector(".log:has-text('学習 done')")
    page.wait_for_selector("h1 .SUCCEEDED")
    lines = [line for line in page.inner_text(".log").splitlines() if line]
    assert lines == ["waiting", *(f"tick {i + 1}" for i in range(len(lines) - 2)), "学習 done"]


def test_a_running_experiment_is_cancelled_after_a_question(page: Any, served: Served, tmp_path: Path) -> None:
    one = launch(served.home, "waiting", str(tmp_path / "never"))
    _open(page, served, f"e/{one}")
    page.wait_for_selector("h1 .RUNNING")
    page.click("button:has-text('Cancel')")
    assert one in page.inner_text("dialog")
    page.click("dialog button:has-text('No')")
    page.wait_for_selector("dialog", state="hidden")
    assert page.is_visible("h1 .RUNNING")
    page.click("button:has-text('Cancel')")
    page.click("dialog button:has-text('Cancel the jobs')")
    page.wait_for_selector("dialog:has-text('Done')")
    page.click("dialog button")
    page.wait_for_selector("h1 .CANCELLED")


def test_tags_notes_and_deleting(page: Any, served: Served) -> None:
    one = id_of(served.home, "sweep")
    _open(page, served, f"e/{one}")
    page.click("button:has-text('Tags')")
    page.fill("dialog input", "paper best")
    page.click("dialog button:has-text('Save')")
    page.wait_for_selector(".tag:has-text('paper')")
    page.click("button:has-text('Note')")
    page.fill("dialog textarea", "<b>look</b> again")
    page.click("dialog button:has-text('Save')")
    page.wait_for_selector(".note:has-text('<b>look</b> again')")
    page.click("button:has-text('Delete')")
    page.click("dialog button:has-text('Delete')")
    page.wait_for_selector("dialog:has-text('Done')")
    page.click("dialog button")
    page.wait_for_selector(".row")
    page.wait_for_selector(f"a.title:has-text('{one}')", state="detached")
    assert not list(served.home.glob(f"experiments/sweep/{one}"))


def test_archiving(page: Any, served: Served) -> None:
    one = id_of(served.home, "sweep")
    _open(page, served, f"e/{one}")
    page.click("button:has-text('Archive')")
    page.click("dialog button:has-text('Archive')")
    page.wait_for_selector("dialog:has-text('Done')")
    page.click("dialog button")
    page.wait_for_selector("button:has-text('Unarchive')")
    _open(page, served)
    _until(page, "document.querySelectorAll('.row').length === 2")
    page.check("label:has-text('archived') input")
    _until(page, "document.querySelectorAll('.row').length === 3")
    assert "archived" in page.inner_text(f".row:has-text('{one}')")


def test_jobs_tell_their_results(page: Any, looking: Served) -> None:
    _open(page, looking, f"e/{id_of(looking.home, 'pipeline')}")
    page.wait_for_selector("tr:has-text('train') td:has-text('accuracy')")
    page.goto(f"{looking.base}#/e/{id_of(looking.home, 'pipeline')}/results")
    page.wait_for_selector(".note.bad:has-text('3 is too large')")
    assert "raise ValueError" in page.inner_text("main")


def test_hours_of_gpus_are_those_of_all_attempts(page: Any, looking: Served) -> None:
    _open(page, looking)
    attempts = [{"started": 3600, "ended": 5400}, {"started": 6000, "ended": None}, {"started": 7200, "ended": 9000}]
    tasks = [{"gpus": 4, "attempts": attempts}, {"gpus": 0, "attempts": attempts}]
    assert page.evaluate(f"ui.gpuHours({json.dumps({'tasks': tasks})})") == 4


def test_when_a_waiting_job_is_expected_to_start_has_a_column(page: Any, looking: Served) -> None:
    _open(page, looking)
    for expected, column in ((None, False), (4102444800, True)):
        jobs = json.dumps([{"expected": expected, "tasks": []}])
        shown = page.evaluate(f"ui.jobColumns({{jobs: {jobs}}}).map((column) => column.name)")
        assert ("Expected start" in shown) == column
    told = [page.evaluate(f"ui.when(Date.now() / 1000 + {seconds}).textContent") for seconds in (7205, 5, -7205)]
    assert told == ["in 2 h", "just now", "2 h ago"]


def test_experiments_are_found(page: Any, looking: Served) -> None:
    _open(page, looking)
    page.wait_for_selector(".row")
    assert page.locator(".row").count() == 3
    page.fill("#search", "pipe")
    _until(page, "document.querySelectorAll('.row').length === 1")
    page.fill("#search", "")
    page.select_option("select", "succeeded")
    _until(page, "document.querySelectorAll('.row').length === 2")
    page.fill("input[aria-label^=Condition]", "lr > 0.2 and accuracy > 0.4")
    page.keyboard.press("Enter")
    _until(page, "document.querySelectorAll('.row').length === 1")
    page.fill("input[aria-label^=Condition]", "__import__('os')")
    page.keyboard.press("Enter")
    page.wait_for_selector("[role=alert]")


def test_only_keys(page: Any, looking: Served) -> None:
    _open(page, looking)
    page.wait_for_selector(".row")
    page.keyboard.press("/")
    page.keyboard.type("pipeline")
    _until(page, "document.querySelectorAll('.row').length === 1")
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('rows')"):
            break
    page.keyboard.press("Enter")
    page.wait_for_selector(".picture .node")
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("(document.activeElement.getAttribute('href') || '').endsWith('/job/train')"):
            break
    page.keyboard.press("Enter")
    page.wait_for_selector(".log:has-text('step 19')")
    page.keyboard.press("Backspace")
    page.wait_for_selector(".picture")
    page.keyboard.press("g")
    page.wait_for_selector(".row")
    page.keyboard.press("?")
    page.wait_for_selector("dialog:has-text('Keys')")
    page.keyboard.press("Escape")
    page.keyboard.press("t")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_experiments_are_compared(page: Any, looking: Served) -> None:
    _open(page, looking)
    page.wait_for_selector(".row")
    for box in page.locator(".row input").all()[:2]:
        box.check()
    page.click("button:has-text('Compare')")
    page.wait_for_selector("h1:has-text('Comparison')")
    page.wait_for_selector("table")


def test_a_sweep_is_drawn(page: Any, looking: Served) -> None:
    _open(page, looking, f"e/{id_of(looking.home, 'sweep')}/sweep")
    page.wait_for_selector("svg.parallel path")
    assert "lr=0.1,layers=4" in page.inner_text(".note")
    assert page.locator("svg.parallel path").count() == 6
    assert "--to-yaml best.yaml" in page.inner_text(".note code")


def test_a_long_log_is_read_from_its_end_and_back(page: Any, looking: Served) -> None:
    _open(page, looking, f"e/{id_of(looking.home, 'talking')}/job/talk")
    page.wait_for_selector(".log:has-text('line 19999 ')")
    assert "line 0 " not in page.inner_text(".log")
    page.fill("input[aria-label='Find in the log']", "line 777 ")
    page.keyboard.press("Enter")
    page.click("button.mono:has-text('line 777 ')")
    page.wait_for_selector("mark:has-text('line 777 ')")
    page.click("button:has-text('End')")
    page.wait_for_selector(".log:has-text('line 19999 ')")
    for _ in range(30):
        page.evaluate("document.querySelector('.log').scrollTop = 0")
        page.wait_for_timeout(50)
    numbers = [int(line.split()[1]) for line in page.inner_text(".log").splitlines() if line.startswith("line ")]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))  # nothing twice, nothing left out
    assert numbers[0] < 15000


def _hostile(home: Path) -> None:
    """Put markup, scripts and odd characters into every text of an experiment."""
    nasty = (
        "<img src=x onerror=window.hit=1><script>window.hit=1</script>\u202e\u001b]8;;http://evil.example\u0007'\"`${1}"
    )
    for path in home.glob("experiments/*/*/**/*.json"):
        if path.name in ("mark.json",):
            continue
        path.write_text(json.dumps(_poisoned(json.loads(path.read_text()), nasty)))
    for log in home.glob("experiments/*/*/**/log"):
        log.write_text(f"{nasty}\n" * 5)


_KEPT = (
    "state",
    "directory",
    "format",
    "engine",
    "handle",
    "waits_for",
    "end_group_on",
    "id",
    "file",
    "$",
    "kind",
    "dependencies",
    "path",
    "counts",
)


def _poisoned(value: Any, nasty: str, name: str = "") -> Any:
    if isinstance(value, dict):
        return {one: _poisoned(inner, nasty, one) for one, inner in value.items()}
    if isinstance(value, list):
        return [_poisoned(inner, nasty, name) for inner in value]
    return (
        f"{value}{nasty}"
        if isinstance(value, str) and name not in (*_KEPT, "dependencies", "path", "counts")
        else value
    )


def test_a_hostile_experiment_executes_nothing(page: Any, finished: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(finished, home)
    _hostile(home)
    served = serve(home)
    try:
        _open(page, served)
        page.wait_for_selector(".row")
        for title, job in (("pipeline", "evaluate"), ("sweep", ""), ("talking", "talk")):
            one = id_of(home, title)
            for part in PAGES:
                _open(page, served, f"e/{one}{part}")
                page.wait_for_selector("h1, .note.bad")
                page.wait_for_timeout(200)
                assert page.evaluate("window.hit") is None
            for part in JOB_PAGES if job else ():
                _open(page, served, f"e/{one}/job/{job}{part}")
                page.wait_for_selector("h1, .note.bad")
                page.wait_for_timeout(200)
                assert page.evaluate("window.hit") is None
        assert "<img src=x" in page.inner_text("main")  # it was shown, as text
        assert page.locator("main img, main script, main iframe").count() == 0
    finally:
        served.stop()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1280, 800), (360, 740)])
def test_nothing_is_in_the_way_of_anybody(chromium: Any, looking: Served, scheme: str, width: int, height: int) -> None:
    """An accessibility checker finds nothing serious, and no page is wider than the window."""
    from axe_playwright_python.sync_playwright import Axe

    axe = Axe()
    window = {"width": width, "height": height}
    context = chromium.new_context(viewport=window, color_scheme=scheme, reduced_motion="reduce")
    page = context.new_page()
    _open(page, looking)
    page.wait_for_selector(".row")
    one, sweep = id_of(looking.home, "pipeline"), id_of(looking.home, "sweep")
    of_job = [f"e/{one}/job/train{part}" for part in JOB_PAGES]
    places = ["", *(f"e/{one}{part}" for part in PAGES), f"e/{sweep}/sweep", *of_job]
    for where in [*places, f"compare?id={one}&id={sweep}"]:
        _open(page, looking, where)
        page.wait_for_selector("h1")
        _until(page, "!document.querySelector('main .loading')")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), where
        assert "[object" not in page.inner_text("main"), where
        page.evaluate("Object.defineProperty(window, 'exports', {value: undefined, configurable: true})")
        found = axe.run(page).response["violations"]
        serious = [
            (one["id"], one["nodes"][0]["html"][:200]) for one in found if one["impact"] in ("serious", "critical")
        ]
        assert not serious, where
    context.close()


def test_the_pages_as_files_are_the_same(page: Any, finished: Path, tmp_path: Path) -> None:
    exporting.export(tmp_path / "site", (), str(finished))
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto((tmp_path / "site" / "index.html").as_uri())
    page.wait_for_selector(".row")
    assert page.locator(".row").count() == 3
    page.click("a.title:has-text('pipeline')")
    page.wait_for_selector(".picture .node")
    page.click("td a:has-text('train')")
    page.wait_for_selector(".log:has-text('step 19')")
    page.click("a:has-text('Configuration')")
    page.wait_for_selector(".tree")
    assert page.locator("button:has-text('Rerun')").count() == 0
    assert not errors


def test_two_pages_are_told_the_same(chromium: Any, served: Served, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    one = launch(served.home, "waiting", str(flag))
    context = chromium.new_context()
    pages = [context.new_page() for _ in range(4)]
    for page in pages:
        _open(page, served, f"e/{one}")
        page.wait_for_selector("h1 .RUNNING")
    flag.write_text("")
    for page in pages:
        page.wait_for_selector("h1 .SUCCEEDED")
    context.close()
    assert eventually(lambda: served.process.poll() is None)
