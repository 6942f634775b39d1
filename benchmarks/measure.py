"""Shared by gpu.py: tables, timers, profiles, and commands in processes of their own."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, suppress
from functools import wraps
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch

from bertsnr_tools.cli import command
from bertsnr_tools.cli.options import usable_cpus
from bertsnr_tools.log import logger
from bertsnr_tools.models.kernels import amx
from dnabert import wait

ROOT = Path(__file__).resolve().parents[1]
LETTERS = np.frombuffer(b"ACGT", dtype=np.uint8)
GROUPS = {  # names of GPU kernels, the first match counts
    "Triton kernel": "window_logits",
    "attention": "fmha|flash|attention|cudnn",
    "matrix products": "gemm|cutlass|nvjet|xmma|splitK|cublas",
    "norms": "layer_norm|LayerNorm",
    "copies": "HtoD|DtoH",
    "elementwise": "elementwise|Cat|copy|Memcpy|reduce|index|embedding|vectorized|pool",
}


@contextmanager
def reported(name: str, figures: dict[str, Any]) -> Iterator[None]:
    """Turn an exception into a traceback in the figures and a line on stderr."""
    try:
        yield
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
        figures["error"] = {"type": type(error).__name__, "text": str(error)[:1500], "traceback": lines[-12:]}
        print(f"{name}: {type(error).__name__}: {str(error)[:300]} ({lines[-1]})", file=sys.stderr, flush=True)


def rounded(value: Any) -> Any:
    """The same with floats of five digits."""
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(part) for part in value]
    return float(f"{value:.5g}") if isinstance(value, (float, np.floating)) else value


def table(rows: list[dict[str, Any]]) -> None:
    """Print rows below each other; columns are the keys of the first one."""
    if not rows:
        return
    names = list(rows[0])
    cells = [names] + [[_cell(row.get(name)) for name in names] for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
    for line in cells:
        first, *others = (cell.ljust(width) for cell, width in zip(line, widths))
        print("  ".join([first, *(cell.strip().rjust(len(cell)) for cell in others)]), flush=True)


def _cell(value: Any) -> str:
    if isinstance(value, (float, np.floating)):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "" if value is None else str(value)


def distance(one: Any, other: Any) -> dict[str, float]:
    gap = np.abs(np.asarray(one, dtype=np.float64) - np.asarray(other, dtype=np.float64))
    return {"largest": float(gap.max()), "rms": float(np.sqrt((gap**2).mean()))}


def seconds_of(work: Callable[[], Any], device: torch.device, least: float = 0.15) -> float:
    """Best of three repeats, each of as many calls as fill `least` seconds."""
    for _ in range(2):
        work()
    wait(device)
    start = time.perf_counter()
    work()
    wait(device)
    calls = max(1, int(least / max(1e-6, time.perf_counter() - start)))
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        for _ in range(calls):
            work()
        wait(device)
        best = min(best, (time.perf_counter() - start) / calls)
    return best


class Graph:
    """A function of one tensor, captured once and replayed."""

    def __init__(self, work: Callable[[torch.Tensor], Any], example: torch.Tensor):
        self._input = example.clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                work(self._input)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self.output = work(self._input)

    def __call__(self, values: torch.Tensor) -> Any:
        self._input.copy_(values)
        self._graph.replay()
        return self.output


def profiled(work: Callable[[], Any]) -> dict[str, Any]:
    """Seconds on the device, launches, and the fraction of each group of kernels."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA], acc_events=True) as seen:
        work()
        torch.cuda.synchronize()
    events = [(event.key, event.self_device_time_total / 1e6, event.count) for event in seen.key_averages()]
    total = sum(seconds for _, seconds, _ in events)
    groups: dict[str, float] = defaultdict(float)
    for name, seconds, _ in events:
        group = next((group for group, pattern in GROUPS.items() if re.search(pattern, name)), "other")
        groups[group] += seconds / max(total, 1e-9)
    ordered = dict(sorted(groups.items(), key=lambda pair: -pair[1]))
    return {"seconds_on_device": total, "launches": sum(count for _, _, count in events), "groups": ordered}


