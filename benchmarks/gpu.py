#!/usr/bin/env python3
"""Benchmark bertsnr_tools on a GPU: agreement with the CPU, rates, and what limits them; and train a wide model.

    python benchmarks/gpu.py [--output DIR/gpu.json] [--seconds N] [--stages NAME,NAME] [--device DEVICE] [--tiny]
                             [--plain] [--factors DIR] [--wide-seconds N] [--wide-options OPTIONS]

Every stage prints a short table, and the JSON file is rewritten after each, so that a run that is cut short still has
figures. A stage that raises is reported, and the next one follows. A stage is skipped when too little of --seconds is
left. --plain runs all without the Triton kernel. --factors is the output of workflow/factor_windows.py, of which the
files train/*, background.fa.gz and known.bed.gz are needed; without it, `wide` trains on toy windows. For 8 minutes on
a GPU, and the same on a CPU at sizes that test the script:

    PYTHONPATH=. python3 benchmarks/gpu.py --output out/gpu.json --seconds 470 --wide-seconds 270 --factors factors
    PYTHONPATH=. python3 benchmarks/gpu.py --output out/gpu.json --seconds 900 --wide-seconds 60 --device cpu --tiny

wide        `bertsnr train` of a wide many-factor model (192 wide, 7 layers), in --wide-seconds; its files lie beside
            --output.
kernel      The Triton kernel and the plain kernel in bf16 against the plain model: differences of logits; whether the
            check of the kernel when a model is loaded accepts it, and refuses one with wrong weights.
factors     All factors of `human`: calls on the device and on the CPU, rates of the model and of `predict`, time in
            each part.
predict     `bertsnr predict` from FASTA to BED and bigWig: rate, memory, time the GPU is busy, time in each part.
command     `bertsnr train` of one factor as a command.
equality    Calls and base probabilities on the device in fp32 and bf16, against fp32 on the CPU.
encoder     Rates on token ids that are on the device, and from codes to probabilities in host memory.
replicas    `predict` with two replicas of a model on the one device, as on two.
invariance  The same windows in batches of several sizes, and the bytes that `predict` writes.
train       Rate of training steps; which gradients differ when a step is repeated; one seed twice.
memory      `predict` under memory limits.
cpu         `predict` on this machine's CPU with 1 and all threads, with the AMX kernel and without.
start       What the first `predict` of a process waits for.
compile     torch.compile of the plain inference encoder.

A strand-base is one base of one strand: a window of 100 bp every 50 bp gives 50. Operations are counted as in scan.py.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from gpu_run import DATA, SITES, Run, ctcf, human, random_codes, rate_row
from gpu_training import command, train, wide
from scan import WINDOW, new_model
from torch.nn import functional

from bertsnr_tools.cli.options import usable_cpus
from bertsnr_tools.io.fasta import read_records
from bertsnr_tools.io.intervals import Interval
from bertsnr_tools.io.tracks import BigWig
from bertsnr_tools.models import batching, bertsnr, cuda, kernels
from bertsnr_tools.models.batching import token_probabilities
from bertsnr_tools.models.bertsnr import BertSNR, token_ids
from bertsnr_tools.models.device import Runtime
from bertsnr_tools.models.interface import Model
from bertsnr_tools.models.kernels import amx
from bertsnr_tools.models.kernels.inference import InferenceEncoder
from bertsnr_tools.models.registry import load_models
from bertsnr_tools.predict import calling, factor_scan, scan, sparse_calling, tiling
from bertsnr_tools.predict.chunks import Chunk
from bertsnr_tools.predict.thresholds import CallingRule
from measure import (
    LETTERS,
    ROOT,
    Clock,
    Graph,
    cli,
    distance,
    launched,
    profiled,
    rounded,
    table,
    write_chromosome,
)


def random_sequence(bases: int, seed: int = 1) -> bytes:
    return LETTERS[np.random.default_rng(seed).integers(0, 4, bases)].tobytes()


def planted() -> bytes:
    """The windows of test_data with sites of CTCF, 300 random bases between them."""
    records = [record.sequence for record in read_records(str(SITES))]
    between = random_sequence(300 * len(records), 2)
    return b"".join(record + between[300 * at : 300 * (at + 1)] for at, record in enumerate(records))


# kernel


def kernel(run: Run, figures: dict[str, Any]) -> None:
    """The Triton kernel and the plain inference encoder in bf16, against the plain model in fp32."""
    from bertsnr_tools.models.kernels import triton_encoder

    model = ctcf(run.device)
    codes = random_codes(2048)
    figures["rows"] = rows = []
    start = time.perf_counter()
    fast = triton_encoder.TritonModel(model)
    with torch.inference_mode():
        for length in (WINDOW, 41, 5):
            ids = token_ids(codes[:, :length], model.info.k).to(run.device)
            expected = [part.cpu() for part in model(ids)]
            plain = partial(model._encoded_logits, InferenceEncoder(model.encoder, torch.bfloat16))
            for name, function in (("plain bf16", plain), ("Triton", fast)):
                sequences, tokens = (part.cpu() for part in function(ids))
                row = {"length": length, "kernel": name, **distance(tokens, expected[1])}
                rows.append(row | {"sequence_rms": distance(sequences, expected[0])["rms"]})
    figures["seconds_to_first_results"] = time.perf_counter() - start
    table(rows)
    figures["bf16_supported"] = bool(run.cuda and torch.cuda.is_bf16_supported(including_emulation=False))
    figures["precision"] = Runtime.choose(str(run.device)).precision
    figures["accepted"] = kernels.new_triton_model(model) is not None
    with mock.patch.object(triton_encoder, "_scaled_qkv", lambda weight, _: weight):  # a softmax of another base
        figures["wrong_one_accepted"] = kernels.new_triton_model(model) is not None
    print({name: value for name, value in figures.items() if name != "rows"})


# equality


class Scanned(NamedTuple):
    """Base probabilities, shape (2, n), and sites with and without their scores."""

    probabilities: np.ndarray
    lines: set[tuple[Any, ...]]
    positions: set[tuple[Any, ...]]


def sites_of(models: list[Model], sequence: bytes, runtime: Runtime) -> set[tuple[Any, ...]]:
    """What `predict` calls with several models, by threshold 0.5."""
    scanner = scan.Scanner(models, [CallingRule(0.5)] * len(models), runtime)
    chunk = Chunk(Interval("chr1", 0, len(sequence)), 0, sequence, True)
    return {(site.start, site.end, site.name, site.strand) for found in scanner.scan([chunk]) for site in found}


def scanned(model: BertSNR, sequence: bytes, runtime: Runtime) -> Scanned:
    """What `predict` calls."""
    track = np.full((2, len(sequence)), np.nan, dtype=np.float32)

    def signal(_: int, chrom: str, start: int, values: np.ndarray) -> None:
        track[:, start : start + values.shape[1]] = values

    scanner = scan.Scanner([model], [CallingRule.for_model(model)], runtime, signal=signal)
    chunk = Chunk(Interval("chr1", 0, len(sequence)), 0, sequence, True)
    sites = [site for found in scanner.scan([chunk]) for site in found]
    return Scanned(
        track,
        {(site.start, site.end, site.strand, round(site.score, 3)) for site in sites},
        {(site.start, site.end, site.strand) for site in sites},
    )


def equality(run: Run, figures: dict[str, Any]) -> None:
    figures["rows"] = rows = []
    here, there = ctcf("cpu"), ctcf(run.device)
    both = {"sites in random sequence": planted()[: 2 * run.sizes.random], "random": random_sequence(run.sizes.random)}
    for name, sequence in both.items():
        expected = scanned(here, sequence, Runtime())
        ways = [("device fp32", there, "fp32", ""), ("device bf16", there, "bf16", "")]
        ways += [("device bf16, plain", there, "bf16", "plain"), ("CPU bf16", here, "bf16", "")]
        for way, model, precision, plain in ways:
            with without_triton(model) if plain else ExitStack():
                found = scanned(model, sequence, Runtime((model.device,), precision))
            row = {"sequence": name, "on": way, **distance(found.probabilities, expected.probabilities)}
            rows.append(
                row
                | {
                    "calls": len(found.lines),
                    "cpu_fp32": len(expected.lines),
                    "same_position": len(found.positions & expected.positions),
                    "same_line": len(found.lines & expected.lines),
                }
            )
    table(rows)


@contextmanager
def without_triton(model: BertSNR) -> Iterator[None]:
    model._cuda_functions.clear()
    with mock.patch.object(bertsnr, "new_triton_model", lambda _: None):
        yield
    model._cuda_functions.clear()


# encoder


def encoder(run: Run, figures: dict[str, Any]) -> None:
    model = ctcf(run.device)
    figures["matrix_rate"] = run.matrix_rate()
    figures["rows"] = rows = []
    plain = partial(model._encoded_logits, InferenceEncoder(model.encoder, torch.bfloat16))
    fast = model.inference_function("bf16")
    for batch in run.sizes.batches:
        codes = random_codes(batch)
        ids = token_ids(codes, model.info.k).to(run.device)
        rows.append(rate_row(run, model, "plain", batch, partial(plain, ids)))
        rows.append(rate_row(run, model, "chosen", batch, partial(fast, ids)))
        if run.cuda and batch == 1024:
            with torch.inference_mode():
                graph = Graph(plain, ids)
            rows.append(rate_row(run, model, "plain as a CUDA graph", batch, partial(graph, ids)))
        if run.cuda:
            many, scorer = random_codes(4 * run.sizes.batches[-1]), cuda.CudaScorer(model, "bf16", of_bases=True)
            rows.append(rate_row(run, model, f"host to host, {batch} a batch", len(many), partial(scorer, many, batch)))
    if run.cuda:
        ids = token_ids(random_codes(4096), model.info.k).to(run.device)
        rows.append(rate_row(run, model, "fp32", 4096, partial(model.inference_function("fp32"), ids)))
        with torch.inference_mode():
            figures["kernels"] = profiled(lambda: [fast(ids) for _ in range(10)])
    table(rows)
    large = new_model("dnabert").to(run.device) if run.sizes.random > 10_000 else model
    ids = token_ids(random_codes(1024), large.info.k).to(run.device)
    figures["12 layers"] = rate_row(run, large, "12 layers", 1024, partial(large.inference_function("bf16"), ids))
    table([figures["12 layers"]])


# factors


FACTOR_TIMED: list[tuple[Any, str]] = [
    (batching.FactorScorer, "__call__"),
    (factor_scan.FactorScan, "score"),
    (factor_scan.FactorScan, "call"),
    (factor_scan.FactorScan, "_kept_cores"),
    (factor_scan, "bases_from_tokens"),
    (factor_scan, "_dilated"),
    (sparse_calling.SparseCaller, "feed"),
    (scan, "rank_sites"),
    (scan, "read_ahead"),
]


def factors(run: Run, figures: dict[str, Any]) -> None:
    """All factors of the shipped model in one pass."""
    here, there = human("cpu"), human(run.device)
    sequence = planted()[: run.sizes.factors_compared // 2] + random_sequence(run.sizes.factors_compared // 2)
    every = range(len(here.infos))
    expected = sites_of([here.factor(number) for number in every], sequence, Runtime())
    figures["agreement"] = agreement = []
    for precision in ("fp32", "bf16"):
        found = sites_of([there.factor(number) for number in every], sequence, run.runtime(precision))
        row = {"precision": precision, "calls": len(found), "cpu_fp32": len(expected)}
        agreement.append(row | {"same_position": len(found & expected)})
    table(agreement)
    figures["rows"] = rows = []
    fast = there.inference_function("bf16")
    for batch in run.sizes.batches[:3]:
        ids = token_ids(random_codes(batch), there.info.k).to(run.device)
        rows.append(rate_row(run, there, "encoder and all heads", batch, partial(fast, ids)))
    table(rows)
    path, bed = run.scratch / "factors.fa", run.scratch / "factors.bed"
    write_chromosome(path, run.sizes.factors)
    line = ["predict", "-m", "human", "--device", run.device, "-@", usable_cpus(), "-o", bed]
    track = ["-m", "human:CTCF,SOX10", "--bigwig", run.scratch / "{}.bw"]
    cli(*line, DATA / "region.fa")
    figures["predict"] = inside = []
    both = {"BED": line, "batch 256": [*line, "--batch-size", 256], "2 factors, bigWig": [line[0], *track, *line[3:]]}
    for name, words in both.items():
        start = time.perf_counter()
        cli(*words, path)
        seconds = time.perf_counter() - start
        row = {"predict": name, "seconds": seconds, "strand_bases_per_s": 2 * run.sizes.factors / seconds}
        inside.append(row | {"sites": bed.read_bytes().count(b"\n")})
    table(inside)
    clock = Clock()
    with clock.running(FACTOR_TIMED):
        cli(*line, path)
    figures["timers"] = clock.rows()
    table(figures["timers"])
    if run.cuda:
        figures["kernels"] = seen = profiled(partial(cli, *line, path))
        seen["busy"] = seen["seconds_on_device"] / inside[0]["seconds"]
        figures["peak_MiB"] = torch.cuda.max_memory_allocated(run.device) / 2**20
        print(rounded(seen), rounded(figures["peak_MiB"]))


# replicas


def replicas(run: Run, figures: dict[str, Any]) -> None:
    """Models with a replica on the same device: the code path of several GPUs."""
    sequence = planted()[: 2 * run.sizes.random] + random_sequence(run.sizes.random // 4)
    figures["rows"] = rows = []
    for name in ("CTCF", "human:CTCF,SOX10"):
        found = {}
        for devices in (1, 2, 3):
            runtime = Runtime((run.device,) * devices, "bf16", 512)
            models = load_models([name], runtime)
            start = time.perf_counter()
            found[devices] = sites_of(models, sequence, runtime)
            rows.append({"model": name, "replicas": devices, "seconds": time.perf_counter() - start})
            rows[-1] |= {"sites": len(found[devices]), "same": found[devices] == found[1]}
    table(rows)


# predict


TIMED: list[tuple[Any, str]] = [
    (scan, "encode"),
    (tiling.Tiler, "feed"),
    (scan, "join_windows"),
    (scan, "reverse_complement_codes"),
    (cuda.CudaScorer, "__init__"),
    (cuda.CudaScorer, "__call__"),
    (cuda.CudaScorer, "_launch"),
    (calling.SiteCaller, "feed"),
    (BigWig, "add"),
    (BigWig, "write"),
]


def predict(run: Run, figures: dict[str, Any]) -> None:
    small, large, bed = run.scratch / "small.fa", run.scratch / "large.fa", run.scratch / "sites.bed"
    write_chromosome(small, run.sizes.first)
    line = ["predict", "-m", "CTCF", "--device", run.device, "-@", usable_cpus(), "-o", bed]
    track = ["--bigwig", run.scratch / "sites.bw"]
    cli(*line, *track, small)  # warm up
    figures["inside"] = inside = []
    for name, options in (("with bigWig", track), ("BED alone", []), ("batch 8192", ["--batch-size", 8192])):
        start = time.perf_counter()
        cli(*line, *options, small)
        seconds = time.perf_counter() - start
        inside.append({"predict": name, "seconds": seconds, "strand_bases_per_s": 2 * run.sizes.first / seconds})
    table(inside)
    clock = Clock()
    with clock.running(TIMED):
        start = time.perf_counter()
        cli(*line, *track, small)
        figures["timed_seconds"] = time.perf_counter() - start
    table(clock.rows())
    figures["timers"] = clock.rows()
    if run.cuda:
        figures["kernels"] = seen = profiled(partial(cli, *line, *track, small))
        seen["busy"] = seen["seconds_on_device"] / inside[0]["seconds"]
        print(rounded(seen))
    figures["start"] = launched([*line, DATA / "region.fa"], run.before)._asdict()
    bases = int(min(run.sizes.most, max(0.2, run.left - 150) * 1e7)) // 1_000_000 * 1_000_000 or run.sizes.most
    write_chromosome(large, bases)
    done = launched([*line, *track, large], run.before)
    steady = max(0.1, done.seconds - figures["start"]["seconds"])
    rates = {"strand_bases_per_s": 2 * bases / done.seconds, "without_start": 2 * bases / steady}
    figures["large"] = {"bases": bases, **done._asdict(), **rates, "sites": bed.read_bytes().count(b"\n")}
    table([{"run": name, **figures[name]} for name in ("large", "start")])


# invariance


def invariance(run: Run, figures: dict[str, Any]) -> None:
    """Token probabilities and the bytes of `predict`, in batches of several sizes."""
    figures["probabilities"] = rows = []
    model, codes = ctcf(run.device), random_codes(run.sizes.windows)
    for precision, plain in (("bf16", False), ("bf16", True), ("fp32", False)):
        with without_triton(model) if plain else ExitStack():
            expected = token_probabilities(model, codes, run.runtime(precision))[1]
            for size in (8192, 64, 1):
                some = codes[: min(len(codes), 200 * size)]
                found = token_probabilities(model, some, run.runtime(precision, size))[1]
                kernel_name = "plain" if plain else "chosen"
                row = {"precision": precision, "kernel": kernel_name, "batch": size}
                rows.append(row | {"same_bits": bool(np.array_equal(found, expected[: len(some)]))})
    table(rows)
    if run.cuda:
        figures["products"] = products_agree(run)
        table(figures["products"])
    path, outputs = run.scratch / "planted.fa", {}
    path.write_bytes(b">chr1\n%s\n" % planted()[: 2 * run.sizes.random])
    for size in (1024, 8192, 64):
        bed, track = run.scratch / f"{size}.bed", run.scratch / f"{size}.bw"
        line = ["predict", "-m", "CTCF", "--device", run.device, "--batch-size", size, "-o", bed, "--bigwig", track]
        cli(*line, path)
        outputs[size] = bed.read_bytes() + track.read_bytes()
    figures["same_bytes"] = {str(size): output == outputs[1024] for size, output in outputs.items()}
    print(figures["same_bytes"])


def products_agree(run: Run) -> list[dict[str, Any]]:
    """Numbers of rows with which the first rows of a bf16 product have other bits than with 409,600 rows."""
    found = []
    for inputs, outputs in ((128, 384), (128, 128), (128, 256), (256, 128), (768, 2304), (3072, 768)):
        torch.manual_seed(1)
        values = torch.randn(819_200, inputs, device=run.device, dtype=torch.bfloat16)
        weight = torch.randn(outputs, inputs, device=run.device, dtype=torch.bfloat16)
        first = functional.linear(values[:409_600], weight)[:1024].clone()
        counts = (1024, 25_600, 102_400, 500_000, 819_200)
        differ = [rows for rows in counts if not torch.equal(functional.linear(values[:rows], weight)[:1024], first)]
        found.append({"inputs": inputs, "outputs": outputs, "differ_with_rows": differ})
    return found


# memory


def memory(run: Run, figures: dict[str, Any]) -> None:
    """`predict` in several processes at a time, each under a limit of its own, in MiB; 0 for none."""
    path = run.scratch / "limited.fa"
    path.write_bytes(b">chr1\n%s\n" % (planted()[: 2 * run.sizes.random] + random_sequence(4 * run.sizes.random, 8)))
    total = torch.cuda.get_device_properties(run.device).total_memory if run.cuda else 1 << 34
    rows: dict[int, dict[str, Any]] = {}
    outputs: dict[int, bytes] = {}

    def limited(limit: int) -> None:
        bed, track = run.scratch / f"limit{limit}.bed", run.scratch / f"limit{limit}.bdg"
        line = ["predict", "-v", "-m", "CTCF", "--device", run.device, "--batch-size", 8192, "-o", bed]
        before = f"import torch; torch.cuda.set_per_process_memory_fraction({limit * 2**20 / total})" if limit else ""
        done = launched([*line, "--bedgraph", track, path], before + "\n" + run.before)
        halved = sorted({int(size) for size in re.findall(r"batches of (\d+) windows exceed", done.stderr)})
        last = (done.stderr.splitlines() or [""])[-1][:120]
        rows[limit] = {
            "limit": limit,
            "status": done.status,
            "seconds": done.seconds,
            "too_large": halved,
            "last": last,
        }
        if not done.status:
            outputs[limit] = bed.read_bytes() + track.read_bytes()

    limits = [0, 1000, 400, 150, 60, 12, 2] if run.cuda else [0]
    threads = [threading.Thread(target=limited, args=(limit,)) for limit in limits]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    figures["rows"] = [
        row | {"same_bytes": outputs.get(limit) == outputs.get(0)} for limit, row in sorted(rows.items())
    ]
    table(figures["rows"])


# start

PHASES = """
import json, time
start, seconds = time.perf_counter(), {}
def phase(name):
    global start
    seconds[name] = time.perf_counter() - start
    start = time.perf_counter()
