"""What every model has in common: the protocol `Model`, and `ModelInfo`, the metadata of a model file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from .. import __version__
from ..io.fields import name_field
from .prefilter_network import PrefilterNetwork

DEFAULT_THRESHOLD = 0.5  # base probability; for PWMs see `pwm.DEFAULT_P`
# token ids, int64 (B, T + 2), to sequence logits (B,) and token logits (B, T), both float32
InferenceFunction = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


@dataclass
class ModelInfo:
    """The metadata of a model.

    Attributes
    ----------
    name : the transcription factor; white space becomes "_", because BED and tables contain it
    k : bases in a token
    window : bases in a training window
    encoder : configuration of the encoder; "model_type" is its kind, "vocab_size" is 4^k + 5
    site_width : median width of the training sites, bp
    threshold : base probability above which a base is called by default, see `predict.thresholds`
    training : summary of data, recipe and metrics
    null : null distribution of scores, see `predict.significance.NullDistribution`; empty when unknown
    prefilter : arguments of the model's `PrefilterNetwork`; empty when it has none
    matrix : id of the factor's JASPAR matrix; empty when unknown
    variant_null : null distribution of changes by substitutions, see `variation.nulls.ChangeNull`; empty when unknown
    package_version : version of bertsnr_tools that wrote the file
    """

    name: str
    k: int
    window: int
    encoder: dict[str, Any]
    site_width: int
    threshold: float = DEFAULT_THRESHOLD
    training: dict[str, Any] = field(default_factory=dict)
    null: dict[str, Any] = field(default_factory=dict, repr=False)
    prefilter: dict[str, Any] = field(default_factory=dict)
    matrix: str = ""
    variant_null: dict[str, Any] = field(default_factory=dict, repr=False)
    package_version: str = __version__

    def __post_init__(self) -> None:
        self.name = name_field(self.name)

    @property
    def is_pwm(self) -> bool:
        """The model is a `PwmModel`."""
        return self.encoder.get("model_type") == "matrix"


class Model(Protocol):
    """A model that scores windows on the strand given: `BertSNR`, `BaselineModel` or `PwmModel`.

    Attributes
    ----------
    info : metadata
    prefilter : network that rules out windows without a site; None when there is none
    replicas : copies of the model on other devices, which share the work
    """

    info: ModelInfo
    prefilter: PrefilterNetwork | None
    replicas: list[Model]

    @property
    def device(self) -> torch.device:
        """The device of the weights."""

    def inference_function(self, precision: str) -> InferenceFunction:
        """The model for inference in this precision ("fp32", "int16", "bf16" or "fp16"), with the present weights."""

    def __call__(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Sequence and token logits, as `InferenceFunction`."""

    def eval(self) -> Any:
        """Switch to evaluation: no dropout."""

    def state_dict(self) -> dict[str, Any]:
        """The weights by name."""


def check_name(name: str) -> None:
    """Refuse a name that would break tab-separated output.

    Raises
    ------
    ValueError : the name is empty, or contains a tab, a line break or another unprintable character.
    """
    if not name.strip() or not name.isprintable():
        raise ValueError(f"model name {name!r} is empty or contains unprintable characters, such as a tab")
