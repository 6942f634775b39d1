"""The stages of gpu.py that train."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_run import SITES, Run, ctcf, random_codes
from scan import WINDOW, new_model, operations

from bertsnr_tools.models.bertsnr import token_ids
from bertsnr_tools.models.device import autocast
from bertsnr_tools.models.files import load_model
from bertsnr_tools.sequence.windows import Windows
from bertsnr_tools.training.config import PAPER, Recipe
from bertsnr_tools.training.fit import Trainer
from bertsnr_tools.training.optimization import COMPILED_STEPS, two_task_loss
from dnabert import wait
from measure import LETTERS, ROOT, cli, launched, reported, table

EPOCH = re.compile(r"epoch (\d+) of (\d+): loss ([\d.]+), mean AUPR ([\d.]+)")
BEFORE, AFTER = 60.0, 5.0  # seconds of a process before its first epoch, compilation included, and for a checkpoint
P_VALUES = 75.0  # seconds for the null distributions of all factors
CALIBRATION = 3  # epochs after which it is known how long a training takes
SHORTEST, LONGEST = 0.6, 1.15  # parts of the given time that it may take; otherwise, it is begun again
PART_BYTES = 15 * 2**20  # of a checkpoint


# wide


@dataclass
class Attempt:
    """A `bertsnr train` of many factors in a process of its own, as its messages tell.

    Attributes
    ----------
    epochs : number that it was asked for
    last : it runs to the end, or until the time is up
    ends : seconds after the start at which epochs ended
    auprs : of the validation windows after each
    misjudged : it was ended, because its epochs do not fit, or many more do
    """

    epochs: int
    last: bool = False
    ends: list[float] = field(default_factory=list)
    auprs: list[float] = field(default_factory=list)
    status: int | None = None
    seconds: float = 0.0
    misjudged: bool = False

    def seconds_an_epoch(self) -> float:
        """Without the first one."""
        return (self.ends[-1] - self.ends[0]) / max(1, len(self.ends) - 1)

    def watch(self, line: list[str], limit: float) -> None:
        """Run it, print what it says, and end it when it takes longer than `LONGEST` times `limit` seconds."""
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        start = time.perf_counter()
        process = subprocess.Popen(
            line, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True, bufsize=1
        )
        most = LONGEST * limit
        timers = [threading.Timer(most, process.terminate), threading.Timer(most + 10, kill_group, (process,))]
        for timer in timers:
            timer.start()
        assert process.stderr
        for text in process.stderr:
            self.seconds = time.perf_counter() - start
            print(f"{self.seconds:6.1f} s  {text}", end="", flush=True)
            if found := EPOCH.search(text):
                self.ends.append(self.seconds)
                self.auprs.append(float(found[4]))
                if len(self.ends) == self.epochs and self.seconds + P_VALUES > most:
                    timers.append(threading.Timer(AFTER, process.terminate))
                    timers[-1].start()
                elif len(self.ends) == CALIBRATION and not self.last:
                    projected = self.seconds + (self.epochs - CALIBRATION) * self.seconds_an_epoch()
                    if not SHORTEST * limit < projected < most:
                        self.misjudged = True
                        process.terminate()
        self.status = process.wait()
        self.seconds = time.perf_counter() - start
        for timer in timers:
            timer.cancel()


def kill_group(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)


def wide(run: Run, figures: dict[str, Any]) -> None:
    """`bertsnr train` of a wide many-factor model, with as many epochs as fit into --wide-seconds.

    The learning rate falls until the last epoch, so that their number must be known: it is what the rates on an H100
    (126,500 windows a second with 128x4, 45 % of it with 192x6) promise, and is corrected once after three epochs.
    p-values take a minute more, which a CPU can do: where time is short, the files beside --output are the checkpoint
    in parts. To finish the model, `cat wide.pt.ckpt.* > wide.pt.ckpt` and run the command that is printed, with
    --device cpu and --resume.
    """
    directory = run.factors or toy_factors(run.scratch / "toy_factors")
    target, limit = run.keep / "wide.pt", min(run.wide_seconds, run.left / LONGEST - 10)
    start = time.perf_counter()
    attempt = Attempt(max(CALIBRATION, int((limit - BEFORE - AFTER) / run.sizes.epoch)))
    attempt.watch(train_line(run, directory, target, attempt.epochs), limit)
    if attempt.misjudged:
        figures["misjudged"] = vars(attempt)
        left = limit - (time.perf_counter() - start)
        first = attempt.ends[0] - attempt.seconds_an_epoch()
        fitting = int((left - first - AFTER) / attempt.seconds_an_epoch())
        attempt = Attempt(max(1, fitting), last=True)
        attempt.watch(train_line(run, directory, target, attempt.epochs), left)
    figures.update(vars(attempt))
    figures["seconds_an_epoch"] = attempt.seconds_an_epoch() if attempt.ends else None
    line = train_line(run, directory, target, attempt.epochs)
    figures["command"] = " ".join(line[line.index("bertsnr_tools") + 1 :])
    print(f"bertsnr {figures['command']}")
    checkpoint = Path(f"{target}.ckpt")
    if checkpoint.exists():
        split_file(checkpoint)
    files = sorted(target.parent.glob(f"{target.stem}.*"))
    figures["files"] = [{"file": path.name, "MiB": path.stat().st_size / 2**20} for path in files]
    table(figures["files"])


def train_line(run: Run, directory: Path, target: Path, epochs: int) -> list[str]:
    """`bertsnr train` on the output of workflow/factor_windows.py."""
    program = [sys.executable, "-m", "bertsnr_tools", "train", "--device", run.device, "--precision", "bf16"]
    recipe = ["--encoder", run.sizes.encoder, "--epochs", epochs, "--patience", epochs]
    recipe += [] if run.tiny else ["--val-chroms", "chr8,chr10"]
    background = ["--background", directory / "background.fa.gz", "--exclude", directory / "known.bed.gz"]
    line = [*program, *recipe, *background, "-o", target, "--json", target.with_suffix(".json"), directory / "train"]
    return [str(word) for word in (*line, *run.wide_options)]


def toy_factors(directory: Path) -> Path:
    """A directory as workflow/factor_windows.py writes it, with three factors of random windows."""
    random = np.random.default_rng(1)
    (directory / "train").mkdir(parents=True)
    for name, count in {"A": 40, "B": 60, "C": 80}.items():
        records = []
        for number in range(count):
            at = 1000 * number
            text = LETTERS[random.integers(0, 4, WINDOW)].tobytes().decode()
            records.append(f">hg19.chr1:{at}-{at + WINDOW}(+) site=40-52\n{text[:40]}ACGTTGCAACGT{text[52:]}\n")
        with gzip.open(directory / "train" / f"{name}.fa.gz", "wt") as stream:
            stream.write("".join(records))
    with gzip.open(directory / "background.fa.gz", "wt") as stream:
        for number in range(100):
            text = LETTERS[random.integers(0, 4, WINDOW)].tobytes().decode()
            stream.write(f">hg19.chr2:{1000 * number}-{1000 * number + WINDOW}(+)\n{text}\n")
    with gzip.open(directory / "known.bed.gz", "wt") as stream:
        stream.write("hg19.chr2\t10\t30\tA\n")
    return directory


def split_file(path: Path) -> None:
    """Cut it into parts, path.0, path.1 and so on, and delete it."""
    with path.open("rb") as stream:
        for number, part in enumerate(iter(lambda: stream.read(PART_BYTES), b"")):
            Path(f"{path}.{number}").write_bytes(part)
    path.unlink()


# train


def command(run: Run, figures: dict[str, Any]) -> None:
    """`bertsnr train` of CTCF as a command: the whole process, with background windows and a prefilter."""
    directory = run.factors or toy_factors(run.scratch / "toy_command")
    windows = SITES if run.tiny or not run.factors else directory / "train" / "CTCF.fa.gz"
    target = run.scratch / "CTCF.pt"
    line = ["train", "--device", run.device, "--background", directory / "background.fa.gz", "-o", target, windows]
    figures["rows"] = rows = []
    ways = {"CTCF, shuffles": [*line[:3], *line[5:]], "with background": line, "and prefilter": [*line, "--prefilter"]}
    if run.tiny:
        del ways["and prefilter"]  # takes minutes on a CPU
    for name, words in ways.items():
        done = launched([*words, *(["--epochs", 1] if run.tiny else [])])
        last = (done.stderr.splitlines() or [""])[-1][-120:]
        rows.append({"train": name, "status": done.status, "seconds": done.seconds, "last": last})
        table(rows[-1:])
    if target.exists() and not run.tiny:
        shutil.copy(target, run.keep / "CTCF_gpu.pt")


def train(run: Run, figures: dict[str, Any]) -> None:
    figures["rows"] = [training_rate(run, kind, batch) for kind in ("compact", "dnabert") for batch in (32, 256)]
    figures["rows"] += [training_rate(run, "compact", batch, compiled=True) for batch in (32, 256)]
    table(figures["rows"])
    figures["repeated_step"] = [repeated_step(run, precision) for precision in ("bf16", "fp32")]
    table(figures["repeated_step"])
    digests, figures["same_seed"] = [], []
    for _ in range(2):
        path = run.scratch / "MODEL.pt"
        start = time.perf_counter()
        cli("train", "--device", run.device, "--epochs", 3, "-o", path, "--name", "CTCF", SITES)
        weights = load_model(str(path)).state_dict().values()
        digests.append(hashlib.sha256(b"".join(value.numpy().tobytes() for value in weights)).hexdigest()[:12])
        figures["same_seed"].append({"weights": digests[-1], "seconds": time.perf_counter() - start})
    table(figures["same_seed"])


def training_rate(run: Run, kind: str, batch: int, compiled: bool = False) -> dict[str, Any]:
    """Windows a second of `Trainer.train_epoch`, after an epoch in which it compiles."""
    row: dict[str, Any] = {"model": kind, "batch": batch, "compiled": compiled}
    with reported(f"train, {kind}", row):
        model = (ctcf("cpu") if kind == "compact" or run.sizes.random < 10_000 else new_model(kind)).to(run.device)
        precision = "bf16" if run.cuda else "fp32"
        recipe = replace(Recipe(**PAPER if kind != "compact" else {}), epochs=1, batch_size=batch, precision=precision)
        count = batch * run.sizes.steps
        labels = np.zeros((count, WINDOW), dtype=np.uint8)
        labels[::2, 40:59] = 1
        windows = Windows([""] * count, random_codes(count), labels)
        trainer = Trainer(model, recipe, (), COMPILED_STEPS if compiled else 0)
        start = time.perf_counter()
        trainer.train_epoch(windows.take(np.arange(3 * batch) % count), 0)
        wait(run.device)
        row["seconds_before"] = time.perf_counter() - start
        start = time.perf_counter()
        trainer.train_epoch(windows, 0)
        wait(run.device)
        seconds = time.perf_counter() - start
        row |= {"windows_per_s": count / seconds, "ms_a_step": 1e3 * seconds / run.sizes.steps}
        row["of_matrix_rate"] = 3 * operations(model) * count / seconds / run.matrix_rate()
    return row


def repeated_step(run: Run, precision: str) -> dict[str, Any]:
    """The gradients of one step, six times: the parameters that do not have the same ones."""
    model = ctcf(run.device).train()
    ids = token_ids(random_codes(32), model.info.k).to(run.device)
    labels = torch.rand(32, ids.shape[1] - 2, device=run.device)

    def gradients() -> dict[str, torch.Tensor]:
        torch.manual_seed(1)
        model.zero_grad()
        with autocast(run.device, precision):
            logits = model(ids)
        two_task_loss(logits, (labels[:, 0], labels), 0.5).backward()
        named = {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}
        return named | {"logits": logits[1].detach().clone()}

    first = gradients()
    repeats = [gradients() for _ in range(5)]
    differ = [name for name in first if any(not torch.equal(repeat[name], first[name]) for repeat in repeats)]
    return {"precision": precision, "differ": len(differ), "of": len(first), "which": ", ".join(differ)[:300]}
