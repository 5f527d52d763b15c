"""No file makes the decoder read another file or open a socket: proved with canary files and a socket that must stay
silent.
"""

import os
import socket
import struct
import subprocess
import sys
import threading

import av
import pytest

from deepfake_detection.errors import UserError
from deepfake_detection.video import containers, sampling
from deepfake_detection.video.decode import FrameReader
from deepfake_detection.video.probe import probe


class Ear:
    """A socket on loopback that counts who knocks."""

    def __init__(self):
        self.heard = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        while True:
            try:
                self._socket.accept()[0].close()
            except OSError:
                return
            self.heard += 1

    def close(self):
        self._socket.close()


@pytest.fixture(scope="module")
def trap(tmp_path_factory, makers):
    """(folder with canaries and hostile files, the listening socket, {name: path})."""
    folder = tmp_path_factory.mktemp("trap")
    ear = Ear()
    makers.encode(folder / "canary.ts", format="mpegts")
    makers.encode(folder / "canary.mp4")
    http = f"http://127.0.0.1:{ear.port}"
    texts = {
        "hls_http.mp4": makers.hls(f"{http}/x.ts"),
        "hls_file.ts": makers.hls(f"file://{folder}/canary.ts"),
        "hls_near.m3u8": makers.hls("canary.ts"),
        "dash.mp4": makers.dash(f"{http}/x.mp4"),
        "dash_near.mp4": makers.dash("canary.mp4"),
        "dash_polyglot.mp4": "\0\0\0\x18ftypisom" + makers.dash(f"{http}/x.mp4"),
        "ffconcat.mp4": "ffconcat version 1.0\nfile canary.mp4\n",
        "ffconcat_http.mp4": f"ffconcat version 1.0\nfile {http}/x.mp4\n",
        "sdp.mp4": makers.sdp(ear.port),
        "sdp.sdp": makers.sdp(ear.port),
        "rtsp.mp4": f"[Reference]\nRef1={http}/x\n",
    }
    paths = {}
    for name, text in texts.items():
        paths[name] = folder / name
        paths[name].write_bytes(text.encode("latin-1"))
    yield folder, ear, paths
    ear.close()


def gets_frames(code: str, path) -> bool:
    """Whether a fresh process that runs `code` with the path of a list gets frames: there are none but the canary's."""
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    return done.stdout.strip().endswith("frames")


UNGUARDED = (
    "import av,sys\ntry:\n c=av.open('file:'+sys.argv[1]); next(c.decode(video=0)); print('frames')\nexcept "
    "Exception as e: print(e)"
)


def test_the_attack_is_real(trap):
    """Without the guard FFmpeg follows a list to another file: the tests below can fail."""
    _, _, paths = trap
    assert gets_frames(UNGUARDED, paths["ffconcat.mp4"])


def test_hostile_files_are_refused_before_ffmpeg_sees_them(trap, monkeypatch):
    _, ear, paths = trap

    def never(*a, **k):
        raise AssertionError("FFmpeg was asked")

    monkeypatch.setattr(av, "open", never)
    for name, path in paths.items():
        if name == "dash_polyglot.mp4":
            continue
        for read in (probe, lambda p: FrameReader(p, sampling.parse("per-second"))):
            with pytest.raises(UserError) as caught:
                read(path)
            assert "not a video" in caught.value.what and "\n" not in str(caught.value), name
    assert ear.heard == 0


@pytest.mark.parametrize(
    "name",
    [
        "hls_http.mp4",
        "hls_file.ts",
        "hls_near.m3u8",
        "dash.mp4",
        "dash_near.mp4",
        "dash_polyglot.mp4",
        "ffconcat.mp4",
        "ffconcat_http.mp4",
        "sdp.mp4",
        "sdp.sdp",
        "rtsp.mp4",
    ],
)
def test_even_past_the_first_guard_nothing_is_followed(trap, name, monkeypatch):
    """The second wall: were the first bytes taken for a container, or left to FFmpeg to recognise, the list of demuxers
    and the list of protocols still hold.
    """
    _, ear, paths = trap
    for demuxer in ("mov", "mpegts", containers.ANY):
        monkeypatch.setattr(containers, "demuxer_of", lambda head, demuxer=demuxer: demuxer)
        with pytest.raises(UserError):
            list(FrameReader(paths[name], sampling.parse("per-second")))
    with pytest.raises(UserError):
        containers.check(paths[name])
    assert ear.heard == 0


@pytest.mark.parametrize(
    "name",
    [
        "concat:canary.mp4|canary.mp4",
        "subfile,,start,0,end,0,,:canary.mp4",
        "http:canary.mp4",
        "canary%03d.png",
        "data:canary.mp4",
        "pipe:0",
        "tcp:127.0.0.1:9",
    ],
)
def test_a_name_is_only_ever_a_name(trap, name, monkeypatch):
    """A missing file of such a name is missing; an existing one is read as itself."""
    folder, ear, _ = trap
    monkeypatch.chdir(folder)
    with pytest.raises(UserError, match="cannot read the video"):
        probe(name)
    (folder / name).write_bytes((folder / "canary.mp4").read_bytes())
    try:
        assert probe(name).frame_count == probe("canary.mp4").frame_count
        assert [f.index for f in FrameReader(name, sampling.parse("per-second"))] == [0, 25]
    finally:
        (folder / name).unlink()
    assert ear.heard == 0


