#!/usr/bin/env python3
"""Fine-tuning an encoder of DNABERT's size (12 layers, 6-mers): time of an epoch, and fraction of the matrix rate
it reaches.

    python benchmarks/dnabert.py DATA TF [--windows N] [--device DEVICE]

The weights are random: time does not depend on them. They are written in the layout of DNABERT's checkpoints
and read as `bertsnr train --encoder` does; then the paper's recipe runs for one epoch on N training windows of
a published data set (default all). A step takes 6 operations per weight of the layers and token, and 12 per
pair of tokens, layer and hidden unit; the matrix rate is measured just before, on products of 4096 x 4096
matrices in the same precision.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from bertsnr_tools.cli.options import usable_cpus
from bertsnr_tools.models.device import choose_device, choose_precision
from bertsnr_tools.models.pretrained import read_pretrained
from bertsnr_tools.sequence.encoding import vocabulary
from bertsnr_tools.training.config import PAPER, ModelDesign, Recipe
from bertsnr_tools.training.data import TrainingInputs, split_data
from bertsnr_tools.training.fit import Trainer
from published import published_split

K = 6


def matrix_rate(device: torch.device, precision: str, size: int = 4096, repeats: int = 8) -> float:
    """Operations per second of products of two square matrices, fp32 or bf16."""
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


def write_checkpoint(directory: Path) -> None:
    """config.json, vocab.txt and pytorch_model.bin of a masked language model with DNABERT's dimensions."""
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(vocab_size=len(vocabulary(K)))
    torch.save(BertForMaskedLM(config).state_dict(), directory / "pytorch_model.bin")
    (directory / "config.json").write_text(json.dumps(config.to_dict()))
    (directory / "vocab.txt").write_text("\n".join(vocabulary(K)) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("tf")
    parser.add_argument("--windows", type=int)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    torch.set_num_threads(usable_cpus())
    device = choose_device(arguments.device)
    train, _ = published_split(arguments.data, arguments.tf)
    positives = train.take(np.arange(0, min(len(train), arguments.windows or len(train)), 2))
    recipe = Recipe(**PAPER | {"epochs": 1, "precision": choose_precision("auto", device, training=True)})
    data = split_data(TrainingInputs(positives), recipe)
    with tempfile.TemporaryDirectory() as directory:
        write_checkpoint(Path(directory))
        pretrained = read_pretrained(directory)
        design = ModelDesign("bertsnr", K, pretrained)
        model = design.model(design.info(arguments.tf, data.positives)).to(device)
    trainer, windows = Trainer(model, recipe), data.epoch(0, recipe)
    trainer.train_epoch(windows.take(np.arange(min(len(windows), 2 * recipe.batch_size))), 0)  # warm-up
    rate = matrix_rate(device, recipe.precision)
    wait(device)
    start = time.perf_counter()
    loss = trainer.train_epoch(windows, 0)
    wait(device)
    seconds = time.perf_counter() - start
    tokens = windows.codes.shape[1] - K + 3
    layers, hidden = (pretrained.config[key] for key in ("num_hidden_layers", "hidden_size"))
    weights = sum(value.numel() for name, value in model.encoder.named_parameters() if name.startswith("encoder."))
    work = len(windows) * (6 * weights * tokens + 12 * layers * hidden * tokens**2)
    per_second = f"{len(windows)} windows in {seconds:.1f} s, {len(windows) / seconds:.1f} per second"
    print(f"{arguments.tf} on {device}, {recipe.precision}: {per_second}, loss {loss:.4f}")
    reached, fraction = work / seconds / 1e12, work / seconds / rate
    print(f"{reached:.3f} of {rate / 1e12:.3f} Tflop/s measured for a {recipe.precision} product: {fraction:.1%}")


if __name__ == "__main__":
    main()
