"""Small catalogues and event streams by the dice: odd numbers, late and repeated events, corrections, many periods.

What the contracts leave open (see the "Reading" notes of the oracle) is thrown too; what they forbid is not.
"""

import json
from typing import Any, NamedTuple

import yaml
from hypothesis import strategies as st

ORDINARY = ["1", "2", "3", "5", "10", "12.5", "0.1", "0.2", "100", "7.000", "1e1", "0", "0.333333333333"]
CORRECTIONS = ["-1", "-2.5", "-10", "-0.1"]
ODD = ["1e-9", "9007199254740993", "0.000000000001", "123456789012345678.123456789012", "4503599627370497.5"]
FAULTY = ["null", '"12.5"', '"many"', "true", '{"a": 1}', "0.0000000000001", "1e26", "[1]", '""']
PRICES = ["0.01", "1", "0.000003", "2.5", "0.125", "0.333333333333", "0", "0.0000005"]
BOUNDS = ["1", "2.5", "10", "12.5", "100"]
TIMES = [
    "2026-10-31T23:30:00Z",
    "2026-11-01T00:00:00Z",
    "2026-11-05T10:00:00Z",
    "2026-11-05T10:00:00.000001Z",
    "2026-11-15T11:59:59.999999Z",
    "2026-11-15T12:00:00+01:00",
    "2026-11-30T23:30:00Z",
    "2026-12-01T00:00:00Z",
    "2026-12-10T08:00:00-08:00",
    "2026-12-31T23:59:59.999999Z",
    "2027-01-01T00:00:00Z",
    "2027-02-28T12:00:00Z",
]
CLOSINGS = [None, "2026-11-15T12:00:00Z", "2026-12-01T00:00:00Z", "2026-12-20T00:00:00Z", "2027-02-01T00:00:00Z"]
ZONES = ["UTC", "Europe/Zurich", "America/Los_Angeles", "Asia/Kathmandu"]
SUBJECTS = ["team-a", "team-b", "acme", "beta", "stranger"]


class Thrown(NamedTuple):
    """A case: the catalogue's text, CloudEvents as JSON texts in order of arrival, and when it is closed."""

    catalogue: str
    events: list[str]
    as_of: str | None


@st.composite
def cases(draw: Any, tidy: bool = False) -> Thrown:
    """A whole case. `tidy`: no identity twice and no moment twice, so that the order of arrival means nothing."""
    book = draw(catalogues())
    many_levels = any(t.get("repeat") for b in book["price_books"].values() for t in b.get("thresholds", []))
    text = yaml.safe_dump(book, sort_keys=False, allow_unicode=True)
    return Thrown(text, draw(streams(large=not many_levels, tidy=tidy)), draw(st.sampled_from(CLOSINGS)))


@st.composite
def catalogues(draw: Any) -> dict[str, Any]:
    """A catalogue with one to three meters, one or two books, and every way to subscribe."""
    meters = {f"m{i}": draw(_meters()) for i in range(draw(st.integers(1, 3)))}
    books = {"book": draw(_books(list(meters)))}
    book: dict[str, Any] = {"meters": meters, "price_books": books}
    book["customers"] = {"acme": {"subjects": ["team-a", "team-b"], "timezone": draw(st.sampled_from(ZONES))}}
    subscriptions = {}
    if draw(st.booleans()):
        subscriptions["acme-1"] = {"customer": "acme", **draw(_terms("book", books["book"]))}
        if draw(st.integers(0, 3)) == 0:
            books["second"] = draw(_books(list(meters)))
            subscriptions["acme-2"] = {"customer": "acme", **draw(_terms("second", books["second"]))}
    if draw(st.integers(0, 3)) == 0:
        subscriptions["beta-1"] = {"customer": "beta", **draw(_terms("book", books["book"]))}
    if subscriptions:
        book["subscriptions"] = subscriptions
    if not subscriptions or draw(st.booleans()):
        terms: dict[str, Any] = {"price_book": "book", "period": draw(st.sampled_from(["month", "day", "quarter"]))}
        if draw(st.booleans()):
            terms["timezone"] = draw(st.sampled_from(ZONES))
        book["default_subscription"] = terms
    return book


