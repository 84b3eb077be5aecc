"""Decimals and paths' values read from Arrow, exactly."""

from decimal import Decimal, localcontext

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rating.spend.columns import numbers, scaled, texts
from schemas.numbers import SCALED_MAX
from schemas.paths import DECIMAL, scalar_column

SCALED = st.integers(-SCALED_MAX, SCALED_MAX) | st.integers(-(10**13), 10**13) | st.sampled_from([2**63 - 1, -(2**63)])


def column(values: list[int | None]) -> pa.Array:
    with localcontext() as context:
        context.prec = 80
        return pa.array([None if v is None else Decimal(v).scaleb(-12) for v in values], DECIMAL)


@settings(deadline=None)
@given(st.lists(st.none() | SCALED), st.integers(0, 3))
def test_decimals_come_back_as_the_whole_numbers_they_are(values: list[int | None], cut: int) -> None:
    assert scaled(column(values).slice(cut)) == [value or 0 for value in values[cut:]]
    assert scaled(pa.chunked_array([column(values), column(values)])) == [value or 0 for value in values] * 2


def test_another_type_is_refused() -> None:
    with pytest.raises(TypeError, match="expected decimal128"):
        scaled(pa.array([1.5]))


@pytest.mark.parametrize(
    ("json", "number", "text"),
    [
        (b"1.50", 1_500_000_000_000, "1.5"),
        (b'"1.50"', 1_500_000_000_000, "1.50"),
        (b"1e-9", 1_000, "0.000000001"),
        (b"9007199254740993", 9007199254740993 * 10**12, "9007199254740993"),
        (b"1e-13", None, "1e-13"),
        (b"1e26", None, "1e26"),
        (b"true", None, "true"),
        (b'"a\\"b"', None, 'a"b'),
        (b"[1]", None, "[1]"),
        (b"null", None, None),
        (None, None, None),
    ],
)
@pytest.mark.parametrize("beside", [[], [b"7"], [b'"x"'], [b"{}"]])
def test_a_value_is_read_alike_whatever_stands_beside_it(
    json: bytes | None, number: int | None, text: str | None, beside: list[bytes]
) -> None:
    found = scalar_column([json, *beside])
    values, valued = numbers(found)
    assert (values[0] if valued[0] else None) == number
    names, named = texts(found)
    assert (names[0], bool(named[0])) == (text, text is not None)
