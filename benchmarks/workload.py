"""Seeded workloads: the same events every time, as the door packs them.

Each has a catalogue, its events as CloudEvents, and how its cost is worked out by another road (`benchmarks.expected`).
`WORKLOADS` lists them. Real traces are in `benchmarks.traces`, `every-model` in `benchmarks.every_model`.
"""

import random
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from benchmarks import every_model, traces
from ingest.pack import encode_packs
from ingest.parse import parse_texts
from ingest.route import Router, View
from ingest.routed import Routed
from rating.catalogue import load_catalogue
from rating.compiled import Compiled
from schemas.entry import EVENTS, Entry, encode_entry
from schemas.times import DAY, format_time, parse_time

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
TIERS: Final = 50


def _tiers(step: int, amounts: Callable[[int], str]) -> str:
    """`TIERS` tiers in YAML; the n-th ends at n² steps, the last one nowhere."""
    ends = [f"up_to: {n * n * step}, " for n in range(1, TIERS)] + [""]
    return ", ".join(f"{{{end}{amounts(n)}}}" for n, end in enumerate(ends, 1))


MANY_TIERS = f"""
meters:
  tokens:   {{event: llm.request, aggregate: sum, value: $.tokens, dimensions: {{model: $.model}}}}
  requests: {{event: llm.request, aggregate: count}}
  gpu:      {{event: gpu.session, aggregate: sum, value: $.seconds}}
price_books:
  default:
    currency: USD
    charges:
      tokens:   {{meter: tokens, group_by: [model], price: {{model: graduated, tiers: [
                  {_tiers(1000, lambda n: f'unit_amount: "0.0000{100 - n:02}"')}]}}}}
      requests: {{meter: requests, price: {{model: volume, tiers: [
                  {_tiers(2, lambda n: f'unit_amount: "0.0{100 - n:02}"')}]}}}}
      gpu:      {{meter: gpu, price: {{model: graduated, tiers: [
                  {_tiers(20, lambda n: f'unit_amount: "0.00{100 - n:02}", flat_amount: "{n}"')}]}}}}
default_subscription: {{price_book: default}}
"""
"""The n-th tier's unit costs (100 - n) millionths, thousandths, ten-thousandths; that of `gpu` n dollars beside it."""

DIMENSIONS: Final = {
    "model": ("large", "small", "mini", "embed"),
    "kind": ("input", "output"),
    "region": ("eu-1", "eu-2", "us-1", "ap-1"),
    "zone": ("a", "b", "c"),
    "project": tuple(f"project-{n:02}" for n in range(25)),
    "cache": ("hit", "miss"),
}
MANY_DIMENSIONS = f"""
meters:
  tokens:   {{event: llm.request, aggregate: sum, value: $.tokens,
              dimensions: {{{", ".join(f"{name}: $.{name}" for name in DIMENSIONS)}}}}}
price_books:
  default:
    currency: USD
    charges:
      tokens:   {{meter: tokens, group_by: [{", ".join(DIMENSIONS)}], price: {{model: unit, unit_amount: "0.000003"}}}}
      by-zone:  {{meter: tokens, group_by: [region, zone], price: {{model: unit, unit_amount: "0.000001"}}}}
default_subscription: {{price_book: default}}
"""
START = parse_time("2026-11-01T00:00:00Z")
MODELS = ("large", "small", "mini", "embed")


def events(
    count: int, seed: int = 7, customers: int = 20_000, start: int = 0, uniform: bool = False, late: float = 0
) -> Iterator[bytes]:
    """CloudEvents as JSON texts; event times rise through a day. No `customers`: each event has its own. `uniform`:
    customers have equal chances, in place of a power law. `late`: the share that is up to three days late."""
    dice = random.Random(f"{seed}:{start}")
    if not customers:
        owners: Iterator[int] | range | list[int] = range(start, start + count)
    elif uniform:
        owners = (dice.randrange(customers) for _ in range(count))
    else:
        owners = dice.choices(range(customers), [1 / rank for rank in range(1, customers + 1)], k=count)
    for i, owner in enumerate(owners, start):
        time = START + (i * 86_400_000) % DAY + dice.randrange(1_000_000)
        if late and dice.random() < late:
            time -= dice.randrange(3 * DAY)
        if dice.random() < 0.3:
            kind, data = (
                "gpu.session",
                f'{{"seconds":{dice.randrange(1, 60_000) / 1000},"gpu":"{dice.choice(("a100", "h100"))}"}}',
            )
        else:
            kind = "llm.request"
            model, direction = dice.choice(MODELS), dice.choice(("input", "output"))
            data = f'{{"tokens":{dice.randrange(1, 5000)},"model":"{model}","kind":"{direction}"}}'
        yield (
            f'{{"specversion":"1.0","id":"{seed}-{i:012d}","source":"/bench/gateway","type":"{kind}",'
            f'"subject":"customer-{owner:06d}","time":"{format_time(time)}","data":{data}}}'
        ).encode()


