"""Scripts for ``sh`` that run on the cluster; they take their arguments as ``$1``, ``$2`` and so on."""

from nemo_run.core.execution.slurm.lines import SUM

# What the user's shell sets for Slurm's commands would hide jobs, or overrule what is asked for.
PLAIN = r"""
for v in $(env | sed -n 's/^\(S\(LURM\|BATCH\|QUEUE\|ACCT\|CANCEL\|CONTROL\|RUN\|ALLOC\)_[A-Za-z0-9_]*\)=.*/\1/p'); do
  case $v in SLURM_CONF | SLURM_CONF_SERVER | SLURM_JWT) ;; *) unset "$v" ;; esac
done
"""

# A command of Slurm, and its arguments.
CALL = PLAIN + 'export SLURM_TIME_FORMAT=%s; exec "$@"'

# Packages of another user in a folder that is shared are left alone: one's own have another name then.
_OWN = r"""
own() { if [ -e "$1" ] && [ ! -O "$1" ]; then echo "$1.$(id -u)"; else echo "$1"; fi; }
"""

# For every package a line: 1 where it is there as it was sent. What has not been used for a day is said to be new, so
# that what cleans up by age leaves it alone.
CHECK_PACKAGES = (
    SUM
    + _OWN
    + r"""
n=0
for f in "$@"; do
  f=$(own "$f") is=0
  if [ -O "$f" ] && [ -s "$f.sum" ] && [ "$(sum "$f")" = "$(cat "$f.sum")" ]; then
    is=1
    [ -z "$(find "$f.sum" -mtime +0)" ] || find "$f" "$f.sum" ! -type l -exec touch -c {} +
  fi
  echo "$n $is"; n=$((n + 1))
done"""
)

# Files have the time of now, not that in the archive. What is there in part is replaced.
PUT_PACKAGE = (
    SUM
    + _OWN
    + r"""
umask 077; mkdir -p -- "$1" || exit
if [ -O "$1" ]; then chmod --reference="$1/.." -- "$1" && chmod +t -- "$1" || exit; fi
f=$(own "$2") && new=$(mktemp -d -- "$1/.new-XXXXXX") || exit
trap 'rm -rf -- "$new"' EXIT
case $2 in
*.zip) cat > "$new/x" ;;
*) mkdir "$new/x" && tar -xzmf - -C "$new/x" && find "$new/x" -type f -exec chmod a-w {} + ;;
esac || exit
sum "$new/x" > "$new/sum"
if [ -O "$f" ] && [ "$(sum "$f")" = "$(cat "$new/sum")" ]; then mv -f -- "$new/sum" "$f.sum"; exit; fi
mkdir "$new/old" && { [ ! -e "$f" ] || mv -- "$f" "$new/old/"; }
{ mv -T -- "$new/x" "$f" || [ -O "$f" ]; } && mv -f -- "$new/sum" "$f.sum"
"""
)

# Folders between that of all jobs and that of an experiment are as the first: it may be shared by a team.
# Folders of logs outside of the job's own are the user's, with the user's umask.
UNPACK = """\
base=$1; shift; mask=$(umask)
umask 077; mkdir -p -- "$base" || exit
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  [ -e "$base/$1" ] || ! mkdir -- "$base/$1" 2>/dev/null || chmod --reference="$base" -- "$base/$1"
  shift
done
shift
tar -xpf - -C "$base" || exit
umask "$mask"; [ $# -eq 0 ] || mkdir -p -- "$@"
"""

# Of every Python a line: its version, as far as it is known here.
PYTHONS = r"""
n=0
for python in "$@"; do
  said=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' </dev/null 2>/dev/null)
  echo "$n ${said:--}"; n=$((n + 1))
done"""

# Whether uv is there, or has been sent to a folder; else what machine this is.
ASK_FOR_UV = 'command -v uv >/dev/null || [ -x "$1/uv" ] || uname -sm'
PUT_UV = """
[ -d "$1" ] || { mkdir -p -- "$1" && chmod --reference="$1/.." -- "$1"; } || exit
cat > "$1/uv.$$" && chmod 755 -- "$1/uv.$$" && mv -f -- "$1/uv.$$" "$1/uv"
"""

# What sbatch says is kept as it is; a site's own sbatch may say more than the id, which comes last.
_ID_IN = r"""
id_in() {  # whether a file has the id of a job; it is $id then
  id=
  [ ! -e "$1" ] || while IFS= read -r line; do
    line=${line%%;*}
    case $line in '' | *[!0-9]*) ;; *) id=$line ;; esac
  done < "$1"
  [ -n "$id" ]
}
"""

# An element of an array has a file that says which it is, and whose attempt was submitted for all: the leader's.
_PART_OF = r"""
part_of() {  # $part, such as _4 or nothing, and $at, where the id of its job is
  at=$1 part=
  [ ! -s "$1/element" ] || { IFS=' ' read -r part at < "$1/element"; part=_$part; }
}
"""

