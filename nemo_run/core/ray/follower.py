"""Runs in the submitter's pod of a RayJob: follows one job, and so keeps its log when the cluster is gone.

It is sent as text and runs with the image's own Python, in which there is Ray, but not this package.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

FINAL = ("SUCCEEDED", "FAILED", "STOPPED")
KEPT = ("status", "message", "error_type", "start_time", "end_time", "driver_exit_code", "submission_id")
LONGEST = 900  # characters of a text; Kubernetes keeps 4096 bytes of a termination message


def details(address: str, job: str) -> dict[str, Any]:
    """Return what Ray says of the job; empty while it says nothing."""
    try:
        with urllib.request.urlopen(f"{address}/api/jobs/{job}", timeout=30) as answer:  # noqa: S310  (http)
            found = json.load(answer)
    except (OSError, ValueError):
        return {}
    return {key: found[key][:LONGEST] if isinstance(found[key], str) else found[key] for key in KEPT if key in found}


async def follow(address: str, job: str, seen: int) -> int:
    """Pass on what the job writes, without the characters that were seen already; how many were seen then."""
    from ray.job_submission import JobSubmissionClient

    at = 0
    try:
        async for text in JobSubmissionClient(address).tail_job_logs(job):
            fresh = text[max(0, seen - at) :]
            at += len(text)
            sys.stdout.write(fresh)
            sys.stdout.flush()
    except Exception:  # noqa: BLE001  (whatever broke, it is begun again)
        time.sleep(1)
    return max(seen, at)


def main(address: str, job: str, patience: float, termination_log: str) -> int:
    """Follow a job to its end.

    Args:
        address: Where Ray's REST API is.
        job: Submission id of the job.
        patience: Seconds to wait for the job to be submitted, and later for a cluster that does not answer.
        termination_log: File for what Kubernetes keeps of this pod.

    Returns:
        0 where the job has ended, however it did.
    """
    logging.disable(logging.CRITICAL)  # Ray's own remarks do not belong to the job's log
    seen, heard, known = 0, time.monotonic(), False
    while time.monotonic() - heard < patience:
        found = details(address, job)
        if found:
            heard, known = time.monotonic(), True
        if found and (found.get("status") not in FINAL or not seen):
            seen = asyncio.run(follow(address, job, seen))
            found = details(address, job) or found
        if found.get("status") in FINAL:
            Path(termination_log).write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")
            return 0
        time.sleep(1)
    what = "the cluster does not answer any more" if known else f"job {job!r} was not submitted"
    sys.stderr.write(f"given up: {what} within {patience:g} s\n")
    return 1


if __name__ == "__main__":
    sys.exit(
        main(
            f"http://{os.environ['RAY_DASHBOARD_ADDRESS'].removeprefix('http://')}",
            os.environ["RAY_JOB_SUBMISSION_ID"],
            float(sys.argv[1]),
            "/dev/termination-log",
        )
    )
