"""The text of a Slurm job. Pure: from what is to be run to the files that run it.

A job consists of a batch script and, for every ``srun`` in it, a file with environment variables and a file with the
command.  So nothing that a user may give, be it a secret or a line end, stands in the batch script itself, which Slurm
stores.  Two things are not known yet when the text is made; zero bytes, which no value of a user can contain, stand for
them until :func:`complete` puts them in.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nemo_run.core.execution.shared.shell_words import word
from nemo_run.core.execution.slurm import lines
from nemo_run.core.execution.slurm.options import flag
from nemo_run.core.masking import masked, masked_arguments

ATTEMPT = "\0\0"
"""Stands for the number of the attempt."""

_IN_FILE_NAME = {"j": "SLURM_JOB_ID", "A": "SLURM_ARRAY_JOB_ID", "a": "SLURM_ARRAY_TASK_ID", "x": "SLURM_JOB_NAME"}
_FILE_NAME_PART = re.compile(r"%([A-Za-z%])|\$\{?(SLURM_[A-Z_]+)(?::-0)?\}?")

HEAD_NODE = "\0head_node_ip\0"
"""Stands, in a word of a command, for the address of the first node."""
NODE_RANK = "\0SLURM_NODEID\0"
"""Stands, in a word of a command, for the rank of the node that it runs on."""


EVALUATED = "\0$"
"""Begins, as a whole, the value of a variable that is a command to be run on the node."""


@dataclass(frozen=True)
class Step:
    """One ``srun``.

    Attributes:
        folder: The task's folder on the cluster.
        inside: The same folder as the task sees it.
        options: Options of ``srun``.
        argv: The command.
        env: Its environment variables.
        cwd: Its working directory, as the task sees it.
        log: Name of its log, with ``%j`` and ``${SLURM_RESTART_COUNT:-0}`` in it.
        ranks: How many processes it has; where there are several, their lines are labelled.
        error_log: Name of the log of its standard error, where that is not the same.
        code: Whether packaged code is its working directory.
        code_link: A folder on the cluster that is linked to as the code; empty for none.
        runner: Whether it needs the runner of function tasks.
        making: Options and command of the ``srun`` before it that makes its environment; empty for none.
    """

    folder: str
    inside: str
    options: Sequence[str]
    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str
    log: str
    ranks: int = 1
    error_log: str = ""
    code: bool = False
    code_link: str = ""
    runner: bool = False
    making: Sequence[str] = ()


@dataclass(frozen=True)
class Batch:
    """One job for ``sbatch``.

    Attributes:
        title: What it is, for those who read the script.
        components: Options of ``sbatch``; several sets for a heterogeneous job.
        steps: What it runs: one after the other is ready, at once where there are several.
        packages: Folder, on the cluster, of packages by their content.
        setup: Lines of shell that the user wants to run before.
        retries: How often it is put back into the queue after a failure.
        end_on: With several steps: what ends the others: the ``"failure"`` of one, ``"any"`` end, or ``"never"``.
        pause: With several steps: seconds between the starts of two.
        measure_memory: Log the memory of the GPUs first.
        array: Name of the job array that it may be an element of; empty where it is none.
    """

    title: str
    components: Sequence[Mapping[str, Any]]
    steps: Sequence[Step]
    packages: str = ""
    setup: str = ""
    retries: int = 0
    end_on: str = "failure"
    pause: float = 0
    measure_memory: bool = False
    array: str = ""


# --- file names -----------------------------------------------------------------------------------------------------


def file_name(pattern: str) -> str:
    """Return a file name with Slurm's placeholders, as a word of a shell in a job.

    >>> file_name("/a b/log_%j_${SLURM_RESTART_COUNT:-0}.out")
    "'/a b/log_'${SLURM_JOB_ID:-0}_${SLURM_RESTART_COUNT:-0}.out"
    """
    words, end = [], 0
    for match in _FILE_NAME_PART.finditer(pattern):
        words.append(pattern[end : match.start()])
        variable = match[2] or _IN_FILE_NAME.get(match[1], "")
        words.append(f"${{{variable}:-0}}" if variable else {"%": "%", "t": "0"}.get(match[1], match[0]))
        end = match.end()
    words.append(pattern[end:])
    return "".join(text if text.startswith("${") else shlex.quote(text) for text in words if text)


# --- files ---------------------------------------------------------------------------------------------------------


def environment_file(step: Step) -> str:
    """Return the shell file that sets the variables of a step."""
    env = {**step.env, "NEMO_RUN_ATTEMPT": ATTEMPT}
    text = "".join(f"export {name}={_value(value)}\n" for name, value in env.items())
    return text + lines.REQUEUED if "NEMO_RUN_RESTART" in env else text


def _value(text: str) -> str:
    return f'"{text.removeprefix(EVALUATED)}"' if text.startswith(EVALUATED) else word(text)


def task_file(step: Step) -> str:
    """Return the shell file that runs the command of a step."""
    one_log = "" if step.error_log else "exec 2>&1  # srun would not keep the order of the two streams\n"
    return f"{one_log}cd -- {word(step.cwd)} || exit\nexec {' '.join(map(word, step.argv))}\n"


def complete(text: str, attempt: int, code: str, runner: str) -> str:
    """Return the text with what is known now put in.

    Args:
        text: What a function of this module returned.
        attempt: Number of the attempt.
        code: Digest of the packaged code.
        runner: File name of the bundled runner.
    """
    return text.replace(ATTEMPT, str(attempt)).replace("\0code\0", code).replace("\0runner\0", runner)


def job_files(batch: Batch) -> dict[str, str]:
    """Return the files of a job by their paths; the first is the one for ``sbatch``."""
    first = f"{batch.steps[0].folder}/attempts/{ATTEMPT}"
    files = {f"{first}/job.sh": batch_script(batch), f"{first}/steps.sh": steps_script(batch)}
    if batch.setup:
        files[f"{first}/setup.sh"] = batch.setup.replace("\r\n", "\n") + "\n"
    for step in batch.steps:
        folder = f"{step.folder}/attempts/{ATTEMPT}"
        files |= {f"{folder}/environment.sh": environment_file(step), f"{folder}/task.sh": task_file(step)}
    return files


def describe(batch: Batch) -> str:
    """Return all files of a job, to be read; secrets are masked."""
    hidden = [
        Step(**{**vars(step), "env": masked(step.env), "argv": masked_arguments(step.argv)}) for step in batch.steps
    ]
    (_, first), *others = job_files(replace(batch, steps=hidden)).items()
    return complete(
        "\n".join([first, *(f"# {path}\n{text}" for path, text in others)]), 1, "CODE", "runner.zip"
    ).rstrip("\n")


def batch_script(batch: Batch) -> str:
    """Return the batch script of a job."""
    first = batch.steps[0]
    parts = [
        "#!/bin/bash",
        "\n#SBATCH hetjob\n".join(
            "\n".join(flag(name, value) for name, value in options.items()) for options in batch.components
        ),
        f"\n# {batch.title}\n",
        f"__nr_attempt={_attempt(first)}",
        lines.IDS,
        *_element(batch),
        lines.CLAIM,
        _open_log(first),
        'exec 3>&1 >> "$__nr_log" 2>&1  # what srun itself has to say is left to the file of sbatch',
        lines.WHY,
        lines.HEAD_NODE,
        *(f"export het_group_host_{i}={_first_host(f'SLURM_JOB_NODELIST_HET_GROUP_{i}')}" for i in _het(batch)),
        *_packages(batch),
        lines.RUN.replace("SIGNALS", " ".join(_signals(batch))),
        lines.NODES if "NEMO_RUN_RESTART" in first.env else "",
        lines.RETRY.replace("RETRIES", str(batch.retries)) if batch.retries else "",
        lines.END,
    ]
    return _joined(parts)


def steps_script(batch: Batch) -> str:
    """Return what a job runs when the user's own lines have been run."""
    first, several = batch.steps[0], len(batch.steps) > 1
    parts = [
        f"__nr_attempt={_attempt(first)}\n__nr_log={file_name(first.log)}",
        "__nr_srun=$(command -v srun)  # whatever PATH the task has",
        lines.JOB + lines.WHY if several else "",
        "srun --ntasks=1 --ntasks-per-node=1 --overlap nvidia-smi" if batch.measure_memory else "",
        *(_several(batch) if several else [_run(first)]),
    ]
    return _joined(parts)


