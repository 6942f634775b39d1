"""Sequence logos, alone or aligned with the motifs that they resemble."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..io.motif_files import Motif
from ..motifs.comparison import Match
from .style import LETTER_COLOURS, escape, integer_ticks, new_figure, save_figure

MAX_ROWS = 15  # logos in a column of the figure


def plot_logos(path: str, motifs: Sequence[Motif], matches: Sequence[Match | None] = ()) -> None:
    """Draw sequence logos of information content, one below another.

    Parameters
    ----------
    motifs : at least one
    matches : for each motif its best match or None; a match is drawn below its motif, aligned with it
    """
    partners = [*matches, *[None] * (len(motifs) - len(matches))]
    paired = any(partners)
    columns = -(-len(motifs) // MAX_ROWS)
    rows = -(-len(motifs) // columns)
    widest = max(motif.width for motif in motifs)
    width = min(14, max(3.5, 1.2 + 0.28 * (widest + 4 * paired)))
    figure = new_figure(columns * width, min(200, rows * (2.9 if paired else 1.55)))
    panels = np.ravel(figure.subfigures(rows, columns, squeeze=False))
    for panel, motif, match in zip(panels, motifs, partners):
        if match:
            _draw_pair(panel, motif, match)
        else:
            axes = panel.subplots()
            draw_logo(axes, motif, 1)
            axes.set_title(_title(motif), fontsize=9)
            axes.set(xlabel="position (bp)", xlim=(0.5, widest + 0.5))
    save_figure(figure, path)


def _draw_pair(panel, motif: Motif, match: Match) -> None:
    """Draw a motif and, below, the target that it matches, in the orientation of the match."""
    above, below = panel.subplots(2, 1, sharex=True)
    reverse = match.orientation == "-"
    target = match.target.reverse_complement() if reverse else match.target
    draw_logo(above, motif, 1)
    draw_logo(below, target, 1 - match.offset)
    above.set_title(_title(motif), fontsize=9)
    name = escape(f"{target.id} {target.name}".strip())
    below.set_title(f"{name}{', reverse complement' if reverse else ''}, p = {match.p:.1e}", fontsize=9)
    below.set_xlabel("position in the upper motif (bp)")
    above.set_xlim(min(0, -match.offset) + 0.5, max(motif.width, target.width - match.offset) + 0.5)


def draw_logo(axes, motif: Motif, first: int) -> None:
    """Draw a motif as letters scaled by information content (bits).

    Parameters
    ----------
    axes : matplotlib axes
    first : position of the first column
    """
    import logomaker
    import pandas

    table = pandas.DataFrame(motif.information, columns=list(LETTER_COLOURS), index=range(first, first + motif.width))
    logomaker.Logo(table, ax=axes, color_scheme=LETTER_COLOURS, show_spines=False)
    axes.spines[["left", "bottom"]].set_visible(True)
    axes.set(ylim=(0, 2), yticks=[0, 1, 2], ylabel="bits")
    axes.xaxis.set_major_locator(integer_ticks())


def _title(motif: Motif) -> str:
    return f"{escape(motif.id)} ({motif.sites:,} {'site' if motif.sites == 1 else 'sites'})"
