"""Every layout as it is handed out, every way in which it may be broken, and the groups."""

import csv
import json
import os

import pytest

from deepfake_detection.datasets.manifest import COLUMNS, read_manifest
from deepfake_detection.errors import UserError


def plant(root, *names, content=b"video"):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def dfdc(root, metadata, *files):
    root.mkdir(parents=True, exist_ok=True)
    (root / "metadata.json").write_text(metadata if isinstance(metadata, str) else json.dumps(metadata))
    return plant(root, *files)


def rows(root, layout="auto"):
    table = read_manifest(root, layout)
    assert list(table.columns) == COLUMNS
    assert table["title"].str.casefold().is_unique
    assert not table.isna().any().any()
    return {r.video or r.title: r for r in table.itertuples()}


FAKE_OF_A = {"label": "FAKE", "split": "train", "original": "a.mp4"}
REAL = {"label": "REAL", "split": "train"}


def test_dfdc(tmp_path):
    found = rows(
        dfdc(
            tmp_path,
            {
                "a.mp4": REAL,
                "f1.mp4": FAKE_OF_A,
                "f2.mp4": {"label": "FAKE", "original": "absent.mp4"},
                "f3.mp4": {"label": "fake", "original": "absent.mp4"},
                "gone.mp4": FAKE_OF_A,
            },
            "a.mp4",
            "f1.mp4",
            "f2.mp4",
            "f3.mp4",
            "new.mp4",
        )
    )
    assert {v: r.label for v, r in found.items()} == {
        "a.mp4": "REAL",
        "f1.mp4": "FAKE",
        "f2.mp4": "FAKE",
        "f3.mp4": "FAKE",
        "gone.mp4": "FAKE",
        "new.mp4": "",
    }
    assert found["gone.mp4"].error == "missing file"
    assert found["new.mp4"].error == ""
    assert (
        found["f1.mp4"].original == "a"
        and found["f1.mp4"].group == found["a.mp4"].group == found["gone.mp4"].group == "dfdc_a"
    )
    assert found["f2.mp4"].group == found["f3.mp4"].group == "dfdc_absent"
    assert {r.dataset for r in found.values()} == {"dfdc"}


def test_dfdc_identities_of_ours_tie_originals_together(tmp_path):
    found = rows(
        dfdc(
            tmp_path,
            {
                "a.mp4": {**REAL, "identity": "woman"},
                "b.mp4": {**REAL, "identity": "woman"},
                "f.mp4": FAKE_OF_A,
                "c.mp4": {**REAL, "identity": "b"},
                "d.mp4": {**REAL, "identity": 7},
            },
            "a.mp4",
            "b.mp4",
            "c.mp4",
            "d.mp4",
            "f.mp4",
        )
    )
    assert found["a.mp4"].group == found["b.mp4"].group == found["f.mp4"].group == "dfdc_a"
    assert found["c.mp4"].group == "dfdc_c", "a person named like a file is not that file"
    assert "identity" in found["d.mp4"].error


def test_dfdc_parts_and_a_broken_one(tmp_path):
    dfdc(tmp_path / "dfdc_train_part_0", {"a.mp4": REAL}, "a.mp4")
    dfdc(tmp_path / "dfdc_train_part_01" / "dfdc_train_part_1", {"f1.mp4": FAKE_OF_A}, "f1.mp4")
    dfdc(tmp_path / "dfdc_train_part_2", '{"b.mp4": ', "b.mp4")
    found = rows(tmp_path)
    assert set(found) == {
        "dfdc_train_part_0/a.mp4",
        "dfdc_train_part_01/dfdc_train_part_1/f1.mp4",
        "dfdc_train_part_2/b.mp4",
    }
    assert found["dfdc_train_part_0/a.mp4"].group == found["dfdc_train_part_01/dfdc_train_part_1/f1.mp4"].group
    assert "not valid JSON (line 1" in found["dfdc_train_part_2/b.mp4"].error


