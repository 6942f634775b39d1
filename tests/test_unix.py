"""Behaviour of every command in the shell: streams, exit statuses, and one clear line for bad input."""

import gzip
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from bertsnr_tools.cli import COMMANDS, main
from bertsnr_tools.errors import DataError
from bertsnr_tools.io.fasta import Genome
from bertsnr_tools.models.registry import WEIGHTS
from conftest import BIN, DATA

POSITIVE = ">a::chr1:0-20(+) site=3-9\nACGTTGCATGCATTGACCAT\n>b::chr2:0-20(+) site=3-9\nACGTTGCATGCATTGACCAT\n"
MEME_HEADER = b"MEME version 4\n\nALPHABET= ACGT\n\n"


@pytest.fixture
def workdir(tmp_path, toy_model_file):
    """A directory with good and bad files."""
    genome = (DATA / "genome.fa").read_bytes()
    files = {
        "genome.fa": genome,
        "sites.bed": b"chr1\t1000\t1019\ta\t0\t+\n",
        "pos.fa": POSITIVE.encode(),
        "model.pt": toy_model_file.read_bytes(),
        "text.pt": b"I am a text\n",
        "half.pt": toy_model_file.read_bytes()[:5000],
        "empty": b"",
        "protein.fa": b">p\nMKVLAAGIAL\n",
        "cut.fa.gz": gzip.compress(
            os.urandom(3000).hex().translate(str.maketrans("0123456789abcdef", "ACGT" * 4)).encode()
        )[:-900],
        "plain.fa.gz": gzip.compress(genome),
        "two.bed": b"chr1\t1\t9\nchr1\t9\n",
        "order.bed": b"chr1\t9\t5\n",
        "strand.bed": b"chr1\t5\t9\ta\t0\tx\n",
        "unknown.bed": b"1\t5\t9\n",
        "past.bed": b"chr3\t14000\t15001\n",
        "huge.bed": b"chr1\t5\t9223372036854775808\n",
        "mac.bed": b"chr1\t5\t9\rchr1\t6\t9\r",
        "mac.fa": b">a\rACGT\r",
        "twice.fa": b">a\n" + b"ACGTTGCATG" * 20 + b"\n>a x\n" + b"ACGTTGCATG" * 20 + b"\n",
        "odd.fa": genome,
        "odd.fa.fai": b"\xff\xfenothing\n",
        "long.bed": b"chr1\t1000\t1150\n",
        "edge.bed": b"chr1\t0\t8\ta\n",
        "m.meme": MEME_HEADER + b"".join(b"MOTIF %c\nletter-probability matrix: w= 1\n1 0 0 0\n\n" % x for x in b"ab"),
        "none.meme": MEME_HEADER,
        "plain.fa": b">a\nACGTTGCATGCATTGACCAT\n",
        "mixed.fa": b">a\nACGTTGCATGCATTGACCAT\n>b\nACGT\n",
        "sites.bb": bytes.fromhex("ebf28987 0400 0500") + bytes(60),
        "overlap.fa": b">c:0-9\nACGTTGCAT\n>c:5-14\nACGTTGCAT\n",
        "wide.fa": b">w site=3-9\n" + b"ACGTTGCATG" * 12 + b"\n>v\n" + b"ACGTTGCATG" * 12 + b"\n",
        "calls.vcf": b"##fileformat=VCFv4.2\nchr1\t82\tsnv\tC\tG\t.\t.\t.\n",
        "far.fa": b">p\n" + b"ACGTTGCATG" * 60 + b"\n",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)

    class Payload:
        def __reduce__(self):
            return (os.system, ("touch ran",))

    torch.save({"format": "bertsnr_tools model", "weights": Payload()}, tmp_path / "code.pt")
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "vocab.txt").write_text("[PAD]\n")
    (tmp_path / "stale.fa").write_bytes(files["genome.fa"])
    (tmp_path / "stale.fa.fai").write_text("chr1\t40000\t5\t60\t61\n")
    return tmp_path


