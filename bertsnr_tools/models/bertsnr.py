"""The two-task network of BertSNR (Luo et al. 2024, section 2.3), its devices and its file format."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from ..sequence.encoding import CLS, SEP, kmer_ids
from .encoder import new_encoder
from .interface import InferenceFunction, ModelInfo
from .kernels import amx
from .kernels.inference import InferenceEncoder
from .prefilter_network import PrefilterNetwork

DROPOUT = 0.2


class BertSNR(nn.Module):
    """Encoder, dropout, a sequence head on [CLS] (pooled where the encoder has a pooler) and a token head on every k-mer."""

    def __init__(self, info: ModelInfo):
        super().__init__()
        self.info = info
        self.encoder: Any = new_encoder(info.encoder)
        self.dropout = nn.Dropout(DROPOUT)
        self.sequence_head = nn.Linear(info.encoder["hidden_size"], 1)
        self.token_head = nn.Linear(info.encoder["hidden_size"], 1)
        self.prefilter = PrefilterNetwork(**info.prefilter) if info.prefilter else None
        self.replicas: list[BertSNR] = []  # on other devices, to share the work with

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of both tasks.

        Parameters
        ----------
        ids : token ids with [CLS] first and [SEP] last, shape (B, T + 2)

        Returns
        -------
        sequence logits (B,), token logits (B, T), both float32
        """
        output = self.encoder(input_ids=ids)
        with torch.autocast(ids.device.type, enabled=False):  # one rounding of a logit would be seen in the score
            return self._logits(output.last_hidden_state, output.get("pooler_output"))

    def _logits(self, hidden: torch.Tensor, pooled: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Of hidden states (B, T + 2, H) and, where the encoder has a pooler, what it makes of them."""
        hidden = self.dropout(hidden.float())
        first = hidden[:, 0] if pooled is None else self.dropout(pooled.float())
        return _single_output(self.sequence_head, first), _single_output(self.token_head, hidden[:, 1:-1])

    def inference_function(self, precision: str) -> InferenceFunction:
        """`forward` for inference, with the weights of now in the arithmetic of `precision`."""
        if precision == "fp16":  # whose range is too small for hidden states
            return self
        try:
            lean = _inference_encoder(self.encoder, self.device, precision)
        except ValueError:
            return self

        def read(ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            with torch.autocast(ids.device.type, enabled=False):
                hidden = lean(ids).float()
                pooler = getattr(self.encoder, "pooler", None)
                return self._logits(hidden, pooler and pooler(hidden))

        return read

    @property
    def device(self) -> torch.device:
        return self.token_head.weight.device

    def use_training_attention(self, on: bool) -> None:
        """Choose the attention for training (on a CPU its backward pass is far faster) or the fused one for all else."""
        self.encoder.set_attn_implementation("eager" if on else "sdpa")


def _inference_encoder(
    encoder: nn.Module, device: torch.device, precision: str
) -> Callable[[torch.Tensor], torch.Tensor]:
    if precision == "bf16" and device.type == "cpu" and amx.supports(encoder):
        return amx.AmxEncoder(encoder)
    return InferenceEncoder(encoder, torch.bfloat16 if precision == "bf16" else torch.float32)


def _single_output(head: nn.Linear, hidden: torch.Tensor) -> torch.Tensor:
    """A linear layer with one output, (..., H) to (...). A matrix-vector product would round differently for each batch size."""
    return (hidden * head.weight[0]).sum(-1) + head.bias


def token_ids(codes: np.ndarray, k: int) -> torch.Tensor:
    """Codes of equally long sequences to model input.

    Parameters
    ----------
    codes : output of `kmers.encode`, shape (B, L)

    Returns
    -------
    int64 tensor, shape (B, L - k + 3): [CLS], the k-mers, [SEP]
    """
    ids = np.empty((len(codes), codes.shape[1] - k + 3), dtype=np.int64)
    ids[:, 0], ids[:, -1] = CLS, SEP
    ids[:, 1:-1] = kmer_ids(codes, k)
    return torch.from_numpy(ids)
