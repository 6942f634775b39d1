import itertools
import logging
from math import comb

import numpy as np
import pytest

from bertsnr_tools.errors import DataError, UsageError
from bertsnr_tools.io.motif_files import BASES, Motif, jaspar_text, meme_text, read_motifs
from bertsnr_tools.models.batching import token_probabilities
from bertsnr_tools.models.device import Runtime
from bertsnr_tools.models.pwm import PwmModel, score_distribution
from bertsnr_tools.models.registry import load_models
from bertsnr_tools.predict.thresholds import CallingRule, base_threshold
from bertsnr_tools.sequence.encoding import encode, reverse_complement

COUNTS = np.array(
    [[30, 1, 0, 2], [0, 25, 4, 4], [1, 1, 30, 1], [20, 0, 13, 0], [3, 3, 3, 24], [0, 0, 33, 0], [33, 0, 0, 0]],
    dtype=float,
)
MOTIF = Motif("M1", COUNTS, "ONE")


def slow_scores(sequence: bytes, motif: Motif) -> list[float]:
    odds = motif.log_odds
    return [
        sum(odds[i, BASES.index(chr(letter))] for i, letter in enumerate(sequence[a : a + motif.width]))
        for a in range(len(sequence) - motif.width + 1)
    ]


def slow_p(motif: Motif, score: float) -> float:
    """The fraction of all words with at least this score, by counting them."""
    words = np.zeros(1)
    for row in motif.log_odds:
        words = (words[:, None] + row).ravel()
    return float((words >= score - 1e-6).mean())


def random_sequence(length: int, seed: int) -> bytes:
    return bytes(np.random.default_rng(seed).choice(list(b"ACGT"), length).tolist())


def test_bases_have_the_p_value_of_the_best_match_that_covers_them():
    sequence = random_sequence(300, 1)
    scores = slow_scores(sequence, MOTIF)
    _, bases = token_probabilities(PwmModel(MOTIF), encode(sequence)[None], Runtime(batch_size=64))
    for base in range(300):
        covering = scores[max(0, base - MOTIF.width + 1) : base + 1]
        x = -np.log10(slow_p(MOTIF, max(covering)))
        assert bases[0, base] == pytest.approx(x / (4 + x), abs=0.01)


def test_a_sequence_has_its_best_match_and_rows_do_not_touch():
    pwm = PwmModel(MOTIF)
    rows = [random_sequence(50, seed) for seed in range(9)]
    sequences, bases = token_probabilities(pwm, np.stack([encode(row) for row in rows]), Runtime(batch_size=4))
    for row, sequence, values in zip(rows, sequences, bases):
        alone, own = token_probabilities(pwm, encode(row)[None], Runtime(batch_size=4))
        assert sequence == values.max() == alone[0] and np.array_equal(values, own[0])


def test_sequences_too_short_and_with_n():
    pwm = PwmModel(MOTIF)
    sequences, bases = token_probabilities(pwm, encode(b"ACGA")[None], Runtime(batch_size=64))
    assert sequences[0] == 0 and not bases.any()
    best = bytes(ord(BASES[i]) for i in COUNTS.argmax(axis=1))
    _, bases = token_probabilities(pwm, encode(best + b"N" + best[:-1] + b"N")[None], Runtime(batch_size=64))
    assert (bases[0, : MOTIF.width] > 0.5).all() and bases[0, MOTIF.width :].max() < 0.1


def consensus_motif(seed: int) -> Motif:
    """Few distinct scores: equally strong positions, positions of random strength, or (every third) random counts."""
    rng = np.random.default_rng(seed)
    width = int(rng.integers(2, 9))
    strength = [np.full((width, 1), 97), rng.integers(50, 99, (width, 1)), rng.integers(1, 100, (width, 4))][seed % 3]
    return Motif("M", np.where(np.eye(4, dtype=bool)[rng.integers(0, 4, width)], strength, 1).astype(float))


@pytest.mark.parametrize("seed", range(60))
def test_p_values_of_all_words_of_consensus_matrices(seed):
    motif = consensus_motif(seed)
    words = np.array(list(itertools.product(b"ACGT", repeat=motif.width)), dtype=np.uint8)
    codes = np.stack([encode(word.tobytes()) for word in words])
    sequences, _ = token_probabilities(PwmModel(motif), codes, Runtime(batch_size=8192))
    scores = motif.log_odds[np.arange(motif.width), np.searchsorted(list(b"ACGT"), words)].sum(axis=1)
    expected = (len(scores) - np.searchsorted(np.sort(scores), scores - 1e-7)) / len(scores)
    x = 4 * sequences / (1 - sequences.astype(float))
    assert np.abs(x + np.log10(expected)).max() < 0.01


