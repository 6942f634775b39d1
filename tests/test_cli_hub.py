"""`bertsnr hub`: UCSC's rules, and values equal to the input."""

import os
import re
import subprocess
import sys

import numpy as np
import pybigtools
import pyBigWig
import pytest
from test_site_files import ranked, write
from track_hub import faults

from bertsnr_tools.hub.sites import SiteFile, pack_sites
from bertsnr_tools.hub.trackdb import TrackNames
from bertsnr_tools.io.tracks import BigWig
from bertsnr_tools.predict.writers import SiteFormat

BED = "".join(
    f"chr{1 + number % 2}\t{number * 37}\t{number * 37 + 12}\t{name}\t{number * 90}\t{'+-'[number % 2]}\n"
    for number, name in enumerate(["CTCF", "TAL1::TCF3", "a,b|c", "9X y", "ctcf", "CTCF", "CTCF", "CTCF"])
)
SIZES = "chr1\t1000\nchr2\t900\textra\n\n"


@pytest.fixture
def hub(run_here, tmp_path):
    """Make a hub of the given input, without the fork of a process."""
    (tmp_path / "sizes").write_text(SIZES)
    (tmp_path / "s.bed").write_text(BED)

    def call(*words):
        return run_here("hub", "--assembly", "hg38", "-o", "hub", *words)

    return call


def records(path):
    with pybigtools.open(str(path)) as file:
        return [(chrom, *record) for chrom in sorted(file.chroms()) for record in file.records(chrom)]


def test_addresses_in_the_link(hub):
    link = "ucsc\thttps://genome.ucsc.edu/cgi-bin/hgTracks?db=hg38&hubUrl="
    done = hub("-f", "sizes", "s.bed", "--url", "https://lab.org:8080/my%20hub&x")
    assert done.out.startswith(f"{link}https://lab.org:8080/my%2520hub%26x/hub.txt\n")
    done = hub("-f", "sizes", "s.bed", "--url", "https://lab.org/my hub")
    assert done.status == 2 and "'https://lab.org/my hub': expected an address without spaces" in done.err
    done = hub("-f", "sizes", "s.bed")
    assert done.out.startswith(f"{link}https://example.org/hub/hub.txt\n")
    assert "with its address instead of https://example.org, into a browser" in done.err


def test_a_directory_whose_name_is_not_utf8(hub, tmp_path):
    done = hub("-q", "-f", "sizes", "s.bed", "-o", os.fsdecode(b"hub\xff"))
    assert done.status == 0 and "/hub%FF/hub.txt\n" in done.out.replace("%25", "%")


def test_a_hub_of_bed(hub, tmp_path):
    done = hub("-f", "sizes", "s.bed", "--url", "https://lab.org/x/")
    assert done.status == 0 and not faults(tmp_path / "hub")
    lines = done.out.splitlines()
    assert lines[0] == "ucsc\thttps://genome.ucsc.edu/cgi-bin/hgTracks?db=hg38&hubUrl=https://lab.org/x/hub.txt"
    files = [line.split("\t")[1].removeprefix("hub/") for line in lines[1:]]
    assert files == ["s_9X_y.bb", "s_CTCF.bb", "s_TAL1_TCF3.bb", "s_a_b_c.bb", "s_ctcf_2.bb"]
    assert {path.name for path in (tmp_path / "hub").iterdir()} == {*files, "hub.txt", "description.html"}
    back = []
    for name in files:
        for chrom, start, end, factor, score, strand, thick, thin, rgb, label in records(tmp_path / "hub" / name):
            back.append(f"{chrom}\t{start}\t{end}\t{factor}\t{score}\t{strand}\n")
            assert (thick, thin) == (str(start), str(end)) and label == re.sub("[,|]", "_", factor)
            assert rgb == {"+": "0,90,181", "-": "220,50,32"}[strand]
    assert sorted(back) == sorted(BED.replace("9X y", "9X_y").splitlines(keepends=True))
    with pyBigWig.open(str(tmp_path / "hub" / "s_CTCF.bb")) as file:
        assert file.chroms() == {"chr1": 1000, "chr2": 900}
    text = (tmp_path / "hub" / "hub.txt").read_text()
    assert "\nfilterValues.factor 9X_y,CTCF,TAL1::TCF3,a_b_c,ctcf\n" in text and "negLog10P" not in text