CASES = [
    # command line, status, what stderr says
    ("windows -f genome.fa empty", 1, "empty: contains no intervals"),
    ("windows -f genome.fa two.bed", 1, "two.bed:2: has 2 column(s); expected at least 3"),
    ("windows -f genome.fa order.bed", 1, "order.bed:1: start 9 is not less than end 5"),
    ("windows -f genome.fa strand.bed", 1, "strand.bed:1: strand is 'x'; expected +, - or ."),
    ("windows -f genome.fa unknown.bed", 1, "unknown.bed:1: no sequence named '1' in the genome (it contains chr1)"),
    ("windows -f genome.fa --sites --strict long.bed", 1, "long.bed: 1 of 1 sites skipped: 1 longer than the window"),
    ("windows -f genome.fa sites.bb", 1, "sites.bb: is bigBed; convert it with UCSC's bigBedToBed"),
    ("windows -f genome.fa /dev/zero", 1, "/dev/zero:1: is not text"),
    ("windows -f genome.fa nothere.bed", 1, "nothere.bed: No such file or directory"),
    ("windows -f nothere.fa sites.bed", 1, "nothere.fa: No such file or directory"),
    ("windows -f plain.fa.gz sites.bed", 1, "plain.fa.gz: is plain gzip"),
    (
        "windows -f stale.fa sites.bed",
        1,
        "does not match its index (the header of chr1 is not before byte 5); delete stale.fa.fai to rebuild it",
    ),
    ("windows -f odd.fa sites.bed", 1, "odd.fa.fai:1: is not a FASTA index; delete it to rebuild it"),
    ("windows -f protein.fa sites.bed", 1, "protein.fa:2: contains 'L'"),
    ("windows -f sites.bed sites.bed", 1, "sites.bed:1: does not begin with a FASTA header"),
    ("windows sites.bed", 2, "no genome given; add -f FASTA"),
    ("windows -f genome.fa -o genome.fa sites.bed", 2, "genome.fa: is also an input"),
    ("windows -f genome.fa -o sites.bed sites.bed", 2, "sites.bed: is also an input"),
    ("windows -f genome.fa -o genome.fa.fai sites.bed", 2, "genome.fa.fai: is the index of an input, genome.fa"),
    ("windows -f genome.fa --background -b two.bed.gz -o two.bed.gz.tbi sites.bed", 2, "is the index of"),
    ("predict -m model.pt -f genome.fa -o ./genome.fa.fai", 2, "./genome.fa.fai: is the index of an input, genome.fa"),
    ("predict -m model.pt -f genome.fa --bedgraph genome.fa.gzi", 2, "genome.fa.gzi: is the index of an input"),
    (f"predict -m CTCF -o {WEIGHTS}/CTCF.pt pos.fa", 2, "CTCF.pt: is also an input"),
    (f"evaluate -m CTCF --json {WEIGHTS}/CTCF.pt pos.fa", 2, "CTCF.pt: is also an input"),
    (f"attn -m CTCF -o {WEIGHTS}/CTCF.pt pos.fa", 2, "CTCF.pt: is also an input"),
    (f"models -o {WEIGHTS}/CTCF.pt CTCF", 2, "CTCF.pt: is also an input"),
    ("train -o x.pt -f genome.fa --json genome.fa.fai pos.fa", 2, "genome.fa.fai: is the index of an input"),
    ("train --encoder encoder -o encoder/vocab.txt pos.fa", 2, "vocab.txt: is also an input"),
    ("pretrain --encoder encoder -o encoder genome.fa", 2, "encoder: is also an input"),
    ("windows -f genome.fa huge.bed", 1, "huge.bed:1: start 5 or end 9223372036854775808 is past the end of any chrom"),
    ("windows -f genome.fa --background --exclude huge.bed sites.bed", 1, "huge.bed:1: start 5 or end 92233720368"),
    ("windows -f genome.fa mac.bed", 1, r"mac.bed:1: has line ends of CR alone; convert them with: tr '\r' '\n'"),
    ("shuffle mac.fa", 1, r"mac.fa:1: has line ends of CR alone"),
    ("predict -m model.pt twice.fa", 1, "twice.fa:3: sequence name 'a' occurs more than once"),
    ("attn -m model.pt twice.fa", 1, "twice.fa:3: sequence name 'a' occurs more than once"),
    (
        "train -o my\x7fTF.pt pos.fa",
        2,
        "is named after its file, without white space and commas; add --name TF",
    ),
    ("train -o x.pt --name a\x7fb pos.fa", 2, "expected a name without white space"),
    ("predict -m model.pt --rgb score pos.fa", 2, "--rgb: bed has no colours; add --format bed9"),
    (
        "predict -m model.pt --score-scale jaspar -o s.parquet pos.fa",
        2,
        "--score-scale: Parquet has all scores, and no",
    ),
    ("windows -f genome.fa calls.vcf", 1, "calls.vcf:2: is VCF; expected BED (chrom, start and end, 0-based)"),
    ("train -o x.pt --name a,b pos.fa", 2, "--name 'a,b': expected a name without white space and commas"),
    ("train -o x.pt --lr inf pos.fa", 2, "inf is not in the range 0<x<=1"),
    ("train -o x.pt --val-chroms chr1,chr2 pos.fa", 2, "they all lie on chr1, chr2; give fewer --val-chroms"),
    ("windows -f genome.fa -w 0 sites.bed", 2, "Invalid value for '-w' / '--window': 0 is not in the range"),
    ("windows -f genome.fa -o /dev/full sites.bed", 1, "/dev/full: No space left on device"),
    ("windows -f genome.fa -o nowhere/x.fa sites.bed", 1, "nowhere/x.fa: output directory does not exist"),
    ("shuffle empty", 1, "empty: is empty; expected FASTA records"),
    ("shuffle sites.bed", 1, "sites.bed:1: text before the first header ('c')"),
    ("shuffle protein.fa", 1, "protein.fa:2: contains 'L'; expected the letters ACGT"),
    ("shuffle cut.fa.gz", 1, "cut.fa.gz: "),
    ("shuffle -k 0 pos.fa", 2, "Invalid value for '-k'"),
    ("shuffle -k x pos.fa", 2, "'x' is not a valid integer"),
    ("shuffle -o pos.fa pos.fa", 2, "pos.fa: is also an input"),
    ("shuffle .", 1, ".: Is a directory"),
    ("shuffle --nonsense", 2, "--nonsense"),
    ("train pos.fa", 2, "Missing option '-o'"),
    ("train -o - pos.fa", 2, "cannot be written to standard output"),
    ("train -o pos.fa pos.fa", 2, "pos.fa: is also an input"),
    ("train -o x.pt --json x.pt pos.fa", 2, "x.pt: is given for two outputs"),
    ("train -o model.pt --teacher model.pt pos.fa", 2, "model.pt: is also an input"),
    ("train -o x.pt -k 7 pos.fa", 2, "7 is not in the range 3<=x<=6"),
    ("train -o x.pt genome.fa", 1, "genome.fa: record 'chr1' has no site=a-b in its header"),
    (
        "train -o x.pt pos.fa -n pos.fa",
        1,
        "pos.fa: record 'a::chr1:0-20(+)' has site=a-b in its header; expected a negative",
    ),
    ("train -o x.pt --val-chroms chr9 pos.fa", 2, "cannot be divided into training and validation"),
    ("train -o x.pt --plot x.doc pos.fa", 2, "x.doc: the name of a figure must end in .png, .pdf or .svg"),
    ("train -o x.pt --precision fp16 pos.fa", 2, "'fp16' is not one of 'auto', 'fp32', 'bf16'"),
    ("train -o nowhere/x.pt pos.fa", 1, "nowhere/x.pt: output directory does not exist"),
    ("predict pos.fa", 2, "no model given; add -m MODEL"),
    ("predict -m model.pt", 2, "no sequence given; add FASTA (- is standard input), or a genome with -f FASTA"),
    (
        "predict -m model.pt -f genome.fa pos.fa",
        2,
        "both pos.fa and -f genome.fa given; scan either FASTA or a genome",
    ),
    ("predict -m genome.fa pos.fa", 1, "genome.fa: contains FASTA sequence; expected motifs or a model"),
    ("predict -m model.pt -o sites.bw pos.fa", 2, "-o sites.bw: sites are written as BED"),
    (
        "predict -m model.pt --device cuda:0,cpu pos.fa",
        2,
        "'cuda:0,cpu': list several GPUs as cuda:0,cuda:1, each only once",
    ),
    ("predict -m model.pt --device cuda:0,cuda:99 pos.fa", 1, "device 'cuda:0' does not exist: this machine has"),
    ("predict -m", 2, "Option '-m' requires an argument. (see bertsnr-predict --help)"),
    ("motifs sites.bed", 2, "sites.bed: BED input requires the sequence of its sites; add -f FASTA"),
    ("predict -m model.pt -r chr1 pos.fa", 2, "-b, -r and --accessible require a genome"),
    ("predict -m NOTF pos.fa", 1, "NOTF: no such file, and no shipped model of that name"),
    ("predict -m text.pt pos.fa", 1, "text.pt: is not a bertsnr_tools model"),
    ("predict -m half.pt pos.fa", 1, "half.pt: is not a bertsnr_tools model"),
    (
        "predict -m code.pt pos.fa",
        1,
        "code.pt: is not a bertsnr_tools model: it contains more than tensors and plain values",
    ),
    ("predict -m model.pt empty", 1, "empty: is empty; expected FASTA records"),
    ("predict -m model.pt protein.fa", 1, "protein.fa:2: contains 'L'"),
    ("predict -m model.pt -o x.bb.gz pos.fa", 2, "-o x.bb.gz: a bigBed file is compressed; leave out .gz"),
    ("predict -m model.pt -o x.parquet.gz pos.fa", 2, "-o x.parquet.gz: a Parquet file is compressed; leave out .gz"),
    ("predict -m model.pt -f genome.fa -b - --accessible -", 2, "standard input (-) is given twice"),
    ("predict -m model.pt -f genome.fa -r chr1:5-3", 2, "expected 1 <= from <= to <= 40000"),
    ("predict -m model.pt -f genome.fa -r chrX", 2, "no sequence named 'chrX' in the genome"),
    (
        "predict -m model.pt -f genome.fa -b unknown.bed",
        1,
        "unknown.bed:1: no sequence named '1' in the genome (it contains chr1)",
    ),
    (
        "predict -m model.pt -f genome.fa -b past.bed",
        1,
        "past.bed:1: end 15001 is past the end of chr3 (15000 bp)",
    ),
    ("predict -m model.pt -s 101 pos.fa", 2, "-s 101 is longer than the window of TOY (100 bp)"),
    (
        "predict -m model.pt -t 1.5 pos.fa",
        2,
        "'1.5': expected P, p=P, q=Q (numbers between 0 and 1) or score=BITS",
    ),
    ("predict -m model.pt -t p=0 pos.fa", 2, "'p=0': expected P, p=P, q=Q"),
    ("predict -m m.meme -t score=high pos.fa", 2, "'score=high': expected P, p=P, q=Q"),
    ("predict -m model.pt -t p=0.01 pos.fa", 2, "TOY does not report p-values: it was trained without genomic"),
    ("predict -m none.meme pos.fa", 1, "none.meme: contains no motifs"),
    ("predict -m plain.fa pos.fa", 1, "plain.fa: contains FASTA sequence; expected motifs or a model"),
    ("attn -m m.meme pos.fa", 2, "m.meme: contains 2 matrices; expected one"),
    ("predict -m model.pt --device tpu pos.fa", 2, "'tpu' is not a device; expected auto, cpu, cuda or cuda:N"),
    ("predict -m model.pt --device cuda:77 pos.fa", 1, "device 'cuda:77' does not exist: this machine has"),
    ("predict -m model.pt -o model.pt pos.fa", 2, "model.pt: is also an input"),
    ("train -o x.pt -f genome.fa --background bg.fa pos.fa", 2, "give -f or --background, not both"),
    ("train -o x.pt --exclude sites.bed pos.fa", 2, "--exclude requires -f"),
    ("train -o x.pt --prefilter pos.fa", 2, "--prefilter: only with background windows; add -f or --background"),
    ("train -o x.pt --prefilter --arch deepsnr --background plain.fa pos.fa", 2, "--arch deepsnr has no prefilter"),
    ("train -o x.pt --hard-negatives pos.fa", 2, "--hard-negatives: only with background windows"),
    (
        "windows --background -f genome.fa unknown.bed",
        1,
        "unknown.bed:1: no sequence named '1' in the genome (it contains chr1)",
    ),
    (
        "windows --background --exclude unknown.bed -f genome.fa sites.bed",
        1,
        "unknown.bed:1: no sequence named '1' in the genome (it contains chr1)",
    ),
    (
        "train -o x.pt --folds 3 --hard-negatives -f genome.fa pos.fa",
        2,
        "--folds does not support hard negatives; leave out --folds",
    ),
    ("train -o x.pt --background-ratio 2 pos.fa", 2, "--background-ratio: only with background windows"),
    ("train -o genome.fa -f genome.fa pos.fa", 2, "genome.fa: is also an input"),
    (
        "train -o x.pt --background pos.fa pos.fa",
        1,
        "pos.fa: record 'a::chr1:0-20(+)' has site=a-b in its header; expected a negative",
    ),
    ("train -o x.pt --arch deepsnr -k 4 pos.fa", 2, "--arch deepsnr reads single bases"),
    ("pretrain pos.fa", 2, "Missing option '-o'"),
    ("pretrain -o enc -", 2, "reads its input several times and writes a directory"),
    ("pretrain -o enc empty", 1, "empty: is empty; expected FASTA records"),
    ("pretrain -o enc nothere.fa", 1, "nothere.fa: No such file or directory"),
    ("pretrain -o enc pos.fa", 1, "pos.fa: no 100 consecutive bases of ACGT; give longer sequences"),
    ("pretrain -o genome.fa pos.fa", 2, "genome.fa: exists and is not an encoder directory"),
    ("pretrain -o pos.fa pos.fa", 2, "pos.fa: is also an input"),
    ("pretrain -o enc -w 2 genome.fa", 2, "-w 2: the encoder reads 3 to"),
    ("pretrain -o enc --encoder nothere genome.fa", 1, "nothere: no such directory; expected one with config.json"),
    ("evaluate pos.fa", 2, "Missing option '-m'"),
    ("evaluate -m model.pt", 2, "Missing argument 'FASTA…'"),
    (
        "evaluate -m model.pt plain.fa",
        1,
        "plain.fa: no window has a site (site=a-b in its header, from `bertsnr windows`)",
    ),
    ("evaluate -m model.pt wide.fa", 1, "wide.fa: windows are 120 bp; the model TOY accepts 3 to 100 bp"),
    ("evaluate -m model.pt mixed.fa", 1, "mixed.fa: record 'b' is 4 bp; expected 20 bp"),
    ("evaluate -m text.pt pos.fa", 1, "text.pt: is not a bertsnr_tools model"),
    ("evaluate -m model.pt --plot x.doc pos.fa", 2, "x.doc: the name of a figure must end in"),
    ("evaluate -m model.pt - -", 2, "standard input (-) is given twice, but can be read only once"),
    ("motifs", 2, "Missing argument 'BED|FASTA'"),
    ("motifs -f genome.fa empty", 1, "empty: contains no sites"),
    ("motifs -f genome.fa two.bed", 1, "two.bed:2: has 2 column(s); expected at least 3"),
    ("motifs -f genome.fa unknown.bed", 1, "unknown.bed:1: no sequence named '1' in the genome (it contains chr1)"),
    ("motifs -f genome.fa past.bed", 1, "past.bed:1: end 15001 is past the end of chr3 (15000 bp)"),
    (
        "motifs -f genome.fa --width 10 edge.bed",
        1,
        "edge.bed: no motif instances found (skipped: 1 too close to the end of their sequence",
    ),
    ("motifs -f genome.fa -m model.pt sites.bed", 2, "-f and -m exclude each other"),
    ("motifs plain.fa", 1, "plain.fa: record 'a' has no site=a-b in its header"),
    ("motifs mixed.fa", 1, "mixed.fa: record 'a' has no site=a-b in its header"),
    ("motifs -m model.pt -t 0.999999 plain.fa", 1, "plain.fa: no motif instances found"),
    ("motifs -f genome.fa --compare - -", 2, "standard input (-) is given twice, but can be read only once"),
    ("attn -m model.pt --plot x.png --motif - -", 2, "standard input (-) is given twice, but can be read only once"),
    ("predict -m - plain.fa", 1, "standard input: is a pipe or device, which can be read only once; save it"),
    ("predict -m model.pt -f -", 1, "standard input: is a pipe or device, which can be read only once; save it"),
    ("windows -f - sites.bed", 1, "standard input: is a pipe or device, which can be read only once; save it"),
    ("motifs -m model.pt twice.fa", 1, "twice.fa:3: sequence name 'a' occurs more than once"),
    ("attn -m model.pt twice.fa", 1, "twice.fa:3: sequence name 'a' occurs more than once"),
    ("predict -m model.pt --device cuda:\u00b2 plain.fa", 2, "is not a device; expected auto, cpu, cuda or cuda:N"),
    ("predict -m model.pt --bigwig= plain.fa", 2, "'--bigwig': expected a value, found an empty text"),
    ("evaluate -m model.pt --output= pos.fa", 2, "'-o' / '--output': expected a value, found an empty text"),
    ("windows -f genome.fa --exclude= --background sites.bed", 2, "'--exclude': expected a value"),
    ("train -o x.pt --val-chroms , pos.fa", 2, "'--val-chroms': ',' names no chromosome"),
    ("motifs -m model.pt -s 101 plain.fa", 2, "-s 101 is longer than the window of TOY (100 bp)"),
    ("motifs --width 2 pos.fa", 2, "2 is not in the range"),
    ("motifs --compare none.meme pos.fa", 1, "none.meme: contains no motifs"),
    ("motifs --compare pos.fa pos.fa", 1, "pos.fa: contains FASTA sequence; expected motifs or a model"),
    ("motifs --compare gone.meme pos.fa", 1, "gone.meme: no such file; for JASPAR, use jaspar or a release"),
    (
        "motifs --compare jaspar1999 pos.fa",
        2,
        "jaspar1999: not a release in pyjaspar; choose from jaspar2014, ",
    ),
    ("motifs --logo x.gif pos.fa", 2, "x.gif: the name of a figure must end in .png, .pdf or .svg"),
    ("motifs --instances x.txt pos.fa", 2, "x.txt: the name of an instance file must end in .bed or .fa"),
    ("motifs -o x.meme --instances x.meme pos.fa", 2, "x.meme: is given for two outputs"),
    ("motifs -o pos.fa pos.fa", 2, "pos.fa: is also an input"),
    ("motifs -o /dev/full pos.fa", 1, "/dev/full: No space left on device"),
    ("attn pos.fa", 2, "Missing option '-m'"),
    ("attn -m model.pt empty", 1, "empty: is empty; expected FASTA records"),
    ("attn -m text.pt pos.fa", 1, "text.pt: is not a bertsnr_tools model"),
    ("attn -m model.pt --head 9 pos.fa", 2, "--head 9: the last head of the model TOY is 4"),
    ("attn -m model.pt -s 101 pos.fa", 2, "-s 101 is longer than the window of TOY (100 bp)"),
    (
        "attn -m model.pt --format tsv -o x.tsv mixed.fa",
        1,
        "mixed.fa: record 'b' is 4 bp, but the first is 20 bp; a table requires equal lengths",
    ),
    ("attn -m model.pt --plot x.png mixed.fa", 1, "mixed.fa: records differ in length and have no labelled sites"),
    ("attn -m model.pt --plot x.doc plain.fa", 2, "x.doc: the name of a figure must end in"),
    (
        "attn -m model.pt --html x.html pos.fa",
        1,
        "pos.fa: contains several records; --html takes one; extract it with samtools faidx",
    ),
    (
        "attn -m model.pt --plot-layers x.png far.fa",
        1,
        "far.fa: record 'p' is 600 bp; --plot-layers takes up to 500 bp; extract a part with samtools faidx",
    ),
    ("attn -m model.pt --motif m.meme plain.fa", 2, "--motif requires --plot FILE"),
    ("attn -m model.pt --plot x.png --motif none.meme plain.fa", 1, "none.meme: contains no motifs"),
    (
        "attn -m model.pt --plot x.png --motif m.meme plain.fa",
        1,
        "m.meme: contains 2 motifs; expected exactly one of them to be named TOY",
    ),
    (
        "attn -m model.pt --bigwig x.bw overlap.fa",
        1,
        "x.bw: c:5-6 has several values, but bigWig stores one per base; remove overlapping records",
    ),
    ("attn -m model.pt --bigwig - plain.fa", 2, "a bigWig file cannot be written to standard output"),
    ("attn -m model.pt --plot x.png --html x.png plain.fa", 2, "x.png: is given for two outputs"),
]


