"""Transcription factor binding sites at single-nucleotide resolution, with BertSNR (Luo et al. 2024).

The command line is `bertsnr` (see `bertsnr --help`). The same work from Python:

    import bertsnr_tools as bt

    model = bt.load_model("CTCF")              # a shipped model, a model file, or a MEME or JASPAR file of one matrix
    for site in bt.scan(model, "region.fa"):   # FASTA; sites in the order of the sequence
        print(site.chrom, site.start, site.end, site.name, site.score, site.strand, site.p)

    every = bt.load_models(["human"])          # all factors of the shipped many-factor model; SOX10 is one of them
    genome = bt.Genome("hg38.fa")              # indexed FASTA, plain or bgzip
    sites = bt.scan(model, genome, regions="promoters.bed", threshold="q=0.05")

    scores = model.predict_bases(["ACGT..."])  # for each sequence float32 (2, length): forward and reverse strand
    net = model.as_onehot_module()             # torch module on (B, 4, L), for tangermeme and captum

    model = bt.train(bt.read_windows("pos.fa"), name="MYTF")
    model.save("MYTF.pt")

Coordinates are 0-based and half-open. Nothing here prints, exits or changes settings of the process (logging, signals),
except torch's number of threads while models score on a CPU. Errors are `bt.DataError`, `bt.UsageError` and
`bt.DeviceError`, each a `bt.BertsnrError`. Names are imported on first use, so `import bertsnr_tools` takes no time.

Models      load_model, load_models, shipped_models, SiteModel, Runtime
Scanning    scan, Genome, Interval, read_bed, Record, read_records
Windows     WindowCutter, read_windows, Windows, draw_background, shuffle
Training    train, Recipe, ModelDesign, evaluate
Variants    variants, saturate
Motifs      find_motif, discover_motifs, discover_denovo, compare, read_motifs, write_motifs, Motif
Attention   attention_scores
Pages       report
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_MODULES = {
    "api": (
        "SiteModel load_model load_models scan variants saturate train evaluate shuffle find_motif report "
        "attention_scores"
    ),
    "errors": "BertsnrError DataError UsageError DeviceError",
    "io.fasta": "Genome Record read_records",
    "io.intervals": "Interval read_bed",
    "io.motif_files": "Motif read_motifs write_motifs",
    "models.device": "Runtime",
    "models.registry": "shipped_models",
    "motifs.comparison": "compare",
    "motifs.denovo": "discover_denovo",
    "motifs.discovery": "discover_motifs",
    "sequence.windows": "Windows WindowCutter read_windows",
    "training.config": "ModelDesign Recipe",
    "training.data": "draw_background",
}
_HOME = {name: module for module, names in _MODULES.items() for name in names.split()}

__all__ = ["__version__", *sorted(_HOME)]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *(name for name in _HOME if name not in globals())]
