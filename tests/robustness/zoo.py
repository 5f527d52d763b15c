"""The zoo: one file of every kind of bad or odd input we know, made here with PyAV in a few seconds.

    python -m tests.robustness.zoo FOLDER        makes the zoo, and prints each kind and what is expected of it

Each kind says what stage 00 must make of it: `frames` (a number, or a range where decoders differ) when it must be
decoded, or `refused` (a piece of the one line that says why) when it must not.
"""

from __future__ import annotations

import functools
import io
import json
import os
import socket
import struct
import sys
import tempfile
import wave
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

SIZE = (96, 64)

os.environ.setdefault("SVT_LOG", "0")


@dataclass(frozen=True)
class Kind:
    """One kind of input.

    Attributes:
        name: what it is; also the file's stem unless `file` says otherwise.
        make: called as make(path); writes the file. Returns a reason when this machine cannot make it.
        file: the file's name.
        frames: (least, most) frames that stage 00 keeps at one frame a second; None: it must be refused.
        refused: a piece of the line that says why.
        either: decoding it and refusing it are both right (damage: it depends on the decoder's patience).
        seen: stage 00 finds it in a folder: it is called a video, or is one by content, and it is not hidden.
    """

    name: str
    make: Callable[[Path], str | None]
    file: str
    frames: tuple[int, int] | None = None
    refused: str = ""
    either: bool = False
    seen: bool = True


KINDS: list[Kind] = []


def kind(
    name: str,
    file: str | None = None,
    *,
    frames=None,
    refused: str = "",
    either: bool = False,
    seen: bool = True,
    **fixed,
):
    """Decorator and function: adds a kind."""
    if isinstance(frames, int):
        frames = (frames, frames)

    def add(make):
        assert (frames is None) == bool(refused) or either, name
        KINDS.append(Kind(name, functools.partial(make, **fixed), file or f"{name}.mp4", frames, refused, either, seen))
        return make

    return add


# --- makers -----------------------------------------------------------------------------------------------------------
def picture(i: int, width: int, height: int) -> np.ndarray:
    """uint8 RGB: a moving gradient, so that every frame differs and no encoder may drop it."""
    x = np.arange(width, dtype=np.uint16)[None, :] * 3 + i * 11
    y = np.arange(height, dtype=np.uint16)[:, None] * 5
    return np.stack(np.broadcast_arrays(x % 256, y % 256, (x + y) % 256), axis=-1).astype(np.uint8)


def encode(
    target,
    codec: str = "libx264",
    *,
    n: int = 50,
    size=SIZE,
    pix_fmt: str = "yuv420p",
    rate=25,
    format: str | None = None,
    options: dict | None = None,
    container_options: dict | None = None,
    pts: Callable[[int], int] | None = None,
    time_base=None,
    images: Callable[[int, int, int], np.ndarray] = picture,
    sound: str | None = None,
    setup=None,
) -> str | None:
    """Writes a video. Returns a reason when the encoder is not built in."""
    try:
        av.codec.Codec(codec, "w")
    except (av.error.FFmpegError, ValueError):
        return f"this PyAV has no encoder {codec}"
    name = f"file:{target}" if isinstance(target, Path) else target
    with av.open(name, "w", format=format, options=container_options or {}) as out:
        stream = out.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        stream.codec_context.thread_count = 1  # the same bytes on every machine: some kinds cut and flip them
        if time_base:
            stream.codec_context.time_base = time_base
        if setup:
            setup(stream)
        noise = out.add_stream(sound, rate=8000) if sound else None
        for i in range(n):
            frame = av.VideoFrame.from_ndarray(images(i, *size), format="rgb24").reformat(format=pix_fmt)
            frame.pts = pts(i) if pts else i
            frame.time_base = time_base or 1 / Fraction(rate)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
        if noise:
            for i in range(4):
                a = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
                a.sample_rate, a.pts = 8000, i * 1024
                out.mux(noise.encode(a))
            out.mux(noise.encode())
    return None


