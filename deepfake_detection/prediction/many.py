"""Many videos, a verdict each: what `predict.py` does once its options are read.

Videos go to worker processes (`prediction.pool`); a file that crashes its decoder costs that file's row an error and
nothing else. Lines are printed in the order of the input; rows of --csv are written (and synced to the disk) as they
are done, and put into the order of the input when the run ends, so an interrupted and resumed run leaves the same bytes
as an undisturbed one.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from .. import cpus, files
from ..errors import UserError
from .outputs import INDEX, annotated_paths, report_names, report_paths, write_index  # noqa: F401  (for callers)
from .pool import Died, Worker, limits_of

#: Seconds that a video may take where nothing else is asked for: hours of video pass, a decoder that never ends does
#: not.
TIME_LIMIT_S = 3600.0

#: What a job may ask for beside the verdict.
OUTPUTS = ("report", "annotate")
#: Videos of which a worker holds the faces until it explains them: bounds its memory (some 3 MB a video).
KEPT = 16
#: Largest file that a worker may write where it writes videos.
VIDEO_BYTES = 16 << 30

#: Columns of --csv. No times of ours in it: a second run gives the same bytes. The last three are the video's
#: (`files.source_stamp`).
CSV_COLUMNS = (
    "video",
    "verdict",
    "p_real",
    "p_fake",
    "interval_low",
    "interval_high",
    "frames_decoded",
    "frames_with_face",
    "people",
    "people_p_real",
    "model",
    "settings",
    "error",
    "note",
    "report",
    "bytes",
    "mtime",
    "sha256",
)


def find_videos(paths: Iterable[str | Path], *, pictures: bool = False) -> list[str]:
    """The videos to judge, each once: a file is taken as it is given (also if its name says nothing), a folder is
    searched with its subfolders for files that are videos by name or content (`video.listing`), in alphabetical order.
    Hidden ones are left out (`files.walk` on links and folders that cannot be read), and a word on stderr counts those
    that are no videos.

    Args:
        pictures: take the still pictures of a folder too: not unasked, since folders of faces are full of them.

    Raises:
        UserError: when a path does not exist, a folder holds no video or cannot be read.
    """
    from ..detector.stills import is_picture_name
    from ..video import listing

    found: list[str] = []
    for given in paths:
        path = Path(given)
        if os.path.isdir(path):  # Path.is_dir() raises where a folder above may not be entered
            inside, others = [], []
            for folder, names in files.walk(path):
                for name in (os.path.join(folder, n) for n in names):
                    wanted = listing.is_video(name) or pictures and is_picture_name(name)
                    (inside if wanted else others).append(name)
            left = sum(map(is_picture_name, others))
            if not inside and left:
                raise UserError(
                    "no videos in this folder",
                    file=path,
                    hint=f"--pictures judges {count(left, 'still picture')} in it",
                )
            if not inside:
                raise UserError(
                    "no videos in this folder", file=path, hint=listing.note(others) or "it is empty; name another"
                )
            if skipped := listing.note(others):
                print(f"note: {skipped}, left out: {shown(str(path))}", file=sys.stderr)
            found += sorted(inside)
        else:
            try:
                os.lstat(path)
            except (FileNotFoundError, NotADirectoryError):
                raise UserError("no such file or folder", file=path, hint="check the path") from None
            except OSError:
                pass  # its folder is not to be entered, or the name is too long: its row says so
            found.append(str(given))
    return list(dict.fromkeys(found))


def line_of(result: dict) -> str:
    """The line that a person reads: name, verdict, average fake probability and that of single frames, the reason,
    faces, frames used, warnings."""
    name = shown(result["video"])
    if result["error"]:
        return f"{name}  ERROR  {result['error']}"
    frames = f"{result['frames_with_face']} of {count(result['frames_decoded'], 'frame')} with a face"
    warned = "".join(f"  ({w})" for w in result.get("warnings") or ())
    if result["p_fake"] is None:
        return f"{name}  {result['verdict']}  {frames}{warned}"
    text = f"{name}  {result['verdict']}  fake probability {result['p_fake']:.3f}"
    single = result.get("frame_range")
    if single:
        text += f" (average; single frames {single[0]:.3f} to {single[1]:.3f})"
    if result.get("reason"):
        text += f"  {result['reason']}"
    people = result["people"]
    text += f"  {count(len(people), 'face')}  {frames}"
    if len(people) > 1:
        text += "  [" + ", ".join(f"{p['id']} {p['verdict']} {1 - p['p_real']:.3f}" for p in people) + "]"
    if result.get("note"):
        text += f"  ({result['note']})"
    return text + warned


def shown(name: str) -> str:
    """A file name on one line, whatever is in it."""
    return name if name.isprintable() else repr(name)


def count(n: int, noun: str) -> str:
    """1 face, 2 faces."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def csv_row(result: dict, settings: str, report: str | None = None) -> dict:
    """The row of --csv for a result object. `report`: path of its page; the result's `source` tells later whether the
    file is the same."""
    interval = result["interval"] or (None, None)
    number = lambda v: "" if v is None else f"{v:.6f}"
    return {
        "video": cell(result["video"]),
        "verdict": result["verdict"] or "",
        "p_real": number(result["p_real"]),
        "p_fake": number(result["p_fake"]),
        "interval_low": number(interval[0]),
        "interval_high": number(interval[1]),
        "frames_decoded": result["frames_decoded"],
        "frames_with_face": result["frames_with_face"],
        "people": len(result["people"]),
        "people_p_real": " ".join(f"{p['id']}:{p['p_real']:.6f}" for p in result["people"]),
        "model": cell(result["model"] or ""),
        "settings": settings,
        "error": cell(result["error"] or ""),
        "note": cell("; ".join(filter(None, [result.get("note"), *(result.get("warnings") or ())]))),
        "report": cell(report or ""),
        **_stamp_cells(result.get("source")),
    }


