"""De novo motif discovery: the motif that tells sequences, such as ChIP-seq peaks, from their dinucleotide shuffles.

Enriched words (`seed_words`) are grown to motifs of several widths (`expectation_maximization`). Three fifths of the
sequences are for this, one fifth chooses among the motifs, and one fifth measures the chosen one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from ..errors import DataError
from ..io.fasta import Record
from ..io.intervals import Interval
from ..io.motif_files import BASES, Motif
from ..log import logger
from ..sequence.encoding import CODE_LETTERS, OTHER, decode, encode
from ..sequence.shuffle import shuffled_records
from ..sequence.windows import overlap_groups
from .expectation_maximization import LETTERS, Background, SequenceSet, SiteModel, fit_sites, site_counts
from .seed_words import SeedWord, best_word

MIN_SEQUENCES, MAX_SEQUENCES = 50, 10_000
MIN_LENGTH, MAX_LENGTH = 30, 300  # bp; longer sequences are trimmed to their middle
WIDTHS = (8, 11, 15, 20)  # bp, before flanks without information are trimmed
SEEDS = 5
FITTED = 2000  # sequences that a motif is fitted to; more cost time and change it little
SEED_PROBABILITY = 0.8  # of a letter of the word, in the first motif
FIRST_FRACTION = 0.3  # of the sequences with a site, in the first motif
MIN_BITS = 0.25  # information of the first and the last position
MIN_WIDTH = 5
LEVEL = 0.01  # p-value above which a motif is reported with a warning
_COLUMNS = [CODE_LETTERS.index(letter) for letter in BASES.encode()]  # to the letter order of motifs


class Discovery(NamedTuple):
    """A motif, and how well it tells sequences from their shuffles, measured on a fifth it was not learned from.

    Attributes
    ----------
    motif : its counts are of the best site in each of all sequences that have one
    p : p-value of the numbers with the motif, `found` and `in_shuffles` (Fisher's exact test, one-sided)
    found, in_shuffles : sequences that have the motif, of those measured on, and shuffles
    held_out : number of sequences measured on, and of their shuffles
    sequences : number of all sequences
    """

    motif: Motif
    p: float
    found: int
    in_shuffles: int
    held_out: int
    sequences: int


class Part(NamedTuple):
    """Sequences and their shuffles."""

    sequences: SequenceSet
    shuffles: SequenceSet

    def best_cut(self, ppm: np.ndarray) -> float:
        """The score of a match at and above which the numbers of sequences and shuffles differ most.

        The difference is measured in its standard deviations, the root of the sum of the numbers.
        """
        scores = [self.sequences.best_scores(ppm), self.shuffles.best_scores(ppm)]
        signs = np.repeat([1, -1], [len(part) for part in scores])
        joined = np.concatenate(scores)
        order = np.argsort(-joined, kind="stable")
        contrast = np.cumsum(signs[order]) / np.sqrt(np.arange(1, len(order) + 1))
        contrast[np.append(joined[order][1:] == joined[order][:-1], False)] = -np.inf  # equal scores stay together
        return float(joined[order[contrast.argmax()]])

    def numbers(self, ppm: np.ndarray, cut: float) -> tuple[int, int]:
        """How many sequences, and how many shuffles, have a match with at least this score."""
        found, in_shuffles = (int((part.best_scores(ppm) >= cut).sum()) for part in self)
        return found, in_shuffles

    def p_value(self, ppm: np.ndarray, cut: float) -> float:
        """See `fisher_p_value`."""
        return fisher_p_value(*self.numbers(ppm, cut), len(self.sequences), len(self.shuffles))


def discover_denovo(
    records: Iterable[Record], name: str = "motif", *, seed: int = 1, strict: bool = False, path: str = "sequences"
) -> Discovery:
    """Find the motif that best tells sequences from their dinucleotide shuffles.

    Repeated and short sequences are left out, long ones trimmed to their middle `MAX_LENGTH` bp; of more than
    `MAX_SEQUENCES`, a random sample is used.

    Parameters
    ----------
    records : such as sequences of 100 to 200 bp around the summits of ChIP-seq peaks
    name : id of the motif
    seed : random seed of sample, shuffles and division
    strict : raise an error, rather than log a warning, if a short sequence was skipped
    path : names the input in errors

    Raises
    ------
    DataError : fewer than `MIN_SEQUENCES` sequences, no enriched word, or a short sequence with `strict`.
    """
    codes, fifths = _sampled(_distinct(records, strict, path), seed, path)
    shuffles = _shuffled(codes, seed)
    background = Background.of(codes)
    train, choice, test = (
        Part(SequenceSet(codes[rows], background), SequenceSet(shuffles[rows], background))
        for rows in (fifths > 1, fifths == 1, fifths == 0)
    )
    best, best_cut, best_p = None, 0.0, 0.5
    for model in _candidates(train, choice.sequences):
        cut = train.best_cut(model.ppm)
        p = choice.p_value(model.ppm, cut)
        logger.debug("%s in %.0f %% of the sequences: p %.1g", consensus(model), 100 * model.fraction, p)
        if p < best_p:
            best, best_cut, best_p = model, cut, p
    if best is None:
        raise DataError("no motif is enriched against dinucleotide shuffles; check that these are peaks", path)
    numbers, p = test.numbers(best.ppm, best_cut), test.p_value(best.ppm, best_cut)
    motif = Motif(name, _best_site_counts(SequenceSet(codes, background), best), e_value=p)
    described = f"{consensus(best)}, from the best sites of {motif.sites:,} of {len(codes):,} sequences"
    measured = f"in {numbers[0]:,} of {len(test.sequences):,} held-out sequences and {numbers[1]:,} of their shuffles"
    if p > LEVEL:
        logger.warning("%s: %s; %s (p %.1g): this may be chance", name, described, measured, p)
    else:
        logger.info("%s: %s; %s (p %.1g)", name, described, measured, p)
    return Discovery(motif, p, *numbers, len(test.sequences), len(codes))


def _distinct(records: Iterable[Record], strict: bool, path: str) -> list[tuple[bytes, Interval]]:
    """Distinct sequences that are not too short, the middle of long ones; and where each lies."""
    sequences: dict[bytes, Interval] = {}
    short = trimmed = 0
    for record in records:
        excess = max(0, len(record.sequence) - MAX_LENGTH)
        sequence = record.sequence[excess // 2 : excess // 2 + MAX_LENGTH].upper()
        trimmed += excess > 0
        if len(sequence) - sequence.count(b"N") < MIN_LENGTH:
            short += 1
        else:
            sequences.setdefault(sequence, record.interval)
    if short:
        problem = f"{short:,} sequences skipped: fewer than {MIN_LENGTH} bases other than N"
        if strict:
            raise DataError(problem, path)
        logger.warning(problem)
    if trimmed:
        logger.info("%s sequences trimmed to their middle %d bp", f"{trimmed:,}", MAX_LENGTH)
    return list(sequences.items())


def _sampled(sequences: list[tuple[bytes, Interval]], seed: int, path: str) -> tuple[np.ndarray, np.ndarray]:
    """Codes of at most `MAX_SEQUENCES` in random order, padded with `OTHER` to one length; and their fifth, 0 to 4.

    Sequences that overlap on the genome are in one fifth.
    """
    order = np.random.default_rng([seed, 14]).permutation(len(sequences))
    if len(order) > MAX_SEQUENCES:
        logger.info("a random sample of %s of %s sequences is used", f"{MAX_SEQUENCES:,}", f"{len(order):,}")
    chosen = [sequences[row] for row in order[:MAX_SEQUENCES]]
    locus = overlap_groups([interval for _, interval in chosen])
    if (count := len(set(locus))) < MIN_SEQUENCES:
        problem = f"contains {count} different sequences of at least {MIN_LENGTH} bp that do not overlap"
        raise DataError(f"{problem}; discovery requires at least {MIN_SEQUENCES}", path)
    rank = {number: rank for rank, number in enumerate(dict.fromkeys(locus))}
    codes = np.full((len(chosen), max(len(sequence) for sequence, _ in chosen)), OTHER, dtype=np.uint8)
    for row, (sequence, _) in enumerate(chosen):
        codes[row, : len(sequence)] = encode(sequence)
    return codes, np.array([rank[number] % 5 for number in locus])


def _shuffled(codes: np.ndarray, seed: int) -> np.ndarray:
    """A dinucleotide shuffle of each sequence."""
    records = (Record(str(number), "", decode(row)) for number, row in enumerate(codes))
    return np.stack([encode(record.sequence) for record in shuffled_records(records, seed=seed)])


def _candidates(train: Part, choice: SequenceSet) -> Iterable[SiteModel]:
    """A motif from each seed word; sequences with the motif of a word do not count for the next.

    Its width is the one of `WIDTHS` with the highest likelihood of other sequences (`choice`).
    """
    without, shuffles_without = (np.arange(len(some)) for some in train)
    for _ in range(SEEDS):
        word = best_word(train.sequences.codes[without], train.shuffles.codes[shuffles_without])
        if word is None:
            return
        fitted = train.sequences.take(without[:FITTED])
        models = []
        for width in WIDTHS:
            if width <= fitted.codes.shape[1]:
                start = first_model(word, width, fitted.background.frequencies)
                models.append(trimmed(fit_sites(fitted, start), fitted.background))
        strongest = max(models, key=lambda model: model.log_likelihood(choice))
        yield strongest
        without = without[~_has_site(strongest, train.sequences.take(without))]
        shuffles_without = shuffles_without[~_has_site(strongest, train.shuffles.take(shuffles_without))]
        if len(without) < MIN_SEQUENCES // 5:
            return


def _has_site(model: SiteModel, sequences: SequenceSet) -> np.ndarray:
    """bool, shape (n,): a site in the sequence is more likely than none."""
    return model.site_probabilities(sequences).sum(axis=(0, 2)) > 0.5


def first_model(word: SeedWord, width: int, frequencies: np.ndarray) -> SiteModel:
    """The word in the middle of a motif of `width` bp, or the middle of the word; background elsewhere."""
    ppm = np.tile(frequencies, (max(width, len(word.codes)), 1))
    first = (len(ppm) - len(word.codes)) // 2
    for position, code in enumerate(word.codes, first):
        if code != OTHER:
            ppm[position] = (1 - SEED_PROBABILITY) / (LETTERS - 1)
            ppm[position, code] = SEED_PROBABILITY
    excess = (len(ppm) - width) // 2
    return SiteModel(ppm[excess : excess + width], FIRST_FRACTION)


def consensus(model: SiteModel) -> str:
    """The most probable letter of each position, in lower case below 0.5."""
    letters = "".join(chr(CODE_LETTERS[code]) for code in model.ppm.argmax(axis=1))
    return "".join(letter if p >= 0.5 else letter.lower() for letter, p in zip(letters, model.ppm.max(axis=1)))


def trimmed(model: SiteModel, background: Background) -> SiteModel:
    """The motif without flanks of little information, at least `MIN_WIDTH` bp."""
    bits = (model.ppm * np.log2(model.ppm / background.frequencies)).sum(axis=1)
    informative = np.nonzero(bits >= MIN_BITS)[0]
    if not len(informative):
        return model
    first, last = int(informative[0]), int(informative[-1])
    first = max(0, min(first, last + 1 - MIN_WIDTH))
    return model._replace(ppm=model.ppm[first : max(last + 1, first + MIN_WIDTH)])


def _best_site_counts(sequences: SequenceSet, model: SiteModel) -> np.ndarray:
    """PFM of the best site in each sequence that probably has one, columns A, C, G, T."""
    found = model.site_probabilities(sequences)
    flat = np.moveaxis(found, 0, 1).reshape(len(sequences), -1)
    best = np.zeros_like(flat)
    rows = np.nonzero(flat.sum(axis=1) > 0.5)[0]
    if not len(rows):  # a rare motif: the most probable site
        rows = flat.sum(axis=1).argmax(keepdims=True)
    best[rows, flat[rows].argmax(axis=1)] = 1
    chosen = np.moveaxis(best.reshape(len(sequences), 2, -1), 1, 0)
    return site_counts(sequences.codes, chosen, len(model.ppm))[:, _COLUMNS]


def fisher_p_value(found: int, in_shuffles: int, sequences: int, shuffles: int) -> float:
    """One-sided p-value of Fisher's exact test: as many of the sequences among all that have the motif, or more.

    At least 1e-300.
    """
    total = found + in_shuffles
    factorials = np.append(0, np.cumsum(np.log(np.arange(1, sequences + shuffles + 1))))

    def choose(n: int, k: np.ndarray) -> np.ndarray:
        return factorials[n] - factorials[k] - factorials[n - k]

    more = np.arange(found, min(total, sequences) + 1)
    ways = choose(sequences, more) + choose(shuffles, total - more) - choose(sequences + shuffles, np.array(total))
    return max(1e-300, min(1.0, math.fsum(np.exp(ways))))
