import math
import random

import numpy as np
import pytest
import torch

from bertsnr_tools.errors import DataError, UsageError
from bertsnr_tools.io.fasta import Genome, Record
from bertsnr_tools.models.bertsnr import BertSNR, token_ids
from bertsnr_tools.models.device import Runtime
from bertsnr_tools.predict.significance import log_odds, window_call_levels
from bertsnr_tools.sequence.encoding import reverse_complement_codes
from bertsnr_tools.sequence.windows import Windows, site_width
from bertsnr_tools.training.checkpoint import Checkpoint, digest
from bertsnr_tools.training.config import PAPER, ModelDesign, Recipe, default_epochs, default_swap_fraction
from bertsnr_tools.training.cross_validation import cross_validate
from bertsnr_tools.training.data import TrainingInputs, in_share, seed_of, split_data, swap_sites
from bertsnr_tools.training.distillation import teacher_targets
from bertsnr_tools.training.fit import fit, validate
from bertsnr_tools.training.optimization import adamw, scheduled_rate, two_task_loss
from bertsnr_tools.training.run import TrainingRun, train_model

CPU = torch.device("cpu")


def toy_windows(n, seed=0, length=40, motif="GATTACA"):
    """Windows with one motif each, on loci 1 kb apart."""
    rng = random.Random(seed)
    records, labels = [], np.zeros((n, length), dtype=np.uint8)
    for i in range(n):
        at = rng.randrange(length - len(motif))
        text = "".join(rng.choices("ACGT", k=length))
        records.append(
            Record(
                f"w{i}::chr{i % 4}:{1000 * i}-{1000 * i + length}(+)",
                "",
                (text[:at] + motif + text[at + len(motif) :]).encode(),
            )
        )
        labels[i, at : at + len(motif)] = 1
    windows = Windows.unlabelled(records)
    return Windows(windows.names, windows.codes, labels)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def checkpoint(tmp_path):
    return Checkpoint(str(tmp_path / "c.ckpt"), "key", False)


def split(windows, *, negatives=None, background=None, seed=1, **recipe):
    """Training and validation data; `recipe` are fields that the split depends on."""
    return split_data(TrainingInputs(windows, negatives, background), Recipe(seed=seed, **recipe))


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values()))


def test_a_motif_is_learned_and_one_seed_gives_one_model(checkpoint):
    windows = toy_windows(240)
    data = split(windows, val_fraction=0.2)
    recipe = Recipe(epochs=8)
    first = fit("toy", ModelDesign(), recipe, data, CPU, checkpoint)
    assert first.history[0]["aupr"] < 0.5 < 0.9 < max(row["aupr"] for row in first.history)
    assert first.scores.shape == (len(data.validation), 40)
    checkpoint.fit = None
    again = fit("toy", ModelDesign(), recipe, data, CPU, checkpoint)
    assert same(first.model, again.model) and first.history == again.history
    checkpoint.fit = None
    other = fit("toy", ModelDesign(), Recipe(epochs=1, seed=2), data, CPU, checkpoint)
    assert not same(first.model, other.model)


class Killed(Exception):
    pass


@pytest.mark.parametrize("given", [False, True])
def test_a_resumed_run_gives_the_model_of_an_unbroken_one(tmp_path, monkeypatch, given):
    windows = toy_windows(60)
    negatives = Windows(windows.names, windows.codes[:, ::-1].copy(), windows.labels * 0) if given else None
    data, recipe = split(windows, negatives=negatives, val_fraction=0.2), Recipe(epochs=4)
    whole = fit("toy", ModelDesign(), recipe, data, CPU, Checkpoint(str(tmp_path / "a"), "key", False))
    save = Checkpoint.save

    def save_and_die(self, state):
        save(self, state)
        if len(state["history"]) == 2:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Checkpoint, "save", save_and_die)
        fit("toy", ModelDesign(), recipe, data, CPU, Checkpoint(str(tmp_path / "b"), "key", False))
    resumed = fit("toy", ModelDesign(), recipe, data, CPU, Checkpoint(str(tmp_path / "b"), "key", True))
    assert same(whole.model, resumed.model) and whole.history == resumed.history


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    path = tmp_path / "x.ckpt"
    Checkpoint(str(path), "key", False).save(None)
    Checkpoint(str(path), "key", True)
    with pytest.raises(DataError, match=r"x\.ckpt: was made with other data or options"):
        Checkpoint(str(path), "other", True)
    path.write_text("nothing")
    with pytest.raises(DataError, match=r"x\.ckpt: is not a bertsnr_tools checkpoint"):
        Checkpoint(str(path), "key", True)
    assert Checkpoint(str(tmp_path / "none"), "key", True).fit is None


