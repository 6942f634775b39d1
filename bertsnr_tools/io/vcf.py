"""VCF and BCF: rows with their text as it stands in the file (`VcfReader`), and annotated files (`VcfWriter`).

VCF is read and written as text, so that nothing of a row changes but its INFO column: htslib formats numbers in its own
way and drops or refuses what the header does not declare. It reads BCF, which it turns into text, and writes indexes.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import threading
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, BinaryIO, NamedTuple

from ..errors import DataError, UsageError
from .fields import decoded_text
from .files import (
    check_regular,
    delete_indexes,
    error_text,
    open_input,
    quiet_htslib,
    replace_atomically,
    text_lines,
)
from .intervals import Interval
from .outputs import Failures, KeptStream, SortOrder, index_if_sorted

COLUMNS = ("CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO")
INFO = COLUMNS.index("INFO")
LAST_POSITION = 1 << 40  # no chromosome is longer
_BASES = re.compile("[A-Za-z]+")
_BREAKEND = re.compile(r"[A-Za-z.]*[\[\]][^\[\]\s]+[\[\]][A-Za-z.]*|\.[A-Za-z]+|[A-Za-z]+\.")
_FORBIDDEN = re.compile(r"[%;=,|\s\x00-\x1f\x7f]")  # in one field of an INFO value


class VcfRow(NamedTuple):
    """A row of a VCF file.

    Attributes
    ----------
    fields : its columns as text, eight or more
    start : first base of REF, 0-based; -1 for POS 0
    number : of the line, or of the record in a BCF file, from 1; None where rows are found through an index
    """

    fields: Sequence[str]
    start: int
    number: int | None

    @property
    def chrom(self) -> str:
        return self.fields[0]

    @property
    def name(self) -> str:
        """The ID, "." when there is none."""
        return self.fields[2]

    @property
    def ref(self) -> str:
        """REF, upper case."""
        return self.fields[3].upper()

    @property
    def alts(self) -> list[str]:
        """The alternative alleles as they are written; empty where ALT is "."""
        return [] if self.fields[4] == "." else self.fields[4].split(",")

    def annotated(self, info: Mapping[str, str | None]) -> str:
        """The row as a line, with these entries in place of INFO entries of the same names; None is a flag."""
        entries = self.fields[INFO].split(";")
        kept = [entry for entry in entries if entry not in (".", "") and entry.split("=")[0] not in info]
        kept += [name if value is None else f"{name}={value}" for name, value in info.items() if value != ""]
        return "\t".join([*self.fields[:INFO], ";".join(kept) or ".", *self.fields[INFO + 1 :]]) + "\n"


def info_text(text: str) -> str:
    """Text as one field of an INFO value: what VCF or the fields of the value use as separators is percent-encoded."""
    return _FORBIDDEN.sub(lambda match: f"%{ord(match[0]):02X}", text)


