#!/usr/bin/env python3
"""Windows of other factors than those in `paper.SETS`: `pooled_windows.py DATA OUT`, then `bertsnr train … OUT`.

Writes one FASTA for each published data set that is not in `paper.SETS`, so that an encoder trained on them has
seen nothing of the sets it is measured on. Leaves out windows that share 32 bases, on either strand, with a test
window of any data set, windows on the chromosomes that scans are judged on, and data sets whose windows have no
coordinates.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from bertsnr_tools.sequence.encoding import reverse_complement_codes
from bertsnr_tools.sequence.windows import loci
from paper import SETS
from published import data_sets, fasta, published_split

HELD = ("chr6", "chr17", "chr20", "chr22")
WORD = 32


def words(codes: np.ndarray) -> np.ndarray:
    """All 32-mers as numbers, uint64, shape (n, length - 31); a letter other than ACGT counts as one of the four."""
    found = np.zeros((len(codes), codes.shape[1] - WORD + 1), dtype=np.uint64)
    for offset in range(WORD):
        found = found << np.uint64(2) | (codes[:, offset : offset + found.shape[1]] & 3).astype(np.uint64)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    data, out = arguments.data, arguments.out
    tests = [published_split(data, tf).test.codes[::2] for tf in data_sets(data)]
    known = np.unique(
        np.concatenate([np.unique(words(codes)) for test in tests for codes in (test, reverse_complement_codes(test))])
    )
    out.mkdir(exist_ok=True)
    for tf in data_sets(data):
        train = published_split(data, tf).train
        positives = train.take(np.arange(0, len(train), 2))
        chroms = loci(positives)[1]
        if tf in SETS or not any(chroms):
            continue
        found = words(positives.codes)
        free = (known[np.minimum(np.searchsorted(known, found), len(known) - 1)] != found).all(axis=1) & ~np.isin(
            chroms, HELD
        )
        (out / f"{tf}.fa").write_bytes(b"".join(fasta(positives.take(np.nonzero(free)[0]))))
        print(tf, len(positives), int(free.sum()), sep="\t")


if __name__ == "__main__":
    main()
