"""Frames as players show them: upright and not mirrored, with square pixels, in plain colours, of the right track."""

from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from deepfake_detection.errors import UserError
from deepfake_detection.video import hdr
from deepfake_detection.video.decode import FrameReader
from deepfake_detection.video.probe import probe
from deepfake_detection.video.sampling import parse
from tests.clips import pattern, write_video

ONE = 1 << 16


def stored(path) -> list[np.ndarray]:
    """All frames as stored, BGR."""
    with av.open(str(path)) as container:
        return [
            f.reformat(format="bgr24", interpolation="BICUBIC", threads=1).to_ndarray()
            for f in container.decode(video=0)
        ]


def filtered(source, target, *filters: str):
    """A copy of a video whose packets went through bit stream filters: no picture is encoded anew."""
    with av.open(str(source)) as before, av.open(str(target), "w") as after:
        stream = after.add_stream_from_template(before.streams.video[0])
        chain = av.bitstream.BitStreamFilterContext(",".join(filters), before.streams.video[0], stream)
        packets = [p for packet in before.demux(video=0) if packet.size for p in chain.filter(packet)]
        for packet in packets + chain.filter(None):
            packet.stream = stream
            after.mux(packet)
    return target


# --- the display matrix
# ---------------------------------------------------------------------------------------------------------
MATRICES = [
    pytest.param((1, 0, 0, 1), lambda f: f, id="as it is"),
    pytest.param((-1, 0, 0, 1), np.fliplr, id="mirrored left to right"),
    pytest.param((1, 0, 0, -1), np.flipud, id="mirrored upside down"),
    pytest.param((-1, 0, 0, -1), lambda f: np.rot90(f, 2), id="180"),
    pytest.param((0, 1, -1, 0), lambda f: np.rot90(f, -1), id="90 clockwise"),
    pytest.param((0, -1, 1, 0), lambda f: np.rot90(f, 1), id="90 counterclockwise"),
    pytest.param((0, 1, 1, 0), lambda f: f.transpose(1, 0, 2), id="transposed"),
    pytest.param((0, -1, -1, 0), lambda f: np.rot90(f, 2).transpose(1, 0, 2), id="transposed the other way"),
    pytest.param((-0.98, 0.17, 0.17, 0.98), np.fliplr, id="mirrored, and 10 degrees"),
    pytest.param((0.94, 0.34, -0.34, 0.94), lambda f: f, id="20 degrees"),
    pytest.param((0.34, 0.94, -0.94, 0.34), lambda f: np.rot90(f, -1), id="70 degrees"),
    pytest.param((-0.5, 0, 0, 0.5), np.fliplr, id="mirrored and made smaller"),
    pytest.param((0, 0, 0, 0), lambda f: f, id="nothing would be seen"),
    pytest.param((1, 1, 1, 1), lambda f: f, id="a line would be seen"),
]


@pytest.mark.parametrize("matrix, shown", MATRICES)
def test_display_matrix(tmp_path, matrix, shown):
    """An untouched face that a matrix mirrors came out upside down and was called FAKE."""
    a, b, c, d = (int(v * ONE) for v in matrix)
    path = write_video(
        tmp_path / "clip.mp4",
        pattern(6, 96, 64),
        setup=lambda s: s.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30]),
    )
    expected = [shown(f) for f in stored(path)]
    reader = FrameReader(path, parse("even", 6))
    for frame in reader:
        assert np.array_equal(frame.image, np.repeat(np.repeat(expected[frame.index], 2, 0), 2, 1)) or np.array_equal(
            frame.image, cv2.resize(expected[frame.index], None, fx=2, fy=2, interpolation=cv2.INTER_AREA)
        )
    info = probe(path)
    assert (info.height, info.width) == expected[0].shape[:2] == (reader.info.height, reader.info.width)
    assert (info.rotation, info.mirrored) == (reader.info.rotation, reader.info.mirrored)


