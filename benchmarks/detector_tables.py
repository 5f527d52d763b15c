"""Recomputes the detector's tables: validation, rules, robustness, leave-one-dataset-out, peers.

    python benchmarks/detector_tables.py --data ../shared/data            # all tables, about 40 minutes on two cores
    python benchmarks/detector_tables.py --parts validation,peers

Every number is made by what users run: videos through `deepfake_detection.Detector` (sampling, face finder, crop, ONNX
network, calibration, rule), and the DFDC crops, which have no video, through the detector's runtime. Writes
benchmarks/results/detector_tables.md and .json. Intervals: 95 %, resampling groups. Only validation material is read:
the DFDC parts 35-39 and the FaceForensics++ groups of VAL_GROUPS; never Celeb-DF.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import numpy as np
import pandas as pd
from changes import VIDEO_CHANGES, picture_changes, reencoded  # beside this file
from detector_tables_text import as_text
from tqdm import tqdm

from deepfake_detection import cli, metrics
from deepfake_detection.errors import UserError
from deepfake_detection.files import write_json, write_text
from deepfake_detection.labels import CLASS_FOLDERS

PARTS = ("validation", "robustness", "leave-one-out", "peers")
OF_RUNS = ("leave-one-out", "peers")

#: FaceForensics++ groups that no training saw (recipes/index.py).
VAL_GROUPS = ("ffpp_481", "ffpp_599", "ffpp_830", "ffpp_147", "dfd_actor_08")

#: What the runs of the published recipe, whose crops are tight, see of a crop with the margin of detector 1.4.
TRIM = {"top": 0.19, "bottom": 0.09}

#: The published MesoNet detectors: file -> architecture.
MESONETS = {
    "Meso4_DF": "mesonet",
    "Meso4_F2F": "mesonet",
    "MesoInception_DF": "meso_inception",
    "MesoInception_F2F": "meso_inception",
}


def parse(argv=None):
    p = cli.parser(__doc__, data=False, out=False)
    p.add_argument(
        "--data",
        type=Path,
        default=PROJECT.parent / "shared" / "data",
        metavar="DIR",
        help="the shared data (default: %(default)s)",
    )
    p.add_argument(
        "--models", type=Path, default=PROJECT / "models", metavar="DIR", help="the detector (default: %(default)s)"
    )
    p.add_argument(
        "--runs",
        type=Path,
        default=PROJECT / "build" / "detector",
        metavar="DIR",
        help="where train_detector.py left its runs, for leave-one-out (default: %(default)s)",
    )
    p.add_argument(
        "--peers",
        type=Path,
        default=PROJECT.parent / "shared" / "weights" / "mesonet",
        metavar="DIR",
        help="MesoNet files (default: %(default)s)",
    )
    p.add_argument("--parts", default=",".join(PARTS), metavar="A,B", help="which tables (default: %(default)s)")
    p.add_argument(
        "--frame-count", type=cli.positive_int, default=32, metavar="N", help="frames a video (default: %(default)s)"
    )
    p.add_argument(
        "--results", type=Path, default=PROJECT / "benchmarks" / "results", metavar="DIR", help="(default: %(default)s)"
    )
    return p.parse_args(argv)


def main(argv=None) -> int:
    options = parse(argv)
    cli.announce("detector_tables", options)
    parts = options.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        raise UserError(f"unknown part {sorted(unknown)[0]!r}", hint=f"--parts takes {', '.join(PARTS)}")

    made = options.results / "detector_tables.json"
    results = json.loads(made.read_text()) if made.is_file() else {}
    tables = {"validation": validation, "robustness": robustness, "leave-one-out": leave_one_out, "peers": peers}
    for part in parts:
        new = tables[part](options)
        if part in OF_RUNS:  # rows of runs that are not at hand stay
            new = {key: results.get(part, {}).get(key, {}) | rows for key, rows in new.items()}
        results[part] = new
        # What was computed stands, also when a later part fails.
        options.results.mkdir(parents=True, exist_ok=True)
        write_json(made, {k: results[k] for k in PARTS if k in results})
        write_text(made.with_suffix(".md"), as_text(results))
    print(as_text(results))
    print(f"written: {made.with_suffix('.md')}")
    return cli.EXIT_OK


# ---- material --------------------------------------------------------------------------------------------------------


def val_clips(data: Path, *, quality: str | None = None) -> pd.DataFrame:
    """The validation clips of FaceForensics++ (`ffpp`) and its actors (`dfd`), with column `group` joined as in
    training."""
    clips = pd.read_csv(data / "clips.csv")
    clips = clips[clips.dataset.isin(["ffpp", "dfd"]) & clips.group.isin(VAL_GROUPS)]
    if quality:
        clips = clips[clips.manipulation.str.contains(quality) & (clips.dataset == "ffpp")]
    return clips.sort_values("file").reset_index(drop=True)


def val_crops(data: Path, every: int = 1) -> pd.DataFrame:
    """The DFDC validation crops, one face a video; the group is the source video."""
    index = pd.read_csv(data / "dfdc_faces" / "index.csv")
    index = index[index.split == "val"].sort_values("video").iloc[::every]
    return index.assign(
        path=[data / "dfdc_faces" / "val" / r.label / (Path(r.video).stem + ".jpg") for r in index.itertuples()],
        group=[Path(o).stem for o in index.original],
    ).reset_index(drop=True)


def read_rgb(path) -> np.ndarray:
    import cv2

    image = cv2.imread(str(path))
    if image is None:
        raise UserError("cannot read this picture", file=path, hint="is the data folder whole?")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def detector(models: Path, frames: int):
    from deepfake_detection.detector.predictor import Detector

    return Detector(model=str(models), frames=frames)


# ---- tables ----------------------------------------------------------------------------------------------------------


def numbers(y, p, groups) -> dict:
    """All metrics of one row of a table, with the counts."""
    y = np.asarray(y)
    return {
        "videos": len(y),
        "real": int(y.sum()),
        "fake": int((1 - y).sum()),
        **metrics.evaluate(y, np.asarray(p, np.float64), np.asarray(groups)),
    }


def validation(options) -> dict:
    """The shipped detector on all validation material, by data set and manipulation, and every aggregation rule side by
    side."""
    judge = detector(options.models, options.frame_count)
    crops, scores = _crops(options)
    y = crops.label.map(CLASS_FOLDERS).to_numpy()
    rows, by_rule, no_face = _clips(options, judge)
    table = {"DFDC val, one face a video": numbers(y, scores, crops.group)}
    own = rows[rows.dataset == "ffpp"]
    rules, by_clip = {}, {}
    for quality in ("c23", "c40"):
        some = own[own.manipulation.str.contains(quality)]
        table[f"FF++ {quality}, all manipulations"] = numbers(some.label, some.p_real, some.group)
        by_clip[f"FF++ {quality}"] = metrics.bootstrap_groups(
            metrics.auc, some.label.to_numpy(), some.p_real.to_numpy(), some.file.to_numpy()
        ).to_dict()
        reals = some[some.label == 1]
        for name in sorted(m for m in some.manipulation.unique() if "/" in m):
            part = pd.concat([reals, some[some.manipulation == name]])
            table[f"FF++ {name} against real {quality}"] = numbers(part.label, part.p_real, part.group)
        for rule in by_rule.columns:
            p = by_rule.loc[some.index, rule].to_numpy()
            rules.setdefault(rule, {})[f"FF++ {quality}"] = {
                "auc": metrics.auc(some.label.to_numpy(), p),
                "log_loss": metrics.log_loss(some.label.to_numpy(), p),
            }
    verdicts = {}
    for name, labels, p in (("DFDC val", y, scores), ("FF++ val", rows.label.to_numpy(), rows.p_real.to_numpy())):
        words = np.array([judge.thresholds.verdict(float(v)) for v in p])
        verdicts[name] = {
            who: {w: round(float(np.mean(words[labels == code] == w)), 3) for w in ("REAL", "UNSURE", "FAKE")}
            for who, code in (("real videos", 1), ("fake videos", 0))
        }
    crops = pd.DataFrame({"file": crops.label + "/" + crops.video, "label": y, "p_real": scores})
    return {
        "detector": judge.model,
        "rows": table,
        "rules": rules,
        "verdicts": verdicts,
        "clips_without_face": no_face,
        "by_clip": by_clip,
        "worst": worst(pd.concat([rows, crops])),
        "frames": options.frame_count,
    }


def _crops(options) -> tuple[pd.DataFrame, np.ndarray]:
    """The DFDC crops and their scores."""
    from deepfake_detection.detector.network import DetectorModel

    crops, model = val_crops(options.data), DetectorModel.load(options.models, threads=options.workers)
    scores = [
        model.predict([read_rgb(f) for f in crops.path[i : i + 64]], trimmed=True)
        for i in tqdm(range(0, len(crops), 64), desc="DFDC crops", unit="batch", disable=None)
    ]
    return crops, np.concatenate(scores)


def _clips(options, judge) -> tuple[pd.DataFrame, pd.DataFrame, int]:
    """The clips with a face and their scores, the score of each by every rule, and how many have no face."""
    from deepfake_detection.aggregation import RULES, video_score

    rows, by_rule = [], []
    clips = list(val_clips(options.data).itertuples())
    for clip in tqdm(clips, desc="FF++ clips", unit="clip", disable=None):
        found = judge.predict(options.data / clip.file)
        if found.p_real is None:
            continue
        row = {k: getattr(clip, k) for k in ("file", "dataset", "manipulation", "group")}
        rows.append({**row, "label": CLASS_FOLDERS[clip.label], "p_real": found.p_real})
        people: dict[str, list] = {}
        for face in found.faces:
            people.setdefault(face.person, []).append(face.p_real)
        people = {name: np.array(p) for name, p in people.items()}
        by_rule.append({rule: video_score(people, rule) for rule in RULES})
    return pd.DataFrame(rows), pd.DataFrame(by_rule), len(clips) - len(rows)


def worst(rows: pd.DataFrame) -> list[dict]:
    """The ten that are most wrong."""
    rows = rows.assign(wrong=np.where(rows.label == 1, 1 - rows.p_real, rows.p_real))
    rows = rows.sort_values("wrong", ascending=False).head(10)[["file", "label", "p_real"]]
    return rows.assign(p_real=rows.p_real.round(4)).to_dict("records")


def robustness(options) -> dict:
    """AUC after what happens to videos on their way: c23 clips changed by ffmpeg, faces found anew; and DFDC crops
    changed alike."""
    from deepfake_detection.detector.network import DetectorModel

    judge, clips = detector(options.models, options.frame_count), val_clips(options.data, quality="c23")
    rows = {}
    with tempfile.TemporaryDirectory(prefix="robustness-") as folder:
        for name, change in tqdm(VIDEO_CHANGES.items(), desc="changed videos", unit="change", disable=None):
            scores, kept = [], []
            for clip in clips.itertuples():
                source = options.data / clip.file
                video = source if change is None else reencoded(source, Path(folder) / "changed.mp4", *change)
                p = judge.predict(video).p_real
                if p is not None:
                    scores.append(p)
                    kept.append(clip.Index)
            part = clips.loc[kept]
            rows[name] = {
                "without face": len(clips) - len(kept),
                **numbers(part.label.map(CLASS_FOLDERS), scores, part.group),
            }
    model, crops = DetectorModel.load(options.models, threads=options.workers), val_crops(options.data, every=3)
    pictures, y = [read_rgb(f) for f in crops.path], crops.label.map(CLASS_FOLDERS).to_numpy()
    faces = {}
    for name, change in tqdm(picture_changes(options.seed).items(), desc="changed crops", unit="change", disable=None):
        faces[name] = numbers(y, model.predict([change(x) for x in pictures], trimmed=True), crops.group)
    return {"videos": rows, "crops": faces, "frames": options.frame_count}


def _scores_of_runs(options, predictors: dict) -> dict:
    """Each predictor (list of uint8 RGB crops, trimmed -> scores) on the same faces: DFDC crops, and the faces that the
    detector's own path finds in the FF++ clips, eight a clip, averaged."""
    judge = detector(options.models, min(options.frame_count, 8))
    crops, clips = val_crops(options.data), val_clips(options.data)
    clips = clips[clips.dataset == "ffpp"].reset_index(drop=True)
    dfdc = {name: [] for name in predictors}
    for start in tqdm(range(0, len(crops), 64), desc="DFDC crops", unit="batch", disable=None):
        pictures = [read_rgb(f) for f in crops.path[start : start + 64]]
        for name, predict in predictors.items():
            dfdc[name].append(predict(pictures, True))
    found, kept = {name: [] for name in predictors}, []
    for clip in tqdm(list(clips.itertuples()), desc="FF++ clips", unit="clip", disable=None):
        faces = [f.crop for f in judge.predict(options.data / clip.file).faces]
        if faces:
            kept.append(clip.Index)
            for name, predict in predictors.items():
                found[name].append(float(np.mean(predict(faces, False))))
    part, rows = clips.loc[kept], {}
    for name in predictors:
        rows[name] = {"DFDC val": numbers(crops.label.map(CLASS_FOLDERS), np.concatenate(dfdc[name]), crops.group)}
        for quality in ("c23", "c40"):
            some = part.manipulation.str.contains(quality).to_numpy()
            rows[name][f"FF++ {quality}"] = numbers(
                part.label[some].map(CLASS_FOLDERS), np.array(found[name])[some], part.group[some]
            )
    return rows


