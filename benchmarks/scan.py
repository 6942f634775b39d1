#!/usr/bin/env python3
"""How fast is a scan?  Beside the paper's way, beside plain `transformers`, and beside what the arithmetic allows.

    python benchmarks/scan.py [--encoder compact|dnabert] [--windows N] [--device DEVICE]
    python benchmarks/scan.py --prefilter MODEL FASTA …
    python benchmarks/scan.py --lengths MODEL FASTA …
    python benchmarks/scan.py --memory [--prefiltered]

All read the same random sequence in windows of 100 bp, a new one every 80 bp, both strands, with all threads. The paper's way: k-mers
as text through BertTokenizer, one batch of 32 after the other, fp32. Plain `transformers`: ready token ids, batches of 64, in fp32 and with
bf16 weights. Ours: `inference.scan`, sites called and all, in bf16 where the processor has it, the compact encoder by `amx` where it is
usable. The rounds of all are interleaved, the best of three counts. The arithmetic of a window is 2 operations for each weight of the
layers and token and 4 for each pair of tokens, layer and hidden unit; the matrix rate is that of products of bf16 matrices in the same
process, of 1024 x 1024 on a processor and 4096 x 4096 on a GPU. Where a processor has no bf16, all of this is in fp32, without the bf16
weights. Of a GPU the share of the time is printed, too, in which it worked for our scan.

--prefilter scans files of natural sequence as `bertsnr predict` does, with and without the model's prefilter, and counts the calls that
are the same, base for base. --lengths scans them in longer windows than those that the model was trained on, all of which overlap by
half of its own, and counts the sites that overlap those of its own windows. --memory scans random chromosomes of 5 and of 50 Mb with `bertsnr predict` and prints time and peak memory of
each.
"""

from __future__ import annotations

import argparse
import copy
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import BertTokenizer

from bertsnr_tools.cli.options import cores
from bertsnr_tools.io.fasta import FastaChunk, read_fasta_chunks
from bertsnr_tools.io.intervals import Interval
from bertsnr_tools.models.bertsnr import BertSNR, token_ids
from bertsnr_tools.models.device import choose_device, choose_precision
from bertsnr_tools.models.encoder import compact_config
from bertsnr_tools.models.files import load_model
from bertsnr_tools.models.interface import ModelInfo
from bertsnr_tools.models.registry import find_model
from bertsnr_tools.predict.chunks import Chunk, fasta_chunks
from bertsnr_tools.predict.scan import CalledSite, ScanStats, scan, window_step
from bertsnr_tools.sequence.encoding import encode, reverse_complement_codes, vocabulary
from dnabert import matrix_rate

WINDOW, STEP = 100, 80
LETTERS = np.frombuffer(b"ACGT", dtype=np.uint8)


def new_model(kind: str) -> BertSNR:
    """Random weights: time does not depend on them."""
    torch.manual_seed(1)
    if kind == "compact":
        return BertSNR(ModelInfo("X", 3, WINDOW, compact_config(3, WINDOW), 10, 0.999)).eval()
    return BertSNR(
        ModelInfo(
            "X", 6, WINDOW, {"model_type": "bert", "vocab_size": len(vocabulary(6)), "hidden_size": 768}, 10, 0.999
        )
    ).eval()


def operations(model: BertSNR) -> float:
    """Of one window."""
    config = model.encoder.config
    tokens, hidden = WINDOW - model.info.k + 3, config.hidden_size
    part = 3 if config.model_type == "modernbert" else 2
    return (
        2
        * tokens
        * config.num_hidden_layers
        * (4 * hidden**2 + part * hidden * config.intermediate_size + 2 * tokens * hidden)
    )


def both_strands(sequence: bytes) -> np.ndarray:
    """The windows of both strands, shape (n, 100)."""
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
    region = Interval("chr1", 0, len(sequence))
    for _ in scan(
        [model],
        [Chunk(region, 0, sequence, True)],
        [model.info.threshold],
        [STEP],
        1024,
        choose_precision("auto", model.device),
        ScanStats(),
    ):
        pass


