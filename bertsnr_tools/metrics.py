"""The paper's six metrics (Luo et al. 2024, section 2.6), in numpy.

AUPR is the trapezoidal area under the precision-recall curve, as in the paper; tied scores share one point of a curve.
"""

from __future__ import annotations

import numpy as np

NAMES = ("accuracy", "precision", "recall", "f1", "auc", "aupr")


class Ranking:
    """Labels sorted by falling score, once for curves and for metrics with many weightings.

    Parameters
    ----------
    labels : 0/1 array of any shape
    scores : finite, same shape
    threshold : scores above it are calls
    """

    def __init__(self, labels: np.ndarray, scores: np.ndarray, threshold: float = 0.5):
        labels, scores = labels.ravel(), scores.ravel()
        self.order = np.argsort(-scores, kind="stable")
        self._labels, scores = labels[self.order].astype(bool), scores[self.order]
        self._last = np.append(np.nonzero(np.diff(scores))[0], len(scores) - 1)  # of each distinct score
        self._calls = int(np.count_nonzero(scores > threshold))

    def cumulative(self, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """True and false positives at each distinct score, from the highest score down.

        Parameters
        ----------
        weights : how often each item counts, in the shape of the labels; None counts each once
        """
        true, called = self._sums(weights)
        return true[self._last], called[self._last] - true[self._last]

    def _sums(self, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Positives, and all items, up to each item in the order of falling scores."""
        if weights is None:
            return np.cumsum(self._labels), np.arange(1, len(self._labels) + 1)
        weights = weights.ravel()[self.order]
        return np.cumsum(weights * self._labels), np.cumsum(weights)

    def six_metrics(self, weights: np.ndarray | None = None) -> dict[str, float]:
        """Accuracy, precision, recall and F1 of the calls, AUC and AUPR, by `NAMES`; `weights` as in `cumulative`.

        Precision, recall and F1 are 0 where nothing is called or nothing is positive.
        """
        true, every = self._sums(weights)
        true_calls, calls = (int(sums[self._calls - 1]) if self._calls else 0 for sums in (true, every))
        positives, total = int(true[-1]), int(every[-1])
        precision = true_calls / calls if calls else 0.0
        recall = true_calls / positives if positives else 0.0
        f1 = 2 * precision * recall / (precision + recall) if true_calls else 0.0
        correct = true_calls + (total - positives) - (calls - true_calls)
        values = (correct / total, precision, recall, f1, self.auc(weights), self.aupr(weights))
        return dict(zip(NAMES, values))

    def roc_curve(self, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """False and true positive rate at each distinct score, from the highest score down, after the point (0, 0)."""
        true, false = self.cumulative(weights)
        return np.append(0, false) / false[-1], np.append(0, true) / true[-1]

    def precision_recall_curve(self, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Precision and recall at each distinct score, from the highest score down, after the point (1, 0).

        At least one label must be 1; recall does not decrease.
        """
        true, false = self.cumulative(weights)
        counted = true + false > 0  # the highest scores may have weight 0
        true, false = true[counted], false[counted]
        return np.append(1.0, true / (true + false)), np.append(0.0, true / true[-1])

    def aupr(self, weights: np.ndarray | None = None) -> float:
        """Area under the precision-recall curve; nan when no label is 1."""
        if not self.cumulative(weights)[0][-1]:
            return float("nan")
        precision, recall = self.precision_recall_curve(weights)
        return float(np.trapezoid(precision, recall))

    def auc(self, weights: np.ndarray | None = None) -> float:
        """Area under the ROC curve; nan unless both labels occur."""
        true, false = self.cumulative(weights)
        if not true[-1] or not false[-1]:
            return float("nan")
        rates = self.roc_curve(weights)
        return float(np.trapezoid(rates[1], rates[0]))


def aupr(labels: np.ndarray, scores: np.ndarray) -> float:
    """See `Ranking.aupr`."""
    return Ranking(labels, scores).aupr()


def bootstrap_intervals(
    labels: np.ndarray, scores: np.ndarray, threshold: float, replicates: int, seed: int
) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals of the six metrics.

    Whole windows are drawn with replacement, because the bases of a window are not independent.

    Parameters
    ----------
    labels, scores : shape (n,) for windows, or (n, window) for bases
    replicates : resamplings, each of n windows

    Returns
    -------
    for each of `NAMES`, low and high; nan where no replicate has a value
    """
    ranking = Ranking(labels, scores, threshold)
    random = np.random.default_rng([seed, 3])
    values: dict[str, list[float]] = {name: [] for name in NAMES}
    for _ in range(replicates):
        counts = np.bincount(random.integers(0, len(labels), len(labels)), minlength=len(labels))
        weights = np.broadcast_to(counts.reshape(-1, *[1] * (labels.ndim - 1)), labels.shape)
        for name, value in ranking.six_metrics(weights).items():
            values[name].append(value)
    return {name: _percentile_interval(np.array(column)) for name, column in values.items()}


def _percentile_interval(values: np.ndarray) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return float("nan"), float("nan")
    return float(np.quantile(finite, 0.025)), float(np.quantile(finite, 0.975))


def q_values(p: np.ndarray, tests: float | None = None) -> np.ndarray:
    """False discovery rates (Benjamini and Hochberg 1995).

    Parameters
    ----------
    p : p-values, shape (n,), the lowest of all tests
    tests : number of all tests; None for n

    Returns
    -------
    q-values, shape (n,), in the order of `p`
    """
    order = np.argsort(p, kind="stable")
    ranked = p[order] * (tests or len(p)) / np.arange(1, len(p) + 1)
    q = np.empty(len(p))
    q[order] = np.minimum(1.0, np.minimum.accumulate(ranked[::-1])[::-1])
    return q
