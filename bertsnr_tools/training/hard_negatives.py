"""Hard negatives: the background windows that a model takes for sites."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..models.bertsnr import BertSNR
from ..models.device import Runtime
from ..predict.significance import log_odds, window_call_levels
from ..sequence.encoding import reverse_complement_codes
from ..sequence.windows import Windows

MAX_FRACTION = 10  # at most one in ten background windows is a hard negative


def mine_hard_negatives(models: Sequence[BertSNR], background: Windows, count: int, runtime: Runtime) -> Windows:
    """The background windows, on either strand, with the highest sum of log odds; at most a tenth of them.

    Parameters
    ----------
    models : models that score the windows
    count : maximum number of windows
    """
    reverse = Windows(background.names, reverse_complement_codes(background.codes), background.labels)
    both = Windows.joined([background, reverse])
    scores = sum(log_odds(window_call_levels(model, both, runtime, both_strands=False)) for model in models)
    return both.take(np.argsort(-scores, kind="stable")[: min(count, len(background) // MAX_FRACTION)])