@functools.cache
def clip(faststart: bool = True) -> bytes:
    """Two seconds of H.264 in MP4, its index in front (`faststart`) or at the end."""
    with tempfile.TemporaryDirectory() as folder:  # on disk: for `faststart` FFmpeg reads what it wrote
        path = Path(folder, "clip.mp4")
        encode(path, container_options={"movflags": "faststart"} if faststart else {}, options={"g": "25"})
        return path.read_bytes()


def good(path: Path) -> None:
    path.write_bytes(clip())


def bytes_of(path: Path, content) -> None:
    path.write_bytes(content() if callable(content) else content)


def atom(data: bytes, *names: str) -> int:
    """Offset of the type field of the first atom of that name, found inside the one named before."""
    at = 0
    for name in names:
        at = data.index(name.encode(), at)
    return at


# --- what a good clip looks like: these must be scored, and scored alike whatever lies beside them --------------------
for _n in (1, 2, 3):
    kind(f"good_{_n}", frames=2)(good)

# --- cut off, flipped, padded -----------------------------------------------------------------------------------------
_CUTS = (0.001, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95, 0.999)
for _share in _CUTS:
    _held = (0, 2) if _share >= 0.2 else None
    kind(f"cut_at_{_share}", either=True, frames=_held, refused="video")(
        lambda path, share=_share: bytes_of(path, clip()[: max(1, int(len(clip()) * share))])
    )
for _share in (0.1, 0.5, 0.9):
    kind(f"cut_index_last_{_share}", refused="not a readable video")(
        lambda path, share=_share: bytes_of(path, clip(False)[: int(atom(clip(False), "moov") * share)])
    )
for _share in (0.1, 0.3, 0.5, 0.7, 0.9):  # what is told of it depends on which of its tables is cut

    @kind(f"cut_inside_index_{_share}", either=True, frames=(0, 2), refused="video")
    def _(path, share=_share):
        index = atom(clip(False), "moov")
        bytes_of(path, clip(False)[: index + int((len(clip(False)) - index) * share)])


def flipped(path: Path, where: str, count: int = 12) -> None:
    data = bytearray(clip())
    start, end = {
        "header": (0, 32),
        "index": (atom(clip(), "moov"), atom(clip(), "mdat")),
        "data": (atom(clip(), "mdat") + 8, len(clip())),
        "samples": (atom(clip(), "stsz"), atom(clip(), "stsz") + 200),
    }[where]
    for at in np.random.default_rng(7).integers(start, end, count):
        data[at] ^= 0xFF
    path.write_bytes(data)


for _where in ("header", "index", "data", "samples"):
    kind(f"flipped_{_where}", either=True, frames=(0, 2), refused="video")(functools.partial(flipped, where=_where))


@kind("flipped_all_data", either=True, frames=(0, 2), refused="video")
def _(path):
    flipped(path, "data", 2000)


@kind("zeros_in_the_middle", frames=(1, 2), either=True, refused="video")
def _(path):
    data = bytearray(clip())
    middle = len(data) // 2
    data[middle : middle + 600] = bytes(600)
    path.write_bytes(data)


@kind("rubbish_after_the_end", frames=2)
def _(path):
    path.write_bytes(clip() + os.urandom(5000))


@kind("two_clips_glued", frames=2)
def _(path):
    path.write_bytes(clip() + clip())


# --- not a video ------------------------------------------------------------------------------------------------------
def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as z:
        z.writestr("clip.mp4", clip())
    return buffer.getvalue()


def _wav() -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as w:
        w.setparams((1, 2, 8000, 0, "NONE", ""))
        w.writeframes(bytes(8000))
    return buffer.getvalue()


def _still(suffix: str) -> bytes:
    import cv2

    return cv2.imencode(suffix, picture(0, *SIZE))[1].tobytes()


_NOT_VIDEOS = {
    "empty": (b"", "empty"),
    "one_byte": (b"\0", "only zeros"),
    "zeros": (bytes(70_000), "only zeros"),
    "random": (np.random.default_rng(3).bytes(50_000), "not a video"),
    "text": (b"hello, this is no video\n" * 50, "a text"),
    "web_page": (b"<!DOCTYPE html><html><body>404</body></html>", "a web page"),
    "json": (b'{"label": "REAL"}', "a text"),
    "zip": (_zip, "an archive"),
    "pdf": (b"%PDF-1.7\n%\xe2\xe3\n", "a PDF"),
    "png": (lambda: _still(".png"), "a picture"),
    "jpeg": (lambda: _still(".jpg"), "a picture"),
    "webp": (lambda: _still(".webp"), "a picture"),
    "wav": (_wav, "sound only"),
    "pickle": (b"\x80\x05\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x8c\x06system\x93", "not a video"),
    "elf": (b"\x7fELF\x02\x01\x01" + bytes(64), "not a video"),
}
for _name, (_content, _words) in _NOT_VIDEOS.items():
    kind(_name, refused=_words)(functools.partial(bytes_of, content=_content))


