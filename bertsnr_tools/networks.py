"""Small networks: the two published ones that BertSNR is compared with, built from their papers' descriptions, and the prefilter.

The published ones read one-hot sequence, float32 (B, 1, 4, length), rows A, C, G, T, and give one logit for each base, (B, length).
"""

from __future__ import annotations

from math import isnan

import torch
from torch import nn
from torch.nn.functional import embedding, interpolate, pad, relu


class DeepSNR(nn.Module):
    """Convolution, global maximum, bottleneck, unpooling to where the maximum was, deconvolution (Salekin, Zhang and Huang 2018)."""

    def __init__(self, length: int, motif: int = 15, filters: int = 16):
        super().__init__()
        self.detect = nn.Sequential(nn.Conv2d(1, filters, (4, motif)), nn.BatchNorm2d(filters), nn.ReLU())
        self.pool = nn.AdaptiveMaxPool2d(1, return_indices=True)
        self.bottleneck = nn.Sequential(nn.Linear(filters, 1), nn.ReLU(), nn.Linear(1, filters))
        self.unpool = nn.MaxUnpool2d((1, length - motif + 1), 1)
        self.place = nn.Sequential(nn.ConvTranspose2d(filters, 1, (4, motif)), nn.BatchNorm2d(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        best, where = self.pool(self.detect(x))
        signal = self.bottleneck(best.flatten(1))[..., None, None]
        return self.place(self.unpool(signal, where)).amax(dim=(1, 2))


def _double(inside: int, outside: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in (inside, outside):
        layers += [nn.Conv2d(width, outside, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(outside)]
    return nn.Sequential(*layers)


class _Gate(nn.Module):
    """Attention gate: the decoder's signal weighs each position of the skip connection."""

    def __init__(self, signal: int, skip: int, hidden: int = 16):
        super().__init__()
        self.signal = nn.Sequential(nn.Conv2d(signal, hidden, 1), nn.BatchNorm2d(hidden))
        self.skip = nn.Sequential(nn.Conv2d(skip, hidden, 1), nn.BatchNorm2d(hidden))
        self.weight = nn.Sequential(nn.ReLU(), nn.Conv2d(hidden, 1, 1), nn.BatchNorm2d(1), nn.Sigmoid())

    def forward(self, signal: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return skip * self.weight(self.signal(signal) + self.skip(skip))


class DAEDNet(nn.Module):
    """Encoder-decoder with skip connections through attention gates (Zhang et al. 2021)."""

    def __init__(self, length: int):
        super().__init__()
        self.encode1, self.down1 = _double(1, 16), nn.Conv2d(16, 16, 3, 2, 1)
        self.encode2, self.down2 = _double(16, 32), nn.Conv2d(32, 32, 3, 2, 1)
        self.bridge = nn.Sequential(nn.Conv2d(32, 64, (1, 3), padding=(0, 1)), nn.ReLU(), nn.BatchNorm2d(64))
        self.up2, self.gate2, self.decode2 = nn.Conv2d(64, 32, 1), _Gate(32, 32), _double(64, 32)
        self.up1, self.gate1, self.decode1 = nn.Conv2d(32, 16, 1), _Gate(16, 16), _double(32, 16)
        self.output = nn.Sequential(nn.Conv2d(16, 1, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(1), nn.Conv2d(1, 1, (4, 1)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.encode1(x)
        second = self.encode2(self.down1(first))
        up = self._grown(self.up2(self.bridge(self.down2(second))), second)
        up = self.decode2(torch.cat([self.gate2(up, second), up], dim=1))
        up = self._grown(self.up1(up), first)
        up = self.decode1(torch.cat([self.gate1(up, first), up], dim=1))
        return self.output(up)[:, 0, 0]

    @staticmethod
    def _grown(small: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        return interpolate(small, size=like.shape[2:], mode="bilinear", align_corners=True)


NETWORKS = {"deepsnr": DeepSNR, "d-aednet": DAEDNet}


class Prefilter(nn.Module):
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