def write_chromosome(path: Path, bases: int) -> None:
    """Random sequence, 60 bases a line."""
    random = np.random.default_rng(1)
    with path.open("wb") as stream:
        stream.write(b">chr1\n")
        for at in range(0, bases, 6_000_000):
            lines = np.full((min(6_000_000, bases - at) // 60, 61), ord("\n"), dtype=np.uint8)
            lines[:, :60] = LETTERS[random.integers(0, 4, (len(lines), 60), dtype=np.uint8)]
            stream.write(lines.tobytes())


class Done(NamedTuple):
    """A command that has run in a process of its own; peak memory of the host in MiB, and the end of its stderr."""

    status: int
    seconds: float
    cpu_seconds: float
    host_MiB: float | None
    stderr: str


def launched(arguments: list[Any], before: str = "") -> Done:
    """Run a command; `before` is Python that runs first."""
    words = [str(argument) for argument in arguments]
    report = "[line for line in open('/proc/self/status') if line.startswith('VmHWM')]"
    program = f"import atexit, sys\natexit.register(lambda: print(*{report}, file=sys.stderr))\n"
    program += f"sys.argv = ['bertsnr', *{words!r}]\n{before}\nfrom bertsnr_tools.cli import main; main()"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    start = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        line = [sys.executable, "-c", program]
        process = subprocess.Popen(line, stderr=said, stdout=subprocess.DEVNULL, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        said.seek(0)
        text = said.read().decode(errors="replace")
    peak = re.search(r"VmHWM:\s+(\d+) kB", text)
    text = re.sub(r"VmHWM:.*\s*", "", text)
    memory = int(peak[1]) / 1024 if peak else None
    return Done(os.waitstatus_to_exitcode(status), seconds, usage.ru_utime + usage.ru_stime, memory, text[-3000:])


class Clock:
    """Time in each of several functions, what these call included, by thread."""

    def __init__(self) -> None:
        self.spent: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0, 0.0, 0.0])
        self._lock = threading.Lock()

    @contextmanager
    def running(self, functions: list[tuple[Any, str]]) -> Iterator[None]:
        with ExitStack() as stack:
            for owner, name in functions:
                if hasattr(owner, name):
                    label = f"{getattr(owner, '__name__', owner).rsplit('.', 1)[-1]}.{name}"
                    timed = self._timed(getattr(owner, name), label)
                    stack.enter_context(mock.patch.object(owner, name, timed))
            yield

    def _timed(self, function: Callable[..., Any], label: str) -> Callable[..., Any]:
        @wraps(function)
        def call(*arguments: Any, **options: Any) -> Any:
            start, cpu = time.perf_counter(), time.thread_time()
            try:
                return function(*arguments, **options)
            finally:
                thread = "main" if threading.current_thread() is threading.main_thread() else "worker"
                with self._lock:
                    spent = self.spent[label, thread]
                    spent[0] += 1
                    spent[1] += time.perf_counter() - start
                    spent[2] += time.thread_time() - cpu

        return call

    def rows(self) -> list[dict[str, Any]]:
        ordered = sorted(self.spent.items(), key=lambda item: -item[1][1])
        columns = ("calls", "seconds", "cpu_seconds")
        return [{"in": label, "thread": thread, **dict(zip(columns, spent))} for (label, thread), spent in ordered]


def machine(device: torch.device) -> dict[str, Any]:
    """Versions, CPU and GPU."""
    found: dict[str, Any] = {"python": sys.version.split()[0], "cpus": usable_cpus()}
    for name in ("torch", "triton", "numpy"):
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    with suppress(OSError, StopIteration):
        model = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
        found["cpu"] = model.split(":")[1].strip()
    found["amx_kernel"] = amx.kernel() is not None
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        found["gpu"] = {"name": card.name, "GiB": card.total_memory / 2**30}
    return found


def cli(name: str, *arguments: Any) -> None:
    """Run a command in this process."""
    with redirect_stderr(StringIO()):
        command(name).main([str(argument) for argument in arguments], standalone_mode=False)
    logger.handlers[:] = []
