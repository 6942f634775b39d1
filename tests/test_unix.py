"""What every command owes the shell: streams, statuses, and one clear line for bad input."""

import gzip
import os
import signal
import subprocess
import sys
import tempfile
import time

import pytest
import torch

from bertsnr_tools.io.fasta import Genome
from conftest import BIN, DATA

POSITIVE = ">a::chr1:0-20(+) site=3-9\nACGTTGCATGCATTGACCAT\n>b::chr2:0-20(+) site=3-9\nACGTTGCATGCATTGACCAT\n"


@pytest.fixture
def place(tmp_path, toy_model_file):
    """A folder with good files, to be spoiled by a case."""
    files_genome = (DATA / "genome.fa").read_bytes()
    files = {
        "genome.fa": files_genome,
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
        "plain.fa.gz": gzip.compress((DATA / "genome.fa").read_bytes()),
        "two.bed": b"chr1\t1\t9\nchr1\t9\n",
        "order.bed": b"chr1\t9\t5\n",
        "strand.bed": b"chr1\t5\t9\ta\t0\tx\n",
        "unknown.bed": b"1\t5\t9\n",
        "past.bed": b"chr3\t14000\t15001\n",
        "odd.fa": files_genome,
        "odd.fa.fai": b"\xff\xfenothing\n",
        "long.bed": b"chr1\t1000\t1150\n",
        "edge.bed": b"chr1\t0\t8\ta\n",
        "m.meme": b"MEME version 4\n\nALPHABET= ACGT\n\nMOTIF a\nletter-probability matrix: w= 1\n1 0 0 0\n\nMOTIF b\nletter-probability matrix: w= 1\n1 0 0 0\n",
        "none.meme": b"MEME version 4\n\nALPHABET= ACGT\n\n",
        "plain.fa": b">a\nACGTTGCATGCATTGACCAT\n",
        "mixed.fa": b">a\nACGTTGCATGCATTGACCAT\n>b\nACGT\n",
        "overlap.fa": b">c:0-9\nACGTTGCAT\n>c:5-14\nACGTTGCAT\n",
        "wide.fa": b">w site=3-9\n" + b"ACGTTGCATG" * 12 + b"\n>v\n" + b"ACGTTGCATG" * 12 + b"\n",
        "far.fa": b">p\n" + b"ACGTTGCATG" * 60 + b"\n",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)

    class Payload:
        def __reduce__(self):
            return (os.system, ("touch ran",))

    torch.save({"format": "bertsnr_tools model", "weights": Payload()}, tmp_path / "code.pt")
    (tmp_path / "stale.fa").write_bytes(files["genome.fa"])
    (tmp_path / "stale.fa.fai").write_text("chr1\t40000\t6\t60\t61\n")
    os.utime(tmp_path / "stale.fa.fai", (1, 1))
    return tmp_path


