"""A scan as JSON: counts, thresholds and versions, in a form that MultiQC shows, too."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import __version__
from ..io.outputs import write_json
from .scan import Scanner

VERSION = 1  # of the keys
MOST_BARS = 20  # factors that are shown one by one


def write_scan_report(path: str, scanner: Scanner, sites: Mapping[str, int], run: Mapping[str, Any]) -> None:
    """Write the report.

    Parameters
    ----------
    scanner : after the scan
    sites : number of sites of each model by name
    run : further facts, such as the command and its duration

    Raises
    ------
    DataError : the file cannot be written.
    """
    shown = _multiqc(path, [model.info.name for model in scanner.models], sites)
    write_json(path, {"version": VERSION, **run, **scan_report(scanner, sites), **shown})


def scan_report(scanner: Scanner, sites: Mapping[str, int]) -> dict[str, Any]:
    """Counts, thresholds and versions as plain values; see `write_scan_report`."""
    stats = scanner.stats
    versions = {"bertsnr_tools": __version__, "python": platform.python_version()}
    return {
        "versions": versions | {"numpy": np.__version__, "torch": torch.__version__},
        "regions": stats.regions,
        "unscored_regions": stats.unscored,
        "acgt_bases": stats.acgt_bases,
        "sites": sum(sites.values()),
        "models": [
            {
                "name": model.info.name,
                "matrix": model.info.matrix,
                "k": model.info.k,
                "window": model.info.window,
                "site_width": model.info.site_width,
                "package_version": model.info.package_version,
                "base_threshold": rule.base_threshold,
                "call_level": rule.lowest_call_level,
                "max_q": rule.max_q,
                "sites": sites.get(model.info.name, 0),
            }
            for model, rule in zip(scanner.models, scanner.rules)
        ],
    }


def _multiqc(path: str, names: Sequence[str], sites: Mapping[str, int]) -> dict[str, Any]:
    """What MultiQC expects of a file `SAMPLE_mqc.json`: it draws the sites of all samples as one bar chart."""
    sample = Path(path).name.removesuffix(".json").removesuffix("_mqc")
    counts = {name: sites.get(name, 0) for name in names}
    return {
        "id": "bertsnr_sites",
        "section_name": "bertsnr predict",
        "description": "Transcription factor binding sites called in each sample.",
        "plot_type": "bargraph",
        "pconfig": {"id": "bertsnr_sites_plot", "title": "bertsnr predict: binding sites", "ylab": "Sites"},
        "data": {sample: counts if len(names) <= MOST_BARS else {"sites": sum(counts.values())}},
    }
