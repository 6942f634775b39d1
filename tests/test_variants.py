"""Changes of sites by variants: allele sequences, equality with a slow reference, symmetry, haplotypes, p-values."""

import random

import numpy as np
import pytest
import torch

import bertsnr_tools as bt
from bertsnr_tools.errors import DataError
from bertsnr_tools.io.motif import Motif
from bertsnr_tools.io.vcf import VcfRow
from bertsnr_tools.models.bertsnr import BertSNR
from bertsnr_tools.models.device import Runtime
from bertsnr_tools.models.encoder import compact_config
from bertsnr_tools.models.files import load_factors, save_model
from bertsnr_tools.models.interface import ModelInfo
from bertsnr_tools.models.pwm import PwmModel
from bertsnr_tools.predict.calling import MAX_GAP, call_levels, call_sites, min_site_length
from bertsnr_tools.predict.scan import base_scores
from bertsnr_tools.predict.significance import log_odds
from bertsnr_tools.predict.thresholds import CallingRule
from bertsnr_tools.variation.alleles import Change, Edit, Layout, Span, allele_pair, boundaries, minimal_edit
from bertsnr_tools.variation.effects import CLASSES, MIN_CHANGE, Limits, measure
from bertsnr_tools.variation.haplotypes import Genotype, genotype, plan_haplotypes
from bertsnr_tools.variation.nulls import ChangeNull
from bertsnr_tools.variation.rows import AlleleChecker
from bertsnr_tools.variation.run import new_scorer
from bertsnr_tools.variation.saturate import regions_to_saturate, saturation
from bertsnr_tools.variation.scoring import VariantScorer, context_of
from bertsnr_tools.variation.substitutions import change_nulls, pwm_null

LENGTH = 4000
RUNTIME = Runtime()


@pytest.fixture(scope="module")
def small_model():
    """A small network with random weights that calls sites on random sequence."""
    torch.manual_seed(2)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "global_attn_every_n_layers": 1}
    model = BertSNR(ModelInfo("SMALL", 3, 100, compact_config(3, 100) | sizes, 12))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(6)
        model.token_head.bias.fill_(-4)
    return model.eval()


def random_sequence(rng, length):
    return "".join(rng.choices("ACGT", k=length))


def write_genome(path, **sequences):
    path.write_text("".join(f">{name}\n{sequence}\n" for name, sequence in sequences.items()))
    return bt.Genome(path)


@pytest.fixture
def sequence():
    """4,000 bases with runs of N, some of them short and near each other."""
    rng = random.Random(11)
    text = random_sequence(rng, LENGTH)
    return (
        text[:1000]
        + "N" * 30
        + text[1030:2500]
        + "N"
        + text[2501:2600]
        + "N" * 25
        + text[2625:2627]
        + "N" * 25
        + text[2652:]
    )


@pytest.fixture
def genome(sequence, tmp_path):
    gap = "N" * 80 + "AC" + "N" * 80
    lower = sequence[3000:3400].lower()
    return write_genome(tmp_path / "g.fa", one=sequence, short=sequence[:30], lower=lower, gap=gap)


def random_changes(sequence, count, rng):
    """Variants of all kinds, at chromosome ends too: (start, ref, alt), without N in their alleles."""
    found = []
    while len(found) < count:
        at = rng.choice([0, 1, LENGTH - 1, 2625, 2626, *[rng.randrange(LENGTH)] * 30])
        kind = rng.choice(["snv", "snv", "insertion", "deletion", "mnv", "any"])
        old = {"snv": 1, "insertion": 1, "mnv": rng.randint(2, 5)}.get(kind, rng.randint(1, 30))
        new = {"snv": 1, "deletion": 1, "mnv": old}.get(kind, rng.randint(1, 60))
        ref = sequence[at : at + old]
        alt = random_sequence(rng, new)
        if kind == "insertion":
            alt = ref + alt
        if kind == "deletion":
            alt = ref[:1]
        if len(ref) == old and "N" not in ref and ref != alt:
            found.append((at, ref, alt))
    return found


# A slow reference: both alleles' sequences are scanned like FASTA, then compared base by base in plain loops.


