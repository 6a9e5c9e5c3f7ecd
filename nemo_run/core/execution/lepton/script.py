"""The script that every replica of a job runs, and what the last line of its log says. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nemo_run.core.execution.launcher import ATTEMPT_FOLDER
from nemo_run.core.execution.shared.shell_words import word
from nemo_run.core.execution.shared.shipping import layout_script

ENCODED = "NEMO_RUN_ENCODED_"
"""What the names of variables begin with whose values go encoded."""
EXACT = re.compile(r"[^\x00-\x1f\x7f$\ud800-\udfff]*\Z")
"""Values that arrive as they are."""

_END = re.compile(rb"(\d+) (\d+) (\d+) (\d+)\]")


def end_mark(name: str) -> bytes:
    """Return how the last line of a replica's log begins, by the name of its job."""
    return f"[{name} ended: ".encode()


def part_name(package: str, number: int) -> str:
    """Return the name of a part of a package on the mount."""
    return f"{package}.part-{number:05}"


def packages_folder(base: str) -> str:
    """Return where packages lie on the mount."""
    return f"{base}/.packages"


def run_script(
    spec: Mapping[str, Any], name: str, attempt: int, inline: Iterable[str], sent: Mapping[str, tuple[str, str]]
) -> str:
    """Return the script that every replica runs; its argument is the folder with the small files.

    Args:
        spec: The job, as :func:`job_spec` describes it.
        name: Name of the job.
        attempt: Number of the attempt.
        inline: What came along: ``job``, ``code``, ``runner``, as far as they did.
        sent: What is on the mount: the name of its package and its SHA-256.
    """
    files = {what: f"\0bundle\0/{what}" for what in inline}
    files |= {what: f"\0packages\0/{package}" for what, (package, _) in sent.items()}
    has_code = 'export PYTHONPATH="$job/code${PYTHONPATH:+:$PYTHONPATH}"' if "code" in files else ""
    parts = [
        f"# {spec['title']}, attempt {attempt}",
        _BEGIN.replace("THE_FOLDER", word(spec["folder"])).replace("THE_PACKAGES", word(packages_folder(spec["base"]))),
        *(_decoded(env) for env, value in spec["env"].items() if not EXACT.match(value)),
        f"export NEMO_RUN_ATTEMPT={attempt}",
        _PYTORCH,
        _JOIN if sent else "",
        *(f"join {word(package)} {sha256}" for package, sha256 in sent.values()),
        _LAY_OUT.replace("LAYOUT", layout_script("\0new\0", files).rstrip("\n")),
        has_code,
        *spec["before"],
        _RUN.replace("CWD", word(spec["cwd"])).replace("COMMAND", " ".join(map(word, spec["argv"]))),
    ]
    text = "\n".join(part for part in parts if part) + "\n"
    return text.replace(ATTEMPT_FOLDER, f"{spec['folder']}/attempts/{attempt}").replace("\0name\0", name)


def _decoded(name: str) -> str:
    encoded = ENCODED + name
    return (
        f'{name}=$(printf %s "${encoded}" | base64 -d; echo x); {name}="${{{name}%x}}"; export {name}; unset {encoded}'
    )


_BEGIN = """\
exec 2>&1
bundle=$1 task='' stop='' started=$(date +%s) rank=${LEPTON_JOB_WORKER_INDEX:-0}
job=THE_FOLDER packages=THE_PACKAGES
end() {
  left=$(ls -A "$job/artifacts" 2>/dev/null | head -n 1 | wc -l)
  rm -rf "$bundle"
  echo "[\0name\0 ended: $1 $started $(date +%s) $((left))]"
  exit "$1"
}
fail() { echo "nemo-run: $1"; end 1; }
trap 'stop=1; [ -z "$task" ] || kill -TERM "$task" 2>/dev/null' TERM"""

