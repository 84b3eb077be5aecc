"""The questions over HTTP, against the embedded parts: a real log, engine and store; the test holds the clocks."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from rating.engine import RatingSettings
from rating.retell import service
from rating.spend.progress import Progress
from schemas.entry import encode_tick
from schemas.times import parse_time
from streams.embedded.host import HostSettings
from taximeter.documents import read_catalogue_file
from taximeter.embedded import Embedded, EmbeddedSettings
from taximeter.http import make_app

BOOK = """
meters:
  tokens: {event: llm.request, aggregate: sum, value: $.tokens, dimensions: {model: $.model}}
  disk: {event: disk, aggregate: time_weighted, value: $.gib, unit: hour}
price_books:
  launch:
    currency: USD
    charges:
      tokens: {meter: tokens, group_by: [model], price: {model: unit, unit_amount: "0.01"}}
    minimum: "5"
customers:
  acme: {subjects: [team-a], taxes: [{name: VAT, rate: "0.1"}]}
  beta/one: {subjects: [team-b]}
subscriptions:
  s: {customer: acme, price_book: launch, start: 2026-11-01T00:00:00Z}
"""


class Running:
    """The parts, a client, and the clocks."""

    def __init__(self, parts: Embedded, client: httpx.AsyncClient) -> None:
        self.parts, self.client = parts, client
        self.partition = 0

    async def send(self, arrived: str, *events: tuple[str, str, Any]) -> str:
        """Events (id, time, data) of acme's, and a void where the data say `void`. Returns the position."""
        self.parts.door.clock = lambda: parse_time(arrived)
        body = []
        for id, time, data in events:
            kind = "taximeter.void" if "void" in data else "disk" if "gib" in data else "llm.request"
            said = {"source": "cli", "id": data["void"]} if "void" in data else data
            head = {"specversion": "1.0", "id": id, "source": "cli", "type": kind, "subject": "team-a", "time": time}
            body.append({**head, "data": said})
        answer = await self.client.post(
            "/v1/events",
            content=msgspec.json.encode(body),
            headers={"content-type": "application/cloudevents-batch+json"},
        )
        assert answer.json()["accepted"] == len(events), answer.text
        return str(answer.json()["position"])

    async def tick(self, time: str) -> None:
        for partition in range(self.parts.log.partitions):
            await self.parts.log.append(partition, encode_tick(parse_time(time)), 0)
        await self.parts.settle()

    async def get(self, path: str, status: int = 200, **asked: str) -> Any:
        answer = await self.client.get(f"/v1/{path}", params=asked)
        assert answer.status_code == status, answer.text
        if status != 200:
            assert answer.headers["content-type"] == "application/problem+json"
        return answer.json()


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    book = tmp_path / "book.yaml"
    book.write_text(BOOK)
    settings = EmbeddedSettings(
        data=tmp_path / "data",
        partitions=2,
        rating=RatingSettings(2, lateness=0),
        host=HostSettings(tick_seconds=None),
    )
    async with Embedded(settings) as parts:
        await parts.apply(read_catalogue_file(book))
        transport = httpx.ASGITransport(make_app(parts.routes(), parts.ready))
        async with httpx.AsyncClient(transport=transport, base_url="http://taximeter") as client:
            yield Running(parts, client)


async def november(running: Running) -> str:
    """300 tokens on the 2nd, 500 on the 9th that arrive late on the 12th, and the first taken back on the 14th."""
    await running.tick("2026-11-01T00:00:00Z")
    await running.send("2026-11-02T09:00:00Z", ("a", "2026-11-02T08:00:00Z", {"tokens": 300, "model": "m"}))
    await running.tick("2026-11-10T00:00:00Z")
    await running.send("2026-11-12T00:00:00Z", ("b", "2026-11-09T08:00:00Z", {"tokens": 500, "model": "x"}))
    await running.tick("2026-11-13T00:00:00Z")
    position = await running.send("2026-11-14T00:00:00Z", ("v", "2026-11-14T00:00:00Z", {"void": "a"}))
    await running.tick("2026-11-15T00:00:00Z")
    return position


def total(spend: Any) -> str:
    return str(spend["currencies"][0]["total"]) if spend["currencies"] else "nothing"


