#!/usr/bin/env python3
"""What does a scan cost on CPUs of several kinds, before and after the AVX kernel and the prefilter's lookup tables?

    python benchmarks/cpus.py [--bases N] [--models NAME,...] [--kinds NAME,...] [--shipped] FASTA
    python benchmarks/cpus.py --calls NAME,... FASTA

Lesser CPUs than this one are imitated: torch and its libraries are limited by their environment variables, the AVX
kernel by the choice of its function. Each kind runs in a process of its own, with one thread. "Before" is the torch
encoder, in fp32 or, on a CPU with bf16, in bf16, with the prefilter as a network; "after" is `--precision int16` and
lookup tables. Both scan the first N bases of FASTA, site calling included, in turn; the least CPU time of the rounds
counts. Core-hours are for the 6.2 billion strand-bases of a human genome; human is its many-factor model, without a
prefilter. MKL is limited to AVX2 on CPUs of AMD, also for "AVX-512". With --shipped, before and after are without and
with the prefilter of each shipped model, both with the kernel and lookup tables.

--calls scans all of FASTA and compares the calls with plain fp32: a call is kept if another has its position and
strand; a score is the mean probability of the bases of a site.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch

from bertsnr_tools.io.fasta import read_fasta_chunks
from bertsnr_tools.models.device import Runtime, has_bf16
from bertsnr_tools.models.kernels import amx, avx
from bertsnr_tools.models.prefilter_network import PrefilterNetwork
from bertsnr_tools.models.registry import load_models
from bertsnr_tools.predict.calling import CalledSite
from bertsnr_tools.predict.chunks import Chunk, fasta_chunks
from bertsnr_tools.predict.scan import Scanner
from bertsnr_tools.predict.thresholds import CallingRule
from measure import table

GENOME = 6.2e9  # strand-bases
SHIPPED = ("CTCF", "CDX2", "GATA3", "SRF", "YY1")


class Kind(NamedTuple):
    """A kind of CPU: variables that limit torch to it, the kernel's function, and the precision before."""

    environment: dict[str, str]
    function: str
    before: str


AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
KINDS = {
    "AVX2": Kind(AVX2, "encode_avx2", "fp32"),
    "AVX2 VNNI": Kind(AVX2 | {"ONEDNN_MAX_CPU_ISA": "AVX2_VNNI"}, "encode_avx_vnni", "fp32"),
    "AVX-512": Kind({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}, "encode_avx512", "fp32"),
    "AVX-512 VNNI": Kind({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"}, "encode_vnni", "fp32"),
    "bf16": Kind({}, "encode_vnni", "bf16"),
}


class Scan(NamedTuple):
    """One way to scan: model, precision, whether the prefilter is used, and whether it looks up."""

    model: str
    precision: str
    prefilter: bool
    lookup: bool


class Cost(NamedTuple):
    """CPU and wall time of a scan (seconds), and its sites."""

    cpu: float
    wall: float
    sites: list[CalledSite]


def scanned(scan: Scan, chunks: Iterable[Chunk]) -> Cost:
    models = load_models([scan.model], Runtime())
    rules = [CallingRule.for_model(model) for model in models]
    scanner = Scanner(models, rules, Runtime(precision=scan.precision), prefilter=scan.prefilter)
    with mock.patch.object(PrefilterNetwork, "inference_function", tables if scan.lookup else lambda network: network):
        cpu, wall = time.process_time(), time.perf_counter()
        sites = [site for found in scanner.scan(chunks) for site in found]
        return Cost(time.process_time() - cpu, time.perf_counter() - wall, sites)


tables = PrefilterNetwork.inference_function


def first_bases(path: str, bases: int) -> list[Chunk]:
    chunk = next(fasta_chunks(read_fasta_chunks(path)))
    if len(chunk.sequence) < bases:
        raise SystemExit(f"{path}: the first record has {len(chunk.sequence):,} bases, expected at least {bases:,}")
    return [chunk._replace(sequence=chunk.sequence[:bases], last=True)]


def measured(
    kind: Kind, path: str, bases: int, rounds: int, names: list[str], *, shipped: bool
) -> list[dict[str, Any]]:
    """Rates of both sides on this process's CPU, strand-bases per CPU second."""
    if shipped:
        pairs = [(Scan(name, "int16", False, True), Scan(name, "int16", True, True)) for name in names]
    else:
        pairs = [
            (Scan(name, kind.before, prefilter, False), Scan(name, "int16", prefilter, True))
            for name in names
            for prefilter in ((False,) if name == "human" else (False, True))
        ]
    chunks, rows = first_bases(path, bases), []
    for before, after in pairs:
        costs = [[scanned(scan, chunks) for scan in (before, after)] for _ in range(rounds)]
        best = [min(side, key=lambda cost: cost.cpu) for side in zip(*costs)]
        calls = [set(map(position, cost.sites)) for cost in best]
        rates = [2 * bases / cost.cpu for cost in best]
        rows.append(
            {
                "model": after.model + (" --prefilter" if after.prefilter else ""),
                "before": rates[0],
                "after": rates[-1],
                "ratio": rates[-1] / rates[0],
                "wall_before": best[0].wall,
                "wall_after": best[-1].wall,
                "core_hours_before": GENOME / rates[0] / 3600,
                "core_hours_after": GENOME / rates[-1] / 3600,
                "calls": len(calls[0]),
                "kept": len(calls[0] & calls[1]),
                "windows_with_a_call": windows_with_a_call(best[-1].sites, chunks[0].start, bases),
            }
        )
    return rows


def position(site: CalledSite) -> tuple[Any, ...]:
    return site.chrom, site.start, site.end, site.strand, site.name


def windows_with_a_call(sites: list[CalledSite], start: int, bases: int) -> float:
    """Fraction of windows whose middle half, the base scores of a window, has a base of a site: they must pass."""
    occupied = np.zeros((2, bases // 50 + 2), dtype=bool)
    for site in sites:
        first, last = (site.start - start) // 50, (site.end - 1 - start) // 50
        occupied[int(site.strand == "-"), first : last + 1] = True
    return float(occupied[:, : bases // 50].mean())


def compare_calls(name: str, path: str) -> None:
    def sites(scan: Scan) -> dict[tuple[Any, ...], float]:
        cost = scanned(scan, fasta_chunks(read_fasta_chunks(path)))
        found = {position(site): site.score for site in cost.sites}
        print(f"{scan}: {len(found):,} calls, {cost.cpu:.1f} s of CPU time", file=sys.stderr, flush=True)
        return found

    plain, rows = sites(Scan(name, "fp32", False, False)), []
    for precision, prefilter, lookup in (
        ("int16", False, False),
        ("bf16", False, False),
        ("fp32", True, False),
        ("int16", True, True),
    ):
        if precision == "bf16" and not has_bf16(torch.device("cpu")) or prefilter and name == "human":
            continue
        found = sites(Scan(name, precision, prefilter, lookup))
        kept = [key for key in plain if key in found]
        gaps = np.array([abs(found[key] - plain[key]) for key in kept])
        rows.append(
            {
                "model": name,
                "precision": precision,
                "prefilter": {(False, False): "", (True, False): "network", (True, True): "lookup"}[prefilter, lookup],
                "calls": len(plain),
                "kept": len(kept),
                "kept_fraction": len(kept) / len(plain),
                "new": len(found) - len(kept),
                "BED_score_equal": float(
                    np.mean([round(1000 * found[key]) == round(1000 * plain[key]) for key in kept])
                ),
                "largest_change": float(gaps.max()),
            }
        )
    table(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("fasta")
    parser.add_argument("--bases", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--models", default="CTCF,human")
    able = torch.cpu.get_capabilities()
    kinds = [name for name, kind in KINDS.items() if all(able.get(feature) for feature in avx.FUNCTIONS[kind.function])]
    parser.add_argument("--kinds", default=",".join(kinds), help="default: the ones that this CPU can run")
    parser.add_argument("--shipped", action="store_true")
    parser.add_argument("--calls", metavar="NAMES")
    parser.add_argument("--here", metavar="KIND", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.calls:
        for name in options.calls.split(","):
            compare_calls(name, options.fasta)
        return
    names = list(SHIPPED) if options.shipped else options.models.split(",")
    if options.here:
        kind = KINDS[options.here]
        with mock.patch.object(avx, "function_name", lambda: kind.function):
            if avx.kernel() is None:
                raise SystemExit("the AVX kernel is not installed")
            rows = measured(kind, options.fasta, options.bases, options.rounds, names, shipped=options.shipped)
        print(json.dumps(rows))
        return
    print(
        f"AMX kernel: {'yes' if amx.kernel() else 'no'}; capability of torch: {torch.backends.cpu.get_cpu_capability()}"
    )
    for name in options.kinds.split(","):
        environment = os.environ | {"OMP_NUM_THREADS": "1"} | KINDS[name].environment
        command = [sys.executable, "-W", "ignore", str(Path(__file__).resolve()), *sys.argv[1:], "--here", name]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
        print(f"{name}, before in {KINDS[name].before}", flush=True)
        table(json.loads(done.stdout))


if __name__ == "__main__":
    main()
