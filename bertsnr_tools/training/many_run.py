"""From the windows of many factors to a many-factor model: training, metrics and null distribution of each factor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from .. import __version__
from ..log import logger
from ..metrics import Ranking
from ..models.interface import DEFAULT_THRESHOLD, check_name
from ..models.many_factor import ManyFactorModel
from ..models.pretrained import weights_digest
from ..predict.significance import MIN_BACKGROUND, NullDistribution, factor_call_levels
from ..sequence.windows import Windows
from ..variation.substitutions import SUBSTITUTIONS, change_nulls
from .checkpoint import Checkpoint, digest
from .config import ModelDesign, Recipe
from .factor_files import FactorInputs
from .factors import FactorData, split_factors
from .many_factor import BACKGROUND_SHARE, fit_many, probabilities_of_sets
from .processes import check_divisible, process_group, rank
from .run import REPORT_VERSION


@dataclass
class ManyFactorRun:
    """One training of a many-factor model.

    Attributes
    ----------
    inputs : windows of all factors
    design : what is trained
    settings : fields of a `Recipe` that replace its defaults, see `Recipe.for_factors`
    device : device of the model
    recipe, data : made of the above

    Raises
    ------
    UsageError : the windows cannot be divided, see `split_factors`, or the batches, see `processes.check_divisible`.
    ValueError : the name of a factor is empty or not printable.
    """

    inputs: FactorInputs
    design: ModelDesign
    settings: Mapping[str, Any]
    device: torch.device
    recipe: Recipe = field(init=False)
    data: FactorData = field(init=False)

    def __post_init__(self) -> None:
        inputs = self.inputs
        for name in inputs.sets:
            check_name(name)
        self.recipe = Recipe.for_factors(len(inputs.sets), self.design, **self.settings)
        data = split_factors(inputs.sets, self.recipe, inputs.background, inputs.known)
        self.data = data._replace(teachers=inputs.teachers)
        check_divisible(min(self.recipe.batch_size, self.data.epoch_size()), BACKGROUND_SHARE)
        logger.info("%d factors, %d windows in an epoch", len(inputs.sets), self.data.epoch_size())

    def key(self) -> str:
        """A digest of all that the model depends on, for the checkpoint."""
        inputs, design = self.inputs, self.design
        return digest(
            *inputs.sets.values(),
            inputs.background,
            names=list(inputs.sets),
            known=None if inputs.known is None else inputs.known.tobytes(),
            k=design.k,
            encoder=design.pretrained.digest() if design.pretrained else design.size,
            teachers=[weights_digest(teacher.state_dict()) for some in inputs.teachers for teacher in some],
            recipe=self.recipe,
            version=__version__,
        )

    def train(self, checkpoint: Checkpoint) -> tuple[ManyFactorModel, list[dict[str, float]]]:
        """Train the model, describe its factors in the first process, and restore torch's random state.

        Returns: see `fit_many`.
        """
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            with process_group(self.device):
                model, history = fit_many(self.data, self.design, self.recipe, self.device, checkpoint)
            if rank() == 0:
                self.describe(model, len(history))
        return model, history

    def describe(self, model: ManyFactorModel, epochs: int) -> None:
        """Set the metadata of every factor: data, recipe, validation metrics and null distribution."""
        recipe, data = asdict(self.recipe), self.data
        shared = {
            **self.inputs.sources,
            "validation_chroms": sorted(self.recipe.val_chroms),
            "encoder": self.design.encoder,
        }
        metrics = factor_metrics(model, data.validation, self.recipe.precision)
        for info, positives, held, measured in zip(model.infos, data.positives, data.validation, metrics):
            counts = {"positives": len(positives), "validation": len(held), "background": len(data.background or [])}
            info.training = {"data": shared | counts, "recipe": recipe, "epochs": epochs, "validation": measured}
        if data.null_windows is not None and data.null_known is not None:
            fit_nulls(model, data.null_windows, data.null_known, self.recipe)

    def report(self, model: ManyFactorModel, history: list[dict[str, float]]) -> dict[str, Any]:
        """Epochs and factors as plain values, for `--json`."""
        factors = [
            {
                "name": info.name,
                "site_width": info.site_width,
                "data": info.training["data"],
                **info.training["validation"],
            }
            for info in model.infos
        ]
        return {"version": REPORT_VERSION, "epochs": history, "recipe": asdict(self.recipe), "factors": factors}


def factor_metrics(model: ManyFactorModel, sets: list[Windows], precision: str) -> list[dict[str, dict[str, float]]]:
    """Six metrics of every factor on its own labelled windows, over bases ("nucleotide") and windows ("sequence")."""
    scored = probabilities_of_sets(model, sets, precision)
    return [
        {
            "nucleotide": Ranking(windows.labels, bases, DEFAULT_THRESHOLD).six_metrics(),
            "sequence": Ranking(windows.positive, whole, DEFAULT_THRESHOLD).six_metrics(),
        }
        for windows, (whole, bases) in zip(sets, scored)
    ]


def fit_nulls(model: ManyFactorModel, windows: Windows, known: np.ndarray, recipe: Recipe) -> None:
    """Set the null distributions of every factor that has enough background windows without a known site.

    Parameters
    ----------
    windows : background windows that the model was not trained on
    known : bool, shape (windows, factors), see `FactorData`
    """
    levels = factor_call_levels(model, windows, recipe.runtime(model.device))
    without = []
    for factor, info in enumerate(model.infos):
        free = levels[~known[:, factor], factor]
        if len(free) < MIN_BACKGROUND:
            without.append(info.name)
        else:
            info.null = NullDistribution.fit(free, windows.codes.shape[1]).as_dict()
    rows = np.linspace(0, len(windows) - 1, min(SUBSTITUTIONS, len(windows))).astype(int)  # from all chromosomes
    factors = [model.factor(number) for number in range(len(model.infos))]
    runtime = recipe.runtime(model.device)
    for info, null in zip(model.infos, change_nulls(factors, windows.codes[rows], runtime, known=known[rows])):
        info.variant_null = null.as_dict() if null and info.null else {}
    if without:
        logger.warning(
            "%d factors have fewer than %d background windows for p-values and report none: %s",
            len(without),
            MIN_BACKGROUND,
            ", ".join(without),
        )
