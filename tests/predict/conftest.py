"""A tiny detector and small clips for the tests of prediction."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """Folder with detector.onnx and detector.json; judges by colour."""
    import tiny_model

    return tiny_model.build(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def clips(tmp_path_factory) -> dict:
    import prediction_clips

    return prediction_clips.make_all(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="session")
def detector(tiny_model):
    """One in-process Detector for all tests."""
    from deepfake_detection import Detector

    return Detector(model=str(tiny_model), frames=8)
