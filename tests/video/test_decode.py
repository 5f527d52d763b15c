"""Decoding: the wanted frames are those of a decoder that reads every frame; odd and damaged files."""

import contextlib
import itertools
import shutil
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from deepfake_detection.errors import UserError
from deepfake_detection.video import decode
from deepfake_detection.video.decode import FrameReader
from deepfake_detection.video.probe import probe
from deepfake_detection.video.sampling import Runs, parse
from tests.clips import pattern, truncated, write_video

SAMPLINGS = [
    parse("per-second"),
    parse("even", 7),
    parse("even", 3),
    parse("keyframes", 4),
    parse("even", 5, max_seconds=1.5),
]

# name, suffix, how it is encoded, whether the packets tell enough to leave frames out
KINDS = [
    ("h264 long GOP, B-frames", "mp4", dict(bf=3, gop=250), True),
    ("h264 short GOP", "mp4", dict(bf=2, gop=12), True),
    ("h264 no B-frames", "mp4", dict(bf=0, gop=30), True),
    ("h264 open GOP", "mp4", dict(bf=3, gop=15, x264_params="open-gop=1"), True),
    ("h264 one key frame each", "mp4", dict(gop=1), True),
    ("h264 4:4:4", "mp4", dict(pixel_format="yuv444p", bf=2), True),
    ("h264 full range", "mp4", dict(pixel_format="yuvj420p"), True),
    ("h264 10 bit", "mp4", dict(pixel_format="yuv420p10le"), True),
    ("h264 tagged BT.709", "mp4", dict(x264_params="colorprim=bt709:transfer=bt709:colormatrix=bt709"), True),
    ("h264 rotated 90", "mp4", dict(rotation=90), True),
    ("h264 rotated -90", "mp4", dict(rotation=-90), True),
    ("h264 rotated 180", "mp4", dict(rotation=180), True),
    ("h264 in Matroska", "mkv", dict(bf=3, gop=40), True),
    ("h264 in MPEG-TS", "ts", dict(bf=3, gop=40), True),
    ("h264 in AVI", "avi", dict(bf=3, gop=40), False),
    ("hevc", "mp4", dict(codec="libx265", gop=30, x265_params="log-level=none"), True),
    ("vp9", "webm", dict(codec="libvpx-vp9", gop=30, cpu_used=8, deadline="realtime"), True),
    ("mpeg4", "mp4", dict(codec="mpeg4", gop=15, bf=2), True),
    ("h264 in ASF", "asf", dict(bf=3, gop=40), False),
    ("h264 in MXF", "mxf", dict(bf=3, gop=40, pixel_format="yuv420p"), False),
    ("h264 with intra refresh", "ts", dict(bf=0, gop=40, x264_params="intra-refresh=1"), None),
    ("h264 raw", "h264", dict(bf=3, gop=40), False),
    ("mpeg4 in AVI", "avi", dict(codec="mpeg4", gop=15, bf=2), True),
    ("mpeg2 programme stream", "vob", dict(codec="mpeg2video", gop=15, bf=2, pixel_format="yuv420p"), True),
    (
        "vp8 with unseen pictures",
        "webm",
        dict(codec="libvpx", gop=40, auto_alt_ref=1, lag_in_frames=16, cpu_used=5, b=100000),
        None,
    ),
    ("av1", "mp4", dict(codec="libsvtav1", gop=30, preset=12), None),
    ("motion JPEG", "avi", dict(codec="mjpeg", pixel_format="yuvj420p"), True),
]


def leaves_frames_out(monkeypatch, path, sampling) -> bool:
    calls = []
    original = FrameReader._by_all
    monkeypatch.setattr(FrameReader, "_by_all", lambda self, after: (calls.append(after), original(self, after))[1])
    list(FrameReader(path, sampling))
    monkeypatch.undo()
    return not calls


