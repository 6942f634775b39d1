"""Motif files as other programs write them."""

import gzip

import numpy as np
import pytest

from bertsnr_tools.errors import DataError
from bertsnr_tools.io.motif_files import BASES, Motif, is_motif_file, jaspar_text, meme_text, read_motif, read_motifs
from bertsnr_tools.models.device import Runtime
from bertsnr_tools.models.registry import load_models

HEAD = "MEME version 4\n\nALPHABET= ACGT\n\nstrands: + -\n\n"
ROWS = " 0.1 0.2 0.3 0.4\n 0.7 0.1 0.1 0.1\n 0.0 1.0 0.0 0.0\n"
PROBS = [[0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1], [0, 1, 0, 0]]
MATRIX = "letter-probability matrix: alength= 4 w= 3 nsites= 50 E= 0\n" + ROWS
RNA = 'ALPHABET "RNA" RNA-LIKE\nA "Adenine" CC0000\nC "Cytosine" 0000CC\nG "G" FFB300\nU "U" 008000\n'
DNA = 'ALPHABET "DNA" DNA-LIKE\nA "Adenine" CC0000 ~ T "Thymine" 008000\nC ~ G\nN "Any" = ACGT\nR = AG\n'
STARS = "*" * 80 + "\n"


@pytest.fixture
def read(tmp_path):
    """The motifs of a text; its file is recognised as a motif file, unless it is FASTA."""

    def of(text: str, name: str = "m.txt") -> list[Motif]:
        path = tmp_path / name
        path.write_text(text)
        assert is_motif_file(str(path))
        return read_motifs(str(path))

    return of


def consensus(motif: Motif) -> str:
    return "".join(BASES[base] for base in motif.counts.argmax(axis=1))


@pytest.mark.parametrize(
    ("text", "sites"),
    [
        (HEAD + "MOTIF M\n" + MATRIX, 50),
        ("\ufeff" + HEAD + "MOTIF M\n" + MATRIX, 50),
        ("# from a program\n\n \n" + HEAD + "MOTIF M\n" + MATRIX, 50),
        ("# DREME 5.0.5\n# command: dreme\n" + HEAD + "MOTIF M DREME-1\n# Word\n" + MATRIX, 50),
        (HEAD + "MOTIF\n M\n" + MATRIX, 50),
        (HEAD + "MOTIF M\n" + MATRIX.replace("nsites= 50", "nsites= 1e+05"), 100_000),
        (HEAD + "MOTIF M\n" + MATRIX.replace("nsites= 50", "nsites= 0"), 20),
        (HEAD + "MOTIF M\nletter-probability matrix:\n" + ROWS, 20),
        (HEAD + "MOTIF M\nletter-probability matrix: alength= 4\n" + ROWS + "URL http://example.org\n", 20),
        (HEAD.replace("ACGT", "ACGU") + "MOTIF M\n" + MATRIX, 50),
        (HEAD.replace("ALPHABET= ACGT\n", RNA + "END ALPHABET\n") + "MOTIF M\n" + MATRIX, 50),
        (HEAD.replace("ALPHABET= ACGT\n", DNA + "END ALPHABET\n") + "MOTIF M\n" + MATRIX, 50),
        (
            f"{STARS}MEME - Motif discovery tool\n{STARS}MEME version 5.5.7 (Release date: x)\n\nALPHABET= ACGT\n"
            f"{STARS}MOTIF M MEME-1\twidth =   3  sites =  50  llr = 9  E-value = 1.0e-005\n{STARS}"
            "\tMotif M MEME-1 position-specific scoring matrix\n---\nlog-odds matrix: alength= 4 w= 3 n= 9\n"
            "  -16   -30    89    9\n   1 2 3 4\n 4 5 6 7\n---\n"
            "\tMotif M MEME-1 position-specific probability matrix\n---\n" + MATRIX + "---\nTime  1.0 secs.\n",
            50,
        ),
    ],
)
def test_meme_files_as_programs_write_them(read, text, sites):
    (motif,) = read(text)
    assert motif.id == "M" and motif.sites == sites and np.allclose(motif.probs, PROBS)