def busy(model: BertSNR, sequence: bytes) -> float:
    """Share of the time of our scan in which a GPU works."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
        start = time.perf_counter()
        ours(model, sequence)
        seconds = time.perf_counter() - start
    return sum(event.self_device_time_total for event in seen.key_averages()) / 1e6 / seconds


def speed(kind: str, windows: int, device: torch.device) -> None:
    model = new_model(kind).to(device)
    size = 1024 if device.type == "cpu" else 4096
    precision = choose_precision("auto", device)
    rough = copy.deepcopy(model)
    rough.encoder.bfloat16()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "vocab.txt").write_text("\n".join(vocabulary(model.info.k)) + "\n")
        tokenizer = BertTokenizer(vocab_file=str(Path(folder) / "vocab.txt"), do_lower_case=False)
    ways: dict[str, Callable[[bytes], None]] = {
        "the paper's way": lambda sequence: authors(model, tokenizer, sequence),
        "transformers, fp32": lambda sequence: plain(model, sequence),
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
    peaks = []
    for _ in range(3):
        peaks.append(matrix_rate(device, precision, size, 40))
        for way, run in ways.items():
            start = time.perf_counter()
            run(sequence)
            rates[way].append(2 * length / (time.perf_counter() - start))
    best = {way: max(values) for way, values in rates.items()}
    print(
        f"{kind} on {device}: {operations(model) / 1e6:,.0f} million operations a window, {precision} matrix rate {max(peaks) / 1e12:.3f} Tflop/s, {torch.get_num_threads()} threads"
    )
    for way, rate in best.items():
        share = rate / STEP * operations(model) / max(peaks)
        print(
            f"{way:28s}{rate:12,.0f} strand-bases/s{share:8.1%} of the matrix rate{best['bertsnr_tools'] / rate:8.2f} x"
        )
    if device.type == "cuda":
        print(f"the GPU works for {busy(model, sequence):.1%} of our scan")


def timed(
    model: BertSNR, files: list[list[FastaChunk]], step: int, prefilter: bool = False
) -> tuple[set[CalledSite], float]:
    """All sites, and strand-bases a second."""
    found: set[CalledSite] = set()
    start = time.perf_counter()
    for pieces in files:
        for hits in scan(
            [model],
            fasta_chunks(pieces),
            [model.info.threshold],
            [step],
            64,
            choose_precision("auto", model.device),
            ScanStats(),
            prefilter=prefilter,
        ):
            found.update(hits)
    return found, 2 * sum(len(piece.sequence) for pieces in files for piece in pieces) / (time.perf_counter() - start)


def prefiltered(name: str, files: list[str]) -> None:
    model = load_model(find_model(name))
    pieces = [list(read_fasta_chunks(path)) for path in files]
    step = window_step(None, model.info)
    calls, rate = timed(model, pieces, step)
    passed, faster = timed(model, pieces, step, prefilter=True)
    same = len(calls & passed)
    bases = sum(len(piece.sequence) for some in pieces for piece in some)
    print(
        f"{model.info.name}: {bases:,} bases, {len(calls)} calls, {same} of them with the prefilter ({same / len(calls):.4f}), {len(passed) - same} others"
    )
    print(f"strand-bases/s: {rate:,.0f}, with the prefilter {faster:,.0f}, {faster / rate:.2f} x")


def lengths(name: str, files: list[str]) -> None:
    model = load_model(find_model(name))
    pieces = [list(read_fasta_chunks(path)) for path in files]
    own = model.info.window
    print(
        "window",
        "step",
        "strand-bases/s",
        "calls",
        "overlap one of the first line",
        "of the first line, overlap one",
        sep="\t",
    )
    first: set[CalledSite] = set()
    for window in (own, own * 3 // 2, own * 2, own * 3, own * 5):
        model.info.window = window
        found, rate = timed(model, pieces, window - own // 2)
        first = first or found
        print(
            window,
            window - own // 2,
            f"{rate:,.0f}",
            len(found),
            overlapping(found, first),
            overlapping(first, found),
            sep="\t",
            flush=True,
        )


def overlapping(some: set[CalledSite], others: set[CalledSite]) -> int:
    """How many of some sites share a base with one of the others on the same strand."""
    places = {(hit.chrom, hit.strand, at) for hit in others for at in range(hit.start, hit.end)}
    return sum(any((hit.chrom, hit.strand, at) in places for at in range(hit.start, hit.end)) for hit in some)


def memory(options: list[str]) -> None:
    bertsnr = str(Path(sys.executable).parent / "bertsnr")
    random = np.random.default_rng(1)
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        for megabases in (5, 50):
            path = Path(folder) / f"{megabases}.fa"
            with path.open("wb") as stream:  # in pieces: a child's peak begins with its parent's memory
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
            print(
                f"{megabases} Mb: {seconds:,.0f} s, {2e6 * megabases / seconds:,.0f} strand-bases/s, {peaks[-1]:,.0f} MiB at most"
            )
    print(f"memory of the longer scan: {peaks[1] / peaks[0]:.3f} x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", choices=["compact", "dnabert"], default="compact")
    parser.add_argument("--windows", type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--prefilter", nargs="+", metavar=("MODEL", "FASTA"))
    parser.add_argument("--lengths", nargs="+", metavar=("MODEL", "FASTA"))
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--prefiltered", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(cores())
    if arguments.memory:
        memory(["--prefilter"] if arguments.prefiltered else [])
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
