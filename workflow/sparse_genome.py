"""The known bases of a genome that is N elsewhere, and where sequences occur among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bertsnr_tools.io.fasta import Genome
from bertsnr_tools.sequence.encoding import OTHER, encode, reverse_complement_codes

WORD = 32  # bp
MOST_COPIES = 100  # of a 32-mer that are looked at


class Words(NamedTuple):
    """The 32-mers along the last axis of codes, shape (..., n - 31).

    Attributes
    ----------
    canonical : uint64, the lesser of the 32-mer and its reverse complement
    reverse : bool, whether that is the reverse complement
    known : bool, whether it consists of A, C, G and T
    """

    canonical: np.ndarray
    reverse: np.ndarray
    known: np.ndarray


def packed(codes: np.ndarray) -> Words:
    """All 32-mers of codes, shape (..., n)."""
    forward = (codes & 3).astype(np.uint64)
    reverse, known, size = forward ^ np.uint64(1), codes != OTHER, 1
    while size < WORD:
        bits = np.uint64(2 * size)
        forward = forward[..., :-size] << bits | forward[..., size:]
        reverse = reverse[..., :-size] | reverse[..., size:] << bits
        known = known[..., :-size] & known[..., size:]
        size *= 2
    return Words(np.minimum(forward, reverse), reverse < forward, known)


class Located(NamedTuple):
    """Where windows lie: index of their first base on the forward strand, -1 if not found, and the strand."""

    index: np.ndarray
    reverse: np.ndarray


class SparseGenome:
    """The known bases of a genome, and an index of their 32-mers.

    A base has a key, `chromosome number << 32 | position`, and, if it is known, an index in `codes`, where the
    stretches of known bases follow each other with a code `OTHER` after each.

    Parameters
    ----------
    path : indexed FASTA file
    """

    def __init__(self, path: str):
        self.genome = Genome(path)
        self.chroms = list(self.genome.lengths)
        codes, keys, lengths = [], [], []
        for number, chrom in enumerate(self.chroms):
            letters = np.frombuffer(self.genome.fetch(chrom, 0, self.genome.lengths[chrom]), dtype=np.uint8)
            known = letters != ord("N")
            borders = np.flatnonzero(np.diff(known, prepend=False, append=False)).reshape(-1, 2)
            sizes = borders[:, 1] - borders[:, 0]
            codes.append(np.insert(encode(letters[known].tobytes()), np.cumsum(sizes), OTHER))
            keys.append((number << 32) + borders[:, 0])
            lengths.append(sizes)
        self.codes, self._keys, self._lengths = (np.concatenate(parts) for parts in (codes, keys, lengths))
        self._offsets = np.cumsum(self._lengths + 1) - self._lengths - 1
        words = packed(self.codes)
        where = np.flatnonzero(words.known).astype(np.int32)
        order = np.argsort(words.canonical[where])
        self._words, self._at = words.canonical[where][order], where[order]

    def keys(self, chroms: Sequence[str], starts: Sequence[int] | np.ndarray) -> np.ndarray:
        """Keys of positions; negative on chromosomes that are not in the genome."""
        numbers = {chrom: number for number, chrom in enumerate(self.chroms)}
        number = np.array([numbers.get(chrom, -1) for chrom in chroms], dtype=np.int64)
        return np.where(number < 0, -(1 << 40), (number << 32) + np.asarray(starts, dtype=np.int64))

    def index(self, keys: np.ndarray) -> np.ndarray:
        """Indices of bases, -1 where unknown."""
        run = np.maximum(np.searchsorted(self._keys, keys, side="right") - 1, 0)
        inside = keys - self._keys[run]
        return np.where((inside >= 0) & (inside < self._lengths[run]), self._offsets[run] + inside, -1)

    def key_of(self, index: np.ndarray) -> np.ndarray:
        """Keys of known bases."""
        run = np.searchsorted(self._offsets, index, side="right") - 1
        return self._keys[run] + index - self._offsets[run]

    def position(self, key: int) -> tuple[str, int]:
        """Chromosome and position of a key."""
        return self.chroms[key >> 32], key & 0xFFFFFFFF

    def touches(self, keys: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """Whether intervals contain a known base."""
        run = np.maximum(np.searchsorted(self._keys, keys + sizes - 1, side="right") - 1, 0)
        return (self._keys[run] < keys + sizes) & (self._keys[run] + self._lengths[run] > keys)

    def tiles(self, size: int, random: np.random.Generator) -> np.ndarray:
        """First indices of disjoint windows, as many as fit in each stretch, at a random phase; in random order."""
        counts = self._lengths // size
        phases = random.integers(0, self._lengths - counts * size + 1)
        number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return random.permutation(np.repeat(self._offsets + phases, counts) + number * size)

    def copies(self, words: np.ndarray) -> np.ndarray:
        """How often canonical 32-mers occur."""
        return np.searchsorted(self._words, words, side="right") - np.searchsorted(self._words, words)

    def locate(
        self, codes: np.ndarray, offsets: Sequence[np.ndarray] = (), listed: np.ndarray | None = None
    ) -> Located:
        """Find windows whole, by their first 32-mer. Of several copies, prefer one with a listed site, then the first.

        Parameters
        ----------
        codes : shape (n, window)
        offsets : distance of a site in each window from the first base on the forward strand, when the window lies
            forward and when it lies reverse
        listed : indices of the first bases of sites
        """
        length = codes.shape[1]
        words = packed(codes[:, :WORD])
        low = np.searchsorted(self._words, words.canonical[:, 0])
        count = np.minimum(self.copies(words.canonical[:, 0]) * words.known[:, 0], MOST_COPIES)
        row = np.repeat(np.arange(len(codes)), count)
        hit = self._at[low[row] + np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)].astype(np.int64)
        parts = []
        for reverse, oriented in enumerate((codes, reverse_complement_codes(codes))):
            start = np.clip(hit - (length - WORD) * reverse, 0, len(self.codes) - length)
            same = np.flatnonzero((self.codes[start[:, None] + np.arange(length)] == oriented[row]).all(axis=1))
            site = start[same] + offsets[reverse][row[same]] if len(offsets) else start[same]
            parts.append((row[same], start[same], np.full(len(same), bool(reverse)), site))
        row, start, flipped, site = (np.concatenate(columns) for columns in zip(*parts))
        best = np.lexsort((start, ~np.isin(site, listed if listed is not None else []), row))
        best = best[np.unique(row[best], return_index=True)[1]]
        found = Located(np.full(len(codes), -1), np.zeros(len(codes), dtype=bool))
        found.index[row[best]], found.reverse[row[best]] = start[best], flipped[best]
        return found

    def mapped(self, other: SparseGenome, index: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Intervals of known bases in another genome, by the 32-mer around their middle where both have it once.

        Returns
        -------
        keys in `other`, and sizes, of the intervals that are found
        """
        before = (WORD - sizes) // 2
        first = np.clip(index - before, 0, len(self.codes) - WORD)
        words = packed(self.codes[first[:, None] + np.arange(WORD)])
        canonical, reverse = words.canonical[:, 0], words.reverse[:, 0]
        once = words.known[:, 0] & (self.copies(canonical) == 1) & (other.copies(canonical) == 1)
        at = other._at[np.minimum(np.searchsorted(other._words, canonical), len(other._at) - 1)].astype(np.int64)
        flipped = packed(other.codes[at[:, None] + np.arange(WORD)]).reverse[:, 0] != reverse
        shift = np.where(flipped, WORD - before - sizes, before)
        return (other.key_of(at) + shift)[once], sizes[once]
