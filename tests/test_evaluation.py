import random

import pytest

from bertsnr_tools.errors import DataError
from bertsnr_tools.evaluation import LEVELS, Bootstrap, evaluate, evaluate_files, table_lines
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
    (plain,) = evaluate_files([toy_model], [windows_file], runtime)
    assert (plain.model, plain.data, plain.windows, plain.with_sites) == ("TOY", "set", 40, 20)
    assert plain.metrics == evaluate(toy_model, read_windows(windows_file, None, 3), runtime)
    assert plain.curve is None and plain.intervals == {} and list(plain.as_dict())[4:] == list(LEVELS)
    settings = {"threshold": ("probability", 0.9), "bootstrap": Bootstrap(20), "keep_curves": True}
    strict, again = evaluate_files([toy_model, toy_model], [windows_file], runtime, **settings)
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
            list(evaluate_files([toy_model], [str(path)], Runtime()))