async def test_spend_of_both_times(running: Running) -> None:
    await november(running)
    asked = {
        (): "5",
        (("as_of", "2026-11-05T00:00:00Z"),): "nothing",  # the 300 were taken back later
        (("as_of", "2026-11-10T00:00:00Z"),): "5",
        (("as_known_at", "2026-11-10T00:00:00Z"),): "3",
        (("as_known_at", "2026-11-12T00:00:00Z"),): "8",
        (("as_known_at", "2026-11-14T00:00:00Z"),): "5",
        (("as_of", "2026-11-05T00:00:00Z"), ("as_known_at", "2026-11-13T00:00:00Z")): "3",
        (("as_known_at", "2026-10-01T00:00:00Z"),): "nothing",
    }
    for times, expected in asked.items():
        found = await running.get("customers/acme/spend", **dict(times))
        assert total(found) == expected, times
        for name, time in times:
            assert found[name] == time


async def test_usage_of_both_times(running: Running) -> None:
    await november(running)

    async def usage(**asked: str) -> list[tuple[str, str]]:
        found = await running.get("customers/acme/usage", meter="tokens", window="day", **asked)
        return [(window["start"][:10], window["value"]) for window in found["windows"]]

    assert await usage() == [("2026-11-09", "500")]
    assert await usage(as_known_at="2026-11-13T00:00:00Z") == [("2026-11-02", "300"), ("2026-11-09", "500")]
    assert await usage(as_known_at="2026-11-10T00:00:00Z") == [("2026-11-02", "300")]
    assert await usage(as_known_at="2026-11-13T00:00:00Z", as_of="2026-11-09T08:00:00Z") == [("2026-11-02", "300")]


async def test_a_gauge_was_known_up_to_a_tick(running: Running) -> None:
    await running.tick("2026-11-01T00:00:00Z")
    await running.send("2026-11-01T00:00:00Z", ("d", "2026-11-01T00:00:00Z", {"gib": 2}))
    for day in (3, 5, 9):
        await running.tick(f"2026-11-0{day}T00:00:00Z")

    async def level(**asked: str) -> str:
        found = await running.get("customers/acme/usage", meter="disk", window="month", **asked)
        return str(found["windows"][0]["value"])

    assert await level() == "384"  # 2 * 8 days * 24 hours
    assert await level(as_known_at="2026-11-05T12:00:00Z") == "192"
    assert await level(as_of="2026-11-04T00:00:00Z") == "144"


async def test_a_bill_waits_for_its_position_and_says_through(running: Running) -> None:
    position = await november(running)
    found = await running.get("customers/acme/bill", position=position)
    (draft,) = found["invoices"]
    assert (found["status"], draft["status"], draft["kind"]) == ("draft", "draft", "period")
    assert (draft["subtotal"], draft["minimum"], draft["taxes"], draft["total"]) == ("5", "0", "0.5", "5.5")
    partition, _, offset = position.partition(":")
    assert found["through"][partition] >= int(offset)
    await running.tick("2026-12-01T00:00:00Z")
    made = (await running.get("invoices", customer="acme"))["invoices"]
    assert [one | {"status": "draft"} for one in made] == [draft]
    assert (await running.get("customers/acme/bill", as_of="2026-11-20T00:00:00Z"))["invoices"] == [draft]


async def test_a_catalogue_is_the_one_that_was_known(running: Running, tmp_path: Path) -> None:
    await november(running)
    await running.tick("2026-11-15T12:00:00Z")
    book = tmp_path / "dearer.yaml"
    book.write_text(BOOK.replace('"0.01"', '"0.02"'))
    await running.parts.apply(read_catalogue_file(book))
    await running.tick("2026-11-16T00:00:00Z")
    assert total(await running.get("customers/acme/spend")) == "10"
    assert total(await running.get("customers/acme/spend", as_of="2026-11-15T00:00:00Z")) == "10"
    assert total(await running.get("customers/acme/spend", as_known_at="2026-11-15T00:00:00Z")) == "5"
    # It stands between two ticks, and counts as known from the first of them on.
    assert total(await running.get("customers/acme/spend", as_known_at="2026-11-15T12:00:00Z")) == "10"


