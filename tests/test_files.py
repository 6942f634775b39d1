import errno
import gzip
import io
import os
import zlib
from types import SimpleNamespace

import pysam
import pytest

from bertsnr_tools.errors import DataError, UsageError
from bertsnr_tools.io.bgzip import block_index
from bertsnr_tools.io.files import check_output, check_regular, index_file, open_input, open_output, replace_atomically
from bertsnr_tools.io.tracks import check_bigwig
from bertsnr_tools.plots.style import check_plot
from bertsnr_tools.training.pretrain import check_encoder_directory


def test_files_are_replaced_atomically(tmp_path):
    path = tmp_path / "out.bed"
    path.write_text("old")
    path.chmod(0o640)
    with pytest.raises(KeyError), open_output(str(path)) as stream:
        stream.write(b"half")
        raise KeyError
    assert path.read_text() == "old"
    with open_output(str(path)) as stream:
        stream.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["out.bed"]


def test_new_files_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        with open_output(str(tmp_path / "new")) as stream:
            stream.write(b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o640


def test_the_temporary_file_has_an_unpredictable_name_and_is_never_a_link(tmp_path, monkeypatch):
    path = str(tmp_path / "out")
    names = set()
    for _ in range(2):
        with replace_atomically(path) as temporary:
            names.add(temporary)
    assert len(names) == 2
    # even a guessed name is not followed
    (tmp_path / "victim").write_text("precious")
    monkeypatch.setattr(os, "urandom", bytes)
    (tmp_path / f"out.{bytes(8).hex()}.tmp").symlink_to(tmp_path / "victim")
    with pytest.raises(DataError, match="out: File exists"), open_output(path) as stream:
        stream.write(b"x")
    assert (tmp_path / "victim").read_text() == "precious"


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with open_output(str(tmp_path / "link")) as stream:
        stream.write(b"new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "target").read_text() == "new"


def test_gz_is_bgzip_and_reads_back(tmp_path):
    path = str(tmp_path / "out.bed.gz")
    with open_output(path) as stream:
        stream.write(b"chr1\t1\t2\n" * 9999)
    assert gzip.open(path).read() == b"chr1\t1\t2\n" * 9999
    pysam.tabix_index(path, preset="bed", keep_original=True)
    with open_input(path) as stream:
        assert stream.readline() == b"chr1\t1\t2\n"


def test_full_disk_and_missing_directory(tmp_path):
    with pytest.raises(DataError, match="/dev/full: No space left on device"), open_output("/dev/full") as stream:
        stream.write(b"x" * 100)
    with (
        pytest.raises(DataError, match="no/out: No such file or directory"),
        open_output(str(tmp_path / "no" / "out")) as stream,
    ):
        stream.write(b"x")


@pytest.mark.parametrize("name", ["out", "out.gz"])
def test_a_disk_that_fills_up_leaves_no_file_and_no_other_message(tmp_path, file_limit, capfd, name):
    with (
        file_limit(100_000),
        pytest.raises(DataError, match=f"{name}: File too large"),
        open_output(str(tmp_path / name)) as stream,
    ):
        for _ in range(10):
            stream.write(os.urandom(60_000))
    assert not os.listdir(tmp_path) and capfd.readouterr().err == ""


def test_errors_of_the_block_name_the_file(tmp_path):
    """Also where a library hides the cause behind its own exception."""
    with pytest.raises(DataError, match="x: No space left on device"), replace_atomically(str(tmp_path / "x")):
        try:
            raise OSError(28, "No space left on device")
        except OSError:
            raise RuntimeError("unexpected position")  # noqa: B904
    with pytest.raises(RuntimeError, match="another"), replace_atomically(str(tmp_path / "x")):
        raise RuntimeError("another")
    assert not os.listdir(tmp_path)


def test_the_cause_that_htslib_does_not_give(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError("building of index failed")

    (tmp_path / "x.bed.gz").write_bytes(b"")
    monkeypatch.setattr(pysam, "tabix_index", fail)
    with pytest.raises(DataError, match="x.bed.gz.tbi: building of index failed"):
        index_file(str(tmp_path / "x.bed.gz"), "bed")
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_bavail=0))
    with pytest.raises(DataError, match="x.bed.gz.tbi: No space left on device"):
        index_file(str(tmp_path / "x.bed.gz"), "bed")


def test_inputs_that_cannot_be_opened(tmp_path):
    for path, problem in ((tmp_path, "Is a directory"), (tmp_path / "no", "No such file")):
        with pytest.raises(DataError, match=problem), open_input(str(path)):
            pass


def test_an_output_is_never_an_input(tmp_path):
    path = tmp_path / "a"
    path.write_text("x")
    (tmp_path / "b").hardlink_to(path)
    for name in (path, tmp_path / "b"):
        with pytest.raises(UsageError, match="is also an input"):
            check_output(str(name), [None, "-", str(path)])
    check_output("-", [str(path), "-"])
    check_output(str(tmp_path / "new"), [str(path), str(tmp_path / "new")])


@pytest.mark.parametrize("path", ["/proc/x.bed", "nowhere/x", "directory", "", "x" * 300])
def test_an_output_that_cannot_be_written_is_found_before_the_work(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "directory").mkdir()
    with pytest.raises(DataError):
        check_output(path, [])
    assert os.listdir(tmp_path) == ["directory"] and not os.listdir(tmp_path / "directory")


def test_checking_an_output_changes_nothing(tmp_path):
    (tmp_path / "old").write_text("old")
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "old", tmp_path / "new", tmp_path / "pipe", "/dev/null", "-"):
        check_output(str(path), [])
    assert sorted(os.listdir(tmp_path)) == ["old", "pipe"] and (tmp_path / "old").read_text() == "old"


