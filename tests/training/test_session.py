"""TensorFlow made ready: quiet where there is no GPU, heard where something is wrong."""

import os
import subprocess
import sys

import pytest

START = """
import os, sys
sys.path.insert(0, {project!r})
from deepfake_detection.training import session
session.start(seed=1, workers=1)
"""


@pytest.mark.skipif(os.path.exists("/dev/nvidiactl"), reason="a machine with a GPU")
@pytest.mark.parametrize("level", [None, "0", "2"])
def test_nothing_but_our_line_is_said_without_a_gpu(project, level):
    """The C++ part's "failed call to cuInit" is no news there; also under a log level from the user's own settings."""
    environment = {k: v for k, v in os.environ.items() if k not in ("CUDA_VISIBLE_DEVICES", "TF_CPP_MIN_LOG_LEVEL")}
    environment |= {} if level is None else {"TF_CPP_MIN_LOG_LEVEL": level}
    done = subprocess.run(
        [sys.executable, "-c", START.format(project=str(project), before="")],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0 and done.stderr.splitlines() == ["no GPU: running on the CPU (1 threads)"], done.stderr


@pytest.mark.parametrize(
    "there, hidden, heard",
    [
        pytest.param(True, None, True, id="a GPU that cannot be used"),
        pytest.param(True, "-1", False, id="hidden on purpose"),
        pytest.param(False, None, False, id="none"),
    ],
)
def test_a_gpu_that_cannot_be_used_is_told(monkeypatch, capfd, there, hidden, heard):
    import tensorflow as tf

    from deepfake_detection.training import session

    def nothing(kind):
        os.write(2, b"failed call to cuInit\n")
        return []

    monkeypatch.setattr(tf.config, "list_physical_devices", nothing)
    monkeypatch.setattr(session.os.path, "exists", lambda path: there)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if hidden is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert session._gpus() == [] and ("cuInit" in capfd.readouterr().err) == heard


def test_what_was_said_before_an_exception_is_heard(capfd):
    from deepfake_detection import unheard

    with pytest.raises(ImportError), unheard.stderr():
        os.write(2, b"the reason\n")
        raise ImportError
    assert "the reason" in capfd.readouterr().err
