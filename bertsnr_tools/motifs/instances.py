"""Instances of a motif: where they lie in base calls, how they are counted, how they are written."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..errors import UsageError
from ..io.fasta import fasta_text
from ..io.fields import name_field
from ..io.intervals import Interval
from ..io.motif_files import BASES
from ..io.outputs import Failures, KeptStream
from ..predict.calling import STRANDS, Site, resolve_strands
from ..sequence.encoding import CODE_LETTERS, OTHER

ALIGNED = 2  # bp: instances move at most so far, by default
LEAST_ALIGNED = 20  # fewer instances agree better by chance
COST = 1.5  # nats, for each base of a move: without it, chance aligns instances that have no motif
ROUNDS = 10
PSEUDOCOUNT = 0.25  # of each letter
_CHUNK = 1 << 14  # instances that are aligned at a time; bounds the memory
_CODES = [CODE_LETTERS.index(base.encode()) for base in BASES]  # column of a PFM -> code of `encoding.encode`


@dataclass(frozen=True)
class InstanceRule:
    """Which instances are taken from a called sequence (Zhang et al. 2021, as Luo et al. 2024 apply it).

    Attributes
    ----------
    width : bases of an instance; None for the median site of each motif
    coverage : minimum fraction of an instance that must be called
    every : take every instance of a sequence, not only one
    align : bases that an instance may move to agree with the others; 0 leaves all where the paper has them
    """

    width: int | None = None
    coverage: float = 0.8
    every: bool = False
    align: int = ALIGNED

    def __post_init__(self) -> None:
        if not (self.width is None or self.width > 0) or not 0 < self.coverage <= 1 or self.align < 0:
            raise UsageError(f"{self}: expected a width above 0, a coverage above 0 and at most 1, align 0 or more")

    def min_called_bases(self, width: int) -> int:
        """Number of bases that must be called in an instance of `width` bases."""
        return max(1, math.ceil(self.coverage * width - 1e-9))


DEFAULT_RULE = InstanceRule()


class Instance(NamedTuple):
    """One occurrence of a motif.

    Attributes
    ----------
    interval : where it lies, 0-based, half-open, stranded; its name is the motif's
    score : mean base probability where it was called, 0 where it is unknown
    context : its bases and as many in both flanks as it may move, read on its strand, N where there are none
    """

    interval: Interval
    score: float
    context: bytes

    @property
    def sequence(self) -> bytes:
        """Its bases, read on its strand."""
        return self._bases(0)

    def moved(self, offset: int) -> Instance:
        """Moved by some bases in the direction of its strand, at most the length of a flank; without flanks."""
        step = offset if self.interval.strand == "+" else -offset
        interval = self.interval._replace(start=self.interval.start + step, end=self.interval.end + step)
        return Instance(interval, self.score, self._bases(offset))

    def _bases(self, offset: int) -> bytes:
        width = self.interval.end - self.interval.start
        first = (len(self.context) - width) // 2 + offset
        return self.context[first : first + width]


def instance_starts(calls: np.ndarray, width: int, min_called: int) -> np.ndarray:
    """Start positions of the instances in a called sequence (Zhang et al. 2021; Luo et al. 2024).

    A window of the motif's width slides over the calls. Positions where at least `min_called` bases of the window are
    called form runs. Every run is one instance: `width` bases around the middle of the bases that its windows cover.
    The paper takes only the first.

    Parameters
    ----------
    calls : bool or 0/1, shape (n,)

    Returns
    -------
    int array, 0-based, in order; all instances lie inside the sequence
    """
    if len(calls) < width:
        return np.empty(0, dtype=int)
    total = np.concatenate(([0], np.cumsum(calls, dtype=int)))
    enough = total[width:] - total[:-width] >= min_called
    runs = np.nonzero(np.diff(enough, prepend=False, append=False))[0].reshape(-1, 2)  # half-open
    return (runs.sum(axis=1) - 1 + width) // 2 - width // 2


def called_instances(strand_scores: np.ndarray, threshold: float, width: int, rule: InstanceRule) -> list[Site]:
    """Instances of `width` bases in one sequence that is scored on both strands.

    With `rule.every`, these are all runs of both strands, reconciled as called sites are. Otherwise, it is one: of the
    first run of each strand, in its reading direction, the one with the better score.

    Parameters
    ----------
    strand_scores : base probabilities, shape (2, n), both rows in forward order
    threshold : base probability above which a base is called

    Returns
    -------
    sites in order, in forward coordinates; the score is the mean over the bases of the instance
    """
    found: list[list[Site]] = []
    for scores, strand in zip(strand_scores, STRANDS):
        calls = (scores if strand == "+" else scores[::-1]) > threshold
        starts = instance_starts(calls, width, rule.min_called_bases(width))
        if not rule.every:
            starts = starts[:1]
        if strand == "-":
            starts = len(scores) - width - starts[::-1]
        means = [float(scores[start : start + width].mean(dtype=np.float64)) for start in starts]
        found.append([Site(start, start + width, strand, mean) for start, mean in zip(starts.tolist(), means)])
    plus, minus = found
    if rule.every:
        return resolve_strands(plus, minus)
    return [max(plus + minus, key=lambda site: site.score)] if plus or minus else []


def letter_counts(codes: np.ndarray) -> np.ndarray:
    """PFM of instances: counts of A, C, G and T, float64, shape (width, 4).

    Parameters
    ----------
    codes : uint8, shape (n, width)
    """
    return np.stack([(codes == code).sum(axis=0) for code in _CODES], axis=1).astype(float)


def aligned_offsets(codes: np.ndarray, reach: int) -> np.ndarray:
    """How many bases to move each instance, in its reading direction, so that all agree; int, shape (n,).

    The middle of a run of called bases is rarely the same base of the motif. In each round, an instance moves to where
    it is most likely under the motif of all others, until none moves (expectation-maximisation with hard assignments).
    It never moves to letters other than ACGT.

    Parameters
    ----------
    codes : of instances with `reach` bases in both flanks, uint8, shape (n, width + 2 reach)
    """
    rows, width = np.arange(len(codes)), codes.shape[1] - 2 * reach
    offsets = np.zeros(len(codes), dtype=int)
    if not reach or len(codes) < LEAST_ALIGNED:
        return offsets
    windows = np.lib.stride_tricks.sliding_window_view(codes, width, axis=1)
    parts = [slice(first, first + _CHUNK) for first in range(0, len(codes), _CHUNK)]
    costs = COST * np.abs(np.arange(-reach, reach + 1))
    for _ in range(ROUNDS):
        present = windows[rows, reach + offsets]
        counts = np.stack([(present == code).sum(axis=0) for code in range(OTHER)], axis=1)
        fits = np.concatenate([_log_likelihoods(windows[part], present[part], counts) for part in parts])
        moved = (fits - costs).argmax(axis=1) - reach
        if np.array_equal(moved, offsets):
            break
        offsets = moved
    return offsets


def _log_likelihoods(windows: np.ndarray, present: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Of each instance at several offsets, given the others, up to a constant; shape (n, offsets).

    Parameters
    ----------
    windows : codes at the offsets, shape (n, offsets, width)
    present : codes where the instances now are, shape (n, width)
    counts : of each code in all instances, shape (width, 4)
    """
    others = np.log(np.maximum(counts - np.arange(2)[:, None, None], 0) + PSEUDOCOUNT)  # without or with its own letter
    table = np.concatenate([others, np.full((*others.shape[:2], 1), -np.inf)], axis=2)
    own = (windows == present[:, None]).astype(int)
    found: np.ndarray = table[own, np.arange(windows.shape[2]), windows].sum(axis=2)
    return found


