"""Encoders of `transformers`: BERT (DNABERT's kind), and ModernBERT with parts that our encoder lacks. Slow to import.

They offer what `encoder.Encoder` offers: hidden states of ids and of embeddings, attention weights, rotary tables.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import BertConfig, BertModel, ModernBertConfig, ModernBertModel

from .encoder_config import MAX_LAYERS


class _EncoderInterface:
    """Mixed into a model of `transformers`; see `encoder.Encoder`."""

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return super().forward(input_ids=ids).last_hidden_state  # type: ignore[misc]

    def forward_embedded(self, embedded: torch.Tensor) -> torch.Tensor:
        return super().forward(inputs_embeds=embedded).last_hidden_state  # type: ignore[misc]

    def attention_weights(self: Any, ids: torch.Tensor) -> list[torch.Tensor]:
        training = self.training
        self.set_attn_implementation("eager")  # the fused kernel has no weights to show
        try:
            return list(super().forward(input_ids=ids, output_attentions=True).attentions)  # type: ignore[misc]
        finally:
            self.set_attn_implementation("eager" if training else "sdpa")

    def train(self: Any, mode: bool = True) -> Any:
        self.set_attn_implementation("eager" if mode else "sdpa")  # whose backward pass is far faster on a CPU
        return super().train(mode)  # type: ignore[misc]


class BertEncoder(_EncoderInterface, BertModel):  # type: ignore[misc]
    """BERT, with its pooler."""


class ModernBertEncoder(_EncoderInterface, ModernBertModel):  # type: ignore[misc]
    """ModernBERT with dropout, scaled rotary positions or causal attention."""

    def rotary(self, length: int, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
        token = torch.arange(length, device=self.device)
        cosine, sine = self.rotary_emb(torch.zeros((), device=self.device), token[None], kind)
        return cosine[0], sine[0]


def transformers_config(config: dict[str, Any], attention: str = "sdpa") -> Any:
    """Configuration for `transformers`, from that in a model file.

    Parameters
    ----------
    attention : "sdpa", the fused kernel, or "eager", explicit attention weights

    Raises
    ------
    ValueError : it cannot be used.
    """
    options = {name: value for name, value in config.items() if name != "model_type"}
    layers = config.get("num_hidden_layers", 1)
    if isinstance(layers, int) and layers > MAX_LAYERS:
        raise ValueError(f"encoder has {layers} layers, expected at most {MAX_LAYERS}")
    kind: Any = BertConfig if config["model_type"] == "bert" else ModernBertConfig
    try:
        return kind(**options, attn_implementation=attention)
    except Exception as error:  # its checks raise errors of several libraries
        raise ValueError(str(error)) from error


def huggingface_encoder(settings: Any) -> Any:
    """A BERT or ModernBERT with random weights.

    Parameters
    ----------
    settings : of `transformers_config`
    """
    return (BertEncoder if settings.model_type == "bert" else ModernBertEncoder)(settings)


def bert_fields(config: dict[str, Any]) -> dict[str, Any]:
    """The fields of a BERT's `config.json` that `transformers` reads; DNABERT's has others besides."""
    known = BertConfig().to_dict()
    return {name: value for name, value in config.items() if name in known}
