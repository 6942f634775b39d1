"""Models by name: shipped models, model files, and motif files whose PWMs serve as models."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DataError
from ..io.files import check_rereadable
from ..io.motif import unique_id
from ..io.motif_files import distinct_names, is_motif_file, read_motifs

if TYPE_CHECKING:
    from .device import Runtime
    from .interface import Model

WEIGHTS = Path(__file__).parents[1] / "weights"


def shipped_models() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.stem for path in WEIGHTS.glob("*.pt"))


def find_model(name: str) -> str:
    """The path of a model file.

    A shipped name wins over a file of that name in the working directory; `./CTCF` and `CTCF.pt` are always paths.

    Raises
    ------
    DataError : neither a shipped model nor a file, or a pipe.
    """
    check_rereadable(name)
    if os.sep in name:
        return name
    if name in shipped_models():
        return str(WEIGHTS / f"{name}.pt")
    if os.path.exists(name):
        return name
    raise DataError(f"no such file, and no shipped model of that name (shipped: {', '.join(shipped_models())})", name)


def load_models(names: Sequence[str], runtime: Runtime) -> list[Model]:
    """Load models, with replicas on the further devices of `runtime`.

    Parameters
    ----------
    names : model files, names of shipped models, and motif files, each of whose motifs becomes a model

    Returns
    -------
    models in the order of `names`, with different names: a repeated name gets a number, and see
    `io.motif_files.distinct_names` for PWMs

    Raises
    ------
    DataError : see `find_model`, `files.load_model` and `io.motif_files.read_motifs`.
    """
    from .files import load_model  # here, because the names of shipped models are listed without torch
    from .pwm import PwmModel

    paths = [find_model(name) for name in names]
    motifs = {at: read_motifs(path) for at, path in enumerate(paths) if is_motif_file(path)}
    distinct = iter(distinct_names(itertools.chain(*motifs.values())))
    models: list[Model] = []
    for at, path in enumerate(paths):
        if at in motifs:
            models += [PwmModel(motif) for motif in itertools.islice(distinct, len(motifs[at]))]
        else:
            models.append(load_model(path, runtime.device))
            models[-1].replicas = [load_model(path, device) for device in runtime.devices[1:]]
    taken: set[str] = set()
    for model in models:
        model.info.name = unique_id(model.info.name, taken)
        taken.add(model.info.name)
    return models
