"""Plain folders: real/ and fake/ (any case, videos at any depth), also below train/, val/ and test/. Other videos are
unlabelled.

original, genuine, deepfake, manipulated, altered and the like (`WORDS`) are understood too, also as `deepfake_videos`.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from ...errors import UserError
from .. import scan
from ..groups import identities_of_name
from . import Row, check_present

NAME = "folders"
EXPECTS = "real/ and fake/ with videos"
SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
    "testing": "test",
}  # fmt: skip
#: Words for each label, in the singular.
WORDS = {
    "REAL": (
        *("real", "original", "genuine", "authentic", "pristine"),
        *("untouched", "unaltered", "unmanipulated", "bonafide"),
    ),
    "FAKE": (
        *("fake", "deepfake", "manipulated", "altered", "forged"),
        *("forgery", "synthetic", "tampered", "swapped", "faceswap"),
    ),
}
_LABELS = {word: label for label, words in WORDS.items() for word in words}


def label_of(name: str) -> str:
    """REAL, FAKE or empty: what a folder's name or a word in a list says. Numbers say nothing: 1 may be either."""
    word = re.sub(r"[\s_-]+", " ", name.strip().casefold())
    word = re.sub(r" (videos?|clips?)$", "", word).replace(" ", "")
    return _LABELS.get(word) or _LABELS.get(word.removesuffix("s")) or ("FAKE" if word == "forgeries" else "")


def _class_folders(data: Path) -> list[tuple[str, str, str]]:
    """(relative folder, label, split) of every real/ and fake/ that holds a video.

    That it holds one matters: a video called real.mp4 leaves a folder `real` of frames.
    """
    found = []
    for name in scan.subfolders(data):
        if label_of(name):
            found.append((name, label_of(name), ""))
        elif name.lower() in SPLITS:
            found += [
                (f"{name}/{inner}", label_of(inner), SPLITS[name.lower()])
                for inner in scan.subfolders(data / name)
                if label_of(inner)
            ]
    return [f for f in found if scan.has_video(data, f[0])]


def matches(data: Path) -> bool:
    return bool(_class_folders(data))


def rows(data: Path) -> list[Row]:
    classes = _class_folders(data)
    if not classes:
        raise UserError("no real/ or fake/ folder with videos", file=data, hint="put the videos into real/ and fake/")
    found = {}
    for folder, label, split in classes:
        for video in scan.videos_under(data, folder):
            found[str(video)] = Row(
                video=str(video), dataset=NAME, label=label, manipulation="fake" if label == "FAKE" else "", split=split
            )
    for video in scan.videos_under(data):
        # One file may be reached twice through a link; the labelled path is the one that counts.
        found.setdefault(str(video), Row(video=str(video), dataset=NAME))
    tie(list(found.values()))
    return [check_present(data, row) for row in found.values()]


def tie(found: list[Row]) -> None:
    """Ties a fake to the reals that its name shows it is made of.

    The names of FaceForensics++, DFD and Celeb-DF are read as such (people flatten those trees). Otherwise a fake
    `anna_swap` belongs to a real `anna`, and videos of the same name to each other.
    """
    reals = {PurePosixPath(r.video).stem: r.video for r in found if r.label == "REAL"}
    for row in found:
        stem = PurePosixPath(row.video).stem
        row.identities = identities_of_name(stem) or [f"folders_{stem}"]
        if row.label != "FAKE":
            continue
        cuts = [i for i, c in enumerate(stem) if c in "_- ." and i > 0] + [len(stem)]
        source = next((stem[:cut] for cut in reversed(cuts) if stem[:cut] in reals), None)
        if source is not None:
            row.original = reals[source]
            own, row.identities = row.identities, identities_of_name(source) or [f"folders_{source}"]
            row.links = own
