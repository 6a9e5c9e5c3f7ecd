"""All errors that this package raises on purpose.

Each is also of the built-in types that NeMo-Run raises in the same situation, so that programs written for it catch
what they expect.

::

    NemoRunError
    ├── ConfigError                 a configuration is wrong
    │   ├── ConfigTypeError         a value does not fit the annotation (also a TypeError)
    │   ├── UnknownFieldError       no such argument (also a TypeError and an AttributeError)
    │   ├── MissingArgumentError    a required argument has no value (also a TypeError)
    │   ├── UnsetArgumentError      an argument was read that has no value yet (also an AttributeError and a ValueError)
    │   ├── ConfigPathError         no such place in a configuration (also a ValueError)
    │   │   ├── UnknownPathError        a path to an unknown argument (also an UnknownFieldError)
    │   │   └── WrongTypeAtPathError    a value that does not fit at its path (also a ConfigTypeError)
    │   └── SerializationError      a value cannot be stored, or a stored one cannot be read
    ├── ScriptError                 a Script is wrong (also a ValueError, AssertionError)
    ├── ExecutorError               an executor is wrong or cannot be used here (also a RuntimeError, AssertionError)
    │   ├── ExecutorNotFoundError   no file of executors (also a LookupError, FileNotFoundError)
    │   ├── UnknownExecutorError    no executor of this name in it (also a LookupError, AttributeError)
    │   ├── LauncherError           no such launcher or template (also a ValueError, KeyError, FileNotFoundError)
    │   ├── EngineUnreachableError  an engine does not answer; jobs there may go on (also a ConnectionError)
    │   │   └── TunnelError         another machine cannot be reached
    │   ├── EngineFullError         an engine takes no more jobs now; it is asked again
    │   ├── ArtifactsLeftOutError   some of a task's artifacts could not be collected; the others were
    │   ├── MissingExtraError       a package is not installed; names the command (also an ImportError)
    │   └── CommandError            a command ended with an exit code other than 0
    ├── PackagingError              code could not be packaged, or unpacked (also a RuntimeError, ValueError,
    │                               AssertionError)
    ├── ExperimentError             an experiment is wrong
    │   ├── InvalidNameError        a title, id or job name that is not acceptable (also a ValueError, AssertionError)
    │   ├── InvalidJobError         what is added makes no job (also a TypeError, ValueError, AssertionError)
    │   ├── DependencyError         a cycle, or a name that no job has (also a ValueError, AssertionError)
    │   ├── ExperimentNotFoundError nothing with this id or title (also a LookupError, FileNotFoundError,
    │   │                           AssertionError)
    │   ├── JobNotFoundError        no such job in the experiment (also a LookupError)
    │   ├── ExperimentBusyError     another controller drives it
    │   ├── NestedLaunchError       a task tried to launch its own experiment
    │   ├── SweepError              a sweep has no points, or no end of them (also a ValueError)
    │   ├── ResultError             what a task returned cannot be had (also a ValueError)
    │   ├── JobTimeoutError         a job has not ended in the time that was given (also a TimeoutError)
    │   └── StoreError              a file of the store cannot be read or written (also an OSError)
    ├── CommandLineError            what was typed makes no sense (also a ValueError)
    │   └── OverrideError           an override such as model.size=3 cannot be read or applied
    └── JobFailedError              a job did not succeed
        └── RayJobFailedError       a job on a Ray cluster did not succeed

    UserWarning
    └── ConfigTypeWarning           a value does not fit the annotation, but may be meant
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_MOST_NAMED = 20  # artifacts of those that were left out
_LONGEST_MESSAGE = 300  # characters of an exception's message in one line


class NemoRunError(Exception):
    """Base of every error raised on purpose by this package."""


class ConfigError(NemoRunError):
    """A configuration is wrong."""


class ConfigTypeError(ConfigError, TypeError):
    """A value does not fit the annotation of the argument it is given for."""


class ConfigTypeWarning(UserWarning):
    """A value does not fit the annotation of its argument, but may be meant; see :func:`nemo_run.config.validation`."""


class UnknownFieldError(ConfigError, TypeError, AttributeError):
    """A configuration has no argument of this name."""


class MissingArgumentError(ConfigError, TypeError):
    """A required argument has no value."""


class UnsetArgumentError(ConfigError, AttributeError, ValueError):
    """An argument was read that has no value yet."""


class ConfigPathError(ConfigError, ValueError):
    """There is no such place in a configuration, or nothing can be put there."""


class UnknownPathError(UnknownFieldError, ConfigPathError):
    """A path leads to an argument that the configuration does not have."""


class WrongTypeAtPathError(ConfigTypeError, ConfigPathError):
    """A value does not fit the annotation of the argument at a path."""


class SerializationError(ConfigError):
    """A value cannot be stored, or a stored one cannot be read."""


class ScriptError(NemoRunError, ValueError, AssertionError):
    """A :class:`nemo_run.Script` is wrong."""


class ExecutorError(NemoRunError, RuntimeError, AssertionError):
    """An executor is wrong, or cannot be used here."""


class ExecutorNotFoundError(ExecutorError, LookupError, FileNotFoundError):
    """There is no file with executors."""


class UnknownExecutorError(ExecutorError, LookupError, AttributeError):
    """The file of executors has none of this name."""


class LauncherError(ExecutorError, ValueError, KeyError, FileNotFoundError):
    """There is no launcher of this name, or it has no template."""

    def __str__(self) -> str:
        return NemoRunError.__str__(self)  # that of KeyError is for keys


class EngineUnreachableError(ExecutorError, ConnectionError):
    """An engine does not answer. It says nothing of the jobs there: they may go on, and asking again may succeed."""


class MissingExtraError(ExecutorError, ImportError):
    """An optional package is not installed; the message names the command that installs it."""


class ArtifactsLeftOutError(ExecutorError):
    """All other artifacts of a task were collected; these were not.

    Attributes:
        left: What was left out, by its path in the folder of artifacts, and why.
    """

    def __init__(self, left: Mapping[str, str]) -> None:
        self.left = dict(left)
        named = [f"{name!r} ({why})" for name, why in sorted(left.items())]
        more = f", and {len(named) - _MOST_NAMED} more" if len(named) > _MOST_NAMED else ""
        super().__init__(f"these artifacts were left out: {', '.join(named[:_MOST_NAMED])}{more}; all others are there")


class EngineFullError(ExecutorError):
    """An engine takes no more jobs now, as a user may have so many only; the job was not submitted."""


class TunnelError(EngineUnreachableError):
    """Another machine cannot be reached."""


class CommandError(ExecutorError):
    """A command ended with an exit code other than 0.

    Attributes:
        result: Its result, with all that it said.
    """

    def __init__(self, message: str, result: object = None) -> None:
        self.result = result
        super().__init__(message)


class PackagingError(NemoRunError, RuntimeError, ValueError, AssertionError):
    """Code could not be packaged, or a package could not be unpacked."""


class ExperimentError(NemoRunError):
    """An experiment is wrong."""


class InvalidNameError(ExperimentError, ValueError, AssertionError):
    """A title, an id or a job name that is not acceptable."""


class InvalidJobError(ExperimentError, TypeError, ValueError, AssertionError):
    """What is added makes no job: it is no task, its executor is none, or a group has another number of them."""


class DependencyError(ExperimentError, ValueError, AssertionError):
    """A dependency cycle, or a dependency on a job that does not exist."""


class ExperimentNotFoundError(ExperimentError, LookupError, FileNotFoundError, AssertionError):
    """There is no experiment with this id or title."""


class JobNotFoundError(ExperimentError, LookupError):
    """The experiment has no such job."""


class ForeignExperimentError(ExperimentError):
    """The experiment was made by another program: it can be looked at, but not changed."""


class SweepError(ExperimentError, ValueError):
    """A sweep has no points, or no end of them."""


class ResultError(ExperimentError, ValueError):
    """What a task returned was too large, could not be stored, or is a pickle that was not asked for."""


class JobTimeoutError(ExperimentError, TimeoutError):
    """A job has not ended in the time that was given."""


class ReceivedExperimentError(ExperimentError):
    """This user has not launched the experiment on this home: it can be looked at, but not acted on until adopted."""


class ReceivedRecordError(NemoRunError):
    """This user has not written the record of a Ray cluster or job on this home: nothing that it names is asked."""


class ExperimentBusyError(ExperimentError):
    """Another controller drives this experiment."""


class NestedLaunchError(ExperimentError):
    """A task tried to launch the experiment that it is part of."""


class StoreError(ExperimentError, OSError):
    """A file of the experiment store cannot be read or written; the message names it."""


class CommandLineError(NemoRunError, ValueError):
    """What was typed on a command line makes no sense."""


class OverrideError(CommandLineError):
    """An override, such as ``model.size=3``, cannot be read or applied."""


@dataclass(frozen=True)
class Frame:
    """One line of a traceback.

    Attributes:
        file: The file.
        line: Number of the line, from 1.
        function: Name of the function.
        source: Text of the line; empty where it is not known.
        own: Whether the file belongs to no library.
    """

    file: str
    line: int
    function: str
    source: str = ""
    own: bool = True


@dataclass(frozen=True)
class TaskException:
    """The exception that ended a function task.

    Attributes:
        type: Name of its class, e.g. ``"ValueError"``.
        module: Module of its class.
        message: Its text.
        rank: Rank of the process that raised it first.
        notes: What was added with ``add_note``.
        frames: Its traceback, from the task's function to the line that raised it.
        traceback: The traceback as Python prints it.
    """

    type: str
    module: str
    message: str
    rank: int = 0
    notes: tuple[str, ...] = ()
    frames: tuple[Frame, ...] = ()
    traceback: str = ""

    def __str__(self) -> str:
        """Return it in one line: type, message, and the line of the user's code that it comes from."""
        first = self.message.strip().splitlines()[:1]
        message = first[0] if first else ""
        if len(message) > _LONGEST_MESSAGE:
            message = f"{message[:_LONGEST_MESSAGE]}…"
        own = [frame for frame in self.frames if frame.own] or list(self.frames)
        where = f", {own[-1].file.rpartition('/')[2]}:{own[-1].line}" if own else ""
        rank = f" (rank {self.rank})" if self.rank else ""
        return f"{self.type}{': ' if message else ''}{message}{where}{rank}"


