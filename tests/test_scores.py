import numpy as np
import pytest

from bertsnr_tools.predict.calling import Site, SiteCaller, call_sites
from bertsnr_tools.predict.tiling import Tiler


def tiles_of(codes, cuts, window, step, shortest):
    """All windows as (begin, length, own_start, own_end) and the check that the track is completed without a gap."""
    tiler, found, done = Tiler(window, step, shortest), [], 0
    borders = [0, *cuts, len(codes)]
    for number, (a, b) in enumerate(zip(borders, borders[1:])):
        tiles = tiler.feed(codes[a:b], number == len(borders) - 2)
        assert tiles.start == done
        done = tiles.end
        for begin, length, own in zip(tiles.begins, tiles.lengths, tiles.owns + tiles.codes_start):
            assert (tiles.codes[begin : begin + length] == codes[begin + tiles.codes_start :][:length]).all()
            assert tiles.start <= own[0] < own[1] <= tiles.end
            found.append((begin + tiles.codes_start, length, *own))
    assert done == len(codes)
    return found


def test_windows_of_a_plain_sequence():
    #   0    5    10   15   20  22
    #   [--------)                  owned up to the middle of each overlap
    #        [--------)
    #             [--------)
    #               [--------)      the last ends with the sequence
    codes = np.zeros(22, dtype=np.uint8)
    assert tiles_of(codes, [], 10, 5, 3) == [(0, 10, 0, 7), (5, 10, 7, 12), (10, 10, 12, 16), (12, 10, 16, 22)]


def test_runs_between_n_are_cut_by_themselves():
    codes = np.array([4, 4, 0, 0, 0, 0, 4, 0, 0, 4] + [0] * 12, dtype=np.uint8)
    assert tiles_of(codes, [], 10, 5, 3) == [(2, 4, 2, 6), (10, 10, 10, 16), (12, 10, 16, 22)]


def test_every_base_is_owned_once_however_the_sequence_comes():
    rng = np.random.default_rng(0)
    for _ in range(600):
        length, window = rng.integers(1, 120), int(rng.integers(3, 20))
        step, shortest = int(rng.integers(1, window + 1)), int(rng.integers(1, 4))
        codes = np.where(rng.random(length) < rng.choice([0, 0.02, 0.1, 0.5]), 4, 0).astype(np.uint8)
        whole = tiles_of(codes, [], window, step, shortest)
        assert (
            tiles_of(codes, sorted(rng.integers(0, length + 1, rng.integers(0, 8)).tolist()), window, step, shortest)
            == whole
        )
        owners = np.zeros(length, dtype=int)
        for begin, size, start, end in whole:
            assert begin <= start < end <= begin + size <= length and (codes[begin : begin + size] == 0).all()
            owners[start:end] += 1
        text = "".join("N" if code else "A" for code in codes)
        expected = [
            int(any(part and len(part) >= shortest and letter == "A" for part in [part]))
            for part in text.replace("N", " N ").split()
            for letter in part
        ]
        assert owners.tolist() == expected


#  position   0  1  2  3  4  5  6  7  8  9 10 11
PLUS = np.array([0, 9, 9, 9, 0, 0, 9, 9, 0, 0, 0, 9]) / 10
MINUS = np.array([0, 8, 8, 8, 8, 0, 0, 0, 0, 7, 7, 0]) / 10
TRACK = np.stack([PLUS, MINUS]).astype(np.float32)


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
    assert [(s.start, s.end, s.strand) for s in call_sites(TRACK, 0.5, shortest, gap)] == expected


def test_a_bridged_site_counts_its_gap():
    assert call_sites(np.stack([PLUS, 0 * PLUS]), 0.5, 3, 2) == [
        Site(1, 8, "+", pytest.approx(5 * 0.9 / 7), pytest.approx(0.9), 1)
    ]


def test_of_two_strands_the_better_stays_and_ties_go_forward():
    track = np.full((2, 6), 0.9, dtype=np.float32)
    assert call_sites(track, 0.5, 1, 0) == [Site(0, 6, "+", pytest.approx(0.9), pytest.approx(0.9), 0)]
    track[1] = 0.95
    assert [s.strand for s in call_sites(track, 0.5, 1, 0)] == ["-"]
    assert call_sites(np.zeros((2, 9), dtype=np.float32), 0.5, 1, 0) == []
    assert call_sites(np.zeros((2, 0), dtype=np.float32), 0.5, 1, 0) == []


def test_a_score_at_the_threshold_is_not_called():
    assert call_sites(np.full((2, 3), 0.5, dtype=np.float32), 0.5, 1, 0) == []


def test_sites_do_not_depend_on_how_the_track_comes():
    rng = np.random.default_rng(1)
    for _ in range(600):
        n, gap, shortest = int(rng.integers(1, 80)), int(rng.integers(0, 4)), int(rng.integers(1, 5))
        track = (rng.random((2, n)) * rng.choice([0.6, 0.8, 1])).astype(np.float32)
        caller, found = SiteCaller(0.5, shortest, gap), []
        borders = [0, *sorted(rng.integers(0, n + 1, rng.integers(0, 8)).tolist()), n]
        for number, (a, b) in enumerate(zip(borders, borders[1:])):
            new = caller.feed(track[:, a:b], number == len(borders) - 2)
            assert all(site.start < caller.settled for site in new)
            found += new
        assert found == call_sites(track, 0.5, shortest, gap)
