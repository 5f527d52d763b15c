"""The videos of a score file: what is known of each, its score by every rule, and the parts looked at alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import scores as score_files
from ..aggregation import RULES, video_score
from ..errors import UserError
from ..labels import VERDICT_FAKE, VERDICT_REAL
from ..stage_report import NO_FACE, OK

ALL = "all"
#: A compression in a manipulation's name, e.g. `Deepfakes/c40`: such fakes are held against the originals of that
#: compression.
_COMPRESSION = re.compile(r"(?:^|/)(c\d+|raw)$")


def video_table(scores, manifest=None):
    """A row a video, with its score by every rule.

    Args:
        scores: table of `scores.read_scores`.
        manifest: optional table with `video` (or `title`) and any of label, group, dataset, manipulation, compression,
            status: what it says of a video goes before what the score file says, and its videos without a score are
            counted; with a column `set` (split_manifest.csv) only those of the sets that were scored at all: nobody
            scores the videos that were trained on.

    Returns:
        pandas DataFrame sorted by video: video, label, group, dataset, manipulation, compression, status (`ok`, `no
        face`, `error`, `no score`), faces, people, and one column of P(real) for each rule of `RULES` (NaN without a
        face).
    """
    import pandas as pd
    from tqdm import tqdm

    facts = ["label", "group", "dataset", "manipulation", "compression"]
    # "" sorts first, so the maximum is the known value where only some rows have one.
    table = scores.groupby("video")[facts].max()
    persons = score_files.by_person(scores)
    failed = scores[~scores["status"].isin([OK, NO_FACE])].groupby("video")["status"].first()
    table["status"] = [OK if v in persons else failed.get(v, NO_FACE) for v in table.index]
    if manifest is not None:
        key = (
            "video"
            if manifest.get("video", pd.Series(dtype=str)).isin(table.index).any() or "title" not in manifest
            else "title"
        )
        known = manifest.drop_duplicates(key).set_index(key)
        if "set" in known:
            scored_sets = set(known["set"].reindex(table.index).dropna())
            known = known[known["set"].isin(scored_sets) | known.index.isin(table.index)]
        table = table.reindex(table.index.union(known.index))
        for fact in facts:
            if fact in known:
                given = known[fact].reindex(table.index).replace("", None)
                table[fact] = given.where(given.notna(), table[fact])
        if "status" in known:
            table["status"] = table["status"].where(table["status"].notna(), known["status"].reindex(table.index))
        table["status"] = (
            table["status"]
            .where(~table["status"].isin(["", "ok"]) | table.index.isin(list(persons)), "no score")
            .fillna("no score")
        )
        table[facts] = table[facts].fillna("")
        table["group"] = table["group"].where(table["group"] != "", table.index.to_series())
    table["faces"] = [sum(len(p) for p in persons.get(v, {}).values()) for v in table.index]
    table["people"] = [len(persons.get(v, {})) for v in table.index]
    p = {rule: np.full(len(table), np.nan) for rule in RULES}
    for i, video in enumerate(tqdm(table.index, desc="videos", unit="video", disable=None)):
        if video in persons:
            for rule in RULES:
                p[rule][i] = video_score(persons[video], rule)
    return table.assign(**p).rename_axis("video").sort_index().reset_index()


def read_manifest(path: Path):
    """A CSV with `video` or `title` and what is known of each video.

    Raises:
        UserError: it cannot be read, has neither column, or a label other than REAL, FAKE and empty.
    """
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as e:
        raise UserError(
            f"this list of videos cannot be read ({str(e).splitlines()[0]})",
            file=path,
            hint="it should be a CSV with a column video or title",
        ) from None
    if not {"video", "title"} & set(table.columns):
        raise UserError(
            "this list has neither a column video nor title", file=path, hint="see the manifest in docs/design.md"
        )
    if "label" in table:
        table["label"] = table["label"].str.strip().str.upper()
        odd = ~table["label"].isin([VERDICT_REAL, VERDICT_FAKE, ""])
        if odd.any():
            raise UserError(
                f"row {int(odd.to_numpy().argmax()) + 1} has the label {table['label'][odd].iloc[0]!r}",
                file=path,
                hint="labels are REAL, FAKE or empty",
            )
    return table


@dataclass(frozen=True)
class Slice:
    """Some of the videos: `dataset` and `manipulation` name it ("all": no choice), `rows` is a mask over the table."""

    dataset: str
    manipulation: str
    rows: np.ndarray


def slices(videos) -> list[Slice]:
    """All videos, each dataset, each compression in it, and each manipulation.

    A manipulation alone has fakes only, so it is held against the originals of its dataset, those of the same
    compression where the names tell it: the usual protocol of FaceForensics++.
    """
    real = (videos["label"] == VERDICT_REAL).to_numpy()
    fake = (videos["label"] == VERDICT_FAKE).to_numpy()
    named = videos["manipulation"].map(lambda m: found.group(1) if (found := _COMPRESSION.search(m)) else "")
    compression = videos["compression"].where(videos["compression"] != "", named).to_numpy()
    result = [Slice(ALL, ALL, np.ones(len(videos), bool))]
    names = sorted(set(videos["dataset"]))
    for dataset in names:
        inside = (videos["dataset"] == dataset).to_numpy()
        if len(names) > 1 or dataset:
            result.append(Slice(dataset or "(no dataset)", ALL, inside))
        levels = sorted(set(compression[inside]) - {""})
        if len(levels) > 1:
            result += [Slice(dataset, level, inside & (compression == level)) for level in levels]
        for manipulation in sorted(set(videos["manipulation"][inside & fake]) - {""}):
            of_it = inside & fake & (videos["manipulation"] == manipulation).to_numpy()
            parts = sorted(set(compression[of_it]))
            for name, chosen in (
                (manipulation, parts),
                *(((f"{manipulation}/{part}", [part]) for part in parts) if len(parts) > 1 else ()),
            ):
                fakes, level = of_it & np.isin(compression, chosen), np.isin(compression, chosen)
                originals = inside & real & level if (inside & real & level).any() else inside & real
                result.append(Slice(dataset or "(no dataset)", name, fakes | originals))
    unique, seen = [], set()
    for s in result:  # one manipulation in a dataset says the same as the dataset
        if s.rows.tobytes() not in seen or s.manipulation == ALL:
            unique.append(s)
        seen.add(s.rows.tobytes())
    return unique


def coverage(videos) -> dict:
    """How many of the videos have a score, and what became of the others, over all and for each label."""

    def count(rows):
        return {
            "videos": len(rows),
            "scored": int((rows["faces"] > 0).sum()),
            **{s: int(n) for s, n in rows.loc[rows["faces"] == 0, "status"].value_counts().sort_index().items()},
        }

    return {
        "all": count(videos),
        **{word: count(rows) for word, rows in sorted(videos.groupby(videos["label"].replace("", "unlabelled")))},
    }
