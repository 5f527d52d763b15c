"""Stage 01a: frames to face crops.

    python 01a_crop_faces_mtcnn.py --data train_sample_videos

Finds faces with MTCNN, keeps a face if it is its frame's only one or its confidence is over 0.95, widens the box by 30
% on every side and writes <frames>/<title>/faces/<title>-NNN-FF.png with boxes.csv (boxes, confidences, five points)
beside them. --direct goes from the videos to the same faces without frames on disk. Every video's account goes to
<out>/stage_reports/01a_videos.csv. A second run goes on where the first ended.
"""

from deepfake_detection import cli
from deepfake_detection.datasets.manifest import LAYOUTS
from deepfake_detection.faces import settings


def arguments():
    p = cli.parser(__doc__, idle=("--seed",), layouts=LAYOUTS)
    cli.frames_option(p)
    settings.add_options(p)
    p.add_argument(
        "--carry-over",
        action="store_true",
        help="fill a frame without a face from the person's box in past frames; marked `carried` in boxes.csv",
    )
    p.add_argument(
        "--carry-mean",
        type=cli.positive_int,
        default=3,
        metavar="K",
        help="carry the mean of the person's last K boxes (default: %(default)s)",
    )
    p.add_argument(
        "--carry-frames",
        type=cli.positive_int,
        default=5,
        metavar="M",
        help="from at most M frames back (default: %(default)s)",
    )
    p.add_argument(
        "--direct", action="store_true", help="from the videos themselves, without stage 00; with these options of 00:"
    )
    p.add_argument(
        "--sampling",
        choices=("per-second", "even", "keyframes"),
        default="per-second",
        help="which frames (default: %(default)s)",
    )
    p.add_argument(
        "--frame-count",
        type=cli.positive_int,
        default=32,
        metavar="N",
        help="frames a video for even and, at most, keyframes (default: %(default)s)",
    )
    p.add_argument(
        "--scale", type=cli.scale, default="published", metavar="FACTOR", help="resize rule (default: %(default)s)"
    )
    p.add_argument("--max-seconds", type=cli.positive_float, metavar="S", help="only the first S seconds of each video")
    p.add_argument(
        "--shard",
        type=_shard,
        metavar="I/N",
        help="only the manifest's rows I, I+N, I+2N, ...; I from 0. N runs may share one --frames-dir and one --out; "
        "a last run "
        "without --shard writes the whole account",
    )
    return p


def _shard(text):
    """I/N with 0 <= I < N; a ValueError becomes argparse's own line."""
    index, _, count = text.partition("/")
    if not 0 <= int(index) < int(count):
        raise ValueError(text)
    return f"{int(index)}/{int(count)}"


def main(argv=None):
    options = arguments().parse_args(argv)
    options.frames_dir = cli.frames_folder(options, begins=options.direct)
    from deepfake_detection.datasets import scan
    from deepfake_detection.datasets.manifest import read_manifest
    from deepfake_detection.faces import crop_stage
    from deepfake_detection.faces.extract import CarryOver
    from deepfake_detection.video import sampling

    manifest = read_manifest(options.data, options.layout, options.labels)
    stage = "01a"
    if options.shard:
        index, count = map(int, options.shard.split("/"))
        stage = f"01a-{index}-of-{count}"
        manifest = manifest.iloc[index::count]
    cli.announce(stage, options, options.out)
    if options.direct and not options.shard and (note := scan.no_videos(options.data)):
        print(f"note: {note}, left out", flush=True)
    if manifest.empty:  # more shards than videos
        print("no video in this shard")
        return
    wanted = crop_stage.FaceSettings(
        options.face_detector,
        options.min_face,
        options.margin,
        options.confidence,
        CarryOver(options.carry_mean, options.carry_frames) if options.carry_over else None,
        options.min_face_source,
    )
    account = crop_stage.crop_faces(
        manifest,
        options.data,
        options.frames_dir,
        wanted,
        direct=options.direct,
        sampling=sampling.parse(options.sampling, options.frame_count, options.max_seconds),
        scale=options.scale,
        worker_count=options.workers,
        force=options.force,
        lock=f"{crop_stage.LOCK}-{stage}" if options.shard else crop_stage.LOCK,
    )
    report = cli.stage_reports(options.out) / f"{stage}_videos.csv"
    account.write(report)
    print(account.summary())
    account.require_success(report)
    print(f"faces: {options.frames_dir}/<title>/faces/   account: {report}")


if __name__ == "__main__":
    cli.run(main)
