import gzip
import random

import numpy as np
import pybigtools
import pysam
import pytest

from bertsnr_tools.models.files import load_model
from bertsnr_tools.predict.significance import NullDistribution
from bertsnr_tools.sequence.encoding import reverse_complement
from conftest import DATA


def rows(text):
    return [line.split("\t") for line in text.splitlines()]


def test_shipped_model_finds_the_planted_sites(run, expected):
    outcome = run("predict", "-m", "CTCF", "--precision", "fp32", DATA / "region.fa")
    assert outcome.status == 0 and outcome.err == ""
    truth, calls = rows((DATA / "region.truth.bed").read_text()), rows(outcome.out)
    found = [
        row
        for row in truth
        if any(
            c[5] == row[5] and abs(int(c[1]) - int(row[1])) <= 2 and abs(int(c[2]) - int(row[2])) <= 2 for c in calls
        )
    ]
    assert len(found) >= 4 and len(calls) == len(
        found
    )  # drawn from the frequencies of a matrix, one of the five is weak
    assert all(call[0] == "chr20" and call[3] == "CTCF" and 500 <= int(call[4]) <= 1000 for call in calls)
    # the last digit of a score may differ between processors
    expected(
        "region.bed", "".join("\t".join([*call[:4], f"{int(call[4]) / 10:.0f}x", call[5]]) + "\n" for call in calls)
    )


def test_file_pipe_gzip_batch_size_and_threads_give_the_same_bytes(run, tmp_path):
    text = (DATA / "region.fa").read_bytes()
    (tmp_path / "r.fa.gz").write_bytes(gzip.compress(text))
    reference = run("predict", "-m", "CTCF", DATA / "region.fa")
    assert reference.status == 0 and reference.out
    for arguments, stdin in (
        (["-"], text),
        (["-"], gzip.compress(text)),
        ([tmp_path / "r.fa.gz", "-@", 1, "--batch-size", 1], b""),
        ([DATA / "region.fa", "-@", 2, "--batch-size", 7], b""),
    ):
        assert run("predict", "-m", "CTCF", *arguments, stdin=stdin) == reference
    assert run("predict", "-m", "CTCF", "-o", tmp_path / "s.bed.gz", DATA / "region.fa").out == ""
    assert gzip.open(tmp_path / "s.bed.gz").read().decode() == reference.out


def test_regions_of_a_genome(run, genome, tmp_path, toy_model_file):
    bed = tmp_path / "r.bed"
    bed.write_text("chr3\t500\t900\tpromoter\nchr1\t500\t900\n")
    by_bed = run("predict", "-m", "CTCF", "-f", genome, "-b", bed)
    by_text = run("predict", "-m", "CTCF", "-f", genome, "-r", "chr3:501-900", "-r", "chr1:501-900")
    assert by_bed.status == 0 and by_bed.out == by_text.out
    chroms = [row[0] for row in rows(by_bed.out)]
    assert set(chroms) == {"chr1", "chr3"} and chroms == sorted(chroms, reverse=True)
    small = tmp_path / "small.fa"  # without -r or -b the whole genome is scanned, in its order
    text = "".join((DATA / "region.fa").read_text().split("\n")[1:])
    small.write_text(
        "".join(f">{name}\n{'N' * 40}{text[i : i + 1500]}\n" for name, i in (("b", 0), ("a", 2500), ("c", 3500)))
    )
    everything = rows(run("predict", "-m", "CTCF", "-m", toy_model_file, "-t", "0.9", "-f", small).out)
    assert {row[3] for row in everything} == {"CTCF", "TOY"}
    assert [row[0] for row in everything] == sorted((row[0] for row in everything), key="bac".index)
    assert all(int(row[1]) >= 40 for row in everything)  # each begins with 40 N


