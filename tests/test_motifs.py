import random
import tempfile
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertsnr_tools.errors import DataError, UsageError
from bertsnr_tools.io.fasta import Genome
from bertsnr_tools.io.intervals import Interval
from bertsnr_tools.io.motif_files import (
    BASES,
    Motif,
    jaspar_text,
    meme_text,
    read_motif,
    read_motifs,
    unique_id,
    write_motifs,
)
from bertsnr_tools.motifs.discovery import discover, discover_motifs
from bertsnr_tools.motifs.instances import (
    InstanceRule,
    aligned_offsets,
    called_instances,
    instance_starts,
    letter_counts,
)
from bertsnr_tools.motifs.sources import SiteSource
from bertsnr_tools.predict.calling import CalledSite, Site
from bertsnr_tools.sequence.encoding import encode, reverse_complement

SHORT = Motif("A_1", np.array([[7, 0, 0, 0], [0, 3, 3, 1], [2, 2, 2, 1]], dtype=float), "short")


def random_motif(seed, width, sites):
    rng = np.random.default_rng(seed)
    counts = [rng.multinomial(sites, rng.dirichlet([0.4] * 4)) for _ in range(width)]
    return Motif(f"M{seed}", np.array(counts, dtype=float))


def first_instance_slowly(calls, width, coverage):
    """The paper's procedure, step by step: `width` bases around the middle of the first run of good windows."""
    left = right = None
    for start in range(len(calls) - width + 1):
        good = sum(calls[start : start + width]) * 1000 >= round(coverage * 1000) * width
        if good:
            left = start if left is None else left
            right = start + width
        elif left is not None:
            break
    return None if left is None else (left + right) // 2 - width // 2


@pytest.mark.parametrize("coverage", [0.8, 0.5, 1.0])
def test_first_instance_equals_a_slow_reference(coverage):
    rng = random.Random(3)
    found = Counter()
    for _ in range(4000):
        length, width = rng.randint(1, 60), rng.randint(1, 20)
        fraction = rng.choice([0.3, 0.7, 0.9, 0.97])
        calls = [int(rng.random() < fraction) for _ in range(length)]
        if rng.random() < 0.5:  # as a model calls: long runs
            a, b = sorted(rng.choices(range(length + 1), k=2))
            calls = [int(a <= i < b) ^ int(rng.random() < 0.03) for i in range(length)]
        starts = instance_starts(np.array(calls), width, InstanceRule(coverage=coverage).min_called_bases(width))
        slow = first_instance_slowly(calls, width, coverage)
        assert (starts[0] if len(starts) else None) == slow
        assert all(0 <= start <= length - width for start in starts)
        found[slow is not None] += 1
    assert min(found[True], found[False]) > 500


def test_every_run_is_an_instance():
    calls = np.array([int(c) for c in "0111110000011111001111100"])
    assert instance_starts(calls, 5, 4).tolist() == [1, 11, 18]
    assert instance_starts(calls, 5, 5).tolist() == [1, 11, 18]
    assert instance_starts(calls, 9, 7).tolist() == [13]


def test_min_called_bases():
    rule = InstanceRule()
    assert [rule.min_called_bases(width) for width in (1, 5, 10, 11, 15, 19, 35)] == [1, 4, 8, 9, 12, 16, 28]
    assert InstanceRule(coverage=0.7).min_called_bases(10) == 7
    assert InstanceRule(coverage=0.001).min_called_bases(3) == 1


@pytest.mark.parametrize("strand", ["+", "-"])
def test_site_instances_equal_instances_of_calls(tmp_path, strand):
    """A called site alone in its sequence gives what the sliding window finds, on either strand."""
    found = Counter()
    rng = random.Random(4)
    text = "".join(rng.choices("ACGT", k=400))
    (tmp_path / "g.fa").write_text(f">chr1\n{text}\n>chr2:1001-1400\n{text}\n")
    genome = Genome(str(tmp_path / "g.fa"))
    reverse = text[::-1].translate(str.maketrans("ACGT", "TGCA"))
    for _ in range(300):
        width = rng.randint(3, 25)
        start = rng.randint(30, 300)
        end = start + rng.randint(1, 60)
        calls = np.zeros(400, dtype=int)
        calls[start:end] = 1
        rule = InstanceRule(width)
        starts = instance_starts(calls if strand == "+" else calls[::-1], width, rule.min_called_bases(width))
        for chrom, shift in (("chr1", 0), ("chr2", 1000)):
            site = Interval(chrom, start + shift, end + shift, "TF", strand)
            source = SiteSource([site], genome, rule)
            instances = list(source.instances())
            found[len(instances)] += 1
            assert len(instances) + source.skipped["short"] == 1 and len(instances) == len(starts)
            for instance in instances:
                own = int(starts[0])
                assert instance.sequence.decode() == (text if strand == "+" else reverse)[own : own + width]
                first = own if strand == "+" else 400 - own - width
                assert (instance.interval.start, instance.interval.end) == (first + shift, first + width + shift)
    assert min(found[0], found[1]) > 50


