#!/usr/bin/env python3
"""How fast is a scan apart from its network, as a GPU sees it?

    python benchmarks/host.py [--megabases N] [--rounds N] [--threads N] [OTHER_TREE]

Scans N megabases with CTCF as `bertsnr predict` does, but takes the base probabilities of the network from memory:
the ones that it gave for the first megabase, which is repeated. Prints strand-bases per second of CPU time and of
wall time, for sites alone, and for sites and a bigWig file; then how busy a stub of an H100 is, on which a batch takes
as long as there (`DEVICE_RATE`, `LAUNCH`). With OTHER_TREE, another checkout of the repository, the two take turns in
processes of their own, and the ratio of their medians is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from pathlib import Path

HERE = Path(__file__).resolve()
BLOCK = 1 << 20
OUTPUTS = "sites", "sites and bigWig"
CLOCKS = "CPU time", "wall time", "wall time with the stub"
DEVICE_RATE = 65e6  # strand-bases per second of an H100 (gpu.json)
LAUNCH = 0.0012  # seconds of CPU for the launch of a batch there
BATCH, IN_FLIGHT = 4096, 3  # windows, and batches that a scorer launches before it reads the first result


class StubDevice:
    """Works on one batch at a time, in the order of their launches; a launch takes CPU time, waiting does not."""

    def __init__(self, scores):
        self.scores, self.free, self.lock = scores, 0.0, threading.Lock()

    def __call__(self, _model, codes, _runtime):
        """The scores from memory, as soon as the device has worked on all batches."""
        import numpy as np

        launched: deque[float] = deque()
        for first in range(0, len(codes), BATCH):
            if len(launched) == IN_FLIGHT:
                self.wait(launched.popleft())
            busy_until = time.perf_counter() + LAUNCH
            while time.perf_counter() < busy_until:
                pass
            with self.lock:
                seconds = len(codes[first : first + BATCH]) * codes.shape[1] / 2 / DEVICE_RATE
                self.free = max(self.free, time.perf_counter()) + seconds
                launched.append(self.free)
        while launched:
            self.wait(launched.popleft())
        return np.resize(self.scores, codes.shape)

    @staticmethod
    def wait(until: float) -> None:
        time.sleep(max(0.0, until - time.perf_counter()))


def measure(scores_path: str, megabases: int, threads: int) -> None:
    """Scan in this process, and print the times of each kind of output, in seconds, as JSON."""
    import numpy as np
    import torch

    from bertsnr_tools.cli.limits import keep_freed_memory
    from bertsnr_tools.io.intervals import Interval
    from bertsnr_tools.io.outputs import Failures
    from bertsnr_tools.models.device import Runtime
    from bertsnr_tools.models.registry import load_models
    from bertsnr_tools.predict import model_scan
    from bertsnr_tools.predict.chunks import Chunk
    from bertsnr_tools.predict.scan import BLOCKS_AHEAD, Scanner
    from bertsnr_tools.predict.thresholds import CallingRule
    from bertsnr_tools.predict.writers import SignalFile, SignalWriter

    keep_freed_memory()
    torch.set_num_threads(threads)
    runtime = Runtime.choose("cpu")
    models = load_models(["CTCF"], runtime)
    rules = [CallingRule.for_model(models[0], None)]
    sequence = np.random.default_rng(1).choice(np.frombuffer(b"ACGT", np.uint8), BLOCK).tobytes()
    lengths = {"chr1": megabases * BLOCK}

    def scan(size: int, signal: SignalWriter | None = None, blocks_ahead: int = 0) -> None:
        region = Interval("chr1", 0, size * BLOCK)
        chunks = (Chunk(region, 0, sequence, number == size - 1) for number in range(size))
        scanner = Scanner(models, rules, runtime, signal=signal)
        scanner._blocks_ahead = blocks_ahead
        for _ in scanner.scan(chunks, ahead=True):
            pass

    def timed(output: str, blocks_ahead: int) -> tuple[float, float]:
        path = tempfile.mktemp(suffix=".bw")
        begun = time.process_time(), time.perf_counter()
        if output == OUTPUTS[0]:
            scan(megabases, None, blocks_ahead)
        else:
            with SignalWriter([SignalFile(0, "--bigwig", path)], ["CTCF"], lengths, None, Failures()) as signal:
                scan(megabases, signal, blocks_ahead)
            os.unlink(path)
        return time.process_time() - begun[0], time.perf_counter() - begun[1]

    network, kept = model_scan.base_probabilities, []
    if not os.path.exists(scores_path):
        model_scan.base_probabilities = lambda *arguments: kept.append(network(*arguments)) or kept[-1]
        scan(1)
        np.save(scores_path, kept[0])
    scores = np.load(scores_path)
    times = []
    for output in OUTPUTS:
        model_scan.base_probabilities = lambda _, codes, __: np.resize(scores, codes.shape)
        alone = timed(output, 0)
        model_scan.base_probabilities = StubDevice(scores)
        times.append((*alone, timed(output, BLOCKS_AHEAD)[1]))
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
        for clock, kind in enumerate(CLOCKS):
            rates = [bases / statistics.median(one[number][clock] for one in rounds[tree]) for tree in trees]
            ratio = f", other tree {rates[1]:,.0f}, ratio {rates[0] / rates[1]:.2f}" if arguments.other_tree else ""
            print(f"{output}, {kind}: {rates[0]:,.0f} strand-bases per second{ratio}")
        print(f"{output}, the stub is busy: " + ", other tree ".join(f"{rate / DEVICE_RATE:.0%}" for rate in rates))


if __name__ == "__main__":
    main()
