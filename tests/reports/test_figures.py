"""Every picture is drawn, whole, of the right size, the same twice, and not for data that has none."""

import numpy as np
import pandas as pd
import pytest

from deepfake_detection.metrics import MetricError, auc, bootstrap_groups
from deepfake_detection.reports import figures

RNG = np.random.default_rng(0)
Y = RNG.integers(0, 2, 200)
P = np.clip(RNG.normal(0.5 + 0.3 * (Y - 0.5), 0.2), 0, 1)

DRAW = {
    "confusion": lambda path, y=Y, p=P: figures.plot_confusion(y, p, path),
    "roc": lambda path, y=Y, p=P: figures.plot_roc(y, p, path, interval=(0.9, 0.8, 0.95)),
    "reliability": lambda path, y=Y, p=P: figures.plot_reliability(y, p, path),
    "histogram": lambda path, y=Y, p=P: figures.plot_score_histogram(y, p, path),
}


def pixels(path):
    import cv2

    image = cv2.imread(str(path))
    assert image is not None
    return image


@pytest.mark.parametrize("name", DRAW)
def test_a_picture_is_whole_reproducible_and_clips_nothing(name, tmp_path):
    path = DRAW[name](tmp_path / "sub" / f"{name}.png")
    image = pixels(path)
    assert image.shape[0] > 600 and image.shape[1] > 600
    border = np.concatenate([image[0].ravel(), image[-1].ravel(), image[:, 0].ravel(), image[:, -1].ravel()])
    assert (border == 255).all()  # ink at the border would be clipped text
    assert path.read_bytes() == DRAW[name](tmp_path / "again.png").read_bytes()
    assert sorted(p.name for p in (tmp_path / "sub").iterdir()) == [f"{name}.png"]


@pytest.mark.parametrize("name", DRAW)
@pytest.mark.parametrize("y, p", [([], []), ([1, 0], [0.5, float("nan")]), ([1, 0], [0.5, 2.0])])
def test_no_picture_of_no_data(name, y, p, tmp_path):
    with pytest.raises(MetricError):
        DRAW[name](tmp_path / "x.png", y, p)
    assert not list(tmp_path.iterdir())


def test_one_class():
    with pytest.raises(MetricError, match="no fake video"):
        figures.plot_roc([1, 1], [0.2, 0.3], "never.png")


@pytest.mark.parametrize("y, p", [([1], [0.5]), ([0] * 3, [0.0, 1.0, 0.5]), ([1] * 5000, np.linspace(0, 1, 5000))])
def test_extremes_are_drawn(y, p, tmp_path):
    for draw in (figures.plot_confusion, figures.plot_reliability, figures.plot_score_histogram):
        draw(y, p, tmp_path / "x.png")


def drawn_texts(monkeypatch, draw):
    """The texts of the axes that `draw` makes."""
    from matplotlib.figure import Figure

    seen, original = [], Figure.savefig

    def spy(self, *args, **kwargs):
        axes = self.axes[0]
        seen.extend(
            [
                axes.get_title(loc="left"),
                axes.get_xlabel(),
                axes.get_ylabel(),
                *(t.get_text() for t in axes.texts),
                *(t.get_text() for t in axes.get_xticklabels() + axes.get_yticklabels()),
                *(t.get_text() for t in (axes.get_legend().get_texts() if axes.get_legend() else [])),
            ]
        )
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", spy)
    draw()
    return seen


def test_confusion_cells_are_where_the_words_say(monkeypatch, tmp_path):
    y, p = [1] * 7 + [0] * 5, [0.9] * 6 + [0.4] + [0.1] * 2 + [0.5] * 3  # the tie is REAL
    drawn = drawn_texts(monkeypatch, lambda: figures.plot_confusion(y, p, tmp_path / "x.png", title="T"))
    texts = [
        *drawn,
        *(line for text in drawn if "%" in text for line in text.split("\n")),
    ]  # a cell holds count and share
    assert [t for t in texts if t.isdigit()] == ["6", "1", "3", "2"]  # REAL/REAL, REAL/FAKE, FAKE/REAL, FAKE/FAKE
    assert (
        "T" in texts
        and "Truth" in texts
        and "Verdict" in texts
        and "85.7%" in texts
        and "8 of 12 videos right (66.7%); REAL when p_real ≥ 0.5" in texts
    )
    assert [t for t in texts if t.startswith(("REAL", "FAKE"))] == ["REAL", "FAKE", "REAL\n(7)", "FAKE\n(5)"]


def test_roc_states_auc_interval_and_counts(monkeypatch, tmp_path):
    interval = bootstrap_groups(auc, Y, P, np.arange(200), n=100)
    texts = drawn_texts(monkeypatch, lambda: figures.plot_roc(Y, P, tmp_path / "x.png", interval=interval))
    assert f"AUC {auc(Y, P):.3f}  (95 % interval {interval.low:.3f} to {interval.high:.3f})" in texts
    assert f"200 videos: {Y.sum()} real, {200 - Y.sum()} fake" in texts and any(
        "REAL wrongly called FAKE" in t for t in texts
    )


HISTORY = {
    "loss": [0.7, 0.5, 0.4],
    "val_loss": [0.7, 0.55, 0.6],
    "accuracy": [0.5, 0.7, 0.8],
    "val_accuracy": [0.5, 0.72, 0.7],
}


@pytest.mark.parametrize(
    "history, expected",
    [
        (HISTORY, ["Loss.png", "Accuracy.png"]),
        (pd.DataFrame(HISTORY).assign(epoch=range(3)), ["Loss.png", "Accuracy.png"]),
        ({k: v[:1] for k, v in HISTORY.items()}, ["Loss.png", "Accuracy.png"]),
        ({"loss": [0.5]}, ["Loss.png"]),
        ({"loss": [0.5, 0.4], "val_loss": [float("nan")] * 2}, ["Loss.png"]),
        ({}, []),
    ],
)
def test_history(history, expected, tmp_path):
    assert [p.name for p in figures.plot_history(history, tmp_path)] == expected
    for name in expected:
        pixels(tmp_path / name)


def test_history_names_the_best_epoch(monkeypatch, tmp_path):
    assert "best validation loss: 0.550 in epoch 2 of 3" in drawn_texts(
        monkeypatch, lambda: figures.plot_history({k: HISTORY[k] for k in ("loss", "val_loss")}, tmp_path)
    )
