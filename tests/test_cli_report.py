import html
import json
import re
import shutil
import subprocess

import pytest

from bertsnr_tools import __version__
from conftest import DATA

SITE = "chr1\t77\t96\tCTCF\t955\t+\t3.0754\t3.8343\t3.1337\t5\n"
SHORT = "chr1\t360\t365\tCTCF\n"


def moved(by):
    return SITE.replace("77", f"{77 + by}").replace("96", f"{96 + by}")


@pytest.fixture
def inputs(tmp_path, genome):
    """A genome, 320 known sites with made-up scores and p-values as narrowPeak, and regions with a summit at a site."""
    lines = [line.split("\t") for line in (DATA / "sites.bed").read_text().splitlines()]
    calls, regions = [], []
    for i, (chrom, start, end, _, _, strand) in enumerate(lines):
        factor = ("CTCF", "YY1", "NOVEL")[i % 3]
        calls.append(f"{chrom}\t{start}\t{end}\t{factor}\t{i}\t{strand}\t1.5\t{i / 100:.2f}\t{i / 200:.3f}\t5\n")
        if i % 2 == 0:
            first = max(0, int(start) - 60)
            regions.append(f"{chrom}\t{first}\t{int(end) + 50}\tpeak{i}\t0\t.\t1\t-1\t-1\t{int(start) + 9 - first}\n")
    for name, text in {"calls": calls, "regions": regions}.items():
        (tmp_path / f"{name}.narrowPeak").write_text("".join(text))
    return tmp_path


def data_of(path):
    return json.loads(re.search(r'id="data">(.*?)</script>', path.read_text())[1])


def test_a_report_of_calls_in_regions(run, inputs):
    options = ["-f", "genome.fa", "-b", "regions.narrowPeak", "--assembly", "hg38"]
    outcome = run("report", *options, "-o", "r.html", "calls.narrowPeak", cwd=inputs)
    skipped = "sites that are not in the logos: 6 with letters other than ACGT"
    assert (outcome.status, outcome.out) == (0, "")
    slow = "bertsnr-report: comparing motifs: the first time takes up to two minutes\n"
    assert outcome.err in (f"bertsnr-report: {skipped}\n", f"bertsnr-report: {skipped}\n{slow}")
    data = data_of(inputs / "r.html")
    assert [row["label"] for row in data["series"]] == ["CTCF", "YY1", "NOVEL"]
    assert sum(row["sites"] for row in data["series"]) == data["table"]["total"] == 320
    # all sites are of CTCF, whose motif JASPAR has
    assert {motif["match"]["name"] for motif in data["motifs"]} == {"CTCF"} and data["jaspar"] == ""
    assert [row["models"][0][0] if row["models"] else None for row in data["series"]] == ["CTCF", "YY1", None]
    assert data["regions"]["count"] == 160 and data["regions"]["summits"] and data["regions"]["rows"][3]["p"] < 1e-9
    assert data["version"] == __version__ and data["assembly"] == "hg38"
    # again, to standard output, from a pipe: only the name of the file differs
    piped = run("report", *options, "-", stdin=(inputs / "calls.narrowPeak").read_bytes(), cwd=inputs)
    assert piped.status == 0 and piped.out.startswith("<!DOCTYPE html>")
    (inputs / "p.html").write_text(piped.out)
    assert data_of(inputs / "p.html")["table"] == data["table"]
    run("report", *options, "-o", "again.html", "calls.narrowPeak", cwd=inputs)
    assert (inputs / "again.html").read_bytes() == (inputs / "r.html").read_bytes()
    assert not re.search(r"(src|href)\s*=\s*[\"'](?!#)|url\(|import\s", (inputs / "r.html").read_text())


def test_parts_of_chromosomes_are_the_regions(run_here, no_jaspar, tmp_path):
    (tmp_path / "r.fa").write_text((DATA / "region.fa").read_text())
    (tmp_path / "s.bed").write_text("chr20\t1001810\t1001829\tCTCF\t539\t-\n")
    assert run_here("report", "-f", "r.fa", "-o", "r.html", "s.bed").status == 0
    regions = data_of(tmp_path / "r.html")["regions"]
    assert (regions["source"], regions["count"], regions["rows"][0]["sites"]) == ("r.fa", 1, 1)
    assert regions["drawn"][0]["start"] == 1000000 and regions["drawn"][0]["sites"][0][:2] == [1810, 19]


