"""Training data: reading windows, drawing background windows, splitting into training and validation, one epoch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import DataError, UsageError
from ..io.fasta import Genome, Record
from ..io.intervals import Interval
from ..log import logger
from ..sequence.background import background_windows
from ..sequence.shuffle import shuffled_records
from ..sequence.windows import Windows, known_sites, loci, read_windows, split_by_locus

if TYPE_CHECKING:  # the command reads its options without waiting for torch
    from ..models.bertsnr import BertSNR
    from .config import Recipe

BACKGROUND_WINDOWS = 100_000  # drawn from a genome
WITHIN_FRACTION = 1.0  # of them from accessible regions, where such regions are given


class TrainingFiles(NamedTuple):
    """Names of the files to train from; "-" is standard input.

    Attributes
    ----------
    positives, negatives, background : FASTA files of windows
    genome : FASTA file to draw background windows from
    exclude : BED files that no background window overlaps
    within : BED files of accessible regions to draw background windows from
    within_fraction : fraction of the background windows that lie there
    teachers : model files or names of shipped models
    """

    positives: str
    negatives: tuple[str, ...] = ()
    background: str | None = None
    genome: str | None = None
    exclude: tuple[str, ...] = ()
    teachers: tuple[str, ...] = ()
    within: tuple[str, ...] = ()
    within_fraction: float = WITHIN_FRACTION

    def names(self) -> list[str | None]:
        """All but the teachers, None for those not given."""
        beds = (*self.exclude, *self.within)
        return [self.positives, *self.negatives, self.background, self.genome, *beds]

    def sources(self) -> dict[str, Any]:
        """Plain values for the model's metadata."""
        return {
            "positive_windows": self.positives,
            "negative_windows": list(self.negatives),
            "background_windows": self.genome or self.background,
            "excluded": list(self.exclude),
            **within_sources(self.within, self.within_fraction),
            "teachers": list(self.teachers),
        }

    def read(self, k: int, seed: int) -> TrainingInputs:
        """Read all windows and draw background windows from the genome; teachers are not loaded.

        Raises
        ------
        DataError : see `windows.read_windows` and `draw_background`.
        UsageError : see `draw_background`.
        """
        parts: dict[str, list[Windows]] = {"positives": [], "negatives": [], "background": []}
        paths = [(self.positives, "positives"), *((path, "negatives") for path in self.negatives)]
        if self.background:
            paths.append((self.background, "background"))
        # a pipe first: in `tee pos.fa | bertsnr shuffle - | bertsnr train pos.fa -n -` its end completes pos.fa
        length = None
        for path, kind in sorted(paths, key=lambda item: item[0] != "-"):
            parts[kind].append(read_windows(path, kind == "positives", k, length))
            length = parts[kind][-1].codes.shape[1]
        [positives] = parts["positives"]
        negatives, background = (Windows.joined(some) if some else None for some in list(parts.values())[1:])
        if self.genome:
            genome = Genome(self.genome)
            exclude, within = genome.exclusions(self.exclude), genome.exclusions(self.within)
            fraction = self.within_fraction
            background = draw_background(genome, positives, exclude, seed, within=within, within_fraction=fraction)
        return TrainingInputs(positives, negatives, background, sources=self.sources())


@dataclass(frozen=True)
class TrainingInputs:
    """Windows and teachers before the split into training and validation.

    Attributes
    ----------
    positives : labelled windows
    negatives : windows without a site; None for new shuffles of the positives in every epoch
    background : genomic background windows
    teachers : models to distill: the targets are their probabilities instead of the labels
    sources : where all this comes from, plain values for the model's metadata
    """

    positives: Windows
    negatives: Windows | None = None
    background: Windows | None = None
    teachers: tuple[BertSNR, ...] = ()
    sources: dict[str, Any] = field(default_factory=dict)

    def select(self, masks: Parts) -> TrainingInputs:
        """The windows where the masks are true, with the same teachers and sources."""
        positives, negatives, background = (np.nonzero(mask)[0] for mask in masks)
        return replace(
            self,
            positives=self.positives.take(positives),
            negatives=self.negatives and self.negatives.take(negatives),
            background=self.background and self.background.take(background),
        )


