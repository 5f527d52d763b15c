"""Still pictures, and what is said of material that the detector was not validated on."""

import io
import re
import struct
import zlib
from types import SimpleNamespace

import cv2
import numpy as np
import prediction_clips as clips_of
import pytest
from PIL import Image

from deepfake_detection.detector import material, stills
from deepfake_detection.errors import UserError
from deepfake_detection.prediction import csv_table, inputs, lines


def photo(tint) -> np.ndarray:
    """uint8 BGR with one face, 480 x 400."""
    image = np.full((400, 480, 3), 120, np.uint8)
    image[60:340, 120:360] = clips_of.tinted(cv2.resize(clips_of.portrait(), (240, 280)), tint)
    return image


def saved(path, image, **options):
    Image.fromarray(image[:, :, ::-1]).save(path, **options)
    return path


@pytest.mark.parametrize(
    "name, tint, verdict",
    [
        pytest.param("a.jpg", clips_of.REAL_TINT, "REAL", id="jpeg"),
        pytest.param("a.png", clips_of.FAKE_TINT, "FAKE", id="png"),
        pytest.param("a.webp", clips_of.FAKE_TINT, "FAKE", id="webp"),
        pytest.param("none.jpg", None, "NO FACE", id="no face"),
    ],
)
def test_a_picture_is_judged_as_one_frame_and_says_so(tmp_path, detector, name, tint, verdict):
    path = saved(tmp_path / name, photo(tint) if tint else np.full((400, 480, 3), 120, np.uint8))
    result = detector.predict(path)
    assert result.verdict == verdict and result.frames_decoded == 1 and result.file["still"]
    assert (result.file["width"], result.file["height"], result.file["bits_per_pixel"], result.duration_s) == (
        480,
        400,
        None,
        0,
    )
    assert stills.WARNING in result.warnings
    line = lines.line_of(result.to_json())
    assert stills.WARNING in line and "1 frame with a face" in line
    assert stills.WARNING in csv_table.csv_row(result.to_json(), "defaults")["note"]


def test_the_content_tells_a_picture_not_the_name(tmp_path, detector):
    path = saved(tmp_path / "a.mp4", photo(clips_of.REAL_TINT), format="PNG")
    assert detector.predict(path).file["codec"] == "png"


def test_a_small_face_in_a_picture_is_unsure(tmp_path, detector):
    small = np.full((400, 480, 3), 120, np.uint8)
    small[100:142, 100:136] = cv2.resize(
        photo(clips_of.FAKE_TINT)[60:340, 120:360], (36, 42), interpolation=cv2.INTER_AREA
    )
    result = detector.predict(saved(tmp_path / "small.png", small))
    assert result.verdict in ("UNSURE", "NO FACE")


def test_a_picture_that_lies_on_its_side_is_turned_up(tmp_path, detector):
    turned = Image.fromarray(np.rot90(photo(clips_of.REAL_TINT))[:, :, ::-1])
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn by 90 degrees clockwise to show"
    turned.save(tmp_path / "phone.jpg", exif=exif)
    result = detector.predict(tmp_path / "phone.jpg")
    assert (result.file["width"], result.file["height"], result.verdict) == (480, 400, "REAL")


def _animated(kind):
    out = io.BytesIO()
    frames = [Image.new("RGB", (64, 64), (i, 0, 0)) for i in (0, 90, 200)]
    frames[0].save(out, format=kind, save_all=True, append_images=frames[1:], duration=100)
    return out.getvalue()