async def test_the_same_engine_is_fed_on(running: Running) -> None:
    await november(running)
    first = await running.get("customers/acme/bill")
    ((_, kept),) = running.parts.retellings._kept.items()
    position = await running.send("2026-11-16T00:00:00Z", ("c", "2026-11-16T00:00:00Z", {"tokens": 100, "model": "m"}))
    second = await running.get("customers/acme/bill", position=position)
    assert (first["currencies"][0]["total"], second["currencies"][0]["total"]) == ("5.5", "6.6")
    assert list(running.parts.retellings._kept.values()) == [kept]


async def test_remaining_forecast_and_compare(running: Running) -> None:
    await november(running)
    left = await running.get("customers/acme/remaining", as_known_at="2026-11-10T00:00:00Z")
    assert left["commitments"][0]["remaining"] == "2"
    assert left["as_known_at"] == "2026-11-10T00:00:00Z"
    ahead = await running.get("customers/acme/forecast", method="linear")
    assert ahead["periods"][0]["method"] == "linear"
    assert ahead["estimate"] is True
    both = await running.get("customers/acme/compare")
    assert both["comparisons"] == []  # there is no period before November


async def test_another_tenant_has_nothing_of_it(running: Running) -> None:
    await november(running)
    for name in ("bill", "remaining", "forecast", "compare"):
        found = await running.get(f"customers/acme/{name}", tenant="other")
        assert [value for value in found.values() if isinstance(value, list)] == [[]] * sum(
            isinstance(value, list) for value in found.values()
        )
    assert total(await running.get("customers/acme/spend", tenant="other", as_of="2026-11-20T00:00:00Z")) == "nothing"


async def test_an_id_may_hold_a_slash(running: Running) -> None:
    assert (await running.get("customers/beta/one/bill"))["customer"] == "beta/one"
    document = await running.client.get("/v1/customers/beta%2Fone")
    assert document.json()["document"]["subjects"] == ["team-b"]
    assert (await running.client.get("/v1/customers/beta%2Fbill")).status_code == 404


WRONG = [
    ("bill", {"closing": "soon"}, "closing: found 'soon', expected one of end, now"),
    ("bill", {"as_of": "yesterday"}, "as_of: found 'yesterday', expected an RFC 3339 time"),
    ("bill", {"as_off": "2026-11-01T00:00:00Z"}, "found 'as_off' (did you mean 'as_of'?), expected one of"),
    ("forecast", {"method": "crystal"}, "method: found 'crystal', expected one of auto, linear, seasonal"),
    ("compare", {"with": "next"}, "with: found 'next', expected current, previous or the start of a period"),
    ("spend", {"as_known_at": ""}, "as_known_at: found 0 characters"),
    ("usage", {"as_of": "2026-11-01T00:00:00Z"}, "meter: missing"),
]


@pytest.mark.parametrize(("path", "asked", "detail"), WRONG)
async def test_what_is_wrong_is_named(running: Running, path: str, asked: dict[str, str], detail: str) -> None:
    found = await running.get(f"customers/acme/{path}", 400, **asked)
    assert detail in found["detail"]


async def test_too_many_events_are_refused_before_they_are_read(running: Running) -> None:
    await november(running)
    running.parts.retellings.events_max = 2
    found = await running.get("customers/acme/bill", 422)
    assert (found["code"], found["limit"]) == ("too_many_events", 2)
    assert "expected at most" in found["detail"]
    running.parts.retellings.events_max = 3
    assert (await running.get("customers/acme/bill"))["invoices"]


async def test_a_history_that_is_too_short_is_said(running: Running) -> None:
    await november(running)
    found = await running.get("customers/acme/forecast", 422, method="seasonal")
    assert found["code"] == "history_too_short"
    assert "expected at least 14" in found["detail"]


async def test_a_log_that_was_not_whole_is_gone(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the topic's retention had dropped its beginning before the store was built."""
    await november(running)
    progress = {p: msgspec.structs.replace(one, source=7) for p, one in running.parts.store.progress().items()}
    assert all(isinstance(one, Progress) for one in progress.values())
    monkeypatch.setattr(running.parts.store, "progress", lambda: progress)
    found = await running.get("customers/acme/bill", 410)
    assert found["code"] == "not_kept"
    assert list(found["kept_from"].values()) == [7]


async def test_too_many_questions_wait_elsewhere(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "WAITING_MAX", 0)
    assert (await running.get("customers/acme/bill", 503))["code"] == "busy"
