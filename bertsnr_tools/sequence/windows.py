"""Labelled windows: cut from a genome around sites, read back from FASTA, grouped by locus.

A window is a FASTA record with the header `>name::chrom:start-end(strand) site=a-b[,c-d]`. chrom, start and end are its
interval (0-based, half-open); `site` lists the sites inside, its own first, half-open from the record's first base.
Windows on the reverse strand are reverse-complemented (Luo et al. 2024, section 2.1).
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..errors import DataError
from ..io.fasta import Genome, Record, read_records
from ..io.intervals import Interval, interval_from_name
from .encoding import CODE_LETTERS, OTHER, decode, encode, reverse_complement
from .random_numbers import random_numbers

SKIP_REASONS = {
    "long": "longer than the window",
    "absent": "on a sequence that is not in the genome",
    "off": "past the end of its sequence",
    "short": "on a sequence shorter than the window",
    "n": "with too many N around (see --max-n)",
}

LONGEST_SITE = 50  # bp; longer intervals are rather peaks

Span = tuple[int, int]  # [start, end)


class WindowCutter:
    """Cuts one window around each site, with the site at a random offset.

    The offset is uniform over the windows that lie on the chromosome and contain at most `max_n` letters other than
    ACGT. It depends only on `seed` and the site. Other sites inside on the same strand are labelled too.

    Parameters
    ----------
    genome : the genome of the sites
    window : length in bases
    max_n : letters other than ACGT that a window may contain
    seed : random seed

    Attributes
    ----------
    skipped : number of sites without a window, by the keys of `SKIP_REASONS`
    """

    def __init__(self, genome: Genome, window: int, *, max_n: int = 0, seed: int = 1):
        self._genome, self._window, self._max_n, self._seed = genome, window, max_n, seed
        self.skipped: Counter[str] = Counter()

    def cut(self, sites: Iterable[Interval]) -> Iterator[Record]:
        """Yield the windows in the order of the sites, which are 0-based and half-open."""
        sites = list(sites)
        columns = _columns(sites)
        draws, neighbours = _site_draws(columns, self._seed), _neighbours(columns, self._window)
        for number, site in enumerate(sites):
            size = self._genome.lengths.get(site.chrom)
            if size is None or site.end > size or site.end - site.start > self._window:
                self.skipped["absent" if size is None else "off" if site.end > size else "long"] += 1
                continue
            low, high = max(0, site.end - self._window), min(size, site.start + self._window)
            around = self._genome.fetch(site.chrom, low, high)
            offset = _draw_offset(around, self._window, self._max_n, draws[number])
            if offset is None:
                self.skipped["n" if high - low >= self._window else "short"] += 1
                continue
            sequence = around[offset : offset + self._window]
            yield _window_record(site, low + offset, sequence, neighbours.get(number, ()))

    def skip_report(self) -> str:
        """The reasons for skipped sites and their numbers, as text."""
        return ", ".join(f"{self.skipped[key]:,} {text}" for key, text in SKIP_REASONS.items() if self.skipped[key])


def peaks_among(intervals: Sequence[Interval]) -> int:
    """Number of intervals that are too long for a binding site, if most are, else 0; their format does not matter."""
    long = sum(interval.end - interval.start > LONGEST_SITE for interval in intervals)
    return long if 2 * long > len(intervals) else 0


def _draw_offset(around: bytes, window: int, max_n: int, draw: int) -> int | None:
    """Choose where a window starts in `around`, the union of all windows that contain the site.

    Parameters
    ----------
    draw : random number of 64 bits

    Returns
    -------
    offset in bases, None when no window fits or each has more than `max_n` letters other than ACGT
    """
    if len(around) < window:
        return None
    if not around.translate(None, b"ACGT"):
        return draw * (len(around) - window + 1) >> 64
    unknown = np.concatenate(([0], np.cumsum(encode(around) >= len(CODE_LETTERS))))
    starts = np.nonzero(unknown[window:] - unknown[:-window] <= max_n)[0].tolist()
    return starts[draw * len(starts) >> 64] if starts else None


def _window_record(site: Interval, start: int, sequence: bytes, neighbours: Sequence[Span]) -> Record:
    """The FASTA record of a window: name, labels in its coordinates, sequence of the site's strand."""
    end = start + len(sequence)
    labelled = [(site.start, site.end), *((a, b) for a, b in neighbours if a >= start and b <= end)]
    if site.strand == "-":
        sequence = reverse_complement(sequence)
        spans = ",".join([f"{end - b}-{end - a}" for a, b in labelled])
    else:
        spans = ",".join([f"{a - start}-{b - start}" for a, b in labelled])
    name = site.name
    if not name.isprintable() or " " in name:
        name = "_".join(name.split())
    return Record(f"{name}::{site.chrom}:{start}-{end}({site.strand})", f"site={spans}", sequence)


