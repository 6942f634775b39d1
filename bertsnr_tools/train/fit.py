"""Training on two tasks at once (Luo et al. 2024, section 2.4): recipe, validation, checkpoints, cross-validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from ..evaluate import evaluate
from ..log import logger, progress
from ..metrics import aupr
from ..models.batching import token_probabilities
from ..models.bertsnr import BertSNR, token_ids
from ..models.device import autocast
from ..models.interface import InferenceFunction
from ..predict.significance import MIN_BACKGROUND, NullDistribution, window_call_levels
from ..sequence.encoding import bases_from_tokens, token_labels
from ..sequence.windows import Windows, loci
from .checkpoint import Checkpoint
from .config import ModelDesign, Recipe
from .data import TrainingData, hard_negatives, seed_of


def teacher_targets(teachers: Sequence[InferenceFunction], ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities of both tasks, (B,) and (B, T), of the mean log odds of several models: so many in one (Hinton et al. 2015)."""
    with torch.no_grad():
        answers = [read(ids) for read in teachers]
        return tuple(torch.stack(logits).mean(dim=0).sigmoid() for logits in zip(*answers))  # type: ignore[return-value]


class Result(NamedTuple):
    """A trained model, its epochs, and its base probabilities on the validation windows, shape (n, window)."""

    model: BertSNR
    history: list[dict[str, float]]
    scores: np.ndarray


def fit(
    name: str, design: ModelDesign, recipe: Recipe, data: TrainingData, device: torch.device, checkpoint: Checkpoint
) -> Result:
    """Train one model; the weights kept are those of the epoch with the best validation AUPR over bases.

    After every epoch the checkpoint is written; a run that goes on from it gives the model of an unbroken run, because every
    epoch draws its random numbers from the seed and its own number.
    """
    torch.manual_seed(seed_of(recipe.seed, "weights"))
    model = design.model(design.info(name, data.positives)).to(device)
    average = {name: value.detach().clone() for name, value in model.state_dict().items()}
    optimizer = _optimizer(model, recipe)
    history: list[dict[str, float]] = []
    best: dict[str, Any] = {"aupr": -1.0, "epoch": 0, "weights": average}
    if checkpoint.fit:
        model.load_state_dict(checkpoint.fit["model"])
        optimizer.load_state_dict(checkpoint.fit["optimizer"])
        average, history, best = checkpoint.fit["average"], checkpoint.fit["history"], checkpoint.fit["best"]
        average = {name: value.to(device) for name, value in average.items()}
    while len(history) < recipe.epochs and len(history) - best["epoch"] < recipe.patience:
        number = len(history)
        windows = data.epoch(number, recipe)
        loss = _train_epoch(model, average, optimizer, recipe, windows, number, data.teachers)
        scores, measured = _validate(model, average, recipe, data.validation)
        history.append({"epoch": number + 1, "loss": loss, **measured})
        if measured["aupr"] > best["aupr"]:
            best = {
                "aupr": measured["aupr"],
                "epoch": number + 1,
                "weights": {name: value.cpu().clone() for name, value in average.items()},
            }
        note = " (best)" if best["epoch"] == number + 1 else ""
        logger.info(
            "epoch %d of %d: loss %.4f, validation loss %.4f, AUPR %.4f%s",
            number + 1,
            recipe.epochs,
            loss,
            measured["validation_loss"],
            measured["aupr"],
            note,
        )
        checkpoint.save(
            {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "average": average,
                "history": history,
                "best": best,
            }
        )
    scores, _ = _validate(
        model, {name: value.to(device) for name, value in best["weights"].items()}, recipe, data.validation
    )
    model.load_state_dict(best["weights"])
    return Result(model.eval(), history, scores)


def _optimizer(model: BertSNR, recipe: Recipe) -> torch.optim.Optimizer:
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},  # biases and norms
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)


def _learning_rate(recipe: Recipe, done: float) -> float:
    """Learning rate when a share `done` of all steps is behind."""
    return recipe.learning_rate * min(done / recipe.warmup if recipe.warmup else 1.0, (1 - done) / (1 - recipe.warmup))