def test_scores_are_of_the_site_whose_strand_is_given():
    """Not of a stronger site on the other strand that begins beyond the flank."""
    scores = np.full((1, 2, 80), 0.001, dtype=np.float32)
    scores[0, 0, 32:50], scores[0, 1, 28:50] = 0.98, 0.01
    layout = Layout(80, 80, (Span(20, 21, 20, 21),), 0)
    limits = Limits(10, 8, np.array([0.5], np.float32), np.array([0.5], np.float32))
    for ref, alt in ((scores, scores), (scores, scores * np.float32(0.9))):
        measured = measure(ref, alt, layout, limits)
        assert (measured.start[0], measured.end[0], measured.strand[0]) == (28, 50, 1)
        assert measured.ref_level[0] == ref[0, 1, 30] and measured.alt_level[0] == alt[0, 1, 30]
        assert CLASSES[measured.kind[0]] == "none"
    near = measure(scores, scores, layout, limits._replace(flank=12))
    assert (near.start[0], near.end[0], near.strand[0], near.ref_level[0]) == (32, 50, 0, np.float32(0.98))


def reference_starts(size, change, length, flank):
    """Starts of the stretches that lie near a change."""
    starts = range(size - length + 1)
    near = [start for start in starts if start < change[1] + flank and start + length > change[0] - flank]
    return near or [min(max(0, change[0] - flank - length + 1), size - length)]


def reference_site(scores, change, length, flank, base):
    """The best site near a change in one allele: start, end, strand, level; and the call levels of all stretches."""
    levels, size = call_levels(scores, length, MAX_GAP), scores.shape[1]
    starts = reference_starts(size, change, length, flank)
    top = max(levels[strand, start] for strand in (0, 1) for start in starts)
    if not top:
        return None
    strand, start = next((strand, start) for strand in (0, 1) for start in starts if levels[strand, start] == top)
    cut = base if top > base else np.nextafter(top, np.float32(0), dtype=np.float32)
    alone = np.zeros_like(scores)
    alone[strand] = scores[strand]
    site = next(one for one in call_sites(alone, cut, length, MAX_GAP) if one.start <= start < one.end)
    first, end = site.start, site.end
    if top <= base:  # not beyond a called base
        called = {at for one in call_sites(alone, base, 1, MAX_GAP) for at in range(one.start, one.end)}
        first = max([first, *(at + 1 for at in called if at < start)])
        end = min([end, *(at for at in called if at >= start + length)])
    return first, end, strand, float(top), levels


def reference_map(left, ref, alt, right):
    """The base of the reference sequence that each base of the alternative sequence is, without inserted bases."""
    size = len(left) + len(alt) + len(right)
    to_ref = {at: at for at in range(len(left))}
    to_ref |= {at: at - len(alt) + len(ref) for at in range(len(left) + len(alt), size)}
    if len(ref) == len(alt):
        to_ref |= {len(left) + at: len(left) + at for at in range(len(ref))}
    return to_ref


def reference_class(called, change, apart, gone):
    if called == [False, True]:
        return "gain"
    if called == [True, False]:
        return "loss"
    if all(called) and apart and gone:
        return "moved"
    if all(called) and abs(change) >= MIN_CHANGE:
        return "stronger" if change > 0 else "weaker"
    return "none"


