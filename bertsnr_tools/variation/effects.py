"""Compare the sites of two alleles (`measure`): best sites, change of log odds over fixed bounds, class.

Arrays have a row for each pair of alleles and factor. Positions are 0-based, half-open, from the first base of a
sequence.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..predict.calling import MAX_GAP, bridged
from ..predict.significance import log_odds
from .alleles import Layout, boundaries

CLASSES = ("none", "gain", "loss", "stronger", "weaker", "moved")
NONE, GAIN, LOSS, STRONGER, WEAKER, MOVED = range(len(CLASSES))
MIN_CHANGE = float(np.log(2))  # of the log odds of a site that both alleles have; smaller changes are "none"


class Limits(NamedTuple):
    """What the rows are measured with.

    Attributes
    ----------
    flank : sites up to this far from the change are considered (bp)
    min_length : of a site (bp), see `calling.min_site_length`
    base_threshold, call_level : bases and sites with more are called, shape (n,)
    """

    flank: int
    min_length: int
    base_threshold: np.ndarray
    call_level: np.ndarray


class Measures(NamedTuple):
    """Results, arrays of shape (n,).

    Attributes
    ----------
    kind : number in `CLASSES`
    ref_level, alt_level : call level of each allele over the fixed bounds, in [0, 1]; 0 where it has no scores
    change : of the log odds, alternative minus reference
    start, end : fixed bounds in the reference sequence
    strand : 0 forward, 1 reverse, of the site in the allele where it is stronger
    ref_start, ref_end : best site of the reference allele
    alt_start, alt_end : best site of the alternative allele, in the reference sequence
    """

    kind: np.ndarray
    ref_level: np.ndarray
    alt_level: np.ndarray
    change: np.ndarray
    start: np.ndarray
    end: np.ndarray
    strand: np.ndarray
    ref_start: np.ndarray
    ref_end: np.ndarray
    alt_start: np.ndarray
    alt_end: np.ndarray


class _Best(NamedTuple):
    """The best site of one allele, arrays of shape (n,); and the call levels from each base on, shape (n, 2, any)."""

    start: np.ndarray
    end: np.ndarray
    strand: np.ndarray
    level: np.ndarray
    levels: np.ndarray

    def level_within(self, start: np.ndarray, end: np.ndarray, min_length: int, strands: np.ndarray) -> np.ndarray:
        """The highest call level of a site in [start, end) on these strands; 0 if no base near has a score.

        Parameters
        ----------
        strands : bool, shape (n, 2)
        """
        at = np.arange(self.levels.shape[2])
        inside = (at >= start[:, None]) & (at + min_length <= end[:, None]) & (self.level > 0)[:, None]
        return np.where(inside[:, None] & strands[..., None], self.levels, 0).max(axis=(1, 2))


def measure(ref: np.ndarray, alt: np.ndarray, layout: Layout, limits: Limits) -> Measures:
    """Compare pairs of alleles of one layout.

    The best site of an allele is the stretch of `min_length` bases, on either strand, with the highest call level of
    those that overlap the change, if one of these is called in either allele: a better site nearby would hide that it
    is lost. Else it is the best of those within `flank` bases, too. It extends to all called bases around, or, where it
    is not called, to all bases with at least its call level, up to a called one. The fixed bounds are the union of both
    alleles' best sites; the level of an allele is its highest call level within these bounds, on the strands of both
    best sites.

    Parameters
    ----------
    ref, alt : base scores, shape (n, 2, length of the sequence), 0 where there are none
    """
    there, back = boundaries(layout), boundaries(layout.swapped())
    change = layout.change
    spans = (change.ref_start, change.ref_end), (change.alt_start, change.alt_end)
    alleles = [_Scored.of(scores, span, limits.min_length) for scores, span in zip((ref, alt), spans)]
    overlapping = np.maximum(*(allele.levels[:, :, allele.near(0)].max(axis=(1, 2)) for allele in alleles))
    one, other = (_best_site(allele, overlapping > limits.call_level, limits) for allele in alleles)
    alt_start, alt_end = back.starts[other.start], back.ends[other.end]
    start, end = np.minimum(one.start, alt_start), np.maximum(one.end, alt_end)
    ref_in_alt = there.starts[one.start], there.ends[one.end]
    in_alt = np.minimum(other.start, ref_in_alt[0]), np.maximum(other.end, ref_in_alt[1])
    strands = np.arange(2) == one.strand[:, None]
    strands |= np.arange(2) == other.strand[:, None]
    ref_level = one.level_within(start, end, limits.min_length, strands)
    alt_level = other.level_within(*in_alt, limits.min_length, strands)
    difference = log_odds(alt_level) - log_odds(ref_level)
    overlap = np.minimum(one.end, alt_end) - np.maximum(one.start, alt_start)
    apart = 2 * overlap <= np.minimum(one.end - one.start, alt_end - alt_start)
    lost = other.level_within(*ref_in_alt, limits.min_length, strands) <= limits.call_level
    gained = one.level_within(alt_start, alt_end, limits.min_length, strands) <= limits.call_level
    called = ref_level > limits.call_level, alt_level > limits.call_level
    kind = _classes(*called, apart & lost & gained, difference)
    strand = np.where(other.level > one.level, other.strand, one.strand)
    sites = one.start, one.end, alt_start, alt_end
    return Measures(kind, ref_level, alt_level, difference, start, end, strand, *sites)


def _classes(ref_called: np.ndarray, alt_called: np.ndarray, moved: np.ndarray, change: np.ndarray) -> np.ndarray:
    both = ref_called & alt_called
    conditions = [
        ~ref_called & alt_called,
        ref_called & ~alt_called,
        both & moved,
        both & (change >= MIN_CHANGE),
        both & (change <= -MIN_CHANGE),
    ]
    return np.select(conditions, [GAIN, LOSS, MOVED, STRONGER, WEAKER], NONE)


class _Scored(NamedTuple):
    """Scores of one allele.

    Attributes
    ----------
    closed : base scores with gaps closed, shape (n, 2, any)
    levels : call levels of the stretches from each base on, shape (n, 2, any)
    span : start and end of the change
    length : of a stretch (bp)
    """

    closed: np.ndarray
    levels: np.ndarray
    span: tuple[int, int]
    length: int

    @classmethod
    def of(cls, scores: np.ndarray, span: tuple[int, int], length: int) -> _Scored:
        closed = bridged(scores, MAX_GAP)
        levels = np.lib.stride_tricks.sliding_window_view(closed, length, axis=-1).min(axis=-1)
        return cls(closed, levels, span, length)

    def near(self, flank: int) -> slice:
        """Starts of the stretches that overlap the change or lie within `flank` bases of it."""
        last = self.levels.shape[2] - 1
        low = min(max(0, self.span[0] - flank - self.length + 1), last)
        return slice(low, max(low, min(self.span[1] + flank - 1, last)) + 1)


def _best_site(allele: _Scored, overlaps: np.ndarray, limits: Limits) -> _Best:
    """The best site of an allele; it must overlap the change where `overlaps`, bool, shape (n,)."""
    closed, levels, _, length = allele
    rows, near, overlapping = np.arange(len(closed)), allele.near(limits.flank), allele.near(0)
    at = np.arange(near.start, near.stop)
    allowed = (at >= overlapping.start) & (at < overlapping.stop) | ~overlaps[:, None]
    best = np.where(allowed[:, None], levels[:, :, near], -1).reshape(len(closed), -1).argmax(axis=1)
    strand, begin = best // len(at), best % len(at) + near.start
    level = levels[rows, strand, begin]
    on_strand = closed[rows, strand]
    threshold = limits.base_threshold[:, None]
    called = on_strand > threshold
    outside = np.where(level[:, None] > threshold, ~called, called | (on_strand < level[:, None]))
    at = np.arange(closed.shape[2])
    first = np.where(outside & (at < begin[:, None]), at + 1, 0).max(axis=1)
    beyond = np.where(outside & (at >= begin[:, None] + length), at, len(at)).min(axis=1)
    return _Best(first, beyond, strand, level, levels)
