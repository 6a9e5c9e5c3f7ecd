"""What every tunnel does, on this machine and through SSH."""

from __future__ import annotations

import os
import shlex
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from nemo_run.core.tunnel.answers import posix
from nemo_run.core.tunnel.client import Callback, LocalTunnel, PackagingJob, Tunnel, make_tunnel
from nemo_run.errors import CommandError, ExecutorError, TunnelError
from nemo_run.testing import HOSTILE


def test_result(tunnel: Tunnel) -> None:
    result = tunnel.run("echo out; echo err >&2; exit 3", warn=True)
    assert (result.stdout, result.stderr, result.exited, result.return_code) == ("out\n", "err\n", 3, 3)
    assert not result.ok
    assert result.failed
    assert not result
    assert result.command == "echo out; echo err >&2; exit 3"
    assert tunnel.run("true").ok


def test_failure_says_what_and_where(tunnel: Tunnel) -> None:
    with pytest.raises(CommandError, match=r"(?s)exit code 7 of: .*\nnothing here") as caught:
        tunnel.run("echo nothing here >&2; exit 7")
    assert caught.value.result.exited == 7


def test_exit_code_255_is_the_commands_own(tunnel: Tunnel) -> None:
    assert tunnel.run("exit 255", warn=True).exited == 255


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE.keys())
def test_values_arrive_byte_for_byte(tunnel: Tunnel, value: str) -> None:
    assert tunnel.run(f"printf %s {shlex.quote(value)}").stdout == value
    assert tunnel.run('printf %s "$X"', env={"X": value}).stdout == value
    assert tunnel.run(posix('printf %s "$1"', value)).stdout == value


@pytest.mark.parametrize(
    "name", ["A;touch done;B", "A=$(touch done)", "A\ntouch done\nB", "`touch done`", "A B", "1A", "-x", "é", "A\n", ""]
)
def test_what_cannot_be_the_name_of_a_variable_is_refused_and_never_run(
    name: str, tunnel: Tunnel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ExecutorError, match="cannot be the name of a variable"):
        tunnel.run("touch done", env={"GOOD": "x", name: "y"})
    assert not Path("done").exists()


def test_shown_as_it_comes(tunnel: Tunnel, capfd: pytest.CaptureFixture[str]) -> None:
    result = tunnel.run("echo seen; echo too >&2", hide=False, echo=True)
    shown = capfd.readouterr()
    assert shown.out == "echo seen; echo too >&2\nseen\n"
    assert shown.err == "too\n"
    assert result.stdout == "seen\n"


def test_execute_is_binary(tunnel: Tunnel) -> None:
    data = os.urandom(300_000)
    assert tunnel.execute("cat", data) == data


def test_timeout(tunnel: Tunnel) -> None:
    with pytest.raises(TunnelError, match=r"no answer within 0\.2 s"):
        tunnel.run("sleep 5", timeout=0.2)


def test_unknown_option(tunnel: Tunnel) -> None:
    with pytest.raises(ExecutorError, match="no option hides"):
        tunnel.run("true", hides=True)


def test_put_and_get_a_file(tunnel: Tunnel, tmp_path: Path) -> None:
    data = os.urandom(200_000)
    source = tmp_path / "a file"
    source.write_bytes(data)
    source.chmod(0o700)
    there = tmp_path / "there" / "it's $(new)"
    tunnel.put(str(source), str(there))
    assert there.read_bytes() == data
    assert stat.S_IMODE(there.stat().st_mode) == 0o700
    assert stat.S_IMODE(there.parent.stat().st_mode) == 0o700
    tunnel.get(str(there), str(tmp_path / "back" / "again"))
    assert (tmp_path / "back" / "again").read_bytes() == data
    assert [path.name for path in there.parent.iterdir()] == [there.name]


def test_put_and_get_a_folder(tunnel: Tunnel, tmp_path: Path) -> None:
    source = tmp_path / "tree"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "x").write_text("x")
    (source / "link").symlink_to("sub/x")
    tunnel.put(str(source), str(tmp_path / "there"))
    assert (tmp_path / "there" / "link").read_text() == "x"
    assert (tmp_path / "there" / "link").is_symlink()
    (tmp_path / "into").mkdir()
    tunnel.get(str(tmp_path / "there"), str(tmp_path / "into"))
    assert (tmp_path / "into" / "there" / "sub" / "x").read_text() == "x"


