"""`predict --accessible`: sites in accessible regions, scored by motif and surroundings."""

import dataclasses

import numpy as np
import pytest
import torch

from bertsnr_tools.errors import DataError, UsageError
from bertsnr_tools.io.fasta import Genome
from bertsnr_tools.io.intervals import Interval
from bertsnr_tools.models.binding import BindingHeads, feature_count, motif_scores
from bertsnr_tools.models.device import Runtime
from bertsnr_tools.models.files import load_factors, save_model
from bertsnr_tools.predict import accessible
from bertsnr_tools.predict.accessible import AccessibleBases, AccessibleSites, Center, Surroundings, centers
from bertsnr_tools.predict.significance import NullDistribution, factor_call_levels
from bertsnr_tools.sequence.encoding import encode, reverse_complement
from bertsnr_tools.sequence.windows import Windows

FACTORS = ["F8", "F9", "F12"]  # that have a head
UNITS = 6
REGIONS = [
    ("chr1", 200, 350),
    ("chr1", 1000, 2600),
    ("chr2", 40, 190),
    ("chr2", 600, 2900),
    ("chr1", 3500, 5200),
    ("chr1", 5900, 6000),
]
EASY = ("-t", "p=0.95")


def random_heads(factors=6):
    torch.manual_seed(2)
    null = NullDistribution.fit(np.random.default_rng(1).random(2000), accessible.CENTER_DISTANCE).as_dict()
    motifs = torch.randn(2, 4, 7)
    size = feature_count(factors, len(motifs))
    return BindingHeads(
        factors=list(FACTORS),
        thresholds=[0.2, 0.3, 0.4],
        nulls=[null] * 3,
        motifs=motifs,
        mean=torch.randn(size),
        scale=torch.rand(size) + 0.5,
        hidden_weight=torch.randn(UNITS, size),
        hidden_bias=torch.randn(UNITS),
        weight=torch.randn(3, UNITS) / 2,
        skip=torch.zeros(3, size),
        bias=torch.tensor([1.0, 0.5, 0.0]),
        slope=torch.full((3,), 0.2),
    )


@pytest.fixture(scope="module")
def model(toy_factors, tmp_path_factory):
    """The toy model of six factors with null distributions and heads of three, and its file."""
    codes = np.random.default_rng(2).integers(0, 4, (1000, 100)).astype(np.uint8)
    levels = factor_call_levels(toy_factors, Windows(["w"] * 1000, codes, np.zeros_like(codes)), Runtime())
    path = str(tmp_path_factory.mktemp("accessible") / "toy.pt")
    save_model(path, toy_factors)
    many = load_factors(path)[0].shared.model
    many.infos = [
        dataclasses.replace(info, null=NullDistribution.fit(of_factor, 100).as_dict())
        for info, of_factor in zip(many.infos, levels.T)
    ]
    many.binding = random_heads()
    save_model(path, many)
    return path


@pytest.fixture(scope="module")
def sequence(tmp_path_factory):
    """A genome of two chromosomes with a stretch of N, and accessible regions in it, out of order."""
    directory = tmp_path_factory.mktemp("genome")
    letters = np.random.default_rng(5).choice(list("ACGT"), 9000)
    letters[3000:3600] = "N"
    text = "".join(letters)
    (directory / "g.fa").write_text(f">chr1\n{text[:6000]}\n>chr2\n{text[6000:]}\n")
    (directory / "atac.bed").write_text("".join("\t".join(map(str, region)) + "\n" for region in REGIONS))
    return directory


def test_accessible_bases_are_counted():
    bases = AccessibleBases([Interval("a", 30, 40), Interval("a", 5, 10), Interval("a", 35, 50)])
    accessible_at = {*range(5, 10), *range(30, 50)}
    assert [bases.before("a", at) for at in range(60)] == [sum(b < at for b in accessible_at) for at in range(60)]
    assert [at for at in range(60) if ("a", at) in bases] == sorted(accessible_at)
    assert bases.before("b", 9) == 0 and ("b", 7) not in bases


def test_centers_lie_in_the_middle_or_at_even_distances():
    found = centers([Interval("a", 100, 250), Interval("a", 1000, 1600), Interval("b", 7, 8)])
    assert {chrom: at.tolist() for chrom, at in found.items()} == {"a": [175, 1075, 1225, 1375, 1525], "b": [7]}
    assert accessible.nearest(found["a"], 1300) == 1225 and accessible.nearest(found["a"], 5000) == 1525