CASES = [
    # command line, status, what stderr says
    ("windows -f genome.fa empty", 1, "empty: holds no intervals"),
    ("windows -f genome.fa two.bed", 1, "two.bed, line 2: has 2 column(s), BED needs at least 3"),
    ("windows -f genome.fa order.bed", 1, "order.bed, line 1: start 9 is not below end 5"),
    ("windows -f genome.fa strand.bed", 1, "strand.bed, line 1: strand is 'x', needed is +, - or ."),
    ("windows -f genome.fa unknown.bed", 1, "unknown.bed, line 1: no sequence named '1' in the genome (it has chr1)"),
    ("windows -f genome.fa --strict long.bed", 1, "long.bed: 1 of 1 sites skipped: 1 longer than the window"),
    ("windows -f genome.fa nothere.bed", 1, "nothere.bed: No such file or directory"),
    ("windows -f nothere.fa sites.bed", 1, "nothere.fa: No such file or directory"),
    ("windows -f plain.fa.gz sites.bed", 1, "plain.fa.gz: is plain gzip"),
    ("windows -f stale.fa sites.bed", 1, "stale.fa.fai: is older than stale.fa"),
    ("windows -f odd.fa sites.bed", 1, "odd.fa.fai, line 1: is no FASTA index"),
    ("windows -f protein.fa sites.bed", 1, "protein.fa, line 2: holds 'L'"),
    ("windows -f sites.bed sites.bed", 1, "sites.bed, line 1: does not begin with a FASTA header"),
    ("windows sites.bed", 2, "a genome is needed: -f FASTA"),
    ("windows -f genome.fa -o genome.fa sites.bed", 2, "genome.fa: is an input too"),
    ("windows -f genome.fa -o sites.bed sites.bed", 2, "sites.bed: is an input too"),
    ("windows -f genome.fa -w 0 sites.bed", 2, "Invalid value for '-w' / '--window': 0 is not in the range"),
    ("windows -f genome.fa -o /dev/full sites.bed", 1, "/dev/full: No space left on device"),
    ("windows -f genome.fa -o nowhere/x.fa sites.bed", 1, "nowhere/x.fa: its folder is not there"),
    ("shuffle empty", 1, "empty: is empty, FASTA records are needed"),
    ("shuffle sites.bed", 1, "sites.bed, line 1: begins with 'c'"),
    ("shuffle protein.fa", 1, "protein.fa, line 2: holds 'L', needed are the letters ACGT"),
    ("shuffle cut.fa.gz", 1, "cut.fa.gz: "),
    ("shuffle -k 0 pos.fa", 2, "Invalid value for '-k'"),
    ("shuffle -k x pos.fa", 2, "'x' is not a valid integer"),
    ("shuffle -o pos.fa pos.fa", 2, "pos.fa: is an input too"),
    ("shuffle .", 1, ".: Is a directory"),
    ("shuffle --nonsense", 2, "--nonsense"),
    ("train pos.fa", 2, "Missing option '-o'"),
    ("train -o - pos.fa", 2, "cannot be written to standard output"),
    ("train -o pos.fa pos.fa", 2, "pos.fa: is an input too"),
    ("train -o x.pt -k 7 pos.fa", 2, "7 is not in the range 3<=x<=6"),
    ("train -o x.pt genome.fa", 1, "genome.fa: record 'chr1': a positive window needs site=a-b"),
    ("train -o x.pt pos.fa -n pos.fa", 1, "pos.fa: record 'a::chr1:0-20(+)': a negative window has no site="),
    ("train -o x.pt --val-chroms chr9 pos.fa", 2, "cannot be divided into training and validation"),
    ("train -o x.pt --plot x.doc pos.fa", 2, "x.doc: the name of a picture ends in .png, .pdf, .svg"),
    ("train -o x.pt --precision fp16 pos.fa", 2, "--precision fp16 is for prediction"),
    ("train -o nowhere/x.pt pos.fa", 1, "nowhere/x.pt: its folder is not there"),
    ("predict pos.fa", 2, "a model is needed: -m MODEL"),
    ("predict -m model.pt", 2, "either FASTA or a genome is needed"),
    (
        "predict -m model.pt -f genome.fa pos.fa",
        2,
        "pos.fa and -f genome.fa: either FASTA or a genome can be scanned, not both",
    ),
    ("predict -m genome.fa pos.fa", 1, "genome.fa: is FASTA: sequence, needed are motifs or a model"),
    ("predict -m model.pt -o sites.bb pos.fa", 2, "-o sites.bb: sites are written as BED"),
    ("predict -m model.pt --device cuda:0,cpu pos.fa", 2, "'cuda:0,cpu': several devices are cuda:N,cuda:N, each once"),
    ("predict -m model.pt --device cuda:0,cuda:99 pos.fa", 1, "is not there: this machine has"),
    ("predict -m", 2, "Option '-m' requires an argument. (see bertsnr-predict --help)"),
    ("motifs sites.bed", 2, "sites.bed: sites of a BED file need their sequence: -f FASTA"),
    ("predict -m model.pt -r chr1 pos.fa", 2, "-b and -r need a genome"),
    ("predict -m NOTF pos.fa", 1, "NOTF: no such file, and no shipped model of that name (shipped: "),
    ("predict -m text.pt pos.fa", 1, "text.pt: is no bertsnr_tools model"),
    ("predict -m half.pt pos.fa", 1, "half.pt: is no bertsnr_tools model"),
    ("predict -m code.pt pos.fa", 1, "code.pt: is no bertsnr_tools model: it holds more than tensors and plain values"),
    ("predict -m model.pt empty", 1, "empty: is empty, FASTA records are needed"),
    ("predict -m model.pt protein.fa", 1, "protein.fa, line 2: holds 'L'"),
    ("predict -m model.pt -f genome.fa -r chr1:5-3", 2, "needed is 1 <= from <= to <= 40000"),
    ("predict -m model.pt -f genome.fa -r chrX", 2, "no sequence named 'chrX' in the genome"),
    (
        "predict -m model.pt -f genome.fa -b unknown.bed",
        1,
        "unknown.bed, line 1: no sequence named '1' in the genome (it has chr1)",
    ),
    (
        "predict -m model.pt -f genome.fa -b past.bed",
        1,
        "past.bed, line 1: end 15001 is past the end of chr3 (15000 bp)",
    ),
    ("predict -m model.pt -s 101 pos.fa", 2, "-s 101 is longer than the window of TOY, 100 bp"),
    (
        "predict -m model.pt -t 1.5 pos.fa",
        2,
        "'1.5' is not a number between 0 and 1, p= with one, q= with one, or score= with a number",
    ),
    ("predict -m model.pt -t p=0 pos.fa", 2, "'p=0' is not a number between 0 and 1"),
    ("predict -m m.meme -t score=high pos.fa", 2, "'score=high' is not a number"),
    ("predict -m model.pt -t p=0.01 pos.fa", 2, "TOY was trained without natural windows, so p-values are not known"),
    ("predict -m none.meme pos.fa", 1, "none.meme: holds no motif"),
    ("predict -m plain.fa pos.fa", 1, "plain.fa: is FASTA: sequence, needed are motifs or a model"),
    ("attn -m m.meme pos.fa", 1, "the model a is of the kind matrix, which has no attention"),
    ("predict -m model.pt --device tpu pos.fa", 2, "'tpu' is not auto, cpu, cuda or cuda:N"),
    ("predict -m model.pt --device cuda:77 pos.fa", 1, "device 'cuda:77' is not there"),
    ("predict -m model.pt -o model.pt pos.fa", 2, "model.pt: is an input too"),
    ("train -o x.pt -f genome.fa --background bg.fa pos.fa", 2, "natural windows come from -f or from --background"),
    ("train -o x.pt --exclude sites.bed pos.fa", 2, "--exclude goes with -f"),
    ("train -o x.pt --prefilter pos.fa", 2, "--natural, --hard-negatives and --prefilter need natural windows"),
    ("train -o x.pt --prefilter --arch deepsnr --background plain.fa pos.fa", 2, "--arch deepsnr has no prefilter"),
    ("train -o x.pt --hard-negatives pos.fa", 2, "--natural, --hard-negatives and --prefilter need natural windows"),
    (
        "windows --background -f genome.fa unknown.bed",
        1,
        "unknown.bed, line 1: no sequence named '1' in the genome (it has chr1)",
    ),
    (
        "windows --background --exclude unknown.bed -f genome.fa sites.bed",
        1,
        "unknown.bed, line 1: no sequence named '1' in the genome (it has chr1)",
    ),
    (
        "train -o x.pt --folds 3 --hard-negatives -f genome.fa pos.fa",
        2,
        "--folds trains its models once, --hard-negatives this one twice",
    ),
    ("train -o x.pt --natural 2 pos.fa", 2, "--natural, --hard-negatives and --prefilter need natural windows"),
    ("train -o genome.fa -f genome.fa pos.fa", 2, "genome.fa: is an input too"),
    ("train -o x.pt --background pos.fa pos.fa", 1, "pos.fa: record 'a::chr1:0-20(+)': a negative window has no site="),
    ("train -o x.pt --arch deepsnr -k 4 pos.fa", 2, "--arch deepsnr reads single bases"),
    ("pretrain pos.fa", 2, "Missing option '-o'"),
    ("pretrain -o enc -", 2, "neither can be a standard stream"),
    ("pretrain -o enc empty", 1, "empty: is empty, FASTA records are needed"),
    ("pretrain -o enc nothere.fa", 1, "nothere.fa: No such file or directory"),
    ("pretrain -o enc pos.fa", 1, "pos.fa: hold no 100 bases of ACGT in a row"),
    ("pretrain -o genome.fa pos.fa", 2, "genome.fa: is there already and is no folder of an encoder"),
    ("pretrain -o pos.fa pos.fa", 2, "pos.fa: is an input too"),
    ("pretrain -o enc -w 2 genome.fa", 2, "-w 2: the encoder reads 3 to"),
    ("pretrain -o enc --encoder nothere genome.fa", 1, "nothere: no such folder"),
    ("evaluate pos.fa", 2, "Missing option '-m'"),
    ("evaluate -m model.pt", 2, "Missing argument 'FASTA…'"),
    (
        "evaluate -m model.pt plain.fa",
        1,
        "plain.fa: holds no window with a site (site=a-b in its header, as `bertsnr windows` writes it)",
    ),
    ("evaluate -m model.pt wide.fa", 1, "wide.fa: windows are 120 bp, the model TOY reads 3 to 100 bp"),
    ("evaluate -m model.pt mixed.fa", 1, "mixed.fa: record 'b' is 4 bp, needed are windows of 20 bp"),
    ("evaluate -m text.pt pos.fa", 1, "text.pt: is no bertsnr_tools model"),
    ("evaluate -m model.pt --plot x.doc pos.fa", 2, "x.doc: the name of a picture ends in"),
    ("evaluate -m model.pt - -", 2, "standard input can be read only once"),
    ("motifs", 2, "Missing argument 'BED|FASTA'"),
    ("motifs -f genome.fa empty", 1, "empty: holds no sites"),
    ("motifs -f genome.fa two.bed", 1, "two.bed, line 2: has 2 column(s), BED needs at least 3"),
    ("motifs -f genome.fa unknown.bed", 1, "unknown.bed, line 1: no sequence named '1' in the genome (it has chr1)"),
    ("motifs -f genome.fa past.bed", 1, "past.bed, line 1: end 15001 is past the end of chr3 (15000 bp)"),
    (
        "motifs -f genome.fa --width 10 edge.bed",
        1,
        "edge.bed: no motif can be made: no instance was found (1 too near to the end of their sequence",
    ),
    ("motifs -f genome.fa -m model.pt sites.bed", 2, "sites of a BED file are called already: either -f or -m"),
    ("motifs plain.fa", 1, "plain.fa: record 'a': a positive window needs site=a-b"),
    ("motifs mixed.fa", 1, "mixed.fa: record 'a': a positive window needs site=a-b"),
    ("motifs -m model.pt -t 0.999999 plain.fa", 1, "plain.fa: no motif can be made: no instance was found"),
    ("motifs -m model.pt -m model.pt plain.fa", 2, "2 models are named TOY"),
    ("motifs -m model.pt -s 101 plain.fa", 2, "-s 101 is longer than the window of TOY, 100 bp"),
    ("motifs --width 2 pos.fa", 2, "2 is not in the range"),
    ("motifs --compare none.meme pos.fa", 1, "none.meme: holds no motif"),
    ("motifs --compare pos.fa pos.fa", 1, "pos.fa: is FASTA: sequence, needed are motifs or a model"),
    ("motifs --compare gone.meme pos.fa", 1, "gone.meme: no such file (JASPAR's matrices are called jaspar, "),
    ("motifs --compare jaspar1999 pos.fa", 2, "--compare jaspar1999: pyjaspar has jaspar2014, "),
    ("motifs --logo x.gif pos.fa", 2, "x.gif: the name of a picture ends in .png, .pdf, .svg"),
    ("motifs --instances x.txt pos.fa", 2, "x.txt: the name of an instances file ends in .bed or .fa"),
    ("motifs -o x.meme --instances x.meme pos.fa", 2, "x.meme: is named for two outputs"),
    ("motifs -o pos.fa pos.fa", 2, "pos.fa: is an input too"),
    ("motifs -o /dev/full pos.fa", 1, "/dev/full: No space left on device"),
    ("attn pos.fa", 2, "Missing option '-m'"),
    ("attn -m model.pt empty", 1, "empty: is empty, FASTA records are needed"),
    ("attn -m text.pt pos.fa", 1, "text.pt: is no bertsnr_tools model"),
    ("attn -m model.pt --head 9 pos.fa", 2, "--head 9: the model TOY has 4"),
    ("attn -m model.pt -s 101 pos.fa", 2, "-s 101 is longer than the window of TOY, 100 bp"),
    (
        "attn -m model.pt --format tsv -o x.tsv mixed.fa",
        1,
        "mixed.fa: record 'b' is 4 bp, the rows of a table need one length, here 20 bp",
    ),
    ("attn -m model.pt --plot x.png mixed.fa", 1, "mixed.fa: records of several lengths without labelled sites"),
    ("attn -m model.pt --plot x.doc plain.fa", 2, "x.doc: the name of a picture ends in"),
    (
        "attn -m model.pt --html x.html pos.fa",
        1,
        "pos.fa: holds 2 records, --html can show one: samtools faidx cuts one out",
    ),
    (
        "attn -m model.pt --plot-layers x.png far.fa",
        1,
        "far.fa: record 'p' is 600 bp, --plot-layers can show up to 500: samtools faidx cuts a piece out",
    ),
    ("attn -m model.pt --motif m.meme plain.fa", 2, "--motif is drawn by --plot FILE"),
    ("attn -m model.pt --plot x.png --motif none.meme plain.fa", 1, "none.meme: holds no motif"),
    (
        "attn -m model.pt --plot x.png --motif m.meme plain.fa",
        1,
        "m.meme: holds 2 motifs, and not one alone is named TOY",
    ),
    (
        "attn -m model.pt --bigwig x.bw overlap.fa",
        1,
        "x.bw: bigWig holds one value for a base, but c:5-6 has several: leave sequence that overlaps out",
    ),
    ("attn -m model.pt --bigwig - plain.fa", 2, "a bigWig file cannot be written to standard output"),
    ("attn -m model.pt --plot x.png --html x.png plain.fa", 2, "x.png: is named for two outputs"),
]


