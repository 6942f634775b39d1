"""What every model has in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from .. import __version__

InferenceFunction = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]  # token ids to logits of both tasks


@dataclass
class ModelInfo:
    """What a model file says about its model, apart from the weights.

    Attributes
    ----------
    name : the transcription factor
    k : bases in a token
    window : bases in a training window
    encoder : configuration of the encoder
    site_width : median width of the training sites, bp
    threshold : base probability above which a base is called
    training : summary of data, recipe and metrics
    null : the null distribution of scores, see `predict.significance.NullDistribution`; empty when not known
    prefilter : of the model's `networks.Prefilter`: shortest, flank and cut; empty when it has none
    package_version : version of bertsnr_tools that wrote the file
    """

    name: str
    k: int
    window: int
    encoder: dict[str, Any]
    site_width: int
    threshold: float = 0.5
    training: dict[str, Any] = field(default_factory=dict)
    null: dict[str, Any] = field(default_factory=dict)
    prefilter: dict[str, Any] = field(default_factory=dict)
    package_version: str = __version__
