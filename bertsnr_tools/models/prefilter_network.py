"""The prefilter: a small network that rules out windows in which the model would call no site."""

from __future__ import annotations

from collections.abc import Callable
from math import isnan
from typing import Any

import torch
from torch import nn
from torch.nn.functional import embedding, embedding_bag, pad, relu

GROUP, SYMBOLS = 3, 5  # bases whose part in the first layer is looked up together; A, C, G, T and none


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

    def inference_function(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """`forward` for inference with the present weights; on a CPU, the first layer is a sum of rows of a table."""
        if self.device.type != "cpu":
            return self
        tables = self._tables()
        groups, flank = len(tables) // SYMBOLS**GROUP, self.flank
        offsets = torch.arange(groups, dtype=torch.int32) * SYMBOLS**GROUP
        others: Any = self.layers[1:]

        def logits(codes: torch.Tensor) -> torch.Tensor:
            bases = pad(codes.int(), (flank, flank + GROUP), value=SYMBOLS - 1)
            words = sum(bases[:, at : bases.shape[1] - GROUP + at] * SYMBOLS ** (GROUP - 1 - at) for at in range(GROUP))
            count = codes.shape[1] - self.shortest + 1
            rows = words.unfold(1, GROUP * (groups - 1) + 1, 1)[:, :count, ::GROUP] + offsets
            hidden = relu(embedding_bag(rows.reshape(-1, groups), tables, mode="sum"))
            for layer in others[:-1]:
                hidden = relu(layer(hidden))
            return others[-1](hidden).view(len(codes), count)

        return logits

    def _tables(self) -> torch.Tensor:
        """What each word of `GROUP` symbols adds to the first layer, by the group's position, shape (rows, units)."""
        first: Any = self.layers[0]
        weight = first.weight.detach().double()
        units, groups = len(weight), -(-(self.shortest + 2 * self.flank) // GROUP)
        weight = weight.view(units, -1, 4)
        weight = pad(weight, (0, SYMBOLS - 4, 0, groups * GROUP - weight.shape[1])).permute(1, 2, 0)
        tables = weight.new_zeros(groups, 1, units)
        for at in range(GROUP):
            tables = (tables[:, :, None] + weight[at::GROUP, None]).flatten(1, 2)
        tables[0] += first.bias.detach()
        return tables.flatten(0, 1).float()