def test_motif_scores_are_the_best_match_on_either_strand():
    motif = torch.tensor([[[2.0, 0, -1], [-3, 0, 1], [0, 4, -2], [1, -5, 3]]])  # rows A, T, C, G
    letters = b"ATCG"
    text = b"GATTNCAGGACTAGC"

    def best(sequence):
        scores = []
        for at in range(-1, len(sequence) - 1):
            bases = [sequence[i : i + 1] if 0 <= i < len(sequence) else b"N" for i in range(at, at + 3)]
            scores.append(sum(float(motif[0, letters.index(b), i]) for i, b in enumerate(bases) if b != b"N"))
        return max(scores)

    expected = max(best(text), best(reverse_complement(text)))
    assert motif_scores(motif, encode(text)[None]).tolist() == [[expected]]


def test_heads_compute_what_their_docstring_states():
    heads, features = random_heads(), np.random.default_rng(3).normal(size=(4, feature_count(6, 2)))
    features[2, 5] = np.nan
    x = torch.from_numpy((features - heads.mean.double().numpy()) / heads.scale.double().numpy()).clamp(-5, 5)
    x = x.nan_to_num(0.0)
    hidden = torch.nn.functional.gelu(x @ heads.hidden_weight.double().T + heads.hidden_bias.double())
    expected = hidden @ heads.weight.double().T + x @ heads.skip.double().T + heads.bias.double()
    found = heads.surroundings_log_odds(features)
    assert np.allclose(found, expected.numpy())
    assert np.array_equal(found[3:], heads.surroundings_log_odds(features[3:]))


def test_features_of_a_center(model, sequence):
    many = load_factors(model)[0].shared.model
    regions = [Interval("chr1", 200, 350), Interval("chr1", 1000, 2200)]
    genome = Genome(str(sequence / "g.fa"))
    read = Surroundings(many, many.binding.motifs, genome, AccessibleBases(regions), "fp32")
    inside, border, unknown = features = read([Center("chr1", 1500), Center("chr1", 20), Center("chr1", 3300)])
    around = genome.fetch("chr1", 1400, 1600)
    composition = (around.count(b"G") + around.count(b"C")) / 200, around.count(b"CG") / 200
    assert np.allclose(inside[8:10], composition)
    assert np.allclose(inside[12:], [1, 1, np.log1p(10 * (1200 + 150) / 5000)])
    assert np.allclose(border[12:14], [70 / 500, 150 / 1000])
    assert np.isnan(unknown[:8]).all() and np.isfinite(features[:2]).all()
    assert np.array_equal(read([Center("chr1", 20)])[0], border)


def test_a_model_file_keeps_its_heads(model, tmp_path):
    first, second = (load_factors(model)[0].shared.model.binding for _ in range(2))
    assert first.factors == FACTORS and torch.equal(first.hidden_weight, second.hidden_weight)
    assert torch.equal(first.weight, random_heads().weight.half().float())
    content = torch.load(model, weights_only=True)
    assert content["format_version"] == 2
    for change in ({"factors": ["F8", "F9", "other"]}, {"bias": torch.zeros(4)}, {"nulls": []}, {"more": 1}):
        broken = content | {"binding": content["binding"] | change}
        torch.save(broken, tmp_path / "broken.pt")
        with pytest.raises(DataError, match="broken.pt"):
            load_factors(str(tmp_path / "broken.pt"))
    del content["binding"]
    torch.save(content, tmp_path / "without.pt")
    assert load_factors(str(tmp_path / "without.pt"))[0].shared.model.binding is None


def predict(run, model, sequence, *arguments):
    outcome = run("predict", "-m", model, "-f", sequence / "g.fa", "--accessible", sequence / "atac.bed", *arguments)
    assert outcome.status == 0, outcome.err
    return outcome


