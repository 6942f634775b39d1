#!/usr/bin/env python3
"""Are shards, put together, the undivided scan?

    python benchmarks/shards.py [GENOME]

GENOME is an indexed FASTA, by default that of test_data. Three shipped models scan it undivided and in 7 shards; the shards' BED files, one
after the other, must be the undivided one byte for byte, and a shard that was killed with -9 and is run again must be what it was. Then
Snakemake, which must be installed, runs workflow/Snakefile with the three models and 4 shards on two cores: it is killed with -9, run again, and
its BED and bigWig files must be the undivided ones. Prints a table and ends with status 1 when anything was wrong.
"""

from __future__ import annotations

import gzip
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pybigtools

MODELS = ("CTCF", "GATA3", "YY1")
SHARDS = 7
BIN = Path(sys.executable).parent
TOP = Path(__file__).parent.parent
WRONG = []


def report(what: str, right: bool, note: str = "") -> None:
    print(what, note, "as it should be" if right else "WRONG", sep="\t", flush=True)
    if not right:
        WRONG.append(what)


def predict(genome: Path, model: str, output: Path, *options: str) -> list[str]:
    return [str(BIN / "bertsnr"), "predict", "-q", "-m", model, "-f", str(genome), "-o", str(output), *options]


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - start


def killed(command: list[str], after: float) -> bool:
    """Start it, kill it and all that it started; whether it was still running."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    time.sleep(after)
    running = process.poll() is None
    if running:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return running


def divided(genome: Path, model: str, place: Path) -> None:
    """7 shards against the undivided scan, one of them killed and run again."""
    whole = seconds(predict(genome, model, place / f"{model}.bed", "--bigwig", str(place / f"{model}.bw")))
    files = [place / f"{model}.{number}.bed" for number in range(1, SHARDS + 1)]
    commands = [predict(genome, model, path, "--shard", f"{number}/{SHARDS}") for number, path in enumerate(files, 1)]
    shares = [seconds(command) for command in commands]
    text = (place / f"{model}.bed").read_bytes()
    sites = text.count(b"\n")
    report(
        f"{model}: {SHARDS} shards",
        sites > 0 and b"".join(path.read_bytes() for path in files) == text,
        f"{sites} sites; {sum(shares):.1f} s for {whole:.1f} s, {sum(shares) / whole:.2f} x",
    )
    before = files[2].read_bytes()
    files[2].unlink()
    running = killed(commands[2], shares[2] / 2)
    left = [path.name for path in place.glob(f"*{files[2].name}*")]
    seconds(commands[2])
    report(
        f"{model}: a killed shard again",
        files[2].read_bytes() == before,
        f"killed {'while it ran' if running else 'after its end'}, it left {', '.join(left) or 'nothing'}",
    )


def values(path: Path, chrom: str) -> np.ndarray:
    with pybigtools.open(str(path)) as file:
        return file.values(chrom, fillna=None) if chrom in file.chroms() else np.zeros(0)


def workflow(genome: Path, place: Path) -> None:
    out = place / "out"
    settings = [f"fasta={genome}", f"models={','.join(MODELS)}", "shards=4", f"out={out}"]
    command = [
        str(BIN / "snakemake"),
        "-q",
        "all",
        "-d",
        str(place),
        "-s",
        str(TOP / "workflow" / "Snakefile"),
        "--cores",
        "2",
        "--rerun-incomplete",
        "--nolock",
        "--config",
        *settings,
    ]
    os.environ["PATH"] = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    running = killed(command, 40)
    done = len(list(out.glob("shards/*.bed")))
    report("Snakemake, killed", running, f"{done} of {4 * len(MODELS)} shards were done")
    taken = seconds(command)
    lines = (out / "summary.tsv").read_text().splitlines()
    report("Snakemake, again", len(lines) == 1 + len(MODELS), f"{taken:.0f} s")
    chroms = [line.split("\t")[0] for line in Path(f"{genome}.fai").read_text().splitlines()]
    for model in MODELS:
        report(
            f"{model}: BED of the workflow",
            gzip.decompress((out / f"{model}.bed.gz").read_bytes()) == (place / f"{model}.bed").read_bytes(),
        )
        same = [
            np.array_equal(values(out / f"{model}.bw", chrom), values(place / f"{model}.bw", chrom), equal_nan=True)
            for chrom in chroms
        ]
        report(f"{model}: bigWig of the workflow", all(same), f"{len(same)} chromosomes")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        genome = (
            Path(sys.argv[1]).absolute()
            if len(sys.argv) > 1
            else Path(shutil.copy(TOP / "test_data" / "genome.fa", place))
        )
        for model in MODELS:
            divided(genome, model, place)
        workflow(genome, place)
    sys.exit(bool(WRONG))


if __name__ == "__main__":
    main()
