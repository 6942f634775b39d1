"""Speed of training on a CPU: the training kernel against autograd, alternating in one run.

    python benchmarks/training_speed.py [--windows N] [--rounds N] [--batch-size N] [--precision bf16] [--threads 1,2]
                                        [--malloc-default]

Windows are random. A round trains on the same windows with either; CPU time counts as well, because it depends less on
other jobs. The median over the rounds is printed. As in the commands, malloc keeps freed memory.
"""

import argparse
import statistics
import time

import numpy as np
import torch

from bertsnr_tools.cli.limits import keep_freed_memory
from bertsnr_tools.models.kernels import training
from bertsnr_tools.sequence.windows import Windows
from bertsnr_tools.training.config import ModelDesign, Recipe
from bertsnr_tools.training.fit import Trainer

LENGTH, SITE = 101, slice(45, 56)  # bp


def random_windows(count: int) -> Windows:
    random = np.random.default_rng(1)
    codes = random.integers(0, 4, (count, LENGTH), dtype=np.uint8)
    labels = np.zeros((count, LENGTH), dtype=bool)
    labels[: count // 2, SITE] = True
    return Windows([f"window{number}" for number in range(count)], codes, labels)


def windows_per_second(trainer: Trainer, windows: Windows, number: int, fast: bool) -> tuple[float, float]:
    """Windows per second of wall time and of CPU time."""
    supports = training.supports
    if not fast:
        training.supports = lambda *_: False
    try:
        cpu, wall = time.process_time(), time.perf_counter()
        trainer.train_epoch(windows, number)
        return len(windows) / (time.perf_counter() - wall), len(windows) / (time.process_time() - cpu)
    finally:
        training.supports = supports


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--windows", type=int, default=960)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--encoder", default="new")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--malloc-default", action="store_true", help="let malloc return freed memory to the system")
    given = parser.parse_args()
    if not given.malloc_default:
        keep_freed_memory()
    windows = random_windows(given.windows)
    design = ModelDesign.choose(encoder=given.encoder)
    recipe = Recipe(precision=given.precision, batch_size=given.batch_size, epochs=1000)
    torch.manual_seed(1)
    trainer = Trainer(design.model(design.info("random", windows)), recipe)
    print("threads\tpath\twindows/s\twindows/CPU s")
    for threads in map(int, given.threads.split(",")):
        torch.set_num_threads(threads)
        rounds = [
            [windows_per_second(trainer, windows, number, fast) for fast in (False, True)]
            for number in range(given.rounds + 1)
        ][1:]  # the first warms up
        speeds = [[statistics.median(values) for values in zip(*path)] for path in zip(*rounds)]
        for path, (wall, cpu) in zip(("autograd", "kernel"), speeds):
            print(f"{threads}\t{path}\t{wall:.0f}\t{cpu:.0f}")
        ratios = [statistics.median(row[1][i] / row[0][i] for row in rounds) for i in (0, 1)]
        print(f"{threads}\tratio\t{ratios[0]:.2f}\t{ratios[1]:.2f}", flush=True)


if __name__ == "__main__":
    main()
