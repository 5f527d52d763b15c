"""Files that begin in an unusual way, and files whose own count of frames is no count of pictures."""

import struct
from fractions import Fraction

import av
import numpy as np
import pytest

from deepfake_detection.video import containers
from deepfake_detection.video.decode import FrameReader
from deepfake_detection.video.probe import probe
from deepfake_detection.video.sampling import parse
from tests.clips import pattern, truncated, write_video


def box(kind: bytes, content: bytes = b"x" * 40) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


_MESSAGE = b"\x05\x10" + bytes(range(16, 32)) + b"\x80"  # user data, which nobody has to understand
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}

#: id -> (suffix, options of the clip, what is done to its bytes, demuxer)
BEGINNINGS = {
    "H.264 from SPS": ("h264", {}, lambda b: b, "h264"),
    "H.264 from SEI": ("h264", {}, lambda b: b"\0\0\0\1\x06" + _MESSAGE + b, "h264"),
    "H.264 from AUD": ("h264", {}, lambda b: b"\0\0\1\x09\x10" + b, "h264"),
    "H.264 after zeros": ("h264", {}, lambda b: bytes(7) + b, "h264"),
    # From the beginning of a unit: x264 does not give the same bytes every time, and FFmpeg not anything a meaning.
    "H.264 from the middle": ("h264", dict(gop=10), lambda b: b[b.index(b"\0\0\1", len(b) // 4) :], "h264"),
    "H.265 from SEI": (
        "hevc",
        dict(codec="libx265", x265_params="log-level=none"),
        lambda b: b"\0\0\0\1\x4e\x01" + _MESSAGE + b,
        "hevc",
    ),
    "H.265 from AUD": (
        "hevc",
        dict(codec="libx265", x265_params="log-level=none"),
        lambda b: b"\0\0\0\1\x46\x01\x10" + b,
        "hevc",
    ),
    "MPEG-2 from the middle": (
        "m2v",
        dict(codec="mpeg2video", gop=5),
        lambda b: b[b.index(b"\0\0\1\0") :],
        "mpegvideo",
    ),
    "MPEG-2 from user data": ("m2v", dict(codec="mpeg2video"), lambda b: b"\0\0\1\xb2abc" + b, "mpegvideo"),
    "AV1 units": ("obu", dict(codec="libsvtav1", preset=12), lambda b: b, "obu"),
    **{
        f"MP4 from {kind}": (
            "mp4",
            dict(container_options=FRAGMENTS),
            lambda b, kind=kind: box(kind.encode()) + b,
            "mov",
        )
        for kind in ("emsg", "free", "skip", "junk", "wide", "uuid", "prft", "styp", "udta", "abcd")
    },
    "MP4 from a long emsg": ("mp4", dict(container_options=FRAGMENTS), lambda b: box(b"emsg", b"x" * 9000) + b, "mov"),
    "MP4 from a box of 64 bits": (
        "mp4",
        dict(container_options=FRAGMENTS),
        lambda b: struct.pack(">I4sQ", 1, b"free", 48) + bytes(32) + b,
        "mov",
    ),
    "TS from within a packet": ("ts", {}, lambda b: b[50:], "mpegts"),
    "TS after junk": ("ts", {}, lambda b: np.random.default_rng(1).bytes(1000) + b, "mpegts"),
    "TS after much junk": ("ts", {}, lambda b: np.random.default_rng(1).bytes(9001) + b, "mpegts"),
    "TS after zeros": ("ts", {}, lambda b: bytes(5000) + b, "mpegts"),
    "programme stream from within a pack": ("vob", dict(codec="mpeg2video", gop=5), lambda b: b[3000:], "mpeg"),
}


@pytest.mark.parametrize("suffix, options, change, demuxer", BEGINNINGS.values(), ids=BEGINNINGS)
def test_unusual_beginnings_are_judged(tmp_path, suffix, options, change, demuxer):
    """What a demuxer of the list can open is opened, also when the name says something else."""
    if "obu" == suffix and not {"libsvtav1"} & av.codecs_available:
        pytest.skip("this PyAV has no AV1 encoder")
    plain = write_video(tmp_path / f"plain.{suffix}", pattern(30, 320, 240), fps=25, **options)
    path = tmp_path / "clip.mp4"
    path.write_bytes(change(plain.read_bytes()))
    assert containers.check(path) == demuxer
    frames = list(FrameReader(path, parse("even", 5)))
    assert len(frames) == 5 and all(f.image.shape == (240, 320, 3) for f in frames)


def test_a_film_that_begins_with_a_fragment_says_that_it_lacks_its_header(tmp_path):
    data = write_video(tmp_path / "plain.mp4", pattern(30, 320, 240), container_options=FRAGMENTS).read_bytes()
    path = tmp_path / "clip.mp4"
    path.write_bytes(data[data.index(b"moof") - 4 :])
    with pytest.raises(containers.UserError, match="not a readable video"):
        probe(path)


# --- counts
# ---------------------------------------------------------------------------------------------------------------------
def avi_of(path, packets, codec="mpeg4", **options):
    """An AVI whose pictures stand at the slots `packets(slot)` says; the slots between repeat the picture before
    them."""
    frames = list(pattern(121, 320, 240))
    with av.open(str(path), "w", format="avi") as out:
        stream = out.add_stream(codec, rate=25, options={k: str(v) for k, v in options.items()})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for slot in range(121):
            if packets(slot):
                frame = av.VideoFrame.from_ndarray(frames[slot], format="bgr24")
                frame.pts = slot
                out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    "kept, options",
    [
        pytest.param(lambda s: s % 3 == 0, {}, id="each shown three times"),
        pytest.param(lambda s: s % 3 == 0, dict(bf=2), id="with B-frames"),
        pytest.param(lambda s: s < 20 or s == 120, {}, id="one shown for four seconds"),
        pytest.param(lambda s: s % 7 < 3, {}, id="uneven"),
    ],
)
def test_repeated_frames_of_avi_are_not_missing(tmp_path, kept, options):
    """A repeat is counted by the file and is no picture: "cut off: it holds 41 of 121" was said of a whole file."""
    path = avi_of(tmp_path / "clip.avi", kept, **options)
    reader = FrameReader(path, parse("even", 400))
    frames = list(reader)
    assert reader.note == "" and len(frames) == sum(kept(s) for s in range(121)) == reader.info.frame_count
    assert frames[-1].time_s == pytest.approx(120 / 25, abs=0.1)


def test_not_coded_pictures_are_not_missing(tmp_path):
    """MPEG-4 has a stub that means "as before": a packet, and no picture."""
    path = avi_of(tmp_path / "plain.avi", lambda s: True)

    def stub(number: int) -> bytes:  # ISO/IEC 14496-2, 6.2.5: type P, seconds, 1/25 s, not coded
        bits = "01" + "1" * (number // 25 - (number - 1) // 25) + "01" + format(number % 25, "05b") + "10" + "0"
        bits += "1" * (-len(bits) % 8)
        return b"\0\0\1\xb6" + int(bits, 2).to_bytes(len(bits) // 8, "big")

    with av.open(str(path)) as before, av.open(str(tmp_path / "clip.avi"), "w") as after:
        stream = after.add_stream_from_template(before.streams.video[0])
        for number, packet in enumerate(p for p in before.demux(video=0) if p.size):
            if number % 4 == 3 and not packet.is_keyframe:
                copy = av.Packet(stub(number))
                copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
                packet = copy
            packet.stream = stream
            after.mux(packet)
    with av.open(str(tmp_path / "clip.avi")) as container:
        there = sum(1 for _ in container.decode(video=0))
    assert there < 100
    reader = FrameReader(tmp_path / "clip.avi", parse("even", 32))
    assert len(list(reader)) == 32 and reader.note == "" and reader.info.frame_count == there


def test_an_avi_with_two_units_a_frame_is_whole(tmp_path):
    """H.264 that was copied from another container: "cut off: it holds 60 of 120"; the times were twice as long."""
    whole = write_video(tmp_path / "whole.h264", pattern(60, 320, 240), bf=3, fps=25)
    with av.open(str(whole)) as before, av.open(str(tmp_path / "clip.avi"), "w") as after:
        stream = after.add_stream_from_template(before.streams.video[0])
        stream.time_base = Fraction(1, 50)
        for number, packet in enumerate(p for p in before.demux(video=0) if p.size):
            packet.time_base, packet.stream = Fraction(1, 50), stream
            packet.pts = packet.dts = 2 * number
            after.mux(packet)
    data = bytearray((tmp_path / "clip.avi").read_bytes())
    struct.pack_into("<I", data, data.find(b"strh") + 8 + 32, 120)  # as the ffmpeg program writes it, in units
    (tmp_path / "clip.avi").write_bytes(data)
    with av.open(str(tmp_path / "clip.avi")) as container:
        stream = container.streams.video[0]
        assert (stream.time_base, stream.frames) == (Fraction(1, 50), 120)
    reader = FrameReader(tmp_path / "clip.avi", parse("even", 60))
    frames = list(reader)
    assert len(frames) == 60 and reader.note == "" and reader.info.duration_s == pytest.approx(2.4, abs=0.1)
    assert frames[-1].time_s == pytest.approx(59 / 25, abs=0.1)


def test_a_cut_avi_is_still_cut(tmp_path):
    whole = avi_of(tmp_path / "whole.avi", lambda s: s % 3 == 0)
    reader = FrameReader(truncated(whole, tmp_path / "cut.avi", 0.5), parse("even", 400))
    assert list(reader) and "cut off" in reader.note


def test_what_an_edit_list_leaves_out_is_not_missing(tmp_path):
    """A phone trims without encoding anew: the file holds more than it shows."""
    whole = write_video(tmp_path / "whole.mp4", pattern(90, 320, 240), gop=15, fps=30)
    with av.open(str(whole)) as before, av.open(str(tmp_path / "clip.mp4"), "w") as after:
        stream = after.add_stream_from_template(before.streams.video[0])
        for packet in before.demux(video=0):
            if packet.size and packet.pts * packet.time_base >= 1:
                shift = int(1.2 / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, stream
                after.mux(packet)
    reader = FrameReader(tmp_path / "clip.mp4", parse("even", 8))
    assert len(list(reader)) == 8 and reader.note == ""
