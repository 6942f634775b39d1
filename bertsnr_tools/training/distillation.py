"""Distillation: train a student on the probabilities of its teachers instead of the labels (Hinton et al. 2015)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import cast

import torch

from ..errors import UsageError
from ..log import logger
from ..models.bertsnr import BertSNR
from ..models.device import Runtime
from ..models.interface import InferenceFunction
from ..models.registry import load_one


def load_teachers(
    names: Sequence[str], k: int, window: int, val_chroms: Collection[str], device: torch.device
) -> tuple[BertSNR, ...]:
    """Load models of --teacher; warn where they may have been trained on the student's validation windows.

    Parameters
    ----------
    names : model files or names of shipped models, of one factor each
    k, window : bases in the student's tokens and windows
    val_chroms : chromosomes that the student is validated on, empty for random loci

    Raises
    ------
    UsageError : a teacher reads other windows or other k-mers than the student, or a name stands for several models.
    DataError : see `registry.load_models`.
    """
    teachers = tuple(cast(BertSNR, load_one(name, Runtime((device,)))) for name in names)
    for name, teacher in zip(names, teachers):
        info = teacher.info
        if (info.k, info.window) != (k, window):
            raise UsageError(
                f"--teacher {name}: reads windows of {info.window} bp in {info.k}-mers; "
                f"expected {window} bp and {k}-mers"
            )
        held_out = info.training.get("data", {}).get("validation_chroms", [])
        if not val_chroms or not set(val_chroms) <= set(held_out):
            logger.warning(
                "--teacher %s may have been trained on validation windows; validation metrics may be too optimistic",
                name,
            )
    return teachers


def teacher_targets(teachers: Sequence[InferenceFunction], ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Targets of both tasks, (B,) and (B, T): the probabilities of the mean log odds of the teachers.

    Parameters
    ----------
    ids : token ids with [CLS] first and [SEP] last, shape (B, T + 2)
    """
    with torch.no_grad():
        logits = [teacher(ids) for teacher in teachers]
        sequence, token = (torch.stack(task).mean(dim=0).sigmoid() for task in zip(*logits))
    return sequence, token