def reference_effect(model, rule, flank, sequences, scores):
    """Class, levels, bounds, strand and both sites; positions from the first base of the reference sequence.

    Parameters
    ----------
    sequences : left flank, reference bases, alternative bases, right flank
    scores : base scores of both alleles' sequences, (2, length) each
    """
    left, ref, alt, right = sequences
    length = min_site_length(model.info.site_width, model.info.k)
    if len(left) + min(len(ref), len(alt)) + len(right) < length:
        return None
    changes = [(len(left), len(left) + len(allele)) for allele in (ref, alt)]
    base, level = np.float32(rule.base_threshold), rule.lowest_call_level
    for one, at in zip(scores, changes):  # a called site that overlaps the change goes before others
        levels = call_levels(one, length, MAX_GAP)
        if max(levels[strand, s] for strand in (0, 1) for s in reference_starts(one.shape[1], at, length, 0)) > level:
            flank = 0
    in_ref, in_alt = (reference_site(one, at, length, flank, base) for one, at in zip(scores, changes))
    if not (in_ref and in_alt):
        return None
    to_ref = reference_map(left, ref, alt, right)
    to_alt = {there: here for here, there in to_ref.items()}

    def mapped(start, end, known, other):
        return known.get(start, len(left)), known.get(end - 1, len(left) + len(other) - 1) + 1

    def highest(levels, start, end):
        found = [levels[strand, at] for strand in {in_ref[2], in_alt[2]} for at in range(start, end - length + 1)]
        return float(max(found, default=0))

    alt_site, ref_site = mapped(*in_alt[:2], to_ref, ref), in_ref[:2]
    moved_ref = mapped(*ref_site, to_alt, alt)
    bounds = min(ref_site[0], alt_site[0]), max(ref_site[1], alt_site[1])
    alt_bounds = min(in_alt[0], moved_ref[0]), max(in_alt[1], moved_ref[1])
    values = highest(in_ref[4], *bounds), highest(in_alt[4], *alt_bounds)
    change = float(log_odds(values[1]) - log_odds(values[0]))
    shared = min(ref_site[1], alt_site[1]) - max(ref_site[0], alt_site[0])
    apart = 2 * shared <= min(ref_site[1] - ref_site[0], alt_site[1] - alt_site[0])
    gone = highest(in_alt[4], *moved_ref) <= level and highest(in_ref[4], *alt_site) <= level
    kind = reference_class([value > level for value in values], change, apart, gone)
    strand = "+-"[in_alt[2] if in_alt[3] > in_ref[3] else in_ref[2]]
    return kind, *values, change, *bounds, strand, *ref_site, *alt_site


def reference_effects(model, genome, variants, flank, threshold=None):
    """For each variant on chromosome `one`, its effect from a scan of both alleles' sequence."""
    context = context_of(model, flank)
    rule = CallingRule.for_model(model, threshold)
    pieces, sequences = [], []
    for start, ref, alt in variants:
        edit = minimal_edit(start, ref, alt)
        left = genome.fetch("one", max(0, edit.start - context), edit.start).decode()
        right = genome.fetch("one", edit.end, min(LENGTH, edit.end + context)).decode()
        changed = genome.fetch("one", edit.start, edit.end).decode()
        pieces.append((left, changed, edit.bases.decode(), right, edit.start - len(left)))
        sequences += [left + changed + right, left + edit.bases.decode() + right]
    scored = [np.nan_to_num(one) for one in base_scores(model, sequences, runtime=RUNTIME)]
    found = []
    for number, (left, ref, alt, right, offset) in enumerate(pieces):
        pair = scored[2 * number : 2 * number + 2]
        effect = reference_effect(model, rule, flank, (left, ref, alt, right), pair)
        if effect:
            kind, ref_level, alt_level, change, start, end, strand, *sites = effect
            at = [start + offset, end + offset, strand, *(site + offset for site in sites)]
            effect = kind, ref_level, alt_level, change, *at
        found.append(effect)
    return found


def without_p(effect):
    return effect and (effect.kind, effect.ref_score, effect.alt_score, effect.change, *effect[6:])


def changes_of(variants, chrom="one"):
    return [Change(chrom, (minimal_edit(start, ref, alt),)) for start, ref, alt in variants]


@pytest.mark.parametrize("gap", [3, 8, 11, 42])
def test_a_better_site_beside_the_change_hides_no_loss(gap):
    """Two sites, the weaker of which the change destroys; the bounds do not reach into the other one."""
    scores = np.full((2, 1, 2, 120), 0.001, dtype=np.float32)
    scores[:, 0, 0, 40:52] = 0.9
    scores[0, 0, 0, 52 + gap : 64 + gap] = 0.6
    change = 58 + gap
    layout = Layout(120, 120, (Span(change, change + 1, change, change + 1),), 0)
    limits = Limits(10, 10, np.array([0.5], np.float32), np.array([0.5], np.float32))
    for alleles, expected in ((scores, "loss"), (scores[::-1], "gain")):
        measured = measure(*alleles, layout, limits)
        assert CLASSES[measured.kind[0]] == expected
        assert 52 <= measured.start[0] <= 52 + gap and measured.end[0] >= 64 + gap


