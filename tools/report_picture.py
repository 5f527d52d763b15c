"""Makes docs/images/report.png, the README's picture: the reports of an untouched clip of the sample called REAL and of
its fake called FAKE.

    python tools/report_picture.py                     # the pair of the sample that is told apart most clearly
    python tools/report_picture.py --fake two-friends_brunette_swap-redhead.mp4

Run it again when the detector's weights change. Needs Chromium (CHROMIUM names another command) beside the ordinary
install.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))

#: Size of each report's picture, px.
WIDTH, HEIGHT = 620, 1080


def pair(detector, sample: Path, fake: str | None):
    """(prediction of the original, of its fake) of the pair that is told apart best; the verdicts must be REAL and
    FAKE."""
    from tqdm import tqdm

    labels = json.loads((sample / "metadata.json").read_text())
    fakes = (
        [fake]
        if fake
        else [name for name, entry in labels.items() if entry["label"] == "FAKE" and entry.get("original")]
    )
    originals: dict = {}
    best = None
    for name in tqdm(fakes, unit="fake", disable=None):
        original = labels[name]["original"]
        if original not in originals:
            originals[original] = detector.predict(sample / original)
        before = originals[original]
        if before.verdict != "REAL":
            continue
        after = detector.predict(sample / name)
        if after.verdict == "FAKE" and (best is None or after.p_fake - before.p_fake > best[1].p_fake - best[0].p_fake):
            best = before, after
    return best


def screenshot(page: Path, picture: Path) -> None:
    command = os.environ.get("CHROMIUM") or next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if command is None:
        raise SystemExit("error: no Chromium here (hint: apt-get install chromium, or set CHROMIUM)")
    subprocess.run(
        [
            command,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--window-size={WIDTH},{HEIGHT}",
            f"--screenshot={picture}",
            page.as_uri(),
        ],
        check=True,
        timeout=180,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def main() -> None:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    p.add_argument("--fake", metavar="FILE", help="a fake of the sample (default: the clearest)")
    p.add_argument(
        "--out",
        type=Path,
        default=PROJECT / "docs" / "images" / "report.png",
        metavar="FILE",
        help="(default: %(default)s)",
    )
    chosen = p.parse_args()
    import cv2
    import numpy as np

    from deepfake_detection import Detector, cpus
    from deepfake_detection.detector.explain import write_report
    from deepfake_detection.files import atomic_path

    detector = Detector(threads=cpus.count())
    found = pair(detector, PROJECT / "train_sample_videos", chosen.fake)
    if found is None:
        raise SystemExit(
            "error: no original that is called REAL while its fake is called FAKE (hint: another --fake, or better "
            "weights)"
        )
    with tempfile.TemporaryDirectory() as folder:
        pictures = []
        for prediction in found:
            page = Path(folder) / f"{Path(prediction.video).stem}.html"
            write_report(prediction, detector, page, name=prediction.video)
            screenshot(page, page.with_suffix(".png"))
            pictures.append(cv2.imread(str(page.with_suffix(".png"))))
    with atomic_path(chosen.out) as partial:
        cv2.imwrite(str(partial), np.hstack(pictures))
    print(f"{chosen.out}: " + ", ".join(f"{Path(p.video).name} {p.verdict} {p.p_fake:.2f}" for p in found))


if __name__ == "__main__":
    main()
