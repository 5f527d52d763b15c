"""Files of at most 400 lines, functions of at most 60: what grows longer is split by concern."""

import ast
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
MOST_FILE, MOST_FUNCTION = 400, 60
FOLDERS = ("deepfake_detection", "benchmarks", "recipes", "tools")
FILES = sorted([*PROJECT.glob("*.py"), *(path for folder in FOLDERS for path in (PROJECT / folder).rglob("*.py"))])


def too_long(text: str) -> dict[str, int]:
    """What is over the bounds, "" for the file itself: its lines."""
    found = {"": len(text.splitlines())} if len(text.splitlines()) > MOST_FILE else {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if (lines := node.end_lineno - node.lineno + 1) > MOST_FUNCTION:
                found[node.name] = lines
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PROJECT).as_posix())
def test_no_file_and_no_function_is_longer_than_it_may_be(path):
    assert too_long(path.read_text(encoding="utf-8")) == {}


@pytest.mark.parametrize(
    "lines, found",
    [
        pytest.param(["def f():", *["    x = 1"] * 59], {}, id="60 lines of a function"),
        pytest.param(["def f():", *["    x = 1"] * 60], {"f": 61}, id="61"),
        pytest.param(["class C:", "    async def g(self):", *["        x = 1"] * 60], {"g": 61}, id="a method"),
        pytest.param(["x = 1"] * 401, {"": 401}, id="401 lines of a file"),
    ],
)
def test_what_is_too_long_is_found(lines, found):
    assert too_long("\n".join(lines)) == found
