"""Writing archives and unpacking them: the same bytes, all or nothing, nowhere else."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import random
import resource
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from nemo_run.core.packaging import PatternPackager
from nemo_run.core.packaging.archive import LINK, Entry, extract, package_digest, read_archive, unpack, write_archive
from nemo_run.errors import PackagingError
from tests.packaging.conftest import content_of, names_in

ENTRIES = [
    Entry.file("a.py", b"a"),
    Entry.file("empty", b""),
    Entry.file("bin/run", b"#!", executable=True),
    Entry.file("x" * 100, b"100"),
    Entry.file("x" * 101, b"101"),
    Entry.file("d/" * 200 + "ünï\n", b"deep"),
    Entry.file(os.fsdecode(b"\xff"), b"not utf-8"),
    Entry("link", b"bin/run", 7, kind=LINK),
    Entry("l" * 150, b"t" * 150, 150, kind=LINK),
    Entry("pieces", iter([b"1", b"", b"23"]), 3),
]
CONTENT = {entry.name: entry.data.decode() for entry in ENTRIES[:7] if isinstance(entry.data, bytes)} | {
    "pieces": "123"
}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "jobs" / "code.tar.gz"
    write_archive([*ENTRIES[:-1], Entry("pieces", iter([b"1", b"", b"23"]), 3)], path)
    return path


def files_in(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file() and not p.is_symlink()}


def tar_of(path: Path, *members: tuple[str, bytes, str], mode: str = "w:gz") -> Path:
    """A tar with members of (name, type, content or target)."""
    with tarfile.open(path, mode) as tar:
        for name, kind, text in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            info.mode = 0o7777
            if kind == tarfile.REGTYPE:
                info.size = len(text)
            else:
                info.linkname = text
            tar.addfile(info, io.BytesIO(text.encode()))
    return path


# ---------------------------------------------------------------- writing


def test_every_tar_can_read_it(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "-xzf", archive, "-C", tmp_path / "out"], check=True, stderr=subprocess.PIPE)
    assert files_in(tmp_path / "out") == CONTENT
    subprocess.run(["gzip", "-t", archive], check=True)
    found = content_of(archive)
    assert {name: text for name, text in found.items() if not text.startswith("->")} == CONTENT
    assert found["l" * 150] == "-> " + "t" * 150
    with tarfile.open(archive, "r|gz") as stream:  # read while it arrives
        assert len(list(stream)) == len(ENTRIES)


def test_what_is_written_is_what_is_read(archive: Path) -> None:
    entries = {entry.name: entry for entry in read_archive(archive)}
    assert entries["bin/run"].executable
    assert not entries["a.py"].executable
    assert entries["link"] == ENTRIES[7]
    assert [entries[entry.name].size for entry in ENTRIES] == [entry.size for entry in ENTRIES]


def test_large_content_keeps_its_bytes_and_is_compressed_where_that_helps(tmp_path: Path) -> None:
    noise = random.Random(1).randbytes(3 << 20)
    text = b"import nemo_run as run\n" * 200_000
    sizes = {}
    for name, content in (("noise", noise), ("text", text), ("both", noise + text)):
        pieces = [content[start : start + 70_001] for start in range(0, len(content), 70_001)]
        write_archive([Entry(name, iter(pieces), len(content)), Entry.file("after", b"x")], tmp_path / name)
        with tarfile.open(tmp_path / name) as tar:
            file = tar.extractfile(name)
            assert file is not None
            assert file.read() == content
        sizes[name] = (tmp_path / name).stat().st_size
        write_archive([Entry(name, content, len(content)), Entry.file("after", b"x")], tmp_path / "again")
        assert package_digest(tmp_path / "again") == package_digest(tmp_path / name)
    assert sizes["noise"] < len(noise) * 1.01
    assert sizes["text"] < len(text) / 50
    assert sizes["both"] < sizes["noise"] + sizes["text"] * 10


def test_the_digest_tells_contents_apart(tmp_path: Path) -> None:
    digests = []
    for number, entry in enumerate(
        [Entry.file("a", b"1"), Entry.file("a", b"1"), Entry.file("a", b"2"), Entry.file("a", b"1", executable=True)]
    ):
        write_archive([entry], tmp_path / str(number))
        digests.append(package_digest(tmp_path / str(number)))
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3
    assert all(len(digest) == 64 for digest in digests)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (Entry("a", iter([b"12"]), 3), "'a' changed while it was packaged"),
        (Entry("a", iter([b"1234"]), 3), "'a' changed while it was packaged"),
        (Entry.file("/a", b""), "'/a' cannot be in a package"),
        (Entry.file("a/../../b", b""), "cannot be in a package"),
        (Entry.file("", b""), "cannot be in a package"),
    ],
)
def test_a_failure_leaves_nothing(tmp_path: Path, entry: Entry, message: str) -> None:
    with pytest.raises(PackagingError, match=message):
        write_archive([Entry.file("first", b""), entry], tmp_path / "code.tar.gz")
    assert not list(tmp_path.iterdir())


def test_a_failure_leaves_the_earlier_archive(archive: Path) -> None:
    before = archive.read_bytes()
    with pytest.raises(PackagingError):
        write_archive([Entry("a", iter([b"12"]), 3)], archive)
    assert archive.read_bytes() == before


def _package_with_little_space(folder: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))  # as a full disk
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with pytest.raises(PackagingError, match=r"code.tar.gz: the package cannot be written: File too large"):
        write_archive([Entry.file("a", random.Random(1).randbytes(4 << 20))], folder / "code.tar.gz")
    archive = folder / "big.tar.gz"
    with pytest.raises(PackagingError, match=r"out: cannot be unpacked there: .*File too large"):
        extract(archive, folder / "out")


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    write_archive([Entry.file("a", random.Random(1).randbytes(4 << 20))], tmp_path / "big.tar.gz")
    process = multiprocessing.get_context("spawn").Process(target=_package_with_little_space, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert names_in(tmp_path) == ["big.tar.gz"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PackagingError, match=r"file/job/x.tar.gz: the package cannot be written: Not a directory"):
        write_archive([Entry.file("a", b"")], tmp_path / "file" / "job" / "x.tar.gz")


# ---------------------------------------------------------------- unpacking


def test_extract(archive: Path, tmp_path: Path) -> None:
    dest = tmp_path / "deep" / "code"
    assert extract(str(archive), str(dest)) == dest
    assert files_in(dest) == CONTENT
    assert (dest / "link").readlink() == Path("bin/run")
    assert stat.S_IMODE((dest / "bin/run").stat().st_mode) == 0o755
    assert stat.S_IMODE((dest / "a.py").stat().st_mode) == 0o644
    assert names_in(dest.parent) == ["code"]


def test_extract_again_changes_nothing(archive: Path, tmp_path: Path) -> None:
    extract(archive, tmp_path / "code")
    (tmp_path / "code" / "a.py").write_text("edited by the job")
    extract(archive, tmp_path / "code")
    assert (tmp_path / "code" / "a.py").read_text() == "edited by the job"


def test_extract_into_an_empty_folder(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    assert files_in(extract(archive, tmp_path / "code")) == CONTENT


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_extract_any_tar(tmp_path: Path, mode: str) -> None:
    members = [
        (".", tarfile.DIRTYPE, ""),
        ("./d", tarfile.DIRTYPE, ""),
        ("./d/a", tarfile.REGTYPE, "a"),
        ("hard", tarfile.LNKTYPE, "./d/a"),
    ]
    extract(tar_of(tmp_path / "t", *members, mode=mode), tmp_path / "code")
    assert files_in(tmp_path / "code") == {"d/a": "a", "hard": "a"}
    assert (
        stat.S_IMODE((tmp_path / "code" / "d" / "a").stat().st_mode) == 0o755
    )  # neither setuid nor writable by others


def _extract(archive: Path, dest: Path) -> None:
    extract(archive, dest)


def test_several_processes_extract_at_once(archive: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_extract, args=(archive, tmp_path / "out" / "code")) for _ in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 6
    assert names_in(tmp_path / "out") == ["code"]
    assert files_in(tmp_path / "out" / "code") == CONTENT


FILE, SYM, HARD = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("../pwned", FILE, "x")], r"'\.\./pwned' would be written outside"),
        ([("a/../../pwned", FILE, "x")], "would be written outside"),
        ([("/tmp/pwned", FILE, "x")], "would be written outside"),
        ([("out", SYM, "../.."), ("out/pwned", FILE, "x")], "'out' is both a file and a link"),
        ([("out", SYM, "../.."), ("out/pwned", SYM, "x")], "'out/pwned' would be written through a link"),
        ([("link", SYM, "/etc/passwd")], "link 'link' leads out of the package, to '/etc/passwd'"),
        ([("a/link", SYM, "../../x")], "'a/link' leads out"),
        # each of the two is harmless by its letters
        ([("a/b/c/top", SYM, "../../.."), ("way", SYM, "a/b/c/top/../x")], "'way' leads out"),
        ([("hard", HARD, "/etc/passwd")], "'/etc/passwd' would be written outside"),
        ([("hard", HARD, "../../secret")], "would be written outside"),
        ([("hard", HARD, "none")], "cannot be unpacked"),
        ([("pipe", tarfile.FIFOTYPE, "")], "'pipe' is a device or a pipe"),
        ([("dev", tarfile.CHRTYPE, "")], "'dev' is a device or a pipe"),
        ([("a", FILE, "x"), ("a/b", FILE, "x")], "cannot be unpacked"),
    ],
)
def test_a_hostile_archive_unpacks_nothing(tmp_path: Path, members: list[tuple[str, bytes, str]], message: str) -> None:
    (tmp_path / "secret").write_text("secret")
    inner = tmp_path / "inner"
    inner.mkdir()
    archive = tar_of(inner / "bad.tar.gz", ("good", FILE, "x"), *members)
    with pytest.raises(PackagingError, match=message):
        extract(archive, inner / "code")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["bad.tar.gz", "inner", "secret"]


@pytest.mark.parametrize("damage", ["cut", "flipped", "text", "empty", "missing"])
def test_a_damaged_archive_unpacks_nothing(archive: Path, tmp_path: Path, damage: str) -> None:
    content = archive.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 255
    bad = tmp_path / "bad"
    bad.write_bytes(
        {
            "cut": content[: len(content) // 2],
            "flipped": bytes(flipped),
            "text": b"hello " * 1000,
            "empty": b"",
            "missing": b"",
        }[damage]
    )
    if damage == "missing":
        bad.unlink()
    with pytest.raises(PackagingError, match=r"bad"):
        extract(bad, tmp_path / "code")
    assert not list(tmp_path.glob("*code*"))


def test_a_package_survives_the_round_trip(archive: Path, tmp_path: Path) -> None:
    extract(archive, tmp_path / "code")
    again = PatternPackager(include=["**"]).package(tmp_path / "code", str(tmp_path), "again")
    extract(again, tmp_path / "code2")
    assert files_in(tmp_path / "code2") == CONTENT
    third = PatternPackager(include=["**"]).package(tmp_path / "code2", str(tmp_path), "third")
    assert package_digest(third) == package_digest(again)


# what was made elsewhere


def foreign(folder: Path, *members: tuple[str, bytes, str]) -> None:
    """Unpack what another machine may have sent: name, kind, and the target of a link or the content of a file."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, kind, text in members:
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.mtime = kind, 0o4777, 1_000_000_000
            info.linkname, info.size = (text, 0) if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ("", len(text))
            tar.addfile(info, io.BytesIO(text.encode()))
    stream.seek(0)
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        unpack(tar, folder, folder, foreign=True)


