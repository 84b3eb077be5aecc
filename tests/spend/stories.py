"""Random inputs of a spend store as Hypothesis draws them, random ways to apply them, and all that can be asked."""

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from typing import Any

import httpx
from hypothesis import strategies as st
from starlette.applications import Starlette

from rating.spend.app import routes
from rating.spend.store import SpendStore
from rating.spend.view import SpendView
from schemas import topics
from schemas.output import Invoice, LineItem
from streams.log import TopicRecord
from tests.spend.records import (
    DECEMBER,
    NOVEMBER,
    Log,
    alert,
    catalogue,
    event,
    invoice,
    line,
    rejection,
    threshold,
    tick,
)

CUSTOMERS = ("acme", "été", "a'b; --")
_AMOUNTS = (
    "0",
    "0",
    "1.5",
    "-2.25",
    "0.000000000001",
    "90000000.000000000009",
    "999999999999999999999999.000000000001",
)
_METERS = {"tokens": {"event": "llm.request", "aggregate": "sum", "value": "$.n", "dimensions": {"model": "$.model"}}}
_TIMES = ("2026-11-02T10:00:00Z", "2026-11-02T11:00:00.5Z", "2026-11-30T23:59:59.999999Z", "2026-12-01T00:00:00Z")


def _line(number: int, revision: int) -> LineItem:
    """What an id stands for follows from its number, what a revision says from both."""
    dice = random.Random(f"{number}/{revision}")
    return line(
        f"li_{number:032x}" if number % 3 else f"li_{number}",
        revision,
        customer=CUSTOMERS[number % 3],
        subscription=f"launch-{number % 2}",
        charge=("tokens", "requests")[number // 2 % 2],
        dimensions=({}, {"model": "large"}, {"model": None, "region": "eu"})[number % 3],
        currency=("USD", "EUR")[number // 4 % 2],
        period=(NOVEMBER, DECEMBER)[number // 3 % 2],
        quantity=dice.choice(("0", "3")),
        amount=dice.choice(_AMOUNTS),
        events=dice.randrange(9),
        last_event=dice.choice((None, *_TIMES)),
    )


def _invoice(number: int, revision: int) -> Invoice:
    dice = random.Random(f"{number}/{revision}")
    changes: dict[str, Any] = {
        "status": dice.choice(("draft", "issued", "paid", "void")),
        "total": dice.choice(_AMOUNTS),
    }
    changes |= {"customer": CUSTOMERS[number % 3], "subscription": f"launch-{number % 2}"}
    if number % 2:
        return threshold(f"in_{number}", str(100 * number), **changes, revision=revision)
    return invoice(f"in_{number}", revision, **changes, period=(NOVEMBER, DECEMBER)[number // 2 % 2])


@st.composite
def stories(draw: st.DrawFn) -> Log:
    """A log of both partitions: outputs in any order of revisions, events with duplicates and voids, tombstones, a
    journal that says now and then how far the engine is."""
    log = Log()
    numbers, revisions, ids = st.integers(0, 11), st.integers(1, 5), st.sampled_from("abcdef")
    log.append(topics.EVENTS, catalogue(_METERS), 0)
    log.append(topics.EVENTS, catalogue(_METERS), 1)
    steps: dict[str, Callable[[int, str], object]] = {
        "line": lambda n, _: log.append(topics.LINE_ITEMS, _line(n, draw(revisions)), n % 2),
        "tombstone": lambda n, _: log.append(topics.LINE_ITEMS, b"", n % 2),
        "invoice": lambda n, _: log.append(topics.INVOICES, _invoice(n, draw(revisions)), n % 2),
        "alert": lambda n, who: log.append(topics.ALERTS, alert(f"al_{n}", str(n), customer=who), n % 2),
        "budget": lambda n, who: log.append(topics.ALERTS, alert(f"al_b{n}", kind="budget", customer=who), n % 2),
        "rejection": lambda n, _: log.append(topics.REJECTIONS, rejection(n, meter=f"m{n % 2}"), n % 2),
        "tick": lambda n, _: log.append(topics.EVENTS, tick(f"2026-11-{n + 1:02d}T00:00:00Z"), n % 2),
        "event": lambda n, who: log.events(
            event(draw(ids), _TIMES[n % 4], {"n": str(n), "model": "large"}, customer=who),
            event(draw(ids), _TIMES[n % 4], {"n": "1.5"}, customer=who),
            partition=n % 3 % 2,
        ),
        "void": lambda n, who: log.events(
            event(f"v{n}", _TIMES[0], {"source": "cli", "id": draw(ids)}, type="taximeter.void", customer=who),
            partition=n % 3 % 2,
        ),
        "done": lambda n, _: log.done(log.end(topics.EVENTS, n % 2), partition=n % 2),
    }
    for name in draw(st.lists(st.sampled_from(("line", "line", "line", *steps)), min_size=1, max_size=40)):
        number = draw(numbers)
        steps[name](number, CUSTOMERS[number % 3])
    for partition in (0, 1):
        log.done(log.end(topics.EVENTS, partition), partition=partition)
    return log


def reordered(records: Sequence[TopicRecord], dice: random.Random) -> list[TopicRecord]:
    """The records with topics and partitions mixed anew; each keeps its own order."""
    queues: dict[tuple[str, int], list[TopicRecord]] = {}
    for record in records:
        queues.setdefault((record.topic, record.partition), []).append(record)
    found = []
    while queues:
        key = dice.choice(list(queues))
        found.append(queues[key].pop(0))
        if not queues[key]:
            del queues[key]
    return found


def apply_somehow(
    open: Callable[[], SpendStore],
    close: Callable[[SpendStore], None],
    records: Sequence[TopicRecord],
    dice: random.Random,
) -> SpendStore:
    """Everything is applied in the end; before, in batches of any size, some of it again, with restarts anywhere, also
    between taking in and writing."""
    store, at = open(), 0
    while at < len(records):
        end = dice.randint(at + 1, min(at + 9, len(records)))
        batch = records[dice.randint(0, at) if dice.random() < 0.3 else at : end]
        if dice.random() < 0.6:
            store.take(batch)
            at = end
            if dice.random() < 0.6:
                store.write()
        else:
            store.apply(batch)
            at = end
        if dice.random() < 0.2:
            close(store)
            store, at = open(), 0  # as a feed does: from the positions on, which the store itself skips to
    store.write()
    return store


def answers(store: SpendStore, log: Log) -> dict[str, Any]:
    """Every question over HTTP and its answer."""
    return asyncio.run(_answers(store, log))


async def _answers(store: SpendStore, log: Log) -> dict[str, Any]:
    app = Starlette(routes=routes(SpendView(store, log)))
    paths = [
        f"/v1/{listing}{query}"
        for listing in ("line-items", "invoices", "alerts", "rejections")
        for query in ("", "?limit=2")
    ]
    paths += [
        f"/v1/line-items?charge=tokens&period={NOVEMBER.start}",
        "/v1/invoices?kind=threshold",
        "/v1/invoices/in_2",
    ]
    paths += [f"/v1/spend?by={by}" for by in ("customer", "charge", "dimension:model")]
    paths += ["/v1/events", "/v1/events?limit=3", "/v1/usage?meter=tokens&window=day"]
    for customer in CUSTOMERS:
        paths += [f"/v1/customers/{customer}/spend?period={period}" for period in ("current", "all", DECEMBER.start)]
        paths += [f"/v1/customers/{customer}/usage?meter=tokens&window={unit}" for unit in ("hour", "month")]
        paths += [f"/v1/line-items?customer={customer}&limit=1", f"/v1/alerts?customer={customer}"]
    found: dict[str, Any] = {}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://spend") as client:
        while paths:
            path = paths.pop(0)
            answer = await client.get(path)
            found[path] = (answer.status_code, json.loads(answer.content))
            assert answer.status_code in (200, 404), answer.text
            if cursor := found[path][1].get("next_cursor"):
                paths.append(
                    f"{path.split('&cursor=')[0]}&cursor={cursor}" if "limit" in path else f"{path}?cursor={cursor}"
                )
    return found
