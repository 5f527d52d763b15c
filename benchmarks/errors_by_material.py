"""How often each verdict is wrong, by kind of material: writes models/errors_by_material.json, which every report
quotes.

    python benchmarks/errors_by_material.py        # results/detector_tables.json, and the embedded sample judged anew
    python benchmarks/errors_by_material.py --no-sample # the former alone, in a second

Run it after benchmarks/detector_tables.py whenever the weights change: the table names the network it holds for, and a
report says so when it is another. Format: {"errors_by_material": {"model", "made_by", "materials": [{"name", "height",
"bits_per_pixel", "real": counts, "fake": counts}]}}; counts are {"videos", "REAL", "UNSURE", "FAKE"} of untouched and
of altered videos, `height` (shorter side, px) and `bits_per_pixel` (bit rate over pixels a second) say what such files
are like, for finding the kind that is nearest to a video. The same key in detector.json, where there is one, goes
before this file.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))

#: Row of detector_tables.json -> what it is called, and the median of such files.
MATERIALS = {
    "DFDC val": (
        "DFDC: actors filmed by phones and cameras, one face a video",
        1080,
        0.041,
        "DFDC val, one face a video",
    ),
    "FF++ c23 val": ("FaceForensics++ c23: news and vlogs from YouTube, well compressed", 600, 0.045, None),
    "FF++ c40 val": ("FaceForensics++ c40: the same, strongly compressed", 720, 0.006, None),
    "FF++ val": ("FaceForensics++: news and vlogs from YouTube, well or strongly compressed", 640, 0.016, None),
}
#: Validation clips of FF++ and its actors.
CLIPS = {"real videos": 14, "fake videos": 36}
SAMPLE = (
    "the embedded sample: stills and short clips of other cameras, altered by classical image processing",
    420,
    0.022,
)


def of_tables(tables: dict) -> list[dict]:
    validation = tables["validation"]
    out = []
    for row, verdicts in validation["verdicts"].items():
        name, height, bits, counted = MATERIALS.get(row, (row, None, None, None))
        counts = {}
        for who, key in (("real videos", "real"), ("fake videos", "fake")):
            # A later table may hold counts beside the shares.
            number = verdicts[who].get("videos") or (validation["rows"][counted][key] if counted else CLIPS[who])
            real, fake = (round(verdicts[who][w] * number) for w in ("REAL", "FAKE"))
            counts[key] = {"videos": number, "REAL": real, "UNSURE": number - real - fake, "FAKE": fake}
        out.append({"name": name, "height": height, "bits_per_pixel": bits, **counts})
    return out


def of_sample(folder: Path) -> dict:
    from tqdm import tqdm

    from deepfake_detection import Detector

    detector = Detector(threads=2)
    counts = {label: {"videos": 0, "REAL": 0, "UNSURE": 0, "FAKE": 0} for label in ("real", "fake")}
    for name, entry in tqdm(json.loads((folder / "metadata.json").read_text()).items(), unit="video", disable=None):
        verdict = detector.predict(folder / name).verdict
        if verdict in counts["real"]:
            counts[entry["label"].lower()]["videos"] += 1
            counts[entry["label"].lower()][verdict] += 1
    return {"name": SAMPLE[0], "height": SAMPLE[1], "bits_per_pixel": SAMPLE[2], **counts}


def main() -> None:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    p.add_argument(
        "--tables",
        type=Path,
        default=PROJECT / "benchmarks" / "results" / "detector_tables.json",
        metavar="FILE",
        help="(default: %(default)s)",
    )
    p.add_argument(
        "--sample", type=Path, default=PROJECT / "train_sample_videos", metavar="DIR", help="(default: %(default)s)"
    )
    p.add_argument("--no-sample", action="store_true", help="without the embedded sample")
    p.add_argument(
        "--out",
        type=Path,
        default=PROJECT / "models" / "errors_by_material.json",
        metavar="FILE",
        help="(default: %(default)s)",
    )
    chosen = p.parse_args()
    from deepfake_detection.files import write_json

    tables = json.loads(chosen.tables.read_text())
    materials = of_tables(tables) + ([] if chosen.no_sample else [of_sample(chosen.sample)])
    write_json(
        chosen.out,
        {
            "errors_by_material": {
                "model": tables["validation"]["detector"],
                "made_by": "benchmarks/errors_by_material.py",
                "materials": materials,
            }
        },
    )
    print(chosen.out)


if __name__ == "__main__":
    main()
