"""Which files of a folder are videos: by content, whatever they are called."""

import os
import struct

import numpy as np
import pytest

from deepfake_detection.datasets import scan
from deepfake_detection.datasets.manifest import read_manifest
from deepfake_detection.errors import UserError
from deepfake_detection.prediction.inputs import find_videos
from deepfake_detection.video import listing
from tests.clips import dfdc_folder, pattern, write_video


def clip(folder, suffix, codec="libx264", **options):
    return write_video(folder / f"clip{suffix}", pattern(8, 96, 64), codec=codec, **options).read_bytes()


def sound(folder, suffix, codec, layout="mono", rate=48000):
    import av

    path = folder / f"sound{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        stream.bit_rate = 64000
        frame = av.AudioFrame.from_ndarray(np.zeros((1, rate), np.float32), format="fltp", layout=layout)
        frame.sample_rate = rate
        container.mux([*stream.encode(frame), *stream.encode()])
    return path.read_bytes()


VIDEOS = [
    pytest.param(".mp4", lambda f: clip(f, ".mp4"), id="MP4"),
    pytest.param("", lambda f: clip(f, ".mp4"), id="MP4 without a suffix"),
    pytest.param(".jpg", lambda f: clip(f, ".mp4"), id="MP4 called a picture"),
    pytest.param(".txt", lambda f: clip(f, ".mkv"), id="Matroska called a text"),
    pytest.param(".m4a", lambda f: clip(f, ".mp4"), id="MP4 called sound"),
    pytest.param(".mka", lambda f: clip(f, ".mkv"), id="Matroska called sound"),
    pytest.param(".f4v", lambda f: clip(f, ".mp4"), id="F4V"),
    pytest.param(".qt", lambda f: clip(f, ".mov"), id="QuickTime"),
    pytest.param(".3g2", lambda f: clip(f, ".3g2"), id="3G2"),
    pytest.param(".vob", lambda f: clip(f, ".vob", "mpeg2video"), id="VOB"),
    pytest.param(".part", lambda f: clip(f, ".vob", "mpeg2video"), id="VOB called otherwise"),
    pytest.param(".asf", lambda f: clip(f, ".asf", "msmpeg4"), id="ASF"),
    pytest.param(".wma", lambda f: clip(f, ".asf", "msmpeg4"), id="ASF called sound"),
    pytest.param(".m2v", lambda f: clip(f, ".m2v", "mpeg2video"), id="raw MPEG-2"),
    pytest.param(".dat", lambda f: clip(f, ".h264"), id="raw H.264"),
    pytest.param(".dat", lambda f: b"\0\0\1\6" + bytes(20) + clip(f, ".h264"), id="raw H.264 that begins with an SEI"),
    pytest.param(".dat", lambda f: clip(f, ".ts", "mpeg2video")[57:], id="transport stream that begins in the middle"),
    pytest.param(".bin", lambda f: bytes(range(1, 101)) + clip(f, ".mov"), id="QuickTime behind something else"),
    pytest.param(".ogx", lambda f: clip(f, ".avi", "mpeg4"), id="AVI"),
    pytest.param(".mp4", lambda f: b"", id="empty, called a video"),
    pytest.param(".mp4", lambda f: b"a text", id="a text, called a video"),
]