@pytest.mark.parametrize(
    "entry, error",
    [
        (7, "not an object"),
        ([], "not an object"),
        ({"label": "MAYBE"}, "unknown label"),
        ({"label": 3}, "unknown label"),
        ({"label": "FAKE", "original": "../../b.mp4"}, "unsafe name of the original"),
        ({"label": "FAKE", "original": 5}, "unsafe name of the original"),
        ({}, ""),
        ({"label": None}, ""),
        ({"is_fake": 1}, ""),
    ],
)
def test_dfdc_odd_entries_are_errors_of_their_row(tmp_path, entry, error):
    found = rows(dfdc(tmp_path, {"x.mp4": entry, "a.mp4": REAL}, "a.mp4", "x.mp4"))
    assert error in found["x.mp4"].error and bool(found["x.mp4"].error) == bool(error)
    assert found["a.mp4"].error == "" and found["a.mp4"].label == "REAL"


@pytest.mark.parametrize(
    "key",
    [
        "../../x.mp4",
        "/etc/x.mp4",
        "..",
        "",
        ".",
        "a\\..\\x.mp4",
        "C:/x.mp4",
        "sub/../../x.mp4",
        "n\nl.mp4",
        "x" * 300,
        "a//b.mp4",
        "nul\0.mp4",
    ],
)
def test_dfdc_unsafe_names_are_never_paths(tmp_path, key):
    table = read_manifest(dfdc(tmp_path / "in", {key: REAL, "a.mp4": REAL}, "a.mp4"))
    bad = table[table["error"] != ""]
    assert list(bad["video"]) == [""] and "unsafe file name" in bad["error"].item()
    for title in table["title"]:
        assert (tmp_path / title).parent == tmp_path and len(title.encode()) <= 200 and title.isprintable()


def test_dfdc_repeated_keys(tmp_path):
    text = (
        '{\n"a.mp4": {"label": "REAL"},\n"b.mp4": {"label": "REAL"},\n"a.mp4": {"label": "FAKE"},\n"c.mp4": '
        '{"label": "REAL", "label": "FAKE"}}'
    )
    found = rows(dfdc(tmp_path, text, "a.mp4", "b.mp4", "c.mp4"))
    assert found["a.mp4"].error == "listed more than once in metadata.json (lines 2, 4)" and found["a.mp4"].label == ""
    assert found["b.mp4"].error == "" and found["c.mp4"].error == "label given more than once in metadata.json"


@pytest.mark.parametrize(
    "content, what",
    [
        ('{"a.mp4": {"label": "REAL"}', r"line 1, column 28"),
        ("", "line 1, column 1"),
        ("[]", "holds a list, not an object"),
        ("null", "not an object"),
        ('"a"', "not an object"),
        (b"\xff\xfe\x00", "not UTF-8"),
        ("[" * 100_000, "too deep"),
    ],
)
def test_dfdc_broken_metadata_is_one_line(tmp_path, content, what):
    plant(tmp_path, "a.mp4")
    (tmp_path / "metadata.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=what) as e:
        read_manifest(tmp_path)
    assert "\n" not in str(e.value) and "metadata.json" in str(e.value)


def test_byte_order_mark(tmp_path):
    plant(tmp_path, "a.mp4")
    (tmp_path / "metadata.json").write_text('\ufeff{"a.mp4": {"label": "REAL"}}')
    assert rows(tmp_path)["a.mp4"].label == "REAL"


FFPP = [
    "original_sequences/youtube/c23/videos/000.mp4",
    "original_sequences/youtube/c40/videos/000.mp4",
    "original_sequences/youtube/c23/videos/003.mp4",
    "original_sequences/youtube/raw/videos/500.mp4",
    "manipulated_sequences/Deepfakes/c23/videos/000_003.mp4",
    "manipulated_sequences/Deepfakes/c40/videos/003_000.mp4",
    "manipulated_sequences/FaceShifter/c23/videos/000_003.mp4",
    "manipulated_sequences/Deepfakes/masks/videos/000_003.mp4",
    "original_sequences/actors/c23/videos/06__kitchen_pan.mp4",
    "original_sequences/actors/c23/videos/07__kitchen_pan.mp4",
    "original_sequences/actors/c23/videos/09__hugging_happy.mp4",
    "manipulated_sequences/DeepFakeDetection/c23/videos/06_07__kitchen_pan__ABCDEFGH.mp4",
]


def test_ffpp(tmp_path):
    found = rows(plant(tmp_path, *FFPP))
    assert len(found) == 11 and not any("masks" in v for v in found)
    groups = {}
    for video, row in found.items():
        groups.setdefault(row.group, set()).add(video)
    assert set(groups) == {"ffpp_000", "ffpp_500", "dfd_actor_06", "dfd_actor_09"}
    assert len(groups["ffpp_000"]) == 6 and len(groups["dfd_actor_06"]) == 3
    fake = found[FFPP[4]]
    assert (fake.label, fake.dataset, fake.manipulation) == ("FAKE", "ffpp", "Deepfakes")
    assert fake.original == found[FFPP[0]].title and fake.title == "Deepfakes-000_003"
    assert (found[FFPP[5]].title, found[FFPP[5]].original) == (
        "003_000",
        "003",
    )  # the source exists in c23 only: its name
    dfd = found[FFPP[11]]
    assert (dfd.dataset, dfd.manipulation, dfd.original) == ("dfd", "DeepFakeDetection", "06__kitchen_pan")


def test_ffpp_official_split(tmp_path):
    plant(tmp_path, *FFPP)
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "train.json").write_text('[["000", "003"]]')
    (tmp_path / "splits" / "test.json").write_text('[["500", "501"]]')
    found = rows(tmp_path)
    assert found[FFPP[4]].split == "train" and found[FFPP[3]].split == "test" and found[FFPP[8]].split == ""
    (tmp_path / "splits" / "val.json").write_text("{")
    with pytest.raises(UserError, match="official split"):
        read_manifest(tmp_path)