def test_an_old_meme_title_has_no_name(read):
    (motif,) = read(HEAD + "MOTIF  1\twidth =   3   sites =  50\n" + MATRIX)
    assert (motif.id, motif.name) == ("1", "")


def test_protein_alphabets_are_refused(read):
    letters = "".join(f"{letter}\n" for letter in "ACDEFGHIKLMNPQRSTVWY")
    for alphabet in ("ALPHABET= ACDEFGHIKLMNPQRSTVWY\n", f'ALPHABET "Protein"\n{letters}END ALPHABET\n'):
        with pytest.raises(DataError, match="alphabet is 'ACDEFGHIKLMNPQRSTVWY'; expected ACGT or ACGU"):
            read("MEME version 4\n" + alphabet + "MOTIF M\n" + MATRIX)


SQUARE = np.array([[1, 97, 1, 1], [1, 1, 97, 1], [97, 1, 1, 1], [1, 1, 1, 97]])  # CGAT by position, GACT by base
TAB_ROWS = "\n".join("\t".join(map(str, row)) for row in SQUARE.tolist()) + "\n"
PROBABILITY_ROWS = TAB_ROWS.replace("97", "0.97").replace("1\t", "0.01\t").replace("\t1", "\t0.01")
UNEVEN = "10\t70\t10\t10\n10\t70\t10\t10\n0\t0\t100\t0\n0\t0\t100\t0\n"


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        (">CGAT\t1-CGAT\n" + PROBABILITY_ROWS, "x", "CGAT"),  # HOMER: the title is the consensus
        (">SGAN\t1-CGAT\t6.05\t-1782.9\t0\tT:100\n" + PROBABILITY_ROWS, "x", "CGAT"),  # HOMER: a threshold
        (">GACT\n" + TAB_ROWS, "x", "GACT"),
        (">X.H11MO.0.B\n" + TAB_ROWS, "x.pcm", "CGAT"),
        (">X\n" + TAB_ROWS, "x.motif.gz", "CGAT"),
        (">X\n" + TAB_ROWS, "x.cb", "CGAT"),
        (">X\n" + TAB_ROWS, "x.jaspar", "GACT"),
        (">X\n" + UNEVEN, "x", "CCGG"),  # rows have equal sums
        (">X\n0 3 79 40\n94 75 4 3\n1 0 3 4\n2 19 11 50\n", "x", "CCAT"),  # columns have similar sums
        (">X\n" + TAB_ROWS + ">Y\n" + TAB_ROWS + "97\t1\t1\t1\n", "x", "CGAT"),  # another matrix tells
        (">X\n" + TAB_ROWS + ">Y\n1 97\n1 1\n97 1\n1 1\n", "x", "GACT"),
        (">X\n" + "".join(f"{b} [{r} ]\n" for b, r in zip(BASES, TAB_ROWS.splitlines())), "x", "GACT"),
        (">X\n" + "".join(f"{b}: {r}\n" for b, r in zip("ACGU", TAB_ROWS.splitlines())), "x.motif", "GACT"),
    ],
)
def test_four_rows_are_bases_or_positions(tmp_path, text, name, expected):
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    assert consensus(read_motifs(str(path))[0]) == expected


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (">X.H11MO.0.B\n" + TAB_ROWS, "x.txt"),
        (">X\n" + PROBABILITY_ROWS, "x.pfm"),
        (">NNNN\n" + TAB_ROWS, "x"),
        (">GACT\t1\t6.05\n" + PROBABILITY_ROWS, "x.motif"),  # the consensus contradicts the title of HOMER
    ],
)
def test_four_rows_without_evidence_are_refused(tmp_path, text, name):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=":2: motif .* rows may be bases or positions; label the rows A, C, G and T"):
        read_motifs(str(tmp_path / name))


