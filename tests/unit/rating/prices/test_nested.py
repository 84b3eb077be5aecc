"""Prices inside prices: the leaves stand in one row, each found by the event's dimensions and its time."""

from typing import Any

import pytest

from rating.prices.model import ByDimensions, ByTime, UsagePrice, choose
from schemas.limits import PRICE_DEPTH_MAX
from schemas.numbers import ONE
from tests.unit.rating.prices.reading import faults_of, usage


def unit(amount: str) -> dict[str, Any]:
    return {"model": "unit", "unit_amount": amount}


NIGHT = {
    "model": "schedule",
    "windows": [{"hours": "22:00-06:00", "price": unit("1")}, {"days": ["sun"], "price": unit("2")}],
}
KINDS = {
    "model": "matrix",
    "by": ["kind", "size"],
    "cells": [
        {"match": {"kind": "a"}, "price": unit("3")},
        {"match": {"kind": "b"}, "price": NIGHT},
        {"match": {"kind": ["a", "b"], "size": "big"}, "price": {"model": "percentage", "rate": "0.5"}},
    ],
    "otherwise": unit("4"),
}


def asked(price: UsagePrice, window: int | None = None, **dimensions: str | None) -> tuple[int | None, int]:
    """The label and the last channel's unit amount of what prices an event."""
    leaf = price.leaves[choose(price.choice, dimensions, lambda _: window)]
    return leaf.label, leaf.tables[-1].tiers[0].unit_amount


def test_a_price_without_cells_has_one_leaf_without_a_label() -> None:
    price = usage(**unit("1"))
    assert (price.choice, len(price.leaves), price.leaves[0].label) == (0, 1, None)


def test_a_schedule_in_a_matrix() -> None:
    price = usage(**KINDS)
    assert [leaf.label for leaf in price.leaves] == [0, 1, 1, 1, 2, -1]
    assert asked(price, kind="a") == (0, 3 * ONE)
    assert asked(price, 0, kind="b") == (1, ONE)
    assert asked(price, 1, kind="b") == (1, 2 * ONE)
    assert asked(price, None, kind="b") == (1, 0)
    assert asked(price, kind="b", size="big") == (2, ONE // 2)
    assert asked(price, kind="c", size="big") == (-1, 4 * ONE)
    assert asked(price, kind=None, size=None) == (-1, 4 * ONE)


def test_a_matrix_in_a_schedule_in_a_matrix() -> None:
    inner = {"model": "schedule", "timezone": "Asia/Tokyo", "windows": [{"price": KINDS}], "otherwise": unit("9")}
    outer = {"model": "matrix", "by": ["plan"], "cells": [{"match": {"plan": "pro"}, "price": inner}]}
    price = usage(**outer)
    assert [leaf.label for leaf in price.leaves] == [0] * 7 + [-1]
    assert isinstance(price.choice, ByDimensions) and isinstance(price.choice.cells[0][1], ByTime)
    assert asked(price, 0, plan="pro", kind="a") == (0, 3 * ONE)
    assert asked(price, 0, plan="pro") == (0, 4 * ONE)
    assert asked(price, None, plan="pro", kind="a") == (0, 9 * ONE)
    assert asked(price, 0, plan="free", kind="a") == (-1, 0)


def test_without_otherwise_the_last_leaf_costs_nothing() -> None:
    price = usage(model="matrix", by=["k"], cells=[{"match": {"k": 1}, "price": unit("1")}])
    assert [leaf.label for leaf in price.leaves] == [0, -1]
    assert price.choice == ByDimensions(("k",), (((("k", ("1",)),), 0),), 1)
    assert price.leaves[1].tables[0].amount(7 * ONE) == 0


def deep(levels: int) -> dict[str, Any]:
    price = unit("1")
    for _ in range(levels):
        price = {"model": "schedule", "windows": [{"price": price}]}
    return price


def test_prices_stand_inside_each_other_to_a_depth() -> None:
    usage(**deep(PRICE_DEPTH_MAX))
    path = "price" + ".windows[0].price" * (PRICE_DEPTH_MAX + 1)
    message = f"found {PRICE_DEPTH_MAX + 1} prices around this one, expected at most {PRICE_DEPTH_MAX}"
    assert faults_of(**deep(PRICE_DEPTH_MAX + 1)) == [(path, message)]


@pytest.mark.parametrize(
    ("inside", "path", "message"),
    [
        ({"model": "flat", "amount": "1"}, ".model", "found 'flat', expected a model of usage inside another price"),
        (
            {"model": "one_time", "amount": "1"},
            ".model",
            "found 'one_time', expected a model of usage inside another price",
        ),
        ({"model": "unti"}, ".model", "found 'unti' (did you mean 'unit'?), expected one of "),
        ({}, ".model", "missing: expected one of "),
        ({"model": "percentage", "rate": "-1"}, ".rate", "found -1, expected nought or more"),
        ({"model": "unit"}, ".unit_amount", "missing"),
    ],
)
def test_a_fault_inside_is_named_with_its_path(inside: dict[str, Any], path: str, message: str) -> None:
    matrix = {"model": "matrix", "by": ["k"], "cells": [{"match": {"k": "1"}, "price": inside}]}
    schedule = {"model": "schedule", "windows": [{"price": inside}]}
    for price, where in (
        (matrix, "price.cells[0].price"),
        (matrix | {"cells": [], "otherwise": inside}, "price.otherwise"),
        (schedule, "price.windows[0].price"),
        (schedule | {"windows": [{"price": unit("1")}], "otherwise": inside}, "price.otherwise"),
    ):
        ((at, found),) = faults_of(**price)
        assert at == where + path
        assert found.startswith(message)
