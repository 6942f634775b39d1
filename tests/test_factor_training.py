"""Training of many-factor models: files, epochs, splits, known sites, the loop, and the command."""

import gzip
import json
from collections import Counter

import numpy as np
import pytest
import torch
from planted import DESIGN, LENGTH, MOTIFS, background, fasta, planted

from bertsnr_tools.errors import DataError, UsageError
from bertsnr_tools.io.intervals import Interval
from bertsnr_tools.metrics import aupr
from bertsnr_tools.models.files import load_factors, save_model
from bertsnr_tools.models.many_factor import ManyFactorModel
from bertsnr_tools.models.pretrained import model_encoder, shipped_encoder
from bertsnr_tools.sequence.shuffle import shuffled_records
from bertsnr_tools.sequence.windows import Windows, known_sites
from bertsnr_tools.training import factors as factors_module
from bertsnr_tools.training.checkpoint import Checkpoint
from bertsnr_tools.training.config import PAPER, ModelDesign, Recipe
from bertsnr_tools.training.factor_files import FactorFiles
from bertsnr_tools.training.factors import FactorData, draw_epoch, epoch_draws, split_factors
from bertsnr_tools.training.many_factor import ManyFactorTrainer, fit_many, own_probabilities
from bertsnr_tools.training.many_run import ManyFactorRun

CPU = torch.device("cpu")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with windows of three factors, in single files, a directory and one file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sets").mkdir()
    sets = {factor: planted(factor, 12) for factor in MOTIFS}
    for factor, windows in sets.items():
        (tmp_path / f"{factor}.fa").write_text(fasta(windows))
    (tmp_path / "sets" / "AAA1.fa.gz").write_bytes(gzip.compress(fasta(sets["AAA1"]).encode()))
    (tmp_path / "sets" / "TAL1::TCF3.fasta").write_text(fasta(sets["BBB2"]))
    (tmp_path / "sets" / "README").write_text("not windows")
    (tmp_path / "all.fa").write_text("".join(fasta(windows) for windows in sets.values()))
    (tmp_path / "empty").mkdir()
    (tmp_path / "a=b").mkdir()
    (tmp_path / "a=b" / "X.fa").write_text(fasta(sets["AAA1"]))
    (tmp_path / "k=3.fa").write_text(fasta(sets["AAA1"]))
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "paths"),
    [
        (["AAA1.fa"], None),
        (["-"], None),
        (["k=3.fa"], None),
        (["a=b/X.fa"], None),
        (["X=AAA1.fa"], {"X": "AAA1.fa"}),
        (["X=-", "BBB2.fa"], {"X": "-", "BBB2": "BBB2.fa"}),
        (["AAA1.fa", "BBB2.fa"], {"AAA1": "AAA1.fa", "BBB2": "BBB2.fa"}),
        (["X=k=3.fa", "k=3.fa"], {"X": "k=3.fa", "k=3": "k=3.fa"}),
        (["a=b/X.fa", "Y=a=b/X.fa"], {"X": "a=b/X.fa", "Y": "a=b/X.fa"}),
        (["sets"], {"AAA1": "sets/AAA1.fa.gz", "TAL1::TCF3": "sets/TAL1::TCF3.fasta"}),
        (["a=b"], {"X": "a=b/X.fa"}),
        (["sets", "CCC3.fa"], {"AAA1": "sets/AAA1.fa.gz", "TAL1::TCF3": "sets/TAL1::TCF3.fasta", "CCC3": "CCC3.fa"}),
    ],
)
def test_arguments_name_factors_and_files(here, arguments, paths):
    found = FactorFiles.find(arguments)
    assert (found and dict(found.paths)) == paths


def test_one_file_by_name(here):
    files = FactorFiles.find(["all.fa"], by_name=True)
    sets = files.read(3, 1).sets
    assert list(sets) == list(MOTIFS) and [len(windows) for windows in sets.values()] == [12] * 3
    assert all(name.startswith(f"{factor}::") for factor, windows in sets.items() for name in windows.names)