def keras_predictor(path: Path, architecture: str | None = None, *, cut: dict | None = None):
    """A predictor from a Keras file. `cut`: trim crops that are not tight (the detector's own kind)."""
    import keras

    from deepfake_detection.detector.network import trim
    from deepfake_detection.faces.crops import network_input
    from deepfake_detection.models import registry

    model = registry.build(architecture, weights=path) if architecture else keras.models.load_model(path, compile=False)
    size = model.input_shape[1]

    def predict(crops, trimmed):
        faces = [network_input(c if trimmed or cut is None else trim(c, cut), size) for c in crops]
        return np.asarray(model(np.stack(faces).astype(np.float32), training=False))[:, 0]

    return predict


def leave_one_out(options) -> dict:
    """Runs of train_detector.py with --without, in folders named `without-...`, each also with the classifier that
    --head fitted."""
    runs = sorted(path.parent for path in options.runs.glob("without-*/model.keras"))
    if not runs:
        raise UserError(
            "no leave-one-out run",
            file=options.runs,
            hint="train_detector.py --without ffpp --name without-ffpp --steps 800, and so on",
        )
    files = {run.name: run / "model.keras" for run in runs}
    files |= {f"{run.name}, all levels": run / "head.keras" for run in runs if (run / "head.keras").is_file()}
    rows = _scores_of_runs(options, {name: keras_predictor(path, cut=TRIM) for name, path in files.items()})
    return {"rows": rows, "runs": {run.name: json.loads((run / "result.json").read_text()) for run in runs}}


def peers(options) -> dict:
    """The four published MesoNets, the published recipe and this detector on the same faces."""
    from deepfake_detection.detector.network import DetectorModel

    model = DetectorModel.load(options.models, threads=options.workers)
    predictors = {"this detector": lambda crops, trimmed: model.predict(crops, trimmed=trimmed)}
    for name, architecture in MESONETS.items():
        predictors[name] = keras_predictor(options.peers / f"{name}.h5", architecture)
    recipe = options.runs / "published-recipe"  # of benchmarks/published_recipe.py
    if (recipe / "model.keras").is_file():
        made = json.loads((recipe / "metrics.json").read_text())["training"]
        # Its training crops are tight, so what it judges is cut like them.
        predictors[
            f"published recipe (EfficientNetB0 from random weights, stopped after {made['epochs']} epochs, best "
            f"{made['best_epoch']})"
        ] = keras_predictor(recipe / "model.keras", cut=TRIM)
    return {"rows": _scores_of_runs(options, predictors)}


if __name__ == "__main__":
    cli.run(main)
