import gzip
import re

import pytest

from bertsnr_tools.io.intervals import read_bed
from bertsnr_tools.io.motif_files import read_motifs
from conftest import DATA

REGION = DATA / "region.fa"


@pytest.fixture
def windows(run, genome, tmp_path):
    path = tmp_path / "CTCF.fa"
    assert run("windows", "-f", genome, "-o", path, DATA / "sites.bed").status == 0
    return path


def test_sites_and_a_genome_make_a_motif_file(run, genome, expected):
    outcome = run("motifs", "-f", genome, DATA / "sites.bed")
    assert (outcome.status, outcome.err) == (0, "bertsnr-motifs: sites skipped: 6 with letters other than ACGT\n")
    expected("motifs.meme", outcome.out)
    assert run("motifs", "-f", genome, "-", stdin=(DATA / "sites.bed").read_bytes()) == outcome


def test_calls_of_several_factors_make_several_motifs(run, genome, tmp_path):
    """One name, one motif, in the order in which the names come; the width of a motif is its median site."""
    sites = [(100, 110, "B b", "+"), (200, 219, "A=1", "-"), (300, 310, "B b", "-"), (320, 323, "B b", "-")]
    sites.append((400, 440, "/etc", "+"))
    bed = tmp_path / "s.bed"
    bed.write_text("".join(f"chr1\t{start}\t{end}\t{name}\t0\t{strand}\n" for start, end, name, strand in sites))
    outcome = run("motifs", "-f", genome, "--instances", tmp_path / "i.fa.gz", bed)
    skipped = "sites skipped: 1 with too few called bases for the motif's width (see --coverage)"
    assert outcome.err == f"bertsnr-motifs: {skipped}\n"
    assert re.findall(r"MOTIF (.*)\nletter-probability matrix: alength= 4 w= (\d+) nsites= (\d+)", outcome.out) == [
        ("B_b", "10", "2"),
        ("A_1", "19", "1"),
        ("/etc", "40", "1"),
    ]
    names = [line for line in gzip.open(tmp_path / "i.fa.gz", "rt") if line.startswith(">")]
    assert names == [
        ">B_b::chr1:100-110(+)\n",
        ">A=1::chr1:200-219(-)\n",
        ">B_b::chr1:300-310(-)\n",
        ">/etc::chr1:400-440(+)\n",
    ]
    outputs = ["-o", tmp_path / "no.meme", "--instances", tmp_path / "no.bed"]
    strict = run("motifs", "-f", genome, "--strict", *outputs, bed)
    assert (strict.status, strict.err) == (1, f"bertsnr-motifs: {bed}: {skipped}\n")
    assert not (tmp_path / "no.meme").exists() and not (tmp_path / "no.bed").exists()


def test_sites_without_strand_or_name(run, genome, tmp_path):
    bed = tmp_path / "calls.bed"
    bed.write_text("chr1\t100\t110\nchr1\t200\t210\n")
    outcome = run("motifs", "-f", genome, bed)
    assert outcome.status == 0 and "MOTIF calls\n" in outcome.out
    assert outcome.err == f'bertsnr-motifs: {bed}: 2 sites have no strand (column 6) and are read as "+"\n'
    piped = run("motifs", "-f", genome, "-", stdin=b"chr1\t100\t110\tA\t0\t.\nchr1\t200\t210\tA\t0\t-\n")
    assert piped.err == 'bertsnr-motifs: standard input: 1 sites have no strand (column 6) and are read as "+"\n'


def test_peaks_in_place_of_sites_get_a_motif_without_matches(run, genome, tmp_path):
    bed = tmp_path / "peaks.bed"
    bed.write_text("chr1\t100\t400\tP\t0\t+\nchr1\t500\t800\tP\t0\t+\n")
    outcome = run("motifs", "-f", genome, "--compare", "jaspar", "-o", tmp_path / "m.meme", bed)
    assert outcome.status == 0 and len(outcome.out.splitlines()) == 1
    assert "1 motifs of up to 300 bp are not compared, only up to 100 bp; are their sites peaks?" in outcome.err


def test_options_of_models_require_one(run, genome, tmp_path):
    outcome = run("motifs", "-f", genome, "-t", "0.3", DATA / "sites.bed")
    assert outcome.status == 2 and "-t: only with a model; add -m MODEL" in outcome.err
    (tmp_path / "a.fa").write_text(">a\n" + "ACGT" * 25 + "\n")
    outcome = run("motifs", tmp_path / "a.fa")
    assert outcome.status == 1 and outcome.err.endswith("to find sites, add -m MODEL or --discover\n")