@pytest.mark.parametrize("suffix", ["mkv", "ts", "h264", "mp4"])
@pytest.mark.parametrize(
    "how, shown",
    [
        pytest.param("flip=horizontal", np.fliplr, id="mirrored"),
        pytest.param("flip=vertical", np.flipud, id="upside down"),
        pytest.param("rotate=90", lambda f: np.rot90(f, 1), id="90"),
    ],
)
def test_orientation_in_the_frames_themselves(tmp_path, suffix, how, shown):
    """H.264 can say it in a message of its own (SEI), whatever the container says."""
    plain = write_video(tmp_path / f"plain.{'mp4' if suffix in ('mkv', 'mp4') else 'ts'}", pattern(6, 352, 288), bf=0)
    path = filtered(plain, tmp_path / f"clip.{suffix}", f"h264_metadata=display_orientation=insert:{how}")
    expected = [shown(f) for f in stored(path)]
    frames = list(FrameReader(path, parse("even", 6), scale=1))
    assert [f.index for f in FrameReader(path, parse("even", 1))] == [3], (
        "the message stands before the first frame only"
    )
    assert next(FrameReader(path, parse("even", 1), scale=1)).image.shape == expected[0].shape
    assert len(frames) == 6 and all(np.array_equal(f.image, expected[f.index]) for f in frames)


