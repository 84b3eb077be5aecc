"""The oracle of the benchmark against other systems: right by hand, and it tells a wrong line from a right one."""

import json
from collections import Counter

import pytest

from benchmarks.rivals import job


def _event(id: str, tokens: int, model: str = "large", time: str = "2026-11-01T05:59:59.999999Z") -> bytes:
    event = {"source": "s", "id": id, "subject": "acme", "time": time, "data": {"tokens": tokens, "model": model}}
    return json.dumps(event).encode()


@pytest.mark.parametrize(
    ("tokens", "nano_dollars"),
    [
        (0, 0),
        (1, 3_000),
        (10_000, 30_000_000),
        (10_001, 30_002_000),
        (100_000, 210_000_000),
        (100_001, 210_001_500),
        (250_000, 435_000_000),
    ],
)
def test_price_is_that_of_each_token_in_its_tier(tokens: int, nano_dollars: int) -> None:
    assert job.price(tokens) == nano_dollars


def test_an_event_counts_once_by_customer_model_and_hour() -> None:
    events = [_event("1", 9_999), _event("2", 2), _event("1", 9_999), _event("3", 5, "mini")]
    events.append(_event("4", 7, time="2026-11-01T06:00:00.000000Z"))
    assert job.expected(events) == {
        ("acme", "large", "2026-11-01T05"): (10_001, 2, 30_002_000),
        ("acme", "mini", "2026-11-01T05"): (5, 1, 15_000),
        ("acme", "large", "2026-11-01T06"): (7, 1, 21_000),
    }


def test_the_same_events_come_every_time_and_one_in_twenty_twice() -> None:
    events = list(job.events(20_000))
    assert events == list(job.events(20_000))
    repeated = len(events) - len(set(events))
    assert 800 < repeated < 1_200
    ids = Counter((event["source"], event["id"]) for event in map(json.loads, set(events)))
    assert set(ids.values()) == {1}
    assert 200 < sum(map(len, events)) / len(events) < 240


def test_a_wrong_line_a_lost_one_and_one_too_many_are_seen() -> None:
    wanted = job.expected(job.events(100))
    key, line = next(iter(wanted.items()))
    assert job.difference(dict(wanted), wanted) == ""
    assert "1 of" in job.difference(wanted | {key: line._replace(amount=line.amount + 1)}, wanted)
    assert "1 of" in job.difference({k: v for k, v in wanted.items() if k != key}, wanted)
    assert "1 of" in job.difference(wanted | {key._replace(customer="nobody"): line}, wanted)


def test_of_a_line_item_the_highest_revision_is_read() -> None:
    item = {
        "id": "li_1", "customer": "acme", "dimensions": {"model": "large"}, "events": 2, "revision": 2,
        "period": {"start": "2026-11-01T05:00:00Z"}, "quantity": "10001", "amount": "0.030002",
    }  # fmt: skip
    older = item | {"revision": 1, "quantity": "1", "amount": "0.000003", "events": 1}
    found = job.read_line_items(json.dumps(one).encode() for one in (item, older))
    assert found == {("acme", "large", "2026-11-01T05"): (10_001, 2, 30_002_000)}


def test_of_plain_lines_the_last_is_read_and_what_was_taken_back_is_not() -> None:
    line = {"customer": "acme", "model": "large", "hour": "2026-11-01T05", "quantity": 2, "events": 2, "amount": 6_000}
    older = line | {"quantity": 1, "events": 1, "amount": 3_000}
    records = [older, line | {"diff": 1}, older | {"diff": -1}]
    found = job.read_plain(json.dumps(one).encode() for one in records)
    assert found == {("acme", "large", "2026-11-01T05"): (2, 2, 6_000)}