def test_records_without_sequence_to_score_are_counted(run, toy_model_file, tmp_path):
    path = tmp_path / "n.fa"
    path.write_text(">a\nNNNNNNNN\n>b\nAC\n>c\nACGTACGTACGT\n")
    outcome = run("predict", "-m", toy_model_file, path)
    assert outcome.status == 0
    assert outcome.err == "bertsnr-predict: 2 of 3 regions skipped: no run of ACGT as long as a token or PWM\n"
    assert run("predict", "--strict", "-m", toy_model_file, path).status == 1


@pytest.fixture(scope="module")
def tested_model(toy_model, tmp_path_factory):
    """The toy model, with a null distribution that scores somewhat lower than random windows."""
    from dataclasses import replace

    from bertsnr_tools.io.fasta import Record
    from bertsnr_tools.models.bertsnr import BertSNR
    from bertsnr_tools.models.device import Runtime
    from bertsnr_tools.models.files import save_model
    from bertsnr_tools.predict.significance import log_odds, window_call_levels
    from bertsnr_tools.sequence.windows import Windows

    rng = random.Random(1)
    windows = Windows.unlabelled(
        [Record(f"r{i}", "", "".join(rng.choices("ACGT", k=100)).encode()) for i in range(2000)]
    )
    odds = log_odds(window_call_levels(toy_model, windows, Runtime(batch_size=64))) - 3
    null = NullDistribution.fit(1 / (1 + np.exp(-odds)), 100)
    model = BertSNR(replace(toy_model.info, null=null.as_dict()))
    model.load_state_dict(toy_model.state_dict())
    path = tmp_path_factory.mktemp("tested") / "TOY.pt"
    save_model(str(path), model)
    return path


def test_narrowpeak_has_odds_p_and_q(run, tested_model, tmp_path):
    arguments = ("-m", tested_model, "--precision", "fp32", DATA / "region.fa")
    bed = rows(run("predict", *arguments).out)
    peaks = rows(run("predict", "--format", "narrowPeak", *arguments).out)
    assert [row[:6] for row in peaks] == bed and len(bed) > 10 and all(len(row) == 10 for row in peaks)
    odds, logs, q = (np.array([float(row[column]) for row in peaks]) for column in (6, 7, 8))
    null = NullDistribution.from_info(load_model(str(tested_model)).info)
    assert np.allclose(logs, np.interp(odds, null.scores, null.neg_log10_ps), atol=1e-3)
    bases = sum(letter in "ACGT" for line in (DATA / "region.fa").read_text().splitlines()[1:] for letter in line)
    p = 10.0**-logs
    slow = [min([1.0, *(cut * bases / 100 / (p <= cut).sum() for cut in p if cut >= own)]) for own in p]
    assert np.allclose(10.0**-q, slow, rtol=1e-2)
    assert all(0 <= int(row[9]) < int(row[2]) - int(row[1]) for row in peaks)
    named = run("predict", "-o", tmp_path / "s.narrowPeak", *arguments)
    assert named.status == 0 and rows((tmp_path / "s.narrowPeak").read_text()) == peaks
    coloured = run("predict", "-o", tmp_path / "s.bed9", *arguments)
    assert coloured.status == 0 and [row[:6] for row in rows((tmp_path / "s.bed9").read_text())] == bed


