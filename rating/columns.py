"""The columns of one batch: packs as they stand in the log, read once and joined.

A *row* is one event of the batch, in the log's order. What a meter reads from `data` comes as a `PathColumn`,
from the packs' path columns where they have it and from `data` itself where they do not: the same either way.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from rating.exact import from_decimal
from rating.index import Keys
from schemas.entry import Entry
from schemas.event import PACK_VERSION
from schemas.numbers import NumberError, NumberRangeError, format_scaled, parse_scaled
from schemas.paths import DECIMAL, TEXTS, Extractor

CodesOf = Callable[[str, Sequence[str]], Sequence[int] | NDArray[np.int32]]
CodesByColumns = Callable[[Sequence[pa.DictionaryArray]], NDArray[np.int32] | None]

FOUND, MISSING, INVALID, OUT_OF_RANGE = 0, 1, 2, 3


_READ = pa.ipc.IpcReadOptions(use_threads=False)
"""Handing buffers as small as a pack's to threads takes longer than to decompress them."""


class PackError(ValueError):
    """An entry that says it is a pack and is none: a broken invariant of whoever wrote it."""


class Value(NamedTuple):
    """One JSON value as filters and dimensions see it."""

    kind: str
    """`text`, `number`, `flag`, `other` (an object or a list) or `huge` (a number that does not fit)."""
    value: Any
    """A text, a scaled number, a bool, or the JSON text."""

    @property
    def text(self) -> str:
        """The text by which the value is grouped."""
        if self.kind == "number":
            return format_scaled(self.value)
        if self.kind == "flag":
            return "true" if self.value else "false"
        return str(self.value)

    @property
    def number(self) -> tuple[int, int]:
        """The scaled number and its status."""
        if self.kind == "number":
            return self.value, FOUND
        if self.kind == "huge":
            return 0, OUT_OF_RANGE
        if self.kind != "text":
            return 0, INVALID
        try:
            return parse_scaled(self.value), FOUND
        except NumberRangeError:
            return 0, OUT_OF_RANGE
        except NumberError:
            return 0, INVALID


def read_value(text: str) -> Value:
    """The value of one JSON text."""
    lead = text[0]
    if lead == '"':
        return Value("text", msgspec.json.decode(text, type=str))
    if lead in "tf":
        return Value("flag", lead == "t")
    if lead in "{[":
        return Value("other", text)
    try:
        return Value("number", parse_scaled(text))
    except NumberError:
        return Value("huge", text)


