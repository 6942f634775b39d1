"""The compact encoder: a small ModernBERT (Warner et al. 2024), token ids in, hidden states out.

It is the one definition of the architecture: it trains, and it is the oracle of faster kernels. Weights are named as in
`transformers.ModernBertModel`. Shapes: B sequences, T tokens, H hidden units, D = H / heads units of a head.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn.functional import gelu, scaled_dot_product_attention, softmax

from ..sequence.encoding import CLS, PAD, SEP, vocabulary
from .encoder_config import COMPACT_SIZE, FULL, HEAD_SIZE, LOCAL, EncoderConfig, covers
from .kernels import training


class Embeddings(nn.Module):
    """Token embedding and its norm."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.tok_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.norm = _norm(config)


def _norm(config: EncoderConfig) -> nn.LayerNorm:
    return nn.LayerNorm(config.hidden_size, eps=config.norm_eps, bias=config.norm_bias)


class Attention(nn.Module):
    """Multi-head self-attention with rotary positions (Su et al. 2021)."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.heads = config.num_attention_heads
        self.Wqkv = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=config.attention_bias)
        self.Wo = nn.Linear(config.hidden_size, config.hidden_size, bias=config.attention_bias)

    def forward(
        self, x: torch.Tensor, rotary: tuple[torch.Tensor, torch.Tensor], mask: torch.Tensor | None, explicit: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """x (B, T, H) to (B, T, H), and the attention weights (B, heads, T, T) if `explicit`; else fused."""
        B, T, H = x.shape
        q, k, v = self.Wqkv(x).view(B, T, 3, self.heads, -1).unbind(2)  # each (B, T, heads, D)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # each (B, heads, T, D)
        q, k = rotate(q, *rotary), rotate(k, *rotary)
        scale, weights = q.shape[-1] ** -0.5, None
        if explicit:
            scores = torch.matmul(q, k.transpose(2, 3)) * scale  # (B, heads, T, T)
            scores = scores if mask is None else scores + mask
            weights = softmax(scores, dim=-1, dtype=torch.float32).to(q.dtype)
            mixed = torch.matmul(weights, v)  # (B, heads, T, D)
        else:
            mask = None if mask is None else mask.to(q.dtype)
            mixed = scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
        return self.Wo(mixed.transpose(1, 2).reshape(B, T, H)), weights


def rotate(x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    """Rotate units i and i + D / 2 of each token by the token's angle: x (B, heads, T, D), cosine and sine (T, D)."""
    first, second = x.float().chunk(2, dim=-1)
    return (x.float() * cosine + torch.cat((-second, first), dim=-1) * sine).to(x.dtype)


