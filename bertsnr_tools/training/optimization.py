"""Optimizer, learning-rate schedule and two-task loss of training and pretraining."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from math import isfinite

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from ..errors import DataError
from .processes import average_gradients

COMPILED_STEPS = 1500  # from here on, compiling, a quarter of a minute, is faster than launching each operation


def adamw(model: nn.Module, learning_rate: float, weight_decay: float, **options: float | tuple) -> torch.optim.AdamW:
    """AdamW without weight decay on biases and norms (Luo et al. 2024, section 2.4).

    Parameters
    ----------
    options : further options of `torch.optim.AdamW`, such as betas and eps
    """
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, fused=True, **options)  # type: ignore[arg-type]


def scheduled_rate(peak: float, warmup: float, done: float, before: float | None = None) -> float:
    """Learning rate of one step: linear warm-up to `peak`, then linear decay to 0.

    Parameters
    ----------
    peak : highest learning rate
    warmup : fraction of all steps in which the rate rises
    done : fraction of all steps that are done after this step
    before : the fraction by which the rate decays, for a schedule whose last step is above 0; by default `done`
    """
    decayed = done if before is None else before
    return peak * min(done / warmup if warmup else 1.0, (1 - decayed) / (1 - warmup) if warmup < 1 else 1.0)


def check_loss(loss: float, when: str) -> float:
    """The mean loss of a part of the training.

    Raises
    ------
    DataError : it is not finite.
    """
    if not isfinite(loss):
        raise DataError(f"the loss is not finite after {when}; lower the learning rate (--lr)")
    return loss


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of all parameter groups."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def two_task_loss(
    logits: tuple[torch.Tensor, torch.Tensor], targets: tuple[torch.Tensor, torch.Tensor], task_weight: float
) -> torch.Tensor:
    """Weighted sum of both cross-entropies: lambda * sequence + (1 - lambda) * token (Luo et al. 2024, section 2.4).

    Parameters
    ----------
    logits, targets : of sequences (B,) and tokens (B, T); targets in [0, 1]
    task_weight : lambda
    """
    (sequence_logits, token_logits), (sequence, token) = logits, targets
    loss = task_weight * binary_cross_entropy_with_logits(sequence_logits, sequence)
    return loss + (1 - task_weight) * binary_cross_entropy_with_logits(token_logits, token)


def optimizer_step(model: nn.Module, optimizer: torch.optim.Optimizer, loss: torch.Tensor, clip: float = 0.0) -> None:
    """Update the weights by the mean gradient of all processes; `clip` limits its norm, 0 does not."""
    loss.backward()
    average_gradients(model)
    if clip:
        nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    optimizer.zero_grad()  # CUDA graphs write the next gradients over these


def compiled(loss: Callable[..., torch.Tensor], device: torch.device, steps: int) -> Callable[..., torch.Tensor]:
    """The loss for a training of this many steps: on a GPU by torch.compile, with CUDA graphs.

    Launches bound the steps of a small encoder: a batch of 32 windows takes as long as one of 256. What is compiled is
    for one shape of its arguments.
    """
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if device.type != "cuda" or steps < COMPILED_STEPS or not (compiler and find_spec("triton")):
        return loss
    torch.compiler.reset()  # the models of ten folds would fill its cache, and further ones would not be compiled
    return torch.compile(loss, mode="reduce-overhead")
