"""Windows of many factors: what a many-factor model is trained on, and what it sees in an epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..errors import UsageError
from ..io.intervals import Interval, interval_from_name
from ..sequence.windows import Windows, loci, split_by_locus
from .config import Recipe, default_swap_fraction
from .data import shuffled_negatives, swap_sites

FACTOR_WINDOWS = 1000  # an epoch has all positive windows of a factor with fewer, and of more their geometric mean
VALIDATION_WINDOWS = 100  # positive windows of a factor that are validated after every epoch


class FactorData(NamedTuple):
    """What a many-factor model is trained and validated on; lists have an entry for each factor.

    Attributes
    ----------
    names : of the factors
    positives : labelled windows
    validation : labelled windows with and without a site
    background : background windows; None without any
    known : bool, shape (background windows, factors): a site or a peak of the factor may lie in the window
    null_windows : background windows for the null distributions, never trained on, and their `known`
    """

    names: list[str]
    positives: list[Windows]
    validation: list[Windows]
    background: Windows | None = None
    known: np.ndarray | None = None
    null_windows: Windows | None = None
    null_known: np.ndarray | None = None

    def epoch_size(self) -> int:
        """Windows in an epoch, without background windows."""
        return 2 * sum(epoch_draws(len(windows)) for windows in self.positives)


class EpochWindows(NamedTuple):
    """Windows of one epoch: codes and labels, uint8 (n, L); number of the factor that is labelled, int64 (n,)."""

    codes: np.ndarray
    labels: np.ndarray
    factors: np.ndarray


def epoch_draws(count: int) -> int:
    """Positive windows in an epoch of a factor that has `count`: frequent factors must not drown the others."""
    return count if count <= FACTOR_WINDOWS else round((count * FACTOR_WINDOWS) ** 0.5)


def draw_epoch(positives: Sequence[Windows], seed: int, number: int) -> EpochWindows:
    """Positive windows of every factor and a new shuffle of each, not yet in random order.

    Over the epochs, each window of a factor is drawn equally often.

    Parameters
    ----------
    number : of the epoch, from 0
    """
    parts, factors = [], []
    for factor, windows in enumerate(positives):
        chosen = windows.take(_drawn_rows(len(windows), seed, factor, number))
        key = f"{seed} factor {factor} epoch {number}"
        swapped = swap_sites(chosen, default_swap_fraction(len(windows)), key)
        parts += [swapped, shuffled_negatives(chosen, key)]
        factors.append(np.full(2 * len(chosen), factor))
    joined = Windows.joined(parts)
    return EpochWindows(joined.codes, joined.labels, np.concatenate(factors))


def _drawn_rows(count: int, seed: int, factor: int, number: int) -> np.ndarray:
    """Rows of an epoch: pass after pass through all windows of a factor, each in its own random order."""
    draws = epoch_draws(count)
    done, offset = divmod(number * draws, count)
    orders = [np.random.default_rng([seed, 10, factor, done + ahead]).permutation(count) for ahead in (0, 1)]
    return np.concatenate(orders)[offset : offset + draws]


def split_factors(
    sets: Mapping[str, Windows], recipe: Recipe, background: Windows | None = None, known: np.ndarray | None = None
) -> FactorData:
    """Split into training and validation; windows that overlap on the genome, of any factor, stay together.

    Of the background windows, the held-out ones and half of the others are for the null distributions.

    Parameters
    ----------
    sets : positive windows by factor
    known : see `FactorData`

    Raises
    ------
    UsageError : a factor has no windows in one of the parts.
    """
    groups = [*sets.values(), background] if background else list(sets.values())
    held_out = np.split(_held_out(groups, recipe), np.cumsum([len(windows) for windows in groups])[:-1])
    positives, validation = [], []
    for factor, (name, windows) in enumerate(sets.items()):
        held, kept = np.nonzero(held_out[factor])[0], np.nonzero(~held_out[factor])[0]
        if not len(held) or not len(kept):
            part = "validation" if len(kept) else "training"
            raise UsageError(f"{name}: none of its {len(windows)} windows is left for {part}; give more loci")
        positives.append(windows.take(kept))
        chosen = windows.take(held[np.random.default_rng([recipe.seed, 11, factor]).permutation(len(held))])
        chosen = chosen.take(np.arange(min(len(chosen), VALIDATION_WINDOWS)))
        validation.append(Windows.joined([chosen, shuffled_negatives(chosen, f"{recipe.seed} validation {name}")]))
    data = FactorData(list(sets), positives, validation)
    if background is None or known is None:
        return data
    rest = np.random.default_rng([recipe.seed, 9]).permutation(np.nonzero(~held_out[-1])[0])
    trained, aside = rest[: len(rest) // 2], np.append(np.nonzero(held_out[-1])[0], rest[len(rest) // 2 :])
    return data._replace(
        background=background.take(trained),
        known=known[trained],
        null_windows=background.take(aside),
        null_known=known[aside],
    )


def _held_out(groups: Sequence[Windows], recipe: Recipe) -> np.ndarray:
    """Which windows are held out for validation, bool."""
    locus, chroms = loci(Windows.joined(groups))
    if recipe.val_chroms:
        held = np.array([chrom.rpartition(".")[2] in recipe.val_chroms for chrom in chroms])
        unplaced = np.array([not chrom for chrom in chroms])
        return held | (unplaced & (split_by_locus(locus, round(1 / recipe.val_fraction), recipe.seed) == 0))
    return split_by_locus(locus, max(2, round(1 / recipe.val_fraction)), recipe.seed) == 0


def known_sites(background: Windows, names: Sequence[str], sites: Sequence[Interval]) -> np.ndarray:
    """Which factors may have a site in each background window: bool, shape (windows, factors).

    Parameters
    ----------
    names : of the factors
    sites : known sites and peaks, named by factor; an interval with another name counts for all factors
    """
    number = {name: index for index, name in enumerate(names)}
    length = background.codes.shape[1]
    known = np.zeros((len(background), len(names)), dtype=bool)
    located = [interval_from_name(name, length) for name in background.names]
    rows: dict[str, list[tuple[int, int]]] = {}
    for row, interval in enumerate(located):
        if interval:
            rows.setdefault(interval.chrom, []).append((interval.start, row))
    starts = {chrom: np.array(sorted(found)) for chrom, found in rows.items()}
    for site in sites:
        if site.chrom not in starts:
            continue
        first, last = np.searchsorted(starts[site.chrom][:, 0], [site.start - length + 1, site.end])
        known[starts[site.chrom][first:last, 1], number.get(site.name, slice(None))] = True
    return known
