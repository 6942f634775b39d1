"""Training on two tasks at once (Luo et al. 2024, section 2.4): recipe, validation, checkpoints, cross-validation."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..errors import UsageError
from ..evaluate import evaluate
from ..log import logger
from ..sequence.windows import Windows
from .checkpoint import Checkpoint
from .config import ModelDesign, Recipe
from .data import shuffled_negatives, split_data, split_parts
from .fit import fit


def cross_validate(
    name: str,
    design: ModelDesign,
    recipe: Recipe,
    positives: Windows,
    negatives: Windows | None,
    natural: Windows | None,
    folds: int,
    share: float,
    device: torch.device,
    checkpoint: Checkpoint,
) -> list[dict[str, Any]]:
    """Train on all folds but one and test on that one, for each fold in turn; folds are made of loci.

    Returns
    -------
    for each fold: its number, the windows in its test part, and the six metrics on them
    """
    head, tail, own = split_parts(positives, negatives, natural, folds, recipe.seed)
    if len(set(head.tolist())) < folds:
        raise UsageError(f"the positive windows lie at {len(set(head.tolist()))} loci, too few for {folds} folds")
    for fold in range(len(checkpoint.folds), folds):
        logger.info("fold %d of %d", fold + 1, folds)
        rest = positives.take(np.nonzero(head != fold)[0])
        others = (
            windows and windows.take(np.nonzero(where != fold)[0])
            for windows, where in ((negatives, tail), (natural, own))
        )
        data = split_data(rest, next(others), set(), share, recipe.seed, next(others), recipe.natural)
        held = positives.take(np.nonzero(head == fold)[0])
        against = (
            negatives.take(np.nonzero(tail == fold)[0])
            if negatives
            else shuffled_negatives(held, f"{recipe.seed} test")
        )
        test = Windows.joined([held, against])
        model = fit(name, design, recipe, data, device, checkpoint).model
        checkpoint.folds.append(
            {"fold": fold + 1, "windows": len(test), **evaluate(model, test, recipe.runtime(device))}
        )
        checkpoint.save(None)
        logger.info(
            "fold %d of %d: AUPR %.4f on %d windows",
            fold + 1,
            folds,
            checkpoint.folds[-1]["nucleotide"]["aupr"],
            len(test),
        )
    return checkpoint.folds
