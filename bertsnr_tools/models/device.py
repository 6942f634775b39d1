"""Where and how a model runs: device, precision (when bf16 is chosen) and batch size."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from ..errors import DeviceError


@dataclass(frozen=True)
class Runtime:
    """Device, precision and batch size: the settings that all commands with a model share.

    Attributes
    ----------
    devices : the device of the models, then the devices of their replicas
    precision : "fp32", "bf16" or "fp16"
    batch_size : windows in a forward pass, at most; does not change results
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
        """From the values of the command line; see `choose_devices` and `choose_precision`."""
        devices = tuple(choose_devices(device))
        return cls(devices, choose_precision(precision, devices[0]), batch_size)


def choose_device(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda` or `cuda:N` to a device; `auto` is a GPU where there is one.

    Raises
    ------
    DeviceError : this machine does not have the device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"device {name!r} does not exist: this machine has {torch.cuda.device_count()} CUDA device(s)"
        )
    return device


def choose_devices(names: str) -> list[torch.device]:
    """As `choose_device`, for comma-separated names.

    Raises
    ------
    DeviceError : see `choose_device`; or one of several is not a GPU.
    """
    devices = [choose_device(name) for name in names.split(",")]
    if len(devices) > 1 and any(device.type != "cuda" for device in devices):
        raise DeviceError(f"devices are {names!r}; expected one device, or several GPUs such as cuda:0,cuda:1")
    return devices


def choose_precision(name: str, device: torch.device) -> str:
    """`auto` to `bf16` where the device computes in it natively, else to `fp32`; other names are kept."""
    if name != "auto":
        return name
    return "bf16" if _has_bf16(device) else "fp32"


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # older releases of torch lack it
    return bool(capabilities.get("avx512_bf16"))


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """The context in which the plain model runs in this precision."""
    dtypes = {"bf16": torch.bfloat16, "fp16": torch.float16}
    return torch.autocast(device.type, dtypes[precision]) if precision in dtypes else nullcontext()