def files_below(directory):
    """The content of all files but indexes."""
    paths = [path for path in directory.rglob("*") if path.is_file() and path.suffix not in (".fai", ".gzi")]
    return {path: path.read_bytes() for path in paths}


@pytest.mark.parametrize(("line", "status", "problem"), CASES, ids=[case[0] for case in CASES])
def test_bad_input_gets_one_clear_line(run_here, workdir, line, status, problem):
    before = files_below(workdir)
    command, *arguments = line.split()
    outcome = run_here(command, *arguments)
    assert outcome.status == status, outcome.err
    lines = outcome.err.splitlines()
    assert problem in lines[-1] and lines[-1].startswith(f"bertsnr-{command}: ") and "Traceback" not in outcome.err
    assert len([text for text in lines if "windows in an epoch" not in text]) == 1, outcome.err
    assert files_below(workdir) == before


def test_bertsnr_without_a_command_or_with_an_unknown_one(run):
    unknown = run("", "predcit", "-m", "CTCF")
    assert unknown.status == 2 and unknown.err.startswith(
        "bertsnr: no such command 'predcit'; did you mean predict? (commands: windows, shuffle, "
    )
    incomplete = run("", "predict", "-m")
    assert incomplete.status == 2
    assert incomplete.err == "bertsnr predict: Option '-m' requires an argument. (see bertsnr predict --help)\n"
    alone = run("")
    assert alone.status == 2 and alone.out == "" and alone.err == run("", "--help").out