def test_bigbed_and_bigwig_of_a_scan(hub, tmp_path):
    found = [ranked("chr2", 50), ranked("chr1", 70, "+", 2.5), ranked("chr1", 5, "+", 12.0)]
    write(tmp_path / "s.bb", SiteFormat("bigbed"), found, {"chr1": 1000, "chr2": 900})
    write(tmp_path / "s.narrowPeak", SiteFormat("narrowpeak"), found)
    signal = BigWig(str(tmp_path / "s.bw"), {"chr1": 1000})
    signal.add("chr1", 3, np.array([0.25, 0.984], dtype=np.float32))
    signal.write()
    done = hub("-f", "sizes", "-m", "CTCF", "s.bb", "s.narrowPeak", "s.bw")
    assert done.status == 0 and not faults(tmp_path / "hub")
    whole = records(tmp_path / "s.bb")
    assert len(whole) == 3 and records(tmp_path / "hub" / "s_CTCF.bb") == whole
    assert records(tmp_path / "hub" / "s_2_CTCF.bb") == whole  # narrowPeak contains p, q and log odds, too
    assert (tmp_path / "hub" / "s_signal.bw").read_bytes() == (tmp_path / "s.bw").read_bytes()
    text = (tmp_path / "hub" / "hub.txt").read_text()
    assert "\nfilter.negLog10P 0:12\n" in text and "subGroup2 source File s=s s_2=s-2" in text
    assert "type bigWig 0.25 0.984" in text and "viewLimits 0:1\n" in text
    page = (tmp_path / "hub" / "description.html").read_text()
    assert "<th>AUPR over bases</th>" in page and '<td class="number">4315</td>' in page  # CTCF's training windows


def test_many_factors_and_unknown_p(hub, tmp_path):
    lines = (f"chr1\t{n}\t{n + 9}\tF{n}\t0\t+\t1.5\t{n - 1}\t-1\t4\n" for n in range(60))
    (tmp_path / "s.narrowPeak").write_text("".join(lines) + "chr1\t1\t9\tF30\t0\t+\t1.5\t1\t-1\t4\n")
    assert hub("-f", "sizes", "s.narrowPeak").status == 0 and not faults(tmp_path / "hub")
    text = (tmp_path / "hub" / "hub.txt").read_text()
    assert text.count("bertsnr_sites on") == 20 and text.count("bertsnr_sites off") == 40
    assert "filter.negLog10P -1:58\n" in text  # a p-value that is not known passes, too
    assert "longLabel F30: 2 binding sites" in text and "\n    track s_F30\n    parent bertsnr_sites on\n" in text


