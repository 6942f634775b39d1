"""Score changes with models: one pass for all factors of a many-factor model (`VariantScorer`)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..errors import UsageError
from ..models.device import Runtime
from ..models.interface import Model, ModelInfo
from ..models.many_factor import ManyFactorModel, shared_model
from ..models.pwm import PwmModel
from ..predict.factor_scan import FactorSignalScan
from ..predict.model_scan import ModelScan, ScannedModel, ScanPart
from ..predict.prefilter import check_prefilter, passing_windows
from ..predict.scan import window_step
from ..predict.threshold_text import Threshold
from ..predict.thresholds import CallingRule
from ..predict.tiling import Tiler, Tiles, window_batches
from ..sequence.encoding import OTHER, encode, reverse_complement_codes
from .alleles import AllelePair, Change, Layout, SequenceSource, allele_pair
from .effects import CLASSES, NONE, Limits, Measures, measure
from .nulls import stored_null

DEFAULT_FLANK, MAX_FLANK = 10, 1000  # bp
MAX_SCORES = 1 << 24  # base scores in memory, of all factors and both strands; bounds a block
MAX_BLOCK = 1 << 18  # bases of sequences in a block
WIDTHS_OF_CONTEXT = 2  # matches of a PWM do not depend on sequence around them; room for matches that overlap


class Effect(NamedTuple):
    """What a change does to the best site of one factor.

    Attributes
    ----------
    factor : name of the model
    kind : "gain", "loss", "stronger", "weaker", "moved" or "none", see `effects.measure`
    ref_score, alt_score : call level of each allele over the fixed bounds, in [0, 1]; NaN if the prefilter rules out
        a site in either allele
    change : of the log odds (natural logarithm), alternative minus reference
    p : fraction of random substitutions with at least this change; None where the model has no null distribution
    start, end : fixed bounds on the chromosome, 0-based, half-open
    strand : of the site, in the allele where it is stronger
    ref_start, ref_end : best site of the reference allele
    alt_start, alt_end : best site of the alternative allele, as bases of the reference
    """

    factor: str
    kind: str
    ref_score: float
    alt_score: float
    change: float
    p: float | None
    start: int
    end: int
    strand: str
    ref_start: int
    ref_end: int
    alt_start: int
    alt_end: int


def context_of(model: Model, flank: int) -> int:
    """Bases of the reference on either side of a change that its alleles are scored with.

    A substitution and its context fill one window, so that all windows of both alleles see the change.
    """
    info: ModelInfo = model.info
    if isinstance(model, PwmModel):
        return WIDTHS_OF_CONTEXT * info.site_width + flank
    return max((info.window - 1) // 2, flank + info.window // 4)


@dataclass
class _Group:
    """Models that read the same windows, with their limits and their number in the scan."""

    models: list[ScannedModel]
    part: ScanPart
    context: int
    prefilter: bool

    @property
    def by_min_length(self) -> list[tuple[int, list[int]]]:
        """Minimum site length, and the indices of the models that have it."""
        lengths = [model.min_length for model in self.models]
        return [(one, [at for at, length in enumerate(lengths) if length == one]) for one in sorted(set(lengths))]


class VariantScorer:
    """Scores changes with several models.

    Parameters
    ----------
    models : one or several
    threshold : what is called, see `thresholds.parse_threshold`; None is each model's own
    flank : sites up to this far from the change are considered (bp)
    prefilter : score only changes of which an allele has a window that passes the model's prefilter

    Attributes
    ----------
    names : of the models
    nulls : null distribution of each model's changes; None for none. Those of PWMs: see `substitutions.pwm_null`
    context : bases of the reference on either side of a change that are read, at most
    block_bases : bases of sequences, of both alleles, that are scored together at most

    Raises
    ------
    UsageError : see `CallingRule.for_model` and `prefilter.check_prefilter`.
    """

    def __init__(
        self,
        models: Sequence[Model],
        runtime: Runtime,
        *,
        threshold: Threshold | None = None,
        flank: int = DEFAULT_FLANK,
        prefilter: bool = False,
    ):
        if not 0 <= flank <= MAX_FLANK:
            raise UsageError(f"flank is {flank}; expected 0 to {MAX_FLANK} bp")
        if threshold and threshold[0] == "q":
            raise UsageError(f"threshold q={threshold[1]:g}: changes have no q-values; expected a probability or p=P")
        self.names = [model.info.name for model in models]
        self.flank, self._runtime = flank, runtime
        rules = [CallingRule.for_model(model, threshold) for model in models]
        if prefilter:
            for model, rule in zip(models, rules):
                check_prefilter(model, rule)
        scanned = [ScannedModel(index, model, rule) for index, (model, rule) in enumerate(zip(models, rules))]
        self._groups = [self._group(list(members), prefilter) for members in _grouped(scanned)]
        self.nulls = [stored_null(model, flank) for model in models]
        self.context = max(group.context for group in self._groups)
        factors = max(len(group.models) for group in self._groups)
        self.block_bases = min(MAX_BLOCK, MAX_SCORES // (2 * factors))

    def _group(self, models: list[ScannedModel], prefilter: bool) -> _Group:
        first = models[0].model
        step = window_step(None, first.info)
        part: ScanPart
        if shared_model(first):
            part = FactorSignalScan(models, step, self._runtime)
        else:
            part = ModelScan(models[0], step, self._runtime)
        return _Group(models, part, context_of(first, self.flank), prefilter)

    def score(self, genome: SequenceSource, changes: Sequence[Change]) -> list[list[Effect | None]]:
        """For each change, its effect on each model, in the order of the models; None where no window can be scored."""
        effects: list[list[Effect | None]] = [[None] * len(self.names) for _ in changes]
        for context, groups in itertools.groupby(self._groups, lambda group: group.context):
            pairs = [allele_pair(genome, change, context) for change in changes]
            for group in groups:
                self._score_group(group, changes, pairs, effects)
        return effects

    def _score_group(
        self, group: _Group, changes: Sequence[Change], pairs: list[AllelePair], effects: list[list[Effect | None]]
    ) -> None:
        """Fill in the effects on the models of a group."""
        chosen = list(range(len(pairs)))
        if group.prefilter:
            chosen = self._passing_pairs(group.models[0], changes, pairs, effects)
        if not chosen:
            return
        tiles, numbers = _distinct_windows([pairs[at] for at in chosen], group.models[0].model.info)
        scores = _base_scores(group, tiles)
        by_layout: dict[Layout, list[int]] = {}
        for row, at in enumerate(chosen):
            by_layout.setdefault(pairs[at].layout, []).append(row)
        for layout, rows in by_layout.items():
            members = [chosen[row] for row in rows]
            starts = [pairs[at].start for at in members]
            for min_length, models in group.by_min_length:
                if min(layout.ref_length, layout.alt_length) < min_length:
                    continue
                ref, alt = (
                    np.stack([scores[model][numbers[row][allele]] for model in models for row in rows])
                    for allele in (0, 1)
                )
                measures = measure(ref, alt, layout, _limits(group, models, self.flank, min_length, len(rows)))
                self._fill(measures, [group.models[model].index for model in models], members, starts, effects)

    def _passing_pairs(
        self,
        model: ScannedModel,
        changes: Sequence[Change],
        pairs: list[AllelePair],
        effects: list[list[Effect | None]],
    ) -> list[int]:
        """The pairs of which an allele passes the prefilter; fill in the effects on the others."""
        tiles, numbers = _distinct_windows(pairs, model.model.info)
        passing = _passing(model.model, tiles, self._runtime)
        chosen = []
        for at, alleles in enumerate(numbers):
            if any(passing[number] for number in alleles):
                chosen.append(at)
            elif all(len(tiles[number].starts) for number in alleles):
                effects[at][model.index] = _no_site(model.model.info.name, changes[at])
        return chosen

    def _fill(
        self,
        measures: Measures,
        owners: list[int],
        members: list[int],
        starts: list[int],
        effects: list[list[Effect | None]],
    ) -> None:
        """Turn measures, model by model, into effects."""
        offsets = np.tile(starts, len(owners))
        scored = ((measures.ref_level > 0) & (measures.alt_level > 0)).tolist()
        columns = [
            measures.ref_level,
            measures.alt_level,
            measures.change,
            measures.strand,
            *(np.asarray(column) + offsets for column in (measures.start, measures.end, *measures[-4:])),
        ]
        rows = zip(scored, measures.kind.tolist(), *(column.tolist() for column in columns))
        for owner in owners:
            name, null = self.names[owner], self.nulls[owner]
            own = list(itertools.islice(rows, len(members)))
            p = null.p_values(np.array([row[4] for row in own])).tolist() if null else [None] * len(own)
            for at, row, p_value in zip(members, own, p):
                any_score, kind, ref, alt, change, strand, start, end, *sites = row
                if any_score:
                    bounds = start, end, "+-"[strand]
                    effects[at][owner] = Effect(name, CLASSES[kind], ref, alt, change, p_value, *bounds, *sites)


def _grouped(models: list[ScannedModel]) -> list[list[ScannedModel]]:
    """The factors of a many-factor model together, in the order of their first."""
    groups: dict[ManyFactorModel | int, list[ScannedModel]] = {}
    for model in models:
        groups.setdefault(shared_model(model.model) or model.index, []).append(model)
    return list(groups.values())


def _distinct_windows(pairs: Sequence[AllelePair], info: ModelInfo) -> tuple[list[Tiles], list[tuple[int, int]]]:
    """The windows of each distinct sequence, because changes share references; and the two numbers of each pair."""
    number: dict[bytes, int] = {}
    numbers = [(number.setdefault(ref, len(number)), number.setdefault(alt, len(number))) for _, ref, alt, _ in pairs]
    return [_windows(sequence, info) for sequence in number], numbers


def _windows(sequence: bytes, info: ModelInfo) -> Tiles:
    """The windows of a whole sequence, as in a scan; a sequence of one window does without a `Tiler`."""
    codes = encode(sequence)
    length = len(codes)
    if info.k <= length <= info.window and codes.max() < OTHER:
        first = np.zeros(1, dtype=int)
        return Tiles(0, length, codes, 0, first, first + length, np.array([[0, length]]))
    return Tiler(info.window, window_step(None, info), info.k).feed(codes, True)


def _limits(group: _Group, models: Iterable[int], flank: int, min_length: int, repeats: int) -> Limits:
    """The limits of each row: models in order, each for all members of a layout."""
    rules = [group.models[model].rule for model in models]
    base = np.array([rule.base_threshold for rule in rules], dtype=np.float32)  # scores are compared as float32
    level = np.maximum(base, np.array([rule.min_call_level for rule in rules]))
    return Limits(flank, min_length, np.repeat(base, repeats), np.repeat(level, repeats))


def _base_scores(group: _Group, tiles: list[Tiles]) -> list[list[np.ndarray]]:
    """For each model, the base scores of each sequence, shape (2, length), 0 where there are none."""
    scored = group.part.score(tiles)
    of_models = scored if isinstance(group.part, FactorSignalScan) else [scored]
    return [[np.nan_to_num(chunk.strand_scores) for chunk in of_model] for of_model in of_models]


def _passing(model: Model, tiles: list[Tiles], runtime: Runtime) -> np.ndarray:
    """Which sequences have a window that passes the prefilter on either strand, bool, shape (n,)."""
    passing = np.zeros(len(tiles), dtype=bool)
    for batch in window_batches(tiles):
        mirrored = batch.codes.shape[1] - batch.cores[:, ::-1]
        for codes, cores in ((batch.codes, batch.cores), (reverse_complement_codes(batch.codes), mirrored)):
            passing[batch.tiles[passing_windows(model, codes, cores, runtime)]] = True
    return passing


def _no_site(name: str, change: Change) -> Effect:
    """The effect of a change that the prefilter rules out."""
    own = change.edits[change.focal]
    own_span = own.start, own.end
    return Effect(name, CLASSES[NONE], math.nan, math.nan, math.nan, None, *own_span, ".", *own_span, *own_span)
