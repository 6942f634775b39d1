"""From VCF rows to scored alleles (`annotate`). What cannot be scored is noted and counted (`AlleleChecker`)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from ..errors import DataError
from ..io.fasta import Genome
from ..io.intervals import Interval, other_name, unknown_chrom
from ..io.vcf import VcfRow, is_symbolic
from ..log import logger
from .alleles import Change, Edit, minimal_edit
from .scoring import Effect, VariantScorer

MAX_ALLELE = 1000  # bp; the best site of a longer allele says little about the change
MAX_ROWS = 4096  # in a block
NOTES = {  # why an allele has no effects -> what it counts as in messages
    "ref_mismatch": "REF disagrees with the genome",
    "no_chrom": "the chromosome is not in the genome",
    "symbolic": "symbolic, a breakend or *",
    "not_acgt": "letters other than A, C, G and T",
    "too_long": f"longer than {MAX_ALLELE:,} bp",
    "same_as_ref": "ALT equals REF",
    "no_sequence": "no run of ACGT around that is as long as a token and a site",
}
_NOT_ACGT = re.compile("[^ACGT]")


class ScoredAllele(NamedTuple):
    """An alternative allele with its effects.

    Attributes
    ----------
    chrom, start : first base of the reference allele, 0-based
    name : ID of the row, "." when there is none
    ref, alt : as in the row
    effects : on each model, in their order; with `haplotypes`, for each of two haplotypes that differ around the allele
    note : why it has no effects, one of `NOTES`; empty if it has
    """

    chrom: str
    start: int
    name: str
    ref: str
    alt: str
    effects: list[Effect]
    note: str = ""

    def as_dicts(self) -> list[dict[str, Any]]:
        """A row of a table for each effect: chrom, position (`start`), name, ref, alt, and the effect's attributes."""
        allele = dict(zip(("chrom", "position", "name", "ref", "alt"), self))
        return [allele | effect._asdict() for effect in self.effects]


class PlannedRow(NamedTuple):
    """A row, and for each alternative allele what to score: changes, or a note."""

    row: VcfRow
    alleles: list[list[Change] | str]


class ScoredRow(NamedTuple):
    """A row, and its alternative alleles."""

    row: VcfRow
    alleles: list[ScoredAllele]


class AlleleChecker:
    """Decides which alleles are scored, and counts the others.

    Parameters
    ----------
    path : of the rows, for messages
    strict : an allele that is not scored is an error
    """

    def __init__(self, genome: Genome, path: str, strict: bool):
        self._genome, self._path, self._strict = genome, path, strict
        self._alleles = 0
        self._counts: Counter[str] = Counter()
        self._unknown: DataError | None = None  # of the first row whose chromosome is not in the genome

    def edits(self, row: VcfRow) -> list[Edit | str]:
        """For each alternative allele what it replaces, or a note.

        Raises
        ------
        DataError : the chromosome has another name in the genome, such as chr1 for 1; or a note, if `strict` is set.
        """
        alts = row.alts
        self._alleles += len(alts)
        if row.chrom in self._genome.lengths:
            return [self._edit(row, alt.upper()) for alt in alts]
        unknown = unknown_chrom(Interval(row.chrom, 0, 0, line=row.number), self._path, self._genome.lengths)
        self._unknown = self._unknown or unknown
        if self._strict or other_name(row.chrom) in self._genome.lengths:
            raise unknown
        for _ in alts:
            self.count(row, "no_chrom")
        return ["no_chrom"] * len(alts)

    def _edit(self, row: VcfRow, alt: str) -> Edit | str:
        ref, note = row.ref, ""
        found = self._reference(row)
        if is_symbolic(alt):
            note = "symbolic"
        elif found is None or any(base != own and base in "ACGT" for base, own in zip(found, ref) if own in "ACGT"):
            note = "ref_mismatch"
        elif _NOT_ACGT.search(found) or _NOT_ACGT.search(ref) or _NOT_ACGT.search(alt):
            note = "not_acgt"
        elif max(len(ref), len(alt)) > MAX_ALLELE:
            note = "too_long"
        elif ref == alt:
            note = "same_as_ref"
        if note:
            shown = "" if found is None or note != "ref_mismatch" else f" ({found[:20]})"
            self.count(row, note, shown)
            return note
        return minimal_edit(row.start, ref, alt)

    def _reference(self, row: VcfRow) -> str | None:
        """The bases of the genome where REF is; None if it reaches beyond the chromosome."""
        end = row.start + len(row.ref)
        if row.start < 0 or end > self._genome.lengths[row.chrom]:
            return None
        return self._genome.fetch(row.chrom, row.start, end).decode()

    def count(self, row: VcfRow, note: str, shown: str = "") -> None:
        """Count an allele that is not scored.

        Raises
        ------
        DataError : `strict` is set.
        """
        self._counts[note] += 1
        if self._strict:
            where = f"{row.chrom}:{row.start + 1} {row.ref[:20]}>{row.fields[4][:20]}"
            raise DataError(f"{where} cannot be scored: {NOTES[note]}{shown}", self._path, row.number)

    def check_genome(self) -> None:
        """Check, after the last row, that the genome is not another one than the rows were called on.

        Raises
        ------
        DataError : no allele was scored, and most disagree with the genome or are on chromosomes that it lacks.
        """
        if self._counts.total() < self._alleles:
            return
        if self._unknown and self._counts["no_chrom"] > self._alleles / 2:
            raise self._unknown
        if self._wrong_genome():
            disagree = f"{self._counts['ref_mismatch']:,} of {self._alleles:,}"
            problem = f"no allele could be scored: REF disagrees with the genome in {disagree}"
            raise DataError(f"{problem}; is it the reference of the VCF?", self._path)

    def report(self) -> None:
        """Warn of alleles that were not scored."""
        total = sum(self._counts.values())
        if total:
            reasons = "; ".join(f"{NOTES[note]}: {count:,}" for note, count in self._counts.most_common())
            hint = "; is it the reference of the VCF?" if self._wrong_genome() else ""
            logger.warning(
                "%s of %s alternative alleles not scored (%s)%s", f"{total:,}", f"{self._alleles:,}", reasons, hint
            )

    def _wrong_genome(self) -> bool:
        """Most alleles disagree with the genome; another assembly agrees by chance at a quarter of the SNVs."""
        return self._counts["ref_mismatch"] > self._alleles / 2


