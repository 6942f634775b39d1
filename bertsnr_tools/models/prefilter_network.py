"""Small networks: the two published ones that BertSNR is compared with, built from their papers' descriptions, and the prefilter.

The published ones read one-hot sequence, float32 (B, 1, 4, length), rows A, C, G, T, and give one logit for each base, (B, length).
"""

from __future__ import annotations

from math import isnan

import torch
from torch import nn
from torch.nn.functional import embedding, pad, relu


class PrefilterNetwork(nn.Module):
    """How sure it is that a site of at least `shortest` bases begins at a base, from these and `flank` bases on either side.

    See `prefilter`. A window in which no logit is above `cut` is ruled out.
    """

    HIDDEN = (64, 32)

    def __init__(self, shortest: int, flank: int, cut: float = 0.0):
        super().__init__()
        if not (1 <= shortest <= 1000 and 0 <= flank <= 1000 and not isnan(cut)):
            raise ValueError(f"a prefilter of {shortest} bases, {flank} on either side, cut {cut}")
        self.shortest, self.flank, self.cut = shortest, flank, cut
        sizes = (4 * (shortest + 2 * flank), *self.HIDDEN, 1)
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in zip(sizes, sizes[1:]))

    @property
    def device(self) -> torch.device:
        return self.layers[0].weight.device  # type: ignore[return-value]

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """Codes of `kmers.encode`, int64 shape (B, L), to logits, shape (B, L - shortest + 1); bases outside of the window are none."""
        letters = torch.eye(5, 4, device=codes.device)  # N is none of the four
        bases = pad(embedding(codes, letters).flatten(1), (4 * self.flank, 4 * self.flank))
        hidden = bases.unfold(1, 4 * (self.shortest + 2 * self.flank), 4)
        for layer in self.layers[:-1]:
            hidden = relu(layer(hidden))
        return self.layers[-1](hidden)[..., 0]
