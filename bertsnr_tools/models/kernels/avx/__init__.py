"""The AVX kernel: the compact encoder on CPUs without AMX, with products in 16-bit integers.

A vector contains twice as many of these as fp32, and they round less than bf16: inputs have 14 bits, and each row (one
for each token) and each output of a weight has its own scale. `encoder.h` is the kernel, `kernel.h` its interface.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch

from ...encoder import Encoder
from ..compiled import HEAD_SIZE, CompiledEncoder, fits, installed

ABI_VERSION, MOST = 1, 8191  # of kernel.h
AVX512 = ("avx512_f", "avx512_bw", "avx512_dq", "avx512_vl")
AVX2 = ("avx2", "fma3")
FUNCTIONS = {  # fastest first
    "encode_vnni": (*AVX512, "avx512_vnni"),
    "encode_avx512": AVX512,
    "encode_avx_vnni": (*AVX2, "avx_vnni"),
    "encode_avx2": AVX2,
}


def function_name() -> str | None:
    """The fastest function of the kernel for this CPU, if any; torch's ATEN_CPU_CAPABILITY=avx2 excludes AVX-512."""
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # older releases of torch lack it
    widest = torch.backends.cpu.get_cpu_capability()
    for name, features in FUNCTIONS.items():
        if all(capabilities.get(feature) for feature in features) and (widest == "AVX512" or features[0] == "avx2"):
            return None if widest in ("DEFAULT", "NO AVX") else name
    return None


@functools.cache
def kernel() -> Any:
    """The installed kernel's function; None where the CPU lacks AVX2 or the installation lacks a matching kernel."""
    name = function_name()
    return installed("avx", ABI_VERSION, name) if name else None


def supports(encoder: Any) -> bool:
    """Whether the kernel runs here and computes this encoder."""
    return fits(encoder) and kernel() is not None


class AvxEncoder(CompiledEncoder):
    """The forward pass of an encoder with the AVX kernel.

    Parameters
    ----------
    encoder : an encoder that the kernel `supports`; its weights are copied
    """

    def __init__(self, encoder: Encoder):
        super().__init__(encoder, kernel())

    @staticmethod
    def _qkv(layer: Any) -> torch.Tensor:
        """Weight of queries, keys and values, shape (384, 128); queries are scaled for a softmax in powers of 2."""
        queries, keys, values = layer.attn.Wqkv.weight.double().chunk(3)
        return torch.cat([queries * math.log2(math.e) / math.sqrt(HEAD_SIZE), keys, values])

    def _packed(self, weight: torch.Tensor) -> int:
        """Address of a weight, shape (outputs, inputs), packed as kernel.h describes.

        Outputs are scaled so that they fit 16 bits, and that no input makes a sum leave 32 bits.
        """
        weight = weight.detach().double()
        outputs, inputs = weight.shape
        size = weight.abs()
        factor = torch.minimum(32767 / size.amax(1), (2**31 / MOST - inputs) / size.sum(1)).clamp(max=1e30)
        integers = (weight * factor[:, None]).round().short()
        tiles = integers.view(outputs // 16, 16, inputs // 2, 2).transpose(1, 2).contiguous()
        scales = (1 / factor).float()
        return self._address(torch.cat([scales, tiles.flatten().view(torch.float32)]))