# --- the shape of a pixel
# -------------------------------------------------------------------------------------------------------
def circle_frames(count=8, width=640, height=360, squeeze=1.0, seed=None):
    """A circle in the shown picture, stored `squeeze` times narrower (or lower, below 1)."""
    image = np.full((height, width, 3), 40, np.uint8)
    cv2.circle(image, (width // 2, height // 2), 100, (230, 230, 230), -1)
    size = (round(width / squeeze), height) if squeeze >= 1 else (width, round(height * squeeze))
    return [cv2.resize(image, size, interpolation=cv2.INTER_AREA)] * count


def shape_of_circle(image) -> float:
    """Its width over its height."""
    ys, xs = np.where(image[..., 1] > 130)
    return float((xs.max() - xs.min() + 1) / (ys.max() - ys.min() + 1))


def aspect(ratio):
    return lambda stream: setattr(stream.codec_context, "sample_aspect_ratio", Fraction(ratio))


@pytest.mark.parametrize(
    "suffix, codec",
    [
        ("mp4", "libx264"),
        ("mkv", "libx264"),
        ("ts", "libx264"),
        ("h264", "libx264"),
        ("mov", "mpeg4"),
        ("avi", "mpeg4"),
        ("vob", "mpeg2video"),
        ("flv", "libx264"),
    ],
)
@pytest.mark.parametrize("ratio", ["1/2", "2", "64/45", "4/3"])
def test_oblong_pixels_become_square(tmp_path, suffix, codec, ratio):
    """Faces were judged squeezed: p_real .045 became .55."""
    squeeze = float(Fraction(ratio))
    if codec == "mpeg2video":  # knows three shapes of the picture only
        if ratio != "64/45":
            pytest.skip("not a shape of MPEG-2")
        frames, squeeze = circle_frames(width=1024, height=576, squeeze=squeeze), 64 / 45
    else:
        frames = circle_frames(squeeze=squeeze)
    path = write_video(
        tmp_path / f"clip.{suffix}",
        [f[: f.shape[0] // 2 * 2, : f.shape[1] // 2 * 2] for f in frames],
        codec=codec,
        fps=25,
        setup=aspect(ratio),
    )
    reader = FrameReader(path, parse("even", 4), scale=1)
    got = list(reader)
    assert len(got) == 4
    for frame in got:
        assert abs(shape_of_circle(frame.image) - 1) < 0.03
    assert got[0].image.shape[:2] == (reader.info.height, reader.info.width)
    assert min(got[0].image.shape[:2]) >= min(frames[0].shape[:2]), "nothing is lost"
    info = probe(path)
    assert (info.width, info.height) == (reader.info.width, reader.info.height)


def test_the_container_has_the_last_word_on_pixels(tmp_path):
    source = write_video(tmp_path / "plain.mp4", circle_frames(squeeze=2), setup=aspect(2), bf=0)
    path = filtered(source, tmp_path / "clip.mp4", "h264_metadata=sample_aspect_ratio=1/3")
    for frame in FrameReader(path, parse("even", 4), scale=1):
        assert abs(shape_of_circle(frame.image) - 1) < 0.03


@pytest.mark.parametrize("first, second", [(2, 1), (1, 2), (2, 0.5), (1.5, 2)])
def test_the_shape_changes_in_the_middle(tmp_path, first, second):
    """Broadcasts go from 4:3 to 16:9: each frame has its own shape, also those that the decoder still holds when it
    changes.
    """
    data = b""
    for squeeze in (first, second):
        ratio = str(Fraction(squeeze))
        part = write_video(
            tmp_path / "part.ts",
            [f[:, : f.shape[1] // 2 * 2] for f in circle_frames(30, squeeze=squeeze)],
            fps=25,
            setup=aspect(ratio),
            bf=3,
        )
        data += part.read_bytes()
    path = tmp_path / "clip.ts"
    path.write_bytes(data)
    frames = list(FrameReader(path, parse("even", 60), scale=1))
    assert len(frames) == 60
    assert all(abs(shape_of_circle(f.image) - 1) < 0.05 for f in frames), [
        round(shape_of_circle(f.image), 2) for f in frames
    ]


@pytest.mark.parametrize("ratio", ["1/1000", "1000", "17"])
def test_absurd_shapes_are_not_followed(tmp_path, ratio):
    path = write_video(tmp_path / "clip.mkv", circle_frames(), setup=aspect(ratio))
    assert next(FrameReader(path, parse("even", 1), scale=1)).image.shape == (360, 640, 3)


def test_oblong_and_rotated(tmp_path):
    """The shape belongs to the stored pixel, the rotation comes after it."""

    def both(stream):
        aspect(2)(stream)
        stream.set_display_rotation(90)

    path = write_video(tmp_path / "clip.mkv", circle_frames(squeeze=2), setup=both)
    frame = next(FrameReader(path, parse("even", 1), scale=1))
    assert frame.image.shape == (640, 360, 3) and abs(shape_of_circle(frame.image) - 1) < 0.03


# --- colours
# --------------------------------------------------------------------------------------------------------------------
def coded(light: np.ndarray, transfer: int) -> np.ndarray:
    """cd/m2 -> PQ or HLG (for 1000 cd/m2) values 0..1, written from the standards and not from the code that is
    tested."""
    if transfer == hdr.PQ:
        m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
        power = (light / 10000) ** m1
        return ((c1 + c2 * power) / (1 + c3 * power)) ** m2
    scene = (light / 1000) ** (1 / 1.2)
    return np.where(
        scene <= 1 / 12, np.sqrt(3 * scene), 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    )


@pytest.mark.parametrize("transfer", [pytest.param(hdr.PQ, id="PQ"), pytest.param(hdr.HLG, id="HLG")])
def test_grey_of_hdr(transfer):
    light = np.array([0, 1, 10, 40, 80, 203, 400, 1000])
    image = np.round(65535 * coded(light, transfer)).astype(np.uint16)[None, :, None].repeat(3, 2)
    shown = hdr.to_sdr(image, transfer, 9)[0]
    assert np.ptp(shown, axis=1).max() <= 1, "grey stays grey"
    wanted = np.round(255 * (light / 203) ** (1 / 2.4))
    assert np.abs(shown[:5, 0] - wanted[:5]).max() <= 3, "what is not bright keeps its light"
    assert (np.diff(shown[:, 0].astype(int)) > 0).all() and shown[-1, 0] >= 252 and 220 <= shown[5, 0] <= 240


@pytest.mark.parametrize("transfer", [pytest.param(hdr.PQ, id="PQ"), pytest.param(hdr.HLG, id="HLG")])
@pytest.mark.parametrize("peak, knee", [(203, 203), (400, 150), (1000, 91), (4000, 60)])
def test_the_picture_s_own_peak_decides(transfer, peak, knee):
    """For 1000 cd/m2 rolled off whatever was in them, bright faces of plain pictures came out flat."""
    if transfer == hdr.HLG and peak > 1000:
        pytest.skip("brighter than it can say")
    light = np.linspace(0, peak, 4096)
    image = np.round(65535 * coded(light, transfer)).astype(np.uint16)[None, :, None].repeat(3, 2)
    shown = hdr.to_sdr(image, transfer, 1)[0, :, 0].astype(int)
    kept = light <= min(knee, 203)
    assert np.abs(shown[kept] - 255 * (light[kept] / 203) ** (1 / 2.4)).max() <= 3
    assert (np.diff(shown) >= -1).all() and shown[-1] >= 252
    assert peak <= 203 or shown[np.searchsorted(light, 203)] < 250


@pytest.mark.parametrize("transfer", [hdr.PQ, hdr.HLG])
def test_sparks_are_no_peak(transfer):
    light = np.full((100, 100), 180.0)
    light[0, :5] = 1000
    image = np.round(65535 * coded(light, transfer)).astype(np.uint16)[..., None].repeat(3, 2)
    shown = hdr.to_sdr(image, transfer, 1)[..., 0].astype(int)
    assert (shown[0, :5] == 255).all() and abs(shown[50, 50] - 255 * (180 / 203) ** (1 / 2.4)) <= 3


def test_wide_gamut_becomes_plain():
    """A colour of BT.709 that was written as BT.2020 comes back."""
    plain = np.array([[[40, 90, 200], [200, 180, 30], [120, 150, 190]]], np.uint8)
    light = (plain[..., ::-1] / 255) ** 2.4 @ np.array(
        [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]
    ).T
    wide = np.round(65535 * light ** (1 / 2.4))[..., ::-1].astype(np.uint16)
    assert np.abs(hdr.to_sdr(wide, 14, 9).astype(int) - plain).max() <= 2
    assert not hdr.is_needed(1, 1) and not hdr.is_needed(2, 2) and hdr.is_needed(2, 9)


def hdr_clip(path, frames, transfer, name, codec="libx264", form="yuv420p10le"):
    """The frames as if a camera had recorded them in HDR: their white at 203 cd/m2, in the primaries of BT.2020, 10
    bit.
    """
    matrix = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]).T
    with av.open(str(path), "w") as out:
        params = {"x264-params": f"colorprim=bt2020:transfer={name}:colormatrix=bt2020nc", "qp": "8"}
        stream = out.add_stream(codec, rate=25, options=params if codec == "libx264" else {})
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], form
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = 9, transfer, 9, 1
        for i, image in enumerate(frames):
            rgb = coded(((image[..., ::-1] / 255) ** 2.4 @ matrix) * 203, transfer)
            frame = av.VideoFrame.from_ndarray(np.round(65535 * rgb).astype(np.uint16), format="rgb48le")
            frame = frame.reformat(format=form, dst_colorspace=9, dst_color_range=1)
            frame.pts, frame.time_base = i, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    "transfer, name", [pytest.param(hdr.PQ, "smpte2084", id="PQ"), pytest.param(hdr.HLG, "arib-std-b67", id="HLG")]
)
@pytest.mark.parametrize("brightness", [0.7, 1.0])
def test_hdr_clip_looks_like_the_plain_one(tmp_path, transfer, name, brightness):
    sources = [cv2.convertScaleAbs(f, alpha=brightness) for f in pattern(4, 640, 360)]
    path = hdr_clip(tmp_path / "clip.mp4", sources, transfer, name)
    frames = list(FrameReader(path, parse("even", 4)))
    assert len(frames) == 4 and frames[0].image.dtype == np.uint8
    for frame in frames:
        assert np.abs(frame.image.astype(int) - sources[frame.index]).mean() < 3
    flat = stored(path)[0]
    assert np.abs(flat.astype(int) - sources[0]).mean() > 7, "the clip is one that looks wrong when nothing is done"


def test_colours_that_the_container_alone_states(tmp_path):
    """ProRes of many programs: the frames do not say that they are HDR, and came out flat."""
    sources = [cv2.convertScaleAbs(f, alpha=0.7) for f in pattern(4, 640, 360)]
    path = hdr_clip(tmp_path / "clip.mov", sources, hdr.PQ, "smpte2084", codec="prores_ks", form="yuv422p10le")
    data = bytearray(path.read_bytes())
    at = data.find(b"icpf")
    while at >= 0:  # primaries, transfer and matrix in the header of a frame: unspecified
        data[at + 18 : at + 21] = b"\2\2\2"
        at = data.find(b"icpf", at + 4)
    path.write_bytes(data)
    with av.open(str(path)) as container:
        said, frame = container.streams.video[0].codec_context.color_trc, next(container.decode(video=0))
        assert (said, frame.color_trc) == (hdr.PQ, 2)
    frames = list(FrameReader(path, parse("even", 4)))
    assert len(frames) == 4
    for frame in frames:
        assert np.abs(frame.image.astype(int) - sources[frame.index]).mean() < 4


@pytest.mark.parametrize(
    "tags, matrix, full",
    [
        pytest.param("colormatrix=bt709", (0.2126, 0.0722), False, id="BT.709"),
        pytest.param("colormatrix=smpte170m", (0.299, 0.114), False, id="BT.601"),
        pytest.param("colormatrix=bt470bg", (0.299, 0.114), False, id="BT.601 (PAL)"),
        pytest.param("", (0.299, 0.114), False, id="says nothing"),
        pytest.param("colormatrix=bt709:fullrange=on", (0.2126, 0.0722), True, id="BT.709, full range"),
        pytest.param("fullrange=on", (0.299, 0.114), True, id="full range"),
        pytest.param("colormatrix=bt2020nc", (0.2627, 0.0593), False, id="BT.2020 matrix"),
        pytest.param(
            "colormatrix=bt2020c", (0.2627, 0.0593), False, id="a matrix that FFmpeg does not convert: the nearest"
        ),
    ],
)
def test_matrix_and_range(tmp_path, tags, matrix, full):
    colour = np.array([0.78, 0.45, 0.20])  # RGB
    kr, kb = matrix
    luma = kr * colour[0] + kb * colour[2] + (1 - kr - kb) * colour[1]
    parts = np.array([luma, (colour[2] - luma) / (2 - 2 * kb), (colour[0] - luma) / (2 - 2 * kr)])
    values = np.round(parts * 255 + (0, 128, 128) if full else parts * (219, 224, 224) + (16, 128, 128)).astype(int)
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"qp": "1", "x264-params": tags})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        frame = av.VideoFrame(320, 240, "yuv420p")
        for plane, value in zip(frame.planes, values):
            plane.update(bytes([value]) * plane.buffer_size)
        frame.pts, frame.time_base, frame.color_range = 0, Fraction(1, 25), 2 if full else 1
        out.mux([*stream.encode(frame), *stream.encode()])
    image = next(FrameReader(path, parse("even", 1))).image
    assert np.abs(image[100, 100, ::-1] - colour * 255).max() <= 3


