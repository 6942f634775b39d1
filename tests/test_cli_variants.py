"""`bertsnr variants`: outputs, inputs of every kind, cases that other tools met, and errors."""

import os
import random
import subprocess
import sys

import numpy as np
import pyBigWig
import pysam
import pytest

from bertsnr_tools.io.files import quiet_htslib
from bertsnr_tools.models import registry
from bertsnr_tools.variation import output
from conftest import DATA, FACTORS, ROOT

HEADER = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
LENGTH = 600


@pytest.fixture
def sequence(tmp_path):
    """600 bases on chr1, 200 in lower case on chr2, and N around 20 bases on chr3; written to g.fa."""
    rng = random.Random(4)
    text = "".join(rng.choices("ACGT", k=LENGTH))
    (tmp_path / "g.fa").write_text(
        f">chr1\n{text}\n>chr2\n{text[:200].lower()}\n>chr3\n{'N' * 80}{text[:2]}{'N' * 80}{text[:60]}\n"
    )
    return text


@pytest.fixture
def toy(toy_model_file, sequence):
    return ("-m", toy_model_file, "-f", "g.fa")


def other(base):
    return "ACGT"[("ACGT".index(base.upper()) + 1) % 4]


def vcf(path, *rows, header=HEADER):
    path.write_text(header + "".join("\t".join(map(str, (*row, ".", ".", "DP=1"))) + "\n" for row in rows))
    return path


def entries(text):
    """For each row, the fields of the entries of BSNR."""
    rows = []
    for line in text.splitlines():
        if not line.startswith("#"):
            info = dict(entry.partition("=")[::2] for entry in line.split("\t")[7].split(";"))
            rows.append([entry.split("|") for entry in info.get("BSNR", "").split(",") if entry])
    return rows


def table(text):
    header, *rows = [line.split("\t") for line in text.splitlines()]
    return [dict(zip(header, row)) for row in rows]


def test_the_example_of_the_manual(run, expected, genome):
    outcome = run("variants", "-m", "CTCF", "-f", genome, "--precision", "fp32", DATA / "variants.vcf")
    assert outcome.status == 0
    skipped = "2 of 9 alternative alleles not scored (symbolic, a breakend or *: 1; REF disagrees with the genome: 1)"
    assert outcome.err == f"bertsnr-variants: {skipped}\n"
    expected("variants.vcf", outcome.out)
    page = (ROOT / "man" / "bertsnr-variants.1").read_text().replace("\\-", "-")
    for line in outcome.out.splitlines():
        fields = line.split("\t")
        assert line.startswith("#") or "\t".join([*fields[1:5], fields[7]]) in page
    as_table = run("variants", "-q", "-m", "CTCF", "-f", genome, "--format", "tsv", DATA / "variants.vcf")
    rows = table(as_table.out)
    assert [row["note"] for row in rows] == ["."] * 6 + ["symbolic", ".", "ref_mismatch"]
    assert [row["class"] for row in rows][:4] == ["loss", "weaker", "loss", "stronger"]
    bed = run("variants", "-q", "-m", "CTCF", "-f", genome, "--format", "bed", DATA / "variants.vcf").out.splitlines()
    assert bed[0] == "chr1\t77\t96\tCTCF:loss\t955\t+\t77\t96\t213,94,0" and len(bed) == 6


def test_every_kind_of_input_gives_the_same_rows(run_here, toy, sequence, tmp_path, monkeypatch):
    rows = [("chr1", at, ".", sequence[at - 1], other(sequence[at - 1])) for at in range(200, 300, 9)]
    vcf(tmp_path / "a.vcf", *rows, header=HEADER.replace("#CHROM", "##contig=<ID=chr1>\n#CHROM"))
    plain = run_here("variants", *toy, "a.vcf")
    assert plain.status == 0, plain.err
    pysam.tabix_compress(str(tmp_path / "a.vcf"), str(tmp_path / "a.vcf.gz"))
    assert run_here("variants", *toy, "a.vcf.gz").out == plain.out
    pysam.tabix_index(str(tmp_path / "a.vcf.gz"), preset="vcf", csi=True)
    for words in (["-r", "chr1"], ["-r", "chr1:150-250", "-r", "chr1:230-310"]):
        assert run_here("variants", *toy, *words, "a.vcf.gz").out == plain.out
    parts = [run_here("variants", *toy, "-r", region, "a.vcf.gz").out for region in ("chr1:1-236", "chr1:237-600")]
    data = [line for part in parts for line in part.splitlines() if not line.startswith("#")]
    assert data == [line for line in plain.out.splitlines() if not line.startswith("#")]
    (tmp_path / "r.bed").write_text("chr1\t0\t600\n")
    assert run_here("variants", *toy, "-b", "r.bed", "a.vcf.gz").out == plain.out
    assert run_here("variants", *toy, "--batch-size", 1, "a.vcf").out == plain.out
    shuffled = vcf(tmp_path / "b.vcf", *rows[::-1], header=HEADER.replace("#CHROM", "##contig=<ID=chr1>\n#CHROM"))
    assert entries(run_here("variants", *toy, shuffled).out) == entries(plain.out)[::-1]


