"""Positions of sites within regions, compared with shuffled positions (as in CentriMo, Bailey and Machanick 2012)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..errors import DataError
from ..io.fasta import Genome
from ..io.intervals import Interval, read_bed, unknown_chrom
from ..log import logger
from ..metrics import q_values
from .sites import Sites, groups

SHUFFLES = 500
MAX_RECORD = 100_000  # bp of records that are regions as a whole
MAX_BINS = 50  # of the histogram on both sides of the middle
MIDDLE = 1 / 3  # fraction of the positions of a region that counts as its middle
_Z95 = 1.959964


@dataclass(frozen=True)
class Regions:
    """Regions in which sites were called.

    Attributes
    ----------
    source : file, or the genome whose records they are
    intervals : in the order of the file; an unnamed one has the name "."
    centers : position of the summit or else the middle, float64, shape (n,); the middle of base i is i + 0.5
    summits : some regions have a summit
    """

    source: str
    intervals: list[Interval]
    centers: np.ndarray
    summits: bool

    @classmethod
    def read(cls, bed: str) -> Regions:
        """Read a BED or narrowPeak file.

        Raises
        ------
        DataError : see `io.intervals.read_bed`; the file contains no regions.
        """
        first: dict[tuple[str, int, int, int | None], Interval] = {}
        count = 0
        for interval in read_bed(bed, summits=True):
            count += 1
            first.setdefault((*interval[:3], interval.summit), interval)
        if not first:
            raise DataError("contains no regions", bed)
        if count > len(first):
            logger.warning("%s: %d duplicate regions count once", bed, count - len(first))
        return cls._of(bed, list(first.values()))

    @classmethod
    def of_genome(cls, genome: Genome) -> Regions | None:
        """The records of a genome that are parts of chromosomes; else all, if they are short."""
        intervals = list(genome.parts.values())
        if not intervals and max(genome.lengths.values()) <= MAX_RECORD:
            intervals = [Interval(name, 0, length) for name, length in genome.lengths.items()]
        return cls._of(genome.path, intervals) if intervals else None

    @classmethod
    def _of(cls, source: str, intervals: list[Interval]) -> Regions:
        centers = [(r.start + r.end) / 2 if r.summit is None else r.summit + 0.5 for r in intervals]
        return cls(source, intervals, np.array(centers), any(r.summit is not None for r in intervals))

    def __len__(self) -> int:
        return len(self.intervals)

    def check(self, genome: Genome) -> None:
        """Raise `DataError` for a region on a chromosome of which the genome has no part."""
        known = dict(genome.lengths) | {part.chrom: part.end for part in genome.parts.values()}
        for interval in self.intervals:
            if interval.chrom not in known:
                raise unknown_chrom(interval, self.source, known)


class Pairs(NamedTuple):
    """Sites within regions: indices of both, shape (m,); a site in several regions is in several pairs."""

    site: np.ndarray
    region: np.ndarray


def sites_in_regions(sites: Sites, regions: Sequence[Interval], *, whole: bool = True) -> Pairs:
    """The pairs of a region and a site inside it, in the order of the regions.

    Parameters
    ----------
    whole : only sites that are inside with all bases, otherwise also those that overlap
    """
    number = {chrom: code for code, chrom in enumerate(sites.chroms)}
    codes = np.array([number.get(region.chrom, len(number)) for region in regions])
    of_chrom = list(groups(sites["chrom"], len(number)))
    found = []
    for code, chosen in enumerate(groups(codes, len(number) + 1)):
        if code < len(number) and len(chosen):
            bounds = np.array([regions[i][1:3] for i in chosen.tolist()])
            site, region = _pairs_on_chrom(sites, of_chrom[code], bounds, whole)
            found.append((site, chosen[region]))
    site, region = (np.concatenate([pair[i] for pair in found] or [np.empty(0, dtype=int)]) for i in (0, 1))
    order = np.argsort(region, kind="stable")
    return Pairs(site[order], region[order])


def _pairs_on_chrom(sites: Sites, chosen: np.ndarray, bounds: np.ndarray, whole: bool) -> Pairs:
    """Pairs of some sites with regions, starts and ends of shape (r, 2), of their chromosome."""
    chosen = chosen[np.argsort(sites["start"][chosen], kind="stable")]
    starts, ends = sites["start"][chosen], sites["end"][chosen]
    reach = 0 if whole else int((ends - starts).max())
    first = np.searchsorted(starts, bounds[:, 0] - reach)
    counts = np.maximum(np.searchsorted(starts, bounds[:, 1]) - first, 0)
    region = np.repeat(np.arange(len(bounds)), counts)
    at = np.arange(len(region)) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(first, counts)
    inside = ends[at] <= bounds[region, 1] if whole else ends[at] > bounds[region, 0]
    return Pairs(chosen[at[inside]], region[inside])


class _Placed(NamedTuple):
    """Sites within regions by the positions that they can have there, each of shape (m,).

    Attributes
    ----------
    offset : start of the site in its region
    slots : number of offsets at which it fits into the region
    middle : its middle minus the center of the region, if its offset were 0
    """

    offset: np.ndarray
    slots: np.ndarray
    middle: np.ndarray

    def distance(self, offset: np.ndarray) -> np.ndarray:
        """Signed distance from the center of the region (bp) of sites at other offsets."""
        return offset + self.middle

    def centrality(self, offset: np.ndarray) -> np.ndarray:
        """The fraction of a region's offsets that are at least as close to its center: at most 1, small in the middle.

        Uniform for a site at a random offset, whatever the length of the region and wherever its summit is.
        """
        distance = np.abs(self.distance(offset))
        first = np.maximum(np.ceil(-distance - self.middle), 0)
        last = np.minimum(np.floor(distance - self.middle), self.slots - 1)
        return (last - first + 1) / self.slots


def position_table(sites: Sites, series: np.ndarray, count: int, regions: Regions, seed: int) -> dict[str, Any]:
    """Where the sites of each series lie within regions, and whether they are closer to the center than by chance.

    The null distribution is of `SHUFFLES` shuffles: the sites of a region are rotated within it by one random offset,
    so that their distances from each other are kept. The p-value is one-sided, of the normal distribution with the
    mean and the standard deviation of the shuffles, for the mean centrality (see `_Placed`); q-values over all series.

    Parameters
    ----------
    series : of each site, shape (n,), from 0 to `count` - 1

    Returns
    -------
    dict; "rows" has one entry for each series, and then one for all sites
    """
    pairs = sites_in_regions(sites, regions.intervals)
    bounds = np.array([region[1:3] for region in regions.intervals])
    start, length = bounds[pairs.region, 0], np.diff(bounds, axis=1)[pairs.region, 0]
    width = sites["end"][pairs.site] - sites["start"][pairs.site]
    middle = start + width / 2 - regions.centers[pairs.region]
    placed = _Placed(sites["start"][pairs.site] - start, length - width + 1, middle)
    edges = _bin_edges(bounds, regions.centers)
    counter = _Counter(placed, series[pairs.site], count, edges)
    observed = counter.count(placed.offset)
    null = _Moments()
    for offset in _rotations(placed, pairs.region, len(regions), seed):
        null.add(counter.count(offset))
    rows = _rows(observed, null, counter.sites)
    for row, within in zip(rows, _regions_with_sites(series[pairs.site], pairs.region, count, len(regions))):
        row["regions"] = within
    return {"edges": edges.tolist(), "rows": rows, "shuffles": SHUFFLES}


def _bin_edges(bounds: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """Edges of at most `MAX_BINS` bins around 0 that contain nine of ten regions."""
    reach = float(np.quantile(np.maximum(bounds[:, 1] - centers, centers - bounds[:, 0]), 0.9))
    step = next(
        step
        for power in range(12)
        for step in (10**power, 2 * 10**power, 5 * 10**power)
        if 2 * reach <= step * MAX_BINS
    )
    half = max(1, math.ceil(reach / step))
    return np.arange(-half, half + 1) * step


def _rotations(placed: _Placed, region: np.ndarray, regions: int, seed: int) -> Iterator[np.ndarray]:
    """Offsets of shuffled sites: all sites of a region move by the same random fraction of their slots."""
    random = np.random.default_rng([seed, 28])
    for _ in range(SHUFFLES if len(region) else 0):
        move = random.random(regions)[region] * placed.slots
        yield (placed.offset + move.astype(np.int64)) % placed.slots


class _Counts(NamedTuple):
    """Of each series, then of all: mean centrality, fraction in the middle, and sites in each bin (m, bins)."""

    centrality: np.ndarray
    middle: np.ndarray
    bins: np.ndarray


class _Counter:
    """Counts sites at given offsets by series."""

    def __init__(self, placed: _Placed, series: np.ndarray, count: int, edges: np.ndarray):
        self._placed, self._series, self._count = placed, series, count
        self._first, self._step, self._bins = int(edges[0]), int(edges[1] - edges[0]), len(edges) - 1
        self.sites = self._with_all(np.bincount(series, minlength=count))

    def _with_all(self, values: np.ndarray) -> np.ndarray:
        return np.concatenate([values, values.sum(axis=0, keepdims=True)])

    def count(self, offset: np.ndarray) -> _Counts:
        """Count sites whose offsets in their regions are given, shape (m,)."""
        centrality = self._placed.centrality(offset)
        number = np.maximum(self.sites, 1)
        sums = self._with_all(np.bincount(self._series, centrality, self._count))
        central = self._with_all(np.bincount(self._series[centrality <= MIDDLE], minlength=self._count))
        at = np.floor((self._placed.distance(offset) - self._first) / self._step).astype(np.int64)
        shown = (at >= 0) & (at < self._bins)
        flat = np.bincount(self._series[shown] * self._bins + at[shown], minlength=self._count * self._bins)
        return _Counts(sums / number, central / number, self._with_all(flat.reshape(self._count, self._bins)))


class _Moments:
    """Means and standard deviations of counts, which are 0 without any."""

    def __init__(self) -> None:
        self._number = 0
        self._sums: list[Any] = [0.0, 0.0, 0.0]
        self._squares: list[Any] = [0.0, 0.0, 0.0]

    def add(self, counts: _Counts) -> None:
        self._number += 1
        self._sums = [total + value for total, value in zip(self._sums, counts)]
        self._squares = [total + value.astype(float) ** 2 for total, value in zip(self._squares, counts)]

    @property
    def mean(self) -> _Counts:
        return _Counts(*(total / max(1, self._number) for total in self._sums))

    @property
    def deviation(self) -> _Counts:
        squares = (total / max(1, self._number) for total in self._squares)
        return _Counts(*(np.sqrt(np.maximum(square - mean**2, 0)) for square, mean in zip(squares, self.mean)))


def _rows(observed: _Counts, null: _Moments, number: np.ndarray) -> list[dict[str, Any]]:
    """The results of each series, then of all."""
    mean, deviation = null.mean, null.deviation
    rows: list[dict[str, Any]] = []
    for i, sites in enumerate(number.tolist()):
        if not sites:
            rows.append({"sites": 0})
            continue
        spread = float(deviation.centrality[i])
        z = (float(mean.centrality[i]) - float(observed.centrality[i])) / spread if spread > 1e-9 else 0.0
        low, high = (np.maximum(mean.bins[i] + side * _Z95 * deviation.bins[i], 0) for side in (-1, 1))
        rows.append(
            {
                "sites": sites,
                "bins": observed.bins[i].tolist(),
                "low": np.round(low, 1).tolist(),
                "high": np.round(high, 1).tolist(),
                "fold": round(float(observed.middle[i] / mean.middle[i]), 3) if mean.middle[i] else None,
                "z": round(z, 2),
                "p": math.erfc(z / math.sqrt(2)) / 2,
            }
        )
    tested = [row for row in rows[:-1] if row["sites"]]
    for row, q in zip(tested, q_values(np.array([row["p"] for row in tested])).tolist() if tested else ()):
        row["q"] = q
    return rows


def _regions_with_sites(series: np.ndarray, region: np.ndarray, count: int, regions: int) -> list[int]:
    """Number of regions with at least one site of each series, then of any."""
    pairs = np.unique(series.astype(np.int64) * regions + region)
    return [*np.bincount(pairs // regions, minlength=count).tolist(), len(np.unique(region))]
