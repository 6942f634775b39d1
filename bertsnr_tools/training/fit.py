"""The training loop: epochs, moving average, validation, early stopping (Luo et al. 2024, section 2.4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch

from ..log import logger, progress
from ..metrics import aupr
from ..models.batching import token_probabilities
from ..models.bertsnr import BertSNR
from ..models.cuda import device_token_ids
from ..models.device import autocast
from ..models.encoder import Encoder
from ..sequence.encoding import bases_from_tokens, token_labels
from ..sequence.windows import Windows
from .checkpoint import Checkpoint
from .config import ModelDesign, Recipe
from .data import TrainingData, seed_of
from .distillation import teacher_targets
from .optimization import (
    adamw,
    check_loss,
    compiled,
    optimizer_step,
    scheduled_rate,
    set_learning_rate,
    two_task_loss,
)
from .processes import agreed, share


class FitResult(NamedTuple):
    """A trained model.

    Attributes
    ----------
    model : with the weights of the best epoch
    history : for each epoch: epoch, loss, validation_loss, aupr
    scores : base probabilities of the validation windows, shape (n, window)
    """

    model: BertSNR
    history: list[dict[str, float]]
    scores: np.ndarray


def fit(
    name: str, design: ModelDesign, recipe: Recipe, data: TrainingData, device: torch.device, checkpoint: Checkpoint
) -> FitResult:
    """Train one model; the result has the weights of the epoch with the best validation AUPR over bases.

    The checkpoint is written after every epoch. A resumed run gives the same model as an uninterrupted one, because
    every epoch draws its random numbers from the seed and its own number.
    """
    torch.manual_seed(seed_of(recipe.seed, "weights"))
    model = design.model(design.info(name, data.positives)).to(device)
    steps = recipe.epochs * (data.epoch_size(recipe.background_ratio) // recipe.batch_size)
    trainer = Trainer(model, recipe, data.teachers, steps)
    history: list[dict[str, float]] = []
    best: dict[str, Any] = {"aupr": -1.0, "epoch": 0, "weights": trainer.average}
    if checkpoint.fit:
        trainer.load_state(checkpoint.fit)
        history, best = checkpoint.fit["history"], checkpoint.fit["best"]
    while len(history) < recipe.epochs and len(history) - best["epoch"] < recipe.patience:
        number = len(history)
        loss = check_loss(trainer.train_epoch(data.epoch(number, recipe), number), f"epoch {number + 1}")
        _, measured = validate(model, trainer.average, recipe, data.validation)
        measured = {key: agreed(value, device) for key, value in measured.items()}
        history.append({"epoch": number + 1, "loss": loss, **measured})
        if measured["aupr"] > best["aupr"]:
            weights = {key: value.cpu().clone() for key, value in trainer.average.items()}
            best = {"aupr": measured["aupr"], "epoch": number + 1, "weights": weights}
        checkpoint.save({**trainer.state(), "history": history, "best": best})
        _log_epoch(history[-1], recipe.epochs, best["epoch"])
    if len(history) < recipe.epochs:
        logger.info("no better epoch among the last %d; stopping", recipe.patience)
    weights = {key: value.to(device) for key, value in best["weights"].items()}
    scores, _ = validate(model, weights, recipe, data.validation)
    model.load_state_dict(best["weights"])
    return FitResult(model.eval(), history, scores)


def _log_epoch(row: dict[str, float], epochs: int, best: int) -> None:
    logger.info(
        "epoch %d of %d: loss %.4f, validation loss %.4f, AUPR %.4f%s",
        row["epoch"],
        epochs,
        row["loss"],
        row["validation_loss"],
        row["aupr"],
        " (best)" if best == row["epoch"] else "",
    )


class ModelState:
    """A model in training: its weights, their exponential moving average and the optimizer.

    Attributes
    ----------
    average : exponential moving average of the weights, by name
    """

    def __init__(self, model: Any, recipe: Recipe):
        self.model, self.recipe = model, recipe
        self.average = {name: value.detach().clone() for name, value in model.state_dict().items()}
        self._optimizer = adamw(model, recipe.learning_rate, recipe.weight_decay)

    def state(self) -> dict[str, Any]:
        """Tensors and plain values for a checkpoint."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "average": self.average,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from a `state`."""
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.average = {name: value.to(self.model.device) for name, value in state["average"].items()}

    def schedule(self, epoch: int, step: int, steps: int) -> None:
        """Set the learning rate for a step of an epoch, both from 0, that has this number of steps."""
        recipe, done = self.recipe, (epoch + (step + 1) / steps) / self.recipe.epochs
        set_learning_rate(self._optimizer, scheduled_rate(recipe.learning_rate, recipe.warmup, done))

    def average_decay(self, steps: int) -> float:
        """Decay of the average after this number of steps: low at first, because the first weights are noise."""
        return min(self.recipe.ema_decay, steps / (steps + 9))

    def update_average(self, steps: int) -> None:
        """Add the present weights, which are those after this number of steps, to the average."""
        averages, values = [], []
        for name, value in self.model.state_dict().items():
            if value.is_floating_point():
                averages.append(self.average[name])
                values.append(value)
            else:
                self.average[name].copy_(value)
        torch._foreach_lerp_(averages, values, 1 - self.average_decay(steps))


