"""Motifs of JASPAR by name and id."""

import sys

import pytest

from bertsnr_tools.errors import DataError, UsageError
from bertsnr_tools.io.jaspar import is_jaspar_name, named_motifs


@pytest.mark.parametrize(
    ("name", "chosen", "others"),
    [
        ("jaspar2026:GATA3", "MA0037.5", "MA0037.4, MA0037.3, MA0037.2, MA0037.1"),  # the newest is called Gata3
        ("jaspar2022:gata3", "MA0037.4", "MA0037.3, MA0037.2, MA0037.1"),
        ("JASPAR2022:ma0037", "MA0037.4", "MA0037.3, MA0037.2, MA0037.1"),
        ("jaspar2022:ma0037.1", "MA0037.1", None),
        ("jaspar2026:CTCF", "MA0139.2", "MA0139.1, MA0531.2, MA0531.1, MA1929.2, MA1929.1 and 2 more"),
        ("jaspar2026:MAX", "MA0058.4", "MA0058.3, MA0058.2, MA0058.1, MA1897.2, MA1897.1 and 1 more"),  # of insects
        ("jaspar2026:SRF", "MA0083.3", "MA0083.2, MA0083.1, UN0470.2, UN0470.1"),  # not curated
        ("jaspar2014:TAL1::TCF3", "MA0091.1", None),
    ],
)
def test_a_name_stands_for_one_profile(caplog, name, chosen, others):
    caplog.set_level("INFO")
    (motif,) = named_motifs(name)
    assert motif.id == chosen and motif.counts.shape[1] == 4 and motif.counts.any(axis=1).all()
    expected = f"{name}: uses {chosen} ({motif.name}); others: {others}"
    assert caplog.messages == ([expected] if others else [])


def test_several_names():
    assert [motif.id for motif in named_motifs("jaspar2020:SRF,MA0139.1")] == ["MA0083.3", "MA0139.1"]


def test_what_is_a_name():
    assert all(map(is_jaspar_name, ("jaspar:x", "JASPAR2022:MA0037.1", "jaspar:TAL1::TCF3")))
    assert not any(map(is_jaspar_name, ("jaspar", "jaspar:", "jaspar20:x", "x/jaspar:x", "human:CTCF", "CTCF")))


@pytest.mark.parametrize(
    ("name", "error", "problem"),
    [
        ("jaspar2022:GATA33", DataError, "no profile 'GATA33' in this release of JASPAR; did you mean G"),
        ("jaspar2022:Xyzzy0", DataError, "no profile 'Xyzzy0' in this release of JASPAR$"),
        ("jaspar2022:SRF,", DataError, "no profile '' in this release of JASPAR"),
        ("jaspar2022:MA9999.1", DataError, "no profile 'MA9999.1' in this release of JASPAR$"),
        ("jaspar2022:MA0139.3", DataError, "no version 'MA0139.3' in this release of JASPAR; choose from MA0139.1$"),
        ("jaspar1999:SRF", UsageError, "jaspar1999: not a release in pyjaspar; choose from jaspar2014, "),
    ],
)
def test_names_that_do_not_exist(name, error, problem):
    with pytest.raises(error, match=problem):
        named_motifs(name)


def test_without_pyjaspar(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyjaspar", None)
    with pytest.raises(UsageError, match=r"jaspar: requires pyjaspar; pip install 'bertsnr_tools\[jaspar\]', or "):
        named_motifs("jaspar:SRF")
