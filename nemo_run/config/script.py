"""A task that is a script rather than a Python function."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from nemo_run.config.home import RUNDIR_NAME, SCRIPTS_DIR
from nemo_run.config.masking import unveiled
from nemo_run.config.mixin import ConfigurableMixin
from nemo_run.errors import ScriptError

if TYPE_CHECKING:
    from nemo_run.config.buildable import Config

T = TypeVar("T")

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SHELLS = {"bash", "sh", "dash", "ksh", "zsh"}


@dataclass
class Script(ConfigurableMixin):
    """A script to run: a file (``path``) or its text (``inline``).

    It describes a program; creating it looks at no file. Whether the file is there is judged at the launch, by where
    the task runs: on this machine it must exist; where code is packaged, it must be in the package; an absolute path
    belongs to the container or the cluster. ``remote=True`` looks for nothing.

    Nothing is expanded or re-quoted: every argument reaches the script byte for byte.

    Attributes:
        path: The script's file, or the module's name where ``m`` is set.
        inline: The script's text. Where both are given, this is what runs.
        args: Arguments for the script.
        env: Environment variables for the script.
        entrypoint: The program that runs the script, with its own options; split into words as a shell would.
        m: Run the module ``path`` with ``python -m``.
        metadata: Notes of your own.
        working_dir: The folder to run in; empty: what the executor says.
        remote: The file is on the machine that runs the task; it is not looked for here.

    Example:
        >>> import nemo_run as run
        >>> run.Script(inline='echo "$1"', args=["a b"]).argv("/tmp/hello.sh")
        ['bash', '/tmp/hello.sh', 'a b']
    """

    __module__ = "nemo_run.config"

    path: str = ""
    inline: str = ""
    args: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    entrypoint: str = "bash"
    m: bool = False
    metadata: dict[str, Any] = field(default_factory=dict)
    working_dir: str = ""
    remote: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        self.path = _text("path", _given(self.path, ""))
        self.inline = _text("inline", _given(self.inline, ""))
        self.entrypoint = _text("entrypoint", self.entrypoint)
        self.working_dir = _text("working_dir", _given(self.working_dir, ""))
        self.args = _checked_args(_given(self.args, []))
        self.env = _checked_env(_given(self.env, {}))
        self.metadata = _given(self.metadata, {})
        self._check_source()
        self._check_entrypoint()

    def __repr__(self) -> str:
        shown = ", ".join(f"{part.name}={getattr(self, part.name)!r}" for part in fields(self))
        return unveiled(f"{type(self).__qualname__}({shown})", vars(self))

    def _check_source(self) -> None:
        if not self.path and not self.inline:
            raise ScriptError("a Script needs either path= (a file) or inline= (its text); neither was given")

    def _check_entrypoint(self) -> None:
        try:
            words = shlex.split(self.entrypoint)
        except ValueError as error:
            raise ScriptError(f"entrypoint={self.entrypoint!r} cannot be split into words: {error}") from error
        if not words:
            raise ScriptError('entrypoint is empty; give the program that runs the script, e.g. entrypoint="bash"')
        if self.m and "python" not in self.entrypoint:
            raise ScriptError(
                f"m=True is `python -m`, but entrypoint is {self.entrypoint!r}; "
                f'give entrypoint="python", or leave out m=True'
            )

    def get_name(self) -> str:
        """Return a name for the task: the file's, or the beginning of the text."""
        if self.inline:
            return re.sub("[^0-9a-zA-Z]+", "_", self.inline.strip()[:10])
        return os.path.basename(self.path)  # noqa: PTH119  # as typed: a module name or another machine's path

    def argv(self, inline_path: str = "") -> list[str]:
        """Return the command as a list for exec; no shell takes part in it.

        Args:
            inline_path: The file that the text of an inline script has been written to.
        """
        program = shlex.split(self.entrypoint)
        if self.inline:
            if not inline_path:
                raise ScriptError("an inline script runs from a file; say which: argv(inline_path)")
            return [*program, inline_path, *self.args]
        return [*program, *self._path_words(), *self.args]

    def to_command(
        self,
        with_entrypoint: bool = False,
        filename: str | None = None,
        is_local: bool = False,
        substitute_rundir_path: str | None = None,
    ) -> list[str]:
        """Return the command as a list of words, unquoted; join them with :func:`shlex.join` for a shell.

        Args:
            with_entrypoint: Put the entrypoint before it.
            filename: Write an inline script to this file, executable, and run that.
            is_local: Name the file as it is here, rather than as the job sees it (``/nemo_run/scripts/NAME``).
            substitute_rundir_path: What to write for ``/nemo_run`` in an inline script, for jobs without a container.
        """
        program = shlex.split(self.entrypoint) if with_entrypoint else []
        if not self.inline:
            return [*program, *self._path_words(), *self.args]
        if not filename:
            return [*program, "-c", self.inline, *self._inline_args()]
        text = self.inline
        if substitute_rundir_path is not None:
            text = text.replace(f"/{RUNDIR_NAME}", substitute_rundir_path)
        _write_executable(Path(filename), text, shlex.split(self.entrypoint))
        where = filename if is_local else f"/{RUNDIR_NAME}/{SCRIPTS_DIR}/{Path(filename).name}"
        return [*program, where, *self.args]

    def to_config(self) -> Config[Script]:
        """Return a :class:`nemo_run.Config` of it; the file is not looked for again when that is built."""
        config = super().to_config()
        if self.path:
            config.remote = True
        return config

    def _path_words(self) -> list[str]:
        return ["-m", self.path] if self.m else [self.path]

    def _inline_args(self) -> list[str]:
        """Return the arguments after ``-c TEXT``, where a shell takes the first word for its own name."""
        program = shlex.split(self.entrypoint)[0].rpartition("/")[2]
        return [program, *self.args] if self.args and program in _SHELLS else self.args


def _given(value: T | None, otherwise: T) -> T:
    """Return a field's value; what it is when left out where that is None."""
    return otherwise if value is None else value


def _text(name: str, value: object) -> str:
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str):
        raise ScriptError(f"{name} must be a str, got {_short(value)} of type {type(value).__name__}")
    if "\0" in value:
        raise ScriptError(f"{name} contains a NUL character, which no command can carry: {_short(value)}")
    return value


def _checked_args(args: object) -> list[str]:
    if not isinstance(args, (list, tuple)):
        raise ScriptError(f"args must be a list of str, got {_short(args)} of type {type(args).__name__}")
    return [_text(f"args[{i}]", arg) for i, arg in enumerate(args)]


def _checked_env(env: object) -> dict[str, str]:
    if not isinstance(env, dict):
        raise ScriptError(f"env must be a dict of str to str, got {_short(env)} of type {type(env).__name__}")
    for name in env:
        if not isinstance(name, str) or not _ENV_NAME.fullmatch(name):
            raise ScriptError(
                f"env has {name!r}, which is not a name for an environment variable: "
                f"letters, digits and _, and no digit first"
            )
    return {name: _text(f"env[{name!r}]", value) for name, value in env.items()}


def _write_executable(file: Path, text: str, program: list[str]) -> None:
    if not text.startswith("#!"):
        text = f"#!/usr/bin/env -S {shlex.join(program)}\n{text}"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8", errors="surrogateescape", newline="")
    file.chmod(file.stat().st_mode | 0o755)


def _short(value: object, limit: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}…"