def every_frame(path) -> list[np.ndarray]:
    """All frames of a video as a plain loop of PyAV gives them, BGR, as stored."""
    frames = []
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            with contextlib.suppress(av.InvalidDataError):
                frames += [
                    f.reformat(format="bgr24", interpolation="BICUBIC", threads=1).to_ndarray() for f in packet.decode()
                ]
    return frames


def assert_true(path, samplings=SAMPLINGS, frames=None, **how) -> FrameReader:
    """Every wanted frame is the one of that index among all frames, and so are those of its run."""
    frames = every_frame(path) if frames is None else frames
    for sampling, runs in zip(samplings, itertools.cycle([None, Runs(2, 3), Runs(1, 4)])):
        reader = FrameReader(path, sampling, scale=1, runs=runs, **how)
        got = list(reader)
        assert got and reader.info.frame_count == len(frames)
        if sampling.name != "keyframes":
            assert [f.index for f in got] == sampling.indices(reader.info.fps, len(frames))
        for frame in got:
            assert np.array_equal(frame.image, frames[frame.index]), f"frame {frame.index} differs ({sampling})"
            in_run = runs is not None and frame.number % runs.every == 0
            step = runs.step(reader.info.fps) if in_run else 0
            run = frames[frame.index :: step][: 1 + runs.following] if step else []
            run = run if len(run) > 1 else []  # the last frame of all
            assert [np.array_equal(*pair) for pair in zip(frame.run, run, strict=True)] == [True] * len(run)
        assert reader.note == "" and [f.number for f in got] == list(range(len(got)))
    return reader


def assert_same(path, sampling):
    reference, fast = FrameReader(path, sampling, reference=True), FrameReader(path, sampling)
    expected, got = list(reference), list(fast)
    assert [(f.number, f.index, f.time_s) for f in expected] == [(f.number, f.index, f.time_s) for f in got]
    for a, b in zip(expected, got):
        assert a.image.shape == b.image.shape and a.image.dtype == np.uint8
        assert np.array_equal(a.image, b.image), f"frame {a.index} differs"
    assert (reference.info.width, reference.info.height, reference.info.rotation) == (
        fast.info.width,
        fast.info.height,
        fast.info.rotation,
    )
    assert reference.note == fast.note
    return got


@pytest.mark.parametrize("suffix, kind, planned", [pytest.param(*k[1:], id=k[0]) for k in KINDS])
def test_same_frames_as_who_reads_every_one(tmp_path, monkeypatch, suffix, kind, planned):
    size = (640, 360) if suffix in ("mxf", "vob") else (322, 244)
    path = write_video(
        tmp_path / f"clip.{suffix}",
        pattern(75, *size),
        fps=25 if suffix in ("mxf", "vob") else Fraction(30000, 1001),
        **kind,
    )
    turn = {90: -1, -90: 1, 180: 2}.get(kind.get("rotation"), 0)
    assert_true(path, frames=[np.rot90(f, -turn) for f in every_frame(path)])
    assert_same(path, SAMPLINGS[1])
    if planned is not None:
        assert leaves_frames_out(monkeypatch, path, SAMPLINGS[0]) == planned


@pytest.mark.parametrize("fps", [10, 50, 120])
def test_runs_of_slow_and_fast_videos(tmp_path, fps):
    assert_true(write_video(tmp_path / "clip.mp4", pattern(75, 160, 120), fps=fps, bf=2, gop=30))


@pytest.mark.parametrize("kind", [KINDS[i][2] for i in (0, 5, 6, 8)], ids=[KINDS[i][0] for i in (0, 5, 6, 8)])
def test_colours_are_those_of_opencv(tmp_path, kind):
    """Frames that were written with OpenCV (versions before 2.0, other people's) and ours may be used together."""
    path = write_video(tmp_path / "clip.mp4", pattern(10, 322, 244), **kind)
    capture = cv2.VideoCapture(str(path))
    for frame in FrameReader(path, parse("even", 10)):
        assert np.array_equal(frame.image, capture.read()[1])


