"""Apply the prefilter: rule out windows in which the model would call nothing, at a fraction of the model's cost."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from ..errors import UsageError
from ..models.batching import halve_on_oom, run_parallel
from ..models.device import Runtime, autocast
from ..models.interface import Model
from ..models.many_factor import shared_model
from ..models.prefilter_network import PrefilterNetwork
from .thresholds import CallingRule

MIN_BATCH, MIN_BATCH_GPU = 8, 512  # windows in a forward pass: smaller matrix products round differently


def check_prefilter(model: Model, rule: CallingRule) -> None:
    """Check that a model has a prefilter, trained for what the rule calls.

    Raises
    ------
    UsageError : the model has none, or the rule calls below the threshold that the prefilter was trained for.
    """
    name, lowest, called = model.info.name, model.info.threshold, rule.lowest_call_level
    if not model.info.prefilter:
        kind = ", a PWM," if model.info.is_pwm else ", one of many factors," if shared_model(model) else ""
        advice = "" if kind else ", or train the model with it"
        raise UsageError(f"--prefilter: {name}{kind} has no prefilter; leave out --prefilter{advice}")
    if called < lowest:
        problem = f"the prefilter of {name} requires a threshold of at least {lowest:g} (got {called:g})"
        raise UsageError(f"--prefilter: {problem}; raise -t or leave out --prefilter")


def passing_windows(model: Model, codes: np.ndarray, cores: np.ndarray, runtime: Runtime) -> np.ndarray:
    """Which windows the model must score.

    Parameters
    ----------
    codes : equally long windows, uint8, shape (n, L), read in the direction given
    cores : core intervals, shape (n, 2), from the first base of each window: bases whose scores are used

    Returns
    -------
    bool, shape (n,); all True for a model without a prefilter, and for windows shorter than a site
    """
    network = model.prefilter
    passing = np.ones(len(codes), dtype=bool)
    if network is None or codes.shape[1] < network.shortest:
        return passing
    site_starts = np.arange(codes.shape[1] - network.shortest + 1)
    reach = max(
        model.info.site_width, network.shortest
    )  # a site that overlaps the core starts or ends at most this far from it

    logits_of = network.inference_function()

    def score(batch: slice) -> None:
        logits = prefilter_logits(network, codes[batch], runtime, logits_of)
        near_core = (site_starts > cores[batch, :1] - reach) & (
            site_starts < cores[batch, 1:] + reach - network.shortest
        )
        passing[batch] = ((logits > network.cut) & near_core).any(axis=1)

    def score_all(size: int) -> None:
        run_parallel(score, (slice(first, first + size) for first in range(0, len(codes), size)), model)

    halve_on_oom(network, 64 if model.device.type == "cpu" else 8192, score_all)
    return passing


def prefilter_logits(
    network: PrefilterNetwork,
    codes: np.ndarray,
    runtime: Runtime,
    logits_of: Callable[[torch.Tensor], torch.Tensor],
) -> np.ndarray:
    """Logits of a site at each start, float32, shape (n, L - network.shortest + 1); they do not depend on the batch.

    Parameters
    ----------
    logits_of : the network's `inference_function`, made once for all batches
    """
    filled_size = max(MIN_BATCH if network.device.type == "cpu" else MIN_BATCH_GPU, len(codes))
    filled = torch.from_numpy(codes[np.arange(filled_size) % len(codes)]).to(network.device).long()
    with torch.inference_mode(), autocast(network.device, runtime.precision):
        return logits_of(filled)[: len(codes)].float().cpu().numpy()