@pytest.mark.parametrize("seed", range(6))
def test_p_values_with_any_background(seed):
    motif = consensus_motif(seed)
    background = np.random.default_rng(seed).dirichlet([3] * 4)
    known, p = score_distribution(motif.log_odds, background.tolist())
    scores, probs = np.zeros(1), np.ones(1)
    for row in motif.log_odds:
        scores, probs = np.add.outer(scores, row).ravel(), np.multiply.outer(probs, background).ravel()
    for score, value in zip(known[-2000:], p[-2000:]):
        assert value == pytest.approx(probs[scores >= score - 1e-7].sum(), rel=1e-9)


def test_p_value_of_mismatches_with_a_wide_consensus():
    scores, p = score_distribution(np.log2(np.where(np.eye(4)[[0, 1, 2, 3, 1] * 4] > 0, 3.88, 0.04)))
    expected = np.cumsum([comb(20, j) * 3**j / 4**20 for j in range(21)])
    assert p[::-1] == pytest.approx(expected) and len(scores) == 21


@pytest.mark.parametrize("width", [8, 12, 16, 20])
def test_p_values_of_rich_matrices_are_those_of_lightmotif_and_fimo(width):
    """lightmotif and memelite's FIMO round scores, so that they differ where only a few words score as high."""
    import lightmotif
    from memelite.fimo import _pwm_to_mapping

    rng = np.random.default_rng(width)
    motif = Motif("M", np.array([rng.multinomial(500, rng.dirichlet([1] * 4)) for _ in range(width)], dtype=float))
    scores, p = score_distribution(motif.log_odds)
    other = lightmotif.ScoringMatrix(dict(zip(BASES, motif.log_odds.T.tolist())))
    smallest, mapping = _pwm_to_mapping(motif.log_odds.T.copy(), 0.001)
    for level in (0.3, 0.1, 1e-2, 1e-3, 1e-4, 1e-5):
        if level < 1000 / 4**width:
            continue
        score = np.interp(np.log10(level), np.log10(p[::-1]), scores[::-1])
        assert np.log10(other.pvalue(score)) == pytest.approx(np.log10(level), abs=0.03)
        fimo = mapping[round(score / 0.001) - smallest] * np.log10(2)  # it has log2 p
        assert fimo == pytest.approx(np.log10(level), abs=0.03)


@pytest.mark.parametrize("p", [1e-2, 1e-3, 1e-4])
def test_threshold_by_p_value_calls_the_matches_that_lightmotif_calls(p):
    import lightmotif

    sequence = random_sequence(100_000, 5)
    known = lightmotif.ScoringMatrix(dict(zip(BASES, MOTIF.log_odds.T.tolist())))
    found = lightmotif.scan(known, lightmotif.stripe(sequence.decode()), threshold=known.score(p))
    hits = [hit.position for hit in found]
    assert hits
    covered = np.zeros(len(sequence), dtype=bool)
    for start in hits:
        covered[start : start + MOTIF.width] = True
    pwm = PwmModel(MOTIF)
    _, bases = token_probabilities(pwm, encode(sequence)[None], Runtime(batch_size=64))
    assert np.array_equal(bases[0] > base_threshold(("p", p), pwm), covered)
    assert covered.mean() == pytest.approx(p * MOTIF.width, rel=0.5)
    if p == 1e-4:
        assert base_threshold(None, pwm) == base_threshold(("p", p), pwm)


def test_threshold_by_score_keeps_the_matches_with_that_score():
    sequence = random_sequence(3000, 6)
    scores = np.array(slow_scores(sequence, MOTIF))
    pwm = PwmModel(MOTIF)
    _, bases = token_probabilities(pwm, encode(sequence)[None], Runtime(batch_size=64))
    for cut in np.sort(scores)[[-1, -3, -10]]:
        starts = np.nonzero(scores >= cut - 1e-6)[0]
        covered = np.isin(np.arange(3000), (starts[:, None] + np.arange(MOTIF.width)).ravel())
        assert np.array_equal(bases[0] > base_threshold(("score", cut), pwm), covered)


