#!/usr/bin/env python3
"""Is the motif that is discovered in ChIP-seq peaks the factor's own? Discovery and TOMTOM.

    python benchmarks/discover.py DATA OUT [TF.CELL ...]

DATA/chip has peaks of hg19, DATA/genome/hg19.sparse.fa.gz the genome, which has real bases around published sites only
and N elsewhere. Of each file, the strongest peaks are used (--peaks) that have at least --bases known bases in the
window of --width bp around their summit. `bertsnr motifs --discover` finds one motif, `--compare` names the most
similar JASPAR motif of vertebrates. The match is "own" if it is a motif of the factor itself, "family" if its factor is
of the same JASPAR family.
"""

from __future__ import annotations

import argparse
import gzip
import re
import time
from pathlib import Path

from bertsnr_tools.io.fasta import Genome, fasta_text
from commands import bertsnr
from motif_match import families

PEAKS = (
    *("CTCF.GM12878", "SRF.GM12878", "YY1.GM12878", "MAX.K562", "EBF1.GM12878", "REST.K562", "JUND.K562"),
    *("GATA2.K562", "CEBPB.K562", "NRF1.K562", "SPI1.GM12878", "GATA3.A549.no_chr1_8_21"),
)


def summit_sequences(peaks: Path, genome: Genome, limits: argparse.Namespace) -> bytes:
    """FASTA of the windows around the summits of the strongest peaks."""
    with gzip.open(peaks, "rt") as stream:
        rows = sorted((line.split("\t") for line in stream), key=lambda row: -float(row[6]))
    found: list[bytes] = []
    for chrom, first, *_, summit in rows:
        start = int(first) + int(summit) - limits.width // 2
        if chrom in genome.lengths and 0 <= start <= genome.lengths[chrom] - limits.width:
            sequence = genome.fetch(chrom, start, start + limits.width)
            if len(sequence) - sequence.count(b"N") >= limits.bases and len(found) < limits.peaks:
                found.append(fasta_text(f"{chrom}:{start}-{start + limits.width}", "", sequence))
    return b"".join(found)


def verdict(tf: str, target: str, known: dict[str, tuple[str, set[str]]]) -> str:
    """Whether a JASPAR motif is the factor's own, of its family, or another."""
    own = {family for name, kin in known.values() if tf in name.split("::") for family in kin}
    name, kin = known[target]
    return "own" if tf in name.split("::") else "family" if own & kin else "other"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*", default=PEAKS, metavar="TF.CELL")
    parser.add_argument("--peaks", type=int, default=500)
    parser.add_argument("--width", type=int, default=150)
    parser.add_argument("--bases", type=int, default=75)
    parser.add_argument("--release", default="jaspar2026")
    arguments = parser.parse_args()
    arguments.out.mkdir(exist_ok=True)
    known = families(arguments.release)
    genome = Genome(arguments.data / "genome" / "hg19.sparse.fa.gz")
    print("peaks", "sequences", "width", "sites", "p", "best match", "its factor", "p", "verdict", "s", sep="\t")
    right = 0
    for name in arguments.names:
        fasta, meme = (arguments.out / f"{name}.{ending}" for ending in ("fa", "meme"))
        fasta.write_bytes(summit_sequences(arguments.data / "chip" / f"{name}.hg19.narrowPeak.gz", genome, arguments))
        start = time.perf_counter()
        bertsnr("motifs", "-q", "--discover", "-o", meme, fasta)
        seconds = time.perf_counter() - start
        table = bertsnr("motifs", "-q", "--discover", "--compare", arguments.release, fasta)
        width, sites, p = re.search(r"w= (\d+) nsites= (\d+) E= (\S+)", meme.read_text()).groups()
        _, target, factor, match_p, *_ = (table.splitlines() + ["\t-" * 4])[1].split("\t")
        judged = verdict(name.split(".")[0], target, known) if target in known else "none"
        right += judged in ("own", "family")
        count = fasta.read_bytes().count(b">")
        print(name, count, width, sites, p, target, factor, match_p, judged, f"{seconds:.1f}", sep="\t", flush=True)
    print(f"own or family: {right} of {len(arguments.names)}")


if __name__ == "__main__":
    main()
