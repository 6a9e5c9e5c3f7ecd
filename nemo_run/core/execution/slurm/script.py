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
from dataclasses import dataclass
from typing import Any

from nemo_run.core.execution.shared.shell_words import word
from nemo_run.core.execution.slurm.options import flag
from nemo_run.core.masking import masked

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
    return "".join(f"export {name}={_value(value)}\n" for name, value in env.items())


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


def describe(batch: Batch) -> str:
    """Return all files of a job, to be read; secrets are masked."""
    parts = [batch_script(batch)]
    for step in batch.steps:
        hidden = Step(**{**vars(step), "env": masked(step.env)})
        folder = f"{step.folder}/attempts/{ATTEMPT}"
        parts += [f"# {folder}/environment.sh\n{environment_file(hidden)}", f"# {folder}/task.sh\n{task_file(step)}"]
    return complete("\n".join(parts), 1, "CODE", "runner.zip").rstrip("\n")


def batch_script(batch: Batch) -> str:
    """Return the batch script of a job."""
    first = batch.steps[0]
    parts = [
        "#!/bin/bash",
        "\n#SBATCH hetjob\n".join(
            "\n".join(flag(name, value) for name, value in options.items()) for options in batch.components
        ),
        f"\n# {batch.title}\n",
        f"attempt={_attempt(first)}",
        *_open_log(first),
        'exec 3>&1 >> "$log" 2>&1  # what srun itself has to say is left to the file of sbatch\n',
        _WHY,
        _HEAD_NODE,
        *(f"export het_group_host_{i}={_first_host(f'SLURM_JOB_NODELIST_HET_GROUP_{i}')}" for i in _het(batch)),
        *_packages(batch),
        batch.setup.replace("\r\n", "\n"),
        "srun --ntasks=1 --ntasks-per-node=1 --overlap nvidia-smi" if batch.measure_memory else "",
        *(_one(first) if len(batch.steps) == 1 else _several(batch)),
        _RETRY.replace("RETRIES", str(batch.retries)) if batch.retries else "",
        _END,
    ]
    return "\n".join(part for part in parts if part)


_HEAD_NODE = """\
head_node=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
head_node_ip=$(scontrol show node "$head_node" | sed -n 's/.*NodeAddr=\\([^ ]*\\).*/\\1/p')
address=$(getent ahostsv4 "${head_node_ip:=$head_node}" | awk '$1 !~ /^127\\./ {print $1; exit}')
export head_node_ip="${address:-$head_node_ip}"
"""

_RETRY = """
if [ "$code" -ne 0 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt RETRIES ] &&
  [ "$(squeue -h -j "$SLURM_JOB_ID" -o %T)" = RUNNING ]; then  # and not being cancelled
  scontrol requeue "$SLURM_JOB_ID" && sleep 600  # this script is ended meanwhile
fi"""

_WHY = r"""
said=$(stat -Lc %s "/proc/$$/fd/3")
why() {  # a word on why a step ended with the code $1, where Slurm's state of the job may not tell
  if [ "$1" -eq 0 ]; then return; fi
  if [ -e "$attempt/ending" ]; then echo " group"; return; fi
  if tail -c "+$((said + 1))" "/proc/$$/fd/3" | grep -qiE 'oom.kill|out of memory|exceeded (job )?memory limit'; then
    echo " memory"
  fi
}
"""

_END = """
umask 077
echo "$code$(why "$code")" > "$attempt/.end.$$" && mv -f "$attempt/.end.$$" "$attempt/end.${SLURM_ARRAY_TASK_ID:-0}"
exit "$code"
"""


def _attempt(step: Step) -> str:
    return shlex.quote(f"{step.folder}/attempts/{ATTEMPT}")


def _het(batch: Batch) -> range:
    return range(len(batch.components) if len(batch.components) > 1 else 0)


def _first_host(variable: str) -> str:
    return f'$(scontrol show hostnames "${variable}" | head -n 1)'


