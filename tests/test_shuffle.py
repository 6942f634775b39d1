import itertools
import random
from collections import Counter

import dinuc_shuf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertsnr_tools.io.fasta import Record
from bertsnr_tools.sequence.shuffle import shuffle_sequences, shuffled_records


def counts(sequence, k):
    return Counter(sequence[i : i + k] for i in range(len(sequence) - k + 1))


def shuffled(records, **options):
    return list(shuffled_records(records, **options))


@given(
    st.lists(st.text("ACGT", min_size=8, max_size=80), min_size=1, max_size=12),
    st.integers(1, 6),
    st.integers(0, 2**32),
)
def test_kmer_counts_and_ends_are_kept(texts, k, seed):
    sequences = [text.encode() for text in texts]
    result = shuffle_sequences(sequences, k, [seed + i for i in range(len(sequences))])
    for before, after in zip(sequences, result):
        assert counts(before, k) == counts(after, k)
        ends = max(1, k - 1)
        assert (before[:ends], before[-ends:]) == (after[:ends], after[-ends:])


def all_shuffles(sequence, k):
    """Every sequence with the same k-mer counts and ends, by trying all orders of the letters between the ends."""
    keep = max(1, k - 1)
    middle = sequence[keep : len(sequence) - keep]
    candidates = {sequence[:keep] + bytes(order) + sequence[-keep:] for order in itertools.permutations(middle)}
    return {text for text in candidates if counts(text, k) == counts(sequence, k)}


@pytest.mark.parametrize(
    ("sequence", "k"),
    [(b"ACAGATACA", 2), (b"AACAATAAGA", 2), (b"ATATATCATA", 2), (b"ACGACTACGTACG", 3), (b"ACGTTGA", 1)],
)
def test_uniform_over_all_shuffles(sequence, k):
    possible = all_shuffles(sequence, k)
    draws = 500 * len(possible)
    rng = random.Random(3)
    seen = Counter(shuffle_sequences([sequence] * draws, k, [rng.getrandbits(64) for _ in range(draws)]))
    assert set(seen) == possible
    chi2 = sum((n - 500) ** 2 / 500 for n in seen.values())
    freedom = len(possible) - 1
    assert chi2 < freedom + 5 * (2 * freedom) ** 0.5, f"{len(possible)} shuffles, chi2 {chi2:.0f}"


def test_same_distribution_as_an_independent_program():
    sequence = b"ACAGATACAGT"
    possible = sorted(all_shuffles(sequence, 2))
    one_hot = np.array([[letter == other for other in b"ACGT"] for letter in sequence], dtype=np.uint8)
    theirs = dinuc_shuf.shuffle(np.repeat(one_hot[None], 20000, 0), rng=np.random.default_rng(1))
    letters = np.frombuffer(b"ACGT", dtype=np.uint8)[theirs.argmax(-1)]
    other = Counter(row.tobytes() for row in letters)
    rng = random.Random(1)
    ours = Counter(shuffle_sequences([sequence] * 20000, 2, [rng.getrandbits(64) for _ in range(20000)]))
    assert set(other) == set(ours) == set(possible)
    for text in possible:
        assert abs(ours[text] - other[text]) < 5 * (2 * 20000 / len(possible)) ** 0.5


def test_n_stays_and_what_is_between_is_shuffled_by_itself():
    sequence = b"NNACGATACGATTACANNNRGATTACAGATTACATANN"
    (result,) = shuffled([Record("r", "site=1-2", sequence)])
    assert result.name == "r_shuf1"
    assert result.description == ""
    assert [i for i, letter in enumerate(result.sequence) if letter not in b"ACGT"] == [
        i for i, letter in enumerate(sequence) if letter not in b"ACGT"
    ]
    assert result.sequence != sequence
    for part in (slice(2, 16), slice(20, 36)):
        assert counts(result.sequence[part], 2) == counts(sequence[part], 2)


def test_a_record_of_many_segments_is_shuffled_in_parts(monkeypatch):
    record = Record("r", "", b"N".join(random.Random(5).choices([b"ACGATACGATT", b"GATTACAGATTACAT"], k=400)))
    whole = shuffled([record])
    monkeypatch.setattr("bertsnr_tools.sequence.shuffle.BATCH_BASES", 50)
    assert shuffled([record]) == whole


def test_a_record_has_its_shuffle_whatever_its_company():
    rng = random.Random(4)
    records = [Record(f"r{i}", "", bytes(rng.choices(b"ACGT", k=rng.randint(3, 400)))) for i in range(300)]
    together = {r.name: r for r in shuffled(records, copies=2)}
    backwards = {r.name: r for r in shuffled(records[::-1], copies=2)}
    alone = {r.name: r for record in records[:40] for r in shuffled([record], copies=3)}
    assert together == backwards
    assert all(together[name] == record for name, record in alone.items() if name in together)
    assert len(together) == 600
    assert shuffled(records, seed=1) != shuffled(records, seed=2)
    copies = shuffled([records[5]], copies=20)
    assert len({r.sequence for r in copies}) == 20


def test_long_and_awkward_sequences():
    rng = random.Random(5)
    long = Record("long", "", bytes(rng.choices(b"ACGT", k=300_000)))
    odd = [
        Record("a", "", b"A" * 500),
        Record("at", "", b"AT" * 250 + b"GC"),
        Record("short", "", b"AC"),
        Record("one", "", b"G"),
        Record("n", "", b"N" * 9),
    ]
    results = shuffled([odd[0], long, *odd[1:]])
    for before, after in zip([odd[0], long, *odd[1:]], results):
        assert counts(before.sequence, 2) == counts(after.sequence, 2)
    assert results[1].sequence != long.sequence
