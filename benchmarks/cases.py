"""For `faults.py`: commands with all their inputs and outputs, a quick way to run them, and a report.

In a command line, `<name` is a text input, `=name` another input and `>name` an output.
"""

from __future__ import annotations

import importlib
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

DATA = Path(__file__).parent.parent / "test_data"
WEIGHTS = Path(__file__).parent.parent / "bertsnr_tools" / "weights"
TRAIN = "train -@ 1 --name X --arch d-aednet --epochs 1 --batch-size 256 -o >x.pt"
CASES = {
    "FASTA": "windows -w 1000 -f <genome.fa -o >x.fa <sites.bed",
    "FASTA, bgzip": "windows -w 1000 -f <genome.fa -o >x.fa.gz <sites.bed",
    "FASTA, background": "windows --background -c 5 -f <genome.fa -b <regions.bed --exclude <few.bed -o >x.fa <few.bed",
    "FASTA, shuffled": "shuffle -c 20 -o >x.fa <few.fa",
    "BED": "predict -t p=0.05 -m <one.meme -f <genome.fa -b <regions.bed -o >x.bed",
    "BED, bgzip": "predict -t p=0.05 -m <one.meme <genome.fa -o >x.bed.gz",
    "BED9": "predict -t p=0.05 -m <one.meme --track hg38 --format bed9 <genome.fa -o >x.bed",
    "narrowPeak": "predict -t p=0.05 -m <one.meme -f <genome.fa -o >x.narrowPeak",
    "bigBed, JSON": "predict -t p=0.05 -m <one.meme -f <genome.fa -o >x.bb --json >y.json",
    "Parquet": "predict -t p=0.05 -m <one.meme -f <genome.fa -o >x.parquet",
    "hub": "hub --assembly hg38 -f <genome.fa -o >x <few.bed",
    "bedGraph": "predict -m <one.meme -f <genome.fa -o >x.bed --bedgraph >x.bg",
    "bigWig": "predict -m <one.meme -f <genome.fa -o >x.bed --bigwig >x.bw",
    "BED, bedGraph, bigWig": "predict -t p=0.05 -m <one.meme -f <genome.fa -o >x.bed.gz --bedgraph >x.bg --bigwig >x.bw"
    " --bigwig-plus >p.bw --bigwig-minus >m.bw",
    "model": f"{TRAIN} --json >x.json --plot >x.svg <few.fa -n <negative.fa",
    "model with background": f"{TRAIN} --background <negative.fa <few.fa",
    "encoder to model": "train -@ 1 --name X --epochs 1 --encoder encoder/ -o >x.pt -f <genome.fa --exclude <few.bed"
    " <few.fa",
    "MEME": "motifs -f <genome.fa <many.bed -o >x.meme",
    "JASPAR": "motifs -f <genome.fa <many.bed --format jaspar -o >x.jaspar",
    "instances, BED": "motifs -f <genome.fa <many.bed -o >x.meme --instances >x.bed",
    "instances, FASTA": "motifs -t p=0.05 --every -m <many.meme <few.fa -o >x.meme --instances >x.fa.gz",
    "logos": "motifs <few.fa --compare <many.meme -o >x.meme --logo >x.png",
    "metrics": "evaluate -m <many.meme --bootstrap 5 <both.fa -o >x.tsv --json >x.json",
    "curves": "evaluate -m =CTCF.pt -m <one.meme <both.fa -o >x.tsv --plot >x.svg --heatmap >x.pdf",
    "attention, bedGraph": "attn -m =CTCF.pt <few.fa -o >x.bg --bigwig >x.bw --plot >x.png",
    "attention, table": "attn -m =CTCF.pt --format tsv <few.fa -o >x.tsv",
    "attention, figures": "attn -m =CTCF.pt <single.fa -o >x.bg --motif <one.meme --plot >x.svg --plot-layers >y.png"
    " --html >x.html",
    "models": "models -o >x.tsv =CTCF.pt",
    "encoder": "pretrain -@ 1 --steps 1 --batch-size 4 -o >x --json >y.json <genome.fa",
    "many-factor model": "train -@ 1 --epochs 1 -o >x.pt --json >y.json <few.fa <few2.fa",
}
OLD = b"old\n"
BYTES_DIFFER = (".svg", ".pdf", ".json", ".tsv", ".html")  # dates, random identifiers, or names of files


