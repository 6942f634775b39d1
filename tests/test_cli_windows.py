import gzip
import re

import pytest

from conftest import DATA


def test_golden(run, genome, expected):
    outcome = run("windows", "-f", genome, DATA / "sites.bed")
    assert outcome.status == 0
    expected("windows.fa", outcome.out)
    expected("windows.log", outcome.err.replace(str(DATA), "test_data"))


def test_pipes_files_and_gzip(run, genome, tmp_path):
    reference = run("windows", "-q", "-f", genome, DATA / "sites.bed")
    assert reference.out.count(">") > 300
    text = (DATA / "sites.bed").read_bytes()
    assert run("windows", "-q", "-f", genome, stdin=text).out == reference.out
    assert run("windows", "-q", "-f", genome, "-", stdin=gzip.compress(text)).out == reference.out
    run("windows", "-q", "-f", genome, "-o", tmp_path / "w.fa.gz", DATA / "sites.bed")
    assert gzip.open(tmp_path / "w.fa.gz").read().decode() == reference.out
    assert reference.err == ""


def test_skipped_sites_are_counted_and_strict_fails(run, genome, tmp_path):
    bed = tmp_path / "s.bed"
    bed.write_text("chr1\t1000\t1019\nchr1\t1000\t1200\nchr1\t39990\t40010\nchrUn\t1\t20\nchr1\t20100\t20119\n")
    outcome = run("windows", "-f", genome, bed)
    assert outcome.status == 0 and outcome.out.count(">") == 1
    assert outcome.err == (
        "bertsnr-windows: 4 of 5 sites skipped: 1 longer than the window, 1 on a sequence that is not in the genome, "
        "1 past the end of its sequence, 1 with too many N around (see --max-n)\n"
        f'bertsnr-windows: {bed}: 5 sites have no strand (column 6) and are read as "+"\n'
    )
    short = tmp_path / "short.fa"
    short.write_text(">s\n" + "ACGT" * 20 + "\n")
    outcome = run("windows", "-f", short, "-", stdin=b"s\t10\t30\tx\t0\t+\n")
    assert "1 of 1 sites skipped: 1 on a sequence shorter than the window" in outcome.err
    out = tmp_path / "out.fa"
    outcome = run("windows", "--strict", "-f", genome, "-o", out, bed)
    assert outcome.status == 1 and "4 of 5 sites skipped" in outcome.err and not out.exists()


def test_background_windows_touch_neither_sites_nor_peaks(run, genome, tmp_path):
    (tmp_path / "peaks.bed").write_text("chr1\t0\t30000\nelsewhere\t0\t5\n")
    options = ("--background", "-c", 10, "--exclude", tmp_path / "peaks.bed", "-f", genome)
    arguments = ("windows", *options, DATA / "sites.bed")
    outcome = run(*arguments)
    assert outcome.status == 0 and "background windows; reduce -c" in outcome.err
    records = outcome.out.splitlines()
    avoid = [
        line.split("\t")[:3]
        for path in (DATA / "sites.bed", tmp_path / "peaks.bed")
        for line in path.read_text().splitlines()
    ]
    for name, sequence in zip(records[::2], records[1::2]):
        chrom, start, end = re.fullmatch(r">natural::(\w+):(\d+)-(\d+)\([+-]\)", name).groups()
        assert not any(chrom == a and int(start) < int(c) and int(end) > int(b) for a, b, c in avoid)
        assert len(sequence) == 100 == int(end) - int(start) and set(sequence) <= set("ACGT")
    assert run(*arguments).out == outcome.out != run(*arguments, "--seed", 2).out
    strict = run(*arguments, "--strict", "-o", tmp_path / "b.fa")
    assert strict.status == 1 and "could not draw" in strict.err and not (tmp_path / "b.fa").exists()


