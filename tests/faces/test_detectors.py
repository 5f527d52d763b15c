"""The detectors: mtcnn_fast finds the package's faces, the package's silent error is guarded, sizes work."""

from pathlib import Path

import numpy as np
import pytest

from deepfake_detection.faces import detectors
from deepfake_detection.faces.detectors.pyramid import scales
from deepfake_detection.faces.extract import _chunks, keep
from deepfake_detection.video.decode import FrameReader
from deepfake_detection.video.sampling import parse
from tests.clips import scene

ALL = detectors.NAMES


def iou(a, b) -> float:
    """Intersection over union of two boxes, 0..1."""
    w = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    h = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    return w * h / (a.width * a.height + b.width * b.height - w * h) if w > 0 and h > 0 else 0.0


@pytest.fixture(scope="module")
def make():
    made = {}

    def get(name):
        if name not in made:
            made[name] = detectors.create(name)
        return made[name]

    return get


@pytest.fixture(scope="module")
def frames():
    return [scene([(200, 180)], 220), scene([(150, 170), (480, 190)], 180), scene([]), scene([(100, 100)], 90)]


@pytest.mark.parametrize("name", ALL)
def test_finds_the_faces_that_are_there(make, frames, name):
    detector = make(name)
    found = [keep(f, detector.confidence) for f in detector.detect(frames)]
    assert [len(f) for f in found] == [1, 2, 0, 1]
    left, right = sorted(found[1], key=lambda f: f.x)
    assert 60 < left.center[0] < 240 and 390 < right.center[0] < 570
    for faces in found:
        assert [f.confidence for f in faces] == sorted((f.confidence for f in faces), reverse=True)
        for face in faces:
            assert 0 <= face.x and 0 <= face.y and face.x + face.width <= 640 and face.y + face.height <= 360
            (lx, ly), (rx, ry), (nx, ny), (mlx, mly), (mrx, mry) = face.points
            assert (
                lx < nx < rx and mlx < mrx and max(ly, ry) < ny < min(mly, mry)
            )  # viewer's left first, on every detector
            assert face.source == "detected"


@pytest.mark.parametrize("name", ALL)
def test_a_batch_is_its_frames_one_by_one(make, frames, name):
    detector = make(name)
    together = detector.detect(frames)
    for frame, faces in zip(frames, together):
        (alone,) = detector.detect([frame])
        assert len(alone) == len(faces)
        for a, b in zip(alone, faces):
            assert iou(a, b) > 0.999 and a.confidence == pytest.approx(b.confidence, abs=2e-4)


@pytest.mark.parametrize("name", ALL)
def test_odd_frames(make, frames, name):
    detector = make(name)
    tiny, mixed = np.zeros((5, 7, 3), np.uint8), [frames[0], np.full((40, 30, 3), 128, np.uint8), frames[0]]
    assert detector.detect([]) == [] and detector.detect([tiny]) == [[]]
    sizes = [len(f) for f in detector.detect(mixed)]  # several sizes in one call
    assert sizes[0] == sizes[2] == 1 and sizes[1] == 0


@pytest.mark.parametrize("name", ALL)
def test_the_smallest_face_is_an_option_that_works(make, name):
    detector = make(name)
    frame = scene([(100, 100), (450, 180)], 60)  # faces of about 25 px
    frame[30:330, 330:600] = scene([(450, 180)], 260)[30:330, 330:600]  # and one of about 110
    small = [f for f in detector.detect([frame], 15)[0] if f.center[0] < 200]
    assert len(small) == 1 and 15 < small[0].height < 45
    for smallest in (60, 80):
        large_only = detector.detect([frame], smallest)[0]
        assert [f for f in large_only if f.center[0] > 300] and not [f for f in large_only if f.center[0] < 200]


def test_the_packages_silent_error_is_guarded(make, frames):
    """mtcnn 1.0.0 fails with a smallest face above about 25 px: by an error, or worse, by finding no face."""
    import cv2
    from mtcnn import MTCNN

    picture = cv2.cvtColor(frames[0], cv2.COLOR_BGR2RGB)
    package = MTCNN()
    assert len(package.detect_faces(picture)) == 1 and package.detect_faces(picture, min_face_size=35) == []
    for name in ("mtcnn", "mtcnn_fast"):
        for smallest in (26, 35, 60):
            assert len(make(name).detect([frames[0]], smallest)[0]) == 1


