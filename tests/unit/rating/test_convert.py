"""Conversions: by columns and one by one the same, and both what fractions say."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rating.convert import Conversion, compile_convert, find_convert_faults
from rating.spend.formulas import convert as convert_again
from schemas.catalogue import Convert
from schemas.numbers import ONE, SCALED_MAX, NumberRangeError, format_scaled, parse_scaled

SCALED = st.integers(-SCALED_MAX, SCALED_MAX) | st.integers(-(10**15), 10**15) | st.sampled_from([0, 1, -1, SCALED_MAX])
WRITTEN = ["1000", "1024", "0.001", "3", "7", "1e25", "1e-12", "0.5", "1", "86400", "1.1"]
FACTORS = st.sampled_from(WRITTEN) | st.integers(1, SCALED_MAX).map(format_scaled)


@st.composite
def converts(draw: st.DrawFn) -> Convert:
    key = draw(st.sampled_from(["divide", "multiply"]))
    rounding = draw(st.sampled_from([None, "up", "down", "half_up"]))
    digits = draw(st.integers(-26, 12)) if rounding else 0
    return Convert(**{key: Decimal(draw(FACTORS))}, round=rounding, digits=digits)


def expected(convert: Convert, value: int) -> int | None:
    """By fractions, from the words of the rule."""
    exact = Fraction(value, ONE)
    exact = exact / Fraction(convert.divide) if convert.divide else exact * Fraction(convert.multiply or 1)
    digits = 12 if convert.round is None else convert.digits
    shifted = abs(exact) * Fraction(10) ** digits
    whole = shifted.numerator // shifted.denominator
    rest = shifted - whole
    up = {"up": rest > 0, "down": False, "half_up": rest >= Fraction(1, 2), None: rest >= Fraction(1, 2)}[convert.round]
    result = Fraction(whole + up) / Fraction(10) ** digits * (-1 if exact < 0 else 1) * ONE
    assert result.denominator == 1
    return int(result) if abs(result) <= SCALED_MAX else None


@settings(max_examples=500, deadline=None)
@given(converts(), st.lists(SCALED, max_size=8))
def test_columns_and_one_by_one_are_what_fractions_say(convert: Convert, values: list[int]) -> None:
    assert not find_convert_faults(convert)
    conversion = compile_convert(convert)
    wanted = [expected(convert, value) for value in values]
    assert conversion.convert_columns(pl.Series(values, dtype=pl.Int128)).to_list() == wanted
    assert [convert_again(convert, value) for value in values] == wanted
    for value, result in zip(values, wanted, strict=True):
        if result is None:
            with pytest.raises(NumberRangeError):
                conversion.convert_one(value)
        else:
            assert conversion.convert_one(value) == result


@pytest.mark.parametrize(
    ("convert", "value", "result"),
    [
        ({"divide": "1000", "round": "up"}, "1000.000000000001", "2"),
        ({"divide": "1000", "round": "up"}, "1000", "1"),
        ({"divide": "1000", "round": "up"}, "-0.5", "-1"),
        ({"divide": "1000", "round": "down"}, "-1999", "-1"),
        ({"divide": "1000", "round": "half_up"}, "1500", "2"),
        ({"divide": "1000", "round": "half_up"}, "-1500", "-2"),
        ({"divide": "3"}, "1", "0.333333333333"),
        ({"divide": "3"}, "2", "0.666666666667"),
        ({"multiply": "0.3", "round": "half_up", "digits": 1}, "1.5", "0.5"),
        ({"divide": "1", "round": "up", "digits": -3}, "1001", "2000"),
        ({"multiply": "1024"}, "1.5", "1536"),
        # Rounded once: 0.0449999999999995 would be 0.045 at the 12th digit and 0.05 after it.
        ({"divide": "2", "round": "half_up", "digits": 2}, "0.089999999999", "0.04"),
    ],
)
def test_what_conversions_come_to(convert: dict[str, Any], value: str, result: str) -> None:
    numbers = {key: Decimal(text) if key in ("divide", "multiply") else text for key, text in convert.items()}
    conversion = compile_convert(Convert(**numbers))
    assert format_scaled(conversion.convert_one(parse_scaled(value))) == result


def test_nothing_asked_for_is_nothing_done() -> None:
    values = pl.Series([1, 2], dtype=pl.Int128)
    assert Conversion.by(ONE, ONE).convert_columns(values) is values


@pytest.mark.parametrize(
    ("convert", "faults"),
    [
        (Convert(), [("", "found neither, expected one of divide and multiply")]),
        (
            Convert(divide=Decimal(1), multiply=Decimal(2)),
            [("", "found both, expected one of divide and multiply")],
        ),
        (Convert(divide=Decimal(0)), [("divide", "found 0, expected more than nought")]),
        (Convert(multiply=Decimal(-2)), [("multiply", "found -2, expected more than nought")]),
        (
            Convert(divide=Decimal(2), digits=2),
            [("digits", "found 2 without round, expected round: up, down or half_up")],
        ),
        (Convert(divide=Decimal(2), digits=-2, round="up"), []),
    ],
)
def test_faults_of_a_conversion(convert: Convert, faults: list[tuple[str, str]]) -> None:
    assert find_convert_faults(convert) == faults