@pytest.mark.parametrize(
    ("files", "options", "status", "message"),
    [
        ({"s.bed": "chr9\t1\t20\tX\n"}, [], 1, "s.bed:1: no sequence named 'chr9' in the genome"),
        ({"s.bed": "chr1\t1\t20\tX\nchr1\t1\n"}, [], 1, "s.bed:2: has 2 column(s); expected at least 3"),
        ({"s.bed": ""}, [], 1, "s.bed: contains no sites"),
        ({"s.bed": SITE, "r.bed": ""}, ["-b", "r.bed"], 1, "r.bed: contains no regions"),
        ({"s.bed": SITE}, ["-b", "-", "-"], 2, "standard input (-) is given twice"),
        ({"s.bed": SITE}, ["s.bed"], 2, "s.bed is given twice"),
        ({"s.bed": SITE}, ["--assembly", "hg 38"], 2, "--assembly 'hg 38': expected a name of the UCSC browser"),
        ({"s.bed": SITE}, ["-o", "s.bed"], 2, "s.bed: is also an input"),
        ({"s.bed": SITE + SHORT + moved(1) + moved(2)}, ["--strict"], 1, "s.bed: sites skipped: 1 shorter"),
        (
            {"s.bed": SITE, "r.bed": "1\t1\t100\n"},
            ["-b", "r.bed"],
            1,
            "r.bed:1: no sequence named '1' in the genome (it",
        ),
    ],
)
def test_errors(run_here, no_jaspar, genome, tmp_path, files, options, status, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    outcome = run_here(
        "report", "-f", genome.name, *(options if "-o" in options else ["-o", "r.html", *options]), "s.bed"
    )
    assert outcome.status == status and message in outcome.err and outcome.err.count("\n") == 1
    assert not (tmp_path / "r.html").exists()


def test_skipped_sites_and_empty_regions_are_warnings(run_here, no_jaspar, genome, tmp_path):
    (tmp_path / "s.bed").write_text(SITE + moved(1) + SITE + SHORT)
    (tmp_path / "r.bed").write_text("chr1\t5000\t5100\nchr1\t5000\t5100\tagain\n")
    outcome = run_here("report", "-f", genome.name, "-b", "r.bed", "-o", "r.html", "s.bed")
    assert outcome.status == 0 and outcome.err.splitlines() == [
        "bertsnr-report: r.bed: 1 duplicate regions count once",
        "bertsnr-report: s.bed: 1 duplicate sites count once",
        "bertsnr-report: sites that are not in the logos: 1 shorter than 80 % of the median site",
        'bertsnr-report: s.bed: 1 sites have no strand (column 6) and are read as "+"',
        "bertsnr-report: r.bed: no site lies inside a region",
    ]


PROBE = """
<script>
const seen = {};
const text = selector => [...document.querySelectorAll(selector)].map(element => element.textContent);
const click = selector => document.querySelector(selector).click();
const type = (id, value) => { byId(id).value = value; byId(id).dispatchEvent(new Event("input")); };
const key = (element, name) => element.dispatchEvent(new KeyboardEvent("keydown", {key: name, bubbles: true}));
const scores = () => text("#site-table tbody td:nth-child(5)").slice(0, 3);
seen.title = [document.title, document.querySelectorAll("h1 *").length, text("#tiles b")[0]];
seen.pages = [byId("page").textContent, document.querySelectorAll("#site-table tbody tr").length];
click("#next"); seen.next = byId("page").textContent;
click("#last"); seen.last = [byId("page").textContent, byId("next").disabled];
click("#site-table th:nth-child(5) button"); seen.down = scores();
click("#site-table th:nth-child(5) button"); seen.up = scores();
seen.sorted = document.querySelector("#site-table th:nth-child(5)").getAttribute("aria-sort");
type("search", "yy1");
seen.factor = [byId("found").textContent, [...new Set(text("#site-table tbody td:nth-child(2)"))].join()];
type("search", "chr1:78-96"); seen.range = text("#site-table tbody td:first-child");
type("search", "chr2 ctcf"); seen.both = byId("found").textContent;
type("search", "nothing"); seen.none = byId("page").textContent;
type("search", "");
seen.link = document.querySelector("#site-table a").getAttribute("href");
const box = document.querySelector("#view .site");
box.dispatchEvent(new PointerEvent("pointerenter")); seen.hover = byId("tip").textContent;
box.dispatchEvent(new PointerEvent("pointerleave")); seen.left = byId("tip").textContent;
const line = document.querySelectorAll("#view svg")[1];
key(line, "ArrowRight"); seen.keyboard = byId("tip").textContent;
const width = () => +document.querySelector("#view .site").getAttribute("width");
const wide = width(), range = byId("range").textContent;
click("#zoom-in"); seen.zoom = [width() / wide, range, byId("range").textContent];
click("#right"); seen.moved = byId("range").textContent;
key(byId("view"), "0"); seen.reset = byId("range").textContent === range;
key(byId("view"), "+"); seen.plus = byId("range").textContent === seen.zoom[2];
seen.logos = text("#logos .name").length;
type("factor-search", "nov"); seen.found = text("#factor-table tbody tr td:first-child");
click("#factor-table tbody button");
seen.chosen = ["figures-title", "found"].map(id => byId(id).textContent);
seen.picked = [text("#logos .name").length, byId("pick").value];
seen.faded = document.querySelectorAll("#view .faded").length > 0;
click("#every"); seen.every = [byId("found").textContent, document.querySelectorAll("#view .faded").length];
seen.wide = document.documentElement.scrollWidth <= innerWidth;
const named = element => element.textContent.trim() || element.getAttribute("aria-label")
  || element.getAttribute("aria-labelledby") || (element.labels && element.labels.length);
seen.unlabelled = [...document.querySelectorAll("button, input, select, svg[role=img], [role=region]")]
  .filter(element => !named(element)).length;
document.body.dataset.seen = JSON.stringify(seen);
</script>
"""


def browse(page, tmp_path, *options):
    """The document after the page and a probe have run, and what the probe saw."""
    probe = tmp_path / "probe.html"
    probe.write_text(page.read_text().replace("</body>", PROBE + "</body>"))
    line = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile", *options]
    done = subprocess.run([*line, "--dump-dom", f"file://{probe}"], capture_output=True, text=True, timeout=120)
    found = re.search(r'data-seen="([^"]*)"', done.stdout)
    assert found, done.stderr
    return json.loads(html.unescape(found[1]))


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium")
def test_page_in_a_browser(run_here, no_jaspar, inputs):
    """Sort, search, hover, zoom, choose a factor; whatever the names are."""
    calls = (inputs / "calls.narrowPeak").read_text()
    name = "NOVEL</script><b>x</b>&amp;"
    (inputs / "a&b.narrowPeak").write_text(calls.replace("NOVEL", name))
    options = ["-f", "genome.fa", "-b", "regions.narrowPeak", "--assembly", "hg38", "-o", "r.html"]
    assert run_here("report", *options, "a&b.narrowPeak").status == 0
    for size in ("1400,900", "500,900"):
        check_page(browse(inputs / "r.html", inputs, f"--window-size={size}"), calls, name)


def check_page(seen, calls, name):
    rows = [line.split("\t") for line in calls.splitlines()]
    counts = {factor: sum(row[3] == factor for row in rows) for factor in ("CTCF", "YY1", "NOVEL")}
    assert seen["title"] == ["Binding sites: a&b", 0, "320"]
    assert seen["pages"] == ["1–25 of 320", 25] and seen["next"] == "26–50 of 320"
    assert seen["last"] == ["301–320 of 320", True]
    assert seen["down"] == ["319", "318", "317"] and seen["up"] == ["0", "1", "2"] and seen["sorted"] == "ascending"
    assert seen["factor"] == [f"{counts['YY1']} of 320 sites", "YY1"]
    assert seen["range"] == ["chr1:78-96"] and seen["none"] == "no site found"
    both = sum(row[0] == "chr2" and row[3] == "CTCF" for row in rows)
    assert seen["both"] == f"{both} of 320 sites"
    assert seen["link"] == "https://genome.ucsc.edu/cgi-bin/hgTracks?db=hg38&position=chr1%3A28-146"
    assert seen["hover"] == seen["keyboard"] == "CTCF (+)\nchr1:78-96\nscore 0\n−log10 p 0.00" and seen["left"] == ""
    factor, before, after = seen["zoom"]
    assert factor == pytest.approx(2) and int(after.split()[0]) == pytest.approx(int(before.split()[0]) / 2, abs=1)
    low, high = (int(seen["moved"].split()[i]) for i in (0, 2))
    assert high - low == pytest.approx(-2 * int(after.split()[0]), abs=2) and low + high > 0
    assert seen["reset"] and seen["plus"]
    assert seen["logos"] == 3
    assert seen["found"] == [name]
    assert seen["chosen"] == [f"Figures: {name}", f"{counts['NOVEL']} of 320 sites"] and seen["picked"] == [1, "2"]
    assert seen["faded"] and seen["every"] == ["320 sites", 0]
    assert seen["wide"] and seen["unlabelled"] == 0
