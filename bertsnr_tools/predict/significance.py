"""p-values of sites against a null distribution, and q-values over everything that was scanned (`rank_sites`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.functional import pad

from ..errors import DataError, UsageError
from ..metrics import q_values
from ..models.batching import FactorScorer, base_probabilities, sigmoid
from ..models.device import Runtime
from ..models.interface import Model, ModelInfo
from ..models.many_factor import ManyFactorModel
from ..models.pwm import DEFAULT_P, PwmModel
from ..sequence.encoding import reverse_complement_codes
from ..sequence.windows import Windows
from .calling import MAX_GAP, CalledSite, call_levels, min_site_length

TAIL_SCORES = 200  # highest scores of the null distribution, to which its tail is fitted
KNOTS = 400  # points of the null distribution that are kept
MIN_BACKGROUND = 1000  # background windows below which a model gets no p-values
UNKNOWN = -1.0  # -log10 p and -log10 q in narrowPeak where they are not known


class RankedSite(NamedTuple):
    """A called site with its significance.

    Attributes
    ----------
    log_odds : natural logarithm of the odds of its call level
    neg_log10_p, neg_log10_q : -log10 of p- and q-value; `UNKNOWN` where the model has no null distribution, and q until
        everything is scanned
    summit : see `calling.Site`
    """

    site: CalledSite
    log_odds: float
    neg_log10_p: float
    neg_log10_q: float
    summit: int

    @property
    def chrom(self) -> str:
        return self.site.chrom

    @property
    def start(self) -> int:
        """First base, 0-based."""
        return self.site.start

    @property
    def end(self) -> int:
        """Position after the last base."""
        return self.site.end

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.site.name

    @property
    def score(self) -> float:
        """Mean base probability, in [0, 1]."""
        return self.site.score

    @property
    def strand(self) -> str:
        return self.site.strand

    @property
    def p(self) -> float | None:
        """p-value; None where the model has no null distribution."""
        return None if self.neg_log10_p == UNKNOWN else 10.0**-self.neg_log10_p

    def as_dict(self) -> dict[str, Any]:
        """Chromosome, start, end, name, score, strand, log odds, p, q and summit, for a row of a table."""
        names = "chrom start end name score strand log_odds p q summit".split()
        return {name: getattr(self, name) for name in names}

    @property
    def q(self) -> float | None:
        """q-value (false discovery rate); None where it is not known."""
        return None if self.neg_log10_q == UNKNOWN else 10.0**-self.neg_log10_q


def rank_sites(
    sites: Sequence[CalledSite],
    nulls: Sequence[NullDistribution | PwmNull | None],
    *,
    bases: int | None = None,
    regions: int = 0,
    max_q: float = 1.0,
    others: Sequence[CalledSite] = (),
) -> list[RankedSite]:
    """Sites with p-values and, when everything is scanned, q-values (Benjamini and Hochberg 1995), model by model.

    Parameters
    ----------
    sites : of all models
    nulls : null distribution of each model, None where it has none
    bases : A, C, G and T scanned; None when more is to be scanned: q is not known
    regions : regions scanned; one shorter than a window is a test, too
    max_q : leave out sites with a higher q-value
    others : further sites, which count for q-values only

    Returns
    -------
    list in the order of the sites
    """
    called = [*sites, *others]
    levels = np.array([site.call_level for site in called])
    odds = log_odds(levels)
    neg_log10_p, neg_log10_q = np.full((2, len(called)), UNKNOWN)
    models = np.array([site.model for site in called], dtype=int)
    by_model = np.argsort(models, kind="stable")
    bounds = np.searchsorted(models[by_model], np.arange(len(nulls) + 1)).tolist()
    for null, first, last in zip(nulls, bounds, bounds[1:]):
        if null is None or first == last:
            continue
        of_model = by_model[first:last]
        neg_log10_p[of_model] = null.neg_log10_p(levels[of_model])
        if bases is not None:
            tests = max(null.n_tests(bases), regions, len(of_model))  # a window may have several sites
            q = q_values(10.0 ** -neg_log10_p[of_model], tests)
            with np.errstate(divide="ignore"):
                neg_log10_q[of_model] = np.minimum(-np.log10(q), 999.0) + 0.0
    chosen = neg_log10_q[: len(sites)] >= -np.log10(max_q)
    kept = np.nonzero(chosen)[0].tolist() if max_q < 1 else range(len(sites))
    return [RankedSite(sites[i], odds[i], neg_log10_p[i], neg_log10_q[i], sites[i].summit) for i in kept]


def window_call_levels(model: Model, windows: Windows, runtime: Runtime, *, both_strands: bool = True) -> np.ndarray:
    """The threshold up to which a site is called in each window.

    Parameters
    ----------
    both_strands : read the windows on both strands, else only on the given strand

    Returns
    -------
    float32, shape (n,)
    """
    info = model.info
    min_length = min_site_length(info.site_width, info.k)
    best = np.zeros(len(windows), dtype=np.float32)
    for first in range(0, len(windows), 8192):
        codes = windows.codes[first : first + 8192]
        for strand in (codes, reverse_complement_codes(codes)) if both_strands else (codes,):
            levels = call_levels(base_probabilities(model, strand, runtime), min_length, MAX_GAP).max(axis=1)
            best[first : first + 8192] = np.maximum(best[first : first + 8192], levels)
    return best


def factor_call_levels(model: ManyFactorModel, windows: Windows, runtime: Runtime) -> np.ndarray:
    """`window_call_levels` of every factor, from one pass of the encoder over both strands.

    Returns
    -------
    float32, shape (n, F)
    """
    reduce = level_reducer(model)
    scorer = FactorScorer(model, runtime.precision)
    best = np.empty((len(windows), len(model.infos)), dtype=np.float32)
    for first in range(0, len(windows), 8192):
        rows = slice(first, first + 8192)
        codes = windows.codes[rows]
        for number, strand in enumerate((codes, reverse_complement_codes(codes))):
            levels = np.concatenate(scorer(strand, runtime.batch_size, lambda _, __, tokens: reduce(tokens)))
            best[rows] = np.maximum(best[rows], levels) if number else levels
    return sigmoid(best)


def level_reducer(model: ManyFactorModel) -> Callable[[torch.Tensor], np.ndarray]:
    """A function from token logits (B, T, F) to the call levels of all factors, as logits (B, F)."""
    k = model.info.k
    lengths = np.array([min_site_length(info.site_width, k) for info in model.infos])
    by_length = [(length, np.nonzero(lengths == length)[0]) for length in sorted(set(lengths.tolist()))]
    in_order = np.argsort(np.concatenate([columns for _, columns in by_length]))

    def reduce(logits: torch.Tensor) -> np.ndarray:
        """Call levels are minima and maxima, which the sigmoid preserves."""
        bases = _sliding(torch.maximum, _padded(logits, k - 1), k)
        closed = _sliding(torch.minimum, _sliding(torch.maximum, _padded(bases, MAX_GAP), MAX_GAP + 1), MAX_GAP + 1)
        levels = []
        for length, columns in by_length:
            of_length = closed.index_select(2, torch.from_numpy(columns).to(logits.device))
            levels.append(_sliding(torch.minimum, of_length, length).amax(1))
        return torch.cat(levels, dim=1).cpu().numpy()[:, in_order]

    return reduce


def _padded(logits: torch.Tensor, size: int) -> torch.Tensor:
    """With `size` positions of probability 0 on either side, shape (B, n + 2 size, F)."""
    return pad(logits, (0, 0, size, size), value=-torch.inf)


def _sliding(reduce: Callable[..., torch.Tensor], values: torch.Tensor, size: int) -> torch.Tensor:
    """Maximum or minimum of every `size` consecutive positions, shape (B, n, F) to (B, n - size + 1, F)."""
    width = 1
    while width < size:
        shift = min(width, size - width)
        values = reduce(values[:, :-shift], values[:, shift:])
        width += shift
    return values


def log_odds(probability: np.ndarray) -> np.ndarray:
    """Natural logarithm of p / (1 - p), float64; finite, because 0 and 1 are clipped by less than float32 resolves."""
    probability = np.clip(np.asarray(probability, dtype=np.float64), 1e-12, 1 - 3e-8)
    return np.log(probability) - np.log1p(-probability)


class NullDistribution:
    """Null distribution of a model's call levels, from genomic background windows read on both strands.

    The p-value of a site is the fraction of background windows with a site of the same or a higher call level. Up to
    the `TAIL_SCORES` highest windows it is counted; beyond, the tail is exponential in the log odds, fitted to the
    mean excess of these windows.

    Attributes
    ----------
    windows : number of background windows
    width : length of a window (bp)
    scores : log odds of call levels, ascending, shape (n,)
    neg_log10_ps : -log10 p at `scores`, shape (n,)
    """

    def __init__(self, windows: int, width: int, scores: np.ndarray, neg_log10_ps: np.ndarray):
        self.windows, self.width, self.scores, self.neg_log10_ps = windows, width, scores, neg_log10_ps

    @classmethod
    def fit(cls, call_levels: np.ndarray, width: int) -> NullDistribution:
        """Fit to `window_call_levels` of at least `MIN_BACKGROUND` background windows held out from training."""
        count = len(call_levels)
        return cls(count, width, *fitted_curve(log_odds(call_levels), min(TAIL_SCORES, count // 10), KNOTS))

    def neg_log10_p(self, call_levels: np.ndarray) -> np.ndarray:
        """-log10 p of sites with these call levels."""
        return np.interp(log_odds(call_levels), self.scores, self.neg_log10_ps)

    def threshold(self, p: float) -> float:
        """The call level with this p-value."""
        score = float(np.interp(-np.log10(p), self.neg_log10_ps, self.scores))
        return float(1 / (1 + np.exp(-score)))

    def n_tests(self, bases: int) -> float:
        """Number of tests in scanned sequence: windows."""
        return bases / self.width

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for the model file."""
        return {
            "windows": self.windows,
            "width": self.width,
            "scores": self.scores.tolist(),
            "logs": self.neg_log10_ps.tolist(),
        }

    @classmethod
    def from_info(cls, info: ModelInfo) -> NullDistribution:
        """From the description in a model file.

        Raises
        ------
        UsageError : the model has no null distribution.
        DataError : its values are invalid.
        """
        if not info.null:
            reason, remedy = "it was trained without genomic background", "train it with -f or --background"
            counts = info.training.get("data", {})
            if counts.get("background") or counts.get("natural"):  # the name in files of earlier releases
                reason = f"it was trained with fewer than {MIN_BACKGROUND:,} held-out background windows"
                remedy = "train it with a larger genome or --background"
            raise UsageError(f"{info.name} does not report p-values: {reason}; {remedy}")
        return cls.from_dict(info.null, info.name)

    @classmethod
    def from_dict(cls, null: dict[str, Any], name: str) -> NullDistribution:
        """From `as_dict`, of the model `name`. Errors: see `from_info`."""
        try:
            windows, width = int(null["windows"]), int(null["width"])
            if width < 1:
                raise ValueError(f"width {width}")
            scores, neg_log10_ps = stored_curve(null["scores"], null["logs"])
            if np.any(np.diff(scores) == 0):
                raise ValueError("not in ascending order")
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"the null distribution of model {name} is invalid ({error})") from error
        return cls(windows, width, scores, neg_log10_ps)


