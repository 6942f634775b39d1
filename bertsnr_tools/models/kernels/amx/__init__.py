"""The forward pass of the compact encoder on processors with AMX, several times as fast as `lean`: `_amx.c` from Python."""

from __future__ import annotations

import ctypes
import functools
import threading
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import layer_norm

from ....log import logger

WIDTH, INNER, HEAD = (
    128,
    256,
    32,
)  # as in _amx.c: units of hidden states, of the feed-forward part and of an attention head
NEEDED = ("amx_tile", "amx_bf16", "avx512_f", "avx512_bw", "avx512_vl", "avx512_dq", "avx512_bf16")


class _Layer(ctypes.Structure):
    """As `layer` in _amx.c."""

    _fields_ = [
        *(
            (name, ctypes.c_void_p)
            for name in ("before", "between", "cosine", "sine", "qkv", "out", "up", "gate", "down")
        ),
        ("reach", ctypes.c_long),
    ]


@functools.cache
def _library() -> Any:
    """None where the processor has no AMX, or the package was installed without a compiler that knows it."""
    has: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # not in all releases
    if not all(has.get(name) for name in NEEDED) or not torch.cpu._init_amx():
        return None
    try:
        return _function(np.ctypeslib.load_library("_amx", str(Path(__file__).parent)))
    except (OSError, AttributeError):
        logger.debug(
            "the library for this processor's AMX was not built on installation: compact encoders are several times slower without it"
        )
        return None


def _function(library: ctypes.CDLL) -> Any:
    encode, number, address = library.encode_1, ctypes.c_long, ctypes.c_void_p
    encode.argtypes = [
        ctypes.POINTER(_Layer),
        number,
        address,
        address,
        address,
        ctypes.c_float,
        address,
        number,
        number,
        address,
    ]
    return encode


def supports(encoder: Any) -> bool:
    """Whether processor and installation have AMX, and this is a ModernBERT of the compact encoder's sizes, with any number of layers."""
    config = encoder.config
    return (
        _library() is not None
        and config.model_type == "modernbert"
        and config.hidden_activation == "gelu"
        and config.sliding_window > 0
        and not getattr(config, "is_causal", False)
        and not (config.attention_bias or config.mlp_bias or config.norm_bias)
        and (config.hidden_size, config.intermediate_size, config.num_attention_heads) == (WIDTH, INNER, WIDTH // HEAD)
    )


class AmxEncoder:
    """An encoder in bf16: token ids, int64 shape (B, T), to hidden states, fp32 shape (B, T, 128).

    Parameters
    ----------
    encoder : one that is `usable`; its weights are read once
    """

    def __init__(self, encoder: Any):
        self.encoder, self.eps, self.encode = encoder, encoder.config.norm_eps, _library()
        self._kept: list[torch.Tensor] = []  # what addresses point to
        # tables in fp64, so that their rounding is the same whichever way torch takes sums: a bit of theirs may be seen in a score
        embedding, norm = encoder.embeddings.tok_embeddings, encoder.embeddings.norm
        words = layer_norm(embedding.weight.double(), (WIDTH,), norm.weight.double(), None, norm.eps)
        self.words, self.first = self._floats(words), self._floats(words @ self._qkv(encoder.layers[0]).double().t())
        self.last = self._floats(encoder.final_norm.weight)
        reach = min(encoder.config.sliding_window, 2**31 - 1)
        self.layers = [
            self._layer(layer, reach if kind == "sliding_attention" else 0)
            for layer, kind in zip(encoder.layers, encoder.config.layer_types)
        ]
        self._turned: dict[int, ctypes.Array[_Layer]] = {}
        self._lock = threading.Lock()

    def _address(self, tensor: torch.Tensor) -> int:
        self._kept.append(tensor)
        return tensor.data_ptr()

    def _floats(self, values: torch.Tensor) -> int:
        return self._address(values.detach().float().contiguous())

    def _tiles(self, weight: torch.Tensor) -> int:
        """A weight, shape (columns, inputs), in the order of the products: (columns / 16, inputs / 32, 16 pairs of inputs, 16 columns, 2)."""
        tiles = weight.detach().bfloat16().view(len(weight) // 16, 16, -1, 16, 2)
        return self._address(tiles.permute(0, 2, 3, 1, 4).contiguous())

    @staticmethod
    def _qkv(layer: Any) -> torch.Tensor:
        """Shape (3 * 128, 128). A head's values come in groups of 4, one of its first half and one of its second in turn, as `attend` mixes them."""
        queries, keys, values = layer.attn.Wqkv.weight.chunk(3)
        return torch.cat([queries, keys, values.view(-1, 2, 4, 4, WIDTH).transpose(1, 2).reshape(WIDTH, WIDTH)])

    def _layer(self, layer: Any, reach: int) -> _Layer:
        before = (
            None if isinstance(layer.attn_norm, torch.nn.Identity) else self._floats(layer.attn_norm.weight)
        )  # none in the first
        weights = (self._qkv(layer), layer.attn.Wo.weight, *layer.mlp.Wi.weight.chunk(2), layer.mlp.Wo.weight)
        return _Layer(
            before, self._floats(layer.mlp_norm.weight), None, None, *(self._tiles(weight) for weight in weights), reach
        )

    def _with_turns(self, length: int) -> ctypes.Array[_Layer]:
        """The layers for windows of so many tokens."""
        kinds = self.encoder.config.layer_types
        places = torch.arange(length, device="cpu")[None]
        turns = {
            kind: self.encoder.rotary_emb(torch.zeros(1, dtype=torch.float32, device="cpu"), places, kind)
            for kind in set(kinds)
        }
        if any(part.shape != (1, length, HEAD) for parts in turns.values() for part in parts):
            raise RuntimeError(f"positions are not of {HEAD} units, as attention heads are")
        layers = (_Layer * len(kinds))(*self.layers)
        for layer, kind in zip(layers, kinds):
            layer.cosine, layer.sine = (self._floats(part[0, :, : HEAD // 2]) for part in turns[kind])
            if layer.reach >= length:
                layer.reach = 0
        return layers

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        count, length = ids.shape
        with self._lock:
            if length not in self._turned:
                self._turned[length] = self._with_turns(length)
        least, most = ids.aminmax()
        if ids.dtype != torch.int64 or least < 0 or most >= self.encoder.config.vocab_size:
            raise IndexError(
                f"token ids from {least} to {most}, needed are 0 to {self.encoder.config.vocab_size - 1}, int64"
            )
        ids = ids.contiguous()
        hidden = torch.empty(count, length, WIDTH, dtype=torch.float32, device="cpu")
        if self.encode(
            self._turned[length],
            len(self.layers),
            self.words,
            self.first,
            self.last,
            self.eps,
            ids.data_ptr(),
            count,
            length,
            hidden.data_ptr(),
        ):
            raise MemoryError(f"no memory for windows of {length} tokens")
        return hidden