@kind("sound_only", refused="no video stream")
def _(path):
    with av.open(str(path), "w") as out:
        s = out.add_stream("aac", rate=8000)
        for i in range(8):
            f = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            f.sample_rate, f.pts = 8000, i * 1024
            out.mux(s.encode(f))
        out.mux(s.encode())


@kind("zero_frames", refused="video")
def _(path):
    with av.open(str(path), "w") as out:
        s = out.add_stream("libx264", rate=25)
        s.width, s.height, s.pix_fmt = *SIZE, "yuv420p"
        out.start_encoding()


@kind("animated_png", "animated_png.mp4", refused="a picture")
def _(path):
    return encode(path, "apng", format="apng", pix_fmt="rgb24", n=3)


@kind("animated_webp", refused="a picture")
def _(path):
    return encode(path, "libwebp_anim", format="webp", n=3)


# --- sizes and rates --------------------------------------------------------------------------------------------------
for _name, _frames, _o in (
    ("one_frame", 1, dict(n=1)),
    ("two_frames", 1, dict(n=2)),
    ("1x1", 2, dict(codec="ffv1", size=(1, 1), pix_fmt="yuv444p", format="matroska")),
    ("2x2", 2, dict(size=(2, 2))),
    ("odd_33x17", 2, dict(size=(33, 17), pix_fmt="yuv444p")),
    ("16x8000", 1, dict(codec="mpeg4", size=(16, 8000), n=3)),
    ("8000x16", 1, dict(codec="mpeg4", size=(8000, 16), n=3)),
    ("4k", 1, dict(size=(3840, 2160), n=2, options={"preset": "ultrafast"})),
    ("8k", 1, dict(size=(7680, 4320), n=1, options={"preset": "ultrafast"})),
    ("fps_1", 3, dict(n=3, rate=1)),
    ("fps_240", 1, dict(n=240, rate=240)),
    ("fps_23.976", 3, dict(rate=Fraction(24000, 1001))),
    ("fps_0.1", 3, dict(n=3, rate=Fraction(1, 10))),
    (
        "fps_1000_marker",
        (1, 60),
        dict(codec="libvpx", format="webm", time_base=Fraction(1, 1000), rate=1000, pts=lambda i: i * 40),
    ),
    ("variable_rate", (2, 8), dict(time_base=Fraction(1, 1000), rate=25, pts=lambda i: i * i * 3, n=40)),
    ("starts_at_ten_hours", 2, dict(format="mpegts", pts=lambda i: i + 25 * 36000)),
    ("square_pixels_not", 2, dict(setup=lambda s: setattr(s.codec_context, "sample_aspect_ratio", Fraction(4, 3)))),
):
    kind(_name, frames=_frames)(functools.partial(lambda path, codec="libx264", **o: encode(path, codec, **o), **_o))


