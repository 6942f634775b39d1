import numpy as np
import pytest
import sklearn.metrics as sk

from bertsnr_tools.metrics import NAMES, Ranking, aupr, bootstrap_intervals


@pytest.mark.parametrize("seed", range(20))
def test_the_same_as_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 400))
    labels = (rng.random(n) < rng.choice([0.05, 0.5, 0.9])).astype(int)
    labels[:2] = 0, 1
    scores = rng.random(n).round(int(rng.integers(1, 6))).astype(np.float32)  # few decimals: ties
    calls = scores > 0.5
    precision, recall, _ = sk.precision_recall_curve(labels, scores)
    got = Ranking(labels, scores).six_metrics()
    assert got["accuracy"] == pytest.approx(sk.accuracy_score(labels, calls))
    assert got["precision"] == pytest.approx(sk.precision_score(labels, calls, zero_division=0))
    assert got["recall"] == pytest.approx(sk.recall_score(labels, calls))
    assert got["f1"] == pytest.approx(sk.f1_score(labels, calls, zero_division=0))
    assert got["auc"] == pytest.approx(sk.roc_auc_score(labels, scores))
    assert got["aupr"] == pytest.approx(sk.auc(recall, precision))


def test_degenerate_input():
    ones, zeros, constant = np.ones(5), np.zeros(5), np.full(5, 0.3)
    assert np.isnan(Ranking(ones, constant).auc()) and np.isnan(Ranking(zeros, constant).auc())
    assert np.isnan(aupr(zeros, constant))
    assert aupr(ones, constant) == 1
    tied = Ranking(np.array([1, 0]), np.array([0.1, 0.1]))
    assert tied.six_metrics()["f1"] == 0 and tied.auc() == 0.5
    precision, recall = Ranking(np.array([0, 1]), np.array([0.9, 0.1])).precision_recall_curve()
    assert precision.tolist() == [1, 0, 0.5] and recall.tolist() == [0, 0, 1]


def test_weights_count_items_that_often():
    rng = np.random.default_rng(5)
    for _ in range(50):
        n = int(rng.integers(2, 40))
        labels, scores = (rng.random(n) < 0.4).astype(int), rng.random(n).round(1)
        weights = rng.integers(0, 4, n)
        if not weights.any():
            continue
        ranking, repeated = Ranking(labels, scores), Ranking(np.repeat(labels, weights), np.repeat(scores, weights))
        assert ranking.six_metrics(weights) == pytest.approx(repeated.six_metrics(), nan_ok=True)


def test_roc_curve_as_scikit_learn():
    labels, scores = np.array([0, 1, 1, 0, 1]), np.array([0.1, 0.9, 0.4, 0.4, 0.2])
    false, true, _ = sk.roc_curve(labels, scores, drop_intermediate=False)
    own = Ranking(labels, scores).roc_curve()
    assert np.allclose(own[0], false) and np.allclose(own[1], true)


def test_bootstrap_intervals():
    rng = np.random.default_rng(0)
    labels = np.zeros((200, 20), dtype=int)
    labels[:100, 5:9] = 1
    scores = np.clip(labels * 0.4 + rng.random(labels.shape) * 0.7, 0, 1)
    intervals = bootstrap_intervals(labels, scores, 0.5, 300, 1)
    own = Ranking(labels, scores).six_metrics()
    assert set(intervals) == set(NAMES)
    for name, (low, high) in intervals.items():
        assert low < own[name] < high and high - low < 0.2
    assert (
        intervals
        == bootstrap_intervals(labels, scores, 0.5, 300, 1)
        != bootstrap_intervals(labels, scores, 0.5, 300, 2)
    )
    # a window is drawn as a whole: where all of its bases agree, the interval is that of 200 items, not of 4,000
    windows = np.repeat((np.arange(200) < 100)[:, None], 20, axis=1).astype(int)
    noisy = np.repeat((rng.random(200) < 0.8)[:, None], 20, axis=1) ^ (windows == 0)
    low, high = bootstrap_intervals(windows, noisy.astype(float), 0.5, 300, 1)["accuracy"]
    assert 0.08 < high - low < 0.16
    # one window of each class: some replicates hold a single class
    few = bootstrap_intervals(np.array([0, 1]), np.array([0.2, 0.8]), 0.5, 50, 1)
    assert few["auc"] == (1, 1)
