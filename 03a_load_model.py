#!/usr/bin/env python
"""Stage 03a: loads a trained model and scores faces with it.

    python 03a_load_model.py                                              # what stage 03 trained, on the test set
    python 03a_load_model.py --model-file models/detector.keras           # the shipped detector
    python 03a_load_model.py --faces-dir DIR --out results                # DIR of real/ and fake/, or unlabelled
    python 03a_load_model.py --faces-dir out/frames --out results         # faces as stage 01a left them
    python 03a_load_model.py --architecture mesonet --model-file Meso4_DF.h5  # weights without an architecture

Writes cnn_preds_values.json and, for labelled faces, metrics.json, Confusion.png and ROC.png into <out>. A score is
P(real).
"""

from pathlib import Path

from deepfake_detection import cli
from deepfake_detection.datasets.manifest import LAYOUTS


def arguments():
    from deepfake_detection.models import registry

    p = cli.parser(__doc__, idle=("--force",), layouts=LAYOUTS)
    p.add_argument(
        "--model-file",
        type=Path,
        metavar="FILE",
        help="a .keras or .h5 model, or weights (default: <out>/tmp_checkpoint/best_model.keras)",
    )
    cli.option(
        p,
        "--architecture",
        old=["--model"],
        dest="model",
        metavar="NAME",
        help="the architecture of a file that holds weights only: " + ", ".join(registry.names()),
    )
    p.add_argument(
        "--image-size",
        type=cli.positive_int,
        metavar="PX",
        help="side of a face, with --architecture or for a model that takes any size (default: the model's own)",
    )
    cli.option(
        p,
        "--faces-dir",
        old=["--faces"],
        dest="faces",
        type=Path,
        metavar="DIR",
        help="the faces (default: <out>/split_dataset/test)",
    )
    cli.frames_option(p)
    p.add_argument(
        "--faces-margin",
        type=float,
        metavar="X",
        help="crop margin these faces were cut with (default: what stage 01a recorded, else 0.3)",
    )
    p.add_argument("--batch-size", type=cli.positive_int, default=32, metavar="N", help="(default: %(default)s)")
    p.add_argument(
        "--cache-mb",
        type=cli.positive_int,
        metavar="N",
        help="most memory for decoded faces (default: a fifth of the machine's)",
    )
    return p


def known_labels(options, given):
    """Title -> (label, group): of the videos that --data, --layout or --labels name, else as stage 01a had them."""
    from deepfake_detection.training import known

    if not given & {"data", "layout", "labels"}:
        return known.recorded(options.out) or known.recorded(options.frames_dir.parent)
    from deepfake_detection.datasets.manifest import read_manifest

    return known.of_manifest(read_manifest(options.data, options.layout, options.labels))


def main(argv=None):
    options, given = cli.parse_given(arguments(), argv)
    from deepfake_detection.training import results, scoring
    from deepfake_detection.training.face_list import titles_below

    own = options.model_file is None and options.faces is None
    options.model_file = options.model_file or options.out / "tmp_checkpoint" / "best_model.keras"
    options.faces = options.faces or options.out / "split_dataset" / "test"
    by_title = {} if own else titles_below(options.faces)
    if by_title and options.frames_dir is None:
        options.frames_dir = next(iter(by_title.values())).parents[1]
    options.frames_dir = cli.frames_folder(options)
    cli.announce("03a_load_model", options, options.out)
    out = options.out
    if own and results.in_folds(out):
        # Its classifier was fitted on every group, those of the test set too.
        out = options.out / "in_sample"
        print(
            "note: stage 03 judged this set in folds, and the model it kept has learnt from the test set as well; "
            "the out-of-fold scores stand, "
            f"what follows is in {out}"
        )
    result = scoring.run(
        options.model_file,
        options.faces,
        out,
        model=options.model,
        image_size=options.image_size,
        batch_size=options.batch_size,
        faces_margin=options.faces_margin,
        frames=options.frames_dir,
        known=known_labels(options, given) if by_title else None,
        workers=options.workers,
        seed=options.seed,
        cache_mb=options.cache_mb,
    )
    unit = "sequences" if "sequences" in result else "faces"
    print(f"{options.faces}:", *results.summary(result, unit), sep="\n")
    print(f"scores: {out / 'cnn_preds_values.json'}")


if __name__ == "__main__":
    cli.run(main)
