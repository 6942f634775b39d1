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
from ..io.motif_files import BASES, Motif
from ..log import logger
from ..metrics import auc
from ..sequence.encoding import CODE_LETTERS, OTHER, encode
from ..sequence.shuffle import shuffled_records
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
    auc : area under the ROC curve of the best match in a sequence
    p : p-value of this area (Mann and Whitney 1947)
    held_out : number of sequences measured on, and of their shuffles
    sequences : number of all sequences
    """

    motif: Motif
    auc: float
    p: float
    held_out: int
    sequences: int


class Part(NamedTuple):
    """Sequences and their shuffles."""

    sequences: SequenceSet
    shuffles: SequenceSet

    def auc(self, ppm: np.ndarray) -> float:
        """Area under the ROC curve of the best match of a motif in each."""
        scores = [self.sequences.best_scores(ppm), self.shuffles.best_scores(ppm)]
        return auc(np.repeat([1, 0], [len(part) for part in scores]), np.concatenate(scores))


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
    codes = _sampled(_distinct(records, strict, path), seed, path)
    shuffles = _shuffled(codes, seed)
    background = Background.of(codes)
    fifths = np.arange(len(codes)) % 5
    train, choice, test = (
        Part(SequenceSet(codes[rows], background), SequenceSet(shuffles[rows], background))
        for rows in (fifths > 1, fifths == 1, fifths == 0)
    )
    best, best_auc = None, 0.5
    for model in _candidates(train, choice.sequences):
        area = choice.auc(model.ppm)
        logger.debug("%s in %.0f %% of the sequences: AUC %.3f", consensus(model), 100 * model.fraction, area)
        if area > best_auc:
            best, best_auc = model, area
    if best is None:
        raise DataError("no motif is enriched against dinucleotide shuffles; check that these are peaks", path)
    area = test.auc(best.ppm)
    p = auc_p_value(area, len(test.sequences), len(test.shuffles))
    motif = Motif(name, _best_site_counts(SequenceSet(codes, background), best), e_value=p)
    found = f"{consensus(best)}, in {motif.sites:,} of {len(codes):,} sequences"
    measured = f"AUC {area:.3f} against shuffles (p {p:.1g}) on {len(test.sequences):,} held-out sequences"
    if p > LEVEL:
        logger.warning("%s: %s; %s: this may be chance", name, found, measured)
    else:
        logger.info("%s: %s; %s", name, found, measured)
    return Discovery(motif, area, p, len(test.sequences), len(codes))


def _distinct(records: Iterable[Record], strict: bool, path: str) -> list[bytes]:
    """Distinct sequences that are not too short, the middle of long ones."""
    sequences: dict[bytes, None] = {}
    short = trimmed = 0
    for record in records:
        excess = max(0, len(record.sequence) - MAX_LENGTH)
        sequence = record.sequence[excess // 2 : excess // 2 + MAX_LENGTH].upper()
        trimmed += excess > 0
        if len(sequence) - sequence.count(b"N") < MIN_LENGTH:
            short += 1
        else:
            sequences.setdefault(sequence)
    if short:
        problem = f"{short:,} sequences skipped: fewer than {MIN_LENGTH} bases other than N"
        if strict:
            raise DataError(problem, path)
        logger.warning(problem)
    if trimmed:
        logger.info("%s sequences trimmed to their middle %d bp", f"{trimmed:,}", MAX_LENGTH)
    return list(sequences)


def _sampled(sequences: list[bytes], seed: int, path: str) -> np.ndarray:
    """Codes of at most `MAX_SEQUENCES` in random order, padded with `OTHER` to one length."""
    if len(sequences) < MIN_SEQUENCES:
        problem = f"contains {len(sequences)} different sequences of at least {MIN_LENGTH} bp"
        raise DataError(f"{problem}; discovery requires at least {MIN_SEQUENCES}", path)
    order = np.random.default_rng([seed, 14]).permutation(len(sequences))
    if len(order) > MAX_SEQUENCES:
        logger.info("a random sample of %s of %s sequences is used", f"{MAX_SEQUENCES:,}", f"{len(order):,}")
    chosen = [sequences[row] for row in order[:MAX_SEQUENCES]]
    codes = np.full((len(chosen), max(map(len, chosen))), OTHER, dtype=np.uint8)
    for row, sequence in enumerate(chosen):
        codes[row, : len(sequence)] = encode(sequence)
    return codes


def _shuffled(codes: np.ndarray, seed: int) -> np.ndarray:
    """A dinucleotide shuffle of each sequence."""
    letters = np.frombuffer(CODE_LETTERS + b"N", dtype=np.uint8)[codes]
    records = (Record(str(row), "", letters[row].tobytes()) for row in range(len(codes)))
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


def auc_p_value(area: float, positives: int, negatives: int) -> float:
    """One-sided p-value of an area under the ROC curve, by the normal approximation of U, at least 1e-300."""
    deviation = math.sqrt((positives + negatives + 1) / (12 * positives * negatives))
    return max(1e-300, 0.5 * math.erfc((area - 0.5) / deviation / math.sqrt(2)))
