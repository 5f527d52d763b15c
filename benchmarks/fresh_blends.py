#!/usr/bin/env python
"""How well detectors find blends made here and now from real faces of people they never saw, kind by kind.

    python benchmarks/fresh_blends.py --models models                       # the shipped detector, two minutes on two cores
    python benchmarks/fresh_blends.py --models old/models,models            # paired: the differences of the others to the first

The faces are real DFDC validation faces (parts 35-39, every second one); each is judged against a blend of each kind made of it
(`detector.self_blending`). No training saw these people, and nothing is chosen by these numbers; the kinds are those that training makes, so
this says what a detector learnt, not how it does on a generator of another kind. Writes benchmarks/results/fresh_blends.md and .json.
Intervals: 95 %, resampling source videos.
"""

import os
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from detector_tables import cell, table_text
from tqdm import tqdm

from deepfake_detection import cli, metrics
from deepfake_detection.files import write_json, write_text
from deepfake_detection.labels import FAKE, REAL

KINDS = ("self-blended", "swapped along the mesh", "another expression", "swapped by five points")


def main(argv=None) -> int:
    p = cli.parser(__doc__, data=False, out=False)
    shared = PROJECT.parent / "shared"
    p.add_argument("--data", type=Path, default=shared / "data", metavar="DIR", help="the shared data (default: %(default)s)")
    p.add_argument("--yunet", type=Path, default=shared / "weights" / "face_detection_yunet_2023mar.onnx", metavar="PATH", help="(default: %(default)s)")
    p.add_argument("--work", type=Path, default=PROJECT / "build" / "detector", metavar="DIR", help="cut faces (default: %(default)s)")
    p.add_argument("--models", default=str(PROJECT / "models"), metavar="A,B", help="folders of detectors (default: %(default)s)")
    p.add_argument("--results", type=Path, default=PROJECT / "benchmarks" / "results", metavar="DIR", help="(default: %(default)s)")
    options = p.parse_args(argv)
    cli.announce("fresh_blends", options)
    from deepfake_detection.detector import data
    from deepfake_detection.detector.runtime import DetectorModel

    models = [DetectorModel.load(folder, threads=options.workers) for folder in options.models.split(",")]
    faces, groups = blends(data.prepare(options.data, options.work, options.yunet, workers=options.workers), options.seed)
    rows, first = {}, None
    for model in models:
        scores = {kind: model.predict(some, trimmed=True).astype(np.float64) for kind, some in faces.items()}
        rows[f"{model.config['name']} {model.config['version']}"] = judged(scores, first, groups)
        first = first or scores
    made = options.results / "fresh_blends.json"
    write_json(made, {"faces": len(groups), "rows": rows})
    write_text(made.with_suffix(".md"), as_text(rows, len(groups)))
    print(as_text(rows, len(groups)))
    return cli.EXIT_OK


def blends(cache, seed: int) -> tuple[dict[str, list], np.ndarray]:
    """Kind ("real" among them) -> faces, uint8 RGB, one a face in which a mesh and others like it were found; and the faces' groups."""
    from deepfake_detection.detector.batches import ALIKE_COLOUR, most_like
    from deepfake_detection.detector.data import Cache
    from deepfake_detection.detector.self_blending import STEADY, SelfBlender
    from deepfake_detection.faces import mesh

    find, rows = mesh.FaceMesh(), cache.rows(dataset="dfdc", split="val", label=REAL)[::2]
    meshes = np.full((len(cache.table), mesh.POINTS, 2), np.nan, np.float32)
    for row in tqdm(rows, desc="face meshes", unit="face"):
        meshes[row], _ = find(cache.images[row])
    known = Cache(cache.table, cache.images, meshes)
    likes, poses = most_like(known, rows, mesh.CONTROL, ALIKE_COLOUR), most_like(known, rows, STEADY, 0.0)
    rng, blend, faces = np.random.default_rng(seed), SelfBlender(seed), {kind: [] for kind in ("real", *KINDS)}
    for row in tqdm(likes, desc="blends", unit="face"):
        face, other, pose = cache.images[row], int(rng.choice(likes[row])), int(rng.choice(poses[row]))
        made = (face, blend(face, meshes[row]), blend(face, meshes[row], cache.images[other], meshes[other]),
                blend.reenacted(face, meshes[row], meshes[pose])[0],
                blend(face, mesh.five(meshes[row]), cache.images[other], mesh.five(meshes[other])))
        for kind, picture in zip(faces, made):
            faces[kind].append(picture)
    return faces, cache.table["group"].to_numpy()[list(likes)]


def judged(scores: dict, first: dict | None, groups: np.ndarray) -> dict:
    """Kind -> the AUC of its blends against the real faces, and its difference to the first detector's."""
    row = {}
    y, both = np.repeat([REAL, FAKE], len(groups)), np.tile(groups, 2)
    for kind in KINDS:
        p = np.concatenate([scores["real"], scores[kind]])
        row[kind] = {"auc": metrics.bootstrap_groups(metrics.auc, y, p, both).to_dict()}
        if first:
            row[kind]["difference"] = metrics.bootstrap_difference(metrics.auc, y, p, np.concatenate([first["real"], first[kind]]), both).to_dict()
    return row


def as_text(rows: dict, faces: int) -> str:
    lines = [[name, *(cell(row[kind]["auc"]) + (f"; {cell(row[kind]['difference'], '+')}" if "difference" in row[kind] else "") for kind in KINDS)]
             for name, row in rows.items()]
    return (f"# Fresh blends of validation faces\n\nMade by `python benchmarks/fresh_blends.py`: AUC of each kind of blend against the {faces} real faces of which they "
            "were made [95 % interval, resampling source videos]; the difference to the first detector, paired.\n\n" + table_text(["detector", *KINDS], lines))


if __name__ == "__main__":
    cli.run(main)
