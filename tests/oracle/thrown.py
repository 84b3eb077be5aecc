"""Cases by the dice, one strategy for each group of features: a small readable catalogue, and events with ticks.

A case is `Thrown(catalogue, inputs, as_of)`: what goes to the engine and to the oracle alike.
"""

import json
from typing import Any

import yaml
from hypothesis import strategies as st

from tests.oracle.generate import Thrown
from tests.oracle.oracle import Tick
from tests.oracle.thrown_prices import (
    CELLS,
    PLAIN,
    Document,
    flat_amounts,
    meters,
    prices,
    totals,
)

SUM = {"event": "use", "aggregate": "sum", "value": "$.n", "dimensions": {"model": "$.model", "kind": "$.kind"}}
START = "2026-11-01T00:00:00Z"
TIMES = [
    "2026-10-20T12:00:00Z",
    "2026-11-01T00:00:00Z",
    "2026-11-05T10:00:00Z",
    "2026-11-05T10:00:00.000001Z",
    "2026-11-15T11:59:59.999999Z",
    "2026-11-15T19:00:00+01:00",
    "2026-11-16T00:00:00Z",
    "2026-11-22T21:30:00Z",
    "2026-11-30T23:30:00Z",
    "2026-12-01T00:00:00Z",
    "2026-12-10T08:00:00-08:00",
    "2026-12-31T23:59:59.999999Z",
    "2027-01-02T00:00:00Z",
]
TICKS = ["2026-11-16T00:00:00Z", "2026-12-01T00:00:00Z", "2026-12-05T00:00:00Z", "2027-01-01T00:00:00Z"]
CLOSINGS = [None, "2026-11-20T12:00:00Z", "2026-12-01T00:00:00Z", "2027-02-01T00:00:00Z"]
VALUES = ["1", "2", "3", "5", "10", "12.5", "0.1", "7.000", "1e1", "0", "0.333333333333", "100"]
BELOW = ["-1", "-2.5", "-10"]
FAULTY = ["null", '"12.5"', '"many"', "true", "1e26"]
LEVELS = [{"spend": "7"}, {"spend": "0.05"}, {"spend": "25"}, {"spend": "10", "repeat": True}]


def text_of(book: Document) -> str:
    """A catalogue as people write it."""
    return yaml.safe_dump(book, sort_keys=False, allow_unicode=True)


# Events ---------------------------------------------------------------------------------------------------------------


@st.composite
def event(draw: Any, name: str, values: list[str], subjects: list[str], times: list[str]) -> str:
    """One usage event as a JSON text, its numbers as they were written."""
    value, time, subject, status = draw(
        st.tuples(*map(st.sampled_from, (values, times, subjects, ['"ok"', '"ok"', '"late"', '"failed"', "null"])))
    )
    size, model, kind, price = draw(
        st.tuples(
            st.sampled_from(["1", "2", "3.5", "0"]),
            st.sampled_from(['"large"', '"small"', "null"]),
            st.sampled_from(['"output"', '"input"', "null"]),
            st.sampled_from(["2", '"0.2"', "0.01", "-1", "null", "5"]),
        )
    )
    who = draw(st.sampled_from(['"ann"', '"bob"', "7", "7.0", "null"]))
    head = {"specversion": "1.0", "id": name, "source": "gate", "type": "use", "subject": subject, "time": time}
    data = f'"n": {value}, "size": {size}, "model": {model}, "kind": {kind}, "price": {price}'
    return f'{json.dumps(head)[:-1]}, "data": {{{data}, "name": {who}, "status": {status}}}}}'


def void(name: str, of: str, subject: str) -> str:
    """A void of an event of the source `gate`."""
    head = {"specversion": "1.0", "id": name, "source": "gate", "type": "taximeter.void", "subject": subject}
    return json.dumps({**head, "time": "2026-11-03T00:00:00Z", "data": {"source": "gate", "id": of, "reason": "wrong"}})


