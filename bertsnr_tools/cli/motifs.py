"""`bertsnr motifs`: called sites or called sequences in, motifs out."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import click

from . import options

if TYPE_CHECKING:
    from ..io.motif_files import Motif
    from ..motifs.instances import InstanceRule
    from ..motifs.sources import InstanceSource

COVERAGE, ALIGNED = 0.8, 2


@options.command
@click.argument("source", metavar="BED|FASTA")
@options.fasta
@options.models("Call the bases of FASTA with this model or motif file, one motif for each factor; may be repeated.")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="Write the motifs to FILE.  [default: standard output; with --compare, whose table goes there, none]",
)
@click.option(
    "--discover",
    is_flag=True,
    help="Discover the motif that best distinguishes the sequences in FASTA, such as those around the summits of "
    "peaks, from their dinucleotide shuffles.",
)
@click.option(
    "--width",
    type=click.IntRange(3, 1000),
    metavar="BP",
    help="Width of the motifs.  [default: the median site width in the model's training, in BED by name, or in the "
    "labels]",
)
@click.option(
    "--coverage",
    type=click.FloatRange(0, 1, min_open=True),
    default=COVERAGE,
    metavar="FRACTION",
    help="Minimum fraction of an instance that must be called.",
)
@click.option("--every", is_flag=True, help="Use every instance in a sequence, not only one.")
@click.option(
    "--align",
    type=click.IntRange(0, 1000),
    default=ALIGNED,
    metavar="BP",
    help="Move instances by up to BP to where they agree; 0 leaves them in the middle of the calls.",
)
@click.option("--forward", is_flag=True, help="Score only the forward strand of FASTA records.")
@options.threshold
@options.step
@click.option(
    "--format",
    "form",
    type=click.Choice(["meme", "jaspar"]),
    default="meme",
    help="Write probabilities (meme) or counts (jaspar).",
)
@click.option("--instances", metavar="FILE", help="Write the instances to FILE.bed or FILE.fa, optionally .gz.")
@click.option(
    "--logo",
    metavar="FILE",
    help="Plot the logos to FILE.png, .pdf or .svg; with --compare, aligned with their best matches.",
)
@click.option(
    "--compare",
    metavar="FILE|jaspar|jasparYEAR",
    help="Print a table of similar motifs from a MEME or JASPAR file, or from the vertebrate motifs of the latest or "
    "another JASPAR release.",
)
@options.seed("--discover")
@options.strict
@options.runtime()
def motifs(
    source: str,
    fasta: str | None,
    models: tuple[str, ...],
    output: str | None,
    discover: bool,
    width: int | None,
    coverage: float,
    every: bool,
    align: int,
    forward: bool,
    threshold: tuple[str, float] | None,
    step: int | None,
    form: str,
    instances: str | None,
    logo: str | None,
    compare: str | None,
    seed: int,
    strict: bool,
    runtime: options.RuntimeOptions,
) -> None:
    """Make motifs from called sites, or discover one.

    Input is BED of called sites with their sequence (-f: a genome, or the scanned FASTA), one motif for each name; or
    FASTA, called by a model (-m) or labelled by `bertsnr windows`. - is standard input. Each sequence gives one
    instance: the first stretch of which at least --coverage is called, trimmed to the motif's width around its middle.
    From 20 instances on, each moves by up to --align bp to where it agrees with the others.

    With --discover, neither sites nor a model is required: the motif of FASTA is the one that best tells its sequences
    from their dinucleotide shuffles. It is a start for `predict -m`.

    \b
    Examples:
      bertsnr predict -m CTCF -m YY1 -f hg38.fa -b promoters.bed | bertsnr motifs -f hg38.fa - > out.meme
      bertsnr motifs -m CTCF --logo ctcf.png --compare jaspar -o ctcf.meme peaks.fa
      bertsnr motifs --discover --compare jaspar -o found.meme summits.fa
    """
    from ..errors import UsageError
    from ..io.files import check_inputs, check_outputs, open_output
    from ..io.motif_files import write_motifs
    from ..io.outputs import Failures
    from ..models.registry import find_model
    from ..motifs import comparison
    from ..motifs.discovery import discover as count_motifs
    from ..motifs.instances import InstanceRule, check_instance_file, instance_writer
    from ..plots.logos import plot_logos
    from ..plots.style import check_plot

    of_model = {"--forward": forward, "-t": threshold is not None, "-s": step}
    if discover:
        given = {"-f": fasta, "-m": models, "--width": width, "--coverage": coverage != COVERAGE, "--every": every}
        _check_discover(given | of_model | {"--align": align != ALIGNED, "--instances": instances})
    elif not models and any(of_model.values()):
        raise UsageError(f"{', '.join(filter(of_model.get, of_model))}: only with a model; add -m MODEL")
    if fasta and models:
        raise UsageError("-f and -m exclude each other: the sites in a BED file are already called")
    output = output or (None if compare else "-")
    target_file = compare if compare and not comparison.is_jaspar(compare) else None
    check_outputs([output, instances, logo], [source, fasta, target_file, *map(find_model, models)])
    check_inputs(*(path for path in (source, compare) if path == "-"))  # others: by those who read them
    check_instance_file(instances)
    if logo:
        check_plot(logo, logos=True)
    targets = comparison.load_targets(compare) if compare else []

    rule = InstanceRule(width, coverage, every, align)
    called = None if discover else _open_source(source, fasta, models, rule, threshold, step, forward, runtime)
    with Failures(output, instances, logo, compare) as failures:
        with instance_writer(instances, failures) as write:
            made = count_motifs(called, write=write, strict=strict) if called else [_discover(source, seed, strict)]
        if output:
            with failures.kept():
                write_motifs(output, made, form=form)
        matches = comparison.compare(made, targets, max_q=comparison.MAX_Q) if compare else []
        if logo:  # before the table, whose reader may close the pipe
            with failures.kept():
                plot_logos(logo, made, [row[0] if row else None for row in matches])
        if compare:
            with failures.kept(), open_output("-") as stream:
                stream.write(comparison.comparison_table(itertools.chain(*matches)).encode())


def _check_discover(others: dict[str, Any]) -> None:
    """Reject the options for called sites."""
    from ..errors import UsageError

    given = [option for option, value in others.items() if value]
    if given:
        raise UsageError(f"--discover reads sequences without called sites; leave out {', '.join(given)}")


def _discover(path: str, seed: int, strict: bool) -> Motif:
    """The motif of sequences against their shuffles, named after the file."""
    from ..errors import UsageError
    from ..io.fasta import read_records
    from ..motifs.denovo import discover_denovo
    from ..motifs.sources import name_of_file

    if path.removesuffix(".gz").lower().endswith((".bed", ".narrowpeak")):
        raise UsageError(f"{path}: --discover reads FASTA; extract 100 to 200 bp around each summit")
    return discover_denovo(read_records(path), name_of_file(path), seed=seed, strict=strict, path=path).motif


def _open_source(
    path: str,
    fasta: str | None,
    models: tuple[str, ...],
    rule: InstanceRule,
    threshold: tuple[str, float] | None,
    step: int | None,
    forward: bool,
    runtime: options.RuntimeOptions,
) -> InstanceSource:
    """The source of instances: called sites in a genome, models over FASTA, or labelled windows."""
    from ..io.fasta import Genome
    from ..motifs.sources import LabelSource, SiteSource

    if fasta:
        return SiteSource.read(path, Genome(fasta), rule)
    if not models:
        return LabelSource.read(path, rule)

    from ..io.fasta import read_records
    from ..models.registry import load_models
    from ..motifs.model_source import BaseCaller, ModelSource

    built = runtime.build()
    callers = [BaseCaller.for_model(model, threshold, step, forward) for model in load_models(models, built)]
    return ModelSource(read_records(path, unique=True), callers, rule, built, path)
