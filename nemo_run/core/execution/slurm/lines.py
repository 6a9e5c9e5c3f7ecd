"""Lines of shell that job scripts are made of. Names of theirs begin with ``__nr_``: users have names of their own."""

# For Slurm's commands; the id of the last task of an array is also that of the whole array.
JOB = r"""
__nr_job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID} __nr_job=${__nr_job:-$SLURM_JOB_ID}
"""

IDS = (
    JOB
    + """\
__nr_id=${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID} __nr_task=${SLURM_ARRAY_TASK_ID:-0}
"""
)

# An element of an array of tasks, each of which is a job of its own for whoever looks at it, and for itself.
ELEMENT = r"""
if [ "${1-}" = element ]; then
  __nr_id=$__nr_job __nr_task=0
  unset "${!SLURM_ARRAY_@}"
  cd -- FOLDER && exec OUTPUT || exit
fi
"""

# Every line of the list is the folder of an attempt.
ARRAY = r"""
__nr_attempt=$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" LIST) && exec "$BASH" "$__nr_attempt/job.sh" element
"""

# A job that Slurm took although sbatch said that it did not, or took twice, may start late: only one has the attempt.
CLAIM = r"""
if ! ln -s -- "$__nr_id" "$__nr_attempt/owner" 2>/dev/null; then
  case $(readlink -- "$__nr_attempt/owner") in
  "$__nr_id") ;;
  '') echo "cannot write in $__nr_attempt"; exit 1 ;;
  *) echo "this attempt was given up, or is that of another job: nothing is run"; exit 0 ;;
  esac
fi
if [ "$(cat "$__nr_attempt/ended.$__nr_task" 2>/dev/null)" = "$__nr_job ${SLURM_RESTART_COUNT:-0}" ]; then
  read -r __nr_code __nr_rest < "$__nr_attempt/end.$__nr_task"
  echo "Slurm has started this job once more, as its controller lost that it has ended: nothing is run"
  exit "$__nr_code"
fi
"""

OPEN_LOG = r"""
__nr_log=LOG
(umask 077; : >> "$__nr_log") &&
  ln -sfn -- "$__nr_log" "$__nr_attempt/log.${SLURM_ARRAY_TASK_ID:-0}.${SLURM_RESTART_COUNT:-0}.RANKS" || exit
"""

WHY = r"""
__nr_said=$(stat -Lc %s "/proc/$$/fd/3")
__nr_why() {  # a word on why a step ended with the code $1, where Slurm's state of the job may not tell
  if [ "$1" -eq 0 ]; then return; fi
  if [ -e "$__nr_attempt/ending" ]; then echo " group"; return; fi
  if [ -n "${__nr_lost-}" ]; then echo " node"; return; fi
  if tail -c "+$((__nr_said + 1))" "/proc/$$/fd/3" |
    grep -qiE 'oom.kill|out of memory|exceeded (job )?memory limit'; then
    echo " memory"
  fi
}
"""

HEAD_NODE = """\
__nr_head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
head_node_ip=$(scontrol show node "$__nr_head" | sed -n 's/.*NodeAddr=\\([^ ]*\\).*/\\1/p')
__nr_address=$(getent ahostsv4 "${head_node_ip:=$__nr_head}" | awk '$1 !~ /^127\\./ {print $1; exit}')
export head_node_ip="${__nr_address:-$head_node_ip}"
"""

# What can be seen of a package without reading it: the files that it has, and how long they are.
SUM = r"""sum() {
  if [ -d "$1" ]; then (cd -- "$1" && find . \( -type f -o -type l \) -printf '%s %p\n' | LC_ALL=C sort | cksum)
  else wc -c < "$1"; fi
}"""

# The files are hard links, and cannot be written to: a task that changes one of them replaces it.
COPY_CODE = """\
if [ ! -e "$__nr_code" ]; then
  __nr_from=$__nr_packages/\0code\0
  [ ! -e "$__nr_from" ] || [ -O "$__nr_from" ] || __nr_from=$__nr_from.$UID  # the folder is shared with others
  cp -al "$__nr_from" "$__nr_code.$$" 2>/dev/null ||
    { rm -rf "$__nr_code.$$"; cp -a "$__nr_from" "$__nr_code.$$"; } || exit
  if [ "$(__nr_sum "$__nr_code.$$")" != "$(cat "$__nr_from.sum")" ]; then
    echo "files of the packaged code are missing in $__nr_from: something has cleaned up there; launch it again"
    exit 1
  fi
  mv -T "$__nr_code.$$" "$__nr_code" 2>/dev/null || rm -rf "$__nr_code.$$"  # another task of the array was faster
fi"""

