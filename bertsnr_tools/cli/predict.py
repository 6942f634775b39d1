"""`bertsnr predict`: sequence and models in, called sites out."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from . import options
from .scan_outputs import ScanOutputs, format_of

if TYPE_CHECKING:
    from collections import Counter

    from ..io.fasta import Genome
    from ..models.interface import Model
    from ..predict.accessible import AccessibleSites
    from ..predict.chunks import ScanInput
    from ..predict.scan import Scanner
    from ..predict.site_files import SiteSink
    from ..predict.thresholds import CallingRule


@options.command
@click.argument("sequences", required=False, metavar="[FASTA]")
@options.models()
@options.fasta
@click.option("-b", "--bed", metavar="BED", help="Regions of the genome to scan.")
@click.option(
    "--accessible",
    metavar="BED",
    help="Accessible regions (ATAC-seq or DNase-seq peaks): call only sites in them that are likely to be bound, by "
    "motif and surroundings; without -b and -r, scan only these regions.",
)
@click.option(
    "--summit",
    type=click.IntRange(0, 1_000_000_000),
    metavar="BP",
    help="Scan only BP on either side of the summits of peaks (-b): of column 10 of narrowPeak, or else the midpoint.",
)
@click.option(
    "-r",
    "--region",
    "regions",
    multiple=True,
    metavar="REGION",
    help="Region to scan: chrom, chrom:from (to its end) or chrom:from-to, 1-based; may be repeated.",
)
@options.output
@click.option(
    "--format",
    "kind",
    type=click.Choice(["bed", "bed9", "narrowpeak", "bigbed", "parquet"], case_sensitive=False),
    help="Output format.  [default: by the name of -o: .narrowPeak, .bed9, .bb, .parquet, else bed]",
)
@click.option(
    "--rgb",
    type=click.Choice(["strand", "score"]),
    help="Colour of sites in bed9 and bigbed.  [default: strand]",
)
@click.option(
    "--score-scale",
    "scale",
    type=click.Choice(["probability", "jaspar"]),
    default="probability",
    help="Column 5: 1000 times the mean base probability, or -100 times log10 p, at most 1000, as in JASPAR's tracks.",
)
@click.option("--track", metavar="GENOME", help="Start with a track line for this UCSC genome, such as hg38.")
@click.option(
    "-t",
    "--threshold",
    type=options.Threshold("p", "q", "score"),
    metavar="P|p=P|q=Q|score=BITS",
    help="Call bases with a probability above P, sites with a p-value below P or a q-value of at most Q, or PWM "
    "matches with a score above BITS.  [default: the model's own; p=0.01 for factors of a many-factor model]",
)
@click.option(
    "--best",
    type=click.IntRange(1),
    is_flag=False,
    flag_value=1,
    metavar="[N]",
    help="Write only the N best called sites of each region, or FASTA record, for each model; without N, the best one.",
)
@click.option(
    "--bigwig",
    metavar="FILE",
    help="Write base probabilities, the maximum of both strands, as bigWig; with several models, {} in FILE is "
    "replaced by their names.",
)
@click.option("--bigwig-plus", metavar="FILE", help="Write base probabilities of the forward strand as bigWig.")
@click.option("--bigwig-minus", metavar="FILE", help="Write base probabilities of the reverse strand as bigWig.")
@click.option("--bedgraph", metavar="FILE", help="Like --bigwig, but as bedGraph, in the order of the input.")
@click.option(
    "--json",
    "report",
    metavar="FILE",
    help="Write counts, thresholds and versions to FILE as JSON; MultiQC shows it if its name ends in _mqc.json.",
)
@click.option(
    "--shard",
    type=options.Shard(),
    metavar="I/N",
    help="Scan the I-th of N equal parts of the genome or the regions; concatenated shards equal the unsharded BED.",
)
@click.option(
    "--prefilter",
    is_flag=True,
    help="Score only windows that pass the models' prefilters: several times as fast, loses about 0.4 % of calls; "
    "other windows get no base probabilities.",
)
@options.step
@options.strict
@options.runtime(several_devices=True)
def predict(
    sequences: str | None,
    models: tuple[str, ...],
    fasta: str | None,
    bed: str | None,
    accessible: str | None,
    summit: int | None,
    regions: tuple[str, ...],
    output: str,
    kind: str | None,
    rgb: str | None,
    scale: str,
    track: str | None,
    threshold: tuple[str, float] | None,
    best: int | None,
    bigwig: str | None,
    bigwig_plus: str | None,
    bigwig_minus: str | None,
    bedgraph: str | None,
    report: str | None,
    shard: tuple[int, int] | None,
    prefilter: bool,
    step: int | None,
    strict: bool,
    runtime: options.RuntimeOptions,
) -> None:
    """Call binding sites on both strands.

    Input is FASTA (plain or gzip; - is standard input), or a genome (-f): all of it, or the regions given by -b and -r.
    Output is BED6 in the order of the input: chrom, start, end, name of the model, score (1000 times the mean base
    probability), strand. Sites in records whose header gives an interval, such as chrom:from-to, are reported in
    chromosome coordinates. N is never called. A site belongs to the region that contains its middle; regions of a
    genome are read with flanking sequence.

    The p-value of a site is the fraction of genomic background windows with an equally strong or stronger site on
    either strand; only models trained with genomic background report p-values. For PWMs, it is the fraction of random
    words that score as high. q-values (Benjamini and Hochberg) are corrected for the number of scanned windows, or of
    positions for PWMs. narrowPeak contains the log odds of the site as signalValue, -log10 p, -log10 q, and the middle
    of the strongest bases as summit.

    \b
    Examples:
      bertsnr predict -m CTCF region.fa > sites.bed
      bertsnr predict -m CTCF -t q=0.05 -o sites.narrowPeak -f hg38.fa -b promoters.bed
      bertsnr predict -m jaspar:GATA3 -f hg38.fa -b peaks.narrowPeak --summit 100 --best > sites.bed
      bertsnr predict -m human --accessible atac.bed -f hg38.fa > bound.bed
      bertsnr predict -m CTCF -m YY1 -f hg38.fa -r chr20:1,000,000-2,000,000 | head
    """
    from ..io.files import check_inputs, check_outputs
    from ..models.registry import find_model, load_models

    began = time.perf_counter()
    signals = {"--bigwig": bigwig, "--bigwig-plus": bigwig_plus, "--bigwig-minus": bigwig_minus, "--bedgraph": bedgraph}
    outputs = ScanOutputs(output, kind or format_of(output), rgb, track, scale, signals, report)
    with_q = outputs.kind == "narrowpeak" or threshold is not None and threshold[0] == "q"
    _check_input(models, sequences, fasta, bool(bed or regions or accessible), shard, with_q)
    outputs.check()
    data = [sequences, fasta, bed, accessible]
    inputs = [*data, *map(find_model, models)]
    check_inputs(*data)
    check_outputs([output, report], inputs)

    from ..io.fasta import Genome
    from ..io.outputs import Failures
    from ..predict.chunks import ScanInput
    from ..predict.scan import Scanner
    from ..predict.writers import signal_files

    device_runtime = runtime.build()
    source = Genome(fasta) if fasta else sequences or "-"
    loaded = load_models(models, device_runtime)
    loaded, rules, in_accessible = _calling(loaded, threshold, accessible, source, device_runtime.precision)
    files = signal_files(signals, [model.info.name for model in loaded])
    check_outputs([output, report, *(file.path for file in files)], inputs)
    chosen = in_accessible.regions if in_accessible and not (bed or regions) else regions or None
    scan_input = ScanInput(source, bed=bed, regions=chosen, shard=shard, summit=summit, each_region=best is not None)
    with Failures(output, report, *(file.path for file in files)) as failures:
        first = not shard or shard[0] == 1
        with outputs.open(files, loaded, scan_input.lengths, failures, first=first) as (signal, writer):
            sink = signal if files else None
            scanner = Scanner(loaded, rules, device_runtime, step=step, prefilter=prefilter, signal=sink, best=best)
            counts = _scan(scanner, scan_input, writer, with_q, in_accessible)
            scanner.stats.check_unscored(fasta or sequences or "-", strict)
            if best or not counts:
                scanner.stats.report_empty()
        outputs.write_report(scanner, counts, began, failures)


def _calling(
    models: list[Model],
    threshold: tuple[str, float] | None,
    accessible: str | None,
    source: str | Genome,
    precision: str,
) -> tuple[list[Model], list[CallingRule], AccessibleSites | None]:
    """The models to scan with, what to call with each, and with --accessible what scores their sites."""
    from ..predict.thresholds import CallingRule

    if accessible is None or isinstance(source, str):
        return models, [CallingRule.for_model(model, threshold) for model in models], None
    from ..predict.accessible import AccessibleSites

    scored = AccessibleSites(models, threshold, source, source.regions(accessible), precision)
    return scored.models, scored.rules, scored


def _scan(
    scanner: Scanner, scan_input: ScanInput, writer: SiteSink, with_q: bool, accessible: AccessibleSites | None
) -> Counter[str]:
    """Write all sites and count them by model."""
    from collections import Counter

    from ..log import logger, progress

    stats, shown = scanner.stats, 0
    counts = Counter[str]()
    chunks = scan_input.chunks(scanner.context)
    ahead = scan_input.can_read_ahead
    with progress("scanning", scan_input.bases, "bp") as bar:
        for sites in scanner.scan_ranked(chunks, with_q=with_q, accessible=accessible, ahead=ahead):
            writer.write(sites)
            counts.update(site.name for site in sites)
            bar.advance(stats.bases - shown)
            shown = stats.bases
    if accessible:
        accessible.report()
    logger.debug("%s sites in %s bp of %s regions", f"{counts.total():,}", f"{shown:,}", f"{stats.regions:,}")
    return counts


def _check_input(
    models: tuple[str, ...],
    sequences: str | None,
    fasta: str | None,
    regions: bool,
    shard: tuple[int, int] | None,
    with_q: bool,
) -> None:
    from ..errors import UsageError

    if not models:
        raise UsageError("no model given; add -m MODEL")
    if sequences and fasta:
        raise UsageError(f"both {sequences} and -f {fasta} given; scan either FASTA or a genome")
    if not (sequences or fasta):
        raise UsageError("no sequence given; add FASTA (- is standard input), or a genome with -f FASTA")
    if fasta is None and regions:
        raise UsageError("-b, -r and --accessible require a genome; add -f FASTA")
    if shard and fasta is None:
        raise UsageError("--shard requires a genome; add -f FASTA")
    if shard and with_q:
        raise UsageError("--shard: q-values and narrowPeak require a complete scan; write BED, without -t q=")
