"""Choose the best sites of each region, model by model (`BestSites`)."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable

from ..errors import UsageError
from ..io.intervals import Interval
from .calling import CalledSite


class BestSites:
    """The best sites of each region and model, chosen while the sites of the region arrive.

    The best site has the highest call level. Of equal ones, it is the nearest to the summit or the middle of the
    region, then the first one.

    Parameters
    ----------
    count : number of sites for each region and model

    Attributes
    ----------
    keep_others : collect the sites that are not among the best, which count for q-values
    others : these sites

    Raises
    ------
    UsageError : `count` is less than 1.
    """

    def __init__(self, count: int):
        if count < 1:
            raise UsageError(f"the number of best sites is {count}; expected at least 1")
        self._count = count
        self._found: dict[int, list[CalledSite]] = {}  # candidates of the current region, by model
        self.keep_others = False
        self.others: list[CalledSite] = []

    def add(self, sites: Iterable[CalledSite], region: Interval, last: bool) -> list[CalledSite]:
        """Take further sites of a region.

        Parameters
        ----------
        region : its end may be `sys.maxsize`, for unknown, until `last`
        last : these are the last ones

        Returns
        -------
        the best sites of the region, in any order; empty until `last`
        """
        for site in sites:
            self._found.setdefault(site.model, []).append(site)
        for model, found in self._found.items():
            if len(found) > self._count:
                self._found[model] = self._best(found, region)
        if not last:
            return []
        best = list(itertools.chain.from_iterable(self._found.values()))
        self._found = {}
        return best

    def _best(self, found: list[CalledSite], region: Interval) -> list[CalledSite]:
        """The best candidates, and all of equal call level while the middle of the region is unknown."""
        twice_center = region.start + region.end if region.summit is None else 2 * region.summit + 1

        def rank(site: CalledSite) -> tuple[float | str, ...]:
            return -site.call_level, abs(site.start + site.end - twice_center), site.start, site.end, site.strand

        ordered = sorted(found, key=rank)
        kept = self._count
        if region.end == sys.maxsize:
            lowest = ordered[kept - 1].call_level
            kept = sum(site.call_level >= lowest for site in ordered)
        if self.keep_others:
            self.others += ordered[kept:]
        return ordered[:kept]
