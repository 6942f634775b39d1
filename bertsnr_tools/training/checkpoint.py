"""Checkpoints: the state of a training after every epoch, from which --resume continues."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import torch

from ..errors import DataError
from ..io.files import replace_atomically
from ..log import logger
from ..models.files import read_checked
from ..sequence.windows import Windows
from .processes import rank

CHECKPOINT = "bertsnr_tools checkpoint"
CHECKPOINT_VERSION = 3


class Checkpoint:
    """The state of an unfinished training, in one file that is replaced atomically after every epoch.

    Attributes
    ----------
    folds : metrics of the finished folds of a cross-validation
    hard_negatives : None until they have been mined
    fit : state of the model in training, None at its beginning

    Parameters
    ----------
    path : name of the file; None keeps the state in memory
    key : digest of data and options, see `digest`
    resume : continue from the file if it exists

    Raises
    ------
    DataError : the file is not a checkpoint, or was written with other data or options.
    """

    def __init__(self, path: str | None = None, key: str = "", resume: bool = False):
        self.path, self._key = path, key
        self.folds: list[dict[str, Any]] = []
        self.hard_negatives: Windows | None = None
        self.fit: dict[str, Any] | None = None
        if path and resume and os.path.exists(path):
            self._read(path)
            logger.info("continuing from the checkpoint %s", path)
        elif path and resume:
            logger.info("no checkpoint %s; training from the beginning", path)

    def _read(self, path: str) -> None:
        content = read_checked(path, CHECKPOINT, CHECKPOINT_VERSION)
        if content.get("key") != self._key:
            raise DataError(
                "was made with other data or options, or by another release; use the same, or leave out --resume",
                path,
            )
        self.folds, self.fit = content["folds"], content["fit"]
        hard = content["hard_negatives"]
        if hard is not None:
            self.hard_negatives = Windows(hard["names"], hard["codes"].numpy(), hard["labels"].numpy())

    def save(self, fit: dict[str, Any] | None) -> None:
        """Write the file, in the first of several processes.

        Parameters
        ----------
        fit : state after an epoch, None between two models
        """
        self.fit = fit
        if self.path is None or rank():
            return
        hard = self.hard_negatives
        content = {
            "format": CHECKPOINT,
            "format_version": CHECKPOINT_VERSION,
            "key": self._key,
            "folds": self.folds,
            "hard_negatives": None
            if hard is None
            else {"names": hard.names, "codes": torch.from_numpy(hard.codes), "labels": torch.from_numpy(hard.labels)},
            "fit": fit,
        }
        with replace_atomically(self.path) as temporary, open(temporary, "wb") as stream:
            torch.save(content, stream)

    def remove(self) -> None:
        """Delete the file; the training is finished."""
        if self.path and not rank() and os.path.exists(self.path):
            os.unlink(self.path)


def digest(*windows: Windows | None, **options: Any) -> str:
    """A short text that changes when any window or option does."""
    state = hashlib.blake2b(repr(sorted(options.items())).encode(), digest_size=16)
    for part in windows:
        content = part and part.codes.tobytes() + part.labels.tobytes() + "\n".join(part.names).encode()
        state.update(content or b"|")
    return state.hexdigest()
