#!/bin/bash
#SBATCH --job-name=me-me.slurm
#SBATCH --output=/scratch/me/runs/engines/engines_20261130_172609/slurm/sbatch_slurm_%j.out
#SBATCH --chdir=/scratch/me/runs/engines/engines_20261130_172609/slurm
#SBATCH --account=me
#SBATCH --partition=gpu
#SBATCH --time=01:00:00
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --open-mode=append

# Job 'slurm' of experiment 'engines_20261130_172609', made by NeMo-Run

attempt='/scratch/me/runs/engines/engines_20261130_172609/slurm/attempts/1'
log=/scratch/me/runs/engines/engines_20261130_172609/slurm/log-slurm_${SLURM_JOB_ID:-0}_${SLURM_RESTART_COUNT:-0}.out
(umask 077; : >> "$log") && ln -sfn -- "$log" "$attempt/log.${SLURM_ARRAY_TASK_ID:-0}.${SLURM_RESTART_COUNT:-0}.8" || exit
exec 3>&1 >> "$log" 2>&1  # what srun itself has to say is left to the file of sbatch


said=$(stat -Lc %s "/proc/$$/fd/3")
why() {  # a word on why a step ended with the code $1, where Slurm's state of the job may not tell
  if [ "$1" -eq 0 ]; then return; fi
  if [ -e "$attempt/ending" ]; then echo " group"; return; fi
  if tail -c "+$((said + 1))" "/proc/$$/fd/3" | grep -qiE 'oom.kill|out of memory|exceeded (job )?memory limit'; then
    echo " memory"
  fi
}

head_node=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
head_node_ip=$(scontrol show node "$head_node" | sed -n 's/.*NodeAddr=\([^ ]*\).*/\1/p')
address=$(getent ahostsv4 "${head_node_ip:=$head_node}" | awk '$1 !~ /^127\./ {print $1; exit}')
export head_node_ip="${address:-$head_node_ip}"

code=/scratch/me/runs/engines/engines_20261130_172609/slurm/code
mkdir -p -m 700 -- "$code" || exit
. "$attempt/environment.sh" || exit
srun --output="${log//%/%%}" --open-mode=append --export=ALL --label --kill-on-bad-exit=1 --wait=60 /bin/sh '/scratch/me/runs/engines/engines_20261130_172609/slurm/attempts/1/task.sh' 2>&3
code=$?

umask 077
echo "$code$(why "$code")" > "$attempt/end.$$" && mv -f "$attempt/end.$$" "$attempt/end.${SLURM_ARRAY_TASK_ID:-0}"
exit "$code"

# /scratch/me/runs/engines/engines_20261130_172609/slurm/attempts/1/environment.sh
export COLOUR=blue
export NEMO_RUN_EXPERIMENT_ID=engines_20261130_172609
export NEMO_RUN_TASK=slurm
export NEMO_RUN_ARTIFACTS=/scratch/me/runs/engines/engines_20261130_172609/slurm/artifacts
export NEMO_RUN_SERVICES=/scratch/me/runs/engines/engines_20261130_172609/slurm/services
export PYTHONUNBUFFERED=1
export NEMO_RUN_ATTEMPT='1'

# /scratch/me/runs/engines/engines_20261130_172609/slurm/attempts/1/task.sh
exec 2>&1  # srun would not keep the order of the two streams
cd -- /scratch/me/runs/engines/engines_20261130_172609/slurm/code || exit
exec bash /scratch/me/runs/engines/engines_20261130_172609/slurm/scripts/slurm.sh
