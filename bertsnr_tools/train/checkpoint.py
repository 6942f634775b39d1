"""What a training that was killed left, and whether it may go on from there."""

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

CHECKPOINT = "bertsnr_tools checkpoint"
CHECKPOINT_VERSION = 2


class Checkpoint:
    """What a killed run left, in one file that is replaced whole after every epoch.

    Attributes
    ----------
    folds : metrics of the folds of a cross-validation that are done
    hard : natural windows that the first of two models scores highest, None before it is made
    fit : state of the model in training, None at its beginning

    Parameters
    ----------
    path : of the file
    key : digest of data and options; a checkpoint of another key is refused
    resume : read the file if it is there

    Raises
    ------
    DataError : the file is no checkpoint, or one of other data or options.
    """

    def __init__(self, path: str, key: str, resume: bool):
        self.path, self._key = path, key
        self.folds: list[dict[str, Any]] = []
        self.hard: Windows | None = None
        self.fit: dict[str, Any] | None = None
        if resume and os.path.exists(path):
            content = read_checked(path, CHECKPOINT, CHECKPOINT_VERSION)
            if content.get("key") != key:
                raise DataError(
                    "was made with other data or options, or by another release: use the same ones, or train without --resume",
                    path,
                )
            self.folds, self.fit = content["folds"], content["fit"]
            self.hard = content["hard"] and Windows(
                content["hard"]["names"], *(content["hard"][key].numpy() for key in ("codes", "labels"))
            )
        elif resume:
            logger.info("no checkpoint %s yet: training from the beginning", path)

    def save(self, fit: dict[str, Any] | None) -> None:
        """Write the file; `fit` is the state after an epoch, or None between two models."""
        self.fit = fit
        hard = self.hard and {
            "names": self.hard.names,
            "codes": torch.from_numpy(self.hard.codes),
            "labels": torch.from_numpy(self.hard.labels),
        }
        content = {
            "format": CHECKPOINT,
            "format_version": CHECKPOINT_VERSION,
            "key": self._key,
            "folds": self.folds,
            "hard": hard,
            "fit": fit,
        }
        with replace_atomically(self.path) as temporary, open(temporary, "wb") as stream:
            torch.save(content, stream)

    def remove(self) -> None:
        """Delete the file: the model is written."""
        if os.path.exists(self.path):
            os.unlink(self.path)


def digest(*windows: Windows | None, **options: Any) -> str:
    """A short text that changes when any window or option does."""
    state = hashlib.blake2b(repr(sorted(options.items())).encode(), digest_size=16)
    for part in windows:
        state.update(
            b"|" if part is None else part.codes.tobytes() + part.labels.tobytes() + "\n".join(part.names).encode()
        )
    return state.hexdigest()
