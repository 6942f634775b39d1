"""Models by name: shipped models, model files and their factors, and motif files whose PWMs serve as models."""

from __future__ import annotations

import itertools
import json
import os
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..errors import DataError, UsageError, did_you_mean
from ..io.files import check_rereadable
from ..io.jaspar import is_jaspar_name, named_motifs
from ..io.motif import Motif, unique_id
from ..io.motif_files import distinct_names, is_motif_file, read_motifs
from ..log import logger

if TYPE_CHECKING:
    from .bertsnr import BertSNR
    from .device import Runtime
    from .interface import Model

WEIGHTS = Path(__file__).parents[1] / "weights"
TABLE = "models.json"  # in WEIGHTS: see `shipped_table`


class ModelChoice(NamedTuple):
    """A file or the name of JASPAR's motifs, and which of the factors of a file are chosen; None for all."""

    path: str
    factors: tuple[str, ...] | None = None


def shipped_table() -> dict[str, dict[str, str]]:
    """Properties of the shipped models by name, known without torch; `human:SOX10` is a factor of `human.pt`."""
    return json.loads((WEIGHTS / TABLE).read_text())


def shipped_factors(file: str | None = None) -> dict[str, str]:
    """The factors of shipped many-factor models, with the name of their model.

    Parameters
    ----------
    file : name of the only model to list
    """
    names = (name.partition(":") for name in shipped_table() if ":" in name)
    return {factor: model for model, _, factor in names if file in (None, model)}


def shipped_files() -> list[str]:
    """Names of the model files that come with the package, of one factor or of many."""
    return sorted(path.stem for path in WEIGHTS.glob("*.pt"))


def shipped_models() -> list[str]:
    """Names of the models that come with the package: every factor that has one."""
    factors = shipped_factors()
    return sorted(set(shipped_files()) - set(factors.values()) | set(factors))


def find(name: str) -> ModelChoice:
    """The file and the factors that a name stands for.

    * `CTCF`: the shipped model of this factor, or else the factor of a shipped many-factor model;
    * `human`: all factors of a shipped many-factor model;
    * `human:CTCF,SOX10`, `my.pt:CTCF`: some factors;
    * `jaspar:GATA3`, `jaspar2022:MA0037`: motifs of a JASPAR release, see `io.jaspar.named_motifs`;
    * otherwise a path. `./CTCF` and `CTCF.pt` are always paths, and so is the name of a file that contains a colon.

    Raises
    ------
    DataError : neither a shipped model nor a file, a pipe, or no such factor.
    """
    check_rereadable(name)
    if shipped := _shipped(name):
        return shipped
    if os.path.exists(name) or is_jaspar_name(name):
        return ModelChoice(name)
    for at in (at for at, letter in enumerate(name) if letter == ":"):
        base = _shipped(name[:at]) or ModelChoice(name[:at])
        if base.factors is None and os.path.isfile(base.path):
            return base._replace(factors=_named_factors(name, at, base.path))
    if os.sep in name:
        return ModelChoice(name)
    many, (_, colon, factors) = set(shipped_factors().values()), name.partition(":")
    hint = did_you_mean(name, [*shipped_models(), *(f"{model}{colon}{factors}" for model in many)])
    if all(map(_shipped, parts := name.split(","))):
        hint = f"; for several, give -m {' -m '.join(parts)}"
    raise DataError(f"no such file, and no shipped model of that name{hint} (see `bertsnr models`)", name)


def _shipped(name: str) -> ModelChoice | None:
    if os.sep in name:
        return None
    if name in shipped_files():
        return ModelChoice(str(WEIGHTS / f"{name}.pt"))
    model = shipped_factors().get(name)
    return ModelChoice(str(WEIGHTS / f"{model}.pt"), (name,)) if model else None


def _named_factors(name: str, colon: int, path: str) -> tuple[str, ...]:
    """The factors after the colon of a name; checked if the model is shipped."""
    factors = tuple(name[colon + 1 :].split(","))
    if "" in factors:
        raise DataError("expected factors after the colon, separated by commas", name)
    if Path(path).parent == WEIGHTS and (known := shipped_factors(name[:colon])):
        for factor in factors:
            check_factor(factor, known, name[:colon])
    return factors


def check_factor(name: str, known: Collection[str], path: str) -> None:
    """Refuse a factor that a model file does not contain.

    Raises
    ------
    DataError : `name` is not one of `known`, the factors of `path`.
    """
    if name not in known:
        hint = did_you_mean(name, known)
        raise DataError(f"contains no factor {name!r}{hint} (see `bertsnr models {path}`)", path)


def find_model(name: str) -> str:
    """The path of the model file that a name stands for; see `find`."""
    return find(name).path