class PathColumn:
    """What one path finds in every row of a batch."""

    def __init__(self, chunks: Sequence[pa.Array]) -> None:
        self._chunks = chunks
        self._coded: tuple[NDArray[np.int32], list[Value]] | None = None
        self._numbers: tuple[pl.Series, NDArray[np.uint8]] | None = None

    def coded(self) -> tuple[NDArray[np.int32], list[Value]]:
        """A code for each row (-1 where absent), and the different values that the codes stand for."""
        if self._coded is None:
            if all(chunk.type == TEXTS for chunk in self._chunks):
                codes, texts = _join(self._chunks)
                self._coded = codes, [Value("text", text) for text in texts]
            else:
                values: dict[Value, int] = {}
                sizes = [len(chunk) for chunk in self._chunks]
                starts = np.concatenate([[0], np.cumsum(sizes)])
                codes = np.empty(starts[-1], np.int32)
                # All of a type at once: packs may be small and many.
                for of_type in dict.fromkeys(chunk.type for chunk in self._chunks):
                    these = [at for at, chunk in enumerate(self._chunks) if chunk.type == of_type]
                    found = self._codes([self._chunks[at] for at in these], values)
                    ends = np.cumsum([sizes[at] for at in these])
                    for at, end in zip(these, ends.tolist(), strict=True):
                        codes[starts[at] : starts[at + 1]] = found[end - sizes[at] : end]
                self._coded = codes, list(values)
        return self._coded

    def numbers(self) -> tuple[pl.Series, NDArray[np.uint8]]:
        """The scaled number of each row (nought where there is none), and its status."""
        if self._numbers is None:
            if all(chunk.type == DECIMAL for chunk in self._chunks):
                column = from_decimal(pa.chunked_array(self._chunks, DECIMAL)).rechunk()
                status = column.is_null().to_numpy().astype(np.uint8)
                self._numbers = column.fill_null(0), status
            else:
                codes, values = self.coded()
                found = [value.number for value in values]
                column = pl.Series([n for n, _ in found] + [0], dtype=pl.Int128)
                status = np.array([s for _, s in found] + [MISSING], dtype=np.uint8)
                at = np.where(codes < 0, len(values), codes)
                self._numbers = column.gather(at), status[at]
        return self._numbers

    @staticmethod
    def _codes(chunks: Sequence[pa.Array], values: dict[Value, int]) -> NDArray[np.int32]:
        """A code for each row of chunks of one type. Adds the values that are new."""
        if chunks[0].type == TEXTS:
            codes, texts = _join(chunks)
            found: Iterable[Value] = (Value("text", text) for text in texts)
        else:
            encoded = pa.concat_arrays(chunks).dictionary_encode()
            codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
            if encoded.dictionary.type == DECIMAL:
                found = (Value("number", number) for number in from_decimal(encoded.dictionary).to_list())
            else:
                found = (read_value(text) for text in encoded.dictionary.to_pylist())
        local = np.array([values.setdefault(value, len(values)) for value in found] + [-1], dtype=np.int32)
        return local[codes]


class Pack(NamedTuple):
    """One pack and where it stands."""

    columns: pa.RecordBatch
    tenant: str
    offset: int
    numbered: bool
    """Whether the log numbers its events (its i-th one stands at `offset + i`)."""


