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
except torch's number of threads while models score on a CPU. Warnings go to the logger "bertsnr_tools". Errors
are `bt.DataError`, `bt.UsageError` and `bt.DeviceError`, each a `bt.BertsnrError`. Names are imported on first use, so
`import bertsnr_tools` takes no time.

Models      load_model, load_models, shipped_models, SiteModel, Runtime
Scanning    scan, Genome, Interval, read_bed, Record, read_records
Windows     WindowCutter, read_windows, Windows, draw_background, shuffle
Training    train, Recipe, ModelDesign, evaluate
Variants    variants, saturate
Motifs      find_motif, discover_motifs, discover_denovo, compare, jaspar_motifs, read_motifs, write_motifs, Motif
Attention   attention_scores
Pages       report
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import SiteModel as SiteModel
    from .api import attention_scores as attention_scores
    from .api import evaluate as evaluate
    from .api import find_motif as find_motif
    from .api import load_model as load_model
    from .api import load_models as load_models
    from .api import report as report
    from .api import saturate as saturate
    from .api import scan as scan
    from .api import shuffle as shuffle
    from .api import train as train
    from .api import variants as variants
    from .errors import BertsnrError as BertsnrError
    from .errors import DataError as DataError
    from .errors import DeviceError as DeviceError
    from .errors import UsageError as UsageError
    from .io.fasta import Genome as Genome
    from .io.fasta import Record as Record
    from .io.fasta import read_records as read_records
    from .io.intervals import Interval as Interval
    from .io.intervals import read_bed as read_bed
    from .io.jaspar import jaspar_motifs as jaspar_motifs
    from .io.motif_files import Motif as Motif
    from .io.motif_files import read_motifs as read_motifs
    from .io.motif_files import write_motifs as write_motifs
    from .models.device import Runtime as Runtime
    from .models.registry import shipped_models as shipped_models
    from .motifs.comparison import compare as compare
    from .motifs.denovo import discover_denovo as discover_denovo
    from .motifs.discovery import discover_motifs as discover_motifs
    from .sequence.windows import WindowCutter as WindowCutter
    from .sequence.windows import Windows as Windows
    from .sequence.windows import read_windows as read_windows
    from .training.config import ModelDesign as ModelDesign
    from .training.config import Recipe as Recipe
    from .training.data import draw_background as draw_background

__version__ = "0.1.0"

_MODULES = {
    "api": (
        "SiteModel load_model load_models scan variants saturate train evaluate shuffle find_motif report "
        "attention_scores"
    ),
    "errors": "BertsnrError DataError UsageError DeviceError",
    "io.fasta": "Genome Record read_records",
    "io.intervals": "Interval read_bed",
    "io.jaspar": "jaspar_motifs",
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
