"""A site names its Slurm jobs and their logs itself, through `SlurmJobDetails` and a class of its own."""

import json
from pathlib import Path

import nemo_run as run
from nemo_run.core.execution.slurm import SlurmJobDetails


class SiteDetails(SlurmJobDetails):
    @property
    def stdout(self) -> Path:
        return Path(self.folder) / "site_%j.out"


def executor(**more) -> run.SlurmExecutor:
    tunnel = run.LocalTunnel(job_dir=str(Path.cwd().parent / "cluster"))
    return run.SlurmExecutor(account="a", partition="b", packager=run.Packager(), tunnel=tunnel, **more)


if __name__ == "__main__":
    folder = str(Path.cwd().parent / "logs")
    details = SlurmJobDetails(job_name="chosen", folder=folder)
    site = SiteDetails(job_name="site-job", folder=folder)
    seen = {
        "names": [details.job_name, site.job_name],
        "logs": [str(site.stdout), Path(site.stderr).parent.name, type(site).__name__],
    }
    with run.Experiment("details") as exp:
        exp.add(run.Script(inline="true"), executor(job_details=details), name="one")
        exp.add(run.Script(inline="true"), executor(job_details=site), name="two")
        seen["kept"] = [type(job.executor.job_details).__name__ for job in exp.jobs]
        exp.dryrun()
    Path("result.json").write_text(json.dumps(seen, indent=1))
