"""Prices and meters by the dice, each written as a price book writes it. Small numbers, and a few odd ones."""

from typing import Any

from hypothesis import strategies as st

Document = dict[str, Any]

UNIT_AMOUNTS = ["1", "2", "0.01", "0.125", "0.333333333333", "0", "2.5"]
FLAT_AMOUNTS = ["5", "0.015", "0", "20"]
RATES = ["0.01", "0.029", "0", "0.5"]
BOUNDS = ["1", "2.5", "5", "10", "12.5"]
DIMENSIONS = {"model": "$.model", "kind": "$.kind"}

unit_amounts = st.sampled_from(UNIT_AMOUNTS)
flat_amounts = st.sampled_from(FLAT_AMOUNTS)


def unit() -> st.SearchStrategy[Document]:
    """`unit`."""
    return st.fixed_dictionaries({"model": st.just("unit"), "unit_amount": unit_amounts})


def package() -> st.SearchStrategy[Document]:
    """`package`, with every parameter."""
    return st.fixed_dictionaries(
        {
            "model": st.just("package"),
            "package_size": st.sampled_from(["1", "10", "0.3"]),
            "package_amount": flat_amounts,
        },
        optional={"round": st.sampled_from(["up", "down"]), "zero_usage_packages": st.sampled_from([0, 1, 2])},
    )


@st.composite
def tiered(draw: Any, model: str) -> Document:
    """`graduated`, `volume`, `stairstep` or `graduated_percentage`, with every parameter."""
    bounds = draw(st.sampled_from([[], ["5"], ["2.5", "10"], ["1", "10", "12.5"]]))
    tiers: list[Document] = [{"up_to": bound} for bound in bounds] + [{}]
    for tier in tiers:
        if model == "graduated_percentage":
            tier["rate"] = draw(st.sampled_from(RATES))
        elif model != "stairstep":
            tier["unit_amount"] = draw(unit_amounts)
        if model == "stairstep" or draw(st.booleans()):
            tier["flat_amount"] = draw(flat_amounts)
        if model == "graduated" and draw(st.integers(0, 4)) == 0:
            tier["maximum_amount"] = draw(st.sampled_from(["3", "7.5"]))
    price: Document = {"model": model, "tiers": tiers}
    if model in ("volume", "stairstep") and draw(st.booleans()):
        price["bounds"] = draw(st.sampled_from(["up_to", "from"]))
    if model == "stairstep" and draw(st.booleans()):
        price["method"] = draw(st.sampled_from(["volume", "graduated"]))
    return price


def percentage(allowance: bool | None = None) -> st.SearchStrategy[Document]:
    """`percentage`; `allowance`: with one, without, or as it comes."""
    free = {"free_events": st.integers(1, 3), "free_amount": st.sampled_from(["2", "5", "12.5"])}
    rule = {"free_rule": st.sampled_from(["first_limit", "amount_governs"])}
    bounds = {"fixed_amount": st.sampled_from(["0.3", "5", "0"])}
    bounds |= {"min_amount": st.sampled_from(["0.5", "0.05"]), "max_amount": st.sampled_from(["1", "6"])}
    base = {"model": st.just("percentage"), "rate": st.sampled_from(RATES)}
    return st.fixed_dictionaries(base, optional=bounds | ({} if allowance is False else free | rule))


def dynamic() -> st.SearchStrategy[Document]:
    """`dynamic`."""
    multiplier = {"multiplier": st.sampled_from(["1", "1.5", "0.333333333333"])}
    return st.fixed_dictionaries({"model": st.just("dynamic"), "amount": st.just("$.price")}, optional=multiplier)


def totals() -> st.SearchStrategy[Document]:
    """Any price of a total."""
    return st.one_of(unit(), package(), *(tiered(m) for m in ("graduated", "volume", "stairstep")))


def rising() -> st.SearchStrategy[Document]:
    """Prices whose amount never falls when usage rises."""
    return st.one_of(unit(), tiered("graduated"), tiered("graduated_percentage"), package())


def leaves(per_event: bool) -> st.SearchStrategy[Document]:
    """Any price that holds no other; `per_event`: those of single events too."""
    of_money = [tiered("graduated_percentage"), percentage(), dynamic()]
    return st.one_of(totals(), *of_money) if per_event else st.one_of(totals(), of_money[0])