def test_outputs_by_name(run_here, toy, sequence, tmp_path):
    declared = HEADER.replace(
        "#CHROM", '##contig=<ID=chr1>\n##INFO=<ID=DP,Number=1,Type=Integer,Description="d">\n#CHROM'
    )
    rows = [("chr1", at, ".", sequence[at - 1], other(sequence[at - 1])) for at in range(200, 300, 9)]
    vcf(tmp_path / "a.vcf", *rows, header=declared)
    for name in ("o.vcf.gz", "o.bcf"):
        outcome = run_here("variants", "-q", *toy, "-o", name, "a.vcf")
        assert (outcome.status, outcome.out, outcome.err) == (0, "", "")
        with quiet_htslib(), pysam.VariantFile(str(tmp_path / name)) as file:
            records = list(file.fetch("chr1", 199, 209))
            assert len(records) == 2 and records[0].info["BSNR"][0].split("|")[1] == "TOY"
    again = run_here("variants", "-q", *toy, "o.vcf.gz")
    assert again.out == run_here("variants", "-q", *toy, "a.vcf").out
    assert run_here("variants", "-q", *toy, "-o", "o.tsv", "a.vcf").status == 0
    assert len(table((tmp_path / "o.tsv").read_text())) == len(rows)
    assert run_here("variants", "-q", *toy, "-o", "o.bed.gz", "a.vcf").status == 0


def test_factors_of_one_model_and_names(run_here, shipped, sequence, tmp_path):
    vcf(tmp_path / "a.vcf", ("chr1", 300, ".", sequence[299], other(sequence[299])))
    outcome = run_here("variants", "-m", "human", "-f", "g.fa", "a.vcf")
    assert [entry[1] for [*row] in entries(outcome.out) for entry in row] == list(FACTORS)
    changed = run_here("variants", "-m", "human", "--changed", "-t", 0.3, "-f", "g.fa", "a.vcf")
    assert all(entry[2] != "none" for row in entries(changed.out) for entry in row)
    odd = output.entry_text("A", output.Effect("a,b;c", "gain", 0.1, 0.9, 4.4, 0.01, 1, 9, "+", 1, 9, 1, 9))
    assert odd == "A|a%2Cb%3Bc|gain|0.1|0.9|4.400|0.01|1|9|+"


