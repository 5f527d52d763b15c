"""How often each attribution is confirmed by the deletion check, on the embedded sample: why `--explain auto` is what
it is.

    python benchmarks/explain.py                    # occlusion, Grad-CAM, LIME, smooth noise, 12 clips, two faces each
    python benchmarks/explain.py --clips 4 --methods occlusion noise

A map is confirmed when blurring the fifth of the face that it marks moves the score by LEAST_CHANGE or more and further
than the same shape in each of eight other places (`detector.maps.check`). Noise shows what chance gives. Writes
benchmarks/results/explain.txt.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))


def parse():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    p.add_argument(
        "--data",
        type=Path,
        default=PROJECT / "train_sample_videos",
        metavar="DIR",
        help="folder of videos (default: the sample)",
    )
    p.add_argument("--clips", type=int, default=12, metavar="N", help="evenly chosen (default: %(default)s)")
    p.add_argument(
        "--methods",
        nargs="+",
        default=["occlusion", "gradcam", "lime", "noise"],
        metavar="NAME",
        help="(default: %(default)s)",
    )
    p.add_argument(
        "--out",
        type=Path,
        default=PROJECT / "benchmarks" / "results" / "explain.txt",
        metavar="FILE",
        help="(default: %(default)s)",
    )
    return p.parse_args()


def main() -> None:
    chosen = parse()
    import cv2
    import numpy as np
    from tqdm import tqdm

    from deepfake_detection import Detector
    from deepfake_detection.detector import maps
    from deepfake_detection.faces.crops import network_input
    from deepfake_detection.prediction import inputs

    detector = Detector(frames=8)
    random = np.random.default_rng(1)

    def noise(face, score):
        values = cv2.GaussianBlur(random.normal(size=face.shape[:2]).astype(np.float32), (0, 0), face.shape[0] / 12)
        return values / np.abs(values).max()

    def score(faces):
        return detector.score(faces, trimmed=True)

    methods = {name: noise if name == "noise" else maps.explainer(name, detector)[1] for name in chosen.methods}
    videos = inputs.find_videos([chosen.data])
    videos = videos[:: max(1, len(videos) // chosen.clips)][: chosen.clips]
    found = {name: [] for name in methods}
    seconds = dict.fromkeys(methods, 0.0)
    for video in tqdm(videos, unit="video", disable=None):
        faces = detector.predict(video).faces
        for face in sorted(faces, key=lambda f: f.p_real)[:1] + sorted(faces, key=lambda f: -f.p_real)[:1]:
            square = network_input(detector.seen_part(face.crop), detector.config["input_size"])
            for name, method in methods.items():
                start = time.process_time()
                values = method(square, score)
                seconds[name] += time.process_time() - start
                found[name].append(maps.check(square, values, score))
    lines = [
        f"benchmarks/explain.py  {time.strftime('%Y-%m-%d')}  model {detector.model}, {len(videos)} clips, "
        f"{len(next(iter(found.values())))} faces",
        "",
        f"{'method':<12}{'confirmed':>10}{'change, marked':>16}{'elsewhere':>11}{'CPU s a face':>14}",
    ]
    for name, checks in found.items():
        change = [abs(c.marked - c.p_fake) for c in checks]
        elsewhere = [abs(c.elsewhere - c.p_fake) for c in checks]
        lines.append(
            f"{name:<12}{np.mean([c.confirmed for c in checks]):>10.0%}{np.mean(change):>16.3f}"
            f"{np.mean(elsewhere):>11.3f}{seconds[name] / len(checks):>14.2f}"
        )
    text = "\n".join(lines) + "\n"
    print(text)
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(text)


if __name__ == "__main__":
    main()