@pytest.mark.parametrize(
    "width, height, codec, matrix",
    [
        pytest.param(1280, 720, "libx264", "709", id="720p"),
        pytest.param(720, 1280, "libx264", "709", id="720p upright"),
        pytest.param(1280, 536, "libx264", "709", id="wide film"),
        pytest.param(1920, 1080, "mpeg2video", "709", id="MPEG-2"),
        pytest.param(1280, 720, "mpeg4", "709", id="MPEG-4"),
        pytest.param(854, 480, "libx264", "601", id="480p"),
        pytest.param(720, 576, "mpeg2video", "601", id="DVD"),
        pytest.param(480, 640, "libx264", "601", id="small upright"),
        pytest.param(1280, 720, "libvpx", "601", id="VP8 knows one matrix only"),
        pytest.param(1280, 720, "mjpeg", "601", id="and so does JPEG"),
    ],
)
def test_matrix_of_video_that_says_nothing(tmp_path, width, height, codec, matrix):
    """As players take it: FFmpeg's converter takes BT.601 for everything."""
    kr, kb = {"709": (0.2126, 0.0722), "601": (0.299, 0.114)}[matrix]
    colour = np.array([0.78, 0.45, 0.20])  # RGB
    luma = kr * colour[0] + kb * colour[2] + (1 - kr - kb) * colour[1]
    parts = np.array([luma, (colour[2] - luma) / (2 - 2 * kb), (colour[0] - luma) / (2 - 2 * kr)])
    full = codec == "mjpeg"
    values = np.round(parts * 255 + (0, 128, 128) if full else parts * (219, 224, 224) + (16, 128, 128)).astype(int)
    path = tmp_path / f"clip.{'mkv' if codec in ('libvpx', 'mjpeg') else 'mp4'}"
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25, options={"qp": "4"} if codec == "libx264" else {})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuvj420p" if full else "yuv420p"
        stream.bit_rate = 20_000_000
        frame = av.VideoFrame(width, height, stream.pix_fmt)
        for plane, value in zip(frame.planes, values):
            plane.update(bytes([value]) * plane.buffer_size)
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        out.mux([*stream.encode(frame), *stream.encode()])
    image = next(FrameReader(path, parse("even", 1))).image
    assert np.abs(image[100, 100, ::-1] - colour * 255).max() <= 4


