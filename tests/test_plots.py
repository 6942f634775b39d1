import numpy as np
import pytest

from bertsnr_tools.attention import align_rows
from bertsnr_tools.errors import DataError, UsageError
from bertsnr_tools.io.motif_files import Motif
from bertsnr_tools.metrics import Ranking
from bertsnr_tools.motifs.comparison import Match
from bertsnr_tools.plots.curves import plot_curves, plot_training
from bertsnr_tools.plots.heatmaps import MAX_ROWS, column_means, plot_heatmap, plot_matrix
from bertsnr_tools.plots.logos import plot_logos
from bertsnr_tools.plots.profiles import plot_profile
from bertsnr_tools.plots.style import check_plot

RNG = np.random.default_rng(1)
MOTIF = Motif("M$1$", np.eye(4) * 9 + 1, "name")


@pytest.fixture
def draw(tmp_path):
    """Draw with a function of plots and return the text of the SVG."""

    def call(function, *arguments):
        path = tmp_path / "figure.svg"
        function(str(path), *arguments)
        return path.read_text()

    return call


def test_aligned_rows_and_their_means():
    rows = align_rows([np.array([1.0, 2, 3]), np.array([5.0, 6])], [2, 0])
    assert np.array_equal(rows, [[1, 2, 3, np.nan], [np.nan, np.nan, 5, 6]], equal_nan=True)
    assert column_means(rows).tolist() == [1, 2, 4, 6]
    assert np.isnan(column_means(np.full((2, 3), np.nan))).all()


def test_logos_with_and_without_matches(draw):
    match = Match(MOTIF, Motif("T", MOTIF.counts), 1e-7, 1e-5, 1e-4, -2, 2, "-")
    text = draw(plot_logos, [MOTIF, MOTIF], [match, None])
    assert "M$1$ (13 sites)" in text and "T, reverse complement, p = 1.0e-07" in text
    assert "reverse complement" not in draw(plot_logos, [MOTIF] * 16)


def test_curves(draw):
    labels = RNG.integers(0, 2, (5, 20))
    history = [{"epoch": 1, "loss": 0.5, "validation_loss": 0.6, "aupr": 0.7}]
    assert "CTCF" in draw(plot_training, "CTCF", history, labels, RNG.random((5, 20)))
    ranking = Ranking(labels.ravel(), labels.ravel() + RNG.random(100))
    text = draw(plot_curves, [("a on b.fa", ranking), ("c on b.fa", ranking)])
    assert text.count("a on b.fa: 1.000") == 2 and text.count("c on b.fa: 1.000") == 2
    assert text.count("chance") == 2  # once for each kind of curve


def test_heatmaps(draw):
    assert "0.25" in draw(plot_matrix, ["a"], ["b", "c"], [[0.25, 0.5]], "AUPR")
    values = np.full((MAX_ROWS + 500, 6), np.nan, dtype=np.float32)
    values[:, 1:4] = RNG.random((len(values), 3))
    text = draw(plot_heatmap, "title", values, -2, "bp from the site")
    assert "1,500 sequences" in text and "bp from the site" in text


def test_profile(draw):
    values = RNG.random(8)
    text = draw(plot_profile, "title", b"ACGTNACG", values, [(1, 5)], MOTIF)
    assert text.count("called site") == 1 and "M$1$ name" in text
    assert "no site was called" in draw(plot_profile, "title", b"ACGTNACG", values, [], MOTIF)


def test_figure_names_are_checked():
    check_plot("x.PNG", logos=True)
    with pytest.raises(UsageError, match="x.gif: the name of a figure must end in .png, .pdf or .svg"):
        check_plot("x.gif")


@pytest.mark.parametrize("name", ["x.png", "x.svg", "x.pdf"])
def test_a_figure_on_a_full_disk_is_an_error_of_its_file(tmp_path, file_limit, name):
    with file_limit(2_000), pytest.raises(DataError, match=f"{name}: File too large"):
        plot_logos(str(tmp_path / name), [MOTIF], [None])
    assert not list(tmp_path.iterdir())