import numpy; phase("import numpy")
import torch; phase("import torch")
import bertsnr_tools.cli.predict; phase("import predict")
import bertsnr_tools.predict.scan; phase("import scan")
torch.cuda.init(); phase("start CUDA")
x = torch.ones(128, 128, device="cuda", dtype=torch.bfloat16); torch.cuda.synchronize(); phase("first kernel")
(x @ x).cpu(); phase("first product")
from bertsnr_tools.models.files import load_model
from bertsnr_tools.models.registry import find_model
model = load_model(find_model("CTCF"), torch.device("cuda")); torch.cuda.synchronize(); phase("load the model")
import triton; phase("import triton")
model.inference_function("bf16"); torch.cuda.synchronize(); phase("Triton kernel, from its cache")
torch.empty(1 << 20, pin_memory=True); phase("first pinned memory")
print(json.dumps(seconds))
"""


def start(run: Run, figures: dict[str, Any]) -> None:
    """Phases of a process, once with and once without a file cache that an earlier process has filled."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    for name in ("first", "second") if run.cuda else ():
        line = [sys.executable, "-c", PHASES]
        begin = time.perf_counter()
        done = subprocess.run(line, capture_output=True, text=True, env=environment, check=True)
        figures[name] = {**json.loads(done.stdout), "whole process": time.perf_counter() - begin}
        table([{"phase": key, name: value} for key, value in figures[name].items()])


