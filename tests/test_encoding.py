import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertsnr_tools.sequence.encoding import (
    UNK,
    base_means_from_tokens,
    bases_from_tokens,
    encode,
    kmer_ids,
    reverse_complement,
    reverse_complement_codes,
    token_labels,
    vocabulary,
)

DNA = st.text("ACGTN", min_size=1, max_size=60)


def test_vocabulary_is_dnaberts():
    assert vocabulary(3)[:10] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "AAA", "AAT", "AAC", "AAG", "ATA"]
    assert vocabulary(6)[-1] == "GGGGGG"
    assert [len(vocabulary(k)) for k in (3, 4, 5, 6)] == [69, 261, 1029, 4101]


@pytest.mark.parametrize("k", [1, 3, 4, 5, 6])
@given(sequence=DNA)
def test_ids_are_those_of_the_words(k, sequence):
    words = vocabulary(k)
    slow = [
        words.index(word) if "N" not in (word := sequence[i : i + k]) else UNK for i in range(len(sequence) - k + 1)
    ]
    assert kmer_ids(encode(sequence.encode()), k).tolist() == slow


def test_lower_case_is_sequence_and_rna_is_not():
    assert encode(b"acgt").tolist() == encode(b"ACGT").tolist() == [0, 2, 3, 1]
    assert encode(b"NUR-").tolist() == [4, 4, 4, 4]


@given(sequence=DNA)
def test_reverse_complement_of_codes_is_that_of_letters(sequence):
    text = sequence.encode()
    assert reverse_complement_codes(encode(text)).tolist() == encode(reverse_complement(text)).tolist()
    assert reverse_complement(reverse_complement(text)) == text
    assert reverse_complement(b"ACGTRYN") == b"NRYACGT"


@pytest.mark.parametrize("k", [3, 4, 5, 6])
def test_labels_and_back_is_the_same_for_every_site_of_at_least_k(k):
    length = 30
    for start, end in itertools.combinations(range(length + 1), 2):
        labels = np.zeros(length, dtype=np.uint8)
        labels[start:end] = 1
        tokens = token_labels(labels, k)
        assert len(tokens) == length - k + 1
        assert tokens.sum() == max(0, end - start - k + 1)
        assert bases_from_tokens(tokens, k).tolist() == (labels if end - start >= k else labels * 0).tolist()


@given(values=st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40), k=st.integers(1, 6))
def test_a_base_gets_the_best_of_its_tokens(values, k):
    tokens = np.array(values, dtype=np.float32)
    slow = [max(tokens[max(0, i - k + 1) : i + 1]) for i in range(len(tokens) + k - 1)]
    assert bases_from_tokens(tokens, k).tolist() == slow
    assert bases_from_tokens(np.stack([tokens, tokens]), k).shape == (2, len(slow))


def test_a_base_gets_the_mean_of_its_tokens():
    #  tokens 1 2 6 over bases 0-2, 1-3, 2-4
    assert base_means_from_tokens(np.array([[1.0, 2.0, 6.0]]), 3).tolist() == [[1.0, 1.5, 3.0, 4.0, 6.0]]
    assert base_means_from_tokens(np.full((2, 7), 0.25, dtype=np.float32), 4).tolist() == [[0.25] * 10] * 2