class Trainer(ModelState):
    """`ModelState` of a model of one factor, trained epoch by epoch.

    Parameters
    ----------
    teachers : models to distill, see `distillation.teacher_targets`
    steps : of the whole training, at least; see `optimization.compiled`
    """

    def __init__(self, model: BertSNR, recipe: Recipe, teachers: Sequence[BertSNR] = (), steps: int = 0):
        super().__init__(model, recipe)
        self._teachers = [teacher.inference_function(recipe.precision) for teacher in teachers]
        own_encoder = isinstance(getattr(model, "encoder", None), Encoder)
        self._full_loss = compiled(self._loss, model.device, steps) if own_encoder else self._loss

    def train_epoch(self, windows: Windows, number: int) -> float:
        """Pass over the windows once, in random order; update the weights and their average.

        Parameters
        ----------
        number : of the epoch, from 0

        Returns
        -------
        mean loss
        """
        recipe, model, device = self.recipe, self.model, self.model.device
        torch.manual_seed(seed_of(recipe.seed, "dropout", number))
        order = torch.from_numpy(np.random.default_rng([recipe.seed, 2, number]).permutation(len(windows))).to(device)
        steps = -(-len(windows) // recipe.batch_size)
        parts = windows.codes, windows.positive, token_labels(windows.labels, model.info.k)
        codes, *labels = (torch.from_numpy(part).to(device) for part in parts)
        model.train()
        total = torch.zeros((), device=device)
        with progress(f"epoch {number + 1}", len(windows), "windows") as bar:
            for step in range(steps):
                self.schedule(number, step, steps)
                batch = order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
                rows, weight = share(batch)
                chosen, *answers = (part[rows] for part in (codes, *labels))
                batch_loss = self._full_loss if len(batch) == recipe.batch_size else self._loss
                loss = batch_loss(chosen, *self._targets(chosen, *answers)) * weight
                total += loss.detach() * len(batch)
                optimizer_step(model, self._optimizer, loss)
                if recipe.ema_decay or step + 1 == steps:
                    self.update_average(number * steps + step + 1)
                bar.advance(len(batch))
        return agreed(float(total) / len(windows), device)

    def _targets(
        self, codes: torch.Tensor, sequence: torch.Tensor, token: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Of windows: the labels (B,) and (B, T), or the probabilities of the teachers."""
        if not self._teachers:
            return sequence, token
        with autocast(codes.device, self.recipe.precision):
            return teacher_targets(self._teachers, device_token_ids(codes, self.model.info.k))

    def _loss(self, codes: torch.Tensor, sequence: torch.Tensor, token: torch.Tensor) -> torch.Tensor:
        """Loss of windows, uint8 (B, L), with targets in [0, 1] of both tasks, (B,) and (B, T)."""
        with autocast(codes.device, self.recipe.precision):
            logits = self.model(device_token_ids(codes, self.model.info.k))
        return two_task_loss(logits, (sequence.float(), token.float()), self.recipe.task_weight)


@contextmanager
def with_weights(model: Any, weights: dict[str, torch.Tensor]) -> Iterator[None]:
    """The model has these weights within the block, and its own after it."""
    own = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(weights)
    try:
        yield
    finally:
        model.load_state_dict(own)


def validate(
    model: BertSNR, weights: dict[str, torch.Tensor], recipe: Recipe, windows: Windows
) -> tuple[np.ndarray, dict[str, float]]:
    """Validate with these weights and leave the model's own unchanged.

    Returns
    -------
    base probabilities, shape (n, window), and a dict of validation_loss and aupr
    """
    with with_weights(model, weights):
        sequences, tokens = token_probabilities(model, windows.codes, recipe.runtime(model.device))
    token_loss = _cross_entropy(tokens, token_labels(windows.labels, model.info.k))
    loss = recipe.task_weight * _cross_entropy(sequences, windows.positive) + (1 - recipe.task_weight) * token_loss
    bases = bases_from_tokens(tokens, model.info.k)
    return bases, {"validation_loss": loss, "aupr": aupr(windows.labels.ravel(), bases.ravel())}


def _cross_entropy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    likelihood = np.where(labels, probabilities, 1 - probabilities.astype(np.float64))
    return float(-np.log(np.maximum(likelihood, 1e-12)).mean())
