"""Shuffles that preserve k-mer counts exactly: random Euler paths, uniform over all sequences with the same counts.

A sequence is a walk in the graph whose vertices are its (k-1)-mers and whose edges are its k-mers; every other walk
that uses each edge once has the same k-mer counts, and the same first and last (k-1)-mer. A uniform walk is drawn as in
Altschul and Erickson (1985) and Kandel, Matias, Unger and Winkler (1996): a uniform spanning tree towards the last
vertex gives the last edge out of each vertex, the other edges leave in random order. The tree comes from Wilson's cycle
popping (Propp and Wilson 1998), so no shuffle is ever rejected as a whole. All records of a batch are shuffled
together, as array arithmetic.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ..errors import UsageError
from ..io.fasta import NOT_ACGT, Record
from .blocks import in_blocks
from .encoding import CODE_LETTERS, encode
from .random_numbers import random_numbers

MAX_K = 6  # memory grows with 4^k
BATCH_BASES = 1 << 18  # bases that are shuffled together
FEW_SEQUENCES = 8  # up to this number, a Python loop over a sequence is faster than array operations in step


def shuffled_records(records: Iterable[Record], k: int = 2, copies: int = 1, seed: int = 0) -> Iterator[Record]:
    """Shuffle records, `copies` of each in a row, named `<name>_shuf1`, `<name>_shuf2`, …

    Runs of letters other than ACGT keep their positions; the segments between them are shuffled one by one. A shuffle
    depends only on the record's name and sequence, on `seed`, `k` and the number of the copy.

    Parameters
    ----------
    records : FASTA records
    k : length of the k-mers whose counts are preserved
    copies : shuffles of each record
    seed : random seed

    Raises
    ------
    UsageError : `k` is not from 1 to `MAX_K`, or `copies` is less than 1.
    """
    if not 1 <= k <= MAX_K or copies < 1:
        raise UsageError(f"k is {k} and copies {copies}; expected k from 1 to {MAX_K} and at least 1 copy")
    renamed = (
        Record(f"{record.name}_shuf{copy}", "", record.sequence) for record in records for copy in range(1, copies + 1)
    )
    for batch in in_blocks(renamed, BATCH_BASES):
        yield from _shuffled_batch(batch, k, seed)


class _Segment(NamedTuple):
    """A run of ACGT in an output record."""

    record: int
    start: int
    sequence: bytes
    seed: int


def _shuffled_batch(batch: list[Record], k: int, seed: int) -> Iterator[Record]:
    segments: list[_Segment] = []
    outputs = [bytearray(record.sequence) for record in batch]
    for output, (name, _, sequence) in enumerate(batch):
        base = int.from_bytes(hashlib.blake2b(f"{seed} {name}".encode(), digest_size=8).digest(), "little")
        start = 0
        for number, part in enumerate(NOT_ACGT.split(sequence)):
            start = sequence.index(part, start)
            if len(part) > k:
                segments.append(_Segment(output, start, part, (base + number) & 0xFFFFFFFFFFFFFFFF))
            start += len(part)
    for together in in_blocks(segments, BATCH_BASES):  # a chromosome may have millions of them
        shuffles = shuffle_sequences([one.sequence for one in together], k, [one.seed for one in together])
        for segment, letters in zip(together, shuffles):
            outputs[segment.record][segment.start : segment.start + len(letters)] = letters
    for record, shuffled in zip(batch, outputs):
        yield record._replace(sequence=bytes(shuffled))


def shuffle_sequences(sequences: Sequence[bytes], k: int, seeds: Sequence[int]) -> list[bytes]:
    """One shuffle of each sequence, uniform over those with its k-mer counts and its first and last k-1 letters.

    Parameters
    ----------
    sequences : letters ACGT in upper case, each longer than k
    k : 1 or more; for k = 1 the first and the last letter stay
    seeds : one 64-bit number for each sequence; sequences with equal numbers and letters get equal shuffles

    Returns
    -------
    list of sequences, in the same order
    """
    if not sequences:
        return []
    if k == 1:  # the graph has one vertex; keep both ends and permute between them
        return [s[:1] + t + s[-1:] for s, t in zip(sequences, _permute([s[1:-1] for s in sequences], seeds))]
    order = sorted(range(len(sequences)), key=lambda i: -len(sequences[i]))  # the walk takes the longest first
    lengths = np.array([len(sequences[i]) for i in order])
    key = np.array([seeds[i] for i in order], dtype=np.uint64)
    graph = _Graph(encode(b"".join(sequences[i] for i in order)), lengths, k)
    rank = random_numbers(key[graph.owner[graph.source]], graph.edge_number, 0) >> np.uint64(24)
    rank[_spanning_trees(graph, key)] = (1 << 40) - 1  # the tree's edges leave last
    path = _walk(graph, np.argsort((graph.source.astype(np.uint64) << np.uint64(40)) | rank))
    letters = np.frombuffer(CODE_LETTERS, dtype=np.uint8)[graph.words[path] & 3].tobytes()
    shuffled = [b""] * len(sequences)
    for i, begin, visits in zip(order, graph.begin.tolist(), graph.visits.tolist()):
        shuffled[i] = sequences[i][: k - 2] + letters[begin : begin + visits]
    return shuffled


class _Graph:
    """The graphs of all sequences, as one graph.

    Vertices are the distinct (sequence, (k-1)-mer) pairs, numbered sequence by sequence; `words`, `owner` and `number`
    are each vertex's (k-1)-mer, sequence, and number within its sequence. Sequence i visits `visits[i]` vertices, which
    are in `walk` from `begin[i]` on, and ends at vertex `root[i]`. Edges are the k-mers in reading order, from vertex
    `source` to vertex `target`; `edge_number` is an edge's position in its sequence.
    """

    def __init__(self, codes: np.ndarray, lengths: np.ndarray, k: int):
        sequence = np.repeat(np.arange(len(lengths)), lengths)
        offset = np.arange(len(codes)) - (np.cumsum(lengths) - lengths)[sequence]
        at = np.nonzero(offset <= lengths[sequence] - (k - 1))[0]  # where a whole (k-1)-mer begins
        word = np.zeros(len(at), dtype=np.int64)
        for letter in range(k - 1):
            word = word * 4 + codes[at + letter]
        bits = 2 * (k - 1)
        keys = (sequence[at] << bits) | word
        seen = np.zeros(len(lengths) << bits, dtype=bool)
        seen[keys] = True
        vertex_keys = np.nonzero(seen)[0]
        self.walk = (np.cumsum(seen, dtype=np.int32) - 1)[keys]
        self.words, self.owner = vertex_keys & ((1 << bits) - 1), vertex_keys >> bits
        self.number = np.arange(len(vertex_keys)) - np.searchsorted(self.owner, np.arange(len(lengths)))[self.owner]
        self.visits = lengths - (k - 2)
        self.begin = np.cumsum(self.visits) - self.visits
        self.root = self.walk[self.begin + self.visits - 1]
        leaves = np.ones(len(at), dtype=bool)
        leaves[self.begin + self.visits - 1] = False
        edge = np.nonzero(leaves)[0]
        self.source, self.target, self.edge_number = self.walk[edge], self.walk[edge + 1], offset[at[edge]]


def _spanning_trees(graph: _Graph, key: np.ndarray) -> np.ndarray:
    """One edge out of every vertex but the roots, so that all lead to their root: uniform over all such trees.

    Wilson's algorithm by cycle popping: every vertex draws an edge, and vertices on a cycle draw again until no cycle
    is left. Self-loops are omitted from the start, because they are cycles that would be popped at once.

    Returns
    -------
    int array of edges
    """
    useful = np.nonzero(graph.source != graph.target)[0]
    useful = useful[np.argsort(graph.source[useful], kind="stable")]
    degree = np.bincount(graph.source[useful], minlength=len(graph.words)).astype(np.uint64)
    first = np.cumsum(degree) - degree
    is_root = np.zeros(len(graph.words), dtype=bool)
    is_root[graph.root] = True
    chosen = np.full(len(graph.words), -1)
    parent = np.arange(len(graph.words))
    index = np.arange(len(graph.words))  # of a vertex in `active`
    active = index.copy()  # the vertices of all sequences that may have a cycle
    jumps = int(graph.number.max()).bit_length()
    redraw = np.nonzero(~is_root)[0]
    stream = 1
    while len(redraw):
        draw = random_numbers(key[graph.owner[redraw]], graph.number[redraw], stream) >> np.uint64(32)
        pick = first[redraw] + ((draw * degree[redraw]) >> np.uint64(32))
        chosen[redraw] = useful[pick.astype(np.int64)]
        parent[redraw] = graph.target[chosen[redraw]]
        index[active] = np.arange(len(active))
        end = index[parent[active]]
        for _ in range(jumps):  # at least as many steps as a sequence has vertices end on a root or on a cycle
            end = end[end]
        on_cycle = active[np.unique(end)]
        redraw = on_cycle[~is_root[on_cycle]]
        active = active[np.isin(graph.owner[active], graph.owner[redraw])]
        stream += 1
    return chosen[~is_root]


def _walk(graph: _Graph, leaving: np.ndarray) -> np.ndarray:
    """Follow the edges in the order `leaving` (grouped by source): all sequences in step, the longest few one by one.

    Returns
    -------
    int array like `graph.walk`: the vertices that each shuffled sequence visits
    """
    path = graph.walk.copy()
    target = graph.target[leaving]
    pointer = np.searchsorted(graph.source[leaving], np.arange(len(graph.words)))
    at = graph.walk[graph.begin]  # the current vertex of each sequence
    step, alive = 1, len(at)
    while (alive := int(np.searchsorted(-graph.visits[:alive], -step))) > FEW_SEQUENCES:
        edge = pointer[at[:alive]]
        pointer[at[:alive]] += 1
        at[:alive] = target[edge]
        path[graph.begin[:alive] + step] = at[:alive]
        step += 1
    for i in range(alive):
        begin, end = int(graph.begin[i]), int(graph.begin[i] + graph.visits[i])
        low = int(np.searchsorted(graph.owner, i))
        high = int(np.searchsorted(graph.owner, i, side="right"))
        pointers = (pointer[low:high]).tolist()
        targets = memoryview(target)
        vertex = int(at[i])
        for visit in range(begin + step, end):
            edge = pointers[vertex - low]
            pointers[vertex - low] += 1
            vertex = targets[edge]
            path[visit] = vertex
    return path


def _permute(sequences: Sequence[bytes], seeds: Sequence[int]) -> Iterator[bytes]:
    for sequence, seed in zip(sequences, seeds):
        order = np.argsort(random_numbers(np.full(len(sequence), seed, dtype=np.uint64), np.arange(len(sequence)), 0))
        yield np.frombuffer(sequence, dtype=np.uint8)[order].tobytes()
