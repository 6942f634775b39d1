"""A first pass in front of a model: it rules out windows in which the model would call nothing, at a small part of the model's cost."""

from __future__ import annotations

import numpy as np
import torch

from ..models.batching import run_parallel
from ..models.bertsnr import BertSNR
from ..models.device import Runtime, autocast
from ..models.prefilter_network import PrefilterNetwork

MIN_BATCH = 8  # windows in a forward pass: see `scoring.LEAST_TOKENS`


def passing_windows(model: BertSNR, codes: np.ndarray, owns: np.ndarray, runtime: Runtime) -> np.ndarray:
    """Which windows the model has to score, bool, shape (n,).

    Parameters
    ----------
    codes : of equally long windows, uint8 shape (n, L), read in the direction given
    owns : shape (n, 2), half-open: the bases of each window that its scores are wanted for
    """
    net = model.prefilter
    keep = np.ones(len(codes), dtype=bool)
    if net is None or codes.shape[1] < net.shortest:
        return keep
    begins = np.arange(codes.shape[1] - net.shortest + 1)
    reach = max(
        model.info.site_width, net.shortest
    )  # how far beyond the bases a site that touches them may begin or end

    def score(some: slice) -> None:
        logits = _logits(net, codes[some], runtime)
        asked = (begins > owns[some, :1] - reach) & (begins < owns[some, 1:] + reach - net.shortest)
        keep[some] = ((logits > net.cut) & asked).any(axis=1)

    size = 64 if model.device.type == "cpu" else 8192
    run_parallel(score, (slice(first, first + size) for first in range(0, len(codes), size)), model)
    return keep


def _logits(net: PrefilterNetwork, codes: np.ndarray, runtime: Runtime) -> np.ndarray:
    """Shape (n, L - shortest + 1), float32."""
    filled = torch.from_numpy(codes[np.arange(max(MIN_BATCH, len(codes))) % len(codes)].astype(np.int64)).to(net.device)
    with torch.inference_mode(), autocast(net.device, runtime.precision):
        return net(filled)[: len(codes)].float().cpu().numpy()