def factors_of(name: str) -> list[str]:
    """The names of the models that `load_models` makes of a name; known without torch if they are shipped.

    Raises
    ------
    DataError : see `load_models`.
    """
    choice = find(name)
    path = Path(choice.path)
    if path.parent == WEIGHTS:
        return list(choice.factors or shipped_factors(path.stem) or [path.stem])
    from .device import Runtime

    return [model.info.name for model in load_models([name], Runtime())]


def load_models(names: Sequence[str], runtime: Runtime) -> list[Model]:
    """Load models, with replicas on the further devices of `runtime`.

    A many-factor file is loaded once, so that its factors share its encoders. A model that is chosen twice is taken
    once. A factor named like another model gets the name of its file too, such as `human:CTCF`, a PWM its id.

    Parameters
    ----------
    names : names of shipped models, model files, factors of both and names of JASPAR's motifs (see `find`), and motif
        files, each of whose motifs becomes a model

    Returns
    -------
    models in the order of `names`; all have different names, PWMs as by `io.motif_files.distinct_names`

    Raises
    ------
    DataError : see `find`, `check_factor`, `files.load_factors`, `io.motif_files.read_motifs` and
        `io.jaspar.named_motifs`.
    UsageError : see `io.jaspar.named_motifs`.
    """
    from .pwm import PwmModel  # here, because the names of shipped models are listed without torch

    choices = [find(name) for name in names]
    motifs = {at: found for at, choice in enumerate(choices) if (found := _motifs(choice.path))}
    distinct = iter(distinct_names(itertools.chain(*motifs.values())))
    files = _ModelFiles(runtime)
    models: list[Model] = []
    for at, choice in enumerate(choices):
        if at not in motifs:
            models += files.take(choice)
        elif choice.factors:
            raise DataError("factors can be chosen from model files only, not from motif files", choice.path)
        else:
            models += [PwmModel(motif) for motif in itertools.islice(distinct, len(motifs[at]))]
    count = Counter(model.info.name for model in models)
    for factor, file in files.many_factor:
        if count[factor.info.name] > 1:
            factor.info = replace(factor.info, name=f"{Path(file).stem}:{factor.info.name}")
    taken: set[str] = set()
    for model in models:
        name = model.info.name
        if name in taken:
            with_id = model.info.is_pwm and model.info.matrix not in ("", name)
            model.info.name = unique_id(f"{model.info.matrix}:{name}" if with_id else name, taken)
            logger.warning("another model is named %s, too; this one is named %s in the output", name, model.info.name)
        taken.add(model.info.name)
    return models


def _motifs(path: str) -> list[Motif]:
    """The motifs of a file or of a name in JASPAR; empty for a model file."""
    if is_jaspar_name(path) and not os.path.exists(path):
        return named_motifs(path)
    return read_motifs(path) if is_motif_file(path) else []


class _ModelFiles:
    """Model files; each is loaded once, and each of its factors is taken once.

    Attributes
    ----------
    many_factor : the models that were taken from many-factor files, with their file
    """

    def __init__(self, runtime: Runtime):
        self._devices = runtime.devices
        self._left: dict[str, dict[str, BertSNR | None]] = {}  # of each file by factor; None: taken
        self.many_factor: list[tuple[BertSNR, str]] = []

    def take(self, choice: ModelChoice) -> list[BertSNR]:
        """The models of a choice that are not in earlier choices."""
        from .many_factor import shared_model

        path = os.path.realpath(choice.path)
        left = self._left.get(path) or {model.info.name: model for model in self._load(choice.path)}
        for factor in choice.factors or ():
            check_factor(factor, left, choice.path)
        taken = {factor: model for factor in choice.factors or left if (model := left[factor])}
        self._left[path] = left | dict.fromkeys(taken)
        self.many_factor += [(model, path) for model in taken.values() if shared_model(model)]
        return list(taken.values())

    def _load(self, path: str) -> list[BertSNR]:
        """All models of a file, with replicas."""
        from .files import load_factors
        from .many_factor import shared_model

        models, *copies = (load_factors(path, device=device) for device in self._devices)
        for replicas in copies:
            for model, replica in zip(models, replicas):
                model.replicas.append(replica)
            if (many := shared_model(models[0])) and (copy := shared_model(replicas[0])):
                for one, other in dict(zip((many, *many.group), (copy, *copy.group))).items():
                    one.replicas.append(other)
        return models


def load_one(name: str, runtime: Runtime) -> Model:
    """Load the only model of a name, where one is expected; see `load_models`.

    Raises
    ------
    UsageError : the name stands for several.
    """
    from .pwm import PwmModel

    models = load_models([name], runtime)
    if len(models) == 1:
        return models[0]
    choice = find(name)
    if isinstance(models[0], PwmModel):
        raise UsageError(f"{name}: contains {len(models)} matrices; expected one")
    base = name.removesuffix(":" + ",".join(choice.factors or ()))
    raise UsageError(f"{name}: {len(models)} factors; choose one, such as {base}:{models[0].info.name}")
