"""Writes the index of faces that the shipped detector (2.0 to 2.3) was trained on and chosen by.

    python recipes/index.py --data ../shared/data --sources DIR --out build/index.csv

`--data` is the labelled material (DFDC crops, FaceForensics++ clips and crops, portraits), `--sources` what was
collected beside it, with its own `sources_index.csv`. Any other material: write an index of your own
(`deepfake_detection.blending.faces.COLUMNS`).
"""

import argparse
import csv
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script from any folder

from deepfake_detection.blending.faces import COLUMNS
from deepfake_detection.datasets.groups import name_groups

#: FaceForensics++ groups for validation only: three groups have c40 clips of all four manipulations, two are here.
VAL_GROUPS = ("ffpp_481", "ffpp_599", "ffpp_830", "ffpp_147", "dfd_actor_08")
CLIP_FRAMES = {"train": 40, "val": 32, "unseen": 32}


def rows_of_data(data: Path):
    yield from dfdc_rows(data / "dfdc_faces")
    yield from ffpp_rows(data)
    for path in sorted((data / "real_stills").glob("*.jpg")):
        yield {
            "file": path,
            "label": "real",
            "source": "stills",
            "manipulation": "",
            "group": f"still_{path.stem}",
            "split": "train",
            "window": "wide",
        }


def dfdc_rows(folder: Path):
    for r in csv.DictReader(open(folder / "index.csv")):
        original = folder / r["split"] / "real" / f"{Path(r['original']).stem}.jpg"
        yield {
            "file": folder / r["split"] / r["label"] / f"{Path(r['video']).stem}.jpg",
            "label": r["label"],
            "source": "dfdc",
            "manipulation": "dfdc",
            "group": Path(r["original"]).stem,
            "split": r["split"],
            "window": "tight",
            "original": original if r["label"] == "fake" else "",
        }


def ffpp_rows(data: Path):
    """Clips of FaceForensics++ and its actors, and crops of other clips, in groups over both."""
    clips = [r for r in csv.DictReader(open(data / "clips.csv")) if r["dataset"] in ("ffpp", "dfd")]
    crops = list(csv.DictReader(open(data / "ffpp_faces" / "index.csv")))
    stems = [*(Path(r["file"]).stem for r in clips if r["dataset"] == "ffpp"), *(r["identity"] for r in crops)]
    group = dict(zip(stems, name_groups([s.split("_") for s in stems])))

    def key(stem):
        return f"ffpp_{group[stem]}"

    val = {key(Path(r["file"]).stem) for r in clips if r["dataset"] == "ffpp" and r["group"] in VAL_GROUPS}
    reals = {(Path(r["file"]).stem, r["manipulation"].split("/")[-1]): r["file"] for r in clips if r["label"] == "real"}
    in_train = set()
    for r in clips:
        stem, quality = Path(r["file"]).stem, r["manipulation"].split("/")[-1]
        this = key(stem) if r["dataset"] == "ffpp" else r["group"]
        split = "val" if this in val or r["group"] in VAL_GROUPS else "train"
        in_train |= {this} if split == "train" else set()
        original = reals.get((stem.split("_")[0], quality), "") if r["label"] == "fake" else ""
        yield {
            "file": data / r["file"],
            "label": r["label"],
            "source": r["dataset"],
            "manipulation": r["manipulation"],
            "group": this,
            "split": split,
            "window": "wide",
            "original": data / original if original else "",
            "frames": CLIP_FRAMES[split],
        }
    for r in crops:
        this = key(r["identity"])
        number = int(this.split("_")[1])
        split = "val" if this in val or (number % 5 == 0 and this not in in_train) else "train"
        yield {
            "file": data / "ffpp_faces" / r["file"],
            "label": r["file"].split("/")[0],
            "source": "ffpp_faces",
            "manipulation": "crops",
            "group": this,
            "split": split,
            "window": "tight",
        }


def rows_of_sources(sources: Path, data: Path):
    for r in csv.DictReader(open(sources / "sources_index.csv")):
        yield {
            "file": sources / r["file"],
            "label": r["label"],
            "source": r["source"],
            "manipulation": r["source"],
            "group": r["group"],
            "split": r["use"],
            "window": "tight" if r["kind"] == "crop" else "wide",
            "original": data / "dfdc_faces" / "train" / "real" / f"{r['group']}.jpg" if r["kind"] == "crop" else "",
            "frames": CLIP_FRAMES[r["use"]] if r["kind"] in ("clip", "pair") else "",
        }


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", type=Path, required=True)
    p.add_argument("--sources", type=Path, required=True)
    p.add_argument("--out", type=Path, required=True)
    options = p.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with open(options.out, "w", newline="") as f:
        writer = csv.DictWriter(f, COLUMNS, restval="")
        writer.writeheader()
        for row in (
            *rows_of_data(options.data.resolve()),
            *rows_of_sources(options.sources.resolve(), options.data.resolve()),
        ):
            writer.writerow(row)


if __name__ == "__main__":
    main()
