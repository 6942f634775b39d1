#!/usr/bin/env python3
"""Time and memory when there is much of something: each case at a tenth of its size and whole.

    python benchmarks/load.py [--scale X]

A million BED regions on a chromosome of 250 Mb, ten million windows through a pipe, a million short FASTA records, five hundred models, a
single record of 250 Mb. Prints seconds and peak memory (of the process itself) of both sizes and how many times as much the whole takes, start of
the program included; ends with status 1 when a case takes more than 20 times as long for 10 times as much.
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
    """FASTA records of 100 bp, some thousand at a time."""
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


def measure(words: list[str], place: Path, stdin: Iterable[bytes] = ()) -> tuple[float, float]:
    """Seconds, and MiB at most."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [BIN / f"bertsnr-{words[0]}", "-q", *words[1:]], cwd=place, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    for part in stdin:
        process.stdin.write(part)  # type: ignore[union-attr]
    process.stdin.close()  # type: ignore[union-attr]
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{words}: status {status}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def regions(place: Path, count: int) -> tuple[float, float]:
    starts = np.sort(RANDOM.integers(1000, 249_000_000, count))
    (place / "r.bed").write_text("".join(f"chr1\t{start}\t{start + 19}\tTF\t0\t+\n" for start in starts.tolist()))
    return measure(["windows", "-f", "big.fa", "r.bed"], place)


def single(place: Path, bases: int) -> tuple[float, float]:
    chromosome(place / "one.fa", bases)
    (place / "one.fa.fai").unlink(missing_ok=True)
    return measure(["predict", "-m", "CTCF", "-f", "one.fa", "-r", f"chr1:{bases - 50_000}-{bases}"], place)


CASES: dict[str, tuple[int, Callable[[Path, int], tuple[float, float]]]] = {
    "windows: BED regions": (1_000_000, regions),
    "shuffle: windows through a pipe": (
        10_000_000,
        lambda place, count: measure(["shuffle", "-"], place, records(count)),
    ),
    "predict --prefilter: records of 100 bp": (
        1_000_000,
        lambda place, count: measure(["predict", "--prefilter", "-m", "CTCF", "-"], place, records(count)),
    ),
    "predict: models, on 5 kb": (
        500,
        lambda place, count: measure(["predict", *["-m", "CTCF"] * count, str(DATA / "region.fa")], place),
    ),
    "predict: index of one record, 50 kb scanned": (250_000_000, single),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0)
    scale = parser.parse_args().scale
    slow = False
    print("case", "size", "seconds", "MiB", "size", "seconds", "MiB", "times as long", "times the memory", sep="\t")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        chromosome(place / "big.fa", 250_000_000)
        measure(["windows", "-f", "big.fa", "-"], place, [b"chr1\t1000\t1020\n"])  # makes the index
        for case, (size, run) in CASES.items():
            small, whole = int(size * scale) // 10, int(size * scale)
            one, other = run(place, small), run(place, whole)
            slow |= other[0] > 20 * one[0]
            print(
                case,
                f"{small:,}",
                f"{one[0]:.1f}",
                f"{one[1]:.0f}",
                f"{whole:,}",
                f"{other[0]:.1f}",
                f"{other[1]:.0f}",
                f"{other[0] / one[0]:.1f}",
                f"{other[1] / one[1]:.2f}",
                sep="\t",
                flush=True,
            )
    sys.exit(slow)


if __name__ == "__main__":
    main()
