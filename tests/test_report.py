"""What a report shows, against brute force and data with a known answer."""

import base64
import gzip
import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bertsnr_tools as bt
from bertsnr_tools.errors import DataError, UsageError
from bertsnr_tools.io.fasta import Genome
from bertsnr_tools.io.intervals import Interval
from bertsnr_tools.io.motif_files import Motif
from bertsnr_tools.motifs.comparison import Match
from bertsnr_tools.plots.pages import write_page
from bertsnr_tools.reporting import content, positions
from bertsnr_tools.reporting.positions import Regions, position_table, sites_in_regions
from bertsnr_tools.reporting.sites import chrom_key, groups, read_sites

NARROWPEAK = "chr2\t10\t20\tCTCF\t900\t+\t5.1\t3.5\t1.25\t4\nchr10\t5\t25\tYY1\t400\t-\t2.0\t-1\t-1\t4\n"


def write(path, text):
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return str(path)


def sites_of(rows, tmp_path, name="s.bed"):
    """Sites from (chrom, start, end, factor)."""
    return read_sites([write(tmp_path / name, "".join("\t".join(map(str, row)) + "\n" for row in rows))])


def regions_of(intervals):
    centers = np.array([(r.start + r.end) / 2 if r.summit is None else r.summit + 0.5 for r in intervals])
    return Regions("regions.bed", intervals, centers, False)


def data_of(page):
    return json.loads(re.search(r'id="data">(.*?)</script>', page.read_text())[1])


def unpack(packed):
    kinds = {"Uint8Array": "<u1", "Uint16Array": "<u2", "Uint32Array": "<u4", "Float32Array": "<f4"}
    return np.frombuffer(base64.b64decode(packed["data"]), dtype=kinds.get(packed["type"], "<f8"))


def test_columns_of_narrowpeak_and_bed(tmp_path):
    paths = [write(tmp_path / "a.narrowPeak.gz", NARROWPEAK), write(tmp_path / "b.bed", "chr1\t3\t9\n")]
    sites = read_sites(paths)
    assert sites.factors == ["CTCF", "YY1", "b"] and sites.chroms == ["chr1", "chr2", "chr10"]
    assert [file.label for file in sites.files] == ["a", "b"] and [file.columns for file in sites.files] == [10, 3]
    expected = {"sample": [0, 0, 1], "chrom": [1, 2, 0], "start": [10, 5, 3], "end": [20, 25, 9], "reverse": [0, 1, 0]}
    for name, values in expected.items():
        assert sites[name].tolist() == values, name
    nan = float("nan")
    for name, values in {
        "score": [900, 400, nan],
        "neg_log10_p": [3.5, nan, nan],
        "neg_log10_q": [1.25, nan, nan],
    }.items():
        assert np.array_equal(sites[name], values, equal_nan=True), name
    assert sites.intervals(0)[1] == Interval("chr10", 5, 25, "YY1", "-", 2)


def test_a_header_line_names_the_columns(tmp_path):
    head = "#chrom\tstart\tend\tname\tscore\tstrand\tneg_log10_q\tneg_log10_p\n"
    sites = read_sites([write(tmp_path / "a.bed", f"{head}chr1\t1\t5\tX\t.\t+\t1.5\t2.5\n")])
    assert (sites["neg_log10_p"].tolist(), sites["neg_log10_q"].tolist()) == ([2.5], [1.5])
    assert np.isnan(sites["score"]).all() and sites.files[0].notes == [head.rstrip()]
    # the header is of one file only
    both = read_sites([write(tmp_path / "a.bed", head), write(tmp_path / "b.bed", "chr1\t1\t5\tX\t0\t+\t1.5\t2.5\n")])
    assert np.isnan(both["neg_log10_p"]).all()


