#!/usr/bin/env python3
"""Fine-tuning an encoder of DNABERT's shape (12 layers, 6-mers): time for an epoch, and the share of the matrix rate it reaches.

    python benchmarks/dnabert.py DATA TF [--windows N] [--device DEVICE]

The weights are random: time does not depend on them. They are written in the layout of DNABERT's checkpoints and read back as
`bertsnr train --encoder` does; then the paper's recipe runs for one epoch on N training windows of a published data set (all, by
default). The arithmetic of a step is counted as 6 operations for each weight of the layers and token, and 12 for each pair of
tokens, layer and hidden unit; the matrix rate is that of a product of two 4096 x 4096 matrices in the same arithmetic, measured just before.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from bertsnr_tools.cli.options import cores
from bertsnr_tools.models.device import choose_device, choose_precision
from bertsnr_tools.models.pretrained import read_pretrained
from bertsnr_tools.sequence.encoding import vocabulary
from bertsnr_tools.train.config import PAPER, ModelDesign, Recipe
from bertsnr_tools.train.data import split_data
from bertsnr_tools.train.fit import _optimizer, _train_epoch
from published import published_split

K = 6


def matrix_rate(device: torch.device, precision: str, size: int = 4096, repeats: int = 8) -> float:
    """Operations a second of a product of two square matrices, fp32 or bf16."""
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    one, other = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    for count in (2, repeats):  # the first round warms up
        wait(device)
        start = time.perf_counter()
        for _ in range(count):
            one @ other
        wait(device)
    return 2 * size**3 * repeats / (time.perf_counter() - start)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def write_checkpoint(folder: Path) -> None:
    """config.json, vocab.txt and pytorch_model.bin of a masked language model with DNABERT's dimensions."""
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(vocab_size=len(vocabulary(K)))
    torch.save(BertForMaskedLM(config).state_dict(), folder / "pytorch_model.bin")
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    (folder / "vocab.txt").write_text("\n".join(vocabulary(K)) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("tf")
    parser.add_argument("--windows", type=int)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    torch.set_num_threads(cores())
    device = choose_device(arguments.device)
    train, _ = published_split(arguments.data, arguments.tf)
    positives = train.take(np.arange(0, min(len(train), arguments.windows or len(train)), 2))
    data = split_data(positives, None, set(), 0.1, 1)
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(Path(folder))
        pretrained = read_pretrained(folder)
        recipe = replace(Recipe(**PAPER), epochs=1, precision=choose_precision("auto", device))
        design = ModelDesign("bertsnr", K, pretrained)
        model = design.model(design.info(arguments.tf, data.positives)).to(device)
    optimizer = _optimizer(model, recipe)
    average = {name: value.clone() for name, value in model.state_dict().items()}
    windows = data.epoch(0, recipe)
    _train_epoch(
        model, average, optimizer, recipe, windows.take(np.arange(min(len(windows), 2 * recipe.batch_size))), 0, ()
    )
    rate = matrix_rate(device, recipe.precision)
    wait(device)
    start = time.perf_counter()
    loss = _train_epoch(model, average, optimizer, recipe, windows, 0, ())
    wait(device)
    seconds = time.perf_counter() - start
    tokens = windows.codes.shape[1] - K + 3
    layers, hidden = (pretrained.config[key] for key in ("num_hidden_layers", "hidden_size"))
    weights = sum(value.numel() for name, value in model.encoder.named_parameters() if name.startswith("encoder."))
    work = len(windows) * (6 * weights * tokens + 12 * layers * hidden * tokens**2)
    print(
        f"{arguments.tf} on {device}, {recipe.precision}: {len(windows)} windows in {seconds:.1f} s, {len(windows) / seconds:.1f} a second, loss {loss:.4f}"
    )
    print(
        f"{work / seconds / 1e12:.3f} of {rate / 1e12:.3f} Tflop/s measured for a product in {recipe.precision}: {work / seconds / rate:.1%}"
    )


if __name__ == "__main__":
    main()
