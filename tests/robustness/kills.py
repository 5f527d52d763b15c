"""SIGKILL at random moments, then the same command again: the same bytes as an undisturbed run, no rubbish, no half
file.

    python tests/robustness/kills.py                              the nightly run: at least 100 kills over all stages
    python tests/robustness/kills.py --stages 00 01a --kills 5    a part of it
    python tests/robustness/kills.py --write docs/kills.json      and the counts as JSON

Each stage has a folder as the stages before it leave it. It is run undisturbed once; then, again and again, from the
same start: it is run, waited for until it writes something (or not: some kills hit the start), and killed with all its
processes. What then stands under a final name must have the bytes of the undisturbed run. Then it is run to its end,
and the whole tree must be that of the undisturbed run, without a temporary file. Every kill draws its moment from
--seed.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT))

#: Not compared: locks (empty), logs with times in them, and what says when or for how long.
_IGNORED = re.compile(r"(^|/)(\.[^/]*\.lock|logs/.*|[^/]*\.crc|_SUCCESS)$")
_RUBBISH = re.compile(r"\.partial-|\.tmp$|_temporary|\.part$")


@dataclass
class Stage:
    """One command to be killed.

    Attributes:
        name: of the stage.
        command: arguments after `python`, from the folder of the scene and the folder that holds the models.
        needs: the stages whose results it starts from.
        growing: final files that may be there half (a table that rows are appended to), checked for being a beginning
            instead.
        same: normalises a file's bytes before they are compared.
        sign: of these files below the output the first change says that the work has begun.
    """

    name: str
    command: Callable[[Path, Path], list[str]]
    needs: str = ""
    growing: tuple[str, ...] = ()
    same: Callable[[str, bytes], bytes] = lambda name, data: data
    slow: bool = False


def _script(script: str, *arguments: str):
    return lambda out, extra: [
        str(PROJECT / script),
        *(a.format(out=out, data=out / "videos", extra=extra) for a in arguments),
    ]


def _without_times(name: str, data: bytes) -> bytes:
    """Bytes without what differs between any two undisturbed runs: seconds and dates."""
    if name.endswith((".json", ".html", ".txt", ".csv")):
        data = re.sub(
            rb'"(seconds|created|finished|started|date|time|wall_s|cpu_s|seconds_per_epoch)": '
            rb'?"?[^,}\n"]+"?',
            b"",
            data,
        )
    return data


def _training(name: str, data: bytes) -> bytes:
    """The numbers of a training without its times: a .keras file holds its date and addresses of objects, history.csv
    the seconds of each epoch."""
    if name.endswith(".keras"):
        with zipfile.ZipFile(io.BytesIO(data)) as z:
            parts = b"".join(n.encode() + z.read(n) for n in sorted(z.namelist()) if n != "metadata.json")
            return re.sub(rb'"shared_object_id": \d+', b"", parts)
    if name.endswith("history.csv"):
        return b"\n".join(line.rpartition(b",")[0] for line in data.splitlines())
    if name.endswith("training_state.npz"):
        return b""  # the seconds so far stand in it, packed; what it resumes to is compared instead
    return re.sub(rb'"sha256": "[0-9a-f]+"', b"", _without_times(name, data))


_OUT = ("--data", "{data}", "--out", "{out}", "--workers", "2")
STAGES = {
    s.name: s
    for s in (
        Stage("00", _script("00_convert_video_to_image.py", *_OUT, "--frames-dir", "{out}/frames")),
        Stage(
            "01a",
            _script("01a_crop_faces_mtcnn.py", *_OUT, "--frames-dir", "{out}/frames", "--face-detector", "yunet"),
            "00",
        ),
        Stage("01b", _script("01b_mark_landmarks.py", *_OUT, "--frames-dir", "{out}/frames"), "01a"),
        Stage("02", _script("02_prepare_dataset.py", *_OUT, "--frames-dir", "{out}/frames"), "01a"),
        Stage(
            "03",
            _script(
                "03_train_cnn.py",
                *_OUT,
                "--architecture",
                "compact_cnn",
                "--weights",
                "none",
                "--epochs",
                "3",
                "--batch-size",
                "8",
                "--image-size",
                "32",
            ),
            "02",
            slow=True,
            same=_training,
        ),
        Stage(
            "03a",
            _script("03a_load_model.py", *_OUT, "--model-file", "{out}/tmp_checkpoint/best_model.keras"),
            "03",
            slow=True,
            same=_without_times,
        ),
        Stage(
            "04",
            _script("04_mapreduce_video_preds.py", "--out", "{out}", "--master", "local[2]", "--resamples", "50"),
            "03",
            slow=True,
            same=_without_times,
        ),
        Stage(
            "predict",
            _script(
                "predict.py",
                "{data}",
                "--model-dir",
                "{extra}/tiny",
                "--frame-count",
                "4",
                "--workers",
                "2",
                "--csv",
                "{out}/verdicts.csv",
                "--json",
                "{out}/verdicts.json",
            ),
            growing=("verdicts.csv",),
            same=_without_times,
        ),
        Stage(
            "spark_preprocess",
            _script(
                "spark_preprocess.py",
                "--data",
                "{data}",
                "--out",
                "{out}",
                "--master",
                "local[2]",
                "--face-detector",
                "yunet",
                "--bundle",
                "2",
            ),
            slow=True,
            same=_without_times,
        ),
    )
}
STAGE_NAMES = (*STAGES, "spark_worker", "web_worker", "web_server")


# --- the scene --------------------------------------------------------------------------------------------------------
def make_scene(out: Path, extra: Path, videos: int = 12) -> None:
    """Videos with a face each, as many REAL as FAKE, every one a group of its own; and the tiny detector."""
    import importlib.util

    import av
    import numpy as np
    from skimage import data

    folder = out / "videos"
    folder.mkdir(parents=True)
    face = np.ascontiguousarray(data.astronaut()[0:320, 64:384])
    labels = {}
    for n in range(videos):
        fake = n % 2
        image = np.clip(
            face.astype(np.int16) + np.array([-30, 0, 30] if fake else [30, 0, -30]) + 4 * n, 0, 255
        ).astype(np.uint8)
        with av.open(str(folder / f"v{n:02d}.mp4"), "w") as stream_out:
            stream = stream_out.add_stream("libx264", rate=2, options={"preset": "ultrafast"})
            stream.width, stream.height, stream.pix_fmt = 320, 320, "yuv420p"
            for i in range(6):
                frame = av.VideoFrame.from_ndarray(np.roll(image, i * 2, axis=1), format="rgb24").reformat(
                    format="yuv420p"
                )
                frame.pts = i
                stream_out.mux(stream.encode(frame))
            stream_out.mux(stream.encode())
        labels[f"v{n:02d}.mp4"] = {"label": "FAKE" if fake else "REAL"}
    (folder / "metadata.json").write_text(json.dumps(labels))
    spec = importlib.util.spec_from_file_location("kills_tiny_model", PROJECT / "tests" / "predict" / "tiny_model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.build(extra / "tiny")


# --- running and killing ----------------------------------------------------------------------------------------------
def start(command: list[str], log: Path) -> subprocess.Popen:
    environment = {
        **os.environ,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "MPLBACKEND": "Agg",
        "CUDA_VISIBLE_DEVICES": "-1",
        "OMP_NUM_THREADS": "1",
        "PYSPARK_PYTHON": sys.executable,
        "TF_DETERMINISTIC_OPS": "1",
    }
    with open(log, "ab") as f:
        return subprocess.Popen(
            [sys.executable, *command],
            stdout=f,
            stderr=f,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env=environment,
        )


def kill(process: subprocess.Popen) -> None:
    """SIGKILL to the process and to all that it started."""
    import psutil

    family = []
    try:
        parent = psutil.Process(process.pid)
        family = [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        pass
    for p in family:
        try:
            p.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            pass
    process.wait()
    psutil.wait_procs(family, timeout=10)


def files(folder: Path):
    """Every file below a folder. What a process that still lives renames while we look is passed over, folders too:
    `Path.rglob` fails there."""
    for place, _, names in os.walk(folder):
        yield from (Path(place) / name for name in names)


def tree(folder: Path) -> dict[str, Path]:
    """Every regular file below the folder by its relative name, without locks and the like."""
    return {
        name: p for p in files(folder) if p.is_file() and not _IGNORED.search(name := p.relative_to(folder).as_posix())
    }


def prints(stage: Stage, folder: Path) -> dict[str, str]:
    out = {}
    for name, path in tree(folder).items():
        try:
            out[name] = hashlib.sha256(stage.same(name, path.read_bytes())).hexdigest()
        except FileNotFoundError:
            continue  # renamed while we looked
    return out


def signature(folder: Path) -> set:
    """What changes when the stage writes anything at all, hidden files included; settings written at the start do not
    count."""
    found = set()
    for p in files(folder):
        try:
            if p.is_file() and not p.name.endswith((".lock", "_settings.json")):
                found.add((p, p.stat().st_mtime_ns))
        except FileNotFoundError:
            continue
    return found


@dataclass
class Count:
    """What became of the kills of one stage."""

    kills: int = 0
    in_the_work: int = 0
    too_late: int = 0
    reruns: int = 0
    problems: list[str] = field(default_factory=list)


class Failed(Exception):
    """A run that was not disturbed ended badly."""


def finish(stage: Stage, command: list[str], log: Path) -> None:
    code = start(command, log).wait()
    if code:
        raise Failed(f"stage {stage.name} ended with {code}: {log.read_text(errors='replace')[-1500:]}")


def undisturbed(stage: Stage, command: list[str], out: Path, log: Path) -> tuple[float, float]:
    """Runs it whole. Returns the seconds until it wrote something, and from then to the end."""
    old, begun = signature(out), time.monotonic()
    process = start(command, log)
    while process.poll() is None and signature(out) == old:
        time.sleep(0.005)
    sign = time.monotonic()
    code = process.wait()
    if code:
        raise Failed(f"stage {stage.name} ended with {code}: {log.read_text(errors='replace')[-1500:]}")
    return sign - begun, time.monotonic() - sign


def torture(
    stage: Stage, out: Path, extra: Path, before: Path, kills: int, generator: random.Random, say=print
) -> Count:
    """Kills one stage `kills` times, up to three times before each rerun. `out` is left as the undisturbed run leaves
    it."""
    count, log = Count(), extra / f"{stage.name}.log"
    command = stage.command(out, extra)
    start_s, work_s = undisturbed(stage, command, out, log)
    expected = prints(stage, out)
    reference = extra / f"{stage.name}-whole"
    shutil.rmtree(reference, ignore_errors=True)
    shutil.copytree(out, reference, symlinks=True)
    while count.kills < kills:
        reset(out, before)
        initial = prints(stage, out)
        for _ in range(min(kills - count.kills, generator.randint(1, 3))):
            process = start(command, log)
            if generator.random() < 0.15:  # in the start-up
                deadline = time.monotonic() + generator.uniform(0, start_s)
                while process.poll() is None and time.monotonic() < deadline:
                    time.sleep(0.005)
            else:  # in the work: at a random time after the first sign of it
                old, worked = signature(out), False
                while process.poll() is None and not worked:
                    worked = bool(signature(out) - old)
                    time.sleep(0.002)
                deadline = time.monotonic() + generator.uniform(0, work_s)
                while process.poll() is None and time.monotonic() < deadline:
                    time.sleep(0.001)
                count.in_the_work += process.poll() is None
            count.too_late += process.poll() is not None
            kill(process)
            count.kills += 1
            count.problems += half_files(stage, out, expected, initial, reference)
        finish(stage, command, log)
        count.reruns += 1
        after = prints(stage, out)
        for name in sorted(set(after) | set(expected)):
            if after.get(name) != expected.get(name):
                kind = "rubbish" if name not in expected else "missing" if name not in after else "other bytes"
                count.problems.append(f"after the rerun: {kind}: {name}")
        if count.problems:
            shutil.copytree(out, extra / f"{stage.name}-broken", symlinks=True, dirs_exist_ok=True)
            break
    return count


def half_files(stage: Stage, out: Path, expected: dict, initial: dict, reference: Path) -> list[str]:
    """What stands under a final name and is neither as before nor as it should be."""
    found = []
    now = tree(out)
    for name, path in now.items():
        if _RUBBISH.search(name) or any(part.startswith(".") for part in Path(name).parts):
            continue  # hidden, marked as partial: the rerun must clear it away
        data = stage.same(name, path.read_bytes())
        if name in stage.growing:
            whole = sorted((reference / name).read_bytes().splitlines())
            if not set(path.read_bytes().splitlines()[:-1]) <= set(whole):
                found.append(f"after the kill: rows of {name} that an undisturbed run does not write")
            continue
        digest = hashlib.sha256(data).hexdigest()
        if digest not in (expected.get(name), initial.get(name)) and not stage_may(stage, name):
            found.append(f"after the kill: half a file: {name}")
    return found


def stage_may(stage: Stage, name: str) -> bool:
    """Files that rightly have other bytes in the middle of a run: what training has reached so far, and accounts of a
    started run."""
    if name.startswith("stage_reports/"):
        return True
    return stage.name == "03" and (
        name.startswith(("tmp_checkpoint/", "logs/")) or name in ("history.csv", "Loss.png", "Accuracy.png")
    )


def reset(out: Path, before: Path) -> None:
    """Makes `out` what `before` holds."""
    shutil.rmtree(out)
    shutil.copytree(before, out, symlinks=True)


# --- workers ----------------------------------------------------------------------------------------------------------
def torture_spark_workers(out: Path, extra: Path, before: Path, kills: int, generator: random.Random) -> Count:
    """Kills Python workers of Spark in the middle of spark_preprocess: Spark retries, or the run ends in a line and
    goes on when rerun."""
    import psutil

    stage, count, log = STAGES["spark_preprocess"], Count(), extra / "spark_worker.log"
    # a task may fail three times
    command = [a.replace("local[2]", "local[2,4]") for a in stage.command(out, extra)]
    finish(stage, command, log)
    expected = prints(stage, out)
    while count.kills < kills:
        reset(out, before)
        process = start(command, log)
        while process.poll() is None and count.kills < kills:
            try:
                workers = [
                    p
                    for p in psutil.Process(process.pid).children(recursive=True)
                    if "pyspark.daemon" in " ".join(p.cmdline())
                ]
                leaves = [w for w in workers if w.ppid() in {o.pid for o in workers}]
            except psutil.Error:
                continue
            if leaves:
                time.sleep(generator.uniform(0, 1.0))
                try:
                    generator.choice(leaves).kill()
                    count.kills += 1
                    count.in_the_work += 1
                except psutil.NoSuchProcess:
                    pass
                time.sleep(generator.uniform(0.5, 2.0))
            time.sleep(0.02)
        process.wait()
        finish(stage, command, log)
        count.reruns += 1
        after = prints(stage, out)
        count.problems += [
            f"after the rerun: {name}"
            for name in sorted(set(after) | set(expected))
            if after.get(name) != expected.get(name)
        ]
        if count.problems:
            break
    return count


def torture_web(out: Path, extra: Path, kills: int, generator: random.Random, whole_server: bool) -> Count:
    """Kills a worker of the page, or the server, in the middle: no upload is lost, no file is left, the results are the
    same."""
    import importlib.util

    import psutil

    spec = importlib.util.spec_from_file_location("kills_web_conftest", PROJECT / "tests" / "web" / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    count = Count()
    store = extra / ("store-server" if whole_server else "store-worker")
    shutil.rmtree(store, ignore_errors=True)
    server = module.Server(store, extra / "tiny", "--workers", 1)
    videos = sorted((out / "videos").glob("*.mp4"))[:3]

    def judged(ids):
        return [{k: v for k, v in server.wait(i, 300)["result"].items() if k not in ("seconds", "video")} for i in ids]

    try:
        expected = judged([server.upload(v)[1]["id"] for v in videos])
        while count.kills < kills:
            ids = [server.upload(v)[1]["id"] for v in videos]
            if whole_server:
                time.sleep(generator.uniform(0, 1.5))
                family = psutil.Process(server.process.pid).children(recursive=True)
                server.stop(kill=True)
                gone, alive = psutil.wait_procs(family, timeout=10)
                count.problems += [f"a worker outlived the server: {p.pid}" for p in alive]
                count.kills += 1
                server = module.Server(store, extra / "tiny", "--workers", 1)
                if judged(ids) != expected:
                    count.problems.append("other results after the server was killed")
            else:
                while not any(server.json("GET", f"/api/videos/{i}")[1]["state"] == "running" for i in ids):
                    if all(server.json("GET", f"/api/videos/{i}")[1]["state"] in ("done", "failed") for i in ids):
                        break
                    time.sleep(0.002)
                time.sleep(generator.uniform(0, 0.1))
                for worker in psutil.Process(server.process.pid).children():
                    try:
                        worker.kill()
                    except psutil.NoSuchProcess:
                        pass
                count.kills += 1
                results = [server.wait(i, 300) for i in ids]
                for r, e in zip(results, expected):
                    result = {k: v for k, v in r["result"].items() if k not in ("seconds", "video")}
                    if r["state"] == "failed" and "SIGKILL" in result["error"]:
                        count.in_the_work += 1
                    elif result != e:
                        count.problems.append(f"a verdict changed: {result}")
                if server.json("GET", "/api/health")[0] != 200:
                    count.problems.append("the server is not healthy after a worker died")
            count.reruns += 1
            left = [p.name for p in (store / "uploads").iterdir()] + [
                p.name for p in (store / "reports").iterdir() if ".partial-" in p.name
            ]
            count.problems += [f"left behind: {name}" for name in left]
            if count.problems:
                break
    finally:
        if server.process.poll() is None:
            server.stop()
    return count


# --- the whole --------------------------------------------------------------------------------------------------------
#: Kills of the nightly run: 110 in all.
NIGHTLY = {
    "00": 15,
    "01a": 15,
    "01b": 10,
    "02": 10,
    "03": 8,
    "03a": 5,
    "04": 5,
    "predict": 15,
    "spark_preprocess": 6,
    "spark_worker": 5,
    "web_worker": 10,
    "web_server": 6,
}


def run(kills: dict[str, int], seed: int = 1, say=print) -> dict[str, Count]:
    """Kills each stage that often. The stages it needs are run, undisturbed, before."""
    generator = random.Random(seed)
    counts: dict[str, Count] = {}
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        extra = Path(folder, "extra")
        extra.mkdir()
        scene = Path(folder, "scene")
        make_scene(scene, extra)
        work = Path(folder, "work")
        ready = {"": scene}

        def state(name: str) -> Path:
            """The folder as that stage, undisturbed, leaves it."""
            if name not in ready:
                before = state(STAGES[name].needs)
                shutil.rmtree(work, ignore_errors=True)
                shutil.copytree(before, work, symlinks=True)
                finish(STAGES[name], STAGES[name].command(work, extra), extra / f"{name}.log")
                ready[name] = Path(folder, f"after-{name}")
                shutil.copytree(work, ready[name], symlinks=True)
            return ready[name]

        for name, number in kills.items():
            if not number:
                continue
            begun = time.monotonic()
            before = state(STAGES[name].needs if name in STAGES else "")
            shutil.rmtree(work, ignore_errors=True)
            shutil.copytree(before, work, symlinks=True)
            if name == "spark_worker":
                count = torture_spark_workers(work, extra, before, number, generator)
            elif name.startswith("web"):
                count = torture_web(work, extra, number, generator, name == "web_server")
            else:
                count = torture(STAGES[name], work, extra, before, number, generator)
                if name not in ready and not count.problems:
                    ready[name] = Path(folder, f"after-{name}")
                    shutil.copytree(work, ready[name], symlinks=True)
            counts[name] = count
            say(
                f"{name:<17} {count.kills:>3} kills, {count.in_the_work:>3} in the middle of the work, "
                f"{count.reruns:>3} reruns, "
                f"{len(count.problems)} problems  ({time.monotonic() - begun:.0f} s)",
                flush=True,
            )
            for problem in count.problems[:10]:
                say(f"    {problem}", flush=True)
    return counts


def main(argv=None) -> int:
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    p.add_argument(
        "--stages",
        nargs="+",
        choices=STAGE_NAMES,
        default=list(STAGE_NAMES),
        metavar="NAME",
        help=", ".join(STAGE_NAMES),
    )
    p.add_argument("--kills", type=int, metavar="N", help="kills a stage (default: 110 in all)")
    p.add_argument("--seed", type=int, default=1, metavar="N")
    p.add_argument("--write", type=Path, metavar="FILE", help="write the counts as JSON")
    options = p.parse_args(argv)
    counts = run({s: options.kills if options.kills is not None else NIGHTLY[s] for s in options.stages}, options.seed)
    total, bad = sum(c.kills for c in counts.values()), sum(len(c.problems) for c in counts.values())
    print(f"{total} kills, {bad} problems")
    if options.write:
        options.write.write_text(json.dumps({n: vars(c) for n, c in counts.items()}, indent=2) + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