CELEB = [
    "Celeb-real/id0_0000.mp4",
    "Celeb-real/id1_0003.mp4",
    "Celeb-real/id2_0000.mp4",
    "Celeb-synthesis/id0_id1_0000.mp4",
    "YouTube-real/00000.mp4",
    "YouTube-real/00001.mp4",
]


def test_celebdf(tmp_path):
    found = rows(plant(tmp_path, *CELEB))
    assert found[CELEB[0]].group == found[CELEB[1]].group == found[CELEB[3]].group == "celebdf_id0"
    assert len({r.group for r in found.values()}) == 4
    assert found[CELEB[3]].original == "id0_0000" and found[CELEB[3]].label == "FAKE"
    assert {r.split for r in found.values()} == {""}
    (tmp_path / "List_of_testing_videos.txt").write_text(
        "1 YouTube-real/00001.mp4\n0 Celeb-synthesis/id0_id1_0000.mp4\n1 Celeb-synthesis/id5_id6_0000.mp4\n0 "
        "Celeb-synthesis/id7_id8_0000.mp4\n"
        "1 ../../etc/x.mp4\n\n"
    )
    table = read_manifest(tmp_path)
    found = {r.video: r for r in table.itertuples()}
    assert found[CELEB[5]].split == found[CELEB[3]].split == "test" and found[CELEB[0]].split == "train"
    assert "the folder says FAKE" in found["Celeb-synthesis/id5_id6_0000.mp4"].error
    assert found["Celeb-synthesis/id7_id8_0000.mp4"].error == "missing file"
    assert "line 5" in found[""].error


TIMIT = [
    "higher_quality/fadg0/sa1-video-fram1.avi",
    "lower_quality/fadg0/sa1-video-fram1.avi",
    "higher_quality/fram1/sa1-video-fadg0.avi",
    "higher_quality/mabc0-sx12-video-mdef1.avi",
    "VidTIMIT/fadg0/sa1.avi",
    "VidTIMIT/mxyz0/sa2.avi",
]


def test_timit(tmp_path):
    found = rows(plant(tmp_path, *TIMIT))
    assert (
        found[TIMIT[0]].group
        == found[TIMIT[1]].group
        == found[TIMIT[2]].group
        == found[TIMIT[4]].group
        == "timit_fadg0"
    )
    assert found[TIMIT[3]].group == "timit_mabc0" and found[TIMIT[5]].group == "timit_mxyz0"
    assert [found[v].label for v in TIMIT] == ["FAKE"] * 4 + ["REAL"] * 2
    assert found[TIMIT[0]].manipulation == "higher_quality" and found[TIMIT[0]].original == "sa1"
    assert found[TIMIT[0]].title == "higher_quality-sa1-video-fram1"