# What PyTorch asks for, from what Lepton tells a replica of the others.
_PYTORCH = """\
prefix=${LEPTON_JOB_SERVICE_PREFIX:-$LEPTON_JOB_NAME}
domain=${LEPTON_SUBDOMAIN:-$LEPTON_JOB_NAME-job-svc}.ws-$LEPTON_WORKSPACE_ID.svc.cluster.local
head=${MASTER_ADDR:-$prefix-0.$domain}
export MASTER_ADDR="$head" MASTER_PORT="${MASTER_PORT:-29400}" NODE_RANK="$rank"
export WORLD_SIZE="${LEPTON_JOB_TOTAL_WORKERS:-1}" WORKER_ADDRS=''
i=1
while [ "$i" -lt "$WORLD_SIZE" ]; do
  WORKER_ADDRS="${WORKER_ADDRS:+$WORKER_ADDRS,}$prefix-$i.$domain"; i=$((i + 1))
done"""

# A package that came in parts is joined by the first replica that needs it.
_JOIN = """\
join() {
  [ ! -e "$packages/$1" ] || return 0
  new=$(mktemp "$packages/.new-XXXXXX") && cat "$packages/$1".part-* > "$new" &&
    echo "$2  $new" | sha256sum -c - >/dev/null && mv -f "$new" "$packages/$1" && rm -f "$packages/$1".part-*
  [ -e "$packages/$1" ] || {
    rm -f "$new"
    fail "$packages/$1 is not there any more; delete the jobs nr-put-* on Lepton, so that it is sent again, and launch"
  }
}"""

# Replicas, and attempts, share the folder on the mount: each brings all files, and what is not there yet is put there
# as a whole.
_LAY_OUT = """\
mkdir -p "$job" || fail "the folder $job cannot be made; is nemo_run_dir on a mount that can be written?"
new=$(mktemp -d "$job/.new-XXXXXX") && (
set -e
LAYOUT
) || fail "the files of this job cannot be laid out in $job"
for entry in "$new"/*; do
  there=$job/${entry##*/}
  [ -e "$there" ] || mv -T "$entry" "$there" 2>/dev/null || [ -e "$there" ] || fail "$there cannot be written"
done
rm -rf "$new"
[ -e /nemo_run ] || ln -s "$job" /nemo_run 2>/dev/null"""

# The task is asked to end when this is.
_RUN = """\
[ -z "$stop" ] || end 143
( cd -- CWD || exit 1; exec COMMAND ) &
task=$!
[ -z "$stop" ] || kill -TERM "$task"
wait "$task"; code=$?
while [ "$code" -gt 128 ] && kill -0 "$task" 2>/dev/null; do wait "$task"; code=$?; done
end "$code\""""


# --- its last line --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReplicaEnd:
    """What the last line of a replica's log says.

    Attributes:
        exit_code: Exit code of the task.
        started: When it began, in seconds since the epoch.
        ended: When it ended.
        left_artifacts: Whether there are files in the folder of artifacts.
    """

    exit_code: int
    started: float
    ended: float
    left_artifacts: bool


class Output:
    """What a task wrote, taken out of the log of its replica: without the last line, which is ours."""

    def __init__(self, name: str) -> None:
        self._mark = end_mark(name)
        self._held = b""
        self._last: bytes | None = None

    @property
    def end(self) -> ReplicaEnd | None:
        """What the last line says, once it has come."""
        match = _END.match(self._last or b"")
        if not match:
            return None
        code, started, ended, left = map(int, match.groups())
        return ReplicaEnd(code, started, ended, bool(left))

    def feed(self, data: bytes) -> bytes:
        """Return what is the task's own of the next piece."""
        if self._last is not None:
            self._last += data
            return b""
        data = self._held + data
        at = data.find(self._mark)
        if at >= 0:
            self._held, self._last = b"", data[at + len(self._mark) :]
            return data[:at]
        # The mark may come in two pieces.
        keep = next(
            (n for n in range(min(len(self._mark) - 1, len(data)), 0, -1) if self._mark.startswith(data[-n:])), 0
        )
        self._held = data[len(data) - keep :]
        return data[: len(data) - keep]

    def rest(self) -> bytes:
        """Return what was held back, when nothing more comes."""
        held, self._held = self._held, b""
        return held