@pytest.mark.parametrize("kind", [dict(), dict(pixel_format="yuv420p10le")], ids=["fast", "every frame"])
def test_interlaced_video_shows_its_pictures(tmp_path, kind):
    """OpenCV 5.0.0.93 answered noise (a mean difference of 30 to 130); the encoder's own loss is about 6."""
    path = write_video(tmp_path / "clip.mp4", pattern(40, 320, 240), flags="+ilme+ildct", bf=2, **kind)
    sources = list(pattern(40, 320, 240))
    frames = list(FrameReader(path, parse("even", 3)))
    assert [f.index for f in frames] == [6, 20, 33]
    for frame in frames:
        assert np.abs(frame.image.astype(int) - sources[frame.index]).mean() < 12


def joined(path, *parts):
    """A recording that was put together of others, byte after byte."""
    with open(path, "wb") as out:
        for part in parts:
            with open(part, "rb") as file:
                shutil.copyfileobj(file, out)
    return path


_INTERLACED = dict(flags="+ilme+ildct")


@pytest.mark.parametrize(
    "suffix, codec, first, second",
    [
        pytest.param("ts", "libx264", {}, _INTERLACED, id="progressive, then interlaced (TS)"),
        pytest.param("ts", "libx264", _INTERLACED, {}, id="interlaced, then progressive (TS)"),
        pytest.param(
            "vob", "mpeg2video", {}, {**_INTERLACED, "alternate_scan": 1}, id="progressive, then interlaced (DVD)"
        ),
        pytest.param("ts", "mpeg2video", dict(bf=2), _INTERLACED, id="MPEG-2, B-frames, then interlaced (TS)"),
        pytest.param("ts", "libx264", dict(bf=3, gop=12), dict(bf=0, start=1), id="the second begins a little later"),
        pytest.param("ts", "libx264", dict(start=400), dict(start=0), id="the second begins before the first"),
        pytest.param("ts", "libx264", {}, dict(start=9000), id="the second begins much later"),
        pytest.param("ts", "libx264", {}, dict(size=(160, 120)), id="another size"),
        pytest.param("flv", "libx264", {}, dict(size=(160, 120)), id="another size, new parameters in a packet (FLV)"),
    ],
)
def test_joined_recordings(tmp_path, suffix, codec, first, second):
    """Times start anew and interlacing begins in the middle: OpenCV gave 3 distinct pictures of 32."""
    parts = []
    for n, options in enumerate((first, second)):
        options = dict(options)
        size, start = options.pop("size", (320, 240)), options.pop("start", 0)
        times = [(i + start) * 40 for i in range(60)]
        parts.append(
            write_video(
                tmp_path / f"{n}.{suffix}",
                pattern(60, *size, seed=n),
                codec=codec,
                fps=25,
                times=None if codec != "libx264" else times,
                **options,
            )
        )
    if suffix == "flv":  # one header only: the second's parameters come as a packet of the first
        parts[1].write_bytes(parts[1].read_bytes()[13:])
    path = joined(tmp_path / f"clip.{suffix}", *parts)
    frames = every_frame(path)
    assert len(frames) >= 118
    reader = assert_true(path, [parse("even", 32), parse("per-second")], frames)
    assert (np.diff(reader.info.times_s) > 0).all()
    shown = {f.image.tobytes() for f in FrameReader(path, parse("even", 32))}
    assert len(shown) == 32