def test_rows_of_positions(read):
    homer = ">ASTTC\tfactor X(Zf)/Homer\t8.06\t-23791.5\t0\tT:314.0(12%),B:7(1%)\n" + ROWS
    (motif,) = read(homer)
    assert (motif.id, motif.name, motif.sites) == ("ASTTC", "factor_X(Zf)/Homer", 314)
    assert np.allclose(motif.probs, PROBS)
    (counts,) = read(">X_f1\n# WEIGHT: 3\n60 5 1 3\n3.5 68 3 1\n")
    assert counts.counts.tolist() == [[60, 5, 1, 3], [3.5, 68, 3, 1]]
    with pytest.raises(DataError, match=r":3: row 2 of motif 'X': expected 4 counts or probabilities \(not log odds\)"):
        read(">X\n1 2 3 4\n-1.2 0.3 0.4 1\n1 2 3 4\n")
    with pytest.raises(DataError, match=":3: row 2 of motif 'X': expected 4 counts"):
        read(">X\n1 2 3 4\n1 2 3\n1 2 3 4\n1 2 3 4\n1 2 3 4\n")


def test_probabilities_are_not_one_count(read):
    jaspar, bare = (
        read(">X\nA [0.1 0.7]\nC [0.2 0.1]\nG [0.3 0.1]\nU [0.4 0.1]\n"),
        read("1 0\n0 1\n0 0\n0 0\n", "a b.pfm"),
    )
    assert jaspar[0].sites == 20 and np.allclose(jaspar[0].probs, PROBS[:2])
    assert (bare[0].id, bare[0].sites, consensus(bare[0])) == ("a_b", 1, "AC")


def test_a_long_row_with_an_error_is_refused_at_once(read):
    with pytest.raises(DataError, match="row A of motif 'X': expected counts"):
        read(">X\n" + "1234567 " * 2000 + "x\n")


def test_transfac_cisbp_and_uniprobe(read):
    transfac = (
        "VV  x\nXX\nAC  M1\nXX\nID  V$FOO\nXX\nNA  FOO\nXX\nBF  species\nP0      A      C      G      T\n"
        "01     28      7     27      5      R\n02      1      2      3     60      T\nXX\n//\n"
        "ID  M2\nPO T G C A\n1 1 2 3 4\n//\n"
    )
    one, two = read(transfac)
    assert (one.id, one.name, one.counts.tolist()) == ("M1", "FOO", [[28, 7, 27, 5], [1, 2, 3, 60]])
    assert (two.id, two.name, two.counts.tolist()) == ("M2", "", [[4, 3, 2, 1]])
    with pytest.raises(DataError, match=":3: position 01 of motif 'M': expected 4 counts or probabilities"):
        read("ID M\nP0 A C G T\n01 1 2 3\n//\n")
    (cisbp,) = read("Pos\tA\tC\tG\tU\n1\t0.1\t0.2\t0.3\t0.4\n2\t0.7\t0.1\t0.1\t0.1\n", "M0111_1.02.txt")
    assert cisbp.id == "M0111_1.02" and np.allclose(cisbp.probs, PROBS[:2])
    rows = "A:\t0.1\t0.7\nC:\t0.2\t0.1\nG:\t0.3\t0.1\nT:\t0.4\t0.1\n"
    for text, name in ((rows, "m"), ("Protein: Hoxa1\tSeed k-mer: A\n" + rows, "Hoxa1"), ("X y\n\n" + rows, "X_y")):
        (uniprobe,) = read(text)
        assert uniprobe.id == name and np.allclose(uniprobe.probs, PROBS[:2])
    assert [motif.id for motif in read(rows + rows)] == ["m", "m-2"]


def test_biopython_reads_the_same(read, tmp_path):
    from Bio import motifs as biopython

    text = "ID  M1\nBF  species\nP0  A C G T\n01  28 7 27 5\n02  1 2 3 60\nXX\n//\n"
    (motif,) = read(text)
    with (tmp_path / "m.txt").open() as stream:
        (other,) = biopython.parse(stream, "TRANSFAC")
    assert np.array_equal(np.array([other.counts[letter] for letter in BASES]).T, motif.counts)


