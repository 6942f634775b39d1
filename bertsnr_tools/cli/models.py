"""`bertsnr models`: what models are, in a table."""

from __future__ import annotations

import click

from . import options

COLUMNS = (
    "model",
    "k",
    "window",
    "site_width",
    "threshold",
    "positives",
    "natural",
    "nucleotide_aupr",
    "sequence_aupr",
    "p_values",
    "prefilter",
    "file",
)


@options.command
@click.argument("names", nargs=-1, metavar="[MODEL]…")
@options.output
def models(names: tuple[str, ...], output: str) -> None:
    """List the models that come with the package, or describe model files.

    Written is a table (TSV): name, bases in a token, length of the windows and median width of the sites it learned from, the base
    probability it calls at, how many positive and natural windows it learned from, its areas under the precision-recall curve over bases
    and over windows on its validation windows, whether it knows p-values and has a prefilter, and its file. What is not known is a dash.

    \b
    Examples:
      bertsnr models
      bertsnr models MYTF.pt | column -t
    """
    from ..io.files import check_output, open_output
    from ..models.files import load_model
    from ..models.registry import find_model, shipped_models

    check_output(output, list(names))
    files = [find_model(name) for name in names or shipped_models()]
    with open_output(output) as stream:
        stream.write(("\t".join(COLUMNS) + "\n").encode())
        for file in files:
            info = load_model(file).info
            data, measured = info.training.get("data", {}), info.training.get("validation", {})
            auprs = [measured.get(level, {}).get("aupr") for level in ("nucleotide", "sequence")]
            counts = [str(data.get(kind, "-")) for kind in ("positives", "natural")]
            row = [info.name, str(info.k), str(info.window), str(info.site_width), f"{info.threshold:g}", *counts]
            row += ["-" if value is None else f"{value:.4f}" for value in auprs]
            stream.write(
                (
                    "\t".join([*row, "yes" if info.null else "no", "yes" if info.prefilter else "no", file]) + "\n"
                ).encode()
            )
