"""Distillation: train a student on the probabilities of its teachers instead of the labels (Hinton et al. 2015)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple, cast

import numpy as np
import torch

from ..errors import UsageError
from ..log import logger
from ..models.bertsnr import BertSNR
from ..models.cuda import device_token_ids
from ..models.device import Runtime, autocast
from ..models.interface import InferenceFunction, ModelInfo
from ..models.registry import load_models, load_one
from .data import seed_of
from .factors import EpochWindows

OTHERS = 6  # other factors, at most, whose teachers judge a window of a many-factor model
BATCH = 512


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
        _check(name, teacher.info, k, window)
    _warn([name for name, teacher in zip(names, teachers) if not _held_out(teacher.info, val_chroms)])
    return teachers


def load_factor_teachers(
    names: Sequence[str], factors: Sequence[str], k: int, window: int, val_chroms: Collection[str], device: torch.device
) -> list[list[BertSNR]]:
    """As `load_teachers`, for a many-factor model: the teachers of each factor, found by their names.

    Parameters
    ----------
    names : model files, names of shipped models and factors of both; a many-factor model may have others, too
    factors : names of the student's factors

    Raises
    ------
    UsageError : as `load_teachers`; a factor has no teacher, or a name stands for none of the factors.
    DataError : see `registry.load_models`.
    """
    found: dict[str, list[BertSNR]] = {factor: [] for factor in factors}
    seen = []
    for name in names:
        models = [cast(BertSNR, model) for model in load_models([name], Runtime((device,)))]
        needed = [model for model in models if model.info.name in found]
        if not needed:
            raise UsageError(f"--teacher {name}: is a model of {models[0].info.name}, not of one of the factors")
        for model in needed:
            _check(name, model.info, k, window)
            found[model.info.name].append(model)
        if not all(_held_out(model.info, val_chroms) for model in needed):
            seen.append(name)
    without = [factor for factor, teachers in found.items() if not teachers]
    if names and without:
        raise UsageError(f"--teacher: no model of {', '.join(without)}; give one for each factor, or none")
    _warn(seen)
    return list(found.values()) if names else []


def _check(name: str, info: ModelInfo, k: int, window: int) -> None:
    if (info.k, info.window) != (k, window):
        raise UsageError(
            f"--teacher {name}: reads windows of {info.window} bp in {info.k}-mers; expected {window} bp and {k}-mers"
        )


def _held_out(info: ModelInfo, val_chroms: Collection[str]) -> bool:
    """Whether a teacher has certainly not been trained on these chromosomes."""
    return bool(val_chroms) and set(val_chroms) <= set(info.training.get("data", {}).get("validation_chroms", []))


def _warn(names: Sequence[str]) -> None:
    if names:
        logger.warning(
            "--teacher %s may have been trained on validation windows; validation metrics may be too optimistic",
            ", ".join(names),
        )


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


class FactorTargets(NamedTuple):
    """What a many-factor model learns from n windows of T tokens: targets in [0, 1] of J factors for each.

    Attributes
    ----------
    factors : numbers of the factors, of which the first is the window's own, int64 (n, J)
    sequences, tokens : of both tasks, (n, J) and (n, T, J)
    """

    factors: np.ndarray
    sequences: np.ndarray
    tokens: np.ndarray


class FactorTeachers:
    """The teachers of a many-factor model. They judge a window for its own factor and for others, chosen at random.

    Without the others, a student of eight factors gained half as much.

    Parameters
    ----------
    teachers : of each factor
    precision : of the teachers
    """

    def __init__(self, teachers: Sequence[Sequence[BertSNR]], precision: str):
        self._functions = [[teacher.inference_function(precision) for teacher in some] for some in teachers]
        self._precision = precision
        self._device, self._k = teachers[0][0].device, teachers[0][0].info.k

    def targets(self, epoch: EpochWindows, key: str) -> FactorTargets:
        """Targets of all windows; which other factors judge them depends on `key`."""
        count, width = epoch.codes.shape
        factors = epoch.factors[:, None]
        if others := min(OTHERS, len(self._functions) - 1):
            steps = np.random.default_rng(seed_of(key)).integers(1, len(self._functions), (count, others))
            factors = np.concatenate([factors, (factors + steps) % len(self._functions)], axis=1)
        sequences = np.empty(factors.shape, dtype=np.float16)
        tokens = np.empty((count, width - self._k + 1, factors.shape[1]), dtype=np.float16)
        for factor, functions in enumerate(self._functions):
            rows, columns = np.nonzero(factors == factor)
            for first in range(0, len(rows), BATCH):
                row, column = rows[first : first + BATCH], columns[first : first + BATCH]
                codes = torch.from_numpy(epoch.codes[row]).to(self._device)
                with autocast(self._device, self._precision):
                    targets = teacher_targets(functions, device_token_ids(codes, self._k))
                sequences[row, column], tokens[row, :, column] = (part.float().cpu().numpy() for part in targets)
        return FactorTargets(factors, sequences, tokens)
