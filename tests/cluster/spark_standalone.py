"""A real standalone Spark cluster on this machine: one master and two workers on 127.0.0.1, started, used, stopped.

    python tests/cluster/spark_standalone.py [--data DIR]

Runs spark_preprocess.py locally, on the cluster, and on the cluster while one worker (with its executor) is killed in
the middle, and compares all rows; runs stage 04 locally and on the cluster, and compares its files. Exit code 0: all
equal. Without --data it makes twelve clips of its own. Needs Java 17; takes a minute or two.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT))

#: Starting a JVM on a busy machine takes long; nothing here is a statement about speed.
PATIENCE_S = 300


class Cluster:
    """The running cluster: `url` for --master, `workers` as processes, each the leader of its own process group."""

    def __init__(self, folder: Path):
        import pyspark

        from deepfake_detection.spark.surroundings import find_java

        self.folder, self.workers, self.master = folder, [], None
        self.spark_class = Path(pyspark.__file__).parent / "bin" / "spark-class"
        self.environment = os.environ | {
            "JAVA_HOME": str(find_java()),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_DAEMON_MEMORY": "256m",
            "SPARK_LOCAL_DIRS": str(folder / "local"),
            "PYSPARK_PYTHON": sys.executable,
        }
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.url = f"spark://127.0.0.1:{self.port}"

    def start(self, workers: int) -> None:
        self.master = self._launch(
            "master", "master.Master", "--host", "127.0.0.1", "--port", str(self.port), "--webui-port", "0"
        )
        self._wait_for("master", "I have been elected leader", self.master)
        for number in range(workers):
            self.workers.append(
                self._launch(
                    f"worker{number}",
                    "worker.Worker",
                    "--host",
                    "127.0.0.1",
                    "--webui-port",
                    "0",
                    "--cores",
                    "1",
                    "--memory",
                    "1g",
                    "--work-dir",
                    str(self.work(number)),
                    self.url,
                )
            )
        for number, process in enumerate(self.workers):
            self._wait_for(f"worker{number}", "Successfully registered with master", process)

    def work(self, number: int) -> Path:
        """Where a worker keeps the logs and files of its executors."""
        return self.folder / f"work{number}"

    def kill_worker(self, number: int) -> None:
        """What a machine that loses power looks like: the worker and its executor are gone without a word."""
        os.killpg(self.workers[number].pid, signal.SIGKILL)
        self.workers[number].wait()

    def stop(self) -> None:
        for process in [*self.workers, *([self.master] if self.master else [])]:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
        for process in [*self.workers, *([self.master] if self.master else [])]:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _launch(self, name: str, main: str, *arguments: str) -> subprocess.Popen:
        with open(self.folder / f"{name}.log", "w") as log:
            return subprocess.Popen(
                [str(self.spark_class), f"org.apache.spark.deploy.{main}", *arguments],
                stdout=log,
                stderr=log,
                env=self.environment,
                cwd=self.folder,
                start_new_session=True,
            )

    def _wait_for(self, name: str, text: str, process: subprocess.Popen) -> None:
        until = time.monotonic() + PATIENCE_S
        log = self.folder / f"{name}.log"
        while text not in log.read_text(errors="replace"):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{name} did not start:\n{log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.2)


@contextlib.contextmanager
def cluster(folder: Path, workers: int = 2) -> Iterator[Cluster]:
    """A cluster that is stopped at the end of the block, whatever happens in it."""
    running = Cluster(folder)
    try:
        running.start(workers)
        yield running
    finally:
        running.stop()


def make_clips(folder: Path, count: int = 12) -> Path:
    """Clips of 3 s, with a face in most, in the DFDC layout."""
    from tests.clips import dfdc_folder, moving_face, pattern, write_video

    face = write_video(folder / "face.mp4", moving_face(90))
    wall = write_video(folder / "wall.mp4", pattern(60))
    clips = {f"clip{i:02d}.mp4": wall if i % 6 == 5 else face for i in range(count)}
    return dfdc_folder(folder / "data", clips, {name: "clip00.mp4" for name in list(clips)[1::2]})


def rows(out: Path):
    """All rows of a job, in an order that does not depend on files."""
    import pandas as pd
    import pyarrow.parquet as pq

    table = pd.concat(
        [pq.read_table(p).to_pandas() for p in sorted((out / "spark_faces").glob("part-*.parquet"))], ignore_index=True
    )
    return table.sort_values(["title", "frame", "face"], ignore_index=True)


def job(data: Path, out: Path, *options: str) -> subprocess.Popen:
    return subprocess.Popen(
        [
            sys.executable,
            str(PROJECT / "spark_preprocess.py"),
            "--data",
            str(data),
            "--out",
            str(out),
            "--bundle",
            "1",
            *options,
        ],
        cwd=PROJECT,
        stdout=open(out.with_suffix(".log"), "w"),
        stderr=subprocess.STDOUT,
        env=os.environ | {"SPARK_LOCAL_IP": "127.0.0.1"},
    )


def finish(process: subprocess.Popen, out: Path) -> None:
    if process.wait(PATIENCE_S * 4) != 0:
        raise RuntimeError(f"the job ended with {process.returncode}:\n{out.with_suffix('.log').read_text()[-4000:]}")


def compare_stage_04(folder: Path, url: str, environment: dict) -> None:
    """The same bytes from one process, from the executors, and through spark-submit, of scores in two files that Spark
    splits."""
    import random

    draw, scores = random.Random(1), folder / "scores"
    scores.mkdir()
    for part in range(2):
        rows = [
            [f"{('fake', 'real')[v % 2]}/clip{v:03d}-{f:03d}-00.png", draw.random()]
            for v in range(40)
            for f in range(part * 50, part * 50 + 50)
        ]
        (scores / f"part{part}.json").write_text(json.dumps(rows))
    import pyspark

    script, results = str(PROJECT / "04_mapreduce_video_preds.py"), {}
    submit = str(Path(pyspark.__file__).parent / "bin" / "spark-submit")
    for name, command in {
        "04-here": [sys.executable, script, "--master", "local[1]"],
        "04-there": [sys.executable, script, "--master", url],
        "04-submitted": [submit, "--master", url, script],
    }.items():
        done = subprocess.run(
            [*command, "--preds", str(scores), "--out", str(folder / name)],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S * 4,
            env=environment | {"SPARK_LOCAL_IP": "127.0.0.1"},
        )
        if done.returncode:
            raise RuntimeError(f"{name} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
        results[name] = {f.name: f.read_bytes() for f in (folder / name).iterdir() if f.suffix in (".txt", ".csv")}
    assert results["04-here"] == results["04-there"] == results["04-submitted"] and set(results["04-here"]) == {
        "mapreduce_res.txt",
        "video_predictions.csv",
    }
    assert results["04-here"]["video_predictions.csv"].count(b"\n") == 41
    print("stage 04 on the cluster, and through spark-submit: the same bytes as on one core")


def check(data: Path | None, folder: Path) -> None:
    """Raises AssertionError or RuntimeError when a result differs."""
    data = data or make_clips(folder)
    here = folder / "here"
    finish(job(data, here, "--master", "local[2]"), here)
    wanted = rows(here)
    files = {p.name for p in (here / "spark_faces").glob("part-*.parquet")}
    assert (wanted["status"] == "ok").any(), "no face was found: nothing would be compared"
    print(f"local: {len(wanted)} rows in {len(files)} files")

    with cluster(folder) as running:
        there = folder / "there"
        finish(job(data, there, "--master", running.url), there)
        took_part = [n for n in range(2) if any(running.work(n).glob("app-*/*/stderr"))]
        assert took_part == [0, 1], f"only the workers {took_part} had an executor"
        assert rows(there).equals(wanted), "the cluster's rows differ from the local ones"
        assert {p.name for p in (there / "spark_faces").glob("part-*.parquet")} == files
        print(f"cluster of two workers: the same {len(wanted)} rows")

        compare_stage_04(folder, running.url, running.environment)

        hurt = folder / "hurt"
        process = job(data, hurt, "--master", running.url)
        until = time.monotonic() + PATIENCE_S
        while (
            len(list((hurt / "spark_faces").glob("part-*.parquet"))) < 2
            and process.poll() is None
            and time.monotonic() < until
        ):
            time.sleep(0.05)
        running.kill_worker(0)
        done = len(list((hurt / "spark_faces").glob("part-*.parquet")))
        assert process.poll() is None and 0 < done < len(files), (
            f"the worker was not killed in the middle ({done} of {len(files)} files)"
        )
        finish(process, hurt)
        assert rows(hurt).equals(wanted), "after the loss of a worker the rows differ"
        assert not [p for p in (hurt / "spark_faces").iterdir() if p.name.endswith(".started")]
        print(f"one of two workers killed after {done} of {len(files)} files: the same {len(wanted)} rows")


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    p.add_argument("--data", type=Path, metavar="DIR", help="videos (default: twelve clips made on the spot)")
    options = p.parse_args()
    with tempfile.TemporaryDirectory(prefix="deepfake_detection-cluster-") as folder:
        check(options.data and options.data.resolve(), Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