def test_equal_to_a_scan_of_both_alleles(small_model, genome, sequence):
    variants = random_changes(sequence, 1000, random.Random(1))
    scorer = VariantScorer([small_model], RUNTIME, flank=10)
    found = [without_p(effect) for [effect] in scorer.score(genome, changes_of(variants))]
    expected = reference_effects(small_model, genome, variants, 10)
    assert found == expected
    kinds = {effect[0] for effect in found if effect}
    assert kinds == set(CLASSES)


@pytest.mark.parametrize("flank", [0, 60])
def test_other_flanks_and_thresholds(small_model, genome, sequence, flank):
    variants = random_changes(sequence, 60, random.Random(2))
    scorer = VariantScorer([small_model], RUNTIME, flank=flank, threshold=("probability", 0.8))
    found = [without_p(effect) for [effect] in scorer.score(genome, changes_of(variants))]
    assert found == reference_effects(small_model, genome, variants, flank, ("probability", 0.8))


def test_many_factors_in_one_pass(toy_factors, genome, sequence):
    variants = random_changes(sequence, 80, random.Random(3))
    models = [toy_factors.factor(number) for number in (4, 0, 2)]
    scorer = VariantScorer(models, RUNTIME, flank=10)
    found = scorer.score(genome, changes_of(variants))
    for column, model in enumerate(models):
        expected = reference_effects(model, genome, variants, 10)
        for effects, (of_reference) in zip(found, expected):
            effect = effects[column]
            assert (effect is None) == (of_reference is None)
            if effect:
                assert (effect.kind, *effect[6:]) == (of_reference[0], *of_reference[4:])
                assert effect[2:5] == pytest.approx(of_reference[1:4], rel=1e-4, abs=1e-5)  # another kernel


def test_pwm(genome, sequence):
    rng = np.random.default_rng(5)
    model = PwmModel(Motif("P", rng.integers(1, 40, (9, 4)).astype(float)))
    variants = random_changes(sequence, 150, random.Random(4))
    scorer = VariantScorer([model], RUNTIME, flank=5, threshold=("p", 0.01))
    found = [without_p(effect) for [effect] in scorer.score(genome, changes_of(variants))]
    assert found == reference_effects(model, genome, variants, 5, ("p", 0.01))


def test_swapped_alleles_flip_the_signs(small_model, genome, sequence, tmp_path):
    opposite = {"gain": "loss", "loss": "gain", "stronger": "weaker", "weaker": "stronger"}
    variants = [one for one in random_changes(sequence, 60, random.Random(6)) if len(one[1]) < 200]
    scorer = VariantScorer([small_model], RUNTIME)
    for number, (start, ref, alt) in enumerate(variants):
        swapped = write_genome(tmp_path / f"{number}.fa", one=sequence[:start] + alt + sequence[start + len(ref) :])
        [[one]] = scorer.score(genome, changes_of([(start, ref, alt)]))
        [[other]] = scorer.score(swapped, changes_of([(start, alt, ref)]))
        assert (one is None) == (other is None)
        if one:
            assert one.change == -other.change and one.kind == opposite.get(other.kind, other.kind)
            assert (one.ref_score, one.alt_score) == (other.alt_score, other.ref_score)


def test_blocks_batches_and_order_do_not_matter(small_model, toy_factors, genome, sequence):
    changes = changes_of(random_changes(sequence, 40, random.Random(7)))
    models = [small_model, toy_factors.factor(1), toy_factors.factor(5)]
    whole = VariantScorer(models, RUNTIME).score(genome, changes)
    small = VariantScorer(models, Runtime(batch_size=1))
    assert [small.score(genome, [change])[0] for change in changes] == whole
    assert VariantScorer(models, RUNTIME).score(genome, changes[::-1]) == whole[::-1]


