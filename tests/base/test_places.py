"""What is missing in the folder of `03_train_cnn.py --seeds` is looked for in its seeds' own folders."""

from pathlib import Path

import pytest

from deepfake_detection import scores
from deepfake_detection.detector.config import read_config
from deepfake_detection.errors import UserError
from deepfake_detection.spark import video_predictions
from deepfake_detection.training import scoring


def stage_03a(out):
    scoring.run(out / "tmp_checkpoint" / "best_model.keras", out / "split_dataset" / "test", out)


@pytest.mark.parametrize(
    "file, named, use",
    [
        pytest.param("tmp_checkpoint/best_model.keras", "tmp_checkpoint/best_model.keras", stage_03a, id="03a"),
        pytest.param(
            "cnn_preds_values.json",
            "cnn_preds_values.json",
            lambda out: video_predictions.run(out / "cnn_preds_values.json", out),
            id="04",
        ),
        pytest.param(
            "cnn_preds_values.json",
            "cnn_preds_values.json",
            lambda out: scores.read_scores(out / "cnn_preds_values.json"),
            id="evaluate.py",
        ),
        pytest.param("detector/detector.json", "detector", lambda out: read_config(out / "detector"), id="predict.py"),
    ],
)
def test_the_hint_names_the_first_seed(tmp_path, file, named, use):
    with pytest.raises(UserError) as none:
        use(tmp_path)
    assert "seed_" not in str(none.value)
    for name in ("seed_10", "seed_2", "seed_x"):
        path = tmp_path / name / Path(file)
        path.parent.mkdir(parents=True)
        path.write_text("")
    with pytest.raises(UserError) as one:
        use(tmp_path)
    assert f"e.g. {tmp_path / 'seed_2' / named})" in str(one.value)