LINK_RUNNER = """\
if [ ! -e "$__nr_runner" ]; then
  __nr_from=$__nr_packages/\0runner\0
  [ ! -e "$__nr_from" ] || [ -O "$__nr_from" ] || __nr_from=$__nr_from.$UID
  ln "$__nr_from" "$__nr_runner" 2>/dev/null || cp -f "$__nr_from" "$__nr_runner" || exit
fi"""

# What the user wants to run first has a shell of its own: its options, functions and traps are not those of the rest.
# The script itself goes on when a signal comes that Slurm was asked to send, and passes it on to the tasks.
RUN = r"""
for __nr_signal in SIGNALS; do
  trap "__nr_signalled=1; scancel --signal=$__nr_signal $__nr_job" "$__nr_signal"
done
(
  [ ! -e "$__nr_attempt/setup.sh" ] || . "$__nr_attempt/setup.sh"
  exec "$BASH" "$__nr_attempt/steps.sh"
) &
__nr_steps=$!
while :; do
  __nr_signalled=
  wait "$__nr_steps"; __nr_code=$?
  [ -n "$__nr_signalled" ] || break
done
"""

# A program fails, too, where one of its nodes does, and mostly before Slurm has noticed that. So each of them is asked,
# after this one, which shows that asking works.
NODES = r"""
__nr_ask() { timeout 60 srun --overlap --ntasks-per-node=1 --input=none "$@" true >/dev/null 2>&1; }
__nr_lost=
if [ "$__nr_code" -ne 0 ] && [ "$__nr_code" -ne 85 ] && [ "${SLURM_JOB_NUM_NODES:-1}" -gt 1 ] &&
  __nr_ask --nodes=1 --ntasks=1 --nodelist="$SLURMD_NODENAME" &&
  ! __nr_ask --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES"; then
  __nr_lost=1
fi
"""

# Only failures count; a job may also be put back by others, as when it is preempted.
RETRY = r"""
if [ "$__nr_code" -ne 0 ] && [ -z "${__nr_lost-}" ]; then
  __nr_failures=$(cat "$__nr_attempt/failures.$__nr_task" 2>/dev/null || echo 0)
  __nr_state=
  if [ "$__nr_failures" -lt RETRIES ]; then
    for __nr_pause in 2 5 15 30 0; do  # Slurm may not answer for a while
      __nr_state=$(squeue -h -j "$__nr_job" -o %T) && break
      sleep "$__nr_pause"
    done
  fi
  if [ "$__nr_state" = RUNNING ]; then  # and not being cancelled
    (umask 077; echo "$((__nr_failures + 1))" > "$__nr_attempt/failures.$__nr_task")
    for __nr_pause in 1 3 10 30 0; do
      # This script is ended while it sleeps; that bash has something to say of that is no part of the log.
      scontrol requeue "$__nr_job" && exec 2>/dev/null && sleep 600
      sleep "$__nr_pause"
    done
  fi
fi"""

END = r"""
umask 077
echo "$__nr_code$(__nr_why "$__nr_code")" > "$__nr_attempt/.end.$$" &&
  mv -f "$__nr_attempt/.end.$$" "$__nr_attempt/end.$__nr_task" &&
  echo "$__nr_job ${SLURM_RESTART_COUNT:-0}" > "$__nr_attempt/ended.$__nr_task"
exit "$__nr_code"
"""

STEP_END = r"""__nr_code=$?
umask 077; echo "$__nr_code$(__nr_why "$__nr_code")" > "$__nr_attempt/end.member"
exit "$__nr_code" """.rstrip()

WAIT = r"""
for __nr_pid in "${__nr_pids[@]}"; do
  wait "$__nr_pid"; __nr_ended=$?
  [ "$__nr_code" -ne 0 ] || __nr_code=$__nr_ended
done"""

MONITOR = r"""
for __nr_pid in "${__nr_pids[@]}"; do
  wait -n; __nr_code=$?
  GOES_ON && continue
  touch "${__nr_folders[@]/%//ending}"
  scancel --signal=TERM "$__nr_job"  # the first such end is that of the other steps
  { sleep 30; scancel --signal=KILL "$__nr_job"; } &
  wait "${__nr_pids[@]}" 2>/dev/null
  kill $!
  break
done"""

# Slurm itself starts a job again that was preempted, or whose node failed; retries are no restarts.
REQUEUED = """\
if [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ]; then
  __nr_retries=$(cat "$__nr_attempt"/failures.* 2>/dev/null || echo 0)
  if [ "$SLURM_RESTART_COUNT" -gt "$__nr_retries" ]; then
    export NEMO_RUN_RESTART=$((NEMO_RUN_RESTART + SLURM_RESTART_COUNT - __nr_retries))
    export NEMO_RUN_RESTART_CAUSE=requeued
  fi
fi
"""
