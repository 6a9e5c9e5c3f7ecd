"""Scripts around tasks on Slurm: templates, details of the job, every option, and launchers of several kinds."""

import json
from dataclasses import dataclass
from pathlib import Path

import nemo_run as run
from nemo_run.core.execution.launcher import FaultTolerance, Launcher, SlurmTemplate
from nemo_run.core.execution.slurm import SlurmJobDetails

TEMPLATE = """
echo begin
{% for name in names %}echo {{ name }}
{% endfor %}
{{ command }}
"""


def train(n: int = 1): ...


@dataclass(kw_only=True)
class Details(SlurmJobDetails):
    @property
    def stdout(self):
        return Path(self.folder) / "sbatch_out.txt"

    @property
    def srun_stdout(self):
        return Path(self.folder) / "log_srun_%j_%t.out"

    @property
    def ls_term(self):
        return str(Path(self.folder) / "log_srun*")


class Niced(Launcher):
    def transform(self, cmd):
        return ["nice", *cmd]


def slurm(**options):
    tunnel = run.LocalTunnel(job_dir=str(Path.cwd().parent / "cluster"))
    return run.SlurmExecutor(
        account="a", partition="b", time="01:00:00", tunnel=tunnel, packager=run.Packager(), **options
    )


ALL_OPTIONS = {
    "nodes": 4, "ntasks_per_node": 8, "gpus_per_node": 8, "gres": "gpu:8", "constraint": "c", "exclusive": True,
    "mem": "0", "qos": "q", "comment": "words", "cpus_per_task": 4, "exclude": "n1,n2", "open_mode": "truncate",
    "signal": "USR1@60", "setup_lines": "module load x\nexport Y=1", "srun_args": ["--container-writable"],
    "container_image": "img", "container_mounts": ["/a:/a", "/b"], "network": "sharp", "segment": 2,
    "additional_parameters": {"nodelist": "n1", "switches": 1},
}  # fmt: skip

SCRIPTS = {
    "file": run.Script(path="x.py", entrypoint="python", args=["--a", "1"]),
    "module": run.Script(path="pkg.mod", entrypoint="python", m=True, args=["--a", "1"]),
    "lines": run.Script(inline="echo one\necho 'two'", env={"A": "b c"}, entrypoint="bash"),
}

if __name__ == "__main__":
    Path("t.j2").write_text(TEMPLATE)
    details = Details(job_name="my-job", folder="/results/x")
    inline = SlurmTemplate(template_inline=TEMPLATE, template_vars={"names": ["a", "b"]})
    of_file = SlurmTemplate(template_path=str(Path("t.j2").resolve()), template_vars={"names": []})
    ft = FaultTolerance(cfg_path="/c", finished_flag_file="/f", job_results_file="/r", max_restarts=2)
    with run.Experiment("all") as exp:
        exp.add(run.Partial(train), executor=slurm(job_details=details), name="details")
        exp.add(run.Partial(train), executor=slurm(job_details=SlurmJobDetails(job_name="named")), name="named")
        exp.add(run.Partial(train), executor=slurm(launcher=inline), name="inline")
        exp.add(SCRIPTS["lines"], executor=slurm(launcher=of_file), name="template-file")
        exp.add(run.Partial(train), executor=slurm(**ALL_OPTIONS), name="options")
        exp.add(run.Partial(train), executor=slurm(launcher=ft, nodes=2, torchrun_nproc_per_node=8), name="ft")
        for name, script in SCRIPTS.items():
            exp.add(script, executor=slurm(launcher="torchrun", nodes=2, ntasks_per_node=4), name=f"torchrun-{name}")
            exp.add(script, executor=slurm(), name=f"plain-{name}")
        exp.dryrun()
    of_name = {name: slurm(launcher=name).get_launcher() for name in ("torchrun", "ft")}
    seen = {
        "details": [str(details.stdout), str(details.srun_stdout), details.ls_term],
        "template": [inline.template_vars, inline.nsys_profile, SlurmTemplate(template_inline="x").template_vars],
        "own": Niced().transform(["a"]),
        "names": {name: type(launcher).__name__ for name, launcher in of_name.items()},
        "torchrun": [of_name["torchrun"].rdzv_backend, of_name["torchrun"].rdzv_port, of_name["torchrun"].nsys_trace],
        "none": type(slurm().get_launcher()).__name__,
        "scripts": {name: script.get_name() for name, script in SCRIPTS.items()},
        "processes": [slurm(**ALL_OPTIONS).nproc_per_node(), slurm(torchrun_nproc_per_node=3).nproc_per_node()],
    }
    Path("result.json").write_text(json.dumps(seen, indent=1))
