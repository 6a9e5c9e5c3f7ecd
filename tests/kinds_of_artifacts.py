"""All kinds of things that a task may leave among its artifacts, and what is to become of each, on every engine."""

from __future__ import annotations

import re
from typing import Any

import nemo_run as run

ARRIVES, PASSED_OVER = "arrives", "passed over"
"""A file; a link to something that arrives. Whatever else is expected of a kind is the reason for which it is named."""

KINDS: dict[str, tuple[str, str]] = {
    "file": ("write('file')", ARRIVES),
    "deep/er/file": ("os.makedirs('deep/er'); write('deep/er/file')", ARRIVES),
    "a name with 'quotes'": ("""write("a name with 'quotes'")""", ARRIVES),
    "latin-\udcff": ("write(b'latin-\\xff')", ARRIVES),
    "link to a file": ("os.symlink('file', 'link to a file')", PASSED_OVER),
    "link to a folder": ("os.symlink('deep/er', 'link to a folder')", PASSED_OVER),
    "absolute link": ("os.symlink(top + '/file', 'absolute link')", PASSED_OVER),
    "deep/link up": ("os.symlink('../file', 'deep/link up')", PASSED_OVER),
    "link out": ("os.symlink('/etc/passwd', 'link out')", "a link that leads out of the folder"),
    "climbing link": ("os.symlink('../../x', 'climbing link')", "a link that leads out of the folder"),
    "dangling link": ("os.symlink('nothing', 'dangling link')", "a link to nothing"),
    "circle": ("os.symlink('circle', 'circle')", "a link in a circle"),
    "pipe": ("os.mkfifo('pipe')", "a pipe"),
    "socket": ("socket.socket(socket.AF_UNIX).bind('socket')", "a socket"),
    "locked": ("write('locked'); os.chmod('locked', 0)", "Permission denied"),
}
"""By name: how it is made, and what is to become of it."""

_MAKE = """
import os, socket
top = os.environ["NEMO_RUN_ARTIFACTS"]
os.chdir(top)
def write(name):
    with open(name, "w") as file:
        file.write("kept")
"""


def leaving_everything() -> run.Script:
    """A task that leaves one of each kind."""
    lines = "\n".join(make for make, _ in KINDS.values())
    return run.Script(inline=_MAKE + lines + "\n", entrypoint="python3")


def check(exp: run.Experiment, job: str, *, as_root: bool) -> None:
    """Check that what can be collected of such a task has arrived, and the rest is named in its status.

    Args:
        exp: The experiment.
        job: The job.
        as_root: Whether its files are collected by root, who may read all of them.
    """
    status: Any = exp.results()[job]
    assert (status.state.name, status.exit_code) == ("SUCCEEDED", 0), status.reason
    expected = {name: ARRIVES if as_root and name == "locked" else end for name, (_, end) in KINDS.items()}
    named = dict(re.findall(r"""(?:'([^']+)'|"[^"]+") \(([^)]+)\)""", status.reason))
    arrived = {artifact.path for artifact in exp.artifacts(job)}
    found = {name: ARRIVES if name in arrived else named.get(name, PASSED_OVER) for name in KINDS}
    assert found == expected, status.reason
    assert not arrived - KINDS.keys()
    assert all((exp.directory / job / "artifacts" / name).read_text() == "kept" for name in arrived if name != "locked")
