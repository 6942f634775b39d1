"""Sequence as numbers: letters to codes, codes to overlapping k-mer tokens, base labels to token labels.

The vocabulary equals DNABERT's (Ji et al. 2021) and BertSNR's (Luo et al. 2024, section 2.2): five special tokens, then
the 4^k k-mers in the letter order A, T, C, G. Token i of a sequence covers its bases [i, i + k).
"""

from __future__ import annotations

import itertools

import numpy as np

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PAD, UNK, CLS, SEP, MASK = range(5)
CODE_LETTERS = b"ATCG"  # code 0..3; the complement of code c is c ^ 1
OTHER = 4  # code of every letter that is not A, C, G or T
_CODES = bytearray([OTHER] * 256)
for _code, _letter in enumerate(CODE_LETTERS):
    _CODES[_letter] = _CODES[_letter + 32] = _code
_LETTERS = np.frombuffer(CODE_LETTERS + b"N", dtype=np.uint8)
_COMPLEMENT_LETTERS = bytes.maketrans(b"ACGTRYKMBDHVacgtrykmbdhv", b"TGCAYRMKVHDBtgcayrmkvhdb")


def vocabulary(k: int) -> list[str]:
    """The tokens in the order of their ids: 5 special ones, then 4^k k-mers (AAA, AAT, AAC, AAG, ATA, … for k = 3)."""
    return [*SPECIAL, *("".join(letters) for letters in itertools.product(CODE_LETTERS.decode(), repeat=k))]


def encode(sequence: bytes) -> np.ndarray:
    """Letters to codes.

    Parameters
    ----------
    sequence : ASCII letters in either case, shape (n,)

    Returns
    -------
    uint8 array, shape (n,): A 0, T 1, C 2, G 3, anything else 4.
    """
    return np.frombuffer(bytearray(sequence.translate(_CODES)), dtype=np.uint8)


def decode(codes: np.ndarray) -> bytes:
    """Codes, shape (n,), to upper-case letters; N for what is not A, C, G or T."""
    return _LETTERS[codes].tobytes()


def reverse_complement(sequence: bytes) -> bytes:
    """The reverse complement of a sequence; IUPAC letters are complemented too."""
    return sequence.translate(_COMPLEMENT_LETTERS)[::-1]


def reverse_complement_codes(codes: np.ndarray) -> np.ndarray:
    """The reverse complement of codes, shape (..., n), along the last axis."""
    reverse = codes[..., ::-1]
    return reverse ^ (reverse < OTHER)


def kmer_ids(codes: np.ndarray, k: int) -> np.ndarray:
    """Token ids of every k-mer, stride 1, without [CLS] and [SEP].

    Parameters
    ----------
    codes : output of `encode`, shape (..., n)
    k : bases in a token

    Returns
    -------
    int16 array, shape (..., n - k + 1); k-mers with a letter other than ACGT are `UNK`. Empty when n < k.
    """
    length = max(0, codes.shape[-1] - k + 1)
    ids = np.zeros((*codes.shape[:-1], length), dtype=np.int16)
    unknown = np.zeros(ids.shape, dtype=bool)
    for offset in range(k):
        letter = codes[..., offset : offset + length]
        ids = ids * 4 + (letter & 3)
        unknown |= letter == OTHER
    return np.where(unknown, UNK, ids + len(SPECIAL)).astype(np.int16)


def token_labels(labels: np.ndarray, k: int) -> np.ndarray:
    """Base labels to token labels: a token is 1 when all its k bases are 1 (BertSNR, section 2.2).

    Parameters
    ----------
    labels : 0/1 array, shape (..., n)

    Returns
    -------
    array of the same type, shape (..., n - k + 1)
    """
    return np.lib.stride_tricks.sliding_window_view(labels, k, axis=-1).min(axis=-1)


def bases_from_tokens(scores: np.ndarray, k: int) -> np.ndarray:
    """Token scores or labels to bases: a base gets the maximum over the tokens that cover it.

    Parameters
    ----------
    scores : array, shape (..., n - k + 1)

    Returns
    -------
    array of the same type, shape (..., n)
    """
    *outer, tokens = scores.shape
    bases = np.full(
        (*outer, tokens + k - 1),
        -np.inf if scores.dtype.kind == "f" else np.iinfo(scores.dtype).min,
        dtype=scores.dtype,
    )
    for offset in range(k):
        covered = bases[..., offset : offset + tokens]
        np.maximum(covered, scores, out=covered)
    return bases


def base_means_from_tokens(scores: np.ndarray, k: int) -> np.ndarray:
    """Token scores to bases: a base gets the mean over the tokens that cover it.

    Parameters
    ----------
    scores : floating-point array, shape (..., n - k + 1)

    Returns
    -------
    array of the same type, shape (..., n)
    """
    *outer, tokens = scores.shape
    sums = np.zeros((*outer, tokens + k - 1), dtype=scores.dtype)
    covering = np.zeros(tokens + k - 1, dtype=scores.dtype)
    for offset in range(k):
        sums[..., offset : offset + tokens] += scores
        covering[offset : offset + tokens] += 1
    return sums / covering
