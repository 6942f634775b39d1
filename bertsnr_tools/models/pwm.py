"""A PWM as a model: the paper's Matching baseline. This module alone imports lightmotif."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from ..errors import UsageError
from ..io.motif import BASES, Motif
from ..sequence.encoding import SPECIAL, bases_from_tokens, vocabulary
from .interface import InferenceFunction, Model, ModelInfo
from .prefilter_network import PrefilterNetwork

DEFAULT_P = 1e-4  # p-value up to which a match is called; FIMO's default
EXACT_SCORES = 1 << 14  # distinct scores, the highest, of which the distribution is exact
GRID = 1 << 14  # scores to which all others are rounded
MIN_P = 1e-300  # wide matrices have lower p-values, which a float64 cannot represent
SAME_SCORE = 1e-9  # bits; sums that differ by less are rounding errors of one score
_LETTER = np.full(len(vocabulary(1)), ord("N"), dtype=np.uint8)  # token id to letter
_LETTER[len(SPECIAL) :] = [ord(word) for word in vocabulary(1)[len(SPECIAL) :]]


class BestMatch(NamedTuple):
    """The highest score of a PWM in bits, with its p-value and base probability."""

    score: float
    p: float
    probability: float


class PwmModel(nn.Module):
    """The PWM of a motif as a `Model`: k is 1, its tokens are the bases.

    The PWM has the log2 odds of the motif's PFM against equally frequent bases. The p-value of a match is the fraction
    of random sequences of its width, all bases equally frequent, with at least its score, see `score_distribution`.
    With x = -log10 p, the match has the probability x / (4 + x), which is 0.5 at p = 1e-4. A base has the probability
    of the best match that covers it, and a sequence the probability of its best match. Matches are on the strand given.

    Parameters
    ----------
    motif : a motif with counts (PFM)

    Raises
    ------
    UsageError : lightmotif is not installed.
    """

    def __init__(self, motif: Motif):
        super().__init__()
        try:
            import lightmotif
        except ImportError as error:
            raise UsageError("scanning with a PWM requires lightmotif; pip install 'bertsnr_tools[motifs]'") from error
        self._motif, self._stripe = motif, lightmotif.stripe
        self._lowest = float(motif.log_odds.min(axis=1).sum())
        digits, self._base, self._unit = _two_digits(motif.log_odds)
        self._pwms = [lightmotif.ScoringMatrix(dict(zip(BASES, digit.T.tolist()))) for digit in digits]
        self._scores, p = score_distribution(motif.log_odds)
        self._neg_log10_p = -np.log10(p)
        # the core interval lies a quarter of the window or more from its ends: matches that cover its bases are inside
        window = max(1000, 4 * motif.width)
        encoder = {"model_type": "matrix", "vocab_size": len(_LETTER)}
        self.info = ModelInfo(motif.label, 1, window, encoder, motif.width, matrix=motif.id)
        self.prefilter: PrefilterNetwork | None = None
        self.replicas: list[Model] = []
        self.info.threshold = self.threshold("p", DEFAULT_P)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (self._motif, self.info)  # lightmotif's matrices cannot be pickled

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As `BertSNR.forward`, in float64."""
        letters = _LETTER[ids[:, 1:-1].numpy()]
        bases = np.full(letters.shape, -np.inf)
        width = self.info.site_width
        if letters.shape[1] >= width:
            bases = bases_from_tokens(self._logits(self._match_scores(letters)), width)
        logits = torch.from_numpy(bases)
        return logits.amax(dim=1), logits

    def _match_scores(self, letters: np.ndarray) -> np.ndarray:
        """Score in bits of the match at each start, shape (B, L - width + 1); minus infinity if it has an N."""
        count, length = letters.shape
        width = self.info.site_width
        striped = self._stripe(letters.tobytes().decode())  # all rows end to end
        high, low = (np.asarray(pwm.calculate(striped)).ravel() for pwm in self._pwms)
        scores = np.zeros(count * length)
        matches = scores[: count * length - width + 1]
        matches[:] = self._lowest
        matches += (high[: len(matches)] * float(self._base) + low[: len(matches)]) * self._unit
        matches[np.lib.stride_tricks.sliding_window_view(letters.ravel() == ord("N"), width).any(axis=1)] = -np.inf
        return scores.reshape(count, length)[:, : length - width + 1]  # the last positions of a row reach into the next

    def inference_function(self, precision: str) -> InferenceFunction:
        """`forward`, whatever the precision."""
        return self

    def _logits(self, scores: np.ndarray) -> np.ndarray:
        x = np.interp(scores, self._scores, self._neg_log10_p)
        return np.log(np.maximum(x, 1e-9) / -np.log10(DEFAULT_P))  # finite, also for minus infinity

    def threshold(self, kind: str, value: float) -> float:
        """The base probability just below a match with this p-value or score; 1 if no match reaches it.

        Parameters
        ----------
        kind : "p", or "score" in bits
        """
        if kind == "p":
            if value < self.best_match.p * (1 - 1e-9):
                return 1.0
            x = -np.log10(value)
        else:
            if value > self._scores[-1] + 1e-3:
                return 1.0
            x = -np.log10(DEFAULT_P) * np.exp(self._logits(np.array(value - 1e-4)))
        x *= 1 - 1e-6  # more than float32 rounds
        return float(x / (x - np.log10(DEFAULT_P)))

    @property
    def best_match(self) -> BestMatch:
        """The match of the highest score; no other sequence has a lower p-value."""
        x = float(self._neg_log10_p[-1])
        return BestMatch(float(self._scores[-1]), 10.0**-x, x / (x - np.log10(DEFAULT_P)))

    @property
    def device(self) -> torch.device:
        """Always the CPU."""
        return torch.device("cpu")


