"""Binding heads of a many-factor model: from its scores around a site to the odds that the factor is bound there.

Of the accessible regions with a motif, ChIP-seq finds a part bound. The binding heads are a small network that all
factors share up to its last layer. Its inputs are features of the surroundings (`predict.accessible.Surroundings`): the
scores of all factors' sequence heads and of motifs, composition and accessibility.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.nn.functional import conv1d, gelu, one_hot

CLIPPED = 5.0  # standard deviations at which a feature is clipped: one feature alone decides nothing
SCALARS = 7  # features other than the scores of sequence heads and motifs
_LISTS = ("factors", "thresholds", "nulls")


def motif_scores(motifs: torch.Tensor, codes: np.ndarray) -> np.ndarray:
    """Bits of the best match of each motif, on either strand, float32, shape (B, M).

    Bases that are not A, C, G or T, and bases beyond the ends, have 0 bits.

    Parameters
    ----------
    motifs : see `BindingHeads`
    codes : base codes, shape (B, n)
    """
    bases = one_hot(torch.from_numpy(codes.astype(np.int64)), 5)[:, :, :4].transpose(1, 2).float()
    complement = motifs[:, [1, 0, 3, 2]].flip(2)  # of code c: c ^ 1
    strands = conv1d(bases, torch.cat([motifs, complement]), padding=motifs.shape[2] // 2).amax(2)
    return torch.maximum(*strands.chunk(2, dim=1)).numpy()


def feature_count(factors: int, motifs: int) -> int:
    """Number of features, D, for a model of this number of factors and heads with this number of motifs."""
    return factors + motifs + SCALARS


@dataclass
class BindingHeads:
    """The binding heads of a model.

    With standardized features x, (D,), and the log odds s of a site of factor f, the log odds that it is bound are
    `weight[f] @ gelu(hidden_weight @ x + hidden_bias) + skip[f] @ x + bias[f] + slope[f] * s`.

    Attributes
    ----------
    factors : names of the P factors that have a head
    thresholds : for each, the probability of being bound above which a site is called by default
    nulls : for each, the null distribution in accessible sequence, see `predict.significance.NullDistribution`
    motifs : PWMs, log2 odds in the order of `encoding.CODE_LETTERS`, shape (M, 4, W), 0 beside shorter motifs; W is odd
    mean, scale : of the features, shape (D,)
    hidden_weight, hidden_bias : shape (N, D) and (N,)
    weight, skip, bias, slope : shape (P, N), (P, D), (P,) and (P,)
    """

    factors: list[str]
    thresholds: list[float]
    nulls: list[dict[str, Any]]
    motifs: torch.Tensor
    mean: torch.Tensor
    scale: torch.Tensor
    hidden_weight: torch.Tensor
    hidden_bias: torch.Tensor
    weight: torch.Tensor
    skip: torch.Tensor
    bias: torch.Tensor
    slope: torch.Tensor

    @cached_property
    def _arrays(self) -> dict[str, np.ndarray]:
        """The tensors in float64, made once: sites are scored center by center."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in _LISTS}
        return {name: tensor.double().numpy() for name, tensor in arrays.items()}

    def surroundings_log_odds(self, features: np.ndarray) -> np.ndarray:
        """The part of the log odds that does not depend on the site, float64, shape (n, P).

        Parameters
        ----------
        features : shape (n, D); NaN where unknown, which counts as the mean
        """
        own = self._arrays
        x = np.clip((features.astype(np.float64) - own["mean"]) / own["scale"], -CLIPPED, CLIPPED)
        x = np.nan_to_num(x)
        odds = np.empty((len(x), len(self.factors)))
        for row, values in enumerate(x):  # one by one: products of matrices round differently for other numbers of rows
            hidden = torch.from_numpy(own["hidden_weight"] @ values + own["hidden_bias"])
            odds[row] = own["weight"] @ gelu(hidden).numpy() + own["skip"] @ values + own["bias"]
        return odds

    def as_dict(self) -> dict[str, Any]:
        """Tensors, in half precision but for the features' mean and scale, and plain values, for the model file."""
        content = {field.name: getattr(self, field.name) for field in fields(self)}
        kept = (*_LISTS, "mean", "scale")
        return {name: value if name in kept else value.half() for name, value in content.items()}

    @classmethod
    def from_dict(cls, content: Any, factors: list[str]) -> BindingHeads:
        """From the description in a model file.

        Parameters
        ----------
        factors : of the model

        Raises
        ------
        ValueError : the description does not fit the model.
        """
        names = [field.name for field in fields(cls)]
        if not isinstance(content, dict) or set(content) != set(names):
            raise ValueError("binding heads lack a field")
        if any(not isinstance(content[name], list if name in _LISTS else torch.Tensor) for name in names):
            raise ValueError("a field of the binding heads has the wrong type")
        heads = cls(**{name: value if name in _LISTS else value.float() for name, value in content.items()})
        if heads.motifs.dim() != 3 or heads.motifs.shape[1] != 4 or heads.motifs.shape[2] % 2 == 0:
            raise ValueError("motifs of the binding heads have the wrong shape")
        features = feature_count(len(factors), len(heads.motifs))
        count, units = len(heads.factors), len(heads.hidden_bias)
        shapes = {"mean": (features,), "scale": (features,), "hidden_weight": (units, features)}
        shapes |= {
            "hidden_bias": (units,),
            "weight": (count, units),
            "skip": (count, features),
            "bias": (count,),
            "slope": (count,),
        }
        if any(getattr(heads, name).shape != shape for name, shape in shapes.items()):
            raise ValueError("binding heads do not fit the model")
        if not len(heads.thresholds) == len(heads.nulls) == count or not set(heads.factors) <= set(factors):
            raise ValueError("binding heads do not fit the factors")
        tensors = [getattr(heads, name) for name in ("motifs", *shapes)]
        if not all(torch.isfinite(tensor).all() for tensor in tensors) or not (heads.scale > 0).all():
            raise ValueError("binding heads are not finite")
        return heads