def test_help_is_in_groups(workdir):
    text = shell("bertsnr predict --help", workdir).stdout
    assert "\x1b" not in text and text.index("Options:") < text.index("--bigwig") < text.index("Speed:") < text.index(
        "--device"
    ) < text.index("Messages:") < text.index("--quiet")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("bertsnr pre", ["plain,pretrain", "plain,predict"]),
        ("bertsnr-train --hard", ["plain,--hard-negatives"]),
        ("bertsnr predict -m CT", ["plain,CTCF", "plain,CTCFL"]),
        ("bertsnr predict -m ./C", ["file,./C"]),
        ("bertsnr predict -m CTCF reg", ["file,reg"]),
        ("bertsnr predict -f gen", ["file,gen"]),
    ],
)
def test_shell_completion(workdir, line, expected):
    program, *words = line.split()
    variable = f"_{program.upper().replace('-', '_')}_COMPLETE"
    shown = shell(f"COMP_WORDS='{line}' COMP_CWORD={len(words)} {variable}=bash_complete {program}", workdir).stdout
    assert shown.split() == expected


def test_a_missing_index_in_a_read_only_directory(workdir, monkeypatch):
    """Root may write anywhere, so the refusal is simulated."""

    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    problem = r"genome.fa: has no index, and none can be written beside it \(Permission denied\); run samtools faidx"
    with pytest.raises(DataError, match=problem):
        Genome(str(workdir / "genome.fa"))