WRONG = []  # lines of the report with a fault
PAGE = 4096  # bytes; the sizes of disks and files in memory are multiples of it


class Done(NamedTuple):
    """Exit status and lines on stderr."""

    status: int
    lines: list[str]


def preload() -> None:
    """Import what the commands import, so that `run` is quick."""
    for name in ("windows", "shuffle", "pretrain", "train", "predict", "evaluate", "motifs", "attn", "hub", "models"):
        importlib.import_module(f"bertsnr_tools.cli.{name}")
    modules = "api hub.build training.run training.pretrain training.distillation predict.scan_report"
    modules += " predict.site_files motifs.model_source attention plots.attention_page plots.curves plots.heatmaps"
    modules += " plots.logos plots.profiles models.huggingface"
    for name in modules.split():
        importlib.import_module(f"bertsnr_tools.{name}")
    for name in (
        "pysam",
        "pyBigWig",
        "pyarrow.parquet",
        "logomaker",
        "matplotlib.backends.backend_svg",
        "transformers.utils",
    ):
        importlib.import_module(name)


def run(words: list[str], directory: Path, send: tuple[int, float] | None = None) -> Done:
    """Run a command in a fork of this process.

    Parameters
    ----------
    send : a signal, and the seconds after which it is sent
    """
    from bertsnr_tools.cli import main

    with tempfile.TemporaryFile() as err:
        child = os.fork()
        if not child:
            try:
                null = os.open(os.devnull, os.O_RDWR)
                for number, stream in enumerate((null, null, err.fileno())):
                    os.dup2(stream, number)
                os.chdir(directory)
                signal.signal(signal.SIGINT, signal.default_int_handler)
                sys.argv = [f"bertsnr-{words[0]}", *words[1:]]
                main(words[0])
            except SystemExit as error:
                sys.stderr.flush()
                os._exit(error.code if isinstance(error.code, int) else 99)
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
            os._exit(99)
        if send:
            time.sleep(send[1])
            os.kill(child, send[0])
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        err.seek(0)
        return Done(status, err.read().decode().splitlines())


def command(case: str, inputs: str, outputs: dict[str, str] | str) -> list[str]:
    """The words of a case.

    Parameters
    ----------
    inputs : prefix of the names of inputs
    outputs : the same of outputs, or one for each
    """
    words, *rest = CASES[case].split()
    line = [words, "-q"]
    for word in rest:
        kind, name = word[0], word[1:]
        if kind == ">":
            line.append((outputs if isinstance(outputs, str) else outputs[name]) + name)
        else:
            line.append(inputs + name if kind in "<=" else inputs + word if word.endswith("/") else word)
    return line


def names(case: str, kind: str) -> list[str]:
    """Inputs or outputs of a case."""
    return [word[1:] for word in CASES[case].split() if word[0] == kind]


