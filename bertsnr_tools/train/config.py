"""Training on two tasks at once (Luo et al. 2024, section 2.4): recipe, validation, checkpoints, cross-validation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from ..errors import UsageError
from ..evaluate import EVALUATION_BATCH
from ..models.baselines import baseline_config
from ..models.bertsnr import BertSNR
from ..models.device import Runtime
from ..models.encoder import compact_config
from ..models.files import new_model
from ..models.interface import ModelInfo
from ..models.pretrained import Pretrained
from ..sequence.windows import Windows, site_width


@dataclass(frozen=True)
class Recipe:
    """How to train; the defaults are for the compact encoder, `PAPER` is what the paper does to a large one.

    Attributes
    ----------
    epochs, patience : at most so many epochs; stop after so many without a better validation AUPR
    batch_size : windows in a step
    learning_rate, weight_decay, warmup : AdamW; no decay on biases and norms; linear rise over this share of all steps, then
        linear fall to 0
    task_weight : lambda, the share of the sequence task in the loss; 0 trains on the token task alone
    swap : share of the positive windows that get the site of another in every epoch, see `swapped`
    natural : natural windows for each positive in an epoch, where there are any
    hard : train also against the natural windows that the teachers score highest, or without teachers train twice, the second time
        against those of the first model, see `hard_negatives`
    average : the model kept is the exponential moving average of the weights with this factor for each step; 0 is none
    seed : of weights, order, dropout and shuffles
    precision : as of `model.choose_precision`
    """

    epochs: int = 10
    patience: int = 10
    batch_size: int = 32
    learning_rate: float = 1e-3
    task_weight: float = 0.15
    weight_decay: float = 0.01
    warmup: float = 0.1
    swap: float = 0.0
    natural: float = 4.0
    hard: bool = False
    average: float = 0.99
    seed: int = 1
    precision: str = "fp32"

    def runtime(self, device: torch.device) -> Runtime:
        """How the model is run between epochs."""
        return Runtime((device,), self.precision, EVALUATION_BATCH)


PAPER = {"epochs": 10, "patience": 3, "learning_rate": 2e-4, "average": 0.0}  # Luo et al. 2024, section 2.4


def default_epochs(windows: int, batch_size: int, trained: bool) -> int:
    """As many as make 4,000 steps, at least 10 and at most 30; of an encoder that knows sites already, 1,500 steps, 8 to 40."""
    steps, least, most = (1500, 8, 40) if trained else (4000, 10, 30)
    return min(most, max(least, -(-steps * batch_size // windows)))


def default_swap_fraction(positives: int) -> float:
    """Half of the windows where sites are few; the more there are, the less it is needed."""
    return min(0.5, 500 / positives)


class ModelDesign(NamedTuple):
    """What is trained.

    Attributes
    ----------
    arch : "bertsnr", or a name in `networks.NETWORKS`
    k : bases in a token; 1 for the networks
    pretrained : the encoder of "bertsnr" to begin with; None is the compact one with random weights
    """

    arch: str = "bertsnr"
    k: int = 3
    pretrained: Pretrained | None = None

    def info(self, name: str, positives: Windows) -> ModelInfo:
        """The description of a model for these windows.

        Raises
        ------
        UsageError : the windows have more tokens than the encoder has learned positions for.
        """
        window = positives.codes.shape[1]
        if self.pretrained and self.pretrained.config["model_type"] == "modernbert":
            encoder = self.pretrained.config | {"max_position_embeddings": window + 2}  # rotary positions have no end
        elif self.pretrained:
            most = self.pretrained.config.get("max_position_embeddings", 512)
            if window - self.k + 3 > most:
                raise UsageError(f"windows of {window} bp have {window - self.k + 3} tokens, the encoder reads {most}")
            encoder = self.pretrained.config
        else:
            encoder = compact_config(self.k, window) if self.arch == "bertsnr" else baseline_config(self.arch)
        return ModelInfo(name, self.k, window, encoder, site_width(positives))

    def model(self, info: ModelInfo) -> BertSNR:
        """A new model: random weights, but for the encoder where it was trained before."""
        model = new_model(info)
        if self.pretrained:
            model.encoder.load_state_dict(self.pretrained.weights, strict=False)
        return model