def _cut(kind):
    out = io.BytesIO()
    noise = np.random.default_rng(1).integers(0, 255, (200, 200, 3), np.uint8)
    Image.fromarray(noise).save(out, format=kind)
    return out.getvalue()[: len(out.getvalue()) // 2]


def _bomb(width, height):
    """A PNG whose header states a size that its data does not have."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    "data, words",
    [
        pytest.param(lambda: b"\0\0\0\x18ftypheic" + b"\0" * 64, "HEIC or AVIF", id="heic"),
        pytest.param(lambda: b"\0\0\0\x18ftypavif" + b"\0" * 64, "HEIC or AVIF", id="avif"),
        pytest.param(lambda: b"II*\0" + b"\0" * 64, "TIFF", id="tiff"),
        pytest.param(lambda: b"BM" + b"\0" * 64, "BMP", id="bmp"),
        pytest.param(lambda: _bomb(8000, 8000), "8000 x 8000 pixels", id="too many pixels"),
        pytest.param(lambda: _bomb(30_000, 30_000), "more than 33,177,600 pixels", id="far too many pixels"),
        pytest.param(lambda: _cut("JPEG"), "cut off or damaged", id="cut jpeg"),
        pytest.param(lambda: _cut("PNG"), "cut off or damaged", id="cut png"),
        pytest.param(lambda: _cut("WEBP"), "cut off or damaged", id="cut webp"),
        pytest.param(lambda: b"\xff\xd8\xff" + b"x" * 99, "cut off or damaged", id="no jpeg behind the first bytes"),
        pytest.param(lambda: _animated("WEBP"), "animated", id="animated webp"),
        pytest.param(lambda: _animated("PNG"), "animated", id="animated png"),
    ],
)
def test_what_is_refused(tmp_path, data, words, detector):
    path = tmp_path / "x.jpg"
    path.write_bytes(data())
    with pytest.raises(UserError, match=words) as e:
        detector.predict(path)
    assert e.value.hint


def test_a_folder_s_pictures_are_judged_when_asked_only(tmp_path):
    for name in ("a.mp4", "b.JPG", "c.heic", ".d.png", "e.txt"):
        (tmp_path / name).write_bytes(b"x")
    names = lambda found: [f.rsplit("/", 1)[1] for f in found]
    assert names(inputs.find_videos([tmp_path])) == ["a.mp4"]
    assert names(inputs.find_videos([tmp_path], pictures=True)) == ["a.mp4", "b.JPG", "c.heic"]
    assert names(inputs.find_videos([tmp_path / "b.JPG"])) == ["b.JPG"]
    (tmp_path / "a.mp4").unlink()
    with pytest.raises(UserError) as e:
        inputs.find_videos([tmp_path])
    assert "--pictures" in e.value.hint


def test_a_picture_has_a_report_and_no_annotated_copy(tmp_path, detector):
    from deepfake_detection.detector.annotate import write_annotated
    from deepfake_detection.detector.explain import write_report

    result = detector.predict(saved(tmp_path / "a.jpg", photo(clips_of.FAKE_TINT)))
    write_report(result, detector, tmp_path / "a.html", name="a.jpg")
    page = (tmp_path / "a.html").read_text()
    assert stills.WARNING in page and "<img" in page and "A frame of the video" not in page
    said = re.sub(r"<[^>]*>", "", re.sub(r"<style>.*?</style>|<svg.*?</svg>", "", page, flags=re.S))
    assert "%, of one picture." in said and "The person in the picture" in said and "The face: " in said
    for word in ("probability: average", "over time", "range", "0:00", "suspicious", "this video", "the video,"):
        assert word not in said
    with pytest.raises(UserError, match="still picture"):
        write_annotated(result, detector, tmp_path / "a.mkv")


def face(size, votes=True):
    return SimpleNamespace(votes=votes, quality={"size_px": size})


INSIDE = {"width": 1280, "height": 720, "bits_per_pixel": 0.05, "still": False}


@pytest.mark.parametrize(
    "facts, faces, words",
    [
        pytest.param(INSIDE, [face(120)], [], id="inside"),
        pytest.param({**INSIDE, "width": 1080, "height": 1920}, [], [], id="upright 1080p is inside"),
        pytest.param({**INSIDE, "height": 240}, [], ["small (240 px"], id="low"),
        pytest.param({**INSIDE, "width": 3840, "height": 2160}, [], ["large (2160 px"], id="4K"),
        pytest.param({**INSIDE, "bits_per_pixel": 0.006}, [], ["strongly compressed (0.006"], id="few bits"),
        pytest.param({**INSIDE, "bits_per_pixel": 0.5}, [], ["hardly compressed (0.5"], id="many bits"),
        pytest.param({**INSIDE, "bits_per_pixel": None}, [], [], id="length unknown"),
        pytest.param(
            INSIDE,
            [face(45), face(46), face(300, votes=False)],
            ["faces are small (46 px)"],
            id="small faces that vote",
        ),
        pytest.param(INSIDE, [face(20, votes=False)], ["faces are small (20 px)"], id="none votes"),
        pytest.param(
            {**INSIDE, "height": 200, "bits_per_pixel": 0.001, "still": True},
            [face(45)],
            ["still", "small (200", "strongly", "faces are small"],
            id="all",
        ),
    ],
)
def test_a_sentence_for_each_way_of_being_outside(facts, faces, words):
    said = material.warnings(facts, faces, material.Validated())
    assert len(said) == len(words) and all(w in s and s.endswith(".") for s, w in zip(said, words))


def test_the_model_states_its_range(tmp_path):
    import tiny_model

    from deepfake_detection import Detector

    folder = tiny_model.build(tmp_path, validated_on={"min_side_px": 100, "nobody knows": 1})
    validated = Detector(model=str(folder)).validated
    assert validated.min_side_px == 100 and validated.max_side_px == material.Validated().max_side_px
    assert material.warnings({**INSIDE, "height": 120}, [], validated) == ()


def test_a_clip_outside_the_range_is_warned_of(clips, detector):
    result = detector.predict(clips["real"])  # 200 px high
    assert result.to_json()["warnings"] and "(200 px" in lines.line_of(result.to_json())


@pytest.mark.parametrize(
    "bits, shown",
    [
        (0.0199, "0.0199"),
        (0.019999, "0.019999"),
        (0.0151, "0.015"),
        (0.00004, "0.00004"),
        (0.2004, "0.2004"),
        (0.333, "0.33"),
        (12.3, "12"),
        (123.4, "120"),
    ],
)
def test_what_is_warned_of_is_seen_in_the_number(bits, shown):
    """Rounded, it stood within the range beside it."""
    (said,) = material.warnings({**INSIDE, "bits_per_pixel": bits}, [], material.Validated())
    assert f"({shown} bits per pixel)" in said