def test_the_digest_sees_every_base_label_and_option():
    a, b = toy_windows(5), toy_windows(5)
    start = digest(a, None, k=3)
    assert start == digest(b, None, k=3) != digest(b, None, k=4)
    b.labels[0, 0] ^= 1
    assert digest(b, None, k=3) != start != digest(a, a, k=3)


def test_validation_keeps_loci_together_and_negatives_with_their_source():
    windows = toy_windows(200)
    windows.names[1::2] = [name.replace("w", "v") for name in windows.names[::2]]  # pairs at one place
    shuffles = Windows([f"{name}_shuf1" for name in windows.names], windows.codes, windows.labels * 0)
    data = split(windows, negatives=shuffles)
    train, held = (
        {name.split("::")[1].removesuffix("_shuf1") for part in parts for name in part.names}
        for parts in ((data.positives, data.negatives), (data.validation,))
    )
    assert not train & held and len(held) == 10 and len(data.validation) == 40
    by_chrom = split(windows, val_chroms=("chr2",))
    assert {name.split(":")[2] for name in by_chrom.validation.names} == {"chr2"}
    assert not {name.split(":")[2] for name in by_chrom.positives.names} & {"chr2"}
    for chroms in (("chr9",), ("chr0", "chr1", "chr2", "chr3")):
        with pytest.raises(UsageError, match="cannot be divided"):
            split(windows, val_chroms=chroms)
    with pytest.raises(UsageError, match="cannot be divided"):
        split(toy_windows(1))


def test_each_epoch_has_new_shuffles_but_one_validation_set():
    windows = toy_windows(40)
    data = split(windows)
    first, second = data.epoch(0, Recipe()), data.epoch(1, Recipe())
    half = len(data.positives)
    assert (first.codes[:half] == second.codes[:half]).all() and (first.codes[half:] != second.codes[half:]).any()
    assert (data.epoch(0, Recipe()).codes == first.codes).all()
    assert (
        not first.labels[half:].any()
        and (np.sort(first.codes[half:], axis=1) == np.sort(first.codes[:half], axis=1)).all()
    )


def test_swapped_sites_stay_in_their_places_and_nothing_else_changes():
    windows = toy_windows(300)
    rows = np.arange(300)
    windows.codes[windows.labels == 1] = np.repeat(rows % 4, 7)  # sites that can be told apart
    again = swap_sites(windows, 0.5, "x")
    assert again.names == windows.names and np.array_equal(again.codes, swap_sites(windows, 0.5, "x").codes)
    assert np.array_equal(again.labels, windows.labels) and np.array_equal(
        again.codes[again.labels == 0], windows.codes[windows.labels == 0]
    )
    sites = again.codes[again.labels == 1].reshape(300, 7)
    assert (sites == sites[:, :1]).all()
    assert 0.3 < (sites[:, 0] != rows % 4).mean() < 0.45  # of those chosen, a quarter gets a site like its own
    assert (swap_sites(windows, 1, "x").codes != swap_sites(windows, 1, "y").codes).any()