def test_skipped_sites_are_counted(tmp_path):
    (tmp_path / "g.fa").write_text(">c\nACGTACGTNACGTACGTACGT\n")
    genome = Genome(str(tmp_path / "g.fa"))
    rule = InstanceRule(5, 0.6)
    sites = [Interval("c", start, end, "TF") for start, end in ((0, 3), (6, 11), (12, 14), (12, 17))]
    source = SiteSource(sites, genome, rule)
    assert [instance.sequence for instance in source.instances()] == [b"TACGT"]
    assert source.skipped == {"edge": 1, "n": 1, "short": 1}
    with pytest.raises(DataError, match="x:7: end 30 is past the end of c"):
        list(SiteSource([Interval("c", 20, 30, "TF", "+", 7)], genome, rule, "x").instances())
    with pytest.raises(DataError, match="x:8: no sequence named 'd'"):
        list(SiteSource([Interval("d", 2, 3, "TF", "+", 8)], genome, rule, "x").instances())
    with pytest.raises(DataError, match="x: contains no sites"):
        SiteSource([], genome, rule, "x")


def test_discovery_takes_files_and_objects(tmp_path):
    (tmp_path / "g.fa").write_text(">c\nACGTACGTNACGTACGTACGT\n")
    (tmp_path / "s.bed").write_text("c\t0\t4\tA\nc\t12\t16\tA\nc\t14\t19\tB\n")
    genome = Genome(str(tmp_path / "g.fa"))
    sites = [CalledSite("c", 0, 4, "A", 1, "+", 1, 2, 0), CalledSite("c", 12, 16, "A", 1, "+", 1, 2, 0)]
    from_file = discover_motifs(tmp_path / "s.bed", tmp_path / "g.fa")
    (from_sites,) = discover_motifs(sites, genome)
    assert [(motif.id, motif.width, motif.sites) for motif in from_file] == [("A", 4, 2), ("B", 5, 1)]
    assert from_sites.counts.tolist() == from_file[0].counts.tolist()
    assert from_sites.counts.tolist() == [[1, 0, 0, 1], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]
    (unstranded,) = discover_motifs([Interval(*site[:4], ".") for site in sites], genome)
    assert unstranded.counts.tolist() == from_sites.counts.tolist()


def test_the_better_of_two_strands_is_the_instance():
    one, every = InstanceRule(), InstanceRule(every=True)
    scores = np.zeros((2, 30), dtype=np.float32)
    scores[0, 3:8], scores[1, 12:17] = 0.7, 0.9
    assert called_instances(scores, 0.5, 5, one) == [Site(12, 17, "-", pytest.approx(0.9))]
    assert [site[:3] for site in called_instances(scores, 0.5, 5, every)] == [(3, 8, "+"), (12, 17, "-")]
    scores[1, 3:8] = 0.6  # the other strand of a better site
    assert [site[:3] for site in called_instances(scores, 0.5, 5, every)] == [(3, 8, "+"), (12, 17, "-")]
    assert called_instances(scores[::-1], 0.5, 5, one)[0][:3] == (3, 8, "-")
    assert called_instances(scores, 0.95, 5, one) == []
    # the first run of the reverse strand is its rightmost
    scores = np.zeros((2, 30))
    scores[1, 2:7], scores[1, 20:25] = 0.9, 0.8
    assert called_instances(scores, 0.5, 5, one)[0][:3] == (20, 25, "-")


def planted(count, errors, reach=3, seed=5):
    """Instances of one motif with flanks, each off by up to 2 bp, some letters changed; how far each is off."""
    rng = np.random.default_rng(seed)
    motif = encode(b"TGACTCAGCA")
    codes = rng.integers(0, 4, (count, len(motif) + 2 * reach)).astype(np.uint8)
    off = rng.choice([-2, -1, 0, 1, 2], count, p=[0.1, 0.2, 0.4, 0.2, 0.1])
    changed = np.where(rng.random((count, len(motif))) < errors, rng.integers(0, 4, (count, len(motif))), motif)
    codes[np.arange(count)[:, None], (reach + off)[:, None] + np.arange(len(motif))] = changed
    return codes, off


