import numpy as np
import pytest

from bertsnr_tools.comparison import q_values
from bertsnr_tools.io.motif_files import Motif
from bertsnr_tools.motifs.comparison import compare, jaspar_motifs


def random_motif(seed):
    rng = np.random.default_rng(seed)
    return Motif(
        f"M{seed}",
        np.array([rng.multinomial(200, rng.dirichlet([0.5] * 4)) for _ in range(rng.integers(6, 16))], dtype=float),
    )


TARGETS = [random_motif(seed) for seed in range(60)]


def test_q_values_by_their_definition():
    rng = np.random.default_rng(0)
    p = rng.random(40) ** 2
    p[3] = p[7]  # a tie
    # the smallest rate of false discoveries among the cut-offs that keep the match
    slow = [min(1.0, min(len(p) * cut / (p <= cut).sum() for cut in p if cut >= own)) for own in p]
    assert np.allclose(q_values(p), slow)
    assert q_values(np.array([0.02])).tolist() == [0.02] and q_values(np.array([1.0, 1.0])).tolist() == [1, 1]


def test_p_values_are_memelites_and_e_and_q_follow():
    from memelite import tomtom

    queries = [TARGETS[5], random_motif(100), random_motif(101)]
    rows = compare(queries, TARGETS)
    p, _, offsets, overlaps, strands = tomtom(
        [query.probs.T for query in queries], [target.probs.T for target in TARGETS]
    )
    for query, row, own, offset, overlap, strand in zip(queries, rows, p, offsets, overlaps, strands):
        assert len(row) == len(TARGETS) and [match.p for match in row] == sorted(own)
        for match in row:
            i = TARGETS.index(match.target)
            assert match.query is query and (match.p, match.offset, match.overlap) == (own[i], offset[i], overlap[i])
            assert match.orientation == "+-"[int(strand[i])] and match.e == own[i] * 60 and match.q == q_values(own)[i]
    assert rows[0][0].target is TARGETS[5] and rows[0][0].p < 1e-6


@pytest.mark.parametrize(("before", "cut"), [(0, 0), (3, 0), (0, 4), (2, 2)])
@pytest.mark.parametrize("turned", [False, True])
def test_offset_and_orientation_align_the_two(before, cut, turned):
    query = random_motif(7)
    counts = np.concatenate([random_motif(8).counts[:before], query.counts[cut:]])
    target = Motif("T", counts)
    match = next(
        m
        for m in compare([query], [*TARGETS, target.reverse_complement() if turned else target])[0]
        if m.target.id == "T"
    )
    assert (match.offset, match.orientation, match.overlap) == (
        before - cut,
        "-" if turned else "+",
        query.width - max(0, cut - before),
    )
    read = match.target.reverse_complement() if match.orientation == "-" else match.target
    for position in range(cut, query.width):
        assert np.array_equal(read.counts[position + match.offset], query.counts[position])


def test_jaspar_is_there_offline():
    motifs = {motif.id: motif for motif in jaspar_motifs()}
    assert len(motifs) > 800 and list(motifs) == sorted(motifs)
    ctcf = [motif for motif in motifs.values() if motif.name == "CTCF"]
    assert ctcf and any(
        "GGGGGC" in "".join("ACGT"[i] for i in (turn.counts.argmax(axis=1)))
        for motif in ctcf
        for turn in (motif, motif.reverse_complement())
    )
    old = [motif.id for motif in jaspar_motifs("jaspar2018")]
    assert "MA0139.1" in old and len(old) < len(motifs)
