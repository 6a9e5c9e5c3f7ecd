"""Commands that every login shell understands, and answers that can be told from what else such a shell prints.

A login shell may be any: ``bash``, ``tcsh``, ``fish``, …  What it starts with (``~/.bashrc``, ``~/.cshrc``) may print,
and leave something behind that prints later.  So a command stands in words that mean the same in all of them, and its
answer stands between two marks that nobody else knows.
"""

from __future__ import annotations

import re
import secrets
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO

from nemo_run.errors import ExecutorError

_PLAIN = re.compile(r"[^A-Za-z0-9 \"#$&()*+,./:;<=>?@\[\]^_`{|}~-]")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WORD = 900  # characters; some shells take no long words
_SHELL = "/bin/bash --norc -c"  # it keeps exported functions, such as `module`, for what it starts; dash does not
_LONGEST_NOISE = 1 << 20


def posix(script: str, *args: str, program: str = "/bin/sh") -> str:
    r"""Return the command that runs a POSIX shell script with arguments.

    >>> print(posix('echo "$1"', "a b"))
    /bin/sh -c 'echo "$1"' sh 'a b'
    """
    return shlex.join([program, "-c", script, "sh", *args])


def anywhere(command: str) -> str:
    r"""Return the command of a POSIX shell in words that mean the same to any shell.

    >>> print(anywhere("echo 'it works!'"))
    /bin/bash --norc -c 'eval "$(printf %b "$@")"' sh 'echo \0047it works\0041\0047'
    """
    text = _PLAIN.sub(lambda found: "".join(f"\\0{byte:03o}" for byte in _bytes(found[0])), command)
    words = re.findall(rf"(?:\\0\d\d\d|[^\\]){{1,{_WORD}}}", text)
    return f"""{_SHELL} 'eval "$(printf %b "$@")"' sh {" ".join(f"'{word}'" for word in words)}"""


def export(env: Mapping[str, str]) -> str:
    r"""Return the shell command that sets variables. Values are quoted; a name cannot be, so it is checked.

    >>> export({"A": "x y", "_b2": ""})
    "export A='x y' _b2=''"
    """
    for name in env:
        if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
            raise ExecutorError(
                f"Tunnel.run(env=...): {name!r} cannot be the name of a variable; use letters, digits and '_', "
                "and begin with no digit"
            )
    return f"export {' '.join(f'{name}={shlex.quote(value)}' for name, value in env.items())}"


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class AnswerFrame:
    """The two marks around an answer.

    Attributes:
        mark: What only we know.
    """

    mark: str = field(default_factory=lambda: secrets.token_hex(8))

    def begun(self, command: str) -> str:
        """Return the command, with the first mark before its answer."""
        return f"printf '%s<\\n' {self.mark}; {command}"

    def around(self, command: str) -> str:
        """Return the command, with both marks around its answer; its exit code is in the second."""
        return self.begun(f"{command}\nprintf '\\n%s>%s\\n' {self.mark} $?")

    def has_begun(self, said: bytes) -> bool:
        """Return whether the command was run at all."""
        return f"{self.mark}<\n".encode() in said

    def answer(self, said: bytes) -> tuple[bytes, int] | None:
        r"""Return the answer and the exit code in all that was said; ``None`` where it was cut off.

        >>> AnswerFrame("x").answer(b"Welcome!\nx<\n7 S 12\n\nx>3\nBye!\n")
        (b'7 S 12\n', 3)
        >>> AnswerFrame("x").answer(b"x<\n7 S 1")
        """
        _, begun, rest = said.partition(f"{self.mark}<\n".encode())
        data, ended, code = rest.rpartition(f"\n{self.mark}>".encode())
        number = re.match(rb"(\d+)\n", code)
        return (data, int(number[1])) if begun and ended and number else None

    def skip(self, pipe: IO[bytes]) -> bool:
        """Read a pipe up to the answer, and return whether there is one."""
        wanted, said = f"{self.mark}<\n".encode(), bytearray()
        while not said.endswith(wanted):
            byte = pipe.read(1)
            if not byte or len(said) > _LONGEST_NOISE:
                return False
            said += byte
        return True
