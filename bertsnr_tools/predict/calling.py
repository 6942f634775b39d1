"""From windows to one track of base scores, and from a track to sites; both work piece by piece through a sequence.

Coordinates count from the first base of the sequence. Row 0 of a track is the forward strand, row 1 the reverse strand;
both are indexed by forward position.
"""

from __future__ import annotations

import bisect
from typing import NamedTuple

import numpy as np

STRANDS = "+-"
MAX_GAP = 2  # uncalled bases inside a site that are bridged


class Site(NamedTuple):
    """A called site: bases [start, end), strand "+" or "-".

    Attributes
    ----------
    score : mean over its bases, in [0, 1]
    peak : the threshold up to which a site would be called here, see `peaks`
    summit : middle of the bases that would be called then, counted from `start`
    """

    start: int
    end: int
    strand: str
    score: float
    call_level: float = 0.0
    summit: int = 0


def call_sites(track: np.ndarray, threshold: float, shortest: int, gap: int) -> list[Site]:
    """Sites of a whole track.

    On each strand, bases above the threshold are called; runs of them with at most `gap` bases between are joined, and those
    of at least `shortest` bases are sites, whose score is the mean over their bases. Of two sites on opposite strands that
    share more than half of the shorter one, only the better stays (the forward one when equal).

    Parameters
    ----------
    track : base scores, shape (2, n)

    Returns
    -------
    list of Site in order of start, end, strand
    """
    plus, minus = (_strand_sites(scores, strand, threshold, shortest, gap) for scores, strand in zip(track, STRANDS))
    return sorted(resolve_strands(plus, minus, wins_ties=True) + resolve_strands(minus, plus, wins_ties=False))


def resolve_strands(sites: list[Site], others: list[Site], wins_ties: bool) -> list[Site]:
    """The sites that no site of the other strand covers by more than half with a better score. Both lists are in order."""
    ends = [other.end for other in others]
    kept = []
    for site in sites:
        near = bisect.bisect_right(ends, site.start)
        while near < len(others) and others[near].start < site.end:
            other = others[near]
            shared = min(site.end, other.end) - max(site.start, other.start)
            better = other.score > site.score or (other.score == site.score and not wins_ties)
            if better and 2 * shared > min(site.end - site.start, other.end - other.start):
                break
            near += 1
        else:
            kept.append(site)
    return kept


def _strand_sites(scores: np.ndarray, strand: str, threshold: float, shortest: int, gap: int) -> list[Site]:
    edges = np.nonzero(np.diff(scores > threshold, prepend=False, append=False))[0].reshape(-1, 2)
    if not len(edges):
        return []
    split = np.nonzero(edges[1:, 0] - edges[:-1, 1] > gap)[0]
    starts = edges[np.append(0, split + 1), 0]
    ends = edges[np.append(split, len(edges) - 1), 1]
    return [
        _site(scores[a:b], a, strand, shortest, gap)
        for a, b in zip(starts.tolist(), ends.tolist())
        if b - a >= shortest
    ]


def _site(scores: np.ndarray, start: int, strand: str, shortest: int, gap: int) -> Site:
    heights = call_levels(scores, shortest, gap)
    best = int(heights.argmax())
    return Site(
        start,
        start + len(scores),
        strand,
        float(scores.mean(dtype=np.float64)),
        float(heights[best]),
        best + shortest // 2,
    )


def call_levels(scores: np.ndarray, shortest: int, gap: int) -> np.ndarray:
    """The threshold up to which the `shortest` bases from each one on are called, bridged gaps included.

    So the greatest of these values is above t exactly when `call_sites` calls a site at t.

    Parameters
    ----------
    scores : of bases, shape (..., n), n at least `shortest`

    Returns
    -------
    shape (..., n - shortest + 1)
    """
    view = np.lib.stride_tricks.sliding_window_view
    outer = [(0, 0)] * (scores.ndim - 1)
    # a gap is bridged where bases on both sides are called: the least of the maxima over the gap + 1 bases that hold it
    spread = view(np.pad(scores, [*outer, (gap, gap)]), gap + 1, axis=-1).max(axis=-1)
    closed = view(spread, gap + 1, axis=-1).min(axis=-1)
    return view(closed, shortest, axis=-1).min(axis=-1)


def min_site_length(width: int, k: int) -> int:
    """Called runs below this length are no sites: half the median training site, and at least one token."""
    return max(k, (width + 1) // 2)


class SiteCaller:
    """`call_sites` on a track that comes in parts: the same sites, given out as soon as nothing can change them."""

    def __init__(self, threshold: float, shortest: int, gap: int):
        self._threshold, self._shortest, self._gap = threshold, shortest, gap
        self._track = np.empty((2, 0), dtype=np.float32)
        self.settled = 0  # sites that start before this position have been given out

    def feed(self, track: np.ndarray, last: bool) -> list[Site]:
        """Take the next part, shape (2, any); `last` says that the sequence ends with it."""
        track = np.concatenate([self._track, track], axis=1)
        cut = track.shape[1]
        if not last:  # cut behind the last stretch of gap + 1 uncalled bases; nothing joins across it
            called = np.nonzero((track > self._threshold).any(axis=0))[0]
            quiet = np.diff(called, prepend=-1, append=cut) - 1
            wide = np.nonzero(quiet > self._gap)[0]
            cut = 0 if not len(wide) else cut if wide[-1] == len(called) else int(called[wide[-1]])
        sites = [
            site._replace(start=site.start + self.settled, end=site.end + self.settled)
            for site in self._call(track[:, :cut])
        ]
        self._track = track[:, cut:].copy()
        self.settled += cut
        return sites

    def _call(self, track: np.ndarray) -> list[Site]:
        return call_sites(track, self._threshold, self._shortest, self._gap)