def plan_alone(rows: Iterable[VcfRow], checker: AlleleChecker) -> Iterator[PlannedRow]:
    """Each allele by itself, in the sequence of the reference."""
    for row in rows:
        edits = checker.edits(row)
        yield PlannedRow(row, [edit if isinstance(edit, str) else [Change(row.chrom, (edit,))] for edit in edits])


def annotate(
    planned: Iterable[PlannedRow], genome: Genome, scorer: VariantScorer, checker: AlleleChecker
) -> Iterator[list[ScoredRow]]:
    """Score the alleles of rows, in blocks that do not affect the result, in the order of the rows.

    Raises
    ------
    DataError : see `AlleleChecker`.
    """
    block: list[PlannedRow] = []
    bases = 0
    for row in planned:
        block.append(row)
        bases += sum(_bases(change, scorer) for change in _changes(row))
        if bases >= scorer.block_bases or len(block) == MAX_ROWS:
            yield _scored(block, genome, scorer, checker)
            block, bases = [], 0
    if block:
        yield _scored(block, genome, scorer, checker)
    checker.check_genome()


def _changes(row: PlannedRow) -> list[Change]:
    """All that is scored for a row."""
    return [change for allele in row.alleles if not isinstance(allele, str) for change in allele]


def _bases(change: Change, scorer: VariantScorer) -> int:
    """About how many bases the sequences of both alleles have."""
    own = change.edits[change.focal]
    return 4 * scorer.context + own.end - own.start + len(own.bases)


def _scored(
    block: Sequence[PlannedRow], genome: Genome, scorer: VariantScorer, checker: AlleleChecker
) -> list[ScoredRow]:
    effects = iter(scorer.score(genome, [change for row in block for change in _changes(row)]))
    scored = []
    for row, alleles in block:
        of_row = []
        for alt, allele in zip(row.alts, alleles):
            note, found = (allele, []) if isinstance(allele, str) else ("", [next(effects) for _ in allele])
            kept = [effect for of_change in found for effect in of_change if effect]
            if not (note or kept):
                note = "no_sequence"
                checker.count(row, note)
            of_row.append(ScoredAllele(row.chrom, row.start, row.name, row.fields[3], alt, kept, note))
        scored.append(ScoredRow(row, of_row))
    return scored
