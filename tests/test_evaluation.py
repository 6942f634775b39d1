import random
from dataclasses import replace

import pytest

from bertsnr_tools.errors import DataError, UsageError
from bertsnr_tools.evaluation import LEVELS, Bootstrap, DataSet, data_sets, evaluate, evaluate_files, table_lines
from bertsnr_tools.metrics import NAMES
from bertsnr_tools.models.device import Runtime
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


def test_data_sets_that_cannot_be_measured(toy_model, tmp_path):
    path = tmp_path / "w.fa"
    for text, problem in (
        (">a\nACGTA\n", "no window has a site"),
        (">a site=1-4\nACGTA" + "A" * 96 + "\n", "windows are 101 bp"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=problem):
            list(evaluate_files([DataSet(str(path), [toy_model])], Runtime()))


def test_each_file_with_the_factor_of_its_name(many_factor_model, toy_model, caplog):
    models = [toy_model, *map(many_factor_model.factor, range(4))]
    paths = ["a/SOX2.fa", "TAL1::TCF3.test.fa.gz", "SOX3.fa"]
    assert data_sets(models, paths) == [DataSet(path, models) for path in paths]
    assert data_sets(models, paths, by_name=True) == [DataSet(paths[0], models[2:3]), DataSet(paths[1], models[4:])]
    assert "files skipped: 1 not named after a factor of the models: SOX3.fa" in caplog.text
    renamed = many_factor_model.factor(1)
    renamed.info = replace(renamed.info, name="human:SOX2")  # as `registry.load_models` tells it from another SOX2
    assert data_sets([renamed], paths[:1], by_name=True) == [DataSet(paths[0], [renamed])]
    with pytest.raises(UsageError, match="no file is named after a factor of the models"):
        data_sets(models, ["-", "SOX3.fa"], by_name=True)
