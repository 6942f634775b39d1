#!/usr/bin/env python3
"""How fast are `shuffle` and `windows`?  Needs bedtools.

    python benchmarks/speed.py [SCRATCH_DIRECTORY]

shuffle: 60,000 random records of 100 bp, the whole command on one core. windows: 100,000 sites on a plain FASTA
of 250 Mb, beside `bedtools getfasta -s` for the same intervals; both run in turn, the best of five counts.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

CHROMS, LENGTH, SITES, RECORDS = 5, 50_000_000, 100_000, 60_000


def seconds(command: list[str], output: Path) -> float:
    with output.open("wb") as stream:
        start = time.perf_counter()
        subprocess.run(command, stdout=stream, check=True)
        return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scratch_directory", nargs="?")
    with tempfile.TemporaryDirectory(dir=parser.parse_args().scratch_directory) as name:
        directory = Path(name)
        rng = np.random.default_rng(1)
        bertsnr = str(Path(sys.executable).parent / "bertsnr")

        letters = np.frombuffer(b"ACGT", dtype=np.uint8)
        reads = letters[rng.integers(0, 4, (RECORDS, 100))]
        (directory / "records.fa").write_bytes(
            b"".join(b">r%d\n%s\n" % (i, row.tobytes()) for i, row in enumerate(reads))
        )
        core = {min(os.sched_getaffinity(0))}
        everything = os.sched_getaffinity(0)
        os.sched_setaffinity(0, core)
        best = min(
            seconds([bertsnr, "shuffle", str(directory / "records.fa")], directory / "shuffled.fa") for _ in range(5)
        )
        os.sched_setaffinity(0, everything)
        rate = f"{best:.2f} s on one core, start-up included, {RECORDS / best:,.0f} records/s"
        print(f"shuffle: {RECORDS:,} records of 100 bp in {rate}")

        with (directory / "genome.fa").open("wb") as stream:
            for chrom in range(CHROMS):
                rows = np.full((LENGTH // 50, 51), ord("\n"), dtype=np.uint8)
                rows[:, :50] = letters[rng.integers(0, 4, (LENGTH // 50, 50))]
                stream.write(b">chr%d\n" % chrom + rows.tobytes())
        starts = np.sort(rng.integers(200, LENGTH - 200, (CHROMS, SITES // CHROMS)), axis=1)
        sites = "".join(
            f"chr{c}\t{s}\t{s + 15}\tsite\t0\t{'+-'[s % 2]}\n" for c, row in enumerate(starts) for s in row.tolist()
        )
        (directory / "sites.bed").write_text(sites)
        windows = [bertsnr, "windows", "-f", str(directory / "genome.fa"), str(directory / "sites.bed")]
        seconds(windows, directory / "windows.fa")  # makes the index, and warms the page cache
        intervals = re.findall(r"::(\S+):(\d+)-(\d+)\((.)\)", (directory / "windows.fa").read_text())
        (directory / "windows.bed").write_text("".join(f"{c}\t{a}\t{b}\t.\t0\t{s}\n" for c, a, b, s in intervals))
        bedtools = [
            "bedtools",
            "getfasta",
            "-s",
            "-fi",
            str(directory / "genome.fa"),
            "-bed",
            str(directory / "windows.bed"),
        ]
        rounds = [
            (seconds(windows, directory / "windows.fa"), seconds(bedtools, directory / "bedtools.fa")) for _ in range(5)
        ]
        ours, theirs = (min(column) for column in zip(*rounds))
        same = (directory / "windows.fa").read_text().split("\n")[1::2] == [
            line.upper() for line in (directory / "bedtools.fa").read_text().split("\n")[1::2]
        ]
        times = f"{ours:.2f} s, bedtools getfasta {theirs:.2f} s, {ours / theirs:.2f} times as long"
        print(f"windows: {len(intervals):,} sites in {times}, sequences {'equal' if same else 'DIFFER'}")


if __name__ == "__main__":
    main()
