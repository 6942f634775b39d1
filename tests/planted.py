"""Windows with planted motifs, and the design of a small encoder that learns them."""

import numpy as np

from bertsnr_tools.models.encoder import compact_config
from bertsnr_tools.models.pretrained import Pretrained
from bertsnr_tools.sequence.encoding import encode
from bertsnr_tools.sequence.windows import Windows
from bertsnr_tools.training.config import ModelDesign

LENGTH = 40
MOTIFS = {"AAA1": "GATTACAGG", "BBB2": "CCTGGAATT", "CCC3": "TGACGTCA"}
SMALL = compact_config(3, LENGTH) | {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "global_attn_every_n_layers": 1,
}
DESIGN = ModelDesign(pretrained=Pretrained(SMALL, 3, {}))


def planted(factor, count, seed=0, chroms=("chr1", "chr8")):
    """Random windows of a factor with its motif at a random position; windows do not overlap."""
    rng = np.random.default_rng([seed, *factor.encode()])
    motif, names = encode(MOTIFS[factor].encode()), []
    codes = rng.integers(0, 4, (count, LENGTH)).astype(np.uint8)
    labels = np.zeros_like(codes)
    for row in range(count):
        at = int(rng.integers(0, LENGTH - len(motif) + 1))
        codes[row, at : at + len(motif)] = motif
        labels[row, at : at + len(motif)] = 1
        start = (int(rng.integers(10)) + 10 * row) * 1000 + sorted(MOTIFS).index(factor) * 100
        names.append(f"{factor}::{chroms[row % len(chroms)]}:{start}-{start + LENGTH}(+)")
    return Windows(names, codes, labels)


def background(count, seed=5):
    codes = np.random.default_rng(seed).integers(0, 4, (count, LENGTH)).astype(np.uint8)
    names = [f"b{row}::chr{row % 3 + 1}:{900_000 + 50 * row}-{900_000 + 50 * row + LENGTH}" for row in range(count)]
    return Windows(names, codes, np.zeros_like(codes))


def fasta(windows):
    lines = []
    for record, row in zip(windows.records(), windows.labels):
        spans = np.nonzero(np.diff(row.astype(int), prepend=0, append=0))[0]
        site = f" site={spans[0]}-{spans[1]}" if len(spans) else ""
        lines.append(f">{record.name}{site}\n{record.sequence.decode()}\n")
    return "".join(lines)
