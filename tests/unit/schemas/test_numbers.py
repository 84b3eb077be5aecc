"""Laws of exact decimals: what fits is held exactly, what does not is refused by name, nothing passes a float."""

from decimal import Context, Decimal
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.numbers import (
    ONE,
    SCALED_MAX,
    NumberError,
    NumberRangeError,
    check_scaled,
    divide_half_even,
    divide_half_up,
    format_scaled,
    multiply_scaled,
    parse_scaled,
)

ENOUGH = Context(prec=400, Emin=-999_999, Emax=999_999)
SCALED = st.integers(-SCALED_MAX, SCALED_MAX)
DIGITS = st.text("0123456789", max_size=30)
TEXTS = st.builds(
    lambda sign, whole, point, fraction, exponent: sign + whole + ("." + fraction if point else "") + exponent,
    st.sampled_from(["", "-", "+"]),
    DIGITS,
    st.booleans(),
    DIGITS,
    st.sampled_from(["", "e0", "E-3", "e+5", "e12", "e-12", "e25", "e-40", "e0005"]),
)


@given(SCALED)
@example(SCALED_MAX)
@example(-SCALED_MAX)
@example(0)
def test_what_is_written_is_read_back(value: int) -> None:
    text = format_scaled(value)
    assert parse_scaled(text) == value
    assert Fraction(text) == Fraction(value, ONE)
    assert text == format(Decimal(text, ENOUGH), "f")


@given(SCALED)
def test_texts_are_the_shortest_plain_ones(value: int) -> None:
    text = format_scaled(value)
    assert "e" not in text.lower() and not text.startswith("+") and text != "-0"
    if "." in text:
        assert text[-1] not in "0."
    assert text.lstrip("-") == "0" or not text.lstrip("-").startswith("0") or text.lstrip("-").startswith("0.")


@given(TEXTS)
@example("0.1")
@example("9007199254740993")
@example("1e-9")
@example("-0")
@example("." + "1")
@example("1.")
def test_a_text_is_read_exactly_or_refused(text: str) -> None:
    try:
        exact: Fraction | None = Fraction(ENOUGH.create_decimal(text))
    except ArithmeticError:
        exact = None
    if text.lstrip("+-").partition("e")[0].partition("E")[0] in ("", "."):
        exact = None
    fits = exact is not None and (exact * ONE).denominator == 1 and abs(exact * ONE) <= SCALED_MAX
    if fits:
        assert exact is not None and Fraction(parse_scaled(text), ONE) == exact
    else:
        with pytest.raises(NumberError) as refused:
            parse_scaled(text)
        assert isinstance(refused.value, NumberRangeError) == (exact is not None)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=12, min_value=-(10**25), max_value=10**25))
def test_decimals_are_taken_as_they_are(value: Decimal) -> None:
    assert Fraction(parse_scaled(value), ONE) == Fraction(value)


@given(st.integers(-(10**26) + 1, 10**26 - 1))
def test_whole_numbers_are_taken_as_they_are(value: int) -> None:
    assert parse_scaled(value) == value * ONE == parse_scaled(str(value))


@pytest.mark.parametrize("found", [0.1, 1.0, float("nan"), True, False, None, b"1", [], 1j])
def test_floats_flags_and_the_rest_are_no_numbers(found: object) -> None:
    with pytest.raises(NumberError, match="expected a decimal number as text"):
        parse_scaled(found)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "-",
        "+",
        ".",
        "e5",
        "-.e1",
        "1e",
        "1e+",
        "1.2.3",
        "1,5",
        "1_000",
        "0x1F",
        "nan",
        "NaN",
        "sNaN",
        "inf",
        "Infinity",
        "-Infinity",
        "--1",
        "1 ",
        " 1",
        "1\n",
        "١٢",
        "½",
        "1e1234567",
        "1e1.5",
        "true",
    ],
)
def test_what_is_no_number_is_named(text: str) -> None:
    with pytest.raises(NumberError, match=r"expected a decimal number such as 12\.5") as refused:
        parse_scaled(text)
    assert not isinstance(refused.value, NumberRangeError)
    assert repr(text) in str(refused.value)


