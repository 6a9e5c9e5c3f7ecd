"""What the server tells and does, to whom, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from nemo_run.run import catalog
from nemo_run.ui import actions, exporting, reading
from nemo_run.ui.listing import Listing
from nemo_run.ui.logs import Log, LogName
from tests.support import eventually
from tests.ui.conftest import Served, id_of, launch, serve


def test_without_its_token_nothing_is_told(looking: Served) -> None:
    for path in ("", "api/experiments", "static/app.js", "api/session"):
        assert httpx.get(looking.base + path).status_code == 401
    assert httpx.get(f"{looking.base}?token=wrong").status_code == 401


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "evil.example:80", "[", ""])
def test_another_name_in_the_address_is_refused(looking: Served, host: str) -> None:
    with looking.client() as client:
        assert client.get("/api/experiments", headers={"host": host}).status_code in (400, 421)


def test_a_forwarded_port_may_be_another_one(looking: Served) -> None:
    with looking.client() as client:
        assert client.get("/api/experiments", headers={"host": "localhost:9999"}).status_code == 200


def test_a_proxy_is_named_when_the_page_is_started(finished: Path) -> None:
    served = serve(finished, "--allow-host", "hub.example")
    try:
        with served.client() as client:
            assert client.get("/api/experiments", headers={"host": "hub.example"}).status_code == 200
    finally:
        served.stop()


def test_other_pages_may_not_ask(looking: Served) -> None:
    with looking.client() as client:
        assert client.get("/api/experiments", headers={"origin": "http://evil.example"}).status_code == 403
        assert client.get("/api/experiments", headers={"origin": "null"}).status_code == 403


def test_nothing_is_changed_without_the_token_for_actions(served: Served) -> None:
    one = id_of(served.home, "sweep")
    with served.client() as client:
        act = client.get("/api/session").json()["act"]
        path, origin = f"/api/experiments/{one}/tag", {"origin": served.base.rstrip("/")}
        assert client.post(path, json={"tags": ["x"]}, headers=origin).status_code == 403
        assert (
            client.post(path, json={"tags": ["x"]}, headers={"x-nemo-run-action": act}).status_code == 403
        )  # no origin
        wrong = {**origin, "x-nemo-run-action": "wrong"}
        assert client.post(path, json={"tags": ["x"]}, headers=wrong).status_code == 403
        assert client.get(path).status_code == 405
        assert client.get("/api/experiments").json()[-1]["tags"] == []
        good = client.post(path, json={"tags": ["x"]}, headers={**origin, "x-nemo-run-action": act})
        assert good.json()["good"]
        assert ["x"] in [row["tags"] for row in client.get("/api/experiments").json()]


def test_a_page_to_look_at_changes_nothing(looking: Served) -> None:
    one = id_of(looking.home, "sweep")
    with looking.client() as client:
        assert client.get("/api/session").json() == {"act": "", "actions": []}
        for token in ("", "x"):
            headers = {"origin": looking.base.rstrip("/"), "x-nemo-run-action": token}
            assert client.post(f"/api/experiments/{one}/delete", headers=headers).status_code == 403


def test_every_answer_says_what_browsers_may_do_with_it(looking: Served) -> None:
    with looking.client() as client:
        for path in ("/", "/static/app.js", "/api/experiments", "/api/experiments/none", "/nothing"):
            headers = client.get(path).headers
            assert "default-src 'none'" in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"
            assert "access-control-allow-origin" not in headers


def test_words_of_a_request_are_no_options() -> None:
    with pytest.raises(Exception, match="no action"):
        actions.command("prune", "x", {})
    words = actions._COMMANDS["cancel"]("id", {"jobs": ["--all"]})
    assert words.index("--") < words.index("--all")
    with pytest.raises(Exception, match="list of texts"):
        actions._COMMANDS["tag"]("id", {"tags": "x"})


def test_the_documents_of_an_experiment(looking: Served) -> None:
    one = id_of(looking.home, "pipeline")
    with looking.client() as client:
        found = client.get(f"/api/experiments/{one}").json()
        assert [(job["id"], job["state"]) for job in found["jobs"]] == [
            ("train", "SUCCEEDED"), ("evaluate", "FAILED"), ("report", "CANCELLED"),
        ]  # fmt: skip
        assert found["jobs"][1]["exception"] == "ValueError: 3 is too large"
        assert [[node["jobs"] for node in stage] for stage in found["stages"]] == [
            [["train"]],
            [["evaluate"]],
            [["report"]],
        ]
        outcomes = client.get(f"/api/experiments/{one}/outcomes").json()
        assert "0.95" in outcomes["train"]["shown"]
        assert outcomes["train"]["metrics"]["loss"]["steps"] == 20
        assert client.get(f"/api/experiments/{one}/metrics?job=train").json()["train"]["loss"]["x"] == list(range(20))
        (configuration,) = client.get(f"/api/experiments/{one}/configuration?job=evaluate").json()
        assert configuration["config"]["_target_"].endswith("evaluate")
        assert client.get(f"/api/experiments/{one}/provenance").json()["argv"][-1] == "pipeline"
        assert client.get("/api/where", params={"condition": "lr > 0.2"}).json() == [id_of(looking.home, "sweep")]
        assert client.get("/api/where", params={"condition": "import os"}).status_code == 400


def test_many_jobs_of_one_kind_are_one_node(looking: Served) -> None:
    with looking.client() as client:
        found = client.get(f"/api/experiments/{id_of(looking.home, 'sweep')}").json()
    assert [len(stage) for stage in found["stages"]] == [1]
    assert len(found["stages"][0][0]["jobs"]) == 6


def test_artifacts_are_files_of_tasks_and_no_others(looking: Served) -> None:
    one = id_of(looking.home, "pipeline")
    with looking.client() as client:
        (file,) = [
            f for f in client.get(f"/api/experiments/{one}/artifacts?job=train").json() if f["path"] == "table.csv"
        ]
        wanted = {"job": "train", "task": file["task"], "path": "table.csv"}
        path = f"/api/experiments/{one}/artifact"
        saved = client.get(path, params=wanted)
        assert saved.content == b"name,value\nfirst,1\n"
        assert saved.headers["content-disposition"] == "attachment"
        assert "sandbox" in saved.headers["content-security-policy"]
        assert client.get(path, params={**wanted, "text": 1}).headers["content-type"] == "text/plain; charset=utf-8"
        for odd in ("../../experiment.json", "/etc/passwd", "", "nothing"):
            assert client.get(path, params={**wanted, "path": odd}).status_code == 404
        assert client.get(path).status_code == 404


def test_any_part_of_a_log_can_be_read(looking: Served) -> None:
    one = id_of(looking.home, "talking")
    with looking.client() as client:
        path, wanted = f"/api/experiments/{one}/log", {"job": "talk", "attempt": 1}
        end = client.get(path, params={**wanted, "start": -1000}).json()
        assert end["text"].endswith("line 19999 of a long log, with some words\n")
        assert end["text"].startswith("line ")  # whole lines
        before = client.get(path, params={**wanted, "start": end["start"] - 500, "count": 500}).json()
        assert before["end"] == end["start"]
        assert before["text"].endswith("\n")
        start = client.get(path, params={**wanted, "start": 0, "count": 100}).json()
        assert start["text"].startswith("line 0 ")
        assert (
            client.get(f"{path}/find", params={**wanted, "text": "LINE 12345 "}).json()[0][1].startswith("line 12345 ")
        )
        assert client.get(f"{path}/file", params=wanted).text.count("\n") == 20000
        assert client.get(path, params={**wanted, "attempt": 7}).json()["text"] == ""
        assert client.get(path, params={**wanted, "task": 7}).status_code == 404


def test_a_piece_of_a_log_ends_with_a_whole_character(tmp_path: Path, finished: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(finished, home)
    one = id_of(home, "talking")
    (log,) = home.glob(f"experiments/talking/{one}/talk/attempts/1/log")
    log.write_bytes("学習".encode() * 3 + b"\xff\xfe ok")
    name = LogName(one, "talk", 0, 1, None)
    reader = Log(catalog.find(one, str(home)), name)
    for count in range(3, 19):
        piece = reader.read(0, count)
        assert piece.content.decode() == "学習学習学習"[: count // 3]
        assert piece.end == count // 3 * 3
    assert reader.read(0).size == reader.read(0).end


def test_a_link_in_place_of_a_log_is_not_followed(tmp_path: Path, finished: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(finished, home)
    one = id_of(home, "talking")
    (log,) = home.glob(f"experiments/talking/{one}/talk/attempts/1/log")
    log.unlink()
    log.symlink_to("/etc/passwd")
    reader = Log(catalog.find(one, str(home)), LogName(one, "talk", 0, 1, None))
    try:
        assert eventually(lambda: reader.read(0).size or reader.problem)
        assert "root:" not in reader.read(0).content.decode()
    finally:
        reader.close()


def test_only_what_has_changed_is_read_again(tmp_path: Path, finished: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(finished, home)
    listing = Listing(str(home))
    assert len(listing.refresh().rows) == 3
    assert listing.refresh() == ([], [])
    store = catalog.find(id_of(home, "sweep"), str(home))
    (store.path / "labels.json").write_text(json.dumps({"tags": ["paper"], "note": ""}))
    os.utime(store.path)  # as a file that is replaced does
    assert [row["tags"] for row in listing.refresh().rows] == [("paper",)]
    shutil.rmtree(catalog.find(id_of(home, "talking"), str(home)).path)
    assert listing.refresh().gone == [id_of(finished, "talking")]
    shutil.copytree(
        catalog.find(id_of(finished, "talking"), str(finished)).path,
        home / "experiments/talking/talking_20200101_000000_1",
    )
    assert [row["id"] for row in listing.refresh().rows] == ["talking_20200101_000000_1"]


def test_a_damaged_experiment_is_a_row_and_an_error(tmp_path: Path, finished: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(finished, home)
    one = id_of(home, "sweep")
    (home / "experiments/sweep" / one / "experiment.json").write_text("[[[")
    served = serve(home)
    try:
        with served.client() as client:
            rows = {row["id"]: row["state"] for row in client.get("/api/experiments").json()}
            assert rows[one] == ""
            assert len(rows) == 3
            for path in ("", "/outcomes", "/metrics", "/trials", "/artifacts", "/log?job=x", "/configuration?job=x"):
                answer = client.get(f"/api/experiments/{one}{path}")
                assert answer.status_code == 404
                assert "damaged" in answer.json()["error"]
    finally:
        served.stop()


def test_looking_starts_no_program_and_no_connection(tmp_path: Path, finished: Path) -> None:
    """Of an experiment that was received; the server's own process is watched by an audit hook."""
    home, seen = tmp_path / "home", tmp_path / "seen"
    shutil.copytree(finished, home)
    (home / "experiments" / f".key-{os.geteuid()}").unlink()
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "def hook(event, args):\n"
        "    if event in ('subprocess.Popen', 'os.exec', 'os.posix_spawn', 'socket.connect', 'pickle.find_class'):\n"
        f"        open({str(seen)!r}, 'a').write(f'{{event}} {{args}}\\n')\n"
        "sys.addaudithook(hook)\n"
    )
    before = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{before}"
    try:
        served = serve(home)
    finally:
        os.environ["PYTHONPATH"] = before
    try:
        with served.client() as client:
            for row in client.get("/api/experiments").json():
                assert row["received"]
                for path in ("", "/outcomes", "/metrics", "/trials", "/artifacts", "/provenance"):
                    assert client.get(f"/api/experiments/{row['id']}{path}").status_code == 200
    finally:
        served.stop()
    assert not seen.exists(), seen.read_text()


