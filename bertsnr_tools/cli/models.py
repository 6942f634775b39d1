"""`bertsnr models`: models in, a table of their properties out."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from . import options

if TYPE_CHECKING:
    from ..models.interface import Model

WEAK, GOOD = 0.8, 0.9  # AUPR over bases of the validation data: below the first weak, from the second on good
FEW = 20  # validation windows below which a high AUPR may be chance


@options.command
@click.argument("names", nargs=-1, metavar="[MODEL|TEXT]…")
@options.output
def models(names: tuple[str, ...], output: str) -> None:
    """List the shipped models, or describe model files.

    TEXT lists the shipped models whose factor or JASPAR matrix contains it, ignoring case. Output is a table (TSV):
    factor, k (bases per token), window length, median width of the training sites, default threshold (`predict -t`),
    number of positive and of background windows in training, AUPR over bases and over windows of the
    validation data, whether the model reports p-values, whether it has a prefilter, JASPAR matrix, quality (weak, fair
    or good, by the AUPR over bases; few: too few validation windows to tell), whether it has a binding head, which
    `predict --accessible` requires, and file. Unknown values are -.

    \b
    Examples:
      bertsnr models
      bertsnr models sox | column -t
      bertsnr models MYTF.pt
    """
    from ..io.fields import path_field
    from ..io.files import check_output, open_output
    from ..models.registry import shipped_table

    shipped = _with_files(shipped_table())
    rows = [row for name in names for row in described(name)] if names else list(shipped.values())
    check_output(output, [row["file"] for row in rows])
    lines = [list(rows[0]), *([*row.values()][:-1] + [path_field(row["file"])] for row in rows)]
    with open_output(output) as stream:
        stream.write_all(("\t".join(line) + "\n").encode() for line in lines)


def table_of_models() -> str:
    """The content of `registry.TABLE`, from the shipped model files."""
    import json

    from ..models.files import load_factors
    from ..models.registry import find, shipped_files

    table = {}
    for file in shipped_files():
        for model in load_factors(find(file).path):
            name = f"{file}:{model.info.name}" if getattr(model, "shared", None) else file
            table[name] = properties(model)
    return json.dumps(table, indent=2) + "\n"


def _with_files(table: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    """The table of the shipped models with the path of each: models of one factor first."""
    from ..models.registry import WEIGHTS

    ordered = sorted(table.items(), key=lambda item: ":" in item[0])
    return {name: row | {"file": str(WEIGHTS / f"{name.partition(':')[0]}.pt")} for name, row in ordered}


def described(name: str) -> list[dict[str, str]]:
    """The rows of the shipped models that contain a text, or else of a model file.

    Raises
    ------
    DataError : neither; see `registry.find`.
    """
    from ..models.registry import shipped_files, shipped_table

    shipped = _with_files(shipped_table())
    if ":" not in name and not (os.path.isfile(name) and name not in shipped_files()):
        text = name.casefold()
        found = [row for row in shipped.values() if text in row["model"].casefold() or text in row["matrix"].casefold()]
        if found:
            return found
    return model_rows(name)


def model_rows(name: str) -> list[dict[str, str]]:
    """The rows of the models that a name stands for; errors: see `registry.find`."""
    from ..models.registry import find, shipped_table

    choice = find(name)
    rows = [row for row in _with_files(shipped_table()).values() if row["file"] == choice.path]
    if not rows:
        return [row | {"file": choice.path} for row in _read_properties(name)]
    return [row for row in rows if choice.factors is None or row["model"] in choice.factors]


def _read_properties(name: str) -> list[dict[str, str]]:
    from ..models.device import Runtime
    from ..models.registry import load_models

    return [properties(model) for model in load_models([name], Runtime())]


def properties(model: Model) -> dict[str, str]:
    """The columns of a model except its file, as text."""
    from ..models.many_factor import general_model, shared_model
    from ..predict.thresholds import FACTOR_P

    info, many = model.info, general_model(model)
    binding = many is not None and many.binding is not None and info.name in many.binding.factors
    data, metrics = info.training.get("data", {}), info.training.get("validation", {})
    auprs = {level: metrics.get(level, {}).get("aupr") for level in ("nucleotide", "sequence")}
    return {
        "model": info.name,
        "k": str(info.k),
        "window": str(info.window),
        "site_width": str(info.site_width),
        "threshold": f"p={FACTOR_P:g}" if shared_model(model) and info.null else f"{info.threshold:g}",
        "positives": str(data.get("positives", "-")),
        "background": str(data.get("background", data.get("natural", "-"))),  # the name in files of 0.1.0
        **{f"{level}_aupr": "-" if value is None else f"{value:.4f}" for level, value in auprs.items()},
        "p_values": "yes" if info.null or info.is_pwm else "no",
        "prefilter": "yes" if info.prefilter else "no",
        "matrix": info.matrix or "-",
        "quality": _quality(auprs["nucleotide"], data.get("validation")),
        "binding": "yes" if binding else "no",
    }


def _quality(aupr: float | None, windows: int | None) -> str:
    if aupr is None:
        return "-"
    if aupr < WEAK:
        return "weak"
    if windows is not None and windows < FEW:
        return "few"
    return "fair" if aupr < GOOD else "good"
