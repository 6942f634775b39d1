"""The two-task network of BertSNR (Luo et al. 2024, section 2.3), its devices and its file format."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import torch

from ..errors import DeviceError


@dataclass(frozen=True)
class Runtime:
    """Where and how models are run: the settings that every command with a model shares.

    Attributes
    ----------
    devices : the device of the models, and the devices of their replicas
    precision : "fp32", "bf16" or "fp16"
    batch_size : windows in a forward pass at most; does not change results
    """

    devices: tuple[torch.device, ...] = (torch.device("cpu"),)
    precision: str = "fp32"
    batch_size: int = 1024

    @property
    def device(self) -> torch.device:
        """The device of the models."""
        return self.devices[0]

    @classmethod
    def choose(cls, device: str = "auto", precision: str = "auto", batch_size: int = 1024) -> Runtime:
        """From the names that the command line takes; see `choose_devices` and `choose_precision`."""
        devices = tuple(choose_devices(device))
        return cls(devices, choose_precision(precision, devices[0]), batch_size)


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
