"""Training of a prefilter: a small network that learns where a model calls sites (applied in `predict.prefilter`)."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from ..log import logger, progress
from ..models.batching import base_probabilities
from ..models.bertsnr import BertSNR
from ..models.device import Runtime
from ..models.prefilter_network import PrefilterNetwork
from ..predict.calling import MAX_GAP, call_levels, min_site_length
from ..predict.prefilter import prefilter_logits
from ..sequence.encoding import reverse_complement_codes
from ..sequence.windows import Windows

FLANK = 30  # bases read on either side of the shortest site
MAX_LOSS = 0.004  # fraction of the calls in held-out background windows that the prefilter may lose
TAIL_FRACTION = 0.05  # of these calls, to which the tail of their logits is fitted
VARIANTS_PER_SITE = 12  # mutated copies of each positive window
HELD_OUT = 0.25  # fraction of the windows that sets the cut
STEPS, RATE = 4000, 3e-3  # training steps, highest learning rate
BATCH_COMPOSITION = {  # windows in a step; "called" means that the model calls a site
    "background, called": 64,
    "other, called": 64,
    "background": 32,
    "other": 32,
}
START_WEIGHT = 20.0  # of a base at which a site starts, in the loss


def train_prefilter(model: BertSNR, positives: Windows, background: Windows, runtime: Runtime, seed: int) -> None:
    """Train a prefilter and add it to the model and its description.

    It learns the model's call levels on background windows, read on both strands, and on the positives with random
    changes in and around their sites, which give many calls near the threshold. Held-out windows set the cut so that
    `MAX_LOSS` of the calls in background windows are lost, and not more of the others.
    """
    random = np.random.default_rng([seed, 10])
    info = model.info
    shortest = min_site_length(info.site_width, info.k)
    variants = [_mutated(positives, info.site_width, random) for _ in range(VARIANTS_PER_SITE)]
    codes = np.concatenate(
        [background.codes, reverse_complement_codes(background.codes), positives.codes, *variants], dtype=np.uint8
    )
    is_background = np.arange(len(codes)) < 2 * len(background)
    logger.info("prefilter: training on %s windows, which takes some minutes", f"{len(codes):,}")
    levels = _call_levels(model, codes, shortest, runtime)
    called = levels.max(axis=1) > info.threshold
    held_out = random.random(len(codes)) < HELD_OUT
    groups = {
        "background, called": is_background & called,
        "other, called": ~is_background & called,
        "background": is_background & ~called,
        "other": ~is_background & ~called,
    }
    torch.manual_seed(seed)
    network = PrefilterNetwork(shortest, FLANK).to(model.device)
    _fit(network, codes, levels, {name: np.nonzero(group & ~held_out)[0] for name, group in groups.items()}, random)
    logits_of = network.inference_function()
    best = np.concatenate(
        [
            prefilter_logits(network, codes[first : first + 64], runtime, logits_of).max(axis=1)
            for first in range(0, len(codes), 64)
        ]
    )
    tested = [held_out & groups[name] for name in ("background, called", "other, called")]
    network.cut = float(min((_lower_tail(best[rows]) for rows in tested if rows.any()), default=-np.inf))
    model.prefilter = network
    info.prefilter = {"shortest": shortest, "flank": FLANK, "cut": network.cut}
    passing = 100 * (best[held_out & is_background] > network.cut).mean()
    logger.info("prefilter: %.1f %% of the background windows pass, on either strand", passing)


def _call_levels(model: BertSNR, codes: np.ndarray, shortest: int, runtime: Runtime) -> np.ndarray:
    """The model's call level of a site at each start, float16, shape (n, L - shortest + 1)."""
    levels = np.empty((len(codes), codes.shape[1] - shortest + 1), dtype=np.float16)
    with progress("prefilter: scores", len(codes), "windows") as bar:
        for first in range(0, len(codes), 8192):
            rows = slice(first, first + 8192)
            levels[rows] = call_levels(base_probabilities(model, codes[rows], runtime), shortest, MAX_GAP)
            bar.advance(len(codes[rows]))
    return levels


def _lower_tail(logits: np.ndarray) -> float:
    """The logit below which `MAX_LOSS` of such logits lie, if the lowest `TAIL_FRACTION` decay exponentially."""
    edge = np.quantile(logits, TAIL_FRACTION)
    return float(edge - (edge - logits[logits <= edge]).mean() * np.log(TAIL_FRACTION / MAX_LOSS))


def _mutated(windows: Windows, margin: int, random: np.random.Generator) -> np.ndarray:
    """Codes with random bases at up to half of the positions within `margin` of a site."""
    first = windows.labels.argmax(axis=1)[:, None] - margin
    after = windows.labels.shape[1] - windows.labels[:, ::-1].argmax(axis=1)[:, None] + margin
    position = np.arange(windows.labels.shape[1])
    drawn = random.random(windows.codes.shape) < 0.5 * random.random((len(windows), 1))
    mutated = drawn & (position >= first) & (position < after)
    return np.where(mutated, random.integers(0, 4, windows.codes.shape), windows.codes).astype(np.uint8)


def _fit(
    network: PrefilterNetwork,
    codes: np.ndarray,
    levels: np.ndarray,
    groups: dict[str, np.ndarray],
    random: np.random.Generator,
) -> None:
    """Train the network on the call levels.

    Parameters
    ----------
    groups : rows of `codes` to draw from, by the names of `BATCH_COMPOSITION`
    """
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS)
    counts = {name: count for name, count in BATCH_COMPOSITION.items() if len(groups[name])}
    with progress("prefilter: steps", STEPS, "steps") as bar:
        for _ in range(STEPS):
            rows = np.concatenate([random.choice(groups[name], count) for name, count in counts.items()])
            target = torch.from_numpy(levels[rows].astype(np.float32)).to(network.device)
            logits = network(torch.from_numpy(codes[rows].astype(np.int64)).to(network.device))
            loss = binary_cross_entropy_with_logits(logits, target, weight=1 + (START_WEIGHT - 1) * target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            bar.advance(1)
