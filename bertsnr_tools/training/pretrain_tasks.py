"""Pretraining tasks: masked language modelling (Ji et al. 2021, section 2.2) and the sites of many factors together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import nn

from ..models.bertsnr import DROPOUT, token_ids
from ..sequence.encoding import MASK, SPECIAL, token_labels
from ..sequence.windows import Windows
from .config import PretrainConfig, Recipe
from .data import shuffled_negatives
from .optimization import two_task_loss
from .pretrain_data import batches

IGNORED = -100  # target of tokens that are not masked


class TaskLoss(NamedTuple):
    """Loss of a batch.

    Attributes
    ----------
    mean : mean over the predicted tokens, differentiable
    correct, predicted : number of tokens
    """

    mean: torch.Tensor
    correct: int
    predicted: int


class PretrainTask(Protocol):
    """What is learned: a network, batches for it and a loss."""

    def model(self, config: dict[str, Any]) -> nn.Module:
        """A network with random weights.

        Parameters
        ----------
        config : configuration of the encoder
        """

    def saved(self, model: Any) -> Any:
        """The part of such a network that is saved, a model of transformers; its `base_model` is the encoder."""

    def skip(self, steps: int) -> None:
        """Go on to the batch after this number of steps."""

    def batch(self, step: int) -> tuple[np.ndarray, ...]:
        """The arguments of `loss` after the model, one row for each window."""

    def loss(self, model: Any, *batch: torch.Tensor) -> TaskLoss:
        """The loss of a network for a batch."""


class MaskedTokens:
    """Masked language modelling of windows from FASTA files.

    Parameters
    ----------
    paths : FASTA files, read once for each epoch
    """

    def __init__(self, paths: Sequence[str], config: PretrainConfig):
        self._config = config
        self._stream = batches(paths, config.window, config.batch_size, config.seed)

    def model(self, config: dict[str, Any]) -> nn.Module:
        """The encoder with a language-modelling head."""
        return _transformers_model(config, "ForMaskedLM")

    def saved(self, model: Any) -> Any:
        """The network itself, with its head."""
        return model

    def skip(self, steps: int) -> None:
        """Pass over this number of batches."""
        for _ in range(steps):
            next(self._stream)

    def batch(self, step: int) -> tuple[np.ndarray, ...]:
        """Masked token ids and their targets, see `mask_tokens`."""
        config = self._config
        ids = token_ids(next(self._stream), config.k).numpy()
        return mask_tokens(ids, config.k, config.mask_fraction, np.random.default_rng([config.seed, 6, step]))

    def loss(self, model: Any, *batch: torch.Tensor) -> TaskLoss:
        """Cross-entropy of the masked tokens."""
        masked, targets = batch
        logits = model(input_ids=masked).logits
        asked = targets != IGNORED
        chosen, expected = logits[asked].float(), targets[asked]
        loss = nn.functional.cross_entropy(chosen, expected) if len(expected) else logits.sum() * 0
        return TaskLoss(loss, int((chosen.argmax(1) == expected).sum()), len(expected))


def mask_tokens(ids: np.ndarray, k: int, fraction: float, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Mask contiguous spans of k tokens, because the neighbours of a single k-mer contain all its bases.

    Parameters
    ----------
    ids : token ids, [CLS] first and [SEP] last, shape (B, T + 2)
    fraction : expected fraction of the k-mers that are masked

    Returns
    -------
    input ids: of the masked tokens, 80 % are [MASK], 10 % a random k-mer, 10 % unchanged; targets: the original ids of
    the masked tokens, `IGNORED` elsewhere
    """
    inner = ids[:, 1:-1]
    count = inner.shape[1]
    # a token is masked when one of the k span starts that reach it is drawn
    starts = random.random((len(ids), count + k - 1)) < 1 - (1 - fraction) ** (1 / k)
    hidden = np.lib.stride_tricks.sliding_window_view(starts, k, axis=1).any(axis=2)
    targets = np.full(ids.shape, IGNORED, dtype=np.int64)
    targets[:, 1:-1] = np.where(hidden, inner, IGNORED)
    fate = random.random(inner.shape)
    other = random.integers(len(SPECIAL), len(SPECIAL) + 4**k, inner.shape)
    masked = ids.copy()
    masked[:, 1:-1] = np.where(hidden & (fate < 0.8), MASK, np.where(hidden & (fate < 0.9), other, inner))
    return masked, targets


class MultiFactorModel(nn.Module):
    """An encoder with the two heads of `BertSNR` for each of several data sets."""

    def __init__(self, config: dict[str, Any], count: int):
        super().__init__()
        self.encoder = _transformers_model(config, "Model")
        self.dropout = nn.Dropout(DROPOUT)
        self.sequence_head = nn.Linear(config["hidden_size"], count)
        self.token_head = nn.Linear(config["hidden_size"], count)

    def forward(self, ids: torch.Tensor, sets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of sequences (B,) and tokens (B, T) for token ids (B, T + 2) and indices of data sets (B,)."""
        hidden = self.dropout(self.encoder(input_ids=ids).last_hidden_state.float())
        sequence, token = self.sequence_head, self.token_head
        sequence_logits = (hidden[:, 0] * sequence.weight[sets]).sum(-1) + sequence.bias[sets]
        token_logits = (hidden[:, 1:-1] * token.weight[sets][:, None]).sum(-1) + token.bias[sets][:, None]
        return sequence_logits, token_logits


class SitesOfMany:
    """The two tasks of BertSNR on several data sets at once: one encoder, and two heads for each data set.

    A batch contains, on average, the same number of windows of each data set, and a shuffle of each window.

    Parameters
    ----------
    sets : positive windows of each data set
    """

    def __init__(self, sets: Sequence[Windows], config: PretrainConfig):
        self._sets, self._config = sets, config

    def model(self, config: dict[str, Any]) -> nn.Module:
        """See `PretrainTask.model`."""
        return MultiFactorModel(config, len(self._sets))

    def saved(self, model: Any) -> Any:
        """The encoder alone."""
        return model.encoder

    def skip(self, steps: int) -> None:
        """Do nothing: a batch depends on its step alone."""

    def batch(self, step: int) -> tuple[np.ndarray, ...]:
        """Token ids, labels of sequences and tokens, and indices of data sets."""
        config = self._config
        random = np.random.default_rng([config.seed, 7, step])
        sets = random.integers(0, len(self._sets), -(-config.batch_size // 2))
        positives = Windows.joined(
            [self._sets[index].take(random.integers(0, len(self._sets[index]), 1)) for index in sets]
        )
        both = Windows.joined([positives, shuffled_negatives(positives, f"{config.seed} step {step}")])
        return (
            token_ids(both.codes, config.k).numpy(),
            both.positive.astype(np.float32),
            token_labels(both.labels, config.k).astype(np.float32),
            np.tile(sets, 2),
        )

    def loss(self, model: Any, *batch: torch.Tensor) -> TaskLoss:
        """The two-task loss; tokens count as correct by their labels."""
        ids, sequence, token, sets = batch
        logits = model(ids, sets)
        loss = two_task_loss(logits, (sequence, token), Recipe.task_weight)
        return TaskLoss(loss, int(((logits[1] > 0) == (token > 0)).sum()), token.numel())


def _transformers_model(config: dict[str, Any], kind: str) -> Any:
    """A model of transformers with random weights: the encoder alone ("Model") or with a head ("ForMaskedLM")."""
    import transformers

    from ..models.huggingface import transformers_config

    family = {"modernbert": "ModernBert", "bert": "Bert"}[config["model_type"]]
    return getattr(transformers, family + kind)(transformers_config(config, "eager"))