@pytest.mark.parametrize(
    ("arguments", "by_name", "error", "text"),
    [
        (["AAA1.fa", "sets"], False, UsageError, "two files for the factor AAA1; join them"),
        (["X=AAA1.fa", "X=BBB2.fa"], False, UsageError, "two files for the factor X"),
        (["empty"], False, DataError, "empty: no FASTA files; expected names such as TP53.fa"),
        (["all.fa", "AAA1.fa"], True, UsageError, "--by-name reads one FASTA file"),
        (["sets"], True, UsageError, "--by-name reads one FASTA file"),
        (["X=", "AAA1.fa"], False, UsageError, "X=: no file after the equals sign"),
        (["-", "AAA1.fa"], False, UsageError, "standard input (-) has no name; give the factor as TF=-"),
        (["X\tY=AAA1.fa"], False, UsageError, "AAA1.fa: the factor is named 'X\\tY'"),
    ],
)
def test_arguments_that_name_no_factors(here, arguments, by_name, error, text):
    with pytest.raises(error) as raised:
        FactorFiles.find(arguments, by_name=by_name)
    assert text in str(raised.value)


def counts(windows, k=2):
    return [Counter(text[i : i + k] for i in range(LENGTH - k + 1)) for text in map(bytes, windows)]


@pytest.mark.parametrize("count", [1, 7, 30, 150])
def test_every_window_is_drawn_equally_often(monkeypatch, count):
    """Also by a factor with fewer windows than draws; each draw has a shuffle of its own."""
    monkeypatch.setattr(factors_module, "FACTOR_WINDOWS", 60)
    monkeypatch.setattr(factors_module, "default_swap_fraction", lambda count: 0.0)
    windows, draws = planted("AAA1", count), epoch_draws(count)
    assert (draws > count) == (count < 60)
    of_window, shuffles = Counter(), []
    for number in range(5):
        epoch = draw_epoch([planted("BBB2", 2), windows], 1, number)
        mine = epoch.factors == 1
        assert mine.sum() == 2 * draws and (np.bincount(epoch.factors) == [2 * epoch_draws(2), 2 * draws]).all()
        codes, labels = epoch.codes[mine], epoch.labels[mine]
        assert labels[:draws].any(axis=1).all() and not labels[draws:].any()
        assert counts(codes[:draws]) == counts(codes[draws:])  # dinucleotides
        of_window.update(map(bytes, codes[:draws]))
        shuffles += list(map(bytes, codes[draws:]))
        assert of_window.total() == (number + 1) * draws
        assert max(of_window.values()) - min(of_window[bytes(row)] for row in windows.codes) <= 1
    assert len(set(shuffles)) > 0.99 * len(shuffles)


def test_an_epoch_depends_on_seed_and_number_alone():
    sets = [planted("AAA1", 20), planted("BBB2", 9)]
    first, again, later, other = (draw_epoch(sets, *key) for key in ((1, 3), (1, 3), (1, 4), (2, 3)))
    assert all(np.array_equal(one, two) for one, two in zip(first, again))
    assert not np.array_equal(first.codes, later.codes) and not np.array_equal(first.codes, other.codes)


def test_known_sites_are_those_that_overlap():
    rng = np.random.default_rng(2)
    starts, chroms = rng.integers(0, 400, 60), rng.choice(["chr1", "chr2"], 60)
    names = [f"b{row}::{chrom}:{start}-{start + LENGTH}" for row, (chrom, start) in enumerate(zip(chroms, starts))]
    windows = Windows([*names, "nowhere"], np.zeros((61, LENGTH), np.uint8), np.zeros((61, LENGTH), np.uint8))
    sites = [Interval("chr1", int(starts[0]) + LENGTH, int(starts[0]) + LENGTH + 5, "A")]  # beside the first window
    sites.append(Interval("chrX", 0, 500, "A"))
    for _ in range(40):
        start = int(rng.integers(0, 450))
        name = str(rng.choice(["A", "B", "C", "peak", "."], p=[0.4, 0.3, 0.26, 0.02, 0.02]))
        sites.append(Interval(str(rng.choice(["chr1", "chr2"])), start, start + int(rng.integers(1, 12)), name))
    expected = np.zeros((61, 3), dtype=bool)
    for row, (chrom, start) in enumerate(zip(chroms, starts)):
        for site in sites:
            if site.chrom == chrom and site.start < start + LENGTH and site.end > start:
                for factor, name in enumerate("ABC"):
                    expected[row, factor] |= site.name == name or site.name not in ("A", "B", "C")
    assert np.array_equal(known_sites(windows, ["A", "B", "C"], sites), expected)
    assert 0 < expected.mean() < 1


