"""How to train (`Recipe`), what to train (`ModelDesign`), and how to pretrain an encoder (`PretrainConfig`)."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from math import inf, isfinite, nan
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import torch

from ..errors import UsageError
from ..evaluation import EVALUATION_BATCH
from ..log import logger
from ..models.baselines import baseline_config
from ..models.bertsnr import BertSNR
from ..models.device import Runtime
from ..models.encoder import compact_config
from ..models.encoder_config import COMPACT_SIZE, HEAD_SIZE
from ..models.files import new_model
from ..models.interface import ModelInfo
from ..models.pretrained import Pretrained, model_encoder, read_pretrained, shipped_encoder
from ..sequence.windows import Windows, site_width

if TYPE_CHECKING:
    from .data import TrainingData

TRAINING_PRECISIONS = "fp32", "bf16"
PAPER: dict[str, Any] = {"epochs": 10, "patience": 3, "learning_rate": 2e-4, "ema_decay": 0.0}  # Luo et al. 2024, 2.4


_LIMITS = (
    ("epochs", Integral, 1, inf),
    ("patience", Integral, 1, inf),
    ("batch_size", Integral, 1, inf),
    ("learning_rate", Real, 0, inf),
    ("task_weight", Real, 0, 1),
    ("weight_decay", Real, 0, inf),
    ("warmup", Real, 0, 1),
    ("swap_fraction", Real, 0, 1),
    ("background_ratio", Real, 0, inf),
    ("ema_decay", Real, 0, 1),
    ("val_fraction", Real, 0.001, 0.5),
    ("seed", Integral, 0, inf),
)


@dataclass(frozen=True)
class Recipe:
    """How to train; these defaults are for the compact encoder, `resolve` adapts them to the data and the encoder.

    Attributes
    ----------
    epochs : maximum number of epochs
    patience : early stopping after this number of epochs without a better validation AUPR
    batch_size : windows in a step
    learning_rate : highest learning rate of AdamW; linear warm-up, then linear decay to 0
    task_weight : lambda, the weight of the sequence task in the loss; 0 trains on the token task alone
    weight_decay : on all weights but biases and norms
    warmup : fraction of all steps in which the learning rate rises
    swap_fraction : augmentation: fraction of the positive windows that get the site of another in every epoch, see
        `data.swap_sites`
    background_ratio : background windows for each positive window in an epoch, if there are any
    hard_negatives : add hard negatives to every epoch, see `hard_negatives.mine_hard_negatives`; without teachers, a
        first model is trained to find them
    ema_decay : decay per step of the exponential moving average of the weights; 0 keeps the weights themselves
    val_fraction : fraction of the loci for validation
    val_chroms : validate on the windows of these chromosomes instead
    seed : random seed of weights, order, dropout, shuffles and augmentation
    precision : "fp32" or "bf16"
    """

    epochs: int = 10
    patience: int = 10
    batch_size: int = 32
    learning_rate: float = 1e-3
    task_weight: float = 0.15
    weight_decay: float = 0.01
    warmup: float = 0.1
    swap_fraction: float = 0.0
    background_ratio: float = 4.0
    hard_negatives: bool = False
    ema_decay: float = 0.99
    val_fraction: float = 0.1
    val_chroms: tuple[str, ...] = ()
    seed: int = 1
    precision: str = "fp32"

    def __post_init__(self) -> None:
        for name, kind, least, most in _LIMITS:
            value = getattr(self, name)
            number: Any = value if isinstance(value, kind) else nan
            if not (isfinite(number) and least <= number <= most):
                whole = "a whole number" if kind is Integral else "a number"
                limits = f"from {least} on" if most == inf else f"from {least} to {most}"
                raise UsageError(f"recipe: {name} is {value!r}; expected {whole} {limits}")
        if isinstance(self.val_chroms, str):
            raise UsageError(f"recipe: val_chroms is {self.val_chroms!r}; expected a tuple of names")
        if self.precision not in TRAINING_PRECISIONS:
            known = ", ".join(TRAINING_PRECISIONS)
            raise UsageError(f"recipe: precision is {self.precision!r}; expected one of {known}")

    @classmethod
    def resolve(cls, data: TrainingData, design: ModelDesign, **given: Any) -> Recipe:
        """The recipe for these data and this design.

        An encoder from a directory is fine-tuned as in the paper (`PAPER`). Otherwise the number of windows sets the
        epochs, and the number of positive windows the augmentation.

        Parameters
        ----------
        given : fields that replace the defaults
        """
        if design.arch != "bertsnr":
            given = given | {"task_weight": 0.0}  # the baselines have no sequence head
        recipe = cls(**given)
        if design.from_directory:
            return cls(**PAPER | given)
        windows = data.epoch_size(recipe.background_ratio)
        epochs = default_epochs(windows, recipe.batch_size, design.pretrained is not None)
        return cls(**{"epochs": epochs, "swap_fraction": default_swap_fraction(len(data.positives))} | given)

    @classmethod
    def for_factors(cls, factors: int, design: ModelDesign, **given: Any) -> Recipe:
        """The recipe for a many-factor model.

        `background_ratio` is the weight of the background windows in the loss, see `many_factor`. An encoder from a
        directory is fine-tuned as in the paper (`PAPER`).

        Parameters
        ----------
        factors : number of factors
        given : fields that replace the defaults
        """
        batch_size = given.get("batch_size", min(1024, 32 * factors))
        defaults = {
            "epochs": 40,
            "batch_size": batch_size,
            "learning_rate": min(2e-3, 1e-3 * (batch_size / 128) ** 0.5),
            "background_ratio": 1.0,
            "ema_decay": 0.999,
            "warmup": 0.03,
        }
        return cls(**defaults | (PAPER if design.from_directory else {}) | given)

    def runtime(self, device: torch.device) -> Runtime:
        """How the model is run for validation."""
        return Runtime((device,), self.precision, EVALUATION_BATCH)


def default_epochs(windows: int, batch_size: int, pretrained: bool) -> int:
    """Epochs of 4,000 steps in all, 10 to 30; for a pretrained encoder of 1,500 steps, 8 to 40."""
    steps, least, most = (1500, 8, 40) if pretrained else (4000, 10, 30)
    return min(most, max(least, -(-steps * batch_size // windows)))


def default_swap_fraction(positives: int) -> float:
    """Half of the windows where sites are few, less from 1,000 positive windows on."""
    return min(0.5, 500 / positives)


@dataclass(frozen=True)
class PretrainConfig:
    """How to pretrain.

    Attributes
    ----------
    k, window : bases in a token and in a training window
    steps, batch_size : training steps, and windows in each, over all processes
    learning_rate, weight_decay : of AdamW; weight decay on all weights but biases and norms
    warmup : fraction of the steps in which the learning rate rises, before its linear decay
    mask_fraction : fraction of the tokens that are masked, in contiguous spans of k
    seed : random seed of weights, order, strands, masks and dropout
    precision : "fp32" or "bf16"
    size : units of a hidden state and layers of a new encoder
    """

    k: int = 3
    window: int = 100
    steps: int = 10_000
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup: float = 0.1
    mask_fraction: float = 0.15
    seed: int = 1
    precision: str = "fp32"
    size: tuple[int, int] = COMPACT_SIZE


@dataclass(frozen=True)
class ModelDesign:
    """What is trained.

    Attributes
    ----------
    arch : "bertsnr", or a name in `baselines.NETWORKS`
    k : bases in a token; 1 for the baselines
    pretrained : the encoder that training starts from; None is the compact one with random weights
    encoder : where the encoder comes from: "compact" (shipped), "new" (random weights), "new:192x7" (random weights,
        hidden states of 192 units, 7 layers), a model file or a directory
    size : units of a hidden state and layers of a new encoder
    """

    arch: str = "bertsnr"
    k: int = 3
    pretrained: Pretrained | None = None
    encoder: str = "new"
    size: tuple[int, int] = COMPACT_SIZE

    @classmethod
    def choose(cls, arch: str = "bertsnr", k: int | None = None, encoder: str = "compact") -> ModelDesign:
        """From the values of --arch, -k and --encoder.

        Raises
        ------
        UsageError : the options contradict each other.
        DataError : the file or directory does not contain an encoder.
        """
        if arch != "bertsnr":
            if k or encoder != "compact":
                raise UsageError(f"--arch {arch} reads single bases without an encoder; use neither -k nor --encoder")
            return cls(arch, 1, None, encoder)
        if encoder == "compact":
            shipped = shipped_encoder(k or 3)
            if not shipped:
                logger.info("no shipped encoder reads %d-mers; training starts from random weights", k)
            return cls(arch, k or 3, shipped, encoder)
        if is_new(encoder):
            return cls(arch, k or 3, None, encoder, _size(encoder))
        pretrained = model_encoder(encoder) if os.path.isfile(encoder) else read_pretrained(encoder)
        if k not in (None, pretrained.k):
            raise UsageError(f"-k {k}: the encoder in {encoder} reads {pretrained.k}-mers")
        return cls(arch, pretrained.k, pretrained, encoder)

    @property
    def from_directory(self) -> bool:
        """The encoder was read from a directory."""
        return self.encoder != "compact" and not is_new(self.encoder) and not os.path.isfile(self.encoder)

    def info(self, name: str, positives: Windows) -> ModelInfo:
        """The description of a model for these windows.

        Raises
        ------
        UsageError : the windows have more tokens than the encoder has learned positions.
        """
        window = positives.codes.shape[1]
        if self.pretrained and self.pretrained.config["model_type"] == "modernbert":
            encoder = self.pretrained.config | {"max_position_embeddings": window + 2}  # rotary positions are unlimited
        elif self.pretrained:
            tokens, most = window - self.k + 3, self.pretrained.config.get("max_position_embeddings", 512)
            if tokens > most:
                raise UsageError(f"windows of {window} bp have {tokens} tokens, the encoder reads at most {most}")
            encoder = self.pretrained.config
        else:
            encoder = (
                compact_config(self.k, window, self.size) if self.arch == "bertsnr" else baseline_config(self.arch)
            )
        return ModelInfo(name, self.k, window, encoder, site_width(positives))

    def model(self, info: ModelInfo) -> BertSNR:
        """A new model: random weights, except for a pretrained encoder."""
        model = new_model(info)
        if self.pretrained:
            model.encoder.load_state_dict(self.pretrained.weights, strict=False)
        return model


def is_new(encoder: str) -> bool:
    """Whether this value of --encoder asks for random weights."""
    return encoder.partition(":")[0] == "new"


def _size(encoder: str) -> tuple[int, int]:
    """Hidden size and layers in "new" or "new:192x7"."""
    if encoder == "new":
        return COMPACT_SIZE
    match = re.fullmatch(r"new:(\d{1,4})x(\d{1,2})", encoder)
    hidden_size, layers = map(int, match.groups()) if match else (0, 0)
    if not layers or not hidden_size or hidden_size % HEAD_SIZE:
        raise UsageError(
            f"--encoder {encoder}: expected new:UNITSxLAYERS, such as new:192x7, units a multiple of {HEAD_SIZE}"
        )
    return hidden_size, layers