def test_folders(tmp_path):
    found = rows(
        plant(
            tmp_path,
            "Real/anna.mp4",
            "Real/sub/bob.mov",
            "FAKE/anna_swap.mp4",
            "FAKE/bob.mp4",
            "FAKE/zed.mp4",
            "loose.mp4",
            "notes/readme.txt",
        )
    )
    assert [found[v].label for v in ("Real/anna.mp4", "Real/sub/bob.mov", "FAKE/zed.mp4", "loose.mp4")] == [
        "REAL",
        "REAL",
        "FAKE",
        "",
    ]
    assert (
        found["FAKE/anna_swap.mp4"].group == found["Real/anna.mp4"].group
        and found["FAKE/anna_swap.mp4"].original == "anna"
    )
    assert found["FAKE/bob.mp4"].group == found["Real/sub/bob.mov"].group
    assert {found["FAKE/bob.mp4"].title, found["Real/sub/bob.mov"].title} == {"FAKE-bob", "Real-sub-bob"}
    assert len({r.group for r in found.values()}) == 4


def test_folders_with_sets_and_flattened_names(tmp_path):
    found = rows(
        plant(
            tmp_path,
            "train/real/id0_0000.mp4",
            "validation/fake/id0_id1_0000.mp4",
            "test/fake/000_003.mp4",
            "test/fake/003_000.mp4",
        )
    )
    assert [r.split for r in found.values()] == ["test", "test", "train", "val"]
    assert found["train/real/id0_0000.mp4"].group == found["validation/fake/id0_id1_0000.mp4"].group
    assert found["test/fake/000_003.mp4"].group == found["test/fake/003_000.mp4"].group == "ffpp_000"


def test_unlabelled(tmp_path):
    found = rows(plant(tmp_path, "a.mp4", "deep/er/b.MOV", "x.txt", "._a.mp4", ".hidden/c.mp4"))
    assert set(found) == {"a.mp4", "deep/er/b.MOV"} and found["a.mp4"].label == "" and found["a.mp4"].error == ""


def test_what_the_stages_write_changes_nothing(tmp_path):
    for root, files in (
        (tmp_path / "dfdc", ["a.mp4"]),
        (tmp_path / "folders", ["real/real.mp4", "fake/b.mp4"]),
        (tmp_path / "bare", ["a.mp4", "fake.mp4"]),
    ):
        plant(root, *files)
        if root.name == "dfdc":
            dfdc(root, {"a.mp4": REAL})
        before = read_manifest(root)
        for title in before["title"]:
            plant(
                root,
                f"{title}/{title}-000.png",
                f"{title}/frames.csv",
                f"{title}/faces/{title}-000-00.png",
                f"{title}/faces/boxes.csv",
                f"{title}/metadata.json",
            )
        plant(
            root, "split_dataset/train/real/a-000-00.png", "prepared_dataset/fake/a-000-00.png", "stage_reports/x.csv"
        )
        assert read_manifest(root).equals(before)


def test_titles_never_meet_the_data_sets_own_folders(tmp_path):
    found = rows(plant(tmp_path, "real/real.mp4", "real/fake.mp4", "fake/Faces.mp4", "fake/con.mp4"))
    assert not {r.title.casefold() for r in found.values()} & {"real", "fake", "faces", "con"}


def test_titles_of_colliding_and_odd_names(tmp_path):
    long = "l" * 230
    found = rows(
        plant(
            tmp_path,
            "a.mp4",
            "a.avi",
            "A.mov",
            "x/a.mp4",
            "x-a.mp4",
            " sp ace .mp4",
            f"{long}1.mp4",
            f"{long}2.mp4",
            "ü.mp4",
            "..mp4",
            "q?:*.mp4",
            "new\nline.mp4",
        )
    )
    assert len(found) == 11  # `..mp4` is a hidden file
    for row in found.values():
        assert len(row.title.encode()) <= 200 and row.title.isprintable() and not set(row.title) & set('/\\:*?"<>|')
        assert row.title == row.title.strip() and not row.title.startswith(".")
    assert found["ü.mp4"].title == "ü"


def test_file_name_that_is_no_text(tmp_path):
    plant(tmp_path, "ok.mp4")
    try:
        open(os.fsencode(tmp_path) + b"/bad\xff.mp4", "wb").close()
    except OSError:
        pytest.skip("this file system refuses such names")
    table = read_manifest(tmp_path)
    assert (
        list(table["error"] != "") == [True, False]
        and "not UTF-8" in table["error"].iloc[0]
        and table["video"].iloc[0] == ""
    )