def test_cases_from_other_tools(run_here, toy, sequence, tmp_path):
    """Ends of a chromosome, lower case, N, neighbouring indels, rows of several alleles, gVCF blocks."""
    at = sequence.__getitem__
    rows = [
        ("chr1", 1, "first", at(0), other(at(0))),
        ("chr1", 1, "grow", at(0), at(0) + "ACG"),
        ("chr1", 299, "del", sequence[298:301], at(298)),
        ("chr1", 302, "ins", at(301), at(301) + "GATTACA"),
        (
            "chr1",
            303,
            "many",
            sequence[302:304],
            f"{at(302)},{sequence[302:304]}T,{other(at(302))}{at(303)},*,<NON_REF>",
        ),
        ("chr1", 310, "block", at(309), "<NON_REF>"),
        ("chr1", 320, "mono", at(319), "."),
        ("chr1", 330, "ends", at(329), f"{at(329)}[chr2:5["),
        ("chr1", 340, "unknown", at(339), "N"),
        ("chr1", 350, "lower", at(349).lower(), other(at(349)).lower()),
        ("chr1", LENGTH, "last", at(LENGTH - 1), other(at(LENGTH - 1))),
        ("chr1", LENGTH, "append", at(LENGTH - 1), at(LENGTH - 1) + "TT"),
        ("chr1", LENGTH, "past", at(LENGTH - 1) + "A", at(LENGTH - 1)),
        ("chr1", 0, "telomere", "N", "A"),
        ("chr2", 100, "soft", at(99), other(at(99))),
        ("chr3", 81, "between", at(0), other(at(0))),
        ("chr3", 10, "gap", "N", "A"),
        ("chr1", 30, "unsorted", at(29), other(at(29))),
    ]
    vcf(tmp_path / "a.vcf", *rows)
    outcome = run_here("variants", *toy, "a.vcf")
    assert outcome.status == 0, outcome.err
    lines = [line.split("\t") for line in outcome.out.splitlines() if not line.startswith("#")]
    assert [line[:7] for line in lines] == [[str(field) for field in (*row, ".", ".")] for row in rows]
    found = dict(zip((row[2] for row in rows), entries(outcome.out)))
    scored = {name: len(of_row) for name, of_row in found.items()}
    one = ("first", "grow", "del", "ins", "lower", "soft", "last", "append", "unsorted")
    assert scored == {row[2]: 1 if row[2] in one else 3 if row[2] == "many" else 0 for row in rows}
    assert [entry[0] for entry in found["many"]] == rows[4][4].split(",")[:3]
    tagged = [line[2] for line in lines if "BSNR_REF_MISMATCH" in line[7]]
    assert tagged == ["past", "telomere"]
    for text in (
        "9 of 21 alternative alleles not scored",
        "symbolic, a breakend or *: 4",
        "letters other than A, C, G and T: 2",
        "REF disagrees with the genome: 2",
        "no run of ACGT around that is as long as a token and a site: 1",
    ):
        assert text in outcome.err
    assert "is it the genome" not in outcome.err
    notes = [row["note"] for row in table(run_here("variants", *toy, "--format", "tsv", "a.vcf").out)]
    assert sum(note != "." for note in notes) == 9
    strict = run_here("variants", *toy, "--strict", "a.vcf")
    assert strict.status == 1 and "a.vcf:7: chr1:303 " in strict.err and "symbolic" in strict.err


def test_alleles_in_lower_case_stay_as_they_are(run_here, toy, sequence, tmp_path):
    ref, alt = sequence[199].lower(), other(sequence[199]).lower()
    vcf(tmp_path / "a.vcf", ("chr1", 200, ".", ref, alt))
    (row,) = table(run_here("variants", *toy, "--format", "tsv", "a.vcf").out)
    assert (row["ref"], row["alt"], row["note"]) == (ref, alt, ".")


def test_rows_of_another_genome(run_here, toy, sequence, tmp_path):
    """An error only if no allele could be scored."""
    odd = [("chr1", place, "odd", other(sequence[place - 1]), sequence[place - 1]) for place in (30, 60)]
    vcf(tmp_path / "a.vcf", *odd)
    outcome = run_here("variants", "-q", *toy, "-o", "o.vcf", "a.vcf")
    problem = "a.vcf: no allele could be scored: REF disagrees with the genome in 2 of 2"
    hint = "is it the reference of the VCF?"
    assert (outcome.status, outcome.err) == (1, f"bertsnr-variants: {problem}; {hint}\n")
    assert not (tmp_path / "o.vcf").exists()
    vcf(tmp_path / "b.vcf", *odd, ("chr1", 70, "right", sequence[69], other(sequence[69])))
    outcome = run_here("variants", *toy, "b.vcf")
    assert outcome.status == 0 and hint in outcome.err


def test_a_mismatching_reference_is_an_error_when_strict(run_here, toy, sequence, tmp_path):
    wrong = other(sequence[99])
    vcf(tmp_path / "a.vcf", ("chr1", 100, "x", wrong, sequence[99]))
    outcome = run_here("variants", "-q", *toy, "--strict", "-o", "o.vcf", "a.vcf")
    problem = (
        f"a.vcf:3: chr1:100 {wrong}>{sequence[99]} cannot be scored: REF disagrees with the genome ({sequence[99]})"
    )
    assert (outcome.status, outcome.err) == (1, f"bertsnr-variants: {problem}\n")
    assert not (tmp_path / "o.vcf").exists()


def test_a_chromosome_that_the_genome_lacks(run_here, toy, sequence, tmp_path):
    vcf(tmp_path / "a.vcf", ("1", 100, "x", "A", "C"))
    outcome = run_here("variants", "-q", *toy, "-o", "o.vcf", "a.vcf")
    assert outcome.status == 1 and not (tmp_path / "o.vcf").exists()
    assert outcome.err == "bertsnr-variants: a.vcf:3: no sequence named '1' in the genome (it contains chr1)\n"
    vcf(tmp_path / "decoy.vcf", ("chrEBV", 100, "x", "A", "C"), ("chrEBV", 200, "y", "A", "C,G"))
    outcome = run_here("variants", "-q", *toy, "-o", "o.vcf", "decoy.vcf")
    assert (outcome.status, "decoy.vcf:3: no sequence named 'chrEBV'" in outcome.err) == (1, True)
    assert not (tmp_path / "o.vcf").exists()