def check_instance_file(path: str | None) -> None:
    """Check the name of an output for instances, if any.

    Raises
    ------
    UsageError : the name does not end as BED or FASTA.
    """
    if path and not path.removesuffix(".gz").endswith((".bed", ".fa", ".fasta")):
        raise UsageError(f"{path}: the name of an instance file must end in .bed or .fa, optionally .gz")


@contextmanager
def instance_writer(path: str | None, failures: Failures) -> Iterator[Callable[[Instance], None] | None]:
    """Open a file for instances, BED6 or FASTA by its name; written atomically, when the block ends without an error.

    Column 5 of BED is 1000 times the score, rounded; FASTA names are `motif::chrom:start-end(strand)`. Without a
    path, the writer is None.
    """
    if not path:
        yield None
        return
    text = _bed_line if path.removesuffix(".gz").endswith(".bed") else _fasta_record
    with KeptStream(path, failures) as stream:
        yield lambda instance: stream.write(text(instance))


def _bed_line(instance: Instance) -> bytes:
    chrom, start, end, name, strand = instance.interval[:5]
    return f"{chrom}\t{start}\t{end}\t{name_field(name)}\t{round(1000 * instance.score)}\t{strand}\n".encode()


def _fasta_record(instance: Instance) -> bytes:
    return fasta_text(f"{name_field(instance.interval.name)}::{instance.interval}", "", instance.sequence)