def test_a_p_value_chooses_among_sites_and_leaves_their_borders(run, tested_model):
    arguments = ("-m", tested_model, "--precision", "fp32", DATA / "region.fa")
    peaks = rows(run("predict", "--format", "narrowpeak", *arguments).out)
    middle = float(sorted(peaks, key=lambda row: float(row[7]))[len(peaks) // 2][7]) + 1e-3
    chosen = run("predict", "-t", f"p={10**-middle:.9g}", *arguments)
    assert rows(chosen.out) == [row[:6] for row in peaks if float(row[7]) > middle] and chosen.out


def test_a_false_discovery_rate_keeps_the_sites_below_it(run, tested_model):
    arguments = ("-m", tested_model, "--precision", "fp32", DATA / "region.fa")
    peaks = rows(run("predict", "-t", "q=0.999", "--format", "narrowpeak", *arguments).out)
    cut = sorted(10 ** -float(row[8]) for row in peaks)[len(peaks) // 3] * 1.001
    kept = rows(run("predict", "-t", f"q={cut}", "--format", "narrowpeak", *arguments).out)
    # the borders of what is called at a lower threshold may be wider, so sites are told by their p-values
    assert sorted(row[7] for row in kept) == sorted(row[7] for row in peaks if 10 ** -float(row[8]) <= cut) and kept
    assert all(10 ** -float(row[8]) <= cut * 1.001 for row in kept)


def test_models_without_genomic_background_have_no_p_values(run, toy_model_file):
    for threshold in ("p=0.01", "q=0.1"):
        outcome = run("predict", "-m", toy_model_file, "-t", threshold, DATA / "region.fa")
        assert (outcome.status, outcome.out) == (
            2,
            "",
        ) and "TOY does not report p-values: it was trained without genomic background" in outcome.err
    peaks = rows(run("predict", "-m", toy_model_file, "--format", "narrowpeak", DATA / "region.fa").out)
    assert peaks and all(row[7:9] == ["-1.0000", "-1.0000"] for row in peaks)
    outcome = run("predict", "-m", toy_model_file, "-t", "x=1", DATA / "region.fa")
    assert outcome.status == 2 and "expected P, p=P, q=Q (numbers between 0 and 1) or score=BITS" in outcome.err


def test_matches_of_a_pwm_have_p_and_q_values_too(run, tmp_path):
    (tmp_path / "m.jaspar").write_text(
        ">MA1 CTCF\nA [ 1 0 0 0 90 0 10 0 ]\nC [ 0 99 0 0 0 50 0 9 ]\n"
        "G [ 0 0 99 9 0 0 80 0 ]\nT [ 98 0 0 90 9 50 9 90 ]\n"
    )
    arguments = ("predict", "-m", tmp_path / "m.jaspar", "-t", "p=1e-3", "--format", "narrowpeak", DATA / "region.fa")
    peaks = rows(run(*arguments).out)
    assert peaks and all(3 - 1e-3 <= float(row[7]) < 5 for row in peaks)
    bases = sum(letter in "ACGT" for line in (DATA / "region.fa").read_text().splitlines()[1:] for letter in line)
    best = max(peaks, key=lambda row: float(row[7]))
    assert 10 ** -float(best[8]) <= min(1, 2 * bases * 10 ** -float(best[7])) * 1.01
    none = run("predict", "-m", tmp_path / "m.jaspar", "-t", "q=1e-6", DATA / "region.fa")
    assert (none.status, none.out) == (0, "") and "CTCF: no sequence can reach q=1e-06" in none.err


def test_regions_that_overlap_are_scanned_once(run, genome, tmp_path):
    apart = "chr1\t0\t300\nchr2\t5\t100\nchr2\t100\t300\n"
    together = "chr1\t50\t300\nchr2\t5\t100\nchr1\t0\t200\nchr1\t0\t200\tagain\nchr2\t100\t300\n"
    outcomes = []
    for number, text in enumerate((apart, together)):
        (tmp_path / f"{number}.bed").write_text(text)
        outcomes.append(run("predict", "-m", "CTCF", "-t", "0.1", "-f", genome, "-b", tmp_path / f"{number}.bed"))
    assert outcomes[0].out == outcomes[1].out and outcomes[0].out.count("chr1\t77\t96") == 1
    assert "2 of 5 regions overlap others and are scanned together with them" in outcomes[1].err
    assert "overlap" not in outcomes[0].err
    each = run("predict", "-q", "-m", "CTCF", "--best", "-f", genome, "-b", tmp_path / "1.bed")
    assert each.out.count("chr1\t77\t96") == 3


def test_signals_are_the_same_in_bigwig_and_bedgraph_and_for_every_order_of_regions(
    run, genome, toy_model_file, tmp_path
):
    tracks = (
        "--bigwig",
        "{}.bw",
        "--bigwig-plus",
        "{}.plus.bw",
        "--bigwig-minus",
        "{}.minus.bw",
        "--bedgraph",
        "{}.bg",
    )
    (tmp_path / "r.bed").write_text("chr3\t500\t900\nchr1\t2100\t2400\nchr1\t500\t900\n")
    outcome = run("predict", "-m", toy_model_file, "-m", "CTCF", *tracks, "-f", genome, "-b", "r.bed", cwd=tmp_path)
    assert outcome.status == 0, outcome.err
    plain = run("predict", "-m", toy_model_file, "-m", "CTCF", "-f", genome, "-b", "r.bed", cwd=tmp_path)
    assert outcome.out == plain.out
    lengths = {
        line.split("\t")[0]: int(line.split("\t")[1])
        for line in genome.with_name("genome.fa.fai").read_text().splitlines()
    }
    with (
        pybigtools.open(str(tmp_path / "TOY.bw")) as both,
        pybigtools.open(str(tmp_path / "TOY.plus.bw")) as plus,
        pybigtools.open(str(tmp_path / "TOY.minus.bw")) as minus,
    ):
        assert both.chroms() == lengths
        values, forward, reverse = (
            file.values("chr1", 0, lengths["chr1"], fillna=None) for file in (both, plus, minus)
        )
    assert np.array_equal(values, np.fmax(forward, reverse), equal_nan=True) and not np.array_equal(
        forward, reverse, equal_nan=True
    )
    assert np.isfinite(values).nonzero()[0].tolist() == [*range(500, 900), *range(2100, 2400)]
    graph = np.full(lengths["chr1"], np.nan)
    lines = rows((tmp_path / "TOY.bg").read_text())
    assert [line[0] for line in lines if line[1] in ("500", "2100")] == ["chr3", "chr1", "chr1"]
    for chrom, start, end, value in lines:
        if chrom == "chr1":
            graph[int(start) : int(end)] = float(value)
    assert np.allclose(graph, values, equal_nan=True) and np.array_equal(
        np.round(values, 3), values.round(3), equal_nan=True
    )
    called = [
        row
        for row in rows(outcome.out)
        if row[3] == "TOY" and row[0] == "chr1" and 500 <= int(row[1]) and int(row[2]) <= 900
    ]
    assert called and all(
        np.nanmean((forward if row[5] == "+" else reverse)[int(row[1]) : int(row[2])])
        == pytest.approx(int(row[4]) / 1000, abs=2e-3)
        for row in called
    )


def test_bed9_and_track_lines(run, tmp_path):
    plain = rows(run("predict", "-m", "CTCF", DATA / "region.fa").out)
    lines = run(
        "predict",
        "-m",
        "CTCF",
        "--format",
        "bed9",
        "--track",
        "hg19",
        "--bedgraph",
        tmp_path / "s.bg",
        DATA / "region.fa",
    ).out.splitlines()
    assert lines[0].startswith('track name="CTCF" ') and "db=hg19" in lines[0] and "itemRgb=On" in lines[0]
    fields = rows("\n".join(lines[1:]))
    assert [row[:6] for row in fields] == plain and all(
        row[6:8] == row[1:3] and row[8].count(",") == 2 for row in fields
    )
    assert (tmp_path / "s.bg").read_text().startswith('track type=bedGraph name="CTCF"')


def test_a_header_with_an_interval_of_another_length_is_a_warning(run_here, tmp_path):
    sequence = (DATA / "region.fa").read_text().partition("\n")[2]
    headers = ("chr20:1-500", "hg38_dna range=chr20:11-20 strand=-", "c3")
    (tmp_path / "a.fa").write_text("".join(f">{header}\n{sequence}" for header in headers))
    outcome = run_here("predict", "-m", "CTCF", "a.fa")
    warning = "record 'chr20:1-500': 5,000 bp do not fit the interval in its header, which is ignored\n"
    assert (outcome.status, outcome.err) == (0, f"bertsnr-predict: {warning}")
    assert {line.split("\t")[0] for line in outcome.out.splitlines()} == {"chr20:1-500", "hg38_dna", "c3"}


def test_a_track_with_names_that_ucsc_does_not_know(run_here, tmp_path):
    sequence = (DATA / "region.fa").read_text().partition("\n")[2]
    for names, shown in {
        ("chr20", "chr20:1-5000"): "",
        ("chr20:1-500", "chr2", "myseq"): "chr20:1-500 and 1 more",  # the record has 5,000 bases
    }.items():
        (tmp_path / "a.fa").write_text("".join(f">{name}\n{sequence}" for name in names))
        outcome = run_here("predict", "-m", "CTCF", "--track", "hg38", "a.fa")
        lines = [line for line in outcome.err.splitlines() if "UCSC" in line]
        assert outcome.status == 0 and len(lines) == bool(shown), outcome.err
        assert all(f"--track hg38: UCSC may refuse sites on {shown}; it expects" in line for line in lines)
        assert "UCSC" not in run_here("predict", "-m", "CTCF", "a.fa").err


def test_sequence_from_the_ucsc_browser_lies_on_its_chromosome(run, tmp_path):
    header, sequence = (DATA / "region.fa").read_text().split("\n", 1)
    sequence = "".join(sequence.split())
    reference = run("predict", "-m", "CTCF", DATA / "region.fa")
    first, last = (int(part) for part in header.rpartition(":")[2].split("-"))
    middle = len(sequence) // 2
    halves = (first, sequence[:middle], "-"), (first + middle, sequence[middle:], "+")
    records = []
    for start, part, strand in halves:
        if strand == "-":
            part = reverse_complement(part.encode()).decode()
        records.append(
            f">hg38_dna range=chr20:{start}-{start + len(part) - 1} strand={strand} repeatMasking=none\n{part}\n"
        )
    path = tmp_path / "promoters.fa"
    path.write_text("".join(records))
    outcome = run("predict", "-m", "CTCF", "--track", "hg38", path)
    assert outcome.err == ""  # no warning of names
    calls = [row[:3] + row[5:6] for row in rows(outcome.out)[1:]]
    far = [row[:3] + row[5:6] for row in rows(reference.out) if abs(int(row[1]) - first - middle) > 200]
    assert far and [row for row in calls if abs(int(row[1]) - first - middle) > 200] == far
    path.write_text(records[0])
    sites = tmp_path / "sites.bed"
    sites.write_text(run("predict", "-m", "CTCF", path).out)
    motifs = run("motifs", "-f", path, sites)
    assert motifs.status == 0 and motifs.out.startswith("MEME version")
    assert run("report", "-f", path, "-o", tmp_path / "r.html", sites).status == 0


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ("-m", "CTCF", "-m", "YY1", "--bigwig", "x.bw"),
            "--bigwig x.bw: with 2 models, put {} into the file name for their names",
        ),
        (("-m", "CTCF", "--bigwig", "-"), "a bigWig file cannot be written to standard output"),
        (("-m", "CTCF", "--bedgraph", "-"), "sites and --bedgraph both go to standard output; add -o FILE"),
        (("-m", "CTCF", "--bigwig", "x", "--bedgraph", "x"), "x: is given for two outputs"),
        (("-m", "CTCF", "--track", "hg38 x=1"), "--track 'hg38 x=1': expected the name of a UCSC genome, such as hg38"),
    ],
)
def test_outputs_that_cannot_be(run, tmp_path, arguments, message):
    outcome = run("predict", *arguments, DATA / "region.fa", cwd=tmp_path)
    assert outcome.status == 2 and message in outcome.err and outcome.out == "" and not list(tmp_path.iterdir())