STREAMED = [
    ("windows", "-q", "-f", "genome.fa", "many.bed"),
    ("shuffle", "genome.fa"),
    ("predict", "-m", "model.pt", str(DATA / "region.fa")),
]


def shell(line, workdir):
    return subprocess.run(
        ["bash", "-c", line],
        cwd=workdir,
        env={"PATH": f"{BIN}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("command", STREAMED, ids=[command[0] for command in STREAMED])
def test_streams(workdir, command):
    (workdir / "many.bed").write_text("".join(f"chr1\t{i}\t{i + 19}\n" for i in range(1000, 9000, 8)))
    line = f"bertsnr {' '.join(command)}"
    full = shell(f"{line} > /dev/full", workdir)
    assert (full.returncode, full.stderr) == (1, f"bertsnr {command[0]}: standard output: No space left on device\n")
    closed = shell(f"{line} >&-", workdir)
    assert (closed.returncode, closed.stderr) == (1, f"bertsnr {command[0]}: standard output: is closed\n")
    reader_gone = shell(f"{line} | head -c 5; exit ${{PIPESTATUS[0]}}", workdir)
    assert reader_gone.stderr == "" and len(reader_gone.stdout) == 5 and reader_gone.returncode in (0, 1)


@pytest.mark.parametrize(
    "command",
    [
        "motifs -o m.meme --compare jaspar --logo x.svg windows.fa",
        "evaluate -m model.pt --json x.json --plot x.svg windows.fa",
    ],
)
def test_other_files_are_whole_when_the_table_finds_no_reader(workdir, command):
    (workdir / "windows.fa").write_bytes((DATA / "expected" / "windows.fa").read_bytes())
    full = shell(f"bertsnr {command} > /dev/full", workdir)
    assert full.returncode == 1 and full.stderr.endswith("standard output: No space left on device\n")
    assert (
        "</svg>" in (workdir / "x.svg").read_text()
        and (workdir / ("m.meme" if command.startswith("motifs") else "x.json")).exists()
    )


FULL = {  # command line, its outputs; full.* is a link to a full device
    "predict -m model.pt -f genome.fa -r chr3 -o x.bed --bedgraph y.bg --bigwig z.bw": ("x.bed", "y.bg"),
    "motifs -o x.meme --instances y.bed --logo z.svg windows.fa": ("x.meme", "y.bed"),
    "evaluate -m model.pt -o x.tsv --json y.json --plot z.svg --heatmap u.svg windows.fa": ("x.tsv", "y.json"),
    "attn -m model.pt -o x.bg --bigwig y.bw --plot z.svg --html u.html plain.fa": ("x.bg", "u.html"),
    "train -@ 1 --arch d-aednet --epochs 1 -o x.pt --json y.json --plot z.svg windows.fa": ("y.json",),
}


@pytest.mark.parametrize(
    ("command", "failing"), [(command, failing) for command, outputs in FULL.items() for failing in outputs]
)
def test_an_output_on_a_full_disk_does_not_affect_the_others(run, workdir, command, failing):
    (workdir / "windows.fa").write_bytes((DATA / "expected" / "windows.fa").read_bytes())
    full = f"full.{failing.rpartition('.')[2]}"
    (workdir / full).symlink_to("/dev/full")
    outcome = run(*command.replace(failing, full).split(), "-q", cwd=workdir)
    name = command.split()[0]
    assert outcome.status == 1 and outcome.err == f"bertsnr-{name}: {full}: No space left on device\n"
    others = {word for word in command.split() if re.fullmatch(r"[u-z]\.\w+", word)} - {failing}
    assert {path.name for path in workdir.glob("[u-z].*")} - {"x.pt.ckpt"} == others
    assert not list(workdir.glob("*.tmp"))


def test_figures_are_drawn_where_the_bigwig_fails(run, workdir):
    outcome = run("attn", "-q", "-m", "model.pt", "--bigwig", "x.bw", "--plot", "y.svg", "overlap.fa", cwd=workdir)
    assert (
        outcome.status == 1 and "x.bw: c:5-6 has several values" in outcome.err and len(outcome.err.splitlines()) == 1
    )
    assert "</svg>" in (workdir / "y.svg").read_text() and not (workdir / "x.bw").exists()


def test_models_and_data_sets_of_one_name_are_distinguishable(run, workdir):
    (workdir / "other").mkdir()
    for name in ("pos.fa", "model.pt"):
        shutil.copy(workdir / name, workdir / "other")
    models = ("-m", "model.pt", "-m", "other/model.pt", "-m", "./model.pt")
    table = run("evaluate", *models, "pos.fa", "other/pos.fa", cwd=workdir).out.splitlines()[1:]
    assert [line.split("\t")[:2] for line in table] == [
        [model, data] for data in ("pos.fa", "other/pos.fa") for model in ("TOY", "TOY-2")
    ]
    sites = run("predict", *models, "far.fa", "--bedgraph", "{}.bg", "-t", "0.01", cwd=workdir).out.splitlines()
    assert {line.split("\t")[3] for line in sites} == {"TOY", "TOY-2"}
    assert (workdir / "TOY.bg").read_text() == (workdir / "TOY-2.bg").read_text()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_interrupted_runs_leave_nothing_behind(workdir, number, status):
    # a suite that runs in the background of a script inherits that SIGINT is ignored; the command shall not
    heard = {"preexec_fn": lambda: signal.signal(number, signal.SIG_DFL)}
    process = subprocess.Popen(
        [BIN / "bertsnr-shuffle", "-o", workdir / "out.fa", "-"], stdin=subprocess.PIPE, stderr=subprocess.PIPE, **heard
    )
    process.stdin.write(b">a\n" + b"ACGTAGCTAGCA\n" * 200_000)
    process.stdin.flush()
    deadline = time.time() + 60
    while not list(workdir.glob("out.fa*")) and time.time() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate()
    assert process.returncode == status and b"Traceback" not in err
    assert not list(workdir.glob("out.fa*"))


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "out of GPU memory; reduce --batch-size or use --device cpu"),
        (RuntimeError("CUDA error: out of memory"), "out of GPU memory; reduce --batch-size or use --device cpu"),
        (MemoryError(), "out of memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"), "out of memory"),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), "out of memory"),
        (
            RuntimeError("can't start new thread"),
            "cannot start a thread: a limit of threads, processes or memory is reached; reduce -@",
        ),
        (OSError(5, "Input/output error", "x.fa"), "x.fa: Input/output error"),
    ],
)
def test_errors_of_device_and_system_are_one_line(run_here, workdir, monkeypatch, error, problem):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("bertsnr_tools.sequence.shuffle.shuffled_records", fail)
    outcome = run_here("shuffle", "plain.fa")
    assert outcome.status == 1 and outcome.err == f"bertsnr-shuffle: {problem}\n"


