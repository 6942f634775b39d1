#!/usr/bin/env python3
"""Does the attention of the shipped models lie on the site? Mean attention inside sites over mean attention outside.

    python benchmarks/attention_ratio.py DATA

Windows are the positives of the published test parts; CTCF has none and uses the windows of `motif_match.py`.
Attention is the output of `bertsnr attn`: from [CLS], last layer, all heads.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from bertsnr_tools.sequence.windows import read_windows
from commands import bertsnr
from motif_match import SHIPPED, prepare
from published import fasta, published_split


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    data = parser.parse_args().data
    print("model", "windows", "inside", "outside", "ratio", "median over windows", sep="\t")
    with tempfile.TemporaryDirectory() as scratch:
        for tf in SHIPPED:
            path = Path(scratch) / f"{tf}.fa"
            if tf == "CTCF":
                _, path = prepare(data, Path(scratch), tf)
            else:
                test = published_split(data, tf).test
                path.write_bytes(b"".join(fasta(test.take(np.arange(0, len(test), 2)))))
            rows = bertsnr("attn", "-m", tf, "--format", "tsv", path).splitlines()[1:]
            attention = np.array([row.split("\t")[1:] for row in rows], dtype=float)
            labels = read_windows(str(path), True, 1).labels.astype(bool)
            inside, outside = attention[labels].mean(), attention[~labels].mean()
            each = [row[label].mean() / row[~label].mean() for row, label in zip(attention, labels)]
            ratios = f"{inside / outside:.1f}", f"{np.median(each):.1f}"
            print(tf, len(labels), f"{inside:.4f}", f"{outside:.4f}", *ratios, sep="\t", flush=True)


if __name__ == "__main__":
    main()
