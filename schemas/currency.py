"""Currencies and their minor units (ISO 4217, list one, as of January 2025). The one place that rounds money."""

from typing import Final, Literal

from schemas.numbers import ONE, SCALE, divide_half_even, divide_half_up

Rounding = Literal["half_up", "half_even"]

_TWO = (
    "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP "
    "CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR "
    "JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN "
    "NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP "
    "SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XAD XCD XCG YER ZAR ZMW ZWG"
)
_ZERO = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF"
_THREE = "BHD IQD JOD KWD LYD OMR TND"

MINOR_DIGITS: Final[dict[str, int]] = (
    dict.fromkeys(_TWO.split(), 2) | dict.fromkeys(_ZERO.split(), 0) | dict.fromkeys(_THREE.split(), 3)
)
"""Currency code -> digits of its minor unit."""


def minor_unit(currency: str) -> int:
    """The currency's minor unit as a scaled number: 0.01 for USD, 1 for JPY."""
    return int(10 ** (SCALE - MINOR_DIGITS[currency]))


def round_to_minor(amount: int, currency: str, rounding: Rounding) -> int:
    """A scaled amount rounded to the currency's minor unit, still scaled: 0.125 USD -> 0.13 USD.

    `half_up` is half away from nought. This is the only place where money is rounded to be billed.
    """
    return round_quotient(amount, 1, currency, rounding)


def round_quotient(numerator: int, denominator: int, currency: str, rounding: Rounding) -> int:
    """`round_to_minor` of a quotient that need not end: a share of an amount is rounded once. `denominator` is above
    nought.
    """
    unit = minor_unit(currency)
    divide = divide_half_up if rounding == "half_up" else divide_half_even
    return divide(numerator, denominator * unit) * unit


def whole_minor_units(amount: int, currency: str) -> int:
    """A rounded scaled amount as a whole number of minor units (cents)."""
    units, rest = divmod(amount * 10 ** MINOR_DIGITS[currency], ONE)
    if rest:
        raise ValueError(f"{amount} is not a whole number of minor units of {currency}")
    return units