def test_the_pages_as_files(tmp_path: Path, finished: Path) -> None:
    target = tmp_path / "site"
    written = exporting.export(target, [id_of(finished, "pipeline")], str(finished))
    assert written == [id_of(finished, "pipeline")]
    text = (target / "data.js").read_text()
    assert "3 is too large" in text
    assert "<" not in text.replace("<=", "")
    assert not any("environment" in path.name for path in target.rglob("*"))
    exporting.export(target, (), str(finished))  # again
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    with pytest.raises(Exception, match="not empty"):
        exporting.export(tmp_path / "full", (), str(finished))


def test_very_many_points_keep_their_extremes() -> None:
    from nemo_run.run.metrics import Metric

    values = [0.0] * 100_000
    values[54_321], values[12_345] = 9.0, -9.0
    thinned = reading._thinned(Metric("m", list(range(100_000)), values, [0.0] * 100_000))
    assert len(thinned["x"]) <= reading.MOST_POINTS + 2
    assert {9.0, -9.0} <= set(thinned["y"])


def test_without_its_packages_the_command_says_what_to_install(tmp_path: Path) -> None:
    hidden = (
        "import runpy, sys\n"
        "class Hidden:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name in ('starlette', 'uvicorn'):\n"
        "            import importlib.machinery\n"
        "            return importlib.machinery.ModuleSpec(name, None)\n"  # as where nothing of that name is installed
        "sys.meta_path.insert(0, Hidden())\n"
        "sys.argv = ['nemorun', 'ui']\n"
        "runpy.run_module('nemo_run', run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", hidden], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "pip install 'nemo-run[ui]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_taken_port_is_said(looking: Served) -> None:
    port = looking.base.rsplit(":", 1)[1].strip("/")
    command = [sys.executable, "-m", "nemo_run", "ui", "--no-browser", "--port", port]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert f"port {port}" in done.stderr


def test_what_runs_is_no_news_by_itself(tmp_path: Path) -> None:
    """Otherwise every open page is told, and draws again, at every look."""
    home, flag = tmp_path / "home", tmp_path / "flag"
    one = launch(home, "waiting", str(flag))
    listing, store = Listing(str(home)), catalog.find(one, str(home))
    definition = store.path / "experiment.json"
    document = json.loads(definition.read_text())
    document["jobs"][0]["tasks"][0]["gpus"] = 2
    definition.write_text(json.dumps(document))

    def seen() -> tuple[object, object]:
        listing.refresh()
        return listing.rows(), reading.stored_experiment(catalog.find(one, str(home)))

    try:
        eventually(lambda: reading.stored_experiment(store)["jobs"][0]["state"] == "RUNNING")
        before = seen()
        time.sleep(1)
        assert seen() == before
    finally:
        flag.touch()
