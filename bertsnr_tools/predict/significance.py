"""What a score is worth: p-values against natural windows, and q-values over what was scanned."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import DataError, UsageError
from ..models.batching import base_probabilities
from ..models.bertsnr import BertSNR
from ..models.device import Runtime
from ..models.interface import ModelInfo
from ..models.pwm import DEFAULT_P, PwmModel
from ..sequence.encoding import reverse_complement_codes
from ..sequence.windows import Windows
from .calling import MAX_GAP, call_levels, min_site_length

TAIL_SCORES = 200  # the highest scores, through which the tail is drawn
KNOTS = 400
MIN_BACKGROUND = 1000  # natural windows, below which there are no p-values


def window_call_levels(model: BertSNR, windows: Windows, runtime: Runtime, both_strands: bool = True) -> np.ndarray:
    """The threshold up to which each window would hold a called site, shape (n,); without `both_strands`, in its own direction."""
    info = model.info
    shortest = min_site_length(info.site_width, info.k)
    best = np.zeros(len(windows), dtype=np.float32)
    for first in range(0, len(windows), 8192):
        codes = windows.codes[first : first + 8192]
        for strand in (codes, reverse_complement_codes(codes)) if both_strands else (codes,):
            heights = call_levels(base_probabilities(model, strand, runtime), shortest, MAX_GAP).max(axis=1)
            best[first : first + 8192] = np.maximum(best[first : first + 8192], heights)
    return best


def log_odds(probability: np.ndarray) -> np.ndarray:
    """Natural logarithm of p / (1 - p), in float64; finite, because 0 and 1 are moved by less than float32 can tell."""
    probability = np.clip(np.asarray(probability, dtype=np.float64), 1e-12, 1 - 3e-8)
    return np.log(probability) - np.log1p(-probability)


class NullDistribution:
    """How high natural windows score, and so the p-value of a score: the share of natural windows, both strands read, that
    hold a site which scores as high.

    Up to the `TAIL` highest scores it is counted; beyond, log p falls along a line, as the excess of these scores over the
    lowest of them says (an exponential tail).

    Attributes
    ----------
    windows, width : how many they were, and their bases
    scores, logs : log odds in rising order, and -log10 p there, both shape (n,)
    """

    def __init__(self, windows: int, width: int, scores: np.ndarray, logs: np.ndarray):
        self.windows, self.width, self.scores, self.logs = windows, width, scores, logs

    @classmethod
    def of(cls, call_levels: np.ndarray, width: int) -> NullDistribution:
        """From `window_peaks` of natural windows, at least `MIN_BACKGROUND`, that the model was not trained on."""
        count = len(call_levels)
        falling = np.sort(log_odds(call_levels))[::-1]
        tail = min(TAIL_SCORES, count // 10)
        ranks = np.unique(np.geomspace(tail, count, KNOTS).round().astype(int))[::-1]
        scores = falling[ranks - 1]
        logs = -np.log10(ranks / count)
        excess = max(float((falling[:tail] - falling[tail - 1]).mean()), 1e-3)
        far = scores[-1] + 100.0
        scores, logs = np.append(scores, far), np.append(logs, logs[-1] + 100.0 / excess / np.log(10))
        keep = np.append(True, np.diff(scores) > 0)  # of equal scores, the first has all of them at or above it
        return cls(count, width, scores[keep], logs[keep])

    def logs_of(self, call_levels: np.ndarray) -> np.ndarray:
        """-log10 p of sites with these values of `Site.peak`."""
        return np.interp(log_odds(call_levels), self.scores, self.logs)

    def threshold(self, p: float) -> float:
        """The `Site.peak` whose p-value this is."""
        score = float(np.interp(-np.log10(p), self.logs, self.scores))
        return float(1 / (1 + np.exp(-score)))

    def n_tests(self, bases: int) -> float:
        """In how many windows so many scanned bases are."""
        return bases / self.width

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for the model file."""
        return {
            "windows": self.windows,
            "width": self.width,
            "scores": self.scores.tolist(),
            "logs": self.logs.tolist(),
        }

    @classmethod
    def from_info(cls, info: ModelInfo, path: str | None = None) -> NullDistribution:
        """From a model's description.

        Raises
        ------
        UsageError : the model has none.
        DataError : what it has makes no sense.
        """
        if not info.null:
            if info.training.get("data", {}).get("natural"):
                raise UsageError(
                    f"{info.name} has no p-values: fewer than {MIN_BACKGROUND:,} natural windows were left for them; train it with -f or --background on more sequence"
                )
            raise UsageError(
                f"{info.name} was trained without natural windows, so p-values are not known: train it with -f or --background"
            )
        try:
            scores, logs = (np.array(info.null[key], dtype=float) for key in ("scores", "logs"))
            windows, width = int(info.null["windows"]), int(info.null["width"])
            if not (
                scores.ndim == 1
                and scores.shape == logs.shape
                and len(scores) > 1
                and np.all(np.diff(scores) > 0)
                and np.all(np.diff(logs) >= 0)
                and np.isfinite(scores).all()
                and np.isfinite(logs).all()
                and width > 0
            ):
                raise ValueError("not in rising order")
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"the background of model {info.name} cannot be used ({error})", path) from error
        return cls(windows, width, scores, logs)


class PwmNull:
    """The p-values of a matrix's matches, in the place of a `significance.Background`: a test is a position on a strand."""

    def __init__(self, matrix: PwmModel):
        self._matrix = matrix

    def neg_log10_p(self, call_levels: np.ndarray) -> np.ndarray:
        """-log10 p of matches with these probabilities."""
        levels = np.asarray(call_levels, dtype=np.float64)
        return -np.log10(DEFAULT_P) * levels / (1 - levels)

    def threshold(self, p: float) -> float:
        """As `Matrix.threshold`."""
        return self._matrix.threshold("p", p)

    def n_tests(self, bases: int) -> float:
        """At how many positions so many scanned bases are read, both strands together."""
        return 2 * bases


def null_of(model: Any) -> NullDistribution | PwmNull:
    """What turns a model's scores into p-values.

    Raises
    ------
    UsageError, DataError : as of `Background.from_info`.
    """
    return PwmNull(model) if isinstance(model, PwmModel) else NullDistribution.from_info(model.info)