def test_a_copy_whose_links_lead_out_fails_and_leaves_nothing(tunnel: Tunnel, tmp_path: Path) -> None:
    source = tmp_path / "tree"
    source.mkdir()
    (source / "link").symlink_to("../../elsewhere")
    with pytest.raises(CommandError, match="leads out"):
        tunnel.get(str(source), str(tmp_path / "back"))
    assert [path.name for path in tmp_path.iterdir()] == ["tree"]


def test_into_an_existing_folder(tunnel: Tunnel, tmp_path: Path) -> None:
    (tmp_path / "one").write_text("1")
    (tmp_path / "box").mkdir()
    tunnel.put(str(tmp_path / "one"), str(tmp_path / "box"))
    assert (tmp_path / "box" / "one").read_text() == "1"


def test_copies_that_fail_leave_nothing(tunnel: Tunnel, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="no-such-file"):
        tunnel.get(str(tmp_path / "no-such-file"), str(tmp_path / "x"))
    with pytest.raises(ExecutorError, match="there is no"):
        tunnel.put(str(tmp_path / "nothing"), str(tmp_path / "x"))
    (tmp_path / "file").write_text("")
    with pytest.raises(CommandError, match="the copy failed"):
        tunnel.put(str(tmp_path / "file"), str(tmp_path / "file" / "below"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_setup_makes_the_folder(tunnel: Tunnel, tmp_path: Path) -> None:
    tunnel.job_dir = str(tmp_path / "a b" / "$(touch pwned)")
    tunnel.setup()
    assert stat.S_IMODE(Path(tunnel.job_dir).stat().st_mode) == 0o700


@pytest.fixture
def echo_port() -> Iterator[int]:
    """A service that answers with what it is told, in capitals."""
    with socket.create_server(("127.0.0.1", 0)) as service:

        def serve() -> None:
            while True:
                try:
                    client, _ = service.accept()
                except OSError:
                    return
                with client:
                    client.sendall(client.recv(100).upper())

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield service.getsockname()[1]
        service.shutdown(socket.SHUT_RDWR)
        thread.join()


def _ask(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(b"hello")
        return client.recv(100)


def test_forward(tunnel: Tunnel, echo_port: int) -> None:
    with tunnel.forward(echo_port) as port:
        assert port != echo_port
        assert _ask(port) == b"HELLO"
        assert _ask(port) == b"HELLO"
    with pytest.raises(ConnectionRefusedError):
        _ask(port)


def test_forward_to_a_host_there(tunnel: Tunnel, echo_port: int) -> None:
    with tunnel.forward(echo_port, host="127.0.0.1") as port:
        assert _ask(port) == b"HELLO"


def test_keep_alive_runs_callbacks(tunnel: Tunnel) -> None:
    seen: list[str] = []

    class Count(Callback):
        def on_start(self) -> None:
            seen.append(f"start {self.tunnel.key}")

        def on_interval(self) -> None:
            seen.append("interval")
            if len(seen) > 2:
                raise ValueError("enough")

        def on_error(self, error: Exception) -> None:
            seen.append(str(error))

        def on_stop(self) -> None:
            seen.append("stop")

    tunnel.keep_alive(Count(), interval=0)
    assert seen == [f"start {tunnel.key}", "interval", "interval", "enough", "stop"]


def test_connection_makes_the_same_tunnel(tunnel: Tunnel) -> None:
    assert make_tunnel(tunnel.connection(), job_dir=tunnel.job_dir) == tunnel


def test_a_tunnel_is_configurable(tunnel: Tunnel) -> None:
    assert tunnel.to_config().build() == tunnel


def test_this_machine_needs_no_options() -> None:
    assert LocalTunnel() == LocalTunnel(job_dir="")
    assert LocalTunnel().run("echo hello").stdout == "hello\n"


def test_link_command_is_quoted() -> None:
    job = PackagingJob(symlink=True, src_path="/a $(b)", dst_path="/c")
    assert job.symlink_cmd() == "ln -s -- '/a $(b)' /c"


def test_local_port_in_use(echo_port: int) -> None:
    with (
        pytest.raises(TunnelError, match="cannot be forwarded"),
        LocalTunnel(job_dir="").forward(1, local_port=echo_port),
    ):
        pass
