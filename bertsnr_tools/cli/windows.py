"""`bertsnr windows`: sites and a genome in, labelled windows out."""

from __future__ import annotations

from typing import Any

import click

from . import options


@options.command
@click.argument("bed", default="-")
@options.fasta
@options.output
@options.window
@click.option(
    "--max-n",
    type=click.IntRange(0),
    default=0,
    metavar="INT",
    help="Letters other than ACGT that a window around a site may hold.",
)
@click.option("--background", is_flag=True, help="Write natural windows that hold no site instead.")
@click.option(
    "-c",
    "--copies",
    type=click.IntRange(1),
    metavar="INT",
    help="With --background: windows for each site.  [default: 1]",
)
@click.option(
    "-b",
    "--bed",
    "within",
    metavar="BED",
    help="With --background: draw from these regions.  [default: the whole genome]",
)
@options.exclude
@click.option(
    "--gc", is_flag=True, help="With --background: as many windows of each GC content as there are around the sites."
)
@options.seed
@options.strict
def windows(
    bed: str,
    fasta: str | None,
    output: str,
    window: int,
    max_n: int,
    background: bool,
    copies: int | None,
    within: str | None,
    exclude: tuple[str, ...],
    gc: bool,
    seed: int,
    strict: bool,
) -> None:
    """Cut a window around every site of BED, the site at a random offset inside.

    BED (BED3 or more; - or nothing is standard input; strand . reads as +) holds known sites. Written is FASTA with the header

    \b
    >name::chrom:start-end(strand) site=a-b[,c-d]

    where start and end (0-based, half-open) are the window's, and site= gives the sites inside it, its own first, in the window's
    own direction. Windows of the reverse strand are reverse-complemented. Sites longer than the window, off the end of
    their sequence, on a sequence that the genome lacks, or in no window with at most --max-n N are skipped and counted.

    With --background, windows are drawn from the genome at random. They share no base with each other, with a site or with an
    interval of --exclude, hold no N, and have no site= in their header.

    \b
    Examples:
      bertsnr windows -f hg38.fa sites.bed > pos.fa
      bertsnr windows --background -c 10 --exclude peaks.bed -f hg38.fa sites.bed > background.fa
    """
    import gc as garbage
    from collections import Counter

    from ..errors import DataError, UsageError
    from ..io.fasta import Genome, fasta_text
    from ..io.files import check_output, open_output
    from ..log import logger
    from ..sequence.windows import SKIP_REASONS, cut_windows

    if fasta is None:
        raise UsageError("a genome is needed: -f FASTA")
    if not background and (copies or within or exclude or gc):
        raise UsageError("-c, -b, --exclude and --gc go with --background")
    if [bed, within, *exclude].count("-") > 1:
        raise UsageError("standard input can be read only once")
    check_output(output, [bed, fasta, f"{fasta}.fai", f"{fasta}.gzi", within, *exclude])
    garbage.disable()  # all sites are kept to the end; looking for garbage among them would take a tenth of the time
    genome = Genome(fasta)
    sites = genome.intervals(bed)
    if not sites:
        raise DataError("holds no intervals", bed)
    if background:
        with open_output(output) as stream:
            _write_background(stream, genome, sites, window, copies or 1, within, exclude, gc, seed, strict)
        return
    skipped: Counter[str] = Counter()
    with open_output(output) as stream:
        stream.write_all(fasta_text(*record) for record in cut_windows(sites, genome, window, max_n, seed, skipped))
        reasons = ", ".join(f"{skipped[key]:,} {text}" for key, text in SKIP_REASONS.items() if skipped[key])
        if skipped and (strict or skipped.total() == len(sites)):
            raise DataError(f"{skipped.total():,} of {len(sites):,} sites skipped: {reasons}", bed)
    if skipped:
        logger.warning("%s of %s sites skipped: %s", f"{skipped.total():,}", f"{len(sites):,}", reasons)


def _write_background(
    stream: Any,
    genome: Any,
    sites: list[Any],
    window: int,
    copies: int,
    within: str | None,
    exclude: tuple[str, ...],
    gc: bool,
    seed: int,
    strict: bool,
) -> None:
    """Natural windows, and a word on those that were not to be had."""
    import numpy as np

    from ..errors import DataError
    from ..io.fasta import fasta_text
    from ..io.intervals import Interval, read_bed
    from ..log import logger
    from ..sequence.background import background_windows, gc_targets

    regions = [Interval(name, 0, length) for name, length in genome.lengths.items()]
    if within:
        regions = list(read_bed(within))
        for region in regions:
            genome.check(region, within)
        if not regions:
            raise DataError("holds no intervals", within)
    avoid = [*sites, *(interval for path in exclude for interval in genome.intervals(path))]
    wanted = gc_targets(genome, sites, window, copies) if gc else np.array([copies * len(sites)])
    written = 0
    for record in background_windows(genome, regions, avoid, window, wanted, seed):
        stream.write(fasta_text(*record))
        written += 1
    missing = copies * len(sites) - written
    if missing and (strict or not written):
        raise DataError(
            f"{missing:,} of {copies * len(sites):,} windows are not to be had: too little sequence without N, sites and excluded intervals{' of their GC content' if gc else ''}",
            genome.path,
        )
    if missing:
        logger.warning(
            "%s of %s windows are not to be had%s",
            f"{missing:,}",
            f"{copies * len(sites):,}",
            " at the GC content of the sites" if gc else "",
        )