def test_minimal_edits():
    assert minimal_edit(10, "A", "C") == Edit(10, 11, b"C")
    assert minimal_edit(10, "A", "AGG") == Edit(11, 11, b"GG")
    assert minimal_edit(10, "AGG", "A") == Edit(11, 13, b"")
    assert minimal_edit(10, "ACGT", "ATTT") == Edit(11, 13, b"TT")
    assert minimal_edit(10, "CAA", "CAAA") == Edit(11, 11, b"A")  # leftmost


def test_boundaries_of_edits():
    layout = Layout(14, 14, (Span(3, 3, 3, 5), Span(7, 9, 9, 9)), 0)
    there, back = boundaries(layout), boundaries(layout.swapped())
    assert there.starts.tolist() == [0, 1, 2, 5, 6, 7, 8, 9, 9, 9, 10, 11, 12, 13, 14]
    assert there.ends.tolist() == [0, 1, 2, 3, 6, 7, 8, 9, 9, 9, 10, 11, 12, 13, 14]
    assert back.starts[3:6].tolist() == [3, 3, 3] and back.ends[3:6].tolist() == [3, 3, 3]
    assert back.starts[9] == 9 and back.ends[9] == 7
    multiple = boundaries(Layout(6, 6, (Span(2, 4, 2, 4),), 0))
    assert multiple.starts.tolist() == multiple.ends.tolist() == list(range(7))


def test_allele_pairs(genome, sequence):
    own, near, far = Edit(2000, 2001, b"T"), Edit(2010, 2013, b""), Edit(2100, 2101, b"C")
    pair = allele_pair(genome, Change("one", (own, near, far), 0), 20)
    assert (pair.start, pair.ref.decode()) == (1980, sequence[1980:2021])
    assert pair.alt.decode() == sequence[1980:2000] + "T" + sequence[2001:2010] + sequence[2013:2021]
    assert pair.layout == Layout(41, 38, (Span(20, 21, 20, 21), Span(30, 33, 30, 30)), 0)
    first = allele_pair(genome, Change("one", (Edit(0, 1, b"G"),), 0), 20)
    assert (first.start, len(first.ref)) == (0, 21)


def test_n_ends_and_lower_case(small_model, genome, sequence):
    scorer = VariantScorer([small_model], RUNTIME)
    base = b"ACGT"["TACG".index(sequence[3200]) :][:1]
    changes = [
        Change("one", (Edit(1015, 1015, b"A"),)),  # within 30 N: the flank on either side reaches bases
        Change("gap", (Edit(80, 81, b"G"),)),
        Change("short", (Edit(3, 28, b""),)),  # leaves 5 bases
        Change("lower", (Edit(200, 201, base),)),
        Change("one", (Edit(3200, 3201, base),)),
    ]
    [inside], [gap], [short], [lower], [upper] = scorer.score(genome, changes)
    assert inside is None and gap is None and short is None
    assert lower[:6] == upper[:6] and lower.start == upper.start - 3000


def planned(genome, rows, sample=9, reach=49):
    checker = AlleleChecker(genome, "x.vcf", False)
    return [row.alleles for row in plan_haplotypes(rows, checker, sample, reach, "x.vcf")]


def vcf_row(start, ref, alts, sample, form="GT"):
    return VcfRow(["one", str(start + 1), ".", ref, alts, ".", ".", ".", form, sample], start, None)


def test_haplotypes(genome, sequence):
    def other(at):
        return "ACGT"[("ACGT".index(sequence[at]) + 1) % 4]

    at = [2000, 2005, 2020, 2200]
    rows = [vcf_row(one, sequence[one], other(one), "0|1") for one in at]
    edits = [Edit(one, one + 1, other(one).encode()) for one in at]
    near = tuple(edits[:3])
    [[first], [second], [third], [last]] = planned(genome, rows)
    assert first == [Change("one", near, 0)] and third == [Change("one", near, 2)]
    assert second == [Change("one", near, 1)] and last == [Change("one", (edits[3],), 0)]

    def genotypes(*texts, form="GT"):
        found = planned(genome, [vcf_row(one, sequence[one], other(one), text, form) for one, text in zip(at, texts)])
        return [[len(change.edits) for change in alleles[0]] for alleles in found]

    assert genotypes("0|1", "1|0") == [[1], [1]]
    assert genotypes("0|1", "0/1") == [[1], [1]]
    assert genotypes("0|1", "1/1") == [[2], [1, 2]]
    assert genotypes("0/0", "./.", "1") == [[1], [1], [1]]
    assert genotypes("0|1:7", "0|1:7", form="GT:PS") == [[2], [2]]
    assert genotypes("0|1:7", "0|1:8", form="GT:PS") == [[1], [1]]