def test_scores_that_nothing_reaches_are_logged(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("bertsnr_tools"), "propagate", True)
    short = PwmModel(Motif("S", COUNTS[:4]))
    assert base_threshold(None, short) == 1  # one of 256 words is no less frequent than 0.004
    assert "S: no sequence can reach p=0.0001 (its best match, 4 bp, has p=0.0039, score=" in caplog.text
    assert base_threshold(("score", 99.0), short) == 1 and base_threshold(("probability", 0.25), short) == 0.25
    best = short.best_match
    assert best.p == pytest.approx(1 / 256) and best.probability == pytest.approx(np.log10(256) / (4 + np.log10(256)))
    for kind, reached, missed in (("p", best.p, best.p / 2), ("probability", 0.375, 0.376), ("q", 0.004, 0.003)):
        caplog.clear()
        CallingRule.for_model(short, (kind, reached))
        assert f"{kind}=" not in caplog.text
        CallingRule.for_model(short, (kind, missed))
        assert f"no sequence can reach {kind}={missed:g} (" in caplog.text


def test_p_values_of_a_wide_matrix_are_finite():
    wide = PwmModel(Motif("W", np.tile(COUNTS, (100, 1))))
    assert wide.best_match.p == pytest.approx(1e-300)


def test_counts_without_bound_are_an_error(tmp_path):
    (tmp_path / "m.jaspar").write_text(">M\nA [1e308 1]\nC [1e308 1]\nG [1 1e308]\nT [1 1]\n")
    with pytest.raises(DataError, match="m.jaspar:2: row A of motif 'M': expected counts, found 'A "):
        read_motifs(str(tmp_path / "m.jaspar"))


def test_all_models_of_a_scan_have_different_names(tmp_path, toy_model_file, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("bertsnr_tools"), "propagate", True)
    (tmp_path / "m.meme").write_text(meme_text([Motif("TOY", COUNTS)]))
    (tmp_path / "other.pt").write_bytes(toy_model_file.read_bytes())
    names = [str(toy_model_file), str(tmp_path / "m.meme"), str(tmp_path / "other.pt")]
    assert [model.info.name for model in load_models(names, Runtime())] == ["TOY", "TOY-2", "TOY-3"]
    assert "another model is named TOY, too; this one is named TOY-2 in the output" in caplog.text
    (tmp_path / "m.meme").write_text(meme_text([Motif("MA1.1", COUNTS, "TOY")]))
    assert [model.info.name for model in load_models(names[:2], Runtime())] == ["TOY", "MA1.1:TOY"]


def test_every_motif_of_a_file_is_a_model(tmp_path):
    motifs = [MOTIF, Motif("M2", COUNTS[:5])]
    for name, text in (("m.meme", meme_text(motifs)), ("m.txt", jaspar_text(motifs))):
        (tmp_path / name).write_text(text)
        models = load_models([str(tmp_path / name), "CTCF"], Runtime())
        assert [model.info.name for model in models] == ["ONE", "M2", "CTCF"]
        assert [model.info.site_width for model in models[:2]] == [7, 5]
        with pytest.raises(UsageError, match="CTCF is not a PWM; expected a probability"):
            base_threshold(("score", 9.0), models[2])


def test_predict_finds_the_same_on_both_strands(tmp_path, run):
    (tmp_path / "m.jaspar").write_text(jaspar_text([MOTIF]))
    best = bytes(ord(BASES[i]) for i in COUNTS.argmax(axis=1))
    sequence = b"T" * 900 + best + b"T" * 300 + reverse_complement(best) + b"T" * 2000 + best
    (tmp_path / "s.fa").write_bytes(b">s\n" + sequence + b"\n")
    result = run("predict", "-m", tmp_path / "m.jaspar", tmp_path / "s.fa")
    assert result.status == 0, result.err
    rows = [line.split("\t") for line in result.out.splitlines()]
    starts = [900, 1207, 3214]
    assert [(int(row[1]), int(row[2]), row[3], row[5]) for row in rows] == [
        (a, a + 7, "ONE", strand) for a, strand in zip(starts, "+-+")
    ]
    assert run("predict", "-m", tmp_path / "m.jaspar", "-t", "score=99", tmp_path / "s.fa").out == ""


