"""Measure models on labelled windows: six metrics (Luo et al. 2024, section 2.6), over bases and over windows."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from .errors import DataError, UsageError
from .io.fields import path_field
from .log import logger
from .metrics import NAMES, Ranking, bootstrap_intervals
from .models.batching import probabilities_of_models, token_probabilities
from .models.device import Runtime
from .models.interface import DEFAULT_THRESHOLD, Model
from .models.many_factor import Head
from .predict.scan import score_records, window_step
from .predict.threshold_text import Threshold
from .predict.thresholds import base_threshold
from .sequence.encoding import OTHER, bases_from_tokens
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
    """Six metrics at the default threshold, over bases ("nucleotide") and over windows ("sequence").

    Raises
    ------
    UsageError : `windows` is empty, or the model does not accept their length.
    """
    problem = _misfit(model, windows) if len(windows) else "evaluation requires at least one window"
    if problem:
        raise UsageError(problem)
    sequences, tokens = token_probabilities(model, windows.codes, runtime)
    scores = sequences, _base_scores(model, windows, tokens, runtime)
    return _measure(model, windows, scores, data="", threshold=DEFAULT_THRESHOLD).metrics


def _base_scores(model: Model, windows: Windows, tokens: np.ndarray, runtime: Runtime) -> np.ndarray:
    """Base scores from token scores; windows with N are scored as in a scan: each run of ACGT by itself, N 0."""
    scores = bases_from_tokens(tokens, model.info.k)
    rows = np.nonzero((windows.codes == OTHER).any(axis=1))[0]
    step = window_step(None, model.info)
    for row, (_, strands) in zip(rows, score_records(model, windows.take(rows).records(), step, True, runtime)):
        scores[row] = strands[0]
    return scores


def _measure(
    model: Model,
    windows: Windows,
    scores_of_levels: tuple[np.ndarray, np.ndarray],
    *,
    data: str,
    threshold: float,
    bootstrap: Bootstrap | None = None,
    keep_curve: bool = False,
) -> Evaluation:
    """Measure a model on labelled windows.

    Parameters
    ----------
    scores_of_levels : probabilities of the windows, shape (n,), and of their bases, shape (n, window)
    data : name of the data set
    threshold : probability above which a base or a window is called
    keep_curve : see `Evaluation.curve`
    """
    sequences, bases = scores_of_levels
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


class DataSet(NamedTuple):
    """Labelled windows, and the models to measure on them.

    Attributes
    ----------
    path : FASTA file, "-" is standard input
    windows : some of the file; None for all, which are read when they are measured
    """

    path: str
    models: Sequence[Model]
    windows: Windows | None = None


def data_sets(models: Sequence[Model], paths: Sequence[str], *, by_name: bool = False) -> list[DataSet]:
    """Files with the models to measure on them.

    Parameters
    ----------
    by_name : measure the models of a factor on the file that is named after it (`SOX2.fa`, `SOX2.test.fa.gz`), or in
        other files on windows that are (`SOX2::chr1:100-200`); skip other windows, with a warning

    Raises
    ------
    UsageError : `by_name`, and nothing is named after a factor of the models.
    DataError : see `sequence.windows.read_windows`.
    """
    if not by_name:
        return [DataSet(path, models) for path in paths]
    of_factors: dict[str, list[Model]] = {}
    for model in models:
        of_factors.setdefault(_factor(model), []).append(model)
    sets: list[DataSet] = []
    for path in paths:
        chosen = of_factors.get(os.path.basename(path).partition(".")[0])
        sets += [DataSet(path, chosen)] if chosen else _split_by_factor(path, of_factors)
    if not sets:
        raise UsageError("--by-name: neither files nor windows are named after a factor of the models")
    return sets


def _factor(model: Model) -> str:
    """The factor of a model, without the name of its file."""
    head: Head | None = getattr(model, "shared", None)
    return head.factor if head else model.info.name


def _split_by_factor(path: str, of_factors: Mapping[str, Sequence[Model]]) -> list[DataSet]:
    """The windows of each factor in a file."""
    windows = read_windows(path, None, 1)
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(windows.names):
        rows.setdefault(name.rpartition("::")[0], []).append(row)
    skipped = sum(len(found) for factor, found in rows.items() if factor not in of_factors)
    if skipped:
        logger.warning(
            "%s: %d of %d windows skipped: not named after a factor of the models", path, skipped, len(windows)
        )
    return [
        DataSet(path, of_factors[factor], windows.take(np.array(found)))
        for factor, found in rows.items()
        if factor in of_factors
    ]


def evaluate_files(
    sets: Sequence[DataSet],
    runtime: Runtime,
    *,
    threshold: Threshold | None = None,
    bootstrap: Bootstrap | None = None,
    keep_curves: bool = False,
) -> Iterator[Evaluation]:
    """Measure models on files of labelled windows, read only on the given strand, file by file.

    Parameters
    ----------
    sets : see `data_sets`; windows with `site=a-b` in the header have sites
    threshold : see `thresholds.base_threshold`

    Raises
    ------
    UsageError : see `thresholds.base_threshold`.
    DataError : no window with a site, or windows of a length that a model does not accept.
    """
    measured = dict.fromkeys(model for data_set in sets for model in data_set.models)
    thresholds = {model: base_threshold(threshold, model) for model in measured}
    files_of_name = Counter(_data_name(path) for path in dict.fromkeys(path for path, _, _ in sets))
    for path, models, chosen in sets:
        windows = chosen or read_windows(path, None, 1)
        _check_windows(windows, path)
        name = _data_name(path) if files_of_name[_data_name(path)] == 1 else path
        for problem in filter(None, (_misfit(model, windows) for model in models)):
            raise DataError(problem, path)
        for model, (sequences, tokens) in zip(models, probabilities_of_models(models, windows.codes, runtime)):
            yield _measure(
                model,
                windows,
                (sequences, _base_scores(model, windows, tokens, runtime)),
                data=name,
                threshold=thresholds[model],
                bootstrap=bootstrap,
                keep_curve=keep_curves,
            )


def _check_windows(windows: Windows, path: str) -> None:
    if not windows.positive.any():
        problem = "no window has a site (site=a-b in its header, from `bertsnr windows`)"
        raise DataError(f"{problem}; put negatives into one file with positives (cat pos.fa neg.fa)", path)
    unknown = int(windows.labels[windows.codes == OTHER].sum())
    if unknown:
        logger.warning("%s: %s bases in sites are N or another letter and count as missed", path, f"{unknown:,}")
    if windows.positive.all():
        logger.warning(
            "%s: every window has a site, so metrics over windows are meaningless; add negatives (cat pos.fa neg.fa)",
            path,
        )


def _misfit(model: Model, windows: Windows) -> str:
    """What is wrong with the length of windows for a model, or nothing."""
    info, length = model.info, windows.codes.shape[1]
    fits = info.k <= length <= info.window
    return "" if fits else f"windows are {length} bp; the model {info.name} accepts {info.k} to {info.window} bp"


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
