"""The embedded sample holds what its README promises. Decoding is tested on a few clips only; headers of all are
read."""

import collections
import json

import pytest

from deepfake_detection.datasets.manifest import read_manifest
from deepfake_detection.video.decode import FrameReader
from deepfake_detection.video.probe import probe
from deepfake_detection.video.sampling import parse


@pytest.fixture(scope="module")
def metadata(sample):
    return json.loads((sample / "metadata.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def infos(sample, metadata):
    return {name: probe(sample / name) for name in metadata}


def test_metadata_and_files_name_each_other(sample, metadata):
    assert sorted(metadata) == sorted(p.name for p in sample.glob("*.mp4"))
    assert len(metadata) >= 40


def test_labels_and_originals(metadata):
    for name, row in metadata.items():
        assert row["label"] in ("REAL", "FAKE") and row["split"] == "train", name
        if row["label"] == "FAKE":
            original = metadata[row["original"]]
            assert original["label"] == "REAL" and original["identity"] == row["identity"], name
        else:
            assert row["original"] is None, name
    labels = collections.Counter(row["label"] for row in metadata.values())
    assert labels["FAKE"] > labels["REAL"]


def test_groups_of_the_manifest_are_the_identities(sample, metadata):
    manifest = read_manifest(sample)
    assert (manifest["error"] == "").all() and (manifest["dataset"] == "dfdc").all()
    identity = manifest["video"].map(lambda name: metadata[name]["identity"])
    assert (manifest.groupby(identity)["group"].nunique() == 1).all() and (
        manifest.groupby("group")["video"].count() >= 1
    ).all()
    assert manifest["group"].nunique() == identity.nunique() >= 9  # eight with faces, one without
    with_faces = manifest[identity != "no-face"]
    counts = with_faces.groupby(["group", "label"]).size().unstack()
    assert (counts["REAL"] >= 1).all() and (counts["FAKE"] >= 2).all() and len(counts) >= 8


def test_small_enough_to_clone(sample):
    assert sum(p.stat().st_size for p in sample.iterdir() if p.is_file()) <= 10e6


def test_length_and_rate(infos):
    for name, info in infos.items():
        assert 5 <= info.duration_s <= 11, name
        assert 23 < info.fps < 31, name
    assert {round(i.fps, 2) for i in infos.values()} >= {23.98, 24.0, 25.0, 29.97, 30.0}


def test_every_resize_rule_and_both_orientations(infos, metadata):
    rules = collections.defaultdict(set)
    for name, info in infos.items():
        rule = "x2" if info.width < 300 else "x1" if info.width <= 1000 else "x0.5" if info.width <= 1900 else "x0.33"
        rules[rule].add(metadata[name]["label"])
    assert {k: len(v) for k, v in rules.items()} == {"x2": 2, "x1": 2, "x0.5": 2, "x0.33": 2}
    assert any(i.height > i.width for i in infos.values())


def test_codec_is_h264(sample, metadata):
    for name in metadata:
        assert b"avc1" in (sample / name).read_bytes(), name  # the sample entry of H.264 in an MP4


@pytest.mark.parametrize("name", ["astronaut_close-up.mp4", "curly_vertical_mirror.mp4", "no-face_coffee.mp4"])
def test_decodes_to_its_end(sample, infos, name):
    frames = list(FrameReader(sample / name, parse("per-second")))
    assert len(frames) == -(-infos[name].frame_count // int(infos[name].fps))
    assert all(f.image.std() > 5 for f in frames)


def test_readme_lists_every_clip(sample, metadata):
    text = (sample / "README.md").read_text(encoding="utf-8")
    assert [n for n in metadata if f"| `{n}` | {metadata[n]['label']} |" not in text] == []
    assert "no benchmark" in text
