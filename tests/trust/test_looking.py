"""Looking at an experiment that was received does nothing that its files say."""

from __future__ import annotations

import http.server
import json
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.trust.conftest import Received

LOOKS = (["list"], ["list", "--json"], ["status"], ["logs", "--no-follow", "got"], ["logs", "got"],
         ["diff", "got", "got"], ["artifacts", "got"])  # fmt: skip


def look(received: Received, **env: str) -> None:
    """Look at it in every way."""
    for words in LOOKS:
        done = received.nemorun("experiment", *words, **env)
        assert done.returncode == 0, (words, done.stderr)
        assert "Traceback" not in done.stderr


def test_what_a_document_names_is_not_called(received: Received) -> None:
    flag = received.top / "executed"
    document = {"_target_": "os.system", "command": f"touch {flag}"}
    received.edit("job/task.json", lambda doc: doc.update(executor=document, config=document))
    code = f"import nemo_run as run\nexp = run.Experiment.from_id({received.id!r})\n"
    for words in ("print(exp, exp.status(return_dict=True))", "print([job.id for job in exp.jobs])", "print(exp.jobs)",
                  "exp.jobs[0].executor", "exp.jobs[0].task", "exp.tasks", "exp.reset()", "exp.tunnels"):  # fmt: skip
        done = received.python(code + words)
        assert not flag.exists(), words
        assert done.returncode == 0 or "nemorun experiment adopt" in done.stderr, (words, done.stderr)
    look(received)
    assert not flag.exists()


def test_a_pickle_is_not_loaded(received: Received) -> None:
    flag = received.top / "executed"
    (received.folder / "job/main.pkl").write_bytes(f"cposix\nsystem\n(S'touch {flag}'\ntR.".encode())
    received.edit("job/task.json", lambda doc: doc.update(main="main.pkl"))
    for words in ("exp.jobs[0].task", "exp.reset()", "exp.rerun()"):
        done = received.python(f"import nemo_run as run\nexp = run.Experiment.from_id({received.id!r})\n{words}")
        assert "nemorun experiment adopt" in done.stderr
        assert not flag.exists(), words


def test_a_kubeconfig_of_the_sender_runs_no_program(received: Received) -> None:
    flag, config = received.top / "executed", received.folder / "kube.yaml"
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never", "command": "sh",
                     "args": ["-c", f"touch {flag}"]}}  # fmt: skip
    config.write_text(json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "x", "users": [{"name": "u", "user": user}],
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
    }))  # fmt: skip
    for engine in ("kubernetes", "kubeflow"):
        connection = {"kubeconfig": str(config), "context": "x"}
        received.is_running(engine, connection, f"{engine}://ns/name/1/folder", namespace="ns")
        look(received)
        assert not flag.exists(), engine


def test_commands_of_a_tunnel_are_not_run(received: Received) -> None:
    flag, folder = received.top / "executed", received.top / "bin"
    folder.mkdir()
    (folder / "ssh").write_text(
        '#!/bin/sh\ncase " $* " in *" -O "*) exit 0;; esac\nfor a; do :; done\nexec sh -c "$a"\n'
    )
    for name in ("squeue", "sacct", "scancel", "sbatch"):
        (folder / name).write_text(f"#!/bin/sh\ntouch {flag}\n")
    for path in folder.iterdir():
        path.chmod(0o755)
    ssh = {"kind": "ssh", "host": "login.example.org", "user": "me", "port": None, "identity": None, "shell": None,
           "pre_command": f"touch {flag}"}  # fmt: skip
    local = {"kind": "local", "shell": None, "pre_command": f"touch {flag}"}
    path = f"{folder}:{received.env()['PATH']}"
    for tunnel in (ssh, local):
        for handle in ("slurm://123/x/attempts/1", "slurm://--me/x/attempts/1"):
            connection = {"tunnel": tunnel}
            received.is_running("slurm", connection, handle, folder="/x", member=0, members=1, leader="/x")
            look(received, PATH=path)
            received.nemorun("experiment", "cancel", "got", PATH=path)
            assert not flag.exists(), (tunnel["kind"], handle)


@pytest.fixture
def service() -> Iterator[tuple[str, list[str]]]:
    """A service of the sender, and what it is told."""
    heard: list[str] = []

    class Service(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
            heard.append(f"{self.headers.get('authorization')} {body}")
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"accessToken": "t", "expiresIn": 100}')

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", heard
        server.shutdown()


