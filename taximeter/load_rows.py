"""Reads a file's rows as texts: CSV, TSV, NDJSON and Parquet, gzip too. No number is ever read through a float."""

import csv
import gzip
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.faults import unknown
from taximeter.load_mapping import Format

_PARQUET_ROWS: Final = 10_000
_SUFFIXES: Final[dict[str, Format]] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_DELIMITERS: Final = {"csv": ",", "tsv": "\t"}
_objects = msgspec.json.Decoder(dict[str, msgspec.Raw])


class FileError(ValueError):
    """A file that cannot be read on; the message says where and why."""


class Row(NamedTuple):
    """One row: its number from 1, the wanted columns' texts (None: null or absent), and its whole text."""

    number: int
    values: Sequence[str | None]
    text: bytes


def format_of(path: Path) -> Format:
    """The format that a file's name says. Raises: FileError."""
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in (".gz", ".gzip")]
    found = _SUFFIXES.get(suffixes[-1] if suffixes else "")
    if found is None:
        raise FileError(f"{path}: its name does not say what it holds; end it in {', '.join(_SUFFIXES)} (and .gz)")
    return found


@dataclass(slots=True)
class _Counted:
    """Lines of a CSV file, and those that the record at hand is made of."""

    lines: Iterator[str]
    taken: list[str]

    def __iter__(self) -> "_Counted":
        return self

    def __next__(self) -> str:
        line = next(self.lines)
        self.taken.append(line)
        return line


class Rows:
    """The rows of one file. A context manager; iterate once. `json`: values are JSON texts, not plain ones.

    Raises (anywhere): FileError, OSError.
    """

    def __init__(
        self, path: Path, format: Format, gzipped: bool, delimiter: str | None = None, whole: bool = False
    ) -> None:
        """`whole`: the whole text of each row is wanted."""
        self.path = path
        self.format = format
        self.json = format == "ndjson"
        self.bytes_total = path.stat().st_size
        self._gzipped = gzipped
        self._delimiter = delimiter or _DELIMITERS.get(format, ",")
        self._whole = whole
        self._stack = ExitStack()
        self._raw: IO[bytes] | None = None
        self._share = 0.0

    def __enter__(self) -> "Rows":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    @property
    def bytes_read(self) -> int:
        """About how much of the file has been read."""
        if self._raw is None or self._raw.closed:
            return int(self._share * self.bytes_total)
        return self._raw.tell()

    def read(self, columns: dict[str, str]) -> Iterator[Row]:
        """The rows. `columns`: each wanted column, and what wants it (for the message where it is missing)."""
        readers: dict[str, Callable[[dict[str, str]], Iterator[Row]]] = {
            "parquet": self._parquet,
            "ndjson": self._lines,
        }
        number = 0
        try:
            for row in readers.get(self.format, self._table)(columns):
                number = row.number
                yield row
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise FileError(f"{self.path}: after row {number}: not a whole gzip file: {error}") from None
        except UnicodeDecodeError as error:
            raise FileError(f"{self.path}: after row {number}: not UTF-8: {error.reason}") from None
        except (csv.Error, pa.ArrowException) as error:
            raise FileError(f"{self.path}: after row {number}: {error}") from None
        self._share = 1.0

    def lines(self) -> Iterator[bytes]:
        """The lines of a text file as they are, blank ones left out."""
        try:
            for line in self._open():
                if stripped := line.strip():
                    yield stripped
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise FileError(f"{self.path}: not a whole gzip file: {error}") from None
        self._share = 1.0

    def _open(self) -> Iterable[bytes]:
        self._raw = self._stack.enter_context(self.path.open("rb"))
        return self._stack.enter_context(gzip.GzipFile(fileobj=self._raw)) if self._gzipped else self._raw

    def _table(self, columns: dict[str, str]) -> Iterator[Row]:
        file = self._open()
        texts = (line.decode("utf-8-sig" if at == 0 else "utf-8") for at, line in enumerate(file))
        counted = _Counted(texts, [])
        records = csv.reader(counted, delimiter=self._delimiter, strict=True)
        header = next(records, None)
        if header is None:
            raise FileError(f"{self.path}: found nothing, expected a line of column names")
        places = self._places(header, columns)
        counted.taken.clear()
        number = 0
        for record in records:
            text = "".join(counted.taken)
            counted.taken.clear()
            if not record:
                continue
            number += 1
            if len(record) != len(header):
                raise FileError(
                    f"{self.path}: row {number} (line {records.line_num}): found {len(record)} fields, "
                    f"expected {len(header)} as in the first line"
                )
            yield Row(number, [record[place] for place in places], text.rstrip("\r\n").encode())

    def _places(self, header: list[str], columns: dict[str, str]) -> list[int]:
        missing = [f"{why}: {unknown(name, header)}" for name, why in columns.items() if name not in header]
        if missing:
            raise FileError("\n".join(f"{self.path}: no such column: {line}" for line in missing))
        for name in columns:
            if header.count(name) > 1:
                raise FileError(f"{self.path}: the column {name!r} stands twice")
        return [header.index(name) for name in columns]

    def _lines(self, columns: dict[str, str]) -> Iterator[Row]:
        paths = [(name, name.split(".")) for name in columns]
        for number, line in enumerate(self.lines(), 1):
            try:
                found = _objects.decode(line)
                yield Row(number, [_at(found, name, path) for name, path in paths], line)
            except msgspec.MsgspecError as error:
                raise FileError(f"{self.path}: row {number}: {error}") from None

    def _parquet(self, columns: dict[str, str]) -> Iterator[Row]:
        if self._gzipped:
            raise FileError(f"{self.path}: a Parquet file is compressed inside, not by gzip")
        with pq.ParquetFile(self.path) as file:
            names = list(file.schema_arrow.names)
            self._places(names, columns)
            wanted = names if self._whole else list(columns)
            total, number = file.metadata.num_rows, 0
            for batch in file.iter_batches(_PARQUET_ROWS, columns=wanted):
                texts = {name: self._as_texts(name, batch.column(name)) for name in wanted}
                for at in range(batch.num_rows):
                    number += 1
                    whole = msgspec.json.encode([texts[name][at] for name in wanted]) if self._whole else b""
                    yield Row(number, [texts[name][at] for name in columns], whole)
                self._share = number / max(total, 1)

    def _as_texts(self, name: str, column: Any) -> list[str | None]:
        try:
            found: list[str | None] = column.cast(pa.string()).to_pylist()
            return found
        except pa.ArrowException:
            raise FileError(
                f"{self.path}: the column {name!r} has the type {column.type}, expected a plain one"
            ) from None


def _at(found: dict[str, msgspec.Raw], name: str, path: list[str]) -> str | None:
    """The JSON text under a name, or under a dotted path; None for null and what is absent."""
    value = found.get(name)
    if value is None and len(path) > 1:
        within = found.get(path[0])
        for step in path[1:]:
            if within is None or not bytes(within).startswith(b"{"):
                return None
            within = _objects.decode(within).get(step)
        value = within
    text = None if value is None else bytes(value).decode()
    return None if text == "null" else text
