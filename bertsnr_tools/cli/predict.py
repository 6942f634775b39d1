"""`bertsnr predict`: sequence and models in, called sites out."""

from __future__ import annotations

from typing import Any

import click

from . import options


@options.command
@click.argument("sequences", required=False, metavar="[FASTA]")
@click.option(
    "-m",
    "--model",
    "models",
    multiple=True,
    metavar="MODEL",
    help="Model file, name of a shipped model, or matrices (MEME, JASPAR); repeat to scan with several.",
)
@options.fasta
@click.option("-b", "--bed", metavar="BED", help="Regions of the genome to scan.")
@click.option(
    "-r",
    "--region",
    "regions",
    multiple=True,
    metavar="REGION",
    help="chrom or chrom:from-to, 1-based; may be repeated.",
)
@options.output
@click.option(
    "--format",
    "kind",
    type=click.Choice(["bed", "bed9", "narrowpeak"], case_sensitive=False),
    help="What is written.  [default: narrowpeak if the name of -o says so, else bed]",
)
@click.option("--rgb", type=click.Choice(["strand", "score"]), default="strand", help="Colour of the sites in bed9.")
@click.option("--track", metavar="GENOME", help="Begin with a track line for the UCSC browser's GENOME, such as hg38.")
@click.option(
    "-t",
    "--threshold",
    type=options.Threshold("p", "q", "score"),
    metavar="P|p=P|q=Q|score=BITS",
    help="Call bases with a probability above P, sites with a p-value below P or a false discovery rate below Q, or matches of matrices with a score above BITS.  [default: the model's own]",
)
@click.option(
    "--bigwig",
    metavar="FILE",
    help="Write base probabilities, the higher of both strands, as bigWig; with several models FILE needs {} for their names.",
)
@click.option("--bigwig-plus", metavar="FILE", help="As --bigwig, of the forward strand.")
@click.option("--bigwig-minus", metavar="FILE", help="As --bigwig, of the reverse strand.")
@click.option("--bedgraph", metavar="FILE", help="As --bigwig, but bedGraph, in the order of the input.")
@click.option(
    "--shard",
    type=options.Shard(),
    metavar="I/N",
    help="Scan the I-th of N equal shares of the genome or its regions; the BED files of all, one after the other, are that of a scan without.",
)
@click.option(
    "--prefilter",
    is_flag=True,
    help="Score only what the models' prefilters let pass: several times as fast, for the loss of up to one call in a hundred; the rest has no base probabilities.",
)
@options.step
@options.strict
@options.batch_size
@options.devices
@options.precision
@options.threads
def predict(
    sequences: str | None,
    models: tuple[str, ...],
    fasta: str | None,
    bed: str | None,
    regions: tuple[str, ...],
    output: str,
    kind: str | None,
    rgb: str,
    track: str | None,
    threshold: tuple[str, float] | None,
    bigwig: str | None,
    bigwig_plus: str | None,
    bigwig_minus: str | None,
    bedgraph: str | None,
    shard: tuple[int, int] | None,
    prefilter: bool,
    step: int | None,
    strict: bool,
    batch_size: int,
    device: str,
    precision: str,
    threads: int | None,
) -> None:
    """Call binding sites on both strands.

    Scanned is either FASTA (- is standard input; gzip is fine) or parts of an indexed genome: -f with -b or -r, or all of it.
    Written is BED6 in the order of the input: chrom, start, end, the model's TF, score (1000 times the mean base
    probability), strand. Records named chrom:from-to are placed on their chromosome. N is never called. A site belongs to
    the region in which its middle lies; regions of a genome are read with their surroundings.

    The p-value of a site is the share of natural windows that hold, on either strand, a site which scores as high; models that
    were trained without natural windows have none. That of a matrix's match is the share of random words. q-values are
    Benjamini and Hochberg's, over the windows (for matrices, the positions) that were scanned. narrowPeak has the log odds of the
    site as signalValue, then -log10 p and -log10 q, and the middle of the strongest bases as peak.

    \b
    Examples:
      bertsnr predict -m CTCF region.fa > sites.bed
      bertsnr predict -m CTCF -t q=0.05 -o sites.narrowPeak -f hg38.fa -b promoters.bed
      bertsnr predict -m CTCF -m YY1 -f hg38.fa -r chr20:1,000,000-2,000,000 | head
    """
    from ..errors import DataError, UsageError
    from ..io.files import check_outputs, index_bed, open_output
    from ..io.tracks import bed_line, check_bigwig, narrowpeak_line, track_line
    from ..log import logger, progress
    from ..predict.writers import SignalWriter

    if not models:
        raise UsageError("a model is needed: -m MODEL")
    if sequences and fasta:
        raise UsageError(
            f"{sequences} and -f {fasta}: either FASTA or a genome can be scanned, not both; regions of a genome are given with -b or -r"
        )
    if not (sequences or fasta):
        raise UsageError(
            "either FASTA or a genome is needed: predict -m MODEL region.fa (- is standard input), or -f genome.fa, with -b or -r for parts of it"
        )
    if output.lower().endswith((".bw", ".bigwig", ".bb", ".bigbed")):
        raise UsageError(f"-o {output}: sites are written as BED; base probabilities go to --bigwig")
    if fasta is None and (bed or regions):
        raise UsageError("-b and -r need a genome: -f FASTA")
    signals = {"--bigwig": bigwig, "--bigwig-plus": bigwig_plus, "--bigwig-minus": bigwig_minus, "--bedgraph": bedgraph}
    for path in (bigwig, bigwig_plus, bigwig_minus):
        if path:
            check_bigwig(path)
    if bedgraph == "-" == output:
        raise UsageError("sites and --bedgraph cannot both go to standard output: -o FILE")

    if track is not None and not (track.isalnum() and track.isascii()):
        raise UsageError(f"--track {track!r}: the name of a genome at UCSC is needed, such as hg38")
    if shard and fasta is None:
        raise UsageError("--shard needs a genome, whose parts can be read: -f FASTA")
    kind = kind or ("narrowpeak" if output.removesuffix(".gz").lower().endswith(".narrowpeak") else "bed")
    value, limit = (threshold[0], threshold[1]) if threshold else ("", 0.0)
    ranked = kind == "narrowpeak" or value == "q"
    if shard and ranked:
        raise UsageError(
            "--shard: q-values are known only when all is scanned: write BED, with a threshold that is no q="
        )
    check_outputs([output], [sequences, fasta, bed, *models])

    from contextlib import ExitStack

    import torch

    from ..io.fasta import Genome, read_fasta_chunks
    from ..io.intervals import Interval, parse_region, read_bed
    from ..models.device import Runtime
    from ..models.pwm import PwmModel
    from ..models.registry import load_models
    from ..predict.chunks import fasta_chunks, genome_chunks, shard_chunks
    from ..predict.scan import CalledSite, ScanStats, scan, window_step
    from ..predict.significance import null_of
    from ..predict.thresholds import base_threshold

    torch.set_num_threads(threads or options.cores())
    runtime = Runtime.choose(device, precision, batch_size)
    loaded = load_models(models, runtime)
    names = [model.info.name for model in loaded]
    files = _signal_files(signals, names)
    check_outputs([output, *(path for _, _, path in files)], [sequences, fasta, bed, *models])
    steps = [window_step(step, model.info) for model in loaded]
    # the sites with q below Q are among those with p below Q; matches of matrices with such a p would run into each other
    first = [(None if isinstance(model, PwmModel) else ("p", limit)) if value == "q" else threshold for model in loaded]
    cuts = [base_threshold(asked, model) for asked, model in zip(first, loaded)]
    # a p-value decides whether a site is called, not how wide it is
    by_p = [value in ("p", "q") and not isinstance(model, PwmModel) for model in loaded]
    thresholds = [min(cut, model.info.threshold) if p else cut for cut, model, p in zip(cuts, loaded, by_p)]
    least = [cut if p else 0.0 for cut, p in zip(cuts, by_p)]
    for model, cut in zip(loaded, cuts):
        if prefilter and not model.info.prefilter:
            raise UsageError(f"--prefilter: {model.info.name} has none; train it with --prefilter")
        if prefilter and cut < model.info.threshold:
            raise UsageError(
                f"--prefilter of {model.info.name} keeps what has a probability above {model.info.threshold:g}, {cut:.3g} is asked for: leave out -t or --prefilter"
            )
    nulls = [
        null_of(model) if value == "q" or isinstance(model, PwmModel) or model.info.null else None for model in loaded
    ]
    colour = rgb if kind == "bed9" else None

    total = None
    lengths = None
    if fasta is None:
        parts = fasta_chunks(read_fasta_chunks(sequences or "-"))
    else:
        genome = Genome(fasta)
        wanted = [parse_region(text, genome.lengths) for text in regions]
        if bed:
            for interval in read_bed(bed):
                genome.check(interval, bed)
                wanted.append(interval)
            if not wanted:
                raise DataError("holds no intervals", bed)
        elif not wanted:
            wanted = [Interval(name, 0, length) for name, length in genome.lengths.items()]
        lengths = genome.lengths
        total = sum(region.end - region.start for region in wanted)
        context = max(model.info.window for model in loaded)
        if shard:
            total //= shard[1]
            parts = shard_chunks(genome, wanted, context, *shard, steps)
        else:
            parts = genome_chunks(genome, wanted, context)

    tally = ScanStats()
    sites = 0
    ordered = True
    seen: dict[str, int] = {}
    kept: list[CalledSite] = []
    with ExitStack() as stack:
        stream = stack.enter_context(open_output(output))
        headed = track if not shard or shard[0] == 1 else None
        signal = SignalWriter(files, names, lengths, headed, stack) if files else None
        bar = stack.enter_context(progress("scanning", total, "bp"))
        if headed:
            title = ", ".join(dict.fromkeys(names))
            stream.write(track_line(kind, title, f"{title}: binding sites by bertsnr_tools", headed).encode())
        before = 0
        for hits in scan(loaded, parts, thresholds, steps, runtime, tally, signal, prefilter):
            hits = [hit for hit in hits if hit.call_level > least[hit.model]]
            if ranked:
                kept += hits
            else:
                stream.write("".join([bed_line(hit, colour) for hit in hits]).encode())
                stream.flush()
            sites += len(hits)
            ordered = ordered and _in_order(hits, seen)
            bar.advance(tally.bases - before)
            before = tally.bases
        if ranked:
            chosen = _significant(kept, nulls, tally.acgt_bases, limit if value == "q" else 1.0)
            sites = len(chosen)
            stream.write_all(
                (narrowpeak_line(*site) if kind == "narrowpeak" else bed_line(site[0], colour)).encode()
                for site in chosen
            )
        if tally.unscored and strict:
            raise DataError(
                f"{tally.unscored:,} of {tally.regions:,} regions hold no run of ACGT as long as a token",
                sequences or fasta,
            )
        if signal:
            signal.write()
    if output.endswith((".gz", ".bgz")) and not track:
        if ordered:
            index_bed(output)
        else:
            logger.warning(
                "%s has no tabix index: the regions of a chromosome do not follow each other in rising order", output
            )
    if tally.unscored:
        logger.warning(
            "%s of %s regions skipped: no run of ACGT as long as a token", f"{tally.unscored:,}", f"{tally.regions:,}"
        )
    logger.debug("%s sites in %s bp of %s regions", f"{sites:,}", f"{tally.bases:,}", f"{tally.regions:,}")


