"""Shared by gpu.py and gpu_training.py: sizes and state of a run, the models and windows that it measures with."""

from __future__ import annotations

import argparse
import json
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scan import WINDOW, operations

from bertsnr_tools.models.bertsnr import BertSNR
from bertsnr_tools.models.device import Runtime
from bertsnr_tools.models.files import load_factors, load_model
from bertsnr_tools.models.many_factor import ManyFactorModel, general_model
from bertsnr_tools.models.registry import find_model
from dnabert import matrix_rate
from measure import ROOT, machine, reported, rounded, seconds_of

DATA = ROOT / "test_data"
SITES = DATA / "expected" / "windows.fa"  # of CTCF
STEP = WINDOW // 2  # of `predict`
NO_TRITON = "import bertsnr_tools.models.bertsnr as b; b.new_triton_model = lambda model: None"


@dataclass
class Sizes:
    """How much work each stage does."""

    random: int = 300_000  # bases that are compared with the CPU
    windows: int = 8192  # for invariance
    batches: tuple[int, ...] = (256, 1024, 4096, 16384)
    matrix: int = 8192
    first: int = 8_000_000  # bases of the first `predict`
    most: int = 100_000_000  # and of the large one
    steps: int = 30  # of training
    scan_cpu: int = 3_000_000
    factors_compared: int = 20_000  # bases that all factors scan on GPU and CPU
    factors: int = 2_000_000  # bases that all factors scan on the GPU
    encoder: str = "new:192x7"  # of `wide`
    epoch: float = 11.0  # seconds of an epoch of `wide` that are expected, see there


TINY = Sizes(4000, 64, (8, 32), 128, 60_000, 120_000, 2, 30_000, 3000, 6000, "new:32x1", 20.0)


class Run:
    """One run of gpu.py: settings, the time left, and the figures so far."""

    def __init__(self, arguments: argparse.Namespace, scratch: Path):
        self.device, self.output, self.scratch = torch.device(arguments.device), arguments.output, scratch
        self.sizes, self.tiny = (TINY if arguments.tiny else Sizes()), arguments.tiny
        self.before = NO_TRITON if arguments.plain else ""
        self.factors, self.wide_seconds = arguments.factors, arguments.wide_seconds
        self.wide_options = shlex.split(arguments.wide_options)
        self.keep = arguments.output.parent if arguments.output else scratch
        self._end = time.perf_counter() + arguments.seconds
        self.result: dict[str, Any] = {"machine": machine(self.device), "stages": {}}
        self._rate = 0.0

    @property
    def left(self) -> float:
        return self._end - time.perf_counter()

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"

    def runtime(self, precision: str = "bf16", batch_size: int = 1024) -> Runtime:
        return Runtime((self.device,), precision, batch_size)

    def matrix_rate(self) -> float:
        """Operations per second of a large bf16 product, measured once."""
        self._rate = self._rate or max(matrix_rate(self.device, "bf16", self.sizes.matrix, 10) for _ in range(3))
        return self._rate

    def stage(self, name: str, work: Callable[[Run, dict[str, Any]], None], least: float) -> None:
        """Run a stage, print how it ended and rewrite the JSON file."""
        figures: dict[str, Any] = {}
        self.result["stages"][name] = figures
        print(f"\n== {name} ({self.left:.0f} s left)", flush=True)
        start = time.perf_counter()
        if self.left < least:
            figures["skipped"] = f"{self.left:.0f} s left, {least:.0f} s needed"
            print(figures["skipped"])
        else:
            with reported(name, figures):
                work(self, figures)
            if self.cuda:
                torch.cuda.empty_cache()
        figures["seconds"] = round(time.perf_counter() - start, 1)
        if self.output:
            self.output.write_text(json.dumps(rounded(self.result), indent=1) + "\n")
        print(f"-- {name}: {figures['seconds']} s", flush=True)


def ctcf(device: torch.device | str) -> BertSNR:
    return load_model(find_model("CTCF"), torch.device(device)).eval()


def human(device: torch.device | str) -> ManyFactorModel:
    model = general_model(load_factors(find_model("human"), device=torch.device(device))[0])
    assert model
    return model.eval()


def random_codes(count: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4, (count, WINDOW)).astype(np.uint8)


def rate_row(run: Run, model: Any, variant: str, batch: int, work: Callable[[], Any]) -> dict[str, Any]:
    """Rate of a function of `batch` windows."""
    row: dict[str, Any] = {"variant": variant, "batch": batch}
    with reported(variant, row), torch.inference_mode():
        per_second = batch / seconds_of(work, run.device)
        row |= {"windows_per_s": per_second, "strand_bases_per_s": STEP * per_second}
        row["of_matrix_rate"] = per_second * operations(model) / run.matrix_rate()
    return row
