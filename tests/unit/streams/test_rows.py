"""Laws of packed rows."""

from itertools import chain

import msgspec
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.embedded import rows
from streams.embedded.rows import pack, pack_row, unpack
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


def test_what_repeats_is_compressed_and_what_does_not_is_left() -> None:
    (row,) = pack([(b"key", b'{"amount": "0"}' * 1000)])
    assert len(row.value) < 500
    (row,) = pack([(b"key", b"short")])
    assert b"short" in row.value


def test_an_unknown_codec_is_refused_by_number() -> None:
    with pytest.raises(ValueError, match="codec 9"):
        unpack(rows._HEADER.pack(9, 0))
