"""The file itself: what is stated of it beside the verdict, and how far it is from what the detector was checked on."""

from __future__ import annotations

from pathlib import Path


def facts(path: Path, info) -> dict:
    """Plain values of a video file.

    Args:
        info: `video.probe.VideoInfo`.

    Returns:
        width, height (px, as shown), codec, fps, duration_s, bytes, bitrate (bit/s of the whole file, sound included) and
        bits_per_pixel (bitrate over the pixels shown in a second); the last two None where the length is unknown.
    """
    size = path.stat().st_size
    bitrate = 8 * size / info.duration_s if info.duration_s > 0 else None
    pixels = info.width * info.height * info.fps
    return {"width": int(info.width), "height": int(info.height), "codec": info.codec, "fps": round(float(info.fps), 3),
            "duration_s": round(float(info.duration_s), 3), "bytes": size, "bitrate": None if bitrate is None else round(bitrate),
            "bits_per_pixel": None if bitrate is None or not pixels else round(bitrate / pixels, 5)}