@st.composite
def _meters(draw: Any) -> dict[str, Any]:
    how = draw(st.sampled_from(["sum", "sum", "count", "min", "max", "avg", "latest", "unique_count"]))
    meter: dict[str, Any] = {"event": draw(st.sampled_from(["use", "use", "call"])), "aggregate": how}
    if how != "count":
        meter["value"] = "$.name" if how == "unique_count" else draw(st.sampled_from(["$.n", "$.n", "$.deep.n"]))
    where = draw(st.sampled_from([None, None, "ok", ["ok", "late"], {"not": "failed"}, {"exists": True}]))
    if where is not None:
        meter["where"] = {"$.status": where}
    if draw(st.integers(0, 4)) == 0:
        meter["where"] = {
            **meter.get("where", {}),
            "$.size": draw(st.sampled_from([{"gte": 2}, {"gt": 1, "lt": "3.5"}, 2])),
        }
    meter["dimensions"] = {"model": "$.model", "kind": "$.kind"}
    return meter


@st.composite
def _books(draw: Any, meters: list[str]) -> dict[str, Any]:
    charges = {}
    for i in range(draw(st.integers(1, 4))):
        flat = draw(st.integers(0, 3)) == 0
        charges[f"c{i}"] = draw(_flat_charges()) if flat else draw(_charges(draw(st.sampled_from(meters))))
    book: dict[str, Any] = {"currency": draw(st.sampled_from(["USD", "USD", "JPY", "KWD"])), "charges": charges}
    if draw(st.booleans()):
        book["rounding"] = draw(st.sampled_from(["half_up", "half_even"]))
    book |= draw(_commitments())
    levels = [{"spend": "7"}, {"spend": "0.05"}, {"spend": "25"}, {"spend": "10", "repeat": True}, {"spend": "1000000"}]
    chosen = draw(st.lists(st.sampled_from(levels), max_size=3, unique_by=lambda t: t["spend"]))
    if chosen:
        book["thresholds"] = chosen
    return book


@st.composite
def _commitments(draw: Any) -> dict[str, Any]:
    kind = draw(st.integers(0, 5))
    if kind == 0:
        return {"minimum": draw(st.sampled_from(["50", "3.335", "0.01"]))}
    if kind == 1:
        return {"minimum": {"amount": "40", "prorate": True, "true_up": draw(st.sampled_from([True, True, False]))}}
    return {}


@st.composite
def _flat_charges(draw: Any) -> dict[str, Any]:
    charge: dict[str, Any] = {"price": {"model": "flat", "amount": draw(st.sampled_from(["20", "0.005", "9.99"]))}}
    if draw(st.booleans()):
        charge["when"] = draw(st.sampled_from(["in_advance", "in_arrears"]))
    if draw(st.booleans()):
        charge["prorate"] = True
    return charge


@st.composite
def _charges(draw: Any, meter: str) -> dict[str, Any]:
    charge: dict[str, Any] = {"meter": meter, "price": draw(st.one_of(_prices(), _prices(), _matrices()))}
    if draw(st.integers(0, 2)) == 0:
        charge["free_units"] = draw(st.sampled_from(["1", "10", "2.5"]))
    grouped = draw(st.sampled_from([[], [], ["model"], ["model", "kind"]]))
    if grouped:
        charge["group_by"] = grouped
    if draw(st.integers(0, 4)) == 0:
        charge["maximum"] = draw(st.sampled_from(["5", "30.005"]))
    if not grouped and draw(st.integers(0, 4)) == 0:
        charge["minimum"] = draw(st.sampled_from(["1", "4.995"]))
    if not grouped and draw(st.integers(0, 3)) == 0:
        charge["bill_zero_usage"] = True
    return charge


@st.composite
def _prices(draw: Any) -> dict[str, Any]:
    model = draw(st.sampled_from(["unit", "graduated", "volume", "stairstep", "package"]))
    price = st.sampled_from(PRICES)
    if model == "unit":
        return {"model": model, "unit_amount": draw(price)}
    if model == "package":
        size = draw(st.sampled_from(["1", "10", "0.3", "100"]))
        rounding = draw(st.sampled_from([{}, {"round": "up"}, {"round": "down"}]))
        return {"model": model, "package_size": size, "package_amount": draw(price), **rounding}
    bounds = sorted(draw(st.sets(st.sampled_from(BOUNDS), max_size=3)), key=float)
    tiers: list[dict[str, str]] = [{"up_to": bound} for bound in bounds] + [{}]
    for tier in tiers:
        if model != "stairstep":
            tier["unit_amount"] = draw(price)
        if model == "stairstep" or draw(st.integers(0, 2)) == 0:
            tier["flat_amount"] = draw(st.sampled_from(["5", "0.015", "0", "20"]))
    return {"model": model, "tiers": tiers}