def _stamp_cells(stamp: dict | None) -> dict:
    if not stamp:
        return {"bytes": "", "mtime": "", "sha256": ""}
    return {"bytes": stamp["bytes"], "mtime": f"{stamp['mtime_ns'] / 1e9:.6f}", "sha256": stamp["sha256"]}


def cell(text: str) -> str:
    """Text that no spreadsheet takes for a formula: a name that begins with = + - @ gets a `./`, which is the same
    file."""
    return f"./{text}" if text[:1] in tuple("=+-@\t\r") else text


class CsvFile:
    """The growing table: reads what an earlier run left, appends synced rows, puts them into order at the end.

    Args:
        path: the file; a half last row, left by a kill, is cut off.
        settings: short text of everything that changes a score; rows made with another are not mixed in.
        force: start afresh.

    Raises:
        UserError: when the file is no such table, was made with other settings, or is in use by another run.
    """

    def __init__(self, path: Path, settings: str, *, force: bool = False):
        self.path, self.settings = Path(path), settings
        lock = _lock_of(self.path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # The lock is a file of its own: the table is replaced by a rename at the end.
            self._lock = files.open_lock(lock)
        except BlockingIOError:
            raise UserError(
                "another run is writing to this table", file=path, hint="wait until it ends, or name another --csv"
            ) from None
        except OSError as e:
            if odd := files.odd_lock(e, lock):
                raise odd from None
            raise UserError(f"cannot write here ({e.strerror})", file=path, hint="name another --csv") from None
        try:
            self._begin(force)
        except BaseException:
            self._let_go()
            raise

    def _begin(self, force: bool) -> None:
        files.remove_dead_partials(self.path.parent)
        self.rows: dict[str, dict] = {} if force else self._read()
        # Videos that failed are tried again; the others stand, as long as their file is the same (`stands`).
        self.done = {name: row for name, row in self.rows.items() if not row["error"]}
        self._write(self.done.values())
        self._handle = open(
            os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC),
            "w",
            encoding="utf-8",
            newline="",
        )

    def _read(self) -> dict[str, dict]:
        if not self.path.exists():
            return {}
        data = self.path.read_bytes()
        text = data[: data.rfind(b"\n") + 1].decode("utf-8", errors="replace")
        # A row may hold a quoted newline; a cut inside the quotes leaves an unbalanced last row, which has too few
        # fields.
        reader = csv.reader(io.StringIO(text, newline=""))
        try:
            table = list(reader)
        except csv.Error as e:
            raise UserError(
                f"not a table of verdicts ({e})", file=self.path, hint="name another --csv, or --force"
            ) from None
        if not table:
            return {}
        if tuple(table[0]) != CSV_COLUMNS:
            raise UserError(
                "not a table that predict.py wrote", file=self.path, hint="name another --csv, or --force to replace it"
            )
        rows = [dict(zip(CSV_COLUMNS, row)) for row in table[1:] if len(row) == len(CSV_COLUMNS)]
        other = next((r for r in rows if r["settings"] != self.settings), None)
        if other:
            raise UserError(
                f"made with other settings ({other['settings']}, now {self.settings})",
                file=self.path,
                hint="name another --csv, or --force to make it again",
            )
        return {row["video"]: row for row in rows}

    def _write(self, rows: Iterable[dict]) -> None:
        with files.atomic_path(self.path) as partial, open(partial, "w", encoding="utf-8", newline="") as f:
            writer = csv.DictWriter(f, CSV_COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            f.flush()
            os.fsync(f.fileno())

    def stands(self, name: str, video: str | Path) -> bool:
        """Whether the row of `name` is there, without an error, and of the content that the file has now."""
        row = self.done.get(cell(name))
        if row is None or not row["sha256"].strip():
            return False
        try:
            return files.same_source(video, {"bytes": int(row["bytes"]), "sha256": row["sha256"]})
        except (OSError, ValueError):
            return False

    def append(self, row: dict) -> None:
        """Adds a row and waits until the disk has it."""
        text = io.StringIO(newline="")
        csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n").writerow(row)
        self._handle.write(text.getvalue())
        self._handle.flush()
        os.fsync(self._handle.fileno())
        self.rows[row["video"]] = row

    def finish(self, order: list[str]) -> None:
        """Puts the rows into the order of the input (rows of other videos after them, as they stood) and lets go of the
        file."""
        self._handle.close()
        first = {cell(name): i for i, name in enumerate(order)}
        self._write(sorted(self.rows.values(), key=lambda r: first.get(r["video"], len(first))))
        self.close()

    def close(self) -> None:
        """Lets go of the file; a second time nothing happens: the lock may be the next run's by then."""
        if not self._handle.closed:
            self._handle.close()
        self._let_go()

    def _let_go(self) -> None:
        if not self._lock.closed:
            _lock_of(self.path).unlink(missing_ok=True)
            self._lock.close()


def _lock_of(table: Path) -> Path:
    """The lock is a file of its own, because the table is replaced by a rename at the end. Any name of 255 bytes can
    have one."""
    name = f".{table.name}.lock"
    if len(os.fsencode(name)) > 255:
        name = f".{hashlib.sha1(os.fsencode(table.name)).hexdigest()}.lock"
    return table.with_name(name)


def _judged(worker: Worker, job: dict) -> dict:
    """The job's result object; with `stamp` asked for and a verdict, its `source` is the stamp of the file that was
    judged.

    Read afterwards, so that a file which is refused at once costs no reading of its gigabytes; none if it changed
    meanwhile.
    """
    from ..detector.predictor import failed

    before = _stamp(job["video"], content=False) if job.get("stamp") else None
    try:
        result = worker.run({k: v for k, v in job.items() if k != "stamp"})
    except Died as e:
        return failed(job["name"], str(e))
    if before and not result["error"]:
        after = _stamp(job["video"])
        if after and all(after[k] == before[k] for k in ("bytes", "mtime_ns")):
            result["source"] = after
    return result


def _stamp(video: str, *, content: bool = True) -> dict | None:
    try:
        return files.source_stamp(video, content=content)
    except OSError:
        return None


def results_of(
    jobs: list[dict], settings: dict, workers: int, *, time_limit_s: float = TIME_LIMIT_S, limits: dict | None = None
) -> Iterator[tuple[int, dict]]:
    """Yields (position in `jobs`, result object) as jobs are done, in any order.

    A job that asks for a report or an annotated copy comes a second time when these are made; its "not_made" then says
    what could not be. Verdicts come first: what is asked for beside them is made for up to KEPT videos of a worker at a
    time.

    Args:
        limits: of a worker; those of the web page (`pool.limits_of`) if None.

    Raises:
        UserError: when the model or the settings are wrong, before the first result.
    """
    waiting: queue.SimpleQueue = queue.SimpleQueue()
    for item in enumerate(jobs):
        waiting.put(item)
    done: queue.SimpleQueue = queue.SimpleQueue()
    limits = limits_of(time_limit_s, threads=int(settings.get("threads", 1))) if limits is None else limits
    crew = [Worker(settings, time_limit_s=time_limit_s, limits=limits) for _ in range(min(workers, len(jobs)))]

    def serve(worker: Worker) -> None:
        explained: list[tuple[int, dict]] = []  # judged by this worker, which still holds their faces
        try:
            while True:
                try:
                    at, job = waiting.get_nowait()
                except queue.Empty:
                    job = None
                if job is not None:
                    asked = any(job.get(o) for o in OUTPUTS)
                    result = _judged(worker, {**job, **dict.fromkeys(OUTPUTS), "keep": asked})
                    done.put((at, result))
                    if asked and not result["error"]:
                        explained.append((at, job))
                if job is None or len(explained) == KEPT:
                    for at, held in explained:
                        done.put((at, _judged(worker, {**held, "stamp": False})))
                    explained = []
                if job is None:
                    return
        except BaseException as e:  # a bug as well: who waits for the results must hear of it
            done.put((-1, e))
        finally:
            worker.stop()

    threads: list[threading.Thread] = []
    try:
        for worker in crew:  # all at once: each loads its model while the others do
            with contextlib.suppress(Died):  # `run` tries again, and the video's row says so
                worker.start()
        for worker in crew:
            thread = threading.Thread(target=serve, args=(worker,), daemon=True)
            try:
                thread.start()
            except RuntimeError:  # "can't start new thread": as many as there are do the work
                if not threads:
                    raise UserError(
                        "the system starts no more threads", hint="end other programs, or raise the limit (ulimit -u)"
                    ) from None
                worker.stop()
                continue
            threads.append(thread)
        judged_once: set[int] = set()
        left = len(jobs)
        while left:
            at, result = done.get()
            if isinstance(result, BaseException):
                raise result
            left -= 1
            if at not in judged_once and not result["error"] and any(jobs[at].get(o) for o in OUTPUTS):
                left += 1
            judged_once.add(at)
            yield at, result
    finally:
        with contextlib.suppress(queue.Empty):  # an early end: what waits is not begun
            while True:
                waiting.get_nowait()
        for worker in crew:
            worker.stop_from_outside()
        for thread in threads:
            thread.join()
        for worker in crew:
            worker.stop()  # those that no thread served


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
    table = CsvFile(csv_file, settings_text(settings), force=force) if csv_file else None
    try:
        reports = report_paths(report_folder, names)
        copies = annotated_paths(annotate, videos, names, list(searched))
        if json_file and str(json_file) != STDOUT:
            files.remove_dead_partials(Path(json_file).parent)
        jobs = []
        for video, name, report, copy in zip(videos, names, reports, copies):
            # JSON needs the whole object, a report the file: with those a row in the table alone is not enough.
            if (
                table
                and not json_file
                and all(p is None or p.is_file() for p in (report, copy))
                and table.stands(name, video)
            ):
                continue
            jobs.append(
                {
                    "video": os.path.abspath(video),
                    "name": name,
                    "explain": explain,
                    "shown_report": report and str(report),
                    "report": report and str(report.absolute()),
                    "annotate": copy and str(copy.absolute()),
                    "stamp": table is not None,
                }
            )
        if len(jobs) < len(videos):
            say(f"{len(videos) - len(jobs)} of {count(len(videos), 'video')} already in {csv_file}")
        whole, failures = _run(jobs, settings, workers, table, json_file, time_limit_s, unread or {}, say)
        if table:
            for name, report in zip(names, reports):
                row = table.rows.get(cell(name))
                if row and report is not None:
                    row["report"] = cell(str(report)) if report.is_file() and not row["error"] else ""
            table.finish(names)
    finally:
        if table:
            table.close()
    if report_folder is not None:
        write_index(report_folder, failures)
    return whole


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
    limits = limits_of(time_limit_s, threads=int(settings.get("threads", 1)))
    if any(job["annotate"] for job in jobs):
        limits["file_bytes"] = VIDEO_BYTES
    results = results_of([jobs[at] for at in todo], settings, workers, time_limit_s=time_limit_s, limits=limits)
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


#: In place of a file's name: standard output.
STDOUT = "-"


def _write_json(path: Path, objects: list[dict]) -> None:
    if str(path) != STDOUT:
        files.write_json(path, objects)
        return
    sys.stdout.write(json.dumps(objects, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
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
