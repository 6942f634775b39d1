"""Known matrices in the place of a model: the Matching baseline. This module alone imports lightmotif."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from .errors import UsageError
from .kmers import SPECIAL, base_scores, vocabulary
from .log import logger
from .model import ModelInfo, Reader, find_model, load_model
from .motifs import LETTERS, Motif, is_motif_file, read_motifs
from .significance import Background

P_VALUE = 1e-4  # of a match, below which it is called; FIMO's
GRID = 512  # scores between which p-values are interpolated
_LETTER = np.full(len(vocabulary(1)), ord("N"), dtype=np.uint8)  # token id to letter
_LETTER[len(SPECIAL) :] = [ord(word) for word in vocabulary(1)[len(SPECIAL) :]]


class Matrix(nn.Module):
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
        self._pwm = lightmotif.ScoringMatrix(dict(zip(LETTERS, motif.log_odds.T.tolist())))
        self._scores = np.linspace(motif.log_odds.min(axis=1).sum(), motif.log_odds.max(axis=1).sum(), GRID)
        p = np.maximum([self._pwm.pvalue(score) for score in self._scores], 0.25**motif.width)
        self._logs = np.maximum.accumulate(-np.log10(p)) + np.linspace(1e-9, 1e-6, GRID)  # that no two scores are equal
        # a base that counts in a window is a quarter of it or more from its ends: every match that covers it is inside
        window = max(1000, 4 * motif.width)
        self.info = ModelInfo(motif.name or motif.id, 1, window, {"model_type": "matrix", "vocab_size": len(_LETTER)}, motif.width)
        self.copies: list[Any] = []
        self.info.threshold = self.threshold("p", P_VALUE)

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
            scores[: len(striped)][np.lib.stride_tricks.sliding_window_view(letters.ravel() == ord("N"), width).any(axis=1)] = -np.inf
            # the last positions of a row reach into the next one
            bases = base_scores(self._logits(scores.reshape(count, length)[:, : length - width + 1]), width)
        logits = torch.from_numpy(bases)
        return logits.amax(dim=1), logits

    def reader(self, precision: str) -> Reader:
        """As `SiteModel.reader`."""
        return self

    def _logits(self, scores: np.ndarray) -> np.ndarray:
        return np.log(np.interp(scores, self._scores, self._logs) / -np.log10(P_VALUE))

    def threshold(self, kind: str, value: float) -> float:
        """The base probability just below that of a match with this p-value ("p") or this score in bits ("score"); 1 if no match has it."""
        score = self._pwm.score(value) if kind == "p" else value
        if score > self._scores[-1] + 1e-3:
            return 1.0
        return float(1 / (1 + np.exp(-self._logits(np.array(score - 1e-4)))))

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")


class Matches:
    """The p-values of a matrix's matches, in the place of a `significance.Background`: a test is a position on a strand."""

    def __init__(self, matrix: Matrix):
        self._matrix = matrix

    def logs_of(self, peaks: np.ndarray) -> np.ndarray:
        """-log10 p of matches with these probabilities."""
        peaks = np.asarray(peaks, dtype=np.float64)
        return -np.log10(P_VALUE) * peaks / (1 - peaks)

    def threshold(self, p: float) -> float:
        """As `Matrix.threshold`."""
        return self._matrix.threshold("p", p)

    def tests(self, bases: int) -> float:
        """At how many positions so many scanned bases are read, both strands together."""
        return 2 * bases


def null_of(model: Any) -> Background | Matches:
    """What turns a model's scores into p-values.

    Raises
    ------
    UsageError, DataError : as of `Background.from_info`.
    """
    return Matches(model) if isinstance(model, Matrix) else Background.from_info(model.info)


def load_models(names: Sequence[str], device: torch.device, *others: torch.device) -> list[Any]:
    """The models of several `-m`: model files, names of shipped models, and MEME or JASPAR files, of which every motif is one.

    On `others`, models have copies.

    Raises
    ------
    DataError : as of `model.find_model`, `model.load_model` and `motifs.read_motifs`.
    """
    models: list[Any] = []
    for name in names:
        path = find_model(name)
        if is_motif_file(path):
            models += [Matrix(motif) for motif in read_motifs(path)]
        else:
            models.append(load_model(path, device))
            models[-1].copies = [load_model(path, other) for other in others]
    return models


def base_threshold(asked: tuple[str, float] | None, model: Any) -> float:
    """The base probability above which a model calls.

    Parameters
    ----------
    asked : a "probability" of bases, a "p" as of `null_of`, or for matrices the "score" of a match in bits, and its value;
        None is the model's own

    Raises
    ------
    UsageError : a score for a model that is no matrix, or a p-value for one that knows none.
    """
    kind, value = asked or ("probability", model.info.threshold)
    if kind == "probability":
        cut = value
    elif kind == "p":
        cut = null_of(model).threshold(value)
    elif isinstance(model, Matrix):
        cut = model.threshold(kind, value)
    else:
        raise UsageError(f"-t {kind}={value:g} is for matrices; {model.info.name} needs a probability or a p-value")
    if cut == 1:
        wanted = f"{kind}={value:g}" if asked else f"p={P_VALUE:g}"
        logger.warning("%s: even the best match does not reach %s, nothing will be called", model.info.name, wanted)
    return cut
