import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "blending"))  # its synthetic faces


@pytest.fixture(scope="session")
def shipped(project):
    """The shipped detector's folder."""
    if not (project / "models" / "detector.json").is_file():
        pytest.fail("models/detector.json is not there: the repository must ship its detector")
    return project / "models"


@pytest.fixture(scope="session")
def val_faces(shared):
    """(crops, labels): 60 real and 60 fake tight DFDC crops that no training saw, uint8 RGB."""
    import cv2

    crops, labels = [], []
    for label, word in ((1, "real"), (0, "fake")):
        for path in sorted((shared / "data" / "dfdc_faces" / "val" / word).glob("*.jpg"))[:60]:
            crops.append(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB))
            labels.append(label)
    return crops, labels
