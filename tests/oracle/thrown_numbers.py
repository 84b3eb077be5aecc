"""Numbers at the edges: what the laws of columns, of the compiled fold and of voids throw beside ordinary ones."""

import json
from typing import Any

import yaml
from hypothesis import strategies as st

from tests.oracle.generate import Thrown
from tests.oracle.thrown import void

_HUGE = ["1" + "0" * 25, "9" * 26, "-" + "9" * 26, "1" + "0" * 24, "12345678901234567890123456", "5e25", "-5e25"]
_PLAIN = ["0", "1", "-1", "2.5", "0.5", "-0.5", "1.5", "-1.5", "100", "7", "0.000000000001", "-0.000000000003"]
_PRICES = [
    "0.000000000001",
    "0.000000000003",
    "0.01",
    "1",
    "0",
    "3.333333333333",
    "9" * 26,
    "1" + "0" * 14,
    "250000000",
]
_WHO = st.sampled_from(["alice", "alice", "bob"])
_HOW = ["sum", "sum", "count", "max", "min", "avg", "latest"]


@st.composite
def _price(draw: Any) -> dict[str, Any]:
    amount = st.sampled_from(_PRICES)
    model = draw(st.sampled_from(["unit", "graduated", "volume", "stairstep", "package", "matrix", "matrix"]))
    if model == "matrix":  # a line of two totals, each of which has lost a half of the last digit
        one, other = ({"model": "unit", "unit_amount": draw(st.sampled_from(_PRICES[:3]))} for _ in range(2))
        return {"model": model, "by": ["model"], "cells": [{"match": {"model": "a"}, "price": one}], "otherwise": other}
    if model == "unit":
        return {"model": model, "unit_amount": draw(st.sampled_from(["", "", "-"])) + draw(amount)}
    if model == "package":
        size = draw(st.sampled_from(["1", "0.000000000001", "60", "1" + "0" * 20]))
        rounding = draw(st.sampled_from(["up", "down"]))
        return {"model": model, "package_size": size, "package_amount": draw(amount), "round": rounding}
    every = ["0.000000000002", "1", "2.5", "3", "4", "5", "6", "7", "8", "9", "10", "100", "1000", "1" + "0" * 20]
    bounds = draw(st.one_of(st.just(every), st.lists(st.sampled_from(every), unique=True, max_size=3)))
    tiers: list[dict[str, str]] = [{"up_to": bound} for bound in sorted(bounds, key=float)] + [{}]
    for tier in tiers:
        if model != "stairstep":
            tier["unit_amount"] = draw(amount)
        if model == "stairstep" or draw(st.booleans()):
            tier["flat_amount"] = draw(amount)
    return {"model": model, "tiers": tiers}


@st.composite
def hard(draw: Any) -> Thrown:
    """Numbers at the edges: halves of the last digit, sums and products past 38 digits, totals below nought."""
    meters: dict[str, Any] = {}
    charges: dict[str, Any] = {}
    for i in range(draw(st.integers(1, 3))):
        how = draw(st.sampled_from(_HOW))
        meters[f"m{i}"] = {"event": "use", "aggregate": how, "dimensions": {"model": "$.model"}}
        if how != "count":
            meters[f"m{i}"]["value"] = "$.n"
        for j in range(draw(st.integers(1, 2))):
            charge = charges[f"c{i}{j}"] = {"meter": f"m{i}", "price": draw(_price())}
            if draw(st.booleans()):
                charge["group_by"] = ["model"]
            for word, values in (("free_units", ["1", "0.5", "9" * 26]), ("minimum", ["5", "9" * 26])):
                if draw(st.integers(0, 3)) == 0:
                    charge[word] = draw(st.sampled_from(values))
            if draw(st.integers(0, 3)) == 0:
                charge["maximum"] = str(max(10**26 - 1 if charge.get("minimum", "5") != "5" else 7, 7))
    book: dict[str, Any] = {"currency": "USD", "charges": charges}
    levels = draw(st.lists(st.sampled_from(["0.000000000001", "1", "7", "1" + "0" * 25]), unique=True, max_size=2))
    if levels:
        book["thresholds"] = [{"spend": level} for level in levels]
    catalogue = {"meters": meters, "price_books": {"b": book}, "default_subscription": {"price_book": "b"}}
    values = draw(st.sampled_from([_PLAIN, _PLAIN, [*_PLAIN, *_HUGE], _HUGE]))
    events, every = [], draw(st.sampled_from([3, 19]))
    for i in range(draw(st.integers(1, 25))):
        if i and draw(st.integers(0, every)) == 0:
            events.append(void(f"v{i}", f"e{draw(st.integers(0, i))}", draw(_WHO)))
            continue
        data = {"n": "N", "model": draw(st.sampled_from(["a", "b"]))}
        event = {
            **{"specversion": "1.0", "id": f"e{i}", "source": "gate", "type": "use", "data": data},
            "subject": draw(_WHO),
            "time": draw(st.sampled_from(["2026-11-05T10:00:00Z", "2026-11-05T09:00:00Z", "2026-11-30T10:00:00Z"])),
        }
        events.append(json.dumps(event).replace('"N"', draw(st.sampled_from(values))))
    # At its close a period must pay the minimum of what it has not used: beside other sums that would not fit.
    closes = not any(charge.get("minimum") == "9" * 26 for charge in charges.values()) and draw(st.booleans())
    text = yaml.safe_dump(catalogue, sort_keys=False)
    return Thrown(text, events, "2026-12-20T00:00:00Z" if closes else None)
