"""Clips made on the spot for tests: real encoders (PyAV), any GOP, rotation, colour format; a face that is free (NASA's
astronaut).

from tests.clips import Clip, write_video, portrait, moving_face
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest


def write_video(
    path: Path,
    frames: Iterable[np.ndarray],
    *,
    fps=30,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    gop: int = 250,
    rotation: int | None = None,
    times: list[int] | None = None,
    sound: bool = False,
    container_options: dict | None = None,
    setup=None,
    **options,
) -> Path:
    """Encodes BGR frames.

    Args:
        fps: int or Fraction.
        gop: most frames from one key frame to the next.
        rotation: degrees that go into the display matrix (a phone held upright).
        times: presentation times in 1/1000 s, for variable frame rates.
        setup: called with the stream before the first frame.
        options: of the encoder, e.g. bf="3", crf="23"; `-` of a name as `_`.
    """
    import av

    fps = Fraction(fps).limit_denominator(100000)
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = None
        audio = container.add_stream("aac", rate=44100) if sound else None
        for number, image in enumerate(frames):
            if stream is None:
                stream = container.add_stream(
                    codec, rate=fps, options={k.replace("_", "-"): str(v) for k, v in options.items()}
                )
                stream.height, stream.width = image.shape[:2]
                stream.pix_fmt = pixel_format
                stream.codec_context.gop_size = gop
                if times is not None:
                    stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
                if rotation is not None:
                    stream.set_display_rotation(rotation)
                if setup is not None:
                    setup(stream)
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            if times is not None:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            else:
                frame.pts, frame.time_base = number, 1 / fps
            container.mux(stream.encode(frame))
        if stream is not None:
            container.mux(stream.encode())
        if audio is not None:
            sound_frame = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), format="fltp", layout="mono")
            sound_frame.sample_rate = 44100
            container.mux(audio.encode(sound_frame))
            container.mux(audio.encode())
    return path


def pattern(count: int, width: int = 320, height: int = 240, seed: int = 0) -> Iterator[np.ndarray]:
    """Moving texture: every frame differs, and motion gives the encoder something to predict."""
    generator = np.random.default_rng(seed)
    texture = cv2.GaussianBlur(generator.integers(0, 255, (height * 2, width * 2, 3), dtype=np.uint8), (0, 0), 3)
    texture = cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX)
    for i in range(count):
        x, y = (3 * i) % width, (2 * i) % height
        image = texture[y : y + height, x : x + width].copy()
        cv2.putText(image, str(i), (10, height // 2), cv2.FONT_HERSHEY_SIMPLEX, 1.5, (255, 255, 255), 3)
        yield image


def portrait(second: bool = False) -> np.ndarray:
    """A face and shoulders, uint8 (256, 256, 3) BGR: Eileen Collins (NASA, public domain), or with `second`
    another-looking person made of her picture (mirrored, other hair, skin and background colours)."""
    data = pytest.importorskip(
        "skimage.data", reason="needs scikit-image, whose wheel holds a face picture that is free"
    )
    image = cv2.cvtColor(data.astronaut()[0:256, 90:346], cv2.COLOR_RGB2BGR)
    if second:
        hsv = cv2.cvtColor(image[:, ::-1], cv2.COLOR_BGR2HSV).astype(np.int32)
        hsv[..., 0] = (hsv[..., 0] + 150) % 180
        hsv[..., 2] = np.clip(hsv[..., 2] * 0.6 + 10, 0, 255)
        image = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2BGR)
    return image


def scene(
    places: list[tuple[float, float]],
    side: int = 140,
    width: int = 640,
    height: int = 360,
    people: list[bool] | None = None,
) -> np.ndarray:
    """One frame: a portrait (square of `side` px) centred at each place on a plain wall. `people[i]`: the second
    person."""
    image = np.full((height, width, 3), (150, 160, 165), np.uint8)
    for i, (x, y) in enumerate(places):
        person = cv2.resize(
            portrait(bool(people[i]) if people else bool(i)), (side, side), interpolation=cv2.INTER_AREA
        )
        x0, y0 = int(x - side / 2), int(y - side / 2)
        sx, sy = max(0, -x0), max(0, -y0)
        part = person[sy : height - y0, sx : width - x0]
        image[y0 + sy : y0 + sy + part.shape[0], x0 + sx : x0 + sx + part.shape[1]] = part
    return image


def moving_face(
    count: int, width: int = 640, height: int = 360, side: int = 160, absent: Iterable[int] = ()
) -> Iterator[np.ndarray]:
    """One person who drifts to the right; not there in the frames of `absent`."""
    gone = set(absent)
    for i in range(count):
        place = (width * 0.3 + width * 0.4 * i / max(1, count), height * 0.5)
        yield scene([] if i in gone else [place], side, width, height)


def truncated(source: Path, target: Path, part: float) -> Path:
    """The first part of a file (make the source with container_options={"movflags": "faststart"} to keep its index)."""
    data = source.read_bytes()
    target.write_bytes(data[: int(len(data) * part)])
    return target


def dfdc_folder(folder: Path, clips: dict[str, Path], fakes: dict[str, str]) -> Path:
    """A folder in the DFDC layout.

    Args:
        clips: file name -> file to put there.
        fakes: file name -> its original's file name; all others are REAL.
    """
    folder.mkdir(parents=True, exist_ok=True)
    labels = {}
    for name, source in clips.items():
        (folder / name).write_bytes(source.read_bytes())
        labels[name] = (
            {"label": "FAKE", "split": "train", "original": fakes[name]}
            if name in fakes
            else {"label": "REAL", "split": "train", "original": None}
        )
    (folder / "metadata.json").write_text(json.dumps(labels))
    return folder


def faces_of_video(path: Path, detector, **settings) -> tuple:
    """(reader, [faces of each frame]) of the fused path; `detector` may be a name."""
    from deepfake_detection.faces import detectors, extract

    made = detectors.create(detector) if isinstance(detector, str) else detector
    reader, frames = extract.iter_faces_of_video(path, detector=made, **settings)
    return reader, list(frames)
