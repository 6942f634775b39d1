"""Call sites from base scores on both strands; reconcile sites that overlap on opposite strands (`resolve_strands`).

Coordinates are 0-based, half-open, and count from the first base of the sequence. Base scores of both strands are an
array `strand_scores` of shape (2, n): row 0 is the forward strand, row 1 the reverse strand, both indexed by forward
position.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable
from operator import attrgetter
from typing import NamedTuple

import numpy as np

STRANDS = "+-"
MAX_GAP = 2  # uncalled bases within a site that are bridged


class Site(NamedTuple):
    """A site in a sequence: bases [start, end) on strand "+" or "-".

    Attributes
    ----------
    score : mean base score, in [0, 1]
    call_level : threshold up to which the site is still called, see `call_levels`
    summit : middle of the bases that are still called just below the call level, counted from `start`
    """

    start: int
    end: int
    strand: str
    score: float
    call_level: float = 0.0
    summit: int = 0


class CalledSite(NamedTuple):
    """A site on a chromosome, in BED coordinates.

    Attributes
    ----------
    name : of the model
    score, call_level, summit : see `Site`
    model : index of the model in the scan
    region : number of the region in the scan, from 0; known only where the best sites of each region are chosen
    """

    chrom: str
    start: int
    end: int
    name: str
    score: float
    strand: str
    call_level: float
    summit: int
    model: int
    region: int = 0


def min_site_length(site_width: int, k: int) -> int:
    """Minimum length of a called site: half the median training site, and at least one token (bp)."""
    return max(k, (site_width + 1) // 2)


def call_sites(
    strand_scores: np.ndarray, threshold: float, min_length: int, max_gap: int, *, by_level: bool = False
) -> list[Site]:
    """Call the sites of a whole sequence.

    On each strand, bases with a score above the threshold are called. Runs of called bases are joined across gaps of at
    most `max_gap` bases; joined runs of at least `min_length` bases are sites. Both strands are then reconciled by
    `resolve_strands`.

    Parameters
    ----------
    strand_scores : shape (2, n), without NaN
    threshold : base score, in [0, 1]
    min_length, max_gap : bp
    by_level : see `resolve_strands`

    Returns
    -------
    list of Site in order of start, end, strand
    """
    plus, minus = (
        _call_strand(scores, strand, threshold, min_length, max_gap) for scores, strand in zip(strand_scores, STRANDS)
    )
    return resolve_strands(plus, minus, by_level=by_level)


def _call_strand(scores: np.ndarray, strand: str, threshold: float, min_length: int, max_gap: int) -> list[Site]:
    """Sites of one strand, scores of shape (n,)."""
    starts, ends = np.nonzero(np.diff(scores > threshold, prepend=False, append=False))[0].reshape(-1, 2).T
    wide = starts[1:] - ends[:-1] > max_gap
    starts, ends = starts[np.append(True, wide)[: len(starts)]], ends[np.append(wide, True)[: len(ends)]]
    kept = ends - starts >= min_length
    starts, ends = starts[kept], ends[kept]
    if not len(starts):
        return []
    lengths = ends - starts
    offsets = np.cumsum(lengths) - lengths
    values = scores[np.arange(lengths.sum()) + np.repeat(starts - offsets, lengths)]
    means = np.add.reduceat(values, offsets, dtype=np.float64) / lengths
    levels, summits = levels_and_summits(values, lengths, np.full(len(lengths), min_length), max_gap)
    columns = (column.tolist() for column in (starts, ends, means, levels, summits))
    return [Site(start, end, strand, mean, level, summit) for start, end, mean, level, summit in zip(*columns)]


def levels_and_summits(
    values: np.ndarray, lengths: np.ndarray, min_lengths: np.ndarray, max_gap: int
) -> tuple[np.ndarray, np.ndarray]:
    """Call level and summit of each of n sites, see `Site`.

    Parameters
    ----------
    values : base scores of all sites, concatenated
    lengths, min_lengths : of the sites (bp), shape (n,), n at least 1
    """
    sliding = np.lib.stride_tricks.sliding_window_view
    site = np.repeat(np.arange(len(lengths)), lengths)
    padded_at = np.arange(len(values)) + max_gap * (site + 1)
    padded = np.zeros(len(values) + max_gap * (len(lengths) + 1), dtype=np.float32)
    padded[padded_at] = values
    dilated = sliding(padded, max_gap + 1).max(axis=-1)
    closed = sliding(dilated, max_gap + 1).min(axis=-1)[padded_at - max_gap]
    levels, width = closed.copy(), min_lengths[site]
    for shift in range(1, int(min_lengths.max())):
        np.minimum(levels[:-shift], closed[shift:], out=levels[:-shift], where=width[:-shift] > shift)
    offsets = np.cumsum(lengths) - lengths
    at = np.arange(len(values)) - offsets[site]
    levels[at + width > lengths[site]] = -1  # the bases extend beyond the site
    highest = np.maximum.reduceat(levels, offsets)
    is_best = levels == highest[site]
    firsts = np.nonzero(is_best & np.append(True, ~is_best[:-1] | (at[1:] == 0)))[0]  # of runs of equal levels
    lasts = np.nonzero(is_best & np.append(~is_best[1:] | (at[1:] == 0), True))[0]
    chosen = np.diff(site[firsts], prepend=-1) > 0  # the first run of each site
    firsts, lasts = firsts[chosen], lasts[chosen]
    return highest.astype(np.float64), at[firsts] + (lasts - firsts + min_lengths) // 2


def call_levels(scores: np.ndarray, min_length: int, max_gap: int) -> np.ndarray:
    """For each base, the threshold up to which the `min_length` bases from it on are called, bridged gaps included.

    The maximum of these values is above t exactly when `call_sites` calls a site at the threshold t.

    Parameters
    ----------
    scores : base scores, shape (..., n), n at least `min_length`
    min_length, max_gap : see `call_sites`

    Returns
    -------
    array, shape (..., n - min_length + 1)
    """
    return np.lib.stride_tricks.sliding_window_view(bridged(scores, max_gap), min_length, axis=-1).min(axis=-1)


def bridged(scores: np.ndarray, max_gap: int) -> np.ndarray:
    """For each base, the threshold up to which it is called or lies in a bridged gap; same shape as `scores`."""
    sliding = np.lib.stride_tricks.sliding_window_view
    padding = [(0, 0)] * (scores.ndim - 1) + [(max_gap, max_gap)]
    # a gap is bridged where bases on both sides are called: a morphological closing with max_gap + 1 bases
    dilated = sliding(np.pad(scores, padding), max_gap + 1, axis=-1).max(axis=-1)
    return sliding(dilated, max_gap + 1, axis=-1).min(axis=-1)


def resolve_strands(plus: list[Site], minus: list[Site], *, by_level: bool = False) -> list[Site]:
    """Reconcile the sites of both strands: of two that overlap by more than half of the shorter one, keep the better.

    The better site has the higher score, or call level; if they are equal, the site on the forward strand is kept.

    ::

        +    [-------- 0.8 --------)       kept
        -           [--- 0.7 ---)          dropped: more than half of it lies in a better site
        -                         [----)   kept

    Parameters
    ----------
    plus, minus : sites of each strand, in order
    by_level : compare call levels, for PWMs: a weak match beside a strong one lowers the score of their common site

    Returns
    -------
    list of Site in order of start, end, strand
    """
    rank = attrgetter("call_level" if by_level else "score")
    return sorted(_undominated(plus, minus, rank, wins_ties=True) + _undominated(minus, plus, rank, wins_ties=False))


def _undominated(
    sites: list[Site], others: list[Site], rank: Callable[[Site], float], *, wins_ties: bool
) -> list[Site]:
    """Sites of one strand of which no better site on the other strand covers more than half."""
    ends = [other.end for other in others]
    kept = []
    for site in sites:
        near = bisect.bisect_right(ends, site.start)
        while near < len(others) and others[near].start < site.end:
            other = others[near]
            overlap = min(site.end, other.end) - max(site.start, other.start)
            better = rank(other) > rank(site) or (rank(other) == rank(site) and not wins_ties)
            if better and 2 * overlap > min(site.end - site.start, other.end - other.start):
                break
            near += 1
        else:
            kept.append(site)
    return kept


class SiteCaller:
    """`call_sites` on base scores that arrive in pieces: the same sites, each as soon as no later base can change it.

    Attributes
    ----------
    settled : all sites that start before this position have been returned
    """

    def __init__(self, threshold: float, min_length: int, max_gap: int, *, by_level: bool = False):
        self._threshold, self._min_length, self._max_gap, self._by_level = threshold, min_length, max_gap, by_level
        self._pending = np.empty((2, 0), dtype=np.float32)  # scores from `settled` on
        self.settled = 0

    def feed(self, strand_scores: np.ndarray, last: bool) -> list[Site]:
        """Call the sites that the next piece completes.

        Parameters
        ----------
        strand_scores : the next bases, shape (2, any)
        last : the sequence ends with this piece
        """
        pending = np.concatenate([self._pending, strand_scores], axis=1)
        cut = pending.shape[1] if last else self._last_wide_gap(pending)
        cuts = self._threshold, self._min_length, self._max_gap
        found = call_sites(pending[:, :cut], *cuts, by_level=self._by_level)
        sites = [site._replace(start=site.start + self.settled, end=site.end + self.settled) for site in found]
        self._pending = pending[:, cut:].copy()
        self.settled += cut
        return sites

    def _last_wide_gap(self, pending: np.ndarray) -> int:
        """End of the last gap of more than `max_gap` bases, both strands together: no site reaches across it."""
        called = np.nonzero((pending > self._threshold).any(axis=0))[0]
        gaps = np.diff(called, prepend=-1, append=pending.shape[1]) - 1
        wide = np.nonzero(gaps > self._max_gap)[0]
        if not len(wide):
            return 0
        return pending.shape[1] if wide[-1] == len(called) else int(called[wide[-1]])