# --- containers and codecs: each decoded ------------------------------------------------------------------------------
for _name, _file, _o in (
    ("avi_mpeg4", "avi_mpeg4.avi", dict(codec="mpeg4")),
    ("avi_mjpeg", "avi_mjpeg.avi", dict(codec="mjpeg", pix_fmt="yuvj420p")),
    ("avi_raw", "avi_raw.avi", dict(codec="rawvideo")),
    ("mov_h264", "mov_h264.mov", {}),
    ("mov_prores", "mov_prores.mov", dict(codec="prores_ks", pix_fmt="yuv422p10le")),
    ("alpha_prores_4444", "alpha_prores_4444.mov", dict(codec="prores_ks", pix_fmt="yuva444p10le")),
    ("alpha_qtrle", "alpha_qtrle.mov", dict(codec="qtrle", pix_fmt="argb")),
    ("alpha_png", "alpha_png.mov", dict(codec="png", pix_fmt="rgba")),
    ("alpha_vp9", "alpha_vp9.webm", dict(codec="libvpx-vp9", pix_fmt="yuva420p")),
    ("mkv_h264", "mkv_h264.mkv", {}),
    ("mkv_ffv1", "mkv_ffv1.mkv", dict(codec="ffv1")),
    ("webm_vp8", "webm_vp8.webm", dict(codec="libvpx")),
    ("webm_vp9", "webm_vp9.webm", dict(codec="libvpx-vp9")),
    ("webm_av1", "webm_av1.webm", dict(codec="libsvtav1", options={"preset": "12"})),
    ("mp4_av1", "mp4_av1.mp4", dict(codec="libsvtav1", options={"preset": "12"})),
    (
        "mp4_h265",
        "mp4_h265.mp4",
        dict(codec="libx265", options={"preset": "ultrafast", "x265-params": "log-level=none"}),
    ),
    ("mp4_mpeg4", "mp4_mpeg4.mp4", dict(codec="mpeg4")),
    ("mpegts_h264", "mpegts_h264.ts", dict(format="mpegts")),
    ("mpegts_mpeg2", "mpegts_mpeg2.ts", dict(codec="mpeg2video", format="mpegts")),
    ("m2ts_192", "m2ts_192.m2ts", dict(format="mpegts", container_options={"mpegts_m2ts_mode": "1"})),
    ("mpeg_ps", "mpeg_ps.mpg", dict(codec="mpeg2video", format="vob")),
    ("flv_h264", "flv_h264.flv", dict(format="flv")),
    ("flv_sorenson", "flv_sorenson.flv", dict(codec="flv", format="flv")),
    ("wmv", "wmv.wmv", dict(codec="wmv2", format="asf")),
    ("3gp_h263", "3gp_h263.3gp", dict(codec="h263", size=(176, 144), format="3gp")),
    ("mxf_mpeg2", "mxf_mpeg2.mpg", dict(codec="mpeg2video", format="mxf")),
    ("theora", "theora.ogv", dict(codec="libtheora", format="ogg")),
    ("vp8_in_ogg", "vp8_in_ogg.ogv", dict(codec="libvpx", format="ogg")),
    ("dv", "dv.mp4", dict(codec="dvvideo", size=(720, 576), format="dv", n=26)),
    ("raw_h264", "raw_h264.mp4", dict(format="h264")),
    ("raw_mpeg2", "raw_mpeg2.mpg", dict(codec="mpeg2video", format="mpeg2video")),
    (
        "raw_h265",
        "raw_h265.mp4",
        dict(codec="libx265", format="hevc", options={"preset": "ultrafast", "x265-params": "log-level=none"}),
    ),
    ("y4m", "y4m.mp4", dict(codec="rawvideo", format="yuv4mpegpipe")),
    ("ivf_vp8", "ivf_vp8.mp4", dict(codec="libvpx", format="ivf")),
    ("fragmented_mp4", "fragmented_mp4.mp4", dict(container_options={"movflags": "frag_keyframe+empty_moov"})),
    ("grey", "grey.mp4", dict(pix_fmt="gray")),
    ("yuv444", "yuv444.mp4", dict(pix_fmt="yuv444p")),
    ("yuv422_10bit", "yuv422_10bit.mp4", dict(pix_fmt="yuv422p10le")),
    ("full_range", "full_range.mp4", dict(pix_fmt="yuvj420p")),
    (
        "hdr_10bit",
        "hdr_10bit.mp4",
        dict(
            codec="libx265",
            pix_fmt="yuv420p10le",
            options={
                "preset": "ultrafast",
                "x265-params": "log-level=none:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc",
            },
        ),
    ),
    ("interlaced", "interlaced.mp4", dict(options={"flags": "+ildct+ilme", "x264-params": "tff=1"})),
    (
        "interlaced_mpeg2",
        "interlaced_mpeg2.mpg",
        dict(codec="mpeg2video", format="vob", options={"flags": "+ildct+ilme"}),
    ),
    ("b_frames_open_gop", "b_frames_open_gop.mp4", dict(options={"bf": "3", "g": "12", "x264-params": "open-gop=1"})),
    ("one_long_gop", "one_long_gop.mp4", dict(options={"g": "999"})),
    ("with_sound", "with_sound.mp4", dict(sound="aac")),
    ("upper_case_suffix", "upper_case_suffix.MP4", dict(format="mp4")),
):
    kind(_name, _file, frames=(2, 3))(
        functools.partial(lambda path, codec="libx264", **o: encode(path, codec, **o), **_o)
    )


