#!/usr/bin/env python
"""Videos to faces on a Spark cluster or on this machine: the same crops as stages 00 and 01a, in one pass, as Parquet.

    python spark_preprocess.py --data train_sample_videos --out results                    # this machine, all its cores
    python spark_preprocess.py --data /nfs/dfdc --out /nfs/out --master spark://host:7077  # a standalone cluster
    spark-submit --master yarn spark_preprocess.py --data /nfs/dfdc --out /nfs/out         # whatever spark-submit says
    python spark_preprocess.py --data DIR --out DIR --to-numpy                             # and X.npy, y.npy

Writes <out>/spark_faces/part-*.parquet (a row a face: title, label, group, frame, time, box, five points, picture) and
<out>/stage_reports/spark_preprocess_videos.csv. A run that was interrupted goes on where it ended. Videos and <out>
must have the same path on all machines. Memory: one executor core needs about 1.5 GB beside Spark's own.

Python packages on the executors: this package travels with the job. Third-party packages either lie on a shared disk
(start with PYSPARK_PYTHON=/nfs/venv/bin/python) or go with the job as an archive, made once in the environment that
runs this script:

    pip install venv-pack && venv-pack -p .venv -o environment.tar.gz          # conda: conda pack -o environment.tar.gz
    python spark_preprocess.py --environment environment.tar.gz --master spark://host:7077 ...
    PYSPARK_PYTHON=./environment/bin/python spark-submit --archives environment.tar.gz#environment \\
        spark_preprocess.py ...

venv-pack keeps a link to the base Python: every machine needs the same python3 at the same path. conda-pack brings its
own.
"""

from pathlib import Path

from deepfake_detection import cli
from deepfake_detection.datasets.manifest import LAYOUTS


def parse(argv=None):
    p = cli.bare_parser(__doc__)
    cli.data_options(p, LAYOUTS)
    cli.out_option(p)
    p.add_argument("--force", action="store_true", help="make again what stands")
    _add_places(p.add_argument_group("where"))
    _add_faces(p.add_argument_group("which faces, as in stages 00 and 01a"))
    _add_arrays(p.add_argument_group("arrays"))
    return p.parse_args(argv)


def _add_places(where) -> None:
    where.add_argument(
        "--master",
        metavar="URL",
        help="local[4], spark://host:7077, yarn, ... (default: spark-submit's or Spark's own setting)",
    )
    where.add_argument(
        "--bundle", type=cli.positive_int, default=8, metavar="N", help="videos a task (default: %(default)s)"
    )
    where.add_argument(
        "--environment", type=Path, metavar="FILE", help="archive of the executors' Python environment, see below"
    )


def _add_faces(what) -> None:
    from deepfake_detection.faces import settings as face_settings
    from deepfake_detection.spark.face_parts import IMAGES

    what.add_argument(
        "--sampling",
        choices=("per-second", "even", "keyframes"),
        default="per-second",
        help="which frames (default: %(default)s)",
    )
    what.add_argument(
        "--frame-count",
        type=cli.positive_int,
        default=32,
        metavar="N",
        help="frames a video for even and, at most, keyframes (default: %(default)s)",
    )
    what.add_argument(
        "--max-seconds", type=cli.positive_float, metavar="S", help="only the first S seconds of each video"
    )
    what.add_argument(
        "--scale", type=cli.scale, default="published", metavar="FACTOR", help="resize rule (default: %(default)s)"
    )
    face_settings.add_options(what)
    what.add_argument("--image", choices=IMAGES, default="png", help="how faces are stored (default: %(default)s)")
    what.add_argument(
        "--jpeg-quality", type=int, choices=range(1, 101), default=95, metavar="Q", help="1..100 (default: %(default)s)"
    )


def _add_arrays(arrays) -> None:
    arrays.add_argument(
        "--to-numpy",
        action="store_true",
        help="afterwards write X.npy (N, H, W, 3 float32 in 0..1) and y.npy (1 real, 0 fake)",
    )
    arrays.add_argument("--only-to-numpy", action="store_true", help="from the faces that stand, without Spark")
    arrays.add_argument(
        "--dimension", type=cli.positive_int, default=100, metavar="PX", help="side of a face (default: %(default)s)"
    )
    arrays.add_argument(
        "--samples", type=cli.positive_int, default=5, metavar="N", help="faces a video (default: %(default)s)"
    )
    arrays.add_argument(
        "--minority-ratio",
        type=cli.positive_int,
        default=9,
        metavar="R",
        help="times as many of a video of the minority class (default: %(default)s)",
    )
    arrays.add_argument(
        "--minority", choices=("real", "fake"), default="real", help="the minority class (default: %(default)s)"
    )


def _settings(options):
    from deepfake_detection.spark.face_parts import Settings

    return Settings(
        detector=options.face_detector,
        min_face_px=options.min_face,
        min_face_source_px=options.min_face_source,
        margin=options.margin,
        confidence=options.confidence,
        scale=options.scale,
        sampling=options.sampling,
        frame_count=options.frame_count,
        max_seconds=options.max_seconds,
        image=options.image,
        jpeg_quality=options.jpeg_quality,
    )


def main(argv=None):
    options = parse(argv)
    from deepfake_detection.datasets import scan
    from deepfake_detection.datasets.manifest import describe, read_manifest
    from deepfake_detection.errors import UserError
    from deepfake_detection.spark import arrays, preprocess

    if options.environment is not None and not options.environment.is_file():
        raise UserError(
            "there is no such archive",
            file=options.environment,
            hint="make it with venv-pack or conda pack, see --help",
        )
    cli.announce(preprocess.STAGE, options, options.out)
    if not options.only_to_numpy:
        manifest = read_manifest(options.data, options.layout, options.labels)
        print(describe(manifest))
        if note := scan.no_videos(options.data):
            print(f"note: {note}, left out")
        account = preprocess.run(
            manifest,
            options.data,
            options.out,
            _settings(options),
            master=options.master,
            videos_per_bundle=options.bundle,
            environment=options.environment,
            force=options.force,
        )
        report = cli.stage_reports(options.out) / f"{preprocess.STAGE}_videos.csv"
        account.write(report)
        print(account.summary())
        account.require_success(report)
        print(f"{options.out / preprocess.FOLDER}, {report}")
    if options.to_numpy or options.only_to_numpy:
        made = arrays.to_numpy(
            options.out / preprocess.FOLDER,
            options.out,
            dimension=options.dimension,
            samples=options.samples,
            minority_ratio=options.minority_ratio,
            minority=options.minority.upper(),
        )
        print(f"{options.out / 'X.npy'}, y.npy, X_rows.csv: {made['REAL']} real + {made['FAKE']} fake faces")
        if made["short"]:
            print(
                f"  note: {made['short']} videos have fewer faces than asked for and gave all; "
                f"--sampling even --frame-count {options.samples * options.minority_ratio} finds more"
            )


if __name__ == "__main__":
    cli.run(main)