def test_sites_are_swapped_with_those_of_their_own_shape():
    """Windows with one site and with two; a site with the width of no other stays as it is."""
    windows = toy_windows(41)
    windows.labels[1:40:2, :] = 0
    windows.labels[1:40:2, 3:8] = windows.labels[1:40:2, 20:23] = 1
    windows.labels[40] = 0
    windows.labels[40, 5:16] = 1
    again = swap_sites(windows, 1, "x")
    assert np.array_equal(again.codes[40], windows.codes[40])
    pairs = {row[3:23].tobytes() for row in windows.codes[1:40:2]}
    assert (
        all(row[3:23].tobytes() in pairs for row in again.codes[1:40:2])
        and (again.codes[1:40:2] != windows.codes[1:40:2]).any()
    )
    site = windows.codes[0][windows.labels[0] == 1]
    assert all((row[label == 1] == site).all() for row, label in zip(again.codes[:40:2], again.labels[:40:2]))


def test_every_epoch_swaps_other_sites():
    windows = toy_windows(60)
    windows.codes[windows.labels == 1] = np.repeat(np.arange(60) % 4, 7)
    data = split(windows)
    first, second = (data.epoch(number, Recipe(swap_fraction=0.5)) for number in (0, 1))
    half = len(data.positives)
    assert (first.codes[:half] != second.codes[:half]).any() and (first.codes[:half] != data.positives.codes).any()
    assert (
        np.array_equal(data.epoch(0, Recipe(swap_fraction=0.5)).codes, first.codes)
        and first.labels[:half].any(axis=1).all()
    )
    assert [default_swap_fraction(count) for count in (400, 1000, 5000)] == [0.5, 0.5, 0.1]


def test_validation_loss_is_the_weighted_sum_of_both_tasks(toy_model):
    windows = toy_windows(8, length=100)
    weights = toy_model.state_dict()
    losses = {
        w: validate(toy_model, weights, Recipe(task_weight=w), windows)[1]["validation_loss"] for w in (0.0, 0.15, 1.0)
    }
    assert losses[0.15] == pytest.approx(0.15 * losses[1.0] + 0.85 * losses[0.0])
    assert losses[0.0] != losses[1.0]


def test_single_task_leaves_the_sequence_head_alone(checkpoint):
    windows = toy_windows(40)
    data = split(windows, val_fraction=0.2)
    torch.manual_seed(seed_of(1, "weights"))
    fresh = BertSNR(ModelDesign().info("toy", windows))
    model = fit("toy", ModelDesign(), Recipe(epochs=1, task_weight=0.0), data, CPU, checkpoint).model
    # only weight decay has touched it
    assert torch.allclose(model.sequence_head.weight, fresh.sequence_head.weight, rtol=1e-3)
    assert not torch.allclose(model.token_head.weight, fresh.token_head.weight, rtol=1e-3)


def test_learning_rate_rises_and_falls():
    assert [scheduled_rate(1.0, 0.1, done) for done in (0, 0.05, 0.1, 0.55, 1)] == pytest.approx([0, 0.5, 1, 0.5, 0])
    assert scheduled_rate(2.0, 0.0, 0.25) == 1.5
    assert scheduled_rate(1.0, 0.1, 1, before=0.91) == pytest.approx(0.1)


def test_biases_and_norms_have_no_weight_decay(toy_model):
    decayed, others = adamw(toy_model, 1e-3, 0.01).param_groups
    assert decayed["weight_decay"] == 0.01 and others["weight_decay"] == 0.0
    assert all(parameter.ndim > 1 for parameter in decayed["params"])
    assert all(parameter.ndim == 1 for parameter in others["params"])
    assert len(decayed["params"]) + len(others["params"]) == len(list(toy_model.parameters()))


def test_the_loss_is_the_weighted_sum_of_two_cross_entropies():
    logits, targets = (torch.tensor([0.0]), torch.tensor([[0.0, 0.0]])), (torch.ones(1), torch.zeros(1, 2))
    assert float(two_task_loss(logits, targets, 0.15)) == pytest.approx(math.log(2))
    certain = (torch.tensor([100.0]), logits[1])
    assert float(two_task_loss(certain, targets, 0.15)) == pytest.approx(0.85 * math.log(2))