# For every attempt three lines: its folder, that of the attempt that leads its group, and what it waits for.
# A few loops share the attempts; they start no program but sbatch, and no shell: there may be many attempts. Where a
# user may have so many jobs only, one loop keeps them in order, and stops when there are too many: W says that.
SUBMIT = (
    PLAIN
    + _ID_IN
    + _PART_OF
    + r"""
mask=$(umask)  # jobs inherit it: it is to be the user's own
umask 077; set -C  # with >, a file that is there already is an error: so an attempt is claimed
full=
is_full() {  # whether sbatch said that these are too many jobs for the user, some of which will end
  grep -qE '(Assoc|QOS)[A-Za-z]*Submit' "$folder/sbatch.err" || return
  [ -z "$part" ] || return 0  # fewer of them may do
  grep -qE '(Assoc|QOS)Grp[A-Za-z]*Submit' "$folder/sbatch.err" || [ -n "$(squeue --me -h -o %i)" ]
}
submit() {
  part_of "$folder"
  if [ -n "$full" ]; then echo "$n W $full"; return; fi
  if ! true 2>/dev/null > "$folder/claimed"; then
    if id_in "$folder/job_id"; then echo "$n S $id$part"
    else echo "$n E it was submitted before"; fi
    return
  fi
  true >| "$folder/job_id" 2>| "$folder/sbatch.err"
  umask "$mask"
  script=$folder/job.sh
  [ -z "$part" ] || script=$folder/array.sh
  sbatch --parsable ${dependency:+"--dependency=$dependency" --kill-on-invalid-dep=yes} "$script" \
    </dev/null >| "$folder/job_id" 2>| "$folder/sbatch.err"
  code=$?
  umask 077
  if [ "$code" -eq 0 ] && id_in "$folder/job_id"; then echo "$n S $id$part"
  elif is_full; then
    full=$(tr '\n' ' ' < "$folder/sbatch.err")
    rm -f "$folder/claimed" "$folder/job_id" && echo "$n W $full"
  else
    echo failed >| "$folder/failed"
    [ "$code" -ne 0 ] || echo "sbatch gave no id of a job: $(cat "$folder/job_id")" >> "$folder/sbatch.err"
    echo "$n E $(tr '\n' ' ' < "$folder/sbatch.err")"
  fi
}
join() {
  part_of "$folder"
  said=
  [ -z "$part" ] || [ ! -s "$leader/sbatch.err" ] || said=$(tr '\n' ' ' < "$leader/sbatch.err")
  if id_in "$leader/job_id"; then echo "$id" >| "$folder/job_id"; echo "$n S $id$part"
  elif ! [ -e "$leader/claimed" ]; then echo "$n W ${said:-as the first task of its group does}"
  elif [ -n "$said" ]; then echo "$n E $said"
  else echo "$n E the first task of its group was not submitted"; fi
}
all=$(cat; echo .)  # else it would lose empty lines at its end
share() {  # the leaders, or the other members of groups, whose number modulo $2 is $1
  n=-1
  while IFS= read -r folder && IFS= read -r leader && IFS= read -r dependency; do
    n=$((n + 1))
    [ $((n % $2)) -eq "$1" ] || continue
    if [ "$leader" = "$folder" ]; then [ "$3" = leaders ] && submit; else [ "$3" = members ] && join; fi
  done <<END
$all
END
}
is_limited() {
  { timeout 5 sacctmgr -nP show assoc where "user=$(id -un)" format=MaxSubmitJobs,GrpSubmitJobs
    timeout 5 sacctmgr -nP show qos format=MaxSubmitJobsPerUser,MaxSubmitJobsPerAccount,GrpSubmit
  } 2>/dev/null | grep -q '[0-9]'
}
if [ "$(echo "$all" | grep -c .)" -le 32 ] || is_limited; then share 0 1 leaders
else
  for i in 0 1 2 3; do share "$i" 4 leaders & done
  wait
fi
share 0 1 members
true"""
)

RECOVER = (
    _ID_IN
    + _PART_OF
    + """\
umask 077; set -C; mkdir -p -- "$1" || exit
if readlink -- "$1/owner"; then exit; fi
part_of "$1"
if true 2>/dev/null > "$at/claimed"; then echo failed > "$at/failed"; ln -s void "$1/owner" && echo void; exit; fi
for i in 1 2 3 4 5 6 7 8 9 10; do
  if id_in "$at/job_id"; then echo "$id$part"; exit; fi
  [ ! -e "$at/failed" ] || break
  sleep 0.5
done
echo '?'"""
)

# For every attempt two lines, with their numbers: the batch script that it was submitted with, and that's --chdir.
SCRIPTS = (
    _PART_OF
    + r"""
n=0 of=
while IFS= read -r folder; do
  part_of "$folder"
  script=$folder/job.sh
  [ -z "$part" ] || script=$at/array.sh
  [ ! -s "$folder/leader" ] || { IFS= read -r at < "$folder/leader"; script=$at/job.sh; }
  if [ "$script" != "$of" ]; then
    of=$script dir=
    [ ! -e "$of" ] || while IFS= read -r line; do
      case $line in '#SBATCH --chdir='*) dir=${line#*=}; break ;; '') break ;; esac
    done < "$of"
  fi
  printf '%s %s\n%s %s\n' "$n" "$script" "$((n + 1))" "$dir"; n=$((n + 2))
done"""
)

ELEMENT = '[ ! -e "$1/element" ] || cat "$1/element"'

# A job that turns up later finds that it has come too late; or it was faster.
GIVE_UP = 'ln -s -- void "$1/owner" 2>/dev/null; readlink -- "$1/owner"'

# For every folder a line: its number, which tasks of an array there are, or "-", and how each that has ended did; or
# "unseen" where no node has begun the script, or "gone" where the folder is.
ENDS = r"""
n=0
while IFS= read -r folder; do
  if ! [ -d "$folder" ]; then echo "$n gone"; n=$((n + 1)); continue; fi
  if [ -e "$folder/job.sh" ] && ! [ -L "$folder/owner" ]; then echo "$n unseen"; n=$((n + 1)); continue; fi
  array=$(sed -n 's/^#SBATCH --array=//p' "$folder/job.sh" 2>/dev/null | tail -n 1)
  printf '%s %s' "$n" "${array:--}"; n=$((n + 1))
  for f in "$folder/end.member" "$folder"/end.[0-9]*; do
    [ -s "$f" ] && { read -r code why < "$f"; printf ' %s' "${f##*.},$code,$(stat -c %.9Y "$f"),$why"; }
  done
  echo
done"""
