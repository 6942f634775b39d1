"""The two-task network of BertSNR (Luo et al. 2024, section 2.3): is there a site, and which bases are the site."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from ..sequence.encoding import CLS, SEP, kmer_ids
from .device import has_bf16
from .encoder import new_encoder
from .interface import InferenceFunction, Model, ModelInfo
from .kernels import amx, avx, new_triton_model
from .kernels.compiled import CompiledEncoder
from .kernels.inference import InferenceEncoder, Unsupported
from .prefilter_network import PrefilterNetwork

if TYPE_CHECKING:
    from .many_factor import Head

DROPOUT = 0.2
SPECIALIST_WEIGHT = 2 / 3  # in the mean: of 1/2, 2/3 and 1, the one with the best validation AUPR of `human`
Logits = tuple[torch.Tensor, torch.Tensor]  # of the sequence, and of the tokens
_preparing = threading.Lock()  # threads that share a model on a GPU wait for the one that prepares it


class Dropout(nn.Dropout):
    """Dropout that draws 16 bits for each value on a CPU: four times as fast as torch's."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not (self.training and self.p) or x.device.type != "cpu":
            return super().forward(x)
        words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        kept = words.view(torch.int16)[: x.numel()].view(x.shape) >= round(2**16 * self.p) - 2**15
        return x * (kept / (1 - self.p))


class BertSNR(nn.Module):
    """Encoder, dropout, a sequence head on [CLS] (pooled, if the encoder has a pooler) and a token head on every k-mer.

    Shapes: B windows of T tokens, with [CLS] and [SEP] T + 2; H units of a hidden state.

    Parameters
    ----------
    encoder : an encoder with weights; by default a new one with random weights

    Attributes
    ----------
    shared : for a factor of a many-factor model: this model, and the number of the factor in it
    other : a specialist, another model of the factor; logits are weighted means of both
    """

    def __init__(self, info: ModelInfo, encoder: Any = None):
        super().__init__()
        self.info = info
        self.encoder: Any = encoder or new_encoder(info.encoder)
        self.shared: Head | None = None
        self.other: BertSNR | None = None
        self.dropout = Dropout(DROPOUT)
        self.sequence_head = nn.Linear(info.encoder["hidden_size"], 1)
        self.token_head = nn.Linear(info.encoder["hidden_size"], 1)
        self.prefilter = PrefilterNetwork(**info.prefilter) if info.prefilter else None
        self.replicas: list[Model] = []
        self._cuda_functions: dict[str, tuple[Any, InferenceFunction]] = {}  # by precision, with the weights' state

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of both tasks.

        Parameters
        ----------
        ids : token ids with [CLS] first and [SEP] last, int64, shape (B, T + 2)

        Returns
        -------
        sequence logits (B,), token logits (B, T), both float32
        """
        return mean_logits(self._alone(ids), self.other(ids)) if self.other else self._alone(ids)

    def _alone(self, ids: torch.Tensor) -> Logits:
        """`forward` without `other`."""
        return self._logits(self.encoder(ids))

    def forward_embedded(self, embedded: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of both tasks from token embeddings, shape (B, T + 2, H): differentiable in the sequence.

        `other` has embeddings of its own, and is left out.
        """
        return self._logits(self.encoder.forward_embedded(embedded))

    def _logits(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Hidden states (B, T + 2, H) to the logits of both tasks."""
        pooler = getattr(self.encoder, "pooler", None)
        pooled = pooler(hidden) if pooler else None
        with torch.autocast(hidden.device.type, enabled=False):  # rounding a logit would show in the score
            hidden = self.dropout(hidden.float())
            first = hidden[:, 0] if pooled is None else self.dropout(pooled.float())
            return _single_output(self.sequence_head, first), _single_output(self.token_head, hidden[:, 1:-1])

    def inference_function(self, precision: str) -> InferenceFunction:
        """`forward` for inference with the present weights: the fastest kernel that supports encoder and precision."""
        if precision == "fp16":  # the inference encoders overflow: hidden states exceed the range of fp16
            return self
        own = self._own_function(precision)
        if self.other is None:
            return own
        other = self.other.inference_function(precision)
        return lambda ids: mean_logits(own(ids), other(ids))

    def _own_function(self, precision: str) -> InferenceFunction:
        """`inference_function` without `other`."""
        if self.device.type != "cuda":
            return self._new_function(precision)
        # on a GPU, copying the weights takes as long as some thousand windows
        state = [(id(part), part.device, 0 if part.is_inference() else part._version) for part in self.parameters()]
        with _preparing:
            if precision not in self._cuda_functions or self._cuda_functions[precision][0] != state:
                self._cuda_functions[precision] = state, self._new_function(precision)
            return self._cuda_functions[precision][1]

    def _new_function(self, precision: str) -> InferenceFunction:
        if precision == "bf16" and self.device.type == "cuda" and (triton_model := new_triton_model(self)):
            return triton_model
        try:
            return partial(self._encoded_logits, inference_encoder(self.encoder, precision, self.device))
        except Unsupported:
            return self._alone if self.other else self

    def _encoded_logits(self, encode: Any, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """`forward` with an inference encoder."""
        with torch.autocast(ids.device.type, enabled=False):
            return self._logits(encode(ids).float())

    def attentions(self, ids: torch.Tensor) -> list[torch.Tensor]:
        """Attention weights of each layer, shape (B, heads, T + 2, T + 2): from tokens (third axis) to tokens.

        `other` has an encoder of its own, and is left out.
        """
        return self.encoder.attention_weights(ids)

    @property
    def token_embedding(self) -> nn.Embedding:
        """Embedding of token ids, weights (4^k + 5, H)."""
        return self.encoder.get_input_embeddings()

    @property
    def device(self) -> torch.device:
        """The device that the weights are on."""
        return self.token_head.weight.device


def mean_logits(general: Logits, specialist: Logits) -> Logits:
    """The weighted mean of the logits of two models, for both tasks."""
    sequences, tokens = (torch.lerp(*logits, SPECIALIST_WEIGHT) for logits in zip(general, specialist))
    return sequences, tokens


def inference_encoder(encoder: Any, precision: str, device: torch.device) -> InferenceEncoder | CompiledEncoder:
    """The fastest inference encoder for this precision ("fp32", "int16" or "bf16"); it copies the weights.

    Raises
    ------
    Unsupported : see `InferenceEncoder`.
    """
    if precision == "bf16" and device.type == "cpu" and amx.supports(encoder):
        return amx.AmxEncoder(encoder)
    if precision == "int16" and avx.supports(encoder):
        return avx.AvxEncoder(encoder)
    rough = precision == "bf16" or (precision == "int16" and has_bf16(device))
    return InferenceEncoder(encoder, torch.bfloat16 if rough else torch.float32)


def _single_output(head: nn.Linear, hidden: torch.Tensor) -> torch.Tensor:
    """A linear layer with one output, (..., H) to (...): a matrix product would round differently by batch size."""
    return (hidden * head.weight[0]).sum(-1) + head.bias


def token_ids(codes: np.ndarray, k: int) -> torch.Tensor:
    """Token ids, the input of a model, of sequences of one length.

    Parameters
    ----------
    codes : base codes of `sequence.encoding.encode`, shape (B, L)
    k : bases in a token

    Returns
    -------
    int64 tensor, shape (B, L - k + 3): [CLS], the k-mers, [SEP]
    """
    ids = np.empty((len(codes), codes.shape[1] - k + 3), dtype=np.int64)
    ids[:, 0], ids[:, -1] = CLS, SEP
    ids[:, 1:-1] = kmer_ids(codes, k)
    return torch.from_numpy(ids)
