#!/usr/bin/env python3
"""Does the attention of the shipped models lie on the site? Mean over the bases inside divided by mean over those outside.

    python benchmarks/attention_ratio.py DATA

Windows: the positive ones of the published test fifths; for CTCF, which has none, those of `motif_match.py`. Attention is what `bertsnr attn` writes: from [CLS], last layer, all heads.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from bertsnr_tools.sequence.windows import read_windows
from motif_match import SHIPPED, prepare
from published import fasta, published_split


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    data = parser.parse_args().data
    print("model", "windows", "inside", "outside", "ratio", "median of the windows", sep="\t")
    with tempfile.TemporaryDirectory() as scratch:
        for tf in SHIPPED:
            path = Path(scratch) / f"{tf}.fa"
            if tf == "CTCF":
                _, path = prepare(data, Path(scratch), tf)
            else:
                test = published_split(data, tf).test
                path.write_bytes(b"".join(fasta(test.take(np.arange(0, len(test), 2)))))
            line = [
                sys.executable,
                "-c",
                "from bertsnr_tools.cli import main; main('attn')",
                "-m",
                tf,
                "--format",
                "tsv",
                path,
            ]
            rows = subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[1:]
            attention = np.array([row.split("\t")[1:] for row in rows], dtype=float)
            labels = read_windows(str(path), True, 1).labels.astype(bool)
            inside, outside = attention[labels].mean(), attention[~labels].mean()
            each = [row[label].mean() / row[~label].mean() for row, label in zip(attention, labels)]
            print(
                tf,
                len(labels),
                f"{inside:.4f}",
                f"{outside:.4f}",
                f"{inside / outside:.1f}",
                f"{np.median(each):.1f}",
                sep="\t",
                flush=True,
            )


if __name__ == "__main__":
    main()
