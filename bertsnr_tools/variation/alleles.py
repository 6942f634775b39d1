"""The sequences of both alleles of a change, and how their positions correspond (`AllelePair`, `Layout`).

Positions are 0-based: on a chromosome, or from the first base of a sequence. Both sequences have the same flanks.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np


class SequenceSource(Protocol):
    """An indexed genome, or other chromosomes with their sequence."""

    @property
    def lengths(self) -> Mapping[str, int]: ...

    def fetch(self, chrom: str, start: int, end: int) -> bytes: ...


class Edit(NamedTuple):
    """Replaces bases [start, end) of a chromosome."""

    start: int
    end: int
    bases: bytes


class Change(NamedTuple):
    """One alternative allele, with the other alleles of its haplotype that are applied together with it.

    Attributes
    ----------
    chrom : chromosome
    edits : in ascending order, disjoint
    focal : index of the allele itself
    """

    chrom: str
    edits: tuple[Edit, ...]
    focal: int = 0


def minimal_edit(start: int, ref: str, alt: str) -> Edit:
    """What an alternative allele replaces: without the bases that both alleles end with, then begin with.

    Parameters
    ----------
    start : first base of the reference allele
    """
    shared = 0
    while shared < min(len(ref), len(alt)) and ref[-1 - shared] == alt[-1 - shared]:
        shared += 1
    ref, alt = ref[: len(ref) - shared], alt[: len(alt) - shared]
    shared = 0
    while shared < min(len(ref), len(alt)) and ref[shared] == alt[shared]:
        shared += 1
    return Edit(start + shared, start + len(ref), alt[shared:].encode())


class Span(NamedTuple):
    """The bases of an edit in both sequences."""

    ref_start: int
    ref_end: int
    alt_start: int
    alt_end: int

    def swapped(self) -> Span:
        """The same with the alleles exchanged."""
        return Span(self.alt_start, self.alt_end, self.ref_start, self.ref_end)


class Layout(NamedTuple):
    """How two sequences correspond. All pairs of one layout are measured together.

    ::

        reference    ACGTACG--TACGTA        spans: (7, 7, 7, 9), (10, 12, 12, 12)
        alternative  ACGTACGGGTAC--A

    Attributes
    ----------
    ref_length, alt_length : bases of the sequences
    spans : of the edits, ascending
    focal : index of the change itself among them
    """

    ref_length: int
    alt_length: int
    spans: tuple[Span, ...]
    focal: int

    def swapped(self) -> Layout:
        """The same with the alleles exchanged."""
        return Layout(self.alt_length, self.ref_length, tuple(span.swapped() for span in self.spans), self.focal)

    @property
    def change(self) -> Span:
        """The bases of the change itself."""
        return self.spans[self.focal]


class Boundaries(NamedTuple):
    """Where the boundaries 0 to n of one sequence lie in the other: as starts and as ends of intervals, (n + 1,).

    Bases correspond one to one where both alleles have the same number. An interval with a boundary inside another
    edit is extended to all of the edit; inserted bases belong to intervals that contain both of their neighbours.
    """

    starts: np.ndarray
    ends: np.ndarray


@lru_cache(maxsize=4096)
def boundaries(layout: Layout) -> Boundaries:
    """From the reference to the alternative sequence; `layout.swapped()` for the other direction."""
    positions = np.arange(layout.ref_length + 1)
    starts, ends = positions.copy(), positions.copy()
    for low, high, other_low, other_high in layout.spans:
        equal = high - low == other_high - other_low
        after = positions + other_high - high
        starts = np.where(positions >= high, after, np.where(positions < low, starts, other_low))
        ends = np.where(positions >= high, after, np.where(positions <= low, ends, other_high))
        if low == high:
            ends[low] = other_low
        if equal:
            inside = slice(low, high)
            starts[inside] = ends[inside] = positions[inside] + other_low - low
    return Boundaries(starts, ends)


class AllelePair(NamedTuple):
    """The sequences of both alleles.

    Attributes
    ----------
    start : position of their first base on the chromosome
    ref, alt : bases on the forward strand, upper case
    layout : how they correspond
    """

    start: int
    ref: bytes
    alt: bytes
    layout: Layout


def allele_pair(genome: SequenceSource, change: Change, context: int) -> AllelePair:
    """The sequences of a change with `context` bases of the reference on either side, fewer at a chromosome's end.

    Other edits of the haplotype are applied if they lie wholly in these bases.
    """
    own = change.edits[change.focal]
    low = max(0, own.start - context)
    high = min(genome.lengths[change.chrom], own.end + context)
    ref = genome.fetch(change.chrom, low, high)
    parts: list[bytes] = []
    spans: list[Span] = []
    done = length = focal = 0
    for edit in change.edits:
        if edit is not own and (edit.start < low or edit.end > high):
            continue
        if edit is own:
            focal = len(spans)
        start, end = edit.start - low, edit.end - low
        parts += [ref[done:start], edit.bases]
        length += start - done
        spans.append(Span(start, end, length, length + len(edit.bases)))
        length, done = length + len(edit.bases), end
    alt = b"".join([*parts, ref[done:]])
    return AllelePair(low, ref, alt, Layout(len(ref), len(alt), tuple(spans), focal))
