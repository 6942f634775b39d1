"""From windows to a model: cross-validation, hard negatives, training, metrics, null distribution, prefilter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import torch

from .. import __version__
from ..errors import UsageError, did_you_mean
from ..evaluation import evaluate
from ..io.fasta import Genome
from ..log import logger
from ..models.bertsnr import BertSNR
from ..models.device import Runtime, choose_precision
from ..models.interface import check_name
from ..models.pretrained import weights_digest
from ..predict.significance import MIN_BACKGROUND, NullDistribution, window_call_levels
from ..sequence.windows import Windows, loci
from ..variation.substitutions import SUBSTITUTIONS, change_nulls
from .checkpoint import Checkpoint, digest
from .config import TRAINING_PRECISIONS, ModelDesign, Recipe
from .cross_validation import cross_validate
from .data import TrainingData, TrainingInputs, draw_background, split_data
from .fit import FitResult, fit
from .hard_negatives import mine_hard_negatives
from .prefilter import train_prefilter
from .processes import process_group, rank

REPORT_VERSION = 2


@dataclass
class TrainingRun:
    """One training: what goes in, and the steps to the model.

    Attributes
    ----------
    name : of the model
    inputs : windows and teachers
    design : what is trained
    settings : a whole `Recipe`, or fields of one that replace its defaults, see `Recipe.resolve`
    device : device of the model
    folds : folds of the cross-validation before the training, 0 for none
    prefilter : train a prefilter as well, on the background windows
    recipe, data : made of the above

    Raises
    ------
    UsageError : the windows cannot be divided, see `split_data`.
    ValueError : the name is empty or not printable.
    """

    name: str
    inputs: TrainingInputs
    design: ModelDesign
    settings: Recipe | Mapping[str, Any]
    device: torch.device
    folds: int = 0
    prefilter: bool = False
    recipe: Recipe = field(init=False)
    data: TrainingData = field(init=False)

    def __post_init__(self) -> None:
        check_name(self.name)
        given = {} if isinstance(self.settings, Recipe) else self.settings
        known = [setting.name for setting in fields(Recipe)]
        for setting in given:
            if setting not in known:
                raise UsageError(f"the recipe has no setting {setting!r}{did_you_mean(setting, known)}")
        recipe = self.settings if isinstance(self.settings, Recipe) else Recipe(**given)
        self.data = split_data(self.inputs, recipe)
        self.recipe = recipe if recipe is self.settings else Recipe.resolve(self.data, self.design, **given)
        windows = self.data.epoch_size(self.recipe.background_ratio)
        logger.info("%d windows in an epoch, %d for validation", windows, len(self.data.validation))

    def key(self) -> str:
        """A digest of all that the model depends on, for the checkpoint."""
        inputs, design = self.inputs, self.design
        return digest(
            inputs.positives,
            inputs.negatives,
            inputs.background,
            name=self.name,
            arch=design.arch,
            k=design.k,
            encoder=design.pretrained.digest() if design.pretrained else design.size,
            teachers=[weights_digest(teacher.state_dict()) for teacher in inputs.teachers],
            recipe=self.recipe,
            folds=self.folds,
            version=__version__,
        )

    def train(self, checkpoint: Checkpoint) -> FitResult:
        """Train the model, describe it in the first process, and restore torch's random state.

        Parameters
        ----------
        checkpoint : where an interrupted run left off; written after every epoch
        """
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            with process_group(self.device):
                tested = self._cross_validate(checkpoint)
                if self.recipe.hard_negatives and self.data.background and checkpoint.hard_negatives is None:
                    self._mine_hard_negatives(self.data.background, checkpoint)
                result = self._fit(self.data._replace(hard_negatives=checkpoint.hard_negatives), checkpoint)
            if rank() == 0:
                self._describe(result, checkpoint)
        if tested:
            result.model.info.training["folds"] = tested
        return result

    def _describe(self, result: FitResult, checkpoint: Checkpoint) -> None:
        """Set the model's metadata and null distributions, and train its prefilter."""
        info = result.model.info
        info.training = self._summary(result, checkpoint.hard_negatives)
        info.null = self._null_distribution(result.model)
        if info.null:
            info.variant_null = self._change_null(result.model)
        self._train_prefilter(result.model)

    def _fit(self, data: TrainingData, checkpoint: Checkpoint) -> FitResult:
        return fit(self.name, self.design, self.recipe, data, self.device, checkpoint)

    def _cross_validate(self, checkpoint: Checkpoint) -> list[dict[str, Any]]:
        if not self.folds:
            return []
        return cross_validate(self.name, self.design, self.recipe, self.inputs, self.folds, self.device, checkpoint)

    def _mine_hard_negatives(self, background: Windows, checkpoint: Checkpoint) -> None:
        """Mine them with the teachers, or with a first model."""
        judges = self.data.teachers or [self._fit(self.data, checkpoint).model]
        runtime = self.recipe.runtime(self.device)
        found = mine_hard_negatives(judges, background, len(self.data.positives), runtime)
        logger.info("%d hard negatives in every epoch: the background windows that score highest", len(found))
        checkpoint.hard_negatives = found
        checkpoint.save(None)

    def _summary(self, result: FitResult, hard_negatives: Windows | None) -> dict[str, Any]:
        """Data, recipe and validation metrics, plain values for the model's metadata."""
        data = self.data
        optional = {"background": data.background, "hard_negatives": hard_negatives}
        counts = {
            "chroms": sorted(set(loci(data.positives)[1]) - {""}),
            "positives": len(data.positives),
            "negatives": len(data.negatives or data.positives),
            **{kind: len(windows) for kind, windows in optional.items() if windows},
            "validation": len(data.validation),
        }
        chosen = {"validation_chroms": sorted(self.recipe.val_chroms), "encoder": self.design.encoder}
        return {
            "data": {**self.inputs.sources, **chosen, **counts},
            "recipe": asdict(self.recipe),
            "epochs": len(result.history),
            "validation": evaluate(result.model, data.validation, self.recipe.runtime(self.device)),
        }

    def _null_distribution(self, model: BertSNR) -> dict[str, Any]:
        """The null distribution as plain values, empty without enough background windows."""
        windows = self.data.null_windows
        if not windows:
            return {}
        if len(windows) < MIN_BACKGROUND:
            logger.warning(
                "only %d background windows are left for p-values (at least %d required); the model reports none",
                len(windows),
                MIN_BACKGROUND,
            )
            return {}
        logger.info("scoring %d background windows for p-values", len(windows))
        levels = window_call_levels(model, windows, self.recipe.runtime(self.device))
        return NullDistribution.fit(levels, windows.codes.shape[1]).as_dict()

    def _change_null(self, model: BertSNR) -> dict[str, Any]:
        """The null distribution of changes by substitutions as plain values."""
        assert self.data.null_windows
        codes = self.data.null_windows.codes[:SUBSTITUTIONS]
        [null] = change_nulls([model], codes, self.recipe.runtime(self.device))
        return null.as_dict() if null else {}

    def _train_prefilter(self, model: BertSNR) -> None:
        data = self.data
        if not self.prefilter or not data.background:
            return
        background = Windows.joined([windows for windows in (data.background, data.null_windows) if windows])
        train_prefilter(model, data.positives, background, self.recipe.runtime(self.device), self.recipe.seed)

    def report(self, result: FitResult) -> dict[str, Any]:
        """Plain values for --json: metrics of every epoch and the model's metadata."""
        model = result.model.info
        return {"version": REPORT_VERSION, "name": model.name, "history": result.history, **model.training}