class Parts(NamedTuple):
    """A value for each positive, negative and background window, arrays of shape (n,)."""

    positives: np.ndarray
    negatives: np.ndarray
    background: np.ndarray


class TrainingData(NamedTuple):
    """What a model is trained and validated on.

    Attributes
    ----------
    positives : labelled windows
    negatives : windows without a site; None for new shuffles of the positives in every epoch
    validation : labelled windows with and without a site
    background : background windows that every epoch draws from
    hard_negatives : background windows that are in every epoch
    null_windows : background windows for the null distribution, never trained on
    teachers : models to distill, see `distillation.teacher_targets`
    """

    positives: Windows
    negatives: Windows | None
    validation: Windows
    background: Windows | None = None
    hard_negatives: Windows | None = None
    null_windows: Windows | None = None
    teachers: tuple[BertSNR, ...] = ()

    def background_count(self, ratio: float) -> int:
        """Background windows in an epoch, for the recipe's `background_ratio`."""
        return min(len(self.background), round(ratio * len(self.positives))) if self.background else 0

    def epoch_size(self, ratio: float) -> int:
        """Windows in an epoch without hard negatives."""
        return len(self.positives) + len(self.negatives or self.positives) + self.background_count(ratio)

    def epoch(self, number: int, recipe: Recipe) -> Windows:
        """The windows of one epoch, not yet in random order.

        Parameters
        ----------
        number : of the epoch, from 0
        """
        seed = recipe.seed
        positives = self.positives
        if recipe.swap_fraction:
            positives = swap_sites(positives, recipe.swap_fraction, f"{seed} swap {number}")
        parts = [positives, self.negatives or shuffled_negatives(self.positives, f"{seed} epoch {number}")]
        if self.background:
            order = np.random.default_rng([seed, 8, number]).permutation(len(self.background))
            parts.append(self.background.take(order[: self.background_count(recipe.background_ratio)]))
        return Windows.joined([*parts, self.hard_negatives] if self.hard_negatives else parts)


def within_sources(within: Sequence[str], fraction: float) -> dict[str, Any]:
    """Plain values for a model's metadata, empty without accessible regions."""
    return {"within": list(within), "within_fraction": fraction} if within else {}


def draw_background(
    genome: Genome,
    positives: Windows,
    exclude: Iterable[Interval] = (),
    seed: int = 1,
    *,
    within: Sequence[Interval] = (),
    within_fraction: float = WITHIN_FRACTION,
) -> Windows:
    """Draw up to 100,000 background windows that overlap neither a positive window nor an excluded interval.

    Parameters
    ----------
    positives : windows named name::chrom:start-end(strand)
    exclude : 0-based half-open intervals, such as ChIP-seq peaks
    within : accessible regions, such as ATAC-seq or DNase-seq peaks; those shorter than a window are extended to it
    within_fraction : fraction of the windows that lie in them; the others overlap none of them. If they contain too
        few windows, the number of the others is reduced like theirs.

    Raises
    ------
    UsageError : the names of the positives do not give positions on the genome.
    DataError : the genome, or `within`, contains fewer than two such windows.
    """
    if not 0 < within_fraction <= 1:
        raise UsageError(f"the fraction within accessible regions is {within_fraction}; expected above 0, at most 1")
    length, located = positives.codes.shape[1], positives.intervals()
    for name, interval in zip(positives.names, located):
        if interval is None or interval.chrom not in genome.lengths:
            expected = "expected a name like name::chrom:start-end(strand)"
            raise UsageError(f"-f: positive window {name!r} is not on {genome.path}; {expected}")
    avoid = [*(interval for interval in located if interval), *exclude]

    def draw(regions: Sequence[Interval], avoid: Sequence[Interval], count: int) -> list[Record]:
        return list(background_windows(genome, regions, avoid, length, np.array([count]), seed))

    if within:
        wanted = round(BACKGROUND_WINDOWS * within_fraction)
        extended = _at_least(length, within, genome)
        records = draw(extended, avoid, wanted)
        others = round(len(records) * (1 / within_fraction - 1))
        if 2 <= len(records) < wanted:
            problem = "accessible regions (--within) contain only %s of %s background windows; %s others are drawn"
            logger.info(problem, f"{len(records):,}", f"{wanted:,}", f"{others:,}")
        records += draw(genome.chromosomes(), [*avoid, *extended], others) if others else []
    else:
        records = draw(genome.chromosomes(), avoid, BACKGROUND_WINDOWS)
    if len(records) < 2:
        obstacles = "free of N, positive windows and excluded intervals" + (" in accessible regions" if within else "")
        raise DataError(f"contains too few windows of {length} bp ({len(records)}) {obstacles}", genome.path)
    return Windows.unlabelled(records)


