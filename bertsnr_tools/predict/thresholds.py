"""Thresholds: from what was asked for to the base probability above which a model calls."""

from __future__ import annotations

from typing import Any

from ..errors import UsageError
from ..log import logger
from ..models.pwm import DEFAULT_P, PwmModel
from .significance import null_of


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
    elif isinstance(model, PwmModel):
        cut = model.threshold(kind, value)
    else:
        raise UsageError(f"-t {kind}={value:g} is for matrices; {model.info.name} needs a probability or a p-value")
    if cut == 1:
        wanted = f"{kind}={value:g}" if asked else f"p={DEFAULT_P:g}"
        logger.warning("%s: even the best match does not reach %s, nothing will be called", model.info.name, wanted)
    return cut
