"""From a request to the text of a Slurm job. Pure: no cluster is needed."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import nemo_run as run
from nemo_run.core.execution.base import Command, ExecutorMacros, Plan, TaskRequest
from nemo_run.core.execution.launcher import Launcher
from nemo_run.core.execution.slurm import SlurmExecutor, SlurmJobDetails, get_packaging_job_key, script, spec
from nemo_run.core.packaging.base import Packager
from nemo_run.core.tunnel.client import LocalTunnel, SSHTunnel
from nemo_run.errors import ExecutorError
from nemo_run.testing import HOSTILE

REMOTE = SSHTunnel(host="login", user="me", job_dir="/scratch/me")
DIRECTORY = "/home/me/.nemo_run/experiments/title/title_1/train"


@pytest.fixture(autouse=True)
def _overtime() -> None:
    """These tests start nothing."""


def request_for(command: Command | None = None, job: str = "train", member: int = 0, **options: Any) -> TaskRequest:
    executor = SlurmExecutor(**{"tunnel": REMOTE, "packager": Packager(), **options})
    archive = options.pop("code_archive", "")
    directory = DIRECTORY.replace("train", job)
    executor.check()
    executor.assign("title_1", str(Path(DIRECTORY).parent), job, job)
    command = command or Command(("hostname",))
    command = replace(command, env={**executor.env_vars, **command.env})
    return TaskRequest("title_1", job, directory, executor, command, "/home/me", code_archive=archive)


def batch_for(*args: Any, **options: Any) -> script.Batch:
    return spec.batch_of(spec.render([request_for(*args, **options)])[0].spec)


def flags(batch: script.Batch) -> list[str]:
    lines = script.batch_script(batch).splitlines()
    return [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH")]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"account": "research"}, "--account=research"),
        ({"partition": "gpu"}, "--partition=gpu"),
        ({"time": "1-00:00:00"}, "--time=1-00:00:00"),
        ({"nodes": 4}, "--nodes=4"),
        ({"ntasks_per_node": 8}, "--ntasks-per-node=8"),
        ({"cpus_per_task": 2}, "--cpus-per-task=2"),
        ({"cpus_per_gpu": 2}, "--cpus-per-gpu=2"),
        ({"gpus_per_node": 8}, "--gpus-per-node=8"),
        ({"gpus_per_task": 1}, "--gpus-per-task=1"),
        ({"qos": "high"}, "--qos=high"),
        ({"mem": "0"}, "--mem=0"),
        ({"mem": 0}, "--mem=0"),
        ({"dependencies": ["slurm_tunnel://nemo_run/12/master/0", "7"]}, "--dependency=afterok:12:7"),
        ({"dependencies": ["12"], "dependency_type": "afterany"}, "--dependency=afterany:12"),
        ({"mem_per_gpu": "10G"}, "--mem-per-gpu=10G"),
        ({"mem_per_cpu": "1G"}, "--mem-per-cpu=1G"),
        ({"comment": "two words"}, '--comment="two words"'),
        ({"constraint": "a&b"}, '--constraint="a&b"'),
        ({"exclude": "node[1-2]"}, '--exclude="node[1-2]"'),
        ({"gres": "gpu:h100:8"}, "--gres=gpu:h100:8"),
        ({"signal": "B:USR1@60"}, "--signal=B:USR1@60"),
        ({"exclusive": True}, "--exclusive"),
        ({"exclusive": "user"}, "--exclusive=user"),
        ({"array": "0-49%8"}, "--array=0-49%8"),
        ({"segment": 2}, "--segment=2"),
        ({"network": "sharp"}, "--network=sharp"),
        ({"retries": 1}, "--requeue"),
        ({"additional_parameters": {"mail-type": "END", "nice": True}}, "--nice"),
        ({"additional_parameters": {"mail_type": "END"}}, "--mail-type=END"),
        ({"additional_parameters": {"time": "5"}}, "--time=5"),
        ({"account": "a_b"}, "--job-name=a_b-b.train"),
        ({"account": "a", "job_name_prefix": "x-"}, "--job-name=x-train"),
        ({}, "--job-name=train"),
        ({}, "--output=/scratch/me/title/title_1/train/sbatch_train_%j.out"),
        ({"array": "1-2"}, "--output=/scratch/me/title/title_1/train/sbatch_train_%A_%a.out"),
        ({"launcher": "torchrun", "ntasks_per_node": 8}, "--ntasks-per-node=1"),
        ({"account": "a", "job_details": SlurmJobDetails(job_name="mine")}, "--job-name=mine"),
        (
            {"job_details": SlurmJobDetails(job_name="mine")},
            "--output=/scratch/me/title/title_1/train/sbatch_mine_%j.out",
        ),
        ({"job_details": SlurmJobDetails(job_name="mine", folder="/logs")}, "--output=/logs/sbatch_mine_%j.out"),
        ({"job_details": SlurmJobDetails(folder="/logs")}, "--output=/logs/sbatch_train_%j.out"),
    ],
)
def test_options_of_sbatch(options: dict[str, Any], expected: str) -> None:
    assert expected in flags(batch_for(**options))


def test_a_template_for_ray_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    request_for()
    assert not caplog.messages
    request_for(ray_template="mine.sub.j2")
    assert "ray_template='mine.sub.j2' is not used" in caplog.text


@pytest.mark.parametrize("name", ["container_mounts", "container_env", "srun_args", "dependencies"])
def test_a_text_is_no_list(name: str) -> None:
    with pytest.raises(ExecutorError, match=rf"{name} must be list\[str\]"):
        request_for(**{name: "12"})
    assert "--mounts" not in " ".join(batch_for(**{name: None}).steps[0].options)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"account": "a"}, ["a-a.serve-0"]),
        ({"job_name_prefix": ""}, ["serve-0"]),
        ({"job_details": SlurmJobDetails(job_name="mine")}, ["mine"]),
        ({"heterogeneous": True}, ["serve-0", "serve-1", "serve-2"]),
        ({"heterogeneous": True, "het_group_indices": [0, 0, 1]}, ["serve-0", "serve-2"]),
        ({"heterogeneous": True, "job_details": SlurmJobDetails(job_name="mine")}, ["mine-0", "mine-1", "mine-2"]),
    ],
)
def test_a_group_has_the_name_of_its_first_task(options: dict[str, Any], names: list[str]) -> None:
    requests = [replace(request_for(job=f"serve/{i}", member=i, **options), group="serve", members=3) for i in range(3)]
    batch = spec.batch_of(spec.render(requests)[0].spec)
    assert [flag for flag in flags(batch) if "job-name" in flag] == [f"--job-name={name}" for name in names]


def test_the_first_component_of_a_heterogeneous_job_waits_for_other_jobs() -> None:
    options: dict[str, Any] = {"heterogeneous": True, "dependencies": ["12"]}
    requests = [replace(request_for(job=f"serve/{i}", **options), group="serve", members=2) for i in range(2)]
    lines = script.batch_script(spec.batch_of(spec.render(requests)[0].spec)).splitlines()
    assert lines.index("#SBATCH --dependency=afterok:12") < lines.index("#SBATCH hetjob")


def test_the_first_host_of_another_component_is_a_variable() -> None:
    macros = SlurmExecutor().macro_values()
    assert macros.substitute(macros.group_host(1)) == "$het_group_host_1"


def test_options_that_are_not_set_are_not_there() -> None:
    names = [flag.partition("=")[0] for flag in flags(batch_for(exclusive=False))]
    assert names == ["--job-name", "--output", "--chdir", "--time", "--nodes", "--ntasks-per-node", "--open-mode"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"comment": "a\n#SBATCH --uid=0"}, "--comment cannot contain line ends"),
        ({"partition": "gpu\r"}, "--partition cannot contain"),
        ({"additional_parameters": {"x\ny": 1}}, "not the name of an option"),
        ({"additional_parameters": {"-x": 1}}, "not the name of an option"),
        ({"tunnel": SSHTunnel(host="h", user="", job_dir="runs")}, "absolute path"),
        ({"tunnel": SSHTunnel(host="h", user="", job_dir="/a\nb")}, "control characters"),
        ({"dependency_type": "whenever"}, "dependency_type='whenever'"),
        ({"dependencies": ["not an id"]}, "'not an id' is neither"),
        ({"container_mounts": ["/a:/b,/c:/d"]}, "container_mounts"),
        ({"env_vars": {"A B": "x"}}, "env_vars"),
    ],
)
def test_what_cannot_be_right_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ExecutorError, match=re.escape(message)):
        request_for(**options)


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE.keys())
def test_words_are_read_by_a_shell_as_they_are(value: str) -> None:
    step = batch_for(Command(("printf", "%s\\0", value, "x"), {"V": value})).steps[0]
    step = script.Step(**{**vars(step), "cwd": "/tmp"})
    files = [script.complete(text, 1, "", "") for text in (script.environment_file(step), script.task_file(step))]
    printed = subprocess.check_output(["/bin/sh", "-c", f'{files[0]}printf "%s\\0" "$V"\n{files[1]}'])
    assert printed.decode("utf-8", "surrogateescape").split("\0") == [value, value, "x", ""]


def test_nothing_of_the_user_is_in_the_batch_script() -> None:
    batch = batch_for(Command(("echo", "an argument")), env_vars={"A_TOKEN": "secret", "PLAIN": "value\r\n"})
    text = script.batch_script(batch)
    assert not re.search("an argument|secret|value", text)
    shown = script.describe(batch)
    assert "an argument" in shown
    assert "value" in shown
    assert "secret" not in shown


@pytest.mark.parametrize(
    "options", [{}, {"retries": 2, "array": "1-3", "setup_lines": "module load x", "memory_measure": True}]
)
def test_scripts_are_valid_bash(options: dict[str, Any]) -> None:
    requests = [request_for(job=name, **options) for name in ("a", "b")]
    for plans in (spec.render(requests), spec.render(requests[:1])):
        batch = spec.batch_of(plans[0].spec)
        for text in (script.batch_script(batch), script.steps_script(batch)):
            subprocess.run(["bash", "-n"], input=text.encode(), check=True)
            assert "set -x" not in text
            names = re.findall(r"^ *(\w+)=|\bfor (\w+) in|^(\w+)\(\)", text, re.MULTILINE)
            assert {name for found in names for name in found if name and not name.startswith("__nr_")} <= {
                "head_node_ip"
            }


@pytest.mark.parametrize(
    "folder",
    ["/scratch/it's", "/scratch/$(touch x)", "/scratch/a b;c", '/scratch/"q"', "/scratch/50%j", "/scratch/`id`"],
)
def test_folders_cannot_inject(folder: str) -> None:
    text = script.batch_script(batch_for(tunnel=SSHTunnel(host="h", user="", job_dir=folder)))
    line = next(line for line in text.splitlines() if line.startswith("__nr_attempt="))
    printed = subprocess.check_output(
        ["bash", "-c", f'{script.complete(line, 1, "", "")}; printf %s "$__nr_attempt"'], text=True
    )
    assert printed == f"{folder}/title/title_1/train/attempts/1"
    chdir = next(
        flag for flag in flags(batch_for(tunnel=SSHTunnel(host="h", user="", job_dir=folder))) if "chdir" in flag
    )
    assert "\n" not in chdir


def test_what_runs_where() -> None:
    command = Command(
        (sys.executable, "-m", "nemo_run.core.runners.fdl_runner", "-n", "t", f"{DIRECTORY}/task.json"), python=True
    )
    there = batch_for(command).steps[0]
    assert there.argv == [
        "python3",
        "/scratch/me/title/title_1/train/runner.zip",
        "-n",
        "t",
        "/scratch/me/title/title_1/train/task.json",
    ]
    inside = batch_for(command, container_image="img").steps[0]
    assert inside.argv == ["python3", "/nemo_run/runner.zip", "-n", "t", "/nemo_run/task.json"]
    assert inside.cwd == "/nemo_run/code"
    here = batch_for(command, tunnel=LocalTunnel(job_dir="")).steps[0]
    assert here.argv[:2] == [sys.executable, f"{DIRECTORY}/runner.zip"]
    assert here.cwd == "/home/me"


def test_container_options() -> None:
    step = batch_for(
        Command(("true",), {"B": "2"}), container_image="nvcr.io#x:1",
        container_mounts=["/data:/data", "/$nemo_run/x:/y"], container_env=["PATH_IN"],
        env_vars={"A": "1"}, srun_args=["--no-container-mount-home"], cpus_per_task=4,
    ).steps[0]  # fmt: skip
    assert list(step.options) == [
        "--kill-on-bad-exit=1", "--wait=60", "--cpus-per-task=4", "--container-image=nvcr.io#x:1",
        "--container-mounts=/data:/data,/scratch/me/title/title_1/train/x:/y,/scratch/me/title/title_1/train:/nemo_run",
        "--container-env=PATH_IN,A,B", "--no-container-mount-home",
    ]  # fmt: skip


def test_the_alias_of_the_jobs_folder() -> None:
    command = Command(("train", "/nemo_run/code/x.py", "--out=/nemo_run", "/my/nemo_run/x", "/nemo_runner"))
    folder = "/scratch/me/title/title_1/train"
    expected = ["train", f"{folder}/code/x.py", f"--out={folder}", "/my/nemo_run/x", "/nemo_runner"]
    assert batch_for(command).steps[0].argv == expected
    assert batch_for(command, container_image="img").steps[0].argv == list(command.argv)


def test_torchrun_over_nodes() -> None:
    command = Command((sys.executable, "train.py"), python=True)
    batch = batch_for(command, launcher="torchrun", nodes=2, gpus_per_node=8)
    words = script.task_file(batch.steps[0]).splitlines()[-1]
    assert '--rdzv-endpoint="$head_node_ip":29500' in words
    assert "--nnodes=2 --nproc-per-node=8" in words
    assert '--node-rank="$SLURM_NODEID"' in words.replace("'--node-rank='", "--node-rank=")
    assert batch.steps[0].ranks == 2


def test_macros_are_expanded_on_the_cluster_and_nothing_else_is() -> None:
    command = Command(("x", f"tcp://$${ExecutorMacros.HEAD_NODE_IP_VAR}:1", "$head_node_ip", "${head_node_ip}"))
    step = batch_for(command).steps[0]
    line = script.task_file(step).splitlines()[-1]
    printed = subprocess.check_output(
        ["bash", "-c", f"head_node_ip=10.0.0.1; printf '%s\\n' {line.removeprefix('exec x ')}"], text=True
    )
    assert printed.splitlines() == ["tcp://10.0.0.1:1", "$head_node_ip", "${head_node_ip}"]


def test_names_of_files_can_be_overridden() -> None:
    class Details(SlurmJobDetails):
        @property
        def srun_stdout(self) -> Path:
            return Path(str(self.folder), "log_%j.txt")

    step = batch_for(job_details=Details(folder="/logs", job_name="n")).steps[0]
    assert step.log == "/logs/log_%j.txt"
    assert script.file_name(step.log) == "/logs/log_${SLURM_JOB_ID:-0}.txt"


def test_the_tasks_of_a_group_that_share_a_folder_for_logs_do_not_share_a_log() -> None:
    details = SlurmJobDetails(job_name="mine", folder="/logs")
    requests = [replace(request_for(job=job, job_details=details), members=2, member=i) for i, job in enumerate("ab")]
    batch = spec.batch_of(spec.render(requests)[0].spec)
    assert [step.log for step in batch.steps] == [
        f"/logs/log-mine-{x}_%j_${{SLURM_RESTART_COUNT:-0}}.out" for x in "ab"
    ]
    assert batch.components[0]["job_name"] == "mine"


def test_folders_for_logs_are_made_unless_only_slurm_knows_them() -> None:
    class Details(SlurmJobDetails):
        @property
        def srun_stdout(self) -> Path:
            return Path("own", "task.log")

        @property
        def stdout(self) -> Path:
            return Path("/logs/%j/batch_%t.log")

    plan = spec.render([request_for(job_details=Details())])[0]
    assert plan.spec["log_folders"] == ["/scratch/me/title/title_1/train/own"]
    assert plan.spec["batch"]["steps"][0]["log"] == "/scratch/me/title/title_1/train/own/task.log"
    assert plan.spec["batch"]["components"][0]["output"] == "/logs/%j/batch_0.log"
    assert spec.render([request_for()])[0].spec["log_folders"] == []
    named = spec.render([request_for(job_details=SlurmJobDetails(folder="/logs"))])[0]
    assert named.spec["log_folders"] == ["/logs"]


STUBS = """\
scontrol() { printf 'node7\\nnode8\\n'; }
hostname() { echo "host $*"; }
SLURM_NNODES=2 HOME=/root
"""


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("$SLURM_NNODES", "2"),
        ("${SLURM_NNODES}", "2"),
        ("$SLURM_NOT_SET_HERE", ""),
        ('$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)', "node7"),
        ("$(scontrol show hostnames $SLURM_JOB_NODELIST)", "node7\nnode8"),
        ("$(hostname --ip-address)", "host --ip-address"),
        ("$(hostname)", "host "),
        ("$(hostname $(scontrol x | tail -n 1))", "host node8"),
        *(
            (value, value)
            for value in (
                "$HOME",
                "${HOME}",
                "${SLURM_NNODES:-3}",
                "$SLURM_NNODES nodes",
                "x$SLURM_NNODES",
                "$(date)",
                "`hostname`",
                "$(hostname) and $(hostname)",
                "$(hostname)$(date)",
                "$(hostname",
                "$(hostname ')",
                "$(hostname\ndate)",
                "$(hostnamectl)",
                "$(hostname);date",
                "tcp://$(hostname)",
            )
        ),
    ],
)
def test_a_variable_that_asks_for_the_nodes_is_evaluated_there_and_no_other_is(value: str, expected: str) -> None:
    step = batch_for(env_vars={"V": value}).steps[0]
    text = script.complete(script.environment_file(step), 1, "", "")
    printed = subprocess.check_output(["bash", "-c", f'{STUBS}\n{text}printf %s "$V"'], text=True)
    assert printed == expected


def test_only_variables_of_the_executor_are_evaluated() -> None:
    step = batch_for(Command(("true",), {"V": "$(hostname)"}), env_vars={"W": "$SLURM_NNODES"}).steps[0]
    assert "export V='$(hostname)'\nexport W=" in "\n".join(sorted(script.environment_file(step).splitlines()))


@pytest.mark.parametrize(("given", "kept"), [(0.5, 0.5), (-3, 0), (-0.5, 0), (0, 0), (7, 7)])
def test_a_pause_between_tasks_of_a_group_is_any_number(given: float, kept: float) -> None:
    executor = SlurmExecutor(wait_time_for_group_job=given)
    assert executor.wait_time_for_group_job == kept
    assert executor.clone().to_config().wait_time_for_group_job == kept
    requests = [request_for(job=job, wait_time_for_group_job=given) for job in "ab"]
    text = script.steps_script(spec.batch_of(spec.render(requests)[0].spec))
    assert re.findall(r"^sleep (.*)", text, re.MULTILINE) == ([str(kept)] if kept else [])


@pytest.mark.parametrize("dependencies", [None, []])
def test_no_dependencies_can_be_said_in_two_ways(dependencies: list[str] | None) -> None:
    executor = SlurmExecutor(dependencies=dependencies)
    executor.check()
    assert executor.parse_deps() == []
    assert spec.render([request_for(dependencies=dependencies)])[0].spec["dependencies"] == []


@pytest.mark.parametrize(
    ("ntasks", "per_node", "per_task", "torchrun", "asked", "started"),
    [
        (1, None, None, None, 1, 1),
        (1, 8, None, None, 8, 8),
        (1, None, 2, None, 2, 2),
        (1, 8, 2, None, 8, 8),
        (4, None, None, None, 4, 4),
        (4, 8, None, None, 4, 4),
        (4, None, 2, None, 2, 4),
        (4, 8, 2, None, 2, 4),
        (4, 8, 2, 3, 3, 3),
    ],
)
def test_processes_on_a_node(
    ntasks: int, per_node: int | None, per_task: int | None, torchrun: int | None, asked: int, started: int
) -> None:
    options = {"ntasks_per_node": ntasks, "gpus_per_node": per_node, "gpus_per_task": per_task}
    executor = SlurmExecutor(**options, torchrun_nproc_per_node=torchrun)  # type: ignore[arg-type]
    assert executor.nproc_per_node() == asked
    command = Command((sys.executable, "x.py"), python=True)
    step = batch_for(command, **options, torchrun_nproc_per_node=torchrun, launcher="torchrun").steps[0]
    assert f"--nproc-per-node={started}" in step.argv


def test_heterogeneous_components() -> None:
    options: dict[str, Any] = {"heterogeneous": True, "het_group_indices": [0, 0, 1]}
    requests = [request_for(job=f"m{i}", nodes=i + 1, **options) for i in range(3)]
    plans = spec.render(requests)
    batch = spec.batch_of(plans[0].spec)
    assert [component["nodes"] for component in batch.components] == [1, 3]
    assert script.batch_script(batch).count("#SBATCH hetjob") == 1
    assert [step.options[0] for step in batch.steps] == ["--het-group=0", "--het-group=0", "--het-group=1"]
    assert [plan.spec["member"] for plan in plans] == [0, 1, 2]
    assert all(plan.spec["leader"].endswith("/m0") for plan in plans)


@pytest.mark.parametrize("indices", [[0, 1], [1, 1, 2], [0, 2, 2], [0, 1, 0]])
def test_wrong_components(indices: list[int]) -> None:
    with pytest.raises(ExecutorError, match="het_group_indices"):
        SlurmExecutor(heterogeneous=True, het_group_indices=indices).component_indices(3)


def test_merge() -> None:
    first, second = SlurmExecutor(nodes=1, heterogeneous=True), SlurmExecutor(nodes=2, env_vars={"A": "1"})
    merged = SlurmExecutor.merge([first, second], 2)
    assert merged is first
    assert merged.run_as_group
    assert [(one.nodes, one.env_vars) for one in merged.resource_group] == [(1, {}), (2, {"A": "1"})]
    with pytest.raises(ExecutorError, match="2 executors for 3 tasks"):
        SlurmExecutor.merge([first, second], 3)


def test_plans_hold_how_to_reach_the_cluster() -> None:
    plan = spec.render([request_for()])[0]
    assert plan.connection == {
        "tunnel": {
            "kind": "ssh",
            "host": "login",
            "user": "me",
            "port": None,
            "identity": None,
            "shell": None,
            "pre_command": None,
        }
    }
    other = spec.render([request_for(tunnel=SSHTunnel(host="login", user="me", job_dir="/other"))])[0]
    assert other.backend_key == plan.backend_key
    assert Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize("dependency", ["77", "slurm://77/scratch/x/attempts/1", "slurm_tunnel://nemo_run/77/master/0"])
def test_dependencies_of_the_user(dependency: str) -> None:
    assert SlurmExecutor(dependencies=[dependency]).parse_deps() == ["77"]


def test_interactive_options() -> None:
    executor = SlurmExecutor(account="a", nodes=2, comment="two words", array="1-2", job_name_prefix="p-")
    words = shlex.join(executor._interactive_options("work"))
    assert words == "--account=a --time=00:10:00 --nodes=2 --ntasks-per-node=1 '--comment=two words' --job-name=p-work"


def test_names_from_before() -> None:
    assert get_packaging_job_key("exp", "job") == "exp:job"
    assert SlurmExecutor(tunnel=REMOTE).info() == "SlurmExecutor on me@login"
    assert run.SlurmExecutor(gpus_per_node=8).nproc_per_node() == 8
    assert run.SlurmExecutor(ntasks_per_node=4, gpus_per_node=8).nproc_per_node() == 4


def test_templates(tmp_path: Path) -> None:
    template = run.SlurmTemplate(template_inline="a={{ a }}\n{{ command }}", template_vars={"a": 1})
    step = batch_for(Command(("echo", "x y")), launcher=template).steps[0]
    assert step.argv == ["bash", "-c", "a=1\necho 'x y'"]
    file = tmp_path / "t.sh"
    file.write_text("time {{ command }}")
    assert run.SlurmTemplate(template_path=str(file)).transform(["ls"]).inline == "time ls"  # type: ignore[union-attr]
    with pytest.raises(ExecutorError, match="needs template_inline"):
        run.SlurmTemplate().render_template(["ls"])
    with pytest.raises(ExecutorError, match="'b' is undefined"):
        run.SlurmTemplate(template_inline="{{ b }}").render_template(["ls"])


def test_ray_template_is_valid_bash() -> None:
    launcher = run.SlurmRay(
        head_setup="echo ready", env_vars={"A": "it's"}, gcs_server_port=7000, display_nvidia_smi_output=True
    )
    text = launcher.render_template(["python", "train.py", "a b"])
    subprocess.run(["bash", "-n"], input=text.encode(), check=True)
    assert "gcs_port=$(port 7000)" in text
    assert '--dashboard-port="$(port 0)"' in text
    assert "python train.py 'a b'" in text
    assert shlex.quote("it's") in text
    assert "{{" not in text


RAY = Command(("python", "train.py"), with_ray=True)


def test_a_script_with_a_ray_cluster_is_started_once_over_all_nodes() -> None:
    options: dict[str, Any] = {"nodes": 3, "ntasks_per_node": 8, "gpus_per_node": 8}
    executor = request_for(RAY, **options).executor
    batch = batch_for(RAY, **options)
    assert batch.steps[0].argv[:2] == ["bash", "-c"]
    for part in ("ray start --head", "ray start --address", "\npython train.py"):
        assert part in batch.steps[0].argv[2]
    assert "--ntasks-per-node=1" in flags(batch)
    assert batch.steps[0].ranks == 3
    assert executor.launcher is None
    assert batch_for(replace(RAY, with_ray=False), **options).steps[0].argv == ["python", "train.py"]


def test_a_ray_cluster_around_a_script_is_that_of_the_launcher_and_is_profiled() -> None:
    own = batch_for(RAY, launcher=run.SlurmRay(gcs_server_port=7001)).steps[0]
    assert "gcs_port=$(port 7001)" in own.argv[2]
    assert batch_for(RAY, launcher=Launcher(nsys_profile=True)).steps[0].argv[0] == "nsys"


@pytest.mark.parametrize("launcher", ["torchrun", "ft", run.SlurmTemplate(template_inline="time {{ command }}")])
def test_a_script_with_a_ray_cluster_has_no_other_launcher(launcher: Any) -> None:
    with pytest.raises(ExecutorError, match=r"use_with_ray_cluster.*leave the launcher out"):
        batch_for(RAY, launcher=launcher)


def test_only_the_tasks_of_a_group_that_want_a_ray_cluster_have_one() -> None:
    requests = [request_for(RAY, "a", ntasks_per_node=2), request_for(job="b", ntasks_per_node=2)]
    driver, server = spec.batch_of(spec.render(requests)[0].spec).steps
    assert "ray start" in driver.argv[2]
    assert "--ntasks-per-node=1" in driver.options
    assert server.argv == ["hostname"]
    assert "--ntasks-per-node=2" in server.options
