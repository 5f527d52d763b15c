"""The account of a stage: one row for every video of the manifest, whatever became of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from .errors import UserError
from .files import csv_name, write_csv, write_json
from .labels import counted

OK, NO_FACE, NO_FRAMES, SKIPPED, LEFT_OUT, ERROR = "ok", "no face", "no frames", "skipped", "left out", "error"

#: In the folder of the frames, where stage 00 was told to take some of the videos only: the titles of the others.
LEFT_OUT_FILE = ".left_out.json"


def write_left_out(frames: Path, titles: Iterable[str]) -> None:
    """Says to the stages that follow which videos are not meant; without a title the file goes away."""
    path, titles = Path(frames) / LEFT_OUT_FILE, sorted(titles)
    if titles:
        write_json(path, {"left_out": titles})
    else:
        path.unlink(missing_ok=True)


def read_left_out(frames: Path) -> frozenset[str]:
    """Titles of the videos that stage 00 was told to leave out.

    Raises:
        UserError: the file is there and says nothing that can be read.
    """
    path = Path(frames) / LEFT_OUT_FILE
    try:
        return frozenset(map(str, json.loads(path.read_text(encoding="utf-8"))["left_out"]))
    except FileNotFoundError:
        return frozenset()
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            "cannot read which videos were left out", file=path, hint="run 00_convert_video_to_image.py again"
        ) from None


class Account:
    """Collects what became of each video; `write` puts it in the manifest's order.

    Args:
        manifest: DataFrame with title, video, label (and `error`: such rows are errors from the start).
        counts: names of the stage's count columns, e.g. ("frames",).
    """

    def __init__(self, manifest, counts: tuple[str, ...]):
        self._manifest, self._counts, self._rows = manifest, counts, {}
        self._failure: Exception | None = None
        for line in manifest.itertuples():
            if line.error:
                self.add(line.title, ERROR, detail=line.error)

    def add(self, title: str, status: str, *, detail: str = "", **counts: int) -> None:
        """Says what became of a video."""
        self._rows[title] = {"status": status, **{c: counts.get(c, 0) for c in self._counts}, "detail": detail}

    def leave_out(self, frames: Path) -> frozenset[str]:
        """Gives the videos that stage 00 was told to leave out (`read_left_out`) their rows; returns their titles."""
        titles = read_left_out(frames) & set(self._manifest.loc[self._manifest["error"] == "", "title"])
        for title in titles:
            self.add(title, LEFT_OUT, detail="left out by stage 00 (--max-videos)")
        return titles

    def fail(self, failure: Exception) -> None:
        """Keeps what ended the work, or a bug, until the account is written; `require_success` raises it."""
        self._failure = failure

    def table(self):
        """DataFrame: title, video, label, status, the counts, detail."""
        import pandas as pd

        missing = {"status": SKIPPED, **dict.fromkeys(self._counts, 0), "detail": "not reached"}
        rows = [
            {"title": m.title, "video": m.video, "label": m.label, **self._rows.get(m.title, missing)}
            for m in self._manifest.itertuples()
        ]
        return pd.DataFrame(rows, columns=["title", "video", "label", "status", *self._counts, "detail"])

    def write(self, path: str | Path) -> None:
        """Writes it as CSV, atomically."""
        write_csv(path, self.table().assign(video=lambda t: t["video"].map(csv_name)))

    def summary(self) -> str:
        """Counts by status and label, and the first errors, for a person."""
        table = self.table()
        lines = []
        for label in sorted(table["label"].unique(), reverse=True):
            part = table[table["label"] == label]
            states = Counter(part["status"])
            shown = [f"{states[s]} {s}" for s in (OK, NO_FACE, NO_FRAMES, SKIPPED, LEFT_OUT, ERROR) if states[s]]
            text = ", ".join(shown)
            sums = ", ".join(f"{int(part[c].sum())} {c.replace('_', ' ')}" for c in self._counts)
            lines.append(f"  {label or 'unlabelled':<11} {counted(len(part), 'video')}: {text}; {sums}")
        failed = table[table["status"] == ERROR]
        lines += [f"  error: {r.video or r.title}: {r.detail}" for r in failed.head(10).itertuples()]
        if len(failed) > 10:
            lines.append(f"  ... and {counted(len(failed) - 10, 'more error')}")
        return "\n".join(lines)

    def require_success(self, report: Path) -> None:
        """Raises what `fail` was told, and UserError when not one video ended well (nothing can be used: the user's to
        put right)."""
        if self._failure is not None:
            raise self._failure
        states = self.table()["status"]
        states = states[states != LEFT_OUT]
        if len(states) and not states.isin([OK, NO_FACE]).any():
            tried = (r["detail"] for r in self._rows.values() if r["status"] != LEFT_OUT)
            first = next(filter(None, tried), "")
            raise UserError(
                f"none of {counted(len(states), 'video')} could be used" + (f"; the first: {first}" if first else ""),
                file=report,
                hint="the named table says why for each",
            )

    @property
    def errors(self) -> int:
        """How many videos ended in an error."""
        return sum(r["status"] == ERROR for r in self._rows.values())