def test_alleles_of_a_haplotype_that_overlap(genome, sequence, caplog):
    deletion = vcf_row(2000, sequence[2000:2010], sequence[2000], "0|1")
    inside = vcf_row(2004, sequence[2004], "ACGT"[("ACGT".index(sequence[2004]) + 1) % 4], "0|1")
    caplog.set_level("WARNING", "bertsnr_tools")
    found = planned(genome, [deletion, inside])
    assert [[len(change.edits) for change in alleles[0]] for alleles in found] == [[1], [1]]
    assert "2 alleles left out of a haplotype" in caplog.text
    with pytest.raises(DataError, match="one:2001 is out of order"):
        planned(genome, [inside, deletion])


def test_genotypes():
    row = vcf_row(5, "A", "C,G", "1|2:9", "GT:PS")
    assert genotype(row, 9) == Genotype((1, 2), True, "9")
    assert genotype(vcf_row(5, "A", "C", "0/1/1"), 9).alleles == (None, None)
    assert genotype(vcf_row(5, "A", "C", "3|1"), 9).alleles == (None, None)
    assert genotype(vcf_row(5, "A", "C", "0|²"), 9).alleles == (0, None)


def test_alleles_of_a_haplotype_are_scored_together(small_model, genome, sequence):
    """As a scan of the haplotype's sequence; substitutions change no positions."""
    rule, scorer = CallingRule.for_model(small_model), VariantScorer([small_model], RUNTIME)
    differing = 0
    for at in range(1200, 2400, 60):
        edits = [Edit(one, one + 1, b"ACGT"["TACG".index(sequence[one]) :][:1]) for one in (at - 9, at, at + 4)]
        pair = allele_pair(genome, Change("one", tuple(edits), 1), 49)
        haplotype = bytearray(sequence[at - 49 : at + 50].encode())
        for edit in edits:
            haplotype[edit.start - at + 49] = edit.bases[0]
        assert pair.alt == bytes(haplotype) != pair.ref
        scores = [np.nan_to_num(one) for one in base_scores(small_model, [pair.ref, pair.alt], runtime=RUNTIME)]
        expected = reference_effect(small_model, rule, 10, (pair.ref[:49], "N", "N", pair.ref[50:]), scores)
        [[effect], [alone]] = scorer.score(genome, [Change("one", tuple(edits), 1), Change("one", (edits[1],))])
        assert (effect.kind, *effect[2:5]) == expected[:4] and effect.start == expected[4] + at - 49
        differing += effect.alt_score != alone.alt_score
    assert differing > 10


def test_saturation_equals_single_variants(small_model, genome, sequence):
    scorer = VariantScorer([small_model], RUNTIME)
    scorer.block_bases = 4 * 3 * scorer.context * 7  # several blocks
    blocks = list(saturation(regions_to_saturate("one:2491-2515", genome), genome, scorer))
    alleles = [allele for block in blocks for allele in block.alleles]
    assert len(blocks) > 1 and len(alleles) == 3 * 24  # one base is N
    changes = changes_of([(allele.start, allele.ref, allele.alt) for allele in alleles])
    alone = VariantScorer([small_model], RUNTIME).score(genome, changes)
    assert [allele.effects for allele in alleles] == [[effect for effect in effects if effect] for effects in alone]


def test_prefilter_changes_no_scores(genome, sequence):
    model = bt.load_model("CTCF", runtime=RUNTIME)
    changes = [*changes_of(random_changes(sequence, 60, random.Random(9))), Change("gap", (Edit(80, 81, b"A"),))]
    every = VariantScorer([model.network], RUNTIME).score(genome, changes)
    passing = VariantScorer([model.network], RUNTIME, prefilter=True).score(genome, changes)
    scored = 0
    for [one], [other] in zip(every, passing):
        if other and np.isnan(other.change):
            assert other.kind == "none" and (one is None or one.kind == "none")
        else:
            assert one == other
            scored += 1
    assert 0 < scored < 60 and every[-1] == passing[-1] == [None]