@kind("gif_animated", "gif_animated.gif", frames=(1, 5), seen=False)
def _(path):
    return encode(path, "gif", pix_fmt="rgb8", n=10, rate=10, format="gif")


@kind("gif_still", "gif_still.gif", frames=1, seen=False)
def _(path):
    return encode(path, "gif", pix_fmt="rgb8", n=1, rate=10, format="gif")


for _name, _file in (
    ("mp4_named_avi", "mp4_named_avi.avi"),
    ("mp4_named_ts", "mp4_named_ts.ts"),
    ("mp4_named_webm", "mp4_named_webm.webm"),
):
    kind(_name, _file, frames=2)(good)
kind("mp4_without_suffix", "mp4_without_suffix", frames=2)(good)


@kind("avi_named_mp4", frames=2)
def _(path):
    return encode(path, "mpeg4", format="avi")


@kind("mkv_named_mp4", frames=2)
def _(path):
    return encode(path, format="matroska")


_MATRIX = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}
for _degrees, (_a, _b, _c, _d) in _MATRIX.items():

    @kind(f"rotated_{_degrees}", frames=2)
    def _(path, m=(_a, _b, _c, _d)):
        data = bytearray(clip())
        at = atom(clip(), "moov", "trak", "tkhd") + 4 + 40  # version 0: 40 bytes of fields before the matrix
        struct.pack_into(">9i", data, at, m[0] << 16, m[1] << 16, 0, m[2] << 16, m[3] << 16, 0, 0, 0, 1 << 30)
        path.write_bytes(data)


@kind("size_changes", "size_changes.ts", frames=(1, 4))
def _(path):
    parts = []
    for size in (SIZE, (48, 80)):
        buffer = io.BytesIO()
        encode(buffer, size=size, format="mpegts")
        parts.append(buffer.getvalue())
    path.write_bytes(b"".join(parts))


@kind("two_video_streams", "two_video_streams.mkv", frames=(1, 2))
def _(path):
    with av.open(str(path), "w") as out:
        streams = [out.add_stream("libx264", rate=25) for _ in range(2)]
        for s, (w, h) in zip(streams, (SIZE, (64, 96))):
            s.width, s.height, s.pix_fmt = w, h, "yuv420p"
        for i in range(50):
            for s in streams:
                f = av.VideoFrame.from_ndarray(picture(i, s.width, s.height), format="rgb24").reformat(format="yuv420p")
                f.pts, f.time_base = i, Fraction(1, 25)
                out.mux(s.encode(f))
        for s in streams:
            out.mux(s.encode())


@kind("encrypted", either=True, frames=(0, 2), refused="video")
def _(path):
    return encode(
        path,
        container_options={
            "encryption_scheme": "cenc-aes-ctr",
            "encryption_key": "00" * 16,
            "encryption_kid": "11" * 16,
        },
    )


