"""Archives that anybody may have made, given to ``nemorun experiment import``: nothing outside, no bomb."""

from __future__ import annotations

import gzip
import io
import json
import os
import resource
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.errors import ExperimentError, PackagingError
from nemo_run.run.receiving import receive

ID = "a_20260101_000000_12345678"
DEFINITION = json.dumps({"id": ID, "title": "a", "created": 1.0, "jobs": []}).encode()
_MEMORY = 1 << 30
_LONG = "././@LongLink"


def header(name: str, kind: bytes = b"0", size: bytes | int = 0) -> bytes:
    """Return the header of a member, with any size that its field can say."""
    entry = tarfile.TarInfo(name)
    entry.type = kind
    block = bytearray(entry.tobuf(tarfile.GNU_FORMAT, errors="surrogateescape"))
    block[124:136] = size if isinstance(size, bytes) else b"%011o\0" % size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def member(name: str, content: bytes = b"x", kind: bytes = b"0") -> bytes:
    return header(name, kind, len(content)) + content + bytes(-len(content) % 512)


def link(name: str, target: str, kind: bytes) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry.tobuf(tarfile.GNU_FORMAT)


FIRST = member(f"{ID}/experiment.json", DEFINITION)
_SPARSE = b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n"
REFUSED = {
    "a link": FIRST + link(f"{ID}/l", "/etc", b"2"),
    "a link above all": link(ID, "/tmp", b"2") + FIRST,
    "a hard link": FIRST + link(f"{ID}/l", "/etc/passwd", b"1"),
    "a pipe": FIRST + header(f"{ID}/p", b"6"),
    "a device": FIRST + header(f"{ID}/d", b"3"),
    "a contiguous file": FIRST + header(f"{ID}/d", b"7"),
    "an absolute name": FIRST + member("/evil"),
    "a name that leads out": FIRST + member(f"{ID}/../../evil"),
    "a long name that leads out": FIRST + member(_LONG, b"x/" * 100 + b"../" * 200 + b"evil", b"L") + member("y"),
    "a file twice": FIRST + member(f"{ID}/experiment.json", DEFINITION),
    "a file and a folder": FIRST + member(f"{ID}/a") + member(f"{ID}/a/b"),
    "a folder and a file": FIRST + member(f"{ID}/a/b") + member(f"{ID}/a"),
    "a name that no file system takes": FIRST + member(_LONG, b"x" * 5000, b"L") + member("y"),
    "very many folders": FIRST + member(_LONG, b"x/" * 2000 + b"y", b"L") + member("y"),
    "a file in place of the definition": member(f"{ID}/experiment.json/x"),
    "another id": FIRST.replace(b"12345678/", b"87654321/", 1),
    "two experiments": FIRST + member("other/experiment.json"),
    "an id that is hidden": member(".a/experiment.json", DEFINITION.replace(ID.encode(), b".a")),
    "an id that is no UTF-8": member("\udcff/experiment.json", DEFINITION),
    "a size below zero": FIRST + header(f"{ID}/a", size=b"\xff" * 10 + b"\xfc\x00"),
    "a size without end": FIRST + header(f"{ID}/a", size=b"\x80" + b"\x7f" * 11),
    "a size that is no number": FIRST + header(f"{ID}/a", size=b"abcdefgh\0\0\0\0"),
    "a sparse file": FIRST + header(f"{ID}/a", b"S", 512) + bytes(512),
    "headers of another kind": FIRST + member("x", _SPARSE, b"x") + member(f"{ID}/s", b"99999999999\n0\n0\n"),
    "headers for all": member("x", b"16 path=/x/evil\n", b"g") + FIRST,
    "an end that is missing": FIRST + header(f"{ID}/a", size=100_000) + b"x",
    "nothing": b"",
    "noise": bytes(range(256)) * 40,
}  # fmt: skip


