"""Runs the standalone-cluster check as a user would."""

import subprocess
import sys

import pytest

from deepfake_detection.errors import UserError
from deepfake_detection.spark.surroundings import find_java


@pytest.mark.cluster
def test_cluster_gives_the_local_rows_also_when_a_worker_is_killed(project):
    pytest.importorskip("skimage", reason="the clips are made of a picture in scikit-image")
    try:
        find_java()
    except UserError as e:
        pytest.skip(str(e))
    done = subprocess.run(
        [sys.executable, project / "tests" / "cluster" / "spark_standalone.py"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cluster of two workers: the same" in done.stdout and "one of two workers killed" in done.stdout