class VcfReader:
    """Rows of a VCF or BCF file, plain, compressed or from a pipe; a context manager.

    Parameters
    ----------
    path : "-" is standard input
    regions : only rows whose POS lies in one of these, which requires a tabix or CSI index; None for all

    Attributes
    ----------
    header : lines that begin with ##, without line ends
    samples : names of the samples

    Raises
    ------
    DataError : not VCF or BCF, a damaged file or row, or a missing index.
    """

    def __init__(self, path: str, regions: Sequence[Interval] | None = None):
        self.path, self._regions = path, regions
        self.header: list[str] = []
        self.columns: list[str] = []
        self._source: Any = self._lines()
        try:
            self._read_header()
        except BaseException:
            self._source.close()
            raise

    def _read_header(self) -> None:
        path = self.path
        for _, text in self._source:
            if not text.startswith("##"):
                break
            self.header.append(text)
        else:
            text = ""
        if not text.startswith("#CHROM"):
            raise DataError("is not VCF or BCF: no line that begins with #CHROM before the first row", path)
        self.columns = text.split("\t")
        if tuple(self.columns[: len(COLUMNS)]) != tuple(f"#{name}" if name == "CHROM" else name for name in COLUMNS):
            problem = f"the header line has the columns {' '.join(self.columns)[:60]!r}"
            raise DataError(f"{problem}; expected {' '.join(COLUMNS)}, separated by tabs", path)

    @property
    def samples(self) -> list[str]:
        return self.columns[len(COLUMNS) + 1 :]

    def __enter__(self) -> VcfReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._source.close()

    def __iter__(self) -> Iterator[VcfRow]:
        for number, text in self._source:
            if text:
                yield self._row(text, number)

    def _row(self, text: str, number: int | None) -> VcfRow:
        fields = text.split("\t")
        if len(fields) != len(self.columns):
            problem = f"has {len(fields)} columns; expected {len(self.columns)}, as in the header, separated by tabs"
            raise DataError(problem, self.path, number)
        pos, ref = fields[1], fields[3]
        if not re.fullmatch("0*[0-9]{1,13}", pos) or int(pos) > LAST_POSITION:
            raise DataError(f"POS is {pos[:40]!r}; expected a whole number", self.path, number)
        if not _BASES.fullmatch(ref):
            raise DataError(f"REF is {ref[:40]!r}; expected bases", self.path, number)
        row = VcfRow(fields, int(pos) - 1, number)
        for alt in row.alts:
            if not (_BASES.fullmatch(alt) or is_symbolic(alt)):
                problem = f"ALT is {fields[4][:40]!r}; expected bases, *, <ID> or a breakend, separated by commas"
                raise DataError(problem, self.path, number)
        return row

    def _lines(self) -> Generator[tuple[int | None, str], None, None]:
        """Header and rows as text, with their numbers."""
        if self._regions is not None:
            yield from self._indexed_lines(self._regions)
            return
        with open_input(self.path) as stream:
            if stream.peek(3)[:3] != b"BCF":  # type: ignore[attr-defined]
                yield from text_lines(stream, self.path)
                return
            with _through_pipe(stream) as pipe:
                yield from self._bcf_lines(pipe, None)

    def _indexed_lines(self, regions: Sequence[Interval]) -> Iterator[tuple[int | None, str]]:
        import pysam

        index = index_of(self.path)
        with open_input(self.path) as stream:
            is_bcf = stream.peek(3)[:3] == b"BCF"  # type: ignore[attr-defined]
        if is_bcf:
            yield from self._bcf_lines(self.path, regions)
            return
        with self._htslib_errors(), pysam.TabixFile(self.path, index=index, encoding="latin-1") as file:
            yield from ((None, _decoded(line)) for line in file.header)
            for region in _in_order(regions, file.contigs):
                for line in file.fetch(region.chrom, region.start, region.end):
                    if region.start < int(line.split("\t", 2)[1]) <= region.end:
                        yield None, _decoded(line)

    def _bcf_lines(self, source: Any, regions: Sequence[Interval] | None) -> Iterator[tuple[int | None, str]]:
        import pysam

        with self._htslib_errors(), pysam.VariantFile(source) as file:
            yield from ((None, line) for line in str(file.header).splitlines())
            if regions is None:
                yield from ((number, str(record).rstrip("\n")) for number, record in enumerate(file, 1))
                return
            for region in _in_order(regions, [str(contig) for contig in file.header.contigs]):
                for record in file.fetch(region.chrom, region.start, region.end):
                    if region.start <= record.start < region.end:
                        yield None, str(record).rstrip("\n")

    @contextmanager
    def _htslib_errors(self) -> Iterator[None]:
        """htslib's errors as errors that name the file."""
        try:
            yield
        except BrokenPipeError:
            raise
        except (OSError, ValueError, NotImplementedError) as error:  # the last: plain gzip with an index
            if isinstance(error, DataError):
                raise
            raise DataError(f"is damaged, or its index does not match ({error})", self.path) from error


def _in_order(regions: Sequence[Interval], contigs: Sequence[str]) -> list[Interval]:
    """The regions on these chromosomes, in the order of the file."""
    number = {chrom: index for index, chrom in enumerate(contigs)}
    return sorted((one for one in regions if one.chrom in number), key=lambda one: (number[one.chrom], one.start))


def _decoded(line: str) -> str:
    """Text that was read as Latin-1."""
    return line if line.isascii() else decoded_text(line.encode("latin-1"))


def is_symbolic(alt: str) -> bool:
    """Whether an alternative allele has no sequence: `*`, `<ID>` or a breakend."""
    return alt == "*" or alt.startswith("<") and alt.endswith(">") or bool(_BREAKEND.fullmatch(alt))


def index_of(path: str) -> str:
    """The index of a VCF or BCF file.

    Raises
    ------
    UsageError : it has none, or is a pipe.
    """
    if path == "-" or not os.path.isfile(path):
        raise UsageError("-r and -b require an indexed file; standard input and pipes have no index")
    for ending in (".tbi", ".csi"):
        if os.path.exists(path + ending):
            return path + ending
    raise UsageError(f"-r and -b require an index of {path}; compress it with bgzip and run tabix -p vcf {path}")