def test_decoys_are_passed_through(run_here, toy, sequence, tmp_path):
    good = ("chr1", 200, ".", sequence[199], other(sequence[199]))
    vcf(tmp_path / "a.vcf", good, ("chrEBV", 100, "x", "A", "C"), ("chrEBV", 200, "y", "A", "C,G"))
    outcome = run_here("variants", *toy, "--format", "tsv", "a.vcf")
    assert [row["note"] for row in table(outcome.out)] == [".", "no_chrom", "no_chrom", "no_chrom"]
    assert "3 of 4 alternative alleles not scored (the chromosome is not in the genome: 3)" in outcome.err
    outcome = run_here("variants", *toy, "--strict", "a.vcf")
    assert (outcome.status, "a.vcf:4: no sequence named 'chrEBV'" in outcome.err) == (1, True)


def test_a_long_deletion(run_here, toy_model_file, tmp_path):
    rng = np.random.default_rng(1)
    text = "".join(np.array(list("ACGT"))[rng.integers(0, 4, 10_000_200)])
    (tmp_path / "long.fa").write_text(f">c\n{text}\n")
    vcf(tmp_path / "a.vcf", ("c", 100, ".", text[99:10_000_100], text[99]), ("c", 500, ".", text[499:900], text[499]))
    outcome = run_here("variants", "-m", toy_model_file, "-f", "long.fa", "--format", "tsv", "a.vcf")
    assert outcome.status == 0 and "longer than 1,000 bp: 1" in outcome.err
    assert [row["note"] for row in table(outcome.out)] == ["too_long", "."]


def test_many_contigs_and_missing_declarations(run_here, toy, sequence, tmp_path):
    contigs = "".join(f"##contig=<ID=s{number}>\n" for number in range(20_000))
    row = f"chr1\t300\t.\t{sequence[299]}\t{other(sequence[299])}\t1.50\tq99\tXY=0.10;FLAG\tGT:ZZ\t0/1:7\n"
    header = HEADER.replace("#CHROM", contigs + "#CHROM").replace("INFO", "INFO\tFORMAT\tS")
    (tmp_path / "a.vcf").write_text(header + row)
    outcome = run_here("variants", *toy, "a.vcf")
    before, entry = row.split("FLAG")
    last = outcome.out.splitlines()[-1] + "\n"
    assert last.startswith(before + "FLAG;BSNR=") and last.endswith(entry)
    assert outcome.out.startswith(HEADER.split("#CHROM")[0] + contigs)
    (tmp_path / "b.vcf").write_text(row)
    assert run_here("variants", *toy, "b.vcf").status == 1


def test_haplotypes_of_a_sample(run_here, toy, sequence, tmp_path):
    header = HEADER.replace("INFO", "INFO\tFORMAT\tS1\tS2")
    rows = [
        f"chr1\t{at}\t.\t{sequence[at - 1]}\t{other(sequence[at - 1])}\t.\t.\t.\tGT\t0|1\t{second}\n"
        for at, second in ((300, "0|1"), (305, "1|0"))
    ]
    (tmp_path / "a.vcf").write_text(header + "".join(rows))
    alone = entries(run_here("variants", *toy, "a.vcf").out)
    together = entries(run_here("variants", *toy, "--haplotypes", "S1", "a.vcf").out)
    assert entries(run_here("variants", *toy, "--haplotypes", "S2", "a.vcf").out) == alone != together
    outcome = run_here("variants", *toy, "--haplotypes", "S3", "a.vcf")
    assert outcome.status == 2 and "has no sample of this name (it has 2)" in outcome.err


def test_saturation(run_here, toy, sequence):
    words = ("--saturate", "chr1:301-320", "--bigwig", "l.bw", "--plot", "p.svg", "-o", "s.tsv")
    outcome = run_here("variants", *toy, *words)
    assert outcome.status == 0, outcome.err
    rows = table(open("s.tsv").read())
    assert len(rows) == 60 and [row["pos"] for row in rows[::3]] == [str(at) for at in range(301, 321)]
    changes = np.array([float(row["delta_log_odds"]) for row in rows]).reshape(20, 3)
    with pyBigWig.open("l.bw") as file:
        assert file.values("chr1", 300, 320) == pytest.approx(-changes.mean(axis=1), abs=2e-3)
    assert "mean loss" in open("p.svg").read() or os.path.getsize("p.svg") > 1000
    with open("r.bed", "w") as bed:
        bed.write("chr1\t300\t310\nchr3\t75\t85\n")
    outcome = run_here("variants", *toy, "--saturate", "r.bed")
    assert "6 of 36 substitutions not scored" in outcome.err and len(table(outcome.out)) == 36
    assert run_here("variants", *toy, "--saturate", "r.bed", "--strict").status == 1
    outcome = run_here("variants", *toy, "--saturate", "r.bed", "--plot", "p.png")
    assert outcome.status == 2 and "a heat map shows one region of at most 2,000 bp (got 2 regions" in outcome.err


