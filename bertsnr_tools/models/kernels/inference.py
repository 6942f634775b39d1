"""The forward pass of an encoder for inference: the weights of a BERT or a ModernBERT in the arithmetic of the run, and no more than that."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.functional import embedding, gelu, layer_norm, linear, pad, scaled_dot_product_attention

QUERY_BLOCK = 25  # queries of a sliding layer whose attention is computed together, at most


class Affine(NamedTuple):
    """The weights of a linear layer or of a norm."""

    weight: torch.Tensor
    bias: torch.Tensor | None


class Layer(NamedTuple):
    """The weights of one layer.

    Attributes
    ----------
    before, between, after : norms in front of attention, in front of the feed-forward part, and behind it; None where there is none
    qkv : queries (divided by the root of a head's size), keys and values
    out, up, down : behind attention, and of the feed-forward part
    gate : of a gated feed-forward part, else None
    kind : "full_attention" or "sliding_attention"
    """

    before: Affine | None
    qkv: Affine
    out: Affine
    between: Affine
    up: Affine
    gate: Affine | None
    down: Affine
    after: Affine | None
    kind: str


class InferenceEncoder:
    """An encoder with one task: token ids, int64 shape (B, T), to hidden states, shape (B, T, H), as the library computes them.

    Parameters
    ----------
    encoder : a ModernBertModel or a BertModel of `transformers`; its weights are read once
    dtype : of weights and hidden states

    Raises
    ------
    ValueError : it has parts that are not known here.
    """

    def __init__(self, encoder: Any, dtype: torch.dtype):
        config = encoder.config
        self.modern = config.model_type == "modernbert"
        if (config.hidden_activation if self.modern else config.hidden_act) != "gelu":
            raise ValueError("an activation other than gelu")
        if getattr(config, "is_causal", False) or getattr(config, "is_decoder", False):
            raise ValueError("tokens that do not see those behind them")
        self.encoder, self.dtype, self.heads = encoder, dtype, config.num_attention_heads
        self.eps = config.norm_eps if self.modern else config.layer_norm_eps
        self.window = config.sliding_window if self.modern else 0
        embeddings = encoder.embeddings
        self.words = (
            (embeddings.tok_embeddings if self.modern else embeddings.word_embeddings).weight.detach().to(dtype)
        )
        self.first = self._affine(embeddings.norm if self.modern else embeddings.LayerNorm)
        self.last = self._affine(encoder.final_norm) if self.modern else None
        if self.modern:
            self.layers = [self._modern(layer, kind) for layer, kind in zip(encoder.layers, config.layer_types)]
            self.words = self._norm(
                self.first, self.words
            )  # positions come later, so a token's first steps are always the same
            self.qkv = self._queries(self.layers[0], self.words)
        else:
            self.layers = [self._bert(layer) for layer in encoder.encoder.layer]
            self.places = (
                (embeddings.position_embeddings.weight + embeddings.token_type_embeddings.weight[0]).detach().to(dtype)
            )
        self._turns: dict[tuple[str, int], tuple[torch.Tensor, torch.Tensor]] = {}
        self._masks: dict[tuple[int, int], torch.Tensor] = {}

    def _affine(self, part: Any) -> Affine:
        return Affine(
            part.weight.detach().to(self.dtype), None if part.bias is None else part.bias.detach().to(self.dtype)
        )

    def _qkv(self, weight: torch.Tensor, bias: torch.Tensor | None) -> Affine:
        size = len(weight) // 3
        scale = torch.ones(len(weight), device=weight.device)
        scale[:size] = (size // self.heads) ** -0.5
        return Affine(
            (weight * scale[:, None]).detach().to(self.dtype),
            None if bias is None else (bias * scale).detach().to(self.dtype),
        )

    def _modern(self, layer: Any, kind: str) -> Layer:
        both = self._affine(layer.mlp.Wi)
        up, gate = (
            Affine(*parts)
            for parts in zip(both.weight.chunk(2), both.bias.chunk(2) if both.bias is not None else (None, None))
        )
        before = None if isinstance(layer.attn_norm, nn.Identity) else self._affine(layer.attn_norm)
        qkv = self._qkv(layer.attn.Wqkv.weight, layer.attn.Wqkv.bias)
        return Layer(
            before,
            qkv,
            self._affine(layer.attn.Wo),
            self._affine(layer.mlp_norm),
            up,
            gate,
            self._affine(layer.mlp.Wo),
            None,
            kind,
        )

    def _bert(self, layer: Any) -> Layer:
        own, output = layer.attention.self, layer.attention.output
        parts = (own.query, own.key, own.value)
        qkv = self._qkv(torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts]))
        up, down = self._affine(layer.intermediate.dense), self._affine(layer.output.dense)
        return Layer(
            None,
            qkv,
            self._affine(output.dense),
            self._affine(output.LayerNorm),
            up,
            None,
            down,
            self._affine(layer.output.LayerNorm),
            "full_attention",
        )

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        count, length = ids.shape
        hidden = embedding(ids, self.words)
        if not self.modern:
            hidden = self._norm(self.first, hidden + self.places[:length])
        hidden = hidden.view(count * length, -1)
        for number, layer in enumerate(self.layers):
            qkv = (
                embedding(ids, self.qkv).view(count * length, -1)
                if self.modern and number == 0
                else self._queries(layer, hidden)
            )
            hidden = self._layer(layer, hidden, self._attention(layer, qkv, count, length))
        if self.last:
            hidden = self._norm(self.last, hidden)
        return hidden.view(count, length, -1)

    def _queries(self, layer: Layer, hidden: torch.Tensor) -> torch.Tensor:
        """Queries, keys and values, shape (n, 3 H)."""
        return linear(self._norm(layer.before, hidden) if layer.before else hidden, *layer.qkv)

    def _layer(self, layer: Layer, hidden: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
        """What follows attention."""
        hidden = _residual(hidden, mixed, layer.out)
        seen = self._norm(layer.between, hidden)
        if layer.after:  # BERT has its norms behind the sums
            hidden = seen
        inner = gelu(linear(seen, *layer.up))
        if layer.gate:
            inner *= linear(seen, *layer.gate)
        hidden = _residual(hidden, inner, layer.down)
        return self._norm(layer.after, hidden) if layer.after else hidden

    def _norm(self, norm: Affine, hidden: torch.Tensor) -> torch.Tensor:
        return layer_norm(hidden, hidden.shape[-1:], norm.weight, norm.bias, self.eps)

    def _attention(self, layer: Layer, qkv: torch.Tensor, count: int, length: int) -> torch.Tensor:
        """Shape (B * T, 3 H) to (B * T, H)."""
        split = qkv.view(count, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # (3, B, heads, T, size)
        query, key = self._turned(layer.kind, split[:2]) if self.modern else split[:2]
        local = layer.kind == "sliding_attention" and self.window < length
        if qkv.device.type == "cpu" and self.dtype == torch.bfloat16:  # for which the fused kernel is slow
            parts = [part.reshape(count * self.heads, length, -1) for part in (query, key, split[2])]
            mixed = (self._local if local else _attend)(*parts).view(count, self.heads, length, -1)
        else:
            mask = self._mask(length, qkv.device) if local else None
            mixed = scaled_dot_product_attention(query, key, split[2], attn_mask=mask, scale=1.0)
        return mixed.transpose(1, 2).reshape(count * length, -1)

    def _turned(self, kind: str, parts: torch.Tensor) -> torch.Tensor:
        """Queries and keys with their positions (Su et al. 2021), shape (2, B, heads, T, size)."""
        length, half = parts.shape[-2], parts.shape[-1] // 2
        if (kind, length) not in self._turns:
            cosine, sine = self.encoder.rotary_emb(parts.float(), torch.arange(length, device=parts.device)[None], kind)
            sine = torch.cat([-sine[0, :, :half], sine[0, :, half:]], dim=-1)
            self._turns[kind, length] = cosine[0].to(self.dtype), sine.to(self.dtype)
        cosine, sine = self._turns[kind, length]
        parts = parts.contiguous()
        return torch.cat([parts[..., half:], parts[..., :half]], dim=-1).mul_(sine).addcmul_(parts, cosine)

    def _local(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """`_mixed` in a sliding layer: blocks of queries, each with the keys that one of them sees; all of shape (n, T, size)."""
        length, reach = query.shape[1], self.window
        block = -(-length // -(-length // QUERY_BLOCK))
        rest, wide = -length % block, block + 2 * reach
        query = pad(query, (0, 0, 0, rest)).reshape(-1, block, query.shape[-1])
        key, value = (
            pad(part, (0, 0, reach, reach + rest))
            .unfold(1, wide, block)
            .transpose(2, 3)
            .reshape(-1, wide, part.shape[-1])
            for part in (key, value)
        )
        return _attend(query, key, value, self._block_mask(length, block)).view(-1, length + rest, value.shape[-1])[
            :, :length
        ]

    def _mask(self, length: int, device: torch.device) -> torch.Tensor:
        """0 for the tokens that a token of a sliding layer sees, else minus infinity; shape (T, T)."""
        if (length, 0) not in self._masks:
            place = torch.arange(length, device=device)
            far = (place[:, None] - place).abs() > self.window
            self._masks[length, 0] = torch.zeros(length, length, dtype=self.dtype, device=device).masked_fill_(
                far, -torch.inf
            )
        return self._masks[length, 0]

    def _block_mask(self, length: int, block: int) -> torch.Tensor:
        """The same for the blocks of `_local`, shape (blocks, block, block + 2 window); queries behind the last token see everything."""
        if (length, block) not in self._masks:
            rest, reach = -length % block, self.window
            whole = pad(
                pad(self._mask(length, torch.device("cpu")), (reach, reach + rest), value=-torch.inf), (0, 0, 0, rest)
            )
            self._masks[length, block] = torch.stack(
                [whole[at : at + block, at : at + block + 2 * reach] for at in range(0, length, block)]
            )
        return self._masks[length, block]


def _residual(hidden: torch.Tensor, inner: torch.Tensor, part: Affine) -> torch.Tensor:
    if part.bias is None:
        return torch.addmm(hidden, inner, part.weight.t())
    return linear(inner, *part).add_(hidden)


def _attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Attention: the averages of the values, shape (n, T, size); all are bf16.

    bf16 has the exponents of fp32, so that the greatest score need not be taken off before the exponential, unless a row's sum is
    then out of range. That saves most of the time of a softmax.

    Parameters
    ----------
    mask : added to the scores, shape (m, T, keys): of m neighbours in n, again and again
    """
    scores = torch.bmm(query, key.transpose(1, 2))
    if mask is not None:
        scores.view(-1, *mask.shape).add_(mask)
    weights = scores.exp()
    total = weights.sum(-1, keepdim=True)
    mixed = torch.bmm(weights, value).div_(total)
    inside = (total > 1e-30) & (total < 1e30)
    return mixed if inside.all() else torch.where(inside, mixed, torch.bmm(torch.softmax(scores, -1), value))
