"""The counts of docs/reliability.md: the whole zoo through stage 00 and predict.py.

python tests/robustness/table.py
"""

import csv
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(PROJECT), str(Path(__file__).parent), str(PROJECT / "tests" / "predict")]

import tiny_model  # noqa: E402 (after the path)
import zoo  # noqa: E402


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        made = zoo.build(out / "videos")
        missing = {name: why for name, why in made.items() if isinstance(why, str)}
        print(f"{len(zoo.KINDS)} kinds, {len(zoo.KINDS) - len(missing)} made here")
        for name, why in missing.items():
            print(f"  not {name}: {why}")
        model = tiny_model.build(out / "tiny")
        subprocess.run(
            [
                sys.executable,
                PROJECT / "00_convert_video_to_image.py",
                "--data",
                out / "videos",
                "--frames-dir",
                out / "frames",
                "--out",
                out,
                "--workers",
                "2",
            ],
            check=True,
            capture_output=True,
        )
        with open(out / "stage_reports" / "00_videos.csv", newline="") as f:
            rows = list(csv.DictReader(f))
        print(f"stage 00: {len(rows)} rows, {dict(Counter(r['status'] for r in rows))}")
        unseen = [str(made[k.name]) for k in zoo.KINDS if not k.seen and k.name not in missing and k.name != "folder"]
        done = subprocess.run(
            [
                sys.executable,
                PROJECT / "predict.py",
                out / "videos",
                *unseen,
                "--model-dir",
                model,
                "--frame-count",
                "4",
                "--workers",
                "2",
                "--json",
                out / "v.json",
            ],
            capture_output=True,
            text=True,
            env={**os.environ, "COLUMNS": "80"},
        )
        assert "Traceback" not in done.stderr, done.stderr[-2000:]
        results = json.loads((out / "v.json").read_text())
        print(
            f"predict.py: exit code {done.returncode}, {len(results)} rows, "
            f"{dict(Counter(r['verdict'] or 'error' for r in results))}"
        )


if __name__ == "__main__":
    main()
