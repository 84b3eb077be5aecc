"""The comparison of the chaos run sees what it must see: each kind of fault, put in by hand, is counted as what it is.

No broker: the engine rates a file, the independent pass rates the same events, and one side is spoilt.
"""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from benchmarks.chaos import book
from benchmarks.chaos.compare import Findings, Found, compare
from benchmarks.chaos.expected import Expected, rate
from schemas.topics import ALERTS, INVOICES, LINE_ITEMS
from taximeter.rate_file import rate_path

Event = dict[str, Any]
_FILES = {LINE_ITEMS: "line_items", INVOICES: "invoices", ALERTS: "alerts"}


def some_events(count: int = 600) -> list[Event]:
    """Usage of five customers, duplicates, voids of what was and of what will be."""
    chance = random.Random(11)
    events: list[Event] = []
    for number in range(count):
        kind = chance.random()
        if kind < 0.05 and events:
            events.append(chance.choice(events))
        elif kind < 0.1:
            target = chance.randrange(max(number - 50, 0), number + 20)
            data: Event = {"source": "s", "id": f"e{target}", "reason": "test"}
            events.append(make(f"v{number}", f"c{target % 5}", data, "taximeter.void"))
        else:
            amount = round(chance.uniform(1, 900), 3)
            events.append(make(f"e{number}", f"c{number % 5}", {"n": amount, "model": chance.choice("ab")}))
    return events


def make(id: str, customer: str, data: Event, type: str = book.EVENT_TYPE) -> Event:
    """One event."""
    event = {"specversion": "1.0", "id": id, "source": "s", "type": type, "subject": customer, "data": data}
    return event | {"time": f"{book.MONTH}-10T10:00:00Z"}


def as_entries(events: list[Event]) -> list[bytes]:
    """The log that holds these events, cut in three, and the tick that closes the month."""
    rows = [
        {key: event[key] for key in ("source", "id", "type")}
        | {"customer": event["subject"], "content": 0, "data": json.dumps(event["data"]).encode()}
        for event in events
    ]
    third = len(rows) // 3
    packs = [_pack(rows[start:end]) for start, end in ((0, third), (third, 2 * third), (2 * third, len(rows)))]
    return [*packs, b"\x01T" + json.dumps({"time": book.CLOSING_TICK}).encode()]


def _pack(rows: list[Event]) -> bytes:
    table = pa.Table.from_pylist(rows)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return b"\x01E" + bytes(sink.getvalue().to_pybytes())


def rated(events: list[Event], folder: Path) -> Found:
    """What the engine makes of events."""
    from schemas.times import parse_time

    folder.mkdir()
    (folder / "book.yaml").write_text(book.BOOK)
    (folder / "events.ndjson").write_text("\n".join(map(json.dumps, events)))
    rate_path(folder / "book.yaml", folder / "events.ndjson", parse_time(book.CLOSING_TICK), folder / "out")
    read = {name: (folder / "out" / f"{file}.ndjson").read_bytes().splitlines() for name, file in _FILES.items()}
    return Found(read[LINE_ITEMS], read[INVOICES], read[ALERTS])


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> tuple[Expected, Found]:
    events = some_events()
    return rate([as_entries(events)]), rated(events, tmp_path_factory.mktemp("rated") / "right")


def spoilt(right: tuple[Expected, Found], spoil: Callable[[Found], None]) -> Findings:
    """The findings when what was found is changed."""
    found = Found(list(right[1].line_items), list(right[1].invoices), list(right[1].alerts))
    spoil(found)
    return compare([], right[0], found)


def test_what_the_engine_writes_is_what_the_pass_expects(right: tuple[Expected, Found]) -> None:
    expected, found = right
    findings = compare(list(expected.identities), expected, found)
    assert findings.clean, findings.examples
    assert len(expected.invoices) > 40 and len(expected.alerts) > 35 and expected.voided and expected.duplicates
    assert {invoice.kind for invoice in expected.invoices} == {"threshold", "period"}


def test_records_that_are_written_again_are_nothing(right: tuple[Expected, Found]) -> None:
    def again(found: Found) -> None:
        for values in (found.line_items, found.invoices, found.alerts):
            values.extend(values[:5])

    assert spoilt(right, again).clean


def test_an_acknowledged_event_that_the_log_does_not_hold_is_lost(right: tuple[Expected, Found]) -> None:
    findings = compare([("c1", "s", "never")], *right)
    assert findings.lost == 1 and not findings.clean


def test_an_event_that_the_bills_do_not_count_is_lost_and_costs_cents(tmp_path: Path) -> None:
    events = some_events()
    voided = {event["data"]["id"] for event in events if event["id"].startswith("v")}
    dropped = next(event for event in events[300:] if event["id"].startswith("e") and event["id"] not in voided)
    findings = compare(
        [], rate([as_entries(events)]), rated([e for e in events if e["id"] != dropped["id"]], tmp_path / "r")
    )
    assert findings.lost == 1 and findings.doubled == 0 and findings.wrong_cents > 0


def test_an_event_that_counts_twice_is_doubled(tmp_path: Path) -> None:
    events = some_events()
    voided = {event["data"]["id"] for event in events if event["id"].startswith("v")}
    twice = next(event for event in events[300:] if event["id"].startswith("e") and event["id"] not in voided)
    findings = compare(
        [], rate([as_entries(events)]), rated([*events, twice | {"id": "as-if-it-were-new"}], tmp_path / "r")
    )
    assert findings.doubled == 1 and findings.lost == 0 and findings.wrong_cents > 0


@pytest.mark.parametrize("topic", ["line_items", "invoices", "alerts"])
def test_a_record_that_is_missing_is_seen(right: tuple[Expected, Found], topic: str) -> None:
    findings = spoilt(right, lambda found: getattr(found, topic).pop(7))
    assert not findings.clean
    assert (findings.documents == 1) == (topic != "line_items")


@pytest.mark.parametrize("topic", ["line_items", "invoices", "alerts"])
def test_two_contents_under_one_revision_are_conflicting(right: tuple[Expected, Found], topic: str) -> None:
    def contradict(found: Found) -> None:
        values = getattr(found, topic)
        record = json.loads(values[3])
        values.append(json.dumps(record | {"customer": "another"}).encode())

    assert spoilt(right, contradict).conflicting == 1


def test_a_higher_revision_with_another_amount_is_wrong_by_its_cents(right: tuple[Expected, Found]) -> None:
    def raise_amount(found: Found) -> None:
        record = json.loads(found.line_items[0])
        record["revision"] += 1
        record["amount"] = str(float(record["amount"]) + 2)
        found.line_items.append(json.dumps(record).encode())

    assert spoilt(right, raise_amount).wrong_cents == 200


def test_a_level_that_is_billed_by_another_event_is_seen(right: tuple[Expected, Found]) -> None:
    def rename(found: Found) -> None:
        at = next(n for n, value in enumerate(found.invoices) if json.loads(value).get("because"))
        record = json.loads(found.invoices[at])
        record["because"]["event"]["id"] = "e0"
        found.invoices[at] = json.dumps(record).encode()

    assert spoilt(right, rename).documents == 2


def test_a_cent_on_an_invoice_is_seen(right: tuple[Expected, Found]) -> None:
    def move(found: Found) -> None:
        record = json.loads(found.invoices[0])
        record["total"] = f"{float(record['total']) + 0.01:.2f}"
        found.invoices[0] = json.dumps(record).encode()

    findings = spoilt(right, move)
    assert findings.documents == 2 and findings.wrong_cents > 0
