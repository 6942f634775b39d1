"""Pictures. This module alone imports matplotlib and logomaker, which come with the extra `plot`."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from ..errors import UsageError
from ..io.files import replace_atomically
from ..io.motif_files import Motif
from ..metrics import Ranking, precision_recall_curve
from ..motifs.comparison import Match

FORMATS = (".png", ".pdf", ".svg")
BLUE, ORANGE, GREY, PALE, SHADE = "#0072B2", "#D55E00", "#999999", "#E8E8E8", "#F6DFC4"
LETTER_COLOURS = {
    "A": "#009E73",
    "C": "#0072B2",
    "G": "#E69F00",
    "T": "#D55E00",
}  # told apart with any colour vision (Okabe and Ito)
LINES = (BLUE, ORANGE, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LETTERS_SHOWN = 250  # bases of a sequence whose letters are legible
ROWS_SHOWN = 1000  # of a heat map


def check_plot(path: str, logos: bool = False) -> None:
    """Find out before the work begins whether a picture can be drawn.

    Raises
    ------
    UsageError : matplotlib, or logomaker for `logos`, is not installed, or the file name has no known ending.
    """
    if os.path.splitext(path)[1].lower() not in FORMATS:
        raise UsageError(f"{path}: the name of a picture ends in {', '.join(FORMATS)}")
    try:
        import matplotlib  # noqa: F401

        if logos:
            import logomaker  # noqa: F401
    except ImportError as error:
        raise UsageError("pictures need matplotlib and logomaker: pip install 'bertsnr_tools[plot]'") from error


def plot_training(
    path: str, title: str, history: list[dict[str, float]], labels: np.ndarray, scores: np.ndarray
) -> None:
    """Loss and AUPR by epoch, and the precision-recall curve over the bases of the validation windows.

    Parameters
    ----------
    history : one dict for each epoch with epoch, loss, validation_loss and aupr
    labels, scores : base labels 0/1 and probabilities, shape (n, window)
    """
    epochs = [row["epoch"] for row in history]
    figure = _figure()
    loss, area, curve = figure.subplots(1, 3)
    figure.suptitle(_escape(title))
    loss.plot(epochs, [row["loss"] for row in history], "o-", color=BLUE, label="training")
    loss.plot(epochs, [row["validation_loss"] for row in history], "s--", color=ORANGE, label="validation")
    loss.set(xlabel="epoch", ylabel="loss (nats)", ylim=(0, None))
    loss.legend(frameon=False)
    area.plot(epochs, [row["aupr"] for row in history], "s--", color=ORANGE)
    area.set(xlabel="epoch", ylabel="validation AUPR, bases", ylim=(0, 1.02))
    precision, recall = precision_recall_curve(labels.ravel(), scores.ravel())
    curve.plot(recall, precision, color=ORANGE)
    curve.axhline(labels.mean(), color=GREY, linestyle=":", label="chance")
    curve.set(xlabel="recall, bases", ylabel="precision, bases", xlim=(0, 1.02), ylim=(0, 1.02), title="best epoch")
    curve.legend(frameon=False, loc="center left")
    for axes in (loss, area):
        axes.xaxis.set_major_locator(_integer_ticks())
    _save(figure, path)


def plot_curves(path: str, curves: Sequence[tuple[str, Ranking]]) -> None:
    """ROC and precision-recall curves, a line for each labelled ranking."""
    figure = _figure()
    figure.set_size_inches(9.5, max(4, 0.22 * len(curves) + 1))
    roc, precision_recall = figure.subplots(1, 2)
    for number, (label, ranking) in enumerate(curves):
        style = {"color": LINES[number % len(LINES)], "linestyle": ("-", "--", ":", "-.")[number // len(LINES) % 4]}
        if np.isfinite(ranking.auc()):
            roc.plot(*ranking.roc_curve(), label=_escape(f"{label}: {ranking.auc():.3f}"), **style)
        precision, recall = ranking.precision_recall_curve()
        precision_recall.plot(recall, precision, label=_escape(f"{label}: {ranking.aupr():.3f}"), **style)
    roc.plot([0, 1], [0, 1], color=GREY, linestyle=":")
    roc.set(xlabel="false positive rate, bases", ylabel="true positive rate, bases", title="ROC, area")
    precision_recall.set(xlabel="recall, bases", ylabel="precision, bases", title="precision-recall, area")
    for axes in (roc, precision_recall):
        axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
        axes.legend(frameon=False, fontsize=7, loc="lower center")
    _save(figure, path)


def plot_matrix(
    path: str, rows: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[float]], what: str
) -> None:
    """A number for every row (model) and column (data set), written on its colour (Luo et al. 2024, Fig. S6)."""
    figure = _figure()
    table = np.array(values)
    figure.set_size_inches(2.8 + 0.75 * len(columns), 1.8 + 0.5 * len(rows))
    axes = figure.subplots()
    image = axes.imshow(table, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    axes.set(xticks=range(len(columns)), yticks=range(len(rows)), xlabel="data set", ylabel="model")
    axes.set_xticklabels([_escape(name) for name in columns], rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticklabels([_escape(name) for name in rows])
    for (row, column), value in np.ndenumerate(table):
        axes.text(
            column, row, f"{value:.2f}", ha="center", va="center", color="white" if value < 0.6 else "black", fontsize=9
        )
    figure.colorbar(image, ax=axes, label=what)
    _save(figure, path)


def plot_logos(path: str, motifs: Sequence[Motif], matches: Sequence[Match | None] = ()) -> None:
    """Sequence logos of information content, one below the other; with `matches`, each above the motif that it resembles.

    Parameters
    ----------
    matches : for each motif its best match or None; the two are drawn aligned
    """
    figure = _figure()
    partners = [*matches, *[None] * (len(motifs) - len(matches))]
    columns = -(-len(motifs) // 15)
    rows = -(-len(motifs) // columns)
    high = 2 if any(partners) else 1
    widest = max(motif.width for motif in motifs)
    figure.set_size_inches(
        columns * min(14, max(3.5, 1.2 + 0.28 * (widest + 4 * (high - 1)))),
        min(200, rows * (1.55 if high == 1 else 2.9)),
    )
    parts = np.atleast_1d(figure.subfigures(rows, columns, squeeze=False)).ravel()
    for part, motif, match in zip(parts, motifs, partners):
        if not match:
            axes = part.subplots()
            _draw_logo(axes, motif.information, 1)
            axes.set_title(f"{_escape(motif.id)} ({motif.sites:,} sites)", fontsize=9)
            axes.set(xlabel="position (bp)", xlim=(0.5, widest + 0.5))
            continue
        above, below = part.subplots(2, 1, sharex=True)
        target = match.target if match.orientation == "+" else match.target.reverse_complement()
        _draw_logo(above, motif.information, 1)
        _draw_logo(below, target.information, 1 - match.offset)
        above.set_title(f"{_escape(motif.id)} ({motif.sites:,} sites)", fontsize=9)
        turned = ", reverse complement" if match.orientation == "-" else ""
        below.set_title(f"{_escape(target.id)} {_escape(target.name)}{turned}, p = {match.p:.1e}", fontsize=9)
        below.set_xlabel("position in the upper motif (bp)")
        above.set_xlim(min(0, -match.offset) + 0.5, max(motif.width, target.width - match.offset) + 0.5)
    _save(figure, path)


def _draw_logo(axes, heights: np.ndarray, first: int) -> None:
    """Letters as high as their information content; `first` is the position of the first column."""
    import logomaker
    import pandas

    table = pandas.DataFrame(heights, columns=list(LETTER_COLOURS), index=range(first, first + len(heights)))
    logomaker.Logo(table, ax=axes, color_scheme=LETTER_COLOURS, show_spines=False)
    axes.spines[["left", "bottom"]].set_visible(True)
    axes.set(ylim=(0, 2), yticks=[0, 1, 2], ylabel="bits")
    axes.xaxis.set_major_locator(_integer_ticks())


def plot_profile(
    path: str,
    title: str,
    sequence: bytes,
    values: np.ndarray,
    sites: Sequence[tuple[int, int]],
    what: str,
    motif: Motif | None,
) -> None:
    """Attention over the letters of one sequence, its called sites shaded, below them the logo of a motif (Luo et al. 2024, Fig. 4b).

    Parameters
    ----------
    values : shape (n,), NaN where there is none
    sites : [start, end) in the sequence; the motif is drawn in the middle of the first
    what : which attention it is, for the title
    """
    figure = _figure()
    length = len(values)
    figure.set_size_inches(min(30, max(6, 0.105 * length + 1)), 3.2 if motif is None else 4.6)
    axes = figure.subplots(
        1 if motif is None else 2, 1, sharex=True, squeeze=False, height_ratios=[2] if motif is None else [2, 1]
    )[:, 0]
    figure.suptitle(_escape(f"{title}\n{what}"), fontsize=10)
    position = np.arange(1, length + 1)
    for number, (start, end) in enumerate(sites):
        axes[0].axvspan(start + 0.5, end + 0.5, color=SHADE, label="called site" if not number else None)
    axes[0].bar(position, np.nan_to_num(values), color=BLUE, width=0.9)
    axes[0].set(ylabel="attention", xlim=(0.5, length + 0.5), ylim=(0, None))
    if sites:
        axes[0].legend(frameon=False, loc="upper right")
    if length <= LETTERS_SHOWN:
        for at, letter in zip(position.tolist(), sequence.decode()):
            axes[0].annotate(
                letter,
                (at, 0),
                (0, -3),
                textcoords="offset points",
                xycoords=("data", "axes fraction"),
                ha="center",
                va="top",
                fontsize=7,
                color=LETTER_COLOURS.get(letter, GREY),
                weight="bold",
            )
        axes[0].tick_params(axis="x", pad=11)
    axes[0].tick_params(labelbottom=True)
    axes[-1].set_xlabel("position in the sequence (bp)")
    if motif is not None:
        if sites:
            first = (sites[0][0] + sites[0][1]) // 2 - motif.width // 2 + 1
            _draw_logo(axes[1], motif.information, first)
            axes[1].set_xlim(0.5, length + 0.5)
            axes[1].set_title(f"{_escape(motif.id)} {_escape(motif.name)}".strip(), fontsize=9)
        else:
            axes[1].set_axis_off()
            axes[1].text(0.5, 0.5, "no site was called", transform=axes[1].transAxes, ha="center", color=GREY)
    _save(figure, path)


def plot_heatmap(path: str, title: str, values: np.ndarray, first: int, along: str, what: str) -> None:
    """Attention of many aligned sequences, one in a row, below their mean (Luo et al. 2024, Fig. 4c).

    Parameters
    ----------
    values : shape (n, length), NaN where a sequence does not reach; of more than `ROWS_SHOWN` sequences, neighbours are averaged
    first : position of the first column
    along : label of the positions
    what : which attention it is, for the title
    """
    figure = _figure()
    count, length = values.shape
    figure.set_size_inches(min(16, max(6, 2.2 + 0.05 * length)), 2.6 + min(6, max(1.2, 0.06 * count)))
    (top, corner), (axes, bar) = figure.subplots(
        2, 2, sharex="col", height_ratios=[1.6, min(6, max(1.2, 0.06 * count))], width_ratios=[40, 1]
    )
    corner.set_axis_off()
    figure.suptitle(_escape(f"{title}\n{what}"), fontsize=10)
    extent = (first - 0.5, first + length - 0.5, count + 0.5, 0.5)
    reached = np.isfinite(values)
    mean = np.where(reached, values, 0).sum(axis=0) / np.maximum(1, reached.sum(axis=0))
    top.plot(np.arange(first, first + length), np.where(reached.any(axis=0), mean, np.nan), color=BLUE)
    top.set(ylabel="mean attention", ylim=(0, None), xlim=extent[:2])
    top.tick_params(labelbottom=False)
    shown = values
    if count > ROWS_SHOWN:
        edges = np.linspace(0, count, ROWS_SHOWN + 1).astype(int)[:-1]
        sums, counts = (
            np.add.reduceat(array, edges, axis=0)
            for array in (np.where(reached, values, 0), reached.astype(np.float32))
        )
        shown = np.where(counts > 0, sums / np.maximum(1, counts), np.nan)
    highest = float(np.quantile(shown[np.isfinite(shown)], 0.995)) if np.isfinite(shown).any() else 1.0
    from matplotlib import colormaps

    image = axes.imshow(
        shown,
        aspect="auto",
        interpolation="nearest",
        extent=extent,
        vmin=0,
        vmax=highest or 1.0,
        cmap=colormaps["viridis"].with_extremes(bad=PALE),
    )
    axes.set(xlabel=along, ylabel="sequence" if count == 1 else f"{count:,} sequences")
    axes.yaxis.get_major_locator().set_params(integer=True)
    figure.colorbar(image, cax=bar, label="attention", extend="max")
    _save(figure, path)


def plot_layers(path: str, title: str, attention: np.ndarray) -> None:
    """Attention between all tokens of one sequence, a panel for each layer and head (Luo et al. 2024, Fig. 4a).

    Parameters
    ----------
    attention : shape (layers, heads, tokens, tokens), from the token of a row to that of a column
    """
    figure = _figure()
    layers, heads, tokens, _ = attention.shape
    size = 1.9 if heads <= 6 else 1.05
    figure.set_size_inches(size * heads + 1.6, size * layers + 1.2)
    figure.suptitle(_escape(title), fontsize=11)
    panels = figure.subplots(layers, heads, squeeze=False, sharex=True, sharey=True)
    for layer in range(layers):
        for head in range(heads):
            axes = panels[layer, head]
            # square roots, so that weak attention is seen beside strong
            image = axes.imshow(
                np.sqrt(attention[layer, head]),
                vmin=0,
                vmax=1,
                cmap="viridis",
                interpolation="nearest",
                extent=(-0.5, tokens - 0.5, tokens - 0.5, -0.5),
            )
            axes.set(xticks=[0, tokens - 1], yticks=[0, tokens - 1])
            axes.tick_params(labelsize=6, length=2)
            if layer == 0:
                axes.set_title(f"head {head + 1}", fontsize=8)
            if head == 0:
                axes.set_ylabel(f"layer {layer + 1}", fontsize=8)
    figure.supxlabel("to token (0 is [CLS], the last is [SEP])", fontsize=9)
    figure.supylabel("from token", fontsize=9)
    bar = figure.colorbar(
        image, ax=panels, label="attention", shrink=min(1, 3 / layers), ticks=np.sqrt([0, 0.01, 0.1, 0.25, 0.5, 1])
    )
    bar.ax.set_yticklabels(["0", "0.01", "0.1", "0.25", "0.5", "1"])
    _save(figure, path)


def _figure():
    from matplotlib.figure import Figure

    return Figure(figsize=(11, 3.6), layout="constrained")


def _escape(text: str) -> str:
    """Text that matplotlib does not take for mathematics."""
    return text.replace("$", r"\$")


def _integer_ticks():
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(integer=True)


def _save(figure, path: str) -> None:
    with replace_atomically(path) as temporary:
        figure.savefig(temporary, format=os.path.splitext(path)[1][1:].lower(), dpi=150)