def _at_least(length: int, regions: Iterable[Interval], genome: Genome) -> list[Interval]:
    """Regions on the genome, the short ones extended to `length` bp around their middle; other chromosomes left out."""
    found = []
    for region in regions:
        most = genome.lengths.get(region.chrom, 0)
        missing = max(0, length - (min(region.end, most) - region.start))
        start = max(0, min(region.start - missing // 2, most - length)) if missing else region.start
        end = min(max(region.end, start + length), most)
        if start < end:
            found.append(region._replace(start=start, end=end))
    return found


def shuffled_negatives(windows: Windows, key: str) -> Windows:
    """A dinucleotide shuffle of each window, random by `key`."""
    return Windows.unlabelled(list(shuffled_records(windows.records(), seed=seed_of(key))))


def swap_sites(windows: Windows, fraction: float, key: str) -> Windows:
    """Augmentation: give about this fraction of positive windows the site of another window instead of their own.

    A few hundred sites make many thousand windows, and the flanks of a site do not reveal it. Sites are swapped between
    windows whose sites have the same widths and distances.
    """
    random = np.random.default_rng(seed_of(key))
    first = windows.labels.argmax(axis=1)
    after = windows.labels.shape[1] - windows.labels[:, ::-1].argmax(axis=1)
    alike: dict[bytes, list[int]] = {}
    for row, (start, end) in enumerate(zip(first.tolist(), after.tolist())):
        alike.setdefault(windows.labels[row, start:end].tobytes(), []).append(row)
    codes = windows.codes.copy()
    for row in np.nonzero(random.random(len(windows)) < fraction)[0].tolist():
        others = alike[windows.labels[row, first[row] : after[row]].tobytes()]
        other = others[int(random.integers(len(others)))]
        codes[row, first[row] : after[row]] = windows.codes[other, first[other] : after[other]]
    return Windows(windows.names, codes, windows.labels)


def seed_of(*parts: Any) -> int:
    """A seed from anything that has a `repr`."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=7).digest(), "little")


def split_data(inputs: TrainingInputs, recipe: Recipe) -> TrainingData:
    """Split into training and validation; windows that overlap on the genome stay together.

    Of the held-out background windows, `recipe.background_ratio` for each positive are for validation; the others, with
    half of the windows that are not held out, are for the null distribution.

    Raises
    ------
    UsageError : a part would be empty.
    """
    if inputs.background:
        inputs = replace(inputs, background=off_positives(inputs.background, inputs.positives))
    held_out = _held_out(inputs, recipe)
    if not held_out.positives.any() or held_out.positives.all():
        advice = _split_advice(inputs.positives, recipe.val_chroms, everything=bool(held_out.positives.any()))
        raise UsageError(f"the positive windows cannot be divided into training and validation: {advice}")
    if inputs.negatives and (not held_out.negatives.any() or held_out.negatives.all()):
        raise UsageError(
            "the negative windows cannot be split like the positives; choose other --val-chroms, or omit -n"
        )
    train, held = inputs.select(Parts(*(~mask for mask in held_out))), inputs.select(held_out)
    negatives = held.negatives or shuffled_negatives(held.positives, f"{recipe.seed} validation")
    validation = Windows.joined([held.positives, negatives])
    data = TrainingData(train.positives, train.negatives, validation, teachers=inputs.teachers)
    background = inputs.background
    if background is None:
        return data
    random = np.random.default_rng([recipe.seed, 9])
    aside, rest = (random.permutation(np.nonzero(mask)[0]) for mask in (held_out.background, ~held_out.background))
    validated, half = round(recipe.background_ratio * len(held.positives)), len(rest) // 2
    if not half:
        raise UsageError("all background windows are held out; give more of them")
    null = clear_of_training(np.append(aside[validated:], rest[half:]), rest[:half], [inputs.positives], background)
    return data._replace(
        validation=Windows.joined([data.validation, background.take(aside[:validated])]),
        background=background.take(rest[:half]),
        null_windows=background.take(null),
    )


def off_positives(background: Windows, positives: Windows) -> Windows:
    """The background windows that overlap no positive window.

    Raises
    ------
    UsageError : all of them do.
    """
    located = [interval._replace(name="") for interval in positives.intervals() if interval]
    known = known_sites(background, [""], located)[:, 0]
    if known.all():
        raise UsageError("all background windows overlap positive windows; give others")
    if known.any():
        problem = "%s of %s background windows overlap positive windows and are left out"
        logger.warning(problem, f"{int(known.sum()):,}", f"{len(known):,}")
    return background.take(np.nonzero(~known)[0]) if known.any() else background


def clear_of_training(
    rows: np.ndarray, trained: np.ndarray, positives: Sequence[Windows], background: Windows
) -> np.ndarray:
    """The rows of background windows that overlap neither those trained on nor a positive window."""
    locus, _ = loci(Windows.joined([*positives, background]))
    of_positives, of_background = locus[: -len(background)], locus[-len(background) :]
    clear = rows[~np.isin(of_background[rows], np.append(of_positives, of_background[trained]))]
    if len(clear) < len(rows):
        dropped = f"{len(rows) - len(clear):,} of {len(rows):,}"
        logger.warning("%s background windows overlap training windows and are left out of the p-values", dropped)
    return clear


def _held_out(inputs: TrainingInputs, recipe: Recipe) -> Parts:
    """Which windows are held out, bool."""
    if recipe.val_chroms:
        sets = (inputs.positives, inputs.negatives, inputs.background)
        chroms = (loci(windows)[1] if windows else [] for windows in sets)
        return Parts(*(np.array([chrom in recipe.val_chroms for chrom in part], dtype=bool) for part in chroms))
    parts = split_parts(inputs, share_of(recipe.val_fraction).denominator, recipe.seed)
    return Parts(*(in_share(part, recipe.val_fraction) for part in parts))


def share_of(fraction: float) -> Fraction:
    """A fraction of at most 1/2 as a ratio of small numbers."""
    return Fraction(fraction).limit_denominator(100) or Fraction(1, round(1 / fraction))


def in_share(ranks: np.ndarray, fraction: float) -> np.ndarray:
    """Which ranks, from 0, belong to a fraction of all, bool: evenly spaced ones, the first among them."""
    share = share_of(fraction)
    return ranks * share.numerator % share.denominator < share.numerator


def _split_advice(positives: Windows, val_chroms: Sequence[str], *, everything: bool) -> str:
    if not val_chroms:
        return "give more loci"
    chroms = sorted(set(loci(positives)[1]) - {""})[:5]
    asked = ", ".join(sorted(val_chroms))
    if not chroms:
        return "--val-chroms requires coordinates in their names, name::chrom:start-end(strand)"
    if everything:
        return f"they all lie on {asked}; give fewer --val-chroms"
    return f"{asked} should contain some of them; they lie on {', '.join(chroms)}"


def split_parts(inputs: TrainingInputs, count: int, seed: int) -> Parts:
    """Part numbers in [0, count) of all windows by locus, see `windows.split_by_locus`.

    Positives and negatives alone are divided evenly; background windows at their loci follow them.
    """
    sets = [windows for windows in (inputs.positives, inputs.negatives, inputs.background) if windows]
    locus, _ = loci(Windows.joined(sets))
    ends = np.cumsum([len(inputs.positives), len(inputs.negatives or [])])
    labelled, background = locus[: ends[1]], locus[ends[1] :]
    part = split_by_locus(labelled, count, seed)
    of_locus = dict(zip(background.tolist(), split_by_locus(background, count, seed).tolist()))
    of_locus |= dict(zip(labelled.tolist(), part.tolist()))
    positives, negatives = np.split(part, ends[:1])
    return Parts(positives, negatives, np.array([of_locus[number] for number in background.tolist()], dtype=int))
