"""Pretraining of an encoder: masked language modelling over k-mers (Ji et al. 2021, section 2.2).

Under `torchrun`, processes share every batch.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from ..errors import DataError, UsageError
from ..io.files import check_regular, error_text
from ..log import logger, progress
from ..models.bertsnr import token_ids
from ..models.device import autocast
from ..models.encoder import compact_config
from ..models.pretrained import Pretrained
from ..sequence.encoding import vocabulary
from .checkpoint import Checkpoint
from .config import PretrainConfig
from .data import seed_of
from .optimization import adamw, check_loss, optimizer_step, scheduled_rate, set_learning_rate
from .pretrain_data import IGNORED, batches, mask_tokens
from .processes import count, own_rows, process_group, rank

ADAM = {"betas": (0.9, 0.98), "eps": 1e-6}  # usual for masked language models (Liu et al. 2019)
MAX_GRADIENT_NORM = 1.0


class MaskedLoss(NamedTuple):
    """Loss of a batch.

    Attributes
    ----------
    mean : mean over the masked tokens, differentiable
    correct, predicted : number of tokens
    """

    mean: torch.Tensor
    correct: int
    predicted: int


class PretrainRun:
    """A pretraining: a network, its optimizer and the steps that are done.

    Parameters
    ----------
    paths : FASTA files, read once for each epoch
    start : the encoder to continue from; None is the compact one with random weights
    checkpoint : where an interrupted run left off
    """

    def __init__(
        self,
        paths: Sequence[str],
        config: PretrainConfig,
        start: Pretrained | None,
        device: torch.device,
        checkpoint: Checkpoint,
    ):
        torch.manual_seed(seed_of(config.seed, "weights"))
        self.config, self._device, self._checkpoint = config, device, checkpoint
        self.model = _masked_language_model(
            start.config if start else compact_config(config.k, config.window, config.size)
        )
        self.model.to(device)
        if start:
            self.model.base_model.load_state_dict(start.weights, strict=False)
        self._optimizer = adamw(self.model, config.learning_rate, config.weight_decay, **ADAM)  # type: ignore[arg-type]
        self.history: list[dict[str, float]] = []
        self.done = 0
        if checkpoint.fit:
            self.model.load_state_dict(checkpoint.fit["model"])
            self._optimizer.load_state_dict(checkpoint.fit["optimizer"])
            self.history, self.done = checkpoint.fit["history"], checkpoint.fit["step"]
        self._stream = batches(paths, config.window, config.batch_size, config.seed)
        for _ in range(self.done):
            next(self._stream)

    def train(self, every: int = 500) -> list[dict[str, float]]:
        """Do the steps that are left.

        Parameters
        ----------
        every : steps between two rows of the history, and between two checkpoints

        Returns
        -------
        for each row: step, mean loss, accuracy (fraction of the tokens predicted correctly)
        """
        with process_group(self._device):
            self._train(every)
        return self.history

    def _train(self, every: int) -> None:
        config = self.config
        totals = torch.zeros(3, dtype=torch.float64)
        with progress("pretraining", config.steps, "steps") as bar:
            bar.advance(self.done)
            for step in range(self.done, config.steps):
                totals += self._step(self.model, step, [torch.from_numpy(array) for array in self._batch(step)])
                bar.advance(1)
                if (step + 1) % every == 0 or step + 1 == config.steps:
                    self._report(step + 1, *totals.tolist())
                    totals.zero_()

    def _batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Masked token ids and their targets, see `mask_tokens`."""
        config = self.config
        ids = token_ids(next(self._stream), config.k).numpy()
        return mask_tokens(ids, config.k, config.mask_fraction, np.random.default_rng([config.seed, 6, step]))

    def _step(self, model: nn.Module, step: int, batch: list[torch.Tensor]) -> torch.Tensor:
        """Train on this process's rows; the result is their summed loss, tokens predicted correctly, and tokens."""
        config = self.config
        torch.manual_seed(seed_of(config.seed, "dropout", step, rank()))
        model.train()
        before, done = step / config.steps, (step + 1) / config.steps
        set_learning_rate(self._optimizer, scheduled_rate(config.learning_rate, config.warmup, done, before))
        with autocast(self._device, config.precision):
            loss = masked_loss(model, *(own_rows(part).to(self._device) for part in batch))
        masked = max(1, int((batch[1] != IGNORED).sum()))
        weighted = loss.mean * (loss.predicted * count() / masked)  # the mean over processes is that over the batch
        optimizer_step(model, self._optimizer, weighted, clip=MAX_GRADIENT_NORM)
        return torch.tensor(
            [float(loss.mean.detach()) * loss.predicted, loss.correct, loss.predicted], dtype=torch.float64
        )

    def _report(self, step: int, loss: float, correct: float, predicted: float) -> None:
        count = max(1, predicted)
        check_loss(loss / count, f"step {step}")
        self.history.append({"step": step, "loss": loss / count, "accuracy": correct / count})
        if rank() != 0:
            return
        logger.info(
            "step %s of %s: loss %.4f, %.1f %% of the tokens correct",
            f"{step:,}",
            f"{self.config.steps:,}",
            loss / count,
            100 * correct / count,
        )
        state = {"model": self.model.state_dict(), "optimizer": self._optimizer.state_dict()}
        self._checkpoint.save({**state, "history": self.history, "step": step})

    def save(self, output: str) -> None:
        """Write the directory that `pretrained.read_pretrained` reads; an existing one is replaced.

        Raises
        ------
        DataError : the directory cannot be written.
        """
        from safetensors import SafetensorError

        target = os.path.realpath(output)
        temporary, old = (f"{target}.{secrets.token_hex(8)}.{ending}" for ending in ("tmp", "old"))
        try:
            os.mkdir(temporary)
            self._write(temporary)
            if os.path.exists(target):
                os.replace(target, old)
            os.replace(temporary, target)
        except (OSError, SafetensorError) as error:
            if os.path.exists(old) and not os.path.exists(target):
                os.replace(old, target)
            raise DataError(error_text(error), output) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)

    def _write(self, directory: str) -> None:
        from transformers.utils import logging

        logging.disable_progress_bar()
        self.model.save_pretrained(directory)
        files = {name: os.path.join(directory, name) for name in ("config.json", "model.safetensors")}
        shutil.copymode(files["config.json"], files["model.safetensors"])  # safetensors makes it private
        with open(os.path.join(directory, "vocab.txt"), "w") as stream:
            stream.write("\n".join(vocabulary(self.config.k)) + "\n")
        with open(os.path.join(directory, "pretraining.json"), "w") as stream:
            json.dump(asdict(self.config), stream, indent=2)