def train_model(
    windows: Windows,
    *,
    negatives: Windows | None = None,
    background: Windows | Genome | None = None,
    recipe: Recipe | Mapping[str, Any] | None = None,
    design: ModelDesign | None = None,
    name: str = "TF",
    runtime: Runtime | None = None,
    checkpoint: str | None = None,
) -> BertSNR:
    """Train a model on labelled windows.

    Parameters
    ----------
    windows : positive windows, see `windows.read_windows`
    negatives : windows without a site; by default, new dinucleotide shuffles of the positives in every epoch
    background : genomic background windows without a site, or a genome to draw 100,000 of them from (see
        `data.draw_background`, which can also exclude intervals); a model trained with them reports p-values
    recipe : a whole `Recipe`, or fields that replace the defaults for these data, such as {"epochs": 5}
    design : network, k and encoder, see `ModelDesign.choose`; by default, the shipped compact encoder for k = 3
    name : name of the model, column 4 of its predictions
    runtime : device and precision; by default the CPU in fp32
    checkpoint : file to resume an interrupted training from; by default, no file is written

    Returns
    -------
    the model of the best epoch; `models.files.save_model` writes it

    Raises
    ------
    UsageError : the windows cannot be divided into training and validation.
    DataError : the checkpoint is of another training.
    """
    runtime = runtime or Runtime()
    settings = {} if recipe is None else recipe
    if not isinstance(settings, Recipe):
        known = runtime.precision in TRAINING_PRECISIONS
        precision = runtime.precision if known else choose_precision("auto", runtime.device, training=True)
        settings = {"precision": precision, **settings}
    if isinstance(background, Genome):
        seed = settings.seed if isinstance(settings, Recipe) else settings.get("seed", Recipe.seed)
        background = draw_background(background, windows, seed=seed)
    inputs = TrainingInputs(windows, negatives, background)
    run = TrainingRun(name, inputs, design or ModelDesign.choose(), settings, runtime.device)
    state = Checkpoint(checkpoint, run.key(), resume=True)
    model = run.train(state).model
    state.remove()
    return model
