"""Own labels: --labels, labels.csv and the words for folders."""

import pytest

from deepfake_detection.datasets.layouts import folders
from deepfake_detection.datasets.manifest import labels_note, read_manifest
from deepfake_detection.errors import UserError

VIDEOS = ("anna.mp4", "anna_swap.mp4", "sub/ben.mp4", "sub/carl.mp4", "x/dora.mp4", "y/dora.mp4")


LISTED = "path,label\nanna.mp4,real\nanna_swap.mp4,fake\nben.mp4,real\ncarl,fake\n"


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
        pytest.param(LISTED.replace("\n", "\r"), id="ends of lines of old Macs"),
        pytest.param(LISTED.encode("utf-16"), id="UTF-16"),
        pytest.param("sep=,\r\n" + LISTED, id="Excel's own first line"),
        pytest.param("\n \n" + LISTED, id="blank lines first"),
        pytest.param(LISTED.replace("anna.mp4", "Anna.MP4").replace("carl", "CARL"), id="another case"),
    ],
)
@pytest.mark.parametrize("beside", [False, True], ids=["named", "beside"])
def test_lists(text, beside, tmp_path):
    data = data_folder(tmp_path / "data")
    file = data / "labels.csv" if beside else tmp_path / "mine.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    found = table(data, "auto", None if beside else file)
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
        pytest.param("anna.mp4,real\nANNA.mp4,real", "lines 2, 3", id="twice in two cases"),
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
    numbers = labels_note(read_manifest(data_folder(tmp_path / "c", "path,label\nanna.mp4,1\nben.mp4,0\n")))
    assert "2 videos cannot be used, the first: labels.csv line 2: unknown label '1'" in numbers


def test_a_list_that_is_not_read_is_named(tmp_path, capsys):
    data = data_folder(tmp_path, "path,is_fake\nanna.mp4,0\n")
    assert set(table(data)["dataset"]) == {"unlabelled"}
    assert capsys.readouterr().err.startswith("note: labels.csv is not read")


@pytest.mark.parametrize("through", ["folder", "link"])
def test_whole_paths_through_a_link(through, tmp_path):
    folder, link = tmp_path / "folder", tmp_path / "link"
    data_folder(folder, f"path,label\n{tmp_path}/{through}/anna.mp4,real\n{tmp_path}/link/sub/ben.mp4,fake\n")
    link.symlink_to(folder)
    for data in (folder, link):
        found = table(data)
        assert found.loc[["anna.mp4", "sub/ben.mp4"], "label"].tolist() == ["REAL", "FAKE"]
        assert (found["error"] == "").all()


def test_accents_are_composed_or_not(tmp_path):
    import unicodedata

    name, text = "zo\u00eb.mp4", "path,label\nzo\u00eb.mp4,real\n"
    for form in ("NFC", "NFD"):
        data = data_folder(tmp_path / form, videos=[unicodedata.normalize(form, name)])
        (data / "labels.csv").write_text(unicodedata.normalize("NFD" if form == "NFC" else "NFC", text))
        assert table(data)["label"].tolist() == ["REAL"]


@pytest.mark.parametrize("nothing", ["nan", "N/A", "None", "null", "<NA>"])
def test_what_tables_write_for_nothing_is_no_person_and_no_label(nothing, tmp_path):
    lines = [
        f"{v},{n},{nothing},{nothing}" for v, n in (("anna.mp4", "real"), ("sub/ben.mp4", "fake"), ("carl", nothing))
    ]
    found = table(data_folder(tmp_path, "\n".join(["path,label,person,split", *lines])))
    assert (found["error"] == "").all() and found.loc["sub/carl.mp4", "label"] == ""
    assert found.loc[["anna.mp4", "sub/ben.mp4", "sub/carl.mp4"], "group"].nunique() == 3


def test_a_person_in_another_spelling_is_the_same(tmp_path):
    found = table(data_folder(tmp_path, "path,label,person\nanna.mp4,real,Zoe\nsub/ben.mp4,fake,zoe \n"))
    assert found.loc["anna.mp4", "group"] == found.loc["sub/ben.mp4", "group"]
