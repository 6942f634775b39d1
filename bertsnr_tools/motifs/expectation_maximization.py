"""Expectation-maximisation of a motif with zero or one site for each sequence (ZOOPS; Bailey and Elkan 1994).

A site lies on either strand, at any position with equal probability. The background is a Markov chain of order 1, like
the shuffles to compare with. PPMs have the letter order of `encoding.CODE_LETTERS` in this module.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..sequence.encoding import OTHER, reverse_complement_codes

LETTERS = 4
CHUNK = 5  # columns of a PPM that are looked up together
IMPOSSIBLE = -1e6  # score of a site with an unknown letter
HIGHEST = 80  # scores above it count as this, for float32
ITERATIONS, SHIFTS = 30, (3, 8, 14)  # the motif may move along its sites before the iterations in SHIFTS
CONVERGED = 0.002  # greatest change of a probability
LEAST_WEIGHT = 0.01  # sites with a lower probability are not counted
PSEUDOCOUNT = 1.0  # in each column, divided like the background


class Background(NamedTuple):
    """A Markov chain of order 1, equal on both strands.

    Attributes
    ----------
    frequencies : probability of each letter, shape (4,)
    log_next : log probability of a letter (column) after another (row), 0 for unknown ones, shape (5, 5)
    """

    frequencies: np.ndarray
    log_next: np.ndarray

    @classmethod
    def of(cls, codes: np.ndarray) -> Background:
        """The background of sequences, uint8, shape (n, length)."""
        pairs = np.zeros((LETTERS + 1) ** 2)
        for strand in (codes, reverse_complement_codes(codes)):
            pairs += np.bincount(
                (strand[:, :-1].astype(int) * (LETTERS + 1) + strand[:, 1:]).ravel(), minlength=len(pairs)
            )
        known = pairs.reshape(LETTERS + 1, -1)[:LETTERS, :LETTERS] + 1
        frequencies = known.sum(axis=0) / known.sum()
        log_next = np.zeros((LETTERS + 1, LETTERS + 1))
        log_next[:LETTERS, :LETTERS] = np.log(known / known.sum(axis=1, keepdims=True))
        log_next[OTHER, :LETTERS] = np.log(frequencies)
        return cls(frequencies, log_next)


class SequenceSet:
    """Sequences, prepared to be scored with PPMs.

    Attributes
    ----------
    codes : uint8, shape (n, length), padded with `OTHER`
    background : of the sequences, or another
    """

    def __init__(self, codes: np.ndarray, background: Background | None = None):
        self.codes = codes
        self.background = background or Background.of(codes)
        padded = np.pad(codes, ((0, 0), (0, CHUNK - 1)), constant_values=OTHER)
        chunks = np.zeros(codes.shape, dtype=np.int16)
        for offset in range(CHUNK):
            chunks = chunks * np.int16(LETTERS + 1) + padded[:, offset : offset + codes.shape[1]]
        self._chunks = chunks
        before = np.pad(codes, ((0, 0), (1, 0)), constant_values=OTHER)[:, :-1]
        total = np.cumsum(self.background.log_next[before, codes], axis=1, dtype=np.float64)
        self._background_sums = np.pad(total, ((0, 0), (1, 0))).astype(np.float32)

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, rows: np.ndarray) -> SequenceSet:
        """Some of the sequences, with the same background."""
        return SequenceSet(self.codes[rows], self.background)

    def scores(self, ppm: np.ndarray) -> np.ndarray:
        """Log likelihood ratio of a site against the background, in nats.

        Parameters
        ----------
        ppm : positive probabilities, shape (width, 4), width at most the sequences' length

        Returns
        -------
        float32, shape (2, n, length - width + 1): forward and reverse strand, by the first base of the site on the
        forward strand; below `IMPOSSIBLE` / 2 where the sequence has an unknown letter
        """
        width = len(ppm)
        starts = self.codes.shape[1] - width + 1
        background = self._background_sums[:, width:] - self._background_sums[:, :-width]
        result = np.empty((2, len(self), starts), dtype=np.float32)
        for strand, matrix in enumerate((ppm, ppm[::-1, [1, 0, 3, 2]])):
            np.negative(background, out=result[strand])
            for first, table in _tables(np.log(matrix)):
                result[strand] += table[self._chunks[:, first : first + starts]]
        return result

    def best_scores(self, ppm: np.ndarray) -> np.ndarray:
        """Score of the best site in each sequence, shape (n,)."""
        return self.scores(ppm).max(axis=(0, 2))


def _tables(log_ppm: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """For every `CHUNK` columns, the first of them, and the sum of their values for each word of `CHUNK` letters."""
    tables = []
    for first in range(0, len(log_ppm), CHUNK):
        columns = log_ppm[first : first + CHUNK]
        table = np.zeros(1)
        for column in columns:
            table = (table[:, None] + np.append(column, IMPOSSIBLE)).ravel()
        tables.append((first, np.repeat(table, (LETTERS + 1) ** (CHUNK - len(columns))).astype(np.float32)))
    return tables


class SiteModel(NamedTuple):
    """A motif and how frequent it is.

    Attributes
    ----------
    ppm : probabilities, shape (width, 4)
    fraction : of the sequences that have a site
    """

    ppm: np.ndarray
    fraction: float

    def site_probabilities(self, sequences: SequenceSet) -> np.ndarray:
        """Probability that the site of a sequence lies here, shape as `SequenceSet.scores`."""
        ratios = self._ratios(sequences)
        return ratios / (1 - self.fraction + ratios.sum(axis=(0, 2)))[:, None].astype(np.float32)

    def log_likelihood(self, sequences: SequenceSet) -> float:
        """Mean log likelihood ratio of the sequences against the background, in nats."""
        return float(np.log(1 - self.fraction + self._ratios(sequences).sum(axis=(0, 2))).mean())

    def _ratios(self, sequences: SequenceSet) -> np.ndarray:
        """Likelihood ratio of each site times its probability before the sequence is known."""
        scores = sequences.scores(self.ppm)
        possible = np.maximum(1, (scores > IMPOSSIBLE / 2).sum(axis=(0, 2)))
        return np.exp(np.minimum(scores, HIGHEST)) * (self.fraction / possible)[:, None].astype(np.float32)


def fit_sites(sequences: SequenceSet, start: SiteModel) -> SiteModel:
    """Expectation-maximisation from a first motif, whose width stays."""
    model = start
    width = len(model.ppm)
    for iteration in range(ITERATIONS):
        found = model.site_probabilities(sequences)
        margin = width // 2 if iteration in SHIFTS else 0
        counts = site_counts(sequences.codes, found, width, margin)
        probs = counts + PSEUDOCOUNT * sequences.background.frequencies
        probs /= probs.sum(axis=1, keepdims=True)
        if margin:
            information = (probs * np.log(probs / sequences.background.frequencies)).sum(axis=1)
            first = int(np.convolve(information, np.ones(width), "valid").argmax())
            probs = probs[first : first + width]
        fraction = float(np.clip(found.sum() / len(sequences), 0.001, 0.999))
        change = np.abs(probs - model.ppm).max()
        model = SiteModel(probs, fraction)
        if change < CONVERGED and iteration > SHIFTS[-1]:
            break
    return model


def site_counts(codes: np.ndarray, found: np.ndarray, width: int, margin: int = 0) -> np.ndarray:
    """Letters at each position of the sites, weighted, and of `margin` bases on either side.

    Parameters
    ----------
    codes : uint8, shape (n, length)
    found : weights by strand, sequence and first base, see `SiteModel.site_probabilities`

    Returns
    -------
    float64, shape (width + 2 * margin, 4)
    """
    span = width + 2 * margin
    padded = np.pad(codes, ((0, 0), (margin, margin)), constant_values=OTHER)
    counts = np.zeros((span, LETTERS + 1))
    for strand, weights in enumerate(found):
        rows, starts = np.nonzero(weights > LEAST_WEIGHT)
        windows = padded[rows[:, None], starts[:, None] + np.arange(span)]
        if strand:
            windows = reverse_complement_codes(windows)
        keys = windows + np.arange(span) * (LETTERS + 1)
        repeated = np.repeat(weights[rows, starts].astype(np.float64), span)
        counts += np.bincount(keys.ravel(), weights=repeated, minlength=counts.size).reshape(counts.shape)
    return counts[:, :LETTERS]