def test_null_of_changes(small_model, toy_factors):
    rng = np.random.default_rng(3)
    changes = rng.exponential(2, 4000) * rng.choice([-1, 1], 4000)
    null = ChangeNull.fit(changes, 10)
    ordered = np.sort(np.abs(changes))
    for fraction in (0.5, 0.1, 0.03):
        assert null.p_values(ordered[[-int(4000 * fraction)]]) == pytest.approx(fraction, rel=0.1)
    assert null.p_values(np.array([0.0])) == 1
    assert null.p_values(np.array([20.0])) == pytest.approx(np.exp(-10), rel=1)  # the tail is exponential
    again = ChangeNull.from_info(ModelInfo("X", 3, 100, {}, 8, variant_null=null.as_dict()))
    assert again.p_values(changes) == pytest.approx(null.p_values(changes), rel=1e-3)
    for damaged in ({"changes": [1]}, null.as_dict() | {"changes": [3.0, 2.0]}, {"changes": "x"}):
        with pytest.raises(DataError, match="null distribution of changes of model X is invalid"):
            ChangeNull.from_info(ModelInfo("X", 3, 100, {}, 8, variant_null=damaged))


def test_a_model_file_keeps_its_null_of_changes(toy_factors, tmp_path):
    codes = np.random.default_rng(1).integers(0, 4, (1100, 100)).astype(np.uint8)
    models = [toy_factors.factor(number) for number in range(len(toy_factors.infos))]
    nulls = change_nulls(models, codes, RUNTIME)
    assert all(nulls) and nulls == change_nulls(models[:1], codes[:100], RUNTIME) + nulls[1:] or nulls[0].count == 1100
    assert change_nulls(models[:1], codes[:100], RUNTIME) == [None]
    toy_factors.infos[2].variant_null = nulls[2].as_dict()
    save_model(str(tmp_path / "m.pt"), toy_factors)
    toy_factors.infos[2].variant_null = {}
    loaded = load_factors(str(tmp_path / "m.pt"))
    scorer = new_scorer(loaded, RUNTIME)
    assert [null is not None for null in scorer.nulls] == [number == 2 for number in range(6)]
    assert new_scorer(loaded, RUNTIME, flank=3).nulls[2] is None  # made for another flank


def test_p_values_of_a_pwm_are_uniform(genome, sequence):
    model = PwmModel(Motif("P", np.random.default_rng(5).integers(1, 40, (9, 4)).astype(float)))
    null = pwm_null(model, 10)
    scorer = new_scorer([model], RUNTIME)
    assert scorer.nulls[0].changes.tolist() == null.changes.tolist()
    rng = random.Random(8)
    variants = [
        (at, sequence[at], rng.choice([base for base in "ACGT" if base != sequence[at]]))
        for at in rng.sample(range(1100, 2400), 600)
    ]
    p = [effect.p for [effect] in scorer.score(genome, changes_of(variants))]
    assert np.mean(np.array(p) <= 0.1) == pytest.approx(0.1, abs=0.04)


def test_python_functions(small_model, genome, sequence, tmp_path):
    base = sequence[2000]
    alt = "ACGT"[("ACGT".index(base) + 1) % 4]
    (tmp_path / "x.vcf").write_text(
        f"##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\none\t2001\trs1\t{base}\t{alt}\t.\t.\t.\n"
    )
    model = bt.SiteModel(small_model, RUNTIME)
    [allele] = bt.variants(model, tmp_path / "x.vcf", genome.path)
    assert allele[:5] == ("one", 2000, "rs1", base, alt) and not allele.note
    [effect] = allele.effects
    assert effect.factor == "SMALL" and effect.kind in CLASSES and effect.p is None
    every = {(one.start, one.alt): one.effects for one in bt.saturate(model, "one:2000-2002", genome)}
    assert len(every) == 9 and every[2000, alt] == allele.effects
    with pytest.raises(bt.UsageError, match="at least one model"):
        bt.variants([], "x.vcf", genome)
