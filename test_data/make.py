#!/usr/bin/env python3
"""Make the inputs of the tests: random sequence of human composition with CTCF sites drawn from JASPAR frequencies.

    python test_data/make.py

Writes, beside this script, `genome.fa` (three chromosomes with soft-masked bases and runs of N), `sites.bed` (the CTCF
sites in it, on both strands), and `region.fa` (5 kb named as an interval of chr20) with `region.truth.bed`. The bases
follow a first-order Markov chain with the dinucleotide frequencies of the human genome; the sites follow the counts of
JASPAR motif MA0139.1 (CTCF).
"""

from __future__ import annotations

import random
from pathlib import Path

DIRECTORY = Path(__file__).parent

# JASPAR 2020, MA0139.1, rows A C G T
CTCF = {
    "A": [87, 167, 281, 56, 8, 744, 40, 107, 851, 5, 333, 54, 12, 56, 104, 372, 82, 117, 402],
    "C": [291, 145, 49, 800, 903, 13, 528, 433, 11, 0, 3, 12, 0, 8, 733, 13, 482, 322, 181],
    "G": [76, 414, 449, 21, 0, 65, 334, 48, 32, 903, 566, 504, 890, 775, 5, 507, 307, 73, 266],
    "T": [459, 187, 134, 36, 2, 91, 11, 324, 18, 3, 9, 341, 8, 71, 67, 17, 37, 396, 59],
}
WIDTH = len(CTCF["A"])

# percent of all dinucleotides in the human genome, both strands; CG is rare
DINUCLEOTIDES = {
    "A": {"A": 9.8, "C": 5.0, "G": 7.0, "T": 7.7},
    "C": {"A": 7.3, "C": 5.2, "G": 1.0, "T": 7.0},
    "G": {"A": 5.9, "C": 4.3, "G": 5.2, "T": 5.0},
    "T": {"A": 6.6, "C": 5.9, "G": 7.3, "T": 9.8},
}


VARIANTS = [  # position from 1, length of REF, ID, ALT
    (82, 1, "snv", "G"),
    (87, 1, "two", "A,T"),
    (95, 1, "edge", "C"),
    (368, 4, "del", "C"),
    (372, 1, "ins", "TGC"),
    (480, 1, "far", "<DEL>,C"),
]
VCF_HEADER = """##fileformat=VCFv4.3
##contig=<ID=chr1,length=40000>
##INFO=<ID=DP,Number=1,Type=Integer,Description="Depth">
##FILTER=<ID=PASS,Description="All filters passed">
#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO
"""


def background(rng: random.Random, length: int) -> list[str]:
    """Bases of a Markov chain, shape (length,)."""
    letters = [rng.choice("ACGT")]
    while len(letters) < length:
        following = DINUCLEOTIDES[letters[-1]]
        letters += rng.choices(list(following), list(following.values()))
    return letters


def site(rng: random.Random) -> str:
    """A site: one draw from each column of the motif."""
    return "".join(rng.choices("ACGT", [CTCF[letter][column] for letter in "ACGT"])[0] for column in range(WIDTH))


def put_sites(rng: random.Random, letters: list[str], spacing: int) -> list[tuple[int, str]]:
    """Put a site into every `spacing` bases; return starts and strands."""
    placed = []
    for block in range(0, len(letters) - spacing + 1, spacing):
        start, strand = block + rng.randrange(20, spacing - WIDTH - 20), rng.choice("+-")
        bound = site(rng)
        if strand == "-":
            bound = bound.translate(str.maketrans("ACGT", "TGCA"))[::-1]
        letters[start : start + WIDTH] = bound
        placed.append((start, strand))
    return placed


def wrapped(name: str, letters: list[str]) -> str:
    text = "".join(letters)
    return f">{name}\n" + "".join(text[i : i + 60] + "\n" for i in range(0, len(text), 60))


def bed(chrom: str, offset: int, placed: list[tuple[int, str]], name: str) -> str:
    return "".join(
        f"{chrom}\t{offset + start}\t{offset + start + WIDTH}\t{name}\t0\t{strand}\n" for start, strand in placed
    )


def variants(letters: list[str]) -> str:
    """Rows of a VCF file on chr1: changes of its first two sites, a change outside, and alleles that are not scored."""
    found = ""
    for pos, length, name, alts in VARIANTS:
        ref = "".join(letters[pos - 1 : pos - 1 + length]).upper()
        found += f"chr1\t{pos}\t{name}\t{ref}\t{alts}\t.\tPASS\tDP=30\n"
    return found + "chr1\t610\twrong\tTTTT\tT\t.\tPASS\tDP=30\n"


def main() -> None:
    rng = random.Random(139)
    genome, sites, rows = "", "", ""
    for chrom, length in (("chr1", 40_000), ("chr2", 25_000), ("chr3", 15_000)):
        letters = background(rng, length)
        placed = put_sites(rng, letters, 250)
        middle = length // 2
        letters[:40] = "N" * 40
        letters[middle : middle + 500] = "N" * 500  # over some sites, which `windows` has to skip
        for start in range(1000, length, 4000):
            letters[start : start + 700] = [letter.lower() for letter in letters[start : start + 700]]
        rows += variants(letters) if chrom == "chr1" else ""
        genome += wrapped(chrom, letters)
        sites += bed(chrom, 0, placed, "CTCF")
    (DIRECTORY / "genome.fa").write_text(genome)
    (DIRECTORY / "sites.bed").write_text(sites)
    (DIRECTORY / "variants.vcf").write_text(VCF_HEADER + rows)
    letters = background(rng, 5000)
    placed = put_sites(rng, letters, 1000)
    (DIRECTORY / "region.fa").write_text(wrapped("chr20:1000001-1005000", letters))
    (DIRECTORY / "region.truth.bed").write_text(bed("chr20", 1_000_000, placed, "CTCF"))


if __name__ == "__main__":
    main()
