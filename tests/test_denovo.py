import numpy as np
import pytest

from bertsnr_tools.errors import DataError
from bertsnr_tools.io.fasta import Record
from bertsnr_tools.io.motif_files import read_motifs
from bertsnr_tools.motifs.denovo import discover_denovo, fisher_p_value, trimmed
from bertsnr_tools.motifs.expectation_maximization import Background, SequenceSet, SiteModel, fit_sites, site_counts
from bertsnr_tools.motifs.seed_words import best_word, enrichment, sequences_with_word
from bertsnr_tools.sequence.encoding import CODE_LETTERS, OTHER, encode, reverse_complement

WORD = "TGACGTACCA"  # not its own reverse complement


def sequences(count, length=100, word=WORD, fraction=0.7, seed=1):
    """Random sequences, of which a fraction contains a word on either strand."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        sequence = bytearray(random.choice(np.frombuffer(b"ACGT", dtype=np.uint8), length).tobytes())
        if random.random() < fraction:
            start = random.integers(length - len(word) + 1)
            site = word.encode() if random.random() < 0.5 else reverse_complement(word.encode())
            sequence[start : start + len(word)] = site
        found.append(bytes(sequence))
    return found


def records(found):
    return [Record(str(number), "", sequence) for number, sequence in enumerate(found)]


def consensus(motif):
    return "".join("ACGT"[column] for column in motif.counts.argmax(axis=1))


def codes_of(found):
    return np.stack([encode(sequence) for sequence in found])


def test_a_planted_word_is_found(caplog):
    found = sequences(300)
    with caplog.at_level("INFO"):
        result = discover_denovo(records(found), "X")
    motif = result.motif
    assert WORD[1:-1] in (text := consensus(motif)) or reverse_complement(WORD[1:-1].encode()).decode() in text
    assert motif.id == "X" and motif.width <= 12 and 180 < motif.sites < 230
    assert (
        result.found > 35
        and result.in_shuffles < 4
        and result.p == motif.e_value < 1e-8
        and (result.held_out, result.sequences) == (60, 300)
    )
    assert "held-out sequences" in caplog.text and "may be chance" not in caplog.text
    again = discover_denovo(records(found), "X")
    assert np.array_equal(again.motif.counts, motif.counts) and again[1:] == result[1:]


def test_a_gap_and_unknown_letters():
    """Two halves with anything between them; Ns, and sequences of different lengths."""
    random = np.random.default_rng(2)
    found = []
    for sequence in sequences(300, word="A"):
        middle = "".join(random.choice(list("ACGT"), 5))
        found.append(b"NN" + sequence[: random.integers(20, 60)] + f"CCGA{middle}TCGG".encode() + sequence[70:])
    motif = discover_denovo(records(found)).motif
    assert "CCGA" in consensus(motif) and "TCGG" in consensus(motif) and motif.width >= 13
    assert motif.information[4 + consensus(motif).index("CCGA") :][:5].sum(axis=1).max() < 0.3


@pytest.mark.parametrize("seed", range(3))
def test_a_motif_of_few_sequences_is_found(seed, caplog):
    """One in ten has it, so that the best matches of most are chance."""
    result = discover_denovo(records(sequences(1000, length=150, word="TGACCGTAATCG", fraction=0.1, seed=seed)))
    text = consensus(result.motif)
    assert "ACCGTAAT" in text or "ATTACGGT" in text
    assert result.p < 1e-4 and "may be chance" not in caplog.text


def test_sequences_that_overlap_are_measured_or_learned_from_but_not_both():
    loci = sequences(125, length=180, fraction=0)
    tiles = [
        Record(f"c:{1000 * n + at + 1}-{1000 * n + at + 150}", "", locus[at : at + 150])
        for n, locus in enumerate(loci)
        for at in (0, 10, 20, 30)
    ]
    for seed in range(3):
        try:
            assert discover_denovo(tiles, seed=seed).p > 0.005
        except DataError as error:
            assert "no motif is enriched" in str(error)
    with pytest.raises(DataError, match="contains 1 different sequences of at least 30 bp that do not overlap"):
        discover_denovo(
            [Record(f"c:{at + 1}-{at + 100}", "", loci[0][:60] + loci[1][at : at + 40]) for at in range(60)]
        )


def test_random_sequences_have_no_motif(caplog):
    """No p-value is low, and a warning says that the motif may be chance."""
    p_values = []
    for seed in range(4):
        try:
            p_values.append(discover_denovo(records(sequences(100, fraction=0, seed=seed))).p)
        except DataError as error:
            assert "no motif is enriched" in str(error)
    assert min(p_values, default=1) > 0.001
    assert caplog.text.count("may be chance") == sum(p > 0.01 for p in p_values) > 0


def test_input_that_is_too_little_too_short_or_too_long(caplog):
    with pytest.raises(
        DataError, match="contains 40 different sequences of at least 30 bp that do not overlap; discovery requires"
    ):
        discover_denovo(records(sequences(40) * 3))
    mixed = [*sequences(100, length=600), b"ACGT", b"N" * 50]
    with caplog.at_level("INFO"):
        assert discover_denovo(records(mixed)).sequences == 100
    assert "2 sequences skipped: fewer than 30 bases" in caplog.text
    assert "100 sequences trimmed to their middle 300 bp" in caplog.text
    with pytest.raises(DataError, match="2 sequences skipped"):
        discover_denovo(records(mixed), strict=True)


def test_a_sample_of_many_sequences(monkeypatch, caplog):
    monkeypatch.setattr("bertsnr_tools.motifs.denovo.MAX_SEQUENCES", 150)
    with caplog.at_level("INFO"):
        assert discover_denovo(records(sequences(200))).sequences == 150
    assert "a random sample of 150 of 200 sequences" in caplog.text


def test_words_count_once_in_a_sequence_on_both_strands():
    found = [b"AAAGGGAAAGGGTT", b"CCCTTTACGTACGT", b"AAANGGGACACACA"]
    counts = sequences_with_word(codes_of(found), tuple(range(6)))
    assert counts.max() == 2 and counts.sum() == sum(
        len({min(w, reverse_complement(w), key=lambda x: encode(x).tolist()) for w in words if b"N" not in w})
        for words in ([s[i : i + 6] for i in range(9)] for s in found)
    )
    word = best_word(codes_of(sequences(200)), codes_of(sequences(200, fraction=0, seed=3)))
    text = bytes((CODE_LETTERS + b".")[code] for code in word.codes)
    assert OTHER not in word.codes and (text.decode() in WORD or reverse_complement(text).decode() in WORD)
    scores = enrichment(np.array([50, 10, 1]), np.array([10, 10, 30]), 100, 100)
    assert scores[0] > 10 and scores[1] == pytest.approx(0) and scores[2] < -10
    assert best_word(codes_of([b"ACG"]), codes_of([b"ACG"])) is None


def test_scores_are_sums_of_log_ratios():
    random = np.random.default_rng(4)
    codes = codes_of(sequences(20, length=40))
    codes[3, 7] = OTHER
    data = SequenceSet(codes)
    ppm = random.dirichlet(np.ones(4), 12)
    scores = data.scores(ppm)
    assert scores.shape == (2, 20, 29)
    back = data.background.log_next
    for row, start in ((0, 0), (5, 9), (19, 28)):
        window = codes[row, start : start + 12]
        before = np.append(codes[row, start - 1] if start else OTHER, window[:-1])
        chance = back[before, window].sum()
        assert scores[0, row, start] == pytest.approx(np.log(ppm[np.arange(12), window]).sum() - chance, abs=1e-4)
        turn = window[::-1] ^ 1
        assert scores[1, row, start] == pytest.approx(np.log(ppm[np.arange(12), turn]).sum() - chance, abs=1e-4)
    assert (scores[:, 3, :8] < -1e5).all() and (scores[:, 3, 8:] > -1e5).all()
    found = SiteModel(ppm, 0.4).site_probabilities(data).sum(axis=(0, 2))
    assert ((found > 0) & (found < 1)).all()


def test_expectation_maximization_recovers_sites_and_their_fraction():
    data = SequenceSet(codes_of(sequences(400, fraction=0.5)))
    word = encode(WORD[:7].encode())  # the motif has to move
    start = np.full((10, 4), 0.25)
    start[3:] = 0.1
    start[np.arange(3, 10), word] = 0.7
    model = fit_sites(data, SiteModel(start, 0.3))
    assert "".join(chr(CODE_LETTERS[code]) for code in model.ppm.argmax(axis=1)) == WORD
    assert 0.4 < model.fraction < 0.6
    counts = site_counts(data.codes, model.site_probabilities(data), 10)
    assert counts.sum(axis=1) == pytest.approx(np.full(10, 400 * model.fraction), rel=0.05)


def test_flanks_are_trimmed():
    background = Background.of(codes_of(sequences(50)))
    ppm = np.tile(background.frequencies, (12, 1))
    model = SiteModel(ppm, 0.5)
    assert trimmed(model, background) is model
    sharp = ppm.copy()
    sharp[3:9] = [0.97, 0.01, 0.01, 0.01]
    assert len(trimmed(SiteModel(sharp, 0.5), background).ppm) == 6
    sharp = ppm.copy()
    sharp[11] = [0.97, 0.01, 0.01, 0.01]
    assert len(trimmed(SiteModel(sharp, 0.5), background).ppm) == 5


def test_p_values_of_numbers():
    stats = pytest.importorskip("scipy.stats")
    for table in ((30, 2, 80, 70), (5, 5, 80, 70), (0, 0, 80, 70), (80, 0, 80, 70), (80, 70, 80, 70), (3, 20, 80, 70)):
        found, shuffled, one, two = table
        exact = stats.fisher_exact([[found, one - found], [shuffled, two - shuffled]], alternative="greater")
        assert fisher_p_value(*table) == pytest.approx(exact.pvalue, rel=1e-6)
    assert fisher_p_value(9000, 0, 9000, 9000) == 1e-300


def write_fasta(path, found):
    path.write_bytes(b"".join(b">%d\n%s\n" % (number, sequence) for number, sequence in enumerate(found)))
    return path


def test_from_peaks_to_a_pwm_that_scans(run, tmp_path):
    fasta = write_fasta(tmp_path / "peaks.fa", sequences(200, fraction=0.9))
    meme = tmp_path / "found.meme"
    outcome = run("motifs", "--discover", "-o", meme, "--logo", tmp_path / "logo.svg", fasta)
    assert outcome.status == 0 and outcome.out == "" and "of their shuffles (p " in outcome.err
    [motif] = read_motifs(str(meme))
    assert motif.id == "peaks" and "E= 0\n" not in meme.read_text() and (tmp_path / "logo.svg").exists()
    assert run("motifs", "--discover", "-q", fasta).out == meme.read_text()
    assert run("motifs", "--discover", "-q", "--seed", 2, fasta).out != meme.read_text()
    piped = run("motifs", "--discover", "-q", "-", stdin=fasta.read_bytes())
    assert piped.out == meme.read_text().replace("MOTIF peaks", "MOTIF motif")
    calls = run("predict", "-m", meme, fasta).out.splitlines()
    assert len({line.split("\t")[0] for line in calls}) > 150


def test_options_of_called_sites_are_rejected(run, tmp_path):
    fasta = write_fasta(tmp_path / "peaks.fa", sequences(60))
    outcome = run("motifs", "--discover", "--every", "--width", 9, fasta)
    assert outcome.status == 2 and "leave out --width, --every" in outcome.err
    outcome = run("motifs", "--discover", tmp_path / "peaks.narrowPeak")
    assert outcome.status == 2 and "extract 100 to 200 bp around each summit" in outcome.err
