"""The Python API: the same results as the commands, without an effect on the process."""

import ast
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import bertsnr_tools as bt
from bertsnr_tools.models.device import Runtime
from bertsnr_tools.models.pwm import PwmModel
from conftest import DATA


@pytest.fixture(scope="module")
def ctcf():
    return bt.load_model("CTCF", runtime=Runtime())


def one_hot(sequences):
    letters = np.array([list(sequence) for sequence in sequences])
    return torch.from_numpy(np.stack([letters == letter for letter in "ACGT"], axis=1).astype(np.float32))


@pytest.fixture(scope="module")
def windows():
    records = bt.read_records(str(DATA / "expected" / "windows.fa"))
    return [record.sequence.decode() for _, record in zip(range(12), records)]


def test_a_scan_gives_the_sites_of_the_command(ctcf, run):
    sites = list(bt.scan(ctcf, DATA / "region.fa"))
    lines = [f"{s.chrom}\t{s.start}\t{s.end}\t{s.name}\t{round(1000 * s.score)}\t{s.strand}" for s in sites]
    assert lines
    assert lines == run("predict", "-m", "CTCF", "--precision", "fp32", DATA / "region.fa").out.splitlines()
    assert all(0 < site.p < 0.05 for site in sites)


def test_a_genome_is_scanned_in_regions(ctcf, genome):
    whole = bt.Genome(str(genome))
    chrom, length = next(iter(whole.lengths.items()))
    half = f"{chrom}:1-{length // 2}"

    def interval(site):
        return site.chrom, site.start, site.end

    everything = [interval(site) for site in bt.scan(ctcf, whole) if site.chrom == chrom]
    inside = [interval(site) for site in bt.scan(ctcf, whole, regions=[half])]
    assert inside
    assert inside == [(_, start, end) for _, start, end in everything if (start + end) // 2 < length // 2]
    called = list(bt.scan(ctcf, whole, regions=[half], threshold="q=0.05"))
    assert called
    assert all(site.q <= 0.05 for site in called)


def test_base_probabilities_cover_both_strands(ctcf, windows):
    sequence = windows[0]
    forward = ctcf.predict_bases([sequence])[0]
    assert forward.shape == (2, len(sequence))
    assert forward.dtype == np.float32
    other = sequence[::-1].translate(str.maketrans("ACGT", "TGCA"))
    np.testing.assert_array_equal(ctcf.predict_bases([other])[0], forward[::-1, ::-1])
    assert forward.max() > 0.9
    assert np.isnan(ctcf.predict_bases(["N" * 20 + sequence])[0][:, :20]).all()
    with pytest.raises(bt.UsageError, match="list of sequences"):
        ctcf.predict_bases(sequence)


def test_the_one_hot_module_is_the_network(ctcf, windows):
    x = one_hot(windows)
    logits = ctcf.as_onehot_module("bases")(x)
    probabilities = torch.sigmoid(logits).detach().numpy()
    wanted = np.stack([scores[0] for scores in ctcf.predict_bases(windows)])
    assert wanted.max() > 0.9
    np.testing.assert_allclose(probabilities, wanted, atol=2e-5)
    assert ctcf.as_onehot_module()(x).shape == (len(windows), 1)
    with pytest.raises(ValueError, match="expected"):
        ctcf.as_onehot_module()(x.transpose(1, 2))


def test_a_column_of_zeros_is_n(ctcf, windows):
    x = one_hot(windows[:1])
    x[:, :, 30] = 0
    logits = ctcf.as_onehot_module("bases")(x)
    with_n = windows[0][:30] + "N" + windows[0][31:]
    ids = torch.from_numpy(_ids(with_n))
    with torch.inference_mode():
        tokens = ctcf.network(ids)[1]
    assert logits[0, 40:80].detach().numpy() == pytest.approx(_bases(tokens)[0, 40:80], abs=1e-3)


def _ids(sequence):
    from bertsnr_tools.models.bertsnr import token_ids
    from bertsnr_tools.sequence.encoding import encode

    return token_ids(encode(sequence.encode())[None], 3).numpy()


def _bases(tokens):
    from bertsnr_tools.sequence.encoding import bases_from_tokens

    return bases_from_tokens(tokens.numpy(), 3)


def test_attributions_point_at_the_site(ctcf, windows):
    """Integrated gradients of the sequence task: complete, and larger inside the labelled site than outside."""
    captum = pytest.importorskip("captum.attr")
    x = one_hot(windows)
    baseline = torch.full_like(x, 0.25)
    net = ctcf.as_onehot_module().eval()
    gradients, gap = captum.IntegratedGradients(net).attribute(
        x, baseline, target=0, n_steps=64, return_convergence_delta=True
    )
    change = (net(x) - net(baseline))[:, 0].detach()
    assert (gap.abs() / change.abs()).median() < 0.1
    labels = (
        bt.read_windows(str(DATA / "expected" / "windows.fa"), positive=True, k=3).labels[: len(windows)].astype(bool)
    )
    size = gradients.abs().sum(1).detach().numpy()
    assert size[labels].mean() > 2 * size[~labels].mean()


def test_tangermeme_predicts_with_it(ctcf, windows):
    predict = pytest.importorskip("tangermeme.predict").predict
    x = one_hot(windows)
    net = ctcf.as_onehot_module().eval()
    found = predict(net, x, batch_size=5, device="cpu")
    np.testing.assert_allclose(found.numpy(), net(x).detach().numpy(), atol=1e-5)


def test_training_saves_a_model_that_loads(tmp_path, run):
    positives = bt.read_windows(str(DATA / "expected" / "windows.fa"), positive=True, k=3)
    model = bt.train(positives.take(np.arange(96)), name="TINY", recipe={"epochs": 1}, runtime=Runtime())
    model.save(tmp_path / "TINY.pt")
    again = bt.load_model(tmp_path / "TINY.pt", runtime=Runtime())
    sequence = positives.records().__next__().sequence
    np.testing.assert_array_equal(model.predict_bases([sequence])[0], again.predict_bases([sequence])[0])
    assert list(Path(tmp_path).iterdir()) == [tmp_path / "TINY.pt"]
    metrics = bt.evaluate(again, positives)
    assert 0 <= metrics["nucleotide"]["aupr"] <= 1
    assert "TINY" in run("models", tmp_path / "TINY.pt").out


def test_motifs_and_attention(ctcf, tmp_path):
    motif = bt.find_motif(ctcf, DATA / "expected" / "windows.fa")
    assert motif.width == ctcf.info.site_width
    bt.write_motifs(str(tmp_path / "m.meme"), [motif])
    np.testing.assert_allclose(bt.read_motifs(str(tmp_path / "m.meme"))[0].probs, motif.probs, atol=1e-6)
    values = bt.attention_scores(ctcf, ["ACGT" * 20])[0]
    assert values.shape == (80,)
    assert values.min() > 0


def test_a_matrix_is_a_model_too(tmp_path):
    pytest.importorskip("lightmotif")
    path = tmp_path / "two.jaspar"
    counts = "A [ 9 0 0 0 ]\nC [ 0 9 0 0 ]\nG [ 0 0 9 0 ]\nT [ 0 0 0 9 ]\n"
    path.write_text(f">M1 ONE\n{counts}>M2 TWO\n{counts}")
    assert [model.name for model in bt.load_models([path], runtime=Runtime())] == ["ONE", "TWO"]
    with pytest.raises(bt.UsageError, match="2 matrices"):
        bt.load_model(path)
    with pytest.raises(bt.UsageError, match="PWM"):
        bt.load_models([path], runtime=Runtime())[0].save(tmp_path / "x.pt")
    with pytest.raises(bt.UsageError, match="one-hot"):
        bt.load_models([path], runtime=Runtime())[0].as_onehot_module()


def test_numbers_out_of_range_are_errors(ctcf):
    for options in ({"best": -1}, {"best": 0}, {"step": -5}, {"step": 0}, {"step": 2.5}):
        with pytest.raises(bt.UsageError, match="expected at least 1"):
            list(bt.scan(ctcf, DATA / "region.fa", **options))
    for options in ({"k": 0}, {"copies": 0}, {"k": 7}):
        with pytest.raises(bt.UsageError, match="expected k from 1 to 6 and at least 1 copy"):
            list(bt.shuffle(["ACGTACGA"], **options))
    with pytest.raises(bt.UsageError, match="the recipe has no setting 'epoch'; did you mean epochs"):
        bt.train(bt.read_windows(DATA / "expected" / "windows.fa"), recipe={"epoch": 1})
    for setting, value in (("epochs", 0), ("epochs", "3"), ("epochs", 2.5), ("task_weight", 1.5), ("ema_decay", None)):
        with pytest.raises(bt.UsageError, match=f"recipe: {setting} is {value!r}; expected a "):
            bt.train(bt.read_windows(DATA / "expected" / "windows.fa"), recipe={setting: value})
    for setting, problem in (
        ({"val_chroms": "chr1"}, "val_chroms is 'chr1'; expected a tuple of names"),
        ({"precision": "foo"}, "precision is 'foo'; expected one of fp32, bf16"),
        ({"val_fraction": 0.9}, "val_fraction is 0.9; expected a number from 0.001 to 0.5"),
    ):
        with pytest.raises(bt.UsageError, match=problem):
            bt.train(bt.read_windows(DATA / "expected" / "windows.fa"), recipe=setting)
    for options in ({"layer": 4}, {"layer": -5}, {"head": 99}):
        with pytest.raises(bt.UsageError, match="counted from 0"):
            bt.attention_scores(ctcf, ["ACGT" * 25], **options)
    for options in ({"width": 0}, {"coverage": 0}, {"align": -1}):
        with pytest.raises(bt.UsageError, match="expected a width above 0, a coverage above 0 and at most 1, align 0"):
            bt.find_motif(ctcf, ["ACGT" * 25], **options)
    with pytest.raises(bt.UsageError, match="at least one target"):
        bt.compare([bt.Motif("a", np.ones((5, 4)))], [])
    with pytest.raises(bt.DataError, match="sequence 1: contains 'Ü'; expected the letters ACGT"):
        ctcf.predict_bases(["ACGÜ"])
    with pytest.raises(bt.UsageError, match="load_models takes a list of names; use load_models..'human'.."):
        bt.load_models("human")
    with pytest.raises(bt.UsageError, match="sequence 2 is None; expected str, bytes or Record"):
        ctcf.predict_bases(["ACGT", None])


def test_regions_are_checked(ctcf, genome):
    whole = bt.Genome(genome)
    chrom, length = next(iter(whole.lengths.items()))
    inside = bt.Interval(chrom, 0, 1000)
    assert list(bt.scan(ctcf, whole, regions=inside)) == list(bt.scan(ctcf, whole, regions=[f"{chrom}:1-1000"])) != []
    assert list(bt.scan(ctcf, whole, regions=[])) == [] == list(bt.scan(ctcf, whole, regions=[], threshold="q=0.1"))
    for start, end in ((-5, 10), (10, 10), (20, 10), (0, length + 1)):
        with pytest.raises(bt.UsageError, match=f"expected 0 <= start < end <= {length}, the length of {chrom}"):
            bt.scan(ctcf, whole, regions=[bt.Interval(chrom, start, end)])
    with pytest.raises(bt.UsageError, match="no sequence named 'chrZ' in the genome"):
        bt.scan(ctcf, whole, regions=bt.Interval("chrZ", 0, 10))
    sites = bt.scan(ctcf, whole, regions=inside)
    next(sites)
    sites.close()


def test_a_genome_gives_no_bases_that_it_lacks(genome):
    whole = bt.Genome(genome)
    chrom, length = next(iter(whole.lengths.items()))
    for start, end in ((-4, 6), (5, 4), (length - 1, length + 1)):
        with pytest.raises(
            bt.UsageError, match=f"{chrom}:{start}-{end} is not on the genome; {chrom} has {length:,} bp"
        ):
            whole.fetch(chrom, start, end)
    with pytest.raises(bt.UsageError, match="no sequence named 'chrZ'"):
        whole.fetch("chrZ", 0, 1)


def test_windows_are_checked_before_they_are_evaluated(ctcf):
    wide = np.zeros((3, 300), dtype=np.uint8)
    with pytest.raises(bt.UsageError, match="windows are 300 bp; the model CTCF accepts 3 to 100 bp"):
        bt.evaluate(ctcf, bt.Windows(["a", "b", "c"], wide, wide))
    with pytest.raises(bt.UsageError, match="at least one window"):
        bt.evaluate(ctcf, bt.Windows([], wide[:0, :100], wide[:0, :100]))


def test_arguments_of_another_kind_are_errors(ctcf, genome, tmp_path):
    windows = bt.read_windows(DATA / "expected" / "windows.fa")
    whole = bt.Genome(genome)
    for regions in ([("chr1", 0, 300)], [5], [None]):
        with pytest.raises(bt.UsageError, match="expected an Interval or text such as chr1:1-1000"):
            bt.scan(ctcf, whole, regions=regions)
    for call in (lambda: bt.scan("CTCF", whole), lambda: bt.variants([], "x.vcf", whole), lambda: bt.scan([5], whole)):
        with pytest.raises(bt.UsageError, match="expected at least one model, as load_model returns it"):
            call()
    for call in (
        lambda: bt.evaluate(ctcf, "w.fa"),
        lambda: bt.train("w.fa"),
        lambda: bt.train(windows, background="x"),
    ):
        with pytest.raises(bt.UsageError, match="expected Windows, as read_windows returns them"):
            call()
    with pytest.raises(bt.UsageError, match="negatives: .* windows have sites"):
        bt.train(windows, negatives=windows)
    with pytest.raises(bt.UsageError, match="windows: 2 have no site; give those as negatives"):
        bt.train(bt.Windows(windows.names, windows.codes, windows.labels * (np.arange(len(windows)) > 1)[:, None]))
    for call in (
        lambda t: bt.find_motif(ctcf, ["ACGT" * 25], threshold=t),
        lambda t: bt.variants(ctcf, "x", whole, threshold=t),
    ):
        with pytest.raises(bt.UsageError, match="threshold q=0.05: .* expected a probability or p=P"):
            call("q=0.05")
    with pytest.raises(bt.DeviceError, match="'gpu' is not a device; expected auto, cpu, cuda or cuda:N"):
        Runtime.choose("gpu")
    with pytest.raises(bt.UsageError, match="model name 'a.tb' is empty or contains unprintable characters"):
        bt.train(windows, name="a\tb")
    for runtime in ({"precision": "foo"}, {"batch_size": -5}):
        with pytest.raises(bt.UsageError, match="expected one of fp32, int16, bf16, fp16, and at least 1 window"):
            Runtime(**runtime)
    for flank in (-1, 5000):
        with pytest.raises(bt.UsageError, match=f"flank is {flank}; expected 0 to 1000 bp"):
            bt.variants(ctcf, "x.vcf", whole, flank=flank)
    for counts in (np.ones((4, 5)), -np.ones((3, 4))):
        with pytest.raises(bt.UsageError, match="motif 'm': expected counts of shape .width, 4., 0 or more"):
            bt.Motif("m", counts)
    (tmp_path / "n.fa").write_text(f">a site=3-9\n{'N' * 100}\n")
    with pytest.raises(bt.DataError, match="n.fa: record 'a' contains no A, C, G or T"):
        bt.read_windows(tmp_path / "n.fa")


def test_an_effect_is_a_row_of_a_table(ctcf):
    alleles = list(bt.variants(ctcf, DATA / "variants.vcf", bt.Genome(DATA / "genome.fa")))
    rows = [row for allele in alleles for row in allele.as_dicts()]
    assert len(rows) == sum(len(allele.effects) for allele in alleles) > 1
    first = rows[0]
    assert (first["chrom"], first["position"], first["ref"], first["alt"]) == ("chr1", 81, "C", "G")
    assert (first["factor"], first["kind"], first["start"], first["end"]) == ("CTCF", "loss", 77, 96)


def test_a_site_is_a_row_of_a_table(ctcf):
    site = next(bt.scan(ctcf, DATA / "region.fa"))
    row = site.as_dict()
    assert list(row) == "chrom start end name score strand log_odds p q summit".split()
    assert row["chrom"] == "chr20" and row["p"] == site.p and row["q"] is None and row["end"] - row["start"] == 19


def test_type_checkers_see_every_name():
    tree = ast.parse(Path(bt.__file__).read_text())
    [block] = [node for node in tree.body if isinstance(node, ast.If) and node.test.id == "TYPE_CHECKING"]
    imported = {(node.module, alias.name) for node in block.body for alias in node.names}
    assert imported == {(module, name) for name, module in bt._HOME.items()}
    assert (Path(bt.__file__).parent / "py.typed").exists()


def test_models_and_genomes_go_to_other_processes(ctcf, genome, windows):
    pytest.importorskip("lightmotif")
    matrix = bt.SiteModel(PwmModel(bt.Motif("m", np.eye(4) * 9 + 1, "M")), Runtime())
    for model in (ctcf, matrix):
        again = pickle.loads(pickle.dumps(model))
        assert again.name == model.name
        for one, other in zip(model.predict_bases(windows[:2]), again.predict_bases(windows[:2])):
            assert np.array_equal(one, other)
    whole = bt.Genome(genome)
    again = pickle.loads(pickle.dumps(whole))
    assert again.lengths == whole.lengths and again.fetch("chr1", 5, 50) == whole.fetch("chr1", 5, 50)


def test_the_description_of_a_model_is_short(ctcf):
    assert ctcf.info.null and len(repr(ctcf.info)) < 3000


def test_shuffles_keep_dinucleotides():
    shuffled = next(bt.shuffle([bt.Record("a", "", b"acgttgcaaggcttacgatcga")])).sequence.decode()
    assert shuffled != "ACGTTGCAAGGCTTACGATCGA"

    def pairs(text):
        return sorted(text[at : at + 2] for at in range(len(text) - 1))

    assert pairs(shuffled) == pairs("ACGTTGCAAGGCTTACGATCGA")


def test_the_process_is_left_as_it_was(ctcf):
    """Threads, garbage collector, signals, environment and logging: a scan changes none of them."""
    code = f"""
import gc, logging, os, signal, torch
import bertsnr_tools as bt

log = logging.getLogger("bertsnr_tools")

def state():
    process = dict(os.environ), gc.isenabled(), signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    torchs = torch.get_num_threads(), torch.is_grad_enabled(), torch.get_rng_state().tolist()
    return process, (log.level, log.handlers[:], log.propagate), torchs

before = state()
assert list(bt.scan(bt.load_model("CTCF"), {str(DATA / "region.fa")!r}))
assert state() == before, (state(), before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert signal.getsignal(signal.SIGTERM) is not None


def test_import_takes_no_time_and_explains_itself():
    code = (
        "import sys, bertsnr_tools as bt; assert not {'torch', 'numpy', 'click'} & set(sys.modules); print(bt.__doc__)"
    )
    text = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for name in bt.__all__:
        assert getattr(bt, name) is not None
        assert name == "__version__" or name in text
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = bt.nothing
