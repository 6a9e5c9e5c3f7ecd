"""Times how long it takes to submit many jobs through SSH, beside a loop of plain ``sbatch`` on the cluster.

::

    python -m benchmarks.slurm [JOBS]           on a test cluster of this machine; as root

Prints a Markdown table; a line for every round.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nemo_run as run
from tests.services.slurm import USER, SlurmCluster
from tests.services.sshd import Sshd

ROUNDS, WATCHED = 5, 10.0  # WATCHED: seconds in which commands are counted while all jobs wait
PLAIN = "#!/bin/bash\n#SBATCH --mem=100M --begin=now+1hour --output=/dev/null\nsrun true\n"


@contextmanager
def cluster() -> Iterator[tuple[SlurmCluster, run.SSHTunnel, Path]]:
    """A cluster, the way to it, and a file that has a line for every command that was sent."""
    slurm = SlurmCluster()
    login = Sshd((USER,), {"SLURM_CONF": str(slurm.configuration)})
    jobs = Path(tempfile.mkdtemp(prefix="nr-jobs-"))
    shutil.chown(jobs, USER)
    try:
        slurm.start()
        login.start()
        os.environ.update(login.client_environment())
        sent, program = login.folder / "sent", login.folder / "bin" / "ssh"
        count = f'case "$*" in *" -O "*) ;; *) echo x >> {sent} ;; esac\nexec '
        program.write_text(program.read_text().replace("exec ", count))
        yield slurm, run.SSHTunnel(host="cluster", user=USER, job_dir=f"{jobs}/runs"), sent
    finally:
        login.stop()
        slurm.stop()
        shutil.rmtree(jobs)


def plain_loop(tunnel: run.SSHTunnel, jobs: int) -> float:
    """Seconds of a loop on the cluster."""
    tunnel.run(f"mkdir -p {tunnel.job_dir} && cat > {tunnel.job_dir}/plain.sh <<'END'\n{PLAIN}END")
    begin = time.perf_counter()
    tunnel.run(f"for i in $(seq {jobs}); do sbatch --parsable {tunnel.job_dir}/plain.sh > /dev/null; done")
    return time.perf_counter() - begin


def experiment(executor: run.SlurmExecutor, jobs: int, sent: Path) -> tuple[float, float, int, int]:
    """Seconds until all is handed to a controller, and until all is in the queue; commands for it, and afterwards."""
    sent.write_text("")
    exp = run.Experiment("many", executor=executor, clean_mode=True)
    for i in range(jobs):
        exp.add(run.Script(inline="true"), name=f"j{i}")
    begin = time.time()
    exp.run(detach=True)
    prepared = time.time() - begin
    queued: list[float] = []
    while len(queued) < jobs:
        time.sleep(0.1)
        files = Path(executor.tunnel.job_dir).glob(f"many/{exp.id}/*/attempts/1/job_id")
        queued = [status.st_mtime for file in files if (status := file.stat()).st_size]
    submitted, commands = max(queued) - begin, len(sent.read_text().split())
    time.sleep(WATCHED)
    later = len(sent.read_text().split()) - commands
    exp.cancel_jobs()
    exp.wait()  # its controller sends commands until it is done
    return prepared, submitted, commands, later


def main(jobs: int) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory(prefix="nemo-run-benchmark-") as folder, cluster() as (slurm, tunnel, sent):
        os.environ["NEMORUN_HOME"] = f"{folder}/home"
        os.chdir(folder)
        options = {"mem": "100M", "additional_parameters": {"begin": "now+1hour"}}
        executor = run.SlurmExecutor(tunnel=tunnel, packager=run.Packager(), **options)
        tunnel.run("true")
        print(f"| {jobs} jobs: plain loop | prepared | all in the queue | ratio | commands | in 10 s of waiting |")
        print("|---|---|---|---|---|---|")
        for _ in range(ROUNDS):
            plain = plain_loop(tunnel, jobs)
            slurm.ask("scancel", "--user", USER)
            prepared, submitted, commands, later = experiment(executor, jobs, sent)
            slurm.ask("scancel", "--user", USER)
            cells = [
                f"{plain:.2f} s",
                f"{prepared:.2f} s",
                f"{submitted:.2f} s",
                f"{submitted / plain:.2f}",
                commands,
                later,
            ]
            print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
