"""A model's results on a set of faces: scores, figures, metrics with intervals, the account of videos."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from .. import files, labels, names, scores, stage_report
from ..metrics import MetricError, auc, bootstrap_groups
from ..metrics import evaluate as evaluate_metrics
from ..metrics.bootstrap import MIN_GROUPS

#: With fewer identity groups than this a warning stands beside the numbers.
FEW = 20

#: The files that `write_results` makes of labelled faces.
RESULT_FILES = ("cnn_preds_values.json", "metrics.json", "Confusion.png", "ROC.png")


def published_name(name: str) -> str:
    """The face's name in the published score file; one not named `<title>-NNN-FF` is face 00 of frame 000."""
    try:
        names.parse_face_name(name)
        return name
    except ValueError:
        path = Path(name)
        suffix = path.suffix if path.suffix.lower() in (".png", ".jpg", ".jpeg") else ".png"
        return (path.parent / f"{path.stem}-000-00{suffix}").as_posix()


def metrics_of(faces, p_real, *, seed: int = 1, unit: str = "faces") -> dict:
    """Metrics of faces and of videos (mean over a video's faces), each with a 95 % interval from resampling identity
    groups.

    Args:
        faces: `face_list.Faces` or anything with `y`, `titles`, `groups`; rows with y = -1 are left out.
        p_real: (N,) P(real).
        unit: what a row is.

    Returns:
        {"rows": {...}, "videos": {...}}; a metric that the data does not support holds the reason instead of a value.
    """
    import pandas as pd

    columns = {"title": faces.titles, "group": faces.groups, "y": faces.y, "p": np.asarray(p_real, np.float64)}
    table = pd.DataFrame(columns)
    table = table[table["y"] >= 0]
    # A title may stand in both classes only by mistake; label and title together keep the two apart.
    videos = table.groupby(["title", "y"], as_index=False).agg(group=("group", "first"), p=("p", "mean"))
    result = {}
    for key, rows in ((unit, table), ("videos", videos)):
        y, p = rows["y"].to_numpy(), rows["p"].to_numpy()
        block: dict[str, object] = {
            "count": len(rows),
            "real": int((y == labels.REAL).sum()),
            "fake": int((y == labels.FAKE).sum()),
            "groups": int(rows["group"].nunique()),
        }
        if len(rows):
            block["accuracy"] = _accuracy(y, p, rows["group"].to_numpy(), seed)
            block.update(evaluate_metrics(y, p, rows["group"].to_numpy(), seed=seed))
        result[key] = block
    return result


def _accuracy(y, p, groups, seed: int) -> dict:
    def accuracy(y, p):
        return float(np.mean((p >= labels.TIE_THRESHOLD) == (y == labels.REAL)))

    try:
        return bootstrap_groups(accuracy, y, p, groups, seed=seed).to_dict()
    except MetricError as e:
        return {"value": accuracy(y, p), "no_interval": e.reason}


def write_results(
    out: Path, faces, p_real, *, seed: int, extra: dict, unit: str = "faces", what: str = "test set"
) -> dict:
    """Writes `cnn_preds_values.json`, and for labelled faces `metrics.json`, `Confusion.png` and `ROC.png` into `out`.

    Args:
        extra: more entries of metrics.json (model, training).

    Returns:
        What metrics.json holds; without metrics when no face has a label.
    """
    from ..reports import figures

    out.mkdir(parents=True, exist_ok=True)
    p_real = np.asarray(p_real, np.float64).reshape(-1)
    known = faces.y >= 0
    result = dict(extra)
    if known.any():
        result.update(metrics_of(faces, p_real, seed=seed, unit=unit))
        y, p = faces.y[known], p_real[known]
        figures.plot_confusion(
            y, p, out / "Confusion.png", title=f"Confusion matrix of {len(y):,} {unit}, {what}", unit=unit
        )
        people = len({g for g, k in zip(faces.groups, known) if k})
        try:
            interval = result[unit].get("auc", {})
            drawn = (interval["value"], interval["low"], interval["high"]) if "low" in interval else None
            auc(y, p)
            figures.plot_roc(
                y,
                p,
                out / "ROC.png",
                title=f"ROC curve of {len(y):,} {unit}, {what}",
                interval=drawn,
                unit=unit,
                people=people,
            )
        except MetricError as e:
            (out / "ROC.png").unlink(missing_ok=True)  # never leave an older run's curve beside these numbers
            result["ROC.png"] = f"not drawn: {e.reason}"
    else:
        for name in ("Confusion.png", "ROC.png"):
            (out / name).unlink(missing_ok=True)
    scores.write_cnn_preds(out / "cnn_preds_values.json", [published_name(n) for n in faces.names], p_real)
    files.write_json(out / "metrics.json", result)
    return result


