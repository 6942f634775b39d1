"""Peak files as people have them: the regions of `predict -b --summit`."""

import gzip
import random
import time

import pytest

from bertsnr_tools.errors import DataError, UsageError
from bertsnr_tools.io.fasta import Genome
from bertsnr_tools.predict.chunks import ScanInput, summit_regions
from conftest import DATA

NARROW = "chr1\t1000\t1400\tp\t500\t.\t9.1\t5\t3\t{}\n"
NO_SUMMIT = "r.bed: 1 of 1 peaks have no summit (column 10 of narrowPeak); their midpoints are used"


@pytest.fixture
def reference(genome, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return Genome(str(genome))


def regions_of(reference, content, reach=100, name="r.bed"):
    data = content if isinstance(content, bytes) else content.encode()
    with open(name, "wb") as stream:
        stream.write(gzip.compress(data) if name.endswith(".gz") else data)
    return [region[:3] for region in summit_regions(reference, name, reach)]


@pytest.mark.parametrize(
    ("line", "summit", "has_summit"),
    [
        (NARROW.format(50), 1050, True),
        (NARROW.format(0), 1000, True),
        (NARROW.format(399), 1399, True),
        (NARROW.format(400), 1399, True),  # as in files of ENCODE
        (NARROW.format(-1), 1200, False),
        (NARROW.format(50).replace("\t", " "), 1050, True),
        (NARROW.format(50).replace("\n", "\r\n"), 1050, True),
        ("chr1\t1000\t1400\n", 1200, False),  # BED3
        ("chr1\t1050\t1051\tp\t9\n", 1050, False),  # summits.bed of MACS
        ("chr1\t1000\t1010\tp\t9\t-\n", 1005, False),  # 10 bp
        ("chr2\t0\t25000\n", 12_500, False),
        ("chr1\t1000\t1400\tp\t9\t.\t9.1\t5\t3\n", 1200, False),  # broadPeak
        # gappedPeak and BED12 have blocks in column 10
        ("chr1\t1000\t1400\tp\t9\t.\t1010\t1300\t0\t2\t10,20\t0,380\t9.1\t5\t3\n", 1200, False),
        ("chr1\t1000\t1400\tp\t9\t.\t1010\t1300\t0\t2\t10,20\t0,380\n", 1200, False),
    ],
)
def test_summits_and_midpoints(reference, caplog, line, summit, has_summit):
    caplog.set_level("INFO")
    assert [end for _, _, end in regions_of(reference, line, 0)] == [summit + 1]
    assert [start for _, start, _ in regions_of(reference, line, 100)] == [summit - 100]
    assert caplog.messages == ([] if has_summit else [NO_SUMMIT] * 2)


def test_regions_end_where_the_chromosome_ends(reference):
    content = "chr1\t0\t10\nchr3\t14900\t15000\nchr3\t0\t15000\n"
    assert regions_of(reference, content, 100) == [("chr1", 0, 106), ("chr3", 14_850, 15_000), ("chr3", 7400, 7601)]
    assert regions_of(reference, content, 10**9) == [("chr1", 0, 40_000), *[("chr3", 0, 15_000)] * 2]


@pytest.mark.parametrize("name", ["r.bed", "r.bed.gz"])
def test_order_and_copies_are_kept(reference, caplog, name):
    caplog.set_level("INFO")
    content = "track name=x\n" + NARROW.format(50) + "chr3\t100\t300\n# note\n" + NARROW.format(50) + NARROW.format(-1)
    expected = [("chr1", 950, 1151), ("chr3", 100, 301), ("chr1", 950, 1151), ("chr1", 1100, 1301)]
    assert regions_of(reference, content.replace("\n", "\r\n"), name=name) == expected
    assert caplog.messages == [NO_SUMMIT.replace("r.bed: 1 of 1", f"{name}: 2 of 4")]


XLS = "chr\tstart\tend\tlength\tabs_summit\tpileup\t-log10(pvalue)\tfold_enrichment\t-log10(qvalue)\tname\n"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (NARROW.format(401), ":1: column 10 is '401'; expected the offset of the summit in a peak of 400 bp, or -1"),
        (NARROW.format(-2), ":1: column 10 is '-2'; expected"),
        (NARROW.format("x"), ":1: column 10 is 'x'; expected"),
        (NARROW.format("1_0"), ":1: column 10 is '1_0'; expected"),
        (NARROW.format(1).replace("1400", "40001"), r":1: end 40001 is past the end of chr1 \(40000 bp\)"),
        (NARROW.format(1).replace("chr", ""), r":1: no sequence named '1' in the genome \(it contains chr1\)"),
        (
            f"# called by MACS\n\n{XLS}chr1\t1001\t1400\t400\t1051\t9\t5\t4\t3\tp\n",
            r":3: is a table of MACS \(.xls\), ",
        ),
        ("chr1\t1001\t1400\t400\t1051\t9.5\t5\t4\t3\tp\n", ":1: strand is '9.5'"),
        ("", "r.bed: contains no intervals"),
    ],
)
def test_files_that_are_refused(reference, content, problem):
    with pytest.raises(DataError, match=problem):
        regions_of(reference, content)


