"""A first pass in front of a model: it rules out windows in which the model would call nothing, at a small part of the model's cost."""

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
from ..predict.prefilter import _logits
from ..sequence.encoding import reverse_complement_codes
from ..sequence.windows import Windows

FLANK = 30  # bases that are seen on either side of the shortest site
MAX_LOSS = 0.004  # of the calls in natural windows that it has not learned from
TAIL_FRACTION = 0.05  # of these calls, through which their tail is drawn
VARIANTS_PER_SITE = 12  # of each positive window, with random changes in and around its site
HELD_OUT = 0.25  # of the windows, which choose the cut
STEPS, RATE = 4000, 3e-3
BATCH_COMPOSITION = {
    "natural calls": 64,
    "other calls": 64,
    "natural": 32,
    "other": 32,
}  # windows in a step; where no site is called, the latter two
START_WEIGHT = 20.0  # of a base at which a site begins, in the loss


def train_prefilter(model: BertSNR, positives: Windows, natural: Windows, runtime: Runtime, seed: int) -> None:
    """Give a model its prefilter.

    It learns where the model calls: on natural windows, read on either strand, and on the positives, as they are and with random
    changes in and around their sites, so that there are many calls about the threshold. From a part of the windows comes the cut,
    which is to lose `LOST` of the calls in natural windows, and no more of those in the others.
    """
    random = np.random.default_rng([seed, 10])
    info = model.info
    shortest = min_site_length(info.site_width, info.k)
    other = np.concatenate(
        [positives.codes, *(_mutated(positives, info.site_width, random) for _ in range(VARIANTS_PER_SITE))]
    )
    codes = np.concatenate([natural.codes, reverse_complement_codes(natural.codes), other])
    own = np.arange(len(codes)) < 2 * len(natural)
    logger.info("prefilter: learning from %s windows, which takes some minutes", f"{len(codes):,}")
    heights = np.empty((len(codes), codes.shape[1] - shortest + 1), dtype=np.float16)
    with progress("prefilter: scores", len(codes), "windows") as bar:
        for first in range(0, len(codes), 8192):
            some = slice(first, first + 8192)
            heights[some] = call_levels(base_probabilities(model, codes[some], runtime), shortest, MAX_GAP)
            bar.advance(len(codes[some]))
    called = heights.max(axis=1) > info.threshold
    aside = random.random(len(codes)) < HELD_OUT
    torch.manual_seed(seed)
    net = PrefilterNetwork(shortest, FLANK).to(model.device)
    pools = {
        "natural calls": own & called,
        "other calls": ~own & called,
        "natural": own & ~called,
        "other": ~own & ~called,
    }
    _fit(net, codes, heights, {kind: np.nonzero(part & ~aside)[0] for kind, part in pools.items()}, random)
    best = np.concatenate(
        [_logits(net, codes[first : first + 64], runtime).max(axis=1) for first in range(0, len(codes), 64)]
    )
    cuts = [
        _lower_tail(best[aside & pools[kind]])
        for kind in ("natural calls", "other calls")
        if (aside & pools[kind]).any()
    ]
    net.cut = float(min(cuts, default=-np.inf))
    model.prefilter = net
    info.prefilter = {"shortest": shortest, "flank": FLANK, "cut": net.cut}
    logger.info(
        "prefilter: %.1f %% of the natural windows pass, on either strand", 100 * (best[aside & own] > net.cut).mean()
    )


def _lower_tail(values: np.ndarray) -> float:
    """The value below which `LOST` of such values lie, if those below their lowest twentieth thin out exponentially."""
    edge = np.quantile(values, TAIL_FRACTION)
    return float(edge - (edge - values[values <= edge]).mean() * np.log(TAIL_FRACTION / MAX_LOSS))


def _mutated(windows: Windows, margin: int, random: np.random.Generator) -> np.ndarray:
    """Codes with other letters at up to half of the places within `margin` of a site."""
    first = windows.labels.argmax(axis=1)[:, None] - margin
    after = windows.labels.shape[1] - windows.labels[:, ::-1].argmax(axis=1)[:, None] + margin
    place = np.arange(windows.labels.shape[1])
    hit = (
        (random.random(windows.codes.shape) < 0.5 * random.random((len(windows), 1)))
        & (place >= first)
        & (place < after)
    )
    return np.where(hit, random.integers(0, 4, windows.codes.shape), windows.codes).astype(np.uint8)


def _fit(
    net: PrefilterNetwork,
    codes: np.ndarray,
    heights: np.ndarray,
    pools: dict[str, np.ndarray],
    random: np.random.Generator,
) -> None:
    """Learn to tell, for every base, how sure the model is that a site begins there; `pools` are rows of `codes`."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS)
    with progress("prefilter: steps", STEPS, "steps") as bar:
        for _ in range(STEPS):
            rows = np.concatenate(
                [random.choice(pools[kind], count) for kind, count in BATCH_COMPOSITION.items() if len(pools[kind])]
            )
            wanted = torch.from_numpy(heights[rows].astype(np.float32)).to(net.device)
            logits = net(torch.from_numpy(codes[rows].astype(np.int64)).to(net.device))
            loss = binary_cross_entropy_with_logits(logits, wanted, weight=1 + (START_WEIGHT - 1) * wanted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate.step()
            bar.advance(1)