@pytest.mark.parametrize("tag", range(0, 19))
def test_any_tag_of_colour_gives_a_picture(tmp_path, tag):
    """Reserved and rare values, which FFmpeg's converter refuses."""
    plain = write_video(tmp_path / "plain.mp4", pattern(1, 320, 240))
    path = filtered(
        plain,
        tmp_path / "clip.mp4",
        f"h264_metadata=matrix_coefficients={tag}:transfer_characteristics={tag}:colour_primaries={tag}",
    )
    assert next(FrameReader(path, parse("even", 1))).image.shape == (240, 320, 3)


# --- the track
# ------------------------------------------------------------------------------------------------------------------
Is = av.stream.Disposition


def tracks(path, *kinds):
    """A file of video tracks: (brightness, disposition, frames) each."""
    with av.open(str(path), "w", options={"default_mode": "passthrough"} if path.suffix == ".mkv" else {}) as out:
        streams = []
        for _, disposition, _ in kinds:
            stream = out.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt, stream.disposition = 320, 240, "yuv420p", disposition
            streams.append(stream)
        for (level, _, count), stream in zip(kinds, streams):
            for i in range(count):
                frame = av.VideoFrame.from_ndarray(np.full((240, 320, 3), level, np.uint8), format="bgr24")
                frame.pts, frame.time_base = i, Fraction(1, 25)
                out.mux(stream.encode(frame))
            out.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    "suffix, kinds",
    [
        pytest.param("mkv", [(50, 0, 20), (200, Is.default, 20)], id="the second is the default"),
        pytest.param("mkv", [(50, 0, 20), (100, 0, 20), (200, Is.default, 20)], id="the third of three"),
        pytest.param("mkv", [(200, Is.default, 20), (50, Is.default, 20)], id="two defaults: the first"),
        pytest.param("mkv", [(200, 0, 20), (50, 0, 20)], id="no default: the first"),
        pytest.param("mkv", [(50, Is.default, 0), (200, 0, 20)], id="the default is empty"),
        pytest.param("mp4", [(50, 0, 20), (200, Is.default, 20)], id="MP4: the first is switched off"),
        pytest.param("ts", [(200, 0, 20), (50, 0, 20)], id="TS: the first"),
        pytest.param("mp4", [(50, Is.default, 1), (200, Is.default, 20)], id="MP4: a cover that is called a film"),
        pytest.param("mkv", [(50, Is.default, 1), (200, 0, 20)], id="MKV: a cover that is called a film"),
    ],
)
def test_the_track_that_players_show(tmp_path, suffix, kinds):
    path = tracks(tmp_path / f"clip.{suffix}", *kinds)
    reader = FrameReader(path, parse("even", 4))
    frames = list(reader)
    assert len(frames) == 4 and reader.note == "" and all(abs(f.image.mean() - 200) < 5 for f in frames)
    assert probe(path).frame_count == 20


