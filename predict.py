"""REAL or FAKE, with a probability, for your own videos and still pictures.

  python predict.py clip.mp4
  python predict.py photo.jpg
  python predict.py folder --csv verdicts.csv --report reports
  python predict.py https://example.org/clip.mp4 --json -
  python predict.py clip.mp4 --report reports --annotate clip-annotated.mp4

Prints a line a video: REAL, FAKE, UNSURE or NO FACE, the calibrated probability that it is fake, how far that varies
over its frames, faces and frames used. Exit code 0: every video got a verdict or NO FACE; 1: some failed (their rows
say why); 2: wrong usage. README.md and every report say what the words mean.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from pathlib import Path

from deepfake_detection import cli
from deepfake_detection.aggregation import RULES
from deepfake_detection.errors import UserError
from deepfake_detection.prediction import crew, inputs, many, outputs


def options():
    p = cli.parser(__doc__, data=False, out=False)
    p.add_argument(
        "videos",
        nargs="*",
        metavar="VIDEO|FOLDER|URL",
        help="video files, folders that are searched for them, or addresses (https://..., as --url)",
    )
    p.add_argument("-p", "--path", action="append", default=[], metavar="VIDEO", help="a video; the same as naming it")
    p.add_argument(
        "--pictures",
        action="store_true",
        help="judge the still pictures in folders too (JPEG, PNG, WebP); one that is named is always judged",
    )
    p.add_argument("--url", action="append", default=[], metavar="URL", help="a video on the web (needs yt-dlp)")
    cli.detector_options(p, RULES)
    _add_limits(p)
    _add_outputs(p)
    return p


def _add_limits(p) -> None:
    from deepfake_detection.faces.settings import DETECTORS

    p.add_argument("--max-seconds", type=cli.positive_float, metavar="S", help="only the first S seconds of each video")
    cli.option(
        p,
        "--face-detector",
        old=["--detector"],
        dest="detector",
        choices=DETECTORS,
        help="face detector (default: as the model says)",
    )
    p.add_argument(
        "--confidence",
        type=cli.fraction,
        metavar="P",
        help="keep faces above it, or a frame's only face (default: as the model says)",
    )
    p.add_argument(
        "--min-face", type=cli.positive_float, metavar="PX", dest="min_face_px", help="smallest face looked for, pixels"
    )
    p.add_argument(
        "--scale",
        type=cli.scale,
        metavar="F",
        help='"published" (by frame width) or a factor (default: as the model says)',
    )
    p.add_argument(
        "--min-share",
        type=cli.fraction,
        metavar="P",
        help="a person decides the verdict with this share of the faces of the person seen most (default: as the "
        "model says)",
    )
    p.add_argument(
        "--time-limit",
        type=cli.positive_float,
        default=crew.TIME_LIMIT_S,
        metavar="S",
        help="give up on a video after S seconds (default: %(default)s)",
    )


def _add_outputs(p) -> None:
    p.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="write a list of objects, one a video; - writes it to standard output, and the lines to standard error",
    )
    p.add_argument(
        "--csv",
        type=Path,
        metavar="FILE",
        help="write a row as each video is done; the same command goes on from there",
    )
    p.add_argument(
        "--report",
        type=Path,
        metavar="DIR",
        help="write an HTML report and its data as JSON for each video, and an index page over them",
    )
    p.add_argument(
        "--annotate",
        type=Path,
        metavar="FILE|DIR",
        help="write a copy of the video (H.264, without sound) with boxes, names and the score so far; for several "
        "videos a folder",
    )
    p.add_argument(
        "--explain",
        choices=("auto", "occlusion", "gradcam", "lime", "none"),
        default="auto",
        help="what the report draws over the faces (default: %(default)s)",
    )


def fetched_videos(
    urls: list[str], alone: bool, time_limit_s: float, stack: contextlib.ExitStack
) -> tuple[list[str], dict[str, str]]:
    """(paths of the videos of these addresses, why there is none by address).

    Raises:
        UserError: there is only one video, and it cannot be fetched.
    """
    paths, unread = [], {}
    for url in urls:
        from deepfake_detection.prediction.fetch_apart import fetched

        try:
            paths.append(str(stack.enter_context(fetched(url, wall_s=time_limit_s))))
        except UserError as e:
            if alone:
                raise
            paths.append(url)
            unread[url] = f"{e.what} (hint: {e.hint})"
    return paths, unread


def _settings(chosen) -> dict:
    """The fields of `predictor.Settings` that were asked for."""
    asked = "sampling frames max_seconds aggregate detector confidence min_face_px scale min_share seed"
    settings = {name: getattr(chosen, name) for name in asked.split()}
    if chosen.model:
        settings["model"] = str(Path(chosen.model).absolute())
    return settings


def main(argv=None) -> int:
    chosen = options().parse_args(argv)
    given = [*chosen.videos, *chosen.path]
    paths = [p for p in given if not p.lower().startswith(("http://", "https://"))]
    urls = list(dict.fromkeys([*(p for p in given if p not in paths), *chosen.url]))
    if not paths and not urls:
        raise UserError("no video given", hint="python predict.py VIDEO... | FOLDER | URL; --help shows all options")
    for option in ("csv", "report", "annotate"):
        if str(getattr(chosen, option)) == outputs.STDOUT:
            raise UserError(
                f"--{option} cannot go to standard output",
                hint="name a file or folder; --json - writes to standard output",
            )
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        print(
            "note: running as root: a video that takes over its decoder could read and change every file (hint: run "
            "this as an ordinary user)",
            file=sys.stderr,
        )
    to_stdout = str(chosen.json) == outputs.STDOUT
    say = functools.partial(print, file=sys.stderr, flush=True) if to_stdout else print
    with contextlib.ExitStack() as stack:
        videos = inputs.find_videos(paths, pictures=chosen.pictures)
        fetched, unread = fetched_videos(urls, len(urls) == 1 and not videos, chosen.time_limit, stack)
        whole = many.predict(
            [*videos, *fetched],
            _settings(chosen),
            names=[*videos, *urls],
            unread=unread,
            workers=chosen.workers,
            json_file=chosen.json,
            csv_file=chosen.csv,
            report_folder=chosen.report,
            annotate=chosen.annotate,
            explain=chosen.explain,
            force=chosen.force,
            time_limit_s=chosen.time_limit,
            searched=paths,
            say=say,
        )
    for what, where in (
        ("json", None if to_stdout else chosen.json),
        ("csv", chosen.csv),
        ("reports", chosen.report and chosen.report / outputs.INDEX),
        ("annotated", chosen.annotate),
    ):
        if where:
            print(f"{what}: {where}", file=sys.stderr)
    return cli.EXIT_OK if whole else cli.EXIT_SOME_FAILED


if __name__ == "__main__":
    cli.run(main)
