"""Sites in accessible regions, scored by motif and surroundings: how likely is the factor bound (`AccessibleSites`)?

The surroundings of a site are read around the nearest center; a long region has several centers. Coordinates are
0-based, half-open.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np
import torch

from ..errors import UsageError
from ..io.intervals import Interval
from ..log import logger
from ..models.batching import FactorScorer
from ..models.binding import BindingHeads, feature_count, motif_scores
from ..models.interface import Model
from ..models.many_factor import ManyFactorModel, general_model
from ..sequence.background import merge_intervals
from ..sequence.encoding import CODE_LETTERS, OTHER, encode, reverse_complement_codes
from .calling import CalledSite
from .model_scan import Called
from .significance import NullDistribution, log_odds
from .threshold_text import Threshold
from .thresholds import CallingRule
from .tiling import Tiler

READ = 250  # bp around a center that the model reads
CENTER_DISTANCE = 150  # bp of a region for each center: DNase-seq peaks of 150 bp were trained on
COMPOSITION = (200, 1000)  # bp around the center of which the composition is a feature
REACHES = (500, 1000, 5000)  # bp around the center of which the accessible fraction is a feature
MOST_CENTERS = 4096  # whose odds are kept
CANDIDATE_P = 0.1  # p-value of sites, by motif alone, that are scored
LARGEST_LOGIT = 16.0  # beyond, float32 probabilities are 0 or 1
_CG = tuple(CODE_LETTERS.index(letter) for letter in b"CG")


class Sequences(Protocol):
    """What is read of a genome."""

    @property
    def lengths(self) -> Mapping[str, int]:
        """Chromosome lengths (bp)."""

    def fetch(self, chrom: str, start: int, end: int) -> bytes:
        """Bases [start, end)."""


class Center(NamedTuple):
    """A position on a chromosome, in whose surroundings sites are scored."""

    chrom: str
    position: int


class AccessibleBases:
    """Which bases are accessible.

    Parameters
    ----------
    regions : in any order, may overlap
    """

    def __init__(self, regions: Iterable[Interval]):
        self._spans = merge_intervals(regions)
        self._sums = {chrom: np.append(0, np.cumsum(np.diff(spans)[:, 0])) for chrom, spans in self._spans.items()}

    def before(self, chrom: str, position: int) -> int:
        """Number of accessible bases before a position."""
        spans = self._spans.get(chrom)
        if spans is None:
            return 0
        at = int(np.searchsorted(spans[:, 0], position, side="right"))
        beyond = max(0, int(spans[at - 1, 1]) - position) if at else 0
        return int(self._sums[chrom][at]) - beyond

    def __contains__(self, where: tuple[str, int]) -> bool:
        chrom, position = where
        return self.before(chrom, position + 1) > self.before(chrom, position)


class Surroundings:
    """The features of surroundings, for `BindingHeads`.

    * for each factor of the model, the logit of its sequence head, the mean over windows of the `READ` bp and strands
    * for each motif of the heads, the bits of its best match in these windows
    * for each of `COMPOSITION`, the fraction of G and C, and of CpG
    * for each of `REACHES`, the fraction of accessible bases, the last as log(1 + 10 x)

    Each center is scored on its own, so that its features do not depend on other centers.
    """

    def __init__(
        self,
        model: ManyFactorModel,
        motifs: torch.Tensor,
        genome: Sequences,
        accessible: AccessibleBases,
        precision: str,
    ):
        self._model, self._motifs, self._genome, self._accessible = model, motifs, genome, accessible
        self._scorer = FactorScorer(model, precision)

    def __call__(self, centers: Sequence[Center]) -> np.ndarray:
        """float64, shape (n, D); NaN where unknown."""
        rows = [np.concatenate([*self._scores(self._codes(center, READ)), self.scalars(center)]) for center in centers]
        return np.array(rows).reshape(len(rows), feature_count(len(self._model.infos), len(self._motifs)))

    def _codes(self, center: Center, size: int) -> np.ndarray:
        start, end = center.position - size // 2, center.position + size // 2
        known = encode(self._genome.fetch(center.chrom, max(0, start), min(self._genome.lengths[center.chrom], end)))
        return np.pad(known, (max(0, -start), size - len(known) - max(0, -start)), constant_values=OTHER)

    def _scores(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores of the sequence heads (F,) and of motifs (M,); NaN where no window is known."""
        windows = known_windows(self._model.info.window, codes)
        if not len(windows):
            return np.full(len(self._model.infos), np.nan), np.full(len(self._motifs), np.nan)
        both = np.concatenate([windows, reverse_complement_codes(windows)])
        logits = self._scorer(both, len(both), lambda _, sequences, __: sequences.cpu().numpy())
        return np.concatenate(logits).mean(axis=0, dtype=np.float64), motif_scores(self._motifs, windows).max(axis=0)

    def scalars(self, center: Center) -> np.ndarray:
        """The features other than scores."""
        values = []
        for size in COMPOSITION:
            codes = self._codes(center, size)
            c, g = (codes == code for code in _CG)
            known = np.count_nonzero(codes < OTHER) or np.nan
            values += [float(np.count_nonzero(c | g) / known), float(np.count_nonzero(c[:-1] & g[1:]) / known)]
        for reach in REACHES:
            low, high = (self._accessible.before(center.chrom, center.position + side * reach // 2) for side in (-1, 1))
            values.append((high - low) / reach)
        values[-1] = float(np.log1p(10 * values[-1]))
        return np.array(values)


def known_starts(window: int, codes: np.ndarray) -> np.ndarray:
    """Where windows of A, C, G and T start as a scan cuts them, but only whole ones, shape (n,)."""
    return Tiler(window, window // 2, window).feed(codes, True).starts


def known_windows(window: int, codes: np.ndarray) -> np.ndarray:
    """The windows of `known_starts`, shape (n, window)."""
    return codes[known_starts(window, codes)[:, None] + np.arange(window)]


def clipped(logits: np.ndarray) -> np.ndarray:
    """Logits within the range that probabilities in float32 resolve."""
    return np.clip(logits, -LARGEST_LOGIT, LARGEST_LOGIT)


class _Head(NamedTuple):
    """The binding head of a scanned factor: its model, the heads of this model, its row in them, its threshold."""

    model: ManyFactorModel
    heads: BindingHeads
    row: int
    threshold: float


class AccessibleSites:
    """Scores sites by motif and surroundings, and keeps those in accessible regions that are likely to be bound.

    Parameters
    ----------
    models : factors of many-factor models; those without a binding head are left out
    threshold : a "probability" of being bound, "p" or "q", and its value; None is each factor's default
    regions : accessible regions of the genome

    Attributes
    ----------
    models, rules : what to scan with, and which sites by motif alone are scored; the heads were trained on sites of the
        `general_model`
    nulls : of each model, in accessible sequence
    regions : the accessible regions

    Raises
    ------
    UsageError : no model has a binding head, or the threshold is of another kind.
    """

    def __init__(
        self,
        models: Sequence[Model],
        threshold: Threshold | None,
        genome: Sequences,
        regions: Sequence[Interval],
        precision: str,
    ):
        self.models, self.regions = _with_heads(models), regions
        kind, value = threshold or ("", 0.0)
        if kind == "score":
            raise UsageError(f"-t score={value:g}: expected a probability, p=P or q=Q with --accessible")
        self.nulls: list[NullDistribution] = []
        self.rules: list[CallingRule] = []
        self._heads: list[_Head] = []
        for model in self.models:
            many = model.shared.model  # type: ignore[attr-defined]
            heads: BindingHeads = many.binding
            row = heads.factors.index(model.shared.factor)  # type: ignore[attr-defined]
            null = NullDistribution.from_dict(heads.nulls[row], model.info.name)
            cut = value if kind == "probability" else null.threshold(value) if kind else heads.thresholds[row]
            candidates = max(CANDIDATE_P, value) if kind in ("p", "q") else CANDIDATE_P
            rule = CallingRule.for_model(model, ("p", candidates))
            self.nulls.append(null)
            self.rules.append(CallingRule(rule.base_threshold, rule.min_call_level, value if kind == "q" else 1.0))
            self._heads.append(_Head(many, heads, row, cut))
        self._accessible = AccessibleBases(regions)
        self._centers = centers(regions)
        self._features = {
            head.model: Surroundings(head.model, head.heads.motifs, genome, self._accessible, precision)
            for head in self._heads
        }
        self._odds: dict[tuple[ManyFactorModel, Center], np.ndarray] = {}  # of recent centers
        self._candidates = self._called = self._outside = 0

    def rescored(self, called: Sequence[Called]) -> list[Called]:
        """The sites that are likely to be bound; score and call level are the probability of being bound."""
        return [chunk._replace(sites=self._rescored(chunk.sites)) for chunk in called]

    def _rescored(self, sites: Sequence[CalledSite]) -> list[CalledSite]:
        inside = [site for site in sites if (site.chrom, (site.start + site.end) // 2) in self._accessible]
        if len(self._odds) > MOST_CENTERS:
            self._odds.clear()
        kept = []
        for site, odds in zip(inside, clipped(log_odds(np.array([site.call_level for site in inside])))):
            head = self._heads[site.model]
            total = self._surroundings_odds(head, site)[head.row] + float(head.heads.slope[head.row]) * odds
            bound = float(1 / (1 + np.exp(-total)))
            if bound > head.threshold:
                kept.append(site._replace(score=bound, call_level=bound))
        self._candidates, self._called = self._candidates + len(inside), self._called + len(kept)
        self._outside += len(sites) - len(inside)
        return kept

    def _surroundings_odds(self, head: _Head, site: CalledSite) -> np.ndarray:
        center = Center(site.chrom, nearest(self._centers[site.chrom], (site.start + site.end) // 2))
        if (head.model, center) not in self._odds:
            features = self._features[head.model]([center])
            self._odds[head.model, center] = head.heads.surroundings_log_odds(features)[0]
        return self._odds[head.model, center]

    def report(self) -> None:
        """Report how many sites were called inside, and left out outside."""
        counts = (f"{count:,}" for count in (len(self.regions), self._candidates, self._called, self._outside))
        logger.info("%s accessible regions; %s sites inside by motif alone, %s called; %s outside left out", *counts)


def _with_heads(models: Sequence[Model]) -> list[Model]:
    """The factors that have a binding head, as their `general_model`; a message states how many have none."""
    found: list[Model] = []
    for model in models:
        many, head = general_model(model), getattr(model, "shared", None)
        if head and many and many.binding and head.factor in many.binding.factors:
            of_general = model if head.model is many else many.factor_named(head.factor)
            of_general.info = replace(of_general.info, name=model.info.name)
            found.append(of_general)
    names = ", ".join(model.info.name for model in models[:3])
    if not found:
        names += ", …" if len(models) > 3 else ""
        raise UsageError(f"--accessible: {names}: no binding head; choose factors that have one (see `bertsnr models`)")
    if len(found) < len(models):
        problem = "%s of %s factors have no binding head and are left out (see `bertsnr models`)"
        logger.warning(problem, len(models) - len(found), len(models))
    return found


def centers(regions: Iterable[Interval]) -> dict[str, np.ndarray]:
    """The centers of regions, ascending, by chromosome: one for about each `CENTER_DISTANCE` bp."""
    found: dict[str, set[int]] = {}
    for region in regions:
        length = region.end - region.start
        count = max(1, round(length / CENTER_DISTANCE))
        of_chrom = found.setdefault(region.chrom, set())
        of_chrom.update(region.start + (2 * number + 1) * length // (2 * count) for number in range(count))
    return {chrom: np.array(sorted(of_chrom)) for chrom, of_chrom in found.items()}


def nearest(ascending: np.ndarray, position: int) -> int:
    """The nearest of several positions; the first of two equally near ones."""
    at = int(np.searchsorted(ascending, position))
    around = ascending[max(0, at - 1) : at + 1]
    return int(around[np.abs(around - position).argmin()])
