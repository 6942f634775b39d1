"""Kernels: faster forward passes of the encoders in `models`, which are their oracles."""

from __future__ import annotations

from typing import Any

import torch

from ...errors import is_out_of_device_memory
from ...log import logger
from .inference import InferenceEncoder, Unsupported

TESTED = (9, 0)  # compute capability of the H100; with other options, Triton 3.6 compiles code that fails there
LARGEST_ERROR = 0.05  # of the logits, relative to their norm; bf16 alone makes up to 0.01


def new_triton_model(model: Any) -> Any:
    """A `triton_encoder.TritonModel`, compiled and tried; None where the model, the GPU or the installation lacks it.

    Triton comes with torch for CUDA, and needs a C compiler the first time.
    """
    try:
        capability = torch.cuda.get_device_capability(model.device)
        if capability != TESTED:
            raise Unsupported(f"it is untested on compute capability {capability}")
        from .triton_encoder import TritonModel

        fast = TritonModel(model)
        _check_logits(fast, model)
    except Exception as error:  # of Triton, its compiler and the driver, each with its own
        if is_out_of_device_memory(error):
            raise
        logger.debug("no Triton kernel for %s, which is several times slower without: %s", model.info.name, error)
        return None
    return fast


def _check_logits(fast: Any, model: Any) -> None:
    """Compare the token logits of four windows with the logits from the plain inference encoder.

    Raises
    ------
    Unsupported : they differ.
    """
    length, words = model.info.window - model.info.k + 3, model.encoder.config.vocab_size
    ids = (7919 * torch.arange(4 * length, device=model.device) % words).view(4, length)
    with torch.inference_mode(), torch.autocast(model.device.type, enabled=False):
        hidden = InferenceEncoder(model.encoder, torch.bfloat16)(ids).float()
        expected = model.token_head(hidden[:, 1:-1])[..., 0]
        error = (fast(ids)[1] - expected).norm() / expected.norm()
    if not error <= LARGEST_ERROR:
        raise Unsupported(f"its logits are wrong: relative error {error:.2g}")
