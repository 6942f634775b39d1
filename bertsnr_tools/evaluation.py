"""Measure models on labelled windows: six metrics (Luo et al. 2024, section 2.6), over bases and over windows."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .errors import DataError
from .io.fields import path_field
from .log import logger
from .metrics import NAMES, Ranking, bootstrap_intervals
from .models.batching import token_probabilities
from .models.device import Runtime
from .models.interface import DEFAULT_THRESHOLD, Model
from .predict.thresholds import Threshold, base_threshold
from .sequence.encoding import bases_from_tokens
from .sequence.windows import Windows, read_windows

EVALUATION_BATCH = 64  # small enough for the cache of a CPU
LEVELS = ("nucleotide", "sequence")  # over bases; over windows


class Bootstrap(NamedTuple):
    """How 95 % intervals are computed: number of resamplings of the windows, and random seed."""

    replicates: int
    seed: int = 1


@dataclass
class Evaluation:
    """The metrics of one model on one data set.

    Attributes
    ----------
    model, data : names
    windows, with_sites : number of windows, and of windows with a site
    metrics : by level (`LEVELS`) and name (`metrics.NAMES`)
    intervals : in the same way, low and high of the 95 % interval; empty without bootstrap
    curve : ranking of the bases, for ROC and precision-recall curves; None unless requested, because it is large
    """

    model: str
    data: str
    windows: int
    with_sites: int
    metrics: dict[str, dict[str, float]]
    intervals: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)
    curve: Ranking | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        row: dict[str, Any] = {name: getattr(self, name) for name in ("model", "data", "windows", "with_sites")}
        for level in LEVELS:
            row[level] = self.metrics[level]
            if self.intervals:
                row[f"{level}_intervals"] = self.intervals[level]
        return row


def evaluate(model: Model, windows: Windows, runtime: Runtime) -> dict[str, dict[str, float]]:
    """Six metrics at the default threshold, over bases ("nucleotide") and over windows ("sequence")."""
    return evaluate_windows(model, windows, runtime, data="", threshold=DEFAULT_THRESHOLD).metrics


def evaluate_windows(
    model: Model,
    windows: Windows,
    runtime: Runtime,
    *,
    data: str,
    threshold: float,
    bootstrap: Bootstrap | None = None,
    keep_curve: bool = False,
) -> Evaluation:
    """Measure a model on labelled windows, read only on the given strand.

    Parameters
    ----------
    data : name of the data set
    threshold : probability above which a base or a window is called
    keep_curve : see `Evaluation.curve`
    """
    sequences, tokens = token_probabilities(model, windows.codes, runtime)
    bases = bases_from_tokens(tokens, model.info.k)
    metrics, intervals, curve = {}, {}, None
    for level, labels, scores in (("nucleotide", windows.labels, bases), ("sequence", windows.positive, sequences)):
        ranking = Ranking(labels, scores, threshold)
        metrics[level] = ranking.six_metrics()
        if bootstrap:
            intervals[level] = bootstrap_intervals(labels, scores, threshold, *bootstrap)
        if keep_curve and level == "nucleotide":
            curve = ranking
    counts = len(windows), int(windows.positive.sum())
    return Evaluation(model.info.name, data, *counts, metrics, intervals, curve)


def evaluate_files(
    models: Sequence[Model],
    paths: Sequence[str],
    runtime: Runtime,
    *,
    threshold: Threshold | None = None,
    bootstrap: Bootstrap | None = None,
    keep_curves: bool = False,
) -> Iterator[Evaluation]:
    """Measure every model on every file of labelled windows, file by file.

    Parameters
    ----------
    paths : FASTA files, "-" is standard input; windows with `site=a-b` in the header have sites
    threshold : see `thresholds.base_threshold`

    Raises
    ------
    UsageError : see `thresholds.base_threshold`.
    DataError : no window with a site, or windows of a length that a model does not accept.
    """
    thresholds = [base_threshold(threshold, model) for model in models]
    data_names = [_data_name(path) for path in paths]
    for path, data_name in zip(paths, data_names):
        windows = _read_data_set(path)
        name = path if data_names.count(data_name) > 1 else data_name
        for model, cut in zip(models, thresholds):
            _check_length(model, windows, path)
            yield evaluate_windows(
                model, windows, runtime, data=name, threshold=cut, bootstrap=bootstrap, keep_curve=keep_curves
            )


def _read_data_set(path: str) -> Windows:
    windows = read_windows(path, None, 1)
    if not windows.positive.any():
        raise DataError("no window has a site (site=a-b in its header); make windows with `bertsnr windows`", path)
    if windows.positive.all():
        logger.warning(
            "%s: every window has a site, so metrics over windows are meaningless; add negatives (cat pos.fa neg.fa)",
            path,
        )
    return windows


def _check_length(model: Model, windows: Windows, path: str) -> None:
    info, length = model.info, windows.codes.shape[1]
    if not info.k <= length <= info.window:
        raise DataError(f"windows are {length} bp; the model {info.name} accepts {info.k} to {info.window} bp", path)


def _data_name(path: str) -> str:
    if path == "-":
        return "standard input"
    return os.path.basename(path).removesuffix(".gz").removesuffix(".fa").removesuffix(".fasta")


def table_lines(evaluations: Sequence[Evaluation]) -> Iterator[str]:
    """A tab-separated table: a header and a line for each evaluation; intervals follow their metric as two columns."""
    ends = ("", "_low", "_high") if any(evaluation.intervals for evaluation in evaluations) else ("",)
    columns = [f"{level}_{name}{end}" for level in LEVELS for name in NAMES for end in ends]
    yield "\t".join(["model", "data", "windows", "with_sites", *columns]) + "\n"
    for row in evaluations:
        fields = [row.model, path_field(row.data), str(row.windows), str(row.with_sites)]
        for level in LEVELS:
            for name in NAMES:
                values = [row.metrics[level][name], *(row.intervals[level][name] if row.intervals else ())]
                fields += [f"{value:.4f}" for value in values]
        yield "\t".join(fields) + "\n"
