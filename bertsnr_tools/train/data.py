"""Training on two tasks at once (Luo et al. 2024, section 2.4): recipe, validation, checkpoints, cross-validation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import UsageError
from ..models.bertsnr import BertSNR
from ..models.device import Runtime
from ..predict.significance import log_odds, window_call_levels
from ..sequence.encoding import reverse_complement_codes
from ..sequence.shuffle import shuffled_records
from ..sequence.windows import Windows, loci, split_by_locus
from .config import Recipe


class TrainingData(NamedTuple):
    """What a model is trained and validated on.

    Attributes
    ----------
    negatives : None gives every epoch new shuffles of the positives
    natural : windows of the genome that every epoch draws from
    hard : natural windows that are in every epoch
    null : natural windows that the model never sees, for p-values
    teachers : models whose probabilities are learned in place of the labels, see `taught`
    """

    positives: Windows
    negatives: Windows | None
    validation: Windows
    natural: Windows | None = None
    hard: Windows | None = None
    null: Windows | None = None
    teachers: tuple[BertSNR, ...] = ()

    def epoch(self, number: int, recipe: Recipe) -> Windows:
        """The windows of one epoch, not yet in random order."""
        seed = recipe.seed
        parts = [swap_sites(self.positives, recipe.swap, f"{seed} swap {number}") if recipe.swap else self.positives]
        parts.append(self.negatives or shuffled_negatives(self.positives, f"{seed} epoch {number}"))
        if self.natural:
            random = np.random.default_rng([seed, 8, number])
            drawn = random.permutation(len(self.natural))[: round(recipe.natural * len(self.positives))]
            parts.append(self.natural.take(drawn))
        return Windows.joined([*parts, self.hard] if self.hard else parts)


def shuffled_negatives(windows: Windows, key: str) -> Windows:
    """A dinucleotide shuffle of each window, random by `key`."""
    return Windows.unlabelled(list(shuffled_records(windows.records(), seed=seed_of(key))))


def swap_sites(windows: Windows, share: float, key: str) -> Windows:
    """Positive windows, about `share` of them with the site of another in the place of their own.

    So a few hundred sites make many thousand windows, and the surroundings of a site do not give it away. Sites are swapped between
    windows whose sites have the same widths and distances.
    """
    random = np.random.default_rng(seed_of(key))
    first = windows.labels.argmax(axis=1)
    after = windows.labels.shape[1] - windows.labels[:, ::-1].argmax(axis=1)
    alike: dict[bytes, list[int]] = {}
    for row, (start, end) in enumerate(zip(first.tolist(), after.tolist())):
        alike.setdefault(windows.labels[row, start:end].tobytes(), []).append(row)
    codes = windows.codes.copy()
    for row in np.nonzero(random.random(len(windows)) < share)[0].tolist():
        others = alike[windows.labels[row, first[row] : after[row]].tobytes()]
        other = others[int(random.integers(len(others)))]
        codes[row, first[row] : after[row]] = windows.codes[other, first[other] : after[other]]
    return Windows(windows.names, codes, windows.labels)


def seed_of(*parts: Any) -> int:
    """A seed from anything that has a `repr`."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=7).digest(), "little")


def split_data(
    positives: Windows,
    negatives: Windows | None,
    chroms: set[str],
    share: float,
    seed: int,
    natural: Windows | None = None,
    ratio: float = 0.0,
) -> TrainingData:
    """Set a validation part aside so that windows which overlap on the genome stay together.

    Of the natural windows that are set aside, `ratio` for each positive are for validation, and the others, with half of those that are
    not, for p-values.

    Parameters
    ----------
    chroms : validate on the windows of these chromosomes; when empty, on a random `share` of the loci
    share : in (0, 1)

    Raises
    ------
    UsageError : a part would be empty.
    """
    if chroms:
        head, tail, own = (
            np.array([name in chroms for name in (loci(part)[1] if part else [])], dtype=bool)
            for part in (positives, negatives, natural)
        )
    else:
        head, tail, own = (
            part == 0 for part in split_parts(positives, negatives, natural, max(2, round(1 / share)), seed)
        )
    if not head.any() or head.all():
        known = ", ".join(sorted(set(loci(positives)[1]) - {""})[:5])
        need = (
            "more loci are needed"
            if not chroms
            else f"{', '.join(sorted(chroms))} should hold some of them, they lie on {known}"
            if known
            else "their names hold no coordinates"
        )
        raise UsageError(f"the positive windows cannot be divided into training and validation: {need}")
    train = positives.take(np.nonzero(~head)[0])
    validation = positives.take(np.nonzero(head)[0])
    if negatives and (not tail.any() or tail.all()):
        raise UsageError("the negative windows cannot be divided into training and validation as the positive ones are")
    against = negatives.take(np.nonzero(tail)[0]) if negatives else shuffled_negatives(validation, f"{seed} validation")
    data = TrainingData(
        train, negatives and negatives.take(np.nonzero(~tail)[0]), Windows.joined([validation, against])
    )
    if natural is None:
        return data
    random = np.random.default_rng([seed, 9])
    aside, rest = (random.permutation(np.nonzero(part)[0]) for part in (own, ~own))
    many, half = round(ratio * len(validation)), len(rest) // 2
    if not half:
        raise UsageError("no natural window is left for training")
    seen = Windows.joined([data.validation, natural.take(aside[:many])])
    return data._replace(
        validation=seen, natural=natural.take(rest[:half]), null=natural.take(np.append(aside[many:], rest[half:]))
    )


def split_parts(
    positives: Windows, negatives: Windows | None, natural: Windows | None, parts: int, seed: int
) -> list[np.ndarray]:
    """Part numbers of all three by their loci, as of `windows.split_by_locus`; the parts are even in what is no natural window."""
    locus, _ = loci(Windows.joined([windows for windows in (positives, negatives, natural) if windows]))
    ends = np.cumsum([len(positives), len(negatives or [])])
    labelled, own = locus[: ends[1]], locus[ends[1] :]
    part = split_by_locus(labelled, parts, seed)
    of_locus = dict(zip(own.tolist(), split_by_locus(own, parts, seed).tolist())) | dict(
        zip(labelled.tolist(), part.tolist())
    )
    return [*np.split(part, ends[:1]), np.array([of_locus[number] for number in own.tolist()], dtype=int)]


def hard_negatives(models: Sequence[BertSNR], natural: Windows, most: int, runtime: Runtime) -> Windows:
    """The natural windows, read on either strand, that score highest; so many, but no more than a tenth of all."""
    both = Windows.joined([natural, Windows(natural.names, reverse_complement_codes(natural.codes), natural.labels)])
    heights = sum(log_odds(window_call_levels(model, both, runtime, both_strands=False)) for model in models)
    return both.take(np.argsort(-heights, kind="stable")[: min(most, len(natural) // 10)])
