"""Natural windows without a site, drawn from a genome: what a scan meets most of the time, and shuffles do not have."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ..io.fasta import Genome, Record
from ..io.intervals import Interval
from .encoding import CODE_LETTERS, encode, reverse_complement
from .random_numbers import random_numbers

BLOCK_BASES = 1 << 20  # positions that are looked at together; windows do not reach across its multiples
GC_BINS = 20
_C, _G = (CODE_LETTERS.index(letter) for letter in b"CG")


class Candidates(NamedTuple):
    """Candidate windows, one element each.

    Attributes
    ----------
    keys : uint64, random: the windows with the lowest are taken
    chroms : number of the chromosome in the genome
    starts : 0-based
    bins : of their share of G and C, below `GC_BINS` + 1; 0 where it does not matter
    """

    keys: np.ndarray
    chroms: np.ndarray
    starts: np.ndarray
    bins: np.ndarray

    def take(self, index: np.ndarray) -> Candidates:
        """The windows at these positions."""
        return Candidates(*(column[index] for column in self))


def background_windows(
    genome: Genome, regions: Iterable[Interval], avoid: Iterable[Interval], window: int, wanted: np.ndarray, seed: int
) -> Iterator[Record]:
    """Windows drawn at random, in the order of the genome, each on a random strand.

    They share no base with each other or with `avoid`, and hold A, C, G and T alone. Every stretch that is free of all that is cut
    into as many windows as fit, at a random phase. A window depends on `seed` and its surroundings alone.

    Parameters
    ----------
    regions : where to draw from; intervals may overlap
    avoid : intervals; those on chromosomes that the genome lacks are passed over
    window : bases
    wanted : how many windows, shape (1,); or how many for each class of `gc_bins`, shape (GC_BINS + 1,)

    Yields
    ------
    records named `natural::chrom:start-end(strand)`; fewer than wanted where the regions hold no more
    """
    names = list(genome.lengths)
    avoided, allowed = merge_intervals(avoid), merge_intervals(regions)
    kept = [Candidates(*(np.empty(0, dtype=kind) for kind in (np.uint64, int, int, int)))]
    found = 0  # windows since the lowest were last looked for
    for number, chrom in enumerate(names):
        key = _key(seed, chrom)
        for start, end in allowed.get(chrom, np.empty((0, 2), dtype=int)).tolist():
            for at in range(start - start % BLOCK_BASES, end, BLOCK_BASES):
                low, high = max(start, at), min(end, at + BLOCK_BASES)
                codes = encode(genome.fetch(chrom, low, high))
                free = codes < len(CODE_LETTERS)
                for a, b in _overlapping(avoided.get(chrom), low, high):
                    free[max(0, a - low) : b - low] = False
                starts = _tile_free(free, window, key, low)
                if not len(starts):
                    continue
                bins = gc_bins(codes, starts, window) if len(wanted) > 1 else np.zeros(len(starts), dtype=int)
                keys = random_numbers(np.full(len(starts), key), starts + low, 2)
                kept.append(Candidates(keys, np.full(len(starts), number), starts + low, bins))
                found += len(starts)
                if found > wanted.sum() + BLOCK_BASES:
                    kept, found = [_lowest_keys(kept, wanted)], 0
    drawn = _lowest_keys(kept, wanted)
    for at in np.lexsort((drawn.starts, drawn.chroms)):
        chrom, start = names[drawn.chroms[at]], int(drawn.starts[at])
        sequence = genome.fetch(chrom, start, start + window)
        turned = bool(drawn.keys[at] & np.uint64(1))
        yield Record(
            f"natural::{chrom}:{start}-{start + window}({'-' if turned else '+'})",
            "",
            reverse_complement(sequence) if turned else sequence,
        )


def _key(seed: int, chrom: str) -> np.uint64:
    return np.uint64(
        int.from_bytes(hashlib.blake2b(f"{seed} natural {chrom}".encode(), digest_size=8).digest(), "little")
    )


def merge_intervals(intervals: Iterable[Interval]) -> dict[str, np.ndarray]:
    """Disjoint intervals of each chromosome in rising order, shape (n, 2)."""
    chroms: dict[str, list[tuple[int, int]]] = {}
    for interval in intervals:
        chroms.setdefault(interval.chrom, []).append((interval.start, interval.end))
    joined = {}
    for chrom, spans in chroms.items():
        ordered = np.array(sorted(spans))
        reach = np.maximum.accumulate(ordered[:, 1])
        first = np.append(True, ordered[1:, 0] > reach[:-1])
        joined[chrom] = np.stack([ordered[first, 0], reach[np.append(first[1:], True)]], axis=1)
    return joined


def _overlapping(spans: np.ndarray | None, low: int, high: int) -> list[list[int]]:
    """The spans that share a base with [low, high)."""
    if spans is None:
        return []
    return spans[np.searchsorted(spans[:, 1], low, side="right") : np.searchsorted(spans[:, 0], high)].tolist()


def _tile_free(free: np.ndarray, window: int, key: np.uint64, offset: int) -> np.ndarray:
    """Starts of disjoint windows in the stretches where `free` holds, each stretch cut at a phase of its own."""
    edges = np.nonzero(np.diff(free, prepend=False, append=False))[0].reshape(-1, 2)
    edges = edges[edges[:, 1] - edges[:, 0] >= window]
    counts = (edges[:, 1] - edges[:, 0]) // window
    slack = (edges[:, 1] - edges[:, 0] - counts * window + 1).astype(np.uint64)
    phase = (random_numbers(np.full(len(edges), key), edges[:, 0] + offset, 3) % slack).astype(int)
    first = np.repeat(edges[:, 0] + phase, counts)
    place = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return first + place * window


def gc_bins(codes: np.ndarray, starts: np.ndarray, window: int) -> np.ndarray:
    """Class of the share of G and C among the known bases of windows of a sequence: 0 for none, `GC_BINS` for nothing else."""
    strong, known = (
        np.concatenate(([0], np.cumsum(letters)))
        for letters in ((codes == _C) | (codes == _G), codes < len(CODE_LETTERS))
    )
    return (strong[starts + window] - strong[starts]) * GC_BINS // np.maximum(1, known[starts + window] - known[starts])


def gc_targets(genome: Genome, sites: Sequence[Interval], window: int, copies: int) -> np.ndarray:
    """How many windows of each class of `gc_bins` are as many as those around the sites, times `copies`."""
    wanted = np.zeros(GC_BINS + 1, dtype=int)
    for site in sites:
        size = genome.lengths.get(site.chrom, 0)
        start = min(max(0, (site.start + site.end - window) // 2), size - window)
        if start >= 0 and site.end <= size:
            wanted[gc_bins(encode(genome.fetch(site.chrom, start, start + window)), np.array([0]), window)] += copies
    return wanted


def _lowest_keys(parts: Sequence[Candidates], wanted: np.ndarray) -> Candidates:
    """As many windows of each class as are wanted, those with the lowest keys."""
    drawn = Candidates(*(np.concatenate(columns) for columns in zip(*parts)))
    chosen = [
        index[np.argsort(drawn.keys[index], kind="stable")[:count]]
        for number, count in enumerate(wanted.tolist())
        for index in [np.nonzero(drawn.bins == number)[0]]
    ]
    return drawn.take(np.concatenate(chosen))
