#!/usr/bin/env python3
"""Does the same command always write the same bytes on a busy machine?

    python benchmarks/repeat.py [--runs N] [--load N] [--model MODEL] [FASTA]

Runs `bertsnr predict` --runs times (default 300), two at a time, each with sites and base probabilities, beside
--load busy processes (default two per core), and prints the number of different results. Exit status 1 if there
is more than one.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from bertsnr_tools.cli.options import usable_cpus
from bertsnr_tools.models.device import choose_precision
from bertsnr_tools.models.files import load_model
from bertsnr_tools.models.kernels.amx import supports
from bertsnr_tools.models.registry import find_model

REGION = Path(__file__).parents[1] / "test_data" / "region.fa"


def result(model: str, fasta: str, directory: str, number: int) -> str:
    graph = Path(directory) / f"{number}.bdg"
    sites = subprocess.run(
        [Path(sys.executable).parent / "bertsnr", "predict", "-q", "-m", model, "--bedgraph", graph, fasta],
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    digest = hashlib.sha256(sites + graph.read_bytes()).hexdigest()
    graph.unlink()
    return digest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("fasta", nargs="?", default=str(REGION))
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--load", type=int, default=2 * usable_cpus())
    parser.add_argument("--model", default="CTCF")
    arguments = parser.parse_args()
    precision = choose_precision("auto", torch.device("cpu"))
    with_kernel = precision == "bf16" and supports(load_model(find_model(arguments.model)).encoder)
    kernel = "with" if with_kernel else "without"
    print(f"{precision}, {kernel} the AMX kernel, {usable_cpus()} cores, {arguments.load} busy processes")
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(arguments.load)]
    try:
        with tempfile.TemporaryDirectory() as directory, ThreadPoolExecutor(2) as pool:
            found = Counter(
                pool.map(
                    lambda number: result(arguments.model, arguments.fasta, directory, number), range(arguments.runs)
                )
            )
    finally:
        for process in busy:
            process.kill()
    most_common = ", ".join(f"{count} of {digest[:12]}" for digest, count in found.most_common(5))
    print(f"{found.total()} runs, {len(found)} different result(s): {most_common}")
    sys.exit(len(found) > 1)


if __name__ == "__main__":
    main()
