"""Every fault that a price can have, with its path and its message."""

from typing import Any

import pytest

from schemas.limits import CELLS_MAX, FREE_EVENTS_MAX, LEAVES_MAX, TIERS_MAX, WINDOWS_MAX, ZERO_PACKAGES_MAX
from tests.unit.rating.prices.reading import faults_of, usage

UNIT = {"model": "unit", "unit_amount": "1"}
LAST = [{"flat_amount": "1"}]
NEGATIVE = "found -1, expected nought or more"


def tiers(model: str, *written: dict[str, Any], **parameters: Any) -> dict[str, Any]:
    return {"model": model, "tiers": list(written)} | parameters


def package(**parameters: Any) -> dict[str, Any]:
    return {"model": "package", "package_size": "1", "package_amount": "1"} | parameters


def percentage(**parameters: Any) -> dict[str, Any]:
    return {"model": "percentage", "rate": "0.1"} | parameters


def window(**parameters: Any) -> dict[str, Any]:
    return {"model": "schedule", "windows": [{"price": UNIT} | parameters]}


def cell(**parameters: Any) -> dict[str, Any]:
    return {"model": "matrix", "by": ["k"], "cells": [{"match": {"k": "1"}, "price": UNIT} | parameters]}


HOURS = "expected two times of the day such as 08:00-20:00, the last one at most 24:00"


@pytest.mark.parametrize(
    ("price", "path", "message"),
    [
        # Tiers.
        (tiers("graduated"), "tiers", "found no tiers, expected at least one"),
        (tiers("volume"), "tiers", "found no tiers, expected at least one"),
        (tiers("volume", {}, {}), "tiers[0].up_to", "missing: only the last tier is open above"),
        (
            tiers("volume", {"up_to": "5"}),
            "tiers[0].up_to",
            "found 5, expected none: the last tier is open above",
        ),
        (
            tiers("graduated", {"up_to": "5"}, {"up_to": "5"}, {}),
            "tiers[1].up_to",
            "found 5, expected more than 5: tiers must rise",
        ),
        (tiers("graduated", {"unit_amount": "-1"}), "tiers[0].unit_amount", NEGATIVE),
        (tiers("graduated", {"flat_amount": "-1"}), "tiers[0].flat_amount", NEGATIVE),
        (tiers("graduated", {"maximum_amount": "-1"}), "tiers[0].maximum_amount", NEGATIVE),
        (tiers("graduated_percentage", {"rate": "-1"}), "tiers[0].rate", NEGATIVE),
        (tiers("graduated_percentage", {"flat_amount": "-1"}), "tiers[0].flat_amount", NEGATIVE),
        (
            tiers("graduated_percentage", {"unit_amount": "1"}),
            "tiers[0].unit_amount",
            "unknown key: found 'unit_amount' (did you mean 'flat_amount'?), expected one of flat_amount, rate, up_to",
        ),
        (
            tiers("volume", {"maximum_amount": "1"}),
            "tiers[0].maximum_amount",
            "unknown key: found 'maximum_amount' (did you mean 'unit_amount'?), "
            "expected one of flat_amount, unit_amount, up_to",
        ),
        (tiers("stairstep", {}), "tiers[0].flat_amount", "missing"),
        (tiers("stairstep", *LAST, method="all"), "method", "found 'all', expected one of graduated, volume"),
        (tiers("stairstep", *LAST, bounds="at"), "bounds", "found 'at', expected one of from, up_to"),
        (
            tiers("volume", {}, bounds="form"),
            "bounds",
            "found 'form' (did you mean 'from'?), expected one of from, up_to",
        ),
        (
            tiers("graduated", {}, bounds="from"),
            "bounds",
            "unknown key: found 'bounds', expected one of tiers",
        ),
        # package
        (package(package_size="0"), "package_size", "found 0, expected more than nought"),
        (package(package_amount="-1"), "package_amount", NEGATIVE),
        (
            package(zero_usage_packages=-1),
            "zero_usage_packages",
            f"found -1, expected a whole number from 0 to {ZERO_PACKAGES_MAX}",
        ),
        (
            package(zero_usage_packages="1.5"),
            "zero_usage_packages",
            "found '1.5', expected a whole number",
        ),
        # percentage
        ({"model": "percentage"}, "rate", "missing"),
        (percentage(rate="-1"), "rate", NEGATIVE),
        (percentage(fixed_amount="-1"), "fixed_amount", NEGATIVE),
        (percentage(min_amount="-1"), "min_amount", NEGATIVE),
        (percentage(max_amount="-1"), "max_amount", NEGATIVE),
        (
            percentage(min_amount="2", max_amount="1"),
            "min_amount",
            "found 2, expected at most the max_amount 1",
        ),
        (percentage(free_amount="0"), "free_amount", "found 0, expected more than nought"),
        (percentage(free_events=0), "free_events", f"found 0, expected a whole number from 1 to {FREE_EVENTS_MAX}"),
        (
            percentage(free_rule="first"),
            "free_rule",
            "found 'first' (did you mean 'first_limit'?), expected one of amount_governs, first_limit",
        ),
        # dynamic
        ({"model": "dynamic"}, "amount", "missing"),
        (
            {"model": "dynamic", "amount": "cost"},
            "amount",
            "found 'cost', expected a path that starts with $, such as $.tokens",
        ),
        ({"model": "dynamic", "amount": "$.c", "multiplier": "-1"}, "multiplier", NEGATIVE),
        # schedule
        ({"model": "schedule"}, "windows", "missing"),
        ({"model": "schedule", "windows": []}, "windows", "found no windows, expected at least one"),
        (
            window() | {"timezone": "Mars/Base"},
            "timezone",
            "found 'Mars/Base', expected an IANA time zone such as Europe/Zurich",
        ),
        (
            window(days=[]),
            "windows[0].days",
            "found no days, expected at least one (or none of this key for all of them)",
        ),
        (window(days=["mon", "mon"]), "windows[0].days[1]", "found mon twice"),
        (
            window(days=["Mon"]),
            "windows[0].days[0]",
            "found 'Mon' (did you mean 'mon'?), expected one of fri, mon, sat, sun, thu, tue, wed",
        ),
        (window(hours="8-20"), "windows[0].hours", f"found '8-20', {HOURS}"),
        (window(hours="08:00-20:00\n"), "windows[0].hours", f"found '08:00-20:00\\n', {HOURS}"),
        (window(hours="08:00-24:01"), "windows[0].hours", f"found '08:00-24:01', {HOURS}"),
        (window(hours="08:60-20:00"), "windows[0].hours", f"found '08:60-20:00', {HOURS}"),
        (window(hours="24:00-06:00"), "windows[0].hours", f"found '24:00-06:00', {HOURS}"),
        (
            window(hours="08:00-08:00"),
            "windows[0].hours",
            "found '08:00-08:00', which holds no time (00:00-24:00 is the whole day)",
        ),
        ({"model": "schedule", "windows": [{}]}, "windows[0].price", "missing"),
        (window(price="unit"), "windows[0].price", "found 'unit', expected a mapping"),
        # matrix
        (cell() | {"by": []}, "by", "found no dimension, expected at least one"),
        (
            cell(match={}),
            "cells[0].match",
            "found nothing to match, expected a dimension (or use otherwise)",
        ),
        (cell(match={"j": "1"}), "cells[0].match.j", "not in `by`: found 'j', expected one of k"),
        (cell(match={"k": None}), "cells[0].match.k", "expected a value or a list of values"),
        (cell(match={"k": []}), "cells[0].match.k", "expected a value or a list of values"),
    ],
)
def test_a_fault_has_its_path_and_says_what_is_wrong(price: dict[str, Any], path: str, message: str) -> None:
    found = faults_of(**price)
    assert (f"price.{path}", message) in found
    assert len(found) == 1 or path == "by"