@pytest.mark.parametrize("fraction", [0.02, 0.1, 0.15, 0.22, 1 / 3, 0.4, 0.45, 0.5])
def test_the_fraction_that_is_held_out(fraction):
    ranks = np.arange(900)
    held = in_share(ranks, fraction)
    assert abs(held.mean() - fraction) < 0.004 and held[0]
    few = [in_share(ranks[:count], fraction).sum() for count in range(1, 40)]
    assert all(abs(number - fraction * count) < 1 for count, number in enumerate(few, 1))  # evenly spaced


def test_windows_for_p_values_do_not_overlap_windows_trained_on(caplog):
    """Background windows that overlap each other or a positive window, as of two files that were joined."""
    rng = np.random.default_rng(4)
    starts = [*range(0, 40_000, 200), *range(30, 40_030, 200), *range(100_000, 130_000, 100)]
    codes = rng.integers(0, 4, (len(starts), 40)).astype(np.uint8)
    names = [f"b::chr1:{start}-{start + 40}(+)" for start in starts]
    background = Windows(names, codes, np.zeros_like(codes))
    positives = toy_windows(20)
    positives.names[:] = [f"p::chr1:{120_000 + 500 * n}-{120_040 + 500 * n}(+)" for n in range(20)]
    data = split_data(TrainingInputs(positives, background=background), Recipe(val_fraction=0.2))
    null, trained = (set(windows.names) for windows in (data.null_windows, data.background))
    at = [int(name.split(":")[3].split("-")[0]) for name in [*trained, *positives.names]]
    distances = [abs(int(name.split(":")[3].split("-")[0]) - other) for name in null for other in at]
    assert len(null) > 100 and min(distances) >= 40
    of_positives = {f"b::chr1:{120_000 + 500 * n}-{120_040 + 500 * n}(+)" for n in range(20)}
    assert not of_positives & {*trained, *data.validation.names} and of_positives < {*names}
    assert "20 of 700 background windows overlap positive windows and are left out" in caplog.text
    assert "background windows overlap training windows and are left out of the p-values" in caplog.text


def test_early_stopping(checkpoint, monkeypatch):
    windows = toy_windows(20)
    data = split(windows, val_fraction=0.2)
    monkeypatch.setattr("bertsnr_tools.training.fit.aupr", lambda labels, scores: 0.5)
    result = fit("toy", ModelDesign(), Recipe(epochs=9, patience=2), data, CPU, checkpoint)
    assert len(result.history) == 3


def test_cross_validation_tests_every_window_once(checkpoint):
    windows = toy_windows(30)
    inputs, recipe = TrainingInputs(windows), Recipe(epochs=1, val_fraction=0.2)
    folds = cross_validate("toy", ModelDesign(), recipe, inputs, 3, CPU, checkpoint)
    assert [fold["windows"] for fold in folds] == [20, 20, 20]
    assert all(0 <= fold["nucleotide"]["aupr"] <= 1 and math.isfinite(fold["sequence"]["auc"]) for fold in folds)
    with pytest.raises(UsageError, match="--folds 40: the positive windows cover only"):
        cross_validate("toy", ModelDesign(), recipe, inputs, 40, CPU, checkpoint)


def test_site_width_and_epochs():
    assert site_width(toy_windows(5)) == 7
    assert [default_epochs(windows, 32, False) for windows in (16_000, 6656, 100)] == [10, 20, 30]
    assert [default_epochs(windows, 32, True) for windows in (16_000, 3200, 100)] == [8, 15, 40]


def background_windows(n, seed=9, length=40):
    """Random windows on loci of their own."""
    rng = random.Random(seed)
    spans = [(500_000 + 1000 * i, 500_000 + 1000 * i + length) for i in range(n)]
    names = [f"natural::chr{i % 4}:{start}-{end}(+)" for i, (start, end) in enumerate(spans)]
    return Windows.unlabelled([Record(name, "", "".join(rng.choices("ACGT", k=length)).encode()) for name in names])


