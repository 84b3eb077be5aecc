"""Laws of packed rows."""

from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.embedded import rows
from streams.embedded.rows import pack, unpack

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


def test_what_repeats_is_compressed_and_what_does_not_is_left() -> None:
    (row,) = pack([(b"key", b'{"amount": "0"}' * 1000)])
    assert len(row.value) < 500
    (row,) = pack([(b"key", b"short")])
    assert b"short" in row.value


def test_an_unknown_codec_is_refused_by_number() -> None:
    with pytest.raises(ValueError, match="codec 9"):
        unpack(rows._HEADER.pack(9, 0))