def _masked_language_model(config: dict[str, Any]) -> Any:
    """A model of transformers with random weights: the encoder with a language-modelling head."""
    import transformers

    from ..models.huggingface import transformers_config

    family = {"modernbert": "ModernBert", "bert": "Bert"}[config["model_type"]]
    return getattr(transformers, family + "ForMaskedLM")(transformers_config(config, "eager"))


def masked_loss(model: nn.Module, ids: torch.Tensor, targets: torch.Tensor) -> MaskedLoss:
    """Cross-entropy of the masked tokens; shapes (B, T + 2), see `mask_tokens`."""
    logits = model(input_ids=ids).logits
    asked = targets != IGNORED
    chosen, expected = logits[asked].float(), targets[asked]
    loss = nn.functional.cross_entropy(chosen, expected) if len(expected) else logits.sum() * 0
    return MaskedLoss(loss, int((chosen.argmax(1) == expected).sum()), len(expected))


def check_encoder_directory(output: str) -> None:
    """Check that nothing but an encoder and its checkpoint would be replaced.

    Raises
    ------
    UsageError : `output` is a file or device, or a directory with files but without config.json.
    """
    check_regular(f"{output}.ckpt", "a checkpoint")
    foreign = os.path.isdir(output) and os.listdir(output) and not os.path.exists(os.path.join(output, "config.json"))
    if os.path.exists(output) and not os.path.isdir(output) or foreign:
        raise UsageError(f"{output}: exists and is not an encoder directory; choose another output")


def check_window(config: PretrainConfig, start: Pretrained | None) -> None:
    """Check that the encoder reads windows of this length.

    Raises
    ------
    UsageError : it does not.
    """
    tokens = start.config.get("max_position_embeddings", 512) if start else 100_002
    longest = tokens + config.k - 3
    if not config.k <= config.window <= longest:
        raise UsageError(f"-w {config.window}: the encoder reads {config.k} to {longest} bp")