@st.composite
def streams(
    draw: Any,
    size: int = 8,
    least: int = 0,
    voids: bool = False,
    ticks: bool = False,
    below: bool = True,
    faulty: bool = True,
    doubles: bool = True,
    subjects: list[str] | None = None,
    times: list[str] | None = None,
    moments: list[str] | None = None,
) -> list[Any]:
    """Events in order of arrival, some with voids and ticks between them."""
    values = VALUES * 3 + (BELOW if below else []) + (FAULTY if faulty else [])
    who = subjects or ["team-a", "team-a", "acme", "beta"]
    kinds = ["event"] * 6 + ["again"] * doubles + ["void"] * (3 * voids) + ["tick"] * (2 * ticks)
    inputs: list[Any] = []
    names: list[str] = []
    for at, kind in enumerate(draw(st.lists(st.sampled_from(kinds), min_size=least, max_size=size))):
        if kind == "event":
            names.append(f"e{at}")
            inputs.append(draw(event(f"e{at}", values, who, times or TIMES)))
        elif kind == "again" and inputs:
            inputs.append(draw(st.sampled_from(inputs)))
        elif kind == "void":
            of = draw(st.sampled_from([*names[-3:], f"e{at + 1}", "unknown"]))
            inputs.append(void(f"v{at}", of, draw(st.sampled_from(who))))
        elif kind == "tick":
            inputs.append(Tick(draw(st.sampled_from(moments or TICKS))))
    return inputs


# Catalogues -----------------------------------------------------------------------------------------------------------


def frame(charges: Document, all_meters: Document, **book: Any) -> Document:
    """A catalogue with one book to which acme has a subscription by the month; others are under the default.

    There is no default with `one_time`: which of two periods that come in the wrong order begins it, nothing says."""
    once = any(charge["price"]["model"] == "one_time" for charge in charges.values())
    default = {} if once else {"default_subscription": {"price_book": "book"}}
    return {
        "meters": all_meters,
        "price_books": {"book": {"currency": "USD", "charges": charges, **book}},
        "customers": {"acme": {"subjects": ["team-a"], "timezone": "Europe/Zurich"}},
        "subscriptions": {"s": {"customer": "acme", "price_book": "book", "start": START, "timezone": "UTC"}},
        **default,
    }


def levels() -> st.SearchStrategy[Document]:
    """`thresholds`, mostly none; and a budget."""
    some = st.lists(st.sampled_from(LEVELS), min_size=1, max_size=2, unique_by=lambda t: t["spend"])
    return st.one_of(st.just({}), st.fixed_dictionaries({"thresholds": some}))


def around(units: bool = True, zero: bool = True) -> st.SearchStrategy[Document]:
    """What stands around a charge's price."""
    optional: dict[str, Any] = {"group_by": st.sampled_from([["model"], ["model", "kind"]])}
    discounts = [{"percent": "10"}, {"percent": "33.333"}, {"amount": "3"}, *([{"units": "2.5"}] if units else [])]
    optional["discount"] = st.sampled_from(discounts)
    if units:
        optional["free_units"] = st.sampled_from(["1", "5", "2.5"])
    optional["maximum"] = st.sampled_from(["15", "30.005"])
    if zero:
        optional |= {"minimum": st.sampled_from(["1", "4.995"]), "bill_zero_usage": st.just(True)}
    return st.fixed_dictionaries({}, optional=optional)


def flats() -> st.SearchStrategy[Document]:
    """A charge for the period itself."""
    flat = st.fixed_dictionaries(
        {"price": st.fixed_dictionaries({"model": st.just("flat"), "amount": flat_amounts})},
        optional={"when": st.sampled_from(["in_advance", "in_arrears"]), "prorate": st.just(True)},
    )
    once = st.fixed_dictionaries(
        {"price": st.fixed_dictionaries({"model": st.just("one_time"), "amount": flat_amounts})}
    )
    return st.one_of(flat, flat, once)


