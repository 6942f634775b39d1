#!/usr/bin/env python3
"""Add the null distributions of changes to model files: workflow/variant_nulls.py BACKGROUND.fa MODEL.pt…

BACKGROUND.fa contains genomic background windows that the models were not trained on (bertsnr windows --background).
One random substitution is scored in the middle of each of 10,000 of them, with every factor of the files, which are
rewritten and change in nothing else. `bertsnr train` does the same for models that it trains with background.
"""

from __future__ import annotations

import sys

import numpy as np
import torch

from bertsnr_tools.models.device import Runtime
from bertsnr_tools.models.files import load_factors, save_model
from bertsnr_tools.models.many_factor import shared_model
from bertsnr_tools.sequence.windows import read_windows
from bertsnr_tools.variation.substitutions import change_nulls

WINDOWS = 10_000


def add_nulls(path: str, codes) -> None:
    """Rewrite a model file with the null distribution of each factor."""
    models = load_factors(path)
    runtime = Runtime.choose("cpu", "fp32")
    for model, null in zip(models, change_nulls(models, codes, runtime)):
        model.info.variant_null = null.as_dict() if null else {}
    save_model(path, shared_model(models[0]) or models[0])
    print(f"{path}: {sum(bool(model.info.variant_null) for model in models)} of {len(models)} factors", file=sys.stderr)


def main(background: str, *paths: str) -> None:
    torch.set_num_threads(1)
    codes = read_windows(background, False, 3).codes
    codes = codes[np.linspace(0, len(codes) - 1, min(WINDOWS, len(codes))).astype(int)]
    for path in paths:
        add_nulls(path, codes)


if __name__ == "__main__":
    main(*sys.argv[1:])
