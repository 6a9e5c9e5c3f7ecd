"""Scripts for ``sh`` that run on the cluster; they take their arguments as ``$1``, ``$2`` and so on."""

PUT_PACKAGE = """\
umask 077; mkdir -p -- "$1" && new=$(mktemp -d -- "$1/.new-XXXXXX") || exit
trap 'rm -rf -- "$new"' EXIT
case $2 in
*.zip) cat > "$new/x" && mv -f -- "$new/x" "$2" ;;
*) mkdir "$new/x" && tar -xzf - -C "$new/x" && find "$new/x" -type f -exec chmod a-w {} + &&
   { mv -T -- "$new/x" "$2" 2>/dev/null || [ -d "$2" ]; } ;;
esac"""

# Folders of logs outside of the job's own are the user's, with the user's umask.
UNPACK = """\
base=$1; shift; mask=$(umask)
umask 077; mkdir -p -- "$base" && tar -xpf - -C "$base" || exit
umask "$mask"; [ $# -eq 0 ] || mkdir -p -- "$@"
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

# For every attempt three lines: its folder, that of the attempt that leads its group, and what it waits for.
# A few loops share the attempts; they start no program but sbatch, and no shell: there may be many attempts.
SUBMIT = (
    _ID_IN
    + r"""
mask=$(umask)  # jobs inherit it: it is to be the user's own
umask 077; set -C  # with >, a file that is there already is an error: so an attempt is claimed
drop=$(env | sed -n '/^SLURM_CONF=/d; s/^\(SLURM_[A-Za-z0-9_]*\)=.*/-u \1/p' | tr '\n' ' ')
sbatch="${drop:+env $drop}sbatch --parsable"
submit() {
  if ! true 2>/dev/null > "$folder/claimed"; then
    if id_in "$folder/job_id"; then echo "$n S $id"
    else echo "$n E it was submitted before"; fi
    return
  fi
  true >| "$folder/job_id" 2>| "$folder/sbatch.err"
  umask "$mask"
  $sbatch ${dependency:+"--dependency=$dependency" --kill-on-invalid-dep=yes} "$folder/job.sh" \
    </dev/null >| "$folder/job_id" 2>| "$folder/sbatch.err"
  code=$?
  umask 077
  if [ "$code" -eq 0 ] && id_in "$folder/job_id"; then echo "$n S $id"
  else
    echo failed >| "$folder/failed"
    [ "$code" -ne 0 ] || echo "sbatch gave no id of a job: $(cat "$folder/job_id")" >> "$folder/sbatch.err"
    echo "$n E $(tr '\n' ' ' < "$folder/sbatch.err")"
  fi
}
join() {
  if id_in "$leader/job_id"; then echo "$id" >| "$folder/job_id"; echo "$n S $id"
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
for i in 0 1 2 3; do share "$i" 4 leaders & done
wait
share 0 1 members
true"""
)

RECOVER = (
    _ID_IN
    + """\
umask 077; set -C; mkdir -p -- "$1" || exit
[ ! -e "$1/void" ] || { echo void; exit; }
if true 2>/dev/null > "$1/claimed"; then echo void > "$1/void"; echo void; exit; fi
for i in 1 2 3 4 5 6 7 8 9 10; do
  if id_in "$1/job_id"; then echo "$id"; exit; fi
  [ ! -e "$1/failed" ] || break
  sleep 0.5
done
echo '?'"""
)

# For every folder a line: which tasks of an array there are, or "-", and how each that has ended did.
ENDS = r"""
while IFS= read -r folder; do
  array=$(sed -n 's/^#SBATCH --array=//p' "$folder/job.sh" 2>/dev/null | tail -n 1)
  printf %s "${array:--}"
  for f in "$folder/end.member" "$folder"/end.[0-9]*; do
    [ -s "$f" ] && { read -r code why < "$f"; printf ' %s' "${f##*.},$code,$(stat -c %.9Y "$f"),$why"; }
  done
  echo
done"""
