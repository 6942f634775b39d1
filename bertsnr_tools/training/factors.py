"""Windows of many factors: what a many-factor model is trained on, and what it sees in an epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import UsageError
from ..sequence.windows import Windows, loci
from .config import Recipe, default_swap_fraction
from .data import clear_of_training, in_share, seed_of, shuffled_negatives, swap_sites

if TYPE_CHECKING:
    from ..models.bertsnr import BertSNR

FACTOR_WINDOWS = 1000  # positive windows in an epoch of a factor that has as many
VALIDATION_WINDOWS = 100  # positive windows of a factor that are validated after every epoch
MOVED = 0.3  # of the positive windows for teachers: fraction whose site is moved into a background window
MUTATED, SUBSTITUTED = 0.5, 0.08  # of all windows for teachers: fraction that is mutated, and of their bases


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
    teachers : see `factor_files.FactorInputs`
    """

    names: list[str]
    positives: list[Windows]
    validation: list[Windows]
    background: Windows | None = None
    known: np.ndarray | None = None
    null_windows: Windows | None = None
    null_known: np.ndarray | None = None
    teachers: Sequence[Sequence[BertSNR]] = ()

    def epoch_size(self) -> int:
        """Windows in an epoch, without background windows."""
        return 2 * sum(epoch_draws(len(windows)) for windows in self.positives)


class EpochWindows(NamedTuple):
    """Windows of one epoch: codes and labels, uint8 (n, L); number of the factor that is labelled, int64 (n,)."""

    codes: np.ndarray
    labels: np.ndarray
    factors: np.ndarray


def epoch_draws(count: int) -> int:
    """Positive windows in an epoch of a factor that has `count`.

    By the cube root, because the encoder does not learn a motif that has a small fraction of all windows: with all
    windows of small sets, and the square root for large ones, sets below 1,000 windows reached an AUPR of 0.85 to 0.92
    on their own training windows.
    """
    return round(count ** (1 / 3) * FACTOR_WINDOWS ** (2 / 3))


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
        chosen.names = [f"{draw} {name}" for draw, name in enumerate(chosen.names)]  # a shuffle depends on its name
        key = f"{seed} factor {factor} epoch {number}"
        swapped = swap_sites(chosen, default_swap_fraction(len(windows)), key)
        parts += [swapped, shuffled_negatives(chosen, key)]
        factors.append(np.full(2 * len(chosen), factor))
    joined = Windows.joined(parts)
    return EpochWindows(joined.codes, joined.labels, np.concatenate(factors))


def varied(epoch: EpochWindows, background: Windows | None, key: str) -> EpochWindows:
    """Windows for teachers, which need no label: more of them than sites and flanks alone would give.

    Some sites are moved into background windows, and some windows are mutated.
    """
    random = np.random.default_rng(seed_of(key))
    codes = epoch.codes.copy()
    if background:
        moved = np.nonzero(epoch.labels.any(axis=1) & (random.random(len(codes)) < MOVED))[0]
        flanks = background.codes[random.integers(len(background), size=len(moved))]
        codes[moved] = np.where(epoch.labels[moved] > 0, codes[moved], flanks)
    mutated = np.nonzero(random.random(len(codes)) < MUTATED)[0]
    shifts = random.integers(1, 4, size=(len(mutated), codes.shape[1]), dtype=np.uint8)
    chosen = (random.random(shifts.shape, dtype=np.float32) < SUBSTITUTED) & (codes[mutated] < 4)
    codes[mutated] = np.where(chosen, (codes[mutated] + shifts) % 4, codes[mutated])
    return epoch._replace(codes=codes)


