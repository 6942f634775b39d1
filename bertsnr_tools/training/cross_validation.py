"""Cross-validation by locus."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from ..errors import UsageError
from ..evaluation import evaluate
from ..log import logger
from ..sequence.windows import Windows
from .checkpoint import Checkpoint
from .config import ModelDesign, Recipe
from .data import Parts, TrainingInputs, shuffled_negatives, split_data, split_parts
from .fit import fit


def cross_validate(
    name: str,
    design: ModelDesign,
    recipe: Recipe,
    inputs: TrainingInputs,
    folds: int,
    device: torch.device,
    checkpoint: Checkpoint,
) -> list[dict[str, Any]]:
    """Train on all folds but one and test on that one, for each fold in turn; a locus is in one fold.

    Returns
    -------
    for each fold: its number, the number of its test windows, and the six metrics on them

    Raises
    ------
    UsageError : fewer loci than folds.
    """
    recipe = replace(recipe, val_chroms=())
    parts = split_parts(inputs, folds, recipe.seed)
    found = len(set(parts.positives.tolist()))
    if found < folds:
        raise UsageError(f"--folds {folds}: the positive windows cover only {found} loci")
    for fold in range(len(checkpoint.folds), folds):
        logger.info("fold %d of %d", fold + 1, folds)
        rest = inputs.select(Parts(*(part != fold for part in parts)))
        held = inputs.select(Parts(*(part == fold for part in parts)))
        negatives = held.negatives or shuffled_negatives(held.positives, f"{recipe.seed} test")
        test = Windows.joined([held.positives, negatives])
        model = fit(name, design, recipe, split_data(rest, recipe), device, checkpoint).model
        metrics = evaluate(model, test, recipe.runtime(device))
        checkpoint.folds.append({"fold": fold + 1, "windows": len(test), **metrics})
        checkpoint.save(None)
        area = metrics["nucleotide"]["aupr"]
        logger.info("fold %d of %d: AUPR %.4f on %d windows", fold + 1, folds, area, len(test))
    return checkpoint.folds