@pytest.mark.parametrize(("line", "status", "problem"), CASES, ids=[case[0] for case in CASES])
def test_bad_input_gets_one_clear_line(run_here, place, line, status, problem):
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    command, *arguments = line.split()
    outcome = run_here(command, *arguments)
    assert outcome.status == status, outcome.err
    lines = outcome.err.splitlines()
    assert problem in lines[-1] and lines[-1].startswith(f"bertsnr-{command}: ") and "Traceback" not in outcome.err
    assert len([text for text in lines if "windows in an epoch" not in text]) == 1, outcome.err
    after = {path.name: path.read_bytes() for path in place.iterdir() if path.suffix not in (".fai", ".gzi")}
    assert after == {name: content for name, content in before.items() if not name.endswith(".fai")}


def test_the_command_before_commands(run):
    unknown = run("", "predcit", "-m", "CTCF")
    assert unknown.status == 2 and unknown.err.startswith(
        "bertsnr: no command 'predcit', did you mean predict? (commands: windows, shuffle, "
    )
    lacking = run("", "predict", "-m")
    assert (
        lacking.status == 2
        and lacking.err == "bertsnr predict: Option '-m' requires an argument. (see bertsnr predict --help)\n"
    )
    alone = run("")
    assert alone.status == 2 and alone.out == "" and alone.err == run("", "--help").out


