"""The account of stages 03 and 03a: a face that cannot be read is no face that was used."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from deepfake_detection import labels
from deepfake_detection.names import title_of
from deepfake_detection.training import results, scoring, stage, start
from deepfake_detection.training.face_list import Faces
from deepfake_detection.training.settings import Settings

TINY = Settings(model="compact_cnn", weights="none", image_size=16, batch_size=4, epochs=1, augment="none")


def account(out, stage):
    table = pd.read_csv(out / "stage_reports" / f"{stage}_videos.csv", keep_default_na=False)
    return table.set_index(["split", "title"])


@pytest.fixture
def damaged(tiny_faces, tmp_path):
    """Of each set one video without a readable face, and one with two of three."""
    data = tmp_path / "split_dataset"
    shutil.copytree(tiny_faces, data)
    for split in ("train", "val", "test"):
        for i in range(3):
            (data / split / "fake" / f"{split}-fake-clip0-{i:03d}-00.png").write_bytes(b"no picture" * i)
        (data / split / "real" / f"{split}-real-clip1-001-00.png").write_bytes(b"")
    return data


def rows_are_right(table, split):
    rows = table.loc[split]
    assert rows.loc[f"{split}-fake-clip0", ["status", "label", "faces"]].tolist() == ["error", "FAKE", 0]
    assert rows.loc[f"{split}-real-clip1", ["status", "label", "faces"]].tolist() == ["ok", "REAL", 2]
    assert "3 of 3 faces" in rows.at[f"{split}-fake-clip0", "detail"]
    assert "1 of 3 faces" in rows.at[f"{split}-real-clip1", "detail"]
    others = rows.drop([f"{split}-fake-clip0", f"{split}-real-clip1"])
    assert set(others["status"]) == {"ok"} and set(others["faces"]) == {3} and set(others["detail"]) == {""}


def test_stage_03(damaged, tmp_path):
    """The account is made anew where a training that an earlier run finished is only judged again."""
    stage.run(damaged, tmp_path, TINY)
    (tmp_path / "metrics.json").unlink()
    (tmp_path / "stage_reports" / "03_train_cnn_videos.csv").unlink()
    stage.run(damaged, tmp_path, TINY)
    table = account(tmp_path, "03_train_cnn")
    for split in ("train", "val", "test"):
        rows_are_right(table, split)
    scores = pd.read_csv(tmp_path / "video_scores.csv", dtype=str, keep_default_na=False).set_index("video")
    assert scores.loc["test-fake-clip0", ["label", "faces", "p_real"]].tolist() == ["FAKE", "0", ""]


def test_stage_03a(damaged, tmp_path):
    model, *_ = start.build_started(TINY)
    model.save(tmp_path / "m.keras")
    scoring.run(tmp_path / "m.keras", damaged / "test", tmp_path, image_size=16)
    rows_are_right(account(tmp_path, "03a_load_model"), "test")


@pytest.mark.parametrize(
    "names, left_out, rows",
    [
        pytest.param(["real/a-000-00.png"], [], [("a", "REAL", "ok", 1)], id="nothing lost"),
        pytest.param(["real/a-000-00.png"], ["real/a-000-00.png"], [("a", "REAL", "error", 0)], id="the only one"),
        pytest.param(
            ["a-000-00.png", "b-000-00.png"],
            ["b-000-00.png"],
            [("a", "", "ok", 1), ("b", "", "error", 0)],
            id="unlabelled",
        ),
        pytest.param(
            ["real/a-000-00.png"],
            ["fake/b-000-00.png"],
            [("a", "REAL", "ok", 1), ("b", "FAKE", "error", 0)],
            id="not in the list any more",
        ),
        pytest.param(
            ["real/a-000-00.png", "fake/a-000-00.png"],
            ["fake/a-000-00.png"],
            [("a", "FAKE", "error", 0), ("a", "REAL", "ok", 1)],
            id="one title in both classes",
        ),
        pytest.param(
            ["train/fake/a-000-00.png"],
            ["val/fake/b-000-00.png"],
            [("a", "FAKE", "ok", 1), ("b", "FAKE", "error", 0)],
            id="folds",
        ),
        pytest.param(
            ["real/my-clip-1-000-00.png", "real/odd.png"],
            ["real/odd.png"],
            [("my-clip-1", "REAL", "ok", 1), ("odd", "REAL", "error", 0)],
            id="other names",
        ),
    ],
)
def test_rows(tmp_path, names, left_out, rows):
    y = np.array([labels.CLASS_FOLDERS.get(Path(name).parent.name, -1) for name in names])
    faces = Faces(tmp_path, tuple(names), y, tuple(map(title_of, names)), tuple(names))
    results.write_account(tmp_path, "s", {"set": faces}, {"set": left_out})
    table = pd.read_csv(tmp_path / "stage_reports" / "s_videos.csv", keep_default_na=False)
    assert sorted(table[["title", "label", "status", "faces"]].itertuples(index=False, name=None)) == sorted(rows)
