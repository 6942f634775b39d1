"""Call the sites of many factors together, from the few base scores that matter (`SparseCaller`).

The sites equal what `calling.SiteCaller` calls from all base scores of each factor, without a loop over factors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .calling import MAX_GAP, levels_and_summits
from .model_scan import ScannedModel

POSITION_BITS = 44
_POSITION = (1 << POSITION_BITS) - 1
_LAST_KEY = np.iinfo(np.int64).max


class BaseScores(NamedTuple):
    """Scores of some bases, in any order.

    Attributes
    ----------
    keys : what is scored, int64, shape (n,), see `base_keys`
    scores : base probabilities, float32, shape (n,)
    """

    keys: np.ndarray
    scores: np.ndarray

    @classmethod
    def joined(cls, parts: Sequence[BaseScores]) -> BaseScores:
        """Concatenate."""
        none = (np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))
        return cls(*(np.concatenate(arrays) for arrays in zip(none, *parts)))


def base_keys(factors: np.ndarray, strands: np.ndarray | int, positions: np.ndarray) -> np.ndarray:
    """Factor (from 0), strand (0 forward, 1 reverse) and position of bases in one int64, in this order."""
    return ((2 * factors + strands) << POSITION_BITS) + positions


class FoundSites(NamedTuple):
    """Sites as arrays of shape (n,); see `calling.Site`.

    Attributes
    ----------
    factors : numbers, from 0
    reverse : 0 on the forward strand, 1 on the reverse strand
    """

    factors: np.ndarray
    reverse: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    scores: np.ndarray
    call_levels: np.ndarray
    summits: np.ndarray

    def select(self, kept: np.ndarray) -> FoundSites:
        """The sites of these numbers, or those that are True."""
        return FoundSites(*(values[kept] for values in self))


class SparseCaller:
    """`SiteCaller` for many factors: sites from base scores that arrive in pieces.

    Bases without a score count as 0. To call what `SiteCaller` calls, the scores must include all called bases and the
    bases in gaps of at most `MAX_GAP` bases between them.
    """

    def __init__(self, models: Sequence[ScannedModel]):
        self._thresholds = np.array([model.rule.base_threshold for model in models], dtype=np.float32)
        self._min_levels = np.array([model.rule.min_call_level for model in models])
        self._min_lengths = np.array([model.min_length for model in models])
        self._pending = BaseScores.joined([])

    def feed(self, new: BaseScores, end: int | None) -> tuple[FoundSites, int | None]:
        """Call the sites that the next piece completes.

        Parameters
        ----------
        new : scores of bases that follow the earlier ones, for all factors
        end : all bases before this position have come; None if no later base can extend a site

        Returns
        -------
        the sites, and the position before which all sites have been returned; None for all
        """
        keys, scores = BaseScores.joined([self._pending, new])
        order = np.argsort(keys)
        keys, scores = keys[order], scores[order]
        called = keys[scores > self._thresholds[_factors(keys)]]
        starts = called[np.diff(called, prepend=-MAX_GAP - 2) > MAX_GAP + 1]  # of runs joined across gaps
        ends = called[np.diff(called, append=_LAST_KEY) > MAX_GAP + 1] + 1
        cuts = np.full(len(self._thresholds), _POSITION) if end is None else self._cuts(starts, ends, end)
        open_bases = keys & _POSITION >= cuts[_factors(keys)]
        self._pending = BaseScores(keys[open_bases], scores[open_bases])
        complete = starts & _POSITION < cuts[_factors(starts)]
        kept = complete & (ends - starts >= self._min_lengths[_factors(starts)])
        sites = self._measured(BaseScores(keys, scores), starts[kept], ends[kept])
        sites = sites.select(_undominated(sites))
        sites = sites.select(sites.call_levels > self._min_levels[sites.factors])
        return sites, None if end is None else min(end, int(cuts.min()))

    def _cuts(self, starts: np.ndarray, ends: np.ndarray, end: int) -> np.ndarray:
        """For each factor, the position from which on its sites may still change: after the last wide gap.

        Strands are reconciled where their sites overlap, so the gap is one of both strands, as in `SiteCaller`.
        """
        cuts = np.full(len(self._thresholds), _POSITION)
        if not len(starts):
            return cuts
        factors = _factors(starts)
        starts, ends = base_keys(factors, 0, starts & _POSITION), base_keys(factors, 0, ends & _POSITION)
        order = np.argsort(starts)
        starts, reach = starts[order], np.maximum.accumulate(ends[order])
        wide = starts[1:] - reach[:-1] > MAX_GAP
        starts, reach = starts[np.append(True, wide)], reach[np.append(wide, True)]
        is_open = (reach & _POSITION) + MAX_GAP >= end
        cuts[_factors(starts[is_open])] = starts[is_open] & _POSITION
        return cuts

    def _measured(self, bases: BaseScores, starts: np.ndarray, ends: np.ndarray) -> FoundSites:
        """Sites from their first key to the key after their last, in order, with scores, call levels and summits."""
        if not len(starts):
            none = np.empty(0, dtype=np.int64)
            return FoundSites(none, none, none, none, np.empty(0), np.empty(0), none)
        lengths, min_lengths = ends - starts, self._min_lengths[_factors(starts)]
        offsets = np.cumsum(lengths) - lengths
        values = np.zeros(lengths.sum(), dtype=np.float32)
        site = np.searchsorted(starts, bases.keys, side="right") - 1
        inside = (site >= 0) & (bases.keys < ends[site])
        site = site[inside]
        values[offsets[site] + bases.keys[inside] - starts[site]] = bases.scores[inside]
        means = np.add.reduceat(values, offsets, dtype=np.float64) / lengths
        levels, summits = levels_and_summits(values, lengths, min_lengths, MAX_GAP)
        position = starts & _POSITION
        reverse = starts >> POSITION_BITS & 1
        return FoundSites(_factors(starts), reverse, position, position + lengths, means, levels, summits)


def _factors(keys: np.ndarray) -> np.ndarray:
    return keys >> (POSITION_BITS + 1)


def _undominated(sites: FoundSites) -> np.ndarray:
    """Sites that `calling.resolve_strands` keeps, bool, shape (n,); sites are in order of factor, strand and start."""
    starts, ends = (base_keys(sites.factors, 0, positions) for positions in (sites.starts, sites.ends))
    plus, minus = np.nonzero(sites.reverse == 0)[0], np.nonzero(sites.reverse)[0]
    first = np.searchsorted(ends[minus], starts[plus], side="right")  # of the overlapping sites on the other strand
    counts = np.searchsorted(starts[minus], ends[plus]) - first
    number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    one, other = np.repeat(plus, counts), minus[np.repeat(first, counts) + number]
    overlap = np.minimum(ends[one], ends[other]) - np.maximum(starts[one], starts[other])
    lengths = ends - starts
    conflict = 2 * overlap > np.minimum(lengths[one], lengths[other])
    other_is_better = sites.scores[other] > sites.scores[one]
    kept = np.ones(len(starts), dtype=bool)
    kept[one[conflict & other_is_better]] = False
    kept[other[conflict & ~other_is_better]] = False
    return kept
