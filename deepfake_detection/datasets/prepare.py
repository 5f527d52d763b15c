"""Stage 02: faces to a balanced set, and that to train, val and test without leaks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from .. import files, labels, stage_report
from ..cli import stage_reports
from ..errors import UserError
from ..names import parts_of_face
from ..video.sampling import thin
from . import split_check
from .manifest import COLUMNS
from .split import SETS, allocate, assign_groups

STAGE = "02"
SPLIT = ("groups", "official")
_PICTURES = (".png", ".jpg", ".jpeg")
_FIRST = ("label", "group")
#: What split_manifest.csv keeps of a video, so every new column too: results are told by it afterwards.
KEPT = (*_FIRST, *(c for c in COLUMNS if c not in {*_FIRST, "title", "video", "original", "split", "error"}))


@dataclass
class Result:
    """What stage 02 made. `faces[set][class folder]` counts faces, `videos[set]` counts videos."""

    faces: dict[str, dict[str, int]]
    videos: dict[str, int]
    notes: list[str] = field(default_factory=list)
    summary: str = ""


def faces_of(folder: Path, title: str) -> tuple[list[str], int]:
    """Names of the faces of a video, in the order of frames, and the number of pictures there that are not named as its
    faces.

    Raises:
        FileNotFoundError: when the folder is not there.
    """
    found, strange = [], 0
    with os.scandir(folder) as entries:
        for entry in entries:
            stem, suffix = os.path.splitext(entry.name)
            if suffix.lower() not in _PICTURES or stem.startswith("."):
                continue
            whose, frame, face = parts_of_face(entry.name)
            if whose == title != stem:
                found.append((frame, face, entry.name))
            else:
                strange += 1
    return [name for _, _, name in sorted(found)], strange


def prepare(
    manifest,
    frames: Path,
    out: Path,
    *,
    faces: str = "faces",
    balance: str = "delete",
    split: str = "groups",
    ratio: Sequence[float] = (80, 10, 10),
    seed: int = 1,
) -> Result:
    """Makes `<out>/prepared_dataset/{real,fake}`, `<out>/split_dataset/{train,val,test}/{real,fake}` and
    `<out>/split_manifest.csv`.

    Fakes are down-sampled to the number of real faces (`balance="delete"`) by thinning the frames of each video evenly,
    so that as many videos as possible stay. Pictures are hard links where the file system allows. Both folders appear
    whole or not at all.

    Args:
        manifest: of `datasets.manifest.read_manifest`.
        frames: holds `<title>/<faces>/<title>-NNN-FF.png`.
        faces: `faces`, or `marked_faces` of stage 01b.
        balance: `delete` as published, or `none`.
        split: `groups` (connected identities stay together), or `official` (the data set's own, which may part
            identities).
        ratio: parts for train, val, test.
        seed: of the balancing and of the split.

    Raises:
        UserError: no faces, a class missing, too few groups, no official split.
    """
    report = stage_report.Account(manifest, ("faces", "used"))
    notes: list[str] = []
    found = _find(manifest, frames, faces, report, notes)
    report_path = stage_reports(out) / f"{STAGE}_videos.csv"
    report.write(report_path)  # stands also when no split can be made
    by_title = manifest[manifest["error"] == ""].set_index("title")
    total = {label: sum(len(found[t]) for t in found if by_title.at[t, "label"] == label) for label in ("REAL", "FAKE")}
    if not all(total.values()):
        raise _lacking(manifest, frames, total, report_path)

    used = _balanced(found, by_title, total, seed, notes) if balance == "delete" else found
    where = _places(by_title, {t: len(n) for t, n in used.items() if n}, split, ratio, seed, notes)

    lines = _make(used, where, by_title, frames, faces, out)
    for title, names in used.items():
        detail = where.get(title) or ("in no set of the official split" if names else "down-sampled to none")
        status = stage_report.OK if title in where else stage_report.SKIPPED
        count = len(names) if title in where else 0
        report.add(title, status, faces=len(found[title]), used=count, detail=detail)
    report.write(report_path)
    if split == "official":
        shared = split_check.find(out / "split_dataset", groups=by_title["group"].to_dict(), pictures=False).groups
        if shared:
            notes.append(
                f"the official split has {len(shared)} identity groups on two sides; results measure seen people, too"
            )
    classes = [(line[0], line[1].lower()) for line in lines]
    counts = {s: {c: classes.count((s, c)) for c in labels.CLASS_FOLDERS} for s in SETS}
    return Result(counts, {s: [*where.values()].count(s) for s in SETS}, notes, report.summary())


def _find(manifest, frames: Path, faces: str, report, notes: list[str]) -> dict[str, list[str]]:
    """Title -> names of the faces there, of the labelled videos; the others get their row in the report."""
    found: dict[str, list[str]] = {}
    left_out = report.leave_out(frames)
    usable = manifest[(manifest["error"] == "") & ~manifest["title"].isin(left_out)]
    for row in tqdm(list(usable.itertuples()), desc="faces", unit="video", disable=None):
        if not row.label:
            report.add(row.title, stage_report.SKIPPED, detail="no label: it can be predicted, not trained on")
            continue
        try:
            names, strange = faces_of(frames / row.title / faces, row.title)
        except (FileNotFoundError, NotADirectoryError):
            before = {"faces": "01a", "marked_faces": "01b"}.get(faces, "01a")
            detail = f"no folder {row.title}/{faces}: stage {before} has not made it"
            report.add(row.title, stage_report.ERROR, detail=detail)
            continue
        if strange:
            notes.append(f"{row.title}: {strange} pictures are not named {row.title}-NNN-FF.png and were left out")
        if not names:
            report.add(row.title, stage_report.NO_FACE)
            continue
        found[row.title] = names
    for title, names in found.items():
        report.add(title, stage_report.OK, faces=len(names))
    return found


def _lacking(manifest, frames: Path, total: dict[str, int], report_path: Path) -> UserError:
    """Why there is no split: a class is missing."""
    if not any(manifest["label"] != ""):
        return UserError(
            "none of these videos has a label",
            file=frames,
            hint="use a layout with labels (metadata.json, or real/ and fake/ folders), or predict.py, which "
            "needs none",
        )
    none = " and ".join(label.lower() for label, n in total.items() if not n)
    return UserError(
        f"no {none} faces to train on",
        file=frames,
        hint=f"see {report_path} for each video; run stages 00 and 01a before, with the same --data",
    )


def _make(used, where: dict[str, str], by_title, frames: Path, faces: str, out: Path) -> list[tuple]:
    """Makes both folders and split_manifest.csv, whose lines it returns."""
    import pandas as pd

    prepared, divided = out / "prepared_dataset", out / "split_dataset"
    _check_target(prepared, divided)
    with files.folder_lock(out, STAGE):
        for target in (prepared, divided):  # what a killed run left of just these two
            for rest in target.parent.glob(files.partial_name(target).name.rsplit("-", 1)[0] + "-*"):
                shutil.rmtree(rest, ignore_errors=True)
        with files.atomic_dir(prepared) as whole, files.atomic_dir(divided) as parts:
            lines = _link(used, where, by_title, frames, faces, whole, parts)
        table = pd.DataFrame(lines, columns=["set", *KEPT, "title", "file"])
        table["set"] = pd.Categorical(table["set"], SETS)
        files.write_csv(out / "split_manifest.csv", table.sort_values(["set", "label", "title", "file"], kind="stable"))
    return lines


def _link(used, where: dict[str, str], by_title, frames: Path, faces: str, whole: Path, parts: Path) -> list[tuple]:
    """Links the faces into both folders."""
    lines = []
    for word in labels.CLASS_FOLDERS:
        (whole / word).mkdir()
        for s in SETS:
            (parts / s / word).mkdir(parents=True)
    for title in tqdm(sorted(where), desc="linking", unit="video", disable=None):
        s, word = where[title], by_title.at[title, "label"].lower()
        for name in used[title]:
            source = (frames / title / faces / name).resolve()  # a link to a link would dangle when it moves
            files.link_or_copy(source, whole / word / name)
            files.link_or_copy(source, parts / s / word / name)
            lines.append((s, *(by_title.at[title, c] for c in KEPT), title, f"{s}/{word}/{name}"))
    return lines


def _balanced(found: dict[str, list[str]], by_title, total: dict[str, int], seed: int, notes) -> dict[str, list[str]]:
    """The faces that are used: of the fakes as many as there are real ones."""
    if total["FAKE"] < total["REAL"]:
        notes.append(f"fewer fake faces ({total['FAKE']}) than real ones ({total['REAL']}): nothing was down-sampled")
    used = dict(found)
    fakes = {t: len(names) for t, names in found.items() if by_title.at[t, "label"] == "FAKE"}
    for title, count in allocate(fakes, total["REAL"], seed).items():
        used[title] = thin(found[title], count)
    return used


def _check_target(*targets: Path) -> None:
    for target in targets:
        if target.exists() and not target.is_dir():
            raise UserError("a file is in the way", file=target, hint="move it, or choose another folder with --out")
        if target.is_symlink():
            raise UserError(
                "this is a link; it is replaced as a folder",
                file=target,
                hint="remove the link, or choose another --out",
            )


def _places(
    by_title, used: dict[str, int], split: str, ratio: Sequence[float], seed: int, notes: list[str]
) -> dict[str, str]:
    """Title -> set, for the videos that have a face to give."""

    def per_group(titles):
        counts: dict[str, list[int]] = {}
        for t in titles:
            counts.setdefault(by_title.at[t, "group"], [0, 0])[0 if by_title.at[t, "label"] == "REAL" else 1] += used[t]
        return {g: tuple(c) for g, c in counts.items()}

    official = {t: by_title.at[t, "split"] for t in used}
    has_official = set(official.values()) >= {"train", "test"}
    if split == "groups":
        hint = "add videos of other people"
        if has_official:
            hint += ", or take the data set's own split with --split official"
        groups = assign_groups(per_group(used), ratio, seed, hint)
        return {t: groups[by_title.at[t, "group"]] for t in used}
    if not has_official:
        raise UserError(
            "this data set comes without an official split into train and test (or none of its faces are here)",
            hint="leave out --split official",
        )
    place = {t: s for t, s in official.items() if s}
    if "val" not in place.values():
        place.update(_validation(place, by_title, per_group, ratio, seed, notes))
    for s in SETS:
        for label in ("REAL", "FAKE"):
            if not any(p == s and by_title.at[t, "label"] == label for t, p in place.items()):
                raise UserError(
                    f"the official split leaves no {label.lower()} face for {s}", hint="leave out --split official"
                )
    left = len(used) - len(place)
    if left:
        notes.append(f"{left} videos are in no set of the official split and were left out")
    return place


def _validation(place: dict[str, str], by_title, per_group, ratio, seed: int, notes: list[str]) -> dict[str, str]:
    """A validation set out of the official training set: whole groups where there are enough, else whole videos."""
    import numpy as np

    train = [t for t, s in place.items() if s == "train"]
    parts = (ratio[0], ratio[1])
    for group_of, what in (
        (lambda t: by_title.at[t, "group"], "identity groups"),
        (lambda t: t, "videos: its identities are all connected"),
    ):
        counts: dict[str, list[int]] = {}
        for t in train:
            counts.setdefault(group_of(t), [0, 0])[0 if by_title.at[t, "label"] == "REAL" else 1] += 1
        real = [g for g, c in counts.items() if c[0]]
        fake = [g for g, c in counts.items() if c[1]]
        if len(real) < 2 or len(fake) < 2 or len(set(real) | set(fake)) < 2:
            continue
        order = sorted(counts)
        np.random.default_rng(seed).shuffle(order)
        wish = [sum(c[i] for c in counts.values()) * parts[1] / sum(parts) for i in (0, 1)]
        taken, filled = set(), [0, 0]
        for g in order:
            c = counts[g]
            leaves = all(filled[i] + c[i] < sum(v[i] for v in counts.values()) for i in (0, 1))
            helps = any(c[i] and filled[i] < wish[i] for i in (0, 1))
            overshoots = any(filled[i] and filled[i] + c[i] > 1.5 * wish[i] + 1 for i in (0, 1))
            if leaves and helps and not overshoots:
                taken.add(g)
                filled = [filled[i] + c[i] for i in (0, 1)]
        if all(filled):
            notes.append(f"the official split has no validation set: one was taken from train, by {what}")
            return {t: "val" for t in train if group_of(t) in taken}
    raise UserError(
        "the official training set is too small to take a validation set from", hint="leave out --split official"
    )
