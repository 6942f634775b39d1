"""`bertsnr report`: called sites in, one page that shows them out."""

from __future__ import annotations

import click

from . import options


@options.command
@click.argument("sites", metavar="BED…", nargs=-1, required=True)
@click.option(
    "-f", "--fasta", metavar="FASTA", required=True, help="Genome FASTA, plain or bgzip; a missing index is built."
)
@click.option(
    "-b",
    "--bed",
    metavar="BED",
    help="Regions in which the sites were called, BED or narrowPeak.  [default: the records of FASTA that are named "
    "chrom:from-to, else all if none is longer than 100 kb]",
)
@options.output
@click.option("--assembly", metavar="NAME", help="Link to this genome of the UCSC browser, such as hg38.")
@options.seed("shuffled positions")
@options.strict
def report(
    sites: tuple[str, ...],
    fasta: str,
    bed: str | None,
    output: str,
    assembly: str | None,
    seed: int,
    strict: bool,
) -> None:
    """Show called sites on one page, which works offline.

    Input is BED or narrowPeak, plain or gzip, one file for each sample; - is standard input. Column 4 is the factor.
    The page has the sites by factor and chromosome, their scores and p-values, the motif of each factor with its best
    match in JASPAR, their position within the regions, a drawing of the first 100 regions, and a table to search.

    \b
    Examples:
      bertsnr report -f hg38.fa -b peaks.narrowPeak --assembly hg38 -o report.html calls.narrowPeak
      bertsnr predict -m human -f hg38.fa -b promoters.bed | bertsnr report -f hg38.fa -b promoters.bed -o all.html -
    """
    from ..io.files import check_inputs, check_output
    from ..plots.report_page import write_report

    check_output(output, [fasta, bed, *sites])
    check_inputs(fasta, bed, *sites)
    write_report(output, sites, fasta, regions=bed, assembly=assembly, seed=seed, strict=strict)
