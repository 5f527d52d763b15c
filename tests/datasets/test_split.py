"""Balancing, splitting by group, and stage 02 on folders."""

import hashlib
import itertools
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepfake_detection.datasets import prepare, split_check
from deepfake_detection.datasets.groups import connected, identities_of_name, name_groups
from deepfake_detection.datasets.manifest import read_manifest
from deepfake_detection.datasets.split import SETS, allocate, assign_groups
from deepfake_detection.errors import UserError


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.text("abcdef", min_size=1, max_size=4), st.integers(0, 30), max_size=12),
    st.integers(0, 200),
    st.integers(0, 5),
)
def test_allocate_spreads_over_as_many_videos_as_possible(available, total, seed):
    taken = allocate(available, total, seed)
    assert sum(taken.values()) == min(total, sum(available.values()))
    assert all(0 <= taken[t] <= n for t, n in available.items())
    # Nobody has two more than one who could have had more.
    for a in available:
        for b in available:
            assert taken[a] <= taken[b] + 1 or taken[b] == available[b]


def shares(counts, placed):
    filled = {s: np.array([0.0, 0.0]) for s in SETS}
    for group, s in placed.items():
        filled[s] += counts[group]
    total = sum(filled.values())
    return {s: v / total for s, v in filled.items()}


@pytest.mark.parametrize("groups", [5, 11, 12, 40, 500])
def test_split_is_near_the_ratio_for_both_classes(groups):
    rng = np.random.default_rng(groups)
    counts = {f"g{i}": (11, 11 * int(rng.integers(0, 4))) for i in range(groups)}
    counts["g0"] = counts["g1"] = counts["g2"] = (11, 22)
    placed = assign_groups(counts, seed=3)
    assert placed == assign_groups(dict(reversed(counts.items())), seed=3)
    got = shares(counts, placed)
    slack = 0.02 if groups >= 40 else 1.2 / groups
    for s, wish in zip(SETS, (0.8, 0.1, 0.1)):
        assert (got[s] > 0).all() and (abs(got[s] - wish) <= slack + 0.05).all(), (s, got)


@pytest.mark.parametrize(
    "counts, enough",
    [
        ({"a": (1, 1), "b": (1, 1), "c": (1, 1)}, True),
        ({"a": (1, 0), "b": (1, 0), "c": (1, 0), "d": (0, 1), "e": (0, 1), "f": (0, 1)}, True),
        ({"a": (1, 1), "b": (1, 0), "c": (0, 1), "d": (1, 0), "e": (0, 9)}, True),
        ({"a": (100, 100), "b": (1, 1)}, False),
        ({"a": (5, 5), "b": (1, 0), "c": (1, 0), "d": (1, 0)}, False),
        ({}, False),
    ],
)
def test_three_sets_with_both_classes_or_a_clear_error(counts, enough):
    if enough:
        assert all((v > 0).all() for v in shares(counts, assign_groups(counts)).values())
    else:
        with pytest.raises(UserError, match="too few identity groups"):
            assign_groups(counts)


def test_groups_are_connected_components():
    assert connected([["a"], ["b"], ["a", "c"], [], ["c"], ["b", "d"]]) == [0, 1, 0, 2, 0, 1]
    assert connected([]) == []
    assert name_groups([["x"], ["y"], ["z"]], [["l"], [], ["l"]]) == ["x", "y", "x"]


@pytest.mark.parametrize(
    "name, identities",
    [
        ("000_003", ["ffpp_000", "ffpp_003"]),
        ("id0_id16_0007", ["celebdf_id0", "celebdf_id16"]),
        ("id3_0001", ["celebdf_id3"]),
        ("01_02__outside_talking_still_laughing__YVGY8LOK", ["dfd_actor_01", "dfd_actor_02"]),
        ("06__kitchen_pan", ["dfd_actor_06"]),
        ("000", []),
        ("aagfhgtpmv", []),
        ("2000_003", []),
        ("id0", []),
    ],
)
def test_identities_of_names(name, identities):
    assert identities_of_name(name) == identities


