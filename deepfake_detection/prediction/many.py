"""Many videos, a verdict each: what `predict.py` does once its options are read.

Videos go to worker processes (`crew`); a file that crashes its decoder costs that file's row an error and
nothing else. Lines are printed in the order of the input; rows of --csv are written (and synced to the disk) as they
are done, and put into the order of the input when the run ends, so an interrupted and resumed run leaves the same bytes
as an undisturbed one.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from .. import cpus, files
from ..files import csv_name
from ..labels import counted
from .crew import OUTPUTS, TIME_LIMIT_S, results_of
from .csv_table import CsvFile, csv_row
from .lines import line_of, shown
from .outputs import STDOUT, annotated_paths, json_path, refuse_overlaps, report_files, report_paths, write_index


def settings_text(settings: dict) -> str:
    """Everything that changes a score, short: `frames=32 sampling=even`; what is left to the model is not named."""
    from ..detector.predictor import Settings
    from ..places import MODEL_FOLDER

    changed = {k: v for k, v in settings.items() if k not in ("threads", "model") and v != getattr(Settings, k)}
    stated = Path(settings.get("model") or MODEL_FOLDER) / "detector.json"
    if stated.is_file():
        changed["model"] = files.sha256(stated)[:8]
    return " ".join(f"{k}={v}" for k, v in sorted(changed.items())) or "defaults"


def predict(
    videos: list[str],
    settings: dict,
    *,
    workers: int = 1,
    json_file: Path | None = None,
    csv_file: Path | None = None,
    report_folder: Path | None = None,
    annotate: Path | None = None,
    explain: str = "auto",
    force: bool = False,
    time_limit_s: float = TIME_LIMIT_S,
    names: list[str] | None = None,
    unread: dict[str, str] | None = None,
    searched: Iterable[str] = (),
    say: Callable[[str], None] = print,
) -> bool:
    """Judges videos, prints a line each and writes what was asked for: lines, rows and JSON first, then the
    explanations.

    Args:
        videos: paths, as `find_videos` gives them.
        settings: fields of `predictor.Settings`.
        json_file, csv_file, report_folder: outputs, or None. With `csv_file`, videos that have a row in it are not done
            again. `json_file` may be "-", standard output.
        annotate: file or folder of the annotated copies, see `outputs.annotated_paths`.
        explain: how the report explains: "auto", "occlusion", "gradcam", "lime" or "none".
        names: what to call the videos in the results (default: their paths).
        unread: why there is no verdict, for videos (by name) that could not even be fetched.
        searched: what the user named: files and folders.
        say: prints a line.

    Returns:
        whether every video got a verdict or NO FACE, and every report was made.
    """
    # A name of bytes that are no UTF-8 could be written into neither table: those bytes are shown as \xe9.
    names = [os.fsencode(n).decode("utf-8", "backslashreplace") for n in (names or videos)]
    reports, copies = report_paths(report_folder, names), annotated_paths(annotate, videos, names, list(searched))
    to_json, to_report = json_path(json_file), report_files(report_folder, reports)
    refuse_overlaps(videos, json=[to_json], csv=[csv_file], report=to_report, annotate=copies)
    table = CsvFile(csv_file, settings_text(settings), force=force) if csv_file else None
    try:
        jobs = [
            _job(*one, explain, table is not None)
            for one in zip(videos, names, reports, copies)
            # JSON needs the whole object, a report the file: with those a row in the table alone is not enough.
            if not (table and not json_file and _made(*one[2:]) and table.stands(one[1], one[0]))
        ]
        if len(jobs) < len(videos):
            say(f"{len(videos) - len(jobs)} of {counted(len(videos), 'video')} already in {csv_file}")
        whole, failures = _run(jobs, settings, workers, table, json_file, time_limit_s, unread or {}, say)
        if table:
            _finish(table, names, reports)
    finally:
        if table:
            table.close()
    if report_folder is not None:
        write_index(report_folder, failures)
    return whole


def _finish(table: CsvFile, names: list[str], reports: list[Path | None]) -> None:
    """The table in its order, and with the reports, of which it is known only now whether they are there."""
    for name, report in zip(names, reports):
        row = table.rows.get(csv_name(name))
        if row and report is not None:
            row["report"] = csv_name(str(report)) if report.is_file() and not row["error"] else ""
    table.finish(names)


def _made(report: Path | None, copy: Path | None) -> bool:
    return all(path is None or path.is_file() for path in (report, copy))


def _job(video: str, name: str, report: Path | None, copy: Path | None, explain: str, stamp: bool) -> dict:
    """What a worker is sent, and `shown_report`, as the table names it."""
    return {
        "video": os.path.abspath(video),
        "name": name,
        "explain": explain,
        "shown_report": report and str(report),
        "report": report and str(report.absolute()),
        "annotate": copy and str(copy.absolute()),
        "stamp": stamp,
    }


def _run(
    jobs: list[dict],
    settings: dict,
    workers: int,
    table: CsvFile | None,
    json_file: Path | None,
    time_limit_s: float,
    unread: dict[str, str],
    say: Callable[[str], None],
) -> tuple[bool, list[dict]]:
    """Judges `jobs`; says a line, appends a row each; writes the JSON as soon as the last verdict is there.

    Returns:
        whether all is well, and the result objects of the videos without a verdict.
    """
    from ..detector.predictor import failed

    done: dict[int, dict] = {
        at: failed(job["name"], unread[job["name"]]) for at, job in enumerate(jobs) if job["name"] in unread
    }
    whole, next_line = not done, 0

    def tell(at: int) -> None:
        nonlocal next_line
        if table:
            table.append(csv_row(done[at], table.settings, jobs[at]["shown_report"] if not done[at]["error"] else None))
        done[at].pop("source", None)  # of the row only
        while next_line in done:
            _write(say, line_of(done[next_line]), len(jobs))
            next_line += 1
        if json_file and len(done) == len(jobs):
            _write_json(json_file, [done[i] for i in range(len(jobs))])

    for at in sorted(done):
        tell(at)
    todo = [at for at in range(len(jobs)) if at not in done]
    workers = min(workers, max(len(todo), 1))
    if workers == 1 and len(todo) == 1:
        settings = {**settings, "threads": cpus.count()}
    results = results_of([jobs[at] for at in todo], settings, workers, time_limit_s=time_limit_s)
    steps = len(todo) * (2 if any(job.get(o) for job in jobs for o in OUTPUTS) else 1)
    for place, result in _progress(results, len(todo), steps):
        at = todo[place]
        problems = result.get("not_made") or (
            [f"the report could not be made: {result['error']}"] if at in done and result["error"] else []
        )
        whole = whole and not result["error"] and not problems
        for problem in problems:
            _write(say, f"{shown(jobs[at]['name'])}  {problem}", len(jobs))
        if at not in done:
            done[at] = result
            tell(at)
    if json_file and not jobs:
        _write_json(json_file, [])
    return whole, [done[at] for at in sorted(done) if done[at]["error"]]


def _write_json(path: Path, objects: list[dict]) -> None:
    if str(path) != STDOUT:
        files.write_json(path, objects)
        return
    plain = (sys.stdout.encoding or "").lower() not in ("utf-8", "utf8")
    sys.stdout.write(json.dumps(objects, indent=2, ensure_ascii=plain, allow_nan=False) + "\n")
    sys.stdout.flush()


def _progress(results: Iterator, videos: int, steps: int) -> Iterator:
    if videos < 2:
        return results
    from tqdm import tqdm

    return tqdm(
        results,
        total=steps,
        unit="video" if steps == videos else "step",
        desc="predict",
        dynamic_ncols=True,
        disable=None,
    )


def _write(say: Callable[[str], None], line: str, total: int) -> None:
    if total < 2 or say is not print:
        say(line)
        sys.stdout.flush()  # read by a program, a line must not wait for the explanation that follows
    else:
        from tqdm import tqdm

        tqdm.write(line)  # stdout, without tearing the bar on stderr
        sys.stdout.flush()