# --- names ------------------------------------------------------------------------------------------------------------
for _name, _file, _seen in (
    ("name_spaces", "  two  spaces .mp4", True),
    ("name_quotes", 'it\'s "quoted" `x`.mp4', True),
    ("name_dashes", "a-000-00.mp4", True),
    ("name_emoji", "😀🎬.mp4", True),
    ("name_newline", "line\nbreak.mp4", True),
    ("name_tab", "tab\there.mp4", True),
    ("name_255_bytes", "x" * 251 + ".mp4", True),
    ("name_255_bytes_utf8", "é" * 125 + "x.mp4", True),
    ("name_leading_dash", "-rf.mp4", True),
    ("name_option", "--help.mp4", True),
    ("name_pattern", "frame%03d.mp4", True),
    ("name_percent_n", "%n%s%n.mp4", True),
    ("name_glob", "[a-z]*?.mp4", True),
    ("name_pipe", "a|b.mp4", True),
    ("name_concat", "concat:a.mp4|b.mp4", True),
    ("name_subfile", "subfile,,start,0,end,9,,:x.mp4", True),
    ("name_http", "http:x.mp4", True),
    ("name_data", "data:video,x.mp4", True),
    ("name_pipe_protocol", "pipe:0.mp4", True),
    ("name_backslash", "a\\b.mp4", True),
    ("name_formula", "=cmd|' C calc'!A0.mp4", True),
    ("name_plus", "+1-1.mp4", True),
    ("name_at", "@SUM(A1).mp4", True),
    ("name_comma", "a,b;c.mp4", True),
    ("name_html", "<img src=x onerror=alert(1)>.mp4", True),
    ("name_right_to_left", "evil\u202egpj.mp4", True),
    ("name_combining", "e\u0301te\u0301.mp4", True),
    ("name_windows_device", "CON.mp4", True),
    ("name_trailing_dot", "dot..mp4", True),
    ("name_output_folder", "faces.mp4", True),
    ("name_dollar", "$(touch pwned).mp4", True),
    ("name_hash", "a#b?c=d&e.mp4", True),
    ("name_hidden", ".hidden.mp4", False),
    ("name_macos", "._clip.mp4", False),
):
    kind(_name, _file, frames=2, seen=_seen)(good)
kind("name_not_utf8", os.fsdecode(b"caf\xe9.mp4"), refused="not UTF-8")(good)


# --- the file system --------------------------------------------------------------------------------------------------
@kind("link_loop", refused="cannot read|missing")
def _(path):
    path.symlink_to(path.name)


@kind("link_to_nothing", refused="cannot read|missing")
def _(path):
    path.symlink_to("there is no such file")


@kind("link_to_good", frames=2)
def _(path):
    target = path.with_name(".linked")
    good(target)
    path.symlink_to(target.name)


@kind("link_to_device", refused="pipe or device|missing")
def _(path):
    path.symlink_to("/dev/zero")


@kind("named_pipe", refused="pipe or device|missing", seen=False)
def _(path):
    os.mkfifo(path)


@kind("socket", refused="pipe or device|missing", seen=False)
def _(path):
    s = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(path.parent)  # the address of a socket has 108 bytes at most
    try:
        s.bind(path.name)
    finally:
        os.chdir(here)
        s.close()


@kind("folder", refused="folder", seen=False)
def _(path):
    path.mkdir()


@kind("unreadable", refused="cannot read")
def _(path):
    good(path)
    path.chmod(0)
    if os.access(path, os.R_OK):  # root, or a file system without permissions
        path.unlink()
        return "this user may read every file"


@kind("sparse_ten_gigabytes", refused="only zeros")
def _(path):
    with open(path, "wb") as f:
        f.truncate(10 << 30)


@kind("sparse_tail", frames=2)
def _(path):
    good(path)
    os.truncate(path, 3 << 30)


# --- hostile: lists that name other files or addresses; see test_hostile.py for the proof that nothing is touched -----
def dash(address: str) -> str:
    """A DASH manifest that asks for `address`."""
    return (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" '
        'profiles="urn:mpeg:dash:profile:isoff-on-demand:2011" '
        'type="static" mediaPresentationDuration="PT2S"><Period><AdaptationSet><Representation id="1" '
        'bandwidth="1" '
        'mimeType="video/mp4" codecs="avc1" width="96" '
        f'height="64"><BaseURL>{address}</BaseURL></Representation></AdaptationSet>'
        "</Period></MPD>"
    )


def hls(address: str) -> str:
    """An HLS playlist of one segment."""
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{address}\n#EXT-X-ENDLIST\n"


def sdp(port: int) -> str:
    """A session description that listens on a port."""
    return (
        f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\na=rtpmap:96 "
        "H264/90000\n"
    )


