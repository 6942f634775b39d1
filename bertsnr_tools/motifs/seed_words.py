"""Seed words of motif discovery: short words, some with a gap, enriched in sequences against their shuffles."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..sequence.encoding import OTHER

MAX_GAP = 8
# offsets of the letters of a word: 6 and 8 in a row, or twice 3 with a gap between them
SHAPES = (
    tuple(range(6)),
    tuple(range(8)),
    *((0, 1, 2, 3 + gap, 4 + gap, 5 + gap) for gap in range(1, MAX_GAP + 1)),
)


class SeedWord(NamedTuple):
    """A word and how much it is enriched.

    Attributes
    ----------
    codes : of its positions, `OTHER` in a gap, shape (width,)
    score : log likelihood ratio of the numbers of sequences with the word, see `enrichment`
    """

    codes: np.ndarray
    score: float


def best_word(codes: np.ndarray, shuffled: np.ndarray) -> SeedWord | None:
    """The word that is most enriched in sequences against their shuffles, on both strands, of all `SHAPES`.

    Parameters
    ----------
    codes, shuffled : uint8, shapes (n, length) and (m, length), see `encoding.encode`

    Returns
    -------
    None when no word is enriched
    """
    best = None
    for offsets in SHAPES:
        counts, expected = sequences_with_word(codes, offsets), sequences_with_word(shuffled, offsets)
        scores = enrichment(counts, expected, len(codes), len(shuffled))
        word = int(scores.argmax())
        if scores[word] > (best.score if best else 0):
            best = SeedWord(_letters(word, offsets), float(scores[word]))
    return best


def sequences_with_word(codes: np.ndarray, offsets: tuple[int, ...]) -> np.ndarray:
    """For each word of a shape, the number of sequences that contain it or its reverse complement.

    Returns
    -------
    int array, shape (4^letters,); of a word and its reverse complement, only the first in order has a count
    """
    words = 4 ** len(offsets)
    length = codes.shape[1] - offsets[-1]
    if length < 1:
        return np.zeros(words, dtype=int)
    forward = np.zeros((len(codes), length), dtype=np.int32)
    reverse = np.zeros_like(forward)
    known = np.ones(forward.shape, dtype=bool)
    for rank, offset in enumerate(offsets):
        letters = codes[:, offset : offset + length]
        forward = forward * 4 + (letters & 3)
        reverse += (letters & 3 ^ 1).astype(np.int32) << (2 * rank)
        known &= letters != OTHER
    found = np.where(known, np.minimum(forward, reverse), words)
    found.sort(axis=1)  # a word counts once in a sequence
    repeated = np.diff(found, axis=1, prepend=-1) == 0
    return np.bincount(found[~repeated], minlength=words)[:words]


def enrichment(counts: np.ndarray, shuffled_counts: np.ndarray, total: int, shuffled_total: int) -> np.ndarray:
    """Log likelihood ratio (half of Fisher's and Wilks' G) of two fractions against one, negative for depleted words.

    Parameters
    ----------
    counts, shuffled_counts : sequences with a word, shape (words,)
    total, shuffled_total : all sequences
    """
    ones, others = counts + 0.5, shuffled_counts + 0.5
    all_ones, everything = ones + others, total + shuffled_total + 2

    def log_likelihood(count: np.ndarray, size: float) -> np.ndarray:
        return count * np.log(count / size) + (size - count) * np.log((size - count) / size)

    separate = log_likelihood(ones, total + 1) + log_likelihood(others, shuffled_total + 1)
    ratio = separate - log_likelihood(all_ones, everything)
    return np.where(ones / (total + 1) > others / (shuffled_total + 1), ratio, -ratio)


def _letters(word: int, offsets: tuple[int, ...]) -> np.ndarray:
    """The codes of a word from its number, `OTHER` in the gap."""
    codes = np.full(offsets[-1] + 1, OTHER, dtype=np.uint8)
    for offset in reversed(offsets):
        word, codes[offset] = divmod(word, 4)
    return codes