def test_links(tmp_path):
    plant(tmp_path / "elsewhere", "linked.mp4")
    plant(tmp_path / "data", "sub/a.mp4")
    (tmp_path / "data" / "loop").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "sub" / "up").symlink_to("..")
    (tmp_path / "data" / "far").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "gone.mp4").symlink_to(tmp_path / "nothing.mp4")
    found = rows(tmp_path / "data")
    assert set(found) == {"sub/a.mp4", "far/linked.mp4", "gone.mp4"}
    assert found["gone.mp4"].error == "missing file"


@pytest.mark.parametrize(
    "make, layout, what",
    [
        (lambda p: None, "auto", "no such folder"),
        (lambda p: p.write_bytes(b""), "auto", "a file, not a folder"),
        (lambda p: p.mkdir(), "auto", "no videos found"),
        (lambda p: plant(p, "picture.png"), "auto", "no videos found"),
        (lambda p: plant(p, "a.mp4"), "dfdc", "there is no metadata.json"),
        (lambda p: plant(p, "a.mp4"), "folders", "no real/ or fake/"),
        (lambda p: plant(p, "a.mp4"), "ffpp", "no videos in this FaceForensics"),
        (lambda p: plant(p, "a.mp4"), "celebdf", "no videos in this Celeb-DF"),
        (lambda p: plant(p, "a.mp4"), "timit", "no videos in this DeepFake-TIMIT"),
        (lambda p: plant(p, "a.txt"), "unlabelled", "no videos in this folder"),
        (lambda p: plant(p, "a.mp4"), "dfcd", "unknown layout"),
        (lambda p: dfdc(p, {}), "auto", "no videos found"),
        (
            lambda p: plant(p, *("FF/" + f for f in FFPP), *("CD/" + f for f in CELEB)),
            "auto",
            "data sets in subfolders",
        ),
    ],
)
def test_what_cannot_be_read_is_one_line_with_a_hint(tmp_path, make, layout, what):
    make(tmp_path / "data")
    with pytest.raises(UserError, match=what) as e:
        read_manifest(tmp_path / "data", layout)
    assert e.value.hint and "\n" not in str(e.value)


def test_real_trees(shared):
    """The groups of the development material are those that its own table states."""
    wanted = {r["file"]: r for r in csv.DictReader(open(shared / "data" / "clips.csv"))}
    found = {}
    for folder in ("dfdc", "FaceForensics++", "Celeb-DF-v2"):
        for row in read_manifest(shared / "data" / folder).itertuples():
            assert row.error == ""
            found[f"{folder}/{row.video}"] = row
    assert found.keys() == wanted.keys()
    assert all(
        found[f].label == wanted[f]["label"].upper() and found[f].dataset == wanted[f]["dataset"] for f in wanted
    )
    assert all(wanted[f]["manipulation"].startswith(found[f].manipulation) for f in wanted)
    pairs = {(found[f].group, wanted[f]["group"]) for f in wanted}
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


@pytest.mark.parametrize("value", ["NaN", '"nan"', '"None"', '""', "null"])
def test_what_pandas_writes_for_nothing_is_nothing(tmp_path, value):
    entry = '{"label": "%s", "original": ' + value + ', "identity": ' + value + "}"
    found = rows(dfdc(tmp_path, '{"a.mp4": ' + entry % "REAL" + ', "f.mp4": ' + entry % "FAKE" + "}", "a.mp4", "f.mp4"))
    assert [(r.label, r.error, r.original) for r in found.values()] == [("REAL", "", ""), ("FAKE", "", "")]


@pytest.mark.parametrize("key", ["a.MP4", "A.mp4", "a", "a.avi", " a.mp4"])
def test_a_key_that_differs_from_its_file_in_suffix_or_case(tmp_path, key):
    found = rows(dfdc(tmp_path, {key: REAL, "f.mp4": {"label": "FAKE", "original": key}}, "a.mp4", "f.mp4"))
    assert {v: (r.label, r.error) for v, r in found.items()} == {"a.mp4": ("REAL", ""), "f.mp4": ("FAKE", "")}
    assert found["f.mp4"].original == "a" and found["f.mp4"].group == found["a.mp4"].group


