"""The training kernel: forward and backward pass of the compact encoder on a CPU, with `models.encoder` as the oracle.

Both passes are written out for parts of a batch that fit into the cache, which threads share. Matrix products and what
lies between them are in one dtype, norms and the residual stream in fp32, as under autocast, without its copies.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.nn.functional import embedding, gelu

from ..encoder_config import FULL, LOCAL
from ..threads import run_in_threads

PART_TOKENS = 1600  # of a batch that are trained together: what fits into the cache of a core
NORMAL_SUMS = 1e-30, 1e30  # of the exponentials of a row of scores; outside, its maximum is subtracted first


class Weights(NamedTuple):
    """Weights of a layer, matrices in the dtype of products; the first layer has no norm before attention."""

    attn_norm: torch.Tensor | None
    qkv: torch.Tensor
    out: torch.Tensor
    mlp_norm: torch.Tensor
    inner: torch.Tensor
    down: torch.Tensor


class Normed(NamedTuple):
    """A norm's input and output, and of each token mean and inverse standard deviation; these None without a norm."""

    x: torch.Tensor
    y: torch.Tensor
    mean: torch.Tensor | None
    deviation: torch.Tensor | None


class Saved(NamedTuple):
    """What the backward pass of a layer needs: n tokens of H units in s sequences times heads of D units.

    Attributes
    ----------
    attn_input, mlp_input : the norms before attention and before the feed-forward network
    heads : rotated queries and keys, and values, shape (3, s, T, D)
    attention : attention weights, shape (s, T, T)
    mixed : means of the values, shape (n, H)
    up, gate, activated : of the feed-forward network, and gelu(up), shape (n, inner)
    """

    attn_input: Normed
    heads: torch.Tensor
    attention: torch.Tensor
    mixed: torch.Tensor
    mlp_input: Normed
    up: torch.Tensor
    gate: torch.Tensor
    activated: torch.Tensor


def supports(encoder: Any, device: torch.device) -> bool:
    """Whether the kernel computes this `models.encoder.Encoder` there."""
    config = encoder.config
    biased = config.attention_bias or config.mlp_bias or config.norm_bias
    return device.type == "cpu" and encoder.final_norm.weight.dtype == torch.float32 and not biased


def encode(encoder: Any, ids: torch.Tensor) -> torch.Tensor:
    """Hidden states (B, T, H) of token ids (B, T), differentiable in the weights; computes as autocast asks.

    Parameters
    ----------
    encoder : one that the kernel `supports`
    """
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32
    with torch.autocast("cpu", enabled=False):
        return _Encode.apply(_Shape(encoder, ids.shape[1], dtype), ids, *encoder.parameters())


class _Encode(torch.autograd.Function):
    """The encoder: its weights, in the order of `Encoder.parameters`, to hidden states."""

    @staticmethod
    def forward(
        ctx: Any, shape: _Shape, ids: torch.Tensor, words: torch.Tensor, *weights: torch.Tensor
    ) -> torch.Tensor:
        converted = [weight.to(shape.dtype) if weight.ndim > 1 else weight for weight in weights]
        parts = max(1, round(ids.numel() / PART_TOKENS))
        ctx.passes = [_Pass(shape, part, words, converted) for part in ids.tensor_split(min(parts, len(ids)))]
        hidden = torch.cat(list(run_in_threads(_Pass.forward, ctx.passes)))
        return hidden.view(*ids.shape, -1)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        parts = gradient.flatten(0, 1).split([len(each.ids) for each in ctx.passes])
        results = run_in_threads(lambda job: job[0].backward(job[1]), zip(ctx.passes, parts))
        total = next(results)
        for gradients in results:  # in the order of the parts: the sum does not depend on the threads
            torch._foreach_add_(total, gradients)
        del ctx.passes  # the memory
        return None, None, *total