def test_background_from_regions_with_the_gc_content_of_the_sites(run, genome, tmp_path):
    (tmp_path / "s.bed").write_text("chr1\t1000\t1019\nchr1\t3000\t3019\n")
    (tmp_path / "r.bed").write_text("chr1\t5000\t9000\n")
    outcome = run("windows", "--background", "--gc", "-b", tmp_path / "r.bed", "-f", genome, tmp_path / "s.bed")
    starts = [int(re.search(r":(\d+)-", line)[1]) for line in outcome.out.splitlines()[::2]]
    assert len(starts) == 2 and all(5000 <= start <= 8900 for start in starts)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("-c", 2), "-c, -b, --exclude and --gc require --background"),
        (("--gc",), "-c, -b, --exclude and --gc require --background"),
        (("--background", "-b", "-"), "standard input (-) is given twice, but can be read only once"),
    ],
)
def test_options_of_background_windows(run, genome, arguments, message):
    outcome = run("windows", "-f", genome, *arguments, stdin=b"chr1\t10\t20\n")
    assert outcome.status == 2 and message in outcome.err and outcome.out == ""


def test_regions_that_the_genome_lacks_are_named(run, genome, tmp_path):
    (tmp_path / "r.bed").write_text("chrZ\t5\t9\n")
    outcome = run("windows", "--background", "-b", tmp_path / "r.bed", "-f", genome, DATA / "sites.bed")
    assert outcome.status == 1 and "r.bed:1: no sequence named 'chrZ'" in outcome.err


def test_exclusions_behind_a_byte_order_mark_or_on_unknown_chromosomes(run, genome, tmp_path):
    (tmp_path / "sites.bed").write_text("chr3\t1000\t1019\n")
    (tmp_path / "exclude.bed").write_bytes(b"\xef\xbb\xbfchr1\t0\t40000\nchr2\t0\t25000\nchrZ\t1\t5\n")
    options = ("--background", "-c", 20, "--exclude", tmp_path / "exclude.bed", "-f", genome)
    outcome = run("windows", *options, tmp_path / "sites.bed")
    assert outcome.out.count(">") == outcome.out.count("::chr3:") == 20
    assert "exclude.bed: 1 of 3 intervals are on sequences that are not in the genome, such as chrZ\n" in outcome.err


def lines(count, width, columns=""):
    return "".join(f"chr1\t{start}\t{start + width}{columns}\n" for start in range(1000, 1000 + 300 * count, 300))


def test_peaks_are_not_taken_for_sites(run, genome, tmp_path):
    """The width decides, not the format: 50 bp are sites, one more are peaks."""
    bed, out = tmp_path / "peaks.bed", tmp_path / "out.fa"
    bed.write_text(lines(3, 51) + lines(2, 19))
    outcome = run("windows", "-f", genome, "-o", out, bed)
    pipeline = f"bertsnr predict -m MATRIX -f {genome} -b {bed} --summit 100 --best | bertsnr windows -f {genome} -"
    found = f"{bed}: 3 of 5 intervals are longer than 50 bp: peaks, not sites"
    assert outcome.status == 2 and outcome.err.endswith(
        f"{found}; call their sites with `{pipeline}`, or add --sites\n"
    )
    assert not out.exists() and outcome.out == ""
    piped = run("windows", "-f", genome, "-", stdin=bed.read_bytes())
    assert piped.status == 2 and "standard input: 3 of 5" in piped.err and "-b PEAKS --summit" in piped.err
    insisted = run("windows", "--sites", "-f", genome, bed)
    assert (insisted.status, insisted.out.count(">")) == (0, 5) and "5 sites have no strand" in insisted.err
    background = run("windows", "--background", "-f", genome, bed)
    assert (background.status, background.err, background.out.count(">")) == (0, "", 5)
    bed.write_text(lines(3, 51) + lines(3, 50))
    assert run("windows", "-f", genome, bed).out.count(">") == 6


def test_a_narrow_peak_file_is_judged_by_its_widths(run, genome, tmp_path):
    peaks = tmp_path / "x.narrowPeak"
    peaks.write_text(lines(3, 200, "\t.\t0\t.\t5.1\t-1\t-1\t90"))
    assert run("windows", "-f", genome, peaks).status == 2
    calls = run("predict", "-m", "CTCF", "-f", genome, "-r", "chr1", "--format", "narrowpeak").out
    assert calls and all(len(line.split("\t")) == 10 for line in calls.splitlines())
    outcome = run("windows", "-f", genome, "-", stdin=calls.encode())
    assert outcome.status == 0 and outcome.out.count(">") > 0.9 * len(calls.splitlines())
