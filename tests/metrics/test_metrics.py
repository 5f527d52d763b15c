"""Every metric against a value worked out by hand or by another library, its refusals, and the polarity of the whole
room."""

import math
import pickle

import numpy as np
import pytest

from deepfake_detection.metrics import (
    METRICS,
    MetricError,
    NoSpread,
    auc,
    average_precision,
    balanced_accuracy,
    bootstrap_difference,
    bootstrap_groups,
    brier,
    ece,
    eer,
    evaluate,
    log_loss,
    reliability_bins,
    tpr_at_fpr,
)
from deepfake_detection.reports.text import metric

# Reals score high. One fake (0.7) lies above one real (0.4).
Y = np.array([1, 1, 1, 1, 0, 0, 0, 0])
P = np.array([0.9, 0.8, 0.6, 0.4, 0.7, 0.3, 0.2, 0.1])


def many(n=600, groups=60, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    return y, np.round(np.clip(rng.normal(0.5 + 0.25 * (y - 0.5), 0.2), 0, 1), 2), rng.integers(0, groups, n)


@pytest.mark.parametrize(
    "metric, expected",
    [
        (auc, 14 / 16),  # pairs real > fake: 16 less (0.6, 0.7) and (0.4, 0.7)
        (
            average_precision,
            (1 + 1 + 1 + 4 / 6) / 4,
        ),  # fakes found at ranks 1, 2, 3 and 6 (before it the reals 0.4 and 0.6)
        (eer, 0.25),
        (log_loss, -np.mean(np.log([0.9, 0.8, 0.6, 0.4, 0.3, 0.7, 0.8, 0.9]))),
        (brier, np.mean(np.square([0.1, 0.2, 0.4, 0.6, 0.7, 0.3, 0.2, 0.1]))),
        (balanced_accuracy, 0.75),
        (tpr_at_fpr, 0.75),  # four reals allow none called fake: 0.1, 0.2, 0.3 lie below them all
    ],
)
def test_by_hand(metric, expected):
    assert metric(Y, P) == pytest.approx(expected)


def test_ece_by_hand():
    # bins 0.2-0.2667 (two fakes at 0.25) and 0.8-0.8667 (three reals, one fake at 0.8333): |0-.25| * 2/6 + |.75-.8333|
    # * 4/6
    y, p = [0, 0, 1, 1, 1, 0], [0.25, 0.25] + [5 / 6] * 4
    assert ece(y, p) == pytest.approx((0.25 * 2 + (5 / 6 - 0.75) * 4) / 6)
    rows = reliability_bins(y, p, bins=2)
    assert [r["count"] for r in rows] == [2, 4] and rows[1]["share_real"] == 0.75


def test_eer_is_interpolated_between_the_points_of_the_curve():
    # (FPR, 1 - TPR) steps from (0, 1/3) to (1/2, 1/3): the line FPR = FNR crosses at 1/3.
    assert eer([1, 1, 0, 0, 0], [0.3, 0.9, 0.1, 0.2, 0.5]) == pytest.approx(1 / 3)


@pytest.mark.parametrize("fpr, found", [(0.05, 1 / 2), (0.049, 0.0), (1.0, 1.0)])
def test_tpr_allows_exactly_the_stated_share_of_false_alarms(fpr, found):
    y = [1] * 20 + [0, 0]
    p = [0.2] + [0.9] * 19 + [0.3, 0.95]  # one real lies below everything: 1 of 20 is 5 %
    assert tpr_at_fpr(y, p, fpr=fpr) == found


def test_ties_count_one_half():
    assert auc([1, 0, 1, 0], [0.5] * 4) == 0.5
    assert eer([1, 0, 1, 0], [0.5] * 4) == 0.5


def test_log_loss_of_a_sure_mistake_is_finite_and_as_documented():
    assert log_loss([1, 0], [0.0, 0.0]) == pytest.approx(-math.log(1e-7) / 2, rel=1e-6)


@pytest.mark.parametrize("name", METRICS)
def test_a_perfect_detector_is_best_and_a_flipped_label_is_noticed(name):
    metric = METRICS[name]
    y = np.array([1] * 15 + [0] * 15)
    good = np.r_[np.linspace(0.94, 1, 15), np.linspace(0, 0.06, 15)]
    right, wrong = metric(y, good), metric(y, 1 - good)
    assert right > wrong if metric.higher_is_better else right < wrong
    assert metric(1 - y, good) == pytest.approx(metric(y, 1 - good), abs=0.02)
    for i in (7, 22):
        flipped = y.copy()
        flipped[i] = 1 - flipped[i]
        assert metric(flipped, good) < right if metric.higher_is_better else metric(flipped, good) > right


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize(
    "y, p, reason",
    [
        ([], [], "no scores"),
        ([1, 0], [0.5, float("nan")], "1 of 2 scores are NaN"),
        ([1, 0], [0.5, 1.01], "outside 0..1"),
        ([1, 0], [-1e-9, 0.5], "outside 0..1"),
        ([1, 0], [0.5, float("inf")], "outside 0..1"),
        ([1, 2], [0.5, 0.5], "labels other than"),
        ([1, 0], [0.5], "do not match"),
    ],
)
def test_what_cannot_be_measured_is_refused(name, y, p, reason):
    with pytest.raises(MetricError, match=reason):
        METRICS[name](y, p)


@pytest.mark.parametrize("name", METRICS)
def test_one_class_is_refused_where_two_are_needed(name):
    if METRICS[name].two_classes:
        with pytest.raises(MetricError, match="no fake video"):
            METRICS[name]([1, 1], [0.1, 0.9])
        with pytest.raises(MetricError, match="no real video"):
            METRICS[name]([0, 0], [0.1, 0.9])
    else:
        assert METRICS[name]([1, 1], [0.25, 0.75]) >= 0


@pytest.mark.parametrize("name", METRICS)
def test_weights_mean_repetition(name):
    y, p, _ = many(80)
    weights = np.random.default_rng(1).integers(0, 4, (5, len(y)))
    batch = METRICS[name].batch(y, p, weights.astype(float))
    assert batch == pytest.approx([METRICS[name](np.repeat(y, w), np.repeat(p, w)) for w in weights])
    assert METRICS[name].batch(y, p, np.ones((1, len(y))))[0] == pytest.approx(METRICS[name](y, p))


def test_bootstrap_of_a_metric_equals_that_of_a_plain_function():
    y, p, groups = many(200, 30)
    assert tuple(bootstrap_groups(auc, y, p, groups, n=60)) == pytest.approx(
        tuple(bootstrap_groups(lambda y, p: auc(y, p), y, p, groups, n=60))
    )


def test_bootstrap_is_reproducible_and_independent_of_row_order():
    y, p, groups = many()
    first = bootstrap_groups(auc, y, p, groups, n=200)
    assert first == bootstrap_groups(auc, y, p, groups, n=200) and first != bootstrap_groups(
        auc, y, p, groups, n=200, seed=2
    )
    order = np.random.default_rng(5).permutation(len(y))
    assert tuple(bootstrap_groups(auc, y[order], p[order], groups[order], n=200)) == pytest.approx(tuple(first))
    value, low, high = first
    assert low < value < high and first.groups == 60 and first.resamples == 200 and first.skipped == 0


def test_groups_are_resampled_not_rows():
    # Twenty copies of each video carry no more evidence than one.
    y, p, _ = many(60)
    once = bootstrap_groups(log_loss, y, p, np.arange(60), n=500)
    copies = bootstrap_groups(log_loss, np.repeat(y, 20), np.repeat(p, 20), np.repeat(np.arange(60), 20), n=500)
    rows = bootstrap_groups(log_loss, np.repeat(y, 20), np.repeat(p, 20), np.arange(1200), n=500)
    width = [i.high - i.low for i in (once, copies, rows)]
    assert width[1] == pytest.approx(width[0], rel=0.01) and width[2] < 0.5 * width[0]


def test_interval_covers_the_truth_about_as_often_as_it_says():
    inside = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        y = np.tile([1, 0], 60)
        p = np.clip(
            0.5 + 0.1 * (y * 2 - 1) + rng.normal(0, 0.1, 120), 0, 1
        )  # true AUC = Phi(0.2 / (0.1 sqrt 2)) = 0.9214
        _, low, high = bootstrap_groups(auc, y, p, np.arange(120), n=200, seed=seed)
        inside += low <= 0.9214 <= high
    assert 85 <= inside <= 100


@pytest.mark.parametrize(
    "groups, reason", [(["a"] * 4 + ["b"] * 4, "at least 5 groups, here 2"), (list("abcdefg") + [None], None)]
)
def test_too_few_groups(groups, reason):
    if reason:
        with pytest.raises(MetricError, match=reason):
            bootstrap_groups(auc, Y, P, groups)
    else:
        bootstrap_groups(auc, Y, P, groups)


def test_resamples_of_one_class_are_skipped_and_too_many_refused():
    y = np.array([1] + [0] * 9)
    with pytest.raises(MetricError, match="resamples of the groups hold one class only"):  # 0.9^10 = 35 % have no real
        bootstrap_groups(auc, y, np.linspace(1, 0, 10), np.arange(10))
    assert bootstrap_groups(log_loss, y, np.linspace(1, 0, 10), np.arange(10)).skipped == 0
    some = bootstrap_groups(auc, Y, P, np.arange(8))
    assert 0 < some.skipped < 50 and some.skipped + some.resamples == 1000


def test_difference_is_paired():
    y, p, groups = many()
    worse = np.clip(0.5 + (p - 0.5) * 0.7 + np.random.default_rng(9).normal(0, 0.1, len(p)), 0, 1)
    d = bootstrap_difference(auc, y, p, worse, groups, n=400)
    assert d.value == pytest.approx(auc(y, p) - auc(y, worse)) and 0 < d.low and d.p_value < 0.05
    back = bootstrap_difference(auc, y, worse, p, groups, n=400)
    assert tuple(back) == pytest.approx((-d.value, -d.high, -d.low))
    same = bootstrap_difference(auc, y, p, p, groups, n=100)
    assert tuple(same) == (0, 0, 0) and same.p_value == 1
    # Far narrower than two separate intervals: the same videos are hard for both.
    assert (
        d.high - d.low
        < bootstrap_groups(auc, y, worse, groups, n=400).high - bootstrap_groups(auc, y, worse, groups, n=400).low
    )


def test_evaluate_gives_values_or_reasons():
    y, p, groups = many()
    full = evaluate(y, p, groups, n=50)
    assert list(full) == list(METRICS) and all(
        r["low"] <= r["value"] <= r["high"] or name == "ece" for name, r in full.items()
    )
    assert evaluate(Y, P, ["g"] * 8)["auc"] == {
        "value": 14 / 16,
        "no_interval": "an interval needs at least 5 groups, here 1",
    }
    fakes = evaluate([0] * 6, [0.1] * 6, range(6), n=50)
    assert fakes["auc"] == {"refused": "no real video: it needs both classes"} and fakes["brier"][
        "value"
    ] == pytest.approx(0.01)
    assert evaluate(Y, P, range(8), n=50, threshold=0.35)["balanced_accuracy"]["value"] == pytest.approx(
        (4 / 4 + 3 / 4) / 2
    )


PERFECT = (np.repeat([1, 0], 6), np.r_[np.linspace(0.9, 0.7, 6), np.linspace(0.1, 0.3, 6)])


@pytest.mark.parametrize("name", ["auc", "average_precision", "eer", "balanced_accuracy", "tpr_at_fpr"])
@pytest.mark.parametrize(
    "scores, groups",
    [
        pytest.param(PERFECT[1], np.arange(12), id="perfect"),
        pytest.param(PERFECT[1], np.arange(12) % 6, id="perfect-in-groups"),
        pytest.param(1 - PERFECT[1], np.arange(12), id="all-wrong"),
    ],
)
def test_no_interval_where_all_resamples_agree(name, scores, groups):
    if name == "average_precision" and scores[0] < 0.5:
        pytest.skip("precision depends on how many of each class are drawn")
    with pytest.raises(NoSpread, match="all resamples agree"):
        bootstrap_groups(METRICS[name], PERFECT[0], scores, groups)
    result = evaluate(PERFECT[0], scores, groups, n=100)[name]
    assert set(result) - {"warning"} == {"value", "no_interval"} and result["no_interval"] == NoSpread().reason
    assert "to" not in metric(result).split("no interval")[0]


def test_no_interval_of_a_constant_score():
    with pytest.raises(NoSpread):
        bootstrap_groups(log_loss, PERFECT[0], np.full(12, 0.5), np.arange(12))


def test_a_refusal_survives_a_process_boundary():
    assert pickle.loads(pickle.dumps(NoSpread())).reason == NoSpread().reason


@pytest.mark.parametrize(
    "low, high, text",
    [
        pytest.param(0.974, 1.0, "0.995  (0.974 to 1.000)", id="wide"),
        pytest.param(0.99961, 0.99999, "0.9950  (0.9996 to 1.0000)", id="narrow"),
        pytest.param(0.9999991, 0.9999992, "0.995000  (0.999999 to 0.999999)", id="narrower-than-is-printed"),
    ],
)
def test_an_interval_is_printed_with_the_digits_it_needs(low, high, text):
    assert metric({"value": 0.995, "low": low, "high": high}) == text


def inverted_set(rows, strength, seed=3):
    y = np.tile([1, 0], rows)
    return y, np.clip(0.5 - strength * (2 * y - 1) + np.random.default_rng(seed).normal(0, 0.15, len(y)), 0, 1)


@pytest.mark.parametrize(
    "rows, strength, groups, told",
    [
        pytest.param(20, 0.15, 40, True, id="a-group-each"),
        pytest.param(20, 0.5, 40, True, id="all-wrong"),
        pytest.param(20, 0.15, 4, True, id="too-few-groups-for-an-interval"),
        pytest.param(20, 0.5, 1, False, id="one-group"),
        pytest.param(20, 0.01, 40, False, id="guessing"),
        pytest.param(20, -0.15, 40, False, id="right"),
        pytest.param(20, -0.5, 40, False, id="perfect"),
        pytest.param(1, 0.5, 2, False, id="two-videos"),
    ],
)
def test_inverted_labels_are_told(rows, strength, groups, told):
    y, p = inverted_set(rows, strength)
    result = evaluate(y, p, np.arange(len(y)) // 2 % groups if groups < 40 else np.arange(len(y)), n=300)["auc"]
    assert ("warning" in result) == told, result
    if told:
        assert "probably inverted" in result["warning"] and "hint" in result["warning"]


def test_one_class_is_not_called_inverted():
    assert "warning" not in evaluate([0] * 9, np.linspace(0.5, 1, 9), range(9), n=50)["auc"]
