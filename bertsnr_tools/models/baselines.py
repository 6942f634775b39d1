"""Baselines: the two published networks that BertSNR is compared with, built from their papers' descriptions.

Both read one-hot sequence, float32 (B, 1, 4, L), rows A, C, G, T, and give one logit for each base, (B, L).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.functional import interpolate

from ..sequence.encoding import SPECIAL, vocabulary
from .interface import InferenceFunction, Model, ModelInfo
from .prefilter_network import PrefilterNetwork


class DeepSNR(nn.Module):
    """Convolution, global max pooling, bottleneck, unpooling to the position of the maximum, deconvolution.

    Salekin, Zhang and Huang 2018.
    """

    def __init__(self, length: int, motif: int = 15, filters: int = 16):
        super().__init__()
        self.detect = nn.Sequential(nn.Conv2d(1, filters, (4, motif)), nn.BatchNorm2d(filters), nn.ReLU())
        self.pool = nn.AdaptiveMaxPool2d(1, return_indices=True)
        self.bottleneck = nn.Sequential(nn.Linear(filters, 1), nn.ReLU(), nn.Linear(1, filters))
        self.unpool = nn.MaxUnpool2d((1, length - motif + 1), 1)
        self.place = nn.Sequential(nn.ConvTranspose2d(filters, 1, (4, motif)), nn.BatchNorm2d(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        best, position = self.pool(self.detect(x))
        signal = self.bottleneck(best.flatten(1))[..., None, None]
        return self.place(self.unpool(signal, position)).amax(dim=(1, 2))


def _double_convolution(inside: int, outside: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in (inside, outside):
        layers += [nn.Conv2d(width, outside, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(outside)]
    return nn.Sequential(*layers)


class _AttentionGate(nn.Module):
    """Weighs each position of the skip connection by the decoder's signal."""

    def __init__(self, signal: int, skip: int, hidden: int = 16):
        super().__init__()
        self.signal = nn.Sequential(nn.Conv2d(signal, hidden, 1), nn.BatchNorm2d(hidden))
        self.skip = nn.Sequential(nn.Conv2d(skip, hidden, 1), nn.BatchNorm2d(hidden))
        self.weight = nn.Sequential(nn.ReLU(), nn.Conv2d(hidden, 1, 1), nn.BatchNorm2d(1), nn.Sigmoid())

    def forward(self, signal: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return skip * self.weight(self.signal(signal) + self.skip(skip))


class DAEDNet(nn.Module):
    """Encoder and decoder with skip connections through attention gates (Zhang et al. 2021)."""

    def __init__(self, length: int):
        super().__init__()
        self.encode1, self.down1 = _double_convolution(1, 16), nn.Conv2d(16, 16, 3, 2, 1)
        self.encode2, self.down2 = _double_convolution(16, 32), nn.Conv2d(32, 32, 3, 2, 1)
        self.bridge = nn.Sequential(nn.Conv2d(32, 64, (1, 3), padding=(0, 1)), nn.ReLU(), nn.BatchNorm2d(64))
        self.up2, self.gate2, self.decode2 = nn.Conv2d(64, 32, 1), _AttentionGate(32, 32), _double_convolution(64, 32)
        self.up1, self.gate1, self.decode1 = nn.Conv2d(32, 16, 1), _AttentionGate(16, 16), _double_convolution(32, 16)
        self.output = nn.Sequential(
            nn.Conv2d(16, 1, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(1), nn.Conv2d(1, 1, (4, 1))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.encode1(x)
        second = self.encode2(self.down1(first))
        up = self._upsampled(self.up2(self.bridge(self.down2(second))), second)
        up = self.decode2(torch.cat([self.gate2(up, second), up], dim=1))
        up = self._upsampled(self.up1(up), first)
        up = self.decode1(torch.cat([self.gate1(up, first), up], dim=1))
        return self.output(up)[:, 0, 0]

    @staticmethod
    def _upsampled(small: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        return interpolate(small, size=like.shape[2:], mode="bilinear", align_corners=True)


NETWORKS = {"deepsnr": DeepSNR, "d-aednet": DAEDNet}


class BaselineModel(nn.Module):
    """A network of `NETWORKS` as a `Model`: k is 1, tokens are bases, the sequence logit is the highest of bases."""

    def __init__(self, info: ModelInfo):
        super().__init__()
        self.info = info
        self.network = NETWORKS[info.encoder["model_type"]](info.window)
        self.prefilter: PrefilterNetwork | None = None
        self.replicas: list[Model] = []

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As `BertSNR.forward`; a sequence shorter than the training window is padded with zeros."""
        bases = ids[:, 1:-1]
        letters = torch.tensor([len(SPECIAL) + code for code in (0, 2, 3, 1)], device=ids.device)  # A, C, G, T
        one_hot = (bases[:, None, :] == letters[:, None]).float()
        one_hot = nn.functional.pad(one_hot, (0, max(0, self.info.window - bases.shape[1])))
        with torch.autocast(ids.device.type, enabled=False):
            logits = self.network(one_hot[:, None])[:, : bases.shape[1]]
        return logits.amax(dim=1), logits

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.parameters()).device

    def inference_function(self, precision: str) -> InferenceFunction:
        """`forward`: it computes in fp32 whatever the precision."""
        return self


def baseline_config(kind: str) -> dict[str, Any]:
    """Configuration, as `ModelInfo.encoder`, of a network of `NETWORKS`."""
    return {"model_type": kind, "vocab_size": len(vocabulary(1))}