def faces_folder(root, people=9, fakes=3, frames=11):
    """A DFDC folder after 01a: one real video a person and `fakes` fakes of it; one video without faces, one label
    without file."""
    metadata = {"lost.mp4": {"label": "FAKE", "original": "p0.mp4"}}
    for p in range(people):
        metadata[f"p{p}.mp4"] = {"label": "REAL"}
        metadata |= {f"p{p}-x-{k}.mp4": {"label": "FAKE", "original": f"p{p}.mp4"} for k in range(fakes)}
    for name in [*metadata, "unlabelled.mp4"]:
        if name == "lost.mp4":
            continue
        title = name[:-4]
        (root / title / "faces").mkdir(parents=True)
        (root / title / "frames.csv").touch()
        (root / name).write_bytes(b"source")
        for n in range(0 if title == "p1-x-0" else frames):
            (root / title / "faces" / f"{title}-{n:03d}-00.png").write_bytes(f"{title} {n}".encode())
    (root / "metadata.json").write_text(json.dumps(metadata))
    return root


def tree(root):
    return {
        str(p.relative_to(root)): hashlib.sha1(p.read_bytes()).hexdigest()
        for p in sorted(root.rglob("*"))
        if p.is_file() and p.suffix != ".lock"
    }


def run02(project, *options):
    return subprocess.run(
        [sys.executable, project / "02_prepare_dataset.py", *map(str, options)],
        capture_output=True,
        text=True,
        cwd=project,
    )