def _rebuilt(motif: Motif, info: ModelInfo) -> PwmModel:
    model = PwmModel(motif)
    model.info = info
    return model


def score_distribution(
    log_odds: np.ndarray, background: Sequence[float] = (0.25,) * 4
) -> tuple[np.ndarray, np.ndarray]:
    """The scores that words can have, and their p-values: the probability that a random word has at least that score.

    The distribution is built position by position. It is exact for the `EXACT_SCORES` highest scores: what precedes
    the last position of such a word is among the highest scores of the preceding positions. Lower scores are rounded to
    a grid.

    Parameters
    ----------
    log_odds : PWM, shape (width, 4)
    background : probability of each base in random words

    Returns
    -------
    scores, ascending, in the unit of `log_odds`, and p-values, both float64, shape (n,)
    """
    unit = np.ptp(log_odds, axis=1).sum() / GRID
    scores, probs = np.zeros(1), np.ones(1)
    for weights in log_odds:
        scores, probs = (scores + weights[:, None]).ravel(), np.multiply.outer(background, probs).ravel()
        scores, probs = _merge_equal(scores, probs)
        low = len(scores) - EXACT_SCORES
        if low > 0 and unit > 0:
            scores[:low] = np.minimum(np.rint(scores[:low] / unit) * unit, scores[low])
            scores, probs = _merge_equal(scores, probs)
    return scores, np.clip(np.cumsum(probs[::-1])[::-1], MIN_P, 1.0)


def _merge_equal(scores: np.ndarray, probs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sort scores, and add the probabilities of those that differ only by rounding errors."""
    order = np.argsort(scores, kind="stable")  # fast: scores are ascending runs
    scores, probs = scores[order], probs[order]
    first = np.nonzero(np.diff(scores, prepend=-np.inf) > SAME_SCORE)[0]
    return scores[first], np.add.reduceat(probs, first)


def _two_digits(log_odds: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], int, float]:
    """Log odds above the lowest at each position as whole numbers of two digits, whose sums float32 represents exactly.

    lightmotif adds float32, whose rounding errors would separate equal scores.

    Returns
    -------
    high and low digits, each of shape (width, 4); their base; and the unit in bits
    """
    base = 1 << (24 - len(log_odds).bit_length())
    above = log_odds - log_odds.min(axis=1, keepdims=True)
    unit = max(float(above.max(axis=1).sum()), 1.0) / (base * 2.0**23)
    high, low = np.divmod(np.rint(above / unit), base)
    return (high, low), base, unit
