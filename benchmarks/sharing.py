#!/usr/bin/env python3
"""Two commands at once on all CPUs against one alone, for `train` and `predict`.

    python benchmarks/sharing.py [--rounds N] [--megabases N]

Each command runs alone and then twice at the same time, with the launcher's GOMP_SPINCOUNT=0 (OpenMP threads do not
wait busily) and with OpenMP's own default. Prints seconds, the best of the rounds, and their ratio; exit status 1 when
a ratio with the launcher's setting exceeds 2.2. With OpenMP's default it can be ten times as high.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from bertsnr_tools.cli.options import usable_cpus
from commands import launcher

GOAL = 2.2
DATA = Path(__file__).parents[1] / "test_data"
GNU_DEFAULT = "300000"  # of libgomp, as long as threads do not outnumber CPUs
SETTINGS = {"launcher": None, "OpenMP's default": GNU_DEFAULT}


def together(command: list[str], count: int, spin: str | None, directory: Path) -> float:
    """Seconds until all of `count` simultaneous runs of a command have ended; {} in it is the number of the run."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    }
    if spin:
        environment["GOMP_SPINCOUNT"] = spin
    start = time.perf_counter()
    runs = [
        subprocess.Popen([word.format(number) for word in command], env=environment, cwd=directory)
        for number in range(count)
    ]
    statuses = [run.wait() for run in runs]
    if any(statuses):
        raise SystemExit(f"{' '.join(command)} failed")
    return time.perf_counter() - start


def prepare(directory: Path, megabases: float) -> dict[str, list[str]]:
    """Inputs, and the commands to run in the directory."""
    bases = np.frombuffer(b"ACGT", dtype=np.uint8)[np.random.default_rng(1).integers(0, 4, int(megabases * 1e6))]
    (directory / "random.fa").write_bytes(b">random\n" + bases.tobytes() + b"\n")
    cut = [launcher(), "windows", "-q", "-f", str(DATA / "genome.fa"), "-o", "pos.fa", str(DATA / "sites.bed")]
    subprocess.run(cut, cwd=directory, check=True)
    return {
        "train": [launcher(), *"train -q --epochs 4 -o {}.pt pos.fa".split()],
        "predict": [launcher(), *"predict -q -m CTCF -o {}.bed random.fa".split()],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--megabases", type=float, default=0.3, help="sequence that predict scans")
    arguments = parser.parse_args()
    missed = False
    print(f"{usable_cpus()} CPUs")
    print("command", "setting", "one alone (s)", "two at once (s)", "ratio", "", sep="\t")
    with tempfile.TemporaryDirectory() as name:
        for case, command in prepare(Path(name), arguments.megabases).items():
            for setting, spin in SETTINGS.items():
                repeats = 1 if spin else arguments.rounds  # with OpenMP's default, two at once may take minutes
                rounds = [[together(command, count, spin, Path(name)) for count in (1, 2)] for _ in range(repeats)]
                one, two = (min(column) for column in zip(*rounds))
                verdict = "" if spin else "ok" if two <= GOAL * one else "MISSED"
                missed |= verdict == "MISSED"
                print(case, setting, f"{one:.1f}", f"{two:.1f}", f"{two / one:.2f}", verdict, sep="\t", flush=True)
    sys.exit(missed)


if __name__ == "__main__":
    main()
