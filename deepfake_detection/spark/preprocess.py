"""Videos to faces as a Spark job: the fused path of `faces.extract` in executors, which write Parquet by themselves.

A bundle of videos is a partition is a Parquet file. Its name holds a hash of the settings and of the source files, so a
run that is started again makes only what is missing, and the rows do not depend on how many executors there are. The
driver plans, counts files while they appear, and reads their footers at the end; no face ever passes through it.

The videos and the output folder must be visible under the same path on all machines (NFS or the like).
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from ..errors import UserError
from ..files import folder_lock, write_json
from ..stage_report import Account
from . import face_parts, session
from .face_parts import Bundle, Settings, plan

STAGE = "spark_preprocess"
FOLDER = "spark_faces"


def run(
    manifest,
    data: Path,
    out: Path,
    settings: Settings,
    *,
    master: str | None = None,
    videos_per_bundle: int = 8,
    environment: Path | None = None,
    force: bool = False,
) -> Account:
    """Runs the job; afterwards `<out>/spark_faces/part-*.parquet` stand for just this manifest and these settings.

    Args:
        manifest: of `datasets.manifest.read_manifest`.
        data, out: as the executors see them.
        master: see `session.session`.
        environment: an archive of a Python environment (venv-pack, conda-pack) for executors that have none.
        force: make all again.

    Returns:
        the account: one row a video.

    Raises:
        UserError: Spark cannot start, the folder cannot be written, executors keep dying.
    """
    data, folder = Path(data).resolve(), Path(out).resolve() / FOLDER
    with folder_lock(folder, STAGE):
        bundles = plan(manifest, data, settings, videos_per_bundle)
        planned = {b.file for b in bundles} | {f".{Path(b.file).stem}.started" for b in bundles}
        for entry in list(folder.iterdir()):
            stale = entry.name.startswith((".part-", "part-")) and entry.name not in planned
            if force and entry.name.startswith("part-") or stale and not entry.name.endswith(".parquet"):
                entry.unlink(missing_ok=True)
        left = [b for b in bundles if not (folder / b.file).exists()]
        if left:
            write_json(folder / "_plan.json", {"settings": asdict(settings), "files": [b.file for b in bundles]})
            if len(left) < len(bundles):
                print(f"{len(bundles) - len(left)} of {len(bundles)} bundles stand from an earlier run")
            _make(left, bundles, data, folder, settings, master, environment)
        for entry in folder.glob("part-*.parquet"):  # of other settings or of videos that are gone
            if entry.name not in planned:
                entry.unlink()
        return account(manifest, folder, bundles)


def _make(
    left: Sequence[Bundle],
    bundles: Sequence[Bundle],
    data: Path,
    folder: Path,
    settings: Settings,
    master: str | None,
    environment: Path | None,
) -> None:
    """Starts Spark and has those of the bundles made that are left."""
    conf = {"spark.task.maxFailures": "8", "spark.executorEnv.OMP_NUM_THREADS": "1"}
    if environment is not None:
        conf |= {"spark.archives": f"{Path(environment).resolve()}#environment"}
    python = None if environment is None else "./environment/bin/python"
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with (
        tempfile.TemporaryDirectory(prefix="deepfake_detection-") as scratch,
        session.session("deepfake_detection preprocess", master, conf, python=python) as spark,
        _Progress(folder, bundles),
    ):
        if environment is not None and (spark.sparkContext.master or "").startswith("local"):
            raise UserError(
                "an archive of an environment is for a cluster",
                file=environment,
                hint="leave out --environment, or name --master",
            )
        shipped = session.ship_package(spark, scratch)
        what = (asdict(settings), str(data), str(folder))
        _submit(spark, session.on_executor(shipped, face_parts.__name__, "make_bundle", *what), folder, left)


def _submit(spark, task, folder: Path, bundles: Sequence[Bundle]) -> None:
    """Runs the tasks; again where Spark gave up at the first dead worker of this machine, as long as that helps."""
    before = None
    while left := [b for b in bundles if not (folder / b.file).exists()]:
        state = ({b.file for b in left}, {p.name for p in folder.glob(".part-*.started")})
        if state == before:
            raise UserError(
                "the executors die on the same videos again and again",
                file=left[0].rows[0]["video"],
                hint="look into the executors' logs; have they enough memory?",
            )
        before = state
        try:
            bundles_rdd = spark.sparkContext.parallelize([(b.file, b.rows) for b in left], len(left))
            session.run_job(spark, lambda: bundles_rdd.foreach(task))  # noqa: B023 (runs before the loop goes on)
        except Exception as e:  # py4j's; what a task raised is in its text
            if not any(
                sign in str(e)
                for sign in ("exited unexpectedly (crashed)", "ExecutorLostFailure", "Python worker failed")
            ):
                raise
        else:
            missing = [b.file for b in bundles if not (folder / b.file).exists()]
            if missing:
                raise UserError(
                    f"the executors do not write to this folder ({len(missing)} files are missing)",
                    file=folder,
                    hint="it and the videos must have the same path on all machines",
                )


class _Progress:
    """A bar of the videos done, from the files that appear. A thread, because the job blocks."""

    def __init__(self, folder: Path, bundles: Iterable[Bundle]):
        self.folder, self.sizes = folder, {b.file: len(b.rows) for b in bundles}
        self.ended = threading.Event()

    def __enter__(self):
        from tqdm import tqdm

        self.bar = tqdm(total=sum(self.sizes.values()), initial=self._done(), unit="video", desc="faces", disable=None)
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _done(self) -> int:
        return sum(self.sizes.get(name, 0) for name in os.listdir(self.folder))

    def _watch(self) -> None:
        while not self.ended.wait(1.0):
            self._show()

    def _show(self) -> None:
        done = self._done()
        if done != self.bar.n or sys.stderr.isatty():  # a log file gets a line only when there is something to say
            self.bar.n = done
            self.bar.refresh()

    def __exit__(self, *_) -> None:
        self.ended.set()
        self.thread.join()
        self._show()
        self.bar.close()


def account(manifest, folder: Path, bundles: Iterable[Bundle]) -> Account:
    """The account of a finished job, from the files' footers."""
    import pyarrow.parquet as pq

    result = Account(manifest, ("frames", "frames_with_face", "faces"))
    for bundle in bundles:
        for line in json.loads(pq.read_metadata(folder / bundle.file).metadata[b"videos"]):
            result.add(line.pop("title"), line.pop("status"), **line)
    return result