@pytest.mark.parametrize("count", [20, 400, 40_000])
def test_instances_are_aligned_with_each_other(count):
    codes, off = planted(count, 0.2)
    moved = aligned_offsets(codes, 3)
    assert (moved == off).mean() > 0.95 and (off == 0).mean() < 0.6
    assert np.abs(moved).max() <= 3 and (moved == aligned_offsets(codes, 3)).all()


def test_instances_that_already_agree_stay():
    codes, _ = planted(200, 0)
    codes[:, 3:13] = encode(b"TGACTCAGCA")
    assert not aligned_offsets(codes, 3).any()
    assert not aligned_offsets(codes[:, 3:13], 0).any()
    few, off = planted(19, 0)
    assert off.any() and not aligned_offsets(few, 3).any()


def test_chance_does_not_align_unrelated_instances():
    """Random instances get no motif."""
    codes = np.random.default_rng(6).integers(0, 4, (300, 14)).astype(np.uint8)
    moved = aligned_offsets(codes, 2)
    aligned = codes[np.arange(300)[:, None], (2 + moved)[:, None] + np.arange(10)]
    assert Motif("x", letter_counts(aligned)).information.sum(axis=1).max() < 0.3


@pytest.mark.parametrize("before", ["N", "T"])
def test_instances_move_on_both_strands_but_not_to_unknown_bases(tmp_path, before):
    """The last site is next to a base that is unknown, or that completes the motif."""
    rng, width = random.Random(8), 10
    sites, text = [], ""
    for number in range(60):
        off = (0, 0, -1, 1)[number // 2 % 4]
        text += "".join(rng.choices("ACGT", k=20))
        sites.append(Interval("c", len(text) + off, len(text) + off + width, "TF", "-" if number % 2 else "+"))
        text += "TGCTGAGTCA" if number % 2 else "TGACTCAGCA"
    text += before + "GACTCAGCAG"
    sites.append(Interval("c", len(text) - 10, len(text), "TF"))
    (tmp_path / "g.fa").write_text(f">c\n{text}\n")
    genome = Genome(str(tmp_path / "g.fa"))
    moved, kept = [], []
    (aligned,) = discover(SiteSource(sites, genome, InstanceRule(width)), write=moved.append)
    (plain,) = discover(SiteSource(sites, genome, InstanceRule(width, align=0)), write=kept.append)
    assert aligned.information.sum() > plain.information.sum() + 5
    assert all(instance.sequence == b"TGACTCAGCA" for instance in moved[:60])
    assert moved[60].sequence == (b"GACTCAGCAG" if before == "N" else b"TGACTCAGCA")
    for instance, site in zip(moved, kept):
        assert abs(instance.interval.start - site.interval.start) <= 1 and instance.interval.end <= len(text)
        known = genome.fetch("c", instance.interval.start, instance.interval.end)
        assert instance.sequence == (known if instance.interval.strand == "+" else reverse_complement(known))


def test_matrices():
    assert SHORT.width == 3 and SHORT.sites == 7
    assert SHORT.probs[1].tolist() == [0, 3 / 7, 3 / 7, 1 / 7]
    assert SHORT.information[0].tolist() == [2, 0, 0, 0]
    even = Motif("e", np.full((1, 4), 5.0))
    assert np.allclose(even.information, 0) and np.allclose(even.log_odds, 0)
    assert SHORT.log_odds[0, 0] == pytest.approx(np.log2(7.25 / 8 / 0.25))
    assert SHORT.log_odds[0, 1] == pytest.approx(np.log2(0.25 / 8 / 0.25))
    assert SHORT.reverse_complement().counts[-1].tolist() == [0, 0, 0, 7]
    pfm = letter_counts(encode(b"ACGACTTTT").reshape(3, 3))
    assert pfm.tolist() == [[2, 0, 0, 1], [0, 2, 0, 1], [0, 0, 1, 2]]
    assert "".join(BASES[c] for c in [0, 3, 1, 2]) == "ATCG" and encode(b"ATCG").tolist() == [0, 1, 2, 3]


def test_ids_are_unique_and_plain():
    taken = []
    for name in ("CTCF", "a b", "a=b", "a_b", "", "x/y", "CTCF"):
        taken.append(unique_id(name, taken))
    assert taken == ["CTCF", "a_b", "a_b-2", "a_b-3", "motif", "x/y", "CTCF-2"]


MOTIFS = [SHORT, random_motif(1, 19, 812), random_motif(2, 1, 1), random_motif(3, 34, 3), random_motif(4, 8, 100_003)]


@pytest.mark.parametrize("form", ["meme", "jaspar"])
def test_written_motifs_have_different_ids(tmp_path, form):
    path = tmp_path / "m.txt"
    write_motifs(path, [Motif("a", SHORT.counts), Motif("a", SHORT.counts), Motif("b=c", SHORT.counts)], form=form)
    assert [motif.id for motif in read_motifs(path)] == ["a", "a-2", "b_c"]
    before = path.read_bytes()
    with pytest.raises(UsageError, match="motif 'z' cannot be written: a position has no counts"):
        write_motifs(path, [Motif("z", np.zeros((3, 4)))], form=form)
    with pytest.raises(UsageError, match="motif format is 'xx'; expected meme or jaspar"):
        write_motifs(path, MOTIFS, form="xx")
    assert path.read_bytes() == before


def test_meme_round_trip(tmp_path):
    path = tmp_path / "m.meme"
    write_motifs(str(path), MOTIFS)
    again = read_motifs(str(path))
    assert [(m.id, m.name, m.sites) for m in again] == [(m.id, m.name, m.sites) for m in MOTIFS]
    for one, other in zip(MOTIFS, again):
        assert np.array_equal(one.counts, other.counts)
    assert path.read_text() == meme_text(again) == meme_text(MOTIFS)
    rows = [line.split() for line in path.read_text().splitlines() if line.startswith(" ")]
    assert len(rows) == sum(m.width for m in MOTIFS)
    assert all(sum(int(value.replace(".", "")) for value in row) == 10**6 for row in rows)


def test_three_other_readers_see_the_same_matrices(tmp_path):
    import lightmotif
    from Bio import motifs as biopython
    from memelite.io import read_meme as memelite

    path = tmp_path / "m.meme"
    path.write_text(meme_text(MOTIFS))
    with path.open() as stream:
        first = biopython.parse(stream, "minimal")
    second = memelite(str(path))
    third = list(lightmotif.load(str(path), format="meme"))
    assert [m.name for m in first] == [m.id for m in MOTIFS]
    assert list(second) == [f"{m.id} {m.name}".strip() for m in MOTIFS]
    assert [m.name for m in third] == [m.id for m in MOTIFS]
    for motif, one, two, three in zip(MOTIFS, first, second.values(), third):
        written = np.array([[round(v * 1e6) / 1e6 for v in row] for row in motif.probs])
        assert one.num_occurrences == motif.sites
        counts = np.array([one.counts[letter] for letter in BASES]).T
        assert np.abs(counts - motif.counts).max() <= 1  # Biopython rounds probabilities times sites
        assert np.abs(two.T - written).max() < 2e-6
        odds = np.array([list(row) for row in three.pwm])[:, [0, 1, 3, 2]]  # from A, C, T, G; background 0.25
        assert np.abs(odds / 4 - written).max() < 2e-6


def test_jaspar_is_read_by_biopython(tmp_path):
    from Bio import motifs as biopython

    path = tmp_path / "m.jaspar"
    write_motifs(str(path), MOTIFS, form="jaspar")
    with path.open() as stream:
        read = biopython.parse(stream, "jaspar")
    for motif, other in zip(MOTIFS, read):
        assert other.matrix_id == motif.id
        assert np.array_equal(np.array([other.counts[letter] for letter in BASES]).T, motif.counts)


def test_motif_of_a_name(tmp_path):
    path = str(tmp_path / "m.meme")
    write_motifs(path, MOTIFS)
    assert read_motif(path, "M3").id == "M3" and read_motif(path, "short").id == "A_1"
    with pytest.raises(DataError, match="contains 5 motifs; expected exactly one of them to be named CTCF"):
        read_motif(path, "CTCF")
    write_motifs(path, MOTIFS[:1])
    assert read_motif(path, "CTCF").id == "A_1"


def test_meme_file_from_another_program(tmp_path):
    path = tmp_path / "m.meme"
    path.write_text(
        "MEME version 5.5.5\r\n\r\nALPHABET= ACGT\r\n\r\nMOTIF MA1 two words\r\n"
        "letter-probability matrix: alength= 4 w= 2 nsites= 12.5 E= 1e-3\r\n0.5\t0.5\t0\t0\r\n 0.25 0.25 0.25 0.25\r\n"
        "URL http://example.org\r\nMOTIF MA2\r\nletter-probability matrix: w=1\r\n1 0 0 0"
    )
    one, two = read_motifs(str(path))
    assert (one.id, one.name, one.width, two.id, two.name, two.sites) == ("MA1", "two", 2, "MA2", "", 20)
    assert np.allclose(one.probs, [[0.5, 0.5, 0, 0], [0.25] * 4])


HEAD = "MEME version 4\n\nALPHABET= ACGT\n\n"
MATRIX = "letter-probability matrix: alength= 4 w= 2 nsites= 3 E= 0\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", ": is not a motif file; expected MEME, JASPAR"),
        ("chr1\t7\t9\n", ": is not a motif file; expected MEME, JASPAR"),
        ("<?xml version='1.0'?>\n<MEME/>\n", ": is XML or HTML; use the text output"),
        (HEAD, ": contains no motif"),
        ("MEME version 4\nALPHABET= ACDEFGHIKLM\n", ":2: alphabet is 'ACDEFGHIKLM'; expected ACGT"),
        (HEAD + "MOTIF\n", ":5: the motif has no name"),
        (HEAD + MATRIX, ":5: matrix before the first MOTIF line"),
        (HEAD + "MOTIF a\nMOTIF b\n", "motif 'a' has no letter-probability matrix"),
        (HEAD + "MOTIF b\n", ":5: motif 'b' has no letter-probability matrix"),
        (HEAD + "MOTIF a\nletter-probability matrix: alength= 4\n", ":7: row 1 of motif 'a': expected 4"),
        (HEAD + "MOTIF a\nletter-probability matrix: w= 99999999\n", ":6: motif 'a' has w= '99999999'"),
        (HEAD + "MOTIF a\nletter-probability matrix: nsites= x\n", ":6: motif 'a' has w= '' and nsites= 'x'"),
        (HEAD + "MOTIF a\nletter-probability matrix:\n1 0 0 0\n1 0\n", ":8: row 2 of motif 'a'"),
        (
            HEAD + "MOTIF a\n" + MATRIX + "1 0 0 0\n",
            ":8: row 2 of motif 'a': expected 4 probabilities that sum to 1, found ''",
        ),
        (HEAD + "MOTIF a\n" + MATRIX + "1 0 0 0\n1 0 0\n", "sum to 1, found '1 0 0'"),
        (HEAD + "MOTIF a\n" + MATRIX + "1 0 0 0\n1 0 0 nan\n", ":8: row 2"),
        (HEAD + "MOTIF a\n" + MATRIX + "0.3 0.1 0.1 0.1\n1 0 0 0\n", ":7: row 1"),
    ],
)
def test_bad_files_are_refused(tmp_path, text, problem):
    path = tmp_path / "bad.meme"
    path.write_text(text)
    with pytest.raises(DataError) as error:
        read_motifs(str(path))
    assert problem in str(error.value) and "bad.meme" in str(error.value)