class JobFailedError(NemoRunError):
    """A job did not succeed.

    Attributes:
        job_id: The job, as it is named in its experiment.
        experiment_id: The experiment.
        state: Name of the final state, e.g. ``"FAILED"``.
        exit_code: Exit code of the task, ``None`` where it never ran.
        reason: Why; may be empty.
        log_tail: The last lines of the job's log.
        exception: What a function raised, as data; ``None`` where that is not known.
    """

    exception: TaskException | None = None
    _what = "job {job!r} of experiment {experiment!r}"
    _logs = "nemorun experiment logs {experiment} {job}"

    def __init__(
        self,
        job_id: str,
        experiment_id: str,
        state: str,
        exit_code: int | None = None,
        reason: str = "",
        log_tail: Sequence[str] = (),
    ) -> None:
        self.job_id = job_id
        self.experiment_id = experiment_id
        self.state = state
        self.exit_code = exit_code
        self.reason = reason
        self.log_tail = list(log_tail)
        super().__init__(self._message())

    def _message(self) -> str:
        names = {"job": self.job_id, "experiment": self.experiment_id}
        code = "" if self.exit_code is None else f" with exit code {self.exit_code}"
        why = f": {self.reason}" if self.reason else ""
        text = f"{self._what.format(**names)} ended as {self.state}{code}{why}"
        if self.log_tail:
            text += "\nlast lines of its log:\n" + "\n".join(f"  {line}" for line in self.log_tail)
        return f"{text}\nsee all of it: {self._logs.format(**names)}"

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), (
            self.job_id, self.experiment_id, self.state, self.exit_code, self.reason, self.log_tail,
        )  # fmt: skip


class RayJobFailedError(JobFailedError):
    """A job on a Ray cluster did not succeed; ``experiment_id`` is the name of the cluster."""

    _what = "Ray job {job!r} on the cluster {experiment!r}"
    _logs = "nemorun ray logs {job}"