def test_cover_art_is_no_track(tmp_path):
    """Before the film it must not be taken for it; alone it is no video."""
    cover = cv2.imencode(".png", np.full((240, 320, 3), 50, np.uint8))[1].tobytes()

    def write(path, film):
        with av.open(str(path), "w") as out:
            art = out.add_stream("png", rate=25)
            art.width, art.height, art.pix_fmt, art.disposition = 320, 240, "rgb24", Is.attached_pic
            stream = out.add_stream("libx264" if film else "aac", rate=25 if film else 44100)
            if film:
                stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
            out.start_encoding()
            packet = av.Packet(cover)
            packet.stream, packet.pts, packet.dts, packet.is_keyframe = art, 0, 0, True
            out.mux(packet)
            for i in range(10):
                frame = (
                    av.VideoFrame.from_ndarray(np.full((240, 320, 3), 200, np.uint8), format="bgr24")
                    if film
                    else av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
                )
                if not film:
                    frame.sample_rate = 44100
                frame.pts = i if film else i * 1024
                out.mux(stream.encode(frame))
            out.mux(stream.encode())
        return path

    assert abs(next(FrameReader(write(tmp_path / "film.mp4", True), parse("even", 1))).image.mean() - 200) < 5
    with pytest.raises(UserError, match="no video stream"):
        probe(write(tmp_path / "sound.mp4", False))
