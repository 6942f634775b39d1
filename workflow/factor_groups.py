#!/usr/bin/env python3
"""More encoders for factors that a shared encoder serves badly: divide them into groups, and join the models.

    factor_groups.py divide human.pt factors OUT
    factor_groups.py join human.pt factors OUT/1.pt OUT/2.pt OUT/3.pt

`factors` is the output of factor_windows.py. `divide` makes OUT/N/train with the windows and OUT/N/known.bed.gz with
the known sites of group N, for `bertsnr train -o OUT/N.pt`. `join` puts the models of the groups into human.pt; the
logits of their factors are weighted means with human's own. Needs scipy.

Factors are divided if their validation AUPR over bases is below `LOW`, or below `SMALL` with fewer than `FEW` training
windows. Similar factors are put into different groups: alike motifs in one encoder hinder each other. (After 25,000
windows, an encoder with 25 unlike factors had an AUPR of 0.934 for E2F1 and 0.824 for KLF4, one with 25 similar factors
0.916 and 0.763.)
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import numpy as np
import torch
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from bertsnr_tools.models.cuda import device_token_ids
from bertsnr_tools.models.device import Runtime
from bertsnr_tools.models.files import load_factors, save_model
from bertsnr_tools.models.many_factor import ManyFactorModel, general_model, joined
from bertsnr_tools.sequence.encoding import reverse_complement_codes
from bertsnr_tools.sequence.windows import loci, read_windows
from bertsnr_tools.training.config import ModelDesign, Recipe
from bertsnr_tools.training.factor_files import FactorFiles
from bertsnr_tools.training.factors import split_factors
from bertsnr_tools.training.many_run import factor_metrics, fit_nulls

GROUPS = 3
VALIDATION = ("chr8", "chr10")
LOW, SMALL, FEW = 0.93, 0.98, 1200
PROFILE_WINDOWS = 30  # training windows by which factors are compared


def load(path: str) -> ManyFactorModel:
    model = general_model(load_factors(path)[0])
    assert model is not None, f"{path}: not a many-factor model"
    return model


def profiles(model: ManyFactorModel, factors: Path) -> np.ndarray:
    """For each factor, how high all heads score its training windows: mean of the highest token logits, (F, F)."""
    rows = []
    for info in model.infos:
        windows = read_windows(factors / "train" / f"{info.name}.fa.gz", True)
        held = [chrom.rpartition(".")[2] in info.training["data"]["validation_chroms"] for chrom in loci(windows)[1]]
        codes = windows.take(np.nonzero(~np.array(held))[0][:PROFILE_WINDOWS]).codes
        with torch.inference_mode():
            ids = device_token_ids(torch.from_numpy(np.concatenate([codes, reverse_complement_codes(codes)])), 3)
            highest = model(ids)[1].amax(1).numpy()
        rows.append(np.maximum(*np.split(highest, 2)).mean(axis=0))
    return np.array(rows)


def difficult(model: ManyFactorModel) -> list[int]:
    """Numbers of the factors that are divided."""
    found = []
    for number, info in enumerate(model.infos):
        aupr, windows = info.training["validation"]["nucleotide"]["aupr"], info.training["data"]["positives"]
        if aupr < LOW or (aupr < SMALL and windows < FEW):
            found.append(number)
    return found


def divided(scores: np.ndarray, chosen: list[int]) -> list[list[int]]:
    """Groups of the chosen factors; neighbours in a clustering by `profiles` go to different groups."""
    alike = np.corrcoef((scores - scores.mean(axis=0)) / scores.std(axis=0))[np.ix_(chosen, chosen)]
    distance = 1 - (alike + alike.T) / 2
    np.fill_diagonal(distance, 0)
    order = leaves_list(linkage(squareform(distance, checks=False), "average", optimal_ordering=True))
    return [[chosen[at] for at in order[group::GROUPS]] for group in range(GROUPS)]


def divide(model: ManyFactorModel, factors: Path, out: Path) -> None:
    for number, group in enumerate(divided(profiles(model, factors), difficult(model)), 1):
        names = {model.infos[factor].name for factor in group}
        train = out / str(number) / "train"
        train.mkdir(parents=True, exist_ok=True)
        for name in names:
            (train / f"{name}.fa.gz").unlink(missing_ok=True)
            (train / f"{name}.fa.gz").symlink_to((factors / "train" / f"{name}.fa.gz").resolve())
        with (
            gzip.open(factors / "known.bed.gz", "rt") as known,
            gzip.open(out / str(number) / "known.bed.gz", "wt") as of_group,
        ):
            of_group.writelines(line for line in known if line.split()[3] in names)
        print(f"group {number}: {' '.join(sorted(names))}")


def join(path: str, factors: Path, others: list[str]) -> None:
    general = load(path)
    matrices = {info.name: info.matrix for info in general.infos}
    model = joined([general, *map(load, others)])
    files = {name: str(factors / "train" / f"{name}.fa.gz") for name in matrices}
    background, known = str(factors / "background.fa.gz"), (str(factors / "known.bed.gz"),)
    precision = Runtime.choose("cpu").precision
    recipe = Recipe.for_factors(len(files), ModelDesign(), val_chroms=VALIDATION, precision=precision)
    inputs = FactorFiles(files, background, exclude=known).read(3, recipe.seed)
    data = split_factors(inputs.sets, recipe, inputs.background, inputs.known)
    assert data.null_windows is not None and data.null_known is not None
    for info, measured in zip(model.infos, factor_metrics(model, data.validation, precision)):
        info.matrix = matrices[info.name]
        info.training = info.training | {"validation": measured}
    fit_nulls(model, data.null_windows, data.null_known, recipe)
    save_model(path, model)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    dividing, joining = commands.add_parser("divide"), commands.add_parser("join")
    for command in (dividing, joining):
        command.add_argument("model")
        command.add_argument("factors", type=Path)
    dividing.add_argument("out", type=Path)
    joining.add_argument("others", nargs="+")
    arguments = parser.parse_args()
    if arguments.command == "divide":
        divide(load(arguments.model), arguments.factors, arguments.out)
    else:
        join(arguments.model, arguments.factors, arguments.others)


if __name__ == "__main__":
    main()
