"""Picture files of strangers: the header's size decides before a pixel is decoded, by every stage that reads
pictures."""

import resource
import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest

from deepfake_detection.errors import UserError
from deepfake_detection.faces import pictures
from deepfake_detection.video import sandbox


def png(width, height, *, bits=8, colour=2, rows=None):
    """A PNG of zeros that states this size; `rows`: only so many of its rows are there."""
    line = 1 + width * bits * {0: 1, 2: 3, 6: 4}[colour] // 8
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(line)) for _ in range(height if rows is None else rows)) + packer.flush()
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
        + chunk(b"IDAT", packed)
        + chunk(b"IEND", b"")
    )


def encoded(suffix, width=40, height=30):
    return cv2.imencode(suffix, np.full((height, width, 3), 99, np.uint8))[1].tobytes()


def stated(data, old, new):
    """The file with another size in its header."""
    assert data.count(old) >= 1
    return data.replace(old, new, 1)


BOMBS = {
    "png_30000": lambda: png(30000, 30000, rows=40),
    "png_16_bit_alpha": lambda: png(20000, 20000, bits=16, colour=6, rows=10),
    "png_one_row": lambda: png(0x7FFFFFFF, 1, colour=0, rows=0),
    "png_just_over": lambda: png(7680, 4321, rows=4),
    "jpeg_65500": lambda: stated(encoded(".jpg"), struct.pack(">HH", 30, 40), struct.pack(">HH", 65500, 65500)),
    "bmp_40000": lambda: stated(encoded(".bmp"), struct.pack("<ii", 40, 30), struct.pack("<ii", 40000, 40000)),
    "tiff": lambda: encoded(".tiff"),
    "ppm": lambda: encoded(".ppm"),
    "hdr": lambda: encoded(".hdr"),
    "gif": lambda: encoded(".gif"),
    "empty": lambda: b"",
    "text": lambda: b"no picture",
    "cut_header": lambda: encoded(".png")[:20],
    "no_size": lambda: stated(encoded(".jpg"), struct.pack(">HH", 30, 40), struct.pack(">HH", 0, 40)),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_picture_beyond_the_bound_or_of_another_kind_is_none(kind):
    assert pictures.decode(BOMBS[kind]()) is None


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp"])
def test_ordinary_pictures_are_as_opencv_reads_them(tmp_path, suffix):
    data = encoded(suffix)
    (tmp_path / f"é{suffix}").write_bytes(data)
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(pictures.decode(data), expected) and np.array_equal(
        pictures.read(tmp_path / f"é{suffix}"), expected
    )


def test_the_bound_itself_is_taken():
    assert pictures.decode(encoded(".png", 50, 20), most_pixels=1000) is not None
    assert pictures.decode(encoded(".png", 50, 20), most_pixels=999) is None


def test_no_reader_takes_memory_for_a_bomb(tmp_path):
    """Every reader in one process that may take 1 GB: the bomb would take 2.7 GB."""
    (tmp_path / "faces" / "real").mkdir(parents=True)
    (tmp_path / "faces" / "fake").mkdir()
    for i in range(3):
        (tmp_path / "faces" / "real" / f"a-{i:03d}-00.png").write_bytes(png(64, 64))
        (tmp_path / "faces" / "fake" / f"b-{i:03d}-00.png").write_bytes(png(64, 64))
    (tmp_path / "faces" / "real" / "bomb-000-00.png").write_bytes(png(30000, 30000))
    code = f"""
import sys
from pathlib import Path
from deepfake_detection.export import formats
from deepfake_detection.faces import pictures
from deepfake_detection.training.face_list import find_faces
from deepfake_detection.training.input_pipeline import FaceStore
folder = Path({str(tmp_path / "faces")!r})
store = FaceStore(find_faces(folder), 32, workers=2)
assert store.unreadable == ["real/bomb-000-00.png"], store.unreadable
assert len(formats.read_faces(folder, 32, 128, 1)) == 6
from deepfake_detection.blending import faces
assert faces._cut({{"file": str(folder / "real/bomb-000-00.png"), "window": "wide"}}) == []
# ru_maxrss would be that of the process that started this one, where it is larger.
print(next(int(line.split()[1]) // 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=sandbox.environment())
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 1024


def test_a_bomb_among_stored_frames_is_one_error_row(tmp_path):
    import pandas as pd

    from deepfake_detection.faces import crop_stage

    folder = tmp_path / "one"
    folder.mkdir()
    (folder / "one-000.png").write_bytes(png(30000, 30000, rows=5))
    pd.DataFrame({"frame": [0], "index": [0], "time_s": [0.0]}).to_csv(folder / "frames.csv", index=False)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match="cannot read a frame"):
        list(crop_stage._stored_frames(folder, "one"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 512 * 1024
