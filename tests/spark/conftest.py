"""One small Spark session for all tests of this folder: starting one costs seconds."""

import pytest


@pytest.fixture(scope="session")
def spark():
    from deepfake_detection.spark.session import session

    with session("tests", "local[2]") as spark:
        yield spark


@pytest.fixture
def as_session(spark, monkeypatch):
    """Makes the stage use the tests' session, and leaves it running."""
    import contextlib

    from deepfake_detection.spark import session as module

    @contextlib.contextmanager
    def shared(*_, **__):
        yield spark

    monkeypatch.setattr(module, "session", shared)
