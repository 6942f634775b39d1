"""workflow/gather.py: the shards of a scan, joined."""

import gzip
import runpy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pybigtools
import pysam
import pytest

from bertsnr_tools.io.bigbed import BigBed
from bertsnr_tools.io.tracks import BigWig, site_schema
from conftest import ROOT

gather = runpy.run_path(str(ROOT / "workflow" / "gather.py"))["main"]


LENGTHS = {"c": 600_000_000, "d": 9, "a": 99}  # not in the order of their names


def write_bigbed(path, rows):
    file = BigBed(str(path), site_schema(True), LENGTHS)
    for chrom, start, end, name, score, strand in rows:
        columns = f"{name}\t{score}\t{strand}\t{start}\t{end}\t0,0,0\t1.5\t2.5\t-1\t{name}"
        file.add(chrom, start, end, columns)
    file.write()


def write_shard(directory, name, start, sites):
    write_bigbed(directory / f"{name}.bb", [("c", at, at + 9, "A", 500, "+") for at in sites])
    file = BigWig(str(directory / f"{name}.bw"), LENGTHS)
    if sites:
        file.add("c", start, np.full(100, 0.5))
    file.write()


def test_shards_of_which_some_are_empty(tmp_path):
    index = str(tmp_path / "g.fai")
    (tmp_path / "g.fai").write_text("".join(f"{chrom}\t{size}\t3\t60\t61\n" for chrom, size in LENGTHS.items()))
    outputs = [str(tmp_path / name) for name in ("o.bed.gz", "o.bb", "o.tsv", "o.bw")]
    shards = [("1", 100, [120, 150]), ("2", 0, []), ("3", 599_999_000, [599_999_050])]
    for used, kind, line in ((shards, "csi", "A\t3\t27\t500.0\n"), (shards[1:2], "tbi", "A\t0\t0\tnan\n")):
        for shard in used:
            write_shard(tmp_path, *shard)
        bigbeds, bigwigs = ([str(tmp_path / f"{name}.{end}") for name, *_ in used] for end in ("bb", "bw"))
        gather("sites", index, *outputs[:3], "A", "--", *bigbeds)
        gather("scores", index, outputs[3], *bigwigs)
        text = "".join(f"c\t{at}\t{at + 9}\tA\t500\t+\n" for _, _, sites in used for at in sites)
        assert gzip.open(outputs[0], "rt").read() == text and (tmp_path / "o.tsv").read_text() == line
        assert {file.name for file in tmp_path.glob("o.bed.gz.*")} == {f"o.bed.gz.{kind}"}
        with pysam.TabixFile(outputs[0], index=f"{outputs[0]}.{kind}") as bed:
            assert len(list(bed.fetch())) == text.count("\n")
        with pybigtools.open(outputs[3]) as file:
            assert file.chroms() == LENGTHS
            records = [(100, 200, 0.5), (599_999_000, 599_999_100, 0.5)] if len(used) > 1 else []
            assert list(file.records("c")) == records


def test_the_summary_has_a_line_for_each_factor_and_chromosomes_keep_their_order(tmp_path):
    (tmp_path / "g.fai").write_text("".join(f"{chrom}\t{size}\n" for chrom, size in LENGTHS.items()))
    paths = [str(tmp_path / name) for name in ("g.fai", "o.bed.gz", "o.bb", "o.tsv")]
    rows = [("c", 1, 9, "A", 500, "+"), ("c", 2, 9, "B::C", 300, "-"), ("a", 5, 9, "A", 700, "-")]
    write_bigbed(tmp_path / "1.bb", rows)
    gather("sites", *paths, "all", "A", "D", "B::C", "--", str(tmp_path / "1.bb"))
    assert (tmp_path / "o.tsv").read_text() == "all:A\t2\t12\t600.0\nall:D\t0\t0\tnan\nall:B::C\t1\t7\t300.0\n"
    lines = ["\t".join(map(str, row)) for row in rows]
    assert gzip.open(paths[1], "rt").read().splitlines() == lines
    assert (tmp_path / "o.bb").read_bytes() == (tmp_path / "1.bb").read_bytes()
    gather("sites", *paths, "only", "--", str(tmp_path / "1.bb"))  # a model of one factor goes by the name of its file
    assert (tmp_path / "o.tsv").read_text() == "only\t3\t19\t500.0\n"


@pytest.mark.parametrize("factors", [1, 4])
def test_four_processes_give_the_files_of_one(run, genome, toy_model_file, many_factor_file, tmp_path, factors):
    """As the workflow runs them: BED, bigBed and bigWig, of one model and of many factors."""
    model, signal = (toy_model_file, "TOY") if factors == 1 else (many_factor_file, "{}")
    names = ["TOY"] if factors == 1 else ["CTCF", "SOX2", "SOX10", "TAL1::TCF3"]
    scan = ("predict", "-q", "-@", 1, "-m", model, "-t", "0.9", "-f", genome, "-r", "chr2", "-r", "chr3")

    def process(number, *shard):
        outputs = ("-o", tmp_path / f"{number}.bb", "--bigwig", tmp_path / f"{signal}.{number}.bw")
        outcome = run(*scan, *outputs, *shard)
        assert outcome.status == 0, outcome.err

    process("whole")
    whole = run(*scan).out
    assert whole.count("\n") > 50
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: process(number, "--shard", f"{number}/4"), (1, 2, 3, 4)))
        if factors > 1:  # for one model, see test_cli_predict.py
            shards = list(pool.map(lambda number: run(*scan, "--shard", f"{number}/4").out, (1, 2, 3, 4)))
            assert "".join(shards) == whole and all(shards)
    index = f"{genome}.fai"
    outputs = [str(tmp_path / name) for name in ("o.bed.gz", "o.bb", "o.tsv")]
    gather("sites", index, *outputs, "A", "--", *(str(tmp_path / f"{number}.bb") for number in (1, 2, 3, 4)))
    assert gzip.open(outputs[0], "rt").read() == whole
    assert (tmp_path / "o.bb").read_bytes() == (tmp_path / "whole.bb").read_bytes()
    for name in names:
        parts = [str(tmp_path / f"{name}.{number}.bw") for number in (1, 2, 3, 4)]
        gather("scores", index, str(tmp_path / "o.bw"), *parts)
        assert (tmp_path / "o.bw").read_bytes() == (tmp_path / f"{name}.whole.bw").read_bytes()
