import html
import json
import re
import shutil
import subprocess

import numpy as np
import pybigtools
import pytest
import torch

from bertsnr_tools.attention import attention, attention_maps
from bertsnr_tools.errors import DataError
from bertsnr_tools.io.motif_files import Motif
from bertsnr_tools.models.bertsnr import BertSNR
from bertsnr_tools.models.device import Runtime
from bertsnr_tools.models.files import load_model, save_model
from bertsnr_tools.models.interface import ModelInfo
from bertsnr_tools.models.pwm import PwmModel
from bertsnr_tools.models.registry import find_model
from bertsnr_tools.motifs.model_source import find_motif
from bertsnr_tools.sequence.encoding import encode
from conftest import DATA

WINDOW = "ACGTTGCAAGCTTGACCACTAGAGGGCGCTATTGACCATTGCACGATCGATTTAGCATCGACTACGACTTTTTACGGCATCAGCATTTTACGATCGATAC"


@pytest.fixture
def one(tmp_path):
    path = tmp_path / "one.fa"
    path.write_text(f">chr7:501-600\n{WINDOW}\n")
    return path


@pytest.fixture(scope="session")
def dnabert_file(tmp_path_factory):
    """Random weights in the shape of DNABERT-6, two layers of its twelve."""
    torch.manual_seed(1)
    encoder = {
        "model_type": "bert",
        "vocab_size": 4101,
        "hidden_size": 768,
        "num_hidden_layers": 2,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "max_position_embeddings": 512,
    }
    path = tmp_path_factory.mktemp("dnabert") / "D.pt"
    save_model(str(path), BertSNR(ModelInfo("D", 6, 100, encoder, 10)))
    return path


def test_bedgraph_bigwig_and_table_contain_the_same_values(run, one, tmp_path):
    lines = run("attn", "-m", "CTCF", one)
    assert lines.status == 0 and lines.err == ""
    rows = [line.split("\t") for line in lines.out.splitlines()]
    assert [(row[0], int(row[1]), int(row[2])) for row in rows] == [("chr7", 500 + i, 501 + i) for i in range(100)]
    values = np.array([float(row[3]) for row in rows])
    assert run("attn", "-m", "CTCF", "--bigwig", tmp_path / "a.bw", one).out == ""
    with pybigtools.open(str(tmp_path / "a.bw")) as file:
        assert np.allclose(file.values("chr7", 500, 600, fillna=None), values, rtol=1e-5)
    table = run("attn", "-m", "CTCF", "--format", "tsv", one).out.splitlines()
    assert table[0].split("\t") == ["name", *map(str, range(1, 101))] and table[1].split("\t")[0] == "chr7:501-600"
    assert np.array_equal([float(value) for value in table[1].split("\t")[1:]], values)
    # the site in the window gets nearly all of the attention
    site = slice(WINDOW.index("TGACCACTAGAGGGCGCTA"), WINDOW.index("TGACCACTAGAGGGCGCTA") + 19)
    assert values[site].mean() > 10 * np.delete(values, np.r_[site]).mean()


def test_heads_add_up_and_layers_differ(run_here, one):
    def values(*options):
        outcome = run_here("attn", "-m", "CTCF", "--precision", "fp32", *options, one)
        assert outcome.status == 0
        return np.array([float(line.split("\t")[3]) for line in outcome.out.splitlines()])

    assert values().shape == (100,)
    assert np.allclose(sum(values("--head", head) for head in (1, 2, 3, 4)), values(), atol=1e-5)
    assert np.array_equal(values("--layer", 4), values()) and not np.allclose(values("--layer", 1), values())
    outcome = run_here("attn", "-m", "CTCF", "--layer", 5, one)
    assert outcome.status == 2 and outcome.err == "bertsnr-attn: --layer 5: the last layer of the model CTCF is 4\n"


def test_a_window_of_the_reverse_strand_is_written_forward(run, one, tmp_path):
    minus = tmp_path / "minus.fa"
    minus.write_text(f">w::chr7:500-600(-)\n{WINDOW}\n")
    forward, reverse = (
        [line.split("\t") for line in run("attn", "-m", "CTCF", path).out.splitlines()] for path in (one, minus)
    )
    assert len(forward) == 100 and [row[3] for row in reverse] == [row[3] for row in forward][::-1]
    assert [row[:3] for row in reverse] == [row[:3] for row in forward]


def test_batch_size_threads_and_pipes_change_nothing(run, tmp_path):
    path = tmp_path / "r.fa"
    long = (DATA / "region.fa").read_text().split("\n", 1)[1].replace("\n", "")
    path.write_text(f">a\n{long[:1234]}\n>b\n{long[:57]}NNNN{long[70:300]}\n>c\n{long[400:500]}\n>d\nAC\n")
    reference = run("attn", "-m", "CTCF", path)
    assert reference.status == 0
    rows = [line.split("\t") for line in reference.out.splitlines()]
    bases = [sum(int(row[2]) - int(row[1]) for row in rows if row[0] == name) for name in "abcd"]
    assert bases == [1234, 57 + 230, 100, 0]
    for options in (["--batch-size", 1], ["--batch-size", 7, "-@", 1], ["-@", 2]):
        assert run("attn", "-m", "CTCF", *options, path) == reference
    assert run("attn", "-m", "CTCF", "-", stdin=path.read_bytes()) == reference


