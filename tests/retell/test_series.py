"""Spend by windows: what the charges had come to at a window's end, less at its beginning. The sum is the whole."""

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from rating.engine import RatingSettings
from rating.retell import series
from streams.embedded.host import HostSettings
from taximeter.documents import read_catalogue_file
from taximeter.embedded import Embedded, EmbeddedSettings
from taximeter.http import make_app
from tests.retell.test_http import Running

BOOK = """
meters:
  tokens: {event: llm.request, aggregate: sum, value: $.tokens}
price_books:
  launch:
    currency: USD
    charges:
      platform: {price: {model: flat, amount: "20"}, when: in_advance}
      tokens:
        meter: tokens
        price: {model: graduated, tiers: [{up_to: "1000", unit_amount: "0.01"}, {unit_amount: "0.005"}]}
customers:
  acme: {subjects: [team-a]}
subscriptions:
  s: {customer: acme, price_book: launch, start: 2026-11-01T00:00:00Z}
"""


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    book = tmp_path / "book.yaml"
    book.write_text(BOOK)
    rating, host = RatingSettings(), HostSettings(tick_seconds=None)
    async with Embedded(EmbeddedSettings(tmp_path / "data", rating=rating, host=host)) as parts:
        await parts.apply(read_catalogue_file(book))
        transport = httpx.ASGITransport(make_app(parts.routes(), parts.ready))
        async with httpx.AsyncClient(transport=transport, base_url="http://spend") as client:
            yield Running(parts, client)


async def used(running: Running) -> None:
    await running.send("2026-11-01T00:30:00Z", ("a", "2026-11-01T00:10:00Z", {"tokens": 600}))
    await running.send("2026-11-03T12:00:00Z", ("b", "2026-11-03T11:30:00Z", {"tokens": 600}))
    # It comes late, for a day before: tiers are entered in the order of use, so the day after it becomes cheaper.
    await running.send("2026-11-03T13:00:00Z", ("c", "2026-11-02T09:00:00Z", {"tokens": 600}))
    await running.send(
        "2026-11-04T01:00:00Z",
        ("d", "2026-11-03T23:59:59.999999Z", {"tokens": 2}),
        ("e", "2026-11-04T00:30:00Z", {"tokens": 50}),
    )
    await running.send("2026-11-04T02:00:00Z", ("v", "2026-11-04T02:00:00Z", {"void": "e"}))
    await running.tick("2026-11-04T03:00:00Z")


async def test_days_are_what_the_charges_came_to_between_two_moments(running: Running) -> None:
    await used(running)
    found = await running.get("customers/acme/series", window="day")
    assert [(day["start"][:10], day["amount"]) for day in found["series"]] == [
        ("2026-11-01", "26"),  # 20 in advance, 600 at 0.01
        ("2026-11-02", "5"),  # 400 at 0.01, 200 at 0.005
        ("2026-11-03", "3.01"),  # 602 at 0.005
    ]
    assert found["series"][0]["by_charge"] == [
        {"charge": "platform", "amount": "20"},
        {"charge": "tokens", "amount": "6"},
    ]
    spend = await running.get("customers/acme/spend")
    assert sum(Decimal(day["amount"]) for day in found["series"]) == Decimal(spend["currencies"][0]["total"])


async def test_hours_of_a_day_sum_to_the_day_in_any_zone(running: Running) -> None:
    await used(running)
    bounds = {"from": "2026-11-03T00:00:00Z", "to": "2026-11-04T00:00:00Z"}
    for zone in ("UTC", "Asia/Kolkata"):
        hours = (await running.get("customers/acme/series", window="hour", timezone=zone, **bounds))["series"]
        assert sum(Decimal(hour["amount"]) for hour in hours) == Decimal("3.01")
    assert [(hour["start"], hour["end"]) for hour in hours] == [
        ("2026-11-03T11:30:00Z", "2026-11-03T12:30:00Z"),
        ("2026-11-03T23:30:00Z", "2026-11-04T00:00:00Z"),
    ]


async def test_what_was_known_at_a_moment(running: Running) -> None:
    await used(running)
    found = (await running.get("customers/acme/series", window="day", as_known_at="2026-11-03T12:30:00Z"))["series"]
    assert [(day["start"][:10], day["amount"]) for day in found] == [("2026-11-01", "26"), ("2026-11-03", "5")]


async def test_too_many_windows_are_refused(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    await used(running)
    refused = await running.get("customers/acme/series", status=422, window="hour")
    assert (refused["code"], "62 windows" in refused["detail"]) == ("too_many_windows", True)
    monkeypatch.setattr(series, "WORK_MAX", 10)
    assert (await running.get("customers/acme/series", status=422))["code"] == "too_many_windows"
    assert (await running.get("customers/nobody/series"))["series"] == []
