#!/usr/bin/env python3
"""Do concatenated shards equal the undivided scan?

    python benchmarks/shards.py [GENOME]

GENOME is an indexed FASTA, by default test_data's. Three shipped models scan it undivided and in 7 shards: the
concatenated BED files of the shards must equal the undivided file byte for byte, and a shard that was killed
(SIGKILL) and run again must equal the shard before. Then Snakemake, which must be installed, runs
workflow/Snakefile with the three models and 4 shards on two cores, is killed and run again: its BED, bigBed and bigWig
files must equal the undivided ones, and its hub must have the tracks of each model. Prints a table; exit status 1 when
anything is wrong.
"""

from __future__ import annotations

import argparse
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
    print(what, note, "ok" if right else "WRONG", sep="\t", flush=True)
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


def divided(genome: Path, model: str, directory: Path) -> None:
    """7 shards against the undivided scan, one of them killed and run again."""
    whole = seconds(predict(genome, model, directory / f"{model}.bed", "--bigwig", str(directory / f"{model}.bw")))
    files = [directory / f"{model}.{number}.bed" for number in range(1, SHARDS + 1)]
    commands = [predict(genome, model, path, "--shard", f"{number}/{SHARDS}") for number, path in enumerate(files, 1)]
    times = [seconds(command) for command in commands]
    seconds(predict(genome, model, directory / f"{model}.bb"))
    text = (directory / f"{model}.bed").read_bytes()
    sites = text.count(b"\n")
    report(
        f"{model}: {SHARDS} shards",
        sites > 0 and b"".join(path.read_bytes() for path in files) == text,
        f"{sites} sites; {sum(times):.1f} s, undivided {whole:.1f} s, {sum(times) / whole:.2f} x",
    )
    before = files[2].read_bytes()
    files[2].unlink()
    running = killed(commands[2], times[2] / 2)
    left = [path.name for path in directory.glob(f"*{files[2].name}*")]
    seconds(commands[2])
    report(
        f"{model}: a killed shard again",
        files[2].read_bytes() == before,
        f"killed {'while running' if running else 'after its end'}, left {', '.join(left) or 'nothing'}",
    )


def values(path: Path, chrom: str) -> np.ndarray:
    with pybigtools.open(str(path)) as file:
        return file.values(chrom, fillna=None) if chrom in file.chroms() else np.zeros(0)


def hub_files(model: str) -> list[str]:
    return [f"{model}.bb", f"{model}_signal.bw"]


def workflow(genome: Path, directory: Path) -> None:
    out = directory / "out"
    settings = [f"fasta={genome}", f"models={','.join(MODELS)}", "shards=4", f"out={out}", "assembly=test"]
    words = f"{BIN}/snakemake -q all -d {directory} -s {TOP}/workflow/Snakefile --cores 2 --rerun-incomplete --nolock"
    command = [*words.split(), "--config", *settings]
    os.environ["PATH"] = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    running = killed(command, 40)
    done = len(list(out.glob("shards/*.bb")))
    report("Snakemake, killed", running, f"{done} of {4 * len(MODELS)} shards were done")
    taken = seconds(command)
    lines = (out / "summary.tsv").read_text().splitlines()
    report("Snakemake, again", len(lines) == 1 + len(MODELS), f"{taken:.0f} s")
    chroms = [line.split("\t")[0] for line in Path(f"{genome}.fai").read_text().splitlines()]
    for model in MODELS:
        report(
            f"{model}: BED of the workflow",
            gzip.decompress((out / f"{model}.bed.gz").read_bytes()) == (directory / f"{model}.bed").read_bytes(),
        )
        report(
            f"{model}: bigBed of the workflow",
            (out / f"{model}.bb").read_bytes() == (directory / f"{model}.bb").read_bytes(),
        )
        same = [
            np.array_equal(values(out / f"{model}.bw", chrom), values(directory / f"{model}.bw", chrom), equal_nan=True)
            for chrom in chroms
        ]
        report(f"{model}: bigWig of the workflow", all(same), f"{len(same)} chromosomes")
    hub = (out / "hub" / "hub.txt").read_text()
    report("hub of the workflow", all(f"bigDataUrl {name}\n" in hub for model in MODELS for name in hub_files(model)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("genome", nargs="?")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        given = arguments.genome or shutil.copy(TOP / "test_data" / "genome.fa", directory)
        genome = Path(given).absolute()
        for model in MODELS:
            divided(genome, model, directory)
        workflow(genome, directory)
    sys.exit(bool(WRONG))


if __name__ == "__main__":
    main()
