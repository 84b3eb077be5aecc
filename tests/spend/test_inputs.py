"""What both stores keep of a customer's inputs: its events as they came, and what is no event, in the log's order."""

from typing import Any

from rating.spend.store import SpendStore
from schemas import topics
from schemas.entry import CATALOGUE, TICK
from schemas.event import VOID_TYPE
from schemas.identity import event_identity
from schemas.times import parse_time
from tests.spend.records import Log, alert, catalogue, event, tick

METERS = {"m": {"event": "e", "aggregate": "count"}}


def fill(log: Log) -> None:
    log.append(topics.EVENTS, catalogue(METERS))
    log.append(topics.EVENTS, tick("2026-11-02T00:00:00Z"))
    log.events(
        event("a", "2026-11-02T10:00:00Z", {"n": 1}),
        event("b", "2026-11-01T10:00:00Z", {"n": "0.1"}, customer="beta"),
        event("a", "2026-11-02T10:00:00Z", {"n": 1}),
    )
    log.append(topics.EVENTS, tick("2026-11-03T00:00:00Z"))
    log.events(event("v", "2026-11-01T00:00:00Z", {"source": "cli", "id": "a"}, type=VOID_TYPE))
    log.events(event("x", "2026-11-01T00:00:00Z", {}), partition=1)
    log.append(topics.EVENTS, catalogue({}))


def arrivals(store: SpendStore, *args: Any) -> list[dict[str, Any]]:
    return store.arrivals("default", *args).to_pylist()


def test_arrivals_are_a_customers_events_as_they_came(store: SpendStore) -> None:
    log = Log()
    fill(log)
    store.apply(log.records)
    found = arrivals(store, "acme", 0, 0, 100, 100)
    assert [(row["log_offset"], row["id"], row["type"]) for row in found] == [
        (2, "a", "llm.request"),
        (2, "a", "llm.request"),
        (6, "v", VOID_TYPE),
    ]
    assert found[0] == {
        "log_offset": 2,
        "identity": event_identity("default", "acme", "cli", "a"),
        "subject": "acme",
        "source": "cli",
        "type": "llm.request",
        "id": "a",
        "time": parse_time("2026-11-02T10:00:00Z"),
        "arrived": 0,
        "data": b'{"n": 1}',
        "extensions": None,
    }
    assert [row["id"] for row in arrivals(store, "beta", 0, 0, 100, 100)] == ["b"]
    assert [row["id"] for row in arrivals(store, "acme", 0, 3, 100, 100)] == ["v"]
    assert len(arrivals(store, "acme", 0, 0, 100, 1)) == 1
    assert store.arrivals("other", "acme", 0, 0, 100, 100).num_rows == 0


def test_controls_are_what_is_no_event(store: SpendStore) -> None:
    log = Log()
    fill(log)
    store.apply(log.records)
    store.apply(log.records)
    found = store.controls(0, 0, 100).to_pylist()
    assert [(row["log_offset"], row["kind"], row["time"]) for row in found] == [
        (0, CATALOGUE, 0),
        (1, TICK, parse_time("2026-11-02T00:00:00Z")),
        (5, TICK, parse_time("2026-11-03T00:00:00Z")),
        (7, CATALOGUE, 0),
    ]
    assert found[0]["body"] == '{"meters": {"m": {"event": "e", "aggregate": "count"}}}'
    assert store.controls(1, 0, 100).num_rows == 0
    assert [row["log_offset"] for row in store.controls(0, 1, 5).to_pylist()] == [1]


def test_the_first_input_after_a_time_is_a_tick_or_an_event(store: SpendStore) -> None:
    log = Log()
    fill(log)
    store.apply(log.records)
    assert store.first_after(0, parse_time("2026-11-02T00:00:00Z")) == 5
    assert store.first_after(0, -1) == 1  # a tick before the first event that arrived
    assert store.first_after(0, parse_time("2026-11-03T00:00:00Z")) is None
    assert store.first_after(1, -1) == 0


def test_alerts_that_name_a_tick(store: SpendStore) -> None:
    log = Log()
    by_tick = alert("al_2", level="200")
    text = log.append(topics.ALERTS, by_tick).value
    log.append(
        topics.ALERTS, text.replace(b"al_2", b"al_3").replace(b'"event":', b'"tick":"2026-11-03T00:00:00Z","x":')
    )
    store.apply(log.records)
    (found,) = store.alerts_at_ticks("default", "acme")
    assert b"al_3" in found
    assert store.alerts_at_ticks("default", "beta") == []