class Batch:
    """Packs of one log in their order, as columns with one row for each event."""

    def __init__(self, packs: Sequence[Pack]) -> None:
        self.packs = packs
        sizes = [pack.columns.num_rows for pack in self.packs]
        self.starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self.rows = int(self.starts[-1])
        self.identity: Keys = np.concatenate([_identities(p.columns.column("identity")) for p in self.packs])
        self.content: NDArray[np.uint32] = self._whole("content")
        self.time: NDArray[np.int64] = self._whole("time")
        self.arrived: NDArray[np.int64] = self._whole("arrived")
        self.offset = np.concatenate(
            [
                p.offset + (np.arange(n) if p.numbered else np.zeros(n, int))
                for p, n in zip(self.packs, sizes, strict=True)
            ]
        ).astype(np.int64)
        self._paths: dict[str, PathColumn] = {}
        self._codes: dict[tuple[str, Any], NDArray[np.int32]] = {}
        self._extracted: list[dict[str, pa.Array]] = [{} for _ in self.packs]

    def _whole(self, name: str) -> NDArray[Any]:
        return np.concatenate([pack.columns.column(name).to_numpy() for pack in self.packs])

    def codes(self, name: str, codes_of: CodesOf, by_columns: CodesByColumns | None = None) -> NDArray[np.int32]:
        """A code for each row of a dictionary column: `codes_of(tenant, texts)` gives those of texts in their order.

        Asked again with an equal `codes_of`, it is the same array. `by_columns`: says the same of whole columns, where
        all packs are one tenant's, or None."""
        if (name, codes_of) not in self._codes:
            parts = [
                self._codes_of(tenant, [pack.columns.column(name) for pack in packs], codes_of, by_columns)
                for tenant, packs in groupby(self.packs, key=attrgetter("tenant"))
            ]
            self._codes[name, codes_of] = np.concatenate(parts) if parts else np.empty(0, np.int32)
        return self._codes[name, codes_of]

    @staticmethod
    def _codes_of(
        tenant: str, columns: list[pa.DictionaryArray], codes_of: CodesOf, by_columns: CodesByColumns | None
    ) -> NDArray[np.int32]:
        found = None if by_columns is None else by_columns(columns)
        if found is None:
            codes, texts = _join(columns)
            found = np.asarray(codes_of(tenant, texts), dtype=np.int32).take(codes)
        return found

    def path(self, path: str, paths: Sequence[str]) -> PathColumn:
        """The column of one path. `paths` are all that may be asked for: what a pack lacks is read together."""
        if path not in self._paths:
            self._paths[path] = PathColumn([self._chunk(i, path, paths) for i in range(len(self.packs))])
        return self._paths[path]

    def _chunk(self, at: int, path: str, paths: Sequence[str]) -> pa.Array:
        columns = self.packs[at].columns
        found = columns.schema.get_field_index(path)
        if found >= 0:
            return columns.column(found)
        if path not in self._extracted[at]:
            missing = [p for p in paths if columns.schema.get_field_index(p) < 0]
            self._extracted[at] = Extractor(missing).extract(columns.column("data").to_pylist())
        return self._extracted[at][path]

    def event(self, row: int) -> dict[str, Any]:
        """One event as it came, for a rejection; beside it under `tenant` nothing: see `tenant_of`."""
        pack, at = self._place(row)
        columns = pack.columns
        event: dict[str, Any] = {"specversion": "1.0"}
        for name in ("id", "source", "type", "subject"):
            event[name] = columns.column(name)[at].as_py()
        event["time"] = int(columns.column("time")[at].as_py())
        event["data"] = msgspec.Raw(columns.column("data")[at].as_py())
        extensions = columns.column("extensions")[at].as_py()
        if extensions:
            event.update(msgspec.json.decode(extensions))
        return event

    def tenant_of(self, row: int) -> str:
        """The tenant whose event it is."""
        return self._place(row)[0].tenant

    def data_at(self, row: int) -> bytes:
        """The JSON text of one event's data."""
        pack, at = self._place(row)
        return bytes(pack.columns.column("data")[at].as_py())

    def text_at(self, name: str, row: int) -> str:
        """One text of one event."""
        pack, at = self._place(row)
        return str(pack.columns.column(name)[at].as_py())

    def _place(self, row: int) -> tuple[Pack, int]:
        at = int(np.searchsorted(self.starts, row, side="right")) - 1
        return self.packs[at], row - int(self.starts[at])


def read_pack(entry: Entry) -> Pack:
    """The pack of an entry. Raises: PackError."""
    try:
        reader = pa.ipc.open_stream(pa.py_buffer(entry.payload), options=_READ)
        columns = reader.read_next_batch()
        metadata = reader.schema.metadata or {}
        if metadata.get(b"version") != PACK_VERSION:
            raise PackError(f"pack at offset {entry.offset}: found version {metadata.get(b'version')!r}, expected 1")
        tenant = metadata[b"tenant"].decode()
    except (pa.ArrowInvalid, StopIteration, KeyError) as error:
        raise PackError(f"pack at offset {entry.offset} cannot be read: {error}") from error
    return Pack(columns, tenant, entry.offset, entry.end - entry.offset == columns.num_rows and columns.num_rows > 1)


def _join(columns: Sequence[pa.DictionaryArray]) -> tuple[NDArray[np.int32], list[str]]:
    """One code for each row of columns of texts, -1 where it is null, and the texts that the codes stand for."""
    if not columns:
        return np.empty(0, np.int32), []
    chunks = pa.chunked_array(columns, TEXTS).unify_dictionaries().chunks
    indices = pa.chunked_array([chunk.indices for chunk in chunks])
    return indices.fill_null(-1).to_numpy(), chunks[-1].dictionary.to_pylist()


def _identities(column: pa.Array) -> Keys:
    flat = np.frombuffer(column.buffers()[1], dtype=np.uint64)
    start = column.offset * 2
    return flat[start : start + 2 * len(column)].reshape(-1, 2)
