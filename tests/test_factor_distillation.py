"""Distillation of models of one factor into a many-factor model: windows, targets, training, and the command."""

import numpy as np
import pytest
import torch
from planted import DESIGN, LENGTH, MOTIFS, background, fasta, planted

from bertsnr_tools.models.cuda import device_token_ids
from bertsnr_tools.models.files import load_factors, save_model
from bertsnr_tools.models.many_factor import ManyFactorModel
from bertsnr_tools.sequence.encoding import OTHER
from bertsnr_tools.sequence.windows import Windows
from bertsnr_tools.training import distillation
from bertsnr_tools.training import factors as factors_module
from bertsnr_tools.training.checkpoint import Checkpoint
from bertsnr_tools.training.config import Recipe
from bertsnr_tools.training.distillation import FactorTeachers, teacher_targets
from bertsnr_tools.training.factors import draw_epoch, split_factors, varied
from bertsnr_tools.training.many_factor import fit_many
from bertsnr_tools.training.many_run import ManyFactorRun

CPU = torch.device("cpu")


def random_model(*factors, seed=1, held_out=()):
    """A model of some factors with random weights."""
    torch.manual_seed(seed)
    infos = [DESIGN.info(factor, planted(factor, 3)) for factor in factors]
    for info in infos:
        info.training = {"data": {"validation_chroms": list(held_out)}}
    return ManyFactorModel(infos).eval()


def test_some_sites_move_and_some_windows_mutate():
    epoch, others = draw_epoch([planted("AAA1", 300)], 1, 0), background(50)
    epoch.codes[:, 0] = OTHER
    made = varied(epoch, others, "key")
    assert np.array_equal(made.codes, varied(epoch, others, "key").codes)
    assert not np.array_equal(made.codes, varied(epoch, others, "another").codes)
    assert np.array_equal(made.labels, epoch.labels) and np.array_equal(made.factors, epoch.factors)
    positive, moved = epoch.labels.any(axis=1), made.codes[:, 0] != OTHER
    assert not moved[~positive].any() and 0.25 < moved[positive].mean() < 0.35
    changed = (made.codes != epoch.codes).mean(axis=1)
    assert (changed[moved] > 0.3).all() and 0.45 < (changed[~moved] > 0).mean() < 0.55
    assert 0.07 < changed[~moved & (changed > 0)].mean() < 0.09
    sites = (epoch.labels > 0) & moved[:, None]
    assert (made.codes != epoch.codes)[sites].mean() < 0.06  # half of the windows, 8 % of their bases
    alone = varied(epoch, None, "key").codes
    assert (alone[:, 0] == OTHER).all() and 0.03 < (alone != epoch.codes).mean() < 0.05


def test_teachers_judge_windows_of_their_own_factor_and_of_others(monkeypatch):
    monkeypatch.setattr(distillation, "BATCH", 7)
    monkeypatch.setattr(distillation, "OTHERS", 1)
    models = random_model(*MOTIFS), random_model("BBB2", seed=2)
    teachers = [[models[0].factor(number)] for number in range(3)]
    teachers[1].append(models[1].factor(0))
    epoch = draw_epoch([planted(factor, 4) for factor in MOTIFS], 1, 0)
    found = FactorTeachers(teachers, "fp32").targets(epoch, "key")
    assert np.array_equal(found.factors[:, 0], epoch.factors) and found.factors.shape[1] == 2
    assert (found.factors[:, 0] != found.factors[:, 1]).all() and set(found.factors[:, 1]) == {0, 1, 2}
    ids = device_token_ids(torch.from_numpy(epoch.codes), 3)
    every = [teacher_targets(some, ids) for some in teachers]
    for row, factors in enumerate(found.factors):
        for column, factor in enumerate(factors):
            sequence, token = (part[row].numpy() for part in every[factor])
            np.testing.assert_allclose(found.sequences[row, column], sequence, atol=1e-3)
            np.testing.assert_allclose(found.tokens[row, :, column], token, atol=1e-3)
    one = draw_epoch([planted("AAA1", 4)], 1, 0)
    assert FactorTeachers(teachers[:1], "fp32").targets(one, "key").tokens.shape == (len(one.codes), LENGTH - 2, 1)