def test_every_fault_of_a_price_is_named() -> None:
    price = percentage(rate="-1", free_amount="-2", min_amount="3", max_amount="2")
    assert [path for path, _ in faults_of(**price)] == ["price.rate", "price.free_amount", "price.min_amount"]
    price = window(hours="8", days=[]) | {"timezone": "x", "otherwise": {"model": "flat", "amount": "1"}}
    assert [path for path, _ in faults_of(**price)] == [
        "price.timezone",
        "price.windows[0].days",
        "price.windows[0].hours",
        "price.otherwise.model",
    ]


def rising(count: int) -> list[dict[str, str]]:
    return [{"up_to": str(i)} for i in range(1, count)] + [{}]


def cells(count: int, price: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": "matrix",
        "by": ["k"],
        "cells": [{"match": {"k": str(i)}, "price": price} for i in range(count)],
    }


def windows(count: int) -> dict[str, Any]:
    return {"model": "schedule", "windows": [{"price": UNIT}] * count}


@pytest.mark.parametrize(
    ("at_the_limit", "above", "path", "message"),
    [
        (
            tiers("graduated", *rising(TIERS_MAX)),
            tiers("graduated", *rising(TIERS_MAX + 1)),
            "price.tiers",
            f"found {TIERS_MAX + 1} tiers, expected at most {TIERS_MAX}",
        ),
        (
            cells(CELLS_MAX, UNIT),
            cells(CELLS_MAX + 1, UNIT),
            "price.cells",
            f"found {CELLS_MAX + 1} cells, expected at most {CELLS_MAX}",
        ),
        (
            windows(WINDOWS_MAX),
            windows(WINDOWS_MAX + 1),
            "price.windows",
            f"found {WINDOWS_MAX + 1} windows, expected at most {WINDOWS_MAX}",
        ),
        (
            cells(LEAVES_MAX // 5 - 1, windows(4)) | {"otherwise": windows(4)},
            cells(LEAVES_MAX // 5, windows(4)),
            "price",
            f"found {LEAVES_MAX + 1} cells and windows in all, expected at most {LEAVES_MAX}",
        ),
    ],
    ids=["tiers", "cells", "windows", "leaves"],
)
def test_limits_hold_and_one_above_is_refused(
    at_the_limit: dict[str, Any], above: dict[str, Any], path: str, message: str
) -> None:
    usage(**at_the_limit)
    assert faults_of(**above) == [(path, message)]


def test_greatest_whole_numbers() -> None:
    usage(**package(zero_usage_packages=ZERO_PACKAGES_MAX))
    usage(**percentage(free_events=FREE_EVENTS_MAX))
    assert faults_of(**package(zero_usage_packages=ZERO_PACKAGES_MAX + 1))
    assert faults_of(**percentage(free_events=FREE_EVENTS_MAX + 1))
