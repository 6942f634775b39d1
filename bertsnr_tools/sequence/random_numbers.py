"""Random numbers that do not depend on the order of work: a counter-based generator for arrays."""

from __future__ import annotations

import numpy as np

_GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)  # 2^64 divided by the golden ratio, the increment of SplitMix64
_COUNTER_STEP = np.uint64(0x100000001)  # spreads a 32-bit counter over both halves of the word


def random_numbers(key: np.ndarray, counter: np.ndarray, stream: int) -> np.ndarray:
    """Random numbers that each depend only on their key, counter and stream, not on their index in the array.

    The finaliser of SplitMix64 (Steele, Lea and Flood 2014).

    Parameters
    ----------
    key : uint64, shape (n,)
    counter : whole numbers below 2^32, shape (n,)
    stream : a whole number; streams of one key and counter are independent

    Returns
    -------
    uint64, shape (n,)
    """
    with np.errstate(over="ignore"):
        value = key + _GOLDEN_GAMMA * (counter.astype(np.uint64) * _COUNTER_STEP + np.uint64(stream + 1))
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            value = (value ^ (value >> np.uint64(shift))) * np.uint64(factor)
        return value ^ (value >> np.uint64(31))
