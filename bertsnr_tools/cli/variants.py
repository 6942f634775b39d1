"""`bertsnr variants`: variants, a genome and models in; which sites each allele creates or destroys out."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from . import options

if TYPE_CHECKING:
    from ..io.fasta import Genome
    from ..io.outputs import Failures
    from ..io.vcf import VcfReader
    from ..predict.writers import SignalFile
    from ..variation.scoring import VariantScorer


@options.command
@click.argument("vcf", required=False, metavar="[VCF]")
@options.models(required=True)
@options.fasta
@click.option(
    "-r",
    "--region",
    "regions",
    multiple=True,
    metavar="REGION",
    help="Score only rows with POS in this region, chrom or chrom:from-to; requires an index; may be repeated.",
)
@click.option("-b", "--bed", metavar="BED", help="Score only rows with POS in these regions; requires an index.")
@options.output
@click.option(
    "--format",
    "kind",
    type=click.Choice(["vcf", "tsv", "bed"], case_sensitive=False),
    help="Output format.  [default: by the name of -o, else vcf; tsv with --saturate]",
)
@click.option("--changed", is_flag=True, help="Write only effects whose class is not none.")
@click.option(
    "-t",
    "--threshold",
    type=options.Threshold("p", "score"),
    metavar="P|p=P|score=BITS",
    help="An allele has a site with a base probability above P, a p-value below P, or, for PWMs, a score above BITS.  "
    "[default: the model's own; p=0.01 for factors of a many-factor model]",
)
@click.option(
    "--flank",
    type=click.IntRange(0, 1000),
    default=10,
    metavar="BP",
    help="Consider sites that overlap the change or lie up to BP from it.",
)
@click.option(
    "--haplotypes",
    metavar="SAMPLE",
    help="Apply the alleles of one haplotype of this sample together where they are near each other.",
)
@click.option(
    "--saturate",
    metavar="REGION|BED",
    help="Score every substitution in a region, chrom:from-to, or in the regions of a BED file, instead of a VCF.",
)
@click.option(
    "--bigwig",
    metavar="FILE",
    help="With --saturate: write the mean loss of log odds of each base as bigWig; with several models, {} in FILE is "
    "replaced by their names.",
)
@click.option(
    "--plot",
    metavar="FILE",
    help="With --saturate of one region: plot a heat map to FILE.png, .pdf or .svg; {} as in --bigwig.",
)
@click.option(
    "--prefilter",
    is_flag=True,
    help="Score only variants of which an allele passes the models' prefilters: faster; the others get class none and "
    "no scores.",
)
@options.strict
@options.runtime(several_devices=True)
def variants(
    vcf: str | None,
    models: tuple[str, ...],
    fasta: str | None,
    regions: tuple[str, ...],
    bed: str | None,
    output: str,
    kind: str | None,
    changed: bool,
    threshold: tuple[str, float] | None,
    flank: int,
    haplotypes: str | None,
    saturate: str | None,
    bigwig: str | None,
    plot: str | None,
    prefilter: bool,
    strict: bool,
    runtime: options.RuntimeOptions,
) -> None:
    """Score which binding sites variants create or destroy.

    Input is VCF or BCF, plain or compressed (- is standard input), and the genome (-f). For each alternative allele and
    factor, the best site that overlaps the change, or lies up to --flank bases from it, is found in both alleles. The
    change is the difference of the log odds, alternative minus reference, over fixed bounds: the union of both best
    sites. Classes are gain, loss, moved, stronger, weaker (at least twofold odds), and none.

    Output is the input with an INFO field BSNR, a table (--format tsv), or BED9 of the changed sites. Symbolic alleles,
    *, and alleles longer than 1,000 bp are passed through and counted; rows whose REF disagrees with the genome are
    also tagged BSNR_REF_MISMATCH.

    \b
    Examples:
      bertsnr variants -m CTCF -f hg38.fa snps.vcf.gz > effects.vcf
      bertsnr variants -m human --changed -f hg38.fa -o effects.tsv snps.vcf.gz
      bertsnr variants -m CTCF -f hg38.fa --saturate chr20:1001800-1001840 --plot ctcf.png > effects.tsv
    """
    from ..io.files import check_inputs, check_outputs
    from ..models.registry import find_model, load_models

    check_inputs(vcf, fasta, bed)

    from ..variation.output import format_of

    kind = kind or format_of(output, "tsv" if saturate else "vcf")
    _check_usage(vcf, fasta, saturate, kind, (("-r", regions), ("-b", bed), ("--haplotypes", haplotypes)))
    _check_figures(saturate, {"--bigwig": bigwig, "--plot": plot})
    inputs = [vcf, fasta, bed, saturate, *map(find_model, models)]
    check_outputs([output], inputs)

    from ..io.fasta import Genome
    from ..io.files import quiet_htslib
    from ..io.outputs import Failures
    from ..predict.writers import signal_files
    from ..variation.run import chosen_regions, new_scorer

    device_runtime = runtime.build()
    loaded = load_models(models, device_runtime)
    files = signal_files({"--bigwig": bigwig, "--plot": plot}, [model.info.name for model in loaded])
    check_outputs([output, *(file.path for file in files)], inputs)
    genome = Genome(fasta or "")
    within = chosen_regions(genome, regions or None, bed)
    scorer = new_scorer(loaded, device_runtime, threshold=threshold, flank=flank, prefilter=prefilter)
    with quiet_htslib(), Failures(output, *(file.path for file in files)) as failures:
        if saturate:
            _saturate(saturate, genome, scorer, Outputs(output, kind, changed, failures), files, strict)
        else:
            options_of_rows = {"regions": within, "haplotypes": haplotypes, "strict": strict}
            _annotate(vcf or "", genome, scorer, Outputs(output, kind, changed, failures), options_of_rows)


class Outputs(NamedTuple):
    """The main output: file, format, and whether effects of class none are left out."""

    path: str
    kind: str
    changed_only: bool
    failures: Failures

    def open(self, reader: VcfReader | None = None) -> AbstractContextManager[Any]:
        """See `variation.output.open_writer`."""
        from ..variation.output import open_writer

        return open_writer(self.path, self.kind, reader, self.failures, changed_only=self.changed_only)


def _annotate(path: str, genome: Genome, scorer: VariantScorer, output: Outputs, chosen: dict[str, Any]) -> None:
    """Score the rows of a file."""
    from ..log import progress
    from ..variation.run import open_rows

    with open_rows(path, genome, scorer, **chosen) as rows, output.open(rows.reader) as writer:
        with progress("variants", None, "rows") as bar:
            for block in rows.blocks:
                writer.write(block)
                bar.advance(len(block))


def _saturate(
    text: str, genome: Genome, scorer: VariantScorer, output: Outputs, files: list[SignalFile], strict: bool
) -> None:
    """Score every substitution of the regions; write tables, tracks and figures."""
    from ..log import progress
    from ..plots.mutagenesis import plot_mutagenesis
    from ..variation.saturate import SaturationFiles, regions_to_saturate, saturation

    regions = regions_to_saturate(text, genome)
    collected = SaturationFiles(files, scorer.names, regions, genome.lengths, output.failures)
    with output.open() as writer, progress("saturating", sum(one.end - one.start for one in regions), "bp") as bar:
        for block in saturation(regions, genome, scorer):
            writer.write_alleles(block.alleles)
            collected.add(block)
            bar.advance(len(block.reference))
    collected.check_unscored(text, strict)
    for figure in collected.finish():
        with output.failures.kept():
            plot_mutagenesis(*figure)


def _check_usage(
    vcf: str | None, fasta: str | None, saturate: str | None, kind: str, of_rows: tuple[tuple[str, object], ...]
) -> None:
    from ..errors import UsageError

    if not (vcf or saturate):
        raise UsageError("no variants given; add a VCF file (- is standard input), or --saturate REGION")
    if vcf and saturate:
        raise UsageError(f"both {vcf} and --saturate {saturate} given; score either variants or a region")
    if not fasta:
        raise UsageError("no genome given; add -f FASTA")
    given = [name for name, value in of_rows if value]
    if saturate and (given or kind == "vcf"):
        raise UsageError(
            f"--saturate writes a table or BED of the whole region; leave out {(*given, '--format vcf')[0]}"
        )


def _check_figures(saturate: str | None, files: dict[str, str | None]) -> None:
    from ..errors import UsageError
    from ..io.tracks import check_bigwig
    from ..plots.style import check_plot

    for option, path in files.items():
        if path and not saturate:
            raise UsageError(f"{option} requires --saturate REGION")
    if files["--bigwig"]:
        check_bigwig(files["--bigwig"])
    if files["--plot"]:
        check_plot(files["--plot"])