def test_no_credentials_go_to_an_address_of_the_sender(received: Received, service: tuple[str, list[str]]) -> None:
    url, heard = service
    own = {"base_url": url, "kube_apiserver_url": "", "client_id": "theirs", "project_name": "p"}
    for engine, connection, handle in (
        ("dgxcloud", own, f"dgxcloud://kind/nr-mark-a-1{received.folder}/job/attempts/1"),
        ("lepton", {"workspace": "mine", "url": url, "origin": ""},
         f"lepton://nr-mark-a-1{received.folder}/job/attempts/1"),
    ):  # fmt: skip
        received.is_running(engine, connection, handle)
        look(received, DGXCLOUD_CLIENT_SECRET="s", LEPTON_WORKSPACE_ID="mine", LEPTON_WORKSPACE_TOKEN="s")
        assert heard == [], engine


def test_no_connection_is_opened_to_an_address_of_the_sender(received: Received) -> None:
    folder, log = received.top / "bin", received.top / "ssh.log"
    folder.mkdir()
    (folder / "ssh").write_text(f'#!/bin/sh\necho "$@" >> {log}\nexit 255\n')
    (folder / "ssh").chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        for host in ("ssh://theirs.example.org", f"tcp://127.0.0.1:{listener.getsockname()[1]}"):
            received.is_running("docker", {"host": host}, f"docker://n{received.folder}/job/attempts/1")
            look(received, PATH=f"{folder}:{received.env()['PATH']}")
            assert not log.exists()
            with pytest.raises(BlockingIOError):
                listener.accept()


def test_the_state_last_stored_is_shown_with_a_note(received: Received) -> None:
    received.is_running("local", {}, f"local://{received.folder}/job/attempts/1")
    (row,) = json.loads(received.nemorun("experiment", "list", "--json").stdout)
    assert (row["state"], row["received"], row["problem"]) == ("RUNNING", True, "received: not asked")
    status = json.loads(received.nemorun("experiment", "status", "--json").stdout)
    assert status["received"] is True
    assert status["jobs"]["job"]["status"] == "RUNNING"
    assert status["jobs"]["job"]["reason"] == "received: not asked"
    said = received.nemorun("experiment", "status")
    assert "received: not asked" in said.stdout
    assert f"nemorun experiment adopt {received.id}" in said.stderr
    assert "received: not asked" in received.nemorun("experiment", "list").stdout


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [("summary.json", "counts", "x"), ("summary.json", "state", []), ("summary.json", "ended", 1e308),
     ("summary.json", "counts", {"x": 1}), ("summary.json", "gpu_seconds", 10**400), ("summary.json", "seconds", "x"),
     ("job/artifacts.json", "sha256", {}), ("job/artifacts.json", "size", "x")],
)  # fmt: skip
def test_a_value_of_another_type_is_told_in_one_line(name: str, field: str, value: object, received: Received) -> None:
    received.edit(name, lambda doc: (doc[0] if isinstance(doc, list) else doc).update({field: value}))
    looks = (["list"], ["list", "--json"]) if name == "summary.json" else (["artifacts", "got"],)
    for words in looks:
        done = received.nemorun("experiment", *words)
        assert "Traceback" not in done.stderr, words
        assert name in done.stdout + done.stderr, words


@pytest.mark.parametrize(
    "entry",
    [{"handle": "x", "started": 1, "ended": "abc"}, {"handle": "x", "started": [], "ended": 2},
     {"handle": "x", "started": 1, "ended": 10**400}, {"handle": 1}, "x"],
)  # fmt: skip
def test_an_odd_earlier_attempt_takes_no_list_away(entry: object, received: Received) -> None:
    (received.folder / "summary.json").unlink()
    received.edit("job/state.json", lambda doc: doc["tasks"][0].update(history=[entry]))
    for words in (["list"], ["list", "--json"], ["status", received.id], ["status", received.id, "--json"]):
        done = received.nemorun("experiment", *words)
        assert "Traceback" not in done.stderr, words
        assert "UNKNOWN" in done.stdout, words


@pytest.mark.parametrize("gpus", [10**400, -1])
def test_an_odd_number_of_gpus_takes_no_list_away(gpus: int, received: Received) -> None:
    (received.folder / "summary.json").unlink()
    received.edit("experiment.json", lambda doc: doc["jobs"][0]["tasks"][0].update(gpus=gpus))
    done = received.nemorun("experiment", "list")
    assert "Traceback" not in done.stderr
    assert "experiment.json" in done.stdout + done.stderr


def test_acting_is_refused_and_says_how_to_adopt(received: Received) -> None:
    received.is_running("local", {}, f"local://{received.folder}/job/attempts/1")
    before = {path: path.stat().st_mtime_ns for path in received.folder.rglob("*")}
    for words in (["cancel"], ["resume"], ["rerun"], ["attach"], ["forward"]):
        more = ["job", "service"] if words == ["forward"] else []
        done = received.nemorun("experiment", *words, received.id, *more)
        assert done.returncode != 0
        assert f"nemorun experiment adopt {received.id}" in done.stderr, words
    assert {path: path.stat().st_mtime_ns for path in received.folder.rglob("*")} == before
