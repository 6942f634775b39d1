"""A PWM as a model: the paper's Matching baseline. This module alone imports lightmotif."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ..errors import UsageError
from ..io.motif_files import BASES, Motif
from ..sequence.encoding import SPECIAL, bases_from_tokens, vocabulary
from .interface import InferenceFunction, Model, ModelInfo
from .prefilter_network import PrefilterNetwork

DEFAULT_P = 1e-4  # p-value up to which a match is called; FIMO's default
GRID = 512  # scores between which p-values are interpolated
_LETTER = np.full(len(vocabulary(1)), ord("N"), dtype=np.uint8)  # token id to letter
_LETTER[len(SPECIAL) :] = [ord(word) for word in vocabulary(1)[len(SPECIAL) :]]


class PwmModel(nn.Module):
    """The PWM of a motif as a `Model`: k is 1, its tokens are the bases.

    The PWM has the log2 odds of the motif's PFM against equally frequent bases. The p-value of a match is the fraction
    of random sequences of its width, all bases equally frequent, with at least its score. With x = -log10 p, the match
    has the probability x / (4 + x), which is 0.5 at p = 1e-4. A base has the probability of the best match that covers
    it, and a sequence the probability of its best match. Matches are on the strand given.

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
        self._stripe = lightmotif.stripe
        self._pwm = lightmotif.ScoringMatrix(dict(zip(BASES, motif.log_odds.T.tolist())))
        self._scores = np.linspace(motif.log_odds.min(axis=1).sum(), motif.log_odds.max(axis=1).sum(), GRID)
        p = np.maximum([self._pwm.pvalue(score) for score in self._scores], 0.25**motif.width)
        increasing = np.linspace(1e-9, 1e-6, GRID)  # so that no two scores have the same p-value
        self._neg_log10_p = np.maximum.accumulate(-np.log10(p)) + increasing
        # the core interval lies a quarter of the window or more from its ends: matches that cover its bases are inside
        window = max(1000, 4 * motif.width)
        encoder = {"model_type": "matrix", "vocab_size": len(_LETTER)}
        self.info = ModelInfo(motif.name or motif.id, 1, window, encoder, motif.width)
        self.prefilter: PrefilterNetwork | None = None
        self.replicas: list[Model] = []
        self.info.threshold = self.threshold("p", DEFAULT_P)

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
        striped = self._pwm.calculate(self._stripe(letters.tobytes().decode()))  # all rows end to end
        scores = np.zeros(count * length)
        matches = scores[: len(striped)]
        matches[:] = np.asarray(striped).ravel()[: len(striped)]
        matches[np.lib.stride_tricks.sliding_window_view(letters.ravel() == ord("N"), width).any(axis=1)] = -np.inf
        return scores.reshape(count, length)[:, : length - width + 1]  # the last positions of a row reach into the next

    def inference_function(self, precision: str) -> InferenceFunction:
        """`forward`, whatever the precision."""
        return self

    def _logits(self, scores: np.ndarray) -> np.ndarray:
        return np.log(np.interp(scores, self._scores, self._neg_log10_p) / -np.log10(DEFAULT_P))

    def threshold(self, kind: str, value: float) -> float:
        """The base probability just below a match with this p-value or score; 1 if no match reaches it.

        Parameters
        ----------
        kind : "p", or "score" in bits
        """
        score = self._pwm.score(value) if kind == "p" else value
        if score > self._scores[-1] + 1e-3:
            return 1.0
        return float(1 / (1 + np.exp(-self._logits(np.array(score - 1e-4)))))

    @property
    def device(self) -> torch.device:
        """Always the CPU."""
        return torch.device("cpu")
