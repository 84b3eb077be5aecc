"""Metering cases: the case's period is a subscription's, its windows are billing periods, its value is a quantity.

A unit costs one, so that what a line item comes to is the value; what a filter ignores stands in cells of a matrix that
cost nothing.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa

from rating.spend.usage import Question, measure, read_meters
from tests.cases.agreement import DAY, Agreement, Row
from tests.cases.prices import CHARGE, flat
from tests.cases.reading import Case
from tests.oracle.calendars import clock, iso, moment

Found = dict[str, Any]

_GAUGES: dict[str, Row] = {
    "weighted_sum": {"aggregate": "time_weighted", "reads": "change", "unit": "period"},
    "prorated_sum": {"aggregate": "time_weighted", "reads": "change", "unit": "period", "align": "day"},
}
_ONE = {"model": "unit", "unit_amount": "1"}
_NOTHING = {"model": "unit", "unit_amount": "0"}


def metered(case: Case) -> Found:
    """The value, or the rows, of a metering case."""
    if case["aggregation"] == "bucket_starts":
        return _starts(case)
    if case.get("window") == "minute":
        return _measured(case)
    agreement = Agreement()
    _meter(case, agreement)
    if "window" in case:
        return _in_windows(case, agreement)
    return _integrated(case, agreement) if case["aggregation"] in _GAUGES else _in_one(case, agreement)


def _meter(case: Case, agreement: Agreement) -> None:
    filters, groups = case.get("filter", {}), case.get("group_by", [])
    aggregate = case["aggregation"]
    meter: Row = {"event": "use", **_GAUGES.get(aggregate, {"aggregate": aggregate})}
    if aggregate != "count":
        meter["value"] = "$.value"
    meter["where"] = {f"$.{name}": _condition(values) for name, values in filters.get("match", {}).items()}
    ignored = filters.get("ignore", [])
    names = sorted({*groups, *(name for entry in ignored for name in entry)})
    meter["dimensions"] = {name: f"$.{name}" for name in names}
    agreement.meters["usage"] = meter
    charge = agreement.charges[CHARGE] = {"meter": "usage", "group_by": groups, "price": _ONE}
    if ignored:
        cells = [{"match": entry, "price": _NOTHING} for entry in ignored]
        by = sorted({name for entry in ignored for name in entry})
        charge["price"] = {"model": "matrix", "by": by, "cells": cells, "otherwise": _ONE}


def _condition(values: list[str | None]) -> Any:
    """Values of which one must be there; null alone: none is."""
    return {"exists": False} if values == [None] else values


def _send(case: Case, agreement: Agreement) -> None:
    """The events as they came. Where a repeat replaces (`dedup_keep: last`), the one before is taken back, and the
    repeat has an id of its own."""
    sent: dict[tuple[str, ...], str] = {}
    for event in case["events"]:
        key = tuple(event.get(name, "") for name in case.get("dedup", ()))
        if key and key in sent:
            assert case["dedup_keep"] == "last"
            data = f'{{"source": "cases", "id": "{sent[key]}", "reason": "replaced"}}'
            agreement.send(f"void-{len(agreement.events)}", event["time"], "taximeter.void", data)
        sent[key] = agreement.use(event["value"], event["time"], **event.get("properties", {}))


def _in_one(case: Case, agreement: Agreement) -> Found:
    """One period: the subscription begins and ends with it."""
    _send(case, agreement)
    start = moment(case.get("from", "2024-01-01T00:00:00Z"))
    end = moment(case.get("to", "2025-01-01T00:00:00Z")) + (1 if case.get("to_inclusive") else 0)
    agreement.start = iso(start)
    agreement.terms = {"period": "year", "end": iso(end)}
    return _value(case, agreement.rate(iso(end)).items)


def _integrated(case: Case, agreement: Agreement) -> Found:
    """A gauge over a month: the period whose length its integral is divided by. A level is carried in from the day
    before."""
    start = moment(case["from"])
    end = _month(_month(start) + 32 * DAY)
    days = Fraction(end - _month(start), DAY)
    assert days == Fraction(case.get("duration_days", days)), "the whole period is the one that values are divided by"
    agreement.terms = {"period": "month", "anchor": 1}
    agreement.start = iso(start)
    if "carried" in case:
        agreement.start = iso(start - DAY)
        agreement.use(case["carried"], agreement.start)
    _send(case, agreement)
    items = agreement.rate(iso(end)).items
    return _value(case, [item for item in items if moment(item["period"]["start"]) == start])


def _value(case: Case, items: list[Row]) -> Found:
    if "group_by" in case:
        return {"value": _rows_of(case, [(item["dimensions"], None, item) for item in items])}
    return {"value": sum((Fraction(item["amount"]) for item in items), Fraction(0))}


def _in_windows(case: Case, agreement: Agreement) -> Found:
    """A billing period for each window, the first of them the one that holds an event."""
    _send(case, agreement)
    agreement.default = True
    agreement.terms = {"period": case["window"], "timezone": case.get("tz", "UTC")}
    found = agreement.rate(iso(moment(case["to"]) + 2 * DAY))
    first, last = moment(case["from"]), moment(case["to"])
    rows = []
    for item in found.items:
        start, end = (moment(item["period"][side]) for side in ("start", "end"))
        if end > first and start < last:
            rows.append((item["dimensions"], start, item))
    return {"value": _rows_of(case, rows)}


def _measured(case: Case) -> Found:
    """Windows that are no billing period are those of the usage query."""
    agreement = Agreement()
    _meter(case, agreement)
    _send(case, agreement)
    meter = read_meters(agreement.catalogue().encode())["usage"]
    events = [json.loads(text) for text in agreement.events if isinstance(text, str)]
    table = pa.table(
        {
            "time": pa.array([moment(event["time"]) for event in events], pa.int64()),
            "data": pa.array([json.dumps(event["data"]).encode() for event in events], pa.binary()),
        }
    )
    usage = measure(meter, table, Question(case["window"], case.get("tz", "UTC")))
    rows = [(one.dimensions, moment(one.start), {"amount": one.value}) for one in usage.windows]
    return {"value": _rows_of(case, rows)}


def _rows_of(case: Case, rows: Sequence[tuple[Row, int | None, Row]]) -> list[Row]:
    """Rows in the order of the case's own; those that it does not have come last."""
    found = {}
    for dimensions, start, item in rows:
        row: Row = {"value": Fraction(item["amount"])}
        if "group_by" in case:
            row["group"] = {name: dimensions[name] for name in case["group_by"]}
        if start is not None:
            row["window_start"] = iso(start)
        found[_key(row)] = row
    wanted = [_key(row) for row in case["expected"]]
    return [found[key] for key in sorted(found, key=lambda key: wanted.index(key) if key in wanted else len(wanted))]


def _key(row: Row) -> str:
    window = row.get("window_start")
    return f"{sorted(row.get('group', {}).items())} {'' if window is None else moment(window)}"


def _starts(case: Case) -> Found:
    """Where billing periods begin: a fee in advance stands in each that has begun."""
    zone = ZoneInfo(case.get("tz", "UTC"))
    agreement = Agreement(default=True)
    agreement.terms = {"period": case["window"], "timezone": case.get("tz", "UTC")}
    if case["window"] == "month":
        anchored = datetime.fromisoformat(case["anchor"] if "anchor" in case else case["from"]).astimezone(zone)
        agreement.terms["anchor"] = anchored.day
    agreement.charges[CHARGE] = flat("1", when="in_advance")
    agreement.meters["usage"] = {"event": "use", "aggregate": "count"}
    agreement.charges["first"] = {"meter": "usage", "price": _NOTHING}
    agreement.use(time=case["from"])
    found = agreement.rate(case["to"])
    starts = [item["period"]["start"] for item in found.of(CHARGE)]
    return {"value": [start for start in starts if moment(start) < moment(case["to"])]}


def _month(time: int) -> int:
    """The beginning of a time's month, in UTC."""
    return moment(clock(time).strftime("%Y-%m-01T00:00:00Z"))