def _open_log(step: Step) -> list[str]:
    """Return the lines that create the log, readable by its owner only, and link it into the attempt's folder."""
    link = f'"$attempt/log.${{SLURM_ARRAY_TASK_ID:-0}}.${{SLURM_RESTART_COUNT:-0}}.{step.ranks}"'
    return [
        f"log={file_name(step.log)}",
        f'(umask 077; : >> "$log") && ln -sfn -- "$log" {link} || exit',
    ]


def _packages(batch: Batch) -> Iterable[str]:
    """Yield the lines that give every task its copy of the packaged code, and the runner, in its own folder.

    The files are hard links, and cannot be written to: a task that changes one of them replaces it.
    """
    if any(step.code or step.runner for step in batch.steps):
        yield f"packages={shlex.quote(batch.packages)}"
    for step in batch.steps:
        code = f"code={shlex.quote(f'{step.folder}/code')}\n"
        if step.code:
            yield code + _COPY_CODE
        elif step.code_link:
            yield f'{code}[ -e "$code" ] || ln -s -- {shlex.quote(step.code_link)} "$code" || exit'
        elif step.cwd == f"{step.inside}/code":
            yield f'{code}mkdir -p -m 700 -- "$code" || exit'
        if step.runner:
            yield f"runner={shlex.quote(f'{step.folder}/runner.zip')}\n" + _LINK_RUNNER


_COPY_CODE = """\
if [ ! -e "$code" ]; then
  cp -al "$packages/\0code\0" "$code.$$" 2>/dev/null ||
    { rm -rf "$code.$$"; cp -a "$packages/\0code\0" "$code.$$"; } || exit
  mv -T "$code.$$" "$code" 2>/dev/null || rm -rf "$code.$$"  # another task of the array was faster
fi"""

_LINK_RUNNER = """\
[ -e "$runner" ] || ln "$packages/\0runner\0" "$runner" 2>/dev/null ||
  cp -f "$packages/\0runner\0" "$runner" || exit"""


def _srun(step: Step) -> str:
    task = f"{step.inside}/attempts/{ATTEMPT}/task.sh"
    options = ["--export=ALL", *(["--label"] if step.ranks > 1 else []), *map(word, step.options)]
    error = f" --error={file_name(step.error_log)}" if step.error_log else ""
    return f'srun --output="${{log//%/%%}}"{error} --open-mode=append {" ".join(options)} /bin/sh {word(task)} 2>&3'


def _one(step: Step) -> list[str]:
    return ['. "$attempt/environment.sh" || exit', _srun(step), "code=$?"]


def _several(batch: Batch) -> Iterable[str]:
    """Yield the lines that start all steps at once and wait for them."""
    folders = " ".join(_attempt(step) for step in batch.steps)
    yield f'pids=() folders=({folders})\nrm -f "${{folders[@]/%//ending}}"'
    for index, step in enumerate(batch.steps):
        if index and batch.pause:
            yield f"sleep {batch.pause}"
        lines = [
            f"attempt={_attempt(step)}",
            *_open_log(step),
            'exec >> "$log" 2>&1',
            '. "$attempt/environment.sh" || exit',
            _srun(step),
            'code=$?; umask 077; echo "$code$(why "$code")" > "$attempt/end.member"; exit "$code"',
        ]
        yield "(\n" + "\n".join(f"  {line}" for line in lines) + "\n) &\npids+=($!)"
    yield "code=0"
    goes_on = "false" if batch.end_on == "any" else '[ "$code" -eq 0 ]'
    yield _WAIT if batch.end_on == "never" else _MONITOR.replace("GOES_ON", goes_on)


_WAIT = 'for pid in "${pids[@]}"; do wait "$pid"; ended=$?; [ "$code" -ne 0 ] || code=$ended; done'

_MONITOR = """\
for pid in "${pids[@]}"; do
  wait -n; code=$?
  GOES_ON && continue
  touch "${folders[@]/%//ending}"
  scancel --signal=TERM "$SLURM_JOB_ID"  # the first such end is that of the other steps
  { sleep 30; scancel --signal=KILL "$SLURM_JOB_ID"; } &
  wait "${pids[@]}" 2>/dev/null
  kill $!
  break
done"""
