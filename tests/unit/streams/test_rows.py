"""Laws of packed rows."""

from collections.abc import Sequence
from itertools import chain

import msgspec
import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.embedded import rows
from streams.embedded.rows import pack, pack_row, unpack, unpack_spans
from streams.log import RecordBlock, Records, TopicRecord, bytes_of, parts_since
from streams.processor import Block
from tests.unit.streams.blocks import block, blocks

records = st.lists(st.tuples(st.binary(max_size=40), st.binary(max_size=2000)), max_size=30)


@given(records)
@settings(max_examples=100, deadline=None)
def test_what_is_packed_is_unpacked_in_order(given_records: list[tuple[bytes, bytes]]) -> None:
    packed = list(pack(given_records))
    assert list(chain.from_iterable(unpack(row.value) for row in packed)) == given_records
    assert sum(row.records for row in packed) == len(given_records)


def test_many_records_are_cut_into_rows_of_a_bounded_size() -> None:
    many = [(b"%d" % number, bytes(1_000_000)) for number in range(10)]
    packed = list(pack(many))
    assert [row.records for row in packed] == [5, 5]
    assert list(chain.from_iterable(unpack(row.value) for row in packed)) == many


PARTS = st.lists(
    st.tuples(st.binary(max_size=40), st.binary(max_size=2000)) | blocks("t", value_bytes_max=2000), max_size=12
)


def singles(parts: list[tuple[bytes, bytes] | Block]) -> list[tuple[bytes, bytes]]:
    return [one for part in parts for one in ([o[1:] for o in part] if isinstance(part, Block) else [part])]


@given(PARTS, st.sampled_from([1, 50, 700, 5000, rows._ROW_BYTES_MAX]), st.booleans())
@settings(max_examples=300, deadline=None)
def test_blocks_are_packed_as_their_records(parts: list[tuple[bytes, bytes] | Block], room: int, plain: bool) -> None:
    """With the same rows, byte for byte, cut at the same places; `room`: bytes that are enough for a row."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "_ROW_BYTES_MAX", room)
        if plain:
            patch.setattr(rows, "_NATIVE_PACK", None)
        assert list(pack(parts)) == list(pack(singles(parts)))


@pytest.mark.parametrize("width", [0, 1, 255, 256, 65_535, 65_536])
def test_lengths_of_every_kind(width: int) -> None:
    values = [bytes(size) for size in (0, 1, 255, 256, 65_535, 65_536, 3_000_000, 1)]
    one = block("t", [(b"k" * width, value) for value in values])
    assert list(pack([one])) == list(pack(singles([one])))


@pytest.mark.parametrize("count", [7, 8, 32_767, 32_768])
def test_heads_of_every_kind(count: int) -> None:
    """What says how many there are has one byte, three or five."""
    records = [(b"k", b"v")] * count
    (row,) = pack([block("t", records)])
    assert row == pack_row(records)
    assert msgspec.msgpack.encode([part for record in records for part in record]) == _body(row.value)


def _body(value: bytes) -> bytes:
    codec, length = rows._HEADER.unpack_from(value)
    body = value[rows._HEADER.size :]
    return pyarrow.decompress(body, decompressed_size=length, codec="zstd", asbytes=True) if codec else body


def stored(value: bytes, count: int, offset: int = 7) -> list[TopicRecord]:
    """The records of a row, read as a block."""
    body, spans = unpack_spans(value, count)
    return list(RecordBlock("t", 0, offset, offset + len(spans), body, spans).records())


def alone(records: Sequence[tuple[bytes, bytes]], offset: int = 7) -> list[TopicRecord]:
    return [TopicRecord("t", 0, at, at + 1, *record) for at, record in enumerate(records, offset)]


@pytest.fixture(params=["library", "python"])
def unpacking(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "python":
        monkeypatch.setattr(rows, "_NATIVE_UNPACK", None)
    return str(request.param)


@given(records)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.usefixtures("unpacking")
def test_a_row_is_read_as_a_block_as_it_is_one_by_one(given_records: list[tuple[bytes, bytes]]) -> None:
    row = pack_row(given_records)
    assert stored(row.value, row.records) == alone(given_records) == alone(unpack(row.value))


@pytest.mark.usefixtures("unpacking")
@pytest.mark.parametrize("size", [0, 255, 256, 65_535, 65_536])
@pytest.mark.parametrize("count", [1, 7, 8, 32_767, 32_768])
def test_a_block_of_every_kind_of_length(size: int, count: int) -> None:
    many = [(b"k", b"v")] * (count - 1) + [(bytes(size), bytes(size))]
    assert stored(pack_row(many).value, count) == alone(many)


@given(records, st.integers(0, 200), st.binary(max_size=3), st.integers(0, 3), st.integers(-1, 1))
@settings(max_examples=300, deadline=None)
def test_a_damaged_row_is_refused_or_read_the_same(
    given_records: list[tuple[bytes, bytes]], at: int, other: bytes, cut: int, more: int
) -> None:
    """The library never reads what Python would refuse or read otherwise, also where the count is wrong."""
    good = msgspec.msgpack.encode(list(chain.from_iterable(given_records)))
    body = good[:at] + other + good[at + cut :]
    value = rows._HEADER.pack(rows._PLAIN, len(body)) + body
    try:
        expected = alone(unpack(value))
    except (ValueError, msgspec.DecodeError):
        with pytest.raises((ValueError, msgspec.DecodeError)):
            stored(value, len(given_records))
    else:
        assert stored(value, max(len(given_records) + more, 0)) == expected


@given(st.lists(records.filter(bool), max_size=5), st.integers(0, 200), st.booleans())
@settings(max_examples=100, deadline=None)
def test_records_in_blocks_are_the_same_records(
    given_rows: list[list[tuple[bytes, bytes]]], offset: int, in_blocks: bool
) -> None:
    """As are those from an offset on, wherever it cuts a block; blocks and single records stand side by side."""
    singles = alone(list(chain.from_iterable(given_rows)))
    parts: list[TopicRecord | RecordBlock] = []
    for some in given_rows:
        row, first = pack_row(some), 7 + len(Records(parts))
        if in_blocks or len(some) % 2:
            parts.append(RecordBlock("t", 0, first, first + len(some), *unpack_spans(row.value, row.records)))
        else:
            parts += alone(some, first)
    found = Records(parts)
    assert (list(found), len(found), bytes_of(found)) == (singles, len(singles), bytes_of(singles))
    since = Records(list(parts_since(parts, offset)))
    assert list(since) == [record for record in singles if record.offset >= offset]


def test_what_repeats_is_compressed_and_what_does_not_is_left() -> None:
    (row,) = pack([(b"key", b'{"amount": "0"}' * 1000)])
    assert len(row.value) < 500
    (row,) = pack([(b"key", b"short")])
    assert b"short" in row.value


def test_an_unknown_codec_is_refused_by_number() -> None:
    with pytest.raises(ValueError, match="codec 9"):
        unpack(rows._HEADER.pack(9, 0))