def summary(result: dict, unit: str = "faces") -> list[str]:
    """A few lines for people: the metrics of faces and videos with their intervals, or why there is none."""
    from ..reports.text import metric

    lines = []
    for key in (unit, "videos"):
        if key not in result:
            continue
        block = result[key]
        counts = f"{block['real']} real, {block['fake']} fake, {labels.counted(block['groups'], 'group')}"
        lines.append(f"{labels.counted(block['count'], key.removesuffix('s'))} ({counts})")
        entries = [entry for entry in block.values() if isinstance(entry, dict)]
        reasons = {entry["no_interval"] for entry in entries if "no_interval" in entry}
        for name in ("accuracy", "balanced_accuracy", "auc", "log_loss", "eer"):
            entry = block.get(name)
            if entry is None:
                continue
            text = metric(entry) if "low" in entry or "refused" in entry else f"{entry['value']:.3f}"
            lines.append(f"  {name:<18} {text}")
        lines += [f"  no interval: {reason}" for reason in sorted(reasons)]
        if warning := block.get("auc", {}).get("warning"):
            lines.append(f"warning: {warning}")
    groups = result.get("videos", {}).get("groups", FEW)
    if groups < FEW:
        lines.append(
            f"warning: {labels.counted(groups, 'group')} of people: these numbers say little about people who are not "
            "among them" + ("" if groups >= MIN_GROUPS else ", and no interval can be given")
        )
    if result.get("video_rules"):
        from ..reports import video_rules

        lines += ["", video_rules.text(result["video_rules"])]
    return lines


def faces_digest(faces) -> str:
    """What tells whether a list of faces is the one results were made from: a hash of names and contents."""
    digest = hashlib.sha256()
    for name, path in zip(faces.names, faces.paths()):
        digest.update(f"{name}\0{files.sha256(path)}\0".encode())
    return digest.hexdigest()[:16]


def write_account(
    out: Path,
    stage: str,
    sets: dict[str, Any],
    unreadable: dict[str, list[str]] | None = None,
    without_face: Iterable[tuple[str, int]] = (),
    not_meant: Iterable[tuple[str, int]] = (),
) -> None:
    """`<out>/stage_reports/<stage>_videos.csv`: every video of every set with its number of faces that were used.

    A video of which no face could be used is an error.

    Args:
        sets: name of the set (train, val, test) -> `Faces`, with or without those left out.
        unreadable: name of the set -> names of the faces left out, because they cannot be read or have no points.
        without_face: (title, label) of videos in which stage 01a found no face.
        not_meant: of those that stage 00 was told to leave out.
    """
    import pandas as pd

    words = {1: labels.VERDICT_REAL, 0: labels.VERDICT_FAKE, -1: ""}
    rows = []
    for split, faces in sets.items():
        left_out = set((unreadable or {}).get(split, ()))
        used = Counter(
            (title, words[int(y)]) for name, title, y in zip(faces.names, faces.titles, faces.y) if name not in left_out
        )
        lost = Counter(map(video_of, left_out))
        for video in sorted({*used, *lost}):
            detail = f"{lost[video]} of {used[video] + lost[video]} faces cannot be read or used" if lost[video] else ""
            rows.append((*video, split, "ok" if used[video] else "error", used[video], detail))
    rows += [(title, words[label], "", stage_report.NO_FACE, 0, "") for title, label in without_face]
    said = "left out by stage 00 (--max-videos)"
    rows += [(title, words[label], "", stage_report.LEFT_OUT, 0, said) for title, label in not_meant]
    table = pd.DataFrame(rows, columns=["title", "label", "split", "status", "faces", "detail"])
    files.write_csv(out / "stage_reports" / f"{stage}_videos.csv", table)


def video_of(name: str) -> tuple[str, str]:
    """(title, label) of a face by its name, `real/<title>-NNN-FF.png`; the label is empty where it lies in no class."""
    folder = Path(name).parent.name
    return names.title_of(name), folder.upper() if folder in labels.CLASS_FOLDERS else ""


def in_folds(out: Path) -> bool:
    """Whether the results in `out` are those of a cross-validation, whose model has learnt from every group."""
    return "folds" in _metrics(out)


def standing(out: Path, mark: str) -> dict | None:
    """metrics.json when it and all other results are there and were made from this training and these faces."""
    result = _metrics(out)
    pictures_and_tables = ("history.csv", "Loss.png", "Accuracy.png", "scores.csv", "video_scores.csv")
    kept = ("tmp_checkpoint/best_model.keras", "tmp_checkpoint/scores.csv")
    names = [n for n in (*RESULT_FILES, *pictures_and_tables, *kept) if n not in result]
    return result if result.get("mark") == mark and all((out / n).is_file() for n in names) else None


def _metrics(out: Path) -> dict:
    """metrics.json; {} when there is none, or it is no object."""
    result = files.read_json(out / "metrics.json")
    return result if isinstance(result, dict) else {}


def model_entry(model, file: Path, name: str) -> dict:
    """What metrics.json says of the model in `file`, which it calls `name`."""
    return {"name": model.name, "parameters": int(model.count_params()), "file": name, "sha256": files.sha256(file)}