def alias(path: str) -> bytes:
    """A data reference of QuickTime that says: the samples lie in that file."""
    name = path.encode() + b"\0" * (len(path) % 2)
    record = (
        bytes(10)
        + b"\0"
        + bytes(27)
        + bytes(12)
        + b"\x08external"
        + bytes(55)
        + bytes(16)
        + b"\0\1\0\1"
        + bytes(16)
        + struct.pack(">hH", 2, len(name))
        + name
        + b"\xff\xff\0\0"
    )
    return struct.pack(">I4sI", 12 + len(record), b"alis", 0) + record


def test_external_media_of_quicktime_is_not_opened(tmp_path, makers):
    """A QuickTime file may say that its samples lie in another file. FFmpeg can follow that; here it does not."""
    whole = makers.clip(False)  # its index is last, so nothing moves when it grows
    canary = tmp_path / "canary.mov"
    canary.write_bytes(whole)
    url = whole.index(b"url ", makers.atom(whole, "moov", "dref")) - 4
    size = struct.unpack(">I", whole[url : url + 4])[0]
    entry = alias(str(canary))
    data = bytearray(whole[:url] + entry + whole[url + size :])
    at = 0
    for name in ("moov", "trak", "mdia", "minf", "dinf", "dref"):
        at = makers.atom(whole, "moov") if name == "moov" else data.index(name.encode(), at)
        struct.pack_into(">I", data, at - 4, struct.unpack(">I", data[at - 4 : at])[0] + len(entry) - size)
    samples = makers.atom(whole, "mdat") + 4
    data[samples : makers.atom(whole, "moov") - 4] = bytes(makers.atom(whole, "moov") - 4 - samples)  # none of its own
    path = tmp_path / "external.mov"
    path.write_bytes(data)
    with av.open(str(path), options={"enable_drefs": "1", "use_absolute_path": "1"}) as followed:
        assert sum(1 for _ in followed.decode(video=0)) == 50  # the attack is real
    try:
        frames = list(FrameReader(path, sampling.parse("per-second")))
    except UserError:
        frames = []
    assert frames == []


def test_only_regular_files_are_opened(tmp_path):
    """A pipe would block for ever, a device would never end: both are refused at once."""
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    device = tmp_path / "device.mp4"
    device.symlink_to("/dev/zero")
    for path in (pipe, device):
        with pytest.raises(UserError, match="pipe or device"):
            probe(path)
    with pytest.raises(UserError, match="not the name of a file"):
        probe("nul\0byte.mp4")


def test_frames_larger_than_the_bound_are_refused(zoo, monkeypatch):
    """Said by the container, found by the decoder, or changed on the way: never more pixels than the bound."""
    with pytest.raises(UserError, match="12000 x 12000 pixels"):
        list(FrameReader(zoo.path("bomb_png_12000x12000"), sampling.parse("per-second")))
    monkeypatch.setattr(containers, "MOST_PIXELS", 96 * 64)
    assert len(list(FrameReader(zoo.path("good_1"), sampling.parse("per-second")))) == 2
    monkeypatch.setattr(containers, "MOST_PIXELS", 96 * 64 - 1)
    with pytest.raises(UserError, match="96 x 64 pixels"):
        list(FrameReader(zoo.path("good_1"), sampling.parse("per-second")))


@pytest.mark.parametrize("codec, format", [("magicyuv", "avi"), ("zmbv", "avi"), ("snow", "avi"), ("flashsv", "flv")])
def test_codecs_that_nobody_needs_are_refused_in_one_line(tmp_path, codec, format, makers, monkeypatch):
    """FFmpeg has hundreds of decoders; the least used have the most holes (MagicYUV: CVE-2026-8461). None of them is
    started.
    """
    path = tmp_path / "clip.mp4"
    reason = makers.encode(
        path,
        codec,
        n=3,
        format=format,
        pix_fmt={"magicyuv": "yuv420p", "zmbv": "bgr0", "snow": "yuv420p", "flashsv": "bgr24"}[codec],
        options={"strict": "-2"} if codec == "snow" else None,
    )
    if reason:
        pytest.skip(reason)
    for read in (probe, lambda p: FrameReader(p, sampling.parse("per-second"))):
        with pytest.raises(UserError, match=f"codec {codec} are not decoded here") as caught:
            read(path)
        assert "\n" not in str(caught.value)
    with av.open(str(path), options={"codec_whitelist": containers.codec_options()["codec_whitelist"]}) as container:
        with pytest.raises(av.FFmpegError):  # the second wall: FFmpeg itself would not start it
            context = container.streams.video[0].codec_context
            context.options = containers.codec_options()
            next(container.decode(video=0))


@pytest.mark.parametrize(
    "format, codec",
    [("nut", "libx264"), ("apng", "apng"), ("webp", "libwebp_anim"), ("swf", "flv"), ("smjpeg", "mjpeg")],
)
def test_formats_that_are_not_on_the_list_stay_closed(tmp_path, format, codec, makers):
    path = tmp_path / "clip.mp4"
    reason = makers.encode(
        path,
        codec,
        n=3,
        format=format,
        pix_fmt="yuvj420p" if codec == "mjpeg" else "rgb24" if codec == "apng" else "yuv420p",
    )
    if reason:
        pytest.skip(reason)
    for read in (containers.check, probe):
        with pytest.raises(UserError, match="not a video"):
            read(path)
