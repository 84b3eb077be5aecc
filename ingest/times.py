"""Many event times at once. The same answers as `schemas.times.parse_time`, which reads whatever is not plain here.

Clients write times in a handful of shapes, and one client in one: texts of equal length are read as a table of digits.
"""

from collections.abc import Sequence
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from ingest.columns import ABSENT
from schemas.limits import TIME_MAX_YEAR
from schemas.times import HOUR, SECOND, TimeError, parse_time

_TABLE_ROWS_MIN: Final = 24
"""Fewer texts of one shape are read faster one by one."""

_PLAIN = "dddd-dd-ddTdd:dd:dd"


def parse_times(texts: Sequence[str | None]) -> list[int]:
    """Microseconds since the epoch for each text; `ABSENT` for None.

    Raises: TimeError if one of them is no time.
    """
    if len(texts) < _TABLE_ROWS_MIN:
        return [ABSENT if text is None else check_time(text) for text in texts]
    if None not in texts and len(set(map(len, cast(Sequence[str], texts)))) == 1:
        plain = cast(list[str], texts)
        return _parse_same_length(plain, len(plain[0]))
    shapes: dict[int, list[int]] = {}
    for at, length in enumerate([-1 if text is None else len(text) for text in texts]):
        shapes.setdefault(length, []).append(at)
    times = [ABSENT] * len(texts)
    for length, positions in shapes.items():
        if length < 0:
            continue
        chosen = [text for at in positions if (text := texts[at]) is not None]
        for at, time in zip(positions, _parse_same_length(chosen, length), strict=True):
            times[at] = time
    return times


def check_time(text: str) -> int:
    """The time in microseconds. Raises: TimeError, also where an offset moves it before 1970."""
    time = parse_time(text)
    if time < 0:
        raise TimeError(f"found {text!r}, expected a time of 1970 or later")
    return time


def _parse_same_length(texts: list[str], length: int) -> list[int]:
    if len(texts) >= _TABLE_ROWS_MIN and (template := _template(texts[0])) is not None:
        table = _parse_table("".join(texts), template, length)
        if table is not None:
            return table
    return [check_time(text) for text in texts]


def _template(text: str) -> str | None:
    """The shape of a plain time: `d` for a digit, everything else as it must stand. None if it is not plain."""
    zone = "Z" if text.endswith("Z") else "+00:00" if text.endswith("+00:00") else None
    if zone is None or len(text) < len(_PLAIN) + len(zone):
        return None
    fraction = len(text) - len(_PLAIN) - len(zone)
    if fraction == 1 or fraction > 10:
        return None
    return _PLAIN + ("." + "d" * (fraction - 1) if fraction else "") + zone


def _parse_table(joined: str, template: str, length: int) -> list[int] | None:
    """The times of texts that all have the template's shape; None if one has not, or is out of the plain range."""
    if not joined.isascii():
        return None
    table = np.frombuffer(joined.encode(), dtype=np.uint8).reshape(-1, length)
    shape = np.frombuffer(template.encode(), dtype=np.uint8)
    is_digit = shape == ord("d")
    digits = table[:, is_digit] - np.uint8(ord("0"))
    if (digits > 9).any() or (table[:, ~is_digit] != shape[~is_digit]).any():
        return None
    number = digits.astype(np.int64)
    year = _whole(number[:, 0:4])
    month, day = _whole(number[:, 4:6]), _whole(number[:, 6:8])
    hour, minute, second = _whole(number[:, 8:10]), _whole(number[:, 10:12]), _whole(number[:, 12:14])
    if (month - 1 > 11).any() or (month < 1).any() or (hour > 23).any() or (minute > 59).any() or (second > 59).any():
        return None  # a leap second, too: it is read one by one
    if (year < 1970).any() or (year > TIME_MAX_YEAR).any():
        return None
    months = ((year - 1970) * 12 + month - 1).astype("datetime64[M]")
    first = months.astype("datetime64[D]").astype(np.int64)
    after = (months + 1).astype("datetime64[D]").astype(np.int64)
    if (day < 1).any() or (first + day > after).any():
        return None
    fraction = number[:, 14:20]
    micros = _whole(fraction) * 10 ** (6 - fraction.shape[1])
    seconds = minute * 60 + second
    times: list[int] = ((first + day - 1) * 24 * HOUR + hour * HOUR + seconds * SECOND + micros).tolist()
    return times


def _whole(digits: NDArray[np.int64]) -> NDArray[np.int64]:
    """The whole number that each row of digits writes; nought for no digits."""
    return digits @ (10 ** np.arange(digits.shape[1] - 1, -1, -1, dtype=np.int64))
