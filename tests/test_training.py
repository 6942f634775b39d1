import math
import random

import numpy as np
import pytest
import torch

from bertsnr_tools.errors import DataError, UsageError
from bertsnr_tools.io.fasta import Record
from bertsnr_tools.models.bertsnr import BertSNR, token_ids
from bertsnr_tools.predict.significance import log_odds, window_call_levels
from bertsnr_tools.sequence.encoding import reverse_complement_codes
from bertsnr_tools.sequence.windows import Windows, site_width
from bertsnr_tools.train.checkpoint import Checkpoint, digest
from bertsnr_tools.train.config import ModelDesign, Recipe, default_epochs, default_swap_fraction
from bertsnr_tools.train.cross_validation import cross_validate
from bertsnr_tools.train.data import seed_of, split_data, swap_sites
from bertsnr_tools.train.fit import _learning_rate, _validate, fit, teacher_targets, train

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


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values()))


def test_a_motif_is_learned_and_one_seed_gives_one_model(checkpoint):
    windows = toy_windows(240)
    data = split_data(windows, None, set(), 0.2, 1)
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
    data, recipe = split_data(windows, negatives, set(), 0.2, 1), Recipe(epochs=4)
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
    with pytest.raises(DataError, match=r"x\.ckpt: is no bertsnr_tools checkpoint"):
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
    data = split_data(windows, shuffles, set(), 0.1, 1)
    strip = lambda names: {name.split("::")[1].removesuffix("_shuf1") for name in names}
    train, held = strip(data.positives.names) | strip(data.negatives.names), strip(data.validation.names)
    assert not train & held and len(held) == 10 and len(data.validation) == 40
    by_chrom = split_data(windows, None, {"chr2"}, 0.1, 1)
    assert {name.split(":")[2] for name in by_chrom.validation.names} == {"chr2"}
    assert not {name.split(":")[2] for name in by_chrom.positives.names} & {"chr2"}
    for chroms in ({"chr9"}, {"chr0", "chr1", "chr2", "chr3"}):
        with pytest.raises(UsageError, match="cannot be divided"):
            split_data(windows, None, chroms, 0.1, 1)
    with pytest.raises(UsageError, match="cannot be divided"):
        split_data(toy_windows(1), None, set(), 0.1, 1)


def test_each_epoch_has_new_shuffles_but_one_validation_set():
    windows = toy_windows(40)
    data = split_data(windows, None, set(), 0.1, 1)
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


def test_every_epoch_swaps_anew():
    windows = toy_windows(60)
    windows.codes[windows.labels == 1] = np.repeat(np.arange(60) % 4, 7)
    data = split_data(windows, None, set(), 0.1, 1)
    first, second = (data.epoch(number, Recipe(swap=0.5)) for number in (0, 1))
    half = len(data.positives)
    assert (first.codes[:half] != second.codes[:half]).any() and (first.codes[:half] != data.positives.codes).any()
    assert np.array_equal(data.epoch(0, Recipe(swap=0.5)).codes, first.codes) and first.labels[:half].any(axis=1).all()
    assert [default_swap_fraction(count) for count in (400, 1000, 5000)] == [0.5, 0.5, 0.1]


def test_loss_is_the_weighted_sum_of_both_tasks(toy_model):
    windows = toy_windows(8, length=100)
    weights = toy_model.state_dict()
    losses = {
        w: _validate(toy_model, weights, Recipe(task_weight=w), windows)[1]["validation_loss"] for w in (0.0, 0.15, 1.0)
    }
    assert losses[0.15] == pytest.approx(0.15 * losses[1.0] + 0.85 * losses[0.0])
    assert losses[0.0] != losses[1.0]


def test_single_task_leaves_the_sequence_head_alone(checkpoint):
    windows = toy_windows(40)
    data = split_data(windows, None, set(), 0.2, 1)
    torch.manual_seed(seed_of(1, "weights"))
    fresh = BertSNR(ModelDesign().info("toy", windows))
    model = fit("toy", ModelDesign(), Recipe(epochs=1, task_weight=0.0), data, CPU, checkpoint).model
    # only weight decay has touched it
    assert torch.allclose(model.sequence_head.weight, fresh.sequence_head.weight, rtol=1e-3)
    assert not torch.allclose(model.token_head.weight, fresh.token_head.weight, rtol=1e-3)