def test_background_windows_are_divided_and_drawn_again_in_every_epoch():
    windows, background = toy_windows(100), background_windows(2000)
    data = split(windows, background=background, background_ratio=3.0)
    train, null = set(data.background.names), set(data.null_windows.names)
    held = {name for name in data.validation.names if name.startswith("natural")}
    assert len(train) + len(null) + len(held) == 2000 == len(train | null | held)
    # three for each of ten positives; half of the 1,800 that are not held out
    assert len(held) == 30 and len(train) == 900
    recipe = Recipe(background_ratio=4.0)
    first, second = data.epoch(0, recipe), data.epoch(1, recipe)
    assert len(first) == 90 + 90 + 360 == data.epoch_size(4.0) and not first.labels[90:].any()
    drawn = [set(epoch.names[180:]) for epoch in (first, second)]
    assert all(len(names) == 360 and names <= train for names in drawn) and drawn[0] != drawn[1]
    assert data.epoch(0, recipe).names == first.names
    few = data._replace(background=background_windows(7))
    assert len(few.epoch(0, recipe)) == 180 + 7 == few.epoch_size(4.0)
    by_chrom = split(windows, background=background, background_ratio=3.0, val_chroms=("chr2",))
    assert not any(":chr2:" in name for name in by_chrom.background.names)
    assert any(":chr2:" in name for name in by_chrom.null_windows.names)
    with pytest.raises(UsageError, match="all background windows are held out"):
        split(windows, background=background_windows(1), background_ratio=3.0)


def training_run(windows, *, background=None, teachers=(), **recipe):
    recipe = {"val_fraction": 0.2, "background_ratio": 1.0} | recipe
    return TrainingRun("toy", TrainingInputs(windows, None, background, teachers), ModelDesign(), Recipe(**recipe), CPU)


def test_the_second_model_is_trained_with_what_the_first_scores_highest(tmp_path, monkeypatch):
    lures = toy_windows(40, seed=5)  # the motif without a label
    lures.names[:] = [f"lure{i}" for i in range(len(lures))]
    background = Windows.joined([background_windows(600), Windows(lures.names, lures.codes, lures.labels * 0)])
    run = training_run(toy_windows(120), background=background, epochs=3, background_ratio=0.5, hard_negatives=True)
    whole = run.train(Checkpoint())
    counts = whole.model.info.training["data"]
    trained = run.data.background
    assert counts["background"] == len(trained) and counts["hard_negatives"] == len(trained) // 10

    def save_and_die(self, state, save=Checkpoint.save):
        save(self, state)
        if self.hard_negatives is not None and state and len(state["history"]) == 1:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Checkpoint, "save", save_and_die)
        run.train(Checkpoint(str(tmp_path / "b"), run.key()))
    left = Checkpoint(str(tmp_path / "b"), run.key(), True)
    fraction = np.mean([name.startswith("lure") for name in left.hard_negatives.names])
    assert fraction > 3 * np.mean([name.startswith("lure") for name in trained.names])
    resumed = run.train(left)
    assert same(whole.model, resumed.model) and whole.history == resumed.history


def test_enough_background_windows_give_p_values(caplog):
    run = training_run(toy_windows(60), background=background_windows(2400), epochs=1)
    info = run.train(Checkpoint()).model.info
    assert info.null["windows"] == len(run.data.null_windows) > 1000 and info.null["width"] == 40
    assert info.variant_null["substitutions"] == info.null["windows"]
    run.data = run.data._replace(null_windows=background_windows(999))
    without = run.train(Checkpoint()).model.info
    assert not without.null and not without.variant_null
    assert "999 background windows are left for p-values (at least 1000 required)" in caplog.text


def test_a_student_learns_from_its_teacher_instead_of_the_labels():
    windows = toy_windows(240)
    data, recipe = split(windows, val_fraction=0.2), Recipe(epochs=8)
    teacher = fit("toy", ModelDesign(), recipe, data, CPU, Checkpoint()).model
    ids = token_ids(windows.codes[:5], 3)
    other = ModelDesign().model(teacher.info).eval()
    logits = [model(ids) for model in (teacher, other)]
    readers = [model.inference_function("fp32") for model in (teacher, other)]
    for task, probabilities in enumerate(teacher_targets(readers, ids)):
        assert torch.allclose(probabilities, torch.sigmoid((logits[0][task] + logits[1][task]) / 2), atol=1e-4)
    positives = data.positives
    wrong = Windows(positives.names, positives.codes, positives.labels[:, ::-1].copy())
    alone = fit("toy", ModelDesign(), recipe, data._replace(positives=wrong), CPU, Checkpoint())
    taught = data._replace(positives=wrong, teachers=(teacher,))
    student = fit("toy", ModelDesign(), recipe, taught, CPU, Checkpoint())
    assert max(row["aupr"] for row in alone.history) < 0.5 < 0.9 < max(row["aupr"] for row in student.history)


