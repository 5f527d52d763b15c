"""Every progress bar is silent where it is redirected: a log holds no bars."""

import ast
import subprocess
import sys

FOLDERS = ("deepfake_detection", "benchmarks", "recipes", "tools")


def bars(project):
    """(file:line, names of the arguments) of every bar."""
    for path in [*project.glob("*.py"), *(p for folder in FOLDERS for p in (project / folder).rglob("*.py"))]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "tqdm":
                yield f"{path.relative_to(project)}:{node.lineno}", {k.arg for k in node.keywords}


def test_every_bar_asks_whether_it_is_seen(project):
    found = dict(bars(project))
    assert len(found) > 10 and not [place for place, given in found.items() if "disable" not in given]


def test_a_log_of_a_stage_holds_no_bar(project, sample, tmp_path):
    script = [sys.executable, str(project / "00_convert_video_to_image.py")]
    options = ["--data", str(sample), "--out", str(tmp_path), "--max-videos", "1"]
    done = subprocess.run(script + options, capture_output=True, text=True)
    assert done.returncode == 0 and "frames: " not in done.stderr and "\r" not in done.stdout + done.stderr
