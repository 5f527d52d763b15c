#!/usr/bin/env bash
# Sets everything up and runs stages 00 to 04: videos in, verdicts out.
#
#   ./run_pipeline.sh                              the embedded sample, results in this folder
#   ./run_pipeline.sh --data DIR --out DIR         your own labelled videos
#
# --data DIR --layout NAME --labels FILE --out DIR --frames-dir DIR --workers N --seed N --force   go to every stage that has them
# --max-videos N --max-seconds S --sampling NAME                   stage 00: cut a large set down
# --architecture NAME --weights W --epochs N --batch-size N --augment NAME --folds K   stage 03
# --master URL                                                     stage 04: where Spark runs
# --skip-marking                                                   leave out the optional stage 01b
#
# A run that was interrupted goes on where it ended when the same command is given again.
set -u
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)"
. "$ROOT/scripts/setup.sh"

data="$ROOT/train_sample_videos" out="$PWD" frames="" marking=1
workers=() seed=() force=() layout=() s00=() s03=() s04=() own_weights=0 own_model=0
while [ $# -gt 0 ]; do
  option="$1"; value="${2-}"
  case "$option" in                                # --name=value as well as --name value
    --*=*) value="${option#*=}"; option="${option%%=*}"; set -- "$option" "$value" "${@:2}" ;;
  esac
  case "$option" in
    -h|--help) sed -n '2,/^set -u/{/^set -u/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; exit 0 ;;
    --frames-out) say "note: --frames-out is now called --frames-dir"; option=--frames-dir ;;
    --model) say "note: --model is now called --architecture"; option=--architecture ;;
  esac
  case "$option" in
    --force) force=(--force); shift; continue ;;
    --skip-marking) marking=0; shift; continue ;;
    --data|--layout|--labels|--out|--frames-dir|--workers|--seed|--max-videos|--max-seconds|--sampling|--architecture|--weights|--epochs|--batch-size|--augment|--folds|--master)
      [ $# -ge 2 ] || die "$option needs a value" "see $0 --help" ;;
    *) die "unknown option $option" "see $0 --help" ;;
  esac
  case "$option" in
    --data) data="$value" ;;
    --out) out="$value" ;;
    --frames-dir) frames="$value" ;;
    --layout|--labels) layout+=("$option" "$value") ;;           # of the stages that read the data folder
    --workers) workers=("$option" "$value") ;;
    --seed) seed=("$option" "$value") ;;
    --max-videos|--max-seconds|--sampling) s00+=("$option" "$value") ;;
    --architecture) s03+=("$option" "$value"); own_model=1 ;;
    --weights) s03+=("$option" "$value"); own_weights=1 ;;
    --epochs|--batch-size|--augment|--folds) s03+=("$option" "$value") ;;
    --master) s04+=("$option" "$value") ;;
  esac
  shift 2
done

# Relative folders are the caller's; the stages may run from anywhere.
absolute() { case "$1" in /*) printf '%s' "$1" ;; *) printf '%s' "$PWD/$1" ;; esac; }
data="$(absolute "$data")" out="$(absolute "$out")"
[ -d "$data" ] || die "there is no such folder: $data" "name the folder of your videos with --data DIR"
mkdir -p "$out" 2>/dev/null && [ -w "$out" ] || die "cannot write results here: $out" "choose another folder with --out DIR"
frames="$(absolute "${frames:-$out/frames}")"     # never beside the videos

make_environment "$ROOT/requirements.txt"
need_java

# Without other wishes stage 03 starts from the shipped detector: a small set is judged in folds on its frozen features, a larger
# one fine-tunes it.
if [ $own_weights = 0 ] && [ $own_model = 0 ] && [ -f "$ROOT/models/detector.keras" ]; then
  s03=(--folds auto --weights "$ROOT/models/detector.keras" --architecture efficientnet_lite0 ${s03[@]+"${s03[@]}"})   # the last --folds holds
fi

number=0 total=$((6 + marking)) started=$SECONDS
stage() {
  local script="$1" rc from=$SECONDS; shift
  number=$((number + 1))
  printf '\n=== %d/%d  %s\n' "$number" "$total" "$script"
  "$PY" "$ROOT/$script" "$@"; rc=$?
  [ $rc = 0 ] || { say "stopped at $script (exit code $rc); the same command goes on from here"; exit $rc; }
  printf '=== %s took %d s\n' "$script" $((SECONDS - from))
}

where=(--data "$data" --out "$out")
made=("${where[@]}" --frames-dir "$frames")
read=("${made[@]}" ${layout[@]+"${layout[@]}"})
work=(${workers[@]+"${workers[@]}"} ${force[@]+"${force[@]}"})
judge=(${workers[@]+"${workers[@]}"} ${seed[@]+"${seed[@]}"})
stage 00_convert_video_to_image.py "${read[@]}" --need-labels ${work[@]+"${work[@]}"} ${seed[@]+"${seed[@]}"} ${s00[@]+"${s00[@]}"}
stage 01a_crop_faces_mtcnn.py "${read[@]}" ${work[@]+"${work[@]}"}
[ $marking = 0 ] || stage 01b_mark_landmarks.py "${read[@]}" ${work[@]+"${work[@]}"}
stage 02_prepare_dataset.py "${read[@]}" ${seed[@]+"${seed[@]}"}
stage 03_train_cnn.py "${made[@]}" ${work[@]+"${work[@]}"} ${seed[@]+"${seed[@]}"} ${s03[@]+"${s03[@]}"}
stage 03a_load_model.py "${made[@]}" ${judge[@]+"${judge[@]}"}
stage 04_mapreduce_video_preds.py --out "$out" ${judge[@]+"${judge[@]}"} ${s04[@]+"${s04[@]}"}

cat <<END

Done in $((SECONDS - started)) s. The results:
  verdict of every video   $out/mapreduce_res.txt, $out/video_predictions.csv
  how sure, in pictures    $out/ConfusionVideo.png (videos), $out/Confusion.png and $out/ROC.png (faces)
  how training went        $out/Loss.png, $out/Accuracy.png, $out/history.csv, $out/metrics.json
  every face's score       $out/cnn_preds_values.json   (p_real: 1 = real, 0 = fake)
  the trained model        $out/tmp_checkpoint/best_model.keras
  your own detector        $out/detector   (predict.py --model-dir $out/detector VIDEO)
  every video's account    $out/stage_reports/   (ok, no face or the error, stage by stage)
  frames and faces         $frames/<title>/
  which split was used     $out/split_manifest.csv
END
