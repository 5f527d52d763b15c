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
    """The development material, which lies beside the checkout on the developers' machines only (DEEPFAKE_SHARED
    overrides)."""
    folder = Path(os.environ.get("DEEPFAKE_SHARED", PROJECT.parent / "shared"))
    if not (folder / "data" / "clips.csv").is_file():
        pytest.skip("needs the development material (../shared), which this machine does not have")
    return folder


@pytest.fixture(scope="session")
def sample() -> Path:
    """The embedded sample videos."""
    return PROJECT / "train_sample_videos"


@pytest.fixture
def somebody(tmp_path, monkeypatch):
    """A working folder (`.`) and an ordinary user's rights: root may read everything, so it is nobody while the test
    lasts."""
    import deepfake_detection.detector.stills  # noqa: F401  (nobody may not read the modules of root's Python)
    import deepfake_detection.video  # noqa: F401

    tmp_path.chmod(0o777)
    monkeypatch.chdir(tmp_path)  # nobody may not enter the folders above
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield Path(".")
    if root:
        os.seteuid(0)
    for folder, inner, _ in os.walk("."):
        for name in inner:
            if not os.path.islink(os.path.join(folder, name)):
                os.chmod(os.path.join(folder, name), 0o755)