def _in_order(hits: list[Any], seen: dict[str, int]) -> bool:
    """Whether sites go on where the earlier ones ended; `seen` holds the last start of each chromosome, the current one last."""
    for hit in hits:
        if hit.start < seen.get(hit.chrom, 0) or hit.chrom in seen and hit.chrom != next(reversed(seen)):
            return False
        seen[hit.chrom] = hit.start
    return True


def _signal_files(signals: dict[str, str | None], names: list[str]) -> list[tuple[int, str, str]]:
    """For every model and option that asks for base probabilities: the model's number, the option and the file.

    Raises
    ------
    UsageError : several models, and a file name without {}.
    """
    from ..errors import UsageError

    files = []
    for option, path in signals.items():
        if path and len(names) > 1 and "{}" not in path:
            raise UsageError(f"{option} {path}: there are {len(names)} models, so {{}} is needed for their names")
        files += [
            (number, option, path.replace("{}", name.replace("/", "_"))) for number, name in enumerate(names) if path
        ]
    return files


def _significant(
    hits: list[Any], nulls: list[Any], bases: int, most: float
) -> list[tuple[Any, float, float, float, int]]:
    """The sites whose false discovery rate among so many scanned bases is at most `most`, in their order, with what narrowPeak has."""
    import numpy as np

    from ..metrics import q_values
    from ..predict.significance import log_odds

    odds = log_odds(np.array([hit.call_level for hit in hits]))
    logs, falls = np.full((2, len(hits)), -1.0)
    for number, null in enumerate(nulls):
        own = np.array([at for at, hit in enumerate(hits) if hit.model == number and null], dtype=int)
        if len(own):
            logs[own] = null.neg_log10_p(np.array([hits[at].call_level for at in own]))
            with np.errstate(divide="ignore"):
                falls[own] = np.minimum(-np.log10(q_values(10.0 ** -logs[own], null.n_tests(bases))), 999.0) + 0.0
    kept = np.nonzero(falls >= -np.log10(most))[0].tolist() if most < 1 else range(len(hits))
    return [(hits[at], odds[at], logs[at], falls[at], hits[at].summit) for at in kept]