def motifs_of(text):
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        return read_motifs(file.name)


COUNTS = st.lists(st.lists(st.integers(0, 5000), min_size=4, max_size=4).filter(any), min_size=1, max_size=30)


@given(COUNTS)
def test_counts_survive_both_formats(rows):
    counts = np.array(rows, dtype=float)
    jaspar = motifs_of(jaspar_text([Motif("M1", counts, "one")]))
    assert [(motif.id, motif.name, motif.counts.tolist()) for motif in jaspar] == [("M1", "one", counts.tolist())]
    meme = motifs_of(meme_text([Motif("M1", counts, "one")]))
    assert [(motif.id, motif.name) for motif in meme] == [("M1", "one")]
    assert np.abs(meme[0].probs - jaspar[0].probs).max() < 2e-6


@given(
    COUNTS,
    st.booleans(),
    st.lists(
        st.tuples(st.floats(0, 1), st.integers(0, 9), st.text("ACGT0159.[]>= \n-eMOTIF\x00é", max_size=5)),
        min_size=1,
        max_size=4,
    ),
)
def test_damaged_motif_files_are_motifs_or_an_error(rows, jaspar, cuts):
    text = (jaspar_text if jaspar else meme_text)([Motif("M1", np.array(rows, dtype=float))])
    for fraction, deleted, inserted in cuts:
        start = int(fraction * len(text))
        text = text[:start] + inserted + text[start + deleted :]
    try:
        motifs = motifs_of(text)
    except DataError:
        return
    assert all(
        motif.counts.shape == (motif.width, 4) and motif.width and np.isfinite(motif.probs).all() for motif in motifs
    )
