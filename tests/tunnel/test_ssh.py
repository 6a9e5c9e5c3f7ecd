"""What only SSH has: host keys, identities, one connection for all, and its loss."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nemo_run.core.tunnel.client import SSHTunnel
from nemo_run.errors import ExecutorError, TunnelError
from tests.services.sshd import Sshd
from tests.support import eventually

pytestmark = pytest.mark.needs("sshd")


@pytest.fixture(autouse=True)
def no_connections(server: Sshd, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test starts without connections."""
    runtime = server.folder / f"r{len(list(server.folder.iterdir()))}"  # the names of sockets have to be short
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    yield
    for socket in (runtime / "nemo-run").glob("*"):
        if socket.is_socket():
            subprocess.run(
                ["ssh", "-O", "exit", f"-oControlPath={socket}", "cluster"], capture_output=True, check=False
            )


def _runtime() -> Path:
    return Path(os.environ["XDG_RUNTIME_DIR"], "nemo-run")


def test_one_connection_for_all(server: Sshd, ssh: SSHTunnel) -> None:
    shell = "echo $PPID"  # the process of the server that serves the connection
    first = ssh.run(shell).stdout
    assert SSHTunnel(host="cluster", user="", job_dir="/other").run(shell).stdout == first
    another_process = (
        "from nemo_run.core.tunnel.client import SSHTunnel\n"
        f"print(SSHTunnel(host='cluster', user='', job_dir='').run({shell!r}).stdout, end='')"
    )
    assert subprocess.check_output([sys.executable, "-c", another_process], text=True) == first
    ssh.cleanup()
    assert not ssh.is_connected
    assert ssh.run(shell).stdout != first


def test_sockets_are_private(ssh: SSHTunnel) -> None:
    ssh.connect()
    assert stat.S_IMODE(_runtime().stat().st_mode) == 0o700
    assert any(path.is_socket() for path in _runtime().iterdir())


def test_a_folder_that_others_can_enter_is_refused(ssh: SSHTunnel) -> None:
    _runtime().mkdir()
    _runtime().chmod(0o755)
    with pytest.raises(ExecutorError, match="only you can enter"):
        ssh.connect()
    _runtime().chmod(0o700)


def test_unknown_host_key_stops(server: Sshd, ssh: SSHTunnel) -> None:
    server.known_hosts.write_text("")
    try:
        with pytest.raises(TunnelError, match=r"(?s)Host key.*accept it once in a terminal"):
            ssh.run("true")
        assert server.known_hosts.read_text() == ""
    finally:
        server.trust_host()
    assert ssh.run("true").ok


def test_changed_host_key_stops(server: Sshd, ssh: SSHTunnel) -> None:
    Sshd.make_key(server.folder / "other_key")
    other = (server.folder / "other_key.pub").read_text()
    server.known_hosts.write_text(f"[{server.host}]:{server.port} {other}")
    try:
        with pytest.raises(TunnelError, match="REMOTE HOST IDENTIFICATION HAS CHANGED"):
            ssh.run("true")
    finally:
        server.trust_host()


def test_wrong_key_is_explained(server: Sshd, tmp_path: Path) -> None:
    Sshd.make_key(tmp_path / "wrong")
    tunnel = SSHTunnel(
        host=server.host, port=server.port, user=server.users[0], identity=str(tmp_path / "wrong"), job_dir=""
    )
    with pytest.raises(TunnelError, match=r"(?s)Permission denied.*set identity="):
        tunnel.connect()


def test_identity_with_tilde(server: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(server.folder))
    tunnel = SSHTunnel(host=server.host, port=server.port, user=server.users[0], identity="~/id_ed25519", job_dir="")
    assert tunnel.run("echo $LOGNAME").stdout.strip() == server.users[0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"host": "-oProxyCommand=touch pwned"}, "cannot be the name of a host"),
        ({"host": ""}, "host is empty"),
        ({"host": "a b"}, "cannot be the name of a host"),
        ({"host": "a", "user": "-x"}, "cannot be the name of a user"),
        ({"host": "a", "identity": "/no/key"}, "no key file '/no/key'"),
    ],
)
def test_bad_addresses(server: Sshd, fields: dict[str, str], message: str) -> None:
    with pytest.raises(ExecutorError, match=message):
        SSHTunnel(**{"user": "", "job_dir": "", **fields}).connect()


