#!/usr/bin/env bash
# Detector 2.1: 2.0 (recipes/detector_2_0.sh) with a classifier of all levels of its network.
#   recipes/detector_2_1.sh DATA SOURCES DETECTOR_2_0.keras
# DATA and SOURCES: see recipes/index_2_0.py. DETECTOR_2_0.keras: `git show 2809ebb:models/detector.keras`. 15 minutes on two cores.
set -euo pipefail
cd "$(dirname "$0")/.."
python recipes/index_2_0.py --data "$1" --sources "$2" --out build/index.csv
python train_detector.py --index build/index.csv --recipe recipes/detector_2_0.json --weights "$3" --name 2.1 --size 176 \
  --steps 0 --head 300 --window tight --out build/detector-2.1 --label faces-sbi-lite0 --label-version 2.1
# The thresholds: FAKE on the strangers' clips as users' videos are judged, REAL by hand (see models/README.md).
python benchmarks/strangers.py --index build/index.csv --models build/detector-2.1 --fit
