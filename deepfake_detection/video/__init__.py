"""Video in, chosen frames out: probe, sampling, one-pass decoding, the published resize rule, stage 00."""

from pathlib import Path

#: Suffixes (lower case) of what is called a video; what is one under any other name, `listing` tells by the content.
SUFFIXES = frozenset(
    (".mp4", ".m4v", ".mov", ".qt", ".avi", ".divx", ".mkv", ".webm", ".mpg", ".mpeg", ".mpe", ".m1v", ".m2v", ".m2p")
    + (".vob", ".wmv", ".asf", ".flv", ".f4v", ".3gp", ".3g2", ".3gpp", ".ts", ".m2t", ".mts", ".m2ts", ".ogv", ".ogm")
    + (".mxf", ".dv", ".rm", ".rmvb")
)


def is_video_name(path: str | Path) -> bool:
    """Whether a file's name says that it is a video. Hidden files (also the `._x.mp4` that macOS leaves) are not."""
    path = Path(path)
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