def test_sites_in_accessible_regions(run, model, sequence):
    outcome = predict(run, model, sequence, *EASY)
    assert "3 of 6 factors have no binding head and are left out" in outcome.err
    assert "6 accessible regions; " in outcome.err and outcome.err.rstrip().endswith("; 0 outside left out")
    sites = [line.split("\t") for line in outcome.out.splitlines()]
    assert sites and {site[3] for site in sites} <= set(FACTORS)
    for chrom, start, end, *_ in sites:
        middle = (int(start) + int(end)) // 2
        assert any(chrom == region[0] and region[1] <= middle < region[2] for region in REGIONS)
    assert len({site[3] for site in sites}) > 1 and len(sites) > 20
    few = predict(run, model, sequence, "-t", "0.5").out.splitlines()
    assert 0 < len(few) < len(sites) and all(float(line.split("\t")[4]) >= 500 for line in few)


def test_sites_are_those_of_the_encoder_that_the_heads_read(run, model, sequence, tmp_path):
    """A better encoder for some factors does not change them: the heads were not trained on its sites."""
    general, other = (load_factors(model)[0].shared.model for _ in range(2))
    other.infos, other.binding = [dataclasses.replace(info, name=info.name) for info in other.infos], None
    with torch.no_grad():
        other.token_head.bias.add_(1)
    general.group = [general, other]
    save_model(str(tmp_path / "group.pt"), general)
    assert predict(run, tmp_path / "group.pt", sequence, *EASY).out == predict(run, model, sequence, *EASY).out
    assert run("models", tmp_path / "group.pt").out.count("\tyes\t") == run("models", model).out.count("\tyes\t")


def test_the_whole_genome_gives_the_same_sites(run, model, sequence):
    alone = predict(run, model, sequence, *EASY)
    whole = predict(run, model, sequence, *EASY, "-r", "chr1", "-r", "chr2")
    assert sorted(whole.out.splitlines()) == sorted(set(alone.out.splitlines()))
    assert not whole.err.rstrip().endswith("; 0 outside left out")


def test_bytes_do_not_depend_on_batches_and_shards(run, model, sequence):
    reference = predict(run, model, sequence, *EASY).out
    for arguments in (["--batch-size", 1], ["--batch-size", 7, "-@", 2]):
        assert predict(run, model, sequence, *EASY, *arguments).out == reference
    shards = [predict(run, model, sequence, *EASY, "--shard", f"{number}/3").out for number in (1, 2, 3)]
    assert "".join(shards) == reference and all(shard != reference for shard in shards)


def test_p_values_are_of_the_null_in_accessible_sequence(run, model, sequence):
    null = NullDistribution.from_dict(random_heads().nulls[0], "F8")
    outcome = predict(run, model, sequence, "-t", "p=0.4", "--format", "narrowpeak")
    sites = [line.split("\t") for line in outcome.out.splitlines()]
    assert len(sites) > 3
    for site in sites:
        bound = 1 / (1 + np.exp(-float(site[6])))
        assert float(site[7]) == pytest.approx(float(null.neg_log10_p(np.array([bound]))[0]), abs=2e-3)
        assert float(site[7]) > -np.log10(0.4) - 1e-3


def test_a_head_is_found_by_the_name_in_its_file(model, sequence):
    """A factor named like another model has another name in the output."""
    genome = Genome(str(sequence / "g.fa"))
    (loaded,) = load_factors(model, ["F9"])
    loaded.info = dataclasses.replace(loaded.info, name="human:F9")
    sites = AccessibleSites([loaded], None, genome, [Interval("chr1", 0, 9)], "fp32")
    assert [one.info.name for one in sites.models] == ["human:F9"]


def test_models_without_heads_and_scores_are_refused(run, model, sequence):
    genome = Genome(str(sequence / "g.fa"))
    loaded = load_factors(model)
    with pytest.raises(UsageError, match="F5: no binding head"):
        AccessibleSites([loaded[0]], None, genome, [Interval("chr1", 0, 9)], "fp32")
    with pytest.raises(UsageError, match="expected a probability"):
        AccessibleSites(loaded, ("score", 5.0), genome, [Interval("chr1", 0, 9)], "fp32")
    outcome = run("predict", "-m", model, "--accessible", sequence / "atac.bed", sequence / "g.fa")
    assert outcome.status == 2 and "--accessible require a genome; add -f FASTA" in outcome.err


def test_models_lists_binding_heads(run, model):
    rows = [line.split("\t") for line in run("models", model).out.splitlines()]
    column = rows[0].index("binding")
    assert {row[0] for row in rows[1:] if row[column] == "yes"} == set(FACTORS)