def chroms_of(windows):
    return Counter(name.split("::")[1].split(":")[0] for name in windows.names if "_shuf" not in name)


def test_overlapping_windows_of_two_factors_are_not_divided():
    one, two = planted("AAA1", 200), planted("BBB2", 200)
    two.names = [name.replace("AAA1", "BBB2") for name in one.names]  # the same loci
    others = background(400)
    for seed in range(3):
        data = split_factors({"A": one, "B": two}, Recipe(seed=seed), others, np.zeros((400, 2), dtype=bool))
        kept, held = (
            {name.split("::")[1] for windows in part for name in windows.names if "_shuf" not in name}
            for part in (data.positives, data.validation)
        )
        assert len(kept) + len(held) == 200 and not kept & held and 10 <= len(held) <= 30
        assert not set(data.background.names) & set(data.null_windows.names)
        assert len(data.background) + len(data.null_windows) == 400
        assert len(data.null_known) == len(data.null_windows) > 200 > len(data.known) == len(data.background)


def test_every_factor_has_validation_windows():
    """A few of the windows of a small set, also where a large one shares its loci."""
    small, large = planted("AAA1", 4), planted("BBB2", 300)
    large.names[:3] = [name.replace("AAA1", "BBB2") for name in small.names[:3]]
    for seed in range(8):
        data = split_factors({"B": large, "A": small, "C": planted("CCC3", 25)}, Recipe(seed=seed))
        held = [len(windows) // 2 for windows in data.validation]
        assert held[1] == 1 and held[2] == 3 and 30 <= held[0] <= 31, held


def test_validation_chromosomes():
    genomes = ("hg38.chr8", "chr8", "hg19.chr1")
    for names, chosen, held in (
        (genomes[::2], "chr8", {"hg38.chr8"}),
        (genomes[1:], "chr8", {"chr8"}),
        (genomes, "hg38.chr8", {"hg38.chr8"}),
        (("1", "KI270728.1", "2"), "1", {"1"}),  # of Ensembl: an accession has its version after the dot
        (("KI270728.1", "KI270729.2"), "KI270728.1", {"KI270728.1"}),
        (("hg38.KI270728.1", "hg38.2"), "KI270728.1", {"hg38.KI270728.1"}),
    ):
        data = split_factors({"A": planted("AAA1", 30, chroms=names)}, Recipe(val_chroms=(chosen,)))
        assert set(chroms_of(data.validation[0])) == held, names
        assert set(chroms_of(data.positives[0])) == set(names) - held


def test_windows_that_cannot_be_divided():
    sets = {"A": planted("AAA1", 30), "B": planted("BBB2", 30, chroms=("chr1",))}
    with pytest.raises(UsageError, match="B: none of its 30 windows is left for validation; give more loci, or other"):
        split_factors(sets, Recipe(val_chroms=("chr8",)))
    with pytest.raises(UsageError, match="A: none of its 1 windows is left for training; give more loci$"):
        split_factors({"A": planted("AAA1", 1), "B": sets["B"]}, Recipe())
    others = background(9)
    others.names = [name.replace("chr2:", "chr1:").replace("chr3:", "chr1:") for name in others.names]
    with pytest.raises(UsageError, match="all background windows are held out"):
        split_factors({"A": sets["A"]}, Recipe(val_chroms=("chr1",)), others, np.zeros((9, 1), dtype=bool))


def test_the_recipe_depends_on_the_number_of_factors_and_the_encoder():
    few, many = (Recipe.for_factors(count, ModelDesign()) for count in (4, 200))
    assert (few.batch_size, many.batch_size) == (128, 1024) and (few.learning_rate, many.learning_rate) == (1e-3, 2e-3)
    assert few.epochs == many.epochs == 40 and few.background_ratio == 1
    from_directory = Recipe.for_factors(4, ModelDesign(encoder="DNABERT"), epochs=3)
    assert from_directory.learning_rate == PAPER["learning_rate"] and from_directory.epochs == 3


@pytest.fixture(scope="module")
def trained():
    """A small model of three planted motifs and its history; background windows contain sites of known factors."""
    others = Windows.joined([planted(factor, 60, seed=3) for factor in MOTIFS])
    known = np.repeat(np.eye(3, dtype=bool), 60, axis=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(factors_module, "FACTOR_WINDOWS", 300)
        data = split_factors({factor: planted(factor, 80) for factor in MOTIFS}, Recipe(), others, known)
        recipe = Recipe(epochs=10, batch_size=32, learning_rate=8e-3, warmup=0.1)
        model, history = fit_many(data, DESIGN, recipe, CPU, Checkpoint())
    return model, history


def test_planted_motifs_are_learned_by_their_own_heads(trained):
    model, history = trained
    assert history[-1]["loss"] < 0.5 * history[0]["loss"] and max(row["aupr"] for row in history) > 0.8
    areas = np.zeros((3, 3))
    for row, factor in enumerate(MOTIFS):
        windows = planted(factor, 60, seed=9)
        both = Windows.joined([windows, Windows.unlabelled(list(shuffled_records(windows.records())))])
        for head in range(3):
            _, bases = own_probabilities(model, both.codes, np.full(len(both), head), "fp32")
            areas[row, head] = aupr(both.labels.ravel(), bases.ravel())
    assert (areas.diagonal() > 0.8).all(), areas  # by chance 0.1
    assert (areas.argmax(axis=0) == [0, 1, 2]).all() and (areas.argmax(axis=1) == [0, 1, 2]).all(), areas


def test_background_windows_lower_the_scores_on_background(trained):
    """But not of a factor that may have sites there."""
    model, _ = trained
    labelled = [planted(factor, 40) for factor in MOTIFS]
    repeated = Windows.joined([labelled[0], labelled[1]])  # would be called, by the first and the second factor
    known = np.zeros((80, 3), dtype=bool)
    known[:, 1] = True
    start = {name: value.clone() for name, value in model.state_dict().items()}

    def mean_scores(given, weight):
        model.load_state_dict(start)
        recipe = Recipe(epochs=1, batch_size=32, learning_rate=1e-3, background_ratio=weight)
        data = FactorData(list(MOTIFS), labelled, labelled, *given)
        ManyFactorTrainer(model, recipe, data).train_epoch(
            draw_epoch([part.take(np.arange(2)) for part in labelled], 1, 0), 0
        )
        scores = [
            own_probabilities(model, labelled[head].codes, np.full(40, head), "fp32")[1].mean() for head in (0, 1)
        ]
        model.load_state_dict(start)
        return scores

    without, unweighted, weighted = (
        mean_scores(*case) for case in (((), 1.0), ((repeated, known), 0.0), ((repeated, known), 5.0))
    )
    assert without == unweighted
    assert weighted[0] < 0.7 * without[0] and weighted[1] > 0.8 * without[1], (without, weighted)


class Interrupted:
    """Raises KeyboardInterrupt in the n-th call of a function."""

    def __init__(self, function, number):
        self.function, self.left = function, number

    def __get__(self, instance, owner=None):
        return lambda *arguments: self(instance, *arguments)

    def __call__(self, *arguments):
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt
        return self.function(*arguments)


OPTIONS = ["-q", "--encoder", "new", "--precision", "fp32", "--device", "cpu", "-@", 1]


@pytest.mark.parametrize(
    ("options", "place", "number"),
    [
        (["--epochs", 3, "--background", "bg.fa"], (ManyFactorTrainer, "train_epoch"), 2),
        (["--epochs", 5, "--patience", 1, "--lr", 1e-12], (ManyFactorRun, "describe"), 1),  # after the last epoch
        (["--epochs", 3, "--teacher", "teachers.pt"], (ManyFactorTrainer, "train_epoch"), 3),
    ],
)
def test_an_interrupted_run_resumes_to_the_same_bytes(here, run_here, monkeypatch, options, place, number):
    monkeypatch.setattr(factors_module, "FACTOR_WINDOWS", 12)
    (here / "bg.fa").write_text(fasta(background(40)))
    save_model("teachers.pt", ManyFactorModel([DESIGN.info(factor, planted(factor, 3)) for factor in MOTIFS]))
    line = ["train", *OPTIONS, *options, "AAA1.fa", "BBB2.fa"]
    whole = run_here(*line, "-o", "whole.pt", "--json", "whole.json")
    assert (whole.status, whole.err) == (0, ""), whole.err
    with monkeypatch.context() as patch:
        patch.setattr(*place, Interrupted(getattr(*place), number))
        assert run_here(*line, "-o", "broken.pt").status == 130
    assert (here / "broken.pt.ckpt").exists() and not (here / "broken.pt").exists()
    assert run_here(*line, "-o", "broken.pt", "--resume", "--json", "broken.json").status == 0
    assert (here / "broken.pt").read_bytes() == (here / "whole.pt").read_bytes()
    assert (here / "broken.json").read_text() == (here / "whole.json").read_text()
    assert not (here / "broken.pt.ckpt").exists()
    if "--patience" in options:
        assert len(json.loads((here / "whole.json").read_text())["epochs"]) < 5
    assert run_here(*line, "-o", "broken.pt").status == 0  # the file is replaced


def test_the_command_writes_a_model_of_many_factors(here, run_here, monkeypatch):
    """Names, widths, thresholds, metrics, null distributions where possible, and sites called with them."""
    monkeypatch.setattr(factors_module, "FACTOR_WINDOWS", 12)
    others = background(2200)
    (here / "bg.fa").write_text(fasta(others))
    (here / "known.bed").write_text("chr1\t0\t2000000\tBBB2\nchr2\t0\t2000000\tBBB2\nchr3\t900000\t900001\tpeaks\n")
    options = [
        *OPTIONS[1:],
        "--epochs",
        1,
        "--background",
        "bg.fa",
        "--exclude",
        "known.bed",
        "--background-ratio",
        0.5,
    ]
    outcome = run_here("train", *options, "-o", "m.pt", "--json", "m.json", "AAA1.fa", "X=BBB2.fa", "BBB2=CCC3.fa")
    assert outcome.status == 0 and "3 factors, " in outcome.err and "m.pt: the model of epoch 1" in outcome.err
    assert "1 factors have fewer than 1000 background windows for p-values and report none: BBB2" in outcome.err
    models = load_factors(str(here / "m.pt"))
    assert [(model.info.name, model.info.site_width) for model in models] == [("AAA1", 9), ("X", 9), ("BBB2", 8)]
    assert [bool(model.info.null) for model in models] == [True, True, False]
    assert [bool(model.info.variant_null) for model in models] == [True, True, False]
    report = json.loads((here / "m.json").read_text())
    assert report["version"] == 2 and [row["epoch"] for row in report["epochs"]] == [1]
    assert report["recipe"]["background_ratio"] == 0.5 and report["recipe"]["batch_size"] == 96
    for model, row in zip(models, report["factors"]):
        training = model.info.training
        assert (model.info.threshold, model.info.window, model.info.k) == (0.5, LENGTH, 3)
        assert training["data"]["positives"] + training["data"]["validation"] // 2 == 12
        assert training["data"]["encoder"] == "new" and training["data"]["excluded"] == ["known.bed"]
        assert set(row) == {"name", "site_width", "data", "nucleotide", "sequence"}
        assert row["nucleotide"] == training["validation"]["nucleotide"] and 0 < row["nucleotide"]["aupr"] <= 1
        assert (row["name"], row["data"]) == (model.info.name, training["data"])
    called = run_here("predict", "-q", "-m", "m.pt:AAA1,X", "-t", "p=0.3", "bg.fa")
    assert called.status == 0 and {line.split("\t")[3] for line in called.out.splitlines()} <= {"AAA1", "X"}
    assert called.out and model_encoder(str(here / "m.pt")).k == 3
    refused = run_here("predict", "-q", "-m", "m.pt:BBB2", "-t", "p=0.3", "bg.fa")
    assert refused.status == 2 and "does not report p-values" in refused.err


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        ("-n AAA1.fa AAA1.fa BBB2.fa", 2, "-n: only for a model of one factor; leave it out"),
        ("--prefilter sets", 2, "--prefilter: only for a model of one factor"),
        ("--name X --folds 3 X=AAA1.fa", 2, "--name, --folds: only for a model of one factor"),
        ("--by-name --plot x.png --hard-negatives all.fa", 2, "--plot, --hard-negatives: only for a model of one"),
        ("--swap 0 sets", 2, "--swap: only for a model of one factor"),
        ("--arch deepsnr sets", 2, "--arch: only for a model of one factor"),
        ("--background-ratio 2 sets", 2, "--background-ratio: only with background windows; add -f or --background"),
        ("--exclude k.bed sets", 2, "--exclude: only with background windows; add -f or --background"),
        ("-f g.fa --background bg.fa sets", 2, "give -f or --background, not both"),
        ("X=- Y=-", 2, "standard input (-) is given twice"),
        ("empty", 1, "empty: no FASTA files"),
        ("sets nothere.fa", 1, "nothere.fa: No such file or directory"),
        ("X=short.fa Y=AAA1.fa", 1, "AAA1.fa: record 'AAA1::chr1:"),
        ("AAA1.fa bg.fa", 1, "bg.fa: record 'b0::chr1:900000-900040' has no site=a-b in its header"),
        ("--by-name nameless.fa", 1, "nameless.fa: record 'w' does not name its factor; expected TF::chrom:start-end"),
        (
            "--background bg.fa --exclude k.bed sets",
            1,
            "k.bed: all intervals are elsewhere than the background windows",
        ),
        ("--val-chroms chr5 sets", 2, "none of its 12 windows is left for validation; give more loci, or other"),
        ("-o AAA1.fa AAA1.fa BBB2.fa", 2, "AAA1.fa: is also an input"),
        ("-o sets/AAA1.fa.gz sets", 2, "sets/AAA1.fa.gz: is also an input"),
        ("-o nowhere/m.pt sets", 1, "nowhere/m.pt: output directory does not exist"),
        ("--json m.pt sets", 2, "m.pt: is given for two outputs"),
    ],
)
def test_errors_are_one_line(here, run_here, arguments, status, text):
    (here / "bg.fa").write_text(fasta(background(10)))
    (here / "k.bed").write_text("chrZ\t5\t10\n")
    (here / "short.fa").write_text(">w::chr1:5-25 site=1-9\n" + "ACGTT" * 4 + "\n")
    (here / "nameless.fa").write_text(">w site=1-9\n" + "ACGTT" * 4 + "\n")
    output = [] if "-o" in arguments else ["-o", "m.pt"]
    outcome = run_here("train", "-q", *output, *arguments.split())
    assert (outcome.status, outcome.out) == (status, "") and text in outcome.err
    assert outcome.err.count("\n") == 1 and not (here / "m.pt").exists()


def test_training_starts_from_the_encoder_of_the_shipped_model(many_factor_file, monkeypatch, tmp_path):
    shipped = tmp_path / "human.pt"
    shipped.write_bytes(many_factor_file.read_bytes())
    monkeypatch.setattr("bertsnr_tools.models.pretrained.WEIGHTS", tmp_path)
    encoder, model = shipped_encoder(3), load_factors(str(shipped))[0]
    assert encoder.k == 3 and shipped_encoder(4) is None and encoder.config == model.info.encoder
    started = ModelDesign.choose().model(ModelDesign.choose().info("X", planted("AAA1", 5)))
    for name, value in model.encoder.state_dict().items():
        assert torch.equal(value, encoder.weights[name]) and torch.equal(value, started.encoder.state_dict()[name])
