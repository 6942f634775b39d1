"""Train a many-factor model: one encoder, a pair of heads for each factor, and background windows for all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch
from torch.nn.functional import softplus

from ..log import logger, progress
from ..metrics import aupr
from ..models.bertsnr import Logits
from ..models.cuda import device_token_ids
from ..models.device import autocast, choose_precision
from ..models.interface import ModelInfo
from ..models.many_factor import ManyFactorModel
from ..sequence.encoding import bases_from_tokens, reverse_complement_codes, token_labels
from ..sequence.windows import Windows
from .checkpoint import Checkpoint
from .config import ModelDesign, Recipe
from .data import seed_of
from .distillation import FactorTargets, FactorTeachers
from .factors import EpochWindows, FactorData, draw_epoch, varied
from .fit import ModelState, with_weights
from .optimization import check_loss, compiled, optimizer_step, two_task_loss
from .processes import agreed, own_rows

BACKGROUND_SHARE = 8  # a batch has one background window for this number of labelled windows
CLIP = 1.0  # greatest norm of the gradient
EVALUATED = 512  # windows in a batch of validation
EPOCHS_AHEAD = 8  # epochs that other processes draw while a GPU trains


class ManyFactorTrainer(ModelState):
    """`ModelState` of a many-factor model, trained epoch by epoch.

    Parameters
    ----------
    steps : of the whole training, at least; see `optimization.compiled`
    """

    def __init__(self, model: ManyFactorModel, recipe: Recipe, data: FactorData, steps: int = 0):
        super().__init__(model, recipe)
        self.k = model.infos[0].k
        self._loss = compiled(self._batch_loss, model.device, steps)
        self._teachers, self._flanks = None, data.background
        if data.teachers:
            self._teachers = FactorTeachers(data.teachers, choose_precision("auto", model.device))
        self._background = self._known = None
        if data.background is not None and data.known is not None and recipe.background_ratio:
            codes = np.concatenate([data.background.codes, reverse_complement_codes(data.background.codes)])
            self._background = torch.from_numpy(codes).to(model.device)
            self._known = torch.from_numpy(np.concatenate([data.known, data.known])).to(model.device)

    def train_epoch(self, epoch: EpochWindows, number: int) -> float:
        """Pass over the windows once, in random order; windows that do not fill a batch are left out.

        Parameters
        ----------
        number : of the epoch, from 0

        Returns
        -------
        mean loss
        """
        recipe, device = self.recipe, self.model.device
        torch.manual_seed(seed_of(recipe.seed, "dropout", number))
        size = min(recipe.batch_size, len(epoch.codes))
        steps = len(epoch.codes) // size
        order = torch.from_numpy(np.random.default_rng([recipe.seed, 2, number]).permutation(len(epoch.codes)))
        epoch, targets = self._targets(epoch, number)
        codes, *answers = (torch.from_numpy(part).to(device) for part in (epoch.codes, *targets))
        order = order.to(device)
        self.model.train()
        total = torch.zeros((), device=device)
        with progress(f"epoch {number + 1}", len(order), "windows") as bar:
            for step in range(steps):
                self.schedule(number, step, steps)
                rows = own_rows(order[step * size : (step + 1) * size])
                loss = self._loss(codes[rows], *(part[rows] for part in answers), *self._draw_background(size))
                total += loss.detach()
                optimizer_step(self.model, self._optimizer, loss, CLIP)
                self.update_average(number * steps + step + 1)
                bar.advance(size)
        return agreed(float(total) / steps, device)

    def _targets(self, epoch: EpochWindows, number: int) -> tuple[EpochWindows, FactorTargets]:
        """Windows and targets of an epoch: from the labels, or from the teachers, for whom the windows are varied."""
        if self._teachers is None:
            tokens, positive = token_labels(epoch.labels, self.k), epoch.labels.max(axis=1, keepdims=True)
            return epoch, FactorTargets(epoch.factors[:, None], positive, tokens[..., None])
        key = f"{self.recipe.seed} teachers epoch {number}"
        epoch = varied(epoch, self._flanks, key)
        return epoch, self._teachers.targets(epoch, key)

    def _draw_background(self, size: int) -> tuple[torch.Tensor, ...]:
        """Codes of background windows on random strands, and which factors may have a site in them."""
        if self._background is None or self._known is None:
            return ()
        count = max(1, size // BACKGROUND_SHARE)
        rows = own_rows(torch.randint(len(self._background), (count,), device=self._background.device))
        return self._background[rows], self._known[rows]

    def _batch_loss(
        self,
        codes: torch.Tensor,
        factors: torch.Tensor,
        sequences: torch.Tensor,
        tokens: torch.Tensor,
        background: torch.Tensor | None = None,
        known: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Two-task loss of windows for their own factor, for others, and of background windows for all factors."""
        weight = self.recipe.task_weight
        every = codes if background is None else torch.cat([codes, background])
        with autocast(codes.device, self.recipe.precision):
            hidden = self.model.encoder(device_token_ids(every, self.k))
        logits, targets = self.model.head_logits(hidden[: len(codes)], factors), (sequences.float(), tokens.float())
        own, others = slice(1), slice(1, None)
        loss = two_task_loss(_columns(logits, own), _columns(targets, own), weight)
        if factors.shape[1] > 1:
            loss = loss + two_task_loss(_columns(logits, others), _columns(targets, others), weight)
        if known is None:
            return loss
        sequence_logits, token_logits = self.model.head_logits(hidden[len(codes) :], None)
        losses = weight * softplus(sequence_logits) + (1 - weight) * softplus(token_logits).mean(dim=1)
        return loss + self.recipe.background_ratio * losses.masked_fill(known, 0.0).mean()