def _joined(parts: Iterable[str]) -> str:
    return "\n".join(part.strip("\n") for part in parts if part) + "\n"


def _signals(batch: Batch) -> list[str]:
    """Return the signals that the batch script passes on to the tasks: the usual ones, and what Slurm is to send it."""
    asked = re.match(r"[RB]*B[RB]*:(?:SIG)?(\w+)", str(batch.components[0].get("signal", "")))
    return list(dict.fromkeys(["USR1", "USR2", *(asked.groups() if asked else ())]))


def _element(batch: Batch) -> Iterable[str]:
    """Yield lines that make an element of an array as if it had been submitted by itself."""
    if batch.array:
        options = batch.components[0]
        error = f"2>> {file_name(str(options['error']))}" if "error" in options else "2>&1"
        output = f">> {file_name(str(options['output']))} {error}"
        yield lines.ELEMENT.replace("FOLDER", shlex.quote(str(options["chdir"]))).replace("OUTPUT", output)


def array_script(batch: Batch, folder: str, size: int) -> str:
    """Return the script of an array of jobs with the options of one of them.

    Args:
        batch: One of them.
        folder: Folder of the script, and of the list of what its elements run.
        size: How many there are.
    """
    own = {"job_name": batch.array, "output": f"{folder}/array.out", "chdir": folder, "array": f"0-{size - 1}"}
    options = {**{name: value for name, value in batch.components[0].items() if name != "error"}, **own}
    parts = [
        "#!/bin/bash",
        "\n".join(flag(name, value) for name, value in options.items()),
        lines.ARRAY.replace("LIST", shlex.quote(f"{folder}/array")),
    ]
    return _joined(parts)