@st.composite
def _matrices(draw: Any) -> dict[str, Any]:
    matches = [
        {"model": "large"},
        {"model": "large", "kind": "output"},
        {"kind": ["output", "draft"]},
        {"model": ["small", "large"], "kind": "input"},
    ]
    chosen = draw(st.lists(st.sampled_from(matches), min_size=1, max_size=3, unique_by=str))
    cells = [{"match": match, "price": draw(_prices())} for match in chosen]
    return {"model": "matrix", "by": ["model", "kind"], "cells": cells, "otherwise": draw(_prices())}


@st.composite
def _terms(draw: Any, name: str, book: dict[str, Any]) -> dict[str, Any]:
    unit = draw(st.sampled_from(["month", "month", "month", "week", "day", "quarter", "year"]))
    terms: dict[str, Any] = {"price_book": name, "period": unit}
    terms["start"] = draw(
        st.sampled_from(["2026-11-01T00:00:00Z", "2026-10-15T09:30:00Z", "2026-11-10T00:00:00+01:00"])
    )
    if draw(st.integers(0, 3)) == 0:
        terms["end"] = "2026-12-15T00:00:00Z"
    anchors: dict[str, list[Any]] = {
        "month": [1, 15, 31],
        "week": [1, 7],
        "quarter": [1, "11-30"],
        "year": [31, "02-29"],
    }
    if unit != "day" and draw(st.booleans()):
        terms["anchor"] = draw(st.sampled_from(anchors[unit]))
    if draw(st.booleans()):
        terms["timezone"] = draw(st.sampled_from(ZONES))
    overrides: dict[str, Any] = {}
    metered = [key for key, charge in book["charges"].items() if "meter" in charge]
    if metered and draw(st.integers(0, 2)) == 0:
        change = draw(st.sampled_from(["price", "free_units"]))
        value = draw(_prices()) if change == "price" else "3"
        overrides["charges"] = {draw(st.sampled_from(metered)): {change: value}}
    if draw(st.integers(0, 4)) == 0:
        overrides["minimum"] = "12"
    if draw(st.integers(0, 4)) == 0:
        overrides["thresholds"] = draw(st.sampled_from([[], [{"spend": "2"}]]))
    return {**terms, "overrides": overrides} if overrides else terms


@st.composite
def streams(draw: Any, large: bool = True, tidy: bool = False) -> list[str]:
    """CloudEvents as JSON texts. `large`: with numbers that make millions of levels out of a repeating threshold."""
    size = draw(st.integers(0, 25))
    events: list[str] = []
    used: set[str] = set()
    for position in range(size):
        if events and not tidy and draw(st.integers(0, 9)) == 0:
            events.append(draw(st.sampled_from(events)))
            continue
        time = draw(st.sampled_from(TIMES))
        if tidy and time in used:
            time = f"2026-11-{1 + position:02d}T06:{position:02d}:00Z"
        used.add(time)
        name = f"e{position}" if tidy or draw(st.integers(0, 9)) else f"e{draw(st.integers(0, position))}"
        events.append(draw(_events(name, time, large)))
    return events


@st.composite
def _events(draw: Any, name: str, time: str, large: bool) -> str:
    pool = ORDINARY * 3 + CORRECTIONS + FAULTY + (ODD if large else [])
    value = draw(st.sampled_from(pool))
    fields = {"n": value, "deep": f'{{"n": {value}}}'}
    fields["name"] = draw(st.sampled_from(['"ann"', '"bob"', '"Ann"', '""', "null", "7", "7.0"]))
    fields["status"] = draw(st.sampled_from(['"ok"', '"ok"', '"late"', '"failed"', "null"]))
    fields["size"] = draw(st.sampled_from(["1", "2", "2.0", "3.5", "null"]))
    fields["model"] = draw(st.sampled_from(['"large"', '"small"', '"tiny"', "null"]))
    fields["kind"] = draw(st.sampled_from(['"output"', '"input"', '"draft"', "null"]))
    absent = draw(st.sets(st.sampled_from(sorted(fields)), max_size=1)) if draw(st.integers(0, 4)) == 0 else set()
    envelope = {
        "specversion": "1.0",
        "id": name,
        "source": draw(st.sampled_from(["gate", "gate", "gate", "door"])),
        "type": draw(st.sampled_from(["use", "use", "call"])),
        "subject": draw(st.sampled_from(SUBJECTS)),
        "time": time,
    }
    data = ", ".join(f'"{key}": {text}' for key, text in fields.items() if key not in absent)
    return json.dumps(envelope)[:-1] + ', "data": {' + data + "}}"
