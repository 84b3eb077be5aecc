"""Plain text: numbers as people write them, tables aligned at the point, nothing wider than it may be."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from taximeter.text import about, heading, listed, moment, number, paragraph, percent, plural, table


@pytest.mark.parametrize(
    ("value", "said"),
    [("0", "0"), ("12500", "12,500"), ("-1234567.0500", "-1,234,567.05"), ("0.000003", "0.000003"), ("-0.5", "-0.5"),
     ("-0.0", "0"), (Decimal("1E+6"), "1,000,000"), (Decimal("1E-12"), "0.000000000001"), (7, "7")],
)  # fmt: skip
def test_a_number_in_full(value: str | Decimal | int, said: str) -> None:
    assert number(value) == said


def test_a_share_as_a_percentage_is_exact() -> None:
    assert percent(Decimal("0.029")) == "2.9 %"
    assert (
        percent(Decimal("12345678901234567890123456.123456789012"))
        == "1,234,567,890,123,456,789,012,345,612.3456789012 %"
    )


def test_about_keeps_the_digits_that_say_something() -> None:
    assert [about(Decimal(text)) for text in ("0.0081818", "123456", "9.99995", "0")] == [
        "0.008182",
        "123,500",
        "10",
        "0",
    ]


def test_a_moment_is_told_in_its_zone() -> None:
    at = datetime(2026, 10, 31, 23, 0, tzinfo=UTC)
    assert moment(at) == "31 October 2026 at 23:00 UTC"
    assert moment(at, "Europe/Zurich") == "1 November 2026"
    assert moment(at.replace(second=5), "Asia/Kathmandu") == "1 November 2026 at 04:45:05"


def test_words_are_listed() -> None:
    assert [listed(words) for words in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]
    assert listed(["a", "b"], "or") == "a or b"
    assert (plural(1, "day"), plural(0, "day"), plural(2000, "day")) == ("1 day", "0 days", "2,000 days")


def test_numbers_stand_with_their_points_below_each_other() -> None:
    rows = [("1", "0.5", "+50 %"), ("1,000", "12", "+2.82 %"), ("10", "3.25", "")]
    assert table(["units", "USD", ""], rows, ["number", "number", "number"]) == [
        "units     USD",
        "    1    0.5    +50 %",
        "1,000   12       +2.82 %",
        "   10    3.25",
    ]


def test_words_in_the_last_column_are_wrapped_below_themselves() -> None:
    lines = table(("", ""), [("name", "one two three four five six seven")], ("left", "left"), 2, 30)
    assert lines == ["  name   one two three four", "         five six seven"]


def test_nothing_is_wider_than_the_width() -> None:
    text = "words " * 100
    for lines in (
        paragraph(text, 8, 60, 4),
        heading("left", "right", 60),
        table(("", ""), [("a", text)], ("left", "left"), 4, 60),
    ):
        assert all(len(line) <= 60 for line in lines)
