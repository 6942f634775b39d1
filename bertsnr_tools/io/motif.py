"""The `Motif`, with its matrices; columns of all matrices are A, C, G, T in this order."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from ..errors import UsageError

BASES = "ACGT"
UNIFORM = 0.25  # background probability of each base


@dataclass(frozen=True, eq=False)
class Motif:
    """A sequence motif with its three matrices: PFM (counts), PPM (probabilities) and PWM (log odds).

    Attributes
    ----------
    id : without white space and "="
    counts : PFM, float64, shape (width, 4): number of instances with each base at each position
    name : common name, such as the factor's; may be empty
    e_value : of de novo discovery, 0 for other motifs
    """

    id: str
    counts: np.ndarray
    name: str = ""
    e_value: float = 0.0

    def __post_init__(self) -> None:
        if self.counts.ndim != 2 or self.counts.shape[1] != len(BASES) or not (self.counts >= 0).all():
            raise UsageError(f"motif {self.id!r}: expected counts of shape (width, 4), 0 or more")

    @property
    def label(self) -> str:
        """The name, or else the id."""
        return self.name or self.id

    @property
    def width(self) -> int:
        """Positions of the motif, bp."""
        return len(self.counts)

    @property
    def sites(self) -> int:
        """Number of instances."""
        return round(self.counts.sum(axis=1).max())

    @property
    def probs(self) -> np.ndarray:
        """PPM, shape (width, 4): probability of each base; rows sum to 1."""
        return self.counts / self.counts.sum(axis=1, keepdims=True)

    @property
    def log_odds(self) -> np.ndarray:
        """PWM in bits against a uniform background, shape (width, 4), with one pseudocount in each row."""
        counts = self.counts + UNIFORM
        return np.log2(counts / counts.sum(axis=1, keepdims=True) / UNIFORM)

    @property
    def information(self) -> np.ndarray:
        """Letter sizes of the logo, shape (width, 4): probability times information content in bits.

        References
        ----------
        Schneider and Stephens 1990, without small-sample correction
        """
        probs = self.probs
        bits = 2 + (probs * np.log2(np.where(probs > 0, probs, 1))).sum(axis=1, keepdims=True)
        return probs * bits

    def reverse_complement(self) -> Motif:
        """The same motif, read on the other strand."""
        return replace(self, counts=self.counts[::-1, ::-1])


def unique_id(name: str, taken: Collection[str]) -> str:
    """A motif id from any name: MEME allows neither white space nor "=" in an id, nor the same id twice."""
    plain = re.sub(r"[\s=]+", "_", name) or "motif"
    number, chosen = 1, plain
    while chosen in taken:
        number += 1
        chosen = f"{plain}-{number}"
    return chosen
