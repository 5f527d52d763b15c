#!/usr/bin/env python
"""How good are these scores? Metrics with intervals, every aggregation rule, coverage, pictures, and paired
comparisons.

    python evaluate.py scores.csv --out results                       # a row a face: video, label, group, ..., p_real
    python evaluate.py results/cnn_preds_values.json --out results    # as stage 03 writes it
    python evaluate.py ours.csv --compare theirs.csv --out results    # which of two is better on the same videos?
    python evaluate.py preds.json --manifest results/split_manifest.csv    # groups and datasets from a list

How good is a detector, with its own thresholds, on labelled videos?

    python predict.py DIR --csv verdicts.csv && python evaluate.py verdicts.csv --data DIR    # DIR as for stage 00

Prints the tables and writes evaluation.json, evaluation.csv (a row for each dataset, manipulation and rule), ROC.png,
Reliability.png and ScoreHistogram.png. AUC, average precision, EER, log loss, Brier, ECE, balanced accuracy and TPR at
5 % FPR (fakes found when 5 % of the reals are called fake), each with a 95 % interval from resampling groups. What the
data does not support is refused with the reason. A video without a face is counted, never scored.
"""

import functools
from pathlib import Path

from deepfake_detection import cli
from deepfake_detection.errors import UserError


def parse(argv=None):
    from deepfake_detection.aggregation import RULES
    from deepfake_detection.datasets.manifest import LAYOUTS

    p = cli.bare_parser(__doc__)
    p.add_argument(
        "scores",
        type=Path,
        metavar="SCORES",
        help="score file: .csv, .json in the published layout, .parquet, or a folder of these",
    )
    p.add_argument("--compare", type=Path, metavar="SCORES", help="a second score file for a paired comparison")
    p.add_argument(
        "--manifest",
        type=Path,
        metavar="CSV",
        help="list with title or video and any of label, group, dataset, manipulation, status; its videos without a "
        "score are counted",
    )
    p.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder of the videos: labels and people as stage 00 reads them there, instead of --manifest",
    )
    p.add_argument(
        "--layout", default="auto", metavar="NAME", help="of --data: " + ", ".join(LAYOUTS) + " (default: %(default)s)"
    )
    cli.labels_option(p)
    cli.out_option(p, "evaluation")
    p.add_argument(
        "--aggregate",
        choices=tuple(RULES),
        default="mean",
        help="rule of the main table, pictures and comparison (default: %(default)s)",
    )
    p.add_argument(
        "--threshold", type=cli.fraction, default=0.5, metavar="P", help="p_real >= P is REAL (default: %(default)s)"
    )
    p.add_argument(
        "--resamples", type=cli.positive_int, default=1000, metavar="N", help="for the intervals (default: %(default)s)"
    )
    p.add_argument("--seed", type=cli.seed, default=1, metavar="N", help="of the resamples (default: %(default)s)")
    return p.parse_args(argv)


def _known(options, names):
    """What --data says of the videos with these names."""
    from deepfake_detection.datasets.manifest import read_manifest
    from deepfake_detection.reports import verdicts

    return verdicts.named_as(read_manifest(options.data, options.layout, options.labels), names, options.data)


def main(argv=None):
    options = parse(argv)
    from deepfake_detection.reports import evaluation, evaluation_text

    known = None
    if options.data is None and (options.labels or options.layout != "auto"):
        raise UserError("--labels and --layout are of a folder of videos", hint="name it with --data DIR")
    if options.data is not None:
        if options.manifest is not None:
            raise UserError("--data and --manifest do not go together", hint="leave one of them out")
        known = functools.partial(_known, options)
    cli.announce("evaluate", options, options.out)
    report = evaluation.run(
        options.scores,
        options.out,
        compare=options.compare,
        manifest=options.manifest,
        known=known,
        rule=options.aggregate,
        threshold=options.threshold,
        resamples=options.resamples,
        seed=options.seed,
    )
    print("\n" + evaluation_text.text(report) + "\n")
    print(
        options.out / evaluation.JSON,
        options.out / evaluation.CSV,
        *(options.out / name for name in report["pictures"]),
        sep="\n",
    )


if __name__ == "__main__":
    cli.run(main)
