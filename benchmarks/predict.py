"""How long a verdict takes, cold and over a folder, beside the published way, in one run.

    python benchmarks/predict.py                              # the longest 1080p clips of the sample
    python benchmarks/predict.py --clips ../shared/data/dfdc  # the four DFDC clips, 10 s of 1080p each
    python benchmarks/predict.py --no-published               # without the slow half

Prints a table and writes it to benchmarks/results/predict.txt. Rows:
- decode: every frame of a clip by OpenCV's grab() and retrieve(), one thread: the floor of any method that looks at a
  video;
- cold: `python predict.py CLIP`, from the start of the process to its end;
- folder: `python predict.py FOLDER` with as many workers as cores, a clip (wall x workers / clips is comparable with
  decode);
- published: as the published numbered pipeline does it: frames reached by seeking, MTCNN built anew for every frame,
  the network called by Keras for every face. TensorFlow's import is part of it, once a run.
Wall and CPU seconds (children included); the machine's load before each row, because a busy machine makes wall times
long.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))

from deepfake_detection import cli, cpus

RESULT = PROJECT / "benchmarks" / "results" / "predict.txt"


def clips_of(folder: Path, most: int) -> list[Path]:
    """The clips with the most pixels a frame, the longest of these first."""
    from deepfake_detection import video
    from deepfake_detection.video.probe import probe

    found = sorted(p for p in folder.iterdir() if video.is_video_name(p))
    infos = [probe(p) for p in found]
    infos.sort(key=lambda i: (-i.width * i.height, -i.frame_count, i.path.name))
    return [i.path for i in infos[:most]]


def timed(command) -> tuple[float, float, str]:
    """(wall, CPU seconds of the command and all that it started, stdout).

    Workers are killed at the end, in a namespace of their own, and nobody waits for them: what `getrusage` says of
    children lacks them. So the processes are looked at every 20 ms.
    """
    used: dict[int, float] = {}
    over = threading.Event()

    def watch(root: int) -> None:
        while not over.wait(0.02):
            used.update(_cpu_seconds(root))

    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=PROJECT)
    watcher = threading.Thread(target=watch, args=(process.pid,))
    watcher.start()
    out, err = process.communicate()
    wall = time.perf_counter() - start
    over.set()
    watcher.join()
    if process.returncode:
        sys.exit(f"{command}: exit code {process.returncode}\n{err[-2000:]}")
    return wall, sum(used.values()), out


def _cpu_seconds(root: int) -> dict[int, float]:
    """Of a process and all below it: process number to CPU seconds so far."""
    parents, seconds = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            pid = int(path.parent.name)
            parents[pid] = int(fields[1])
            seconds[pid] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    below, more = set(), {root} & seconds.keys()
    while more:
        below |= more
        more = {pid for pid, parent in parents.items() if parent in below} - below
    return {pid: seconds[pid] for pid in below}


def decode(path: Path) -> None:
    """Every frame, one thread."""
    import cv2

    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    while capture.grab():
        capture.retrieve()
    capture.release()


def published(paths: list[Path]) -> None:
    """The published way: one frame a second by seeking, a new MTCNN for each, a call of the Keras model for each
    face."""
    import cv2
    import keras
    import numpy as np
    from mtcnn import MTCNN

    from deepfake_detection.video.resize import published_scale, resize

    model = keras.models.load_model(PROJECT / "models" / "detector.keras", compile=False)
    size = model.input_shape[1]
    for path in paths:
        capture, scores = cv2.VideoCapture(str(path)), []
        fps, count = int(capture.get(cv2.CAP_PROP_FPS)), int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        for index in range(0, count, fps):
            capture.set(cv2.CAP_PROP_POS_FRAMES, index)
            ok, frame = capture.read()
            if not ok:
                continue
            frame = cv2.cvtColor(resize(frame, published_scale(frame.shape[1])), cv2.COLOR_BGR2RGB)
            for face in MTCNN().detect_faces(frame):
                x, y, w, h = face["box"]
                x0, y0, x1, y1 = max(0, int(x - 0.3 * w)), max(0, int(y - 0.3 * h)), int(x + 1.3 * w), int(y + 1.3 * h)
                crop = cv2.resize(frame[y0:y1, x0:x1], (size, size))
                scores.append(float(model.predict(crop[None].astype(np.float32), verbose=0)[0, 0]))
        print(
            json.dumps({"video": path.name, "faces": len(scores), "p_real": float(np.mean(scores)) if scores else None})
        )


def parse():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    p.add_argument(
        "--clips",
        type=Path,
        default=PROJECT / "train_sample_videos",
        metavar="DIR",
        help="folder of videos (default: the sample)",
    )
    cli.option(
        p, "--max-videos", old=["--most"], type=int, default=4, metavar="N", help="at most (default: %(default)s)"
    )
    p.add_argument(
        "--repeat", type=int, default=3, metavar="N", help="of the cold run; the median is shown (default: %(default)s)"
    )
    p.add_argument("--no-published", action="store_true", help="leave out the published way")
    p.add_argument("--as", dest="role", choices=("decode", "published"), help=argparse.SUPPRESS)
    p.add_argument("--out", type=Path, default=RESULT, metavar="FILE", help="(default: %(default)s)")
    return p.parse_args()


def main() -> None:
    chosen = parse()
    if chosen.role:
        {
            "decode": lambda: [decode(c) for c in clips_of(chosen.clips, chosen.max_videos)],
            "published": lambda: published(clips_of(chosen.clips, chosen.max_videos)),
        }[chosen.role]()
        return
    clips = clips_of(chosen.clips, chosen.max_videos)
    cores = cpus.count()
    rows = []

    def row(what, wall, cpu, a_clip):
        rows.append(f"{what:<44}{wall:>9.2f}{cpu:>9.2f}{a_clip:>10.2f}{os.getloadavg()[0]:>8.1f}")
        print(rows[-1], flush=True)

    head = [
        f"benchmarks/predict.py  {time.strftime('%Y-%m-%d %H:%M')}  {cores} cores "
        f"({platform.processor() or platform.machine()}), Python {platform.python_version()}",
        f"{len(clips)} clips: " + ", ".join(c.name for c in clips),
        "",
        f"{'':<44}{'wall s':>9}{'CPU s':>9}{'s a clip':>10}{'load':>8}",
    ]
    print("\n".join(head))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for clip in clips:
            shutil.copy(clip, folder / clip.name)
        inner = time.perf_counter()
        cpu = time.process_time()
        for clip in clips:
            decode(clip)
        decoding, decoding_cpu = time.perf_counter() - inner, time.process_time() - cpu
        row("decode, every frame, one thread", decoding, decoding_cpu, decoding / len(clips))
        script = [sys.executable, str(PROJECT / "predict.py")]
        cold = sorted(timed([*script, str(clips[0])])[:2] for _ in range(chosen.repeat))
        wall, used = statistics.median(w for w, _ in cold), statistics.median(c for _, c in cold)
        row(f"predict.py, cold, one clip (median of {chosen.repeat})", wall, used, wall)
        wall, used, lines = timed([*script, str(folder), "--workers", str(cores)])
        row(f"predict.py, folder, {cores} workers", wall, used, wall * cores / len(clips))
        summary = [
            f"a clip in the folder: {used / len(clips):.2f} CPU s, {used / max(decoding_cpu, 1e-9):.2f} x decoding "
            "every frame (start of the workers included)"
        ]
        if not chosen.no_published:
            wall, used, _ = timed(
                [sys.executable, __file__, "--as", "published", "--clips", str(folder), "--max-videos", str(len(clips))]
            )
            row("published way, one process", wall, used, wall / len(clips))
            summary.append(f"published way: {wall / len(clips):.1f} s a clip")
    text = (
        "\n".join([*head, *rows, "", *summary, "", "verdicts:", lines.rstrip().replace(str(folder) + os.sep, "")])
        + "\n"
    )
    print("\n".join(["", *summary]))
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(text)
    print(f"written: {chosen.out}")


if __name__ == "__main__":
    main()
