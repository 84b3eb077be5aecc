"""The job that all contenders do, and what must come of it.

In: usage events as CloudEvents in JSON, about 220 bytes, of 20,000 customers by a power law and four models; 100,000 to
the hour of event time; one in twenty is a copy of one of the 10,000 before it. The job: count each (source, id) once,
add up tokens by customer, model and hour, price each sum through three tiers (graduated), and emit the changed lines.

All amounts are whole nano-dollars (10^-9 USD), here and in every contender that has integers.
"""

import random
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

CUSTOMERS: Final = 20_000
MODELS: Final = ("large", "small", "mini", "embed")
REGIONS: Final = ("eu-central-1", "us-east-1")
START: Final = datetime(2026, 11, 1, tzinfo=UTC)
AN_HOUR: Final = 100_000
"""Events to the hour of event time, however many there are: lines grow with events."""

REPEATED: Final = 0.05
NANO: Final = 10**9
TIERS: Final = ((10_000, 3_000), (100_000, 2_000), (None, 1_500))
"""Up to how many tokens, nano-dollars for each of them."""

BOOK: Final = """
meters:
  tokens: {event: llm.request, aggregate: sum, value: $.tokens, dimensions: {model: $.model}}
price_books:
  default:
    currency: USD
    charges:
      tokens: {meter: tokens, group_by: [model], price: {model: graduated, tiers: [
        {up_to: 10000, unit_amount: "0.000003"}, {up_to: 100000, unit_amount: "0.000002"},
        {unit_amount: "0.0000015"}]}}
default_subscription: {price_book: default, period: hour}
"""
"""The same job in Taximeter's words: a billing period of an hour makes a line of each customer, model and hour."""


class Key(NamedTuple):
    """What a line is for; `hour` as in `2026-11-01T05`."""

    customer: str
    model: str
    hour: str


class Line(NamedTuple):
    """What it has come to: tokens, the events in it, nano-dollars."""

    quantity: int
    events: int
    amount: int


Lines = dict[Key, Line]


def events(count: int, seed: int = 7) -> Iterator[bytes]:
    """`count` events, copies included, the same ones every time."""
    dice = random.Random(seed)
    owners = dice.choices(range(CUSTOMERS), [1 / rank for rank in range(1, CUSTOMERS + 1)], k=count)
    recent: deque[bytes] = deque(maxlen=10_000)
    for number, owner in enumerate(owners):
        if recent and dice.random() < REPEATED:
            yield recent[dice.randrange(len(recent))]
            continue
        at = START + timedelta(seconds=3600 / AN_HOUR * number, microseconds=dice.randrange(1_000_000))
        data = (
            f'{{"tokens":{dice.randrange(1, 5000)},"model":"{dice.choice(MODELS)}","region":"{dice.choice(REGIONS)}"}}'
        )
        event = (
            f'{{"specversion":"1.0","id":"{seed}-{number:012d}","source":"/bench/gateway","type":"llm.request",'
            f'"subject":"customer-{owner:06d}","time":"{at:%Y-%m-%dT%H:%M:%S.%fZ}","data":{data}}}'
        ).encode()
        recent.append(event)
        yield event


def expected(texts: Iterable[bytes]) -> Lines:
    """What must come of these events, in whole numbers and by the shortest way."""
    once = {(event["source"], event["id"]): event for event in map(orjson.loads, texts)}
    sums: dict[Key, tuple[int, int]] = {}
    for event in once.values():
        key = Key(event["subject"], event["data"]["model"], event["time"][:13])
        quantity, count = sums.get(key, (0, 0))
        sums[key] = quantity + event["data"]["tokens"], count + 1
    return {key: Line(quantity, count, price(quantity)) for key, (quantity, count) in sums.items()}


def price(quantity: int) -> int:
    """Nano-dollars for so many tokens: of each tier, what lies within it."""
    edges = [0, *(edge for edge, _ in TIERS if edge is not None), quantity]
    return sum(
        max(0, min(quantity, above) - below) * amount
        for (below, above), (_, amount) in zip(pairwise(edges), TIERS, strict=True)
    )


def read_plain(records: Iterable[bytes]) -> Lines:
    """The lines that a contender wrote as JSON: of each key the last, without what was taken back."""
    found: Lines = {}
    for record in map(orjson.loads, records):
        if record.get("diff", 1) == 1:
            key = Key(record["customer"], record["model"], record["hour"])
            found[key] = Line(record["quantity"], record["events"], record["amount"])
    return found


def read_line_items(records: Iterable[bytes]) -> Lines:
    """Taximeter's line items: of each the highest revision."""
    latest: dict[str, dict[str, Any]] = {}
    for record in map(orjson.loads, records):
        held = latest.get(record["id"])
        if held is None or record["revision"] > held["revision"]:
            latest[record["id"]] = record
    found: Lines = {}
    for item in latest.values():
        key = Key(item["customer"], item["dimensions"]["model"], item["period"]["start"][:13])
        amount = Decimal(item["amount"]) * NANO
        assert amount == int(amount), f"{key}: found {item['amount']}, expected whole nano-dollars"
        found[key] = Line(int(Decimal(item["quantity"])), item["events"], int(amount))
    return found


def difference(found: Lines, wanted: Lines) -> str:
    """What is wrong with what was found, in a line; "" where nothing is."""
    if found == wanted:
        return ""
    wrong = [key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key)]
    first = min(wrong)
    owed, asked = (sum(line.amount for line in lines.values()) for lines in (wanted, found))
    return (
        f"{len(wrong)} of {len(wanted)} lines are wrong, by {asked - owed} nano-dollars in all; "
        f"{'/'.join(first)}: found {found.get(first)}, expected {wanted.get(first)}"
    )


def stored(count: int, folder: Path) -> Path:
    """The file of that many events, a line each; made where it is missing."""
    path = folder / f"events-{count}.ndjson"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        with unfinished.open("wb") as file:
            file.writelines(event + b"\n" for event in events(count))
        unfinished.rename(path)
    return path
