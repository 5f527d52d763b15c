#!/usr/bin/env python
"""What each part of the detector's training gives: short runs that differ from the first one in a single thing.

    python benchmarks/ablations.py --data ../shared/data                       # all rows, about 90 minutes on two cores
    python benchmarks/ablations.py --rows "all of it,without blends" --steps 800

Every run starts from the same ImageNet kernels, sees the same number of faces and is judged as it ended, on the validation split: DFDC
parts 35-39, and eight faces of each FF++ c23 and c40 clip, averaged. Nothing is chosen by these numbers, and nothing is shipped. The runs
lie in <work>/ablation-*; one that is done is not made again. Writes benchmarks/results/ablations.md and .json; intervals: 95 %,
resampling groups, of the difference to the first row paired.

EfficientNetB0's own ImageNet weights could not be had where this was run. Lite0 is B0 without squeeze-and-excite and with ReLU6 for
swish, with the same kernels otherwise, so B0 starts here as a copy of Lite0 (`b0_from_lite0`). Its numbers are those of that start.
"""

import dataclasses
import json
import os
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import numpy as np
from detector_tables import cell, table_text

from deepfake_detection import cli, metrics
from deepfake_detection.errors import UserError
from deepfake_detection.files import atomic_path, write_json, write_text

B0 = "EfficientNet-B0"

#: Row -> what differs from the first, as fields of `detector.train.Settings`.
ROWS = {
    "all of it": {},
    "without blends": {"blends": 0.0},
    B0: {"architecture": "efficientnet_b0"},
    "224 px": {"sizes": ((0.0, 224),)},
    "without mixing": {"mixing": 0.0},
    "published augmentation": {"augmentation": "published"},
    "without codec": {"codec": 0.0},
}

#: Swish(k x) / k comes near max(x, 0) as k grows; at 3 it is nowhere more than 0.1 away.
SWISH_SCALE = 3.0

#: A squeeze-and-excite gate is sigmoid(bias + what it learns): 0.95, nearly open, and still with a gradient.
GATE_BIAS = 3.0


def parse(argv=None):
    p = cli.parser(__doc__, data=False, out=False)
    shared = PROJECT.parent / "shared"
    p.add_argument("--data", type=Path, default=shared / "data", metavar="DIR", help="the shared data (default: %(default)s)")
    p.add_argument("--weights", type=Path, default=shared / "weights" / "efficientnet_lite0_imagenet_notop.weights.h5", metavar="PATH",
                   help="ImageNet kernels of Lite0 (default: %(default)s)")
    p.add_argument("--yunet", type=Path, default=shared / "weights" / "face_detection_yunet_2023mar.onnx", metavar="PATH", help="(default: %(default)s)")
    p.add_argument("--work", type=Path, default=PROJECT / "build" / "detector", metavar="DIR", help="cut faces and runs (default: %(default)s)")
    p.add_argument("--rows", default=",".join(ROWS), metavar="A,B", help="which rows (default: all)")
    p.add_argument("--steps", type=cli.positive_int, default=400, metavar="N", help="steps of 64 faces (default: %(default)s)")
    p.add_argument("--results", type=Path, default=PROJECT / "benchmarks" / "results", metavar="DIR", help="(default: %(default)s)")
    options = p.parse_args(argv)
    options.rows = options.rows.split(",")
    if unknown := set(options.rows) - set(ROWS):
        raise UserError(f"unknown row {sorted(unknown)[0]!r}", hint="--rows takes " + ", ".join(ROWS))
    return options


def b0_from_lite0(weights: Path, out: Path) -> Path:
    """EfficientNet-B0 that computes nearly what Lite0 with these weights does, saved as `out`; its classifier is random.

    Kernels and normalisations are Lite0's. What goes into a swish is made SWISH_SCALE times larger and what comes out of it as much
    smaller, so that it bends like a ReLU; the gates of squeeze-and-excite, which Lite0 lacks, are open and the same for every picture; the
    stem takes up that B0 scales its input in another way.
    """
    import keras
    from keras import layers

    from deepfake_detection.models import registry

    keras.utils.set_random_seed(1)
    lite0, b0 = registry.build("efficientnet_lite0", weights=weights), registry.build("efficientnet_b0")
    kinds = (layers.Conv2D, layers.DepthwiseConv2D, layers.BatchNormalization)
    shared = lambda model: [layer for layer in model.layers if isinstance(layer, kinds) and "_se_" not in layer.name]
    divide = 1.0
    for source, target in zip(shared(lite0), shared(b0), strict=True):
        values = source.get_weights()
        if isinstance(target, layers.BatchNormalization):
            if target.name == "stem_bn":
                values[2] = values[2] - offset
            divide = 1.0 if "_project_" in target.name else SWISH_SCALE          # no activation follows a projection
            values = [values[0] * divide, values[1] * divide, *values[2:]]       # gamma, beta, mean, variance
        elif target.name == "stem_conv":
            gain, shift = _input_of(lite0, b0)
            offset = (values[0] * shift[:, None]).sum((0, 1, 2))
            values = [values[0] * gain[:, None]]
        else:
            values, divide = [v / divide for v in values], 1.0
        target.set_weights(values)                                               # refuses what has another shape
    for layer in b0.layers:
        if layer.name.endswith("_se_expand"):
            layer.set_weights([np.zeros(layer.kernel.shape), np.full(layer.bias.shape, GATE_BIAS)])
    with atomic_path(out) as partial:
        b0.save(partial)
    return out


