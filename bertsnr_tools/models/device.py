"""The two-task network of BertSNR (Luo et al. 2024, section 2.3), its devices and its file format."""

from __future__ import annotations

from contextlib import nullcontext

import torch

from ..errors import DeviceError


def choose_device(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda` or `cuda:N` to a device; `auto` takes a GPU when there is one.

    Raises
    ------
    DeviceError : no such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(f"device {name!r} is not there: this machine has {torch.cuda.device_count()} CUDA device(s)")
    return device


def choose_devices(names: str) -> list[torch.device]:
    """As `choose_device`, for names with commas between."""
    return [choose_device(name) for name in names.split(",")]


def choose_precision(name: str, device: torch.device) -> str:
    """`auto` to `bf16` where the device computes in it natively, else to `fp32`; other names are kept."""
    if name != "auto":
        return name
    native = torch.cuda.is_bf16_supported() if device.type == "cuda" else torch.cpu._is_avx512_bf16_supported()
    return "bf16" if native else "fp32"


def autocast(device: torch.device, precision: str):
    """The context in which the model runs at a precision of `choose_precision`."""
    dtypes = {"bf16": torch.bfloat16, "fp16": torch.float16}
    return torch.autocast(device.type, dtypes[precision]) if precision in dtypes else nullcontext()