# cpu


def cpu(run: Run, figures: dict[str, Any]) -> None:
    """`predict` on this machine's CPU, in this process."""
    path = run.scratch / "cpu.fa"
    figures["rows"] = rows = []
    threads = torch.get_num_threads()
    fast = 4.0 if run.result["machine"]["amx_kernel"] else 1.0
    ways = (("as installed", threads, fast), ("as installed", 1, fast / 10), ("plain", threads, 1.0), ("plain", 1, 0.1))
    for kernel_name, count, part in ways:
        bases = int(run.sizes.scan_cpu * part) // 6000 * 6000 or 6000
        write_chromosome(path, bases)
        line = ["predict", "-q", "-m", "CTCF", "--device", "cpu", "--precision", "bf16", "-@", count, "-o", os.devnull]
        without = mock.patch.object(amx, "supports", lambda encoder: False)
        with without if kernel_name == "plain" else ExitStack():
            cli(*line, DATA / "region.fa")
            begin = time.perf_counter()
            cli(*line, path)
            seconds = time.perf_counter() - begin
        row = {"kernel": kernel_name, "threads": count, "bases": bases, "seconds": seconds}
        rows.append(row | {"strand_bases_per_s": 2 * bases / seconds})
    torch.set_num_threads(threads)
    table(rows)


