"""The AMX kernel: the compact encoder in bf16 on CPUs with AMX, several times as fast as `kernels.inference`.

`encoder.c` is the kernel, `kernel.h` its interface.
"""

from __future__ import annotations

import functools
from typing import Any

import torch

from ...encoder import Encoder
from ..compiled import WIDTH, CompiledEncoder, fits, installed

ABI_VERSION = 2  # of kernel.h
CPU_FEATURES = ("amx_tile", "amx_bf16", "avx512_f", "avx512_bw", "avx512_vl", "avx512_dq", "avx512_bf16")


def _cpu_has_amx() -> bool:
    """Whether CPU and operating system allow AMX. False where torch's probes, of which one is private, do not exist."""
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    request_tiles = getattr(torch.cpu, "_init_amx", lambda: False)
    return all(capabilities.get(name) for name in CPU_FEATURES) and request_tiles()


@functools.cache
def kernel() -> Any:
    """`encode` of the installed kernel; None where the CPU lacks AMX or the installation lacks a matching kernel."""
    return installed("amx", ABI_VERSION) if _cpu_has_amx() else None


def supports(encoder: Any) -> bool:
    """Whether the kernel runs here and computes this encoder."""
    return fits(encoder) and kernel() is not None


class AmxEncoder(CompiledEncoder):
    """The forward pass of an encoder with the AMX kernel.

    Parameters
    ----------
    encoder : an encoder that the kernel `supports`; its weights are copied
    """

    def __init__(self, encoder: Encoder):
        super().__init__(encoder, kernel())

    @staticmethod
    def _qkv(layer: Any) -> torch.Tensor:
        """Weight of queries, keys and values, shape (384, 128).

        In a head, groups of four values from its first and second half alternate; `interleave_rows` restores the order.
        """
        queries, keys, values = layer.attn.Wqkv.weight.chunk(3)
        return torch.cat([queries, keys, values.view(-1, 2, 4, 4, WIDTH).transpose(1, 2).reshape(WIDTH, WIDTH)])

    def _packed(self, weight: torch.Tensor) -> int:
        """Address of a weight, shape (outputs, inputs), packed by tiles as kernel.h describes."""
        tiles = weight.detach().bfloat16().view(len(weight) // 16, 16, -1, 16, 2)
        return self._address(tiles.permute(0, 2, 3, 1, 4).contiguous())
