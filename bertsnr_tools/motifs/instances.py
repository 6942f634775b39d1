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
from ..sequence.encoding import CODE_LETTERS, encode

_COLUMN = np.array(
    [BASES.index(chr(letter)) for letter in CODE_LETTERS]
)  # code of `encoding.encode` -> column of a PFM


@dataclass(frozen=True)
class InstanceRule:
    """Which instances are taken from a called sequence (Zhang et al. 2021, as Luo et al. 2024 apply it).

    Attributes
    ----------
    width : bases of an instance; None for the median site of each motif
    coverage : minimum fraction of an instance that must be called
    every : take every instance of a sequence, not only one
    """

    width: int | None = None
    coverage: float = 0.8
    every: bool = False

    def min_called_bases(self, width: int) -> int:
        """Number of bases that must be called in an instance of `width` bases."""
        return max(1, math.ceil(self.coverage * width - 1e-9))


class Instance(NamedTuple):
    """One occurrence of a motif.

    Attributes
    ----------
    interval : where it lies, 0-based, half-open, stranded; its name is the motif's
    score : mean base probability, 0 where it is unknown
    sequence : its bases, read on its strand
    """

    interval: Interval
    score: float
    sequence: bytes


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


class InstanceCounts:
    """PFM of one motif, counted instance by instance.

    Attributes
    ----------
    counts : float64, shape (width, 4)
    """

    def __init__(self, width: int):
        self.counts = np.zeros((width, len(BASES)))

    def add(self, sequence: bytes) -> None:
        """Count one instance, `width` letters A, C, G and T."""
        self.counts[np.arange(len(self.counts)), _COLUMN[encode(sequence)]] += 1


def check_instance_file(path: str) -> None:
    """Check the name of an output for instances.

    Raises
    ------
    UsageError : the name does not end as BED or FASTA.
    """
    if not path.removesuffix(".gz").endswith((".bed", ".fa", ".fasta")):
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