class _Shape:
    """What passes of windows of one length have in common.

    Attributes
    ----------
    cosine, sine : of layers of each kind, for queries (divided by the square root of D) and keys: shape (2, 1, T, D)
    mask : added to the scores of local layers, shape (T, T); None where the sliding window covers all
    """

    def __init__(self, encoder: Any, length: int, dtype: torch.dtype):
        config = encoder.config
        self.dtype, self.length, self.eps = dtype, length, config.norm_eps
        self.heads, self.head_size, self.kinds = config.num_attention_heads, config.head_size, config.layer_types
        self.rotary = {kind: self._rotary(*encoder.rotary(length, kind)) for kind in (FULL, LOCAL)}
        self.padding = encoder.embeddings.tok_embeddings.padding_idx
        self.mask = encoder.local_mask(length, dtype, torch.device("cpu"))

    def _rotary(self, cosine: torch.Tensor, sine: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        first, second = sine.chunk(2, dim=1)
        scale = torch.tensor([self.head_size**-0.5, 1.0])[:, None, None, None]
        return (cosine * scale).to(self.dtype), (torch.cat([-first, second], dim=1) * scale).to(self.dtype)


class _Pass:
    """Forward and backward pass of a part of a batch; n tokens in all."""

    def __init__(self, shape: _Shape, ids: torch.Tensor, words: torch.Tensor, weights: list[torch.Tensor]):
        self.shape, self.ids, self.words = shape, ids.reshape(-1), words
        self.first_norm, *layers, self.final_norm = weights
        self.layers = [Weights(None, *layers[:5])]
        self.layers += [Weights(*layers[start : start + 6]) for start in range(5, len(layers), 6)]
        self.saved: list[Saved] = []

    @torch.no_grad()
    def forward(self) -> torch.Tensor:
        """Hidden states (n, H)."""
        self.first = self._norm(embedding(self.ids, self.words), self.first_norm, torch.float32)
        hidden = self.first.y
        for weights, kind in zip(self.layers, self.shape.kinds):
            hidden, saved = self._layer(hidden, weights, kind)
            self.saved.append(saved)
        self.final = self._norm(hidden, self.final_norm, torch.float32)
        return self.final.y

    @torch.no_grad()
    def backward(self, gradient: torch.Tensor) -> list[torch.Tensor]:
        """Gradients of all weights, float32, from the gradient of the hidden states (n, H)."""
        gradient, final_norm = self._norm_backward(gradient, self.final, self.final_norm)
        parts = [final_norm]
        for weights, kind in zip(self.layers[::-1], self.shape.kinds[::-1]):
            gradient, feed_forward = self._feed_forward_backward(gradient, self.saved[-1], weights)
            gradient, attention = self._attention_backward(gradient, self.saved.pop(), weights, kind)
            parts.append([*attention, *feed_forward])
        gradient, first_norm = self._norm_backward(gradient, self.first, self.first_norm)
        words = torch.zeros(self.words.shape).index_add_(0, self.ids, gradient)
        if self.shape.padding is not None:
            words[self.shape.padding] = 0
        parts.append(first_norm)
        return [words, *(weight.float() for part in parts[::-1] for weight in part)]

    def _norm(self, x: torch.Tensor, weight: torch.Tensor | None, dtype: torch.dtype) -> Normed:
        if weight is None:
            return Normed(x, x.to(dtype), None, None)
        y, mean, deviation = torch.native_layer_norm(x, weight.shape, weight, None, self.shape.eps)
        return Normed(x, y.to(dtype), mean, deviation)

    def _norm_backward(
        self, gradient: torch.Tensor, norm: Normed, weight: torch.Tensor | None
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Gradients of input and weight, if there is one."""
        if weight is None:
            return gradient.float(), []
        backward, mask = torch.ops.aten.native_layer_norm_backward, [True, True, False]
        x, own, _ = backward(gradient.float(), norm.x, weight.shape, norm.mean, norm.deviation, weight, None, mask)
        return x, [own]

    def _layer(self, x: torch.Tensor, weights: Weights, kind: str) -> tuple[torch.Tensor, Saved]:
        dtype = self.shape.dtype
        normed = self._norm(x, weights.attn_norm, dtype)
        heads = self._split(torch.mm(normed.y, weights.qkv.t()))
        cosine, sine = self.shape.rotary[kind]
        _rotate(heads, cosine, sine)
        attention = self._attention(heads[0], heads[1], self.shape.mask if kind == LOCAL else None)
        mixed = self._joined(torch.bmm(attention, heads[2])[None])
        middle = self._norm(x + torch.mm(mixed, weights.out.t()), weights.mlp_norm, dtype)
        up, gate = (torch.mm(middle.y, weight.t()) for weight in weights.inner.chunk(2))
        activated = gelu(up)
        result = middle.x + torch.mm(activated * gate, weights.down.t())
        return result, Saved(normed, heads, attention, mixed, middle, up, gate, activated)

    def _attention(self, query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Attention weights; most of a softmax's time goes into the maximum, which is rarely needed."""

        def scores() -> torch.Tensor:
            found = torch.bmm(query, key.transpose(1, 2))
            return found if mask is None else found.add_(mask)

        weights = scores().exp_()
        total = weights.sum(-1, keepdim=True)
        least, most = torch.aminmax(total)
        in_range = NORMAL_SUMS[0] < least and most < NORMAL_SUMS[1]
        return weights.div_(total) if in_range else torch.softmax(scores(), -1)

    def _feed_forward_backward(
        self, gradient: torch.Tensor, saved: Saved, weights: Weights
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Gradients of what attention left, and of the weights."""
        up_weight, gate_weight = weights.inner.chunk(2)
        result = gradient.to(self.shape.dtype)
        down = torch.mm(result.t(), saved.activated * saved.gate)
        hidden = torch.mm(result, weights.down)
        up = torch.ops.aten.gelu_backward(hidden * saved.gate, saved.up)
        gate = hidden.mul_(saved.activated)
        inner = torch.cat([torch.mm(part.t(), saved.mlp_input.y) for part in (up, gate)])
        normed = torch.mm(up, up_weight).addmm_(gate, gate_weight)
        x, norm = self._norm_backward(normed, saved.mlp_input, weights.mlp_norm)
        return x.add_(gradient), [*norm, inner, down]

    def _attention_backward(
        self, gradient: torch.Tensor, saved: Saved, weights: Weights, kind: str
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Gradients of the layer's input, and of the weights."""
        result = gradient.to(self.shape.dtype)
        out = torch.mm(result.t(), saved.mixed)
        mixed = self._split(torch.mm(result, weights.out))[0]
        query, key, value = saved.heads
        heads = torch.empty_like(saved.heads)
        torch.bmm(saved.attention.transpose(1, 2), mixed, out=heads[2])
        scores = torch.bmm(mixed, value.transpose(1, 2))
        scores = torch._softmax_backward_data(scores, saved.attention, -1, scores.dtype)
        torch.bmm(scores, key, out=heads[0])
        torch.bmm(scores.transpose(1, 2), query, out=heads[1])
        cosine, sine = self.shape.rotary[kind]
        _rotate(heads, cosine, -sine)
        joined = self._joined(heads)
        x, norm = self._norm_backward(torch.mm(joined, weights.qkv), saved.attn_input, weights.attn_norm)
        return x + gradient, [*norm, torch.mm(joined.t(), saved.attn_input.y), out]

    def _split(self, joined: torch.Tensor) -> torch.Tensor:
        """Shape (n, P H), of P parts, to (P, s, T, D)."""
        shape = self.shape
        split = joined.view(
            -1, shape.length, joined.shape[1] // (shape.heads * shape.head_size), shape.heads, shape.head_size
        )
        return split.permute(2, 0, 3, 1, 4).flatten(1, 2)

    def _joined(self, split: torch.Tensor) -> torch.Tensor:
        """Shape (P, s, T, D) to (n, P H)."""
        shape = self.shape
        heads = split.view(len(split), -1, shape.heads, shape.length, shape.head_size)
        return heads.permute(1, 3, 0, 2, 4).reshape(-1, len(split) * shape.heads * shape.head_size)


def _rotate(heads: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> None:
    """As `encoder.rotate`, with the sign in the sines: rotate queries and keys of heads (3, s, T, D) in place."""
    rotated = heads[:2]
    first, second = rotated.chunk(2, dim=-1)
    crossed = torch.cat([second, first], dim=-1).mul_(sine)
    torch.addcmul(crossed, rotated, cosine, out=rotated)