def test_nobody_there(server: Sshd) -> None:
    with pytest.raises(TunnelError, match=r"(?s)Connection refused.*ssh -v"):
        SSHTunnel(host="127.0.0.1", port=1, user="", job_dir="").run("true")


def test_pre_command_and_shell(server: Sshd) -> None:
    tunnel = SSHTunnel(
        host="cluster", user="", job_dir="", shell="/bin/bash", pre_command="export X='a  b'; shopt -s extglob"
    )
    assert tunnel.run('echo "$X" $0; shopt -q extglob').stdout == "a  b /bin/bash\n"


def test_lost_connection(server: Sshd, ssh: SSHTunnel) -> None:
    process = ssh.start("echo on; cat")
    assert process.stdout is not None
    assert process.stdout.read(3) == b"on\n"
    server.kill()
    try:
        eventually(lambda: process.poll() is not None)
        with pytest.raises(TunnelError, match="Connection refused"):
            ssh.run("true")
    finally:
        server.start()
    assert ssh.run("echo again").stdout == "again\n"
    process.communicate()


def test_lost_while_a_command_runs(server: Sshd, ssh: SSHTunnel) -> None:
    with pytest.raises(TunnelError, match="lost"):
        ssh.run("kill -9 $PPID")
    assert ssh.run("echo again").stdout == "again\n"


def test_forward_survives_a_lost_connection(server: Sshd, ssh: SSHTunnel) -> None:
    with ssh.forward(server.port, host=server.host) as port:  # the server itself, as something that answers
        server.kill()
        server.start()
        ssh.connect()
        banner = f"exec 3<>/dev/tcp/127.0.0.1/{port}; head -c 4 <&3"
        assert subprocess.check_output(["bash", "-c", banner]) == b"SSH-"


def test_a_forward_comes_back_when_another_process_opens_the_connection_again(server: Sshd, ssh: SSHTunnel) -> None:
    with ssh.forward(server.port, host=server.host) as port:
        server.kill()
        server.start()
        opening = "SSHTunnel(host='cluster', user='', job_dir='').connect()"
        another_process = f"from nemo_run.core.tunnel.client import SSHTunnel\n{opening}"
        subprocess.run([sys.executable, "-c", another_process], check=True)
        banner = f"exec 3<>/dev/tcp/127.0.0.1/{port}; head -c 4 <&3"
        assert subprocess.check_output(["bash", "-c", banner]) == b"SSH-"
    assert [path.name for path in _runtime().iterdir() if path.suffix == ".forward"] == []


def test_a_forward_of_a_process_that_is_gone_is_forgotten(server: Sshd, ssh: SSHTunnel) -> None:
    dying_process = (
        "import os\nfrom nemo_run.core.tunnel.client import SSHTunnel\n"
        f"with SSHTunnel(host='cluster', user='', job_dir='').forward({server.port}, host={server.host!r}):\n"
        "    os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", dying_process], check=True)
    (note,) = _runtime().glob("*.forward")
    ssh.cleanup()
    ssh.connect()
    assert not note.exists()


def test_started_command_ends_with_its_input(ssh: SSHTunnel) -> None:
    process = ssh.start("cat; echo end")
    assert process.communicate(b"data")[0] == b"dataend\n"


def test_closing_ends_nothing_that_others_run_over_the_connection(server: Sshd, ssh: SSHTunnel, tmp_path: Path) -> None:
    go = tmp_path / "go"
    os.mkfifo(go)
    server_process = ssh.run("echo $PPID").stdout.strip()
    with subprocess.Popen(ssh.argv(f"echo begun; cat {go}; echo ended"), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        ssh.cleanup()
        assert not ssh.is_connected
        assert ssh.run("echo meanwhile").stdout == "meanwhile\n"  # over a new connection
        go.write_text("word\n")
        assert process.stdout.read() == "word\nended\n"
    assert process.returncode == 0
    assert ssh.run("echo $PPID").stdout.strip() != server_process
    eventually(lambda: not Path("/proc", server_process).exists(), "the old connection is closed")
