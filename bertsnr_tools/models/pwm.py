"""Known matrices in the place of a model: the Matching baseline. This module alone imports lightmotif."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from ..errors import UsageError
from ..io.motif_files import BASES, Motif
from ..sequence.encoding import SPECIAL, bases_from_tokens, vocabulary
from .interface import InferenceFunction, ModelInfo

DEFAULT_P = 1e-4  # of a match, below which it is called; FIMO's
GRID = 512  # scores between which p-values are interpolated
_LETTER = np.full(len(vocabulary(1)), ord("N"), dtype=np.uint8)  # token id to letter
_LETTER[len(SPECIAL) :] = [ord(word) for word in vocabulary(1)[len(SPECIAL) :]]


class PwmModel(nn.Module):
    """A PWM in the place of a `SiteModel`: k is 1, its tokens are the bases.

    With x = -log10 p of a match, the probability of all its bases is x / (4 + x), so that it is 0.5 at p = 1e-4; a base has the
    best match that covers it, a sequence the best of all. p is the share of random sequences, all letters equally frequent,
    that score as high. Like every model it reads one strand; what scans both turns the sequence.

    Raises
    ------
    UsageError : lightmotif is not installed.
    """

    def __init__(self, motif: Motif):
        super().__init__()
        try:
            import lightmotif
        except ImportError as error:
            raise UsageError("scanning with a matrix needs lightmotif: pip install 'bertsnr_tools[motifs]'") from error
        self._stripe = lightmotif.stripe
        self._pwm = lightmotif.ScoringMatrix(dict(zip(BASES, motif.log_odds.T.tolist())))
        self._scores = np.linspace(motif.log_odds.min(axis=1).sum(), motif.log_odds.max(axis=1).sum(), GRID)
        p = np.maximum([self._pwm.pvalue(score) for score in self._scores], 0.25**motif.width)
        self._logs = np.maximum.accumulate(-np.log10(p)) + np.linspace(1e-9, 1e-6, GRID)  # that no two scores are equal
        # a base that counts in a window is a quarter of it or more from its ends: every match that covers it is inside
        window = max(1000, 4 * motif.width)
        self.info = ModelInfo(
            motif.name or motif.id, 1, window, {"model_type": "matrix", "vocab_size": len(_LETTER)}, motif.width
        )
        self.replicas: list[Any] = []
        self.info.threshold = self.threshold("p", DEFAULT_P)

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As `SiteModel.forward`."""
        letters = _LETTER[ids[:, 1:-1].numpy()]
        count, length = letters.shape
        bases = np.full((count, length), -np.inf)
        width = self.info.site_width
        if length >= width:
            striped = self._pwm.calculate(self._stripe(letters.tobytes().decode()))
            scores = np.zeros(count * length)
            scores[: len(striped)] = np.asarray(striped).ravel()[: len(striped)]
            scores[: len(striped)][
                np.lib.stride_tricks.sliding_window_view(letters.ravel() == ord("N"), width).any(axis=1)
            ] = -np.inf
            # the last positions of a row reach into the next one
            bases = bases_from_tokens(self._logits(scores.reshape(count, length)[:, : length - width + 1]), width)
        logits = torch.from_numpy(bases)
        return logits.amax(dim=1), logits

    def inference_function(self, precision: str) -> InferenceFunction:
        """As `SiteModel.reader`."""
        return self

    def _logits(self, scores: np.ndarray) -> np.ndarray:
        return np.log(np.interp(scores, self._scores, self._logs) / -np.log10(DEFAULT_P))

    def threshold(self, kind: str, value: float) -> float:
        """The base probability just below that of a match with this p-value ("p") or this score in bits ("score"); 1 if no match has it."""
        score = self._pwm.score(value) if kind == "p" else value
        if score > self._scores[-1] + 1e-3:
            return 1.0
        return float(1 / (1 + np.exp(-self._logits(np.array(score - 1e-4)))))

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")