def _per_event(price: Document) -> bool:
    inside = [*(c["price"] for c in price.get("cells", [])), *(w["price"] for w in price.get("windows", []))]
    inside += [price["otherwise"]] if price.get("otherwise") else []
    return price["model"] in ("percentage", "dynamic") or any(map(_per_event, inside))


@st.composite
def priced(draw: Any, closing: bool = True) -> Thrown:
    """(a) Every price model, by itself and one inside another."""
    price = draw(prices())
    charge = {"meter": "m", "price": price}
    if draw(st.integers(0, 2)) == 0:
        charge |= draw(around(units=not _per_event(price), zero=True))
    charges = {"c": charge}
    if draw(st.integers(0, 3)) == 0:
        charges["f"] = draw(flats())
    counted = {**SUM, **draw(st.sampled_from([{}, {}, {"aggregate": "count"}]))}
    if counted["aggregate"] == "count":
        del counted["value"]
    book = frame(charges, {"m": counted}, **draw(levels()))
    return Thrown(text_of(book), draw(streams()), draw(st.sampled_from(CLOSINGS)))


@st.composite
def metered(draw: Any) -> Thrown:
    """(b) Every aggregation, with expressions and conversions."""
    meter = draw(meters(PLAIN))
    additive = meter["aggregate"] in ("sum", "count")
    charge = {"meter": "m", "price": draw(prices(per_event=additive))}
    if not _per_event(charge["price"]) and draw(st.integers(0, 2)) == 0:
        charge |= draw(around())
    book = frame({"c": charge}, {"m": meter}, **draw(levels()))
    return Thrown(text_of(book), draw(streams()), draw(st.sampled_from(CLOSINGS)))


@st.composite
def gauged(draw: Any, voids: bool = False) -> Thrown:
    """(b) Gauges, with late events and ticks between.

    Either all in one period, with levels, or over several that a tick at the end closes: which periods hold on to a
    level before that, the contracts leave open."""
    charges = {"c": {"meter": "m", "price": draw(prices(per_event=False, by_time=False))}}
    if draw(st.integers(0, 2)) == 0:
        charges["c"] |= draw(around())
    if draw(st.booleans()):
        book = frame(charges, {"m": draw(meters(["time_weighted"]))}, **draw(levels()))
        times = [time for time in TIMES if "2026-11-01" <= time < "2026-12"]
        inputs = draw(streams(voids=voids, ticks=True, times=times, moments=TICKS[:1]))
        return Thrown(text_of(book), inputs, draw(st.sampled_from(CLOSINGS)))
    book = frame(charges, {"m": draw(meters(["time_weighted"]))})
    return Thrown(text_of(book), draw(streams(voids=voids)), CLOSINGS[-1])


@st.composite
def corrected(draw: Any) -> Thrown:
    """(e) Voids and late events, in open periods and in closed ones, with ticks between."""
    meter = draw(meters(PLAIN, convert=False))
    some = prices(per_event=meter["aggregate"] in ("sum", "count"))
    charges = {"c": {"meter": "m", "price": draw(st.one_of(totals(), some))}}
    if not _per_event(charges["c"]["price"]) and draw(st.integers(0, 2)) == 0:
        charges["c"] |= draw(around(zero=False))
    if draw(st.integers(0, 2)) == 0:
        charges["d"] = {"meter": "m", "price": {"model": "unit", "unit_amount": "1"}}
    if draw(st.integers(0, 3)) == 0:
        charges["f"] = draw(flats())
    book = frame(charges, {"m": meter}, **draw(levels()))
    if draw(st.booleans()):
        book["price_books"]["book"]["corrections"] = "next"
    return Thrown(text_of(book), draw(streams(size=12, voids=True, ticks=True)), draw(st.sampled_from(CLOSINGS)))


