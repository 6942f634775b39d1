"""Attention profile of one sequence over its letters, with called sites and the logo of a motif."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..io.motif_files import Motif
from .logos import draw_logo
from .style import BLUE, GREY, LETTER_COLOURS, SHADE, escape, new_figure, save_figure

MAX_LETTERS = 250  # bases of a sequence up to which its letters are legible


def plot_profile(
    path: str,
    title: str,
    sequence: bytes,
    values: np.ndarray,
    sites: Sequence[tuple[int, int]],
    motif: Motif | None = None,
) -> None:
    """Draw attention over the letters of one sequence, called sites shaded, above a logo (Luo et al. 2024, Fig. 4b).

    Parameters
    ----------
    title : of one or more lines
    sequence, values : letters and attention, shape (n,); NaN at bases without a value
    sites : called sites in the sequence, 0-based, half-open
    motif : is drawn around the middle of the first site
    """
    length = len(values)
    figure = new_figure(min(30, max(6, 0.105 * length + 1)), 4.6 if motif else 3.2)
    figure.suptitle(escape(title), fontsize=10)
    rows = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1]) if motif else [figure.subplots()]
    axes = rows[0]
    for number, (start, end) in enumerate(sites):
        axes.axvspan(start + 0.5, end + 0.5, color=SHADE, label=None if number else "called site")
    axes.bar(np.arange(1, length + 1), np.nan_to_num(values), color=BLUE, width=0.9)
    axes.set(ylabel="attention", xlim=(0.5, length + 0.5), ylim=(0, None))
    if sites:
        axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), borderpad=0)
    if length <= MAX_LETTERS:
        _draw_letters(axes, sequence)
    axes.tick_params(labelbottom=True)
    rows[-1].set_xlabel("position in the sequence (bp)")
    if motif:
        _draw_motif(rows[1], motif, sites)
    save_figure(figure, path)


def _draw_letters(axes, sequence: bytes) -> None:
    """Write the letters of a sequence between axis and tick labels."""
    for position, letter in enumerate(sequence.decode(), 1):
        axes.annotate(
            letter,
            (position, 0),
            (0, -3),
            textcoords="offset points",
            xycoords=("data", "axes fraction"),
            ha="center",
            va="top",
            fontsize=7,
            color=LETTER_COLOURS.get(letter, GREY),
            weight="bold",
        )
    axes.tick_params(axis="x", length=0, pad=11)


def _draw_motif(axes, motif: Motif, sites: Sequence[tuple[int, int]]) -> None:
    """Draw a logo around the middle of the first site."""
    if not sites:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "no site was called", transform=axes.transAxes, ha="center", color=GREY)
        return
    limits = axes.get_xlim()
    start, end = sites[0]
    draw_logo(axes, motif, (start + end) // 2 - motif.width // 2 + 1)
    axes.set_xlim(limits)
    axes.set_title(escape(f"{motif.id} {motif.name}".strip()), fontsize=9)
