"""`bertsnr models`: models in, a table of their properties out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from . import options

if TYPE_CHECKING:
    from ..models.interface import ModelInfo

SHIPPED = "models.json"  # beside the shipped weights: their rows, so that torch is not imported


@options.command
@click.argument("names", nargs=-1, metavar="[MODEL]…")
@options.output
def models(names: tuple[str, ...], output: str) -> None:
    """List the shipped models, or describe model files.

    Output is a table (TSV): name, k (bases per token), window length, median width of the training sites, base
    probability above which bases are called, number of positive and of background windows in training, AUPR over bases
    and over windows of the validation data, whether the model reports p-values, whether it has a prefilter, and its
    file. Unknown values are -.

    \b
    Examples:
      bertsnr models
      bertsnr models MYTF.pt | column -t
    """
    import json
    from pathlib import Path

    from ..io.fields import path_field
    from ..io.files import check_output, open_output
    from ..models.registry import WEIGHTS, find_model, shipped_models

    files = [find_model(name) for name in names or shipped_models()]
    check_output(output, files)
    shipped: dict[str, dict[str, str]] = json.loads((WEIGHTS / SHIPPED).read_text())
    rows = []
    for file in files:
        row = shipped[Path(file).stem] if Path(file).parent == WEIGHTS else _read_properties(file)
        rows.append(row | {"file": path_field(file)})
    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    with open_output(output) as stream:
        stream.write_all(("\t".join(line) + "\n").encode() for line in lines)


def _read_properties(file: str) -> dict[str, str]:
    from ..models.files import load_model

    return properties(load_model(file).info)


def properties(info: ModelInfo) -> dict[str, str]:
    """The columns of a model except its file, as text."""
    data, metrics = info.training.get("data", {}), info.training.get("validation", {})
    auprs = {level: metrics.get(level, {}).get("aupr") for level in ("nucleotide", "sequence")}
    return {
        "model": info.name,
        "k": str(info.k),
        "window": str(info.window),
        "site_width": str(info.site_width),
        "threshold": f"{info.threshold:g}",
        "positives": str(data.get("positives", "-")),
        "natural": str(data.get("background", data.get("natural", "-"))),  # the name in files of 0.1.0
        **{f"{level}_aupr": "-" if value is None else f"{value:.4f}" for level, value in auprs.items()},
        "p_values": "yes" if info.null else "no",
        "prefilter": "yes" if info.prefilter else "no",
    }
