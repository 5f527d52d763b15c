"""What preprocessing costs: decoding alone, the published way, ours by stages, ours fused; side by side in one run.

    python benchmarks/preprocess.py --clips ../shared/data/dfdc   (without --clips: four generated long-GOP 1080p clips)

Every way runs in fresh processes, once with one and once with two; what is loaded once (libraries, networks) is loaded
before the clock starts, except where the published way loads it again and again. CPU seconds are those of the processes
(all their threads). Writes benchmarks/results/preprocess.txt.
"""

from __future__ import annotations

import argparse
import datetime
import math
import multiprocessing
import os
import platform
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from deepfake_detection import cpus

CLIP_COUNTS = (400, 119_000)


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


# -- the ways: each makes a function of one clip -----------------------------------------------------------------------
def decode_only(work):
    """OpenCV grabs every frame: the yardstick."""
    import cv2

    def run(clip):
        capture = cv2.VideoCapture(str(clip), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        count = 0
        while capture.grab():
            count += 1
        return {"frames": count}

    return run


def our_frames(work):
    """Our decoding alone: the wanted frames, resized."""
    from deepfake_detection.video.decode import FrameReader
    from deepfake_detection.video.sampling import parse

    return lambda clip: {"frames": sum(1 for _ in FrameReader(clip, parse("per-second")))}


def published(work, predict=False):
    """The published stages: read() every frame, PNG, then for each PNG a new MTCNN; with `predict` a network call a
    crop."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import cv2
    import numpy as np
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    import keras
    from mtcnn import MTCNN

    network = keras.applications.EfficientNetB0(weights=None, input_shape=(128, 128, 3), classes=2) if predict else None

    def run(clip):
        folder = Path(tempfile.mkdtemp(dir=work))
        capture = cv2.VideoCapture(str(clip))
        rate, faces, names = capture.get(cv2.CAP_PROP_FPS), 0, []
        while capture.isOpened():
            index = capture.get(cv2.CAP_PROP_POS_FRAMES)
            ok, frame = capture.read()
            if not ok:
                break
            if index % math.floor(rate) == 0:
                scale = (
                    2
                    if frame.shape[1] < 300
                    else 0.33
                    if frame.shape[1] > 1900
                    else 0.5
                    if frame.shape[1] > 1000
                    else 1
                )
                size = int(frame.shape[1] * scale), int(frame.shape[0] * scale)
                names.append(folder / f"{len(names):03d}.png")
                cv2.imwrite(str(names[-1]), cv2.resize(frame, size, interpolation=cv2.INTER_AREA))
        for name in names:
            image = cv2.cvtColor(cv2.imread(str(name)), cv2.COLOR_BGR2RGB)
            found = MTCNN().detect_faces(image)
            for face in found:
                if len(found) > 1 and face["confidence"] <= 0.95:
                    continue
                x, y, w, h = face["box"]
                crop = image[max(0, int(y - 0.3 * h)) : int(y + 1.3 * h), max(0, int(x - 0.3 * w)) : int(x + 1.3 * w)]
                cv2.imwrite(str(folder / f"face{faces}.png"), cv2.cvtColor(crop, cv2.COLOR_RGB2BGR))
                if network is not None:
                    network.predict(cv2.resize(crop, (128, 128))[np.newaxis] / 255, verbose=0)
                faces += 1
        return {"frames": len(names), "faces": faces}

    return run


def published_predict(work):
    return published(work, predict=True)


def _staged(work, detector):
    from deepfake_detection.faces import crop_stage
    from deepfake_detection.video import frames
    from deepfake_detection.video.sampling import parse

    settings = crop_stage.FaceSettings(detector)
    lazy = crop_stage._Lazy(settings)
    _ = lazy.detector  # loaded before the clock starts

    def run(clip):
        folder = Path(tempfile.mkdtemp(dir=work)) / "clip"
        made = frames._convert_one(frames._Task("clip", Path(clip), folder, parse("per-second"), "published", False))
        found = crop_stage._crop_one(lazy, crop_stage._Task("clip", folder, None, None, "published", False))
        return {"frames": made["frames"], "faces": found["faces"]}

    return run


def staged_reference(work):
    """Stages 00 and 01a with the mtcnn package, batched."""
    return _staged(work, "mtcnn")


def staged(work):
    """Stages 00 and 01a with mtcnn_fast."""
    return _staged(work, "mtcnn_fast")


def _fused(detector_name, rule="per-second", count=32):
    from deepfake_detection.faces import detectors, extract
    from deepfake_detection.video.sampling import parse

    detector = detectors.create(detector_name)

    def run(clip):
        reader, frames = extract.iter_faces_of_video(clip, sampling=parse(rule, count), detector=detector)
        faces = sum(len(f.faces) for f in frames)
        return {"frames": reader.yielded, "faces": faces}

    return run


def fused(work):
    """Video to crops in memory, mtcnn_fast, one frame a second."""
    return _fused("mtcnn_fast")


def fused_32(work):
    """The same with 32 frames spread evenly (prediction's default)."""
    return _fused("mtcnn_fast", "even")


def fused_yunet(work):
    """Video to crops in memory, YuNet."""
    return _fused("yunet")


def triage(work):
    """Key frames only, YuNet."""
    return _fused("yunet", "keyframes")


WAYS = {
    "decode only (OpenCV grab)": decode_only,
    "decode only (ours)": our_frames,
    "published: PNG, MTCNN a frame": published,
    "published, and predict a crop": published_predict,
    "stages 00+01a, mtcnn package": staged_reference,
    "stages 00+01a, mtcnn_fast": staged,
    "fused, mtcnn_fast": fused,
    "fused, mtcnn_fast, 32 frames": fused_32,
    "fused, yunet": fused_yunet,
    "triage: key frames, yunet": triage,
}


# -- measuring ---------------------------------------------------------------------------------------------------------
def _serve(name, clips, work, barrier, queue):
    import cv2

    cv2.setNumThreads(1)
    run = WAYS[name](work)
    if not name.startswith("published"):  # caches of the file system, and what is loaded at first use
        run(clips[0])
    barrier.wait()
    cpu, wall, counts = cpu_seconds(), time.perf_counter(), {"frames": 0, "faces": 0}
    for clip in clips:
        for key, value in run(clip).items():
            counts[key] += value
    queue.put(
        (
            cpu_seconds() - cpu,
            time.perf_counter() - wall,
            counts,
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        )
    )


def measure(name, clips, processes, work):
    """(CPU seconds a clip, wall seconds a clip, counts, GiB of the largest process)."""
    context = multiprocessing.get_context("spawn")
    barrier, queue = context.Barrier(processes), context.Queue()
    shares = [clips[i::processes] for i in range(processes)]
    workers = [context.Process(target=_serve, args=(name, share, work, barrier, queue)) for share in shares]
    for name_, value in (("OMP_NUM_THREADS", "1"), ("OPENBLAS_NUM_THREADS", "1")):
        os.environ[name_] = value
    for worker in workers:
        worker.start()
    results = [queue.get(timeout=1800) for _ in workers]
    for worker in workers:
        worker.join()
    counts = {k: sum(r[2][k] for r in results) for k in ("frames", "faces")}
    return (
        sum(r[0] for r in results) / len(clips),
        max(r[1] for r in results) / len(clips),
        counts,
        max(r[3] for r in results),
    )


def profile(clips) -> str:
    """Where the fused path's CPU seconds go, a clip."""
    import cv2

    from deepfake_detection.faces import detectors, extract
    from deepfake_detection.faces.detectors import pyramid
    from deepfake_detection.video.decode import FrameReader
    from deepfake_detection.video.sampling import parse

    cv2.setNumThreads(1)
    detector = detectors.create("mtcnn_fast")
    spent = dict.fromkeys(("decode, convert, resize", "pyramid and PNet", "RNet", "ONet", "crops, people"), 0.0)
    for clip in clips:
        start = time.process_time()
        frames = list(FrameReader(clip, parse("per-second")))
        spent["decode, convert, resize"] += time.process_time() - start
        for chunk in extract._chunks(frames):
            images = [f.image.astype("float32") for f in chunk]
            height, width = images[0].shape[:2]
            start = time.process_time()
            boxes = detector._propose(images, pyramid.scales(width, height, 20))
            spent["pyramid and PNet"] += time.process_time() - start
            start = time.process_time()
            boxes = detector._refine(images, boxes)
            spent["RNet"] += time.process_time() - start
            start = time.process_time()
            detector._finish(images, boxes)
            spent["ONet"] += time.process_time() - start
            found = detector.detect([f.image for f in chunk])

            class Known:
                name, confidence = "known", 0.95
                detect = staticmethod(lambda frames, smallest=None, found=found: found)

            start = time.process_time()
            list(extract.faces_of_frames(chunk, Known()))
            spent["crops, people"] += time.process_time() - start
    total = sum(spent.values())
    return "\n".join(f"  {name:<26} {value / len(clips):6.3f} s  {value / total:4.0%}" for name, value in spent.items())


def generated(folder) -> list[Path]:
    """Four 10 s 1080p clips with GOPs of 250, as phones and DFDC make them."""
    from fractions import Fraction

    from tests.clips import moving_face, write_video

    first = write_video(
        folder / "long_gop_0.mp4",
        moving_face(300, 1920, 1080, 400),
        fps=Fraction(30000, 1001),
        bf=3,
        gop=250,
        preset="veryfast",
    )
    copies = [folder / f"long_gop_{i}.mp4" for i in range(1, 4)]
    for copy in copies:
        shutil.copyfile(first, copy)
    return [first, *copies]


def span(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def measure_ways(clips: list, options, work: str, say) -> dict:
    """Way -> what `measure` gives for one process and for two; says a line each."""
    measured = {}
    for name in WAYS:
        slow = name.startswith("published")
        if slow and options.skip_published:
            continue
        mine = clips[: max(2, options.published_clips)] if slow else clips
        one = measure(name, mine, 1, work)
        # The variant with a network call differs by one process' worth of calls only; two of it would cost minutes
        # for nothing.
        two = None if name.endswith("predict a crop") else measure(name, mine, 2, work)
        measured[name] = one, two
        both = f"{two[1]:8.2f} {one[1] / two[1]:8.2f}x" if two else f"{'-':>8} {'-':>9}"
        say(
            f"{name:<32} {one[0]:8.2f} {one[1]:8.2f} {both} {max(one[3], two[3] if two else 0):5.2f} "
            f"{one[2]['frames'] / len(mine):7.1f} {one[2]['faces'] / len(mine):6.1f}"
        )
    return measured


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    p.add_argument("--clips", type=Path, metavar="DIR", help="folder of .mp4 clips (default: generated ones)")
    p.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/preprocess.txt", metavar="FILE")
    p.add_argument("--skip-published", action="store_true", help="leave out the published way, which takes minutes")
    p.add_argument(
        "--published-clips", type=int, default=2, metavar="N", help="clips for the published way (default: %(default)s)"
    )
    options = p.parse_args()
    lines = []

    def say(text=""):
        print(text, flush=True)
        lines.append(text)

    with tempfile.TemporaryDirectory() as work:
        clips = sorted(options.clips.glob("*.mp4")) if options.clips else generated(Path(work))
        if not clips:
            p.error(f"no .mp4 in {options.clips}")
        if len(clips) % 2:
            clips = clips + clips[:1]
        say(f"preprocessing, {datetime.date.today()}, {len(clips)} clips of {options.clips or 'tests/clips.py'}")
        say(
            f"{cpus.count()} cores ({platform.machine()}), Python {platform.python_version()}, "
            f"load average at the start {os.getloadavg()[0]:.1f}: above 0.5 the wall times are too long"
        )
        say()
        say(
            f"{'a clip':<32} {'CPU s':>8} {'wall s':>8} {'2 procs':>8} {'speed-up':>9} {'GiB':>5} {'frames':>7} "
            f"{'faces':>6}"
        )
        measured = measure_ways(clips, options, work, say)
        say()
        say("CPU seconds of the fused path, a clip")
        say(profile(clips))
        say()
        yard, ours = measured["decode only (OpenCV grab)"][0], measured["fused, mtcnn_fast"]
        say(f"fused / decode only, CPU          {ours[0][0] / yard[0]:.2f}   (target: at most 1.25)")
        if "published: PNG, MTCNN a frame" in measured:
            say(
                "published / fused, wall           "
                f"{measured['published: PNG, MTCNN a frame'][0][1] / ours[0][1]:.1f}   (target: at least 5)"
            )
        say(f"two processes / one, fused        {ours[0][1] / ours[1][1]:.2f}   (target: at least 1.8)")
        say()
        say(f"{'projected, two processes':<32} " + " ".join(f"{f'{n:,} clips':>14}" for n in CLIP_COUNTS))
        for name, (_, two) in measured.items():
            if two:
                say(f"{name:<32} " + " ".join(f"{span(two[1] * n):>14}" for n in CLIP_COUNTS))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"\nwritten to {options.out}")


if __name__ == "__main__":
    main()
