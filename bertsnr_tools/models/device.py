"""Where and how a model runs: device, precision (and how it is chosen) and batch size."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from ..errors import DeviceError, UsageError
from .kernels import amx, avx

PRECISIONS = "fp32", "int16", "bf16", "fp16"


@dataclass(frozen=True)
class Runtime:
    """Device, precision and batch size: the settings that all commands with a model share.

    Attributes
    ----------
    devices : the device of the models, then the devices of their replicas
    precision : "fp32", "int16", "bf16" or "fp16"
    batch_size : windows in a forward pass, at most; does not change results
    """

    devices: tuple[torch.device, ...] = (torch.device("cpu"),)
    precision: str = "fp32"
    batch_size: int = 4096

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS or self.batch_size < 1:
            expected = f"expected one of {', '.join(PRECISIONS)}, and at least 1 window in a batch"
            raise UsageError(f"precision {self.precision!r}, batch size {self.batch_size}: {expected}")

    @property
    def device(self) -> torch.device:
        """The device of the models."""
        return self.devices[0]

    @classmethod
    def choose(
        cls, device: str = "auto", precision: str = "auto", batch_size: int = 4096, *, training: bool = False
    ) -> Runtime:
        """From the values of the command line; see `choose_devices` and `choose_precision`."""
        devices = tuple(choose_devices(device))
        return cls(devices, choose_precision(precision, devices[0], training=training), batch_size)


def choose_device(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda` or `cuda:N` to a device; `auto` is a GPU where there is one.

    Raises
    ------
    DeviceError : this machine does not have the device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"{name!r} is not a device; expected auto, cpu, cuda or cuda:N") from error
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


def choose_precision(name: str, device: torch.device, *, training: bool = False) -> str:
    """`auto` to the fastest precision for the device, which is `fp32`, `int16` or `bf16`; other names are kept.

    `int16` is for inference on a CPU with AVX2 and without AMX: products of the compact encoder in 16-bit integers,
    which round less than bf16. Other encoders then run in bf16 where the CPU computes in it natively, else in fp32.

    Raises
    ------
    DeviceError : the device cannot compute in `int16`.
    """
    has_int16 = device.type == "cpu" and avx.kernel() is not None
    if name == "int16" and not has_int16:
        where = "a GPU" if device.type == "cuda" else "this CPU or installation, which lacks AVX2 or the AVX kernel"
        raise DeviceError(f"--precision int16 is not available on {where}; use auto")
    if name != "auto":
        return name
    if has_int16 and not training and amx.kernel() is None:
        return "int16"
    return "bf16" if has_bf16(device) else "fp32"


def has_bf16(device: torch.device) -> bool:
    """Whether the device computes in bf16 natively."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # older releases of torch lack it
    return bool(capabilities.get("avx512_bf16"))


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """The context in which the plain model runs in this precision."""
    dtypes = {"bf16": torch.bfloat16, "fp16": torch.float16}
    return torch.autocast(device.type, dtypes[precision]) if precision in dtypes else nullcontext()
