"""Score the variants of a VCF file: `variant_effects` from Python, `open_rows` for files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from ..io.fasta import Genome
from ..io.intervals import Interval
from ..io.vcf import VcfReader
from ..log import logger
from ..models.device import Runtime
from ..models.interface import Model
from ..models.pwm import PwmModel
from ..predict.chunks import Regions, regions_to_scan
from ..predict.threshold_text import Threshold
from ..sequence.background import merge_intervals
from .haplotypes import plan_haplotypes, sample_column
from .rows import AlleleChecker, ScoredAllele, ScoredRow, annotate, plan_alone
from .scoring import DEFAULT_FLANK, VariantScorer
from .substitutions import pwm_null


def new_scorer(
    models: Sequence[Model],
    runtime: Runtime,
    *,
    threshold: Threshold | None = None,
    flank: int = DEFAULT_FLANK,
    prefilter: bool = False,
) -> VariantScorer:
    """A `VariantScorer` with the null distributions of PWMs, which no file contains."""
    scorer = VariantScorer(models, runtime, threshold=threshold, flank=flank, prefilter=prefilter)
    for index, model in enumerate(models):
        if isinstance(model, PwmModel):
            scorer.nulls[index] = pwm_null(model, flank)
    without = [name for name, null in zip(scorer.names, scorer.nulls) if null is None]
    if without:
        shown = ", ".join(without[:3]) + (", …" if len(without) > 3 else "")
        problem = "no p-values of changes for %s: no null distribution for sites up to %d bp away"
        logger.warning(problem, shown, flank)
    return scorer


class OpenRows(NamedTuple):
    """An open VCF file and its scored rows, in blocks."""

    reader: VcfReader
    blocks: Iterator[list[ScoredRow]]


@contextmanager
def open_rows(
    path: str,
    genome: Genome,
    scorer: VariantScorer,
    *,
    regions: Sequence[Interval] | None = None,
    haplotypes: str | None = None,
    strict: bool = False,
) -> Iterator[OpenRows]:
    """Open a VCF or BCF file whose rows are scored as they are read.

    Parameters
    ----------
    path : "-" is standard input
    regions : only rows whose POS lies in one of these; None for all
    haplotypes : sample whose alleles of one haplotype are applied together
    strict : an allele that is not scored is an error

    Raises
    ------
    DataError : the file or a row cannot be used, a chromosome is not in the genome, or no row agrees with the genome.
    UsageError : regions without an index, or no such sample.
    """
    checker = AlleleChecker(genome, path, strict)
    with VcfReader(path, regions) as reader:
        if haplotypes is None:
            planned = plan_alone(reader, checker)
        else:
            column = sample_column(reader, haplotypes)
            planned = plan_haplotypes(reader, checker, column, scorer.context, path)
        yield OpenRows(reader, annotate(planned, genome, scorer, checker))
    checker.report()


def chosen_regions(genome: Genome, regions: Regions | None, bed: str | None) -> list[Interval] | None:
    """Regions and the intervals of a BED file, merged; None when neither is given."""
    if regions is None and not bed:
        return None
    merged = merge_intervals(regions_to_scan(genome, bed, regions))
    return [Interval(chrom, start, end) for chrom in merged for start, end in merged[chrom].tolist()]


def variant_effects(
    scorer: VariantScorer,
    source: str | os.PathLike[str],
    genome: Genome,
    *,
    regions: str | os.PathLike[str] | Regions | None = None,
    haplotypes: str | None = None,
) -> Iterator[ScoredAllele]:
    """Alternative alleles with their effects, in the order of the rows, as `bertsnr variants` writes them.

    Parameters
    ----------
    source : VCF or BCF file ("-" is standard input)
    regions : only rows whose POS lies in a BED file, an interval, or a list of intervals and `chrom:from-to` (1-based
        inclusive); requires an index
    haplotypes : sample whose alleles of one haplotype are applied together

    Raises
    ------
    UsageError, DataError : see `open_rows`.
    """
    if isinstance(regions, (str, os.PathLike)):
        within = chosen_regions(genome, None, os.fspath(regions))
    else:
        within = chosen_regions(genome, regions, None)
    with open_rows(os.fspath(source), genome, scorer, regions=within, haplotypes=haplotypes) as rows:
        for block in rows.blocks:
            for _, alleles in block:
                yield from alleles
