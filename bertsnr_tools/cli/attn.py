"""`bertsnr attn`: sequence and a model in, attention out."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from . import options

if TYPE_CHECKING:
    import numpy as np

    from ..io.fasta import Record
    from ..io.motif_files import Motif
    from ..models.bertsnr import BertSNR
    from ..models.device import Runtime

LONGEST = 500  # bases of a record whose layers and heads are shown


@options.command
@click.argument("sequences", metavar="FASTA")
@click.option("-m", "--model", metavar="MODEL", required=True, help="Model file, or the name of a shipped model.")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="Write the values to FILE.  [default: standard output, unless another output is asked for]",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["bedgraph", "tsv"]),
    default="bedgraph",
    help="A line for each stretch of one value, or a row for each record.",
)
@click.option("--bigwig", metavar="FILE", help="Write the values as bigWig.")
@click.option("--layer", type=click.IntRange(1), metavar="INT", help="Layer, counted from 1.  [default: the last]")
@click.option("--head", type=click.IntRange(1), metavar="INT", help="Head, counted from 1.  [default: the sum of all]")
@click.option(
    "--plot",
    metavar="FILE",
    help="Draw one record over its letters, or many aligned ones as a heat map: FILE.png, .pdf or .svg.",
)
@click.option(
    "--motif",
    metavar="MEME",
    help="Draw this motif below the one record of --plot: the one named as the model, or the only one.",
)
@click.option("--plot-layers", metavar="FILE", help="Draw all layers and heads of one record: FILE.png, .pdf or .svg.")
@click.option("--html", metavar="FILE", help="Write one page to explore all layers and heads of one record.")
@options.step
@options.batch_size
@options.device
@options.precision
@options.threads
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
    batch_size: int,
    device: str,
    precision: str,
    threads: int | None,
) -> None:
    """Show which bases a model attends to.

    The attention from the [CLS] token, on which the decision for the whole sequence rests, to the k-mers is summed over the
    heads of a layer; a base gets the mean over the k-mers that cover it. FASTA (- is standard input) is read in its own
    direction; records named chrom:from-to are placed on their chromosome.

    \b
    Examples:
      bertsnr attn -m CTCF peaks.fa > attention.bedgraph
      bertsnr attn -m CTCF --plot map.png windows.fa
      bertsnr attn -m CTCF --html explore.html one.fa
    """
    from ..errors import UsageError
    from ..io.files import check_outputs
    from ..io.tracks import check_bigwig
    from ..plots.figures import check_plot

    others = [bigwig, plot, plot_layers, html]
    output = output or (None if any(others) else "-")
    check_outputs([output, *others], [sequences, model, motif])
    if motif and not plot:
        raise UsageError("--motif is drawn by --plot FILE")
    for path in (plot, plot_layers):
        if path:
            check_plot(path, logos=bool(motif))
    if bigwig:
        check_bigwig(bigwig)

    import torch

    from ..attention import attend, layers_and_heads
    from ..errors import DataError
    from ..io.fasta import read_records
    from ..io.files import open_output
    from ..io.motif_files import read_meme
    from ..io.tracks import BigWig
    from ..log import progress
    from ..models.device import Runtime
    from ..models.registry import load_models
    from ..predict.scan import window_step

    known = read_meme(motif) if motif else []
    torch.set_num_threads(threads or options.cores())
    runtime = Runtime.choose(device, precision, batch_size)
    loaded = load_models([model], runtime)[0]
    numbers = layers_and_heads(loaded)
    for name, value, most in zip(("--layer", "--head"), (layer, head), numbers):
        if value and value > most:
            raise UsageError(f"{name} {value}: the model {loaded.info.name} has {most}")
    step = window_step(step, loaded.info)

    scored = attend(
        loaded,
        read_records(sequences),
        step,
        layer - 1 if layer else -1,
        head - 1 if head else None,
        runtime,
    )
    kept: list[tuple[Record, np.ndarray]] = []
    count = 0
    with open_output(output or os.devnull) as stream, progress("attending", None, "records") as bar:
        for count, (record, values) in enumerate(scored, 1):
            if output:
                stream.write((_row if form == "tsv" else _lines)(record, values, count == 1).encode())
            if plot or bigwig or not kept:
                kept.append((record, values))
            if form == "tsv" and len(values) != len(kept[0][1]):
                raise DataError(
                    f"record {record.name!r} is {len(values)} bp, the rows of a table need one length, here {len(kept[0][1])} bp",
                    sequences,
                )
            bar.advance(1)
        shown = " and ".join(option for option, path in (("--plot-layers", plot_layers), ("--html", html)) if path)
        if count > 1 and (shown or motif):
            raise DataError(
                f"holds {count:,} records, {shown or '--motif'} can show one: samtools faidx cuts one out", sequences
            )
        if len(kept[0][1]) > LONGEST and shown:
            raise DataError(
                f"record {kept[0][0].name!r} is {len(kept[0][1]):,} bp, {shown} can show up to {LONGEST}: samtools faidx cuts a piece out",
                sequences,
            )
    if bigwig:
        file = BigWig(bigwig)
        for record, values in kept:
            file.add(*_forward(record, values))
        file.write()
    what = f"attention from [CLS], layer {layer or numbers[0]}, {f'head {head}' if head else 'all heads'}"
    if plot and count > 1:
        _draw_many(
            plot,
            f"{loaded.info.name}: {'standard input' if sequences == '-' else os.path.basename(sequences)}",
            kept,
            sequences,
            what,
        )
    elif plot or plot_layers or html:
        _draw_one(plot, plot_layers, html, *kept[0], loaded, known, motif, step, runtime, what)


def _forward(record: Record, values: np.ndarray) -> tuple[str, int, np.ndarray]:
    """Chromosome and start of a record, and its values in forward order."""
    from ..io.intervals import parse_record_name

    place = parse_record_name(record.name, len(record.sequence))
    return place.chrom, place.start, values if place.strand == "+" else values[::-1]


def _lines(record: Record, values: np.ndarray, first: bool) -> str:
    from ..io.tracks import bedgraph_lines

    return bedgraph_lines(*_forward(record, values))


def _row(record: Record, values: np.ndarray, first: bool) -> str:
    head = "\t".join(["name", *map(str, range(1, len(values) + 1))]) + "\n" if first else ""
    return head + "\t".join([record.name, *(f"{value:.6g}" for value in values.tolist())]) + "\n"


def _draw_many(path: str, title: str, kept: list[tuple[Record, np.ndarray]], sequences: str, what: str) -> None:
    """A heat map, aligned at the labelled sites where every record has one, else at the first base."""
    from ..attention import align_rows
    from ..errors import DataError
    from ..plots.figures import plot_heatmap
    from ..sequence.windows import labelled_sites

    sites = [labelled_sites(record, sequences) for record, _ in kept]
    rows = [values for _, values in kept]
    if all(sites):
        matrix, first = align_rows(rows, [spans[0][0] for spans in sites])
        plot_heatmap(path, title, matrix, first, "bp from the first base of the labelled site", what)
        return
    if len({len(values) for values in rows}) > 1:
        raise DataError(
            "records of several lengths without labelled sites (site=a-b) cannot be drawn below each other", sequences
        )
    plot_heatmap(path, title, align_rows(rows, [0] * len(rows))[0], 1, "position in the sequence (bp)", what)


def _draw_one(
    plot: str | None,
    plot_layers: str | None,
    html: str | None,
    record: Record,
    values: np.ndarray,
    model: BertSNR,
    known: list[Motif],
    motif: str | None,
    step: int,
    runtime: Runtime,
    what: str,
) -> None:
    """The pictures and the page of one record, with the sites that the model calls in it."""
    from ..attention import all_attention
    from ..errors import DataError
    from ..io.files import open_output
    from ..plots import figures
    from ..plots.attention_page import attention_page
    from ..predict.calling import MAX_GAP, call_sites, min_site_length
    from ..predict.scan import score_records
    from ..sequence.encoding import encode

    info = model.info
    named = [one for one in known if info.name in (one.id, one.name)] or known
    if len(named) > 1:
        raise DataError(f"holds {len(named)} motifs, and not one alone is named {info.name}", motif)
    _, track = next(score_records(model, [record], step, True, runtime))
    sites = [
        (site.start, site.end)
        for site in call_sites(track, info.threshold, min_site_length(info.site_width, info.k), MAX_GAP)
    ]
    title = f"{info.name}: {record.name}"
    if plot:
        figures.plot_profile(plot, title, record.sequence, values, sites, what, named[0] if named else None)
    if plot_layers or html:
        attention = all_attention(model, encode(record.sequence), runtime)
        if plot_layers:
            figures.plot_layers(plot_layers, title, attention)
        if html:
            with open_output(html) as stream:
                stream.write(attention_page(title, record.sequence, info.k, sites, attention).encode())
