#!/usr/bin/env python
"""Stage 04: scores of faces to predictions of videos, as one Spark job.

    python 04_mapreduce_video_preds.py                                   # cnn_preds_values.json of stage 03 or 03a
    python 04_mapreduce_video_preds.py --preds FILE|FOLDER --out results # JSON, CSV, Parquet, or a folder of many
    spark-submit --master spark://host:7077 --py-files package.zip 04_mapreduce_video_preds.py --preds hdfs://...

Writes mapreduce_res.txt (accuracy, mean predictions, confusion, AUC, log loss, a line a video), video_predictions.csv
and ConfusionVideo.png. A video's score is the mean P(real) of its faces; p_real >= 0.5 is REAL. A video
without a score is NO FACE, or ERROR where the table's column status or error says that it failed. In the CSV, a name
that a spreadsheet would run as a formula (it begins with = + - @) has ./ before it.
"""

from deepfake_detection import cli


def parse(argv=None):
    p = cli.bare_parser(__doc__)
    p.add_argument(
        "--preds", metavar="PATH", help="score file, or folder of score files (default: <out>/cnn_preds_values.json)"
    )
    cli.out_option(p)
    p.add_argument(
        "--master",
        metavar="URL",
        help="local[4], spark://host:7077, yarn, ... (default: spark-submit's or Spark's own setting)",
    )
    p.add_argument(
        "--workers",
        type=cli.positive_int,
        metavar="N",
        help="without --master: cores of this machine (default: Spark's own setting)",
    )
    p.add_argument(
        "--threshold", type=cli.fraction, default=0.5, metavar="P", help="p_real >= P is REAL (default: %(default)s)"
    )
    p.add_argument(
        "--resamples", type=cli.positive_int, default=1000, metavar="N", help="for the intervals (default: %(default)s)"
    )
    p.add_argument("--seed", type=cli.seed, default=1, metavar="N", help="of the resamples (default: %(default)s)")
    cli.idle_options(p, "--data", "--layout", "--labels", "--force")
    return p.parse_args(argv)


def main(argv=None):
    options = parse(argv)
    from deepfake_detection.spark import video_predictions as stage

    options.preds = options.preds or str(options.out / "cnn_preds_values.json")
    cli.announce(stage.STAGE, options, options.out)
    master = options.master or (f"local[{options.workers}]" if options.workers else None)
    result = stage.run(
        options.preds,
        options.out,
        master=master,
        threshold=options.threshold,
        resamples=options.resamples,
        seed=options.seed,
    )
    print("\n".join(result.text.split("\n\nAll videos", 1)[0].splitlines()))
    print("\n" + "\n".join(str(f) for f in result.files))


if __name__ == "__main__":
    cli.run(main)
