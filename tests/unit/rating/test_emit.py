"""Emit and replay: several roads to the same bytes. Line items by the library, by columns or by hand; events folded or
one by one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
from hypothesis import given

import rating.emit
import rating.stages
from native.library import is_loaded
from rating.cells import Contributions
from rating.fold import fold_columns
from rating.state import State
from schemas import topics
from tests.oracle.generate import Thrown, cases
from tests.oracle.throws import throws
from tests.unit.rating.engines import Log, event, open_engine, plain_dump, run

THROWS = throws(25)
needs_library = pytest.mark.skipif(not is_loaded(), reason="the compiled library is not there")
WIDE = """
meters:
  sum: {event: use, aggregate: sum, value: $.n, dimensions: {model: $.model, kind: $.kind}}
  avg: {event: use, aggregate: avg, value: $.n, dimensions: {model: $.model}}
price_books:
  book:
    currency: USD
    charges:
      unit: {meter: sum, group_by: [model], price: {model: unit, unit_amount: "0.333333333333"}}
      graduated: {meter: sum, group_by: [kind], free_units: "1.5", price: {model: graduated, tiers: [
        {up_to: 2, unit_amount: 1}, {up_to: "7.5", unit_amount: "0.5", flat_amount: 3},
        {unit_amount: "0.000000000001"}]}}
      volume: {meter: sum, group_by: [model, kind], price: {model: volume, tiers: [
        {up_to: 3, unit_amount: 2}, {unit_amount: 1, flat_amount: "0.125"}]}}
      stairs: {meter: avg, group_by: [model], bill_zero_usage: true, price: {model: stairstep, tiers: [
        {up_to: 2, flat_amount: 1}, {flat_amount: 9}]}}
      package: {meter: sum, group_by: [kind], price: {model: package, package_size: "0.3", package_amount: "0.07"}}
      down: {meter: sum, maximum: 20, price: {model: package, package_size: 3, package_amount: 5, round: down}}
      matrix: {meter: sum, group_by: [kind], price: {model: matrix, by: [model], cells: [
        {match: {model: [large, small]}, price: {model: graduated,
          tiers: [{up_to: 5, unit_amount: 1}, {unit_amount: 2}]}},
        {match: {model: 'null'}, price: {model: package, package_size: 2, package_amount: 1}}],
        otherwise: {model: unit, unit_amount: "0.1"}}}
      coupled: {meter: sum, free_units: 4, price: {model: matrix, by: [model], cells: [
        {match: {model: large}, price: {model: unit, unit_amount: 3}}], otherwise: {model: unit, unit_amount: 1}}}
      flat: {price: {model: flat, amount: 10}, when: in_advance}
default_subscription: {price_book: book, period: day, timezone: Asia/Kathmandu}
"""


def wide_events(count: int = 400) -> list[str]:
    """Usage that fills every tier of the book above, with odd texts as dimensions."""
    models = ['"large"', '"small"', "null", '"näïve \\"one\\" \\u0007"', "7.0", "true"]
    kinds = ['"in"', '"out"', '"</script>\\\\"', "null"]
    numbers = ["1", "0.5", "-1", "2.25", "0", "1e-12", "3", "0.333333333333"]
    found = []
    for i in range(count):
        data = f'{{"n": {numbers[i % 8]}, "model": {models[i % 6]}, "kind": {kinds[i // 3 % 4]}}}'
        found.append(event(f"e{i}", f"2026-11-{1 + i % 5:02d}T{i % 24:02d}:00:00.{i % 7}Z", data))
    return found


def log_of(case: Thrown, batch: int = 9) -> Log:
    log = Log().catalogue(case.catalogue).events(case.events, batch)
    return log.tick(case.as_of) if case.as_of else log


def all_outputs(log: Log) -> dict[str, list[tuple[bytes, bytes]]]:
    """What was written on each topic; line items in no order within a step."""
    engine = open_engine()
    found: dict[str, list[tuple[bytes, bytes]]] = {}
    for entry in log.entries:
        outputs = engine.process([entry]).outputs
        for topic in (topics.LINE_ITEMS, topics.INVOICES, topics.ALERTS, topics.REJECTIONS):
            own = [(output.key, output.value) for output in outputs if output.topic == topic]
            found.setdefault(topic, []).extend(sorted(own) if topic == topics.LINE_ITEMS else own)
    return found


@contextmanager
def written(way: str) -> Iterator[None]:
    """Line items are written by the `library`, by `columns` or by `hand`."""
    assert rating.emit.WRITE is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rating.emit, "_BY_HAND_BELOW", 10**9 if way == "hand" else 0)
        if way == "columns":
            patch.setattr(rating.emit, "WRITE", None)
        yield


def all_written(way: str, log: Log) -> Any:
    with written(way):
        return all_outputs(log)


@needs_library
@THROWS
@given(cases())
def test_line_items_by_columns_and_by_the_library_are_those_by_hand(case: Thrown) -> None:
    log = log_of(case)
    hand = all_written("hand", log)
    assert all_written("library", log) == hand
    assert all_written("columns", log) == hand


@needs_library
@THROWS
@given(cases())
def test_the_library_writes_in_the_order_of_its_twin(case: Thrown) -> None:
    log = log_of(case, 50)
    with written("library"):
        found = run(log)
    with written("columns"):
        assert run(log) == found


@needs_library
@pytest.mark.parametrize("batch", [40, 400])
def test_every_model_by_columns_and_by_the_library_is_by_hand(batch: int) -> None:
    log = Log().catalogue(WIDE).events(wide_events(), batch).tick("2026-11-30T00:00:00Z")
    hand = all_written("hand", log)
    assert all_written("library", log) == hand
    assert all_written("columns", log) == hand
    tiers = {len(item[1].split(b'"from"')) - 1 for item in hand[topics.LINE_ITEMS]}
    assert {1, 2, 3} <= tiers


def careful_all(
    state: State, batch: Any, contributions: list[Contributions], biller: Any, careful: set[int]
) -> set[int]:  # stands in for `fold_columns`
    """Leaves every period to `Replay`, as if each might cross a level."""
    return careful.union(*(state.bills["head"][part.bill].tolist() for part in contributions))


def outputs_and_state(log: Log, fold: Any) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rating.stages, "fold_columns", fold)
        engine = open_engine()
        return [sorted(engine.process([entry]).outputs) for entry in log.entries], plain_dump(engine.snapshot())


@THROWS
@given(cases())
def test_replaying_event_by_event_is_folding_by_columns(case: Thrown) -> None:
    """With what each step wrote, and the state that is left."""
    log = log_of(case)
    folded, replayed = outputs_and_state(log, fold_columns), outputs_and_state(log, careful_all)
    assert replayed[0] == folded[0]
    assert replayed[1] == folded[1]


def test_replaying_every_model_is_folding_it() -> None:
    log = Log().catalogue(WIDE).events(wide_events(), 150).tick("2026-11-30T00:00:00Z")
    folded, replayed = outputs_and_state(log, fold_columns), outputs_and_state(log, careful_all)
    assert replayed[0] == folded[0]
    assert replayed[1] == folded[1]


def test_revisions_rise_and_count_events() -> None:
    log = Log().catalogue(WIDE).events(wide_events(), 13)
    seen: dict[bytes, int] = {}
    for output in run(log):
        if output.topic == topics.LINE_ITEMS:
            revision = msgspec.json.decode(output.value)["revision"]
            assert revision > seen.get(output.key, 0)
            seen[output.key] = revision
