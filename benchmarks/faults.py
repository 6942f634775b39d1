#!/usr/bin/env python3
"""What is left when a command is killed, the disk is full, a file is cut short, or two run at once.

    python benchmarks/faults.py [--kills N]

Kills `windows`, `predict`, `motifs` and `train` with -9, N times each (default 50) and at random moments of their run, half of the times over
an older target, which must then be the old one, the whole new one, or, where there was none, absent. The killed training is continued with
--resume until it is done, again and again; every model must be, byte for byte, that of a training without a break. Then the other faults:
each must end with the status and the one line that are expected, and with no half file. Prints a table and ends with status 1 when anything
was wrong. Full and read-only file systems need the right to mount; without it they are left out, and the table says so.
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
from collections.abc import Iterator
from pathlib import Path

BIN = Path(sys.executable).parent
DATA = Path(__file__).parent.parent / "test_data"
WRONG = []


def start(words: list[str], place: Path, **options) -> subprocess.Popen:
    command, *rest = words
    settings = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "cwd": place} | options
    return subprocess.Popen([BIN / f"bertsnr-{command}", *rest], **settings)  # type: ignore[call-overload]


def finish(words: list[str], place: Path) -> tuple[int, str]:
    process = start(words, place)
    _, err = process.communicate()
    return process.returncode, err.decode()


def report(*columns: object, wrong: bool) -> None:
    print(*columns, "WRONG" if wrong else "as it should be", sep="\t", flush=True)
    if wrong:
        WRONG.append(columns)


def kill_often(place: Path, words: list[str], target: Path, kills: int) -> None:
    """Kill a run at moments up to its length; see how the target is left."""
    began = time.time()
    if finish(words, place)[0]:
        raise SystemExit(f"{words}: does not run")
    length, whole, old = time.time() - began, target.read_bytes(), b"old\n"
    seen: Counter[str] = Counter()
    while sum(seen.values()) < kills:
        target.unlink(missing_ok=True)
        if before := random.random() < 0.5:
            target.write_bytes(old)
        process = start(words, place)
        time.sleep(random.random() * length)
        process.kill()
        process.communicate()
        if process.returncode == 0:
            continue  # it was faster
        content = target.read_bytes() if target.exists() else None
        seen[
            "whole"
            if content == whole
            else "old"
            if before and content == old
            else "absent"
            if not before and content is None
            else "WRONG"
        ] += 1
        for rest in place.glob(f"{target.name}.*.tmp"):
            rest.unlink()
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(seen.items()))
    report(f"{words[0]}, killed {kills} times", counts, f"{time.time() - began:.0f} s", wrong=seen["WRONG"] > 0)


def kill_training(place: Path, kills: int) -> None:
    """Kill and resume until so many kills are done; compare every model that comes out."""
    words = ["train", "-q", "-@", "1", "--encoder", "new", "--epochs", "6", "-o", "t.pt", "pos.fa"]
    began = time.time()
    finish(words, place)
    length, whole = time.time() - began, (place / "t.pt").read_bytes()
    (place / "t.pt").unlink()
    killed = models = wrong = 0
    while killed < kills or not models:
        process = start([*words, "--resume"], place)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(random.random() * length if killed < kills else None)
        process.kill()
        process.communicate()
        if process.returncode == 0:
            models += 1
            wrong += (place / "t.pt").read_bytes() != whole
            (place / "t.pt").unlink()
        else:
            killed += 1
            wrong += (place / "t.pt").exists() and (place / "t.pt").read_bytes() != whole
    report(
        f"train, killed {killed} times",
        f"{models} models from resumed runs, {wrong} unlike the unbroken one",
        f"{time.time() - began:.0f} s",
        wrong=wrong > 0,
    )


def expect(case: str, place: Path, words: list[str], status: int, problem: str, target: str | None = None) -> None:
    """One line that holds `problem`, this status, and no target."""
    found, err = finish(words, place)
    lines = err.strip().splitlines()
    left = bool(target) and ((place / target).exists() or list((place / target).parent.glob("*.tmp")))
    report(
        case,
        lines[-1] if lines else "",
        f"status {found}",
        wrong=bool(found != status or len(lines) != 1 or problem not in err or left),
    )


@contextlib.contextmanager
def mounted(place: Path, options: str) -> Iterator[Path | None]:
    """A small file system in memory; None where that is not allowed."""
    folder = place / "mount"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True)
    try:
        yield folder if done.returncode == 0 else None
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", folder], check=True)
        folder.rmdir()


def disks(place: Path, cases: dict[str, list[str]]) -> None:
    for name, options, problem in (
        ("full disk", "size=4k", "No space left on device"),
        ("read-only disk", "size=4k,ro", "Read-only file system"),
    ):
        with mounted(place, options) as folder:
            if folder is None:
                print(name, "may not mount here", "", "left out", sep="\t")
                continue
            with contextlib.suppress(OSError), open(folder / "filler", "wb") as filler:
                filler.write(b"x" * 100_000)
            for command, words in cases.items():
                expect(f"{name}: {command}", place, [*words, "-o", "mount/x"], 1, problem, "mount/x")


def cut_short(place: Path) -> None:
    """Inputs of every length that is not the whole."""
    subprocess.run(
        [BIN / "bertsnr-windows", "-f", "genome.fa", "-o", "w.fa.gz", "sites.bed"],
        cwd=place,
        check=True,
        capture_output=True,
    )
    shutil.copy(Path(__file__).parent.parent / "bertsnr_tools" / "models" / "CTCF.pt", place / "m.pt")
    for source, words in (("w.fa.gz", ["shuffle", "cut"]), ("m.pt", ["models", "cut"])):
        content = (place / source).read_bytes()
        bad = 0
        for _ in range(20):
            (place / "cut").write_bytes(content[: random.randrange(1, len(content) - 30)])
            status, err = finish(words, place)
            bad += status != 1 or len(err.strip().splitlines()) != 1 or "Traceback" in err
        report(f"{source} cut short, 20 times", f"{20 - bad} times one line and status 1", "", wrong=bad > 0)


def together(place: Path) -> None:
    """Eight runs that find no index."""
    bad = 0
    for _ in range(5):
        (place / "genome.fa.fai").unlink(missing_ok=True)
        runs = [
            start(["windows", "-q", "-f", "genome.fa", "sites.bed"], place, stdout=subprocess.PIPE) for _ in range(8)
        ]
        bad += len({run.communicate()[0] for run in runs}) != 1 or any(run.returncode for run in runs)
    report("index made by 8 runs at once, 5 times", f"{5 - bad} times the same output of all", "", wrong=bad > 0)


def replaced(place: Path) -> None:
    """A genome that another takes the place of while it is read from a pipe's pace."""
    text = (place / "genome.fa").read_bytes()
    (place / "g.fa").write_bytes(text)
    reference = subprocess.run(
        [BIN / "bertsnr-windows", "-q", "-f", "g.fa", "sites.bed"], cwd=place, capture_output=True, check=True
    ).stdout
    process = start(["windows", "-q", "-f", "g.fa", "-"], place, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    lines = (place / "sites.bed").read_bytes().splitlines(keepends=True)
    process.stdin.write(lines[0])
    process.stdin.flush()
    time.sleep(2)
    (place / "other").write_bytes(b">chr1\n" + b"A" * 70 + b"\n")
    os.replace(place / "other", place / "g.fa")
    out, err = process.communicate(b"".join(lines[1:]))
    report(
        "genome replaced while it is read",
        "the windows of the old one" if out == reference else err.decode().strip(),
        f"status {process.returncode}",
        wrong=out != reference and process.returncode == 0,
    )
    expect("genome newer than its index", place, ["windows", "-f", "g.fa", "sites.bed"], 1, "is older than g.fa")


def interrupted_twice(place: Path) -> None:
    bad = 0
    for _ in range(10):
        process = start(
            ["shuffle", "-o", "interrupted.fa", "-"],
            place,
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
        bad += process.returncode not in (130, -signal.SIGINT) or (place / "interrupted.fa").exists()
    report("Ctrl-C twice, 10 times", f"{10 - bad} times status 130 and no file", "", wrong=bad > 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    kills = parser.parse_args().kills
    random.seed(1)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for name in ("genome.fa", "sites.bed", "region.fa"):
            shutil.copy(DATA / name, place)
        finish(["windows", "-f", "genome.fa", "-o", "pos.fa", "sites.bed"], place)
        cases = {
            "windows": ["windows", "-q", "-f", "genome.fa", "sites.bed"],
            "shuffle": ["shuffle", "-q", "genome.fa"],
            "predict": ["predict", "-q", "-m", "CTCF", "-f", "genome.fa"],
            "motifs": ["motifs", "-q", "pos.fa", "--instances", "i.fa"],
        }
        for command in ("windows", "predict", "motifs"):
            kill_often(place, [*cases[command], "-o", "x"], place / "x", kills)
        kill_training(place, kills)
        disks(place, cases)
        cut_short(place)
        together(place)
        replaced(place)
        interrupted_twice(place)
    sys.exit(bool(WRONG))


if __name__ == "__main__":
    main()