HOSTILE = {
    "hls_file": (hls("file:///etc/hostname"), "playlist"),
    "hls_http": (hls("http://127.0.0.1:9/x.ts"), "playlist"),
    "hls_blank_first": ("\r\n " + hls("http://127.0.0.1:9/x.ts"), "playlist"),
    "dash_http": (dash("http://127.0.0.1:9/x.mp4"), "playlist"),
    "dash_polyglot": ("\0\0\0\x18ftypisom" + dash("http://127.0.0.1:9/x.mp4"), "not a readable video"),
    "dash_polyglot_avi": (
        "RIFF\0\0\0\0AVI " + dash("http://127.0.0.1:9/x.mp4"),
        "not a readable video|no picture|no video stream",
    ),
    "ffconcat": ("ffconcat version 1.0\nfile good_1.mp4\n", "list of files"),
    "sdp": (sdp(9), "session description"),
    "m3u_plain": ("http://127.0.0.1:9/x.mp4\n", "a text"),
    "pls": ("[playlist]\nFile1=http://127.0.0.1:9/x\n", "playlist"),
    "svg": ('<svg xmlns="http://www.w3.org/2000/svg"><image href="http://127.0.0.1:9/x"/></svg>', "a text"),
    "avisynth": ('FFVideoSource("good_1.mp4")\n', "a text"),
    "subtitles_idx": ("# VobSub index file, v7\n", "a text"),
}
for _name, (_content, _words) in HOSTILE.items():
    kind(_name, refused=_words)(functools.partial(bytes_of, content=_content.encode("latin-1")))


# --- bombs: small files that ask for much -----------------------------------------------------------------------------
def sized(data: bytes, width: int, height: int) -> bytes:
    """The GIF header with another logical size."""
    return data[:6] + struct.pack("<HH", width, height) + data[10:]


@kind("bomb_gif_65535", "bomb_gif_65535.gif", frames=(0, 0), refused="pixels", either=True, seen=False)
def _(path):
    encode(path, "gif", pix_fmt="rgb8", n=2, rate=10, format="gif")
    path.write_bytes(sized(path.read_bytes(), 65535, 65535))


@kind("bomb_png_12000x12000", "bomb_png_12000x12000.mov", frames=(0, 0), refused="pixels", either=True)
def _(path):
    # 140 KiB of PNG that unpack to 144 million pixels, behind a header that says 96 x 64.
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    packer = zlib.compressobj(1)
    rows = b"".join(packer.compress(bytes(12001 * 1000)) for _ in range(12)) + packer.flush()
    png = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 12000, 12000, 8, 0, 0, 0, 0))
        + chunk(b"IDAT", rows)
        + chunk(b"IEND", b"")
    )
    with av.open(str(path), "w") as out:
        s = out.add_stream("png", rate=25)
        s.width, s.height, s.pix_fmt = *SIZE, "rgb24"
        out.start_encoding()
        for i in range(2):
            packet = av.Packet(png)
            packet.stream, packet.time_base, packet.pts, packet.dts, packet.is_keyframe = s, Fraction(1, 25), i, i, True
            out.mux(packet)


