#!/usr/bin/env python
"""Stage 04 on millions of faces, beside the way such scripts were published, in one run on one generated file.

    python benchmarks/mapreduce_scale.py                            # 10 million rows ours, 1 million the published way
    python benchmarks/mapreduce_scale.py --rows 1000000 --published-rows 1000000

The published way: the JSON is loaded by Python on the driver, made an RDD, mapped and reduced by Python functions into
lists, and each of the ten results that are printed is computed anew from the uncached RDD. `--reuse` is the kinder
reading: the RDD of videos is one object, so Spark takes its shuffle files for the later nine. Ours:
`spark.video_predictions`, one job. Both give the same means, which is checked where both saw the same rows.

Each way runs in a process of its own, on the same master, with Spark's default 1 GB of JVM heap. Times are of the work,
without the start of Spark. CPU is of driver, JVM and Python workers together. Memory is the peak resident size of the
Python driver and of the JVM. Ours is also run on a tenth of the rows with as many videos: equal memory there is what
"flat" means. When --published-rows is smaller than --rows, the factor is of times per row, and the table says so.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))


def generate(path: Path, rows: int, videos: int, seed: int) -> None:
    """Writes `rows` rows of the published JSON over `videos` videos, every second one real, without holding them in
    memory."""
    import numpy as np
    from tqdm import tqdm

    rng = np.random.default_rng(seed)
    centre = np.where(np.arange(videos) % 2, 0.7, 0.3) + rng.normal(0, 0.15, videos)
    with open(path, "w") as f, tqdm(total=rows, desc=path.name, unit="row", unit_scale=True, disable=None) as bar:
        f.write("[")
        for start in range(0, rows, 100_000):
            n = np.arange(start, min(start + 100_000, rows))
            video, frame = n % videos, n // videos  # the frames of a video are spread over the whole file
            p = np.clip(centre[video] + rng.normal(0, 0.2, len(n)), 0, 1)
            f.write(
                ("," if start else "")
                + ",".join(
                    f'["{("fake", "real")[v % 2]}\\/clip-{v:06d}-{k:03d}-00.png",{x:.10f}]'
                    for v, k, x in zip(video.tolist(), frame.tolist(), p.tolist())
                )
            )
            bar.update(len(n))
        f.write("]")


def published(spark, path: Path, out: Path, reuse: bool = False) -> dict:
    """The published script's steps on a Python RDD; with `reuse` the reduced RDD is made once. Returns video ->
    mean."""

    def first_mapper(record):
        label, name = record[0].split("/")
        return (int(label == "real"), name.rsplit("-", 2)[0]), [(record[1], 1)]

    def mean_of(pairs):
        return sum(p for p, _ in pairs) / sum(n for _, n in pairs)

    def join(a, b):
        return a + b

    records = spark.sparkContext.parallelize(json.loads(path.read_text()))
    with open(out / "published.txt", "w") as report:
        print("a record looks like this:", records.first(), file=report)
        once = records.map(first_mapper).reduceByKey(join)

        def videos():
            return once if reuse else records.map(first_mapper).reduceByKey(join)

        def right():
            return videos().map(lambda v: (42, [(int((mean_of(v[1]) >= 0.5) == v[0][0]), 1)])).reduceByKey(join)

        def right_of_class():
            return videos().map(lambda v: (v[0][0], [(int((mean_of(v[1]) >= 0.5) == v[0][0]), 1)])).reduceByKey(join)

        def mean_of_class():
            return videos().map(lambda v: (v[0][0], [(mean_of(v[1]), 1)])).reduceByKey(join)

        def confusion():
            return (
                videos().map(lambda v: ((v[0][0], int(mean_of(v[1]) >= 0.5)), [(mean_of(v[1]), 1)])).reduceByKey(join)
            )

        def summed(rdd):
            return rdd.map(lambda kv: (kv[0], (len(kv[1]), mean_of(kv[1]))))

        for result in (
            videos(),
            right(),
            right_of_class(),
            mean_of_class(),
            confusion(),
            summed(right()),
            summed(right_of_class()),
            summed(mean_of_class()),
            summed(confusion()),
        ):
            for line in result.collect():
                print(line, file=report)
        table = videos().map(lambda v: (v[0][1], mean_of(v[1]))).collect()
    return dict(table)


def ours(spark, path: Path, out: Path) -> dict:
    """Stage 04 with all its results. Returns video -> mean."""
    from deepfake_detection.spark import video_predictions

    table = video_predictions.video_table(spark, str(path))
    video_predictions.write(table, str(path), out)
    return dict(zip(table["video"], table["p_real"]))


def tree_cpu_s(pid: int) -> float:
    """CPU seconds of a process and all its descendants, ended children included where they were waited for."""
    ticks, parents = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            parents[int(entry.name)], ticks[int(entry.name)] = int(fields[1]), sum(map(int, fields[11:15]))
    wanted, grew = {pid}, True
    while grew:
        more = {p for p, parent in parents.items() if parent in wanted} - wanted
        wanted, grew = wanted | more, bool(more)
    return sum(ticks.get(p, 0) for p in wanted) / os.sysconf("SC_CLK_TCK")


def peak_mib(pid: int) -> float:
    """Peak resident size of a process."""
    return (
        next(
            int(line.split()[1])
            for line in Path(f"/proc/{pid}/status").read_text().splitlines()
            if line.startswith("VmHWM")
        )
        / 1024
    )


def child(way: str, path: Path, out: Path, master: str) -> None:
    """Runs one way and prints what it cost as JSON."""
    from deepfake_detection.spark.session import session

    out.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with session(f"benchmark {way}", master) as spark:
        ready = time.perf_counter()
        cpu = tree_cpu_s(os.getpid())
        means = {"ours": ours, "published": published, "reuse": partial(published, reuse=True)}[way](spark, path, out)
        cost = {
            "wall_s": time.perf_counter() - ready,
            "start_s": ready - started,
            "cpu_s": tree_cpu_s(os.getpid()) - cpu,
            "driver_mib": peak_mib(os.getpid()),
            "jvm_mib": peak_mib(spark.sparkContext._gateway.proc.pid),
        }
    (out / "means.json").write_text(json.dumps(means))
    print("COST " + json.dumps(cost))


def measure(way: str, path: Path, out: Path, master: str) -> dict:
    done = subprocess.run(
        [sys.executable, __file__, "--child", way, "--file", str(path), "--scratch", str(out), "--master", master],
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"the {way} way failed with exit code {done.returncode}")
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("COST "))[5:])


def main() -> None:
    from deepfake_detection import cli

    p = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument(
        "--rows", type=cli.positive_int, default=10_000_000, metavar="N", help="faces for ours (default: %(default)s)"
    )
    p.add_argument(
        "--published-rows",
        type=cli.positive_int,
        metavar="N",
        help="faces for the published way (default: 1000000, or --rows if fewer)",
    )
    p.add_argument(
        "--videos",
        type=cli.positive_int,
        default=119_146,
        metavar="N",
        help="videos, as many as DFDC has (default: %(default)s)",
    )
    p.add_argument("--master", default="local[2]", metavar="URL", help="(default: %(default)s)")
    p.add_argument("--seed", type=int, default=1, metavar="N")
    p.add_argument(
        "--scratch", type=Path, metavar="DIR", help="where the generated files lie, kept (default: a temporary folder)"
    )
    p.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here too")
    p.add_argument("--reuse", action="store_true", help="the published way with its first result kept by Spark")
    p.add_argument("--child", choices=("ours", "published", "reuse"), help=argparse.SUPPRESS)
    p.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options = p.parse_args()
    if options.child:
        child(options.child, options.file, options.scratch, options.master)
        return
    with tempfile.TemporaryDirectory(prefix="mapreduce-scale-") as temporary:
        folder = options.scratch or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        sizes = {
            "ours": options.rows,
            "ours, a tenth": max(options.rows // 10, 1),
            "published": options.published_rows or min(options.rows, 1_000_000),
        }
        rows, results = {}, {}
        for name, count in sizes.items():
            path = folder / f"rows-{count}.json"
            if not path.exists():
                generate(path, count, options.videos, options.seed)
            rows[name] = (path, count)
        for name, (path, count) in rows.items():
            print(f"{name}: {count:,} rows, {path.stat().st_size / 1e6:,.0f} MB ...", file=sys.stderr, flush=True)
            way = "reuse" if options.reuse and name == "published" else name.split(",")[0]
            results[name] = {"rows": count, **measure(way, path, folder / name.replace(", ", "-"), options.master)}
        for name in ("ours", "ours, a tenth"):
            if rows[name][1] == rows["published"][1]:
                check_equal(folder / name.replace(", ", "-") / "means.json", folder / "published" / "means.json")
                print(f"{name} and the published way: the same mean for every video (1e-9)")
                break
    show(results, options)


def check_equal(a: Path, b: Path) -> None:
    left, right = json.loads(a.read_text()), json.loads(b.read_text())
    if left.keys() != right.keys() or any(abs(left[v] - right[v]) > 1e-9 for v in left):
        raise SystemExit("the two ways do not agree")


def show(results: dict, options) -> None:
    from deepfake_detection.files import write_json
    from deepfake_detection.reports.text import table

    per_row = {name: {k: r[k] / r["rows"] for k in ("wall_s", "cpu_s")} for name, r in results.items()}
    print(
        table(
            [
                [
                    name,
                    f"{r['rows']:,}",
                    f"{r['wall_s']:.1f}",
                    f"{r['cpu_s']:.1f}",
                    f"{per_row[name]['wall_s'] * 1e6:.2f}",
                    f"{r['driver_mib']:,.0f}",
                    f"{r['jvm_mib']:,.0f}",
                ]
                for name, r in results.items()
            ],
            ["", "rows", "wall s", "CPU s", "wall us a row", "driver MiB", "JVM MiB"],
            "lrrrrrr",
        )
    )
    factor = {k: per_row["published"][k] / per_row["ours"][k] for k in ("wall_s", "cpu_s")}
    same = results["published"]["rows"] == results["ours"]["rows"]
    print(
        f"published / ours: {factor['wall_s']:.1f}x wall, {factor['cpu_s']:.1f}x CPU"
        + (
            ""
            if same
            else f" per row; the published way was measured on {results['published']['rows']:,} rows, and "
            f"{options.rows:,} would take it "
            f"{per_row['published']['wall_s'] * options.rows:,.0f} s if its time grew in proportion (extrapolated)"
        )
    )
    if options.json:
        write_json(
            options.json,
            {
                "videos": options.videos,
                "master": options.master,
                "results": results,
                "factor": factor,
                "extrapolated": not same,
            },
        )


if __name__ == "__main__":
    main()
