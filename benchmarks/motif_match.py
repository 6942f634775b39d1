#!/usr/bin/env python3
"""Do the motifs that models find match the motif of their own transcription factor? Motif discovery and TOMTOM.

    python benchmarks/motif_match.py DATA OUT [TF ...]

For each data set, `bertsnr train` gets the published training windows, `bertsnr motifs -m` the published test
windows (shuffles included), and `--compare` names the most similar JASPAR motif of vertebrates. A match is
right when it belongs to the factor itself or to a factor of the same JASPAR family. CTCF has no published
windows: the shipped model gets windows around motif matches in peaks, like its training windows, on the
held-out chromosomes. The other shipped factors are retrained, because the shipped models were trained on most
of the test windows. Existing files in OUT are reused.
"""

from __future__ import annotations

import argparse
import gzip
from collections import Counter
from pathlib import Path

import numpy as np

from bertsnr_tools.io.fasta import fasta_text
from bertsnr_tools.io.intervals import read_bed
from commands import bertsnr
from published import fasta, published_split

SHIPPED = ("CTCF", "CDX2", "GATA3", "SRF", "YY1")
TEN = ("AR", "EHF", "HIF1A", "IRF1", "KLF4", "MEF2A", "RUNX2", "SIX1", "TP53", "ZBTB33")
HELD = ("chr6", "chr17", "chr20", "chr22")  # held out of the shipped models


def prepare(data: Path, out: Path, tf: str) -> tuple[str, Path]:
    """Model and test windows of a factor."""
    model, test = out / f"{tf}.pt", out / f"{tf}.test.fa"
    if tf == "CTCF":
        sites = out / "CTCF.bed"
        peaks = [read_bed(str(path)) for path in sorted((data / "peaks").glob("encode_awg.*.ctcf.hg19.bed.gz"))]
        within = Counter(
            (peak.chrom, base)
            for file in peaks
            for peak in file
            if peak.chrom in HELD
            for base in range(peak.start, peak.end)
        )
        with gzip.open(data / "peaks" / "jaspar2018_MA0139.1_scan.hg19.bed.gz", "rt") as stream:
            rows = [line.split("\t") for line in stream]
        sites.write_text(
            "".join(
                "\t".join(row)
                for row in rows
                if all((row[0], base) in within for base in (int(row[1]), int(row[2]) - 1))
            )
        )
        bertsnr("windows", "-q", "-f", data / "genome" / "hg19.sparse.fa.gz", "-o", test, sites)
        return "CTCF", test
    train, windows = published_split(data, tf)
    test.write_bytes(b"".join(fasta_text(record.name, "", record.sequence) for record in windows.records()))
    if not model.exists():
        (out / f"{tf}.fa").write_bytes(b"".join(fasta(train.take(np.arange(0, len(train), 2)))))
        bertsnr("train", "--encoder", "new", "--swap", 0, "--resume", "-o", model, out / f"{tf}.fa")
    return str(model), test


def families(release: str) -> dict[str, tuple[str, set[str]]]:
    """Upper-case name and families of each motif of a JASPAR release, by its id."""
    from pyjaspar import jaspardb

    return {
        record.matrix_id: (record.name.upper(), set(record.tf_family or []))
        for record in jaspardb(release=release.upper()).fetch_motifs(collection="CORE", tax_group=["vertebrates"])
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("tf", nargs="*", default=[*SHIPPED, *TEN])
    parser.add_argument("--release", default="jaspar2026")
    arguments = parser.parse_args()
    arguments.out.mkdir(exist_ok=True)
    known = families(arguments.release)
    print("factor", "instances", "width", "best match", "its factor", "p", "verdict", sep="\t")
    right = 0
    for tf in arguments.tf:
        model, test = prepare(arguments.data, arguments.out, tf)
        meme = arguments.out / f"{tf}.meme"
        table = bertsnr(
            "motifs",
            "-m",
            model,
            "--forward",
            "-o",
            meme,
            "--compare",
            arguments.release,
            "--logo",
            arguments.out / f"{tf}.png",
            test,
        )
        lines = [line.split("\t") for line in table.splitlines()[1:]]
        head = next(line for line in meme.read_text().splitlines() if line.startswith("letter"))
        sites, width = head.split("nsites= ")[1].split()[0], head.split("w= ")[1].split()[0]
        if not lines:
            print(tf, sites, width, "-", "-", "-", "none", sep="\t", flush=True)
            continue
        _, target, name, p, *_ = lines[0]
        own = {
            family for names, kin in known.values() if tf in names.replace("(VAR.2)", "").split("::") for family in kin
        }
        verdict = "own" if tf in name.upper().split("::") else "family" if own & known[target][1] else "other"
        right += verdict != "other" and float(p) < 1e-6
        print(tf, sites, width, target, name, p, verdict, sep="\t", flush=True)
    print(f"own or family, p < 1e-6: {right} of {len(arguments.tf)}")


if __name__ == "__main__":
    main()
