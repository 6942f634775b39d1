"""Sequence as numbers: letters to codes, codes to overlapping k-mer tokens, base labels to token labels.

The vocabulary is that of DNABERT (Ji et al. 2021) and BertSNR (Luo et al. 2024, section 2.2): five special tokens, then the
4^k k-mers counted in the letter order A, T, C, G. Token i of a sequence covers its bases [i, i + k).
"""

from __future__ import annotations

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def random_numbers(key: np.ndarray, counter: np.ndarray, stream: int) -> np.ndarray:
    """Counter-based random numbers: each depends on its own key, counter and stream alone, not on its place in the array.

    The finaliser of SplitMix64 (Steele, Lea and Flood 2014).

    Parameters
    ----------
    key : uint64, shape (n,)
    counter : whole numbers below 2^32, shape (n,)
    stream : a whole number

    Returns
    -------
    uint64, shape (n,)
    """
    with np.errstate(over="ignore"):
        value = key + _GOLDEN * (counter.astype(np.uint64) * np.uint64(0x100000001) + np.uint64(stream + 1))
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            value = (value ^ (value >> np.uint64(shift))) * np.uint64(factor)
        return value ^ (value >> np.uint64(31))
