"""workflow/gather.py: the shards of a scan, joined."""

import gzip
import runpy

import numpy as np
import pybigtools
import pysam

from bertsnr_tools.io.tracks import BigWig
from conftest import ROOT

gather = runpy.run_path(str(ROOT / "workflow" / "gather.py"))["main"]


def write_shard(directory, name, start, sites):
    (directory / f"{name}.bed").write_text("".join(f"c\t{at}\t{at + 9}\tA\t500\t+\n" for at in sites))
    file = BigWig(str(directory / f"{name}.bw"), {"c": 600_000_000, "d": 9})
    if sites:
        file.add("c", start, np.full(100, 0.5))
    file.write()


def test_shards_of_which_some_are_empty(tmp_path):
    (tmp_path / "g.fai").write_text("c\t600000000\t3\t60\t61\nd\t9\t3\t60\t61\n")
    outputs = [str(tmp_path / name) for name in ("o.bed.gz", "o.bw", "o.tsv")]
    shards = [("1", 100, [120, 150]), ("2", 0, []), ("3", 599_999_000, [599_999_050])]
    for used, index, line in ((shards, "csi", "A\t3\t27\t500.0\n"), (shards[1:2], "tbi", "A\t0\t0\tnan\n")):
        for shard in used:
            write_shard(tmp_path, *shard)
        beds, bigwigs = ([str(tmp_path / f"{name}.{kind}") for name, *_ in used] for kind in ("bed", "bw"))
        gather("sites", outputs[0], outputs[2], "A", "--", *beds)
        gather("scores", str(tmp_path / "g.fai"), outputs[1], *bigwigs)
        text = "".join((tmp_path / f"{name}.bed").read_text() for name, *_ in used)
        assert gzip.open(outputs[0], "rt").read() == text and (tmp_path / "o.tsv").read_text() == line
        assert {file.name for file in tmp_path.glob("o.bed.gz.*")} == {f"o.bed.gz.{index}"}
        with pysam.TabixFile(outputs[0], index=f"{outputs[0]}.{index}") as bed:
            assert len(list(bed.fetch())) == text.count("\n")
        with pybigtools.open(outputs[1]) as file:
            assert file.chroms() == {"c": 600_000_000, "d": 9}
            records = [(100, 200, 0.5), (599_999_000, 599_999_100, 0.5)] if len(used) > 1 else []
            assert list(file.records("c")) == records


def test_the_summary_has_a_line_for_each_factor(tmp_path):
    bed, out, summary = (str(tmp_path / name) for name in ("1.bed", "o.bed.gz", "o.tsv"))
    (tmp_path / "1.bed").write_text("c\t1\t9\tA\t500\t+\nc\t2\t9\tB::C\t300\t-\nc\t5\t9\tA\t700\t-\n")
    gather("sites", out, summary, "all", "A", "D", "B::C", "--", bed)
    assert (tmp_path / "o.tsv").read_text() == "all:A\t2\t12\t600.0\nall:D\t0\t0\tnan\nall:B::C\t1\t7\t300.0\n"
    gather("sites", out, summary, "only", "--", bed)  # a model of one factor goes by the name of its file
    assert (tmp_path / "o.tsv").read_text() == "only\t3\t19\t500.0\n"
