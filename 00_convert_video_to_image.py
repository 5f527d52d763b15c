"""Stage 00: videos to frames.

    python 00_convert_video_to_image.py --data train_sample_videos

Writes <out>/frames/<title>/<title>-NNN.png (--frames-dir chooses the folder), by default one frame a second,
resized by width as published: under 300 px x2, 300-1000 x1, 1001-1900 x0.5, wider x0.33. Every video's account goes to
<out>/stage_reports/00_videos.csv. A second run goes on where the first ended.
"""

from deepfake_detection import cli
from deepfake_detection.datasets.manifest import LAYOUTS

LABELS_HINT = "--labels FILE, a labels.csv beside the videos, or folders real/ and fake/ give labels"


def arguments():
    p = cli.parser(__doc__, layouts=LAYOUTS)
    cli.frames_option(p, old=["--frames-out"])
    p.add_argument(
        "--sampling",
        choices=("per-second", "even", "keyframes"),
        default="per-second",
        help="which frames: index %% floor(fps) == 0, evenly spread, or key frames only (default: %(default)s)",
    )
    cli.option(
        p,
        "--frame-count",
        old=["--frames"],
        type=cli.positive_int,
        default=32,
        metavar="N",
        help="frames a video for even and, at most, keyframes (default: %(default)s)",
    )
    p.add_argument(
        "--scale",
        type=cli.scale,
        default="published",
        metavar="FACTOR",
        help="'published' (by the video's width) or a factor, 1 for none (default: %(default)s)",
    )
    p.add_argument("--max-seconds", type=cli.positive_float, metavar="S", help="only the first S seconds of each video")
    p.add_argument("--max-videos", type=cli.positive_int, metavar="N", help="only N videos, balanced over the labels")
    p.add_argument(
        "--need-labels", action="store_true", help="stop unless there are REAL and FAKE videos, as training needs"
    )
    return p


def main(argv=None):
    options = arguments().parse_args(argv)
    from deepfake_detection.datasets import scan
    from deepfake_detection.datasets.manifest import labels_note, read_manifest
    from deepfake_detection.errors import UserError
    from deepfake_detection.video import frames, sampling

    manifest = read_manifest(options.data, options.layout, options.labels)
    options.frames_dir = cli.frames_folder(options, begins=True)
    cli.announce("00", options, options.out)
    if note := scan.no_videos(options.data):
        print(f"note: {note}, left out", flush=True)
    if note := labels_note(manifest):
        if options.need_labels and not {"REAL", "FAKE"} <= set(manifest.loc[manifest["error"] == "", "label"]):
            raise UserError(note, file=options.data, hint=LABELS_HINT)
        print(f"note: {note} ({LABELS_HINT})", flush=True)
    account = frames.convert(
        manifest,
        options.data,
        options.frames_dir,
        sampling=sampling.parse(options.sampling, options.frame_count, options.max_seconds),
        scale=options.scale,
        max_videos=options.max_videos,
        seed=options.seed,
        worker_count=options.workers,
        force=options.force,
    )
    report = cli.stage_reports(options.out) / "00_videos.csv"
    account.write(report)
    print(account.summary())
    account.require_success(report)
    print(f"frames: {options.frames_dir}/<title>/   account: {report}")


if __name__ == "__main__":
    cli.run(main)
