"""Curves: training history, ROC and precision-recall."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..metrics import Ranking
from .style import BLUE, GREY, LINE_COLOURS, ORANGE, escape, integer_ticks, new_figure, save_figure

DASHES = ("-", "--", ":", "-.")


def plot_training(
    path: str, title: str, history: list[dict[str, float]], labels: np.ndarray, scores: np.ndarray
) -> None:
    """Draw loss and AUPR by epoch, and the precision-recall curve over the bases of the validation windows.

    Parameters
    ----------
    history : a dict for each epoch with epoch, loss, validation_loss and aupr
    labels, scores : 0/1 base labels and base probabilities of the best epoch, shape (n, window)
    """
    figure = new_figure(11, 3.6)
    figure.suptitle(escape(title))
    loss, area, curve = figure.subplots(1, 3)
    epochs = [row["epoch"] for row in history]
    loss.plot(epochs, [row["loss"] for row in history], "o-", color=BLUE, label="training")
    loss.plot(epochs, [row["validation_loss"] for row in history], "s--", color=ORANGE, label="validation")
    loss.set(xlabel="epoch", ylabel="loss (nats)", ylim=(0, None))
    loss.legend(frameon=False)
    area.plot(epochs, [row["aupr"] for row in history], "s--", color=ORANGE)
    area.set(xlabel="epoch", ylabel="validation AUPR, bases", ylim=(0, 1.02))
    for axes in (loss, area):
        axes.xaxis.set_major_locator(integer_ticks())
    precision, recall = Ranking(labels, scores).precision_recall_curve()
    curve.plot(recall, precision, color=ORANGE)
    curve.axhline(labels.mean(), color=GREY, linestyle=":", label="chance")
    curve.set(xlabel="recall, bases", ylabel="precision, bases", xlim=(0, 1.02), ylim=(0, 1.02), title="best epoch")
    curve.legend(frameon=False, loc="center left")
    save_figure(figure, path)


def plot_curves(path: str, curves: Sequence[tuple[str, Ranking]]) -> None:
    """Draw ROC and precision-recall curves over bases, one line for each pair of label and ranking, and chance."""
    figure = new_figure(9.5, 4 + 0.16 * len(curves))
    roc, precision_recall = figure.subplots(1, 2)
    chance: set[float] = set()  # precision of random calls, by data set
    for number, (label, ranking) in enumerate(curves):
        repeat, colour = divmod(number, len(LINE_COLOURS))
        style = {"color": LINE_COLOURS[colour], "linestyle": DASHES[repeat % len(DASHES)]}
        if np.isfinite(ranking.auc()):
            roc.plot(*ranking.roc_curve(), label=escape(f"{label}: {ranking.auc():.3f}"), **style)
        precision, recall = ranking.precision_recall_curve()
        precision_recall.plot(recall, precision, label=escape(f"{label}: {ranking.aupr():.3f}"), **style)
        chance.add(round(float(precision[-1]), 3))  # of all bases called
    roc.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="chance")
    for number, fraction in enumerate(sorted(chance)):
        precision_recall.axhline(fraction, color=GREY, linestyle=":", label=None if number else "chance")
    roc.set(xlabel="false positive rate, bases", ylabel="true positive rate, bases", title="ROC curve (AUC)")
    precision_recall.set(xlabel="recall, bases", ylabel="precision, bases", title="precision-recall curve (AUPR)")
    for axes in (roc, precision_recall):
        axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
        axes.legend(frameon=False, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.14))
    save_figure(figure, path)
