"""`bertsnr motifs`: called sites or called sequences in, motifs out."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterator

import click

from . import options

LARGEST_Q = 0.5  # of the matches that are listed, as in the MEME suite's tomtom


@options.command
@click.argument("source", metavar="BED|FASTA")
@options.fasta
@click.option(
    "-m",
    "--model",
    "models",
    multiple=True,
    metavar="MODEL",
    help="Model, or matrices, that call the bases of FASTA; repeat for several motifs.",
)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="Write the motifs to FILE.  [default: standard output, which --compare takes for its table]",
)
@click.option(
    "--width",
    type=click.IntRange(3, 1000),
    metavar="BP",
    help="Width of the motifs.  [default: the median site: of the model's training, of the name in BED, or of the labels]",
)
@click.option(
    "--coverage",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.8,
    metavar="SHARE",
    help="Share of an instance that must be called.",
)
@click.option("--every", is_flag=True, help="Take every instance of a sequence, not one alone.")
@click.option("--forward", is_flag=True, help="Score FASTA records in their own direction only.")
@options.threshold
@options.step
@click.option(
    "--format", "form", type=click.Choice(["meme", "jaspar"]), default="meme", help="Shares (MEME) or counts (JASPAR)."
)
@click.option("--instances", metavar="FILE", help="Write the instances too: FILE.bed or FILE.fa, .gz if wanted.")
@click.option(
    "--logo", metavar="FILE", help="Draw the motifs: FILE.png, .pdf or .svg; with --compare, over their best matches."
)
@click.option(
    "--compare",
    metavar="FILE|jaspar|jasparYEAR",
    help="Print a table of similar motifs: of a MEME or JASPAR file, or of the vertebrates in JASPAR's newest or another release.",
)
@options.strict
@options.batch_size
@options.device
@options.precision
@options.threads
def motifs(
    source: str,
    fasta: str | None,
    models: tuple[str, ...],
    output: str | None,
    width: int | None,
    coverage: float,
    every: bool,
    forward: bool,
    threshold: tuple[str, float] | None,
    step: int | None,
    form: str,
    instances: str | None,
    logo: str | None,
    compare: str | None,
    strict: bool,
    batch_size: int,
    device: str,
    precision: str,
    threads: int | None,
) -> None:
    """Make motifs of called sites.

    Read is either BED of called sites, one motif for each name, with their sequence (-f: a genome, or the FASTA that was
    scanned); or FASTA, whose bases are called by a model (-m) or, without one, labelled by `bertsnr windows`. - is standard
    input. In every sequence the first stretch that is called well enough gives one instance, cut to the motif's width
    around its middle.

    \b
    Examples:
      bertsnr predict -m CTCF -m YY1 -f hg38.fa -b promoters.bed | bertsnr motifs -f hg38.fa - > out.meme
      bertsnr motifs -m CTCF --logo ctcf.png --compare jaspar -o ctcf.meme peaks.fa
    """
    from ..errors import DataError, UsageError
    from ..io.fasta import fasta_text
    from ..io.files import check_outputs, open_output
    from ..io.motif_files import Motif, jaspar_text, meme_text, read_motifs, unique_id
    from ..log import logger
    from ..motifs.comparison import FEW_TARGETS, check_comparison, is_jaspar, jaspar_motifs
    from ..motifs.comparison import compare as compared
    from ..motifs.instances import SKIP_REASONS, Instance, InstanceCounts
    from ..plots.figures import check_plot, plot_logos

    if fasta and models:
        raise UsageError("sites of a BED file are called already: either -f or -m")
    output = output or (None if compare else "-")
    check_outputs(
        [output, instances, logo], [source, fasta, compare if compare and not is_jaspar(compare) else None, *models]
    )
    if instances and not instances.removesuffix(".gz").endswith((".bed", ".fa", ".fasta")):
        raise UsageError(f"{instances}: the name of an instances file ends in .bed or .fa, with .gz or without")
    if logo:
        check_plot(logo, logos=True)
    if compare:
        check_comparison(compare)
    known = []
    if compare and not is_jaspar(compare):
        if not os.path.exists(compare):
            raise DataError(
                "no such file (JASPAR's matrices are called jaspar, or those of a year jaspar2018)", compare
            )
        known = read_motifs(compare)

    skipped: Counter[str] = Counter()
    if fasta:
        names, found = _of_sites(source, fasta, width, coverage, skipped)
    elif models:
        names, found = _of_models(
            source,
            models,
            width,
            coverage,
            every,
            forward,
            threshold,
            step,
            batch_size,
            device,
            precision,
            threads,
            skipped,
        )
    else:
        if source.removesuffix(".gz").lower().endswith((".bed", ".narrowpeak")):
            raise UsageError(f"{source}: sites of a BED file need their sequence: -f FASTA")
        names, found = _of_labels(source, width, coverage, every, skipped)

    as_bed = (instances or "").removesuffix(".gz").endswith(".bed")

    def text(instance: Instance) -> bytes:
        place = instance.place
        if as_bed:
            name = "_".join(place.name.split())
            return f"{place.chrom}\t{place.start}\t{place.end}\t{name}\t{round(1000 * instance.score)}\t{place.strand}\n".encode()
        return fasta_text(f"{'_'.join(place.name.split())}::{place}", "", instance.sequence)

    piles = {name: InstanceCounts(size) for name, size in names.items()}
    with open_output(instances or os.devnull) as stream:
        for instance in found:
            piles[instance.place.name].add(instance.sequence)
            if instances:
                stream.write(text(instance))
        lost = ", ".join(f"{count:,} {SKIP_REASONS[cause]}" for cause, count in skipped.items())
        made: list[Motif] = []
        for name, pile in piles.items():
            if pile.counts.any():
                made.append(Motif(unique_id(name, [motif.id for motif in made]), pile.counts))
        if not made:
            raise DataError(
                f"no motif can be made: no instance was found{f' ({lost} left out)' if lost else ''}", source
            )
        if lost and strict:
            raise DataError(f"sites left out: {lost}", source)
    if lost:
        logger.warning("sites left out: %s", lost)
    for name, pile in piles.items():
        if not pile.counts.any():
            logger.warning("%s: no instance, no motif", name)
    for motif in made:
        logger.debug("%s: %s instances of %d bp", motif.id, f"{motif.sites:,}", motif.width)

    if output:
        with open_output(output) as stream:
            stream.write((meme_text if form == "meme" else jaspar_text)(made).encode())
    matches = []
    if compare:
        known = known or jaspar_motifs(compare)
        if len(known) < FEW_TARGETS:
            logger.warning(
                "%s: %d motifs are few to compare with, the p-values depend on which they are", compare, len(known)
            )
        matches = [[match for match in row if match.q <= LARGEST_Q] for row in compared(made, known)]
    if logo:  # before the table, whose reader may go away: | head
        plot_logos(logo, made, [row[0] if row else None for row in matches])
    if compare:
        with open_output("-") as stream:
            stream.write(b"query\ttarget\ttarget_name\tp\tE\tq\toffset\toverlap\torientation\n")
            for match in itertools.chain(*matches):
                fields = [match.query.id, match.target.id, match.target.name or match.target.id]
                numbers = [f"{value:.3g}" for value in (match.p, match.e, match.q)]
                stream.write(
                    "\t".join([*fields, *numbers, str(match.offset), str(match.overlap), match.orientation]).encode()
                    + b"\n"
                )


def _of_sites(bed: str, fasta: str, width: int | None, coverage: float, skipped: Counter[str]):
    """Widths of the motifs by name, and their instances, from a BED file of called sites."""
    from statistics import median_low

    from ..errors import DataError
    from ..io.fasta import Genome
    from ..io.intervals import read_bed
    from ..motifs.instances import site_instances

    genome = Genome(fasta)
    sites = list(read_bed(bed))
    if not sites:
        raise DataError("holds no sites", bed)
    spans: dict[str, list[int]] = {}
    for site in sites:
        spans.setdefault(site.name, []).append(site.end - site.start)
    widths = {name: width or median_low(sizes) for name, sizes in spans.items()}
    return widths, site_instances(sites, genome, bed, widths, coverage, skipped)


def _of_models(
    path: str,
    models: tuple[str, ...],
    width: int | None,
    coverage: float,
    every: bool,
    forward: bool,
    threshold: tuple[str, float] | None,
    step: int | None,
    batch_size: int,
    device: str,
    precision: str,
    threads: int | None,
    skipped: Counter[str],
):
    """As `_of_sites`, from FASTA whose bases the models call."""
    import torch

    from ..errors import UsageError
    from ..io.fasta import read_records
    from ..models.device import Runtime
    from ..models.registry import load_models
    from ..motifs.instances import called_instances
    from ..predict.scan import score_records, window_step
    from ..predict.thresholds import base_threshold

    torch.set_num_threads(threads or options.cores())
    runtime = Runtime.choose(device, precision, batch_size)
    loaded = load_models(models, runtime)
    cuts = [base_threshold(threshold, model) for model in loaded]
    names = [model.info.name for model in loaded]
    steps = [window_step(step, model.info) for model in loaded]
    for name, count in Counter(names).items():
        if count > 1:
            raise UsageError(f"{count} models are named {name}: their motifs could not be told apart")

    def found() -> Iterator:
        copies = itertools.tee(read_records(path), len(loaded))
        lanes = [
            score_records(model, records, distance, forward, runtime)
            for model, records, distance in zip(loaded, copies, steps)
        ]
        for scored in zip(*lanes):
            for model, cut, (record, track) in zip(loaded, cuts, scored):
                sites = called_instances(track, cut, width or model.info.site_width, coverage, every)
                yield from _placed(record, sites, model.info.name, skipped)

    return {model.info.name: width or model.info.site_width for model in loaded}, found()


def _of_labels(path: str, width: int | None, coverage: float, every: bool, skipped: Counter[str]):
    """As `_of_sites`, from FASTA with labelled sites."""
    import numpy as np

    from ..motifs.instances import called_instances
    from ..sequence.windows import read_windows, site_width

    windows = read_windows(path, True, 1)
    name = "motif" if path == "-" else os.path.basename(path).split(".")[0]
    width = width or site_width(windows)

    def found() -> Iterator:
        for record, labels in zip(windows.records(), windows.labels):
            sites = called_instances(np.stack([labels, np.zeros_like(labels)]), 0.5, width, coverage, every)
            yield from _placed(record, sites, name, skipped)

    return {name: width}, found()


def _placed(record, sites, name: str, skipped: Counter[str]) -> Iterator:
    """Instances in a record, where the record's name says that they lie."""
    from ..io.intervals import parse_record_name
    from ..motifs.instances import Instance
    from ..sequence.encoding import CODE_LETTERS, reverse_complement

    region = parse_record_name(record.name, len(record.sequence))
    for site in sites:
        sequence = record.sequence[site.start : site.end]
        if sequence.translate(None, CODE_LETTERS):
            skipped["n"] += 1
            continue
        if site.strand == "-":
            sequence = reverse_complement(sequence)
        first = region.start + site.start if region.strand == "+" else region.end - site.end
        strand = "+" if site.strand == region.strand else "-"
        yield Instance(
            region._replace(start=first, end=first + len(sequence), name=name, strand=strand), site.score, sequence
        )
