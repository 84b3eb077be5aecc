"""Currencies: money is rounded to the minor unit once, by the rule of the price book."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.currency import MINOR_DIGITS, Rounding, round_to_minor, whole_minor_units
from schemas.numbers import ONE, SCALED_MAX, format_scaled, parse_scaled

AMOUNTS = st.integers(-SCALED_MAX, SCALED_MAX)
CURRENCIES = st.sampled_from(["USD", "JPY", "KWD", "CHF", "XAF", "BHD"])


@given(AMOUNTS, CURRENCIES, st.sampled_from(["half_up", "half_even"]))
def test_a_rounded_amount_is_a_whole_number_of_minor_units_nearby(amount: int, currency: str, how: Rounding) -> None:
    rounded = round_to_minor(amount, currency, how)
    digits = MINOR_DIGITS[currency]
    assert whole_minor_units(rounded, currency) == Fraction(rounded, ONE) * 10**digits
    assert abs(Fraction(rounded - amount, ONE)) * 2 <= Fraction(1, 10**digits)
    assert round_to_minor(rounded, currency, how) == rounded
    assert round_to_minor(-amount, currency, how) == -rounded
    if how == "half_even":
        assert rounded == round(Fraction(amount, ONE) * 10**digits) * ONE // 10**digits


@pytest.mark.parametrize(
    ("amount", "currency", "up", "even"),
    [
        ("0.125", "USD", "0.13", "0.12"),
        ("0.135", "USD", "0.14", "0.14"),
        ("-0.125", "USD", "-0.13", "-0.12"),
        ("0.124999999999", "USD", "0.12", "0.12"),
        ("0.125000000001", "USD", "0.13", "0.13"),
        ("0.5", "JPY", "1", "0"),
        ("1.5", "JPY", "2", "2"),
        ("0.0005", "KWD", "0.001", "0"),
        ("0.004999999999", "USD", "0", "0"),
    ],
)
def test_halves(amount: str, currency: str, up: str, even: str) -> None:
    scaled = parse_scaled(amount)
    assert format_scaled(round_to_minor(scaled, currency, "half_up")) == up
    assert format_scaled(round_to_minor(scaled, currency, "half_even")) == even


@given(AMOUNTS, CURRENCIES)
def test_what_is_not_rounded_has_no_minor_units(amount: int, currency: str) -> None:
    if round_to_minor(amount, currency, "half_up") != amount:
        with pytest.raises(ValueError, match=currency):
            whole_minor_units(amount, currency)


def test_digits_of_the_standard() -> None:
    assert all(len(code) == 3 and code.isupper() and code.isascii() for code in MINOR_DIGITS)
    assert {MINOR_DIGITS[code] for code in ("USD", "EUR", "GBP", "CHF", "INR")} == {2}
    assert {MINOR_DIGITS[code] for code in ("JPY", "KRW", "CLP", "ISK", "VND")} == {0}
    assert {MINOR_DIGITS[code] for code in ("KWD", "BHD", "TND", "OMR")} == {3}
    assert "XXX" not in MINOR_DIGITS and "usd" not in MINOR_DIGITS
