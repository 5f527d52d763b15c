"""Own labels: --labels, labels.csv and the words for folders."""

import pytest

from deepfake_detection.datasets.layouts import folders
from deepfake_detection.datasets.manifest import labels_note, read_manifest
from deepfake_detection.errors import UserError

VIDEOS = ("anna.mp4", "anna_swap.mp4", "sub/ben.mp4", "sub/carl.mp4", "x/dora.mp4", "y/dora.mp4")


def data_folder(tmp_path, text=None, videos=VIDEOS):
    for video in videos:
        (tmp_path / video).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / video).touch()
    if text is not None:
        (tmp_path / "labels.csv").write_text(text)
    return tmp_path


def table(data, *arguments):
    return read_manifest(data, *arguments).set_index("video")


@pytest.mark.parametrize(
    "name, label",
    [
        ("real", "REAL"),
        ("Original", "REAL"),
        ("originals", "REAL"),
        ("genuine", "REAL"),
        ("Pristine videos", "REAL"),
        ("authentic", "REAL"),
        ("fake", "FAKE"),
        ("Fakes", "FAKE"),
        ("deepfake", "FAKE"),
        ("Deep-Fakes", "FAKE"),
        ("manipulated_videos", "FAKE"),
        ("ALTERED", "FAKE"),
        ("forgeries", "FAKE"),
        ("1", ""),
        ("0", ""),
        ("true", ""),
        ("unsure", ""),
        ("really", ""),
        ("", ""),
        ("fakery", ""),
    ],
)
def test_words(name, label):
    assert folders.label_of(name) == label


@pytest.mark.parametrize(
    "real, fake",
    [
        ("original", "deepfake"),
        ("Originals", "Manipulated videos"),
        ("genuine", "altered"),
        ("train/real", "train/FAKES"),
    ],
)
def test_folders_of_other_names(real, fake, tmp_path):
    found = table(data_folder(tmp_path, videos=[f"{real}/a.mp4", f"{fake}/a_x.mp4"]))
    assert list(found["label"]) == [{real: "REAL", fake: "FAKE"}[v.rsplit("/", 1)[0]] for v in found.index]
    assert found["group"].nunique() == 1 and not labels_note(found.reset_index())


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(
            "path,label\nanna.mp4,real\nanna_swap.mp4,deepfake\nben.mp4,original\ncarl,Manipulated\n", id="names"
        ),
        pytest.param(
            "\ufeffVideo;Class\nanna.mp4;REAL\nanna_swap.mp4;FAKE\nsub\\ben.mp4;genuine\nsub/carl.mp4;fake\n",
            id="a spreadsheet's semicolons",
        ),
        pytest.param(
            'file\tlabel\n"anna.mp4"\treal\nanna_swap.mp4\taltered\n\n./sub/ben.mp4\treal\nsub/carl.mp4\tfake\n',
            id="tabs",
        ),
    ],
)
def test_lists(text, tmp_path):
    data = data_folder(tmp_path / "data")
    (tmp_path / "mine.csv").write_text(text)
    found = table(data, "auto", tmp_path / "mine.csv")
    assert found["label"].to_dict() == {
        "anna.mp4": "REAL",
        "anna_swap.mp4": "FAKE",
        "sub/ben.mp4": "REAL",
        "sub/carl.mp4": "FAKE",
        "x/dora.mp4": "",
        "y/dora.mp4": "",
    }
    assert (found["error"] == "").all()


def test_all_columns(tmp_path):
    data = data_folder(
        tmp_path,
        "path,label,person,original,split,manipulation\n"
        "anna.mp4,real,,,train,\nanna_swap.mp4,fake,,anna.mp4,training,faceswap\n"
        "sub/ben.mp4,real,Ben,,val,\nsub/carl.mp4,fake,Ben|Carl,,test,reenactment\nx/dora.mp4,fake,,sub/ben.mp4,,\n",
    )
    found = table(data)
    assert found.loc["anna_swap.mp4", ["manipulation", "split", "original", "dataset"]].tolist() == [
        "faceswap",
        "train",
        "anna",
        "labels",
    ]
    assert found.loc["anna.mp4", "group"] == found.loc["anna_swap.mp4", "group"]
    assert found.loc[["sub/ben.mp4", "sub/carl.mp4", "x/dora.mp4"], "group"].nunique() == 1
    assert found["group"].nunique() == 2 or found.loc["y/dora.mp4", "group"] != found.loc["anna.mp4", "group"]
    assert "1 of 6 videos without a label" in labels_note(found.reset_index())


@pytest.mark.parametrize(
    "line, error",
    [
        pytest.param("anna.mp4,1", "line 2: unknown label '1'", id="a number says nothing"),
        pytest.param("anna.mp4,maybe", "unknown label", id="another word"),
        pytest.param("anna.mp4,real\nanna.mp4,fake", "lines 2, 3", id="twice"),
        pytest.param("anna.mp4,real\n./anna.mp4,real", "lines 2, 3", id="twice in two spellings"),
        pytest.param("gone.mp4,real", "missing file", id="no such video"),
        pytest.param("dora.mp4,real", "several videos have this name", id="which of two"),
        pytest.param("../x.mp4,real", "no path inside", id="leads outside"),
        pytest.param("/etc/passwd,real", "no path inside", id="elsewhere"),
        pytest.param(",real", "no path", id="empty"),
    ],
)
def test_bad_lines_are_rows(line, error, tmp_path):
    found = read_manifest(data_folder(tmp_path, f"path,label\n{line}\nanna_swap.mp4,fake\n"))
    assert found["error"].str.contains(error, regex=False).sum() == 1
    assert set(VIDEOS) <= set(found["video"])


@pytest.mark.parametrize(
    "content, message",
    [
        pytest.param(b"a,b\n1,2\n", "no column path and label", id="columns"),
        pytest.param(b"path,label\n", "list no video", id="empty"),
        pytest.param(b"path,label\n\xff\xfe,real\n", "not UTF-8", id="encoding"),
        pytest.param(b'path,label\n"anna.mp4,real\n', "not a CSV table", id="open quote"),
        pytest.param(None, "cannot read the labels", id="missing"),
    ],
)
def test_bad_lists_are_one_line(content, message, tmp_path):
    data = data_folder(tmp_path / "data")
    if content is not None:
        (tmp_path / "mine.csv").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_manifest(data, "auto", tmp_path / "mine.csv")


def test_a_list_of_another_kind_is_left_alone(tmp_path):
    found = table(data_folder(tmp_path, "colour,shape\nred,round\n", ["real/a.mp4", "fake/b.mp4"]))
    assert set(found["dataset"]) == {"folders"}


def test_what_is_missing_is_said(tmp_path):
    assert "no video has a label" in labels_note(read_manifest(data_folder(tmp_path / "a")))
    only = data_folder(tmp_path / "b", "path,label\nanna.mp4,real\n")
    assert labels_note(read_manifest(only)).startswith("no video is labelled FAKE")
