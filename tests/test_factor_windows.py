"""workflow/factor_windows.py: where windows lie, and which of them may be used for training."""

import sys

import numpy as np
import pytest

from bertsnr_tools.io.motif import Motif
from bertsnr_tools.sequence.encoding import CODE_LETTERS, OTHER, encode, reverse_complement_codes
from conftest import ROOT

sys.path.append(str(ROOT / "workflow"))
from factor_motifs import best_matches
from factor_sources import pair_by_order
from factor_windows import HeldOutWords, merged
from sparse_genome import SparseGenome, packed


def letters(codes):
    return bytes(CODE_LETTERS[code] for code in codes.tolist()).decode()


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    """chr1 with two stretches of known bases, of which [900, 1100) occurs again on chr2; chr6 is held out."""
    random = np.random.default_rng(0)
    one, two, six = (random.integers(0, 4, size).astype(np.uint8) for size in (400, 300, 300))
    text = f">chr1\n{'N' * 800}{letters(one)}{'N' * 300}{letters(two)}\n"
    text += f">chr2\n{'N' * 50}{letters(one[100:300])}\n>chr6\n{letters(six)}\n"
    text += "".join(f">{chrom}\nNN\n" for chrom in ("chr17", "chr20", "chr22"))
    path = tmp_path_factory.mktemp("sparse") / "genome.fa"
    path.write_text(text)
    return SparseGenome(str(path))


def at(genome, chrom, start, size=100):
    return encode(genome.genome.fetch(chrom, start, start + size))


def test_words_are_the_same_on_both_strands():
    codes = np.random.default_rng(1).integers(0, 4, (5, 100)).astype(np.uint8)
    codes[0, 50] = OTHER
    words, other = packed(codes), packed(reverse_complement_codes(codes))
    assert np.array_equal(words.canonical[1:], other.canonical[1:, ::-1])
    assert np.array_equal(words.reverse[1:], ~other.reverse[1:, ::-1])
    assert np.flatnonzero(~words.known[0]).tolist() == list(range(19, 51)) and words.known[1:].all()


def test_windows_are_found_on_both_strands(genome):
    unique, repeated = at(genome, "chr1", 1650), at(genome, "chr1", 950)
    changed = unique.copy()
    changed[70] ^= 1
    codes = np.stack([unique, reverse_complement_codes(unique), changed, repeated])
    offsets = (np.full(4, 10), np.full(4, 20))
    listed = genome.index(genome.keys(["chr2"], [110]))
    for sites, chrom, start in ((None, "chr1", 950), (listed, "chr2", 100)):
        found = genome.locate(codes, offsets, sites)
        assert found.index[2] == -1 and found.reverse.tolist() == [False, True, False, False]
        positions = [genome.position(int(key)) for key in genome.key_of(found.index[[0, 1, 3]])]
        assert positions == [("chr1", 1650), ("chr1", 1650), (chrom, start)]


def test_positions(genome):
    keys = genome.keys(["chr1", "chr1", "chr1", "chr3"], [799, 800, 1199, 5])
    index = genome.index(keys)
    assert index.tolist() == [-1, 0, 399, -1] and np.array_equal(genome.key_of(index[1:3]), keys[1:3])
    assert genome.touches(keys, np.array([1, 1, 9, 9])).tolist() == [False, True, True, False]
    assert genome.touches(genome.keys(["chr1"], [700]), np.array([101])).all()


def test_sites_are_mapped_where_their_sequence_is_unique(genome):
    index = genome.index(genome.keys(["chr1", "chr1"], [1700, 950]))
    keys, sizes = genome.mapped(genome, index, np.array([11, 11]))
    assert keys.tolist() == genome.keys(["chr1"], [1700]).tolist() and sizes.tolist() == [11]


def test_windows_between_known_ones_are_paired_with_their_rows():
    labels = np.zeros((5, 100), dtype=np.uint8)
    labels[:, 10:20] = 1
    keys, reverse = np.array([90, -1, 390, -1, 990]), np.zeros(5, dtype=bool)
    sites = np.array([100, 200, 400, 500, 600, 1000])  # one of 500 and 600 has no window
    rows = sites, np.full(6, 10), np.array([False, True, False, False, False, False])
    pair_by_order(keys, reverse, labels, rows)
    assert keys.tolist() == [90, 120, 390, -1, 990] and reverse.tolist() == [False, True, False, False, False]


def test_training_windows_share_nothing_with_others_tests(genome):
    tests = {"A": at(genome, "chr1", 1600)[None], "B": at(genome, "chr1", 1200 - 100)[None]}
    words = HeldOutWords(tests, [genome])
    codes = np.stack([at(genome, "chr1", 1668), at(genome, "chr1", 1669), at(genome, "chr6", 9)])
    assert words.shared(codes, "A").tolist() == [False, False, True]
    assert words.shared(codes, "B").tolist() == [True, False, True]
    assert words.shared(reverse_complement_codes(codes)).tolist() == [True, False, True]


def test_best_matches_are_on_either_strand_and_on_known_bases():
    motif = Motif("m", np.eye(4)[[0, 0, 1, 3, 2]] * 9)  # AACTG
    rows = [b"GGAACTGGGG", b"GGCAGTTGGG", b"GGAACNGGGG", b"NNNNNNNNNN"]
    matches = best_matches(motif, np.stack([encode(row) for row in rows]))
    assert matches.starts[:2].tolist() == [2, 2] and matches.reverse[:2].tolist() == [False, True]
    assert matches.scores[0] == matches.scores[1] > matches.scores[2] and matches.scores[3] == -np.inf
    assert best_matches(motif, np.zeros((2, 3), dtype=np.uint8)).scores.tolist() == [-np.inf] * 2


def test_merged_spans():
    assert merged(np.array([[5, 9], [1, 4], [3, 5], [8, 20], [9, 10]])).tolist() == [[1, 5], [5, 20]]
    assert merged(np.zeros((0, 2), dtype=int)).shape == (0, 2)
