"""`bertsnr evaluate`: models and labelled windows in, metrics out."""

from __future__ import annotations

import os

import click

from . import options


@options.command
@click.argument("data", nargs=-1, required=True, metavar="FASTA…")
@click.option(
    "-m",
    "--model",
    "models",
    multiple=True,
    required=True,
    metavar="MODEL",
    help="Model file, name of a shipped model, or matrices (MEME, JASPAR); repeat to compare several.",
)
@options.output
@click.option(
    "--bootstrap",
    type=click.IntRange(0, 100_000),
    default=0,
    metavar="INT",
    help="Add 95 % intervals from so many resamplings of the windows.",
)
@click.option("--json", "report", metavar="FILE", help="Write the metrics to FILE as JSON too.")
@click.option("--plot", metavar="FILE", help="Draw ROC and precision-recall curves over bases: FILE.png, .pdf or .svg.")
@click.option(
    "--heatmap", metavar="FILE", help="Draw AUPR over bases of every model on every data set: FILE.png, .pdf or .svg."
)
@options.threshold
@options.seed
@options.batch_size
@options.device
@options.precision
@options.threads
def evaluate(
    data: tuple[str, ...],
    models: tuple[str, ...],
    output: str,
    bootstrap: int,
    report: str | None,
    plot: str | None,
    heatmap: str | None,
    threshold: tuple[str, float] | None,
    seed: int,
    batch_size: int,
    device: str,
    precision: str,
    threads: int | None,
) -> None:
    """Measure models on labelled windows.

    Every FASTA is a data set: windows with sites as `bertsnr windows` writes them (site=a-b in the header) and windows without.
    Written is a line for each model and data set: accuracy, precision, recall, F1, AUC and AUPR over bases, then over windows.

    \b
    Examples:
      cat pos.fa neg.fa | bertsnr evaluate -m MYTF.pt -
      bertsnr evaluate -m GATA3 -m CDX2 --bootstrap 1000 --heatmap cross.png gata3.fa cdx2.fa
    """
    from ..errors import DataError, UsageError
    from ..io.files import check_outputs, open_output
    from ..plots.figures import check_plot

    if data.count("-") > 1:
        raise UsageError("standard input can be read only once")
    check_outputs([output, report, plot, heatmap], [*data, *models])
    for path in (plot, heatmap):
        if path:
            check_plot(path)

    import json

    import torch

    from ..log import logger, progress
    from ..metrics import NAMES, Ranking
    from ..metrics import bootstrap as intervals
    from ..models.batching import token_probabilities
    from ..models.device import Runtime
    from ..models.registry import load_models
    from ..plots.figures import plot_curves, plot_matrix
    from ..predict.thresholds import base_threshold
    from ..sequence.encoding import bases_from_tokens
    from ..sequence.windows import read_windows

    torch.set_num_threads(threads or options.cores())
    runtime = Runtime.choose(device, precision, batch_size)
    loaded = load_models(models, runtime)
    cuts = [base_threshold(threshold, model) for model in loaded]
    rows: list[dict] = []
    curves: list[tuple[str, Ranking]] = []
    with progress("evaluating", len(data) * len(loaded), "data sets") as bar:
        for path in data:
            name = (
                "standard input"
                if path == "-"
                else os.path.basename(path).removesuffix(".gz").removesuffix(".fa").removesuffix(".fasta")
            )
            windows = read_windows(path, None, 1)
            if not windows.positive.any():
                raise DataError(
                    "holds no window with a site (site=a-b in its header, as `bertsnr windows` writes it): nothing can be measured",
                    path,
                )
            if windows.positive.all():
                logger.warning(
                    "%s: no window is without a site, so the metrics over windows say little; put negatives into the same file (cat pos.fa neg.fa)",
                    path,
                )
            for model, cut in zip(loaded, cuts):
                length = windows.codes.shape[1]
                if not model.info.k <= length <= model.info.window:
                    raise DataError(
                        f"windows are {length} bp, the model {model.info.name} reads {model.info.k} to {model.info.window} bp",
                        path,
                    )
                sequences, tokens = token_probabilities(model, windows.codes, runtime)
                row = {
                    "model": model.info.name,
                    "data": name,
                    "windows": len(windows),
                    "with_sites": int(windows.positive.sum()),
                }
                for level, labels, scores in (
                    ("nucleotide", windows.labels, bases_from_tokens(tokens, model.info.k)),
                    ("sequence", windows.positive, sequences),
                ):
                    ranking = Ranking(labels, scores, cut)
                    row[level] = ranking.six_metrics()
                    if bootstrap:
                        row[f"{level}_intervals"] = intervals(labels, scores, cut, bootstrap, seed)
                    if level == "nucleotide" and plot:
                        curves.append((f"{model.info.name} on {name}", ranking))
                rows.append(row)
                bar.advance(1)

    columns = ["model", "data", "windows", "with_sites"]
    for level in ("nucleotide", "sequence"):
        for metric in NAMES:
            columns += [
                f"{level}_{metric}",
                *([f"{level}_{metric}_low", f"{level}_{metric}_high"] if bootstrap else []),
            ]
    if report:
        with open_output(report) as stream:
            stream.write(json.dumps({"version": 1, "results": rows}, indent=2).encode() + b"\n")
    if plot:
        plot_curves(plot, curves)
    if heatmap:
        values = [[row["nucleotide"]["aupr"] for row in rows[at :: len(loaded)]] for at in range(len(loaded))]
        plot_matrix(
            heatmap,
            [model.info.name for model in loaded],
            [row["data"] for row in rows[:: len(loaded)]],
            values,
            "AUPR over bases",
        )
    with open_output(output) as stream:  # last: its reader may go away
        stream.write(("\t".join(columns) + "\n").encode())
        for row in rows:
            fields = [str(row[column]) for column in columns[:4]]
            for level in ("nucleotide", "sequence"):
                for metric in NAMES:
                    values = [row[level][metric], *(row[f"{level}_intervals"][metric] if bootstrap else ())]
                    fields += [f"{value:.4f}" for value in values]
            stream.write(("\t".join(fields) + "\n").encode())