# compile


def compiled(run: Run, figures: dict[str, Any]) -> None:
    """The plain inference encoder through torch.compile."""
    model, batch = ctcf(run.device), run.sizes.batches[-2]
    ids = token_ids(random_codes(batch), model.info.k).to(run.device)
    plain = partial(model._encoded_logits, InferenceEncoder(model.encoder, torch.bfloat16))
    fast = torch.compile(lambda ids: plain(ids), dynamic=False)
    with torch.inference_mode():
        begin = time.perf_counter()
        found = fast(ids)[1].cpu()
        figures["compile_seconds"] = time.perf_counter() - begin
        figures["difference"] = distance(found, plain(ids)[1].cpu())
    figures["rows"] = [rate_row(run, model, "torch.compile", batch, partial(fast, ids))]
    table(figures["rows"])


STAGES: dict[str, tuple[Callable[[Run, dict[str, Any]], None], float]] = {  # and the seconds that each needs
    "wide": (wide, 30),
    "kernel": (kernel, 10),
    "factors": (factors, 15),
    "predict": (predict, 30),
    "command": (command, 40),
    "equality": (equality, 15),
    "encoder": (encoder, 15),
    "replicas": (replicas, 10),
    "invariance": (invariance, 15),
    "train": (train, 15),
    "memory": (memory, 25),
    "cpu": (cpu, 10),
    "start": (start, 30),
    "compile": (compiled, 25),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=470, help="time for all stages")
    parser.add_argument("--wide-seconds", type=float, default=270, help="of them, for `wide`")
    parser.add_argument("--wide-options", default="", help="options of `bertsnr train`, such as '--encoder new:192x6'")
    parser.add_argument("--factors", type=Path, metavar="DIR", help="output of workflow/factor_windows.py")
    parser.add_argument("--stages", default=",".join(STAGES), help="names with commas between")
    parser.add_argument("--output", type=Path, help="JSON file")
    parser.add_argument("--plain", action="store_true", help="without the Triton kernel")
    parser.add_argument("--tiny", action="store_true", help="sizes at which the script itself is tested on a CPU")
    arguments = parser.parse_args()
    torch.set_num_threads(usable_cpus())
    if arguments.plain:
        bertsnr.new_triton_model = lambda model: None  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as scratch:
        run = Run(arguments, Path(scratch))
        print(json.dumps(rounded(run.result["machine"])), flush=True)
        for name in arguments.stages.split(","):
            run.stage(name, *STAGES[name])


if __name__ == "__main__":
    main()
