"""A model of many factors: an encoder, and for each factor the two heads of `BertSNR`.

A file may have several: one encoder with heads for all factors, and others, each with better heads for some of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from .bertsnr import DROPOUT, BertSNR, Dropout, inference_encoder
from .binding import BindingHeads
from .encoder import new_encoder
from .interface import InferenceFunction, Model, ModelInfo
from .kernels.inference import Unsupported


class Head(NamedTuple):
    """The many-factor model that a `BertSNR` belongs to, and the number of its factor, from 0."""

    model: ManyFactorModel
    number: int

    @property
    def factor(self) -> str:
        """The name of the factor."""
        return self.model.infos[self.number].name


def shared_model(model: Model) -> ManyFactorModel | None:
    """The many-factor model that a model is a part of, if any."""
    head: Head | None = getattr(model, "shared", None)  # only `BertSNR` has it
    return head.model if head else None


def general_model(model: Model) -> ManyFactorModel | None:
    """The many-factor model with heads for all factors, of the file that a model is from, if any."""
    many = shared_model(model)
    return many.group[0] if many else None


class ManyFactorModel(nn.Module):
    """An encoder with a sequence head and a token head for each factor.

    Shapes: B windows of T tokens, with [CLS] and [SEP] T + 2; F factors.

    Parameters
    ----------
    infos : of each factor; k, window and encoder are the same in all

    Attributes
    ----------
    info : of the first factor, for what all factors have in common: k, window and encoder
    replicas : copies on other devices, which share the work
    group : the many-factor models of the file: the first has heads for all factors, each other better heads for some
    binding : heads for sites in accessible regions, if any; they read the first of the group
    """

    def __init__(self, infos: Sequence[ModelInfo]):
        super().__init__()
        self.infos, self.info = list(infos), infos[0]
        self.encoder: Any = new_encoder(infos[0].encoder)
        self.dropout = Dropout(DROPOUT)
        self.sequence_head = nn.Linear(infos[0].encoder["hidden_size"], len(infos))
        self.token_head = nn.Linear(infos[0].encoder["hidden_size"], len(infos))
        self.replicas: list[ManyFactorModel] = []
        self.group: list[ManyFactorModel] = [self]  # in a list, they are not submodules
        self.binding: BindingHeads | None = None

    def forward(self, ids: torch.Tensor, factors: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of both tasks.

        Parameters
        ----------
        ids : token ids with [CLS] first and [SEP] last, int64, shape (B, T + 2)
        factors : number of the factor whose heads read each window, int64, shape (B,); None for all factors

        Returns
        -------
        sequence logits (B,) and token logits (B, T), or for all factors (B, F) and (B, T, F), all float32
        """
        return self.head_logits(self.encoder(ids), factors)

    def head_logits(self, hidden: torch.Tensor, factors: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Hidden states (B, T + 2, H) to the logits of both tasks."""
        pooler = getattr(self.encoder, "pooler", None)
        pooled = pooler(hidden) if pooler else None
        sequence, token = self.sequence_head, self.token_head
        with torch.autocast(hidden.device.type, enabled=False):  # rounding a logit would show in the score
            hidden = self.dropout(hidden.float())
            first = hidden[:, 0] if pooled is None else self.dropout(pooled.float())
            if factors is None:
                return sequence(first), token(hidden[:, 1:-1])
            sequence_logits = (first * sequence.weight[factors]).sum(-1) + sequence.bias[factors]
            token_logits = torch.bmm(hidden[:, 1:-1], token.weight[factors][:, :, None])[:, :, 0]
            return sequence_logits, token_logits + token.bias[factors][:, None]

    def inference_function(self, precision: str) -> InferenceFunction:
        """`forward` of all factors for inference with the present weights: the fastest kernel that supports them."""
        if precision == "fp16":  # see `BertSNR.inference_function`
            return self
        try:
            encode = inference_encoder(self.encoder, precision, self.device)
        except Unsupported:
            return self

        def logits(ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            with torch.autocast(ids.device.type, enabled=False):
                return self.head_logits(encode(ids).float(), None)

        return logits

    def factor(self, number: int) -> BertSNR:
        """The model of one factor: the encoder is shared, the heads are copies."""
        model = BertSNR(self.infos[number], self.encoder)
        rows = slice(number, number + 1)
        with torch.no_grad():
            for task in ("sequence_head", "token_head"):
                own, every = getattr(model, task), getattr(self, task)
                own.weight = nn.Parameter(every.weight[rows].clone())
                own.bias = nn.Parameter(every.bias[rows].clone())
        model.shared = Head(self, number)
        return model.train(self.training)

    def factor_named(self, name: str) -> BertSNR:
        """`factor` by its name."""
        return self.factor([info.name for info in self.infos].index(name))

    @property
    def device(self) -> torch.device:
        """The device that the weights are on."""
        return self.token_head.weight.device