def test_a_key_that_may_mean_two_files_names_none(tmp_path):
    found = rows(dfdc(tmp_path, {"a": REAL}, "a.mp4", "a.mov"))
    assert found["a"].error == "missing file" and found["a.mp4"].label == found["a.mov"].label == ""


def test_two_keys_for_one_file_are_its_error(tmp_path):
    table = read_manifest(dfdc(tmp_path, {"A.mp4": REAL, "a": {"label": "FAKE"}}, "a.mp4"))
    assert (
        list(table["video"]) == ["a.mp4"] and "more than once" in table["error"].item() and list(table["label"]) == [""]
    )


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(
            {"label": {"a.mp4": "REAL", "f.mp4": "FAKE"}, "original": {"a.mp4": None, "f.mp4": "a.mp4"}},
            id="by columns",
        ),
        pytest.param(
            {
                "filename": {"0": "a.mp4", "1": "f.mp4"},
                "label": {"0": "REAL", "1": "FAKE"},
                "original": {"0": float("nan"), "1": "a.mp4"},
            },
            id="numbered rows",
        ),
    ],
)
def test_a_table_by_columns_keeps_its_labels(tmp_path, content):
    found = rows(dfdc(tmp_path, content, "a.mp4", "f.mp4"))
    assert {v: (r.label, r.error, r.original) for v, r in found.items()} == {
        "a.mp4": ("REAL", "", ""),
        "f.mp4": ("FAKE", "", "a"),
    }


@pytest.mark.parametrize(
    "line",
    [
        "1\tYouTube-real/00001.mp4",
        "1   YouTube-real/00001.mp4",
        "1,YouTube-real/00001.mp4",
        "1 ./YouTube-real/00001.mp4",
        "1\tYouTube-real\\00001.mp4",
        "1 YouTube-real/00001.mp4\r",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_celebdf_list_that_went_through_a_spreadsheet(tmp_path, line, encoding):
    plant(tmp_path, *CELEB)
    (tmp_path / "List_of_testing_videos.txt").write_bytes((line + "\n").encode(encoding))
    found = rows(tmp_path)
    assert {v for v, r in found.items() if r.split == "test"} == {"YouTube-real/00001.mp4"}
    assert not any(r.error for r in found.values())


def test_celebdf_list_that_names_no_video_makes_none_a_training_video(tmp_path):
    plant(tmp_path, *CELEB)
    (tmp_path / "List_of_testing_videos.txt").write_text("id0_0000.mp4\n")
    with pytest.raises(UserError, match="no line of this list"):
        read_manifest(tmp_path)


def test_an_unreadable_subfolder_is_skipped_with_a_word(tmp_path, monkeypatch, capsys):
    plant(tmp_path, "a.mp4", "lost+found/b.mp4")
    scandir = os.scandir

    def denied(path):
        if os.path.basename(path) == "lost+found":  # root may read everything, so the answer is made
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    assert set(rows(tmp_path)) == {"a.mp4"}
    assert capsys.readouterr().err.count("lost+found") == 1


@pytest.mark.parametrize("place", ["", "videos/", "part_1/", "videos/part_1/"])
def test_ffpp_videos_beside_their_folder(tmp_path, place):
    found = rows(
        plant(
            tmp_path,
            f"original_sequences/youtube/c23/{place}000.mp4",
            f"manipulated_sequences/Deepfakes/c23/{place}000_003.mp4",
        )
    )
    assert sorted(r.label for r in found.values()) == ["FAKE", "REAL"] and len({r.group for r in found.values()}) == 1
    assert {r.original for r in found.values()} == {"", "000"}


A, F = {"file": "a.mp4", "label": "REAL"}, {"file": "f.mp4", "label": "FAKE", "original": "a.mp4"}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param([A, F], id="list"),
        pytest.param(json.dumps(A) + "\n\n" + json.dumps(F) + "\r\n", id="a-record-a-line"),
        pytest.param({"videos": [A, F]}, id="in-an-object"),
        pytest.param({"version": 1, "info": {"who": "me"}, "data": [A, F]}, id="among-other-things"),
        pytest.param({"columns": list(F), "index": [0, 1], "data": [["a.mp4", "REAL", None], list(F.values())]},
                     id="split"),
        pytest.param({"columns": ["label", "original"], "index": ["a.mp4", "f.mp4"],
                      "data": [["REAL", None], ["FAKE", "a.mp4"]]}, id="split-by-name"),
        pytest.param([{"Path": "./a.mp4", "Label": "real"},
                      {"Path": "/old/disk/f.mp4", "Label": "Fake", "Original": "a"}], id="paths-of-another-machine"),
        pytest.param([{"video": "C:\\x\\a.mp4", "is_fake": 0}, {"video": "f", "is_fake": 1, "original": "A.MP4"}],
                     id="windows"),
    ],
)  # fmt: skip
def test_records_keep_their_labels(tmp_path, content):
    found = rows(dfdc(tmp_path, content, "a.mp4", "f.mp4"))
    assert {v: (r.label, r.error, r.original) for v, r in found.items()} == {
        "a.mp4": ("REAL", "", ""),
        "f.mp4": ("FAKE", "", "a"),
    }


