"""Random changes of the files of experiments, and every way to look at them; run as a process of its own.

    python -m tests.trust.fuzz FOLDER FIRST COUNT [SECONDS]

FOLDER has ``received`` and ``own``, two homes with an experiment ``got`` and another one, ``other``, which stays as it
is. For each of COUNT seeds from FIRST on, one file of ``got`` is changed, everything is looked at, and the file is put
back. What went wrong is printed, one line each. An audit hook records what this process does: it starts no process,
opens no connection, loads no pickle, opens no canary, and writes nothing.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import signal
import socket
import stat
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from nemo_run.config.escaping import escaped

ACTS = (
    "subprocess.Popen", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "os.system", "os.kill",
    "os.killpg", "socket.connect", "socket.sendto", "socket.getaddrinfo", "pickle.find_class",
)  # fmt: skip
CHANGES = (
    "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.symlink", "os.link", "os.chmod", "os.chown", "os.truncate",
)  # fmt: skip
_WRITING = ("export", "--copy-to", "--to-yaml")  # words of commands that write where they are told
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CANARY = "canary"
_OWN_WORDS = "as asked"  # of the exception that a task of the experiment ends with
_HANDLES = {
    "docker": "docker://n{job}/attempts/1", "slurm": "slurm://--me{job}/attempts/1", "local": "local:///../../etc",
    "kubernetes": "kubernetes://ns/name/1/folder", "kubeflow": "kubeflow://ns/name/1/folder",
    "lepton": "lepton://nr-mark-a-1{job}/attempts/1", "dgxcloud": "dgxcloud://kind/nr-mark-a-1{job}/attempts/1",
    "skypilot": "skypilot://c/1{job}/attempts/1", "skypilot_jobs": "skypilot_jobs://c/1{job}/attempts/1",
    "nosuch": "nosuch://x",
}  # fmt: skip


class Record:
    """What this process does while it looks."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.is_on = False
        self.may_write = False
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.is_on:
            return
        if event in ACTS or (event in CHANGES and not self.may_write and "__pycache__" not in str(arguments)):
            self.found.append(f"{event}{arguments!r:.200}")
        elif event == "open":
            path, _, flags = arguments
            if _CANARY in str(path) or (isinstance(flags, int) and flags & _WRITES and not self.may_write):
                self._opened(str(path), flags)

    def _opened(self, path: str, flags: int) -> None:
        if path in ("/dev/null", "/dev/tty") or "__pycache__" in path:
            return
        self.found.append(f"open {path} {flags:#x}")

    @contextlib.contextmanager
    def on(self, *, may_write: bool) -> Iterator[None]:
        self.is_on, self.may_write = True, may_write
        try:
            yield
        finally:
            self.is_on = False


# --- changes -------------------------------------------------------------------------------------------------------


def hostile(rng: random.Random, top: Path, port: int) -> Any:
    """Return a value that a file should not have."""
    return rng.choice([
        None, True, -1, 0, 1e308, float("nan"), float("inf"), 10**400, "", "x" * 100_000,
        [], {}, [[]], {"": None}, [None],
        "../" * 8 + f"{top}/{_CANARY}", f"{top}/{_CANARY}", "/dev/zero", "\x1b[31m\x9b\u202e", "\udc80", "\0",
        "slurm://--me/x", f"local://{top}/{_CANARY}", f"http://127.0.0.1:{port}", f"tcp://127.0.0.1:{port}",
        {"_target_": "os.system", "command": f"touch {top}/executed"},
        {"kind": "ssh", "host": "127.0.0.1", "port": port},
        "RUNNING", "NOSUCH", -(10**30), "got", "job", "%s%n{0}", "\n",
        {"tunnel": {"kind": "local", "shell": "touch x"}}, {"$": "object", "type": "os:system", "fields": {"a": 1}},
        nested(190), nested(900), {"tasks": nested(300)}, [{}], [[1, 2]], 1e11, 2**63, -1e-300, "9" * 5000, "nan",
        {"$": "int", "value": "f" * 9000}, {"$": "array", "npy": "AAAA"}, {"$": "enum", "type": "\x1b:a", "name": []},
    ])  # fmt: skip


def nested(depth: int) -> Any:
    """Return a list in a list, so many of them."""
    value: Any = "deep"
    for _ in range(depth):
        value = [value]
    return value


def places(document: Any) -> list[tuple[Any, Any]]:
    """Return every place in a document: its container, and the key there."""
    found, left = [], [document]
    while left:
        one = left.pop()
        pairs = list(one.items()) if isinstance(one, dict) else list(enumerate(one)) if isinstance(one, list) else []
        found += [(one, key) for key, _ in pairs]
        left += [value for _, value in reversed(pairs)]
    return found


