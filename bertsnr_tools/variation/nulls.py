"""Null distribution of changes: random substitutions in genomic background (`ChangeNull`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import DataError
from ..models.interface import Model, ModelInfo
from ..predict.significance import fitted_curve, stored_curve

KNOTS = 60  # points of the null distribution that are kept
TAIL = 100  # highest changes, to which its tail is fitted


class ChangeNull:
    """Null distribution of the absolute change of log odds by random substitutions in background windows.

    The p-value of a change is the fraction of these substitutions that change the log odds by at least as much. Beyond
    the `TAIL` highest, the tail is exponential, fitted to their mean excess.

    Attributes
    ----------
    count : number of substitutions
    flank : see `scoring.VariantScorer`
    changes : absolute, ascending, shape (n,)
    neg_log10_ps : -log10 p at `changes`, shape (n,)
    """

    def __init__(self, count: int, flank: int, changes: np.ndarray, neg_log10_ps: np.ndarray):
        self.count, self.flank, self.changes, self.neg_log10_ps = count, flank, changes, neg_log10_ps

    @classmethod
    def fit(cls, changes: np.ndarray, flank: int) -> ChangeNull:
        """Fit to the changes of log odds by at least `TAIL` substitutions, shape (n,)."""
        count = len(changes)
        return cls(count, flank, *fitted_curve(np.abs(changes), min(TAIL, max(2, count // 10)), KNOTS))

    def p_values(self, changes: np.ndarray) -> np.ndarray:
        """p-values of changes of log odds, shape (n,)."""
        return 10.0 ** -np.interp(np.abs(changes), self.changes, self.neg_log10_ps)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for the model file."""
        return {
            "substitutions": self.count,
            "flank": self.flank,
            "changes": [round(value, 4) for value in self.changes.tolist()],
            "neg_log10_p": [round(value, 4) for value in self.neg_log10_ps.tolist()],
        }

    @classmethod
    def from_info(cls, info: ModelInfo) -> ChangeNull:
        """From the description in a model file.

        Raises
        ------
        DataError : its values are invalid.
        """
        stored = info.variant_null
        try:
            count, flank = int(stored["substitutions"]), int(stored["flank"])
            changes, neg_log10_ps = stored_curve(stored["changes"], stored["neg_log10_p"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"the null distribution of changes of model {info.name} is invalid ({error})") from error
        return cls(count, flank, changes, neg_log10_ps)


def stored_null(model: Model, flank: int) -> ChangeNull | None:
    """The null distribution in a model's file, for sites up to `flank` bases away; None when it has none for them."""
    null = ChangeNull.from_info(model.info) if model.info.variant_null else None
    return null if null and null.flank == flank else None
