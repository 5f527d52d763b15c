"""Stage 01b: face crops with the five facial points marked in red.

    python 01b_mark_landmarks.py --data train_sample_videos

Draws the points that stage 01a stored (eyes, nose, corners of the mouth) and writes <frames>/<title>/marked_faces/, the
same names and sizes as in faces/. `02_prepare_dataset.py --faces marked_faces` trains on these. A second run goes on
where the first ended.
"""

from deepfake_detection import cli
from deepfake_detection.datasets.manifest import LAYOUTS


def arguments():
    p = cli.parser(__doc__, idle=("--seed",), layouts=LAYOUTS)
    cli.frames_option(p)
    p.add_argument(
        "--radius",
        type=cli.positive_int,
        metavar="PX",
        help="radius of a point (default: 1 for every 60 px of the crop's shorter side)",
    )
    return p


def main(argv=None):
    options = arguments().parse_args(argv)
    options.frames_dir = cli.frames_folder(options)
    from deepfake_detection.datasets.manifest import read_manifest
    from deepfake_detection.faces import landmarks

    manifest = read_manifest(options.data, options.layout, options.labels)
    cli.announce("01b", options, options.out)
    account = landmarks.mark_faces(
        manifest, options.frames_dir, radius=options.radius, worker_count=options.workers, force=options.force
    )
    report = cli.stage_reports(options.out) / "01b_videos.csv"
    account.write(report)
    print(account.summary())
    account.require_success(report)
    print(f"marked faces: {options.frames_dir}/<title>/marked_faces/   account: {report}")


if __name__ == "__main__":
    cli.run(main)