BROKEN = {
    "email": ("email nobody@example.org\n", ""),
    "useOneFile": ("useOneFile on", "useOneFile off"),
    "long label": ("shortLabel CTCF", "shortLabel CTCF and much more text"),
    "name": ("track s_CTCF", "track s.CTCF"),
    "twice": ("track s_ctcf_2", "track s_CTCF"),
    "path": ("bigDataUrl s_CTCF.bb", "bigDataUrl /s_CTCF.bb"),
    "missing file": ("bigDataUrl s_CTCF.bb", "bigDataUrl other.bb"),
    "type": ("type bigBed 9 +", "type bigBed 9"),
    "other type": ("    type bigBed 9 +", "    type bigWig"),
    "parent": ("parent bertsnr_sites on", "parent other on"),
    "on": ("parent bertsnr_sites on", "parent bertsnr_sites"),
    "group": ("subGroups factor=CTCF source=s", "subGroups factor=CTCF"),
    "member": ("subGroups factor=CTCF source=s", "subGroups factor=XX source=s"),
    "dimension": ("dimX=source", "dimA=source"),
    "dimension of what": ("dimX=source", "dimX=cell"),
    "column": ("filterValues.factor", "filterValues.fact"),
    "limits": ("filterLimits.score 0:1000", "filterLimits.score 1000:0"),
    "range": ("filterByRange.score on", "filterByRange.score 0:1000"),
    "mouseOver": ("score $score", "score $scor"),
    "setting": ("itemRgb on", "itemRGB on"),
    "visibility": ("visibility pack", "visibility open"),
    "html": ("html description.html", "html other.html"),
    "no value": ("    priority 1\n", "    priority \n"),
    "blank line": ("type bigBed 9 +\n", "\n"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_the_checker_can_fail(hub, tmp_path, fault):
    assert hub("-f", "sizes", "s.bed").status == 0
    text = (tmp_path / "hub" / "hub.txt").read_text()
    before, after = BROKEN[fault]
    assert before in text
    (tmp_path / "hub" / "hub.txt").write_text(text.replace(before, after, 1))
    assert faults(tmp_path / "hub")


@pytest.mark.parametrize(
    ("words", "status", "problem"),
    [
        ("s.bed", 2, "s.bed: BED requires chromosome sizes; add -f FASTA, .fai or chrom.sizes"),
        ("-f s.bed s.bed", 1, "s.bed:1: is 'chr1\\t0\\t12"),
        ("-f sizes bad.bed", 1, "bad.bed:2: end 1001 is past the end of chr1 (1,000 bp); is it another assembly?"),
        ("-f sizes chrom.bed", 1, "chrom.bed:1: no sequence named '1' in the genome (it contains chr1)"),
        ("-f sizes score.bed", 1, "score.bed:1: score is '2000'; expected an integer from 0 to 1000"),
        ("-f sizes peak.bed", 1, "peak.bed:1: column 7, 8 or 9 is 'x'; expected a number"),
        ("-f sizes mixed.bed", 1, "mixed.bed: mixes lines of narrowPeak"),
        ("-f sizes names.bed", 1, "names.bed: has sites of more than 500 names, but each name becomes a track"),
        ("-f sizes empty.bed", 1, "hub: no sites and no base scores to show"),
        ("-f sizes s.bw", 1, "s.bw: No such file or directory"),
        ("s.txt.bb", 1, "s.txt.bb: is not a bigWig or bigBed file"),
        ("-f sizes s.bed -m NOFACTOR", 1, "no shipped model of that name"),
        ("-f sizes s.bed --email me", 2, "--email 'me': expected an e-mail address"),
        ("-f sizes s.bed --assembly 'h'", 2, "expected UCSC's name, such as hg38"),
        ("-f sizes hub/s.bed", 2, "hub/s.bed: is in the directory of the hub; give another directory"),
        ("-f sizes s.bed -o s.bed", 2, "s.bed: is not a directory"),
        ("-f sizes s.bed -o no/hub", 1, "output directory does not exist"),
    ],
)
def test_input_that_cannot_be(hub, tmp_path, words, status, problem):
    (tmp_path / "bad.bed").write_text("chr1\t1\t9\nchr1\t990\t1001\n")
    (tmp_path / "chrom.bed").write_text("1\t1\t9\n")
    (tmp_path / "score.bed").write_text("chr1\t1\t9\tA\t2000\t+\n")
    (tmp_path / "peak.bed").write_text("chr1\t1\t9\tA\t0\t+\tx\t1\t1\t3\n")
    (tmp_path / "mixed.bed").write_text("chr1\t1\t9\tA\t0\t+\nchr1\t1\t9\tA\t0\t+\t1\t1\t1\t3\n")
    (tmp_path / "names.bed").write_text("".join(f"chr1\t1\t9\tpeak_{number}\n" for number in range(501)))
    (tmp_path / "empty.bed").write_text("# nothing\n")
    (tmp_path / "s.txt.bb").write_text("text")
    done = hub(*words.split())
    assert done.status == status and problem in done.err.splitlines()[-1] and not done.out
    assert not (tmp_path / "hub").exists() and not list(tmp_path.rglob("*.tmp"))


def test_bigbed_of_another_assembly(hub, tmp_path):
    assert hub("-f", "sizes", "s.bed").status == 0
    (tmp_path / "s.bb").write_bytes((tmp_path / "hub" / "s_CTCF.bb").read_bytes())
    assert hub("-f", "sizes", "-o", "again", "s.bb").status == 0
    (tmp_path / "shorter").write_text(SIZES.replace("1000", "999"))
    done = hub("-f", "shorter", "-o", "other", "s.bb")
    assert done.status == 1 and "end 1000 is past the end of chr1 (999 bp); is it another assembly?" in done.err
    assert not (tmp_path / "other").exists()


def test_after_an_error_an_earlier_hub_is_valid(hub, tmp_path):
    assert hub("-f", "sizes", "s.bed").status == 0
    before = sorted((tmp_path / "hub").iterdir())
    (tmp_path / "bad.bed").write_text("chr1\t990\t1001\n")
    (tmp_path / "new.bed").write_text("chr1\t1\t9\tN\n")
    assert hub("-f", "sizes", "s.bed", "new.bed", "bad.bed").status == 1
    assert sorted((tmp_path / "hub").iterdir()) == before and not faults(tmp_path / "hub")


def test_tracks_of_an_earlier_hub_are_reported(hub, tmp_path):
    assert "not in this hub" not in hub("-f", "sizes", "s.bed").err
    (tmp_path / "new.bed").write_text("chr1\t1\t9\tN\n")
    assert "hub: has 5 track files that are not in this hub (s_9X_y.bb, s_" in hub("-f", "sizes", "new.bed").err
    assert "not in this hub" in hub("-f", "sizes", "s.bed").err  # of new.bed
    assert "not in this hub" not in hub("-f", "sizes", "s.bed", "new.bed").err


def test_a_genome_gives_the_sizes(hub, tmp_path):
    (tmp_path / "g.fa").write_text(">chr1\n" + "ACGT" * 250 + "\n>chr2\n" + "A" * 900 + "\n")
    assert hub("-f", "g.fa", "s.bed").status == 0 and not faults(tmp_path / "hub")
    with pyBigWig.open(str(tmp_path / "hub" / "s_CTCF.bb")) as file:
        assert file.chroms() == {"chr1": 1000, "chr2": 900}


def test_names_that_ucsc_does_not_know_are_reported(hub, tmp_path):
    assert "UCSC" not in hub("-f", "sizes", "s.bed").err
    (tmp_path / "sizes").write_text(f"{SIZES}myseq\t500\n")
    (tmp_path / "s.bed").write_text(f"{BED}myseq\t5\t15\tCTCF\t0\t+\n")
    outcome = hub("-f", "sizes", "s.bed")
    assert outcome.status == 0 and "s.bed: UCSC may refuse sites on myseq; it expects" in outcome.err


def test_a_full_disk_leaves_no_hub(hub, tmp_path, file_limit):
    for limit in (0, 100, 400):
        with file_limit(limit):
            done = hub("-f", "sizes", "s.bed")
        assert done.status == 1 and done.err.count("\n") == 1 and "File too large" in done.err
        assert not (tmp_path / "hub").exists()


def test_names_of_tracks():
    name = TrackNames()
    given = ["a", "A", "1", "é", "a.b c", "a-b-c", "bertsnr_sites", ""]
    assert [name(text) for text in given] == ["a", "A_2", "t_1", "t_", "a_b_c", "a_b_c_2", "bertsnr_sites_2", "t__2"]


def test_sites_without_names_are_named_after_the_file(tmp_path):
    (tmp_path / "peaks.bed").write_text("chr1\t1\t9\nchr1\t20\t29\t.\n")
    (track,) = pack_sites(SiteFile(str(tmp_path / "peaks.bed"), "peaks", {"chr1": 99}), str(tmp_path), TrackNames())
    assert (track.factor, track.sites, track.low_p) == ("peaks", 2, None)
    assert [record[3:6] for record in records(tmp_path / f"{track.name}.bb")] == [("peaks", "0", "+")] * 2


def test_another_programs_bigbed(tmp_path):
    path = str(tmp_path / "other.bb")
    pybigtools.open(path, "w").write({"chr1": 99}, [("chr1", 1, 9, "X\t7\t-"), ("chr1", 3, 9, "Y\t8\t.")])
    tracks = pack_sites(SiteFile(path, "other", None), str(tmp_path), TrackNames())
    assert [(track.factor, track.sites) for track in tracks] == [("X", 1), ("Y", 1)]
    assert records(tmp_path / "other_X.bb") == [("chr1", 1, 9, "X", "7", "-", "1", "9", "220,50,32", "X")]


def test_torch_is_not_imported():
    code = "import sys, bertsnr_tools.cli.hub, bertsnr_tools.hub.build; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