def test_help_is_in_groups_and_completion_knows_commands_and_options(place):
    text = shell("bertsnr predict --help", place).stdout
    assert "\x1b" not in text and text.index("Options:") < text.index("--bigwig") < text.index("Speed:") < text.index(
        "--device"
    ) < text.index("Messages:") < text.index("--quiet")
    shown = shell(
        "COMP_WORDS='bertsnr pre' COMP_CWORD=1 _BERTSNR_COMPLETE=bash_complete bertsnr; COMP_WORDS='bertsnr-train --hard' COMP_CWORD=1 _BERTSNR_TRAIN_COMPLETE=bash_complete bertsnr-train",
        place,
    ).stdout
    assert shown.split() == ["plain,pretrain", "plain,predict", "plain,--hard-negatives"]
    for words, wanted in (
        ("-m C", ["plain,CDX2", "plain,CTCF"]),
        ("-m ./C", ["file,./C"]),
        ("-m CTCF reg", ["file,reg"]),
        ("-f gen", ["file,gen"]),
    ):
        count = len(words.split())
        shown = shell(
            f"COMP_WORDS='bertsnr predict {words}' COMP_CWORD={count + 1} _BERTSNR_COMPLETE=bash_complete bertsnr",
            place,
        ).stdout
        assert shown.split() == wanted, words