@pytest.fixture
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a home, and nothing else."""
    found = tmp_path / "top"
    found.mkdir()
    monkeypatch.setenv("NEMORUN_HOME", str(found / "home"))
    return found


def take(top: Path, archive: bytes) -> Path:
    (top / "got.tar.gz").write_bytes(archive)
    return receive(top / "got.tar.gz").path


def taken(top: Path) -> subprocess.CompletedProcess[str]:
    """Import an archive in a process that gets little memory and little time."""
    return subprocess.run(
        [sys.executable, "-m", "nemo_run", "experiment", "import", "got.tar.gz"],
        cwd=top, env={**os.environ, "NO_COLOR": "1"}, stdin=subprocess.DEVNULL,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY)),
        capture_output=True, text=True, errors="replace", timeout=120, check=False,
    )  # fmt: skip


def files(top: Path) -> set[str]:
    return {str(path.relative_to(top)) for path in top.rglob("*") if path.name not in ("got.tar.gz", ".gitignore")}


def must_be_refused(top: Path) -> None:
    done = taken(top)
    assert (done.returncode, done.stdout) == (1, ""), done
    assert "Traceback" not in done.stderr, done.stderr
    assert "too much for an archive" in done.stderr or "export never writes" in done.stderr, done.stderr
    assert files(top) <= {"home", "home/experiments"}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_export_writes_is_refused_and_leaves_nothing(name: str, top: Path) -> None:
    with pytest.raises(run.NemoRunError):
        take(top, gzip.compress(REFUSED[name] + bytes(1024)))
    assert files(top) <= {"home", "home/experiments"}
    assert not os.path.lexists("/evil")


def test_a_refusal_is_told_without_a_traceback(top: Path) -> None:
    (top / "got.tar.gz").write_bytes(gzip.compress(REFUSED["a device"] + bytes(1024)))
    must_be_refused(top)


@pytest.mark.parametrize("kind", [b"L", b"K", b"x", b"g", b"0"], ids=repr)
def test_a_small_file_that_unpacks_to_much_takes_no_memory_and_no_disk(kind: bytes, top: Path) -> None:
    with gzip.open(top / "got.tar.gz", "wb", 1) as file:
        file.write(FIRST + header(_LONG, kind, 3 << 30))
        for _ in range(16):
            file.write(bytes(1 << 20))
    must_be_refused(top)


@pytest.mark.parametrize("name", ["xz", "bz2"])
def test_other_compressions_which_may_ask_for_any_memory_are_not_tried(name: str, top: Path) -> None:
    import bz2
    import lzma

    pack: Callable[[bytes], bytes] = lzma.compress if name == "xz" else bz2.compress
    with pytest.raises(PackagingError):
        take(top, pack(FIRST + bytes(1024)))


@pytest.mark.parametrize("name", ["mark.json", "mark.json/x", "controller.lock", "controller.lock/a/b"])
def test_the_mark_of_somebody_else_is_dropped_whatever_it_is(name: str, top: Path) -> None:
    folder = take(top, gzip.compress(FIRST + member(f"{ID}/{name}", b'{"mac": "x"}') + bytes(1024)))
    assert {path.name for path in folder.iterdir()} == {"experiment.json"}


def test_odd_names_are_taken_in_for_their_owner_only(top: Path) -> None:
    archive = FIRST + member(f"{ID}/\udcff\udcfe") + member(f"{ID}/\x1b[31m") + header(f"{ID}/empty/", b"5")
    folder = take(top, gzip.compress(archive + bytes(1024)))
    assert {path.name for path in folder.iterdir()} == {"experiment.json", "\udcff\udcfe", "\x1b[31m", "empty"}
    assert {path.stat().st_mode & 0o7077 for path in folder.rglob("*")} == {0}


def test_one_that_is_here_already_stays_as_it_is(top: Path) -> None:
    archive = gzip.compress(FIRST + bytes(1024))
    folder = take(top, archive)
    (folder / "own").write_text("own")
    with pytest.raises(ExperimentError, match="here already"):
        take(top, archive)
    with pytest.raises(ExperimentError, match="here already"):  # the same id, with another title
        take(top, gzip.compress(FIRST.replace(b'"title": "a"', b'"title": "b"') + bytes(1024)))
    assert (folder / "own").read_text() == "own"
    folder.rename(top / "away")
    folder.symlink_to(top / "nowhere")
    with pytest.raises(ExperimentError, match="here already"):
        take(top, archive)


def test_whatever_tarfile_writes_without_extensions_is_taken_in(top: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", format=tarfile.USTAR_FORMAT) as tar:
        for name in (f"./{ID}/experiment.json", f"./{ID}/{'d' * 90}/{'e' * 90}"):
            entry = tarfile.TarInfo(name)
            entry.size = len(DEFINITION)
            tar.addfile(entry, io.BytesIO(DEFINITION))
    assert (take(top, out.getvalue()) / ("d" * 90) / ("e" * 90)).is_file()