def _attempt(step: Step) -> str:
    return shlex.quote(f"{step.folder}/attempts/{ATTEMPT}")


def _het(batch: Batch) -> range:
    return range(len(batch.components) if len(batch.components) > 1 else 0)


def _first_host(variable: str) -> str:
    return f'$(scontrol show hostnames "${variable}" | head -n 1)'


def _open_log(step: Step) -> str:
    """Return lines that create the log, readable by its owner only, and link it into the attempt's folder."""
    return lines.OPEN_LOG.replace("RANKS", str(step.ranks)).replace("LOG", file_name(step.log)).strip("\n")


def _packages(batch: Batch) -> Iterable[str]:
    """Yield lines that give every task its copy of the packaged code, and the runner, in its own folder."""
    if any(step.code or step.runner for step in batch.steps):
        yield f"__nr_packages={shlex.quote(batch.packages)}\n__nr_{lines.SUM}"
    for step in batch.steps:
        code = f"__nr_code={shlex.quote(f'{step.folder}/code')}\n"
        if step.code:
            yield code + lines.COPY_CODE
        elif step.code_link:
            yield f'{code}[ -e "$__nr_code" ] || ln -s -- {shlex.quote(step.code_link)} "$__nr_code" || exit'
        elif step.cwd == f"{step.inside}/code":
            yield f'{code}mkdir -p -m 700 -- "$__nr_code" || exit'
        if step.runner:
            yield f"__nr_runner={shlex.quote(f'{step.folder}/runner.zip')}\n" + lines.LINK_RUNNER


def _run(step: Step) -> str:
    """Return lines that run a step with its variables."""
    shell = "/bin/bash" if step.inside == step.folder else "/bin/sh"  # bash keeps exported functions, such as `module`
    task = f"{step.inside}/attempts/{ATTEMPT}/task.sh"
    options = ["--export=ALL", *(["--label"] if step.ranks > 1 else []), *map(word, step.options)]
    error = f" --error={file_name(step.error_log)}" if step.error_log else ""
    srun = f'"${{__nr_srun:-srun}}" --output="${{__nr_log//%/%%}}"{error} --open-mode=append'
    before = f'. "$__nr_attempt/environment.sh" || exit\n{_make_environment(step)}'
    return f"{before}{srun} {' '.join(options)} {shell} {word(task)} 2>&3"


def _make_environment(step: Step) -> str:
    """Return lines that make the environment of a step, once for all of its processes; empty where it has none."""
    if not step.making:
        return ""
    srun = '"${__nr_srun:-srun}" --export=ALL --output="${__nr_log//%/%%}" --open-mode=append'
    kept = next((part for part in step.making if part.endswith("/.environments")), "")
    return f"mkdir -p -- {word(kept)}\n{srun} {' '.join(map(word, step.making))} 2>&3 || exit\n"


def _several(batch: Batch) -> Iterable[str]:
    """Yield the lines that start all steps at once and wait for them."""
    folders = " ".join(_attempt(step) for step in batch.steps)
    yield f'__nr_pids=() __nr_folders=({folders})\nrm -f "${{__nr_folders[@]/%//ending}}"'
    for index, step in enumerate(batch.steps):
        if index and batch.pause:
            yield f"sleep {batch.pause}"
        log = 'exec >> "$__nr_log" 2>&1'
        text = _joined([f"__nr_attempt={_attempt(step)}", _open_log(step), log, f"(\n{_run(step)}\n)", lines.STEP_END])
        yield f"(\n{text}) &\n__nr_pids+=($!)"
    goes_on = "false" if batch.end_on == "any" else '[ "$__nr_code" -eq 0 ]'
    waiting = lines.WAIT if batch.end_on == "never" else lines.MONITOR.replace("GOES_ON", goes_on)
    yield f'__nr_code=0\n{waiting.strip()}\nexit "$__nr_code"'