@pytest.mark.parametrize(
    "codec, options",
    [
        pytest.param("mpeg4", {}, id="mpeg4"),
        pytest.param("mpeg4", dict(bf=2), id="mpeg4, B-frames"),
        pytest.param("mpeg2video", {}, id="mpeg2"),
        pytest.param("libx265", dict(x265_params="log-level=none:bframes=0"), id="hevc"),
    ],
)
def test_key_frames_that_are_none(tmp_path, codec, options):
    """An MP4 without its table of key frames, an AVI that flags every packet: pictures without the one that they
    change were grey smears.
    """
    data = write_video(tmp_path / "whole.mp4", pattern(60), codec=codec, gop=15, **options).read_bytes()
    path = tmp_path / "clip.mp4"
    path.write_bytes(data.replace(b"stss", b"free"))
    with av.open(str(path)) as container:
        assert all(p.is_keyframe for p in container.demux(video=0) if p.size)
    assert_true(path)


@pytest.mark.parametrize("suffix, codec", [("avi", "rawvideo"), ("mov", "rawvideo"), ("mov", "png")])
def test_palettes(tmp_path, suffix, codec):
    """The palette may come with the first packet alone, which was left out: all colours were wrong."""
    path = tmp_path / f"clip.{suffix}"
    colours = np.random.default_rng(0).integers(0, 256, (256, 4), np.uint8)
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "pal8"
        for number, image in enumerate(pattern(40)):
            index = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
            frame = av.VideoFrame.from_ndarray((index, colours), format="pal8")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    assert_true(path)


