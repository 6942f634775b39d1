#!/usr/bin/env python3
"""Time and memory of writing sites, by format and number of sites.

    python benchmarks/site_files.py [--sites N ...]

Writes synthetic sites of 20 factors on 24 chromosomes, which are in no order, through `predict.site_files.open_sites`,
and makes a hub of the bigBed file; each in a process of its own. Prints a table: CPU seconds, the peak of the memory
minus its size before the first site, and the size of the file.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

FORMATS = ("bed", "narrowpeak", "bigbed", "parquet")
LENGTHS = {f"chr{number}": 150_000_000 for number in range(1, 25)}
BATCH = 2_000


def batches(count: int) -> Iterator[list]:
    from bertsnr_tools.predict.calling import CalledSite
    from bertsnr_tools.predict.significance import RankedSite

    rng = np.random.default_rng(1)
    chroms = list(LENGTHS)
    for first in range(0, count, BATCH):
        sites = []
        for start, score, p in zip(rng.integers(0, 149_000_000, BATCH), rng.random(BATCH), rng.random(BATCH)):
            factor, at = f"FACTOR{int(start) % 20}", int(start)
            site = CalledSite(chroms[at % 24], at, at + 15, factor, float(score), "+-"[at % 2], 0.9, 7, 0)
            sites.append(RankedSite(site, float(score) * 4, float(p) * 6, -1.0, 7))
        yield sites[: count - first]


def peak() -> float:
    """Peak memory of this process, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write(path: Path, kind: str, count: int) -> tuple[float, float]:
    from bertsnr_tools.io.outputs import Failures
    from bertsnr_tools.predict.site_files import open_sites
    from bertsnr_tools.predict.writers import SiteFormat

    if kind == "parquet":
        import pyarrow.parquet  # noqa: F401
    made = list(batches(BATCH))
    before, began = peak(), time.process_time()
    with Failures(str(path)) as failures, open_sites(str(path), SiteFormat(kind), [], LENGTHS, failures) as writer:
        for sites in batches(count):
            writer.write(sites)
    del made
    return time.process_time() - began, peak() - before


def make_hub(source: Path, directory: Path) -> tuple[float, float]:
    from bertsnr_tools.hub.build import build_hub
    from bertsnr_tools.hub.trackdb import HubText

    directory.mkdir()
    before, began = peak(), time.process_time()
    build_hub(str(directory), [str(source)], HubText("hg38", "nobody@example.org"))
    return time.process_time() - began, peak() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sites", type=int, nargs="+", default=[100_000, 1_000_000])
    arguments = parser.parse_args()
    print("format", "sites", "CPU seconds", "MiB", "file, MB", sep="\t")
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        for count in arguments.sites:
            for kind in (*FORMATS, "hub"):
                path, source = Path(name) / f"{kind}{count}", Path(name) / f"sites{count}.bb"
                job = (make_hub, (source, path)) if kind == "hub" else (write, (path, kind, count))
                with context.Pool(1) as pool:
                    seconds, memory = pool.apply(*job)
                files = path.iterdir() if path.is_dir() else [path]
                size = sum(file.stat().st_size for file in files) / 1e6
                print(kind, f"{count:,}", f"{seconds:.1f}", f"{memory:.0f}", f"{size:.1f}", sep="\t", flush=True)
                if kind == "bigbed":
                    path.rename(source)


if __name__ == "__main__":
    main()
