#!/usr/bin/env python3
"""Time and memory of large inputs: each case at a tenth of its size and at full size.

    python benchmarks/load.py [--scale X]

A million BED regions on a chromosome of 250 Mb, ten million windows through a pipe, a million short FASTA
records, five hundred models, a single record of 250 Mb. Prints seconds (start-up included) and peak memory of
both sizes and their ratios; exit status 1 when a case takes more than 20 times as long for 10 times the input.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

BIN = Path(sys.executable).parent
DATA = Path(__file__).parent.parent / "test_data"
LETTERS = np.frombuffer(b"ACGT", dtype=np.uint8)
RANDOM = np.random.default_rng(1)


def records(count: int) -> Iterator[bytes]:
    """FASTA records of 100 bp, 10,000 at a time."""
    for first in range(0, count, 10_000):
        rows = LETTERS[RANDOM.integers(0, 4, (min(10_000, count - first), 100))]
        yield b"".join(b">r%d\n%s\n" % (first + number, row.tobytes()) for number, row in enumerate(rows))


def chromosome(path: Path, bases: int) -> None:
    with path.open("wb") as stream:
        stream.write(b">chr1\n")
        for _ in range(0, bases, 1_000_000):
            rows = np.full((10_000, 101), ord("\n"), dtype=np.uint8)
            rows[:, :100] = LETTERS[RANDOM.integers(0, 4, (10_000, 100))]
            stream.write(rows.tobytes())


def measure(words: list[str], directory: Path, stdin: Iterable[bytes] = ()) -> tuple[float, float]:
    """Seconds, and peak memory in MiB."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [BIN / f"bertsnr-{words[0]}", "-q", *words[1:]], cwd=directory, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    for part in stdin:
        process.stdin.write(part)  # type: ignore[union-attr]
    process.stdin.close()  # type: ignore[union-attr]
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{words}: status {status}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def regions(directory: Path, count: int) -> tuple[float, float]:
    starts = np.sort(RANDOM.integers(1000, 249_000_000, count))
    (directory / "r.bed").write_text("".join(f"chr1\t{start}\t{start + 19}\tTF\t0\t+\n" for start in starts.tolist()))
    return measure(["windows", "-f", "big.fa", "r.bed"], directory)


def single(directory: Path, bases: int) -> tuple[float, float]:
    chromosome(directory / "one.fa", bases)
    (directory / "one.fa.fai").unlink(missing_ok=True)
    return measure(["predict", "-m", "CTCF", "-f", "one.fa", "-r", f"chr1:{bases - 50_000}-{bases}"], directory)


CASES: dict[str, tuple[int, Callable[[Path, int], tuple[float, float]]]] = {
    "windows: BED regions": (1_000_000, regions),
    "shuffle: windows through a pipe": (
        10_000_000,
        lambda directory, count: measure(["shuffle", "-"], directory, records(count)),
    ),
    "predict --prefilter: records of 100 bp": (
        1_000_000,
        lambda directory, count: measure(["predict", "--prefilter", "-m", "CTCF", "-"], directory, records(count)),
    ),
    "predict: models, on 5 kb": (
        500,
        lambda directory, count: measure(["predict", *["-m", "CTCF"] * count, str(DATA / "region.fa")], directory),
    ),
    "predict: index of one record, 50 kb scanned": (250_000_000, single),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0)
    scale = parser.parse_args().scale
    slow = False
    print("case", "size", "seconds", "MiB", "size", "seconds", "MiB", "time ratio", "memory ratio", sep="\t")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        chromosome(directory / "big.fa", 250_000_000)
        measure(["windows", "-f", "big.fa", "-"], directory, [b"chr1\t1000\t1020\n"])  # makes the index
        for case, (size, run) in CASES.items():
            small, whole = int(size * scale) // 10, int(size * scale)
            one, other = run(directory, small), run(directory, whole)
            slow |= other[0] > 20 * one[0]
            sizes = (f"{size:,}\t{seconds:.1f}\t{mib:.0f}" for size, (seconds, mib) in ((small, one), (whole, other)))
            print(case, *sizes, f"{other[0] / one[0]:.1f}", f"{other[1] / one[1]:.2f}", sep="\t", flush=True)
    sys.exit(slow)


if __name__ == "__main__":
    main()
