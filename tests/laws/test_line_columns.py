"""What the library reads of line items is what Python reads of them, or nothing."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from native.library import is_loaded
from rating.spend import decode
from rating.spend.line_columns import line_columns
from rating.spend.store import StoreError
from schemas import topics
from schemas.numbers import SCALED_MAX, format_scaled
from schemas.output import Span
from schemas.times import format_time
from streams.embedded.rows import pack_row, unpack_spans
from streams.log import Part, RecordBlock, Records, TopicRecord, parts_since
from tests.spend.records import line

PLAIN = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters='"\\'), max_size=12)
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=6)
IDS = st.sampled_from(["li_1", "li_2", "", "li_" + "0a" * 16, "é"])
TIMES = st.integers(0, 253_000_000_000_000_000).map(format_time)
NUMBERS = st.one_of(st.integers(-SCALED_MAX, SCALED_MAX), st.sampled_from([0, SCALED_MAX, -SCALED_MAX])).map(
    format_scaled
)


@st.composite
def lines(draw: st.DrawFn, text: st.SearchStrategy[str] = PLAIN) -> bytes:
    """A line item as the engine writes it."""
    item = line(
        draw(IDS),
        draw(st.integers(1, 3)),
        tenant=draw(text),
        customer=draw(text),
        subscription=draw(text),
        charge=draw(text),
        dimensions=draw(st.dictionaries(text, st.none() | text, max_size=3)),
        period=Span(draw(TIMES), draw(TIMES)),
        quantity=draw(NUMBERS),
        amount=draw(NUMBERS),
        events=draw(st.integers(0, 10**17)),
        last_event=draw(st.none() | TIMES),
    )
    return msgspec.json.encode(item)


def _records(values: Sequence[bytes]) -> list[TopicRecord]:
    return [TopicRecord(topics.LINE_ITEMS, 0, at, at + 1, b"", value) for at, value in enumerate(values)]


def _python(values: Sequence[bytes]) -> dict[str, list[Any]]:
    columns = decode._line_columns_python(_records(values))
    del columns["sort_key"]
    return {name: pa.array(column, decode.LINE_ITEMS.field(name).type).to_pylist() for name, column in columns.items()}


def _library(values: Sequence[bytes]) -> dict[str, list[Any]] | None:
    columns = line_columns(_records(values))
    return columns and {name: column.to_pylist() for name, column in columns.items()}


needs_library = pytest.mark.skipif(not is_loaded(), reason="no library")


@needs_library
@settings(deadline=None)
@given(st.lists(lines(), min_size=1, max_size=20))
def test_what_the_engine_writes_is_read_the_same(values: list[bytes]) -> None:
    assert _library(values) == _python(values)


@needs_library
@settings(deadline=None)
@given(st.lists(st.lists(lines(), min_size=1, max_size=8), min_size=1, max_size=5), st.data())
def test_line_items_in_blocks_are_read_the_same(packs: list[list[bytes]], data: st.DataObject) -> None:
    """Whatever of them stands in blocks, in whole or in part, beside others that stand alone."""
    parts: list[Part] = []
    for values in packs:
        singles = _records(values)
        block = RecordBlock(
            topics.LINE_ITEMS,
            0,
            0,
            len(values),
            *unpack_spans(pack_row([(b"k", v) for v in values]).value, len(values)),
        )
        parts += data.draw(st.sampled_from([singles, [block], [*parts_since([block], 1), *singles[:1]]]))
    columns = line_columns(parts)
    assert columns is not None
    columns["body"].validate(full=True)  # of a view, whether it says how its text begins, too
    found = {name: column.to_pylist() for name, column in columns.items()}
    assert found == _python([record.value for record in Records(parts)])


@needs_library
@settings(deadline=None)
@given(st.lists(lines(TEXT), min_size=1, max_size=5))
def test_texts_of_any_kind_are_read_the_same_or_left(values: list[bytes]) -> None:
    found = _library(values)
    assert found == _python(values) if found is not None else b"\\" in b"".join(values)


SPOILING = [
    *(b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b" ", b"-", b"+", b".", b"0", b"00", b"9" * 27, b"e1", b"null"),
    *(b"\xff", b"\xed\xa0\x80", b"\x00", b"Z", b"T", b"", b'"id":"x",', b'"more":[{"a":1,"a":[]}],', b'"amount":"1",'),
]


@needs_library
@settings(deadline=None)
@given(lines(), st.sampled_from(SPOILING), st.data())
def test_a_damaged_line_item_is_refused_or_read_the_same(value: bytes, spoil: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(value)))
    cut = data.draw(st.integers(0, 4))
    spoiled = value[:at] + spoil + value[at + cut :]
    found = _library([spoiled])
    if found is not None:
        assert found == _python([spoiled])


@needs_library
@pytest.mark.parametrize(
    "before, after",
    [
        (b'"charge":"tokens"', b'"charge":"to\\u006bens"'),
        (b'"events":1', b'"events":9223372036854775807'),
        (b'"amount":"1.5"', b'"amount":"1.5e3"'),
        (b'"amount":"1.5"', b'"amount":"+1.5"'),
        (b"12-01T00:00:00Z", b"12-01T00:00:00+00:00"),
        (b'{"id"', b' {"id"'),
        (b'"tiers":[]', b'"tiers":' + b"[" * 40 + b"]" * 40),
        (b'{"id":"li_1","revision":1,', b'{"revision":1,"id":"li_1",'),
    ],
)
def test_what_is_of_another_form_is_left_to_python(before: bytes, after: bytes) -> None:
    value = msgspec.json.encode(line())
    assert before in value
    spoiled = value.replace(before, after)
    assert line_columns(_records([spoiled])) is None
    assert _python([spoiled])["id"] == ["li_1"]


@pytest.mark.parametrize(
    "value", [b"{}", b"", b'{"id":1}', msgspec.json.encode(line()).replace(b'events":1', b'events":1.0')]
)
def test_a_line_item_that_is_none_is_named(value: bytes) -> None:
    assert line_columns(_records([msgspec.json.encode(line()), value])) is None
    with pytest.raises(StoreError, match="line-items, partition 0, offset 1"):
        decode._line_items(_records([msgspec.json.encode(line()), value]))
