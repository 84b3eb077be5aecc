"""Live events: spend as it changes, every alert once and in order, and going on where a connection was lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import msgspec
import pytest

from rating.spend.app import routes
from rating.spend.live import read_place
from rating.spend.parameters import Problem
from rating.spend.store import SpendStore
from rating.spend.view import SpendView
from schemas.identity import partition_of
from taximeter.http import make_app, running
from tests.spend.records import Log, alert, line

OWN = partition_of("default", "acme", 2)
Event = tuple[str, str, dict[str, Any]]


class Stage:
    """A view that is fed, behind a real server."""

    def __init__(self, log: Log, view: SpendView, url: str, app: Any) -> None:
        self.log, self.view, self.url, self.app = log, view, url, app

    def spend(self, revision: int, amount: str, customer: str = "acme") -> None:
        partition = partition_of("default", customer, 2)
        id = f"li_{customer}"
        line_item = line(id, revision, customer=customer, subscription=f"{customer}-1", amount=amount)
        self.log.append("taximeter.line-items", line_item, partition)
        self.log.append("taximeter.events", b"\x01T" + b'{"time":"2026-11-02T00:00:00Z"}', partition)
        self.log.done(self.log.end("taximeter.events", partition), partition=partition)

    def alert(self, id: str, level: str, customer: str = "acme", tenant: str = "default") -> None:
        partition = partition_of(tenant, customer, 2)
        made = alert(id, level, customer=customer, tenant=tenant)
        self.log.append("taximeter.alerts", made, partition)

    async def seen(self) -> None:
        """Waits until the view has taken in all that was appended."""
        async with asyncio.timeout(20):
            while any(self.view.store.positions().get((r.topic, r.partition), 0) < r.end for r in self.log.records):
                await asyncio.sleep(0.01)

    @asynccontextmanager
    async def stream(self, path: str, last: str | None = None) -> AsyncIterator[AsyncIterator[Event]]:
        headers = {} if last is None else {"last-event-id": last}
        async with (
            httpx.AsyncClient(timeout=20) as client,
            client.stream("GET", f"{self.url}{path}", headers=headers) as answer,
        ):
            assert answer.status_code == 200, await answer.aread()
            assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
            yield parse(answer.aiter_lines())


async def parse(lines: AsyncIterator[str]) -> AsyncIterator[Event]:
    members: dict[str, str] = {}
    async for text in lines:
        name, _, value = text.partition(": ")
        members[name] = value
        if not text:
            if "data" in members:
                yield members["id"], members["event"], msgspec.json.decode(members["data"])
            members = {}


async def take(events: AsyncIterator[Event], count: int) -> list[Event]:
    async with asyncio.timeout(20):
        return [await anext(events) for _ in range(count)]


@pytest.fixture
async def stage(store: SpendStore) -> AsyncIterator[Stage]:
    log = Log()
    view = SpendView(store, log)
    feed = asyncio.create_task(view.run())
    app = make_app(routes(view), lambda: {})
    async with running(app, "127.0.0.1", 0) as url:
        yield Stage(log, view, url, app)
    feed.cancel()
    with suppress(asyncio.CancelledError):
        await feed


def total(event: Event) -> str:
    return event[2]["currencies"][0]["total"]


LIVE = "/v1/customers/acme/live?interval_ms=10"


async def test_spend_comes_at_once_and_whenever_it_changes(stage: Stage) -> None:
    stage.spend(1, "1.5")
    await stage.seen()
    async with stage.stream(LIVE) as events:
        (first,) = await take(events, 1)
        assert (first[1], total(first)) == ("spend", "1.5")
        stage.spend(1, "9", customer="beta")  # another's changes nothing here
        stage.spend(2, "2.25")
        (second,) = await take(events, 1)
        assert total(second) == "2.25"


async def test_alerts_come_once_each_in_their_order_and_are_made_up_for(stage: Stage) -> None:
    stage.alert("al_old", "100")
    await stage.seen()
    async with stage.stream(LIVE) as events:
        stage.alert("al_1", "200")
        stage.alert("al_other", "200", customer="beta")
        stage.alert("al_tenant", "200", tenant="other")
        stage.alert("al_2", "300")
        found = [event for event in await take(events, 2) if event[1] == "alert"]
        found += [] if len(found) == 2 else await take(events, 2 - len(found))
        assert [event[2]["id"] for event in found] == ["al_1", "al_2"]
    stage.alert("al_3", "400")
    await stage.seen()
    async with stage.stream(LIVE, last=found[0][0]) as events:
        again = [event for event in await take(events, 2) if event[1] == "alert"]
        assert [event[2]["id"] for event in again] == ["al_2", "al_3"]


async def test_all_customers_alerts_on_one_stream(stage: Stage) -> None:
    async with stage.stream("/v1/live?interval_ms=10") as events:
        await asyncio.sleep(0.1)
        for number in range(5):
            stage.alert(f"al_{number}", str(100 + number), customer=f"customer-{number}")
        found = await take(events, 5)
        assert {event[2]["id"] for event in found} == {f"al_{number}" for number in range(5)}
    async with stage.stream("/v1/live?interval_ms=10", last=found[2][0]) as events:
        rest = await take(events, 2)
        assert {event[2]["id"] for event in rest} == {event[2]["id"] for event in found[3:]}


async def test_streams_end_where_the_server_stops(store: SpendStore) -> None:
    log = Log()
    view = SpendView(store, log)
    feed = asyncio.create_task(view.run())
    app = make_app(routes(view), lambda: {})
    server = running(app, "127.0.0.1", 0)
    url = await server.__aenter__()
    stage = Stage(log, view, url, app)
    stage.spend(1, "1")
    async with stage.stream(LIVE) as events:
        await take(events, 1)
        began = asyncio.get_running_loop().time()
        stopping = asyncio.create_task(server.__aexit__(None, None, None))
        assert [event async for event in events] == []
        await stopping
        assert asyncio.get_running_loop().time() - began < 5
    feed.cancel()
    with suppress(asyncio.CancelledError):
        await feed


async def test_a_wrong_place_is_named(stage: Stage) -> None:
    async with httpx.AsyncClient() as client:
        for last in ("0:1", "x/y", "7:1/0:1"):
            answer = await client.get(f"{stage.url}/v1/live", headers={"last-event-id": last})
            assert (answer.status_code, answer.json()["parameter"]) == (400, "Last-Event-ID"), last
    assert read_place("0:5,1:2/0:3", 2).alerts == {0: 3}
    with pytest.raises(Problem):
        read_place("0:5/2:3", 2)
