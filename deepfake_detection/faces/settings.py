"""How faces are found and cut unless told otherwise, and the options that tell: one place for every command line."""

from __future__ import annotations

import argparse

from .. import cli

#: Names of the detectors, and the one that is used.
DETECTORS = ("mtcnn", "mtcnn_fast", "yunet")
DETECTOR = "mtcnn_fast"

#: The published margin: the box is widened by this part of its width and height on every side.
PUBLISHED_MARGIN = 0.30

#: The published rule keeps MTCNN's faces over this confidence when there are several; YuNet counts otherwise.
PUBLISHED_CONFIDENCE, YUNET_CONFIDENCE = 0.95, 0.80

#: The smallest face that the published detector looks for, in pixels of the frame it is given.
PUBLISHED_MIN_FACE_PX = 20.0


def add_options(parser) -> None:
    """`--face-detector`, `--margin`, `--confidence`, `--min-face` and `--min-face-source` of a parser or its group."""
    cli.option(
        parser,
        "--face-detector",
        old=["--detector"],
        choices=DETECTORS,
        default=DETECTOR,
        help="mtcnn: the package itself, on TensorFlow; mtcnn_fast: its networks and weights on ONNX Runtime, the same "
        "faces; yunet: lighter, other boxes (default: %(default)s)",
    )
    parser.add_argument(
        "--margin",
        type=margin,
        default=PUBLISHED_MARGIN,
        metavar="PART",
        help="part of the box added on every side (default: %(default)s)",
    )
    parser.add_argument(
        "--confidence",
        type=cli.fraction,
        metavar="P",
        help=f"keep faces above it, or a frame's only face (default: {PUBLISHED_CONFIDENCE:.2f} for MTCNN, "
        f"{YUNET_CONFIDENCE:.2f} for YuNet)",
    )
    parser.add_argument(
        "--min-face",
        type=cli.positive_float,
        default=PUBLISHED_MIN_FACE_PX,
        metavar="PX",
        help="smallest face looked for, in pixels of the resized frame (default: %(default)s)",
    )
    parser.add_argument(
        "--min-face-source",
        type=cli.positive_float,
        metavar="PX",
        help="the same in pixels of the source video, instead",
    )


def margin(text: str) -> float:
    """argparse type: a number of 0 or more, below 10."""
    value = float(text)
    if not 0 <= value < 10:
        raise argparse.ArgumentTypeError(f"must be between 0 and 10, not {text}")
    return value
