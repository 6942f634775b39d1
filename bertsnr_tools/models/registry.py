"""The two-task network of BertSNR (Luo et al. 2024, section 2.3), its devices and its file format."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..io.motif_files import is_motif_file, read_motifs
from .device import Runtime
from .files import load_model
from .pwm import PwmModel

WEIGHTS = Path(__file__).parents[1] / "weights"


def shipped_models() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.stem for path in WEIGHTS.glob("*.pt"))


def find_model(name: str) -> str:
    """The file of a model: `name` itself when it is a file, else the shipped model of that name.

    Raises
    ------
    DataError : neither.
    """
    if os.path.exists(name) or os.sep in name:
        return name
    if name in shipped_models():
        return str(WEIGHTS / f"{name}.pt")
    raise DataError(f"no such file, and no shipped model of that name (shipped: {', '.join(shipped_models())})", name)


def load_models(names: Sequence[str], runtime: Runtime) -> list[Any]:
    """The models of several `-m`: model files, names of shipped models, and MEME or JASPAR files, of which every motif is one.

    Models have replicas on the further devices of `runtime`.

    Raises
    ------
    DataError : as of `model.find_model`, `model.load_model` and `motifs.read_motifs`.
    """
    models: list[Any] = []
    for name in names:
        path = find_model(name)
        if is_motif_file(path):
            models += [PwmModel(motif) for motif in read_motifs(path)]
        else:
            models.append(load_model(path, runtime.device))
            models[-1].replicas = [load_model(path, other) for other in runtime.devices[1:]]
    return models
