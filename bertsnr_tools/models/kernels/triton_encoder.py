"""The Triton kernel: a compact model in bf16 on a GPU, several times as fast as `kernels.inference`.

One program computes all layers of one window; the hidden states stay in registers. `models.encoder` is its oracle.
On an H100, 1024 windows at a time, it scores 1.26 million windows per second, and `kernels.inference` 0.24 million, or
0.59 million through torch.compile. A third pipeline stage makes it 2 % faster and takes half as much memory again.
Shapes: B windows of T tokens, H units of a hidden state, D units of a head, I units of the feed-forward layer.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import nn
from torch.nn.functional import layer_norm

from ..encoder import Encoder
from ..encoder_config import LOCAL
from .inference import Unsupported

TOKENS = 128  # rows of a program: windows have at most this many tokens
CHUNK = 64  # units of the feed-forward layer that are computed together
LOG2_E = math.log2(math.e)


@triton.jit
def _normed(hidden, weight, eps, H: tl.constexpr):
    """Layer norm without bias."""
    centered = hidden - tl.sum(hidden, 1)[:, None] / H
    variance = tl.sum(centered * centered, 1) / H
    return centered * tl.rsqrt(variance + eps)[:, None] * tl.load(weight + tl.arange(0, H))[None, :]


@triton.jit
def _product(x, weight, first, rows: tl.constexpr, H: tl.constexpr):
    """x (T, H) times `rows` rows of a weight (any, H), from row `first`: shape (T, rows), fp32."""
    row = first + tl.arange(0, rows)
    part = tl.load(weight + row[:, None] * H + tl.arange(0, H)[None, :])
    return tl.dot(x, tl.trans(part))


@triton.jit
def _add_product(hidden, x, weight, first, columns: tl.constexpr, width: tl.constexpr, H: tl.constexpr):
    """Hidden states plus x (T, columns) times columns of a weight (H, width), from column `first`."""
    column = first + tl.arange(0, columns)
    part = tl.load(weight + tl.arange(0, H)[:, None] * width + column[None, :])
    return tl.dot(x, tl.trans(part), hidden)


@triton.jit
def _attention_head(x, qkv, head, cosine, sine, reach, T, H: tl.constexpr, D: tl.constexpr):
    """Weighted means of the values of a head, shape (T, D); queries and keys have rotary positions."""
    dtype: tl.constexpr = qkv.dtype.element_ty
    half: tl.constexpr = D // 2
    query_1 = _product(x, qkv, head * D, half, H)
    query_2 = _product(x, qkv, head * D + half, half, H)
    key_1 = _product(x, qkv, H + head * D, half, H)
    key_2 = _product(x, qkv, H + head * D + half, half, H)
    value = _product(x, qkv, 2 * H + head * D, D, H).to(dtype)
    rotated_query_1 = (query_1 * cosine - query_2 * sine).to(dtype)
    rotated_query_2 = (query_2 * cosine + query_1 * sine).to(dtype)
    rotated_key_1 = (key_1 * cosine - key_2 * sine).to(dtype)
    rotated_key_2 = (key_2 * cosine + key_1 * sine).to(dtype)
    scores = tl.dot(rotated_query_1, tl.trans(rotated_key_1))
    scores = tl.dot(rotated_query_2, tl.trans(rotated_key_2), scores)
    query, key = head // 1024 + tl.arange(0, scores.shape[0])[:, None], tl.arange(0, scores.shape[1])[None, :]
    scores = tl.where((tl.abs(query - key) > reach) | (key >= T), -1e30, scores)
    weights = tl.exp2(scores - tl.max(scores, 1)[:, None])  # queries are scaled by log2(e)
    mixed = tl.dot(weights.to(dtype), value)
    return (mixed / tl.sum(weights, 1)[:, None]).to(dtype)


@triton.jit(do_not_specialize=["T"])
def _window_logits(
    ids, sequence_logits, token_logits, words, norms, qkv, out, inner, outer, cosines, sines, reach, head_weights,
    head_bias, T, eps,
    LAYERS: tl.constexpr, H: tl.constexpr, D: tl.constexpr, INNER: tl.constexpr, ROWS: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """Token ids of a window to its logits; the arguments are described in `TritonModel`."""
    window = tl.program_id(0).to(tl.int64)
    dtype: tl.constexpr = qkv.dtype.element_ty
    token, unit = tl.arange(0, ROWS), tl.arange(0, H)
    word = tl.load(ids + window * T + token, mask=token < T, other=0)
    hidden = tl.load(words + word[:, None] * H + unit[None, :])
    half = tl.arange(0, D // 2)
    for layer in range(LAYERS):
        angle = (layer * ROWS + token[:, None]) * (D // 2) + half[None, :]
        cosine, sine = tl.load(cosines + angle), tl.load(sines + angle)
        normed = hidden if layer == 0 else _normed(hidden, norms + 2 * layer * H, eps, H)
        x = normed.to(dtype)
        for head in range(H // D):
            mixed = _attention_head(x, qkv + layer * 3 * H * H, head, cosine, sine, tl.load(reach + layer), T, H, D)
            hidden = _add_product(hidden, mixed, out + layer * H * H, head * D, D, H, H)
        x = _normed(hidden, norms + (2 * layer + 1) * H, eps, H).to(dtype)
        for first in range(0, INNER, C):
            up = _product(x, inner + layer * 2 * INNER * H, first, C, H)
            gate = _product(x, inner + layer * 2 * INNER * H, INNER + first, C, H)
            gelu = 0.5 * up * (1 + tl.erf(up * 0.7071067811865476))
            hidden = _add_product(hidden, (gelu * gate).to(dtype), outer + layer * H * INNER, first, C, INNER, H)
    hidden = _normed(hidden, norms + 2 * LAYERS * H, eps, H)
    sequence = tl.sum(hidden * tl.load(head_weights + unit)[None, :], 1) + tl.load(head_bias)
    tokens = tl.sum(hidden * tl.load(head_weights + H + unit)[None, :], 1) + tl.load(head_bias + 1)
    tl.store(sequence_logits + window + token, sequence, mask=token == 0)
    tl.store(token_logits + window * (T - 2) + token - 1, tokens, mask=(token > 0) & (token < T - 1))


class TritonModel:
    """A compact `BertSNR` as an `interface.InferenceFunction` of one kernel; a window's logits depend on nothing else.

    Parameters
    ----------
    model : a model on a GPU, whose windows have at most `TOKENS` tokens; its weights are copied
    dtype : of the operands of matrix products

    Raises
    ------
    Unsupported : the kernel does not compute this model, see `_check`.
    """

    def __init__(self, model: Any, dtype: torch.dtype = torch.bfloat16):
        encoder = model.encoder
        _check(encoder, model.info.window - model.info.k + 3)
        config = self._config = encoder.config
        norm, words = encoder.embeddings.norm, encoder.embeddings.tok_embeddings.weight.detach().double()
        self._words = layer_norm(words, norm.normalized_shape, norm.weight.detach().double(), None, norm.eps).float()
        layers = list(encoder.layers)
        norms = [part.weight for layer in layers for part in (_attention_norm(layer), layer.mlp_norm)]
        self._norms = (
            torch.stack([*norms, encoder.final_norm.weight]).detach().float()
        )  # two of each layer, then the last
        self._weights = [
            torch.stack([part.detach() for part in parts]).to(dtype).contiguous()
            for parts in (
                [_scaled_qkv(layer.attn.Wqkv.weight, config.head_size) for layer in layers],
                [layer.attn.Wo.weight for layer in layers],
                [layer.mlp.Wi.weight for layer in layers],
                [layer.mlp.Wo.weight for layer in layers],
            )
        ]
        rotary = [encoder.rotary(TOKENS, layer.kind) for layer in layers]
        half = config.head_size // 2
        self._rotary = [torch.stack([pair[index][:, :half] for pair in rotary]).contiguous() for index in (0, 1)]
        reach = [config.sliding_window if layer.kind == LOCAL else TOKENS for layer in layers]
        self._reach = torch.tensor(reach, dtype=torch.int32, device=words.device)
        heads = (model.sequence_head, model.token_head)
        self._head_weights = torch.cat([head.weight.detach() for head in heads]).float()
        self._head_bias = torch.cat([head.bias.detach() for head in heads]).float()

    def __call__(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits as `bertsnr.BertSNR.forward` returns them."""
        windows, tokens = ids.shape
        if tokens > TOKENS:
            raise ValueError(f"windows have {tokens} tokens, expected at most {TOKENS}")
        sequence = torch.empty(windows, dtype=torch.float32, device=ids.device)
        token = torch.empty(windows, tokens - 2, dtype=torch.float32, device=ids.device)
        config = self._config
        tables = (self._words, self._norms, *self._weights, *self._rotary, self._reach)
        sizes = {"LAYERS": len(self._reach), "H": config.hidden_size, "D": config.head_size}
        sizes["INNER"] = config.intermediate_size
        with torch.cuda.device_of(ids):  # Triton launches on the current device
            _window_logits[(windows,)](
                ids.contiguous(), sequence, token, *tables, self._head_weights, self._head_bias, tokens,
                config.norm_eps, **sizes, ROWS=TOKENS, C=CHUNK, num_warps=8, num_stages=2,
            )  # fmt: skip
        return sequence, token


def _check(encoder: Any, tokens: int) -> None:
    """Raise `Unsupported` for an encoder, or windows of `tokens` tokens, that the kernel does not compute."""
    if not isinstance(encoder, Encoder):
        raise Unsupported("not a compact encoder")
    config = encoder.config
    sizes = (config.hidden_size, config.head_size, config.intermediate_size % CHUNK)
    if sizes != (128, 32, 0) or config.attention_bias or config.mlp_bias or config.norm_bias or tokens > TOKENS:
        raise Unsupported(f"{tokens} tokens, or {config}")


def _attention_norm(layer: Any) -> Any:
    """The norm before attention; in the first layer, which has none, any other."""
    return layer.mlp_norm if isinstance(layer.attn_norm, nn.Identity) else layer.attn_norm


def _scaled_qkv(weight: torch.Tensor, head_size: int) -> torch.Tensor:
    """Weight of queries, keys and values; queries are scaled so that the softmax is of base 2."""
    scale = torch.ones(3, 1, 1, device=weight.device)
    scale[0] = head_size**-0.5 * LOG2_E
    return (weight.view(3, -1, weight.shape[1]) * scale).view_as(weight)