def test_only_regular_files_are_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in ("/dev/null", str(tmp_path / "pipe"), str(tmp_path)):
        with pytest.raises(DataError, match="is not a regular file"), replace_atomically(path):
            pass


def test_outputs_that_replace_a_file_are_found_before_the_work(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(UsageError, match="pipe.png: a model must be a regular file; give another"):
        check_regular(str(tmp_path / "pipe.png"), "a model")
    for check in (check_plot, check_bigwig, check_encoder_directory):
        with pytest.raises(UsageError, match="pipe.png: "):
            check(str(tmp_path / "pipe.png"))
    check_encoder_directory(str(tmp_path / "new"))


def test_a_rewritten_file_loses_its_indexes(tmp_path):
    (tmp_path / "g.fa").write_text(">a\nAC\n")
    (tmp_path / "g.fa.fai").write_text("a\t2\t3\t2\t3\n")
    with pytest.raises(KeyError), open_output(str(tmp_path / "g.fa")):
        raise KeyError
    assert (tmp_path / "g.fa.fai").exists()
    with open_output(str(tmp_path / "g.fa")) as stream:
        stream.write(b">b\nACGT\n")
    assert os.listdir(tmp_path) == ["g.fa"]


def test_byte_order_marks_are_skipped_in_gzip_too(tmp_path):
    text = b"\xef\xbb\xbfab\n"
    (tmp_path / "a").write_bytes(text)
    (tmp_path / "b").write_bytes(gzip.compress(text))
    for name in "ab":
        with open_input(str(tmp_path / name)) as stream:
            assert stream.read() == b"ab\n"


def test_bgzip_blocks_are_read_by_others(tmp_path):
    content = os.urandom(70_000) + b"ACGT" * 50_000
    with open_output(str(tmp_path / "x.gz")) as stream:
        for begin in range(0, len(content), 999):
            stream.write(content[begin : begin + 999])
    assert gzip.open(tmp_path / "x.gz").read() == content
    with pysam.BGZFile(str(tmp_path / "x.gz")) as file:
        assert file.read(len(content) + 1) == content
    assert block_index((tmp_path / "x.gz").read_bytes())[:8] == b"\5" + bytes(7)


def no_space(*arguments):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("kind", [RuntimeError, zlib.error])
def test_an_error_after_a_full_disk_is_that_of_the_disk(tmp_path, kind):
    """Like torch.save, whose stream fails again when it ends."""
    with pytest.raises(DataError, match="x.pt: No space left on device"), replace_atomically(str(tmp_path / "x.pt")):
        try:
            no_space()
        finally:
            raise kind("unexpected pos 64 vs 0")
    with pytest.raises(kind), replace_atomically(str(tmp_path / "x.pt")):
        raise kind("another reason")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("name", ["x.bed", "x.bed.gz"])
def test_a_full_disk_at_the_end_is_one_error(tmp_path, monkeypatch, capfd, name):
    class Full(io.BytesIO):
        write = flush = no_space

    monkeypatch.setattr("bertsnr_tools.io.files.open", lambda *_: Full(), raising=False)
    with (
        pytest.raises(DataError, match=f"{name}: No space left on device"),
        open_output(str(tmp_path / name)) as stream,
    ):
        stream.write(b"chr1\t1\t2\n")
    assert not os.listdir(tmp_path) and capfd.readouterr() == ("", "")


@pytest.mark.parametrize("piped", [False, True])
def test_bgzip_cut_at_a_block_is_an_error(tmp_path, piped):
    path = tmp_path / "a.gz"
    with pysam.BGZFile(str(path), "wb") as stream:
        stream.write(b"ACGT\n" * 30_000)
    whole = path.read_bytes()
    for content in (whole, whole + whole, whole[:-28]):
        name = str(path)
        path.write_bytes(content)
        if piped:
            read, write = os.pipe()
            os.write(write, content)
            os.close(write)
            name = f"/dev/fd/{read}"
        if content == whole[:-28]:
            with pytest.raises(DataError, match="has no bgzip EOF marker"), open_input(name) as stream:
                stream.read()
        else:
            with open_input(name) as stream:
                assert len(stream.read()) == 150_000 * (len(content) // len(whole))
        if piped:
            os.close(read)
