"""The compiled fold and its twin: the same outputs, the same summary and the same snapshot after every step.

By steps of one event, of a few and of all, so that levels are reached within a step and at its end.
"""

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import rating.stages
from benchmarks.workload import compiled, events, packs
from rating.engine import RatingEngine, RatingProcessor
from schemas.entry import CATALOGUE, Entry, encode_entry
from schemas.faults import encode_document
from tests.oracle import thrown, thrown_numbers
from tests.oracle.engine import rate_raw
from tests.oracle.generate import Thrown, cases
from tests.oracle.throws import throws

THROWS = throws(25)
STEPS = st.sampled_from([1, 4, 1000])
Steps = list[tuple[Any, Any, bytes]]


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
@given(thrown_numbers.hard(), STEPS)
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
