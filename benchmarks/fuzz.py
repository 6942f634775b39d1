#!/usr/bin/env python3
"""Coverage-guided fuzzing of the readers: any input is accepted or refused with an error of the package.

    python benchmarks/fuzz.py [--scale X]

Needs atheris. Each reader runs in its own process, seeded with valid input; a traceback, 10 seconds for one
input, or more than 3 GiB of memory is a finding. So is text that reads differently with a byte order mark,
two motifs of one name, and a genome whose index gives other bases than the file. Files have names that are not
UTF-8. Prints a line per reader; exit status 1 when there is a finding, whose input is kept as fuzz-crash-*,
fuzz-timeout-* or fuzz-oom-* in the current directory. --scale 1 runs 1,160,000 executions.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent.parent / "test_data"
READERS = {
    "region": 200_000,
    "bed": 250_000,
    "fasta": 250_000,
    "windows": 100_000,
    "motifs": 200_000,
    "genome": 20_000,
    "index": 100_000,
    "model": 40_000,
}
GENOME = b">a b\nACGTN\nAC\n>c\r\nacg\r\ntry\r\nk\n\n"


def seeds(reader: str) -> list[bytes]:
    """Valid input."""
    if reader == "region":
        return [b"chr1", b"chr1:1,000-2,000", b"HLA:A*01:5-9", b"MYTF::chr1:10-110(-)"]
    if reader == "bed":
        return [(DATA / "sites.bed").read_bytes()[:600], b"track name=x\n#a\nchr1\t0\t10\nchr1 5 9 a 0 +\r\n"]
    if reader == "fasta":
        return [(DATA / "region.fa").read_bytes()[:300], b">a b\nACGTN\n\n>c\r\nacgtryk\r\n"]
    if reader == "genome":
        return [GENOME, (DATA / "region.fa").read_bytes()[:300], bgzip(GENOME)]
    if reader == "index":
        return [b"a\t7\t5\t5\t6\nc\t7\t18\t3\t5\n"]
    if reader == "windows":
        return [(DATA / "expected" / "windows.fa").read_bytes()[:400], b">a site=1-5,7-9\nACGTACGTAC\n"]
    if reader == "motifs":
        return [
            (DATA / "expected" / "motifs.meme").read_bytes()[:1500],
            b">M1 x\nA [ 1 2 ]\nC [ 3 4 ]\nG [ 0 1 ]\nT [ 9 9 ]\n",
        ]
    import torch

    from bertsnr_tools.models.bertsnr import BertSNR
    from bertsnr_tools.models.encoder import compact_config
    from bertsnr_tools.models.files import save_model
    from bertsnr_tools.models.interface import ModelInfo

    small = {
        **compact_config(3, 20),
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
    }
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "m.pt"
        save_model(str(path), BertSNR(ModelInfo("X", 3, 20, small, 5)))
        torch.save({"format": "bertsnr_tools model", "format_version": 1}, Path(directory) / "n.pt")
        return [path.read_bytes(), (Path(directory) / "n.pt").read_bytes()]


def bgzip(content: bytes) -> bytes:
    """Compressed with bgzip."""
    import pysam

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "x.gz"
        with pysam.BGZFile(str(path), "wb") as stream:  # type: ignore[call-arg]  # its stub asks for an index
            stream.write(content)
        return path.read_bytes()


@contextlib.contextmanager
def standard_input(data: bytes):
    """Replace standard input."""
    stdin = sys.stdin
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.BytesIO(data)))  # type: ignore[type-var]
    try:
        yield
    finally:
        sys.stdin = stdin


def reading(reader: str, directory: Path) -> Callable[[bytes], object]:
    """A function that reads input and gives what it found; the package must not have been imported before."""
    from bertsnr_tools.io.fasta import Genome, read_fasta_chunks, read_records
    from bertsnr_tools.io.intervals import parse_header, parse_region, read_bed
    from bertsnr_tools.io.motif_files import is_motif_file, read_motifs
    from bertsnr_tools.sequence.windows import read_windows

    if reader == "model":
        from bertsnr_tools.models.files import load_model
    path = directory / os.fsdecode(b"input\xff")
    index, compressed_index = (directory / os.fsdecode(b"input\xff" + ending) for ending in (b".fai", b".gzi"))

    def read(data: bytes) -> object:
        if reader == "region":
            text = data.decode("utf-8", "replace")
            parse_header(*text.partition(" ")[::2], 100)
            return parse_region(text, {"chr1": 100_000, "HLA:A*01": 9})
        if reader in ("bed", "fasta", "windows"):
            with standard_input(data):
                if reader == "windows":
                    found = read_windows("-", None, 3)
                    return found.names, found.codes.tobytes(), found.labels.tobytes()
                return list(read_bed("-") if reader == "bed" else read_fasta_chunks("-"))
        path.write_bytes(GENOME if reader == "index" else data)
        if reader == "model":
            return load_model(str(path))
        if reader == "motifs":
            found = read_motifs(str(path))
            for names in ([motif.id for motif in found], [motif.label for motif in found]):
                assert len(set(names)) == len(found), names
            return is_motif_file(str(path)), [(motif.id, motif.name, motif.counts.tobytes()) for motif in found]
        compressed_index.unlink(missing_ok=True)
        index.write_bytes(data) if reader == "index" else index.unlink(missing_ok=True)
        genome = Genome(path)
        sequences = [(name, genome.fetch(name, 0, length)) for name, length in genome.lengths.items()]
        assert reader == "index" or sequences == [(name, text) for name, _, text in read_records(str(path))]
        return sequences

    return read


def fuzz(reader: str, runs: int, corpus: str) -> None:
    """Run one reader in this process; does not return."""
    import atheris

    with atheris.instrument_imports(include=["bertsnr_tools"]):
        read = reading(reader, Path(corpus).parent)
        from bertsnr_tools.errors import BertsnrError

    mark = b"\xef\xbb\xbf"

    def outcome(data: bytes) -> object:
        try:
            return read(data)
        except BertsnrError as error:
            return str(error)

    def once(data: bytes) -> None:
        found = outcome(data)
        if reader not in ("region", "model") and not data.startswith((mark, b"\x1f\x8b")):
            assert outcome(mark + data) == found, "a byte order mark changes what is read"

    settings = [
        f"-runs={runs}",
        "-max_len=4096" if reader != "model" else "-max_len=65536",
        "-timeout=10",
        "-rss_limit_mb=3072",
        "-artifact_prefix=fuzz-",
        "-print_final_stats=1",
        "-seed=1",
    ]
    atheris.Setup([sys.argv[0], *settings, corpus], once)
    atheris.Fuzz()


def run(reader: str, runs: int) -> bool:
    """Fuzz one reader in a new process and print its line; whether there was a finding."""
    with tempfile.TemporaryDirectory() as directory:
        corpus = Path(directory) / "corpus"
        corpus.mkdir()
        for number, seed in enumerate(seeds(reader)):
            (corpus / str(number)).write_bytes(seed)
        start = time.time()
        done = subprocess.run(
            [sys.executable, __file__, "--reader", reader, "--runs", str(runs), "--corpus", str(corpus)],
            capture_output=True,
            text=True,
            errors="replace",
        )
        executed: Any = re.search(r"number_of_executed_units: (\d+)", done.stderr)
        covered = re.findall(r"cov: (\d+)", done.stderr)
        found = done.returncode != 0
        columns = [
            reader,
            executed[1] if executed else "?",
            covered[-1] if covered else "?",
            f"{time.time() - start:.0f}",
            "FINDING" if found else "none",
        ]
        print("\t".join(columns), flush=True)
        if found:
            print((done.stdout + done.stderr)[-3000:], file=sys.stderr)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--reader", choices=list(READERS))
    parser.add_argument("--runs", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--corpus", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.corpus:
        fuzz(arguments.reader, arguments.runs, arguments.corpus)
        return
    print("reader", "executions", "coverage", "seconds", "findings", sep="\t")
    chosen = [arguments.reader] if arguments.reader else list(READERS)
    findings = [run(reader, int(READERS[reader] * arguments.scale)) for reader in chosen]
    sys.exit(any(findings))


if __name__ == "__main__":
    main()
