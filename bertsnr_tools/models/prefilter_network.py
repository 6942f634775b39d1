"""The prefilter: a small network that rules out windows in which the model would call no site."""

from __future__ import annotations

from math import isnan

import torch
from torch import nn
from torch.nn.functional import embedding, pad, relu


class PrefilterNetwork(nn.Module):
    """At each base, a logit that a site of at least `shortest` bases starts there.

    Its input is the `shortest` bases from there on and `flank` bases on either side of them. See `predict.prefilter`.

    Parameters
    ----------
    shortest : width of the shortest site that the model calls, bp
    flank : bp
    cut : a window without a logit above it is ruled out

    Raises
    ------
    ValueError : a value is out of range.
    """

    HIDDEN = (64, 32)

    def __init__(self, shortest: int, flank: int, cut: float = 0.0):
        super().__init__()
        if not (1 <= shortest <= 1000 and 0 <= flank <= 1000 and not isnan(cut)):
            raise ValueError(f"prefilter values are out of range (shortest {shortest}, flank {flank}, cut {cut})")
        self.shortest, self.flank, self.cut = shortest, flank, cut
        sizes = (4 * (shortest + 2 * flank), *self.HIDDEN, 1)
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in zip(sizes, sizes[1:]))

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.layers[0].weight.device  # type: ignore[return-value]

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """Base codes, int64 (B, L), to logits (B, L - shortest + 1). N, and bases outside of the window, are zeros."""
        letters = torch.eye(5, 4, device=codes.device)  # the fifth code is N
        bases = pad(embedding(codes, letters).flatten(1), (4 * self.flank, 4 * self.flank))
        hidden = bases.unfold(1, 4 * (self.shortest + 2 * self.flank), 4)
        for layer in self.layers[:-1]:
            hidden = relu(layer(hidden))
        return self.layers[-1](hidden)[..., 0]
