"""Encoders that a compiled kernel computes: what `amx` and `avx` have in common.

Their kernel.h declares the structs and functions that are mirrored here. `models.encoder` is the oracle of both.
"""

from __future__ import annotations

import ctypes
import threading
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import layer_norm

from ...log import logger
from ..encoder import Encoder

WIDTH, INNER, HEAD_SIZE = 128, 256, 32  # hidden units, units of the feed-forward layer and of an attention head


class _Abi(ctypes.Structure):
    """`struct abi` of kernel.h."""

    _fields_ = [(name, ctypes.c_int32) for name in ("version", "encoder_size", "layer_size")]


class _Layer(ctypes.Structure):
    """`struct layer` of kernel.h."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("attention_norm", "mlp_norm", "cosine", "sine")),
        *((name, ctypes.c_void_p) for name in ("qkv", "attention_out", "up", "gate", "down")),
        ("window", ctypes.c_long),
    ]


class _Encoder(ctypes.Structure):
    """`struct encoder` of kernel.h."""

    _fields_ = [
        ("layers", ctypes.POINTER(_Layer)),
        ("depth", ctypes.c_long),
        *((name, ctypes.c_void_p) for name in ("embedding", "first_qkv", "final_norm")),
        ("eps", ctypes.c_float),
    ]


def installed(kernel: str, version: int, name: str = "encode") -> Any:
    """A function of an installed kernel, "amx" or "avx"; None and a debug message without a matching one.

    Parameters
    ----------
    version, name : see `bind`
    """
    try:
        return bind(np.ctypeslib.load_library(f"_{kernel}", str(Path(__file__).parent / kernel)), version, name)
    except (OSError, AttributeError) as error:
        problem = "compact encoders are several times slower without it"
        logger.debug(f"cannot load the {kernel.upper()} kernel, {problem}: {error}")
        return None


def bind(library: ctypes.CDLL, version: int, name: str = "encode") -> Any:
    """A function of a compiled kernel.

    Parameters
    ----------
    version : of its ABI
    name : of the function

    Raises
    ------
    OSError : the library was built from another version of kernel.h.
    AttributeError : it lacks a function.
    """
    library.abi.restype = _Abi
    abi = library.abi()
    found = (abi.version, abi.encoder_size, abi.layer_size)
    expected = (version, ctypes.sizeof(_Encoder), ctypes.sizeof(_Layer))
    if found != expected:
        raise OSError(f"it was built for ABI {found}, expected {expected}; reinstall the package")
    number, address = ctypes.c_long, ctypes.c_void_p
    function = getattr(library, name)
    function.argtypes = [ctypes.POINTER(_Encoder), address, number, number, address]
    return function


def fits(encoder: Any) -> bool:
    """Whether an encoder is a compact one of the kernels' sizes, of any depth."""
    if not isinstance(encoder, Encoder):
        return False
    config = encoder.config
    sizes = (config.hidden_size, config.intermediate_size, config.num_attention_heads)
    biased = config.attention_bias or config.mlp_bias or config.norm_bias
    return sizes == (WIDTH, INNER, WIDTH // HEAD_SIZE) and config.sliding_window > 0 and not biased


class CompiledEncoder(ABC):
    """The forward pass of an encoder with a kernel.

    Parameters
    ----------
    encoder : an encoder for which `fits` is true; its weights are copied
    encode : the kernel's function, see `bind`
    """

    def __init__(self, encoder: Encoder, encode: Any):
        self.encoder, self._encode = encoder, encode
        self._tensors: list[torch.Tensor] = []  # the memory that the structs point to
        # tables in fp64, then rounded once: scores do not depend on the order in which torch takes sums
        embeddings = encoder.embeddings
        weight, norm = embeddings.tok_embeddings.weight.double(), embeddings.norm
        table = layer_norm(weight, (WIDTH,), norm.weight.double(), None, norm.eps)
        first_qkv = table @ self._qkv(encoder.layers[0]).double().t()
        self._tables = tuple(self._floats(part) for part in (table, first_qkv, encoder.final_norm.weight))
        self._layers = [self._layer(layer) for layer in encoder.layers]
        self._structs: dict[int, _Encoder] = {}  # by the length of the windows
        self._lock = threading.Lock()

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        """Hidden states, fp32, shape (B, T, 128), of token ids, int64, shape (B, T).

        Raises
        ------
        IndexError : an id is not in the vocabulary.
        """
        count, length = ids.shape
        if not count:
            return torch.empty(0, length, WIDTH)
        least, most = ids.aminmax()
        vocabulary = self.encoder.config.vocab_size
        if ids.dtype != torch.int64 or least < 0 or most >= vocabulary:
            found = f"token ids from {least} to {most}, {ids.dtype}"
            raise IndexError(f"{found}; expected int64 from 0 to {vocabulary - 1}")
        ids = ids.contiguous()
        hidden = torch.empty(count, length, WIDTH, dtype=torch.float32, device="cpu")
        if self._encode(ctypes.byref(self._struct(length)), ids.data_ptr(), count, length, hidden.data_ptr()):
            raise MemoryError(f"out of memory for windows of {length} tokens")
        return hidden

    def _struct(self, length: int) -> _Encoder:
        """The encoder for windows of `length` tokens."""
        with self._lock:
            if length not in self._structs:
                self._structs[length] = self._encoder(length)
            return self._structs[length]

    def _encoder(self, length: int) -> _Encoder:
        config = self.encoder.config
        rotary = {kind: self._rotary(length, kind) for kind in set(config.layer_types)}
        layers = (_Layer * len(self._layers))(*self._layers)
        for layer, kind in zip(layers, config.layer_types):
            layer.cosine, layer.sine = rotary[kind]
            local = kind == "sliding_attention" and config.sliding_window < length
            layer.window = config.sliding_window if local else 0
        return _Encoder(layers, len(layers), *self._tables, config.norm_eps)

    def _rotary(self, length: int, kind: str) -> tuple[int, int]:
        cosine, sine = self.encoder.rotary(length, kind)  # the second half of a head repeats the first
        return self._floats(cosine[:, : HEAD_SIZE // 2]), self._floats(sine[:, : HEAD_SIZE // 2])

    def _layer(self, layer: Any) -> _Layer:
        first = isinstance(layer.attn_norm, torch.nn.Identity)
        norms = (None if first else self._floats(layer.attn_norm.weight), self._floats(layer.mlp_norm.weight))
        up, gate = layer.mlp.Wi.weight.chunk(2)
        weights = (self._qkv(layer), layer.attn.Wo.weight, up, gate, layer.mlp.Wo.weight)
        return _Layer(*norms, None, None, *(self._packed(weight) for weight in weights))

    @staticmethod
    @abstractmethod
    def _qkv(layer: Any) -> torch.Tensor:
        """Weight of queries, keys and values, shape (384, 128), as the kernel expects it."""

    @abstractmethod
    def _packed(self, weight: torch.Tensor) -> int:
        """Address of a weight, shape (outputs, inputs), packed as kernel.h describes."""

    def _floats(self, values: torch.Tensor) -> int:
        return self._address(values.detach().float().contiguous())

    def _address(self, tensor: torch.Tensor) -> int:
        self._tensors.append(tensor)
        return tensor.data_ptr()
