"""Heat maps: metrics of models on data sets, attention of many sequences, attention of all layers and heads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .style import BLUE, PALE, escape, new_figure, save_figure

MAX_ROWS = 1000  # of a heat map; beyond, neighbours are averaged


def plot_matrix(
    path: str, rows: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[float]], what: str
) -> None:
    """Draw a metric of every model (rows) on every data set (columns), as number and colour (Luo et al. 2024, Fig. S6).

    Parameters
    ----------
    values : in [0, 1], a row for each model
    what : name of the metric
    """
    table = np.array(values)
    figure = new_figure(2.8 + 0.75 * len(columns), 1.8 + 0.5 * len(rows))
    axes = figure.subplots()
    image = axes.imshow(table, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    axes.set(xticks=range(len(columns)), yticks=range(len(rows)), xlabel="data set", ylabel="model")
    axes.set_xticklabels([escape(name) for name in columns], rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticklabels([escape(name) for name in rows])
    for (row, column), value in np.ndenumerate(table):
        colour = "white" if value < 0.6 else "black"
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=9)
    figure.colorbar(image, ax=axes, label=what)
    save_figure(figure, path)


def plot_heatmap(path: str, title: str, values: np.ndarray, first: int, position_label: str) -> None:
    """Draw the attention of aligned sequences, one in a row, below their mean (Luo et al. 2024, Fig. 4c).

    Parameters
    ----------
    title : of one or more lines
    values : shape (n, length), NaN outside a sequence; beyond `MAX_ROWS` sequences, neighbours are averaged
    first : position of the first column
    position_label : label of the position axis
    """
    count, length = values.shape
    rows_height = min(6, max(1.2, 0.06 * count))
    figure = new_figure(min(16, max(6, 2.2 + 0.05 * length)), 2.6 + rows_height)
    figure.suptitle(escape(title), fontsize=10)
    (top, corner), (axes, bar) = figure.subplots(
        2, 2, sharex="col", height_ratios=[1.6, rows_height], width_ratios=[40, 1]
    )
    corner.set_axis_off()
    left, right = first - 0.5, first + length - 0.5
    top.plot(np.arange(first, first + length), column_means(values), color=BLUE)
    top.set(ylabel="mean attention", ylim=(0, None), xlim=(left, right))
    top.tick_params(labelbottom=False)

    from matplotlib import colormaps

    rows = np.array([column_means(part) for part in np.array_split(values, MAX_ROWS)]) if count > MAX_ROWS else values
    finite = rows[np.isfinite(rows)]
    image = axes.imshow(
        rows,
        aspect="auto",
        interpolation="nearest",
        extent=(left, right, count + 0.5, 0.5),
        vmin=0,
        vmax=(float(np.quantile(finite, 0.995)) if len(finite) else 0) or 1,
        cmap=colormaps["viridis"].with_extremes(bad=PALE),
    )
    axes.set(xlabel=position_label, ylabel=f"{count:,} sequences")
    axes.yaxis.get_major_locator().set_params(integer=True)
    figure.colorbar(image, cax=bar, label="attention", extend="max")
    save_figure(figure, path)


def column_means(values: np.ndarray) -> np.ndarray:
    """Mean of the finite values of each column, shape (n, length) to (length,); NaN in a column without any."""
    finite = np.isfinite(values)
    count = finite.sum(axis=0)
    return np.where(count, np.where(finite, values, 0).sum(axis=0) / np.maximum(1, count), np.nan)


def plot_layers(path: str, title: str, attention: np.ndarray) -> None:
    """Draw the attention between all tokens of a sequence, a panel for each layer and head (Luo et al. 2024, Fig. 4a).

    Parameters
    ----------
    attention : shape (layers, heads, tokens, tokens), from the token of a row to the token of a column
    """
    layers, heads, tokens, _ = attention.shape
    size = 1.9 if heads <= 6 else 1.05
    figure = new_figure(size * heads + 1.6, size * layers + 1.2)
    figure.suptitle(escape(title), fontsize=11)
    panels = figure.subplots(layers, heads, squeeze=False, sharex=True, sharey=True)
    for (layer, head), axes in np.ndenumerate(panels):
        image = axes.imshow(
            np.sqrt(attention[layer, head]),  # makes weak attention visible beside strong
            vmin=0,
            vmax=1,
            cmap="viridis",
            interpolation="nearest",
            extent=(-0.5, tokens - 0.5, tokens - 0.5, -0.5),
        )
        axes.set(xticks=[0, tokens - 1], yticks=[0, tokens - 1])
        axes.tick_params(labelsize=6, length=2)
    for head, axes in enumerate(panels[0], 1):
        axes.set_title(f"head {head}", fontsize=8)
    for layer, axes in enumerate(panels[:, 0], 1):
        axes.set_ylabel(f"layer {layer}", fontsize=8)
    figure.supxlabel("to token (0 is [CLS], the last is [SEP])", fontsize=9)
    figure.supylabel("from token", fontsize=9)
    ticks = [0, 0.01, 0.1, 0.25, 0.5, 1]
    bar = figure.colorbar(image, ax=panels, label="attention", shrink=min(1, 3 / layers), ticks=np.sqrt(ticks))
    bar.ax.set_yticklabels([f"{tick:g}" for tick in ticks])
    save_figure(figure, path)