class _Columns(NamedTuple):
    """Sites as columns, each of shape (n,)."""

    group: np.ndarray  # number of the chromosome and strand in `keys`
    starts: np.ndarray
    ends: np.ndarray
    keys: list[tuple[str, str]]  # chromosome and strand


def _columns(sites: Sequence[Interval]) -> _Columns:
    groups: dict[tuple[str, str], int] = {}
    group = np.array([groups.setdefault((site.chrom, site.strand), len(groups)) for site in sites], dtype=int)
    starts = np.array([site.start for site in sites], dtype=int)
    ends = np.array([site.end for site in sites], dtype=int)
    return _Columns(group, starts, ends, list(groups))


def _site_draws(columns: _Columns, seed: int) -> list[int]:
    """A random number of 64 bits for each site, from the seed, its interval and its strand."""
    digests = [hashlib.blake2b(f"{seed} {chrom} {strand}".encode(), digest_size=8) for chrom, strand in columns.keys]
    keys = np.array([int.from_bytes(digest.digest(), "little") for digest in digests], dtype=np.uint64)
    return random_numbers(random_numbers(keys[columns.group], columns.starts, 0), columns.ends, 1).tolist()


def _neighbours(columns: _Columns, window: int) -> dict[int, list[Span]]:
    """For the number of a site, the other sites on its strand that may share a window with it, in ascending order."""
    order = np.lexsort((columns.ends, columns.starts, columns.group))
    group, starts, ends = columns.group[order], columns.starts[order], columns.ends[order]
    close = (np.diff(group) == 0) & (np.diff(starts) < window)
    found: dict[int, set[Span]] = {}
    for rank in np.nonzero(close)[0].tolist():
        other = rank + 1
        while other < len(order) and group[other] == group[rank] and starts[other] - starts[rank] < window:
            one, two = (int(starts[rank]), int(ends[rank])), (int(starts[other]), int(ends[other]))
            if one != two:
                found.setdefault(int(order[rank]), set()).add(two)
                found.setdefault(int(order[other]), set()).add(one)
            other += 1
    return {number: sorted(spans) for number, spans in found.items()}


@dataclass(eq=False)
class Windows:
    """Labelled windows of one length, as arrays.

    Attributes
    ----------
    names : record names
    codes : uint8, shape (n, window), see `encoding.encode`
    labels : uint8, 1 inside a site, shape (n, window)
    """

    names: list[str]
    codes: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    @property
    def positive(self) -> np.ndarray:
        """bool, shape (n,): the window contains a site."""
        return np.any(self.labels, axis=1)

    def intervals(self) -> list[Interval | None]:
        """The coordinates in the names; None for a name without."""
        return [interval_from_name(name, self.codes.shape[1]) for name in self.names]

    def take(self, index: Sequence[int] | np.ndarray) -> Windows:
        """The windows at these indices, or where a mask is True."""
        rows = np.asarray(index)
        rows = np.nonzero(rows)[0] if rows.dtype == bool else rows.astype(int)
        return Windows([self.names[row] for row in rows], self.codes[rows], self.labels[rows])

    def records(self) -> Iterator[Record]:
        """The windows as FASTA records without labels."""
        return (Record(name, "", decode(codes)) for name, codes in zip(self.names, self.codes))

    @staticmethod
    def unlabelled(records: Sequence[Record]) -> Windows:
        """Records of equal length as windows without a site."""
        codes = np.stack([encode(record.sequence) for record in records])
        return Windows([record.name for record in records], codes, np.zeros_like(codes))

    @staticmethod
    def joined(parts: Sequence[Windows]) -> Windows:
        """All windows of `parts`, in order."""
        return Windows(
            [name for part in parts for name in part.names],
            np.concatenate([part.codes for part in parts]),
            np.concatenate([part.labels for part in parts]),
        )


def read_windows(
    path: str | os.PathLike[str], positive: bool | None = None, k: int = 1, length: int | None = None
) -> Windows:
    """Read windows from FASTA ("-" is standard input): positives have `site=` in the header, negatives do not.

    Parameters
    ----------
    positive : require positives (True) or negatives (False); None accepts both
    k : bases in a token; a shorter site cannot be labelled
    length : required length of a window in bases; None takes the length of the first

    Raises
    ------
    DataError : no records, windows of different lengths or shorter than k, missing or invalid sites.
    """
    path = os.fspath(path)
    names, codes, labels = [], [], []
    for record in read_records(path):
        length = length or len(record.sequence)
        if len(record.sequence) != length:
            raise DataError(f"record {record.name!r} is {len(record.sequence)} bp; expected {length} bp", path)
        if length < k:
            raise DataError(f"record {record.name!r} is {length} bp, shorter than a token of {k} bp", path)
        names.append(record.name)
        codes.append(encode(record.sequence))
        if codes[-1].min() == OTHER:
            raise DataError(f"record {record.name!r} contains no A, C, G or T", path)
        labels.append(_labels(record, positive, k, path))
    return Windows(names, np.stack(codes), np.stack(labels))


