#!/usr/bin/env python3
"""How fast is a scan apart from its network, as a GPU sees it?

    python benchmarks/host.py [--megabases N] [--rounds N] [--threads N] [OTHER_TREE]

Scans N megabases with CTCF as `bertsnr predict` does, but takes the base probabilities of the network from memory:
the ones that it gave for the first megabase, which is repeated. Prints strand-bases per second of CPU time and of
wall time, for sites alone, and for sites and a bigWig file. With OTHER_TREE, another checkout of the repository, the
two take turns in processes of their own, and the ratio of their medians is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve()
BLOCK = 1 << 20
OUTPUTS = "sites", "sites and bigWig"


def measure(scores_path: str, megabases: int, threads: int) -> None:
    """Scan in this process, and print the CPU and wall time of each kind of output, in seconds, as JSON."""
    import numpy as np
    import torch

    from bertsnr_tools.cli.limits import keep_freed_memory
    from bertsnr_tools.io.intervals import Interval
    from bertsnr_tools.io.outputs import Failures
    from bertsnr_tools.models.device import Runtime
    from bertsnr_tools.models.registry import load_models
    from bertsnr_tools.predict import model_scan
    from bertsnr_tools.predict.chunks import Chunk
    from bertsnr_tools.predict.scan import Scanner
    from bertsnr_tools.predict.thresholds import CallingRule
    from bertsnr_tools.predict.writers import SignalFile, SignalWriter

    keep_freed_memory()
    torch.set_num_threads(threads)
    runtime = Runtime.choose("cpu")
    models = load_models(["CTCF"], runtime)
    rules = [CallingRule.for_model(models[0], None)]
    sequence = np.random.default_rng(1).choice(np.frombuffer(b"ACGT", np.uint8), BLOCK).tobytes()
    lengths = {"chr1": megabases * BLOCK}

    def scan(size: int, signal: SignalWriter | None) -> None:
        region = Interval("chr1", 0, size * BLOCK)
        chunks = (Chunk(region, 0, sequence, number == size - 1) for number in range(size))
        for _ in Scanner(models, rules, runtime, signal=signal).scan(chunks, ahead=True):
            pass

    network, kept = model_scan.base_probabilities, []
    if not os.path.exists(scores_path):
        model_scan.base_probabilities = lambda *arguments: kept.append(network(*arguments)) or kept[-1]
        scan(1, None)
        np.save(scores_path, kept[0])
    scores = np.load(scores_path)
    model_scan.base_probabilities = lambda _, codes, __: np.resize(scores, codes.shape)
    times = []
    for output in OUTPUTS:
        path = tempfile.mktemp(suffix=".bw")
        begun = time.process_time(), time.perf_counter()
        if output == OUTPUTS[0]:
            scan(megabases, None)
        else:
            with SignalWriter([SignalFile(0, "--bigwig", path)], ["CTCF"], lengths, None, Failures()) as signal:
                scan(megabases, signal)
            os.unlink(path)
        times.append((time.process_time() - begun[0], time.perf_counter() - begun[1]))
    print(json.dumps(times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other_tree", nargs="?", type=Path)
    parser.add_argument("--megabases", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--scores", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.scores:
        measure(arguments.scores, arguments.megabases, arguments.threads)
        return
    trees = [HERE.parents[1], *([arguments.other_tree.resolve()] if arguments.other_tree else [])]
    rounds: dict[Path, list[list[list[float]]]] = {tree: [] for tree in trees}
    with tempfile.TemporaryDirectory() as directory:
        options = [f"--megabases={arguments.megabases}", f"--threads={arguments.threads}"]
        command = [sys.executable, str(HERE), *options, f"--scores={directory}/scores.npy"]
        for _ in range(arguments.rounds):
            for tree in trees:
                environment = os.environ | {"PYTHONPATH": str(tree)}
                output = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout
                rounds[tree].append(json.loads(output))
    bases = 2 * arguments.megabases * BLOCK
    for number, output in enumerate(OUTPUTS):
        for clock, kind in enumerate(("CPU time", "wall time")):
            rates = [bases / statistics.median(one[number][clock] for one in rounds[tree]) for tree in trees]
            ratio = f", other tree {rates[1]:,.0f}, ratio {rates[0] / rates[1]:.2f}" if arguments.other_tree else ""
            print(f"{output}, {kind}: {rates[0]:,.0f} strand-bases per second{ratio}")


if __name__ == "__main__":
    main()
