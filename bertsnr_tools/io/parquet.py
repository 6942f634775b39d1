"""Tables in the Parquet format, written in row groups as rows come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..errors import UsageError
from .files import OutputStream

GROUP_ROWS = 100_000  # rows in a row group, which are kept in memory


def check_pyarrow() -> None:
    """Check that pyarrow is installed.

    Raises
    ------
    UsageError : it is not.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise UsageError("Parquet requires pyarrow; pip install 'bertsnr_tools[parquet]'") from error


class ParquetTable:
    """Writes rows to a stream; see `open`."""

    def __init__(self, writer: Any, schema: Any):
        self._writer, self._schema = writer, schema
        self._rows: list[tuple[Any, ...]] = []

    @classmethod
    @contextmanager
    def open(cls, stream: OutputStream, columns: Mapping[str, str]) -> Iterator[ParquetTable]:
        """Begin a table, which is complete when the `with` block ends without an error.

        Parameters
        ----------
        stream : an open output, which this does not close
        columns : types by name: "category" (text, stored as a dictionary), "int64", "float32" or "float64"
        """
        import pyarrow as pa
        from pyarrow.parquet import ParquetWriter

        category = pa.dictionary(pa.int32(), pa.string())
        types = {name: category if kind == "category" else getattr(pa, kind)() for name, kind in columns.items()}
        schema = pa.schema(list(types.items()))
        with ParquetWriter(pa.PythonFile(_OpenFile(stream), mode="w"), schema) as writer:
            table = cls(writer, schema)
            yield table
            table._write_group()

    def add(self, row: tuple[Any, ...]) -> None:
        """Add a row; None is a missing value."""
        self._rows.append(row)
        if len(self._rows) >= GROUP_ROWS:
            self._write_group()

    def _write_group(self) -> None:
        import pyarrow as pa

        if self._rows:
            columns = [pa.array(values, type=field.type) for values, field in zip(zip(*self._rows), self._schema)]
            self._writer.write_table(pa.Table.from_arrays(columns, schema=self._schema))
            self._rows = []


class _OpenFile:
    """A stream as the file that pyarrow expects, which it cannot close."""

    closed = False

    def __init__(self, stream: OutputStream):
        self._stream = stream

    def write(self, data: Any) -> None:
        self._stream.write(bytes(data))

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        """Do nothing."""