def test_two_matrices_of_one_name_get_different_names(read, tmp_path):
    same_id = HEAD + "MOTIF CTCF\n" + MATRIX + "MOTIF CTCF\n" + MATRIX
    assert [(m.id, m.label) for m in read(same_id)] == [("CTCF", "CTCF"), ("CTCF-2", "CTCF-2")]
    same_name = HEAD + "".join(f"MOTIF {title}\n{MATRIX}" for title in ("MA1 X", "MA2 X", "MA3 Y", "X"))
    expected = [("MA1", "X_MA1"), ("MA2", "X_MA2"), ("MA3", "Y"), ("X", "X")]
    assert [(m.id, m.label) for m in read(same_name, "n.meme")] == expected
    assert [m.label for m in read(jaspar_text([Motif("M", np.ones((2, 4)))] * 2))] == ["M", "M-2"]
    with pytest.raises(DataError, match="contains 2 motifs"):
        (tmp_path / "two.meme").write_text(HEAD + f"MOTIF MA1 X\n{MATRIX}MOTIF MA2 X\n{MATRIX}")
        read_motif(str(tmp_path / "two.meme"), "X")
    pytest.importorskip("lightmotif")
    paths = [str(tmp_path / "n.meme"), "CTCF", str(tmp_path / "n.meme")]
    names = [model.info.name for model in load_models(paths, Runtime())]
    assert len(set(names)) == 9 and names[4] == "CTCF"


NAME = "FOO\tBAR  class"
CGATA = Motif("M1", np.eye(4)[[1, 2, 0, 3, 0, 1, 2]] * 96 + 1, NAME)


def test_names_with_white_space_are_one_column(tmp_path, run):
    pytest.importorskip("lightmotif")
    rows = jaspar_text([CGATA]).splitlines(keepends=True)[1:]
    (tmp_path / "m.jaspar").write_text(f">M1\t{NAME}\n" + "".join(rows))
    (tmp_path / "s.fa").write_text(">s site=20-27\n" + "T" * 20 + "CGATACG" + "T" * 20 + "\n>n\n" + "T" * 47 + "\n")
    for kind, columns in (("bed", 6), ("bed9", 9), ("narrowpeak", 10)):
        out = run("predict", "-m", tmp_path / "m.jaspar", "--format", kind, tmp_path / "s.fa").out
        assert len(out.split()) == columns and out.split()[3] == "FOO_BAR_class"
    data = tmp_path / "a\tb.fa"
    (tmp_path / "s.fa").rename(data)
    lines = run("evaluate", "-m", tmp_path / "m.jaspar", data).out.splitlines()
    assert [len(line.split("\t")) for line in lines] == [len(lines[0].split("\t"))] * 2
    assert lines[1].split("\t")[0] == "FOO_BAR_class"


def test_names_in_motif_files_and_tables(read):
    from bertsnr_tools.motifs.comparison import HEADER, Match, comparison_table

    for text in (meme_text([CGATA]), jaspar_text([CGATA])):
        assert [(m.id, m.name) for m in read(text)] == [("M1", "FOO_BAR_class")]
    table = comparison_table([Match(CGATA, CGATA, 0.1, 0.1, 0.1, 0, 7, "+")])
    assert len(table.splitlines()[1].split()) == len(HEADER)


def test_a_model_with_a_space_in_its_name_is_one_column(tmp_path, run, toy_model):
    import torch

    from bertsnr_tools.models.bertsnr import BertSNR
    from bertsnr_tools.models.files import load_model, save_model

    model = BertSNR(toy_model.info)
    path = tmp_path / "my\tmodel.pt"
    save_model(str(path), model)
    content = torch.load(path, weights_only=True)
    torch.save({**content, "name": "MY TF"}, path)
    assert load_model(str(path)).info.name == "MY_TF"
    header, row = run("models", path).out.splitlines()
    assert len(row.split()) == len(header.split()) and row.split()[0] == "MY_TF"
