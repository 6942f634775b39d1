"""Training on two tasks at once (Luo et al. 2024, section 2.4): recipe, validation, checkpoints, cross-validation."""

from __future__ import annotations

from .metrics import six_metrics
from .models.batching import token_probabilities
from .models.bertsnr import BertSNR
from .models.device import Runtime
from .sequence.encoding import bases_from_tokens
from .sequence.windows import Windows

EVALUATION_BATCH = 64  # small enough for the cache of a CPU


def evaluate(model: BertSNR, windows: Windows, runtime: Runtime) -> dict[str, dict[str, float]]:
    """The paper's six metrics of a model on labelled windows, over bases (`nucleotide`) and windows (`sequence`)."""
    sequences, tokens = token_probabilities(model, windows.codes, runtime)
    return {
        "nucleotide": six_metrics(windows.labels, bases_from_tokens(tokens, model.info.k)),
        "sequence": six_metrics(windows.positive, sequences),
    }
