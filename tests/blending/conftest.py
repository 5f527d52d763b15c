import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def cut_faces():
    import synthetic

    return synthetic.cut_faces()