def test_columns_of_bigbed_as_text_and_of_bed12(tmp_path):
    line = "chr1\t1\t9\tX\t5\t+\t1\t9\t0,0,0\t2.5\t3.25\t1.5\tX\n"
    sites = read_sites([write(tmp_path / "a.bed", line)])
    assert (sites["neg_log10_p"].tolist(), sites["neg_log10_q"].tolist()) == ([3.25], [1.5])
    blocks = line.replace("2.5\t3.25\t1.5\tX", "2\t3,4,\t0,5,\tgene")
    assert np.isnan(read_sites([write(tmp_path / "b.bed", blocks)])["neg_log10_p"]).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chr1\t1\t5\tX\thigh\t+\n", ":1: column 5 is 'high'; expected a number"),
        (NARROWPEAK.replace("-1\t-1", "nan\t-1"), ":2: column 8 is 'nan'; expected a number"),
        ("chr1\t9\t5\n", ":1: start 9 is not less than end 5"),
        ("# nothing\n", ": contains no sites"),
        ("".join(f"chr1\t1\t5\tpeak{i}\n" for i in range(2001)), ":2001: column 4 contains more than 2,000 names"),
    ],
)
def test_errors_name_file_and_line(tmp_path, text, message):
    path = write(tmp_path / "x.bed", text)
    with pytest.raises(DataError, match=re.escape(path + message)):
        read_sites([path])


def test_labels_are_distinct_and_a_file_is_given_once(tmp_path):
    (tmp_path / "d").mkdir()
    paths = [write(tmp_path / "a.bed", NARROWPEAK), write(tmp_path / "d" / "a.bed", NARROWPEAK)]
    sites = read_sites(paths)
    assert [file.label for file in sites.files] == paths
    series = content.Series.of(sites)
    assert series.labels[0] == f"CTCF · {paths[0]}" and len(series) == 4
    with pytest.raises(UsageError, match="is given twice"):
        read_sites([paths[0], paths[0]])


def test_the_best_sites_in_their_order(tmp_path):
    lines = [f"chr1\t{i}\t{i + 5}\tX\t{i}\t+\t0\t{p}\t0\t0\n" for i, p in enumerate([1, 5, -1, 4, 5, 0])]
    sites = read_sites([write(tmp_path / "a.narrowPeak", "".join(lines))])
    assert sites.best(3).tolist() == [1, 3, 4] and sites.best(6).tolist() == list(range(6))
    scored = sites_of([("chr1", i, i + 5, "X", score) for i, score in enumerate([3, 9, 1, 9])], tmp_path)
    assert scored.best(2).tolist() == [1, 3]


def test_chromosomes_are_sorted_by_number():
    names = ["chrUn_1", "chrX", "chr10", "2", "chr2", "chrM"]
    assert sorted(names, key=chrom_key) == ["2", "chr2", "chr10", "chrM", "chrX", "chrUn_1"]
    assert [part.tolist() for part in groups(np.array([2, 0, 2, 0]), 4)] == [[1, 3], [], [0, 2], []]


spans = st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(0, 40), st.integers(1, 15))


@settings(deadline=None, max_examples=60)
@given(st.lists(spans, min_size=1, max_size=20), st.lists(spans, min_size=1, max_size=8), st.booleans())
def test_pairs_equal_those_of_a_double_loop(tmp_path_factory, called, scanned, whole):
    sites = sites_of([(c, s, s + n, "X") for c, s, n in called], tmp_path_factory.mktemp("pairs"))
    regions = [Interval(c, s, s + 3 * n) for c, s, n in scanned]
    pairs = sites_in_regions(sites, regions, whole=whole)
    expected = [
        (i, j)
        for j, r in enumerate(regions)
        for i, (c, s, n) in enumerate(called)
        if c == r.chrom and (r.start <= s and s + n <= r.end if whole else s < r.end and s + n > r.start)
    ]
    assert sorted(zip(pairs.site.tolist(), pairs.region.tolist())) == sorted(expected)
    assert (np.diff(pairs.region) >= 0).all()


@pytest.mark.parametrize(("slots", "middle"), [(1, 0.0), (7, -3.0), (8, -3.5), (8, -2.0), (9, 1.5), (9, -12.5)])
def test_centrality_is_the_fraction_of_offsets_at_least_as_close(slots, middle):
    offsets = np.arange(slots)
    placed = positions._Placed(offsets, np.full(slots, slots), np.full(slots, middle))
    distance = np.abs(offsets + middle)
    assert np.allclose(placed.centrality(offsets), [(distance <= d).mean() for d in distance])