@pytest.mark.parametrize("encoder", ["compact", "dnabert"])
def test_figures(run, one, encoder, dnabert_file, tmp_path):
    model = "CTCF" if encoder == "compact" else dnabert_file
    many = tmp_path / "many.fa"
    many.write_text("".join(f">{i} site={40 - i}-{60 - i}\n{WINDOW[i:] + WINDOW[:i]}\n" for i in range(12)))
    profile, layers, page = (tmp_path / name for name in ("one.svg", "layers.png", "page.html"))
    outcome = run("attn", "-m", model, "--plot", profile, "--plot-layers", layers, "--html", page, one)
    assert (outcome.status, outcome.out, outcome.err) == (0, "", "")
    text = profile.read_text()
    assert f"layer {4 if encoder == 'compact' else 2}, all heads" in text and "chr7:501-600" in text
    assert "called site" in text or encoder == "dnabert"
    assert layers.read_bytes().startswith(b"\x89PNG") and WINDOW in page.read_text()
    assert run("attn", "-m", model, "--plot", tmp_path / "map.svg", many).status == 0
    text = (tmp_path / "map.svg").read_text()
    assert "first base of the labelled site" in text and "12 sequences" in text


def test_motif_below_the_profile(run, one, genome, tmp_path):
    run("motifs", "-f", genome, "-o", tmp_path / "m.meme", DATA / "sites.bed")
    assert run("attn", "-m", "CTCF", "--plot", tmp_path / "p.svg", "--motif", tmp_path / "m.meme", one).status == 0
    assert "bits" in (tmp_path / "p.svg").read_text()


def test_attention_from_python(one):
    model = load_model(find_model("CTCF"))
    from_file, from_text = attention(model, one)[0], attention(model, [WINDOW.lower(), WINDOW[:50]])
    assert np.array_equal(from_file, from_text[0]) and [values.shape for values in from_text] == [(100,), (50,)]
    heads = [attention(model, [WINDOW], layer=3, head=head)[0] for head in range(4)]
    assert np.allclose(sum(heads), from_file, atol=1e-5)
    with pytest.raises(DataError, match="the model T has no attention .type matrix."):
        attention(PwmModel(Motif("T", np.eye(4))), [WINDOW])


def test_find_motif_from_python():
    motif = find_motif(load_model(find_model("CTCF")), ["ACGTC" * 8 + "TGACCACTAGAGGGCGCTA" + "ACGTC" * 8])
    assert (motif.id, motif.sites) == ("CTCF", 1)
    assert "CACTAGAGGGCGC" in "".join("ACGT"[base] for base in motif.counts.argmax(axis=1))


PROBE = """
<script>
const seen = {};
const text = id => byId(id).textContent;
seen.start = [text("picked"), text("best").split("\\n").length, document.querySelectorAll("#lines line").length > 0];
cells.from[30].dispatchEvent(new MouseEvent("mouseenter"));
seen.hover = [text("picked"), text("best").split("\\n")[0]];
byId("layer").value = 1; byId("layer").dispatchEvent(new Event("change"));
byId("head").value = 2; byId("head").dispatchEvent(new Event("change"));
seen.chosen = [text("picked"), text("best").split("\\n")[0]];
cells.from[5].click();
cells.from[9].dispatchEvent(new MouseEvent("mouseenter"));
seen.kept = text("picked");
document.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight"}));
seen.moved = text("picked");
document.querySelectorAll("#grid button")[0].click();
const count = selector => document.querySelectorAll(selector).length;
seen.grid = [text("picked"), count("#grid button"), count("#grid [aria-pressed=true]")];
seen.title = [document.title, document.querySelectorAll("h1 *").length];
seen.sites = document.querySelectorAll("#from .site").length;
document.body.dataset.seen = JSON.stringify(seen);
</script>
"""


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium")
def test_page_in_a_browser(run, tmp_path):
    """The page works from a file, without a network, whatever the record is called."""
    name = "</script><b>x</b>&amp;"
    (tmp_path / "one.fa").write_text(f">{name}\n{WINDOW}\n")
    outputs = ["--html", tmp_path / "page.html"]
    assert run("attn", "-m", "CTCF", "--precision", "fp32", *outputs, tmp_path / "one.fa").status == 0
    page = (tmp_path / "page.html").read_text()
    assert not re.search(r"(src|href)\s*=|url\(|import\s", page)
    (tmp_path / "probe.html").write_text(page.replace("</body>", PROBE + "</body>"))
    line = [
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path}/profile",
        "--dump-dom",
        f"file://{tmp_path}/probe.html",
    ]
    document = subprocess.run(line, capture_output=True, text=True, timeout=120).stdout
    seen = json.loads(html.unescape(re.search(r'data-seen="([^"]*)"', document)[1]))

    maps = attention_maps(load_model(find_model("CTCF")), encode(WINDOW.encode()), Runtime())

    def best(weights):
        at = int(weights.argmax())
        word = "[CLS]" if at == 0 else "[SEP]" if at == 99 else f"{WINDOW[at - 1 : at + 2]} {at}-{at + 2}"
        return f"{weights.max():.4f}  {word}"

    assert seen["start"] == ["layer 4, all heads, from [CLS]", 5, True]
    assert seen["hover"] == [f"layer 4, all heads, from {WINDOW[29:32]} 30-32", best(maps[3, :, 30].sum(axis=0))]
    assert seen["chosen"] == [f"layer 2, head 3, from {WINDOW[29:32]} 30-32", best(maps[1, 2, 30])]
    assert seen["kept"] == f"layer 2, head 3, from {WINDOW[4:7]} 5-7 (kept)"
    assert seen["moved"] == f"layer 2, head 3, from {WINDOW[5:8]} 6-8 (kept)"
    assert seen["grid"] == [f"layer 1, head 1, from {WINDOW[5:8]} 6-8 (kept)", 16, 1]
    assert seen["title"] == [f"CTCF: {name}", 0] and seen["sites"] == 19
