"""`bertsnr attn`: sequence and a model in, attention out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import click

from . import options

if TYPE_CHECKING:
    from ..attention import HeadChoice, Profile
    from ..io.motif_files import Motif
    from ..models.bertsnr import BertSNR
    from ..models.device import Runtime


class Figures(NamedTuple):
    """Names of the outputs that show one record; None for those not requested."""

    plot: str | None
    plot_layers: str | None
    html: str | None

    @property
    def map_options(self) -> str:
        """The requested options that show all layers and heads."""
        return " and ".join(name for name, path in (("--plot-layers", self.plot_layers), ("--html", self.html)) if path)


@options.command
@click.argument("sequences", metavar="FASTA")
@click.option(
    "-m", "--model", metavar="MODEL", required=True, help="Model file, or name of a shipped model; of one factor."
)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="Write the values to FILE.  [default: standard output; none if another output is given]",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["bedgraph", "tsv"]),
    default="bedgraph",
    help="Write a line for each run of equal values, or a table with a row for each record.",
)
@click.option("--bigwig", metavar="FILE", help="Write the values as bigWig.")
@click.option("--layer", type=click.IntRange(1), metavar="INT", help="Layer, counted from 1.  [default: the last]")
@click.option("--head", type=click.IntRange(1), metavar="INT", help="Head, counted from 1.  [default: the sum of all]")
@click.option(
    "--plot",
    metavar="FILE",
    help="Plot one record over its letters, or several aligned ones as a heat map, to FILE.png, .pdf or .svg.",
)
@click.option(
    "--motif",
    metavar="MEME",
    help="With --plot of one record: draw a motif below it, the one named like the model or the only one.",
)
@click.option(
    "--plot-layers", metavar="FILE", help="Plot all layers and heads of one record to FILE.png, .pdf or .svg."
)
@click.option("--html", metavar="FILE", help="Write an interactive page of all layers and heads of one record.")
@options.step
@options.runtime()
def attn(
    sequences: str,
    model: str,
    output: str | None,
    form: str,
    bigwig: str | None,
    layer: int | None,
    head: int | None,
    plot: str | None,
    motif: str | None,
    plot_layers: str | None,
    html: str | None,
    step: int | None,
    runtime: options.RuntimeOptions,
) -> None:
    """Show which bases a model attends to.

    Output is the attention from [CLS], the token from which the sequence score is computed, to each k-mer, summed over
    the heads of a layer. The value of a base is the mean over the k-mers that cover it. FASTA (- is standard input) is
    read on the forward strand; values of records named chrom:from-to are reported in chromosome coordinates.

    \b
    Examples:
      bertsnr attn -m CTCF peaks.fa > attention.bedgraph
      bertsnr attn -m CTCF --plot map.png windows.fa
      bertsnr attn -m CTCF --html explore.html one.fa
    """
    from ..errors import UsageError
    from ..io.files import check_inputs, check_outputs
    from ..io.tracks import check_bigwig
    from ..models.registry import find_model, load_one
    from ..plots.style import check_plot

    figures = Figures(plot, plot_layers, html)
    output = output or (None if bigwig or any(figures) else "-")
    check_inputs(sequences, motif)
    check_outputs([output, bigwig, *figures], [sequences, find_model(model), motif])
    if motif and not plot:
        raise UsageError("--motif requires --plot FILE")
    for path in filter(None, (plot, plot_layers)):
        check_plot(path, logos=bool(motif))
    if bigwig:
        check_bigwig(bigwig)

    from ..attention import HeadChoice, attention_profiles, only_profile, profile_writer, require_attention
    from ..io.fasta import read_records
    from ..io.motif_files import read_motif
    from ..io.outputs import Failures
    from ..log import progress
    from ..predict.scan import window_step

    built = runtime.build()
    loaded = require_attention(load_one(model, built))
    choice = HeadChoice.for_model(loaded, layer, head)
    step = window_step(step, loaded.info)
    logo = read_motif(motif, loaded.info.name) if motif else None
    profiles = attention_profiles(loaded, read_records(sequences, unique=True), choice, step, built)
    maps = figures.map_options
    if maps or motif:
        profiles = only_profile(profiles, maps or "--motif", sequences, as_map=bool(maps))
    kept: list[Profile] = []
    with Failures(output, bigwig, *figures) as failures:
        writer = profile_writer(output, form, bigwig, sequences, failures)
        with writer as write, progress("attention", None, "records") as bar:
            for profile in profiles:
                write(profile)
                if any(figures):
                    kept.append(profile)
                bar.advance(1)
        for draw in _drawings(figures, kept, sequences, loaded, choice, logo, step, built) if kept else ():
            with failures.kept():
                draw()


def _drawings(
    figures: Figures,
    profiles: Sequence[Profile],
    path: str,
    model: BertSNR,
    choice: HeadChoice,
    motif: Motif | None,
    step: int,
    runtime: Runtime,
) -> Iterator[Callable[[], None]]:
    """Functions that draw: several profiles as a heat map, or one with the sites that the model calls, and its page."""
    from ..attention import align_profiles, attention_maps, called_spans
    from ..plots.attention_page import write_attention_page
    from ..plots.heatmaps import plot_heatmap, plot_layers
    from ..plots.profiles import plot_profile
    from ..sequence.encoding import encode

    if len(profiles) > 1 and figures.plot:
        source = "standard input" if path == "-" else os.path.basename(path)
        aligned = align_profiles(profiles, path)
        yield partial(plot_heatmap, figures.plot, f"{model.info.name}: {source}\n{choice.title}", *aligned)
        return
    record, values = profiles[0]
    title = f"{model.info.name}: {record.name}"
    sites = called_spans(model, record, step, runtime)
    if figures.plot:
        yield partial(plot_profile, figures.plot, f"{title}\n{choice.title}", record.sequence, values, sites, motif)
    if figures.map_options:
        maps = attention_maps(model, encode(record.sequence), runtime)
        if figures.plot_layers:
            yield partial(plot_layers, figures.plot_layers, title, maps)
        if figures.html:
            yield partial(write_attention_page, figures.html, title, record.sequence, model.info.k, sites, maps)
