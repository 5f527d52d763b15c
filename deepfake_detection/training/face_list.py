"""The lists of face crops that lie in a folder: of real/ and fake/, of stage 01a's titles, or without labels."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .. import labels
from ..errors import UserError
from ..names import title_of
from ..stage_report import read_left_out

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")

#: Of stage 01a: `<frames>/<title>/faces/boxes.csv`.
FACES, BOXES = "faces", "boxes.csv"


@dataclasses.dataclass(frozen=True)
class Faces:
    """A list of face files.

    Attributes:
        root: the folder they were found in.
        names: path below `root`, posix: `real/<title>-NNN-FF.png`, or `<title>-NNN-FF.png` where the folder has no
            classes.
        y: int64 (N,) 1 real, 0 fake, -1 not known.
        titles: the video each face is from.
        groups: identity group of each face; its title where no group is known.
        files: path of each file below `root` where it is not its name; None where it is.
    """

    root: Path
    names: tuple[str, ...]
    y: np.ndarray
    titles: tuple[str, ...]
    groups: tuple[str, ...]
    files: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def paths(self) -> list[Path]:
        return [self.root / name for name in (self.names if self.files is None else self.files)]

    def take(self, keep: Sequence[int] | np.ndarray) -> Faces:
        """The faces at these positions."""
        pick = lambda values: tuple(values[i] for i in keep)
        return dataclasses.replace(
            self,
            names=pick(self.names),
            y=self.y[list(keep)],
            titles=pick(self.titles),
            groups=pick(self.groups),
            files=None if self.files is None else pick(self.files),
        )


def titles_below(folder: str | Path) -> dict[str, Path]:
    """Title -> its folder of faces as stage 01a writes them: of the frames folder `folder`, or of the one title that
    `folder` is (`<title>` or `<title>/faces`). Empty for any other folder.

    Those that stage 00 was told to leave out since are not among them: their faces are an earlier run's."""
    folder = Path(folder).resolve()
    if folder.name == FACES and (folder / BOXES).is_file():
        return {folder.parent.name: folder}
    if (folder / FACES / BOXES).is_file():
        return {folder.name: folder / FACES}
    below = sorted(p.name for p in folder.iterdir() if not p.name.startswith(".")) if folder.is_dir() else []
    left_out = read_left_out(folder)
    below = [name for name in below if name not in left_out]
    return {name: folder / name / FACES for name in below if (folder / name / FACES / BOXES).is_file()}


def find_faces(
    folder: str | Path,
    *,
    both_classes: bool = False,
    groups: dict[str, str] | None = None,
    truth: dict[str, int] | None = None,
) -> Faces:
    """The faces of `folder/real` and `folder/fake`; else of the titles in it as stage 01a writes them (`titles_below`);
    else of `folder` itself as unlabelled.

    Args:
        folder: where to look.
        both_classes: refuse a folder that has not both classes with at least one face each.
        groups: title -> identity group, where known.
        truth: title -> label, of stage 01a's folders, where known.

    Raises:
        UserError: no such folder, a class that is missing or empty, or no face at all.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(
            "there is no such folder of faces",
            file=folder,
            hint="stage 02 (02_prepare_dataset.py) makes split_dataset; name another with --dataset or --faces-dir",
        )
    classes = {name: label for name, label in labels.CLASS_FOLDERS.items() if (folder / name).is_dir()}
    names, y = [], []
    for name, label in classes.items():
        found = _images(folder / name)
        names += [f"{name}/{file}" for file in found]
        y += [label] * len(found)
        if both_classes and not found:
            raise UserError(
                f"the class {name!r} has no face",
                file=folder / name,
                hint="check stage 02's report; both classes need faces",
            )
    if both_classes and len(classes) < 2:
        lacking = ", ".join(sorted(set(labels.CLASS_FOLDERS) - set(classes)))
        raise UserError(
            f"the class folder {lacking} is missing",
            file=folder,
            hint="it should hold real/ and fake/, as stage 02 makes them",
        )
    if not classes and (below := titles_below(folder)):
        return _faces_of_titles(folder, below, groups or {}, truth or {})
    if not classes:
        names = _images(folder)
        y = [-1] * len(names)
    if not names:
        raise _no_face(folder)
    titles = tuple(title_of(name) for name in names)
    known = tuple((groups or {}).get(title, title) for title in titles)
    return Faces(folder, tuple(names), np.array(y, dtype=np.int64), titles, known)


def _faces_of_titles(folder: Path, below: dict[str, Path], groups: dict[str, str], truth: dict[str, int]) -> Faces:
    """Named as score files name them: `real/<title>-NNN-FF.png`, without a folder where no label is known."""
    root, words = folder.resolve(), {label: f"{name}/" for name, label in labels.CLASS_FOLDERS.items()}
    found = [(title, file, truth.get(title, -1)) for title, faces in below.items() for file in _images(faces)]
    if not found:
        raise _no_face(folder)
    titles = tuple(title for title, _, _ in found)
    return Faces(
        root,
        tuple(words.get(label, "") + file for _, file, label in found),
        np.array([label for _, _, label in found], dtype=np.int64),
        titles,
        tuple(groups.get(title, title) for title in titles),
        tuple((below[title] / file).relative_to(root).as_posix() for title, file, _ in found),
    )


def _no_face(folder: Path) -> UserError:
    return UserError(
        "no face picture in this folder",
        file=folder,
        hint="it should hold real/ and fake/ with .png or .jpg files, or <title>/faces/ as stage 01a writes them",
    )


def _images(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(
            e.name for e in entries if e.name.lower().endswith(SUFFIXES) and not e.name.startswith(".") and e.is_file()
        )
