"""FaceForensics++ (Rössler et al. 2019) as its download script leaves it, with the DeepFakeDetection actors (DFD)
beside it.

original_sequences/{youtube,actors}/{raw,c0,c23,c40}/videos/000.mp4,
manipulated_sequences/<method>/<compression>/videos/000_003.mp4 (000 wears the face of 003), DFD:
actors/.../06__kitchen_pan.mp4, DeepFakeDetection/.../01_02__kitchen_pan__ID.mp4. With `splits/{train,val,test}.json`
(of the authors' repository) in the folder, the official split is known.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from ...errors import UserError
from .. import scan
from ..groups import identities_of_name
from . import Row, check_present

NAME = "ffpp"
EXPECTS = "original_sequences/ and manipulated_sequences/"
_TOPS = {"original_sequences": "REAL", "manipulated_sequences": "FAKE"}
_COMPRESSION = re.compile(r"raw|c\d{1,2}")  # not `masks`, which hold no faces


def matches(data: Path) -> bool:
    return any((data / top).is_dir() for top in _TOPS)


def rows(data: Path) -> list[Row]:
    split = _official_split(data)
    found = []
    for top, label in _TOPS.items():
        if not (data / top).is_dir():
            continue
        for method in scan.subfolders(data / top):
            for compression in scan.subfolders(data / top / method):
                if not _COMPRESSION.fullmatch(compression):
                    continue
                # As published in `videos`; copies of the set have them beside it, or in folders of their own.
                for video in scan.videos_under(data, f"{top}/{method}/{compression}"):
                    row = _row(str(video.parent), video.name, method, compression, label, split)
                    found.append(check_present(data, row))
    if not found:
        raise UserError(
            "no videos in this FaceForensics++ tree",
            file=data,
            hint="expected <original_sequences|manipulated_sequences>/<method>/<c23>/videos/*.mp4",
        )
    return found


def _row(folder: str, name: str, method: str, compression: str, label: str, split: dict[str, str]) -> Row:
    stem, dot, suffix = name.rpartition(".") if "." in name else (name, "", "")
    dfd = method in ("actors", "DeepFakeDetection")
    row = Row(
        video=f"{folder}/{name}",
        dataset="dfd" if dfd else "ffpp",
        label=label,
        manipulation=method if label == "FAKE" else "",
        compression=compression,
    )
    row.identities = identities_of_name(stem, dataset=row.dataset) or [f"{row.dataset}_{stem}"]
    if label == "FAKE" and dfd and (m := re.match(r"(\d+)_\d+__(.+)__\w+$", stem)):
        row.original = f"original_sequences/actors/{compression}/videos/{m[1]}__{m[2]}{dot}{suffix}"
    elif label == "FAKE" and not dfd and (m := re.match(r"(\d+)_\d+$", stem)):
        row.original = f"original_sequences/youtube/{compression}/videos/{m[1]}{dot}{suffix}"
    if not dfd:
        row.split = split.get(stem.split("_")[0], "")
    return row


def _official_split(data: Path) -> dict[str, str]:
    """Source video -> set, from splits/*.json: [["071", "054"], ...]; empty when they are not there."""
    found = {}
    for name in ("train", "val", "test"):
        path = data / "splits" / f"{name}.json"
        if not path.is_file():
            continue
        try:
            pairs = json.loads(path.read_text(encoding="utf-8"))
            found.update({str(video): name for pair in pairs for video in ([pair] if isinstance(pair, str) else pair)})
        except (ValueError, TypeError, RecursionError):
            raise UserError(
                "this file of the official split cannot be read",
                file=path,
                hint='expected [["071", "054"], ...]; take it anew or remove the folder splits',
            ) from None
    return found
