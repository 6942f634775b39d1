"""For `faults.py`: every command on full disks, with odd names and input, and with signals; see there."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

from cases import CASES, OLD, PAGE, Done, command, faults_of, files_below, fill, mounted, names, report, run

DUPLICATES = {  # command line -> the line on stderr, or the names in the output
    "predict -m CTCF.pt twice.fa": "occurs more than once",
    "predict -m CTCF.pt -f twice.fa": "occurs more than once",
    "attn -m CTCF.pt twice.fa": "occurs more than once",
    "windows -f twice.fa few.bed": "occurs more than once",
    "predict -m twice.meme -t p=0.01 few.fa": "TF0_N0 TF0_N0-2",
    "predict -m one.meme -m one.meme -t p=0.01 few.fa": "TF0_N0 TF0_N0-2",
    "predict -m CTCF.pt -m CTCF few.fa": "CTCF CTCF-2",
    "motifs -m CTCF.pt -m CTCF few.fa": "CTCF CTCF-2",
    "motifs -t p=0.01 -m twice.meme few.fa": "TF0_N0 TF0_N0-2",
    "evaluate -m CTCF.pt -m CTCF both.fa": "CTCF both CTCF-2",
    "evaluate -m CTCF both.fa copy/both.fa": "both.fa copy/both.fa",
    "windows -f genome.fa twice.bed": "CTCF",
}
CHECKPOINTS = {"model": 16, "encoder": 7}  # most bytes on a disk, compared with the finished files


def outputs_of(case: str, directory: Path) -> dict[str, bytes]:
    """The outputs of an undisturbed run."""
    target = directory / "whole"
    target.mkdir()
    done = run(command(case, "", "whole/"), directory)
    found = files_below(target)
    shutil.rmtree(target)
    if done != (0, []):
        raise SystemExit(f"{case}: does not run: {done}")
    return found


def report_counts(case: str, seen: Counter[str], began: float) -> None:
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(seen.items()))
    report(case, counts, f"{time.time() - began:.0f} s", wrong=bool(seen.keys() - {"failed", "done"}))


def full_disks(directory: Path, sizes: int) -> None:
    """Every output on disks of many sizes."""
    for case in CASES:
        began, seen, expected = time.time(), Counter[str](), outputs_of(case, directory)
        factor = CHECKPOINTS.get(case.split()[0], 1.8)
        most = 3 + round(sum(factor * len(content) / PAGE + 1 for content in expected.values()))
        for number in range(sizes):
            pages = 1 + (number if most <= sizes else (most - 1) * number // (sizes - 1))
            with mounted(directory, f"size={pages * PAGE}") as mount:
                if mount is None:
                    print("full disks", "no right to mount", "", "skipped", sep="\t")
                    return
                if number % 2 and not {"encoder", "hub"} & set(case.split()) and pages > len(expected):
                    for name in names(case, ">"):
                        (mount / name).write_bytes(OLD)
                done = run(command(case, "", "mount/"), directory)
                wrong = faults_of(files_below(mount), expected, done)
                seen.update(wrong or ["failed" if done.status else "done"])
        report_counts(f"{case}, {sizes} full disks", seen, began)


def one_full_disk(directory: Path) -> None:
    """One output of each command on a full disk, the others elsewhere."""
    began, seen, target = time.time(), Counter[str](), directory / "others"
    for case in CASES:
        targets, expected = names(case, ">"), outputs_of(case, directory)
        for failing in targets if len(targets) > 1 else []:
            if failing in ("x", "x.pt"):
                continue  # their checkpoints, which are beside them, end the training before
            others = {name: content for name, content in expected.items() if not name.startswith(failing)}
            with mounted(directory, f"size={PAGE}") as mount:
                if mount is None:
                    return
                fill(mount)
                target.mkdir()
                prefixes = {name: "mount/" if name == failing else "others/" for name in targets}
                done = run(command(case, "", prefixes), directory)
                wrong = faults_of(files_below(target), others, done, fails=True)
                wrong += [] if any(f"mount/{failing}" in line for line in done.lines) else ["does not name the file"]
                seen.update(wrong or ["failed"])
                shutil.rmtree(target)
    report_counts("one output on a full disk", seen, began)


def odd_names(directory: Path) -> None:
    """Names that are not UTF-8, of inputs and outputs, and of inputs that do not exist."""
    began, seen = time.time(), Counter[str]()
    source, target = (directory / os.fsdecode(name) for name in (b"in\xff", b"out\xff"))
    for case in CASES:
        expected = outputs_of(case, directory)
        for absent in ["", *names(case, "<"), *names(case, "=")]:
            shutil.copytree(directory, source, ignore=shutil.ignore_patterns(source.name, "*.fai"))
            target.mkdir()
            if absent:
                (source / absent).unlink()
            line = command(case, f"{source.name}/", os.fsdecode(b"out\xff/\xfe"))
            done = run(line, directory)
            found = {name[1:]: content for name, content in files_below(target).items()}
            wrong = faults_of(found, {} if absent else expected, done, fails=bool(absent))
            seen.update(wrong or ["failed" if absent else "done"])
            shutil.rmtree(source)
            shutil.rmtree(target)
    report_counts("names that are not UTF-8", seen, began)


def byte_order_marks(directory: Path) -> None:
    """A byte order mark in one text input after another."""
    began, seen, target = time.time(), Counter[str](), directory / "marked"
    for case in CASES:
        expected, texts = outputs_of(case, directory), names(case, "<")
        if "encoder/" in CASES[case]:
            texts += ["encoder/vocab.txt", "encoder/config.json"]
        if "genome.fa" in texts:
            texts += ["genome.fa.fai"]
        for name in filter(lambda name: (directory / name).exists(), texts):
            before = (directory / name).read_bytes()
            (directory / name).write_bytes(b"\xef\xbb\xbf" + before)
            if name == "genome.fa":
                (directory / "genome.fa.fai").unlink(missing_ok=True)
            target.mkdir()
            done = run(command(case, "", "marked/"), directory)
            seen.update(faults_of(files_below(target), expected, done, fails=False) or ["done"])
            shutil.rmtree(target)
            (directory / name).write_bytes(before)
            if name == "genome.fa":
                (directory / "genome.fa.fai").unlink(missing_ok=True)
    report_counts("byte order marks", seen, began)


def same_names(directory: Path) -> None:
    """Records, motifs, models, intervals and data sets of one name."""
    began, seen, target = time.time(), Counter[str](), directory / "named"
    motif, bed = (directory / "one.meme").read_text(), (directory / "few.bed").read_text()
    (directory / "twice.meme").write_text(motif + motif[motif.index("MOTIF") :])
    (directory / "twice.fa").write_bytes((directory / "single.fa").read_bytes() * 2)
    (directory / "twice.bed").write_text(bed.splitlines(keepends=True)[0] * 2)
    (directory / "copy").mkdir()
    shutil.copy(directory / "both.fa", directory / "copy")
    for line, expected in DUPLICATES.items():
        done = run([*line.split(), "-q", "-o", target.name], directory)
        text = target.read_text() if target.exists() else ""
        words = re.findall(r"(?<![\w/.-])(?:TF0_N0|CTCF|copy/both|both)(?:-2|\.fa)?(?![\w/.-])", text)
        found = done.lines[0] if done.lines else " ".join(dict.fromkeys(words))
        seen["done" if expected in found else f"{line}: {found}"] += 1
        target.unlink(missing_ok=True)
    report_counts("duplicate names", seen, began)


def signals(directory: Path, number: int) -> None:
    """SIGHUP, SIGTERM and SIGINT at random moments."""
    target = directory / "signalled"
    for case in ("FASTA, bgzip", "BED, bedGraph, bigWig", "logos", "model"):
        began, seen = time.time(), Counter[str]()
        expected = outputs_of(case, directory)
        length = time.time() - began
        while sum(seen.values()) < number:
            target.mkdir()
            sent = random.choice((signal.SIGHUP, signal.SIGTERM, signal.SIGINT))
            done = run(command(case, "", f"{target.name}/"), directory, (sent, random.random() * length))
            found = files_below(target)
            shutil.rmtree(target)
            if not done.status:
                continue  # it was faster
            present = {name: whole for name, whole in expected.items() if name in found}
            if done.status in (128 + sent, -sent) and "Traceback" not in " ".join(done.lines):
                done = Done(1, ["as expected"])
            seen.update(faults_of(found, present, done, fails=True) or ["failed"])
        report_counts(f"{case}, {number} signals", seen, began)
