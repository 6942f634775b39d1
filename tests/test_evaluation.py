import random
from dataclasses import replace

import numpy as np
import pytest

from bertsnr_tools.errors import DataError, UsageError
from bertsnr_tools.evaluation import LEVELS, Bootstrap, DataSet, data_sets, evaluate, evaluate_files, table_lines
from bertsnr_tools.metrics import NAMES, Ranking
from bertsnr_tools.models.device import Runtime
from bertsnr_tools.predict.scan import base_scores
from bertsnr_tools.sequence.encoding import OTHER
from bertsnr_tools.sequence.windows import read_windows


@pytest.fixture
def windows_file(tmp_path):
    """Forty windows of 60 bp, half of them with a site of 8 bp."""
    rng = random.Random(1)
    lines = []
    for number in range(40):
        label = f" site={number}-{number + 8}" if number % 2 else ""
        lines.append(f">w{number}{label}\n{''.join(rng.choices('ACGT', k=60))}\n")
    path = tmp_path / "set.fa.gz"  # plain text all the same; names of data sets lose both endings
    path.write_text("".join(lines))
    return str(path)


def test_evaluations_and_their_table(toy_model, windows_file):
    runtime = Runtime()
    (plain,) = evaluate_files([DataSet(windows_file, [toy_model])], runtime)
    assert (plain.model, plain.data, plain.windows, plain.with_sites) == ("TOY", "set", 40, 20)
    assert plain.metrics == evaluate(toy_model, read_windows(windows_file, None, 3), runtime)
    assert plain.curve is None and plain.intervals == {} and list(plain.as_dict())[4:] == list(LEVELS)
    settings = {"threshold": ("probability", 0.9), "bootstrap": Bootstrap(20), "keep_curves": True}
    strict, again = evaluate_files([DataSet(windows_file, [toy_model, toy_model])], runtime, **settings)
    assert strict.intervals == again.intervals != {} and strict.curve.aupr() == plain.metrics["nucleotide"]["aupr"]
    for level in LEVELS:
        assert strict.metrics[level]["recall"] < plain.metrics[level]["recall"]  # fewer calls
        assert strict.as_dict()[f"{level}_intervals"].keys() == set(NAMES)
    head, line = (text.rstrip("\n").split("\t") for text in table_lines([strict]))
    assert (
        head[:7]
        == "model data windows with_sites nucleotide_accuracy nucleotide_accuracy_low nucleotide_accuracy_high".split()
    )
    assert len(head) == len(line) == 4 + 2 * 6 * 3
    assert line[4] == f"{strict.metrics['nucleotide']['accuracy']:.4f}"


def test_windows_with_n_are_scored_as_predict_scores_them(toy_model, many_factor_model, windows_file):
    """Each run of ACGT by itself; N is never called."""
    windows = read_windows(windows_file, None, 3)
    windows.codes[::3, 20] = windows.codes[1::3, 40:44] = OTHER
    letters = np.frombuffer(b"ATCGN", dtype=np.uint8)
    sequences = [letters[row].tobytes() for row in windows.codes]
    for model in (toy_model, many_factor_model.factor(1)):
        runtime = Runtime()
        scanned = np.stack([strands[0] for strands in base_scores(model, sequences, runtime=runtime)])
        assert np.isnan(scanned).any()
        expected = Ranking(windows.labels, np.nan_to_num(scanned), 0.5).six_metrics()
        assert evaluate(model, windows, runtime)["nucleotide"] == pytest.approx(expected, abs=1e-5)


def test_labelled_n_are_counted(toy_model, tmp_path, caplog):
    path = tmp_path / "n.fa"
    path.write_text(f">a site=10-20\n{'ACGT' * 3}NN{'ACGT' * 6}AC\n>b\n{'ACGT' * 10}\n")
    list(evaluate_files([DataSet(str(path), [toy_model])], Runtime()))
    assert f"{path}: 2 bases in sites are N or another letter and count as missed" in caplog.text


def test_data_sets_that_cannot_be_measured(toy_model, tmp_path):
    path = tmp_path / "w.fa"
    for text, problem in (
        (">a\nACGTA\n", "no window has a site"),
        (">a site=1-4\nACGTA" + "A" * 96 + "\n", "windows are 101 bp"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=problem):
            list(evaluate_files([DataSet(str(path), [toy_model])], Runtime()))


def test_each_factor_on_its_own_windows(many_factor_model, toy_model, tmp_path, caplog):
    models = [toy_model, *map(many_factor_model.factor, range(4))]
    paths = ["a/SOX2.fa", "TAL1::TCF3.test.fa.gz"]
    assert data_sets(models, paths) == [DataSet(path, models) for path in paths]
    assert data_sets(models, paths, by_name=True) == [DataSet(paths[0], models[2:3]), DataSet(paths[1], models[4:])]
    renamed = many_factor_model.factor(1)
    renamed.info = replace(renamed.info, name="human:SOX2")  # as `registry.load_models` tells it from another SOX2
    assert data_sets([renamed], paths[:1], by_name=True) == [DataSet(paths[0], [renamed])]
    mixed = str(tmp_path / "mixed.fa")
    names = ["TOY::c:1-9(+)", "TAL1::TCF3::c:1-9(-)", "SOX3::c:1-9(+)", "TOY::c:1-9(+)_shuf1", "plain"]
    with open(mixed, "w") as file:
        file.writelines(f">{name}{' site=1-4' if number < 2 else ''}\nACGTACGT\n" for number, name in enumerate(names))
    toy, tal1 = data_sets(models, [mixed], by_name=True)
    assert (toy.models, toy.windows.names) == (models[:1], [names[0], names[3]])
    assert (tal1.models, tal1.windows.names) == (models[4:], names[1:2])
    assert "mixed.fa: 2 of 5 windows skipped: not named after a factor of the models" in caplog.text
    measured = list(evaluate_files([toy, tal1], Runtime()))
    assert [(row.model, row.data, row.windows) for row in measured] == [("TOY", "mixed", 2), ("TAL1::TCF3", "mixed", 1)]
    with pytest.raises(UsageError, match="neither files nor windows are named after a factor of the models"):
        data_sets(models[2:3], [mixed], by_name=True)
