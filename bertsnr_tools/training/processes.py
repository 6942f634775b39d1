"""Processes that `torchrun` started to share a training: each takes its rows of every batch, all do the same steps."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch

from ..errors import UsageError


class Share(NamedTuple):
    """The rows of a process.

    Attributes
    ----------
    rows : of a batch, never empty
    weight : of their mean, so that the mean over processes is the mean over the batch
    """

    rows: torch.Tensor
    weight: float


def count() -> int:
    """Number of processes: 1 unless `torchrun`, or a launcher that sets the same variables, started several."""
    return int(os.environ.get("WORLD_SIZE", 1)) if "MASTER_ADDR" in os.environ else 1


def rank() -> int:
    """Number of this process, from 0; the first one writes files and messages."""
    return int(os.environ["RANK"]) if count() > 1 else 0


def local_count() -> int:
    """Number of processes on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if count() > 1 else 1


def local_device(name: str) -> str:
    """The name of the GPU of this process, one of several, else `name`."""
    if count() > 1 and torch.cuda.is_available() and name != "cpu":
        return f"cuda:{os.environ['LOCAL_RANK']}"
    return name


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the processes until the block ends."""
    if count() == 1:
        yield
        return
    on_gpu = device.type == "cuda"
    torch.distributed.init_process_group("nccl" if on_gpu else "gloo", device_id=device if on_gpu else None)
    try:
        yield
        torch.distributed.barrier()
    finally:
        torch.distributed.destroy_process_group()


def own_rows(rows: torch.Tensor) -> torch.Tensor:
    """The rows of this process."""
    return rows[rank() :: count()] if count() > 1 else rows


def share(rows: torch.Tensor) -> Share:
    """The rows of this process; where the batch has too few for all, one of them without weight."""
    own = own_rows(rows)
    return Share(own, len(own) * count() / len(rows)) if len(own) else Share(rows[:1], 0.0)


def check_divisible(rows: int, unit: int = 1) -> None:
    """Check that every process gets equally many rows of a batch.

    Parameters
    ----------
    unit : the rows of a process must be a multiple of this

    Raises
    ------
    UsageError : it does not.
    """
    if count() > 1 and rows % (unit * count()):
        raise UsageError(f"{count()} processes cannot share batches of {rows}; use a multiple of {unit * count()}")


def average(tensors: Sequence[torch.Tensor]) -> None:
    """Set tensors, of one type and device, to their mean over the processes, which is the same bits in all."""
    if count() == 1 or not tensors:
        return
    joined = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
    torch.distributed.all_reduce(joined)
    joined /= count()
    for tensor, mean in zip(tensors, joined.split([tensor.numel() for tensor in tensors])):
        tensor.detach().copy_(mean.view_as(tensor))


def average_gradients(model: torch.nn.Module) -> None:
    """Set the gradients of a model to their mean over the processes."""
    average([parameter.grad for parameter in model.parameters() if parameter.grad is not None])


def agreed(value: float, device: torch.device) -> float:
    """The mean of a value over the processes, for decisions that all must take alike."""
    if count() == 1:
        return value
    shared = torch.tensor([value], dtype=torch.float64, device=device)
    average([shared])
    return float(shared)