def _input_of(lite0, b0):
    """(gain, shift), each (3,): what Lite0's stem sees of a colour is gain * (what B0's stem sees) + shift."""
    import keras

    seen = []
    for model, layer in ((lite0, "stem_conv"), (b0, "stem_conv_pad")):
        stem = keras.Model(model.input, model.get_layer(layer).input)
        black, white = (np.asarray(stem(np.full((1, *model.input_shape[1:]), v, np.float32)))[0, 0, 0] for v in (0, 255))
        seen.append((black, white - black))
    (a0, a1), (b0_, b1) = seen
    gain = a1 / b1
    return gain, a0 - gain * b0_


def scores(model_file: Path, cache, size: int) -> dict:
    """Material -> (labels, P(real), groups) of its videos."""
    import keras

    from deepfake_detection.detector.train import predict_rows

    model = keras.models.load_model(model_file, compile=False)
    rows = np.concatenate([cache.rows(dataset="dfdc", split="val"), cache.rows(dataset="ffpp", split="val")[::4]])
    faces = cache.table.iloc[rows].assign(p=predict_rows(model, cache, rows, size))
    videos = faces.groupby("video", sort=False).agg(p=("p", "mean"), label=("label", "first"), group=("group", "first"),
                                                    dataset=("dataset", "first"), manipulation=("manipulation", "first"))
    parts = {"DFDC val": videos[videos.dataset == "dfdc"]}
    for quality in ("c23", "c40"):
        parts[f"FF++ {quality}"] = videos[(videos.dataset == "ffpp") & videos.manipulation.str.contains(quality)]
    return {name: (part.label.to_numpy(), part.p.to_numpy(np.float64), part.group.to_numpy()) for name, part in parts.items()}


def row_of(found: dict, first: dict) -> dict:
    """AUC and log loss of each material, and on DFDC the difference in AUC to the first row."""
    row = {}
    for name, (y, p, groups) in found.items():
        block = metrics.evaluate(y, p, groups)
        row[name] = {"auc": block["auc"], "log_loss": block["log_loss"]}
    y, p, groups = found["DFDC val"]
    if first is not found:
        row["difference"] = metrics.bootstrap_difference(metrics.auc, y, p, first["DFDC val"][1], groups).to_dict()
    return row


def as_text(results: dict) -> str:
    lines = [[name, str(row["minutes"]), cell(row["DFDC val"]["auc"]), cell(row.get("difference"), "+"), f"{row['DFDC val']['log_loss']['value']:.3f}",
              cell(row["FF++ c23"]["auc"]), cell(row["FF++ c40"]["auc"])] for name, row in results["rows"].items()]
    return (f"# What each part of the training gives\n\nMade by `python benchmarks/ablations.py` ({os.cpu_count()} cores). Each run: {results['steps']} steps of 64 faces from Lite0's "
            "ImageNet kernels, judged as it ended; brackets: 95 % intervals, resampling groups (none where there are too few).\n\n"
            + table_text(["run", "minutes", "DFDC val AUC", "difference to the first", "log loss", "FF++ c23 AUC", "FF++ c40 AUC"], lines))


def main(argv=None) -> int:
    options = parse(argv)
    cli.announce("ablations", options)
    from deepfake_detection.detector import data, train

    cache = data.prepare(options.data, options.work, options.yunet, workers=options.workers)
    start = {B0: b0_from_lite0(options.weights, options.work / "b0-from-lite0.keras")} if B0 in options.rows else {}
    results, first = {"steps": options.steps, "rows": {}}, None
    for name in options.rows:
        settings = dataclasses.replace(train.Settings(weights=str(start.get(name, options.weights)), steps=options.steps, mixing=0.5, codec=0.2,
                                                      validate_every=options.steps + 1, seed=options.seed), **ROWS[name])     # `scores` looks at its end
        folder = options.work / f"ablation-{options.steps}-{name.replace(' ', '-').lower()}"
        found = scores(train.run(settings, cache, folder), cache, settings.sizes[-1][1])
        first = first or found
        results["rows"][name] = row_of(found, first) | {"minutes": json.loads((folder / "result.json").read_text())["minutes"]}
        # What was computed stands, also when a later row fails.
        write_json(options.results / "ablations.json", results)
        write_text(options.results / "ablations.md", as_text(results))
    print(as_text(results))
    return cli.EXIT_OK


if __name__ == "__main__":
    cli.run(main)
