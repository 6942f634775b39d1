#!/usr/bin/env python3
"""How fast is a scan, compared with the paper's way, with plain `transformers`, and with the arithmetic's limit?

    python benchmarks/scan.py [--encoder compact|dnabert] [--windows N] [--device DEVICE]
    python benchmarks/scan.py --prefilter MODEL FASTA ...
    python benchmarks/scan.py --lengths MODEL FASTA ...
    python benchmarks/scan.py --memory [--prefiltered]
    python benchmarks/scan.py --factors [MODEL] [--windows N] [--device DEVICE]

All scan the same random sequence in windows of 100 bp, one every 80 bp, on both strands, with all threads. The
paper's way: k-mers as text through BertTokenizer, batches of 32 in order, fp32. Plain `transformers`: ready
token ids, batches of 64, fp32 and bf16 weights. Ours: `Scanner`, site calling included, in the precision that
`--precision auto` chooses. The rounds of all are interleaved, and the best of three
counts. A window takes 2 operations per weight of the layers and token, and 4 per pair of tokens, layer and
hidden unit; the matrix rate is measured in the same process, on bf16 products of 1024 x 1024 matrices on a CPU
and 4096 x 4096 on a GPU. On a CPU without bf16 all is fp32. For a GPU the output also has the fraction of our
scan's time in which it is busy.

--prefilter scans files of genomic sequence as `bertsnr predict` does, with and without the model's prefilter,
and counts identical calls. --lengths scans them in windows longer than in training, which overlap by half of
the training window, and counts the sites that overlap the sites of the training window. --memory scans random
chromosomes of 5 and 50 Mb with `bertsnr predict` and prints time and peak memory. --factors scans for all factors
of a many-factor model in one pass (188 with random weights where no model is given), and for comparison with a
single-factor model of the compact encoder, and with one factor's own heads on the same encoder; what all factors
take longer than the latter is for heads and calling.
"""

from __future__ import annotations

import argparse
import copy
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import BertTokenizer

from bertsnr_tools.cli.options import usable_cpus
from bertsnr_tools.io.fasta import FastaChunk, read_fasta_chunks
from bertsnr_tools.io.intervals import Interval
from bertsnr_tools.models.bertsnr import BertSNR, token_ids
from bertsnr_tools.models.device import Runtime, choose_device, choose_precision
from bertsnr_tools.models.encoder import compact_config
from bertsnr_tools.models.files import load_factors, load_model
from bertsnr_tools.models.huggingface import huggingface_encoder, transformers_config
from bertsnr_tools.models.interface import ModelInfo
from bertsnr_tools.models.many_factor import ManyFactorModel
from bertsnr_tools.models.registry import find_model
from bertsnr_tools.predict.calling import CalledSite
from bertsnr_tools.predict.chunks import Chunk, fasta_chunks
from bertsnr_tools.predict.scan import Scanner, window_step
from bertsnr_tools.predict.thresholds import CallingRule
from bertsnr_tools.sequence.encoding import encode, reverse_complement_codes, vocabulary
from dnabert import matrix_rate

WINDOW, STEP = 100, 80
LETTERS = np.frombuffer(b"ACGT", dtype=np.uint8)


def new_model(kind: str) -> BertSNR:
    """Random weights: time does not depend on them."""
    torch.manual_seed(1)
    if kind == "compact":
        return BertSNR(ModelInfo("X", 3, WINDOW, compact_config(3, WINDOW), 10, 0.999)).eval()
    bert = {"model_type": "bert", "vocab_size": len(vocabulary(6)), "hidden_size": 768}
    return BertSNR(ModelInfo("X", 6, WINDOW, bert, 10, 0.999)).eval()


def reference_model(model: BertSNR) -> BertSNR:
    """The same model with the encoder of `transformers`."""
    reference = copy.deepcopy(model)
    reference.encoder = huggingface_encoder(transformers_config(model.info.encoder)).to(model.device)
    reference.encoder.load_state_dict(model.encoder.state_dict())
    return reference.eval()


