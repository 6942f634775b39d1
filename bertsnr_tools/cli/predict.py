"""`bertsnr predict`: sequence and models in, called sites out."""

from __future__ import annotations

import click

from . import options


@options.command
@click.argument("sequences", required=False, metavar="[FASTA]")
@click.option("-m", "--model", "models", multiple=True, metavar="MODEL", help="Model file, name of a shipped model, or matrices (MEME, JASPAR); repeat to scan with several.")
@options.fasta
@click.option("-b", "--bed", metavar="BED", help="Regions of the genome to scan.")
@click.option("-r", "--region", "regions", multiple=True, metavar="REGION", help="chrom or chrom:from-to, 1-based; may be repeated.")
@options.output
@options.threshold
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

    \b
    Examples:
      bertsnr predict -m CTCF region.fa > sites.bed
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
    from ..inference import Tally, fasta_parts, genome_parts, scan, window_step
    from ..matching import base_threshold, load_models
    from ..model import choose_device, choose_precision
    from ..regions import Interval, parse_region, read_bed

    torch.set_num_threads(threads or options.cores())
    on = choose_device(device)
    loaded = load_models(models, on)
    steps = [window_step(step, model.info) for model in loaded]
    thresholds = [base_threshold(threshold, model) for model in loaded]

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
    with open_output(output) as stream, progress("scanning", total, "bp") as bar:
        before = 0
        for hits in scan(loaded, parts, thresholds, steps, batch_size, choose_precision(precision, on), tally):
            stream.write("".join(f"{h.chrom}\t{h.start}\t{h.end}\t{h.name}\t{round(1000 * h.score)}\t{h.strand}\n" for h in hits).encode())
            stream.flush()
            sites += len(hits)
            bar.advance(tally.bases - before)
            before = tally.bases
        if tally.unscored and strict:
            raise DataError(f"{tally.unscored:,} of {tally.regions:,} regions hold no run of ACGT as long as a token", sequences or fasta)
    if tally.unscored:
        logger.warning("%s of %s regions skipped: no run of ACGT as long as a token", f"{tally.unscored:,}", f"{tally.regions:,}")
    logger.debug("%s sites in %s bp of %s regions", f"{sites:,}", f"{tally.bases:,}", f"{tally.regions:,}")
