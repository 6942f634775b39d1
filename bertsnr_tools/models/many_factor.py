"""A many-factor model: an encoder, and for each factor the two heads of `BertSNR`.

A file may have several: one with heads for all factors, and others with heads for some of them (`joined`).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import nn

from .bertsnr import DROPOUT, SPECIALIST_WEIGHT, BertSNR, Dropout, Logits, inference_encoder
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
    """The many-factor model with heads for all factors, alone, of the file that a model is from, if any."""
    many = shared_model(model)
    return many.group[0] if many else None


def alone(model: BertSNR) -> ManyFactorModel:
    """A factor and its `other` model, without the other factors."""
    group = []
    for one in (model, model.other):
        assert one is not None
        many = ManyFactorModel([replace(model.info, encoder=one.info.encoder)])
        many.encoder, many.sequence_head, many.token_head = one.encoder, one.sequence_head, one.token_head
        group.append(many)
    return joined(group)


class Specialist(NamedTuple):
    """A model of some factors, and their numbers in the model of all."""

    model: ManyFactorModel
    numbers: list[int]


def joined(group: Sequence[ManyFactorModel]) -> ManyFactorModel:
    """The first model, whose logits are weighted means with the logits of the others, which have some of its factors.

    Metadata are from the last model that has a factor, except for the encoder.

    Raises
    ------
    ValueError : the first does not have a factor of another.
    """
    general, *others = group
    if not others:
        return general
    model, names = copy.copy(general), [info.name for info in general.infos]  # a shallow copy shares the weights
    model.infos, model.replicas, model.group = list(general.infos), [], list(group)
    for other in others:
        numbers = [names.index(info.name) for info in other.infos]
        model.specialists = [*model.specialists, Specialist(other, numbers)]
        for number, info in zip(numbers, other.infos):
            model.infos[number] = replace(info, encoder=general.info.encoder)
    model.info = model.infos[0]
    return model


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
    specialists : other models of some factors, see `joined`
    group : the many-factor models of the file, each alone: of all factors, and the specialists
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
        self.specialists: list[Specialist] = []  # in a list, they are not submodules
        self.group: list[ManyFactorModel] = [self]
        self.binding: BindingHeads | None = None

    def forward(self, ids: torch.Tensor, factors: torch.Tensor | None = None) -> Logits:
        """Logits of both tasks.

        Parameters
        ----------
        ids : token ids with [CLS] first and [SEP] last, int64, shape (B, T + 2)
        factors : number of the factor whose heads read each window, int64, shape (B,); None for all factors

        Returns
        -------
        sequence logits (B,) and token logits (B, T), or for all factors (B, F) and (B, T, F), all float32
        """
        if self.specialists and factors is not None:
            (sequences, tokens), rows = self(ids), torch.arange(len(ids))
            return sequences[rows, factors], tokens[rows, :, factors]
        hidden = self.encoder(ids)
        if factors is not None:
            sequences, tokens = self.head_logits(hidden, factors[:, None])
            return sequences[:, 0], tokens[..., 0]
        logits = self.head_logits(hidden, None)
        return self._with_specialists(logits, (specialist.model(ids) for specialist in self.specialists))

    def _with_specialists(self, logits: Logits, of_specialists: Iterable[Logits]) -> Logits:
        for (_, numbers), others in zip(self.specialists, of_specialists):
            for every, some in zip(logits, others):
                every[..., numbers] = torch.lerp(every[..., numbers], some, SPECIALIST_WEIGHT)
        return logits

    def head_logits(self, hidden: torch.Tensor, factors: torch.Tensor | None) -> Logits:
        """Hidden states (B, T + 2, H) to the logits of both tasks, (B, J) and (B, T, J).

        Parameters
        ----------
        factors : numbers of the factors whose heads read each window, int64, shape (B, J); None for all factors
        """
        pooler = getattr(self.encoder, "pooler", None)
        pooled = pooler(hidden) if pooler else None
        sequence, token = self.sequence_head, self.token_head
        with torch.autocast(hidden.device.type, enabled=False):  # rounding a logit would show in the score
            hidden = self.dropout(hidden.float())
            first = hidden[:, 0] if pooled is None else self.dropout(pooled.float())
            if factors is None:
                return _linear_by_row(sequence, first), token(hidden[:, 1:-1])
            sequence_logits = (first[:, None] * sequence.weight[factors]).sum(-1) + sequence.bias[factors]
            token_logits = torch.bmm(hidden[:, 1:-1], token.weight[factors].transpose(1, 2))
            return sequence_logits, token_logits + token.bias[factors][:, None]

    def inference_function(self, precision: str) -> InferenceFunction:
        """`forward` of all factors for inference with the present weights: the fastest kernel that supports them."""
        if precision == "fp16":  # see `BertSNR.inference_function`
            return self
        try:
            encode = inference_encoder(self.encoder, precision, self.device)
        except Unsupported:
            return self
        others = [specialist.model.inference_function(precision) for specialist in self.specialists]

        def logits(ids: torch.Tensor) -> Logits:
            with torch.autocast(ids.device.type, enabled=False):
                of_all = self.head_logits(encode(ids).float(), None)
            return self._with_specialists(of_all, (other(ids) for other in others))

        return logits

    def for_factors(self, numbers: Iterable[int]) -> ManyFactorModel:
        """This model without the specialists that these factors do not need; logits of other factors may differ."""
        chosen = set(numbers)
        needed = [specialist for specialist in self.specialists if chosen & set(specialist.numbers)]
        if len(needed) == len(self.specialists):
            return self
        model = copy.copy(self)
        model.specialists, model.replicas = needed, [replica.for_factors(chosen) for replica in self.replicas]
        return model

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
        for other, numbers in self.specialists:
            if number in numbers:
                model.other = other.factor(numbers.index(number))
        return model.train(self.training)

    def factor_named(self, name: str) -> BertSNR:
        """`factor` by its name."""
        return self.factor([info.name for info in self.infos].index(name))

    @property
    def device(self) -> torch.device:
        """The device that the weights are on."""
        return self.token_head.weight.device


def _linear_by_row(head: nn.Linear, rows: torch.Tensor) -> torch.Tensor:
    """A linear layer, (B, H) to (B, F): a product for each row, since few rows at once would round differently."""
    weight = head.weight.T.expand(len(rows), -1, -1)
    return torch.baddbmm(head.bias.expand(len(rows), 1, -1), rows[:, None], weight)[:, 0]
