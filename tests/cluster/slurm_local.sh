#!/usr/bin/env bash
# A real Slurm on this machine (one controller, one node, munge, all on 127.0.0.1), started, used by slurm/*.sbatch, stopped.
#
#   tests/cluster/slurm_local.sh [--without-pipeline] [--keep]
#
# Checks that (1) an array job makes the same faces as one plain run, (2) a job that is preempted by a more urgent one is requeued and goes
# on where it was, (3) slurm/pipeline.sbatch runs all stages, with a (pretended) GPU asked for by --gres. Exit codes: 0 all well,
# 1 a check failed, 77 this machine has no Slurm (Debian: apt-get install slurm-wlm munge) or we are not root, which slurmd wants.
# Touches no Slurm that is installed here: own configuration, own key, own ports. --keep leaves the folder with logs.
set -euo pipefail

PROJECT="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)"
PYTHON="${DEEPFAKE_VENV:-$PROJECT/.venv}/bin/python"
pipeline=1 keep=0
for option in "$@"; do
  case "$option" in
    --without-pipeline) pipeline=0 ;;
    --keep) keep=1 ;;
    *) echo "error: unknown option $option (hint: see the head of $0)" >&2; exit 2 ;;
  esac
done
PATH="$PATH:/usr/sbin"
for program in slurmctld slurmd sbatch squeue scontrol munged mungekey; do
  command -v $program >/dev/null || { echo "skipped: $program is not installed (Debian: apt-get install slurm-wlm munge)"; exit 77; }
done
[ "$(id -u)" = 0 ] || { echo "skipped: slurmd wants to be root"; exit 77; }

