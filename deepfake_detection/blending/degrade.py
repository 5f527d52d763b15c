"""What happens to a whole picture on its way to a viewer, done alike to several pictures.

    change = Degradation.drawn(rng)
    untouched, altered = change(untouched), change(altered)

A detector that knows fakes to be softer than untouched videos calls every soft video a fake. So each fake stands beside
its own untouched base and both go through the same loss of size, the same smoothing and the same codec: what is done to
a picture as a whole says nothing any more (both versions of a picture, as in Shiohara & Yamasaki, CVPR 2022).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import cv2
import numpy as np

#: How often each step happens, in `usual` and in `hard`.
CHANCES = {
    "usual": dict(light=0.5, small=0.35, soften=0.2, sharpen=0.12, noise=0.1, codec=0.6, again=0.1, hide=0.08),
    "hard": dict(light=0.7, small=0.9, soften=0.6, sharpen=0.1, noise=0.3, codec=1.0, again=0.5, hide=0.1),
}
SMALLEST, SMALLEST_HARD = 0.5, 0.3
ENLARGING = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)
CODECS = {"jpeg": 0.45, "webp": 0.15, "x264": 0.15, "mpeg4": 0.25}
#: A clip that ends in the picture: frames, how far all of it moves from one to the next (part of the side), how far its
#: parts move against each other, and the noise of its camera (levels).
CLIP_FRAMES, CLIP_MOVES, CLIP_BENDS, CLIP_NOISE = 8, 0.008, 0.004, 1.5
CLIP_RATES, CLIP_PRESETS = (24, 39), ("ultrafast", "veryfast", "medium")


@dataclass(frozen=True)
class Degradation:
    """One draw of every step; calling it changes uint8 RGB pictures (S, S, 3) and returns them in the same size."""

    light: dict | None = None
    part: float = 1.0
    enlarge: int = cv2.INTER_LINEAR
    soften: tuple | None = None
    sharpen: float = 0.0
    noise: float = 0.0
    codecs: tuple = ()
    hide: tuple | None = None
    clip: tuple[str, int] | None = None
    seed: int = field(default=0)

    @classmethod
    def drawn(cls, rng: np.random.Generator, strength: str = "usual", clips: float = 0.0) -> Degradation:
        """A random one; `strength` is a key of CHANCES, `clips` how often pictures are in addition the last of a moving
        clip at a low rate (`clip_coded`)."""
        happens = {name: rng.random() < chance for name, chance in CHANCES[strength].items()}
        hard = strength == "hard"
        return cls(
            light=_light(rng) if happens["light"] else None,
            part=float(rng.uniform(SMALLEST_HARD if hard else SMALLEST, 0.65 if hard else 0.95))
            if happens["small"]
            else 1.0,
            enlarge=int(rng.choice(ENLARGING)),
            soften=_softening(rng) if happens["soften"] else None,
            sharpen=float(rng.uniform(0.3, 1.3)) if happens["sharpen"] else 0.0,
            noise=float(rng.uniform(1, 6)) if happens["noise"] else 0.0,
            codecs=tuple(_codec(rng, hard) for _ in range(happens["codec"] + (happens["codec"] and happens["again"]))),
            hide=tuple(rng.uniform(0, 1, 2)) + tuple(rng.uniform(0.12, 0.4, 2)) + tuple(rng.uniform(0, 255, 3))
            if happens["hide"]
            else None,
            seed=int(rng.integers(2**31)),
            # Drawn last, and only where it is asked for: without it the other draws are those of detector 2.0.
            clip=(str(rng.choice(CLIP_PRESETS)), int(rng.integers(*CLIP_RATES)))
            if clips and rng.random() < clips
            else None,
        )

    def __call__(self, image: np.ndarray) -> np.ndarray:
        side = image.shape[0]
        x = _lit(image, self.light) if self.light else image
        small = max(24, round(side * self.part))
        if small < side:
            x = cv2.resize(x, (small, small), interpolation=cv2.INTER_AREA)
        if self.soften:
            x = _softened(x, *self.soften)
        if self.sharpen:
            x = cv2.addWeighted(x, 1 + self.sharpen, cv2.GaussianBlur(x, (0, 0), 1.0), -self.sharpen, 0)
        if self.noise:
            drawn = np.random.default_rng(self.seed).normal(0, self.noise, x.shape)
            x = np.clip(x + drawn, 0, 255).astype(np.uint8)
        for number, (name, quality) in enumerate(self.codecs):
            x = coded(x, name, quality)
            if number == 0 and small < side:  # the second generation sees the enlarged picture
                x = cv2.resize(x, (side, side), interpolation=self.enlarge)
        if self.clip:
            x = clip_coded(x, *self.clip, np.random.default_rng(self.seed))
        if x.shape[0] != side:
            x = cv2.resize(x, (side, side), interpolation=self.enlarge)
        if self.hide:
            cx, cy, w, h, *colour = self.hide
            x0, x1, y0, y1 = (round(max(0.0, v) * side) for v in (cx - w / 2, cx + w / 2, cy - h / 2, cy + h / 2))
            x = x.copy()
            x[y0:y1, x0:x1] = colour
        return x


def _light(rng) -> dict:
    dark = rng.random() < 0.2
    return {
        "gain": float(rng.uniform(0.3, 0.7) if dark else rng.uniform(0.75, 1.25)),
        "contrast": float(rng.uniform(0.75, 1.25)),
        "gamma": float(rng.uniform(0.75, 1.35)),
        "saturation": float(0.0 if rng.random() < 0.04 else rng.uniform(0.6, 1.35)),
        "tint": rng.uniform(-9, 9, 3).astype(np.float32),
    }


def _lit(image, light: dict) -> np.ndarray:
    x = image.astype(np.float32)
    mean = x.mean()
    x = (x - mean) * light["contrast"] + mean * light["gain"] + light["tint"]
    grey = x @ np.float32([0.299, 0.587, 0.114])
    x = np.clip(grey[..., None] + (x - grey[..., None]) * np.float32(light["saturation"]), 0, 255)
    return (255 * (x / 255) ** np.float32(light["gamma"])).astype(np.uint8)


def _softening(rng) -> tuple:
    kind = str(rng.choice(["gauss", "median", "beauty", "motion"], p=[0.5, 0.15, 0.25, 0.1]))
    return kind, float(rng.uniform(0.3, 1.1)), float(rng.uniform(0, np.pi))


def _softened(x, kind: str, amount: float, angle: float) -> np.ndarray:
    if kind == "gauss":
        return cv2.GaussianBlur(x, (0, 0), amount)
    if kind == "median":
        return cv2.medianBlur(x, 3)
    if kind == "beauty":  # smooths skin and keeps edges, as filters of cameras and calls do
        return cv2.bilateralFilter(x, 7, 20 + 25 * amount, 3)
    kernel = np.zeros((5, 5), np.float32)
    cv2.line(kernel, *[tuple(int(round(2 + s * 2 * f)) for f in (np.cos(angle), np.sin(angle))) for s in (-1, 1)], 1.0)
    return cv2.filter2D(x, -1, kernel / kernel.sum())


def _codec(rng, hard: bool) -> tuple[str, int]:
    name = str(rng.choice(list(CODECS), p=list(CODECS.values())))
    low, high = {"jpeg": (40, 95), "webp": (25, 90), "x264": (18, 32), "mpeg4": (2, 8)}[name]
    if hard:
        low, high = {"jpeg": (20, 60), "webp": (5, 40), "x264": (26, 38), "mpeg4": (4, 14)}[name]
    return name, int(rng.integers(low, high))


def coded(image: np.ndarray, name: str, quality: int) -> np.ndarray:
    """A picture (uint8 RGB) after one generation of a codec.

    Args:
        name: a key of CODECS.
        quality: of jpeg and webp 1 (worst) to 100; the rate factor of x264 (more is worse); the quantiser of mpeg4.
    """
    if name in ("jpeg", "webp"):
        flag = cv2.IMWRITE_JPEG_QUALITY if name == "jpeg" else cv2.IMWRITE_WEBP_QUALITY
        return cv2.imdecode(cv2.imencode(f".{name}", image[..., ::-1], [flag, quality])[1], cv2.IMREAD_COLOR)[..., ::-1]
    return _video_coded(image, name, quality)


def clip_coded(image: np.ndarray, preset: str, rate: int, rng: np.random.Generator) -> np.ndarray:
    """A picture (uint8 RGB) as the last frame of a clip that x264 has coded at a low rate.

    A coder keeps what moved as it was and smooths what it cannot afford, block by block: a face is then soft where its
    surroundings are sharp, as a blended one is. A single picture does not show that.

    Args:
        preset, rate: of x264: its preset and rate factor.
        rng: of the way in which the clip moves; the same for both of a pair.
    """
    side = image.shape[0] // 2 * 2
    image = np.ascontiguousarray(image[:side, :side])
    speed = rng.normal(0, CLIP_MOVES * side / 2, 2)
    bends = [cv2.resize(b, (side, side)) for b in rng.normal(0, CLIP_BENDS * side, (2, 5, 5)).astype(np.float32)]
    x, y = np.meshgrid(np.arange(side, dtype=np.float32), np.arange(side, dtype=np.float32))
    frames = []
    for before in range(CLIP_FRAMES - 1, -1, -1):
        moved = image
        if before:
            where = (x + np.float32(speed[0] * before) + bends[0] * before / 2).astype(np.float32)
            there = (y + np.float32(speed[1] * before) + bends[1] * before / 2).astype(np.float32)
            moved = cv2.remap(image, where, there, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        grain = rng.normal(0, CLIP_NOISE, (side, side, 1)).astype(np.float32)
        frames.append(np.clip(moved + grain, 0, 255).astype(np.uint8))
    # Without looking ahead: what x264 then decides is not the same every time.
    options = {"crf": str(rate), "preset": preset, "tune": "zerolatency"}
    return _through("libx264", options, "h264", frames)


def _video_coded(image: np.ndarray, name: str, quality: int) -> np.ndarray:
    """The second of two frames, predicted as most are: from the first, which is the picture moved by a pixel."""
    side = image.shape[0] // 2 * 2
    image = np.ascontiguousarray(image[:side, :side])
    frames = [np.roll(image, (1, 1), (0, 1)), image]
    if name == "x264":
        options = {"crf": str(quality), "preset": "veryfast", "tune": "zerolatency", "bf": "0"}
        result = _through("libx264", options, "h264", frames)
    else:
        result = _through("mpeg4", {"qmin": str(quality), "qmax": str(quality)}, "mpeg4", frames)
    return result if result.shape[0] == side else image


def _through(encoder_name: str, options: dict, decoder_name: str, pictures: list[np.ndarray]) -> np.ndarray:
    """The last of some pictures (uint8 RGB, even sides) after a coder and its decoder."""
    import av

    encoder = av.CodecContext.create(encoder_name, "w")
    encoder.width, encoder.height = pictures[0].shape[1::-1]
    encoder.pix_fmt, encoder.time_base, encoder.framerate = "yuv420p", Fraction(1, 25), 25
    encoder.thread_count, encoder.options = 1, options
    decoder = av.CodecContext.create(decoder_name, "r")
    decoder.thread_count = 1
    frames = []
    for number, picture in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
        frame.pts = number
        for packet in encoder.encode(frame):
            frames += decoder.decode(packet)
    for packet in encoder.encode(None):
        frames += decoder.decode(packet)
    frames += decoder.decode(None)
    return frames[-1].to_ndarray(format="rgb24")
