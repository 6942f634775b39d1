"""Thresholds: which bases and sites a model calls (`CallingRule`), by default or for a probability, p, q or score."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import UsageError
from ..log import logger
from ..models.interface import Model
from ..models.many_factor import shared_model
from ..models.pwm import DEFAULT_P, PwmModel
from .significance import null_of
from .threshold_text import Threshold, read_threshold

FACTOR_P = 0.01  # per background window: one site of a factor in about 10 kb


@dataclass(frozen=True)
class CallingRule:
    """Which bases and sites of a model are called.

    Attributes
    ----------
    base_threshold : bases with a probability above it are called
    min_call_level : sites are kept only with a call level above it, see `calling.Site`
    max_q : sites are kept only with a q-value of at most this, once everything is scanned
    """

    base_threshold: float
    min_call_level: float = 0.0
    max_q: float = 1.0

    @classmethod
    def for_model(cls, model: Model, threshold: Threshold | None = None) -> CallingRule:
        """The rule for a model and a threshold; None is the model's default, `model.info.threshold`.

        By default, a factor of a many-factor model that has a null distribution is called with p below `FACTOR_P`: at
        the threshold of a single model, hundreds of factors would cover the sequence with sites.

        * a probability: call bases above it.
        * p: call sites with a p-value below it. A lower p-value does not make sites narrower: bases are called at the
          default threshold, or at a lower one if p admits more sites.
        * q: like p, because sites with q below a value are among those with p below it; other sites are dropped once q
          is known.
        * score: call matches of a PWM above it, in bits.

        For a PWM, p calls the bases of matches with a p-value below it, and q starts from the default threshold:
        matches at a p-value as high as q would merge.

        Raises
        ------
        UsageError : see `base_threshold`.
        """
        if threshold is None and shared_model(model) and model.info.null:
            threshold = ("p", FACTOR_P)
        kind, value = threshold or ("", 0.0)
        max_q = value if kind == "q" else 1.0
        if isinstance(model, PwmModel):
            if kind == "q" and value < model.best_match.p:
                _warn_unreachable(model, f"q={value:g}")
            return cls(base_threshold(None if kind == "q" else threshold, model), max_q=max_q)
        if kind in ("p", "q"):
            level = base_threshold(("p", value), model)
            return cls(min(level, model.info.threshold), level, max_q)
        return cls(base_threshold(threshold, model))

    @property
    def lowest_call_level(self) -> float:
        """The call level above which a site is called."""
        return max(self.base_threshold, self.min_call_level)


def base_threshold(threshold: Threshold | None, model: Model) -> float:
    """The base probability above which a model calls.

    Parameters
    ----------
    threshold : a "probability" of bases, a "p" (see `significance.null_of`) or, for PWMs, a "score" in bits, and its
        value; None is the model's default

    Raises
    ------
    UsageError : a score for a model that is not a PWM, a p-value for a model without a null distribution, or a q-value.
    """
    kind, value = threshold or ("probability", model.info.threshold)
    if kind == "q":
        raise UsageError(f"threshold q={value:g}: q-values are known only after a scan; expected a probability or p=P")
    if kind == "probability":
        cut = value
    elif kind == "p":
        cut = null_of(model).threshold(value)
    elif isinstance(model, PwmModel):
        cut = model.threshold(kind, value)
    else:
        raise UsageError(f"-t {kind}={value:g}: {model.info.name} is not a PWM; expected a probability or p=P")
    if cut >= (model.best_match.probability if isinstance(model, PwmModel) else 1):
        _warn_unreachable(model, f"{kind}={value:g}" if threshold else f"p={DEFAULT_P:g}")
    return cut


def _warn_unreachable(model: Model, wanted: str) -> None:
    limit = ""
    if isinstance(model, PwmModel):
        best, width = model.best_match, model.info.site_width
        limit = f" (its best match, {width} bp, has p={best.p:.2g}, score={best.score:.4g})"
    logger.warning(
        "%s: no sequence can reach %s%s; nothing will be called, use another -t", model.info.name, wanted, limit
    )


def parse_threshold(text: str | float | None) -> Threshold | None:
    """A threshold as text: 0.9 (a probability), "p=1e-4", "q=0.05" or "score=12"; None is the model's default.

    Raises
    ------
    UsageError : another kind, or a number out of range.
    """
    try:
        return None if text is None else read_threshold(str(text))
    except ValueError as error:
        raise UsageError(f"threshold {error}") from error