def _labels(record: Record, positive: bool | None, k: int, path: str) -> np.ndarray:
    labels = np.zeros(len(record.sequence), dtype=np.uint8)
    sites = labelled_sites(record, path)
    if positive is not None and positive != bool(sites):
        problem = "has no site=a-b in its header; make positive windows with `bertsnr windows`"
        if not positive:
            problem = "has site=a-b in its header; expected a negative window"
        raise DataError(f"record {record.name!r} {problem}", path)
    for start, end in sites:
        if end - start < k:
            raise DataError(f"record {record.name!r}: site {start}-{end} is shorter than a token of {k} bp", path)
        labels[start:end] = 1
    return labels


def labelled_sites(record: Record, path: str) -> list[Span]:
    """The sites in the header of a window, [start, end) from the first base of the record; empty without `site=`.

    Raises
    ------
    DataError : a site that cannot be parsed or is not in the window.
    """
    fields = [text.removeprefix("site=") for text in record.description.split() if text.startswith("site=")]
    sites = []
    for span in (span for text in fields for span in text.split(",")):
        match = re.fullmatch(r"(\d{1,18})-(\d{1,18})", span)
        start, end = (int(match[1]), int(match[2])) if match else (0, 0)
        if not start < end <= len(record.sequence):
            expected = f"expected a-b with 0 <= a < b <= {len(record.sequence)}"
            raise DataError(f"record {record.name!r}: site is {span!r}; {expected}", path)
        sites.append((start, end))
    return sites


def site_width(positives: Windows) -> int:
    """Median width of the sites in bp; a run of labelled bases is a site."""
    steps = np.diff(positives.labels.astype(np.int8), axis=1, prepend=0, append=0)
    return int(np.median(np.nonzero(steps == -1)[1] - np.nonzero(steps == 1)[1]))


def loci(windows: Windows) -> tuple[np.ndarray, list[str]]:
    """Group windows that overlap on the genome, on either strand.

    Coordinates come from the record names, see `intervals.interval_from_name`. A shuffle (`..._shuf1`) belongs to the
    locus of its source; names without coordinates share a locus if they have the same sequence.

    Returns
    -------
    locus numbers, int, shape (n,); chromosome of each window, "" when unknown
    """
    sources = [re.sub(r"(?:_shuf\d+)+$", "", name) for name in windows.names]
    intervals = {name: interval_from_name(name, windows.codes.shape[1]) for name in sources}
    same: dict[bytes, str] = {}  # the first name without coordinates of a sequence
    first = {
        name: same.setdefault(codes.tobytes(), name)
        for name, codes in zip(windows.names, windows.codes)
        if name in intervals and not intervals[name]
    }
    sources = [first.get(name, name) for name in sources]
    locus = dict(zip(intervals, overlap_groups(list(intervals.values()))))
    chroms = [interval.chrom if (interval := intervals[name]) else "" for name in sources]
    return np.array([locus[name] for name in sources]), chroms


def overlap_groups(intervals: Sequence[Interval | None]) -> list[int]:
    """A number for each interval, the same for those that overlap or are linked by others; None is alone."""
    groups = [0] * len(intervals)
    chrom, reach, number = "", -1, -1
    for row in sorted(range(len(intervals)), key=lambda row: (intervals[row] or Interval("", 0, 0))[:3]):
        interval = intervals[row]
        if interval is None or interval.chrom != chrom or interval.start >= reach:
            number += 1
            reach = -1
        if interval is not None:
            chrom, reach = interval.chrom, max(reach, interval.end)
        groups[row] = number
    return groups


def split_by_locus(locus: np.ndarray, parts: int, seed: int) -> np.ndarray:
    """A part number in [0, parts) for every window: equal within a locus, parts as even as loci allow."""
    unique, inverse = np.unique(locus, return_inverse=True)
    part = np.empty(len(unique), dtype=int)
    part[np.random.default_rng([seed, 1]).permutation(len(unique))] = np.arange(len(unique)) % parts
    return part[inverse]


def known_sites(background: Windows, names: Sequence[str], sites: Sequence[Interval]) -> np.ndarray:
    """Which factors may have a site in each background window: bool, shape (windows, factors).

    Parameters
    ----------
    names : of the factors
    sites : known sites and peaks, named by factor; an interval with another name counts for all factors
    """
    number = {name: index for index, name in enumerate(names)}
    length = background.codes.shape[1]
    known = np.zeros((len(background), len(names)), dtype=bool)
    rows: dict[str, list[tuple[int, int]]] = {}
    for row, interval in enumerate(background.intervals()):
        if interval:
            rows.setdefault(interval.chrom, []).append((interval.start, row))
    starts = {chrom: np.array(sorted(found)) for chrom, found in rows.items()}
    for site in sites:
        if site.chrom not in starts:
            continue
        first, last = np.searchsorted(starts[site.chrom][:, 0], [site.start - length + 1, site.end])
        known[starts[site.chrom][first:last, 1], number.get(site.name, slice(None))] = True
    return known
