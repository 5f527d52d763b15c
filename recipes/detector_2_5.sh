#!/usr/bin/env bash
# Detector 2.5, from 1.5 and the index of faces; goes on where it was stopped.
#   recipes/detector_2_5.sh DATA SOURCES DETECTOR_1_5.keras
# DATA and SOURCES: see recipes/index.py. DETECTOR_1_5.keras: `git show 284db78:models/detector.keras`. An hour on two cores.
set -euo pipefail
cd "$(dirname "$0")/.."
python recipes/index.py --data "$1" --sources "$2" --out build/index.csv
python train_detector.py --index build/index.csv --recipe recipes/detector.json --weights "$3" --name 2.5 --size 176 --wide 0.5 \
  --steps 2000 --stop-at 500 --learning-rate 2e-4 --consistency 0.2 --interpolate 0.5 --head 300 --rim 240 \
  --flicker --window tight --out build/detector-2.5 --label faces-sbi-lite0 --label-version 2.5
# The thresholds: FAKE on the strangers' clips as users' videos are judged, REAL by hand (see models/README.md).
python benchmarks/strangers.py --index build/index.csv --models build/detector-2.5 --fit
# Which faces vote: prints "quality" of detector.json, put there by hand (and thresholds fitted before it, as here).
python benchmarks/gate.py --index build/index.csv --model-dir build/detector-2.5 --scores build/gate.jsonl --degraded --stills
