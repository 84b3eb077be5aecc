"""Columns of exact numbers: three forms of the same numbers, and amounts that are rounded once."""

from fractions import Fraction

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rating.exact import (
    OutOfBounds,
    check_sum,
    form_amount,
    from_decimal,
    greatest,
    int128,
    int_of,
    round_to_scale,
    to_int128,
    to_wide,
    wide_of,
)
from schemas.numbers import ONE, SCALED_MAX, divide_half_up
from schemas.paths import scalar_column

SCALED = st.integers(-SCALED_MAX, SCALED_MAX) | st.integers(-(2**70), 2**70)
COLUMNS = st.lists(SCALED, max_size=20)


@given(COLUMNS)
@example([2**63, -(2**63), 2**64 - 1, -(2**64), 0, -1, SCALED_MAX, -SCALED_MAX])
def test_the_forms_of_a_column_hold_the_same_numbers(values: list[int]) -> None:
    wide = to_wide(int128(values))
    assert wide.shape == (len(values), 2)
    assert [int_of(row) for row in wide] == values
    assert [wide_of(value) for value in values] == [(int(low), int(high)) for low, high in wide]
    assert to_int128(wide).to_list() == values
    assert to_int128(wide[::2]).to_list() == values[::2]


@given(COLUMNS, st.integers(0, 5))
def test_a_slice_of_a_column_is_the_slice_of_its_numbers(values: list[int], start: int) -> None:
    assert [int_of(row) for row in to_wide(int128(values)[start:])] == values[start:]


@pytest.mark.parametrize("value", [SCALED_MAX + 1, -SCALED_MAX - 1, 2**127 - 1])
def test_more_than_38_digits_are_out_of_bounds(value: int) -> None:
    with pytest.raises(OutOfBounds):
        to_wide(int128([1, value]))


@pytest.mark.parametrize(("bound", "fits"), [(SCALED_MAX, True), (SCALED_MAX + 1, False)])
def test_a_bound_is_checked_at_one_above(bound: int, fits: bool) -> None:
    if fits:
        check_sum(bound)
    else:
        with pytest.raises(OutOfBounds):
            check_sum(bound)


def test_numbers_of_a_path_are_their_scaled_ones() -> None:
    texts = [b"0.1", b"9007199254740993", None, b"-1.5", b"1E-12"]
    column = from_decimal(scalar_column(texts))
    assert column.to_list() == [ONE // 10, 9007199254740993 * ONE, None, -3 * ONE // 2, 1]


@given(COLUMNS)
def test_the_greatest_is_that_of_the_magnitudes(values: list[int]) -> None:
    assert greatest(int128(values)) == max(map(abs, values), default=0)


PRODUCTS = (
    st.integers(-(10**37), 10**37) | st.integers(-3 * ONE, 3 * ONE) | st.integers(-9, 9).map(lambda n: n * ONE // 2)
)


@given(st.lists(PRODUCTS, min_size=1, max_size=20))
def test_a_product_by_columns_is_rounded_like_one_by_one(products: list[int]) -> None:
    frame = pl.DataFrame({"p": int128(products)})
    assert frame.select(round_to_scale(pl.col("p"))).to_series().to_list() == [divide_half_up(p, ONE) for p in products]


EXACT = st.lists(PRODUCTS, min_size=1, max_size=6)
HALF = ONE // 2


@given(st.lists(EXACT, min_size=1, max_size=8))
@example([[HALF, HALF]])
@example([[-HALF]])
@example([[HALF, -HALF, -HALF]])
@example([[ONE - 1, -ONE - HALF]])
@example([[HALF - 1, HALF - 1, HALF - 1]])
@example([[-HALF + 1, -HALF + 1, -HALF + 1]])
def test_an_amount_formed_from_rounded_parts_is_their_exact_sum_rounded_once(lines: list[list[int]]) -> None:
    """Each part has 24 digits after the point; a line's amount has 12, rounded half away from nought."""
    gross, rest, expected = [], [], []
    for parts in lines:
        rounded = [divide_half_up(part, ONE) for part in parts]
        gross.append(sum(rounded))
        rest.append(sum(part - r * ONE for part, r in zip(parts, rounded, strict=True)))
        exact = Fraction(sum(parts), ONE)
        whole = int(abs(exact) + Fraction(1, 2))
        expected.append(whole if exact >= 0 else -whole)
    frame = pl.DataFrame({"gross": int128(gross), "rest": pl.Series(rest, dtype=pl.Int64)})
    assert frame.select(form_amount(pl.col("gross"), pl.col("rest"))).to_series().to_list() == expected


def test_an_empty_column_has_every_form() -> None:
    assert to_wide(int128([])).shape == (0, 2)
    assert to_int128(np.zeros((0, 2), np.int64)).to_list() == []