def test_an_error_of_the_program_has_a_traceback(workdir, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("a fault")

    monkeypatch.setattr("bertsnr_tools.sequence.shuffle.shuffled_records", fail)
    monkeypatch.setattr(sys, "argv", ["bertsnr-shuffle", str(workdir / "plain.fa")])
    with pytest.raises(RuntimeError, match="a fault"):
        main("shuffle")


SHOW_MODULES = """
import sys
sys.argv = {arguments!r}
try:
    from bertsnr_tools.cli import main
    main()
except SystemExit:
    pass
print(*sorted({{module.split(".")[0] for module in sys.modules}}), file=sys.stderr)
"""


def imported_by(*arguments):
    code = SHOW_MODULES.format(arguments=["bertsnr", *map(str, arguments)])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_imports_nothing_slow(command):
    slow = {"torch", "transformers", "numpy", "pysam", "rich"}
    assert not imported_by(*([command] if command else []), "--help") & slow


def test_commands_without_a_model_do_not_import_torch(genome):
    for arguments in (("windows", "-f", genome, DATA / "sites.bed"), ("shuffle", DATA / "region.fa"), ("models",)):
        assert not imported_by(*arguments) & {"torch", "transformers", "rich", "matplotlib"}


@pytest.mark.parametrize(
    "command",
    [
        "predict -m human missing",
        "predict -m human -f missing",
        "predict -m human -f {genome} -b missing",
        "predict -m human -f {genome} --accessible missing",
        "evaluate -m human {region} missing",
        "attn -m CTCF missing",
        "variants -m human -f {genome} missing",
        "variants -m human -f missing {region}",
        "train -o {tmp}/x.pt missing",
        "train -o {tmp}/x.pt -n missing {region}",
        "train -o {tmp}/x.pt A={region} B=missing",
    ],
)
def test_a_missing_input_is_reported_at_once(command, genome, tmp_path):
    """Before the model is loaded, or even torch."""
    code = SHOW_MODULES.format(
        arguments=["bertsnr", *command.format(genome=genome, region=DATA / "region.fa", tmp=tmp_path).split()]
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    message, modules = done.stderr.splitlines()
    assert message.endswith(": missing: No such file or directory")
    assert "torch" not in modules.split()


def test_commands_without_a_model_start_at_once(genome):
    """In CPU time, which other processes hardly change, and without coverage, which starts slowly."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}

    def seconds(*words):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *map(str, words)], check=True, stdout=subprocess.DEVNULL, env=env)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    for words in (
        ("bertsnr", "--help"),
        ("bertsnr-train", "--help"),
        ("bertsnr-models",),
        ("bertsnr-windows", "-q", "-f", genome, DATA / "sites.bed"),
        ("bertsnr-shuffle", DATA / "region.fa"),
    ):
        assert min(seconds(BIN / words[0], *words[1:]) for _ in range(3)) < 0.3, words


@pytest.mark.parametrize(
    ("given", "expected"), [({}, "0"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")]
)
def test_idle_threads_do_not_spin_unless_the_user_says_so(given, expected):
    """Two processes on one machine would slow each other down many times over."""
    code = "import os, atexit; atexit.register(lambda: print(os.environ.get('GOMP_SPINCOUNT'))); "
    code += "from bertsnr_tools.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "-V"], capture_output=True, text=True, env=given)
    assert done.stdout.split()[-1] == expected
