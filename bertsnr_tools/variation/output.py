"""Write scored alleles as VCF, TSV or BED (`VariantWriter`)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Protocol

from .. import __version__
from ..io.outputs import Failures, KeptStream, SortOrder, index_if_sorted
from ..io.vcf import VcfReader, VcfRow, VcfWriter, info_text
from .effects import CLASSES, NONE
from .rows import ScoredAllele, ScoredRow
from .scoring import Effect

ENTRY, MISMATCH = "BSNR", "BSNR_REF_MISMATCH"  # INFO fields
FIELDS = "Allele|Factor|Class|RefScore|AltScore|DeltaLogOdds|P|Start|End|Strand"
HEADER = (
    f'##INFO=<ID={ENTRY},Number=.,Type=String,Description="Sites of transcription factors that the allele changes, by '
    f'bertsnr_tools {__version__}. Start and End are 0-based, half-open. Format: {FIELDS}">',
    f'##INFO=<ID={MISMATCH},Number=0,Type=Flag,Description="REF disagrees with the genome; the row is not scored">',
)
COLUMNS = (
    "chrom pos id ref alt factor class ref_score alt_score delta_log_odds p start end strand ref_start ref_end "
    "alt_start alt_end note"
).split()
COLOURS = {  # of classes in BED9
    "gain": "0,158,115",
    "loss": "213,94,0",
    "stronger": "86,180,233",
    "weaker": "230,159,0",
    "moved": "204,121,167",
}
FORMATS = ("vcf", "tsv", "bed")


def format_of(output: str, default: str) -> str:
    """The format that the name of an output stands for."""
    ending = output.lower().removesuffix(".gz").removesuffix(".bgz").rpartition(".")[2]
    return "vcf" if ending == "bcf" else ending if ending in FORMATS else default


class VariantWriter(Protocol):
    """Writes scored rows as they come."""

    def write(self, rows: Sequence[ScoredRow]) -> None:
        """Write rows and flush the stream."""


class _VcfRows:
    def __init__(self, writer: VcfWriter, reader: VcfReader, changed_only: bool):
        self._writer, self._changed_only = writer, changed_only
        writer.write_header(reader, HEADER, (ENTRY, MISMATCH))

    def write(self, rows: Sequence[ScoredRow]) -> None:
        self._writer.write_rows((row, self._text(row, alleles)) for row, alleles in rows)

    def _text(self, row: VcfRow, alleles: list[ScoredAllele]) -> str:
        entries = [
            entry_text(allele.alt, effect) for allele in alleles for effect in _shown(allele, self._changed_only)
        ]
        info: dict[str, str | None] = {ENTRY: ",".join(entries)}
        mismatch = any(allele.note == "ref_mismatch" for allele in alleles)
        return row.annotated(info | {MISMATCH: None if mismatch else ""})


class _Table:
    """Lines of the alleles, TSV or BED9, and an index of compressed BED."""

    def __init__(self, stream: KeptStream, kind: str, changed_only: bool):
        self._stream, self._kind, self._changed_only = stream, kind, changed_only
        self.order = SortOrder()
        if kind == "tsv":
            stream.write(("\t".join(COLUMNS) + "\n").encode())

    def write(self, rows: Sequence[ScoredRow]) -> None:
        self.write_alleles(allele for _, alleles in rows for allele in alleles)

    def write_alleles(self, alleles: Iterable[ScoredAllele]) -> None:
        """Write alleles that come from no row."""
        lines = self._tsv if self._kind == "tsv" else self._bed
        self._stream.write_all(line.encode() for allele in alleles for line in lines(allele))
        self._stream.flush()

    def _tsv(self, allele: ScoredAllele) -> Iterator[str]:
        columns = [allele.chrom, str(allele.start + 1), allele.name, allele.ref, allele.alt]
        for effect in _shown(allele, self._changed_only):
            bounds = [str(bound) for bound in (effect.start, effect.end)]
            sites = [str(bound) for bound in effect[-4:]]
            yield "\t".join([*columns, *_values(effect), *bounds, effect.strand, *sites, "."]) + "\n"
        if allele.note and not self._changed_only:
            yield "\t".join([*columns, *["."] * (len(COLUMNS) - 6), allele.note]) + "\n"

    def _bed(self, allele: ScoredAllele) -> Iterator[str]:
        for effect in _shown(allele, True):
            self.order.add(allele.chrom, effect.start, effect.end)
            score = round(1000 * max(effect.ref_score, effect.alt_score))
            bounds = f"{effect.start}\t{effect.end}"
            name = f"{effect.factor}:{effect.kind}"
            yield f"{allele.chrom}\t{bounds}\t{name}\t{score}\t{effect.strand}\t{bounds}\t{COLOURS[effect.kind]}\n"


def _shown(allele: ScoredAllele, changed_only: bool) -> list[Effect]:
    return [effect for effect in allele.effects if not changed_only or effect.kind != CLASSES[NONE]]


def _values(effect: Effect) -> list[str]:
    """Factor, class, scores, change and p-value as text."""
    if math.isnan(effect.change):
        return [effect.factor, effect.kind, *["."] * 4]
    p = "." if effect.p is None else f"{effect.p:.3g}"
    scores = f"{effect.ref_score:.4g}", f"{effect.alt_score:.4g}"
    return [effect.factor, effect.kind, *scores, f"{effect.change + 0:.3f}", p]


def entry_text(alt: str, effect: Effect) -> str:
    """An effect as one entry of the INFO field."""
    factor, *values = _values(effect)
    fields = [alt, info_text(factor), *values, str(effect.start), str(effect.end), effect.strand]
    return "|".join(fields)


@contextmanager
def open_writer(
    path: str, kind: str, reader: VcfReader | None, failures: Failures, *, changed_only: bool = False
) -> Iterator[VariantWriter]:
    """Open an output, which is written atomically; compressed and indexed by its name.

    Parameters
    ----------
    path : "-" is standard output
    kind : one of `FORMATS`
    reader : of the rows, whose header VCF repeats
    failures : receives an error of the file or its index
    changed_only : leave out effects of class "none", and in a table alleles that are not scored
    """
    with ExitStack() as stack:
        if kind == "vcf" and reader:
            yield _VcfRows(stack.enter_context(VcfWriter(path, failures)), reader, changed_only)
            return
        stream = stack.enter_context(KeptStream(path, failures))
        table = _Table(stream, kind, changed_only)
        yield table
    if kind == "bed" and not stream.failed:
        index_if_sorted(path, table.order, "bed", failures)