def _columns(tasks: Logits, chosen: slice) -> Logits:
    """Some of the factors, of sequences (B, J) and of tokens (B, T, J)."""
    sequences, tokens = tasks
    return sequences[:, chosen], tokens[:, :, chosen]


def fit_many(
    data: FactorData, design: ModelDesign, recipe: Recipe, device: torch.device, checkpoint: Checkpoint
) -> tuple[ManyFactorModel, list[dict[str, float]]]:
    """Train a many-factor model; the result has the weights of the epoch with the best mean validation AUPR.

    The checkpoint is written after every epoch. A resumed run gives the same model as an uninterrupted one.

    Returns
    -------
    model, and for each epoch: epoch, loss, aupr
    """
    torch.manual_seed(seed_of(recipe.seed, "weights"))
    model = new_many_factor_model(data, design).to(device)
    steps = recipe.epochs * (data.epoch_size() // recipe.batch_size)
    trainer = ManyFactorTrainer(model, recipe, data, steps)
    history: list[dict[str, float]] = []
    best: dict[str, Any] = {"aupr": -1.0, "epoch": 0, "weights": trainer.average}
    if checkpoint.fit:
        trainer.load_state(checkpoint.fit)
        history, best = checkpoint.fit["history"], checkpoint.fit["best"]
    for number, epoch in _epochs(data, recipe, len(history), ahead=device.type != "cpu"):
        if number - best["epoch"] >= recipe.patience:
            break
        loss = check_loss(trainer.train_epoch(epoch, number), f"epoch {number + 1}")
        measured = agreed(float(np.mean(validation_aupr(model, trainer.average, data.validation, recipe))), device)
        history.append({"epoch": number + 1, "loss": loss, "aupr": measured})
        if measured > best["aupr"]:
            weights = {key: value.cpu().clone() for key, value in trainer.average.items()}
            best = {"aupr": measured, "epoch": number + 1, "weights": weights}
        checkpoint.save({**trainer.state(), "history": history, "best": best})
        logger.info("epoch %d of %d: loss %.4f, mean AUPR %.4f", number + 1, recipe.epochs, loss, measured)
    model.load_state_dict(best["weights"])
    return model.eval(), history


def new_many_factor_model(data: FactorData, design: ModelDesign) -> ManyFactorModel:
    """A model with random weights, or with the weights of a pretrained encoder."""
    infos: list[ModelInfo] = [design.info(name, windows) for name, windows in zip(data.names, data.positives)]
    model = ManyFactorModel(infos)
    if design.pretrained:
        model.encoder.load_state_dict(design.pretrained.weights, strict=False)
    return model


def _epochs(data: FactorData, recipe: Recipe, first: int, *, ahead: bool) -> Iterator[tuple[int, EpochWindows]]:
    """Number and windows of each epoch; `ahead` draws the next ones in other processes."""
    if not ahead:
        for number in range(first, recipe.epochs):
            yield number, draw_epoch(data.positives, recipe.seed, number)
        return
    _Worker.positives, _Worker.seed = data.positives, recipe.seed  # forked processes inherit them
    with ProcessPoolExecutor(EPOCHS_AHEAD, mp_context=get_context("fork")) as pool:
        jobs = [pool.submit(_Worker.draw, number) for number in range(first, min(recipe.epochs, first + EPOCHS_AHEAD))]
        for number in range(first, recipe.epochs):
            epoch = jobs.pop(0).result()
            if number + EPOCHS_AHEAD < recipe.epochs:
                jobs.append(pool.submit(_Worker.draw, number + EPOCHS_AHEAD))
            yield number, epoch


class _Worker:
    """What a process that draws epochs needs."""

    positives: Sequence[Windows] = ()
    seed = 0

    @staticmethod
    def draw(number: int) -> EpochWindows:
        return draw_epoch(_Worker.positives, _Worker.seed, number)


def own_probabilities(
    model: ManyFactorModel, codes: np.ndarray, factors: np.ndarray, precision: str
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of each window's own factor: of the sequence (n,), and of the bases (n, L), float32."""
    sequences: list[np.ndarray] = []
    tokens: list[np.ndarray] = []
    model.eval()
    for first in range(0, len(codes), EVALUATED):
        rows = slice(first, first + EVALUATED)
        chosen = torch.from_numpy(codes[rows]).to(model.device)
        with torch.inference_mode(), autocast(model.device, precision):
            logits = model(device_token_ids(chosen, model.infos[0].k), torch.from_numpy(factors[rows]).to(model.device))
        for kept, part in zip((sequences, tokens), logits):
            kept.append(part.sigmoid().cpu().numpy())
    return np.concatenate(sequences), bases_from_tokens(np.concatenate(tokens), model.infos[0].k)


def probabilities_of_sets(
    model: ManyFactorModel, sets: Sequence[Windows], precision: str
) -> list[tuple[np.ndarray, np.ndarray]]:
    """`own_probabilities` of the windows of each factor, one set for each, in one pass."""
    counts = [len(windows) for windows in sets]
    codes, factors = np.concatenate([windows.codes for windows in sets]), np.repeat(np.arange(len(counts)), counts)
    of_all = own_probabilities(model, codes, factors, precision)
    return list(zip(*(np.split(part, np.cumsum(counts)[:-1]) for part in of_all)))


def validation_aupr(
    model: ManyFactorModel, weights: dict[str, torch.Tensor], validation: Sequence[Windows], recipe: Recipe
) -> np.ndarray:
    """AUPR over the bases of each factor's validation windows with these weights; the model's own stay as they are."""
    with with_weights(model, weights):
        scored = probabilities_of_sets(model, validation, recipe.precision)
    return np.array([aupr(windows.labels.ravel(), bases.ravel()) for windows, (_, bases) in zip(validation, scored)])