def test_learning_rate_rises_and_falls():
    recipe = Recipe(learning_rate=1.0, warmup=0.1)
    assert [_learning_rate(recipe, done) for done in (0, 0.05, 0.1, 0.55, 1)] == pytest.approx([0, 0.5, 1, 0.5, 0])


def test_early_stopping(checkpoint, monkeypatch):
    windows = toy_windows(20)
    data = split_data(windows, None, set(), 0.2, 1)
    monkeypatch.setattr("bertsnr_tools.train.fit.aupr", lambda labels, scores: 0.5)
    result = fit("toy", ModelDesign(), Recipe(epochs=9, patience=2), data, CPU, checkpoint)
    assert len(result.history) == 3


def test_cross_validation_tests_every_window_once(checkpoint):
    windows = toy_windows(30)
    folds = cross_validate("toy", ModelDesign(), Recipe(epochs=1), windows, None, None, 3, 0.2, CPU, checkpoint)
    assert [fold["windows"] for fold in folds] == [20, 20, 20]
    assert all(0 <= fold["nucleotide"]["aupr"] <= 1 and math.isfinite(fold["sequence"]["auc"]) for fold in folds)
    with pytest.raises(UsageError, match="too few for 40 folds"):
        cross_validate("toy", ModelDesign(), Recipe(epochs=1), windows, None, None, 40, 0.2, CPU, checkpoint)


def test_site_width_and_epochs():
    assert site_width(toy_windows(5)) == 7
    assert [default_epochs(windows, 32, False) for windows in (16_000, 6656, 100)] == [10, 20, 30]
    assert [default_epochs(windows, 32, True) for windows in (16_000, 3200, 100)] == [8, 15, 40]


def natural(n, seed=9, length=40):
    rng = random.Random(seed)
    records = [
        Record(
            f"natural::chr{i % 4}:{500_000 + 1000 * i}-{500_000 + 1000 * i + length}(+)",
            "",
            "".join(rng.choices("ACGT", k=length)).encode(),
        )
        for i in range(n)
    ]
    return Windows.unlabelled(records)


def test_natural_windows_are_divided_and_drawn_anew_in_every_epoch():
    windows, background = toy_windows(100), natural(2000)
    data = split_data(windows, None, set(), 0.1, 1, background, 3.0)
    parts = [
        set(data.natural.names),
        set(data.null.names),
        {name for name in data.validation.names if name.startswith("natural")},
    ]
    assert sum(map(len, parts)) == 2000 == len(set.union(*parts))
    assert (
        len(parts[2]) == 30 and len(parts[0]) == 900
    )  # three for each of ten positives; half of the 1,800 that are not set aside
    recipe = Recipe(natural=4.0)
    first, second = data.epoch(0, recipe), data.epoch(1, recipe)
    assert len(first) == 90 + 90 + 360 and not first.labels[90:].any()
    drawn = [set(epoch.names[180:]) for epoch in (first, second)]
    assert all(len(names) == 360 and names <= parts[0] for names in drawn) and drawn[0] != drawn[1]
    assert data.epoch(0, recipe).names == first.names
    assert len(data._replace(natural=natural(7)).epoch(0, recipe)) == 180 + 7
    by_chrom = split_data(windows, None, {"chr2"}, 0.1, 1, background, 3.0)
    assert not any(":chr2:" in name for name in by_chrom.natural.names) and any(
        ":chr2:" in name for name in by_chrom.null.names
    )
    with pytest.raises(UsageError, match="no natural window is left for training"):
        split_data(windows, None, set(), 0.1, 1, natural(1), 3.0)