CUTS = ["2026-11-10T00:00:00Z", "2026-11-16T00:00:00Z", "2026-11-20T12:00:00Z", "2026-12-01T00:00:00Z"]
PAUSE_ENDS = ["2026-11-20T12:00:00Z", "2026-11-22T00:00:00Z"]
LATER_CUTS = ["2026-11-22T00:00:00Z", "2026-12-10T12:00:00Z", "2027-01-01T00:00:00Z"]


@st.composite
def segmented(draw: Any, per_event: bool = True) -> Thrown:
    """(d) Versions, phases, pauses and trials, alone and together; usage that carries over and that does not.

    The charges of one book read usage in the same way (`group_by`, cells, channels), else units could not carry."""
    # Known difference: a value of `unique_count` counts in one of a period's segments only.
    several = [how for how in PLAIN if how != "unique_count"]
    meter = draw(meters(draw(st.sampled_from([["sum"], ["sum"], several])), convert=draw(st.booleans())))
    additive = per_event and meter["aggregate"] in ("sum", "count")

    whole = draw(prices(per_event=additive))
    cells = draw(st.lists(st.sampled_from(CELLS), min_size=1, max_size=2, unique_by=str))
    style = draw(st.sampled_from(["total", "total", "matrix", "same"]))
    grouped = draw(st.sampled_from([{}, {}, {"group_by": ["model"]}]))

    def priced() -> Document:
        if style == "same":
            return whole
        if style == "total":
            return draw(totals())
        inside = [{"match": match, "price": draw(totals())} for match in cells]
        return {"model": "matrix", "by": ["model", "kind"], "cells": inside, "otherwise": draw(totals())}

    def charges() -> Document:
        charge: Document = {"meter": "m", "price": priced()}
        if draw(st.integers(0, 3)) == 0:
            charge |= draw(around(units=not _per_event(charge["price"]), zero=False))
        charge.pop("group_by", None)
        return {"c": charge | grouped} | ({"f": draw(flats())} if draw(st.integers(0, 2)) == 0 else {})

    first = charges()
    book = frame(first, {"m": meter}, **draw(levels()))
    book.pop("default_subscription", None)
    kinds = draw(st.sets(st.sampled_from(["version", "version", "phase", "pause", "trial"]), min_size=1, max_size=2))
    terms = book["subscriptions"]["s"]
    if "version" in kinds:
        body = {"currency": "USD", "charges": draw(st.sampled_from([first, charges()]))}
        body["effective_from"] = draw(st.sampled_from(CUTS))
        if draw(st.booleans()):
            body["carry_usage"] = False
        book["price_books"]["book"] = {"versions": [book["price_books"]["book"], body]}
    if "phase" in kinds:
        phase: Document = {"start": draw(st.sampled_from(CUTS))}
        how = draw(st.sampled_from(["book", "overrides", "trial", "same"]))
        if how == "book":
            book["price_books"]["other"] = {"currency": "USD", "charges": charges()}
            phase["price_book"] = "other"
        elif how == "overrides":
            phase["overrides"] = {"charges": {"c": {"price": priced(), "discount": {"percent": "10"}}}}
        elif how == "trial":
            phase["trial"] = True
        terms["phases"] = [phase]
        if draw(st.booleans()):
            terms["phases"].append({"start": draw(st.sampled_from(LATER_CUTS[1:])), "price_book": "book"})
    if "pause" in kinds:
        # Within a period: what the period of an invoice is that begins or ends with a pause, nothing says.
        terms["pauses"] = [{"start": draw(st.sampled_from(CUTS[:2])), "end": draw(st.sampled_from(PAUSE_ENDS))}]
    if "trial" in kinds:
        terms["trial_end"] = draw(st.sampled_from([*CUTS, "2026-12-10T00:00:00Z"]))
    inputs = draw(streams(subjects=["team-a"], ticks=draw(st.booleans()), voids=draw(st.booleans())))
    return Thrown(text_of(book), inputs, draw(st.sampled_from(CLOSINGS)))