CONSENSUS = Motif("M", np.where(np.eye(4)[[0, 1, 2, 3, 1, 2, 3]] > 0, 97.0, 1.0))  # ACGTCGT


def test_a_word_with_one_mismatch_has_its_exact_p_value(tmp_path, run):
    (tmp_path / "m.jaspar").write_text(jaspar_text([CONSENSUS]))
    (tmp_path / "s.fa").write_text(">s\n" + "T" * 20 + "ACGTCGA" + "T" * 20 + "\n")
    result = run("predict", "-m", tmp_path / "m.jaspar", "-t", "p=0.0015", "--format", "narrowpeak", tmp_path / "s.fa")
    (row,) = [line.split("\t") for line in result.out.splitlines()]
    assert row[1:3] == ["20", "27"] and float(row[7]) == pytest.approx(-np.log10(22 / 4**7), abs=1e-4)
    assert run("predict", "-m", tmp_path / "m.jaspar", tmp_path / "s.fa").out == ""


def test_matches_up_to_two_bases_apart_are_one_site_on_their_strand(tmp_path, run):
    (tmp_path / "m.jaspar").write_text(jaspar_text([CONSENSUS]))
    pairs = [(f"gap{gap}", "T" * 10 + "ACGTCGT" + "T" * gap + "ACGTCGT" + "T" * 10) for gap in range(4)]
    pairs += [(f"reverse{name}", reverse_complement(text.encode()).decode()) for name, text in pairs]
    (tmp_path / "s.fa").write_text("".join(f">{name}\n{text}\n" for name, text in pairs))
    result = run("predict", "-m", tmp_path / "m.jaspar", tmp_path / "s.fa")
    rows = [line.split("\t") for line in result.out.splitlines()]
    one = [("10", "24"), ("10", "25"), ("10", "26")]
    forward = [(f"gap{gap}", *ends, "+") for gap, ends in enumerate(one)]
    forward += [("gap3", "10", "17", "+"), ("gap3", "20", "27", "+")]
    assert [(row[0], row[1], row[2], row[5]) for row in rows] == forward + [
        (f"reverse{name}", start, end, "-") for name, start, end, _ in forward
    ]


def test_jaspar_files_are_read_with_letters_and_without(tmp_path):
    path = tmp_path / "m.jaspar"
    path.write_text(jaspar_text([MOTIF, Motif("M2", COUNTS[:5])]))
    for again, motif in zip(read_motifs(str(path)), [MOTIF, Motif("M2", COUNTS[:5], "M2")]):
        assert (again.id, again.name) == (motif.id, motif.name) and np.array_equal(again.counts, motif.counts)
    path.write_text(">MA1 a name\r\n1 2\r\n3 4.5\r\n5 6\r\n7 8\r\n\r\n")
    (one,) = read_motifs(str(path))
    assert (one.id, one.name) == ("MA1", "a_name") and one.counts.tolist() == [[1, 3, 5, 7], [2, 4.5, 6, 8]]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (">\n", ":1: expected '>' and the id of a motif, found '>'"),
        (">M\nA [ 1 2 ]\nC [ 1 2 ]\nG [ 1 2 ]\n", ":5: row T of motif 'M': expected 2 counts, found ''"),
        (">M\nA [ 1 2 ]\nG [ 1 2 ]\n", ":3: row C of motif 'M': expected 2 counts, found 'G [ 1 2 ]'"),
        (">M\nA [ 1 2 ]\nC [ 1 2 3 ]\n", ":3: row C of motif 'M': expected 2 counts, found 'C [ 1 2 3 ]'"),
        (">M\nA [ 1 -2 ]\n", ":2: row A of motif 'M': expected counts, found 'A [ 1 -2 ]'"),
        (">M\n1 0\n0 0\n0 0\n0 0\n", ":5: motif 'M' has a position without counts"),
        (">M\n1\n1\n1\n1\nrest\n", ":6: expected '>' and the id of a motif, found 'rest'"),
    ],
)
def test_bad_jaspar_files_are_refused(tmp_path, text, problem):
    path = tmp_path / "bad.jaspar"
    path.write_text(text)
    with pytest.raises(DataError) as error:
        read_motifs(str(path))
    assert problem in str(error.value) and "bad.jaspar" in str(error.value)
