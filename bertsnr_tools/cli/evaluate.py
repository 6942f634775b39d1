"""`bertsnr evaluate`: models and labelled windows in, metrics out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from . import options

if TYPE_CHECKING:
    from ..evaluation import Evaluation


@options.command
@click.argument("data", nargs=-1, required=True, metavar="FASTA…")
@options.models(required=True)
@click.option(
    "--by-name",
    is_flag=True,
    help="Evaluate a factor only on the file named after it (TF.fa), or on its windows (TF::chrom:start-end).",
)
@options.output
@click.option(
    "--bootstrap",
    type=click.IntRange(0, 100_000),
    default=0,
    metavar="INT",
    help="Add 95 % intervals from INT bootstrap samples of the windows.",
)
@click.option("--json", "report", metavar="FILE", help="Also write the metrics to FILE as JSON.")
@click.option(
    "--plot", metavar="FILE", help="Plot ROC and precision-recall curves over bases to FILE.png, .pdf or .svg."
)
@click.option(
    "--heatmap",
    metavar="FILE",
    help="Plot the AUPR over bases of each model on each data set to FILE.png, .pdf or .svg.",
)
@options.threshold
@options.seed("--bootstrap")
@options.runtime()
def evaluate(
    data: tuple[str, ...],
    models: tuple[str, ...],
    by_name: bool,
    output: str,
    bootstrap: int,
    report: str | None,
    plot: str | None,
    heatmap: str | None,
    threshold: tuple[str, float] | None,
    seed: int,
    runtime: options.RuntimeOptions,
) -> None:
    """Evaluate models on labelled windows.

    Each FASTA file is a data set: windows with sites, as written by `bertsnr windows` (site=a-b in the header), and
    windows without sites. Output is a tab-separated table with one line for each model and data set: accuracy,
    precision, recall, F1, AUC and AUPR over bases, then over windows.

    \b
    Examples:
      cat pos.fa neg.fa | bertsnr evaluate -m MYTF.pt -
      bertsnr evaluate -m GATA3 -m CDX2 --bootstrap 1000 --heatmap cross.png gata3.fa cdx2.fa
      bertsnr evaluate -m human --by-name test/*.fa
    """
    from ..errors import UsageError
    from ..io.files import check_inputs, check_outputs, open_output
    from ..models.registry import find_model, load_models
    from ..plots.style import check_plot

    if by_name and heatmap:
        raise UsageError("--heatmap shows every model on every data set; leave out --by-name")
    check_inputs(*data)
    check_outputs([output, report, plot, heatmap], [*data, *map(find_model, models)])
    for path in (plot, heatmap):
        if path:
            check_plot(path)

    from ..evaluation import Bootstrap, data_sets, evaluate_files, table_lines
    from ..io.outputs import Failures, write_json
    from ..log import progress

    device_runtime = runtime.build()
    loaded = load_models(models, device_runtime)
    resampling = Bootstrap(bootstrap, seed) if bootstrap else None
    sets = data_sets(loaded, data, by_name=by_name)
    measured = evaluate_files(sets, device_runtime, threshold=threshold, bootstrap=resampling, keep_curves=bool(plot))
    evaluations = []
    with progress("evaluating", sum(len(data_set.models) for data_set in sets), "data sets") as bar:
        for evaluation in measured:
            evaluations.append(evaluation)
            bar.advance(1)
    with Failures(output, report, plot, heatmap) as failures:
        if report:
            rows = [evaluation.as_dict() for evaluation in evaluations]
            with failures.kept():
                write_json(report, {"version": 1, "results": rows})
        if plot:
            with failures.kept():
                _plot_curves(plot, evaluations)
        if heatmap:
            with failures.kept():
                _plot_matrix(heatmap, [model.info.name for model in loaded], evaluations)
        with failures.kept(), open_output(output) as stream:  # last: its reader may go away
            stream.write("".join(table_lines(evaluations)).encode())


def _plot_curves(path: str, evaluations: list[Evaluation]) -> None:
    from ..plots.curves import plot_curves

    plot_curves(path, [(f"{row.model} on {row.data}", row.curve) for row in evaluations if row.curve])


def _plot_matrix(path: str, names: list[str], evaluations: list[Evaluation]) -> None:
    """Every model on every data set."""
    from ..plots.heatmaps import plot_matrix

    auprs = [row.metrics["nucleotide"]["aupr"] for row in evaluations]
    matrix = [auprs[at :: len(names)] for at in range(len(names))]
    plot_matrix(path, names, [row.data for row in evaluations[:: len(names)]], matrix, "AUPR over bases")