def test_a_packed_bed_file_has_a_tabix_index_where_its_order_allows_one(run, genome, tmp_path):
    run("predict", "-m", "CTCF", "-o", tmp_path / "s.bed.gz", DATA / "region.fa")
    with pysam.TabixFile(str(tmp_path / "s.bed.gz")) as file:
        lines = gzip.open(tmp_path / "s.bed.gz").read().decode().splitlines()
        assert (
            list(file.fetch("chr20", 1_000_000, 1_004_000))
            == [line for line in lines if int(line.split("\t")[1]) < 1_004_000]
            != lines
        )
    (tmp_path / "r.bed").write_text("chr1\t20000\t40000\nchr1\t0\t20000\n")
    outcome = run(
        "predict", "-m", "CTCF", "-t", "0.05", "-f", genome, "-b", tmp_path / "r.bed", "-o", tmp_path / "t.bed.gz"
    )
    assert (
        outcome.status == 0
        and "t.bed.gz: no index, because its rows are not sorted" in outcome.err
        and not (tmp_path / "t.bed.gz.tbi").exists()
    )


def test_shards_of_a_genome(run, genome, toy_model_file):
    scan = ("predict", "-m", toy_model_file, "-m", "CTCF", "-t", "0.99", "-f", genome)
    whole = run(*scan).out
    assert whole.count("\n") > 100
    assert "".join(run(*scan, "--shard", f"{number}/3").out for number in (1, 2, 3)) == whole


