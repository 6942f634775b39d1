"""Apply the alleles that lie on one haplotype of a sample together (`plan_haplotypes`)."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from ..errors import DataError, UsageError, did_you_mean
from ..io.vcf import COLUMNS, VcfReader, VcfRow
from ..log import logger
from .alleles import Change, Edit
from .rows import MAX_ALLELE, AlleleChecker, PlannedRow

FORMAT = len(COLUMNS)  # index of the column


class Genotype(NamedTuple):
    """Alleles of a sample, 0 for the reference; None where missing.

    Attributes
    ----------
    alleles : of both haplotypes; of the only one, twice, where the sample is haploid
    phased : it is known which haplotype each allele is on; homozygous genotypes are phased in every phase set
    phase_set : PS of the row, "" when there is none
    """

    alleles: tuple[int | None, ...]
    phased: bool
    phase_set: str

    @property
    def homozygous(self) -> bool:
        return len(set(self.alleles)) == 1


class _Candidate(NamedTuple):
    row: VcfRow
    edits: list[Edit | str]
    genotype: Genotype

    def allele_on(self, haplotype: int) -> Edit | None:
        """The edit of this row on a haplotype; None for the reference, and for alleles that are not scored."""
        number = self.genotype.alleles[haplotype]
        edit = self.edits[number - 1] if number else None
        return edit if isinstance(edit, Edit) else None


def sample_column(reader: VcfReader, sample: str) -> int:
    """The column of a sample.

    Raises
    ------
    UsageError : the file does not have it.
    """
    if sample not in reader.samples:
        hint = did_you_mean(sample, reader.samples) or f" (it has {len(reader.samples)})"
        raise UsageError(f"--haplotypes {sample}: {reader.path} has no sample of this name{hint}")
    return FORMAT + 1 + reader.samples.index(sample)


def genotype(row: VcfRow, column: int) -> Genotype:
    """The genotype of a sample; of ploidy above 2, and where GT is missing, without alleles."""
    names = row.fields[FORMAT].split(":")
    values = dict(zip(names, row.fields[column].split(":")))
    text = values.get("GT", ".")
    parts = filter(None, text.replace("|", "/").split("/"))
    alleles = [int(part) if re.fullmatch("[0-9]{1,9}", part) else None for part in parts]
    if len(alleles) == 1:
        alleles *= 2
    if len(alleles) != 2 or any(allele is not None and allele > len(row.alts) for allele in alleles):
        alleles = [None, None]
    phase_set = values.get("PS", "")
    phased = "|" in text or len(set(alleles)) == 1
    return Genotype(tuple(alleles), phased, "" if phase_set == "." else phase_set)


def plan_haplotypes(
    rows: Iterable[VcfRow], checker: AlleleChecker, column: int, reach: int, path: str
) -> Iterator[PlannedRow]:
    """Each allele of a sample together with the other alleles of its haplotype that lie within `reach` bases.

    Phased alleles are applied together if they have one phase set; homozygous alleles are applied to both haplotypes.
    An unphased allele is applied with homozygous ones only. Alleles that the sample does not have are scored alone.

    Parameters
    ----------
    rows : sorted by position within each chromosome
    column : of the sample, see `sample_column`

    Raises
    ------
    DataError : the rows are not sorted.
    """
    around: deque[_Candidate] = deque()  # rows that the next ones may need, and rows that wait for the next ones
    waiting = 0  # of these
    conflicts = 0
    chroms: set[str] = set()

    def planned(candidate: _Candidate) -> PlannedRow:
        nonlocal conflicts
        alleles, conflicting = _plan(candidate, around, reach)
        conflicts += conflicting
        return PlannedRow(candidate.row, alleles)

    for row in rows:
        last = around[-1].row if around else row
        new_chrom = last.chrom != row.chrom
        if row.start < last.start and not new_chrom or new_chrom and row.chrom in chroms:
            problem = f"{row.chrom}:{row.start + 1} is out of order; haplotypes require sorted rows"
            raise DataError(problem, path, row.number)
        while waiting and (new_chrom or around[-waiting].row.start + MAX_ALLELE + reach < row.start):
            yield planned(around[-waiting])
            waiting -= 1
        if new_chrom:
            around.clear()
        chroms.add(row.chrom)
        oldest = around[-waiting].row.start if waiting else row.start
        while len(around) > waiting and around[0].row.start + 2 * MAX_ALLELE + reach < oldest:
            around.popleft()
        around.append(_Candidate(row, checker.edits(row), genotype(row, column)))
        waiting += 1
    while waiting:
        yield planned(around[-waiting])
        waiting -= 1
    if conflicts:
        logger.warning(
            "%s alleles left out of a haplotype, because they overlap another allele of it", f"{conflicts:,}"
        )


def _plan(candidate: _Candidate, around: Sequence[_Candidate], reach: int) -> tuple[list[list[Change] | str], int]:
    """What to score for each allele of a row, and the number of neighbours left out because they overlap another."""
    alleles: list[list[Change] | str] = []
    conflicts = 0
    own_genotype = candidate.genotype
    for number, edit in enumerate(candidate.edits, 1):
        if isinstance(edit, str):
            alleles.append(edit)
            continue
        carried = [haplotype for haplotype, allele in enumerate(own_genotype.alleles) if allele == number]
        if carried and not own_genotype.phased:
            carried = carried[:1]
        changes: dict[Change, None] = {}
        for haplotype in carried:
            neighbours = [
                found
                for other in around
                if other.row is not candidate.row
                and _together(own_genotype, other.genotype)
                and (found := other.allele_on(haplotype))
                and found != edit  # the same allele in another row
                and found.start >= edit.start - reach
                and found.end <= edit.end + reach
            ]
            edits, left_out = _disjoint(edit, neighbours)
            conflicts += left_out
            changes[Change(candidate.row.chrom, edits, edits.index(edit))] = None
        alleles.append(list(changes) or [Change(candidate.row.chrom, (edit,))])
    return alleles, conflicts


def _together(one: Genotype, other: Genotype) -> bool:
    """Whether it is known that alleles of the same haplotype number lie on the same chromosome."""
    if other.homozygous:
        return True
    if one.homozygous:
        return other.phased
    return one.phased and other.phased and one.phase_set == other.phase_set


def _disjoint(own: Edit, neighbours: Sequence[Edit]) -> tuple[tuple[Edit, ...], int]:
    """An edit with those neighbours that overlap neither it nor each other, ascending; and the number left out."""
    kept = [own]
    for edit in neighbours:
        if not any(_overlap(edit, other) for other in kept):
            kept.append(edit)
    ordered = tuple(sorted(kept, key=lambda edit: (edit.start, edit.end)))
    return ordered, len(neighbours) + 1 - len(kept)


def _overlap(one: Edit, other: Edit) -> bool:
    if one.start == one.end and other.start == other.end:
        return one.start == other.start
    return one.start < other.end and other.start < one.end