def test_teachers_find_the_hard_negatives_without_a_first_model(monkeypatch):
    windows = toy_windows(60)
    info = ModelDesign().info("toy", windows)
    teachers = tuple(ModelDesign().model(info).eval() for _ in range(2))
    background = background_windows(300)
    run = training_run(windows, background=background, teachers=teachers, epochs=1, hard_negatives=True)
    fits = []
    monkeypatch.setattr("bertsnr_tools.training.run.fit", lambda *arguments: fits.append(1) or fit(*arguments))
    checkpoint = Checkpoint()
    run.train(checkpoint)
    assert len(fits) == 1
    trained = run.data.background
    both = np.concatenate([trained.codes, reverse_complement_codes(trained.codes)])
    doubled = Windows([*trained.names, *trained.names], both, np.zeros_like(both))
    runtime = Runtime(batch_size=64)
    one, two = (log_odds(window_call_levels(model, doubled, runtime, both_strands=False)) for model in teachers)
    found = checkpoint.hard_negatives.codes
    assert len(found) == len(trained) // 10
    highest = np.argsort(-(one + two))[: len(found)]
    assert {codes.tobytes() for codes in found} == {both[row].tobytes() for row in highest}


def test_defaults_depend_on_the_data_and_the_encoder():
    data = split(toy_windows(100))
    new = Recipe.resolve(data, ModelDesign())
    assert (new.epochs, new.swap_fraction, new.learning_rate, new.ema_decay) == (30, 0.5, 1e-3, 0.99)
    assert Recipe.resolve(data, ModelDesign.choose()).epochs == 40
    paper = Recipe.resolve(data, ModelDesign(encoder="dnabert/"), seed=3)
    assert paper == Recipe(**PAPER, seed=3) and paper.swap_fraction == 0
    baseline = Recipe.resolve(data, ModelDesign("deepsnr", 1), task_weight=0.15, epochs=2)
    assert (baseline.task_weight, baseline.epochs) == (0.0, 2)


def test_training_from_python_writes_nothing_and_leaves_the_random_state(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    windows = toy_windows(60)
    torch.manual_seed(9)
    before = torch.random.get_rng_state()
    model = train_model(windows, recipe={"epochs": 1}, design=ModelDesign(), name="X")
    assert torch.equal(before, torch.random.get_rng_state()) and not list(tmp_path.iterdir())
    assert (model.info.name, model.info.window, model.training) == ("X", 40, False)
    assert model.info.training["recipe"]["swap_fraction"] == 0.5
    again = train_model(windows, recipe={"epochs": 1}, design=ModelDesign(), checkpoint=str(tmp_path / "c.ckpt"))
    assert same(model, again) and not list(tmp_path.iterdir())
    other = train_model(windows, recipe=Recipe(epochs=1, seed=2), design=ModelDesign())
    assert not same(model, other)


def test_a_genome_gives_background_windows(genome):
    source = Genome(str(genome))
    chrom, size = next(iter(source.lengths.items()))
    windows = toy_windows(30)
    windows.names[:] = [f"w{i}::{chrom}:{size // 31 * i}-{size // 31 * i + 40}(+)" for i in range(30)]
    model = train_model(windows, background=source, recipe={"epochs": 1, "background_ratio": 0.5}, design=ModelDesign())
    assert model.info.training["data"]["background"] > 500 and model.info.null["width"] == 40
    windows.names[3] = "w3::chrZ:5-45(+)"
    with pytest.raises(UsageError, match="'w3::chrZ:5-45"):
        train_model(windows, background=source, recipe={"epochs": 1}, design=ModelDesign())