def drawn_series(random, count, per_region, spread=None):
    """Sites of many series in 300 regions, at random or, with a spread, around the middle."""
    regions = [Interval("chr1", 1000 * i, 1000 * i + int(random.integers(150, 400))) for i in range(300)]
    rows = []
    for number in range(count):
        for region in regions:
            length = region.end - region.start
            middle = length / 2 - 5 + random.normal(0, spread) if spread else random.integers(0, length - 9)
            start = region.start + int(np.clip(middle, 0, length - 10))
            rows += [("chr1", start, start + 10, f"F{number:03}")] * per_region
    return rows, regions


@pytest.mark.parametrize("per_region", [1, 4])
def test_p_values_of_random_positions_are_uniform(tmp_path, per_region):
    """Also for sites that lie together, as repeated ones do."""
    rows, regions = drawn_series(np.random.default_rng(3), 60, per_region)
    sites = sites_of(rows, tmp_path)
    table = position_table(sites, sites["factor"].astype(int), 60, regions_of(regions), 1)
    p = np.array([row["p"] for row in table["rows"][:-1]])
    assert 0.35 < p.mean() < 0.65 and (p < 0.1).mean() < 0.25 and p.min() > 1e-4
    assert all(row["regions"] == 300 and row["sites"] == 300 * per_region for row in table["rows"][:-1])
    assert 0.9 < np.mean([row["fold"] for row in table["rows"][:-1]]) < 1.1


