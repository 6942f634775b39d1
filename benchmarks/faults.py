#!/usr/bin/env python3
"""What is left when a command is killed, the disk is full, a file is truncated, or names and input are odd.

    python benchmarks/faults.py [--kills N] [--sizes N]

* Kills `windows`, `predict`, `motifs` and `train` with SIGKILL, N times each (default 50) at random moments, half of
  the times over an older target. Afterwards the target must be the old file, the complete new one, or, where there was
  none, absent. A killed training is continued with --resume until it ends; every model must equal, byte for byte, the
  model of an uninterrupted training. SIGHUP, SIGTERM and SIGINT must also leave no temporary file.
* Writes every output of `cases.py` to full disks of N sizes (default 50), half of the times over an old file: each file
  must be complete, old or absent, with a line for each failure at most, and status 1 when one is missing. Then only one
  output of each command is on a full disk: the others must be complete.
* Runs every command with file names that are not UTF-8, and with a byte order mark in each of its text inputs: the
  outputs must be the same. Without an input, it must end with one line.
* Gives two records, motifs, models, intervals or data sets of one name: results must be distinguishable, or an error.
* Other faults: each must end with the expected status and one-line message, and without a partial file.

Prints a table; exit status 1 when anything is wrong. Full and read-only file systems need the right to mount; without
it they are skipped.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import cases
import sweeps
from cases import fill, mounted, report

BIN = Path(sys.executable).parent
DATA = Path(__file__).parent.parent / "test_data"


def start(words: list[str], directory: Path, **options) -> subprocess.Popen:
    command, *rest = words
    settings = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "cwd": directory} | options
    return subprocess.Popen([BIN / f"bertsnr-{command}", *rest], **settings)  # type: ignore[call-overload]


def finish(words: list[str], directory: Path) -> tuple[int, str]:
    process = start(words, directory)
    _, err = process.communicate()
    return process.returncode, err.decode()


def kill_often(directory: Path, words: list[str], target: Path, kills: int) -> None:
    """Kill a run at random moments and check the target."""
    began = time.time()
    if finish(words, directory)[0]:
        raise SystemExit(f"{words}: does not run")
    length, whole, old = time.time() - began, target.read_bytes(), b"old\n"
    seen: Counter[str] = Counter()
    while sum(seen.values()) < kills:
        target.unlink(missing_ok=True)
        if before := random.random() < 0.5:
            target.write_bytes(old)
        process = start(words, directory)
        time.sleep(random.random() * length)
        process.kill()
        process.communicate()
        if process.returncode == 0:
            continue  # it was faster
        content = target.read_bytes() if target.exists() else None
        outcomes = {whole: "complete", old: "old"} if before else {whole: "complete", None: "absent"}
        seen[outcomes.get(content, "WRONG")] += 1
        for rest in directory.glob(f"{target.name}.*.tmp"):
            rest.unlink()
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(seen.items()))
    report(f"{words[0]}, killed {kills} times", counts, f"{time.time() - began:.0f} s", wrong=seen["WRONG"] > 0)


def kill_training(directory: Path, kills: int) -> None:
    """Kill and resume a training `kills` times; compare every model that results."""
    words = ["train", "-q", "-@", "1", "--encoder", "new", "--epochs", "6", "-o", "t.pt", "pos.fa"]
    began = time.time()
    finish(words, directory)
    length, whole = time.time() - began, (directory / "t.pt").read_bytes()
    (directory / "t.pt").unlink()
    killed = models = wrong = 0
    while killed < kills or not models:
        process = start([*words, "--resume"], directory)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(random.random() * length if killed < kills else None)
        process.kill()
        process.communicate()
        if process.returncode == 0:
            models += 1
            wrong += (directory / "t.pt").read_bytes() != whole
            (directory / "t.pt").unlink()
        else:
            killed += 1
            wrong += (directory / "t.pt").exists() and (directory / "t.pt").read_bytes() != whole
    report(
        f"train, killed {killed} times",
        f"{models} models from resumed runs, {wrong} unlike the uninterrupted one",
        f"{time.time() - began:.0f} s",
        wrong=wrong > 0,
    )


def expect(case: str, directory: Path, words: list[str], status: int, problem: str, target: str | None = None) -> None:
    """Expect one line with `problem`, this status, and no target."""
    found, err = finish(words, directory)
    lines = err.strip().splitlines()
    left = bool(target) and ((directory / target).exists() or list((directory / target).parent.glob("*.tmp")))
    report(
        case,
        lines[-1] if lines else "",
        f"status {found}",
        wrong=bool(found != status or len(lines) != 1 or problem not in err or left),
    )


def disks(directory: Path, cases: dict[str, list[str]]) -> None:
    for name, options, problem in (
        ("full disk", "size=4k", "No space left on device"),
        ("read-only disk", "size=4k,ro", "Read-only file system"),
    ):
        with mounted(directory, options) as mount:
            if mount is None:
                print(name, "no right to mount", "", "skipped", sep="\t")
                continue
            fill(mount)
            for command, words in cases.items():
                expect(f"{name}: {command}", directory, [*words, "-o", "mount/x"], 1, problem, "mount/x")


def cut_short(directory: Path) -> None:
    """Truncated inputs of random lengths."""
    subprocess.run(
        [BIN / "bertsnr-windows", "-f", "genome.fa", "-o", "w.fa.gz", "sites.bed"],
        cwd=directory,
        check=True,
        capture_output=True,
    )
    shutil.copy(Path(__file__).parent.parent / "bertsnr_tools" / "weights" / "CTCF.pt", directory / "m.pt")
    for source, words in (("w.fa.gz", ["shuffle", "cut"]), ("m.pt", ["models", "cut"])):
        content = (directory / source).read_bytes()
        bad = 0
        for _ in range(20):
            (directory / "cut").write_bytes(content[: random.randrange(1, len(content) - 30)])
            status, err = finish(words, directory)
            bad += status != 1 or len(err.strip().splitlines()) != 1 or "Traceback" in err
        report(f"{source} cut short, 20 times", f"{20 - bad} times one line and status 1", "", wrong=bad > 0)


def together(directory: Path) -> None:
    """Eight runs at once that build the same index."""
    bad = 0
    for _ in range(5):
        (directory / "genome.fa.fai").unlink(missing_ok=True)
        runs = [
            start(["windows", "-q", "-f", "genome.fa", "sites.bed"], directory, stdout=subprocess.PIPE)
            for _ in range(8)
        ]
        bad += len({run.communicate()[0] for run in runs}) != 1 or any(run.returncode for run in runs)
    report("index made by 8 runs at once, 5 times", f"{5 - bad} times the same output of all", "", wrong=bad > 0)


def replaced(directory: Path) -> None:
    """A genome that is replaced while it is read."""
    text = (directory / "genome.fa").read_bytes()
    (directory / "g.fa").write_bytes(text)
    reference = subprocess.run(
        [BIN / "bertsnr-windows", "-q", "-f", "g.fa", "sites.bed"], cwd=directory, capture_output=True, check=True
    ).stdout
    process = start(["windows", "-q", "-f", "g.fa", "-"], directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    lines = (directory / "sites.bed").read_bytes().splitlines(keepends=True)
    process.stdin.write(lines[0])
    process.stdin.flush()
    time.sleep(2)
    (directory / "other").write_bytes(b">chr1\n" + b"A" * 70 + b"\n")
    os.replace(directory / "other", directory / "g.fa")
    out, err = process.communicate(b"".join(lines[1:]))
    report(
        "genome replaced while it is read",
        "windows of the old genome" if out == reference else err.decode().strip(),
        f"status {process.returncode}",
        wrong=out != reference and process.returncode == 0,
    )
    words = ["windows", "-q", "-f", "g.fa", "sites.bed"]
    expect("genome with the index of another", directory, words, 1, "does not match its index")


def interrupted_twice(directory: Path) -> None:
    bad = 0
    for _ in range(10):
        process = start(
            ["shuffle", "-o", "interrupted.fa", "-"],
            directory,
            stdin=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        process.stdin.write(b">a\n" + b"ACGTAGCTAGCA\n" * 50_000)
        process.stdin.flush()
        time.sleep(0.5 + random.random())
        process.send_signal(signal.SIGINT)
        time.sleep(random.random() * 0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
        bad += process.returncode not in (130, -signal.SIGINT) or (directory / "interrupted.fa").exists()
    report("Ctrl-C twice, 10 times", f"{10 - bad} times status 130 and no file", "", wrong=bad > 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--sizes", type=int, default=50)
    parser.add_argument("-v", action="store_true", help="print runs that went wrong to stderr")
    arguments = parser.parse_args()
    kills = arguments.kills
    random.seed(1)
    with cases.inputs() as directory:
        sweeps.full_disks(directory, arguments.sizes)
        sweeps.one_full_disk(directory)
        sweeps.odd_names(directory)
        sweeps.byte_order_marks(directory)
        sweeps.same_names(directory)
        sweeps.signals(directory, kills)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for file in ("genome.fa", "sites.bed", "region.fa"):
            shutil.copy(DATA / file, directory)
        finish(["windows", "-f", "genome.fa", "-o", "pos.fa", "sites.bed"], directory)
        lines = {
            "windows": ["windows", "-q", "-f", "genome.fa", "sites.bed"],
            "shuffle": ["shuffle", "-q", "genome.fa"],
            "predict": ["predict", "-q", "-m", "CTCF", "-f", "genome.fa"],
            "motifs": ["motifs", "-q", "pos.fa", "--instances", "i.fa"],
        }
        for command in ("windows", "predict", "motifs"):
            kill_often(directory, [*lines[command], "-o", "x"], directory / "x", kills)
        kill_training(directory, kills)
        disks(directory, lines)
        cut_short(directory)
        together(directory)
        replaced(directory)
        interrupted_twice(directory)
    sys.exit(bool(cases.WRONG))


if __name__ == "__main__":
    main()
