"""evaluate.py on a synthetic file (synthetic_scores.csv, made of random numbers) held against pandas and scikit-learn,
and on the published one."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from deepfake_detection import scores
from deepfake_detection.aggregation import RULES
from deepfake_detection.errors import UserError
from deepfake_detection.metrics import METRICS
from deepfake_detection.reports import evaluation, evaluation_text

SYNTHETIC = Path(__file__).with_name("synthetic_scores.csv")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluation")
    return evaluation.run(SYNTHETIC, out, resamples=100), out


def row(report, dataset="all", manipulation="all", rule="mean"):
    found = [r for r in report["rows"] if (r["dataset"], r["manipulation"], r["rule"]) == (dataset, manipulation, rule)]
    assert len(found) == 1, [(r["dataset"], r["manipulation"]) for r in report["rows"]]
    return found[0]


def by_hand():
    """video -> (label, p): the mean of each person, the lowest over people."""
    table = (
        pd.read_csv(SYNTHETIC, keep_default_na=False)
        .query("p_real != ''")
        .assign(p_real=lambda t: t.p_real.astype(float))
    )
    persons = table.groupby(["video", "label", "manipulation", "dataset", "person"])["p_real"].mean()
    return persons.groupby(["video", "label", "manipulation", "dataset"]).min().reset_index()


@pytest.mark.parametrize(
    "dataset, manipulation, real, fake",
    [
        ("all", "all", None, None),
        ("dfdc", "all", "dataset == 'dfdc'", "dataset == 'dfdc'"),
        ("ffpp", "c40", "manipulation == 'c40'", "manipulation.str.endswith('/c40')"),
        ("ffpp", "FaceSwap/c23", "manipulation == 'c23'", "manipulation == 'FaceSwap/c23'"),
        ("ffpp", "Deepfakes/c40", "manipulation == 'c40'", "manipulation == 'Deepfakes/c40'"),
    ],
)
def test_each_row_holds_the_right_videos(report, dataset, manipulation, real, fake):
    from sklearn.metrics import log_loss, roc_auc_score

    table = by_hand()
    if real:
        table = pd.concat([table.query(real).query("label == 'REAL'"), table.query(fake).query("label == 'FAKE'")])
    y = (table.label == "REAL").astype(int)
    found = row(report[0], dataset, manipulation)
    assert (found["real"], found["fake"]) == (y.sum(), len(y) - y.sum())
    assert found["metrics"]["auc"]["value"] == pytest.approx(roc_auc_score(y, table.p_real))
    assert found["metrics"]["log_loss"]["value"] == pytest.approx(log_loss(y, table.p_real))
    assert 5 <= found["groups"] < found["videos"] and found["metrics"]["log_loss"]["groups"] == found["groups"]
    loss = found["metrics"]["log_loss"]
    assert loss["low"] <= loss["value"] <= loss["high"]


def test_coverage_counts_videos_without_a_score(report):
    assert report[0]["coverage"] == {
        "all": {"videos": 95, "scored": 92, "error": 1, "no face": 2},
        "FAKE": {"videos": 60, "scored": 58, "error": 1, "no face": 1},
        "REAL": {"videos": 35, "scored": 34, "no face": 1},
    }


def test_files_and_rules(report):
    result, out = report
    assert {r["rule"] for r in result["rows"]} == set(RULES)
    table = pd.read_csv(out / "evaluation.csv")
    assert len(table) == len(result["rows"]) and {f"{m}{s}" for m in METRICS for s in ("", "_low", "_high")} <= set(
        table.columns
    )
    stored = json.loads((out / "evaluation.json").read_text())
    assert stored["rows"] == result["rows"] and stored["groups_known"]
    assert sorted(p.name for p in out.iterdir()) == [
        "ROC.png",
        "Reliability.png",
        "ScoreHistogram.png",
        "evaluation.csv",
        "evaluation.json",
    ]
    text = evaluation_text.text(result)
    assert "Aggregation rules side by side" in text and "Deepfakes/c40" in text and "resamples of the groups" in text


def test_same_bytes_again_whatever_the_order_of_rows(report, tmp_path):
    table = pd.read_csv(SYNTHETIC, dtype=str, keep_default_na=False).sample(frac=1, random_state=3)
    table.to_csv(tmp_path / SYNTHETIC.name, index=False)
    evaluation.run(tmp_path / SYNTHETIC.name, tmp_path / "out", resamples=100)
    for name in ("evaluation.csv", "ROC.png"):
        assert (tmp_path / "out" / name).read_bytes() == (report[1] / name).read_bytes()


def test_flipped_scores_are_noticed(report, tmp_path):
    table = pd.read_csv(SYNTHETIC)
    table.assign(p_real=1 - table.p_real).to_csv(tmp_path / "flipped.csv", index=False)
    flipped = evaluation.run(tmp_path / "flipped.csv", tmp_path / "out", resamples=20)
    assert row(report[0])["metrics"]["auc"]["value"] > 0.85 and row(flipped)["metrics"]["auc"]["value"] < 0.15
    assert "probably inverted" in evaluation_text.text(flipped) and "inverted" not in evaluation_text.text(report[0])


def test_paired_comparison(tmp_path):
    table = pd.read_csv(SYNTHETIC)
    rng = np.random.default_rng(0)
    noisy = table.assign(p_real=(0.5 + 0.4 * (table.p_real - 0.5) + rng.normal(0, 0.03, len(table))).clip(0, 1))
    noisy[noisy.video != "dfdc-00"].to_csv(tmp_path / "noisy.csv", index=False)
    result = evaluation.run(SYNTHETIC, tmp_path / "out", compare=tmp_path / "noisy.csv", resamples=200)
    c = result["comparison"]
    assert (c["videos"], c["only_in_a"], c["only_in_b"]) == (91, 1, 0)
    loss = c["metrics"]["log_loss"]
    assert loss["difference"] == pytest.approx(loss["a"] - loss["b"]) and loss["high"] < 0 and loss["p_value"] < 0.05
    assert "A is better" in next(
        line for line in evaluation_text.text(result).splitlines() if line.startswith("log loss") and "to" in line
    )
    table.assign(label=table.label.map({"REAL": "FAKE", "FAKE": "REAL"})).to_csv(tmp_path / "odd.csv", index=False)
    with pytest.raises(UserError, match="disagree about the label"):
        evaluation.run(SYNTHETIC, tmp_path / "out", compare=tmp_path / "odd.csv", resamples=20)


def test_one_class_few_groups_and_no_labels_are_refused_with_the_reason(tmp_path):
    rows = [[f"fake/a{i}-000-00.png", 0.1 * i] for i in range(4)]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    (tmp_path / "ROC.png").write_bytes(b"of an earlier run")
    result = evaluation.run(tmp_path / "a.json", tmp_path, resamples=20)
    metrics = row(result)["metrics"]
    assert metrics["auc"] == {"refused": "no real video: it needs both classes"} and metrics["brier"][
        "no_interval"
    ].startswith("an interval needs at least 5")
    assert not (tmp_path / "ROC.png").exists() and result["pictures"] == ["Reliability.png", "ScoreHistogram.png"]
    assert (
        "no real video" in evaluation_text.text(result) and "no real video" in (tmp_path / "evaluation.csv").read_text()
    )
    (tmp_path / "b.json").write_text(json.dumps([["x-000-00.png", 0.5]]))
    result = evaluation.run(tmp_path / "b.json", tmp_path, resamples=20)
    assert (
        result["rows"] == []
        and result["pictures"] == []
        and "no metric can be computed" in evaluation_text.text(result)
    )


def test_manifest_gives_groups_and_counts_what_has_no_score(tmp_path):
    names = [f"v{i}" for i in range(12)]
    scores.write_cnn_preds(
        tmp_path / "a.json",
        [f"{'real' if i % 2 else 'fake'}/v{i}-000-00.png" for i in range(12)],
        np.linspace(0.1, 0.9, 12),
    )
    pd.DataFrame(
        {
            "title": [*names, "v99"],
            "group": [f"g{i // 2}" for i in range(12)] + ["g99"],
            "dataset": "dfdc",
            "label": [""] * 12 + ["REAL"],
        }
    ).to_csv(tmp_path / "m.csv", index=False)
    result = evaluation.run(tmp_path / "a.json", tmp_path / "out", manifest=tmp_path / "m.csv", resamples=50)
    assert row(result)["groups"] == 6 and row(result, "dfdc")["videos"] == 12
    assert (
        result["coverage"]["all"] == {"videos": 13, "scored": 12, "no score": 1}
        and result["coverage"]["REAL"]["videos"] == 7
    )
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="neither a column video nor title"):
        evaluation.run(tmp_path / "a.json", tmp_path / "out", manifest=tmp_path / "bad.csv")


def test_the_published_file(shared, tmp_path):
    result = evaluation.run(shared / "reference" / "brown_cv" / "cnn_preds_values.json", tmp_path, resamples=100)
    metrics = row(result)["metrics"]
    assert round(metrics["auc"]["value"], 3) == 0.995 and round(metrics["log_loss"]["value"], 3) == 0.175
    assert not result["groups_known"]


def test_the_script(project, tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("evaluate_script", project / "evaluate.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.main([str(SYNTHETIC), "--out", str(tmp_path), "--resamples", "20"])
    printed = capsys.readouterr().out
    assert "Coverage" in printed and str(tmp_path / "evaluation.csv") in printed
    for wrong in (["--nonsense"], [str(SYNTHETIC), "--resamples", "0"], [str(SYNTHETIC), "--aggregate", "mode"]):
        with pytest.raises(SystemExit) as e:
            script.main(wrong)
        assert e.value.code == 2


def ffpp_scores():
    """Two methods in two compressions of ten people each; only the test set was scored."""
    rows = []
    for i in range(10):
        for level in ("c23", "c40"):
            rows.append((f"o{i}-{level}", "REAL", "", level, 0.6 + 0.03 * i))
            rows += [
                (f"{method}{i}-{level}", "FAKE", method, level, 0.1 + 0.03 * i + (level == "c40") * 0.2)
                for method in ("Deepfakes", "FaceSwap")
            ]
    return pd.DataFrame(rows, columns=["video", "label", "manipulation", "compression", "p_real"]).assign(
        group=lambda t: "p" + t.video.str.extract(r"(\d+)-")[0], dataset="ffpp"
    )


def test_methods_and_compressions_are_told_apart_and_train_videos_are_not_missing(tmp_path):
    table = ffpp_scores()
    names = [f"{label.lower()}/{video}-000-00.png" for video, label in zip(table.video, table.label)]
    scores.write_cnn_preds(tmp_path / "cnn_preds_values.json", names, table.p_real)
    known = table.drop(columns="p_real").rename(columns={"video": "title"}).assign(set="test")
    unscored = known.iloc[:4].assign(
        title=["seen-a", "seen-b", "lost-a", "seen-c"], set=["train", "val", "test", "train"]
    )
    pd.concat([known, unscored]).to_csv(tmp_path / "split_manifest.csv", index=False)
    report = evaluation.run(
        tmp_path / "cnn_preds_values.json", tmp_path / "out", manifest=tmp_path / "split_manifest.csv", resamples=20
    )
    assert report["coverage"]["all"] == {"videos": 61, "scored": 60, "no score": 1}
    shown = {
        r["manipulation"]: (r["real"], r["fake"])
        for r in report["rows"]
        if r["dataset"] == "ffpp" and r["rule"] == "mean"
    }
    assert shown == {
        "all": (20, 40),
        "c23": (10, 20),
        "c40": (10, 20),
        "Deepfakes": (20, 20),
        "Deepfakes/c23": (10, 10),
        "Deepfakes/c40": (10, 10),
        "FaceSwap": (20, 20),
        "FaceSwap/c23": (10, 10),
        "FaceSwap/c40": (10, 10),
    }


def summary_03(y, p):
    """What stages 03 and 03a print."""
    from types import SimpleNamespace

    from deepfake_detection.training import results

    names = [f"v{i}" for i in range(len(y))]
    found = results.metrics_of(SimpleNamespace(y=np.array(y), titles=names, groups=names), p)
    return "\n".join(results.summary(found))


def text_04(y, p, folder):
    from deepfake_detection.spark import video_predictions

    table = pd.DataFrame({"video": [f"v{i}" for i in range(len(y))], "label": ["REAL" if v else "FAKE" for v in y],
                          "p_real": p, "frames": 1, "status": "ok"})  # fmt: skip
    return video_predictions.write(table, "x.json", folder).text


@pytest.mark.parametrize(
    "p, words, not_there",
    [
        pytest.param(lambda y: 0.5 + 0.4 * (y - 0.5), ["1.000", "all resamples agree"], "1.000 to 1.000", id="perfect"),
        pytest.param(lambda y: 0.5 - 0.4 * (y - 0.5), ["probably inverted", "hint"], "0.000 to 0.000", id="inverted"),
    ],
)
def test_03_and_04_and_evaluate_say_the_same(tmp_path, p, words, not_there):
    y = np.tile([1, 0], 10)
    scores = p(y) + np.linspace(0, 0.01, 20)
    pd.DataFrame(
        {"video": [f"v{i}" for i in range(20)], "label": np.where(y, "REAL", "FAKE"), "p_real": scores}
    ).to_csv(tmp_path / "s.csv", index=False)
    evaluated = evaluation_text.text(evaluation.run(tmp_path / "s.csv", tmp_path / "e", resamples=100))
    for text in (summary_03(y, scores), text_04(y, scores, tmp_path), evaluated):
        assert all(w in text for w in words) and not_there not in text.replace("-", " to "), text
