"""Packs hold what the events say, in order, within the bounds of a log's message."""

import os
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.columns import Rows
from ingest.pack import encode_packs
from schemas.event import PACK_COLUMNS, PACK_VERSION
from schemas.limits import EVENT_BYTES_MAX, EVENT_TEXT_LENGTH_MAX, EXTENSIONS_BYTES_MAX, PACK_BYTES_MAX, PACK_EVENTS_MAX
from schemas.paths import DECIMAL, TEXTS, Extractor

PATHS = Extractor(["$.tokens", "$.model"])


def rows(data: list[bytes], **same: Any) -> Rows:
    """Rows that differ in id and data."""
    count = len(data)
    columns: dict[str, Any] = {
        "content": 7, "customer": "acme", "subject": "team-a", "source": "s", "type": "t",
        "time": 10, "arrived": 11, "extensions": None,
    } | same  # fmt: skip
    made = {name: [value] * count for name, value in columns.items()}
    made |= {"identity": [i.to_bytes(16, "little") for i in range(count)], "id": [f"e{i}" for i in range(count)]}
    made["data"] = data
    return Rows(*(made[name] for name in Rows.NAMES))


def read(packs: list[tuple[bytes, int]]) -> list[pa.RecordBatch]:
    batches = []
    for value, count in packs:
        reader = pa.ipc.open_stream(value)
        assert reader.schema.metadata == {b"version": PACK_VERSION, b"tenant": b"t1"}
        batches.append(reader.read_next_batch())
        batches[-1].validate(full=True)
        assert batches[-1].num_rows == count and len(value) <= PACK_BYTES_MAX
    return batches


def test_a_pack_has_the_columns_and_the_paths() -> None:
    data = [b'{"tokens":1,"model":"large"}', b'{"tokens": 22}', b"{}", b'{"model":null}', b'{"tokens":-3}']
    (batch,) = read(encode_packs("t1", rows(data), PATHS))
    assert [(f.name, f.type) for f in batch.schema] == [
        *((f.name, f.type) for f in PACK_COLUMNS), ("$.tokens", DECIMAL), ("$.model", TEXTS)
    ]  # fmt: skip
    found = batch.to_pydict()
    assert found["data"] == data and found["id"] == ["e0", "e1", "e2", "e3", "e4"]
    assert found["identity"][1] == (1).to_bytes(16, "little")
    assert [None if v is None else int(v) for v in found["$.tokens"]] == [1, 22, None, None, -3]
    assert found["$.model"] == ["large", None, None, None, None]


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 3 * PACK_EVENTS_MAX + 1))
def test_no_pack_holds_too_many_events_and_order_stays(count: int) -> None:
    packs = encode_packs("t1", rows([b"{}"] * count), None)
    ids = [id for batch in read(packs) for id in batch.column("id").to_pylist()]
    assert ids == [f"e{i}" for i in range(count)]
    assert max(n for _, n in packs) <= PACK_EVENTS_MAX
    assert len(packs) == -(-count // PACK_EVENTS_MAX)


@pytest.mark.parametrize("size", [1000, 100_000, EVENT_BYTES_MAX])
def test_no_pack_holds_too_many_bytes(size: int) -> None:
    """Text of chance cannot be compressed, and each event's data stands twice: as data and as a path column."""
    data = [b'{"tokens":"%b"}' % os.urandom(size // 2 - 7).hex().encode() for _ in range(3_000_000 // size)]
    assert max(map(len, data)) <= EVENT_BYTES_MAX
    batches = read(encode_packs("t1", rows(data), PATHS))
    assert [one for batch in batches for one in batch.column("data").to_pylist()] == data
    assert len(batches) > 1


def test_the_largest_event_fits_a_pack_without_its_path_columns() -> None:
    wide = "\U0001f600" * EVENT_TEXT_LENGTH_MAX
    data = b'{"tokens":"%b"}' % os.urandom(EVENT_BYTES_MAX // 2 - 8).hex().encode()
    extensions = f'{{"x":"{os.urandom(EXTENSIONS_BYTES_MAX // 2 - 5).hex()}"}}'
    paths = Extractor(["$.tokens", *(f"$['{'x' * 50}{i}']" for i in range(100))])
    largest = rows([data], subject=wide, source=wide, type=wide, extensions=extensions)
    (batch,) = read(encode_packs("t1", largest, paths))
    assert batch.column("data").to_pylist() == [data]


def test_text_that_compresses_is_smaller() -> None:
    data = [b'{"tokens":%d,"note":"%b"}' % (i, b"x" * 200) for i in range(100)]
    ((value, _),) = encode_packs("t1", rows(data), PATHS)
    assert len(value) < 0.5 * sum(map(len, data))
