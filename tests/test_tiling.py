import re

import numpy as np

from bertsnr_tools.predict.tiling import Tiler, join_windows


def windows_of(codes, cuts, window, step, shortest, origin=0):
    """All windows as (start, length, core_start, core_end); checks that scores are completed without a gap."""
    tiler, found, done = Tiler(window, step, shortest, origin), [], 0
    borders = [0, *cuts, len(codes)]
    for number, (a, b) in enumerate(zip(borders, borders[1:])):
        tiles = tiler.feed(codes[a:b], number == len(borders) - 2)
        assert tiles.start == done
        done = tiles.end
        for start, length, core in zip(tiles.starts, tiles.lengths, tiles.cores + tiles.codes_start):
            assert (tiles.codes[start : start + length] == codes[start + tiles.codes_start :][:length]).all()
            assert tiles.start <= core[0] < core[1] <= tiles.end
            found.append((start + tiles.codes_start, length, *core))
    assert done == len(codes)
    return found


def test_windows_of_a_plain_sequence():
    #   0    5    10   15   20  22
    #   [--------)                  core intervals end in the middle of the overlaps
    #        [--------)
    #             [--------)
    #               [--------)      the last ends with the sequence
    codes = np.zeros(22, dtype=np.uint8)
    assert windows_of(codes, [], 10, 5, 3) == [(0, 10, 0, 7), (5, 10, 7, 12), (10, 10, 12, 16), (12, 10, 16, 22)]


def test_windows_do_not_cross_n():
    codes = np.array([4, 4, 0, 0, 0, 0, 4, 0, 0, 4] + [0] * 12, dtype=np.uint8)
    assert windows_of(codes, [], 10, 5, 3) == [(2, 4, 2, 6), (10, 10, 10, 16), (12, 10, 16, 22)]


def test_windows_start_at_multiples_of_the_step_on_the_chromosome():
    codes = np.array([4, 4] + [0] * 24, dtype=np.uint8)
    assert windows_of(codes, [], 10, 5, 3) == [
        (2, 10, 2, 8),  # with the run
        (5, 10, 8, 12),
        (10, 10, 12, 17),
        (15, 10, 17, 20),
        (16, 10, 20, 26),
    ]
    rng = np.random.default_rng(1)
    codes = np.where(rng.random(400) < 0.02, 4, 0).astype(np.uint8)
    whole = windows_of(codes, [], 10, 5, 3)
    for origin in range(20, 60):
        found = [(at + origin, *rest) for at, *rest in windows_of(codes[origin:], [11, 90], 10, 5, 3, origin)]
        found = [(at, size, first + origin, end + origin) for at, size, first, end in found]
        assert set(found[2:]) <= set(whole)


def test_every_base_is_in_one_core_however_the_sequence_arrives():
    rng = np.random.default_rng(0)
    for _ in range(600):
        length, window = rng.integers(1, 120), int(rng.integers(3, 20))
        step, shortest = int(rng.integers(1, window + 1)), int(rng.integers(1, 4))
        codes = np.where(rng.random(length) < rng.choice([0, 0.02, 0.1, 0.5]), 4, 0).astype(np.uint8)
        whole = windows_of(codes, [], window, step, shortest)
        assert (
            windows_of(codes, sorted(rng.integers(0, length + 1, rng.integers(0, 8)).tolist()), window, step, shortest)
            == whole
        )
        owners = np.zeros(length, dtype=int)
        for begin, size, start, end in whole:
            assert begin <= start < end <= begin + size <= length and (codes[begin : begin + size] == 0).all()
            owners[start:end] += 1
        runs = re.findall("N+|A+", "".join("N" if code else "A" for code in codes))
        expected = [int(run[0] == "A" and len(run) >= shortest) for run in runs for _ in run]
        assert owners.tolist() == expected


def test_windows_are_joined_at_their_cores():
    codes = np.array([4] + [0] * 22 + [4, 0, 0, 4], dtype=np.uint8)
    tiles = Tiler(10, 5, 3).feed(codes, True)
    numbers = iter(range(100))

    def score(windows, cores):
        assert windows.shape[1] == 10 and (windows == 0).all()
        yield np.stack([np.full(10, next(numbers)) for _ in windows])
        yield np.tile(np.arange(10), (len(windows), 1))

    (joined,) = join_windows([tiles], score, 2, -1)
    assert joined.dtype == np.float32 and joined.shape == (2, 27)
    # cores of the windows at 1, 5, 10 and 13: [1, 8) [8, 12) [12, 16) [16, 23); the run of two bases is too short
    assert joined[0].tolist() == [-1] + [0] * 7 + [1] * 4 + [2] * 4 + [3] * 7 + [-1] * 4
    assert joined[1, 1:23].tolist() == [*range(7), *range(3, 7), *range(2, 6), *range(3, 10)]
