"""Reads the shared cases, and holds what was found against what they assert."""

import json
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from tests.oracle.calendars import moment
from tests.oracle.reading import half_up, show

HERE = Path(__file__).parent
FILES = ("rating.json", "metering.json")
Case = dict[str, Any]
Figure = Fraction | str | None

_MINOR_DIGITS = {"JPY": 0, "KWD": 3, "BHD": 3}


def find_cases() -> list[Path]:
    """The two files. Raises: FileNotFoundError, which says what is missing and where it was sought."""
    folder = Path(os.environ.get("TAXIMETER_SHARED_CASES") or HERE.parents[1] / ".." / "shared" / "cases")
    paths = [folder / name for name in FILES]
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(
                f"the rating and metering cases are missing: sought {path.name} in {folder}. "
                f"Put {' and '.join(FILES)} there or set TAXIMETER_SHARED_CASES to the folder that holds them "
                "(figures of other billing engines' own tests in a neutral form)."
            )
    return paths


def read_cases() -> list[Case]:
    """Every case of both files; none where they are missing (`find_cases` says so)."""
    try:
        return [case for path in find_cases() for case in json.loads(path.read_text())]
    except FileNotFoundError:
        return []


class Money:
    """The unit in which a case writes money, and the currency's own smallest one."""

    def __init__(self, case: Case) -> None:
        self.currency: str = case.get("currency") or (case.get("rounding") or {}).get("currency") or "USD"
        self.digits = _MINOR_DIGITS.get(self.currency, 2)
        self.unit = Fraction(1, 10**self.digits) if case.get("money_unit") == "minor" else Fraction(1)

    def read(self, text: str) -> str:
        """A figure of the case in the currency's major unit, as a catalogue writes it."""
        return show(Fraction(text) * self.unit)

    def own(self, amount: Fraction) -> Fraction:
        """An amount in the case's own unit."""
        return amount / self.unit

    def minor(self, amount: Fraction) -> Fraction:
        """An amount in the currency's minor unit."""
        return amount * 10**self.digits


def differences(case: Case, found: dict[str, Any]) -> list[str]:
    """Every figure that the case asserts and that was not found so, one line each."""
    expected = case["expected"] if isinstance(case["expected"], dict) else {"value": case["expected"]}
    return list(_differences(expected, found, _digits(case), ""))


def _digits(case: Case) -> dict[str, int]:
    """To how many digits after the point which figure is asserted; those that are not named are exact."""
    said = case.get("compare_digits") or {}
    if isinstance(said, str):
        return {"value": int(said)}
    digits = {key: int(text) for key, text in said.items()}
    finer = int((case.get("rounding") or {}).get("digits", 0)) > Money(case).digits
    return digits | ({"amount": int(case["rounding"]["digits"])} if finer else {})


def _differences(expected: Any, found: Any, digits: dict[str, int], where: str) -> Iterator[str]:
    if isinstance(expected, dict):
        for key, value in expected.items():
            if key not in found:
                yield f"{where}{key}: expected {value}, not found at all"
            elif value is not None:
                yield from _differences(value, found[key], digits, f"{where}{key} ")
    elif isinstance(expected, list):
        if len(expected) != len(found):
            yield f"{where}: expected {expected}, found {_shown(found)}"
            return
        for i, (one, other) in enumerate(zip(expected, found, strict=True)):
            yield from _differences(one, other, digits, f"{where}[{i}] ")
    elif not _same(expected, found, digits.get(where.split(" ", maxsplit=1)[0])):
        yield f"{where}: expected {expected}, found {_shown(found)}"


def _same(expected: Figure, found: Figure, digits: int | None) -> bool:
    if not isinstance(found, Fraction) or not isinstance(expected, str):
        return expected == found or (isinstance(expected, str) and "T" in expected and _same_time(expected, found))
    right = Fraction(expected)
    if digits is None:
        return found == right
    unit = Fraction(10) ** -digits
    return half_up(found, unit) == half_up(right, unit)


def _same_time(expected: str, found: Figure) -> bool:
    return isinstance(found, str) and moment(expected) == moment(found)


def _shown(found: Any) -> Any:
    if isinstance(found, Fraction):
        return show(found) if (found * 10**12).denominator == 1 else f"{found} (about {float(found):.6f})"
    if isinstance(found, list):
        return [_shown(one) for one in found]
    if isinstance(found, dict):
        return {key: _shown(one) for key, one in found.items()}
    return found