def operations(model: BertSNR) -> float:
    """Operations of the encoder for one window."""
    config = model.encoder.config
    tokens, hidden = WINDOW - model.info.k + 3, config.hidden_size
    part = 3 if config.model_type == "modernbert" else 2
    per_token = 4 * hidden**2 + part * hidden * config.intermediate_size + 2 * tokens * hidden
    return 2 * tokens * config.num_hidden_layers * per_token


def both_strands(sequence: bytes) -> np.ndarray:
    """Codes of the windows of both strands, shape (n, 100)."""
    windows = np.lib.stride_tricks.sliding_window_view(encode(sequence), WINDOW)[::STEP]
    return np.concatenate([windows, reverse_complement_codes(windows)])


def authors(model: BertSNR, tokenizer: BertTokenizer, sequence: bytes) -> None:
    k = model.info.k
    for codes in np.array_split(both_strands(sequence), max(1, 2 * len(sequence) // STEP // 32)):
        words = ["".join("ACTG"[code] for code in row) for row in codes.tolist()]
        texts = [" ".join(word[at : at + k] for at in range(WINDOW - k + 1)) for word in words]
        ids = tokenizer(texts, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            sequences, tokens = model(ids.to(model.device))
            torch.sigmoid(sequences).tolist(), torch.sigmoid(tokens).tolist()


def plain(model: BertSNR, sequence: bytes) -> None:
    codes = both_strands(sequence)
    with torch.inference_mode():
        for first in range(0, len(codes), 64):
            _, tokens = model(token_ids(codes[first : first + 64], model.info.k).to(model.device))
            torch.sigmoid(tokens).cpu().numpy()


def ours(model: BertSNR, sequence: bytes) -> None:
    chunk = Chunk(Interval("chr1", 0, len(sequence)), 0, sequence, True)
    for _ in Scanner([model], [CallingRule.for_model(model)], runtime_of(model), step=STEP).scan([chunk]):
        pass


def runtime_of(model: BertSNR, batch_size: int = 1024) -> Runtime:
    return Runtime((model.device,), choose_precision("auto", model.device), batch_size)


def busy(model: BertSNR, sequence: bytes) -> float:
    """Fraction of the time of our scan in which the GPU is busy."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
        start = time.perf_counter()
        ours(model, sequence)
        seconds = time.perf_counter() - start
    return sum(event.self_device_time_total for event in seen.key_averages()) / 1e6 / seconds


def speed(kind: str, windows: int, device: torch.device) -> None:
    model = new_model(kind).to(device)
    size = 1024 if device.type == "cpu" else 4096
    precision = choose_precision("auto", device, training=True)  # of floating-point products
    reference = reference_model(model)
    rough = copy.deepcopy(reference)
    rough.encoder.bfloat16()
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "vocab.txt").write_text("\n".join(vocabulary(model.info.k)) + "\n")
        tokenizer = BertTokenizer(vocab_file=str(Path(directory) / "vocab.txt"), do_lower_case=False)
    ways: dict[str, Callable[[bytes], None]] = {
        "the paper's way": lambda sequence: authors(reference, tokenizer, sequence),
        "transformers, fp32": lambda sequence: plain(reference, sequence),
        "transformers, bf16 weights": lambda sequence: plain(rough, sequence),
        "bertsnr_tools": lambda sequence: ours(model, sequence),
    }
    if precision == "fp32":
        del ways["transformers, bf16 weights"]
    length = windows // 2 * STEP + WINDOW - STEP
    sequence = LETTERS[np.random.default_rng(1).integers(0, 4, length)].tobytes()
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for way in ways.values():
        way(sequence[: 16 * STEP])
    products = []
    for _ in range(3):
        products.append(matrix_rate(device, precision, size, 40))
        for way, run in ways.items():
            start = time.perf_counter()
            run(sequence)
            rates[way].append(2 * length / (time.perf_counter() - start))
    best = {way: max(values) for way, values in rates.items()}
    rate = f"{precision} matrix rate {max(products) / 1e12:.3f} Tflop/s"
    print(f"{kind} on {device}: {operations(model) / 1e6:,.0f} million operations per window, {rate}")
    for way, rate in best.items():
        fraction = rate / STEP * operations(model) / max(products)
        ratio = best["bertsnr_tools"] / rate
        print(f"{way:28s}{rate:12,.0f} strand-bases/s{fraction:8.1%} of the matrix rate{ratio:8.2f} x")
    if device.type == "cuda":
        print(f"the GPU is busy for {busy(model, sequence):.1%} of our scan")


def timed(
    model: BertSNR, files: list[list[FastaChunk]], step: int, prefilter: bool = False
) -> tuple[set[CalledSite], float]:
    """All sites, and strand-bases per second."""
    found: set[CalledSite] = set()
    rules = [CallingRule.for_model(model)]
    scanner = Scanner([model], rules, runtime_of(model, 64), step=step, prefilter=prefilter)
    start = time.perf_counter()
    for pieces in files:
        for sites in scanner.scan(fasta_chunks(pieces)):
            found.update(sites)
    return found, 2 * sum(len(piece.sequence) for pieces in files for piece in pieces) / (time.perf_counter() - start)


def prefiltered(name: str, files: list[str]) -> None:
    model = load_model(find_model(name))
    pieces = [list(read_fasta_chunks(path)) for path in files]
    step = window_step(None, model.info)
    calls, rate = timed(model, pieces, step)
    passed, faster = timed(model, pieces, step, prefilter=True)
    same = len(calls & passed)
    bases = sum(len(piece.sequence) for some in pieces for piece in some)
    kept = f"{same} of them with the prefilter ({same / len(calls):.4f}), {len(passed) - same} others"
    print(f"{model.info.name}: {bases:,} bases, {len(calls)} calls, {kept}")
    print(f"strand-bases/s: {rate:,.0f}, with the prefilter {faster:,.0f}, {faster / rate:.2f} x")


def lengths(name: str, files: list[str]) -> None:
    model = load_model(find_model(name))
    pieces = [list(read_fasta_chunks(path)) for path in files]
    own = model.info.window
    columns = "window", "step", "strand-bases/s", "calls", "overlap the first line's calls", "first line's calls found"
    print(*columns, sep="\t")
    first: set[CalledSite] = set()
    for window in (own, own * 3 // 2, own * 2, own * 3, own * 5):
        model.info.window = window
        found, rate = timed(model, pieces, window - own // 2)
        first = first or found
        overlaps = overlapping(found, first), overlapping(first, found)
        print(window, window - own // 2, f"{rate:,.0f}", len(found), *overlaps, sep="\t", flush=True)


def overlapping(some: set[CalledSite], others: set[CalledSite]) -> int:
    """The number of sites that overlap one of the others on the same strand."""
    positions = {(hit.chrom, hit.strand, at) for hit in others for at in range(hit.start, hit.end)}
    return sum(any((hit.chrom, hit.strand, at) in positions for at in range(hit.start, hit.end)) for hit in some)


def random_factors() -> list[BertSNR]:
    """188 factors with random weights that call 0.3 % of the bases."""
    torch.manual_seed(1)
    infos = [ModelInfo(f"F{number}", 3, WINDOW, compact_config(3, WINDOW), 6 + number % 20) for number in range(188)]
    model = ManyFactorModel(infos).eval()
    codes = np.random.default_rng(2).integers(0, 4, (32, WINDOW)).astype(np.uint8)
    with torch.no_grad():
        logits = model(token_ids(codes, 3))[1]
        model.token_head.bias -= torch.quantile(logits.flatten(0, 1), 0.998, dim=0)
    return [model.factor(number) for number in range(len(infos))]


def factors(name: str, windows: int, device: torch.device) -> None:
    models = load_factors(find_model(name), device=device) if name else random_factors()
    assert models[0].shared
    for many in models[0].shared.model.group:
        many.to(device)
    alone = BertSNR(models[0].info)
    alone.load_state_dict(models[0].state_dict())
    ways = {
        "single-factor model": [new_model("compact").to(device)],
        "one factor, same encoder": [alone.eval().to(device)],
        f"{len(models)} factors": models,
    }
    length = windows // 2 * STEP + WINDOW - STEP
    chunk = Chunk(
        Interval("chr1", 0, length), 0, LETTERS[np.random.default_rng(1).integers(0, 4, length)].tobytes(), True
    )
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    found = {}
    for _ in range(3):
        for way, scanned in ways.items():
            rules = [CallingRule.for_model(model) for model in scanned]
            scanner = Scanner(scanned, rules, runtime_of(scanned[0]), step=STEP)
            start = time.perf_counter()
            found[way] = sum(map(len, scanner.scan([chunk])))
            seconds[way].append(time.perf_counter() - start)
    single, encoder, every = (min(values) for values in seconds.values())
    for way, values in seconds.items():
        rate = 2 * length / min(values)
        print(f"{way:28s}{rate:12,.0f} strand-bases/s{found[way]:10,} calls{min(values) / single:8.2f} x the time")
    encoders = len(models[0].shared.model.group)
    rest = f"heads and calling: {1 - encoders * encoder / every:.1%} of the time of all factors"
    print(f"encoders: {encoders}; {rest}")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB")


def memory(options: list[str]) -> None:
    bertsnr = str(Path(sys.executable).parent / "bertsnr")
    random = np.random.default_rng(1)
    peaks = []
    with tempfile.TemporaryDirectory() as directory:
        for megabases in (5, 50):
            path = Path(directory) / f"{megabases}.fa"
            with path.open("wb") as stream:  # in parts: the peak of a child includes the memory of its parent
                stream.write(b">chr1\n")
                for _ in range(megabases):
                    stream.write(LETTERS[random.integers(0, 4, 1_000_000)].tobytes())
                stream.write(b"\n")
            start = time.perf_counter()
            process = subprocess.Popen([bertsnr, "predict", "-q", "-m", "CTCF", *options, "-o", os.devnull, str(path)])
            _, status, usage = os.wait4(process.pid, 0)
            if status:
                raise SystemExit(status)
            peaks.append(usage.ru_maxrss / 1024)
            seconds = time.perf_counter() - start
            rate = f"{2e6 * megabases / seconds:,.0f} strand-bases/s"
            print(f"{megabases} Mb: {seconds:,.0f} s, {rate}, peak memory {peaks[-1]:,.0f} MiB")
    print(f"memory of the longer scan: {peaks[1] / peaks[0]:.3f} x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", choices=["compact", "dnabert"], default="compact")
    parser.add_argument("--windows", type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--prefilter", nargs="+", metavar=("MODEL", "FASTA"))
    parser.add_argument("--lengths", nargs="+", metavar=("MODEL", "FASTA"))
    parser.add_argument("--factors", nargs="?", const="", metavar="MODEL")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--prefiltered", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(usable_cpus())
    if arguments.memory:
        memory(["--prefilter"] if arguments.prefiltered else [])
    elif arguments.factors is not None:
        factors(arguments.factors, arguments.windows or 8000, choose_device(arguments.device))
    elif arguments.prefilter:
        prefiltered(arguments.prefilter[0], arguments.prefilter[1:])
    elif arguments.lengths:
        lengths(arguments.lengths[0], arguments.lengths[1:])
    else:
        speed(
            arguments.encoder,
            arguments.windows or (8000 if arguments.encoder == "compact" else 512),
            choose_device(arguments.device),
        )


if __name__ == "__main__":
    main()