def test_regions_to_saturate(run_here, toy, tmp_path):
    """Each substitution once; unknown bases are counted."""
    (tmp_path / "r.bed").write_text("chr1\t303\t310\nchr1\t300\t305\n")
    rows = table(run_here("variants", *toy, "--saturate", "r.bed").out)
    assert [row["pos"] for row in rows[::3]] == [str(at) for at in range(301, 311)]
    outcome = run_here("variants", *toy, "--saturate", "chr3:5-6")
    assert outcome.status == 0 and "2 of 2 bases skipped: not A, C, G or T" in outcome.err and not table(outcome.out)
    assert run_here("variants", *toy, "--saturate", "chr3:5-6", "--strict").status == 1
    outcome = run_here("variants", *toy, "--saturate", "nope.bed")
    assert outcome.status == 1 and "nope.bed: no such file, and no sequence of that name in the genome" in outcome.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "no variants given; add a VCF file"),
        (("a.vcf", "--saturate", "chr1:1-9"), "score either variants or a region"),
        (("--saturate", "chr1:1-9", "--format", "vcf"), "leave out --format vcf"),
        (("--saturate", "chr1:1-9", "-r", "chr1"), "leave out -r"),
        (("--saturate", "chr1:1-9", "--haplotypes", "S"), "leave out --haplotypes"),
        (("--saturate", "chr1:5-"), "--saturate chr1:5-: expected chrom:from-to"),
        (("--saturate", "chr1:5"), "--saturate chr1:5: expected chrom:from-to; for one base, from = to"),
        (("a.vcf", "--plot", "p.png"), "--plot requires --saturate REGION"),
        (("a.vcf", "--bigwig", "p.bw"), "--bigwig requires --saturate REGION"),
        (("a.vcf", "-r", "chr1"), "require an index of a.vcf"),
        (("a.vcf", "-r", "chr7"), "no sequence named 'chr7' in the genome"),
        (("a.vcf", "-t", "q=0.1"), "expected P, p=P"),
        (("a.vcf", "--prefilter"), "TOY has no prefilter"),
        (("a.vcf", "-o", "a.vcf"), "is also an input"),
    ],
)
def test_usage_errors(run_here, toy, sequence, tmp_path, words, message):
    vcf(tmp_path / "a.vcf", ("chr1", 5, ".", sequence[4], other(sequence[4])))
    outcome = run_here("variants", *toy, *words)
    assert outcome.status == 2 and message in outcome.err and not outcome.out


def test_a_genome_is_required(run_here, toy_model_file, sequence, tmp_path):
    vcf(tmp_path / "a.vcf", ("chr1", 5, ".", sequence[4], other(sequence[4])))
    outcome = run_here("variants", "-m", toy_model_file, "a.vcf")
    assert outcome.status == 2 and "no genome given; add -f FASTA" in outcome.err


def test_head_and_a_full_disk(toy_model_file, sequence, tmp_path):
    rows = [("chr1", at, ".", sequence[at - 1], other(sequence[at - 1])) for at in range(1, 600)] * 40
    vcf(tmp_path / "a.vcf", *rows)
    line = [sys.executable, "-m", "bertsnr_tools", "variants", "-q", "-m", str(toy_model_file), "-f", "g.fa", "a.vcf"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        line, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout.readline() == b"##fileformat=VCFv4.2\n"
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait() == 1
    with open("/dev/full", "wb") as full:
        done = subprocess.run(line, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, env=environment)
    assert done.returncode == 1
    assert done.stderr == "bertsnr_tools variants: standard output: No space left on device\n" or (
        "No space left on device" in done.stderr and done.stderr.count("\n") == 1
    )


def test_shipped_models_have_p_values():
    import bertsnr_tools as bt

    for model in bt.load_models([path.stem for path in sorted(registry.WEIGHTS.glob("*.pt"))]):
        assert model.info.variant_null, model.name
