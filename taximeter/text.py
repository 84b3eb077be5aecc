"""Plain text that is good to look at: numbers as people write them, paragraphs, and tables aligned at the point."""

import re
import textwrap
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import Final, Literal
from zoneinfo import ZoneInfo

WIDTH_MAX: Final = 100
Align = Literal["left", "number"]

_WHOLE: Final = re.compile(r"[-+\d,]*")
_MONTHS: Final = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip


def number(value: Decimal | str | int) -> str:
    """A decimal in full, with commas between thousands and no trailing noughts: `12,500.25`."""
    text = format(value, "f") if isinstance(value, Decimal) else str(value)
    whole, _, rest = text.lstrip("-").partition(".")
    rest = rest.rstrip("0")
    minus = "-" if text.startswith("-") and (rest or whole.strip("0")) else ""
    return f"{minus}{int(whole or 0):,}" + (f".{rest}" if rest else "")


def percent(share: Decimal) -> str:
    """A share as a percentage: 0.029 is `2.9 %`."""
    with localcontext(prec=60):
        return f"{number(share * 100)} %"


def about(value: Decimal, digits: int = 4) -> str:
    """A number rounded to so many digits that say something."""
    with localcontext(prec=digits, rounding=ROUND_HALF_UP):
        return number(+value)


def moment(at: datetime, zone: str = "UTC") -> str:
    """A time in words: `1 November 2026`, and the hour where it is not midnight."""
    local = at.astimezone(ZoneInfo(zone))
    day = f"{local.day} {_MONTHS[local.month - 1]} {local.year}"
    if (local.hour, local.minute, local.second, local.microsecond) == (0, 0, 0, 0):
        return day
    clock = local.strftime("%H:%M") if not (local.second or local.microsecond) else local.time().isoformat()
    return f"{day} at {clock}" + (" UTC" if zone == "UTC" else "")


def listed(words: Sequence[str], last: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}" if words else ""


def plural(count: int, one: str, many: str | None = None) -> str:
    """`1 charge`, `2 charges`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def paragraph(text: str, indent: int = 0, width: int = WIDTH_MAX, hang: int = 0) -> list[str]:
    """The lines of a paragraph; those after the first stand `hang` further in."""
    first, rest = " " * indent, " " * (indent + hang)
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    ) or [""]


def heading(left: str, right: str = "", width: int = WIDTH_MAX) -> list[str]:
    """A heading with a rule below it."""
    return [f"{left}{right.rjust(width - len(left))}" if right else left, "─" * width]


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    align: Sequence[Align],
    indent: int = 0,
    width: int = WIDTH_MAX,
    gap: int = 3,
) -> list[str]:
    """A table: numbers aligned at the point under a header that stands right, words left. The last column of words is
    wrapped where the row would be too long."""
    columns = _columns([list(row) for row in rows], align)
    widths = [max([len(header[i]), *map(len, column)]) for i, column in enumerate(columns)]
    spare = width - indent - sum(widths) - gap * (len(widths) - 1)
    if spare < 0 and align[-1] == "left":
        widths[-1] = max(widths[-1] + spare, 20)
    shown = [header, *zip(*columns, strict=True)] if any(header) else list(zip(*columns, strict=True))
    lines: list[str] = []
    for row in shown:
        wrapped = textwrap.wrap(row[-1], widths[-1], break_on_hyphens=False) if align[-1] == "left" else [row[-1]]
        for n, piece in enumerate(wrapped or [""]):
            parts = [*row[:-1], piece] if n == 0 else [*[""] * (len(row) - 1), piece]
            padded = [
                part.rjust(size) if kind == "number" else part.ljust(size)
                for part, size, kind in zip(parts, widths, align, strict=True)
            ]
            lines.append((" " * indent + (" " * gap).join(padded)).rstrip())
    return lines


def _columns(rows: list[list[str]], align: Sequence[Align]) -> list[list[str]]:
    found = [[row[i] for row in rows] for i in range(len(align))]
    return [_aligned(column) if kind == "number" else column for column, kind in zip(found, align, strict=True)]


def _aligned(column: list[str]) -> list[str]:
    """Numbers padded behind, so that their points stand below each other when they stand right."""
    tails = [len(text) - len(_WHOLE.match(text)[0]) for text in column]  # type: ignore[index]  # it matches anything
    return [text + " " * (max(tails, default=0) - tail) for text, tail in zip(column, tails, strict=True)]
