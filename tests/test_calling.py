import numpy as np
import pytest

from bertsnr_tools.predict.calling import Site, SiteCaller, call_levels, call_sites, resolve_strands

#  position   0  1  2  3  4  5  6  7  8  9 10 11
PLUS = np.array([0, 9, 9, 9, 0, 0, 9, 9, 0, 0, 0, 9]) / 10
MINUS = np.array([0, 8, 8, 8, 8, 0, 0, 0, 0, 7, 7, 0]) / 10
SCORES = np.stack([PLUS, MINUS]).astype(np.float32)


@pytest.mark.parametrize(
    ("shortest", "gap", "expected"),
    [
        (1, 0, [(1, 4, "+"), (6, 8, "+"), (9, 11, "-"), (11, 12, "+")]),
        (2, 0, [(1, 4, "+"), (6, 8, "+"), (9, 11, "-")]),
        (3, 0, [(1, 4, "+")]),
        (1, 2, [(1, 5, "-"), (9, 11, "-"), (11, 12, "+")]),  # joined, [1, 8) of + has a mean of 0.64 and loses
    ],
)
def test_called_sites(shortest, gap, expected):
    assert [(s.start, s.end, s.strand) for s in call_sites(SCORES, 0.5, shortest, gap)] == expected


def test_a_bridged_site_counts_its_gap():
    assert call_sites(np.stack([PLUS, 0 * PLUS]), 0.5, 3, 2) == [
        Site(1, 8, "+", pytest.approx(5 * 0.9 / 7), pytest.approx(0.9), 3)
    ]


def test_of_two_strands_the_better_stays_and_ties_go_forward():
    scores = np.full((2, 6), 0.9, dtype=np.float32)
    assert call_sites(scores, 0.5, 1, 0) == [Site(0, 6, "+", pytest.approx(0.9), pytest.approx(0.9), 3)]
    scores[1] = 0.95
    assert [s.strand for s in call_sites(scores, 0.5, 1, 0)] == ["-"]
    assert call_sites(np.zeros((2, 9), dtype=np.float32), 0.5, 1, 0) == []
    assert call_sites(np.zeros((2, 0), dtype=np.float32), 0.5, 1, 0) == []


@pytest.mark.parametrize(
    ("scores", "summit"),
    [
        ([9] * 12, 6),  # all bases are as strong, as in a match of a PWM
        ([6, 6, 9, 9, 9, 9, 9, 9, 6, 6, 6, 6], 5),
        ([6, 6, 6, 9, 9, 9, 6, 6, 6, 6, 6, 6], 4),
        ([9, 9, 9, 9, 6, 6, 6, 6, 6, 9, 9, 9], 2),  # the first of two
    ],
)
def test_the_summit_is_the_middle_of_the_strongest_bases(scores, summit):
    plus = np.array(scores, dtype=np.float32) / 10
    for strands in (np.stack([plus, 0 * plus]), np.stack([0 * plus, plus])):
        (site,) = call_sites(strands, 0.5, 3, 2)
        assert (site.end, site.summit) == (12, summit)


def test_a_score_at_the_threshold_is_not_called():
    assert call_sites(np.full((2, 3), 0.5, dtype=np.float32), 0.5, 1, 0) == []


def test_sites_do_not_depend_on_the_pieces_in_which_scores_arrive():
    rng = np.random.default_rng(1)
    for _ in range(600):
        n, gap, shortest = int(rng.integers(1, 80)), int(rng.integers(0, 4)), int(rng.integers(1, 5))
        scores = (rng.random((2, n)) * rng.choice([0.6, 0.8, 1])).astype(np.float32)
        caller, found = SiteCaller(0.5, shortest, gap), []
        borders = [0, *sorted(rng.integers(0, n + 1, rng.integers(0, 8)).tolist()), n]
        for number, (a, b) in enumerate(zip(borders, borders[1:])):
            new = caller.feed(scores[:, a:b], number == len(borders) - 2)
            assert all(site.start < caller.settled for site in new)
            found += new
        assert found == call_sites(scores, 0.5, shortest, gap)


def test_strands_are_reconciled_by_overlap_and_score():
    def site(start, end, strand, score):
        return Site(start, end, strand, score)

    plus, minus = [site(0, 10, "+", 0.8), site(20, 30, "+", 0.5)], [site(4, 12, "-", 0.7), site(26, 40, "-", 0.9)]
    # the first - site has 6 of its 8 bases in a better + site; the second + site has 4 of its 10 in a better - site
    assert resolve_strands(plus, minus) == [plus[0], plus[1], minus[1]]
    wide, narrow = Site(0, 30, "+", 0.6, 0.9), Site(5, 15, "-", 0.8, 0.85)
    assert resolve_strands([wide], [narrow]) == [narrow] and resolve_strands([wide], [narrow], by_level=True) == [wide]
    assert resolve_strands([site(0, 10, "+", 0.8)], [site(5, 15, "-", 0.9)]) == [
        site(0, 10, "+", 0.8),
        site(5, 15, "-", 0.9),  # exactly half of both
    ]


def test_a_site_is_called_up_to_its_call_level():
    rng = np.random.default_rng(2)
    for _ in range(200):
        gap, shortest = int(rng.integers(0, 4)), int(rng.integers(1, 5))
        scores = rng.random(int(rng.integers(shortest, 40))).astype(np.float32)
        level = float(call_levels(scores, shortest, gap).max())
        one_strand = np.stack([scores, np.zeros_like(scores)])
        assert call_sites(one_strand, level - 1e-4, shortest, gap)
        assert not call_sites(one_strand, level, shortest, gap)
