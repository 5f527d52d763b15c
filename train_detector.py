"""Trains the detector that is shipped in models/, from the shared data, in one command.

    python train_detector.py --data ../shared/data --minutes 85

Cuts the faces once (build/detector), trains, calibrates on the validation split and writes models/detector.{keras,onnx,json}.
Expect about 40 faces a second on two CPU cores; the runs that were made, and what each gave, are in docs/training_log.md.
"""

import argparse
import json
import os
from dataclasses import asdict

# Must be set before TensorFlow is imported: on CPUs without AVX-512 it is off by default, and training takes twice as long.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

from pathlib import Path

from deepfake_detection import cli
from deepfake_detection.errors import UserError


def sizes(text: str) -> tuple[tuple[float, int], ...]:
    """argparse type: "0:128,0.7:160" is 128 px from the beginning and 160 px from 70 % of the run on."""
    try:
        parts = tuple((float(part), int(px)) for part, px in (item.split(":") for item in text.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must look like 0:128,0.7:160, not {text!r}") from None
    if parts[0][0] != 0 or list(parts) != sorted(parts) or not all(0 <= part < 1 and px >= 32 for part, px in parts):
        raise argparse.ArgumentTypeError(f"must begin with part 0 and go up, with sizes of 32 px or more: {text!r}")
    return tuple((part, _multiple_of_16(px)) for part, px in parts)


def side(text: str) -> int:
    """argparse type: an input side."""
    return _multiple_of_16(cli.positive_int(text))


def _multiple_of_16(px: int) -> int:
    """`px`, or a refusal: between multiples of 16 the strides' padding falls on other sides than in training, and the shipped network lost
    .01 of AUC at once (docs/training_log.md)."""
    if px % 16:
        raise argparse.ArgumentTypeError(f"must be a multiple of 16 px, such as {max(round(px / 16), 2) * 16}, not {px}")
    return px


def freezing(text: str) -> tuple[float, str] | None:
    """argparse type: "0.3:block2_add" freezes that layer and all before it from 30 % of the run on; "none" freezes nothing."""
    return _number_and_layer(text, "0.3:block2_add", lambda part: 0 <= part < 1)


def teaching(text: str) -> tuple[float, str] | None:
    """argparse type: "0.5:block10_add" teaches that layer with weight 0.5 where a face was altered; "none" does not."""
    return _number_and_layer(text, "0.5:block10_add", lambda weight: 0 < weight < float("inf"))


def _number_and_layer(text: str, example: str, fits) -> tuple[float, str] | None:
    if text == "none":
        return None
    number, _, layer = text.partition(":")
    try:
        value = float(number)
    except ValueError:
        value = float("nan")                    # fits nothing
    if not layer or not fits(value):
        raise argparse.ArgumentTypeError(f"must look like {example}, or none, not {text!r}")
    return value, layer


def main(argv=None) -> int:
    p = cli.parser(__doc__, data=False, out=False)
    shared = Path(__file__).resolve().parent.parent / "shared"
    p.add_argument("--data", type=Path, default=shared / "data", metavar="DIR", help="the shared data (default: %(default)s)")
    p.add_argument("--weights", default=str(shared / "weights" / "efficientnet_lite0_imagenet_notop.weights.h5"), metavar="PATH",
                   help="what to start from: none, imagenet or a weights file (default: %(default)s)")
    p.add_argument("--yunet", type=Path, default=shared / "weights" / "face_detection_yunet_2023mar.onnx", metavar="PATH",
                   help="the face detector's file (default: %(default)s)")
    p.add_argument("--work", type=Path, default=Path("build/detector"), metavar="DIR", help="cut faces and checkpoints (default: %(default)s)")
    p.add_argument("--out", type=Path, default=Path("models"), metavar="DIR", help="where the detector is written (default: %(default)s)")
    p.add_argument("--name", default="main", metavar="NAME", help="name of the run, a folder of --work (default: %(default)s)")
    p.add_argument("--architecture", default="efficientnet_lite0", metavar="NAME", help="network (default: %(default)s)")
    p.add_argument("--sizes", type=sizes, default="0:128", metavar="PART:PX,...", help="input side from each part of the run on (default: %(default)s)")
    p.add_argument("--freeze", type=freezing, default="none", metavar="PART:LAYER",
                   help="freeze this layer and all before it from this part of the run on (default: %(default)s)")
    p.add_argument("--freeze-norms", type=cli.fraction, metavar="PART",
                   help="batch normalisation keeps its statistics from this part of the run on (default: never)")
    p.add_argument("--interpolate", type=cli.fraction, default=1.0, metavar="PART",
                   help="ship this part of the way from --interpolate-from to the run's end; 1 is its end (default: %(default)s)")
    p.add_argument("--interpolate-from", type=Path, metavar="PATH", help="the .keras file where that way begins (default: --weights)")
    p.add_argument("--ship-size", type=side, metavar="PX", help="input side of what is shipped (default: the run's last)")
    p.add_argument("--steps", type=cli.positive_int, default=3000, metavar="N", help="steps of 64 faces (default: %(default)s)")
    p.add_argument("--minutes", type=cli.positive_float, metavar="M", help="end the schedule after this time, if that comes first")
    p.add_argument("--learning-rate", type=cli.positive_float, default=8e-4, metavar="X", help="peak (default: %(default)s)")
    p.add_argument("--without", action="append", default=[], choices=["dfdc", "ffpp"], help="leave a data set out (again for more)")
    p.add_argument("--blends", type=cli.fraction, default=1.0, metavar="PART",
                   help="make this part of the blended images; given fakes take the place of the others (default: %(default)s)")
    p.add_argument("--mixing", type=cli.fraction, default=0.0, metavar="PART",
                   help="mix this part of the fakes with the same moment of their originals (default: %(default)s)")
    p.add_argument("--codec", type=cli.fraction, default=0.0, metavar="PART",
                   help="pass this part of all faces through a video codec's intra coding (default: %(default)s)")
    p.add_argument("--where", type=teaching, default="none", metavar="WEIGHT:LAYER",
                   help="also teach this layer, with this weight, where a face was altered (default: %(default)s)")
    p.add_argument("--augmentation", default="strong", choices=["strong", "published", "none"], help="(default: %(default)s)")
    p.add_argument("--validate-every", type=cli.positive_int, default=400, metavar="N", help="steps (default: %(default)s)")
    p.add_argument("--no-export", action="store_true", help="only train: leave models/ as it is")
    options = p.parse_args(argv)
    cli.announce("train_detector", options)

    if options.interpolate_from and not options.interpolate_from.is_file():
        # Asked before the training, not hours later.
        raise UserError("no such model", file=options.interpolate_from, hint="--interpolate-from takes a .keras file of the same architecture")

    from deepfake_detection.detector import data, train

    settings = train.Settings(architecture=options.architecture, weights=options.weights, sizes=options.sizes, steps=options.steps,
                              minutes=options.minutes, learning_rate=options.learning_rate, without=tuple(options.without),
                              blends=options.blends, mixing=options.mixing, codec=options.codec, augmentation=options.augmentation,
                              freeze=options.freeze, freeze_norms=options.freeze_norms, where=options.where, validate_every=options.validate_every,
                              seed=options.seed)
    cache = data.prepare(options.data, options.work, options.yunet, workers=options.workers)
    model = train.run(settings, cache, options.work / options.name)
    if not options.no_export:
        from deepfake_detection.detector import export

        if options.interpolate < 1 or options.ship_size:
            start = (options.interpolate_from or Path(options.weights)) if options.interpolate < 1 else model
            model = train.interpolate(start, model, options.interpolate, options.work / options.name / "interpolated.keras", size=options.ship_size)
        result = json.loads((options.work / options.name / "result.json").read_text())
        model = export.ship(model, cache, options.out, training=asdict(settings) | {"steps": result["step"], "minutes": result["minutes"],
                                                                                    "interpolate": options.interpolate, "ship_size": options.ship_size,
                                                                                    "interpolate_from": options.interpolate_from and options.interpolate_from.name})
    print(f"trained: {model}")
    return cli.EXIT_OK


if __name__ == "__main__":
    cli.run(main)