@contextmanager
def _through_pipe(stream: BinaryIO) -> Iterator[Any]:
    """A stream as a pipe of the system, which htslib reads. Errors of the stream are raised when the block ends."""
    reader, writer = os.pipe()
    errors: list[Exception] = []

    def copy() -> None:
        try:
            with open(writer, "wb") as target:
                shutil.copyfileobj(stream, target)
        except BrokenPipeError:  # the reader has closed it
            pass
        except Exception as error:  # raised below, in the thread of the caller
            errors.append(error)

    thread = threading.Thread(target=copy, daemon=True)
    thread.start()
    try:
        with open(reader, "rb") as source:
            yield source
        thread.join()
    finally:
        if errors:
            raise errors[0]


class VcfWriter:
    """An annotated VCF file, or BCF if its name ends in `.bcf`, written atomically; a context manager.

    Compressed files get an index when their rows are sorted.

    Parameters
    ----------
    path : "-" is standard output; `.gz` is compressed with bgzip
    failures : receives an error of the file or its index
    """

    def __init__(self, path: str, failures: Failures):
        self._path, self._failures, self._order = path, failures, SortOrder()
        self._is_bcf = path.lower().endswith(".bcf")
        if self._is_bcf:
            check_regular(path, "a BCF file")
        self._stack = ExitStack()

    def __enter__(self) -> VcfWriter:
        target: Any = _Spool() if self._is_bcf else KeptStream(self._path, self._failures)
        self._stream = self._stack.enter_context(target)
        return self

    def write_header(self, reader: VcfReader, lines: Sequence[str], names: Collection[str]) -> None:
        """Write the header of the input with further lines at its end, without earlier lines of these INFO names."""
        earlier = tuple(f"##INFO=<ID={name}," for name in names)
        kept = [line for line in reader.header if not line.startswith(earlier)]
        self._write("".join(f"{line}\n" for line in [*kept, *lines, "\t".join(reader.columns)]))

    def write_rows(self, rows: Iterable[tuple[VcfRow, str]]) -> None:
        """Write rows, each with its text, and flush the stream."""
        lines = []
        for row, text in rows:
            self._order.add(row.chrom, row.start, row.start + len(row.fields[3]))
            lines.append(text)
        self._write("".join(lines))

    def _write(self, text: str) -> None:
        self._stream.write(text.encode())
        self._stream.flush()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if self._is_bcf and not error:
            with self._stack, self._failures.kept():
                _write_bcf(self._stream.path, self._path)
        else:
            self._stack.__exit__(kind, error, trace)
        if not error and (self._is_bcf or not self._stream.failed):
            index_if_sorted(self._path, self._order, "bcf" if self._is_bcf else "vcf", self._failures)


class _Spool:
    """A temporary file for text that becomes BCF at the end; a context manager."""

    def __enter__(self) -> _Spool:
        self._file = tempfile.NamedTemporaryFile(suffix=".vcf")
        self.path = self._file.name
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # what a full disk has refused is refused again
            self._file.close()

    def write(self, data: bytes) -> None:
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            problem = f"cannot store rows that become BCF ({error_text(error)}); set TMPDIR"
            raise DataError(problem, tempfile.gettempdir()) from error

    def flush(self) -> None:
        """Do nothing: `write` does."""


def _write_bcf(text: str, path: str) -> None:
    """Convert a VCF file to BCF, with bcftools: pysam's VariantFile adds fields to rows of symbolic alleles."""
    import pysam.bcftools

    with quiet_htslib(), replace_atomically(path) as temporary:
        try:
            pysam.bcftools.view("--no-version", "-O", "b", "-o", temporary, text, catch_stdout=False)
        except pysam.SamtoolsError as error:
            raise DataError(f"cannot be written as BCF: {_bcf_problem(text)}", path) from error
    delete_indexes(path)


def _bcf_problem(path: str) -> str:
    """The first contig, FILTER, INFO or FORMAT that a row of a VCF file has and its header lacks, or else a guess."""
    declared = {("contig", "."), *((kind, name) for kind in ("FILTER", "INFO", "FORMAT") for name in (".", "PASS", ""))}
    with open(path, errors="replace") as stream:
        for line in stream:
            if match := re.match(r"##(contig|FILTER|INFO|FORMAT)=<(?:.*?,)?ID=([^,>]+)", line):
                declared.add((match[1], match[2]))
            if not line.startswith("#"):
                chrom, pos, *_, filters, info, keys = f"{line.rstrip()}\t.".split("\t")[:9]
                used = [("contig", chrom), *(("FILTER", name) for name in filters.split(";"))]
                used += [("INFO", item.partition("=")[0]) for item in info.split(";")]
                used += [("FORMAT", key) for key in keys.split(":")]
                for kind, name in (one for one in used if one not in declared):
                    return f"{kind} {name!r} at {chrom}:{pos} is not in the header; declare it, or write .vcf.gz"
    return "the disk is full, or a row is not valid VCF"
