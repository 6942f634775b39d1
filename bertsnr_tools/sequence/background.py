"""Genomic background windows: windows without a site, drawn at random from a genome.

Most windows of a scan are like them; shuffled sites are not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ..io.fasta import Genome, Record
from ..io.intervals import Interval
from .encoding import CODE_LETTERS, encode, reverse_complement
from .random_numbers import random_numbers

BLOCK_BASES = 1 << 20  # bases that are read together; windows do not cross its multiples
GC_BINS = 20
NAME = "natural"  # before :: in record names, and part of the random key; data of earlier releases depend on it
_C, _G = (CODE_LETTERS.index(letter) for letter in b"CG")
_KEY_STREAM, _PHASE_STREAM = 2, 3  # of `random_numbers`


class Candidates(NamedTuple):
    """Candidate windows as columns, each of shape (n,).

    Attributes
    ----------
    keys : uint64, random; the windows with the lowest keys are drawn
    chroms : number of the chromosome in the genome
    starts : 0-based
    bins : class of the GC content, see `gc_bins`; 0 where it does not matter
    """

    keys: np.ndarray
    chroms: np.ndarray
    starts: np.ndarray
    bins: np.ndarray

    def take(self, index: np.ndarray) -> Candidates:
        """The windows at these indices."""
        return Candidates(*(column[index] for column in self))


def background_windows(
    genome: Genome, regions: Iterable[Interval], avoid: Iterable[Interval], window: int, wanted: np.ndarray, seed: int
) -> Iterator[Record]:
    """Draw background windows at random, in genome order, each on a random strand.

    The windows overlap neither each other nor `avoid`, and contain only A, C, G and T. Every stretch without other
    letters and avoided bases is cut into as many windows as fit, at a random phase; the windows with the lowest
    random keys are drawn. A window depends only on `seed` and its surroundings.

    Parameters
    ----------
    regions : intervals to draw from, which may overlap
    avoid : intervals; those on chromosomes that are not in the genome are ignored
    window : length in bases
    wanted : number of windows, shape (1,), or the number for each class of `gc_bins`, shape (GC_BINS + 1,)

    Yields
    ------
    records named `<NAME>::chrom:start-end(strand)`, fewer than wanted if the regions do not contain enough
    """
    names = list(genome.lengths)
    drawn = _draw(_candidates(genome, regions, avoid, window, len(wanted) > 1, seed), wanted)
    for row in np.lexsort((drawn.starts, drawn.chroms)):
        chrom, start = names[drawn.chroms[row]], int(drawn.starts[row])
        sequence = genome.fetch(chrom, start, start + window)
        reverse = bool(drawn.keys[row] & np.uint64(1))
        name = f"{NAME}::{chrom}:{start}-{start + window}({'-' if reverse else '+'})"
        yield Record(name, "", reverse_complement(sequence) if reverse else sequence)


def _candidates(
    genome: Genome, regions: Iterable[Interval], avoid: Iterable[Interval], window: int, by_gc: bool, seed: int
) -> Iterator[Candidates]:
    """All windows that can be drawn, block by block."""
    avoided, allowed = merge_intervals(avoid), merge_intervals(regions)
    for number, chrom in enumerate(genome.lengths):
        key = _chromosome_key(seed, chrom)
        for low, high in _blocks(allowed.get(chrom)):
            codes = encode(genome.fetch(chrom, low, high))
            free = codes < len(CODE_LETTERS)
            for start, end in _overlapping(avoided.get(chrom), low, high):
                free[max(0, start - low) : end - low] = False
            starts = _tile_free(free, window, key, low)
            bins = gc_bins(codes, starts, window) if by_gc else np.zeros(len(starts), dtype=int)
            keys = random_numbers(np.full(len(starts), key), starts + low, _KEY_STREAM)
            yield Candidates(keys, np.full(len(starts), number), starts + low, bins)


def _chromosome_key(seed: int, chrom: str) -> np.uint64:
    digest = hashlib.blake2b(f"{seed} {NAME} {chrom}".encode(), digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "little"))


def _blocks(spans: np.ndarray | None) -> Iterator[tuple[int, int]]:
    """Cut intervals, shape (n, 2), at the multiples of `BLOCK_BASES`."""
    for start, end in [] if spans is None else spans.tolist():
        for block in range(start - start % BLOCK_BASES, end, BLOCK_BASES):
            yield max(start, block), min(end, block + BLOCK_BASES)


def _draw(candidates: Iterator[Candidates], wanted: np.ndarray) -> Candidates:
    """The wanted number of windows, see `_lowest_keys`, in bounded memory."""
    kept = [Candidates(*(np.empty(0, dtype=kind) for kind in (np.uint64, int, int, int)))]
    undecided = 0
    for part in candidates:
        kept.append(part)
        undecided += len(part.keys)
        if undecided > wanted.sum() + BLOCK_BASES:
            kept, undecided = [_lowest_keys(kept, wanted)], 0
    return _lowest_keys(kept, wanted)


def _lowest_keys(parts: Sequence[Candidates], wanted: np.ndarray) -> Candidates:
    """The wanted number of windows of each class, those with the lowest keys."""
    pool = Candidates(*(np.concatenate(columns) for columns in zip(*parts)))
    chosen = []
    for number, count in enumerate(wanted.tolist()):
        rows = np.nonzero(pool.bins == number)[0]
        chosen.append(rows[np.argsort(pool.keys[rows], kind="stable")[:count]])
    return pool.take(np.concatenate(chosen))


def merge_intervals(intervals: Iterable[Interval]) -> dict[str, np.ndarray]:
    """Merge intervals that overlap or touch: for each chromosome, disjoint [start, end) in ascending order, (n, 2)."""
    chroms: dict[str, list[tuple[int, int]]] = {}
    for interval in intervals:
        chroms.setdefault(interval.chrom, []).append((interval.start, interval.end))
    merged = {}
    for chrom, spans in chroms.items():
        ordered = np.array(sorted(spans))
        reach = np.maximum.accumulate(ordered[:, 1])
        first = np.append(True, ordered[1:, 0] > reach[:-1])
        merged[chrom] = np.stack([ordered[first, 0], reach[np.append(first[1:], True)]], axis=1)
    return merged


def _overlapping(spans: np.ndarray | None, low: int, high: int) -> list[list[int]]:
    """The intervals, shape (n, 2), that share a base with [low, high)."""
    if spans is None:
        return []
    return spans[np.searchsorted(spans[:, 1], low, side="right") : np.searchsorted(spans[:, 0], high)].tolist()


def _tile_free(free: np.ndarray, window: int, key: np.uint64, offset: int) -> np.ndarray:
    """Starts of disjoint windows in the runs of True in `free`, each run cut at its own random phase.

    Parameters
    ----------
    free : bool, shape (n,)
    offset : position of the first base on its chromosome
    """
    runs = np.nonzero(np.diff(free, prepend=False, append=False))[0].reshape(-1, 2)
    runs = runs[runs[:, 1] - runs[:, 0] >= window]
    lengths = runs[:, 1] - runs[:, 0]
    counts = lengths // window
    phases = (lengths - counts * window + 1).astype(np.uint64)
    phase = (random_numbers(np.full(len(runs), key), runs[:, 0] + offset, _PHASE_STREAM) % phases).astype(int)
    first = np.repeat(runs[:, 0] + phase, counts)
    number_in_run = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return first + number_in_run * window


def gc_bins(codes: np.ndarray, starts: np.ndarray, window: int) -> np.ndarray:
    """Class of the GC content of windows, from 0 (no G or C) to `GC_BINS` (nothing else); unknown bases do not count.

    Parameters
    ----------
    codes : uint8, shape (n,)
    starts : first bases of the windows in `codes`, shape (m,)
    """

    def count(letters: np.ndarray) -> np.ndarray:
        total = np.concatenate(([0], np.cumsum(letters)))
        return total[starts + window] - total[starts]

    gc, known = count((codes == _C) | (codes == _G)), count(codes < len(CODE_LETTERS))
    return gc * GC_BINS // np.maximum(1, known)


def gc_targets(genome: Genome, sites: Sequence[Interval], window: int, copies: int) -> np.ndarray:
    """For each class of `gc_bins`, the number of windows around sites, times `copies`; shape (GC_BINS + 1,)."""
    wanted = np.zeros(GC_BINS + 1, dtype=int)
    for site in sites:
        size = genome.lengths.get(site.chrom, 0)
        start = min(max(0, (site.start + site.end - window) // 2), size - window)
        if start >= 0 and site.end <= size:
            wanted[gc_bins(encode(genome.fetch(site.chrom, start, start + window)), np.array([0]), window)] += copies
    return wanted