def test_a_foreign_file_keeps_its_time_and_no_right_that_others_could_use(tmp_path: Path) -> None:
    for _ in range(2):  # it may be fetched again
        foreign(tmp_path, ("d/x", tarfile.REGTYPE, "data"), ("d/link", tarfile.SYMTYPE, "x"))
    status = (tmp_path / "d/x").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime) == (0o755, 1_000_000_000)
    assert (tmp_path / "d/link").read_text() == "data"


@pytest.mark.parametrize("target", ["out", "/abs", "../../up", "d/../../out", "link/../.."])
def test_a_foreign_link_that_leads_out_is_not_left_behind(target: str, tmp_path: Path) -> None:
    folder, outside = tmp_path / "in", tmp_path / "out"
    for made in (folder, outside):
        made.mkdir()
    target = {"out": str(outside)}.get(target, target)
    with pytest.raises(PackagingError):
        foreign(folder, ("link", tarfile.SYMTYPE, "../out"), ("a/b", tarfile.SYMTYPE, target))
    assert not any(path.is_symlink() for path in folder.rglob("*"))


@pytest.mark.parametrize("name", ["link", "link/x", "link/d/x"])
def test_a_link_that_is_there_already_is_not_written_through(name: str, tmp_path: Path) -> None:
    folder, outside = tmp_path / "in", tmp_path / "out"
    for made in (folder, outside):
        made.mkdir()
    (outside / "x").write_text("mine")
    (folder / "link").symlink_to(outside if "/" in name else outside / "x")
    with contextlib.suppress(PackagingError):
        foreign(folder, (name, tarfile.REGTYPE, "theirs"))
    assert {path.name: path.read_text() for path in outside.iterdir()} == {"x": "mine"}


def test_a_foreign_member_that_is_both_a_file_and_a_link_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackagingError, match="both a file and a link"):
        foreign(tmp_path, ("x", tarfile.SYMTYPE, "y"), ("x", tarfile.REGTYPE, "data"))
