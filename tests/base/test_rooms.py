"""The rooms of docs/design.md: imports run one way, and nothing heavy is imported before it is needed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "deepfake_detection"

#: Lowest first; a room imports only from itself and from rooms before it. The base modules count as one room.
ORDER = [
    "base",
    "video",
    "faces",
    "datasets",
    "metrics",
    "aggregation",
    "scores",
    "reports",
    "models",
    "blending",
    "training",
    "detector",
    "prediction",
    "export",
    "spark",
    "web",
]
#: What a room leaves out although it stands lower.
NOT = {
    "datasets": {"faces"},
    "metrics": {"video", "faces", "datasets"},
    "aggregation": {"video", "faces", "datasets"},
    "scores": {"video", "faces", "datasets", "metrics", "aggregation"},
    "reports": {"video", "faces", "datasets"},
    "models": {"video", "faces", "datasets", "metrics", "aggregation", "scores", "reports"},
    "spark": {"models", "training"},
}
#: Command-line faces of the package (`python -m deepfake_detection.x`): they may import any room, no room imports them.
ENTRY_POINTS = {"leaks", "commandline"}
HEAVY = {
    "tensorflow",
    "keras",
    "pyspark",
    "matplotlib",
    "seaborn",
    "openvino",
    "onnxruntime",
    "sklearn",
    "mtcnn",
    "efficientnet",
}


def room_of(parts):
    return parts[0] if parts and parts[0] in ORDER else "base"


def imports_of(path):
    """(module parts inside the package, or top-level name outside; whether it is at the module's top level) of each
    import."""
    package = path.relative_to(PACKAGE.parent).with_suffix("").parts
    tree = ast.parse(path.read_text())
    top = set(map(id, tree.body))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield tuple(alias.name.split(".")), id(node) in top
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level]) if node.level else []
            if path.name == "__init__.py" and node.level:
                base = list(package[:-1][: len(package) - 1 - (node.level - 1)])
            base += node.module.split(".") if node.module else []
            for alias in node.names:
                yield tuple(base + [alias.name]), id(node) in top


MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    own = path.relative_to(PACKAGE).with_suffix("").parts
    if own[0] in ENTRY_POINTS or own == ("__init__",):
        return
    room = room_of(own)
    allowed = set(ORDER[: ORDER.index(room) + 1]) - NOT.get(room, set())
    for parts, _ in imports_of(path):
        if parts[0] == "deepfake_detection":
            assert parts[1:2] == () or parts[1] not in ENTRY_POINTS, f"{path.name} imports the command line {parts[1]}"
            assert room_of(parts[1:]) in allowed, f"{path.name} ({room}) imports {'.'.join(parts)}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_heavy_packages_are_imported_inside_functions(path):
    for parts, at_top in imports_of(path):
        assert not (at_top and parts[0] in HEAVY), f"{path.name} imports {parts[0]} at its top"


def test_help_of_every_script_is_light():
    """--help of every top-level script answers without TensorFlow or Spark."""
    for script in sorted(PACKAGE.parent.glob("*.py")):
        code = (
            f"import sys, runpy; sys.argv=[{script.name!r}, '--help']\n"
            f"try: runpy.run_path({str(script)!r}, run_name='__main__')\n"
            "except SystemExit as e: assert not e.code, e.code\n"
            "assert not {'tensorflow', 'keras', 'pyspark'} & set(sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True)
        assert done.returncode == 0, f"{script.name}: {done.stderr[-800:]}"
        assert "usage:" in done.stdout
