import gzip

from conftest import DATA


def test_golden(run, expected):
    outcome = run("shuffle", DATA / "region.fa")
    assert outcome.status == 0 and outcome.err == ""
    expected("shuffle.fa", outcome.out)


def test_pipes_and_gzip(run):
    text = (DATA / "genome.fa").read_bytes()
    reference = run("shuffle", DATA / "genome.fa").out
    assert len(reference) > len(text) / 2
    assert run("shuffle", stdin=text).out == run("shuffle", "-", stdin=gzip.compress(text)).out == reference


def test_copies_seed_and_k(run):
    text = b">a\nACGTTGCATGCATTGACCATGACGGTTACCATGAC\n>b\nACGATAGACATA\n"
    names = [line for line in run("shuffle", "-c", 3, stdin=text).out.split() if line[0] == ">"]
    assert names == [">a_shuf1", ">a_shuf2", ">a_shuf3", ">b_shuf1", ">b_shuf2", ">b_shuf3"]
    assert len({run("shuffle", "--seed", seed, stdin=text).out for seed in (1, 2, 3)}) == 3
    assert len({run("shuffle", "-k", k, stdin=text).out for k in (1, 2, 3)}) == 3


def test_copies_are_streamed():
    from bertsnr_tools.io.fasta import Record
    from bertsnr_tools.sequence.shuffle import shuffled_records

    shuffles = shuffled_records([Record("a", "", b"ACGTTGCA" * 700)], copies=10**9)
    assert [next(shuffles).name for _ in range(100)][-1] == "a_shuf100"
