"""Video in, chosen frames out: probe, sampling, one-pass decoding, the published resize rule, stage 00."""

from pathlib import Path

#: Suffixes (lower case) of what is taken for a video in a folder.
SUFFIXES = frozenset(
    {
        ".mp4",
        ".m4v",
        ".mov",
        ".avi",
        ".mkv",
        ".webm",
        ".mpg",
        ".mpeg",
        ".wmv",
        ".flv",
        ".3gp",
        ".mts",
        ".m2ts",
        ".ts",
        ".ogv",
    }
)


def is_video_name(path: str | Path) -> bool:
    """Whether a file's name says that it is a video. Hidden files (also the `._x.mp4` that macOS leaves) are not."""
    path = Path(path)
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