def test_stage_02_end_to_end(project, tmp_path):
    data, out = faces_folder(tmp_path / "data"), tmp_path / "out"
    before = tree(data)
    done = run02(project, "--data", data, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "no leak found" in done.stdout
    # As many fake faces as real ones, over every fake video that has a face.
    import pandas as pd

    split = pd.read_csv(out / "split_manifest.csv", dtype=str)
    assert list(split.columns) == ["set", *prepare.KEPT, "title", "file"]
    assert prepare.KEPT[:5] == ("label", "group", "dataset", "manipulation", "compression")
    assert split["label"].value_counts().to_dict() == {"REAL": 99, "FAKE": 99}
    assert split[split["label"] == "FAKE"]["title"].nunique() == 26
    assert {*split["file"]} == {
        p.relative_to(out / "split_dataset").as_posix() for p in (out / "split_dataset").rglob("*.png")
    }
    assert sorted(p.name for p in (out / "prepared_dataset").rglob("*.png")) == sorted(
        split["file"].str.split("/").str[-1]
    )
    assert split.groupby("group")["set"].nunique().max() == 1
    assert split.groupby("title")["file"].count().max() <= 11
    # Every video of the manifest has a row in the account.
    account = pd.read_csv(out / "stage_reports" / "02_videos.csv", keep_default_na=False).set_index("title")
    assert set(account.index) == set(read_manifest(data)["title"])
    assert (
        account.at["p1-x-0", "status"] == "no face"
        and account.at["lost", "status"] == "error"
        and account.at["unlabelled", "status"] == "skipped"
    )
    # Links, and the source as it was.
    name = split["file"].iloc[0]
    assert os.stat(out / "split_dataset" / name).st_nlink == 3
    assert tree(data) == before
    # Again: the same bytes; another seed: another split.
    first = tree(out)
    assert run02(project, "--data", data, "--out", out).returncode == 0
    assert tree(out) == first
    assert run02(project, "--data", data, "--out", out, "--seed", "2").returncode == 0
    assert tree(out / "split_dataset") != {
        k.removeprefix("split_dataset/"): v for k, v in first.items() if k.startswith("split_dataset/")
    }
    assert not [p for p in out.iterdir() if ".partial" in p.name]


def test_balance_none_keeps_all(tmp_path):
    data = faces_folder(tmp_path / "data")
    result = prepare.prepare(read_manifest(data), data, tmp_path / "out", balance="none")
    assert (
        sum(c["fake"] for c in result.faces.values()) == 26 * 11 and sum(c["real"] for c in result.faces.values()) == 99
    )


def test_killed_between_leaves_rubbish_that_goes_and_a_whole_result(tmp_path, monkeypatch):
    data, out = faces_folder(tmp_path / "data"), tmp_path / "out"
    prepare.prepare(read_manifest(data), data, out)
    whole = tree(out)

    calls = itertools.count(1)

    def killed(source, target):
        if next(calls) > 100:
            raise KeyboardInterrupt
        os.link(source, target)

    with monkeypatch.context() as m:
        m.setattr(prepare.files, "link_or_copy", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare.prepare(read_manifest(data), data, out, seed=2)
    assert {k: v for k, v in tree(out).items() if "stage_reports" not in k} == {
        k: v for k, v in whole.items() if "stage_reports" not in k
    }
    rest = prepare.files.partial_name(out / "split_dataset")
    rest = rest.with_name(rest.name.rsplit("-", 1)[0] + "-999999")
    (rest / "train").mkdir(parents=True)  # what a killed process left
    prepare.prepare(read_manifest(data), data, out)
    assert tree(out) == whole and not rest.exists()


@pytest.mark.parametrize(
    "change, options, what",
    [
        (lambda d: [os.remove(p) for p in d.rglob("p?-0*.png")], {}, "no real faces"),
        (lambda d: [os.remove(p) for p in d.rglob("*.png")], {}, "no real and fake faces"),
        (lambda d: (d / "metadata.json").unlink(), {}, "none of these videos has a label"),
        (lambda d: None, {"faces": "marked_faces"}, "no real and fake faces"),
        (lambda d: None, {"split": "official"}, "without an official split"),
    ],
)
def test_stage_02_refuses(tmp_path, change, options, what):
    data = faces_folder(tmp_path / "data", people=4)
    change(data)
    with pytest.raises(UserError, match=what):
        prepare.prepare(read_manifest(data), data, tmp_path / "out", **options)
    assert (tmp_path / "out" / "stage_reports" / "02_videos.csv").is_file()


def test_too_few_groups(project, tmp_path):
    done = run02(project, "--data", faces_folder(tmp_path / "data", people=2), "--out", tmp_path / "out")
    assert done.returncode == 2 and done.stderr.strip().splitlines()[-1].startswith("error: too few identity groups")
    assert "Traceback" not in done.stderr and not (tmp_path / "out" / "split_dataset").exists()


def test_official_split_of_celebdf(tmp_path):
    data, listed = tmp_path / "data", []
    for person in range(6):
        for clip in range(2):
            other = (person + 1) % 6
            for folder, title in (
                ("Celeb-real", f"id{person}_{clip:04d}"),
                ("Celeb-synthesis", f"id{person}_id{other}_{clip:04d}"),
            ):
                (data / folder).mkdir(parents=True, exist_ok=True)
                (data / folder / f"{title}.mp4").write_bytes(b"x")
                (data / title / "faces").mkdir(parents=True)
                (data / title / "frames.csv").touch()
                for n in range(3):
                    (data / title / "faces" / f"{title}-{n:03d}-00.png").write_bytes(f"{title}{n}".encode())
                if person == 5:
                    listed.append(f"{int(folder == 'Celeb-real')} {folder}/{title}.mp4")
    (data / "List_of_testing_videos.txt").write_text("\n".join(listed))
    manifest = read_manifest(data)
    with pytest.raises(UserError, match="--split official"):  # all people are connected
        prepare.prepare(manifest, data, tmp_path / "out")
    result = prepare.prepare(manifest, data, tmp_path / "out", split="official")
    tests = {p.name.rsplit("-", 2)[0] for p in (tmp_path / "out" / "split_dataset" / "test").rglob("*.png")}
    assert tests == {"id5_0000", "id5_0001", "id5_id0_0000", "id5_id0_0001"}
    assert all(n > 0 for c in result.faces.values() for n in c.values())
    assert any("on two sides" in note for note in result.notes) and any("validation" in note for note in result.notes)
    assert (
        split_check.find(tmp_path / "out" / "split_dataset").groups
        and not split_check.find(tmp_path / "out" / "split_dataset").videos
    )


def test_groups_of_the_real_ffpp_tree_stay_together(shared, tmp_path):
    """The real tree's manifest; the faces are empty files in the places where stage 01a puts them."""
    manifest = read_manifest(shared / "data" / "FaceForensics++")
    for title in manifest["title"]:
        (tmp_path / "frames" / title / "faces").mkdir(parents=True)
        for n in range(4):
            (tmp_path / "frames" / title / "faces" / f"{title}-{n:03d}-00.png").touch()
    result = prepare.prepare(manifest, tmp_path / "frames", tmp_path / "out")
    total = sum(sum(c.values()) for c in result.faces.values())
    assert total == 2 * 4 * 35 and all(0.05 < sum(result.faces[s].values()) / total < 0.16 for s in ("val", "test")), (
        result.faces
    )
    # Names alone tell of the pairs, without the manifest; and they are enough to see a wrong split.
    split = tmp_path / "out" / "split_dataset"
    assert not split_check.find(split, pictures=False) and split_check.find(split, pictures=False).grouped
    moved = next((split / "train" / "real").glob("*c40-*"))
    moved.rename(split / "test" / "real" / moved.name)
    assert split_check.find(split, pictures=False).groups
