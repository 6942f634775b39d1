"""`bertsnr windows`: sites and a genome in, labelled windows or background windows out."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import click

from . import options
from .limits import keep_freed_memory

if TYPE_CHECKING:
    from ..io.fasta import Genome
    from ..io.intervals import Interval

_ADVICE = "reduce -c, widen -b or narrow --exclude"


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
    help="Maximum number of letters other than ACGT in a window around a site.",
)
@click.option(
    "--sites", "are_sites", is_flag=True, help="Treat the intervals as sites, even if most are as long as peaks."
)
@click.option("--background", is_flag=True, help="Write genomic background windows (without a site) instead.")
@click.option(
    "-c",
    "--copies",
    type=click.IntRange(1),
    metavar="INT",
    help="With --background: windows per site.  [default: 1]",
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
    "--gc", "match_gc", is_flag=True, help="With --background: match the GC content of the windows around the sites."
)
@options.seed("site offsets, or of background windows")
@options.strict
def windows(
    bed: str,
    fasta: str | None,
    output: str,
    window: int,
    max_n: int,
    are_sites: bool,
    background: bool,
    copies: int | None,
    within: str | None,
    exclude: tuple[str, ...],
    match_gc: bool,
    seed: int,
    strict: bool,
) -> None:
    """Cut a window around each site in BED, with the site at a random offset.

    BED (BED3 or more; - is standard input; strand . is read as +) lists known sites. Output is FASTA with the header

    \b
    >name::chrom:start-end(strand) site=a-b[,c-d]

    where start and end (0-based, half-open) are the interval of the window, and site= lists the sites inside, its own
    first, 0-based from the first base of the record. Windows on the reverse strand are reverse-complemented. A site is
    skipped and counted if no window around it has at most --max-n Ns, or if it is not on the genome. Peaks are not
    sites: call the sites in them first, with `predict --summit 100 --best`.

    With --background, windows are drawn at random from the genome. They overlap neither each other, nor a site, nor an
    interval of --exclude, contain no N, and have no site= in their header.

    \b
    Examples:
      bertsnr windows -f hg38.fa sites.bed > pos.fa
      bertsnr windows --background -c 10 --exclude peaks.bed -f hg38.fa sites.bed > background.fa
    """
    from ..errors import DataError, UsageError
    from ..io.fasta import Genome, fasta_text
    from ..io.files import open_output
    from ..io.intervals import read_sites, warn_of_strands
    from ..log import logger

    if not background and (copies or within or exclude or match_gc):
        raise UsageError("-c, -b, --exclude and --gc require --background")
    fasta = _checked_genome(fasta, [bed, within, *exclude], output)
    keep_freed_memory()  # else half of the time of --background --gc
    gc.disable()  # all sites stay in memory, and garbage collection among them takes a fifth of the time
    click.get_current_context().call_on_close(gc.enable)

    import numpy as np

    from ..sequence.background import background_windows, gc_targets
    from ..sequence.windows import WindowCutter

    genome = Genome(fasta)
    sites, without_strand = read_sites(bed)
    _check_sites(sites, bed, genome, may_be_peaks=background or are_sites)
    wanted = len(sites) * (copies or 1)
    cutter = WindowCutter(genome, window, max_n=max_n, seed=seed)
    records = cutter.cut(sites)
    if background:
        regions = genome.regions(within) if within else genome.chromosomes()
        avoid = [*sites, *genome.exclusions(exclude)]
        targets = gc_targets(genome, sites, window, copies or 1) if match_gc else np.array([wanted])
        records = background_windows(genome, regions, avoid, window, targets, seed)
    with open_output(output) as stream:
        missing = wanted - stream.write_all(fasta_text(*record) for record in records)
        problem = f"{missing:,} of {wanted:,} sites skipped: {cutter.skip_report()}"
        if background:
            problem = f"could not draw {missing:,} of {wanted:,} background windows; {_ADVICE}"
        if missing and (strict or missing == wanted):
            raise DataError(problem, fasta if background else bed)
    if missing:
        logger.warning(problem)
    warn_of_strands(bed, 0 if background else without_strand)


def _checked_genome(fasta: str | None, beds: list[str | None], output: str) -> str:
    """The genome; it and all other names of files are checked before the work begins."""
    from ..errors import UsageError
    from ..io.files import check_inputs, check_output

    if fasta is None:
        raise UsageError("no genome given; add -f FASTA")
    check_output(output, [fasta, *beds])
    check_inputs(*beds)
    return fasta


def _check_sites(intervals: list[Interval], bed: str, genome: Genome, may_be_peaks: bool) -> None:
    """Reject another genome and, unless they are welcome, peaks; name the command that calls the sites in them."""
    from ..errors import DataError, UsageError
    from ..sequence.windows import LONGEST_SITE, peaks_among

    genome.check_some(intervals, bed)
    if not intervals:
        raise DataError("contains no intervals", bed)
    peaks, fasta = 0 if may_be_peaks else peaks_among(intervals), genome.path
    if peaks:
        found = f"{peaks:,} of {len(intervals):,} intervals are longer than {LONGEST_SITE} bp: peaks, not sites"
        source, name = ("standard input", "PEAKS") if bed == "-" else (bed, bed)
        pipeline = f"bertsnr predict -m MATRIX -f {fasta} -b {name} --summit 100 --best | bertsnr windows -f {fasta} -"
        raise UsageError(f"{source}: {found}; call their sites with `{pipeline}`, or add --sites")
