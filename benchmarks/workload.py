"""Seeded workloads: the same events every time, as the door packs them.

`default`: 220 bytes an event, 20,000 customers by a power law, three meters, five charges; no two events alike.
`own-keys`: every event has a customer of its own: nothing to sum up, each event makes a bill and its lines.
`hot`: one customer has all events: its lines are changed by every batch.
`duplicates`: of ten events of `default` three come again, within the next 10,000.
`every-model`: every aggregation and price model at once (`benchmarks.every_model`).
"""

import random
from collections import deque
from collections.abc import Callable, Iterator

from benchmarks import every_model
from ingest.pack import encode_packs
from ingest.parse import parse_texts
from ingest.route import Router, View
from ingest.routed import Routed
from rating.catalogue import load_catalogue
from rating.compiled import Compiled
from schemas.entry import EVENTS, Entry, encode_entry
from schemas.times import format_time, parse_time

CATALOGUE = """
meters:
  tokens:   {event: llm.request, aggregate: sum, value: $.tokens, dimensions: {model: $.model, kind: $.kind}}
  requests: {event: llm.request, aggregate: count, dimensions: {model: $.model}}
  gpu:      {event: gpu.session, aggregate: sum, value: $.seconds, dimensions: {gpu: $.gpu}}
price_books:
  default:
    currency: USD
    charges:
      platform: {price: {model: flat, amount: "20"}, when: in_advance}
      tokens:   {meter: tokens, group_by: [model],
                 price: {model: matrix, by: [kind], cells: [
                   {match: {kind: output}, price: {model: unit, unit_amount: "0.000015"}}],
                   otherwise: {model: unit, unit_amount: "0.000003"}}}
      requests: {meter: requests, free_units: 100,
                 price: {model: graduated, tiers: [{up_to: 1000, unit_amount: "0.01"}, {unit_amount: "0.005"}]}}
      gpu:      {meter: gpu, price: {model: package, package_size: 60, package_amount: "0.05"}}
      capacity: {meter: gpu, group_by: [gpu],
                 price: {model: volume, tiers: [{up_to: 10000, unit_amount: "0.001"}, {unit_amount: "0.0008"}]}}
    thresholds: [{spend: 1000}, {spend: 10000}]
default_subscription: {price_book: default}
"""
START = parse_time("2026-11-01T00:00:00Z")
DAY = 86_400_000_000
MODELS = ("large", "small", "mini", "embed")


def compiled(workload: str = "default") -> Compiled:
    """A workload's catalogue."""
    return load_catalogue(every_model.CATALOGUE if workload == "every-model" else CATALOGUE)


def events(count: int, seed: int = 7, customers: int = 20_000, start: int = 0) -> Iterator[bytes]:
    """CloudEvents as JSON texts; event times rise through a day. No `customers`: each event has its own."""
    dice = random.Random(f"{seed}:{start}")
    weights = [1 / rank for rank in range(1, customers + 1)]
    owners = dice.choices(range(customers), weights, k=count) if customers else range(start, start + count)
    for i, owner in enumerate(owners, start):
        time = format_time(START + (i * 86_400_000) % DAY + dice.randrange(1_000_000))
        if dice.random() < 0.3:
            kind, data = (
                "gpu.session",
                f'{{"seconds":{dice.randrange(60_000) / 1000},"gpu":"{dice.choice(("a100", "h100"))}"}}',
            )
        else:
            kind = "llm.request"
            model, direction = dice.choice(MODELS), dice.choice(("input", "output"))
            data = f'{{"tokens":{dice.randrange(1, 5000)},"model":"{model}","kind":"{direction}"}}'
        yield (
            f'{{"specversion":"1.0","id":"{seed}-{i:012d}","source":"/bench/gateway","type":"{kind}",'
            f'"subject":"customer-{owner:06d}","time":"{time}","data":{data}}}'
        ).encode()


def _with_duplicates(count: int) -> Iterator[bytes]:
    """`count` events, three tenths of them copies of earlier ones."""
    dice = random.Random(11)
    fresh = events(count)
    recent: deque[bytes] = deque(maxlen=10_000)
    for _ in range(count):
        if recent and dice.random() < 0.3:
            yield recent[dice.randrange(len(recent))]
        else:
            recent.append(next(fresh))
            yield recent[-1]


WORKLOADS: dict[str, Callable[[int], Iterator[bytes]]] = {
    "default": events,
    "own-keys": lambda count: events(count, customers=0),
    "hot": lambda count: events(count, customers=1),
    "duplicates": _with_duplicates,
    "every-model": every_model.events,
}
"""name -> the texts of that many events."""


def packs(texts: Iterator[bytes], catalogue: Compiled, size: int = 1000) -> Iterator[Entry]:
    """The log's entries of one partition: packs of `size` events, positions by event."""
    view = View.of(catalogue.documents)
    router = Router("default", view, 1)
    offset = 1
    batch: list[bytes] = []
    for text in texts:
        batch.append(text)
        if len(batch) == size:
            yield from _entries(batch, router, view, offset)
            offset += len(batch)
            batch = []
    if batch:
        yield from _entries(batch, router, view, offset)


def _entries(batch: list[bytes], router: Router, view: View, offset: int) -> Iterator[Entry]:
    parsed = parse_texts(batch)
    assert not parsed.refused, parsed.refused[0]
    rows = Routed(parsed.events, router, [START] * len(batch)).by_partition()[0]
    for pack, count in encode_packs("default", rows, view.extractor):
        yield Entry(offset, offset + count, encode_entry(EVENTS, pack))
        offset += count
