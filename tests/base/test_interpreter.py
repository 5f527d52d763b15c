"""A Python without the project's packages is refused in one line that names `.venv`, by every top-level script."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(p.name for p in ROOT.glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_wrong_interpreter_is_named(script):
    # -S -E: the same Python without its site-packages.
    done = subprocess.run(
        [sys.executable, "-S", "-E", script, "x"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2 and not done.stdout
    error, hint = done.stderr.splitlines()
    assert error.startswith("error: ") and "numpy" in error
    assert hint.startswith("hint: ") and ".venv" in hint and script in hint
