import sys

import numpy as np
import pytest

from bertsnr_tools.errors import DataError, UsageError
from bertsnr_tools.io.motif_files import Motif
from bertsnr_tools.metrics import q_values
from bertsnr_tools.motifs.comparison import compare, comparison_table, jaspar_motifs, load_targets


def random_motif(seed):
    rng = np.random.default_rng(seed)
    counts = [rng.multinomial(200, rng.dirichlet([0.5] * 4)) for _ in range(rng.integers(6, 16))]
    return Motif(f"M{seed}", np.array(counts, dtype=float))


TARGETS = [random_motif(seed) for seed in range(60)]


def test_wide_motifs_are_not_compared(caplog):
    """TOMTOM would take 34 GiB for a motif of 225 bp."""
    wide = Motif("peaks", np.ones((225, 4)))
    alone, both = compare([wide], TARGETS), compare([TARGETS[5], wide, TARGETS[6]], TARGETS)
    assert alone == [[]] and [row[0].target.id if row else None for row in both] == ["M5", None, "M6"]
    assert [record.getMessage() for record in caplog.records] == [
        "1 motifs of up to 225 bp are not compared, only up to 100 bp; are their sites peaks?"
    ] * 2


def test_a_slow_comparison_is_announced(monkeypatch, caplog):
    monkeypatch.setattr("bertsnr_tools.motifs.comparison.SLOW", 0.0)
    with caplog.at_level("INFO", logger="bertsnr_tools"):
        compare([TARGETS[5]] * 40, TARGETS)
    assert "comparing motifs: the first time takes up to two minutes" in caplog.text


def test_q_values_by_their_definition():
    rng = np.random.default_rng(0)
    p = rng.random(40) ** 2
    p[3] = p[7]  # a tie
    # the smallest false discovery rate among the cut-offs that keep the match
    slow = [min(1.0, min(len(p) * cut / (p <= cut).sum() for cut in p if cut >= own)) for own in p]
    assert np.allclose(q_values(p), slow)
    assert q_values(np.array([0.02])).tolist() == [0.02] and q_values(np.array([1.0, 1.0])).tolist() == [1, 1]


def test_p_values_are_memelites_and_e_and_q_follow():
    from memelite import tomtom

    queries = [TARGETS[5], random_motif(100), random_motif(101)]
    rows = compare(queries, TARGETS)
    targets = [target.probs.T for target in TARGETS]
    p, _, offsets, overlaps, strands = tomtom([query.probs.T for query in queries], targets)
    for query, row, own, offset, overlap, strand in zip(queries, rows, p, offsets, overlaps, strands):
        assert len(row) == len(TARGETS) and [match.p for match in row] == sorted(own)
        for match in row:
            i = TARGETS.index(match.target)
            assert match.query is query and (match.p, match.offset, match.overlap) == (own[i], offset[i], overlap[i])
            assert match.orientation == "+-"[int(strand[i])] and match.e == own[i] * 60 and match.q == q_values(own)[i]
    assert rows[0][0].target is TARGETS[5] and rows[0][0].p < 1e-6
    kept = compare(queries, TARGETS, max_q=0.1)
    assert kept == [[match for match in row if match.q <= 0.1] for row in rows] and 1 <= len(kept[0]) < len(rows[0])
    header, first, *_ = comparison_table(kept[0]).splitlines()
    assert header.split("\t")[:4] == ["query", "target", "target_name", "p"]
    assert first.split("\t") == ["M5", "M5", "M5", *first.split("\t")[3:6], "0", str(queries[0].width), "+"]


@pytest.mark.parametrize(("before", "cut"), [(0, 0), (3, 0), (0, 4), (2, 2)])
@pytest.mark.parametrize("reverse", [False, True])
def test_offset_and_orientation_align_the_two(before, cut, reverse):
    query = random_motif(7)
    counts = np.concatenate([random_motif(8).counts[:before], query.counts[cut:]])
    target = Motif("T", counts)
    matches = compare([query], [*TARGETS, target.reverse_complement() if reverse else target])[0]
    match = next(match for match in matches if match.target.id == "T")
    assert (match.offset, match.orientation) == (before - cut, "-" if reverse else "+")
    assert match.overlap == query.width - max(0, cut - before)
    read = match.target.reverse_complement() if match.orientation == "-" else match.target
    for position in range(cut, query.width):
        assert np.array_equal(read.counts[position + match.offset], query.counts[position])


def test_jaspar_is_available_offline():
    motifs = {motif.id: motif for motif in jaspar_motifs()}
    assert len(motifs) > 800 and list(motifs) == sorted(motifs)
    ctcf = [motif for motif in motifs.values() if motif.name == "CTCF"]
    consensus = ["".join("ACGT"[i] for i in motif.counts.argmax(axis=1)) for motif in ctcf]
    assert consensus and any("GGGGGC" in letters or "GCCCCC" in letters for letters in consensus)
    old = [motif.id for motif in jaspar_motifs("jaspar2018")]
    assert "MA0139.1" in old and len(old) < len(motifs)


def test_a_comparison_without_memelite(monkeypatch):
    monkeypatch.setitem(sys.modules, "memelite", None)
    with pytest.raises(UsageError, match="requires memelite; pip install"):
        compare([random_motif(1)], [random_motif(2)])


def test_targets_that_do_not_exist():
    with pytest.raises(DataError, match="gone.meme: no such file; for JASPAR, use jaspar"):
        load_targets("gone.meme")
    with pytest.raises(UsageError, match="jaspar1999: not a release in pyjaspar; choose from jaspar2014, "):
        load_targets("jaspar1999")
