"""The inference encoder: the forward pass of a ModernBERT or BERT in plain torch, in one dtype throughout."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.functional import embedding, gelu, layer_norm, linear, pad, scaled_dot_product_attention

QUERY_BLOCK = 25  # queries of a local layer whose attention is computed together, at most


class Unsupported(Exception):
    """An encoder has a part that this kernel does not compute; the plain encoder computes it."""


class Affine(NamedTuple):
    """Weight and bias of a linear layer or of a norm."""

    weight: torch.Tensor
    bias: torch.Tensor | None


class Layer(NamedTuple):
    """Weights of one layer.

    Attributes
    ----------
    attn_norm : norm before attention; None in BERT and in the first layer of ModernBERT
    qkv : queries (divided by the square root of the head size), keys and values
    out : projection after attention
    mlp_norm : norm before the feed-forward network
    up, gate, down : the feed-forward network; gate is None where it is not gated
    last_norm : norm after the feed-forward network; None in ModernBERT
    kind : "full_attention" or "sliding_attention"
    """

    attn_norm: Affine | None
    qkv: Affine
    out: Affine
    mlp_norm: Affine
    up: Affine
    gate: Affine | None
    down: Affine
    last_norm: Affine | None
    kind: str


class InferenceEncoder:
    """Token ids, int64 (B, T), to hidden states (B, T, H), as the encoder itself computes them in evaluation.

    Parameters
    ----------
    encoder : an `encoder.Encoder` or one of `huggingface`; its weights are copied
    dtype : of weights and hidden states

    Raises
    ------
    Unsupported : the encoder has an activation other than gelu, or causal attention.
    """

    def __init__(self, encoder: Any, dtype: torch.dtype):
        config = encoder.config
        self.modern = config.model_type == "modernbert"
        activation = config.hidden_activation if self.modern else config.hidden_act
        if activation != "gelu":
            raise Unsupported(f"activation {activation!r}, expected 'gelu'")
        if getattr(config, "is_causal", False) or getattr(config, "is_decoder", False):
            raise Unsupported("causal attention")
        self.encoder, self.dtype, self.heads = encoder, dtype, config.num_attention_heads
        self.eps = config.norm_eps if self.modern else config.layer_norm_eps
        self.window = config.sliding_window if self.modern else 0
        if self.modern:
            self._read_modernbert(encoder)
        else:
            self._read_bert(encoder)
        self._rotary: dict[tuple[str, int], tuple[torch.Tensor, torch.Tensor]] = {}
        self._masks: dict[int, torch.Tensor] = {}
        self._block_masks: dict[int, torch.Tensor] = {}

    def _read_modernbert(self, encoder: Any) -> None:
        self.layers = [
            self._modernbert_layer(layer, kind) for layer, kind in zip(encoder.layers, encoder.config.layer_types)
        ]
        self.last_norm: Affine | None = self._affine(encoder.final_norm)
        # a token's first steps do not depend on its position: normed embedding, first queries, keys, values are tables
        words = encoder.embeddings.tok_embeddings.weight.detach().to(self.dtype)
        self.words = self._norm(self._affine(encoder.embeddings.norm), words)
        self.first_qkv = self._queries_keys_values(self.layers[0], self.words)

    def _read_bert(self, encoder: Any) -> None:
        self.layers = [self._bert_layer(layer) for layer in encoder.encoder.layer]
        self.last_norm = None
        embeddings = encoder.embeddings
        self.words = embeddings.word_embeddings.weight.detach().to(self.dtype)
        positions = embeddings.position_embeddings.weight + embeddings.token_type_embeddings.weight[0]
        self.positions = positions.detach().to(self.dtype)
        self.first_norm = self._affine(embeddings.LayerNorm)

    def _affine(self, part: Any) -> Affine:
        return self._converted(part.weight, part.bias)

    def _converted(self, weight: torch.Tensor, bias: torch.Tensor | None) -> Affine:
        return Affine(weight.detach().to(self.dtype), None if bias is None else bias.detach().to(self.dtype))

    def _scaled_qkv(self, weight: torch.Tensor, bias: torch.Tensor | None) -> Affine:
        """Weights of queries, keys and values, the queries' divided by the square root of the head size."""
        size = len(weight) // 3
        scale = torch.ones(len(weight), device=weight.device)
        scale[:size] = (size // self.heads) ** -0.5
        return self._converted(weight * scale[:, None], None if bias is None else bias * scale)

    def _modernbert_layer(self, layer: Any, kind: str) -> Layer:
        inner = self._affine(layer.mlp.Wi)
        up_bias, gate_bias = (None, None) if inner.bias is None else inner.bias.chunk(2)
        up_weight, gate_weight = inner.weight.chunk(2)
        return Layer(
            attn_norm=None if isinstance(layer.attn_norm, nn.Identity) else self._affine(layer.attn_norm),
            qkv=self._scaled_qkv(layer.attn.Wqkv.weight, layer.attn.Wqkv.bias),
            out=self._affine(layer.attn.Wo),
            mlp_norm=self._affine(layer.mlp_norm),
            up=Affine(up_weight, up_bias),
            gate=Affine(gate_weight, gate_bias),
            down=self._affine(layer.mlp.Wo),
            last_norm=None,
            kind=kind,
        )

    def _bert_layer(self, layer: Any) -> Layer:
        attention, output = layer.attention.self, layer.attention.output
        qkv = (attention.query, attention.key, attention.value)
        return Layer(
            attn_norm=None,
            qkv=self._scaled_qkv(torch.cat([part.weight for part in qkv]), torch.cat([part.bias for part in qkv])),
            out=self._affine(output.dense),
            mlp_norm=self._affine(output.LayerNorm),
            up=self._affine(layer.intermediate.dense),
            gate=None,
            down=self._affine(layer.output.dense),
            last_norm=self._affine(layer.output.LayerNorm),
            kind="full_attention",
        )

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        count, length = ids.shape
        hidden = embedding(ids, self.words)
        if not self.modern:
            hidden = self._norm(self.first_norm, hidden + self.positions[:length])
        hidden = hidden.view(count * length, -1)
        for number, layer in enumerate(self.layers):
            if self.modern and number == 0:
                qkv = embedding(ids, self.first_qkv).view(count * length, -1)
            else:
                qkv = self._queries_keys_values(layer, hidden)
            hidden = self._after_attention(layer, hidden, self._attention(layer, qkv, count, length))
        if self.last_norm:
            hidden = self._norm(self.last_norm, hidden)
        return hidden.view(count, length, -1)

    def _queries_keys_values(self, layer: Layer, hidden: torch.Tensor) -> torch.Tensor:
        """Shape (n, H) to (n, 3 H)."""
        return linear(self._norm(layer.attn_norm, hidden) if layer.attn_norm else hidden, *layer.qkv)

    def _after_attention(self, layer: Layer, hidden: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
        """The rest of a layer; all of shape (n, H)."""
        hidden = _add_linear(hidden, mixed, layer.out)
        normed = self._norm(layer.mlp_norm, hidden)
        if layer.last_norm:  # BERT adds to what is normed
            hidden = normed
        inner = gelu(linear(normed, *layer.up))
        if layer.gate:
            inner *= linear(normed, *layer.gate)
        hidden = _add_linear(hidden, inner, layer.down)
        return self._norm(layer.last_norm, hidden) if layer.last_norm else hidden

    def _norm(self, norm: Affine, hidden: torch.Tensor) -> torch.Tensor:
        return layer_norm(hidden, hidden.shape[-1:], norm.weight, norm.bias, self.eps)

    def _attention(self, layer: Layer, qkv: torch.Tensor, count: int, length: int) -> torch.Tensor:
        """Shape (B * T, 3 H) to (B * T, H)."""
        split = qkv.view(count, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # (3, B, heads, T, D)
        query, key = self._rotated(layer.kind, split[:2]) if self.modern else split[:2]
        local = layer.kind == "sliding_attention" and self.window < length
        if qkv.device.type == "cpu" and self.dtype == torch.bfloat16:  # for which the fused kernel is slow
            parts = [part.reshape(count * self.heads, length, -1) for part in (query, key, split[2])]
            mixed = (self._local_attention if local else _attend)(*parts).view(count, self.heads, length, -1)
        else:
            mask = self._mask(length, qkv.device) if local else None
            mixed = scaled_dot_product_attention(query, key, split[2], attn_mask=mask, scale=1.0)
        return mixed.transpose(1, 2).reshape(count * length, -1)

    def _rotated(self, kind: str, parts: torch.Tensor) -> torch.Tensor:
        """Queries and keys with rotary positions (Su et al. 2021), shape (2, B, heads, T, D)."""
        length, half = parts.shape[-2], parts.shape[-1] // 2
        if (kind, length) not in self._rotary:
            cosine, sine = self.encoder.rotary(length, kind)
            sine = torch.cat([-sine[:, :half], sine[:, half:]], dim=-1)
            self._rotary[kind, length] = cosine.to(self.dtype), sine.to(self.dtype)
        cosine, sine = self._rotary[kind, length]
        parts = parts.contiguous()
        return torch.cat([parts[..., half:], parts[..., :half]], dim=-1).mul_(sine).addcmul_(parts, cosine)

    def _local_attention(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Attention of a local layer in blocks of queries, each with the keys in its reach; all of shape (n, T, D)."""
        length, reach, size = query.shape[1], self.window, query.shape[2]
        block = -(-length // -(-length // QUERY_BLOCK))
        rest, keys = -length % block, block + 2 * reach

        def in_reach(part: torch.Tensor) -> torch.Tensor:
            padded = pad(part, (0, 0, reach, reach + rest))
            return padded.unfold(1, keys, block).transpose(2, 3).reshape(-1, keys, size)

        query = pad(query, (0, 0, 0, rest)).reshape(-1, block, size)
        mixed = _attend(query, in_reach(key), in_reach(value), self._block_mask(length, block))
        return mixed.view(-1, length + rest, size)[:, :length]

    def _mask(self, length: int, device: torch.device) -> torch.Tensor:
        """0 for the tokens in the sliding window of a token, else minus infinity; shape (T, T)."""
        if length not in self._masks:
            token = torch.arange(length, device=device)
            outside = (token[:, None] - token).abs() > self.window
            mask = torch.zeros(length, length, dtype=self.dtype, device=device)
            self._masks[length] = mask.masked_fill_(outside, -torch.inf)
        return self._masks[length]

    def _block_mask(self, length: int, block: int) -> torch.Tensor:
        """`_mask` by blocks, shape (blocks, block, block + 2 window); queries past the last token attend to all."""
        if length not in self._block_masks:
            rest, reach = -length % block, self.window
            mask = pad(self._mask(length, torch.device("cpu")), (reach, reach + rest), value=-torch.inf)
            mask = pad(mask, (0, 0, 0, rest))
            blocks = [mask[at : at + block, at : at + block + 2 * reach] for at in range(0, length, block)]
            self._block_masks[length] = torch.stack(blocks)
        return self._block_masks[length]


def _add_linear(hidden: torch.Tensor, inner: torch.Tensor, part: Affine) -> torch.Tensor:
    """Hidden states plus a linear layer of `inner`."""
    if part.bias is None:
        return torch.addmm(hidden, inner, part.weight.t())
    return linear(inner, *part).add_(hidden)


def _attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Attention in bf16: weighted means of the values, shape (n, T, D).

    bf16 has the exponents of fp32, so the maximum need not be subtracted before the exponential, unless a row's sum is
    then out of range. That saves most of the time of a softmax.

    Parameters
    ----------
    mask : added to the scores, shape (m, T, keys), repeated for every m of the n
    """
    scores = torch.bmm(query, key.transpose(1, 2))
    if mask is not None:
        scores.view(-1, *mask.shape).add_(mask)
    weights = scores.exp()
    total = weights.sum(-1, keepdim=True)
    mixed = torch.bmm(weights, value).div_(total)
    in_range = (total > 1e-30) & (total < 1e30)
    return mixed if in_range.all() else torch.where(in_range, mixed, torch.bmm(torch.softmax(scores, -1), value))
