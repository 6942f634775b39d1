#!/usr/bin/env python3
"""How long do commands take to start? Each is run several times; the best counts.

    python benchmarks/startup.py [--rounds N]

Measures `import torch` alone, `bertsnr predict -m CTCF` on one record of 100 bp, and every command that needs no model.
Prints a table of seconds and goals: the time of `import torch` plus 0.7 s with a model, 0.3 s without. Exit status 1
when a goal is missed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from commands import launcher

DATA = Path(__file__).parents[1] / "test_data"
WITH_MODEL, WITHOUT_MODEL = 0.7, 0.3  # seconds, the former beyond the time of `import torch`


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def cases(directory: Path) -> dict[str, list[str]]:
    """Commands by name, on small inputs in the directory."""
    genome, record = directory / "genome.fa", directory / "record.fa"
    genome.write_bytes((DATA / "genome.fa").read_bytes())
    (directory / "sites.bed").write_text("".join((DATA / "sites.bed").read_text().splitlines(keepends=True)[:20]))
    sequence = "".join((DATA / "region.fa").read_text().splitlines()[1:])
    record.write_text(f">record\n{sequence[1800:1900]}\n")
    seconds([launcher(), "windows", "-q", "-f", str(genome), str(directory / "sites.bed")])  # builds the index
    words = {
        "predict": f"predict -q -m CTCF {record}",
        "--help": "--help",
        "--version": "--version",
        **{f"{name} --help": f"{name} --help" for name in ("predict", "train", "motifs")},
        "windows": f"windows -q -f {genome} {directory / 'sites.bed'}",
        "windows --background": f"windows -q --background -f {genome} {directory / 'sites.bed'}",
        "shuffle": f"shuffle -q {record}",
        "models": "models",
    }
    return {name: [launcher(), *line.split()] for name, line in words.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        commands = {"import torch": [sys.executable, "-c", "import torch"], **cases(Path(name))}
        best = dict.fromkeys(commands, float("inf"))
        for _ in range(rounds):  # interleaved, so that load hits all alike
            for case, command in commands.items():
                best[case] = min(best[case], seconds(command))
    goals = dict.fromkeys(commands, WITHOUT_MODEL)
    goals |= {"import torch": float("inf"), "predict": best["import torch"] + WITH_MODEL}
    print("command", "seconds", "goal", "", sep="\t")
    for case, measured in best.items():
        goal = f"{goals[case]:.2f}" if goals[case] < float("inf") else "-"
        print(case, f"{measured:.2f}", goal, "MISSED" if measured > goals[case] else "ok", sep="\t")
    sys.exit(any(measured > goals[case] for case, measured in best.items()))


if __name__ == "__main__":
    main()