def fitted_curve(values: np.ndarray, tail: int, knots: int) -> tuple[np.ndarray, np.ndarray]:
    """The knots of a null distribution: ascending values, and -log10 of the fraction of `values` that reach each.

    Beyond the `tail` highest values, the distribution is exponential, fitted to their mean excess.

    Parameters
    ----------
    knots : number of knots, at most, besides the one far out in the tail
    """
    falling = np.sort(values)[::-1]
    ranks = np.unique(np.geomspace(tail, len(values), knots).round().astype(int))[::-1]
    x, neg_log10_ps = falling[ranks - 1], -np.log10(ranks / len(values))
    mean_excess = max(float((falling[:tail] - falling[tail - 1]).mean()), 1e-3)
    x = np.append(x, x[-1] + 100.0)
    neg_log10_ps = np.append(neg_log10_ps, neg_log10_ps[-1] + 100.0 / mean_excess / np.log(10))
    # of values that are equal in a model file, the first counts all that reach them
    keep = np.append(True, np.diff(x.astype(np.float32)) > 0)
    return x[keep], neg_log10_ps[keep]


def stored_curve(values: Any, neg_log10_ps: Any) -> tuple[np.ndarray, np.ndarray]:
    """The knots of a null distribution in a model file: ascending values, and -log10 p at each, both shape (n,).

    Raises
    ------
    ValueError, TypeError : they are not.
    """
    x, y = np.array(values, dtype=float), np.array(neg_log10_ps, dtype=float)
    if x.ndim != 1 or x.shape != y.shape or len(x) < 2:
        raise ValueError("wrong shape")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("not finite")
    if np.any(np.diff(x) < 0) or np.any(np.diff(y) < 0):
        raise ValueError("not in ascending order")
    return x, y


class PwmNull:
    """Null distribution of a PWM's matches, in the form of `NullDistribution`: a test is a position on a strand."""

    def __init__(self, model: PwmModel):
        self._model = model

    def neg_log10_p(self, call_levels: np.ndarray) -> np.ndarray:
        """-log10 p of matches with these base probabilities, see `PwmModel`."""
        levels = np.asarray(call_levels, dtype=np.float64)
        return -np.log10(DEFAULT_P) * levels / (1 - levels)

    def threshold(self, p: float) -> float:
        """The base probability of a match with this p-value, see `PwmModel.threshold`."""
        return self._model.threshold("p", p)

    def n_tests(self, bases: int) -> float:
        """Number of tests in scanned sequence: positions on both strands."""
        return 2 * bases


def null_of(model: Model) -> NullDistribution | PwmNull:
    """The null distribution of a model. Errors: see `NullDistribution.from_info`."""
    return PwmNull(model) if isinstance(model, PwmModel) else NullDistribution.from_info(model.info)


def known_null(model: Model) -> NullDistribution | PwmNull | None:
    """The null distribution of a model; None when it has none."""
    return null_of(model) if isinstance(model, PwmModel) or model.info.null else None