def test_students_learn_from_their_teachers_instead_of_the_labels(monkeypatch):
    monkeypatch.setattr(factors_module, "FACTOR_WINDOWS", 300)
    data = split_factors({factor: planted(factor, 80) for factor in MOTIFS}, Recipe())
    recipe = Recipe(epochs=8, batch_size=32, learning_rate=8e-3, warmup=0.1)
    teacher, _ = fit_many(data, DESIGN, recipe, CPU, Checkpoint())
    wrong = [Windows(windows.names, windows.codes, windows.labels[:, ::-1].copy()) for windows in data.positives]
    best = []
    for teachers in ((), [[teacher.factor(number)] for number in range(3)]):
        _, history = fit_many(data._replace(positives=wrong, teachers=teachers), DESIGN, recipe, CPU, Checkpoint())
        best.append(max(row["aupr"] for row in history))
    assert best[0] < 0.5 and best[1] > 0.8, best


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with windows of two factors and models of three."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(factors_module, "FACTOR_WINDOWS", 12)
    for factor in ("AAA1", "BBB2"):
        (tmp_path / f"{factor}.fa").write_text(fasta(planted(factor, 12)))
    save_model("many.pt", random_model(*MOTIFS, held_out=["chr8"]))
    for factor in MOTIFS:
        save_model(f"{factor}.pt", random_model(factor, seed=2).factor(0))
    return tmp_path


def train(run_here, *options):
    fixed = ("--encoder", "many.pt", "--epochs", 1, "--precision", "fp32", "--device", "cpu", "-@", 1, "-o", "m.pt")
    return run_here("train", *fixed, *options, "AAA1.fa", "BBB2.fa")


def test_the_command_finds_the_teachers_of_each_factor(here, run_here, monkeypatch):
    seen, describe = [], ManyFactorRun.describe
    monkeypatch.setattr(
        ManyFactorRun, "describe", lambda run, *given: (seen.append(run.data.teachers), describe(run, *given))
    )
    options = ("--teacher", "many.pt", "--teacher", "BBB2.pt")
    outcome = train(run_here, *options)
    assert outcome.status == 0, outcome.err
    [of_factors] = seen
    assert [[model.info.name for model in some] for some in of_factors] == [["AAA1"], ["BBB2", "BBB2"]]
    weights = of_factors[1][1].encoder.state_dict(), load_factors("BBB2.pt")[0].encoder.state_dict()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert [model.info.training["data"]["teachers"] for model in load_factors("m.pt")] == [["many.pt", "BBB2.pt"]] * 2
    assert "--teacher many.pt, BBB2.pt may have been trained on validation windows" in outcome.err
    held_out = train(run_here, "--val-chroms", "chr8", *options)
    assert "--teacher BBB2.pt may have been trained on validation windows" in held_out.err
    assert "trained on" not in train(run_here, "--val-chroms", "chr8", "--teacher", "many.pt").err


@pytest.mark.parametrize(
    ("options", "status", "text"),
    [
        ("--teacher AAA1.pt", 2, "--teacher: no model of BBB2; give one for each factor, or none"),
        ("--teacher many.pt --teacher CCC3.pt", 2, "--teacher CCC3.pt: is a model of CCC3, not of one of the factors"),
        ("--teacher many.pt --teacher YY1", 2, "--teacher YY1: is a model of YY1, not of one of the factors"),
        ("--teacher nothere.pt", 1, "nothere.pt"),
        ("--teacher many.pt -o many.pt", 2, "many.pt: is also an input"),
    ],
)
def test_errors_are_one_line(here, run_here, options, status, text):
    outcome = train(run_here, "-q", *options.split())
    assert (outcome.status, outcome.out) == (status, "") and text in outcome.err
    assert outcome.err.count("\n") == 1 and not (here / "m.pt").exists()


def test_teachers_of_other_windows(here, run_here):
    info = random_model("AAA1").infos[0]
    info.window = 50
    save_model("AAA1.pt", ManyFactorModel([info]).factor(0))
    outcome = train(run_here, "-q", "--teacher", "many.pt", "--teacher", "AAA1.pt")
    expected = "--teacher AAA1.pt: reads windows of 50 bp in 3-mers; expected 40 bp and 3-mers"
    assert outcome.status == 2 and expected in outcome.err
