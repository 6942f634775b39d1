"""Kernels: faster forward passes of the encoders in `models`, which are their oracles."""

from __future__ import annotations

from typing import Any

import torch

from ...errors import is_out_of_device_memory
from ...log import logger


def new_triton_model(model: Any) -> Any:
    """A `triton_encoder.TritonModel`, compiled and tried; None where the model, the GPU or the installation lacks it.

    Triton comes with torch for CUDA, and needs a C compiler the first time.
    """
    try:
        from .triton_encoder import TritonModel

        fast = TritonModel(model)
        fast(torch.zeros(1, model.info.window - model.info.k + 3, dtype=torch.int64, device=model.device))
    except Exception as error:  # of Triton, its compiler and the driver, each with its own
        if is_out_of_device_memory(error):
            raise
        logger.debug("no Triton kernel for %s, which is several times slower without: %s", model.info.name, error)
        return None
    return fast
