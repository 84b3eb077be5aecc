"""How fast the embedded spend store takes line items and answers: `python -m benchmarks.spend_store [LINES]`.

Fills a DuckDB file with a million line items (or LINES) and measures, with everything that production does (JSON
decoded, duplicates dropped, one transaction with the positions per batch): batches of new revisions for nine in ten
and new ids for one in ten, at random over all of them, the large ones long enough for compactions to run beside
them; then questions about one customer among a thousand.
"""

import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from rating.spend.duckdb_store import DuckdbStore
from rating.spend.spending import spend
from rating.spend.store import Whose
from rating.spend.usage import Question, measure
from schemas import topics
from schemas.catalogue import Meter
from schemas.entry import EVENTS, encode_entry
from schemas.event import pack_schema
from schemas.identity import event_identity
from schemas.output import LineItem, Span, Through, TierAmount
from schemas.times import parse_time
from streams.log import TopicRecord

CUSTOMERS = 1000
EVENTS_COUNT = 100_000


def main(lines: int = 1_000_000) -> None:
    """Prints a line for each measure."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spend.duckdb"
        store = DuckdbStore(path)
        writer = _Writer()
        began = time.perf_counter()
        spent = sum(_apply(store, writer.batch(range(at, at + 20_000), 1)) for at in range(0, lines, 20_000))
        print(f"fill            {lines:>9,} lines   {lines / spent:>10,.0f} lines/s")
        for size, rounds in ((20_000, 50), (5_000, 20), (1_000, 20), (100, 20), (1, 20)):
            store.settle()
            taken = [_apply(store, writer.random_batch(lines, size)) for _ in range(rounds)]
            rate, worst = size * rounds / sum(taken), max(taken) * 1000
            mean = sum(taken) / rounds * 1000
            print(f"batches of {size:>6,} {' ' * 8} {rate:>16,.0f} lines/s   mean {mean:.0f} ms, worst {worst:.0f} ms")
        store.settle()
        _time("spend of one customer", lambda: spend(store, "default", "customer-7", "current"))
        _time("a page of 100 line items", lambda: store.page("line_items", {"customer": "customer-7"}, None, 100))
        _usage(store)
        store.close()
        mebibytes = path.stat().st_size / 2**20
        print(f"file {mebibytes:,.0f} MiB; all of it took {time.perf_counter() - began:.0f} s")


class _Writer:
    """Makes records as an engine would, each at the next offset."""

    def __init__(self) -> None:
        self._random = random.Random(1)
        self._offset = 0
        self._revision = 1

    def random_batch(self, lines: int, size: int) -> list[TopicRecord]:
        self._revision += 1
        old = size - size // 10
        numbers = [self._random.randrange(lines) for _ in range(old)]
        numbers += [lines + self._random.randrange(lines) for _ in range(size - old)]
        return self.batch(numbers, self._revision)

    def batch(self, numbers: Sequence[int], revision: int) -> list[TopicRecord]:
        records = []
        for number in numbers:
            value = msgspec.json.encode(_line(number, revision))
            records.append(TopicRecord(topics.LINE_ITEMS, 0, self._offset, self._offset + 1, b"", value))
            self._offset += 1
        return records


def _line(number: int, revision: int) -> LineItem:
    tier = TierAmount(start="0", up_to="10000", quantity="125.5", unit_amount="0.01", flat_amount="0", amount="1.255")
    return LineItem(
        id=f"li_{number * 0x9E3779B97F4A7C15 % 2**128:032x}",
        revision=revision,
        tenant="default",
        customer=f"customer-{number % CUSTOMERS}",
        subscription=f"customer-{number % CUSTOMERS}-launch",
        charge=f"charge-{number // CUSTOMERS % 7}",
        meter="tokens",
        dimensions={"model": f"model-{number // CUSTOMERS % 50}"},
        currency="USD",
        period=Span("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"),
        quantity="125.5",
        amount=f"{revision}.{number % 10**6:06d}1",
        price_book="launch",
        price_version=1,
        tiers=[tier],
        events=revision,
        first_event="2026-11-01T00:00:00Z",
        last_event=f"2026-11-02T00:00:{revision % 60:02d}.{number % 10**6:06d}Z",
        through=Through(0, number),
    )


def _apply(store: DuckdbStore, records: list[TopicRecord]) -> float:
    began = time.perf_counter()
    store.apply(records)
    return time.perf_counter() - began


def _time(name: str, ask: Callable[[], Any], rounds: int = 10) -> None:
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        ask()
        taken.append((time.perf_counter() - began) * 1000)
    print(f"{name:<40} median {sorted(taken)[rounds // 2]:.0f} ms, worst {max(taken):.0f} ms")


def _usage(store: DuckdbStore) -> None:
    """A customer's raw events, in packs of 1,000 (beside as many of another), and windows over them."""
    import pyarrow as pa

    start = parse_time("2026-11-01T00:00:00Z")
    schema = pack_schema("default")
    records, spent = [], 0.0
    for at in range(0, 2 * EVENTS_COUNT, 1000):
        rows = [_event(number, start) for number in range(at, at + 1000)]
        stream = pa.BufferOutputStream()
        with pa.ipc.new_stream(stream, schema) as writer:
            writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=schema))
        value = encode_entry(EVENTS, stream.getvalue().to_pybytes())
        records.append(TopicRecord(topics.EVENTS, 0, at, at + 1000, b"", value))
    for at in range(0, len(records), 20):
        spent += _apply(store, records[at : at + 20])
    print(f"raw events      {2 * EVENTS_COUNT:>9,} events  {2 * EVENTS_COUNT / spent:>10,.0f} events/s")
    meter = Meter(
        event="llm.request",
        aggregate="sum",
        value="$.tokens",
        where={"$.status": {"not": "failed"}},
        dimensions={"model": "$.model"},
    )
    question = Question("hour", "Europe/Zurich", group_by=("model",))
    _time(
        f"hours by model over {EVENTS_COUNT:,} events",
        lambda: measure(meter, store.events(Whose("default", ("busy",)), "llm.request", None, None), question),
        rounds=5,
    )


def _event(number: int, start: int) -> dict[str, Any]:
    customer = ("busy", "other")[number % 2]
    data = f'{{"tokens": {number}.25, "model": "model-{number % 5}", "status": "ok", "trace": "{number:032x}"}}'
    return {
        "identity": event_identity("default", customer, "bench", str(number)),
        "content": 0,
        "customer": customer,
        "subject": customer,
        "source": "bench",
        "type": "llm.request",
        "id": str(number),
        "time": start + number * 12_000_000,
        "arrived": start,
        "data": data.encode(),
        "extensions": None,
    }


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
