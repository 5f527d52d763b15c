"""The leak check on splits of many tools: it finds what is planted, and nothing in a clean split."""

import json
import os
import subprocess
import sys

import pytest

from deepfake_detection.datasets import split_check


def plant(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return root


def frames(folder, title, numbers=range(4), form="{t}-{n:03d}-00.png"):
    return [f"{folder}/{form.format(t=title, n=n)}" for n in numbers]


FORMS = [
    "{t}-{n:03d}-00.png",
    "{t}_{n}.png",
    "{t}-{n}.jpg",
    "{t}_frame{n:04d}.jpg",
    "{t}_frame_{n}_face_0.png",
    "{t}_{n}_0.png",
    "{t}/{n:03d}.png",
    "{t}/frame_{n}.png",
    "{t}.{n}.jpeg",
    "{t} {n}.png",
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "titles",
    [
        ["aagfhgtpmv", "abarnvbtwb", "my-clip-a", "my-clip-b", "zz", "qq"],
        ["001_870", "002_006", "003_000", "004_982", "005_010", "009_027"],
        ["clip1", "clip2", "clip3", "clip4", "clip5", "clip6"],
    ],
)
@pytest.mark.parametrize(
    "sets", [("train", "val", "test"), ("Training", "validation", "testing"), ("fold_a", "fold_b", "fold_c")]
)
def test_clean_and_leaking_splits_of_every_naming(tmp_path, form, titles, sets):
    names = []
    for i, title in enumerate(titles):
        names += frames(f"{sets[i // 2]}/{'real' if i % 2 else 'fake'}", title, form=form)
    clean = split_check.find(plant(tmp_path / "clean", *names))
    assert not clean.videos and not clean.pictures and clean.titles == 6, clean.reading
    names += frames(f"{sets[2]}/fake", titles[0], range(4, 7), form)
    found = split_check.find(plant(tmp_path / "leaking", *names))
    assert list(found.videos) == [titles[0]], found.reading
    assert sorted(found.videos[titles[0]].values()) == [3, 4]


def test_classes_above_sets_and_deeper_folders(tmp_path):
    found = split_check.find(
        plant(
            tmp_path,
            *frames("x/real/train", "ab"),
            *frames("x/real/test", "cd"),
            *frames("x/fake/train", "ef"),
            *frames("x/fake/test", "ab", [9]),
        )
    )
    assert (
        list(found.videos) == ["ab"] and found.sets == {"train": 8, "test": 5} or found.sets == {"test": 5, "train": 8}
    )


def test_one_file_a_video_is_not_cut(tmp_path):
    """video_1 .. video_9 are nine videos of both classes, not nine frames of one."""
    names = [f"train/{'real' if i % 2 else 'fake'}/video_{i}.jpg" for i in range(8)] + [
        "test/real/video_8.jpg",
        "test/fake/video_9.jpg",
    ]
    found = split_check.find(plant(tmp_path, *names))
    assert found.titles == 10 and not found


def test_one_name_without_a_number_among_many_with_two(tmp_path):
    names = [n for i in range(6) for n in frames(f"{'train' if i % 2 else 'test'}/real", f"clip{i}", form=FORMS[5])]
    found = split_check.find(plant(tmp_path, *names, "train/real/cover.png"))
    assert found.titles == 7 and not found, found.reading


def test_groups_in_names(tmp_path):
    found = split_check.find(
        plant(
            tmp_path,
            *frames("train/fake", "000_003"),
            *frames("test/real", "003"),
            *frames("test/fake", "Deepfakes-c23-010_011"),
            *frames("train/real", "c40-011"),
            *frames("train/real", "500"),
            *frames("test/real", "501"),
        )
    )
    assert not found.videos
    assert found.groups == {
        "ffpp_000": {"train": ["000_003"], "test": ["003"]},
        "ffpp_010": {"train": ["c40-011"], "test": ["Deepfakes-c23-010_011"]},
    }
    found = split_check.find(
        plant(
            tmp_path / "cdf",
            *frames("train/fake", "id0_id1_0000"),
            *frames("test/real", "id1_0004"),
            *frames("test/real", "id7_0004"),
        )
    )
    assert found.groups == {"celebdf_id0": {"train": ["id0_id1_0000"], "test": ["id1_0004"]}}


def test_flattened_ffpp(tmp_path):
    """Numbers that are titles, and numbers that are frames, in one split."""
    plant(
        tmp_path,
        *frames("train/fake", "000_003", form="{t}_{n}.png"),
        *frames("train/real", "000", form="{t}_{n}.png"),
        *frames("test/real", "003", form="{t}_{n}.png"),
        *frames("test/fake", "010_011", form="{t}_{n}.png"),
    )
    found = split_check.find(tmp_path)
    assert found.titles == 4 and found.groups == {"ffpp_000": {"train": ["000", "000_003"], "test": ["003"]}}


def test_same_picture_under_two_names(tmp_path):
    plant(tmp_path, *frames("train/real", "ab"), *frames("test/real", "cd"))
    (tmp_path / "test/real/cd-009-00.png").write_bytes((tmp_path / "train/real/ab-000-00.png").read_bytes())
    found = split_check.find(tmp_path)
    assert found.pictures == [("test/real/cd-009-00.png", "train/real/ab-000-00.png")] and not found.videos and found


def check(project, *options):
    return subprocess.run(
        [sys.executable, "-m", "deepfake_detection.leaks", *map(str, options)],
        capture_output=True,
        text=True,
        cwd=project,
    )


def test_command(project, tmp_path):
    split = plant(
        tmp_path / "split",
        *frames("train/real", "orig"),
        *frames("train/fake", "other"),
        *frames("test/fake", "fake-of-orig"),
        *frames("val/real", "third"),
    )
    done = check(project, split)
    assert done.returncode == 0 and "no groups known" in done.stdout and "no leak found" in done.stdout
    # The same split, with the metadata that tells what the fake was made of.
    data = tmp_path / "data"
    plant(data, "orig.mp4", "other.mp4", "fake-of-orig.mp4", "third.mp4")
    (data / "metadata.json").write_text(
        json.dumps({"orig.mp4": {"label": "REAL"}, "fake-of-orig.mp4": {"label": "FAKE", "original": "orig.mp4"}})
    )
    done = check(project, split, "--data", data)
    assert done.returncode == 1 and "LEAK group dfdc_orig: test: fake-of-orig; train: orig" in done.stdout
    (tmp_path / "split_manifest.csv").write_text("title,group\norig,g1\nthird,g1\n")
    done = check(project, split)
    assert done.returncode == 1 and "LEAK group g1: train: orig; val: third" in done.stdout


@pytest.mark.parametrize(
    "names, options, what",
    [
        (["train/real/a-000-00.png"], [], "only the set train"),
        (["real/a-000-00.png", "fake/b-000-00.png"], [], "this is no split"),
        (["train/notes.txt"], [], "no pictures"),
        (None, [], "no such folder"),
        (["train/a-000-00.png", "test/b-000-00.png"], ["--pattern", "("], "not a regular expression"),
        (["train/a-000-00.png", "test/b-000-00.png"], ["--pattern", ".+"], "no group called title"),
        (["train/a-000-00.png", "test/b-000-00.png"], ["--pattern", "(?P<title>x)"], "do not fit the pattern"),
        (["train/a-000-00.png", "test/b-000-00.png"], ["--manifest", "missing.csv"], "cannot read this table"),
    ],
)
def test_command_refuses_what_is_no_split(project, tmp_path, names, options, what):
    if names:
        plant(tmp_path / "split", *names)
    done = check(project, tmp_path / "split", *options)
    assert (
        done.returncode == 2
        and what in done.stderr
        and done.stderr.startswith("error: ")
        and "Traceback" not in done.stderr
    )


def test_pattern(tmp_path):
    plant(tmp_path, "train/real/7_of_ab.png", "test/real/8_of_ab.png")
    assert not split_check.find(tmp_path).videos
    assert list(split_check.find(tmp_path, pattern=r"\d+_of_(?P<title>.+)").videos) == ["ab"]


def test_loop_of_links_and_known_titles(tmp_path):
    plant(tmp_path, "train/real/video_1_2.png", "train/real/video_1_3.png", "test/real/video_2_9.png")
    (tmp_path / "train" / "loop").symlink_to(tmp_path)
    found = split_check.find(tmp_path, groups={"video_1": "g", "video_2": "h", "video": "z"})
    assert found.titles == 2 and not found


def test_a_folder_of_a_split_that_may_not_be_read(somebody, capsys):
    plant(somebody, "train/real/ab_1.png", "test/real/ab_2.png", "test/lost+found/in/cd_3.png")
    os.chmod("test/lost+found", 0o444)
    assert [str(i.path) for i in split_check.read_split(somebody)] == ["test/real/ab_2.png", "train/real/ab_1.png"]
    assert "lost+found" in capsys.readouterr().err


def test_development_faces_are_clean(shared):
    if not (shared / "data" / "dfdc_faces" / "val").is_dir():
        pytest.skip("no dfdc_faces here")
    found = split_check.find(shared / "data" / "dfdc_faces", pictures=False)
    assert found.titles == 18_000 and not found
