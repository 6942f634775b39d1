"""`bertsnr predict`: sequence and models in, called sites out."""

from __future__ import annotations

from typing import Any

import click

from . import options


@options.command
@click.argument("sequences", required=False, metavar="[FASTA]")
@click.option("-m", "--model", "models", multiple=True, metavar="MODEL", help="Model file, name of a shipped model, or matrices (MEME, JASPAR); repeat to scan with several.")
@options.fasta
@click.option("-b", "--bed", metavar="BED", help="Regions of the genome to scan.")
@click.option("-r", "--region", "regions", multiple=True, metavar="REGION", help="chrom or chrom:from-to, 1-based; may be repeated.")
@options.output
@click.option("--format", "kind", type=click.Choice(["bed", "narrowpeak"], case_sensitive=False), help="What is written.  [default: narrowpeak if the name of -o says so, else bed]")
@click.option("-t", "--threshold", type=options.Threshold("p", "q", "score"), metavar="P|p=P|q=Q|score=BITS", help="Call bases with a probability above P, sites with a p-value below P or a false discovery rate below Q, or matches of matrices with a score above BITS.  [default: the model's own]")
@options.step
@options.strict
@options.batch_size
@options.device
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
    threshold: tuple[str, float] | None,
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
    from ..log import logger, progress
    from ..streams import check_output, open_output

    if not models:
        raise UsageError("a model is needed: -m MODEL")
    if (sequences is None) == (fasta is None):
        raise UsageError("either FASTA or a genome is needed: predict -m MODEL region.fa, or -f genome.fa with -b or -r")
    if fasta is None and (bed or regions):
        raise UsageError("-b and -r need a genome: -f FASTA")
    check_output(output, [sequences, fasta, bed, *models])

    import torch

    from ..fasta import Genome, read_pieces
    from ..inference import Hit, Tally, fasta_parts, genome_parts, scan, window_step
    from ..matching import Matrix, base_threshold, load_models, null_of
    from ..model import choose_device, choose_precision
    from ..regions import Interval, parse_region, read_bed

    torch.set_num_threads(threads or options.cores())
    on = choose_device(device)
    loaded = load_models(models, on)
    steps = [window_step(step, model.info) for model in loaded]
    kind = kind or ("narrowpeak" if output.removesuffix(".gz").lower().endswith(".narrowpeak") else "bed")
    value, limit = (threshold[0], threshold[1]) if threshold else ("", 0.0)
    ranked = kind == "narrowpeak" or value == "q"
    # the sites with q below Q are among those with p below Q; matches of matrices with such a p would run into each other
    first = [(None if isinstance(model, Matrix) else ("p", limit)) if value == "q" else threshold for model in loaded]
    cuts = [base_threshold(asked, model) for asked, model in zip(first, loaded)]
    # a p-value decides whether a site is called, not how wide it is
    by_p = [value in ("p", "q") and not isinstance(model, Matrix) for model in loaded]
    thresholds = [min(cut, model.info.threshold) if p else cut for cut, model, p in zip(cuts, loaded, by_p)]
    least = [cut if p else 0.0 for cut, p in zip(cuts, by_p)]
    nulls = [null_of(model) for model in loaded] if ranked else []

    total = None
    if fasta is None:
        parts = fasta_parts(read_pieces(sequences or "-"))
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
        total = sum(region.end - region.start for region in wanted)
        parts = genome_parts(genome, wanted, max(model.info.window for model in loaded))

    tally = Tally()
    sites = 0
    kept: list[Hit] = []
    with open_output(output) as stream, progress("scanning", total, "bp") as bar:
        before = 0
        for hits in scan(loaded, parts, thresholds, steps, batch_size, choose_precision(precision, on), tally):
            hits = [hit for hit in hits if hit.peak > least[hit.model]]
            if ranked:
                kept += hits
            else:
                stream.write("".join(map(_bed_line, hits)).encode())
                stream.flush()
            sites += len(hits)
            bar.advance(tally.bases - before)
            before = tally.bases
        if ranked:
            lines = _significant(kept, nulls, tally.known, limit if value == "q" else 1.0, kind)
            sites = len(lines)
            stream.write_all(line.encode() for line in lines)
        if tally.unscored and strict:
            raise DataError(f"{tally.unscored:,} of {tally.regions:,} regions hold no run of ACGT as long as a token", sequences or fasta)
    if tally.unscored:
        logger.warning("%s of %s regions skipped: no run of ACGT as long as a token", f"{tally.unscored:,}", f"{tally.regions:,}")
    logger.debug("%s sites in %s bp of %s regions", f"{sites:,}", f"{tally.bases:,}", f"{tally.regions:,}")


def _bed_line(hit: Any) -> str:
    return f"{hit.chrom}\t{hit.start}\t{hit.end}\t{hit.name}\t{round(1000 * hit.score)}\t{hit.strand}\n"


def _significant(hits: list[Any], nulls: list[Any], bases: int, most: float, kind: str) -> list[str]:
    """Lines of the sites whose false discovery rate among so many scanned bases is at most `most`, in their order."""
    import numpy as np

    from ..metrics import q_values
    from ..significance import log_odds

    odds, logs, q = (np.zeros(len(hits)) for _ in range(3))
    for number, null in enumerate(nulls):
        own = np.array([at for at, hit in enumerate(hits) if hit.model == number], dtype=int)
        peaks = np.array([hits[at].peak for at in own])
        odds[own], logs[own] = log_odds(peaks), null.logs_of(peaks)
        q[own] = q_values(10.0 ** -logs[own], null.tests(bases))
    chosen = np.nonzero(q <= most)[0].tolist()
    if kind == "bed":
        return [_bed_line(hits[at]) for at in chosen]
    with np.errstate(divide="ignore"):
        falls = np.minimum(-np.log10(q), 999.0) + 0.0
    return [f"{_bed_line(hits[at])[:-1]}\t{odds[at]:.4f}\t{logs[at]:.4f}\t{falls[at]:.4f}\t{hits[at].summit}\n" for at in chosen]