def change_value(path: Path, rng: random.Random, top: Path, port: int) -> str:
    """Change values of a JSON file."""
    document = json.loads(path.read_bytes())
    told: list[str] = []
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        if not (found := places(document)):
            break
        container, key = rng.choice(found)
        if rng.random() < 0.15:
            del container[key]
            told.append(f"without {key!r}")
        elif isinstance(key, str) and rng.random() < 0.15:
            name = rng.choice(
                ("\x1b[31m\x9b\u202e", "", "\udc80", "__class__", "__float__", "$", "type_name", "x" * 5000)
            )
            container[name] = container.pop(key)
            told.append(f"{name!r:.30} for {key!r}")
        else:
            container[key] = hostile(rng, top, port)
            told.append(f"{key!r}={container[key]!r:.60}")
    path.write_text(json.dumps(document), errors="surrogateescape")
    return ", ".join(told)


def change_bytes(path: Path, rng: random.Random, _top: Path, _port: int) -> str:
    """Change, cut or repeat bytes."""
    data = bytearray(path.read_bytes())
    kind = rng.choice(("flip", "cut", "twice", "insert"))
    if kind == "flip" and data:
        for _ in range(rng.choice((1, 3, 50))):
            data[rng.randrange(len(data))] = rng.randrange(256)
    elif kind == "cut":
        del data[rng.randrange(len(data) + 1) :]
    elif kind == "twice":
        data = data * 2
    else:
        at = rng.randrange(len(data) + 1)
        data[at:at] = rng.randbytes(20)
    path.write_bytes(data)
    return kind


def change_all(path: Path, rng: random.Random, _top: Path, _port: int) -> str:
    """Put other content in its place."""
    data = rng.choice((
        b"", b"null", b"[]", b"{}", b"7", b'"x"', b"\xff\xfe\0", b"[" * 100_000, b'{"a":' * 50_000, b"9" * 10_000,
        b"\0" * 5000,
        b'{"tasks": [null]}', b'{"jobs": [[]]}', b'{"state": "X", "counts": [], "ended": "never"}', b"[1, 2, [3]]",
        b'{"format": 99, "id": "x"}', b"\x1b]0;title\x07\n" * 10,
    ))  # fmt: skip
    path.write_bytes(data)
    return f"{data!r:.40}"


def change_kind(path: Path, rng: random.Random, top: Path, _port: int) -> str:
    """Put something else than a file in its place."""
    kind = rng.choice(("gone", "folder", "fifo", "loop", "link", "zero", "dangling", "socket", "up"))
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        os.mknod(path, 0o600 | stat.S_IFSOCK)
    elif kind != "gone":
        target = {"loop": path.name, "link": f"{top}/{_CANARY}", "zero": "/dev/zero", "up": ".."}
        path.symlink_to(target.get(kind, "nowhere"))
    return kind


def say_running(folder: Path, rng: random.Random, port: int) -> str:
    """Let the files say that the job runs somewhere."""
    engine = rng.choice(list(_HANDLES))
    handle = _HANDLES[engine].format(job=folder / "job")
    url = f"http://127.0.0.1:{port}"
    connection = {
        "docker": {"host": f"tcp://127.0.0.1:{port}"}, "kubernetes": {"kubeconfig": str(folder / "kube.yaml")},
        "slurm": {"tunnel": {"kind": "local", "shell": None, "pre_command": "touch executed"}},
        "lepton": {"workspace": "mine", "url": url, "origin": ""}, "dgxcloud": {"base_url": url, "client_id": "x"},
    }.get(engine, {})  # fmt: skip
    for name, change in (
        ("state.json", lambda doc: doc["tasks"][0].update(state="RUNNING", exit_code=None, ended=None, handle=handle)),
        ("plan.json", lambda doc: doc.update(engine=engine, connection=connection)),
    ):
        document = json.loads((folder / "job" / name).read_text())
        change(document)
        (folder / "job" / name).write_text(json.dumps(document))
    for name in ("summary.json", "job/attempts/1/exit.json"):
        (folder / name).unlink(missing_ok=True)
    return engine


# --- looking -------------------------------------------------------------------------------------------------------