def test_shards_have_one_track_line_and_a_bedgraph_with_the_same_values(run, genome, toy_model_file, tmp_path):
    def values(*files):
        lines = [line.split("\t") for file in files for line in (tmp_path / file).read_text().splitlines()]
        assert [line[0][:5] for line in lines].count("track") == 1 and lines[0][0].startswith("track")
        return {(chrom, at): value for chrom, start, end, value in lines[1:] for at in range(int(start), int(end))}

    scan = (
        "predict",
        "-m",
        toy_model_file,
        "-t",
        "0.99",
        "-f",
        genome,
        "-r",
        "chr1:1-9,000",
        "--track",
        "hg38",
        "--bedgraph",
    )
    run(*scan, tmp_path / "whole")
    outputs = [run(*scan, tmp_path / f"{number}", "--shard", f"{number}/2").out for number in (1, 2)]
    assert [text.count("track name") for text in outputs] == [1, 0]
    assert values("1", "2") == values("whole") and len(values("whole")) == 8960  # without the N at its front


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ("--shard", "8/7", "-f", DATA / "genome.fa"),
            "'8/7' is not a shard; expected I/N with 1 <= I <= N, such as 2/7",
        ),
        (("--shard", "1/2", DATA / "region.fa"), "--shard requires a genome; add -f FASTA"),
        (
            ("--shard", "1/2", "-f", DATA / "genome.fa", "--format", "narrowpeak"),
            "--shard: q-values and narrowPeak require a complete scan",
        ),
    ],
)
def test_shards_that_cannot_be(run, arguments, message):
    outcome = run("predict", "-m", "CTCF", *arguments)
    assert outcome.status == 2 and message in outcome.err and outcome.out == ""


def test_an_empty_result_is_a_result(run, genome, tmp_path):
    with genome.open("a") as file:
        file.write(">n\n" + "N" * 500 + "\n")
    outputs = ("-o", tmp_path / "s.bed.gz", "--bigwig", tmp_path / "s.bw")
    for options in ((), ("--prefilter",), ("--shard", "1/2")):
        outcome = run("predict", "-m", "CTCF", "-f", genome, "-r", "n", *outputs, *options)
        assert outcome.status == 0 and "s.bw: no scored bases; the file has no values" in outcome.err
        assert gzip.open(tmp_path / "s.bed.gz").read() == b"" and (tmp_path / "s.bed.gz.tbi").exists()
        with pybigtools.open(str(tmp_path / "s.bw")) as file:
            assert file.chroms()["n"] == 500 and not list(file.records("n"))
