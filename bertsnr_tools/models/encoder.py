"""The two-task network of BertSNR (Luo et al. 2024, section 2.3), its devices and its file format."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..sequence.encoding import CLS, PAD, SEP, vocabulary

MAX_LAYERS = 256


def compact_config(k: int, window: int) -> dict[str, Any]:
    """Configuration of the default encoder: a small ModernBERT (Warner et al. 2024) with rotary positions.

    Layers 0 and 3 attend to the whole window, layers 1 and 2 to 8 tokens on either side; the last layer is a full one, so
    that the attention of [CLS] says which bases the decision rests on.
    """
    return {
        "model_type": "modernbert",
        "vocab_size": len(vocabulary(k)),
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "global_attn_every_n_layers": 3,
        "local_attention": 16,
        "max_position_embeddings": window + 2,
        "pad_token_id": PAD,
        "cls_token_id": CLS,
        "sep_token_id": SEP,
        "bos_token_id": CLS,
        "eos_token_id": SEP,
    }


def new_encoder(config: dict[str, Any]) -> nn.Module:
    """An encoder with random weights, from its configuration."""
    options = {name: value for name, value in config.items() if name != "model_type"} | {"attn_implementation": "sdpa"}
    kind = config.get("model_type")
    if config.get("num_hidden_layers", 1) > MAX_LAYERS:
        raise ValueError(f"{config['num_hidden_layers']} layers, known are encoders of up to {MAX_LAYERS}")
    if kind == "modernbert":
        from transformers import ModernBertConfig, ModernBertModel

        return ModernBertModel(ModernBertConfig(**options))
    if kind == "bert":  # DNABERT's
        from transformers import BertConfig, BertModel

        return BertModel(BertConfig(**options))
    raise ValueError(f"encoder type is {kind!r}, known are 'modernbert' and 'bert'")