def looks(experiment_id: str, exports: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield every way to look at an experiment; what some of them write goes to a folder of its own."""
    import nemo_run as run
    from nemo_run.cli.app import nemorun
    from nemo_run.cli.commands.completing import experiments, jobs
    from nemo_run.cli.running import run_app

    def typed(*words: str) -> Callable[[], object]:
        def call() -> object:
            sys.argv = ["nemorun", "experiment", *words]
            return run_app(nemorun)

        return call

    one = experiment_id
    for words in (
        ["list"], ["list", "--json"], ["status", one], ["status", one, "--json"], ["logs", one, "--no-follow"],
        ["logs", one], ["logs", one, "job", "-n", "1", "--rank", "0"], ["artifacts", one], ["artifacts", one, "--json"],
        ["diff", one, "other"], ["diff", "other", one], ["prune", "--older-than", "0s", "--dryrun"],
        ["results", one], ["results", one, "--json"], ["show", one], ["show", one, "--json"],
        ["status", one, "--usage"], ["status", one, "--usage", "--json"], ["logs", one, "bad"], ["logs", one, "group"],
        ["diff", one, "other", "--json"], ["metrics", one], ["metrics", one, "--csv"], ["metrics", one, "--json"],
        ["metrics", one, "job", "--plot"], ["compare", one], ["compare", one, "--csv"], ["compare", one, "--json"],
        ["compare", "got", "-o", "loss"], ["list", "--where", "n > 1"], ["list", "-s", "failed", "-t", "paper"],
        ["status", one, "--all"], ["export", one, f"{exports}/one.tar.gz"],
        ["artifacts", one, "--copy-to", f"{exports}/copies"],
        ["compare", one, "--best", "--to-yaml", f"{exports}/best.yaml"],
    ):  # fmt: skip
        yield " ".join(words), typed(*words)
    yield "completion", lambda: (experiments(""), jobs(SimpleNamespace(params={"which": one}), ""))
    for name, look in {
        "status()": lambda exp: exp.status(return_dict=True), "jobs": lambda exp: repr(exp.jobs),
        "ids": lambda exp: [(job.id, job.state) for job in exp.jobs], "repr": repr,
        "results()": lambda exp: exp.results(),
        "artifacts()": lambda exp: exp.artifacts(), "result()": lambda exp: exp.result("job", timeout=0.1),
        "compare()": lambda exp: exp.compare(), "metrics()": lambda exp: repr(exp.metrics("job")),
        "job.result()": lambda exp: exp.jobs[0].result(timeout=0.1),
        "wait()": lambda exp: exp.wait(timeout=0.1),
        "page": of_pages,
    }.items():  # fmt: skip
        yield name, lambda look=look: look(run.Experiment.from_id(one))


def of_pages(exp: Any) -> None:
    """Look as ``nemorun ui`` and a notebook do; that what cannot be read is an error of ours is their affair."""
    from nemo_run.errors import NemoRunError
    from nemo_run.run import catalog
    from nemo_run.run.notebook import end_as_html
    from nemo_run.ui import exporting, reading
    from nemo_run.ui.listing import Listing

    store, listing = catalog.find(exp.id), Listing()
    others = [row for row in json.loads(reading.dumps(listing.rows())) if row["title"] == "other"]
    if [row["state"] for row in others] != ["SUCCEEDED"]:
        raise AssertionError("another experiment is hidden on the page")
    for row in listing.rows():
        listing.words(row["id"])
    for look in (
        reading.experiment, reading.outcomes, reading.metrics, reading.trials, reading.provenance,
        reading.artifact_list, exporting.documents_of, lambda one: reading.configuration(one, "job"),
        lambda one: [end_as_html(job, "FAILED", 1, str(found)) for job, found in reading.outcomes(one).items()],
        lambda one: reading.differences([one.id, listing.rows()[0]["id"]]),
        lambda one: str(reading.artifact_file(one, "job", "job", "a.txt")),
    ):  # fmt: skip
        try:
            print(ascii(reading.dumps(look(store))))
        except (NemoRunError, OSError, LookupError, ValueError):  # what the server answers with
            continue


class Hang(BaseException):
    """It took too long."""


def _too_long(*_: object) -> None:
    raise Hang


def looked(call: Callable[[], object], seconds: float) -> tuple[str, str]:
    """Return what was wrong with a look, and what it printed."""
    from nemo_run.errors import NemoRunError

    out, wrong = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace"), ""
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            call()
    except (SystemExit, NemoRunError):
        pass
    except Hang:
        wrong = f"no end after {seconds:g} s: {traceback.format_exc().splitlines()[-3:-1]}"
    except BaseException as e:  # noqa: BLE001  # what a user would see as a traceback
        last = traceback.extract_tb(e.__traceback__)[-1]
        wrong = f"{type(e).__name__}: {e!s:.100} in {last.filename}:{last.lineno}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    out.flush()
    said = out.buffer.getvalue().decode("utf-8", "replace")
    return wrong or ("Traceback" if "Traceback (most recent" in said and _OWN_WORDS not in said else ""), said


def tree(top: Path) -> dict[str, tuple[int, ...]]:
    """Return what is below a folder, less what is written on purpose, with what tells whether it was changed."""
    found = {}
    for path in top.rglob("*"):
        if not path.is_relative_to(top / "exports") and "__pycache__" not in path.parts:
            entry = path.lstat()
            found[str(path)] = (entry.st_mode, entry.st_size, entry.st_mtime_ns if path.is_file() else 0, entry.st_ino)
    return found


def problems_of(name: str, wrong: str, said: str, record: Record, *, own: bool) -> list[str]:
    """Return what was wrong with one look, and forget what was recorded of it."""
    if name.startswith("logs") and wrong == "Traceback":  # that of its task, which a change has cut
        wrong = ""
    if name == "list --json" and not wrong:
        rows = {row["id"]: row["state"] for row in json.loads(said or "[]")}
        if not any(one.startswith("other") and state == "SUCCEEDED" for one, state in rows.items()):
            wrong = "another experiment is hidden"
    found = [*filter(None, [wrong]), *dict.fromkeys(record.found)]
    record.found.clear()
    if "CANARY" in said:
        found.append("the canary is shown")
    own_log = own and name.startswith("logs")  # what one's own task wrote is shown as it is
    if not own_log and (acting := sorted({ascii(c) for c in said if escaped(c) != c})):
        found.append(f"acts on a terminal: {acting}")
    return found


def tried(seed: int, top: Path, port: int, record: Record, seconds: float) -> list[str]:
    """Change one file, look in every way, and put it back; return what was wrong."""
    rng, exports = random.Random(seed), top / "exports"
    home = top / rng.choice(("received", "received", "own"))
    os.environ["NEMORUN_HOME"] = str(home)
    folder = next((home / "experiments/got").glob("got_*"))
    shutil.copytree(folder, top / "kept", symlinks=True)
    told = say_running(folder, rng, port) + " " if rng.random() < 0.4 else ""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "controller.lock")
    path = rng.choice(files)
    change = rng.choice((change_value, change_value, change_value, change_bytes, change_all, change_kind))
    try:
        how = change(path, rng, top, port)
    except (ValueError, TypeError):  # it is no JSON
        how = change_bytes(path, rng, top, 0)
    before, found = tree(top), []
    for name, call in looks(folder.name, exports):
        with record.on(may_write=any(word in name.split() for word in _WRITING)):
            wrong, said = looked(call, seconds)
        found += [f"{name}: {one}" for one in problems_of(name, wrong, said, record, own=home.name == "own")]
    found += [f"changed: {entry}" for entry in sorted(set(tree(top).items()) ^ set(before.items()))]
    shutil.rmtree(exports)
    exports.mkdir()
    shutil.rmtree(folder)
    (top / "kept").rename(folder)
    return [f"seed {seed} ({told}{home.name} {path.relative_to(folder)}: {how}): {one}" for one in found]


def main() -> int:
    """Change and look."""
    top, first, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    seconds = float(sys.argv[4]) if len(sys.argv) > 4 else 5.0
    signal.signal(signal.SIGALRM, _too_long)
    (top / _CANARY).write_text("CANARY\n")
    os.environ.update(DGXCLOUD_CLIENT_SECRET="s", LEPTON_WORKSPACE_ID="mine", LEPTON_WORKSPACE_TOKEN="s")
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    os.environ["NEMORUN_HOME"] = str(top / "received")
    good = next((top / "received/experiments/got").glob("got_*"))
    (top / "exports").mkdir(exist_ok=True)
    for _, call in looks(good.name, top / "exports"):  # what is imported late is there
        looked(call, 60)
    record, bad = Record(), 0
    for seed in range(first, first + count):
        for problem in tried(seed, top, listener.getsockname()[1], record, seconds):
            bad += 1
            print(ascii(problem), flush=True)
    with contextlib.suppress(BlockingIOError):
        listener.accept()
        print("a connection was opened")
        bad += 1
    if (top / "executed").exists():
        print("a command was run")
        bad += 1
    print(f"{count} changes, {bad} problems")
    return bad > 0


if __name__ == "__main__":
    sys.exit(main())
