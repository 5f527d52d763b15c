#!/usr/bin/env bash
# Sets everything up as run_pipeline.sh does, checks the code with ruff and mypy, runs the tests.
#   ./run_tests.sh [pytest arguments]
set -u
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)"
. "$ROOT/scripts/setup.sh"
make_environment "$ROOT/requirements.txt" "$ROOT/requirements-dev.txt"
need_java
# The web page is tested in a real browser, the batch scripts under a real Slurm, where they can be installed.
# Their tests say that they are skipped elsewhere.
command -v chromedriver >/dev/null 2>&1 || apt_install_one_of chromium-driver || say "setup: no Chromium here; the browser tests will be skipped"
command -v slurmctld >/dev/null 2>&1 || { apt_install_one_of munge && apt_install_one_of slurm-wlm; } || say "setup: no Slurm here; its tests will be skipped"
command -v dot >/dev/null 2>&1 || apt_install_one_of graphviz || say "setup: no Graphviz here; drawing a model will be skipped"
cd "$ROOT" || exit 2
failed=0
"$PY" -m ruff check . && "$PY" -m ruff format --check . && "$PY" -m mypy || failed=1
# Tests run on the CPU and must not change with a GPU that happens to be there.
export CUDA_VISIBLE_DEVICES=-1 TF_CPP_MIN_LOG_LEVEL=3 MPLBACKEND=Agg
"$PY" -m pytest "$@"
code=$?
exit $((code ? code : failed))