@pytest.mark.parametrize("text", ["NaN", "sNaN", "Infinity", "-Infinity"])
def test_decimals_that_are_not_finite_are_refused(text: str) -> None:
    with pytest.raises(NumberError):
        parse_scaled(Decimal(text))


AT_THE_LIMIT = ["9" * 26, "-" + "9" * 26, "9" * 26 + "." + "9" * 12, "0." + "0" * 11 + "1", "1e25", "1e-12"]
AT_THE_LIMIT += ["0" * 100 + "1", "1." + "0" * 100, "1" + "0" * 30 + "e-30", "0e999999", "0." + "0" * 50]


@pytest.mark.parametrize("text", AT_THE_LIMIT)
def test_the_limit_fits(text: str) -> None:
    assert Fraction(parse_scaled(text), ONE) == Fraction(ENOUGH.create_decimal(text))


@pytest.mark.parametrize("text", ["1" + "0" * 26, "-" + "9" * 27, "1e26", "1e999999", "9" * 27 + ".5", "0.1e27"])
def test_one_digit_more_before_the_point_is_refused(text: str) -> None:
    with pytest.raises(NumberRangeError, match="at most 26 digits before the point"):
        parse_scaled(text)


@pytest.mark.parametrize("text", ["0." + "0" * 12 + "1", "1e-13", "1.0000000000001", "5e-999999", "-0.1234567890123"])
def test_one_digit_more_after_the_point_is_refused(text: str) -> None:
    with pytest.raises(NumberRangeError, match="at most 12 digits after the point"):
        parse_scaled(text)


def test_a_long_wrong_text_is_shown_by_its_beginning() -> None:
    with pytest.raises(NumberError) as refused:
        parse_scaled("x" * 10_000)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(("value", "fits"), [(SCALED_MAX, True), (SCALED_MAX + 1, False), (-SCALED_MAX - 1, False)])
def test_bounds_are_checked_at_one_above(value: int, fits: bool) -> None:
    if fits:
        assert check_scaled(value) == value
        assert check_scaled(-value) == -value
    else:
        with pytest.raises(NumberRangeError):
            check_scaled(value)


DIVISIONS = given(st.integers(-(10**60), 10**60), st.integers(1, 10**40))
TIES = given(st.integers(-(10**30), 10**30), st.integers(1, 10**15))


def half_up(exact: Fraction) -> int:
    magnitude = abs(exact) + Fraction(1, 2)
    whole = magnitude.numerator // magnitude.denominator
    return whole if exact >= 0 else -whole


@DIVISIONS
def test_halves_go_away_from_nought(numerator: int, denominator: int) -> None:
    assert divide_half_up(numerator, denominator) == half_up(Fraction(numerator, denominator))


@DIVISIONS
def test_halves_go_to_the_even_neighbour(numerator: int, denominator: int) -> None:
    assert divide_half_even(numerator, denominator) == round(Fraction(numerator, denominator))


@TIES
def test_ties_are_where_the_two_differ(quotient: int, half: int) -> None:
    numerator, denominator = (2 * quotient + 1) * half, 2 * half
    assert divide_half_up(numerator, denominator) == half_up(Fraction(numerator, denominator))
    assert divide_half_even(numerator, denominator) == round(Fraction(numerator, denominator))
    assert divide_half_even(numerator, denominator) % 2 == 0


@given(SCALED, SCALED)
def test_a_product_is_rounded_once(left: int, right: int) -> None:
    exact = half_up(Fraction(left * right, ONE))
    if abs(exact) <= SCALED_MAX:
        assert multiply_scaled(left, right) == exact
    else:
        with pytest.raises(NumberRangeError):
            multiply_scaled(left, right)


@given(SCALED, SCALED)
def test_amounts_below_nought_mirror_those_above(left: int, right: int) -> None:
    for divide in (divide_half_up, divide_half_even):
        assert divide(-left, abs(right) + 1) == -divide(left, abs(right) + 1)