def test_column_ten_is_read_only_with_summit(reference):
    regions_of(reference, NARROW.format(5))
    assert ScanInput(reference, bed="r.bed", summit=10).bases == 21
    with open("r.bed", "w") as stream:
        stream.write(NARROW.format("x"))
    assert ScanInput(reference, bed="r.bed").regions[0][1:3] == (1000, 1400)
    with pytest.raises(UsageError, match="--summit requires peaks; add -b BED"):
        ScanInput(reference, regions=["chr1"], summit=10)


def test_many_peaks(reference):
    rng = random.Random(1)
    lines = [NARROW.format(rng.randrange(400)) for _ in range(200_000)]
    start = time.process_time()
    assert len(regions_of(reference, "".join(lines))) == 200_000
    assert time.process_time() - start < 10


def test_predict_summit_and_best(run, genome, tmp_path):
    rng = random.Random(2)
    peaks = []
    for number in rng.sample(range(12), 12):  # the regions around the summits do not overlap
        start, size = 2400 * number, rng.choice([10, 200, 9000])
        peaks.append((start, start + size, rng.randrange(min(size, 2000))))
    narrow = "".join(f"chr1\t{a}\t{b}\tp\t0\t.\t1\t1\t1\t{at}\n" for a, b, at in peaks)
    (tmp_path / "p.narrowPeak.gz").write_bytes(gzip.compress(narrow.replace("\n", "\r\n").encode()))
    scanned = "".join(f"chr1\t{max(0, a + at - 150)}\t{a + at + 151}\n" for a, b, at in peaks)
    (tmp_path / "p.bed").write_text(scanned)
    scan = ("predict", "-m", "CTCF", "-t", "0.05", "-f", genome)
    by_summit = run(*scan, "-b", tmp_path / "p.narrowPeak.gz", "--summit", 150)
    assert by_summit.status == 0 and by_summit == run(*scan, "-b", tmp_path / "p.bed") and by_summit.out
    best = run(*scan, "-b", tmp_path / "p.narrowPeak.gz", "--summit", 150, "--best")
    lines = by_summit.out.splitlines()
    assert 0 < len(best.out.splitlines()) <= 12 and set(best.out.splitlines()) <= set(lines)
    empty = 12 - best.out.count("\n")
    assert best.err == (
        f"bertsnr-predict: {empty} of 12 regions have no called site; a looser threshold (-t) calls more\n"
        if empty
        else ""
    )
    outcome = run(*scan, "-b", "-", "--summit", 150, stdin=b"chr1\t1000\t1200\n")
    assert "standard input: 1 of 1 peaks have no summit" in outcome.err
    outcome = run("predict", "-m", "CTCF", "--summit", 150, DATA / "region.fa")
    assert outcome.status == 2 and "--summit requires peaks; add -b BED" in outcome.err


@pytest.mark.parametrize("threshold", ["p=1e-3", "0.5"])
def test_sites_of_a_pwm_do_not_depend_on_the_regions(run_here, tmp_path, threshold):
    """Peaks of 10 bp to 50 kb have the sites of the whole chromosome whose middle they contain, each once."""
    rng = random.Random(3)
    bases = rng.choices("ACGT", k=120_000)
    for start in range(500, 119_000, 797):  # matches in a row: sites of up to 250 bp
        row = "TGACGTCA" * rng.choice([1, 3, 31])
        bases[start : start + len(row)] = row
    (tmp_path / "g.fa").write_text(f">chr1\n{''.join(bases)}\n")
    (tmp_path / "m.jaspar").write_text(
        ">M\nA [1 1 9 0 0 0 1 9]\nC [0 0 0 9 1 1 9 0]\nG [1 9 0 1 9 0 0 0]\nT [9 0 1 0 0 9 0 1]\n"
    )
    peaks = [(rng.randrange(60_000), size) for size in (10, 10, 50_000) for _ in range(3)]
    peaks += [(start + 120, 10) for start in range(500, 119_000, 797)]  # within the longest sites
    (tmp_path / "p.bed").write_text("".join(f"chr1\t{start}\t{start + size}\n" for start, size in peaks))
    scan = ("predict", "-q", "-m", "m.jaspar", "-t", threshold, "-f", "g.fa")
    every = [line.split("\t") for line in run_here(*scan).out.splitlines()]
    middles = [(int(start) + int(end)) // 2 for _, start, end, *_ in every]
    inside = [any(start <= middle < start + size for start, size in peaks) for middle in middles]
    expected = [site for site, chosen in zip(every, inside) if chosen]
    found = [line.split("\t") for line in run_here(*scan, "-b", "p.bed").out.splitlines()]
    assert max(int(end) - int(start) for _, start, end, *_ in expected) > 245 and len(expected) > 100
    assert sorted(found, key=every.index) == expected