CELLS = [
    {"model": "large"},
    {"model": "large", "kind": "output"},
    {"kind": ["output", "draft"]},
    {"model": ["small", "large"], "kind": "input"},
]
WINDOWS: list[Document] = [
    {"days": ["mon", "tue", "wed", "thu", "fri"], "hours": "08:00-20:00"},
    {"hours": "00:00-10:00"},
    {"days": ["sun"], "hours": "12:00-24:00"},
    {"days": ["sat", "sun"]},
]


@st.composite
def matrix(draw: Any, inner: st.SearchStrategy[Document]) -> Document:
    """`matrix` with prices inside."""
    chosen = draw(st.lists(st.sampled_from(CELLS), min_size=1, max_size=2, unique_by=str))
    cells = [{"match": match, "price": draw(inner)} for match in chosen]
    price = {"model": "matrix", "by": ["model", "kind"], "cells": cells}
    return price | ({"otherwise": draw(inner)} if draw(st.integers(0, 3)) else {})


@st.composite
def schedule(draw: Any, inner: st.SearchStrategy[Document]) -> Document:
    """`schedule` with prices inside."""
    chosen = draw(st.lists(st.sampled_from(WINDOWS), min_size=1, max_size=2, unique_by=str))
    price: Document = {"model": "schedule", "windows": [{**window, "price": draw(inner)} for window in chosen]}
    if draw(st.booleans()):
        price["timezone"] = draw(st.sampled_from(["Europe/Zurich", "America/Los_Angeles"]))
    return price | ({"otherwise": draw(inner)} if draw(st.integers(0, 3)) else {})


def prices(per_event: bool = True, by_time: bool = True) -> st.SearchStrategy[Document]:
    """Any price of usage, nested ones too."""
    inner = leaves(per_event)
    nested = [matrix(inner)]
    if by_time:
        nested += [
            schedule(inner),
            matrix(st.one_of(unit(), schedule(inner))),
            schedule(st.one_of(unit(), matrix(inner))),
        ]
    return st.one_of(inner, inner, inner, *nested)


# Meters ---------------------------------------------------------------------------------------------------------------

CONVERSIONS = [
    {"divide": "1000", "round": "up"},
    {"divide": "3"},
    {"multiply": "3", "round": "up"},
    {"multiply": "1.5", "round": "half_up", "digits": 1},
    {"divide": "2", "round": "down", "digits": -1},
    {"divide": "7", "round": "half_up", "digits": 3},
]
EXPRESSIONS = [
    "$.n",
    "$.n + 3 * $.size",
    "max($.n, $.size) - min($.n, 2)",
    "if($.n > 2, $.n, $.size)",
    "coalesce($.absent, $.size, 1) * 2",
    "round($.n / 3, 2)",
    "$.n / $.size",
]


@st.composite
def meters(draw: Any, how: list[str], convert: bool = True) -> Document:
    """A meter over events of the type `use`."""
    aggregate = draw(st.sampled_from(how))
    meter: Document = {"event": "use", "aggregate": aggregate}
    if aggregate == "unique_count":
        meter["value"] = "$.name"
    elif aggregate != "count":
        meter["value"] = draw(st.sampled_from(["$.n", "$.n", *EXPRESSIONS]))
    if aggregate == "percentile":
        meter["percentile"] = draw(st.sampled_from(["95", "50", "99.9", "100", "0.1"]))
    if aggregate == "time_weighted":
        meter["unit"] = draw(st.sampled_from(["second", "hour", "day", "period"]))
        meter |= draw(
            st.fixed_dictionaries(
                {},
                optional={"key": st.just("$.name"), "reads": st.just("change"), "align": st.just("day")},
            )
        )
    if convert and draw(st.integers(0, 2)) == 0:
        conversion = dict(draw(st.sampled_from(CONVERSIONS)))
        if aggregate not in ("count", "unique_count") and draw(st.booleans()):
            conversion["per"] = "event"
        meter["convert"] = conversion
    if draw(st.integers(0, 3)) == 0:
        meter["where"] = {
            "$.status": draw(st.sampled_from(["ok", ["ok", "late"], {"not": "failed"}, {"exists": True}]))
        }
    meter["dimensions"] = DIMENSIONS
    return meter


PLAIN = ["sum", "count", "min", "max", "avg", "latest", "unique_count", "percentile"]
EVERY = [*PLAIN, "time_weighted"]