@kind("bomb_30000x30000", "bomb_30000x30000.mp4", frames=(0, 0), refused="pixels", either=True)
def _(path):
    data = bytearray(clip())
    at = data.index(b"avc1", atom(clip(), "stsd"))
    struct.pack_into(">HH", data, at + 28, 30000, 30000)
    sps = _sps(30000 // 16, 30000 // 16)
    avcc = data.index(b"avcC", at)
    length = struct.unpack(">H", data[avcc + 10 : avcc + 12])[0]
    assert len(sps) <= length
    data[avcc + 12 : avcc + 12 + length] = sps + bytes(length - len(sps))
    path.write_bytes(data)


def _sps(width_mbs: int, height_mbs: int) -> bytes:
    """H.264 sequence parameters of the baseline profile for that many macroblocks of 16 px."""
    bits = ""

    def ue(value: int) -> str:
        text = bin(value + 1)[2:]
        return "0" * (len(text) - 1) + text

    bits += format(66, "08b") + "00000000" + format(62, "08b")  # profile, constraints, level
    bits += ue(0) + ue(0) + ue(2) + ue(1) + "0" + ue(width_mbs - 1) + ue(height_mbs - 1) + "1" + "1" + "0" + "0" + "1"
    bits += "0" * (-len(bits) % 8)
    return b"\x67" + int(bits, 2).to_bytes(len(bits) // 8, "big")


@kind("bomb_many_frames", "bomb_many_frames.mkv", frames=(100, 900))
def _(path):
    # 20,000 frames of 16 x 16 px in a file of some hundred KiB: long, but nothing to refuse.
    with av.open(str(path), "w") as out:
        s = out.add_stream("ffv1", rate=25)
        s.width, s.height, s.pix_fmt = 16, 16, "yuv420p"
        f = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24").reformat(format="yuv420p")
        f.pts, f.time_base = 0, Fraction(1, 25)
        (packet,) = [*s.encode(f), *s.encode()]
        content, base = bytes(packet), packet.time_base
        for i in range(20_000):
            copy = av.Packet(content)
            copy.stream, copy.time_base, copy.is_keyframe = s, base, True
            copy.pts = copy.dts = i * packet.duration if packet.duration else i
            out.mux(copy)


@kind("bomb_duration", frames=2)
def _(path):
    data = bytearray(clip())
    at = atom(clip(), "moov", "mvhd") + 4
    struct.pack_into(">I", data, at + 16, 0xFFFFFFFF)  # movie header: 50 days and more
    path.write_bytes(data)


@kind("bomb_sample_count", either=True, frames=(0, 2), refused="video")
def _(path):
    data = bytearray(clip())
    at = atom(clip(), "moov", "stsz") + 4
    struct.pack_into(">I", data, at + 8, 0x7FFFFFF0)
    path.write_bytes(data)


@kind("bomb_atom_depth", either=True, frames=(0, 0), refused="video")
def _(path):
    inner = b""
    for _ in range(5000):
        inner = struct.pack(">I4s", 8 + len(inner), b"moov") + inner
    path.write_bytes(struct.pack(">I4s4sI4s", 20, b"ftyp", b"isom", 0, b"isom") + inner)


# --- pictures with people: made from a portrait that scikit-image ships -----------------------------------------------
@functools.cache
def portrait() -> np.ndarray | None:
    """uint8 RGB (512, 512, 3): the public-domain portrait of Eileen Collins (NASA) that scikit-image carries."""
    try:
        from skimage import data

        return np.ascontiguousarray(data.astronaut())
    except Exception:  # not installed, or it would have to be downloaded
        return None


def people(path: Path, compose) -> str | None:
    if portrait() is None:
        return "scikit-image with its portrait is not installed"
    image = compose(portrait())
    return encode(
        path,
        n=4,
        rate=2,
        size=(image.shape[1], image.shape[0]),
        images=lambda i, w, h: image,
        options={"preset": "ultrafast"},
    )


def _grid(face: np.ndarray) -> np.ndarray:
    import cv2

    one = cv2.resize(face[0:256, 96:352], (96, 96), interpolation=cv2.INTER_AREA)
    return np.tile(one, (5, 8, 1))  # forty of them


FACES = {
    "face": lambda f: f,
    "half_a_face": lambda f: np.ascontiguousarray(f[:, 0:224]),
    "forty_faces": _grid,
    "face_upside_down": lambda f: np.ascontiguousarray(f[::-1, ::-1]),
    "face_in_the_dark": lambda f: f // 24,
}
for _name, _compose in FACES.items():
    kind(_name, frames=2)(functools.partial(people, compose=_compose))


# --- making it --------------------------------------------------------------------------------------------------------
def build(folder: Path, names=None) -> dict[str, Path | str]:
    """Makes all kinds (or those named) in one folder. Returns name -> path, or the reason why it cannot be made
    here."""
    folder.mkdir(parents=True, exist_ok=True)
    made: dict[str, Path | str] = {}
    for k in KINDS:
        if names is not None and k.name not in names:
            continue
        path = folder / k.file
        try:
            reason = k.make(path)
        except OSError as e:  # a file system that has no such names or no pipes
            reason = f"this file system does not take it ({e.strerror})"
        made[k.name] = reason or path
    return made


if __name__ == "__main__":
    for _name, _where in build(Path(sys.argv[1])).items():
        _k = next(k for k in KINDS if k.name == _name)
        print(json.dumps([_name, str(_where), _k.frames, _k.refused]))
