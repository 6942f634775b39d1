"""Motifs: found in base calls, counted from their instances, kept in MEME and JASPAR files.

Columns of all matrices are the letters A, C, G, T in this order.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..errors import DataError
from ..io.fasta import Genome
from ..io.intervals import Interval, interval_from_name, unknown_chrom
from ..io.motif_files import BASES
from ..predict.calling import STRANDS, Site, resolve_strands
from ..sequence.encoding import CODE_LETTERS, encode, reverse_complement

_COLUMN = np.array([BASES.index(chr(letter)) for letter in CODE_LETTERS])  # code of `kmers.encode` to column


def instance_starts(calls: np.ndarray, width: int, coverage: float = 0.8) -> np.ndarray:
    """Where the instances of a motif of this width begin in a called sequence (Zhang et al. 2021; Luo et al. 2024).

    A window of the motif's width slides over the calls; its positions count where at least `coverage` of the window is
    called. Every unbroken run of such positions is one instance: `width` bases around the middle of what the windows of the run
    cover. The paper takes the first alone.

    Parameters
    ----------
    calls : 0/1, shape (n,)

    Returns
    -------
    int array: 0-based starts in order; all instances lie inside the sequence
    """
    if len(calls) < width:
        return np.empty(0, dtype=int)
    total = np.concatenate(([0], np.cumsum(calls, dtype=int)))
    counts = total[width:] - total[:-width] >= min_called_bases(width, coverage)
    runs = np.nonzero(np.diff(counts, prepend=False, append=False))[0].reshape(
        -1, 2
    )  # first position, position after the last
    return (runs.sum(axis=1) - 1 + width) // 2 - width // 2


def min_called_bases(width: int, coverage: float) -> int:
    """How many of `width` bases must be called; a called site shorter than this has no instance."""
    return max(1, math.ceil(coverage * width - 1e-9))


class Instance(NamedTuple):
    """One occurrence of a motif: where it lies (0-based, half-open, stranded, named by its motif) and what it reads there."""

    place: Interval
    score: float
    sequence: bytes


SKIP_REASONS = {
    "short": "with too few called bases for the motif's width (see --coverage)",
    "edge": "too near to the end of their sequence",
    "n": "with letters other than ACGT",
}


def site_instances(
    sites: Sequence[Interval],
    genome: Genome,
    path: str,
    widths: Mapping[str, int],
    coverage: float,
    skipped: Counter[str],
) -> Iterator[Instance]:
    """The instance of each called site: what `instance_starts` finds when the site alone is called.

    Parameters
    ----------
    sites : called sites of the BED file `path`, grouped into motifs by their names
    genome : its sequences are chromosomes, or parts of them with names such as `chrom:from-to`
    widths : of the motif of each name
    skipped : counts the sites without an instance, by the keys of `SKIPPED`

    Raises
    ------
    DataError : a site that is not on the sequences.
    """
    shelves = _records_by_chrom(genome)
    for site in sites:
        width = widths[site.name]
        record, place = _containing_record(site, genome, shelves, path)
        start, end = _centered(site, width)
        if site.end - site.start < min_called_bases(width, coverage):
            skipped["short"] += 1
        elif start < place.start or end > place.end:
            skipped["edge"] += 1
        else:
            at = start - place.start if place.strand == "+" else place.end - end
            sequence = genome.fetch(record, at, at + width)
            if place.strand != site.strand:
                sequence = reverse_complement(sequence)
            if sequence.translate(None, CODE_LETTERS):
                skipped["n"] += 1
            else:
                yield Instance(site._replace(start=start, end=end), 0.0, sequence)


def _centered(site: Interval, width: int) -> tuple[int, int]:
    """`width` bases around the middle of a site, which is rounded down in the direction of its strand."""
    first = (
        (site.start + site.end) // 2 - width // 2
        if site.strand == "+"
        else -((-site.start - site.end) // 2) + width // 2 - width
    )
    return first, first + width


def _records_by_chrom(genome: Genome) -> dict[str, list[tuple[str, Interval]]]:
    """The records that are parts of a chromosome, by its name."""
    shelves: dict[str, list[tuple[str, Interval]]] = {}
    for name, length in genome.lengths.items():
        place = interval_from_name(name, length)
        if place:
            shelves.setdefault(place.chrom, []).append((name, place))
    return shelves


def _containing_record(
    site: Interval, genome: Genome, shelves: dict[str, list[tuple[str, Interval]]], path: str
) -> tuple[str, Interval]:
    """The record that a site lies on, and where that record lies."""
    if site.chrom in genome.lengths:
        genome.check(site, path)
        return site.chrom, Interval(site.chrom, 0, genome.lengths[site.chrom])
    for name, place in shelves.get(site.chrom, []):
        if place.start <= site.start and site.end <= place.end:
            return name, place
    if site.chrom in shelves:
        raise DataError(f"{site} lies on none of the sequences of {genome.path}", path, site.line)
    raise unknown_chrom(site, path, genome.lengths)


def called_instances(track: np.ndarray, threshold: float, width: int, coverage: float, every: bool) -> list[Site]:
    """The instances in one sequence that is scored on both strands.

    Parameters
    ----------
    track : base probabilities, shape (2, n), both rows in forward order; bases above `threshold` are called
    every : take all runs, of two that share more than half their bases on opposite strands the better; else the first run
        of each strand, in its own direction, and of these two the better

    Returns
    -------
    list of Site in forward coordinates, in order; the score is the mean over the bases of the instance
    """
    found: list[list[Site]] = []
    for row, strand in zip(track, STRANDS):
        starts = instance_starts((row if strand == "+" else row[::-1]) > threshold, width, coverage)
        starts = starts if every else starts[:1]
        if strand == "-":
            starts = len(row) - width - starts[::-1]
        found.append(
            [Site(a, a + width, strand, float(row[a : a + width].mean(dtype=np.float64))) for a in starts.tolist()]
        )
    plus, minus = found
    if every:
        return sorted(resolve_strands(plus, minus, wins_ties=True) + resolve_strands(minus, plus, wins_ties=False))
    return [max(plus + minus, key=lambda site: site.score)] if plus or minus else []


class InstanceCounts:
    """Instances of one motif, counted as they come."""

    def __init__(self, width: int):
        self.counts = np.zeros((width, len(BASES)))

    def add(self, sequence: bytes) -> None:
        """Count one more instance of A, C, G and T."""
        self.counts[np.arange(len(self.counts)), _COLUMN[encode(sequence)]] += 1
