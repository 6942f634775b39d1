"""Heat map of every substitution in a region."""

from __future__ import annotations

import numpy as np

from .style import BLUE, LETTER_COLOURS, PALE, escape, integer_ticks, new_figure, save_figure

MAX_LETTERS = 200  # beyond, letters of the reference are too small to read
BASES = "ACGT"


def plot_mutagenesis(path: str, title: str, reference: str, changes: np.ndarray, first: int) -> None:
    """Draw the change of log odds by each substitution, below the mean loss of each base and the reference letters.

    Parameters
    ----------
    reference : letters, n
    changes : shape (4, n), rows A, C, G, T; 0 for the base of the reference, NaN where nothing was scored
    first : position of the first base, as the axis shows it
    """
    from matplotlib import colormaps

    length = len(reference)
    figure = new_figure(min(24, max(6, 1.8 + 0.16 * length)), 3.4)
    figure.suptitle(escape(title), fontsize=10)
    (top, corner), (axes, bar) = figure.subplots(2, 2, sharex="col", height_ratios=[2, 1.6], width_ratios=[40, 1])
    corner.set_axis_off()
    positions = np.arange(first, first + length)
    loss = -changes.sum(axis=0) / 3
    top.bar(positions, np.nan_to_num(loss), width=0.9, color=BLUE)
    top.axhline(0, color="black", linewidth=0.6)
    top.set(ylabel="mean loss (log odds)", xlim=(first - 0.5, first + length - 0.5))
    top.tick_params(labelbottom=False)
    finite = np.abs(changes[np.isfinite(changes)])
    limit = (float(finite.max()) if len(finite) else 0) or 1
    image = axes.imshow(
        changes,
        aspect="auto",
        interpolation="nearest",
        extent=(first - 0.5, first + length - 0.5, 3.5, -0.5),
        vmin=-limit,
        vmax=limit,
        cmap=colormaps["RdBu"].with_extremes(bad=PALE),
    )
    axes.set(yticks=range(4), xlabel="position (1-based)")
    axes.set_yticklabels(list(BASES))
    axes.xaxis.set_major_locator(integer_ticks())
    axes.ticklabel_format(axis="x", style="plain", useOffset=False)
    if length <= MAX_LETTERS:
        for position, letter in zip(positions, reference):
            if letter in BASES:
                colour = LETTER_COLOURS[letter]
                axes.text(
                    position,
                    BASES.index(letter),
                    letter,
                    color=colour,
                    ha="center",
                    va="center",
                    fontsize=7,
                    weight="bold",
                )
    figure.colorbar(image, cax=bar, label="change of log odds")
    save_figure(figure, path)
