"""Thresholds as text, such as p=1e-4: of the command line, which reads them before torch is imported, and of Python."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, nan

Threshold = tuple[str, float]  # kind ("probability", "p", "q" or "score") and value
KINDS = "p", "q", "score"


def read_threshold(text: str, kinds: Sequence[str] = KINDS) -> Threshold:
    """A probability, such as 0.9, or one of `kinds`, = and a number.

    Raises
    ------
    ValueError : another kind, or a number out of range.
    """
    kind, equals, number = text.rpartition("=")
    try:
        value = float(number)
    except ValueError:
        value = nan
    known = kind in kinds if equals else True
    if known and (isfinite(value) if kind == "score" else 0 < value < 1):
        return kind or "probability", value
    forms = ", ".join(["P", *(f"{kind}={kind.upper()}" for kind in kinds if kind != "score")])
    raise ValueError(f"{text!r}: expected {forms} (numbers between 0 and 1) or score=BITS")