NONE = [
    pytest.param(".txt", lambda f: b"ftyp is a word " * 100, id="text"),
    pytest.param(".json", lambda f: b'{"a.mp4": {"label": "REAL"}}', id="JSON"),
    pytest.param("", lambda f: b"#!/bin/sh\necho", id="script"),
    pytest.param("", lambda f: b"", id="empty"),
    pytest.param(".bin", lambda f: bytes(5000), id="zeros"),
    pytest.param(".dat", lambda f: np.random.default_rng(1).bytes(9000), id="random"),
    pytest.param(".png", lambda f: b"\x89PNG\r\n\x1a\n" + bytes(900), id="PNG"),
    pytest.param(".jpg", lambda f: b"\xff\xd8\xff\xe0" + bytes(900), id="JPEG"),
    pytest.param(".gif", lambda f: b"GIF89a" + bytes(900), id="GIF"),
    pytest.param(".heic", lambda f: b"\0\0\0\x18ftypheic" + bytes(900), id="HEIC"),
    pytest.param(".ico", lambda f: b"\0\0\1\0\1\0" + bytes(range(1, 200)) * 5, id="icon"),
    pytest.param(".npy", lambda f: b"\x93NUMPY\1\0v\0" + np.arange(999.0).tobytes(), id="NumPy"),
    pytest.param(".zip", lambda f: b"PK\3\4" + bytes(range(256)) * 9, id="ZIP"),
    pytest.param(".db", lambda f: b"SQLite format 3\0" + bytes(range(256)) * 9, id="SQLite"),
    pytest.param(".srt", lambda f: b"1\n00:00:01,000 --> 00:00:02,000\nhello\n", id="subtitles"),
    pytest.param(".m4a", lambda f: sound(f, ".m4a", "aac"), id="M4A"),
    pytest.param("", lambda f: sound(f, ".m4a", "aac"), id="M4A without a suffix"),
    pytest.param(".mka", lambda f: sound(f, ".mka", "aac"), id="Matroska sound"),
    pytest.param(".wma", lambda f: sound(f, ".wma", "wmav2", "mono", 44100), id="WMA"),
    pytest.param(".opus", lambda f: sound(f, ".opus", "libopus"), id="Opus"),
    pytest.param("", lambda f: sound(f, ".ogg", "libopus"), id="Ogg without a suffix"),
    pytest.param(".wav", lambda f: b"RIFF\x24\0\0\0WAVEfmt " + struct.pack("<I", 16) + bytes(900), id="WAV"),
]


@pytest.mark.parametrize("suffix, content", VIDEOS)
def test_videos(tmp_path, suffix, content):
    data = content(tmp_path)
    folder = tmp_path / "d"
    folder.mkdir()
    (folder / f"a{suffix}").write_bytes(data)
    (folder / f".hidden{suffix}").write_bytes(data)
    assert find_videos([folder]) == [str(folder / f"a{suffix}")]
    assert list(read_manifest(folder)["video"]) == [f"a{suffix}"] and scan.no_videos(folder) == ""


@pytest.mark.parametrize("suffix, content", NONE)
def test_what_is_none(tmp_path, suffix, content, capsys):
    data = content(tmp_path)
    folder = tmp_path / "d"
    folder.mkdir()
    (folder / f"a{suffix}").write_bytes(data)
    with pytest.raises(UserError, match="no videos"):
        find_videos([folder])
    (folder / "b.mp4").touch()
    assert find_videos([folder]) == [str(folder / "b.mp4")]
    said = f"1 file is no video (1 {suffix or 'without a suffix'})"
    assert said in capsys.readouterr().err and scan.no_videos(folder) == said
    assert list(read_manifest(folder)["video"]) == ["b.mp4"]


def test_what_is_no_file_is_never_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "zero").symlink_to("/dev/zero")
    assert not any(listing.is_video(str(tmp_path / n)) for n in ("pipe", "folder", "loop", "zero", "gone"))


def test_other_suffixes_in_data_sets(tmp_path):
    """A layout's rules hold for them too: labels, groups, originals; keys of the metadata that have another suffix."""
    video = write_video(tmp_path / "v.mp4", pattern(4, 96, 64))
    for name in ("original_sequences/youtube/c23/videos/000", "manipulated_sequences/Deepfakes/c23/videos/000_003"):
        path = tmp_path / "ffpp" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(video.read_bytes())
    rows = read_manifest(tmp_path / "ffpp").set_index("title")
    assert dict(rows["label"]) == {"000": "REAL", "000_003": "FAKE"} and rows.at["000_003", "original"] == "000"
    data = dfdc_folder(tmp_path / "dfdc", {"a.bin": video, "b": video}, {"b": "a.bin"})
    text = (data / "metadata.json").read_text().replace('"a.bin"', '"a.mp4"').replace('"b"', '"b.mp4"')
    (data / "metadata.json").write_text(text)
    rows = read_manifest(data).set_index("title")
    assert dict(rows["label"]) == {"a": "REAL", "b": "FAKE"} and set(rows["error"]) == {""}
    assert rows.at["b", "original"] == "a"


def test_the_word_about_what_is_left_out():
    assert listing.note(["x/metadata.json", "README.md"]) == ""
    said = listing.note([f"{i}.txt" for i in range(5)] + ["a", "b.png", "c.x", "d.y"])
    assert said.startswith("9 files are no videos (5 .txt, ") and said.endswith("...)")
