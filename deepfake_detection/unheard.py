"""What libraries written in C++ say unasked, kept off the screen."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile


def tensorflow() -> None:
    """Imports TensorFlow: on a machine without a GPU its C++ part writes "could not find cuda drivers", before any log
    level counts."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "tensorflow" not in sys.modules:
        with stderr():
            import tensorflow  # noqa: F401


@contextlib.contextmanager
def stderr(wanted=lambda: False):
    """Keeps what C++ writes to stderr off the screen, unless the block raises or `wanted` says so after it."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        show = True  # after an exception every word of it may matter
        try:
            yield
            show = wanted()
        finally:
            os.dup2(kept, 2)
            if show:
                said.seek(0)
                os.write(2, said.read())
            os.close(kept)