def test_sites_at_the_middle_are_enriched_and_the_seed_decides(tmp_path):
    rows, regions = drawn_series(np.random.default_rng(3), 1, 1, spread=15)
    sites = sites_of(rows, tmp_path)
    tables = [position_table(sites, np.zeros(300, dtype=int), 1, regions_of(regions), seed) for seed in (1, 1, 2)]
    row = tables[0]["rows"][0]
    assert row["fold"] > 2.5 and row["p"] < 1e-50 and row["q"] == row["p"]
    middle = len(row["bins"]) // 2
    assert row["bins"][middle] > row["high"][middle] and row["bins"][middle // 2] < row["low"][middle // 2]
    assert tables[0] == tables[1] != tables[2]
    # moved to the left of the middle: not enriched, unless the summit is there
    moved = [("chr1", start - 40, end - 40, name) for (_, start, end, name) in rows]
    inside = [r for r in moved if any(i.start <= r[1] and r[2] <= i.end for i in regions)]
    sites = sites_of(inside, tmp_path, "moved.bed")
    summits = [i._replace(summit=(i.start + i.end) // 2 - 40) for i in regions]
    series = np.zeros(len(sites), dtype=int)
    without, at_summit = (
        position_table(sites, series, 1, regions_of(r), 1)["rows"][0]["z"] for r in (regions, summits)
    )
    assert at_summit > without + 5


def test_regions_read_summits_or_middles(tmp_path, genome, monkeypatch):
    regions = Regions.read(write(tmp_path / "r.narrowPeak", NARROWPEAK))
    assert regions.centers.tolist() == [14.5, 9.5] and regions.summits
    both = Regions.read(
        write(
            tmp_path / "two.narrowPeak",
            "chr1\t0\t90\ta\t0\t.\t1\t-1\t-1\t20\n" * 2 + "chr1\t0\t90\tb\t0\t.\t1\t-1\t-1\t70\n",
        )
    )
    assert both.centers.tolist() == [20.5, 70.5]
    plain = Regions.read(write(tmp_path / "r.bed", "chr1\t0\t9\n"))
    assert plain.centers.tolist() == [4.5] and not plain.summits
    records = Regions.of_genome(Genome(genome)).intervals
    assert records and {r.chrom: (r.start, r.end) for r in records} == {
        name: (0, length) for name, length in Genome(genome).lengths.items()
    }
    monkeypatch.setattr("bertsnr_tools.reporting.positions.MAX_RECORD", 5)
    assert Regions.of_genome(Genome(genome)) is None
    with pytest.raises(DataError, match="contains no regions"):
        Regions.read(write(tmp_path / "empty.bed", ""))


@pytest.mark.parametrize("values", [[0, 255], [0, 256], [70000, 1], [2**33, 0], [0.5, 1], [float("nan"), 3], []])
def test_packed_numbers_are_read_back(values):
    packed = content.pack(np.array(values, dtype=float))
    assert np.array_equal(unpack(packed), values, equal_nan=True)


def test_a_match_of_positions_without_information_is_left_out():
    letter, flat = np.eye(4)[0] * 100, np.full(4, 25.0)
    gapped = Motif("gapped", np.array([letter] * 5 + [flat] * 8 + [letter] * 5))
    weak = Motif("weak", np.array([flat] * 7 + [letter * 0.3 + flat]))
    assert not content._is_aligned(Match(weak, gapped, 1e-9, 0, 0, 5, 8, "+"))
    assert content._is_aligned(Match(gapped, gapped, 1e-9, 0, 0, 0, 18, "+"))
    ends = Motif("ends", np.array([letter] * 5 + [flat] * 2))
    assert content._is_aligned(Match(ends, gapped, 1e-9, 0, 0, 0, 7, "+"))
    assert not content._is_aligned(Match(ends, ends, 1e-9, 0, 0, 5, 2, "-"))


def test_counts_use_all_sites_and_the_table_the_best(tmp_path, genome, no_jaspar, monkeypatch):
    monkeypatch.setattr(content, "MAX_TABLE", 2)
    monkeypatch.setattr(content, "MAX_DRAWN_SITES", 1)
    rows = [("chr1", 77 + 30 * i, 96 + 30 * i, "AB"[i % 2], 100 * i, "-+"[i % 2]) for i in range(5)]
    page, bed = tmp_path / "p.html", write(tmp_path / "s.bed", "".join("\t".join(map(str, r)) + "\n" for r in rows))
    regions = write(tmp_path / "r.bed", "chr1\t0\t120\nchr1\t100\t300\n")
    bt.report(page, [bed], genome, regions=regions, assembly="hg38")
    data = data_of(page)
    assert [(row["label"], row["sites"], row["score"], row["length"]) for row in data["series"]] == [
        ("A", 3, 200, 19),
        ("B", 2, 200, 19),
    ]
    assert data["table"]["total"] == 5
    assert unpack(data["table"]["columns"]["start"]).tolist() == [167, 197]
    assert [sum(row) for row in data["scores"]["rows"]] == [3, 2] and data["p"] is None
    assert data["chroms"] == {"names": ["chr1"], "rows": [[0, 3], [0, 2]]}
    # the second site overlaps the end of the first region: it is drawn, but not inside
    drawn = data["regions"]["drawn"]
    assert [region["total"] for region in drawn] == [2, 4] and [len(region["sites"]) for region in drawn] == [1, 1]
    assert drawn[0]["sites"] == [[107, 19, 1, 0, 100.0, None]]
    assert [row["sites"] for row in data["regions"]["rows"]] == [3, 2, 5] and data["regions"]["rows"][2]["regions"] == 2
    assert [motif["sites"] for motif in data["motifs"]] == [3, 2]


def test_logos_are_of_the_sites_on_their_strand(genome, no_jaspar, tmp_path):
    sequence = Genome(genome).fetch("chr1", 77, 96).decode()
    page = tmp_path / "p.html"
    bt.report(page, [write(tmp_path / "s.bed", "chr1\t77\t96\tX\t0\t-\n")], genome)
    bits = data_of(page)["motifs"][0]["bits"]
    complement = sequence[::-1].translate(str.maketrans("ACGT", "TGCA"))
    assert ["ACGT"[row.index(200)] for row in bits] == list(complement)


def test_without_jaspar_the_page_tells_how_to_get_it(genome, tmp_path, no_jaspar):
    bt.report(tmp_path / "p.html", [write(tmp_path / "s.bed", "chr1\t77\t96\tX\t0\t-\n")], genome)
    data = data_of(tmp_path / "p.html")
    assert data["jaspar"] == "comparing motifs requires memelite; pip install x" and "match" not in data["motifs"][0]


def test_no_name_ends_the_data_of_a_page(tmp_path):
    write_page(str(tmp_path / "p.html"), "report.html", {"name": "</script><!-- & @DATA@"})
    text = (tmp_path / "p.html").read_text()
    assert text.count("</script>") == 2 and data_of(tmp_path / "p.html") == {"name": "</script><!-- & @DATA@"}
    with pytest.raises(ValueError):
        write_page(str(tmp_path / "q.html"), "report.html", {"name": float("nan")})
    assert not (tmp_path / "q.html").exists()