W="$(mktemp -d /tmp/slurm-check.XXXXXX)"
chmod 755 "$W"
daemons=()
finish() {
  local rc=$?
  scancel --user="$(id -un)" >/dev/null 2>&1 || true
  for ((i = ${#daemons[@]} - 1; i >= 0; i--)); do kill "${daemons[i]}" 2>/dev/null || true; done
  wait 2>/dev/null || true
  if [ $rc != 0 ]; then
    for log in "$W"/*.log; do echo "--- the end of $log"; tail -n 25 "$log"; done
  fi
  [ $keep = 1 ] && echo "kept: $W" || rm -rf "$W"
  exit $rc
}
trap finish EXIT
trap 'exit 130' INT TERM

say() { echo "== $*"; }
fail() { echo "FAILED: $*"; exit 1; }
# await SECONDS WHAT COMMAND...: until the command succeeds. Long, because machines that test are busy; nothing here is about speed.
await() {
  local limit=$((SECONDS + $1)) what="$2"; shift 2
  until "$@"; do
    [ $SECONDS -lt $limit ] || fail "waited in vain: $what"
    for daemon in "${daemons[@]}"; do kill -0 "$daemon" 2>/dev/null || fail "a daemon died while waiting: $what"; done
    sleep 0.5
  done
}
free_port() { "$PYTHON" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# -- start -----------------------------------------------------------------------------------------------------------------------
say "starting Slurm $(slurmctld -V | cut -d' ' -f2)"
mungekey --create --keyfile="$W/munge.key"
munged --foreground --force --key-file="$W/munge.key" --socket="$W/munge.socket" --pid-file="$W/munge.pid" --seed-file="$W/munge.seed" \
  --log-file="$W/munge.log" >"$W/munged.log" 2>&1 & daemons+=($!)
await 60 "munge" test -S "$W/munge.socket"

host="$(hostname -s)"
export SLURM_CONF="$W/slurm.conf"
cat >"$SLURM_CONF" <<END
ClusterName=check
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$W/munge.socket
CredType=cred/munge
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
StateSaveLocation=$W/state
SlurmdSpoolDir=$W/spool
SlurmctldPidFile=$W/slurmctld.pid
SlurmdPidFile=$W/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=5
ReturnToService=2
SlurmdTimeout=600
GresTypes=gpu
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 Sockets=1 CoresPerSocket=2 ThreadsPerCore=1 RealMemory=2000 Gres=gpu:1 State=UNKNOWN
PartitionName=normal Nodes=$host Default=YES PriorityTier=1 MaxTime=INFINITE State=UP
PartitionName=urgent Nodes=$host PriorityTier=10 MaxTime=INFINITE State=UP
END
echo "NodeName=$host Name=gpu File=/dev/null" >"$W/gres.conf"
mkdir -p "$W/state" "$W/spool"
slurmctld -D >"$W/slurmctld.log" 2>&1 & daemons+=($!)
slurmd -D -N "$host" >"$W/slurmd.log" 2>&1 & daemons+=($!)
idle() { [ "$(sinfo --noheader --partition=normal --format=%T 2>/dev/null)" = idle ]; }
await 120 "the node" idle
say "$(sinfo --noheader --partition=normal --format='node %N: %T, %c cores, %G')"

# -- material: a few small clips of the sample --------------------------------------------------------------------------------------
mkdir "$W/data"
"$PYTHON" - "$PROJECT/train_sample_videos" "$W/data" <<'END'
import json, shutil, sys
from pathlib import Path
source, target = map(Path, sys.argv[1:])
table = json.loads((source / "metadata.json").read_text())
small = ("astronaut_close-up", "sunglasses_old-phone", "curly_vertical", "longhair_zoom-call", "officer_tilted-phone")
chosen = {name: row for name, row in table.items() if name.startswith(small)}
for name in chosen:
    shutil.copy(source / name, target / name)
(target / "metadata.json").write_text(json.dumps(chosen))
print(len(chosen), "clips")
END
cd "$PROJECT"                                  # the folder of submission is where the jobs look for the project
export TF_CPP_MIN_LOG_LEVEL=3
logs=(--output="$W/job-%A_%a.log")
field() { scontrol show job --oneliner "$1" | tr ' ' '\n' | sed -n "s/^$2=//p" | sort -u; }
over() { [ -z "$(squeue --noheader --jobs="$1" 2>/dev/null)" ]; }
# All faces and tables with their content. faces.json holds times of the source files, which are the same here.
faces() { (cd "$1" && find . -path '*/faces/*' -type f | sort | xargs sha256sum); }

say "one plain run, to compare with"
"$PYTHON" 01a_crop_faces_mtcnn.py --direct --workers 2 --data "$W/data" --out "$W/plain" --frames "$W/plain_faces" >"$W/plain.log" 2>&1
faces "$W/plain_faces" >"$W/plain.sums"
[ "$(wc -l <"$W/plain.sums")" -gt 50 ] || fail "the plain run made hardly any faces"

say "an array job of three tasks, and one run over all when they are done"
array=$(sbatch --parsable "${logs[@]}" --array=0-2 --cpus-per-task=1 slurm/preprocess_array.sbatch --data "$W/data" --out "$W/array" --frames "$W/array_faces")
last=$(sbatch --parsable --output="$W/job-%j.log" --dependency=afterok:"$array" --kill-on-invalid-dep=yes slurm/preprocess_array.sbatch \
  --data "$W/data" --out "$W/array" --frames "$W/array_faces")
await 900 "the array job" over "$array"
await 600 "the run over all" over "$last"
[ "$(field "$last" JobState)" = COMPLETED ] || fail "the run over all ended as $(field "$last" JobState)"
faces "$W/array_faces" | diff - "$W/plain.sums" >"$W/difference.log" || fail "the array's faces are not those of the plain run"
[ "$(ls "$W"/array/stage_reports/01a-*-of-3_videos.csv | wc -l)" = 3 ] || fail "an account of a task is missing"
diff "$W/array/stage_reports/01a_videos.csv" "$W/plain/stage_reports/01a_videos.csv" || fail "the whole account differs"
say "the same faces: $(wc -l <"$W/plain.sums") files"

say "a job is preempted in the middle"
job=$(sbatch --parsable --output="$W/job-%j.log" --cpus-per-task=2 slurm/preprocess_array.sbatch --workers 1 --data "$W/data" --out "$W/preempted" --frames "$W/preempted_faces")
two_done() { [ "$(ls -d "$W"/preempted_faces/*/faces 2>/dev/null | wc -l)" -ge 2 ]; }
await 600 "two finished videos" two_done
urgent=$(sbatch --parsable --output="$W/job-%j.log" --partition=urgent --cpus-per-task=2 --wrap "true")
restarted() { [ "$(field "$job" Restarts)" -ge 1 ]; }
await 120 "the preemption" restarted
before=$(cd "$W/preempted_faces" && stat --format='%n %i %Y' */faces/faces.json)   # what stood then, by inode and time
count=$(wc -l <<<"$before")
[ "$count" -lt "$(ls "$W"/data/*.mp4 | wc -l)" ] || fail "the job had finished before it was preempted"
await 300 "the urgent job" over "$urgent"
now() { scontrol update jobid="$job" starttime=now >/dev/null 2>&1 || true; over "$job"; }    # Slurm makes a requeued job wait two minutes
await 900 "the requeued job" now
[ "$(field "$job" JobState)" = COMPLETED ] || fail "the requeued job ended as $(field "$job" JobState)"
grep -q "start 2" "$W/job-$job.log" || fail "the job's log does not tell of a second start"
faces "$W/preempted_faces" | diff - "$W/plain.sums" >"$W/difference.log" || fail "the preempted job's faces are not those of the plain run"
while read -r line; do
  [ "$(cd "$W/preempted_faces" && stat --format='%n %i %Y' "${line%% *}")" = "$line" ] || fail "made again though it stood: $line"
done <<<"$before"
say "preempted with $count of $(ls "$W"/data/*.mp4 | wc -l) videos done, requeued, the rest made, the same faces"

if [ $pipeline = 1 ]; then
  say "all stages, with a GPU asked for"
  job=$(sbatch --parsable --output="$W/job-%j.log" --cpus-per-task=2 --gres=gpu:1 slurm/pipeline.sbatch --data "$W/data" --out "$W/all" \
    --frames-out "$W/all_frames" --epochs 1 --skip-marking --weights none)
  await 1800 "the pipeline" over "$job"
  [ "$(field "$job" JobState)" = COMPLETED ] || fail "the pipeline ended as $(field "$job" JobState)"
  grep -q "GPU: 0" "$W/job-$job.log" || fail "--gres did not reach the job"
  for result in mapreduce_res.txt video_predictions.csv cnn_preds_values.json tmp_checkpoint/best_model.keras; do
    [ -s "$W/all/$result" ] || fail "the pipeline left no $result"
  done
  say "the pipeline's verdicts: $(($(wc -l <"$W/all/video_predictions.csv") - 1)) videos"
fi
say "all well"
