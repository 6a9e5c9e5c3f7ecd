"""What is sent to the cluster for attempts, and which of them are elements of one job array.

Attempts of tasks that differ in their configuration only share an array. An element has its own folder, script and
handle, ``slurm://123_4/…``, as a job that was submitted by itself has them: only its submission is shared.  The
attempt of the first element is that which is submitted; it leads the others.
"""

from __future__ import annotations

import json
import posixpath
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from nemo_run.core.execution.jobs import Plan
from nemo_run.core.execution.shared.shipping import job_files
from nemo_run.core.execution.shared.small_tar import tar_of
from nemo_run.core.execution.slurm import script, spec
from nemo_run.core.execution.slurm.handle import Handle
from nemo_run.core.execution.submission import Submission

USUAL_SIZE = 1001
"""Slurm's default of ``MaxArraySize``."""
_OF_ONE = ("job_name", "output", "error", "chdir")  # options in which elements may differ


@dataclass(frozen=True)
class Element:
    """An attempt's place in an array.

    Attributes:
        index: Its number.
        leader: Folder of the attempt that is submitted for all.
        size: How many elements there are.
    """

    index: int
    leader: str
    size: int


def attempt_folder(submission: Submission) -> str:
    """Return the folder of an attempt on the cluster."""
    return f"{submission.plan.spec['folder']}/attempts/{submission.attempt}"


def line(item: Submission, element: Element | None) -> str:
    """Return the lines on an attempt for ``commands.SUBMIT``: its folder, its leader's, and what it waits for."""
    plan = item.plan
    ids = dict.fromkeys([*plan.spec["dependencies"], *(Handle.parse(handle).job for handle in item.after)])
    dependency = f"{plan.spec['dependency_type']}:{':'.join(ids)}" if ids else ""
    leader = element.leader if element else f"{plan.spec['leader']}/attempts/{item.attempt}"
    return f"{attempt_folder(item)}\n{leader}\n{dependency}\n"


def largest_array(configuration: str) -> int:
    """Return how many elements an array may have, from what ``scontrol show config`` says.

    >>> largest_array("MaxArraySize            = 1001"), largest_array("")
    (1001, 1001)
    """
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", configuration, re.MULTILINE)
    return int(found[1]) if found else USUAL_SIZE


def elements(submissions: Sequence[Submission], largest: int) -> dict[int, Element]:
    """Return which of these are submitted as elements of arrays, by their positions."""
    alike: dict[str, list[int]] = {}
    for position, submission in enumerate(submissions):
        if key := _key(submission):
            alike.setdefault(key, []).append(position)
    found: dict[int, Element] = {}
    for positions in alike.values():
        for start in range(0, len(positions), max(largest, 1)):
            part = positions[start : start + max(largest, 1)]
            if len(part) > 1:
                leader = attempt_folder(submissions[part[0]])
                found |= {position: Element(index, leader, len(part)) for index, position in enumerate(part)}
    return found


def _key(submission: Submission) -> str:
    """Return what is equal for attempts that may share an array; empty for one that is submitted by itself."""
    plan = submission.plan.spec
    batch = plan.get("batch", {})
    if not batch.get("array"):
        return ""
    options = {name: value for name, value in batch["components"][0].items() if name not in _OF_ONE}
    return json.dumps([plan["base"], batch["array"], options, list(submission.after)], sort_keys=True)


def array_files(submissions: Sequence[Submission], found: Mapping[int, Element]) -> dict[str, bytes]:
    """Return the files of arrays, and of what may be in one, by their paths on the cluster."""
    result: dict[str, bytes] = {}
    lists: dict[str, list[str]] = {}
    for position, element in found.items():
        folder = attempt_folder(submissions[position])
        lists.setdefault(element.leader, []).append(folder)
        result[f"{folder}/element"] = f"{element.index} {element.leader}\n".encode()
        if element.index == 0:
            batch = spec.batch_of(submissions[position].plan.spec)
            result[f"{folder}/array.sh"] = script.array_script(batch, folder, element.size).encode()
    for position, submission in enumerate(submissions):
        if position not in found and _key(submission):  # it may have been one of an array that was refused
            result[f"{attempt_folder(submission)}/element"] = b""
    return result | {f"{leader}/array": "".join(f"{one}\n" for one in them).encode() for leader, them in lists.items()}


def compact(jobs: Iterable[str]) -> list[str]:
    """Return ids of jobs as Slurm's commands take them, elements of an array together.

    >>> compact(["7", "8_0", "8_2", "8_1", "8_5", "9_3"])
    ['7', '8_[0-2,5]', '9_[3]']
    """
    found: dict[str, set[int]] = {}
    for job in jobs:
        array, _, index = job.partition("_")
        found.setdefault(array, set()).update([int(index)] if index.isdigit() else [])
    return [f"{array}_[{_ranges(indices)}]" if indices else array for array, indices in found.items()]


def _ranges(numbers: Iterable[int]) -> str:
    runs = []
    for _, run in groupby(enumerate(sorted(numbers)), key=lambda pair: pair[1] - pair[0]):
        part = [number for _, number in run]
        runs.append(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}")
    return ",".join(runs)


_FOLDERS = ("artifacts", "services", "checkpoints")


def attempt_files(plan: Plan, attempt: int, code: str, runner: str) -> dict[str, bytes]:
    """Return the files of an attempt by their paths on the cluster. Folders have a ``/`` at the end."""
    folder, files = plan.spec["folder"], {f"{plan.spec['folder']}/{name}/": b"" for name in _FOLDERS}
    if folder != plan.directory:
        files |= {f"{folder}/{name}": path.read_bytes() for name, path in job_files(plan.directory).items()}
    if plan.spec["member"]:
        files[f"{folder}/attempts/{attempt}/leader"] = f"{plan.spec['leader']}/attempts/{attempt}\n".encode()
    else:
        for pair in script.job_files(spec.batch_of(plan.spec)).items():
            path, text = (script.complete(part, attempt, code, runner) for part in pair)
            files[path] = text.encode("utf-8", "surrogateescape")
    return files


def shared_folders(base: str, files: Mapping[str, bytes]) -> list[str]:
    """Return the folders below ``base`` that experiments share: the first parts of these paths, where more follow."""
    parts = (posixpath.relpath(path, base).split("/") for path in files)
    return list(dict.fromkeys(names[0] for names in parts if len(names) > 3 and names[0] != ".."))


def packed(base: str, files: Mapping[str, bytes]) -> bytes:
    """Return the files as a tar file to unpack in ``base``; only their owner can read them."""
    names = {path: posixpath.relpath(path, base) + ("/" if path.endswith("/") else "") for path in files}
    return tar_of({names[path]: content for path, content in files.items()}, modified=int(time.time()))
