"""Exact decimals: every quantity and amount is a whole number of 10^-12.

A *scaled* number is a Python `int` that counts units of 10^-12: `1.5` is `1_500_000_000_000`.
38 digits in all, 12 of them after the point. Nothing here ever touches a float: numbers are read from
their text, and what does not fit is refused by name (`NumberError`), never rounded in silence.
"""

import re
from decimal import Decimal
from typing import Final

DIGITS: Final = 38
SCALE: Final = 12
ONE: Final = 10**SCALE
SCALED_MAX: Final = 10**DIGITS - 1
"""The largest scaled number: 26 digits before the point, 12 after."""

_NUMBER = re.compile(r"([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d{1,6}))?\Z", re.ASCII)


class NumberError(ValueError):
    """A number that cannot be held exactly; the message says what was found and what fits."""


class NumberRangeError(NumberError):
    """A number indeed, but with more digits than can be held."""


def parse_scaled(text: str | int | Decimal) -> int:
    """The scaled number that `text` says exactly, e.g. "0.1" -> 100_000_000_000.

    Accepts a decimal text (JSON's grammar, with an exponent, an explicit sign or a bare point too), an `int`
    or a `Decimal`. Refuses floats, booleans, NaN, infinities, more than 12 digits after the point (noughts at
    the end do not count) and more than 26 before it.

    Raises: NumberError.
    """
    if isinstance(text, bool) or not isinstance(text, str | int | Decimal):
        raise NumberError(f"found {text!r} ({type(text).__name__}), expected a decimal number as text")
    if isinstance(text, int):
        return check_scaled(text * ONE)
    raw = str(text)
    match = _NUMBER.match(raw)
    if match is None or not (match[2] or match[3]):
        raise NumberError(f"found {_short(raw)}, expected a decimal number such as 12.5")
    sign, whole, fraction, exponent = match[1], match[2], match[3] or "", int(match[4] or 0)
    digits = (whole + fraction).lstrip("0")
    if not digits:
        return 0
    stripped = digits.rstrip("0")
    power = exponent - len(fraction) + (len(digits) - len(stripped)) + SCALE
    if power < 0:
        raise NumberRangeError(f"found {_short(raw)}, expected at most {SCALE} digits after the point")
    if len(stripped) + power > DIGITS:
        raise NumberRangeError(f"found {_short(raw)}, expected at most {DIGITS - SCALE} digits before the point")
    value = int(stripped) * 10**power
    return -value if sign == "-" else value


def check_scaled(value: int) -> int:
    """`value` itself where it fits 38 digits. Raises: NumberError."""
    if not -SCALED_MAX <= value <= SCALED_MAX:
        raise NumberRangeError(f"{format_scaled(value)} has more than {DIGITS - SCALE} digits before the point")
    return value


def format_scaled(value: int) -> str:
    """The shortest plain decimal text: no trailing noughts, no exponent, no `-0`."""
    sign = "-" if value < 0 else ""
    whole, fraction = divmod(abs(value), ONE)
    if not fraction:
        return f"{sign}{whole}"
    return f"{sign}{whole}.{fraction:012d}".rstrip("0")


def divide_half_up(numerator: int, denominator: int) -> int:
    """The quotient rounded to a whole number, halves away from nought. `denominator` is above nought."""
    quotient, remainder = divmod(abs(numerator), denominator)
    quotient += 2 * remainder >= denominator
    return -quotient if numerator < 0 else quotient


def divide_half_even(numerator: int, denominator: int) -> int:
    """The quotient rounded to a whole number, halves to the even neighbour. `denominator` is above nought."""
    quotient, remainder = divmod(abs(numerator), denominator)
    twice = 2 * remainder
    quotient += twice > denominator or (twice == denominator and quotient % 2 == 1)
    return -quotient if numerator < 0 else quotient


def multiply_scaled(left: int, right: int) -> int:
    """The product of two scaled numbers as a scaled number, rounded half up at the 12th digit, once.

    Raises: NumberError where it has more than 26 digits before the point.
    """
    return check_scaled(divide_half_up(left * right, ONE))


def _short(raw: str) -> str:
    return repr(raw if len(raw) <= 60 else raw[:57] + "...")