@pytest.mark.parametrize(
    "record, key, error",
    [
        pytest.param({"label": "FAKE"}, "record 2", "not an object", id="no-name"),
        pytest.param(7, "record 2", "not an object", id="a-number"),
        pytest.param(A, "a.mp4", "more than once", id="twice"),
        pytest.param({"file": "gone.mp4", "label": "FAKE"}, "gone.mp4", "missing file", id="missing"),
        pytest.param({"file": "b.mp4", "label": "maybe"}, "b.mp4", "unknown label", id="label"),
    ],
)
def test_an_odd_record_is_the_error_of_its_row(tmp_path, record, key, error):
    found = rows(dfdc(tmp_path, [A, record], "a.mp4", "b.mp4"))
    assert error in found[key].error and (key == "a.mp4" or found["a.mp4"].error == "")


def test_a_record_never_leads_outside(tmp_path):
    table = read_manifest(dfdc(tmp_path / "in", [A, {"file": "../out.mp4", "label": "FAKE"}], "a.mp4"))
    odd = table[table["video"] == ""]
    assert len(table) == 2 and "unsafe file name" in odd["error"].iloc[0]


@pytest.mark.parametrize(
    "known, beside",
    [
        pytest.param(["Celeb-real/id0_0000.mp4", "Celeb-synthesis/id0_id1_0000.mp4"],
                     ["extra/x.mp4", "top.mp4", "Celeb-real/deeper/y.mp4"], id="celebdf"),
        pytest.param(["original_sequences/youtube/c23/videos/000.mp4"],
                     ["mine/x.mp4", "original_sequences/youtube/z.mp4"], id="ffpp"),
        pytest.param(["higher_quality/fadg0/sa1-video-fram1.avi"], ["mine/x.mp4", "y.mp4"], id="timit"),
        pytest.param(["real/a.mp4", "fake/b.mp4"], ["mine/x.mp4"], id="folders"),
    ],
)  # fmt: skip
def test_videos_beside_the_folders_of_a_layout_have_a_row(tmp_path, known, beside):
    found = rows(plant(tmp_path, *known, *beside))
    assert set(found) == {*known, *beside}
    assert all(found[v].label for v in known) and not any(found[v].label or found[v].error for v in beside)


def test_videos_beside_metadata_have_a_row(tmp_path):
    found = rows(dfdc(tmp_path, {"a.mp4": REAL}, "a.mp4", "deeper/b.mp4", "deeper/still/c.mp4"))
    assert {v: r.label for v, r in found.items()} == {"a.mp4": "REAL", "deeper/b.mp4": "", "deeper/still/c.mp4": ""}


def test_a_folder_by_two_names_and_masks_are_not_beside(tmp_path):
    plant(
        tmp_path,
        "store/a.mp4",
        "original_sequences/youtube/masks/videos/000.mp4",
        "original_sequences/youtube/c23/1.mp4",
    )
    (tmp_path / "original_sequences" / "youtube" / "raw").symlink_to(tmp_path / "store")
    assert set(rows(tmp_path)) == {"original_sequences/youtube/raw/a.mp4", "original_sequences/youtube/c23/1.mp4"}