def _with_duplicates(count: int, share: float) -> Iterator[bytes]:
    """`count` events, so many of them copies of one of the 10,000 before it."""
    dice = random.Random(11)
    fresh = events(count)
    recent: deque[bytes] = deque(maxlen=10_000)
    for _ in range(count):
        if recent and dice.random() < share:
            yield recent[dice.randrange(len(recent))]
        else:
            recent.append(next(fresh))
            yield recent[-1]


def _many_dimensions(count: int) -> Iterator[bytes]:
    dice = random.Random(13)
    for i in range(count):
        said = ",".join(f'"{name}":"{dice.choice(values)}"' for name, values in DIMENSIONS.items())
        time = format_time(START + (i * 86_400_000) % DAY)
        yield (
            f'{{"specversion":"1.0","id":"13-{i:012d}","source":"/bench/gateway","type":"llm.request",'
            f'"subject":"customer-{dice.randrange(20):06d}","time":"{time}",'
            f'"data":{{"tokens":{dice.randrange(1, 5000)},{said}}}}}'
        ).encode()


class Workload(NamedTuple):
    """`events`: the texts of that many. `cost`: the part of `benchmarks.expected` that says what they cost. `pack`: how
    many events the door finds together, so in an entry of the log."""

    about: str
    events: Callable[[int], Iterator[bytes]]
    catalogue: str = CATALOGUE
    cost: str = "default"
    pack: int = 1000


WORKLOADS: Final = {
    "default": Workload("220 bytes an event, 20,000 customers by a power law, no two events alike", events),
    "hot": Workload("one customer has all events", lambda n: events(n, customers=1)),
    "million-customers": Workload(
        "a million customers with equal chances", lambda n: events(n, customers=1_000_000, uniform=True)
    ),
    "own-keys": Workload(
        "every event has a customer of its own, and makes a bill and its lines", lambda n: events(n, customers=0)
    ),
    "many-tiers": Workload(
        f"{TIERS} tiers a price, 2,000 customers that pass through them",
        lambda n: events(n, customers=2_000),
        MANY_TIERS,
        "many-tiers",
    ),
    "many-dimensions": Workload(
        "six dimensions, each combination a line: 96,000 of 20 customers",
        _many_dimensions,
        MANY_DIMENSIONS,
        "many-dimensions",
    ),
    "duplicates": Workload("of 20 events one comes again, within the next 10,000", lambda n: _with_duplicates(n, 0.05)),
    "duplicates-30": Workload(
        "of ten events three come again, within the next 10,000", lambda n: _with_duplicates(n, 0.3)
    ),
    "late-heavy": Workload(
        "three events of ten are up to three days late, most of them in the month before",
        lambda n: events(n, late=0.3),
    ),
    "small-batches": Workload("`default` in packs of ten events", events, pack=10),
    "every-model": Workload(
        "every aggregation and price model at once, with voids", every_model.events, every_model.CATALOGUE, "oracle"
    ),
    "alibaba-genai": Workload(
        "a month of real requests for images, again and again, with the prices of tests/alibaba",
        traces.alibaba_genai,
        traces.GENAI_BOOK,
        "alibaba-genai",
    ),
    "alibaba-gpu": Workload("real sessions of a GPU cluster, of 500 customers", traces.alibaba_gpu),
    "azure-llm": Workload("an hour of real requests to two LLM services, of 500 customers", traces.azure_llm),
}


def compiled(workload: str = "default") -> Compiled:
    """A workload's catalogue."""
    return load_catalogue(WORKLOADS[workload].catalogue)


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