def test_reference_is_the_package(make, frames):
    import cv2
    from mtcnn import MTCNN

    expected = MTCNN().detect_faces([cv2.cvtColor(f, cv2.COLOR_BGR2RGB) for f in frames])
    for theirs, ours in zip(expected, make("mtcnn").detect(frames)):
        assert len(theirs) == len(ours)
        for a, b in zip(sorted(theirs, key=lambda f: -f["confidence"]), ours):
            assert np.abs(np.array(a["box"]) - b.box).max() <= 0.51 and a["confidence"] == pytest.approx(
                b.confidence, abs=1e-4
            )
            assert np.abs(np.array(a["keypoints"]["nose"]) - b.points[2]).max() <= 0.51


def test_fast_finds_the_packages_faces_on_made_frames(make, frames):
    _assert_same_faces(make, [frames])


def test_fast_finds_the_packages_faces_on_real_clips(make, shared):
    """Measured over 63 clips: 218 of 218 faces, none more, mean IoU 0.998, least 0.92."""
    ff = shared / "data" / "FaceForensics++"
    clips = [
        shared / "data/dfdc/abofeumbvv.mp4",
        shared / "data/dfdc/adylbeequz.mp4",
        shared / "data/odd/vertical_phone.mp4",
        ff / "original_sequences/youtube/c23/videos/263.mp4",
        ff / "manipulated_sequences/NeuralTextures/c40/videos/585_599.mp4",
    ]
    batches = [c for clip in clips for c in _chunks(FrameReader(clip, parse("per-second")))]
    assert _assert_same_faces(make, [[f.image for f in b] for b in batches]) >= 25


def _assert_same_faces(make, batches) -> int:
    overlaps, points = [], []
    for batch in batches:
        for theirs, ours in zip(make("mtcnn").detect(batch), make("mtcnn_fast").detect(batch)):
            assert len(theirs) == len(ours)
            for a in theirs:
                best = max(ours, key=lambda b: iou(a, b))
                overlaps.append(iou(a, best))
                points.append(np.abs(np.subtract(a.points, best.points)).max() / a.width)
    # The least ones: of several near-equal windows around one face, float rounding picks another than the package's
    # ties do.
    assert np.mean(overlaps) >= 0.99 and min(overlaps) > 0.8 and np.mean(points) < 0.01
    return len(overlaps)


def test_shipped_networks_are_the_installed_packages(monkeypatch):
    onnx = pytest.importorskip("onnx")
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "tools")
    import build_mtcnn

    for net in build_mtcnn.NETS:
        shipped = onnx.load(detectors.DATA / f"mtcnn_{net}.onnx")
        assert shipped.graph == build_mtcnn.build(net).graph


@pytest.mark.parametrize("width, height", [(633, 356), (480, 864), (264, 336), (1280, 720)])
def test_pyramid_is_the_packages_at_its_default(width, height):
    from mtcnn.utils.images import build_scale_pyramid

    ours, theirs = scales(width, height, 20), build_scale_pyramid(width, height, 20, 0.709)
    assert np.allclose(ours, theirs[: len(ours)]) and len(theirs) - len(ours) <= 1


def test_pyramid_never_goes_below_the_networks_view():
    for smallest in (5, 20, 26, 60, 200, 1000):
        for size in (11, 12, 13, 100, 356):
            assert all(int(size * s) >= 12 for s in scales(size * 2, size, smallest))


@pytest.mark.parametrize(
    "arguments", [dict(name="haar"), dict(name="yunet", min_face_px=0), dict(name="yunet", min_face_px=-3)]
)
def test_refuses_nonsense(arguments):
    with pytest.raises(ValueError):
        detectors.create(**arguments)


def test_fast_needs_no_tensorflow(project):
    import subprocess
    import sys

    code = (
        "import sys, numpy as np\nfrom deepfake_detection.faces import detectors, extract\n"
        "detectors.create('mtcnn_fast').detect([np.zeros((200, 300, 3), np.uint8)])\n"
        "heavy = {'tensorflow', 'keras', 'scipy', 'pandas', 'matplotlib', 'sklearn'} & set(sys.modules)\nassert not "
        "heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=project, timeout=120)
