"""The second opinion's prices, on paper."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from taximeter.demo_prices import cents, find_cell, plain, price_line

TIERS = {"model": "graduated", "tiers": [{"up_to": "10", "unit_amount": "2"}, {"unit_amount": "1", "flat_amount": "5"}]}
PACKAGES = {"model": "package", "package_size": "60", "package_amount": "0.5"}
MATRIX = {
    "model": "matrix",
    "by": ["a", "b"],
    "cells": [{"match": {"a": "1"}, "price": PACKAGES}, {"match": {"a": "1", "b": "2"}, "price": TIERS}],
    "otherwise": {"model": "unit", "unit_amount": "0.01"},
}


@pytest.mark.parametrize(
    ("charge", "cells", "amount"),
    [
        ({"price": {"model": "unit", "unit_amount": "0.3"}}, {0: 7}, "2.1"),
        ({"price": TIERS}, {0: 10}, "20"),
        ({"price": TIERS}, {0: 12}, "27"),
        ({"price": TIERS, "free_units": "2"}, {0: 12}, "20"),
        ({"price": TIERS, "free_units": "20"}, {0: 12}, "0"),
        ({"price": PACKAGES}, {0: 60}, "0.5"),
        ({"price": PACKAGES}, {0: 61}, "1"),
        ({"price": MATRIX}, {0: 61, 1: 12, -1: 300}, "31"),
    ],
)
def test_price(charge: Any, cells: dict[int, int], amount: str) -> None:
    assert plain(price_line(charge, {cell: Fraction(q) for cell, q in cells.items()})) == amount


def test_cell_with_the_most_matches() -> None:
    assert [find_cell(MATRIX, d) for d in ({"a": "1"}, {"a": "1", "b": "2"}, {"b": "2"}, {})] == [0, 1, -1, -1]


@pytest.mark.parametrize(("amount", "rounded"), [("0.005", "0.01"), ("0.00499", "0"), ("1.115", "1.12"), ("2", "2")])
def test_cents_are_rounded_half_up(amount: str, rounded: str) -> None:
    assert cents(Fraction(amount)) == Decimal(rounded)