def _train_epoch(
    model: BertSNR,
    average: dict[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    windows: Windows,
    number: int,
    teachers: Sequence[BertSNR],
) -> float:
    """One pass over the windows; updates the model and its moving average in place, returns the mean loss."""
    device, k = model.device, model.info.k
    torch.manual_seed(seed_of(recipe.seed, "dropout", number))
    order = np.random.default_rng([recipe.seed, 2, number]).permutation(len(windows))
    steps = -(-len(windows) // recipe.batch_size)
    model.train()
    model.use_training_attention(True)
    total = torch.zeros((), device=device)
    readers = [teacher.inference_function(recipe.precision) for teacher in teachers]
    with progress(f"epoch {number + 1}", len(windows), "windows") as bar:
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = _learning_rate(recipe, (number + (step + 1) / steps) / recipe.epochs)
            index = order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
            ids = token_ids(windows.codes[index], k).to(device)
            with autocast(device, recipe.precision):
                sequence_logits, token_logits = model(ids)
                if readers:
                    positive, tokens = teacher_targets(readers, ids)
                else:
                    positive = torch.from_numpy(windows.labels[index].any(axis=1)).to(device).float()
                    tokens = torch.from_numpy(token_labels(windows.labels[index], k)).to(device).float()
            loss = recipe.task_weight * binary_cross_entropy_with_logits(sequence_logits, positive)
            loss = loss + (1 - recipe.task_weight) * binary_cross_entropy_with_logits(token_logits, tokens)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(index)
            if recipe.average or step + 1 == steps:
                # early on, the average forgets fast: the first weights are noise
                factor = min(recipe.average, (number * steps + step + 1) / (number * steps + step + 10))
                for name, value in model.state_dict().items():
                    average[name].lerp_(value, 1 - factor) if value.is_floating_point() else average[name].copy_(value)
            bar.advance(len(index))
    model.use_training_attention(False)
    return float(total) / len(windows)


def _validate(
    model: BertSNR, weights: dict[str, torch.Tensor], recipe: Recipe, windows: Windows
) -> tuple[np.ndarray, dict[str, float]]:
    """Base probabilities with these weights, shape (n, window), and loss and AUPR; the model's own weights stay."""
    own = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(weights)
    sequences, tokens = token_probabilities(model, windows.codes, recipe.runtime(model.device))
    model.load_state_dict(own)
    token_loss = _cross_entropy(tokens, token_labels(windows.labels, model.info.k))
    loss = recipe.task_weight * _cross_entropy(sequences, windows.positive) + (1 - recipe.task_weight) * token_loss
    bases = bases_from_tokens(tokens, model.info.k)
    return bases, {"validation_loss": loss, "aupr": aupr(windows.labels.ravel(), bases.ravel())}


def _cross_entropy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    right = np.where(labels, probabilities, 1 - probabilities.astype(np.float64))
    return float(-np.log(np.maximum(right, 1e-12)).mean())


def train(
    name: str,
    design: ModelDesign,
    recipe: Recipe,
    data: TrainingData,
    device: torch.device,
    checkpoint: Checkpoint,
    sources: dict[str, Any],
) -> Result:
    """Train the model that is kept and write into its description how it came about.

    Parameters
    ----------
    sources : where the data came from, for the model's metadata
    """
    if recipe.hard and data.natural and checkpoint.hard is None:
        judges = data.teachers or [fit(name, design, recipe, data, device, checkpoint).model]
        checkpoint.hard = hard_negatives(judges, data.natural, len(data.positives), recipe.runtime(device))
        logger.info("training in every epoch against the %d natural windows that score highest", len(checkpoint.hard))
        checkpoint.save(None)
    result = fit(name, design, recipe, data._replace(hard=checkpoint.hard), device, checkpoint)
    chroms = sorted(set(loci(data.positives)[1]) - {""})
    others = {kind: len(part) for kind, part in (("natural", data.natural), ("hard", checkpoint.hard)) if part}
    counts = {
        "chroms": chroms,
        "positives": len(data.positives),
        "negatives": len(data.negatives or data.positives),
        **others,
        "validation": len(data.validation),
    }
    metrics = evaluate(result.model, data.validation, recipe.runtime(device))
    result.model.info.training = {
        "data": {**sources, **counts},
        "recipe": asdict(recipe),
        "epochs": len(result.history),
        "validation": metrics,
    }
    if data.null and len(data.null) >= MIN_BACKGROUND:
        seen = window_call_levels(result.model, data.null, recipe.runtime(device))
        result.model.info.null = NullDistribution.of(seen, data.null.codes.shape[1]).as_dict()
    elif data.null:
        logger.warning(
            "%d natural windows are left for p-values, %d are needed: the model has none",
            len(data.null),
            MIN_BACKGROUND,
        )
    return result