@pytest.mark.parametrize("cut", [3, 40, 60])
def test_a_recording_that_begins_in_the_middle(tmp_path, cut):
    """What comes before the first key frame does not decode: frames are counted from the first that does."""
    whole = write_video(tmp_path / "whole.ts", pattern(90), bf=2, gop=30)
    data = whole.read_bytes()
    path = tmp_path / "clip.ts"
    path.write_bytes(data[len(data) * cut // 100 // 188 * 188 :])
    assert_true(path, [parse("even", 7), parse("per-second")])


@pytest.mark.parametrize("threads", [0, 2])
def test_decoder_threads_do_not_change_a_byte(tmp_path, threads):
    path = write_video(tmp_path / "clip.mp4", pattern(75), bf=3, gop=30)
    one, many = (list(FrameReader(path, parse("even", 9), threads=t)) for t in (1, threads))
    assert [f.index for f in one] == [f.index for f in many]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(one, many))


def test_decodes_only_what_is_needed(tmp_path, monkeypatch):
    path = write_video(tmp_path / "clip.mp4", pattern(120), bf=3, gop=20, sc_threshold=0)
    decoded = []
    original = FrameReader._decoded

    def counted(self, plan, opened):
        for frame in original(self, plan, opened):
            decoded.append(frame.pts)
            yield frame

    monkeypatch.setattr(FrameReader, "_decoded", counted)
    assert [f.index for f in FrameReader(path, parse("even", 2))] == [30, 90]
    assert 2 <= len(decoded) < 30  # two half GOPs of 20, B-frames left out; not 120
    decoded.clear()
    keys = [f.index for f in FrameReader(path, parse("keyframes"))]
    assert keys[:6] == [0, 20, 40, 60, 80, 100] and len(decoded) == len(keys) <= 8  # one more at a cut


def test_indices_times_and_numbers(tmp_path):
    path = write_video(tmp_path / "clip.mp4", pattern(65), fps=Fraction(30000, 1001), bf=2)
    frames = list(FrameReader(path, parse("per-second"), scale=0.5))
    assert [(f.number, f.index, f.time_s) for f in frames] == [(0, 0, 0.0), (1, 29, 0.968), (2, 58, 1.935)]
    assert frames[0].image.shape == (120, 160, 3)


def test_chosen_frames_are_those_of_who_reads_all(tmp_path):
    path = write_video(tmp_path / "clip.mp4", pattern(65), bf=2)
    every = [f.image for f in FrameReader(path, parse("even", 65))]
    chosen = list(FrameReader(path, parse("even", 4), wanted=[3, 4, 40, 64, 90]))
    assert [(f.number, f.index) for f in chosen] == [(0, 3), (1, 4), (2, 40), (3, 64)]
    assert all((f.image == every[f.index]).all() for f in chosen)


def test_real_clips(shared):
    """Every kind of file in the development material; c23 of FaceForensics++ is 4:4:4, the phone clip is tagged
    BT.709."""
    data = shared / "data"
    ff = data / "FaceForensics++" / "manipulated_sequences"
    for path in (
        data / "dfdc/abofeumbvv.mp4",
        data / "odd/vertical_phone.mp4",
        data / "odd/no_face_vertical_60fps.mp4",
        data / "odd/tiny_132x168.mp4",
        ff / "Face2Face/c23/videos/241_210.mp4",
        ff / "Deepfakes/c40/videos/183_253.mp4",
    ):
        assert_same(path, parse("per-second"))
    assert len(list(FrameReader(data / "dfdc/abofeumbvv.mp4", parse("per-second")))) == 11


def test_variable_frame_rate_has_real_times(tmp_path):
    times = [0, 33, 67, 400, 433, 1500, 1533, 1600, 1700, 1800]
    path = write_video(tmp_path / "clip.mkv", pattern(10), times=times, bf=0)
    assert [round(f.time_s * 1000) for f in assert_same(path, parse("even", 32))] == times


def test_absurd_declared_rate_is_measured(tmp_path):
    """A browser's recorder declares 1000 frames a second."""
    path = write_video(
        tmp_path / "clip.webm",
        pattern(60),
        codec="libvpx-vp9",
        fps=1000,
        times=[40 * i for i in range(60)],
        cpu_used=8,
        deadline="realtime",
    )
    info = probe(path)
    assert info.frame_count == 60 and info.fps == pytest.approx(25, rel=0.01)
    assert [f.index for f in FrameReader(path, parse("per-second"))] == list(range(0, 60, int(info.fps)))


def test_probe(tmp_path):
    info = probe(write_video(tmp_path / "clip.mp4", pattern(50, 320, 240), fps=25, rotation=90, sound=True))
    assert (info.width, info.height, info.fps, info.frame_count, info.codec) == (240, 320, 25, 50, "h264")
    assert info.rotation in (90, 270) and info.duration_s == pytest.approx(2.0)


@pytest.mark.parametrize("part", [0.9, 0.5, 0.2])
def test_truncated_file_yields_what_decodes_and_says_so(tmp_path, part):
    whole = write_video(tmp_path / "whole.mp4", pattern(90), gop=30, bf=2, container_options={"movflags": "faststart"})
    path = truncated(whole, tmp_path / "cut.mp4", part)
    reader = FrameReader(path, parse("even", 1000))
    frames = list(reader)
    assert 0 < len(frames) < 90 and "cut off" in reader.note and "of 90 frames" in reader.note
    expected = list(FrameReader(whole, parse("even", 1000)))
    for a, b in zip(frames[:-3], expected):  # the last ones may be concealed
        assert np.array_equal(a.image, b.image)


def test_damaged_middle_does_not_raise(tmp_path):
    path = write_video(tmp_path / "clip.mp4", pattern(90), gop=30, bf=2)
    data = bytearray(path.read_bytes())
    generator = np.random.default_rng(1)
    for at in generator.integers(len(data) // 4, len(data) // 2, 300):
        data[at] ^= 0xFF
    path.write_bytes(data)
    reader = FrameReader(path, parse("even", 20))
    frames = list(reader)
    assert 0 < len(frames) <= 20 and all(f.image.shape == (240, 320, 3) for f in frames)
    assert [f.index for f in frames] == sorted({f.index for f in frames})


def test_large_frames_and_one_frame(tmp_path):
    path = write_video(tmp_path / "clip.mp4", pattern(1, 3840, 2160), preset="ultrafast")
    (frame,) = FrameReader(path, parse("even", 32))
    assert frame.image.shape == (712, 1267, 3) and frame.time_s == 0


@pytest.mark.parametrize(
    "content, reason",
    [
        (None, "No such file"),
        (b"", "empty"),
        (b"not a video at all\n" * 50, "not"),
        (b"\x00\x00\x00\x18ftypmp42" + b"\0" * 100, ""),
    ],
)
def test_unreadable_files_are_the_users(tmp_path, content, reason):
    path = tmp_path / "clip.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as e:
        FrameReader(path, parse("even"))
    assert reason in str(e.value) and "hint:" in str(e.value) and "\n" not in str(e.value)
    with pytest.raises(UserError):
        probe(path)


def test_folder_and_sound_only(tmp_path):
    with pytest.raises(UserError, match="folder"):
        probe(tmp_path)
    path = write_video(tmp_path / "sound.mp4", [], sound=True)
    with pytest.raises(UserError, match="no video stream"):
        probe(path)


def test_names_that_ffmpeg_would_misread(tmp_path):
    for name in ("a%03d.mp4", "concat:x.mp4", "späth 火 'q\".mp4", "-i.mp4"):
        path = write_video(tmp_path / "plain.mp4", pattern(5)).rename(tmp_path / name)
        assert len(assert_same(path, parse("even", 5))) == 5


def test_plan_keeps_open_gops_together():
    from deepfake_detection.video.probe import PacketIndex

    # two GOPs; the second is open: a packet after its key frame (order 4) is shown before it (order 3)
    order = np.array([0, 2, 1, 4, 3, 5])
    packets = PacketIndex(order * 10, np.array([1, 0, 0, 1, 0, 0], bool), order, 0.1, True, 0)
    assert decode._plan(packets, [3]).tolist() == [1, 1, 1, 1, 2, 0]
    closed = PacketIndex(np.arange(6) * 10, packets.key, np.arange(6), 0.1, True, 0)
    assert decode._plan(closed, [4]).tolist() == [0, 0, 0, 1, 2, 0]
    assert decode._plan(closed, [1]).tolist() == [1, 2, 0, 0, 0, 0]


@pytest.mark.parametrize("scale", ["published", 0.4, 1.0, 2.0])
@pytest.mark.parametrize("rotation", [0, 90])
def test_a_run_shows_its_frames_in_their_size(tmp_path, scale, rotation):
    smooth = [cv2.GaussianBlur(f, (0, 0), 4) for f in pattern(20, 1104, 622)]
    path = write_video(tmp_path / "clip.mp4", smooth, crf=10, rotation=rotation)
    for frame in FrameReader(path, parse("even", 3), scale=scale, runs=Runs(1, 2)):
        assert [(f.shape, f.dtype) for f in frame.run] == [(frame.image.shape, np.uint8)] * 3
        own, other, _ = (cv2.absdiff(f, frame.image).mean() for f in frame.run)
        assert own < 3 and own < other / 3


@pytest.mark.parametrize("how", ["cut off", "bytes flipped", "a packet gone"])
def test_runs_change_no_frame_of_a_damaged_video(tmp_path, how):
    whole = write_video(
        tmp_path / "clip.mp4", pattern(90, 320, 240), bf=2, gop=30, container_options={"movflags": "faststart"}
    )
    path = tmp_path / "damaged.mp4"
    data = bytearray(truncated(whole, path, 0.7).read_bytes() if how == "cut off" else whole.read_bytes())
    if how != "cut off":
        middle = len(data) // 2
        data[middle : middle + 3000] = (
            bytes(3000) if how == "a packet gone" else bytes(b ^ 0xA5 for b in data[middle : middle + 3000])
        )
    path.write_bytes(data)
    plain, running = FrameReader(path, parse("even", 12)), FrameReader(path, parse("even", 12), runs=Runs(3, 4))
    expected, got = list(plain), list(running)
    assert [(f.number, f.index) for f in got] == [(f.number, f.index) for f in expected] and running.note == plain.note
    assert all(np.array_equal(a.image, b.image) for a, b in zip(expected, got)) and any(f.run for f in got)