def test_a_scan_flows_into_motifs(run, tmp_path):
    """The FASTA that was scanned serves as the genome of its calls."""
    region = tmp_path / "region.fa"
    region.write_bytes(REGION.read_bytes())
    calls = run("predict", "-m", "CTCF", region).out
    outcome = run("motifs", "-f", region, "--align", 0, "--instances", tmp_path / "i.bed", "-", stdin=calls.encode())
    assert outcome.status == 0 and "MOTIF CTCF\n" in outcome.out and len(calls.splitlines()) > 1
    assert [line.split("\t")[:3] for line in (tmp_path / "i.bed").read_text().splitlines()] == [
        line.split("\t")[:3] for line in calls.splitlines()
    ]
    # the model finds the same sites in the sequence itself; without --every, one record gives one instance
    direct = run("motifs", "-m", "CTCF", "--align", 0, "--every", region)
    assert direct.out == outcome.out
    assert "nsites= 1 " in run("motifs", "-m", "CTCF", region).out


def test_model_and_labels_agree_on_windows(run, windows, tmp_path):
    labelled, called = run("motifs", windows), run("motifs", "-m", "CTCF", "--forward", windows)
    assert labelled.status == called.status == 0
    (tmp_path / "l.meme").write_text(labelled.out), (tmp_path / "c.meme").write_text(called.out)
    (one,), (two,) = read_motifs(str(tmp_path / "l.meme")), read_motifs(str(tmp_path / "c.meme"))
    assert one.id == two.id == "CTCF" and one.width == two.width == 19 and 314 == one.sites >= two.sites >= 250
    assert abs(one.probs - two.probs).mean() < 0.05
    both = run("motifs", "-m", "CTCF", "-m", "YY1", "--width", 11, "--precision", "fp32", windows)
    (ctcf, yy1) = re.findall(r"MOTIF (\w+)\n.*w= 11 nsites= (\d+)", both.out)
    assert ctcf[0] == "CTCF" and int(ctcf[1]) > 250 and yy1[0] == "YY1" and 0 < int(yy1[1]) < 50


def test_a_factor_without_instances_has_no_motif(run_here, tmp_path):
    """Random sequence around a CTCF site: GATA3 calls nothing, and a warning says so."""
    path = tmp_path / "one.fa"
    path.write_text(">a\n" + "ACGTC" * 8 + "TGACCACTAGAGGGCGCTA" + "ACGTC" * 8 + "\n")
    outcome = run_here("motifs", "-m", "CTCF", "-m", "GATA3", "--precision", "fp32", path)
    assert re.findall(r"MOTIF (\w+)\n.*nsites= (\d+)", outcome.out) == [("CTCF", "1")]
    assert (outcome.status, outcome.err) == (0, "bertsnr-motifs: 1 of 2 motifs without instances: GATA3\n")


def test_comparison_and_logos(run, windows, tmp_path):
    out, logo = tmp_path / "ctcf.meme", tmp_path / "logo.svg"
    outcome = run("motifs", "-o", out, "--compare", "jaspar", "--logo", logo, windows)
    assert outcome.status == 0
    head, first, *_ = [line.split("\t") for line in outcome.out.splitlines()]
    assert head == ["query", "target", "target_name", "p", "E", "q", "offset", "overlap", "orientation"]
    assert first[0] == "CTCF" and first[2].startswith("CTCF")
    assert float(first[3]) < 1e-10 and float(first[4]) > float(first[3])
    assert f"{first[1]} CTCF" in logo.read_text() and read_motifs(str(out))[0].sites == 314
    # compared with itself only: p-values mean little, and a warning says so
    alone = run("motifs", "--compare", out, "--logo", tmp_path / "l.png", windows)
    assert alone.status == 0
    assert alone.err == f"bertsnr-motifs: {out}: only 1 motif(s); p-values depend on the choice of targets\n"
    assert (tmp_path / "l.png").read_bytes().startswith(b"\x89PNG")
    counts = run("motifs", "--format", "jaspar", windows)
    assert counts.out.startswith(">CTCF\tCTCF\nA  [") and len(counts.out.splitlines()) == 5


def test_instances_of_windows_lie_where_the_sites_do(run, windows, tmp_path):
    assert run("motifs", "--instances", tmp_path / "i.bed", windows).status == 0
    given = {(s.chrom, s.start, s.end, s.strand) for s in read_bed(str(DATA / "sites.bed"))}
    found = list(read_bed(str(tmp_path / "i.bed")))
    # the sliding window cannot leave the sequence: at a border it finds a middle that is off by a base or two

    def distance(site):
        shifts = [abs(s) for s in range(-2, 3) if (site.chrom, site.start + s, site.end + s, site.strand) in given]
        return min(shifts, default=9)

    distances = [distance(site) for site in found]
    assert len(found) == 314 and max(distances) <= 2 and distances.count(0) > 0.9 * 314


def test_a_hundred_thousand_sites(run, genome, tmp_path):
    sites = (DATA / "sites.bed").read_text() * 313
    outcome = run("motifs", "-f", genome, "-", stdin=sites.encode())
    assert outcome.status == 0 and f"nsites= {314 * 313} " in outcome.out