def files_below(directory: Path) -> dict[str, bytes]:
    """All files, by their path in the directory."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def is_complete(name: str, content: bytes, whole: bytes) -> bool:
    """Whether a file is as expected."""
    if content == whole:
        return True
    if not name.endswith((*BYTES_DIFFER, ".pt")):
        return False
    if name.endswith(".pt"):  # contains the names of its input
        return zipfile.is_zipfile(io.BytesIO(content)) and not zipfile.ZipFile(io.BytesIO(content)).testzip()
    return content[-8:] == whole[-8:] and 0.9 < len(content) / len(whole) < 1.1


def faults_of(found: dict[str, bytes], expected: dict[str, bytes], done: Done, fails: bool | None = None) -> list[str]:
    """What is wrong with the outputs of a run, with its status and with its lines; old files contain `OLD`.

    Parameters
    ----------
    found, expected : contents by name
    fails : the run must fail for another reason than one of these files (True), or must not (False)
    """
    missing = [name for name, whole in expected.items() if not is_complete(name, found.get(name, b""), whole)]
    wrong = ["half or other file" for name in missing if found.get(name, OLD) != OLD]
    wrong += ["missing file" for name in missing if name not in found and fails is not None]
    wrong += ["leftover" for name in found if name not in expected and not name.endswith(".ckpt")]
    if done.status not in (0, 1, 2) or any("Traceback" in line for line in done.lines):
        wrong.append("traceback")
    elif (done.status > 0) != (fails or bool(missing)) or not bool(fails or missing) <= len(done.lines) <= len(
        missing or [0]
    ):
        wrong.append("wrong report")
    if wrong and "-v" in sys.argv:
        print(wrong, missing, done, file=sys.stderr)
    return wrong


def report(*columns: object, wrong: bool) -> None:
    print(*columns, "WRONG" if wrong else "ok", sep="\t", flush=True)
    if wrong:
        WRONG.append(columns)


@contextmanager
def mounted(directory: Path, options: str) -> Iterator[Path | None]:
    """A small file system in memory; None where that is not allowed."""
    mount = directory / "mount"
    mount.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", mount], capture_output=True)
    try:
        yield mount if done.returncode == 0 else None
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", mount], check=True)
        mount.rmdir()


def fill(mount: Path) -> None:
    with suppress(OSError), open(mount / "filler", "wb") as filler:
        filler.write(b"x" * 100_000)


def write_inputs(directory: Path) -> None:
    """Inputs of all cases, and the files that `bertsnr` makes of them."""
    for name in ("genome.fa", "sites.bed"):
        shutil.copy(DATA / name, directory)
    shutil.copy(WEIGHTS / "CTCF.pt", directory)
    chance = random.Random(1)
    genome = (DATA / "genome.fa").read_text().split(">")[1:]
    lengths = {chrom.split()[0]: sum(map(len, chrom.split()[1:])) for chrom in genome}
    few: list[str] = []  # far from each other, as bigWig requires
    for line in sorted(
        (DATA / "sites.bed").read_text().splitlines(), key=lambda line: (line.split()[0], int(line.split()[1]))
    ):
        chrom, start = line.split()[:2]
        if not few or few[-1].split()[0] != chrom or int(start) - int(few[-1].split()[1]) > 200:
            few.append(line)
    (directory / "few.bed").write_text("\n".join(few[:60]) + "\n")
    (directory / "regions.bed").write_text("".join(f"{name}\t0\t{length}\n" for name, length in lengths.items()))
    many = [("chr1", start, f"M{chance.randrange(400)}") for start in range(100, 30_000, 15)]
    (directory / "many.bed").write_text("".join(f"{c}\t{s}\t{s + 12}\t{name}\t0\t+\n" for c, s, name in many))
    matrices = []
    for number in range(40):
        matrix = "letter-probability matrix: alength= 4 w= 8 nsites= 20\n"
        for _ in range(8):
            strong = chance.randrange(4)
            matrix += " ".join("0.7" if base == strong else "0.1" for base in range(4)) + "\n"
        matrices.append(f"MOTIF N{number} TF{number}\n{matrix}\n")
    for name, count in (("many.meme", 40), ("one.meme", 1)):
        (directory / name).write_text("MEME version 4\n\nALPHABET= ACGT\n\n" + "".join(matrices[:count]))
    for words in (
        "windows -w 100 -f genome.fa -o few.fa few.bed",
        "shuffle -o negative.fa few.fa",
        "pretrain -q --steps 1 --batch-size 4 -o encoder genome.fa",
    ):
        assert not run(words.split(), directory).status
    windows = (directory / "few.fa").read_bytes()
    (directory / "few2.fa").write_bytes(windows)
    (directory / "both.fa").write_bytes(windows + (directory / "negative.fa").read_bytes())
    (directory / "single.fa").write_bytes(b"".join(windows.splitlines(keepends=True)[:2]))
    (directory / "genome.fa.fai").unlink()


@contextmanager
def inputs() -> Iterator[Path]:
    """A temporary directory with inputs."""
    preload()
    with tempfile.TemporaryDirectory() as name:
        write_inputs(Path(name))
        yield Path(name)