class FeedForward(nn.Module):
    """Gated feed-forward network (GeGLU, Shazeer 2020)."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.Wi = nn.Linear(config.hidden_size, 2 * config.intermediate_size, bias=config.mlp_bias)
        self.Wo = nn.Linear(config.intermediate_size, config.hidden_size, bias=config.mlp_bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        up, gate = self.Wi(x).chunk(2, dim=-1)
        return self.Wo(gelu(up) * gate)


class Layer(nn.Module):
    """Attention and feed-forward network, each after a norm and added to its input; embeddings are normed already."""

    def __init__(self, config: EncoderConfig, number: int):
        super().__init__()
        self.kind = config.layer_types[number]
        self.attn_norm = _norm(config) if number else nn.Identity()
        self.attn = Attention(config)
        self.mlp_norm = _norm(config)
        self.mlp = FeedForward(config)

    def forward(
        self, x: torch.Tensor, rotary: tuple[torch.Tensor, torch.Tensor], mask: torch.Tensor | None, explicit: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """As `Attention.forward`."""
        mixed, weights = self.attn(self.attn_norm(x), rotary, mask, explicit)
        x = x + mixed
        return x + self.mlp(self.mlp_norm(x)), weights


class Encoder(nn.Module):
    """Token ids, int64 (B, T), to hidden states (B, T, H).

    Full layers attend to all tokens, local layers to `config.sliding_window` on either side. In training on a CPU,
    `kernels.training` computes what it supports; for the rest attention is explicit, because its backward pass is far
    faster there, else fused.
    """

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.layers = nn.ModuleList(Layer(config, number) for number in range(config.num_hidden_layers))
        self.final_norm = _norm(config)
        for kind, theta in config.rope_theta.items():
            units = torch.arange(0, config.head_size, 2, dtype=torch.float32)
            self.register_buffer(f"{kind}_frequencies", 1.0 / theta ** (units / config.head_size), persistent=False)
        self._initialize()

    def get_input_embeddings(self) -> nn.Embedding:
        """The token embedding, by the name that it has in `transformers`."""
        return self.embeddings.tok_embeddings

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        if self.training and training.supports(self, ids.device):
            return training.encode(self, ids)
        return self.forward_embedded(self.embeddings.tok_embeddings(ids))

    def forward_embedded(self, embedded: torch.Tensor) -> torch.Tensor:
        """Hidden states (B, T, H) of token embeddings (B, T, H)."""
        return self._run(embedded, explicit=self.training and embedded.device.type == "cpu")[0]

    def attention_weights(self, ids: torch.Tensor) -> list[torch.Tensor]:
        """Of each layer, shape (B, heads, T, T): how much each token (third axis) attends to each (fourth axis)."""
        return self._run(self.embeddings.tok_embeddings(ids), explicit=True)[1]

    def _run(self, embedded: torch.Tensor, explicit: bool) -> tuple[torch.Tensor, list[Any]]:
        x, attentions = self.embeddings.norm(embedded), []
        layer: Any
        rotary = {kind: self.rotary(x.shape[1], kind) for kind in (FULL, LOCAL)}
        masks = {FULL: None, LOCAL: self.local_mask(x.shape[1], x.dtype, x.device)}
        for layer in self.layers:
            x, weights = layer(x, rotary[layer.kind], masks[layer.kind], explicit)
            attentions.append(weights)
        return self.final_norm(x), attentions

    def rotary(self, length: int, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines of the angles of tokens in layers of this kind, float32 (T, D)."""
        frequencies = getattr(self, f"{kind}_frequencies")
        angles = torch.arange(length, device=frequencies.device)[:, None].float() * frequencies
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos(), angles.sin()

    def local_mask(self, length: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor | None:
        """What local layers add to their scores, shape (T, T): 0 inside the sliding window, minus infinity outside."""
        if length < self.config.sliding_window:
            return None
        token = torch.arange(length, device=device)
        outside = (token[:, None] - token).abs() > self.config.sliding_window
        return torch.zeros(outside.shape, dtype=dtype, device=device).masked_fill_(outside, -torch.inf)

    def _initialize(self) -> None:
        """Truncated normal weights; those that add to the residual stream are smaller, the more layers there are."""
        inner = self.config.initializer_range
        outer = inner / math.sqrt(2 * self.config.num_hidden_layers)
        self._draw((self.embeddings.tok_embeddings, inner))
        layer: Any
        for layer in self.layers:
            self._draw((layer.attn.Wqkv, inner), (layer.attn.Wo, outer))
            self._draw((layer.mlp.Wi, inner), (layer.mlp.Wo, outer))

    def _draw(self, *parts: tuple[Any, float]) -> None:
        """Draw the weights of modules, each with its standard deviation."""
        for module, std in parts:  # overwritten below: a seed gives the weights that it gives in transformers
            nn.init.normal_(module.weight, std=std)
        for module, std in parts:
            cut = self.config.initializer_cutoff_factor * std
            nn.init.trunc_normal_(module.weight, std=std, a=-cut, b=cut)
            if getattr(module, "bias", None) is not None:
                nn.init.zeros_(module.bias)


def new_encoder(config: dict[str, Any]) -> Any:
    """An encoder with random weights: ours where it covers the configuration, else one of `transformers`.

    Raises
    ------
    ValueError : the configuration is neither `modernbert` nor `bert`, or cannot be used.
    """
    settings = _settings(config)
    if isinstance(settings, EncoderConfig):
        return Encoder(settings)
    from .huggingface import huggingface_encoder

    return huggingface_encoder(settings)


def least_parameters(config: dict[str, Any]) -> int:
    """Parameters in the matrices of the encoder, from its configuration alone; errors as in `new_encoder`."""
    settings = _settings(config)
    rows = settings.vocab_size + (settings.max_position_embeddings if settings.model_type == "bert" else 0)
    layer = 4 * settings.hidden_size + 2 * settings.intermediate_size
    return settings.hidden_size * (rows + settings.num_hidden_layers * layer)


def _settings(config: dict[str, Any]) -> Any:
    """An `EncoderConfig`, or a configuration of `transformers`."""
    if covers(config):
        return EncoderConfig.from_dict(config)
    if config.get("model_type") not in ("modernbert", "bert"):
        raise ValueError(f"encoder type is {config.get('model_type')!r}, expected 'modernbert' or 'bert'")
    from .huggingface import transformers_config

    return transformers_config(config)


def compact_config(k: int, window: int, size: tuple[int, int] = COMPACT_SIZE) -> dict[str, Any]:
    """Configuration of the default encoder: a small ModernBERT (Warner et al. 2024) with rotary positions.

    Every third layer, counted from the last, attends to the whole window, the others to 8 tokens on either side. The
    last layer is a full one, so that the attention of [CLS] shows which bases the decision rests on.

    Parameters
    ----------
    size : units of a hidden state, a multiple of `HEAD_SIZE`, and layers
    """
    hidden_size, layers = size
    kinds = [LOCAL if (layers - 1 - number) % 3 else FULL for number in range(layers)]
    return {
        "model_type": "modernbert",
        "vocab_size": len(vocabulary(k)),
        "hidden_size": hidden_size,
        "intermediate_size": 2 * hidden_size,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden_size // HEAD_SIZE,
        **({"global_attn_every_n_layers": 3} if kinds[0] == FULL else {"layer_types": kinds}),
        "local_attention": 16,
        "max_position_embeddings": window + 2,
        "pad_token_id": PAD,
        "cls_token_id": CLS,
        "sep_token_id": SEP,
        "bos_token_id": CLS,
        "eos_token_id": SEP,
    }
