"""The compiled fold and its twin: the same outputs, the same summary and the same snapshot after every step.

By steps of one event, of a few and of all, so that levels are reached within a step and at its end.
"""

import json
import os
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import rating.stages
from benchmarks.workload import compiled, events, packs
from rating.engine import RatingEngine, RatingProcessor
from schemas.entry import CATALOGUE, Entry, encode_entry
from schemas.faults import encode_document
from tests.oracle import thrown
from tests.oracle.engine import rate_raw
from tests.oracle.generate import Thrown, cases

THROWS = settings(
    max_examples=int(os.environ.get("TAXIMETER_EXAMPLES", "25")),
    derandomize="TAXIMETER_EXAMPLES" not in os.environ,
    deadline=None,
    phases=list(Phase) if os.environ.get("TAXIMETER_SHRINK") != "no" else [Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
STEPS = st.sampled_from([1, 4, 1000])
Steps = list[tuple[Any, Any, bytes]]

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
    events = []
    for i in range(draw(st.integers(1, 25))):
        if values is _PLAIN and i and draw(st.integers(0, 19)) == 0:
            events.append(thrown.void(f"v{i}", f"e{draw(st.integers(0, i))}", "alice"))
            continue
        data = {"n": "N", "model": draw(st.sampled_from(["a", "b"]))}
        event = {
            **{"specversion": "1.0", "id": f"e{i}", "source": "s", "type": "use", "data": data},
            "subject": draw(st.sampled_from(["alice", "alice", "bob"])),
            "time": draw(st.sampled_from(["2026-11-05T10:00:00Z", "2026-11-05T09:00:00Z", "2026-11-30T10:00:00Z"])),
        }
        events.append(json.dumps(event).replace('"N"', draw(st.sampled_from(values))))
    return Thrown(
        yaml.safe_dump(catalogue, sort_keys=False), events, draw(st.sampled_from([None, "2026-12-20T00:00:00Z"]))
    )


def _steps(case: Thrown, batch: int, native: bool) -> Steps:
    """What the engine says in each step, and its snapshot after it."""
    found: Steps = []
    process: Callable[..., Any] = RatingEngine.process

    def noted(engine: RatingEngine, log: Any) -> Any:
        step = process(engine, log)
        found.append((step.outputs, step.summary, engine.snapshot()))
        return step

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RatingEngine, "process", noted)
        patch.setattr(rating.stages, "is_there", lambda: native)
        rate_raw(*case, batch)
    return found


def _same(case: Thrown, batch: int) -> None:
    one, other = _steps(case, batch, native=True), _steps(case, batch, native=False)
    assert len(one) == len(other) > 0
    for at, (left, right) in enumerate(zip(one, other, strict=True)):
        assert left[:2] == right[:2], f"step {at}"
        assert left[2] == right[2], f"the snapshot after step {at}"


@THROWS
@given(cases(), STEPS)
def test_random_catalogues_and_events(case: Thrown, batch: int) -> None:
    _same(case, batch)


@THROWS
@given(hard(), STEPS)
def test_numbers_at_the_edges(case: Thrown, batch: int) -> None:
    _same(case, batch)


@THROWS
@given(st.one_of(thrown.corrected(), thrown.gauged(voids=True), thrown.segmented()), STEPS)
def test_voids_gauges_and_segments(case: Thrown, batch: int) -> None:
    _same(case, batch)


@THROWS
@given(st.one_of(thrown.metered(), thrown.priced()), STEPS)
def test_meters_and_prices(case: Thrown, batch: int) -> None:
    _same(case, batch)


_LEAST = {"model": "unit", "unit_amount": "0.000000000001"}
_TWO = {"model": "matrix", "by": ["model"], "cells": [{"match": {"model": "a"}, "price": _LEAST}], "otherwise": _LEAST}
_PACKAGES = {"model": "package", "package_size": "2", "package_amount": "0.07"}


@pytest.mark.parametrize(
    ("price", "brought"),
    [
        pytest.param(_TWO, [("a", "-0.5"), ("b", "2")], id="two totals are a half above nought"),
        pytest.param(_TWO, [("a", "0.5"), ("b", "-2")], id="two totals are a half below nought"),
        pytest.param(_TWO, [("a", "0.5"), ("b", "-0.5"), ("a", "0.5")], id="two totals are nought"),
        pytest.param({**_PACKAGES, "round": "down"}, [("a", "3.5"), ("a", "0.5"), ("a", "-9")], id="blocks down"),
        pytest.param({**_PACKAGES, "round": "up"}, [("a", "3.5"), ("a", "0.5"), ("a", "-9")], id="blocks up"),
    ],
)
@pytest.mark.parametrize("batch", [1, 1000])
def test_halves_and_blocks(price: dict[str, Any], brought: list[tuple[str, str]], batch: int) -> None:
    meter = {"event": "use", "aggregate": "sum", "value": "$.n", "dimensions": {"model": "$.model"}}
    book = {"currency": "USD", "charges": {"c": {"meter": "m", "price": price}}}
    catalogue = {"meters": {"m": meter}, "price_books": {"b": book}, "default_subscription": {"price_book": "b"}}
    texts = [
        json.dumps(
            {
                **{"specversion": "1.0", "id": f"e{i}", "source": "s", "type": "use", "subject": "alice"},
                **{"time": "2026-11-05T10:00:00Z", "data": {"n": "N", "model": model}},
            }
        ).replace('"N"', number)
        for i, (model, number) in enumerate(brought)
    ]
    _same(Thrown(yaml.safe_dump(catalogue, sort_keys=False), texts, None), batch)


def test_plain_bills_never_come_to_the_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = compiled("default")
    log = list(packs(events(300, customers=5), catalogue, size=100))
    engine = RatingProcessor().open(0, None)
    engine.process([Entry(0, 1, encode_entry(CATALOGUE, encode_document(catalogue.documents)))])
    for name in ("fold_columns", "_of"):
        monkeypatch.delattr(rating.stages, name)
    monkeypatch.setattr(rating.stages.Replay, "_event", None)
    assert engine.process(log[:2]).summary.rated == 200
    assert engine.process(log[2:]).summary.rated == 100
