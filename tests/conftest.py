"""Fixtures that every room's tests share."""

import os
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")


@pytest.fixture(scope="session")
def project() -> Path:
    """The project's root."""
    return PROJECT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The development material, which lies beside the checkout on the developers' machines only (DEEPFAKE_SHARED overrides)."""
    folder = Path(os.environ.get("DEEPFAKE_SHARED", PROJECT.parent / "shared"))
    if not (folder / "data" / "clips.csv").is_file():
        pytest.skip("needs the development material (../shared), which this machine does not have")
    return folder


@pytest.fixture(scope="session")
def sample() -> Path:
    """The embedded sample videos."""
    return PROJECT / "train_sample_videos"