def test_a_missing_index_in_a_folder_that_cannot_be_written(place, monkeypatch):
    """Root may write anywhere, so the folder's refusal is played."""
    from bertsnr_tools.errors import DataError

    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryDirectory", refuse)
    with pytest.raises(
        DataError,
        match=r"genome.fa: has no index, and none can be made beside it \(Permission denied\): run samtools faidx",
    ):
        Genome(str(place / "genome.fa"))


COMMANDS = [
    ("windows", "-q", "-f", "genome.fa", "many.bed"),
    ("shuffle", "genome.fa"),
    ("predict", "-m", "model.pt", "genome.fa"),
]


def shell(line, place):
    return subprocess.run(
        ["bash", "-c", line],
        cwd=place,
        env={"PATH": f"{BIN}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("command", COMMANDS, ids=[command[0] for command in COMMANDS])
def test_streams(place, command):
    (place / "many.bed").write_text("".join(f"chr1\t{i}\t{i + 19}\n" for i in range(1000, 9000)))
    line = f"bertsnr {' '.join(command)}"
    full = shell(f"{line} > /dev/full", place)
    assert (full.returncode, full.stderr) == (1, f"bertsnr {command[0]}: standard output: No space left on device\n")
    closed = shell(f"{line} >&-", place)
    assert (closed.returncode, closed.stderr) == (1, f"bertsnr {command[0]}: standard output: is closed\n")
    reader_gone = shell(f"{line} | head -c 5; exit ${{PIPESTATUS[0]}}", place)
    assert reader_gone.stderr == "" and len(reader_gone.stdout) == 5 and reader_gone.returncode in (0, 1)


@pytest.mark.parametrize(
    "command",
    [
        "motifs -o m.meme --compare jaspar --logo x.svg windows.fa",
        "evaluate -m model.pt --json x.json --plot x.svg windows.fa",
    ],
)
def test_other_files_are_whole_when_the_table_finds_no_reader(place, command):
    (place / "windows.fa").write_bytes((DATA / "expected" / "windows.fa").read_bytes())
    full = shell(f"bertsnr {command} > /dev/full", place)
    assert full.returncode == 1 and full.stderr.endswith("standard output: No space left on device\n")
    assert (
        "</svg>" in (place / "x.svg").read_text()
        and (place / ("m.meme" if command.startswith("motifs") else "x.json")).exists()
    )


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_runs_leave_nothing_behind(place, number, status):
    # a suite that runs in the background of a script inherits that SIGINT is ignored; the command shall not
    heard = {"preexec_fn": lambda: signal.signal(number, signal.SIG_DFL)}
    process = subprocess.Popen(
        [BIN / "bertsnr-shuffle", "-o", place / "out.fa", "-"], stdin=subprocess.PIPE, stderr=subprocess.PIPE, **heard
    )
    process.stdin.write(b">a\n" + b"ACGTAGCTAGCA\n" * 200_000)
    process.stdin.flush()
    deadline = time.time() + 60
    while not list(place.glob("out.fa*")) and time.time() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate()
    assert process.returncode == status and b"Traceback" not in err
    assert not list(place.glob("out.fa*"))


def test_a_device_without_enough_memory_is_an_error_in_one_line(run_here, place, monkeypatch):
    def scan(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("bertsnr_tools.inference.scan", scan)
    outcome = run_here("predict", "-m", "model.pt", "plain.fa")
    assert (
        outcome.status == 1
        and outcome.err
        == "bertsnr-predict: out of memory on the device: a smaller --batch-size needs less, and --device cpu none of it\n"
    )


def modules_of(run_arguments):
    code = f"import sys; sys.argv = {run_arguments!r}\ntry:\n    from bertsnr_tools.cli import main; main()\nexcept SystemExit: pass\nprint(*sorted(set(m.split('.')[0] for m in sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return set(done.stderr.splitlines()[-1].split())


def test_help_and_what_needs_no_model_start_without_torch(genome):
    for name in ("", "windows", "shuffle", "pretrain", "train", "predict", "evaluate", "motifs", "attn"):
        assert not modules_of(["bertsnr", *([name] if name else []), "--help"]) & {
            "torch",
            "transformers",
            "numpy",
            "pysam",
            "rich",
        }
    used = modules_of(["bertsnr", "windows", "-f", str(genome), str(DATA / "sites.bed")]) | modules_of(
        ["bertsnr", "shuffle", str(DATA / "region.fa")]
    )
    assert {"numpy", "pysam"} <= used and not used & {"torch", "transformers", "rich", "matplotlib"}


def test_help_answers_at_once():
    def best(*words):
        times = []
        for _ in range(5):
            start = time.perf_counter()
            subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
            times.append(time.perf_counter() - start)
        return min(times)

    bare = best("-c", "pass")
    for name in ("bertsnr", "bertsnr-train", "bertsnr-predict"):
        assert best(str(BIN / name), "--help") - bare < 0.4