def test_the_second_model_learns_against_what_the_first_scores_highest(tmp_path, monkeypatch):
    windows, background = toy_windows(120), natural(600)
    lures = toy_windows(40, seed=5)  # the motif, yet no site
    lures.names[:] = [f"lure{i}" for i in range(len(lures))]
    background = Windows.joined([background, Windows(lures.names, lures.codes, lures.labels * 0)])
    data = split_data(windows, None, set(), 0.2, 1, background, 1.0)
    recipe = Recipe(epochs=3, natural=0.5, hard=True)
    whole = train("toy", ModelDesign(), recipe, data, CPU, Checkpoint(str(tmp_path / "a"), "key", False), {})
    counts = whole.model.info.training["data"]
    assert counts["natural"] == len(data.natural) and counts["hard"] == len(data.natural) // 10

    def save_and_die(self, state, save=Checkpoint.save):
        save(self, state)
        if self.hard is not None and state and len(state["history"]) == 1:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Checkpoint, "save", save_and_die)
        train("toy", ModelDesign(), recipe, data, CPU, Checkpoint(str(tmp_path / "b"), "key", False), {})
    left = Checkpoint(str(tmp_path / "b"), "key", True)
    share = np.mean([name.startswith("lure") for name in left.hard.names])
    assert share > 3 * np.mean([name.startswith("lure") for name in data.natural.names])
    resumed = train("toy", ModelDesign(), recipe, data, CPU, left, {})
    assert same(whole.model, resumed.model) and whole.history == resumed.history


def test_enough_natural_windows_give_p_values(tmp_path, caplog):
    windows = toy_windows(60)
    data = split_data(windows, None, set(), 0.2, 1, natural(2400), 1.0)
    recipe = Recipe(epochs=1)
    info = train("toy", ModelDesign(), recipe, data, CPU, Checkpoint(str(tmp_path / "a"), "key", False), {}).model.info
    assert info.null["windows"] == len(data.null) > 1000 and info.null["width"] == 40
    few = data._replace(null=natural(999))
    assert not train(
        "toy", ModelDesign(), recipe, few, CPU, Checkpoint(str(tmp_path / "b"), "key", False), {}
    ).model.info.null
    assert "999 natural windows are left for p-values, 1000 are needed" in caplog.text


def test_teachers_are_learned_in_place_of_the_labels(tmp_path):
    windows = toy_windows(240)
    data = split_data(windows, None, set(), 0.2, 1)
    teacher = fit(
        "toy", ModelDesign(), Recipe(epochs=8), data, CPU, Checkpoint(str(tmp_path / "a"), "key", False)
    ).model
    ids = token_ids(windows.codes[:5], 3)
    other = ModelDesign().model(teacher.info).eval()
    logits = [model(ids) for model in (teacher, other)]
    for task, probabilities in enumerate(
        teacher_targets([teacher.inference_function("fp32"), other.inference_function("fp32")], ids)
    ):
        assert torch.allclose(probabilities, torch.sigmoid((logits[0][task] + logits[1][task]) / 2), atol=1e-4)
    mislabelled = data._replace(
        positives=Windows(data.positives.names, data.positives.codes, data.positives.labels[:, ::-1].copy())
    )
    recipe = Recipe(epochs=8)
    alone = fit("toy", ModelDesign(), recipe, mislabelled, CPU, Checkpoint(str(tmp_path / "b"), "key", False))
    student = fit(
        "toy",
        ModelDesign(),
        recipe,
        mislabelled._replace(teachers=(teacher,)),
        CPU,
        Checkpoint(str(tmp_path / "c"), "key", False),
    )
    assert max(row["aupr"] for row in alone.history) < 0.5 < 0.9 < max(row["aupr"] for row in student.history)


def test_with_teachers_hard_negatives_are_theirs_and_training_is_once(tmp_path, monkeypatch):
    windows, background = toy_windows(60), natural(300)
    data = split_data(windows, None, set(), 0.2, 1, background, 1.0)
    teachers = tuple(ModelDesign().model(ModelDesign().info("toy", windows)).eval() for _ in range(2))
    fits = []
    monkeypatch.setattr("bertsnr_tools.train.fit.fit", lambda *arguments, real=fit: fits.append(1) or real(*arguments))
    checkpoint = Checkpoint(str(tmp_path / "a"), "key", False)
    train("toy", ModelDesign(), Recipe(epochs=1, hard=True), data._replace(teachers=teachers), CPU, checkpoint, {})
    assert len(fits) == 1
    both = np.concatenate([data.natural.codes, reverse_complement_codes(data.natural.codes)])
    names = [*data.natural.names, *data.natural.names]
    one, two = (
        log_odds(window_call_levels(teacher, Windows(names, both, np.zeros_like(both)), "fp32", 64, both_strands=False))
        for teacher in teachers
    )
    assert {codes.tobytes() for codes in checkpoint.hard.codes} == {
        both[row].tobytes() for row in np.argsort(-(one + two))[: len(checkpoint.hard)]
    }