def _drawn_rows(count: int, seed: int, factor: int, number: int) -> np.ndarray:
    """Rows of an epoch: pass after pass through all windows of a factor, each in its own random order."""
    draws = epoch_draws(count)
    done, offset = divmod(number * draws, count)
    passes = range(done, done + 1 + (offset + draws - 1) // count)
    orders = [np.random.default_rng([seed, 10, factor, number]).permutation(count) for number in passes]
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
    UsageError : a factor has no windows in one of the parts, or all background windows are held out.
    """
    groups = [*sets.values(), background] if background else list(sets.values())
    held_out = np.split(_held_out(groups, recipe), np.cumsum([len(windows) for windows in groups])[:-1])
    positives, validation = [], []
    advice = ", or other --val-chroms" if recipe.val_chroms else ""
    for factor, (name, windows) in enumerate(sets.items()):
        held, kept = np.nonzero(held_out[factor])[0], np.nonzero(~held_out[factor])[0]
        if not len(held) or not len(kept):
            part = "validation" if len(kept) else "training"
            raise UsageError(f"{name}: none of its {len(windows)} windows is left for {part}; give more loci{advice}")
        positives.append(windows.take(kept))
        chosen = windows.take(held[np.random.default_rng([recipe.seed, 11, factor]).permutation(len(held))])
        chosen = chosen.take(np.arange(min(len(chosen), VALIDATION_WINDOWS)))
        validation.append(Windows.joined([chosen, shuffled_negatives(chosen, f"{recipe.seed} validation {name}")]))
    data = FactorData(list(sets), positives, validation)
    if background is None or known is None:
        return data
    rest = np.random.default_rng([recipe.seed, 9]).permutation(np.nonzero(~held_out[-1])[0])
    if len(rest) < 2:
        raise UsageError("all background windows are held out; give more of them")
    trained, aside = rest[: len(rest) // 2], np.append(np.nonzero(held_out[-1])[0], rest[len(rest) // 2 :])
    aside = clear_of_training(aside, trained, [], background)
    return data._replace(
        background=background.take(trained),
        known=known[trained],
        null_windows=background.take(aside),
        null_known=known[aside],
    )


def _held_out(groups: Sequence[Windows], recipe: Recipe) -> np.ndarray:
    """Which windows are held out for validation, bool."""
    locus, chroms = loci(Windows.joined(groups))
    drawn = _drawn_loci(locus, [len(windows) for windows in groups], recipe)
    if recipe.val_chroms:
        return np.where([bool(chrom) for chrom in chroms], _on_chroms(chroms, recipe.val_chroms), drawn)
    return drawn


def _drawn_loci(locus: np.ndarray, sizes: Sequence[int], recipe: Recipe) -> np.ndarray:
    """Windows at randomly drawn loci, bool: `recipe.val_fraction` of the loci of each group, and at least one.

    A locus of several groups counts for the one with the fewest loci.

    Parameters
    ----------
    locus : of the windows of all groups
    sizes : windows in each group
    """
    unique, index = np.unique(locus, return_inverse=True)
    pairs = np.unique([np.repeat(np.arange(len(sizes)), sizes), index], axis=1)  # group and locus
    pairs = pairs[:, np.argsort(-np.bincount(pairs[0])[pairs[0]], kind="stable")]
    group = dict(zip(pairs[1].tolist(), pairs[0].tolist()))  # the last of a locus, with the fewest loci, is kept
    order = np.random.default_rng([recipe.seed, 1]).permutation(len(unique))
    of_group = np.array([group[number] for number in order.tolist()])
    order, of_group = (values[np.argsort(of_group, kind="stable")] for values in (order, of_group))
    rank = np.arange(len(order)) - np.searchsorted(of_group, of_group)
    held = np.empty(len(unique), dtype=bool)
    held[order] = in_share(rank, recipe.val_fraction)
    return held[index]


def _on_chroms(chroms: Sequence[str], chosen: Sequence[str]) -> np.ndarray:
    """Which windows lie on the chosen chromosomes, bool.

    A chosen name that no window has stands for the chromosomes of all genomes: chr8 for hg19.chr8 and hg38.chr8.
    Where both occur, 1 is not KI270728.1.
    """
    of_all = set(chosen) - set(chroms)
    return np.array([chrom in chosen or chrom.partition(".")[2] in of_all for chrom in chroms])
