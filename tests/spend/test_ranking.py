"""Who has spent what, and what a subject has cost: the same from both stores, exact, in JSON, CSV and Parquet."""

import asyncio
import csv
import io
from collections.abc import AsyncIterator
from contextlib import suppress
from decimal import Decimal
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette

from rating.spend.app import routes
from rating.spend.costs import share_out
from rating.spend.store import SpendStore
from rating.spend.view import SpendView
from tests.spend.records import DECEMBER, Log, catalogue, event, invoice, line, tick

METERS = {
    "tokens": {"event": "llm.request", "aggregate": "sum", "value": "$.n", "dimensions": {"model": "$.model"}},
    "most": {"event": "llm.request", "aggregate": "max", "value": "$.n"},
}


def made() -> Log:
    log = Log()
    log.append("taximeter.events", catalogue(METERS))
    log.events(
        event("a", "2026-11-02T10:00:00Z", {"n": 1, "model": "large"}, subject="team-a"),
        event("b", "2026-11-02T11:00:00Z", {"n": 2, "model": "large"}, subject="team-b"),
        event("c", "2026-11-03T11:00:00Z", {"n": 5, "model": "small"}, subject="team-b"),
    )
    outputs: list[Any] = [
        line("li_1", dimensions={"model": "large"}, amount="10", quantity="3", events=2),
        line("li_2", dimensions={"model": "small"}, amount="0.01", quantity="5"),
        line("li_3", charge="platform", meter=None, amount="20", quantity="1", events=0, last_event=None),
        line("li_4", charge="most", meter="most", amount="3", quantity="5", events=3),
        line("li_5", customer="beta", subscription="beta-1", amount="5"),
        line("li_6", customer="beta", subscription="beta-1", amount="8", period=DECEMBER),
        line("li_7", customer="gamma", subscription="gamma-1", amount="7", currency="EUR", period=DECEMBER),
        line("li_8", tenant="other", customer="acme", amount="999"),
        line("li_9", customer="delta", subscription="delta-1", quantity="0", amount="0"),
    ]
    for output in outputs:
        log.append("taximeter.line-items", output)
    log.append("taximeter.invoices", invoice())
    log.append("taximeter.events", tick("2026-12-02T00:00:00Z"))
    log.done(log.end("taximeter.events"))
    return log


@pytest.fixture
async def client(store: SpendStore) -> AsyncIterator[httpx.AsyncClient]:
    log = made()
    view = SpendView(store, log)
    feed = asyncio.create_task(view.run())
    await view.wait_for({0: log.end("taximeter.events")}, 20)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(Starlette(routes=routes(view))), base_url="http://s"
    ) as c:
        yield c
    feed.cancel()
    with suppress(asyncio.CancelledError):
        await feed


async def get(client: httpx.AsyncClient, path: str) -> dict[str, Any]:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def rows(client: httpx.AsyncClient, query: str, *members: str) -> list[tuple[Any, ...]]:
    found = (await get(client, f"/v1/spend?{query}"))["spend"]
    return [tuple(row.get(member) for member in members or ("name", "currency", "amount")) for row in found]


async def test_the_customers_of_a_moment_the_greatest_first(client: httpx.AsyncClient) -> None:
    assert await rows(client, "at=2026-11-15T00:00:00Z") == [("acme", "USD", "33.01"), ("beta", "USD", "5")]
    assert await rows(client, "") == [("beta", "USD", "8"), ("gamma", "EUR", "7")]  # now: the newest tick
    assert (await get(client, "/v1/spend"))["at"] == "2026-12-02T00:00:00Z"
    assert await rows(client, "at=2026-11-15T00:00:00Z&tenant=other") == [("acme", "USD", "999")]
    assert await rows(client, "at=2025-11-15T00:00:00Z") == []


async def test_by_charge_subscription_and_dimension(client: httpx.AsyncClient) -> None:
    at = "at=2026-11-15T00:00:00Z"
    by_charge = await rows(client, f"{at}&by=charge&customer=acme")
    assert by_charge == [("platform", "USD", "20"), ("tokens", "USD", "10.01"), ("most", "USD", "3")]
    assert await rows(client, f"{at}&by=subscription&charge=tokens") == [
        ("acme-launch", "USD", "10.01"),
        ("beta-1", "USD", "5"),
    ]
    by_model = await rows(client, f"{at}&by=dimension:model&customer=acme", "name", "amount", "events", "line_items")
    assert by_model == [(None, "23", 3, 2), ("large", "10", 2, 1), ("small", "0.01", 1, 1)]


async def test_two_moments_are_compared(client: httpx.AsyncClient) -> None:
    query = "at=2026-12-15T00:00:00Z&compare_at=2026-11-15T00:00:00Z"
    members = ("name", "currency", "amount", "before", "difference", "growth")
    assert await rows(client, f"{query}&order=growth", *members) == [
        ("beta", "USD", "8", "5", "3", "0.6"),
        ("acme", "USD", "0", "33.01", "-33.01", "-1"),
        ("gamma", "EUR", "7", "0", "7", None),
    ]
    assert [row[0] for row in await rows(client, f"{query}&order=difference")] == ["gamma", "beta", "acme"]
    assert [row[0] for row in await rows(client, query)] == ["beta", "gamma", "acme"]


async def test_rankings_have_pages(client: httpx.AsyncClient) -> None:
    first = await get(client, "/v1/spend?at=2026-11-15T00:00:00Z&by=charge&limit=2")
    second = await get(client, f"/v1/spend?at=2026-11-15T00:00:00Z&by=charge&limit=2&cursor={first['next_cursor']}")
    assert [row["name"] for row in first["spend"] + second["spend"]] == ["platform", "tokens", "most"]
    assert second["next_cursor"] is None


async def test_what_subjects_have_cost_sums_to_the_line_items(client: httpx.AsyncClient) -> None:
    found = await get(client, "/v1/customers/acme/costs?by=subject&period=2026-11-01T00:00:00Z")
    assert [(row["name"], row["amount"]) for row in found["costs"]] == [
        (None, "20"),
        ("team-b", "8.676666666667"),  # two thirds of 10, all of 0.01, two of the three events of `most`
        ("team-a", "4.333333333333"),
    ]
    assert sum(Decimal(row["amount"]) for row in found["costs"]) == Decimal("33.01")
    by_model = await get(client, "/v1/customers/acme/costs?by=model&period=2026-11-01T00:00:00Z")
    assert [(row["name"], row["amount"]) for row in by_model["costs"]] == [
        (None, "23"),
        ("large", "10"),
        ("small", "0.01"),
    ]
    assert (await get(client, "/v1/customers/nobody/costs"))["costs"] == []


async def test_tables_say_what_json_says(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/line-items?customer=acme&format=csv")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/csv; charset=utf-8")
    table = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    plain = (await get(client, "/v1/line-items?customer=acme"))["line_items"]
    assert [(row["id"], row["amount"], row["period_start"], row["meter"]) for row in table] == [
        (row["id"], row["amount"], row["period"]["start"], row["meter"] or "") for row in plain
    ]
    answer = await client.get("/v1/line-items?limit=3", headers={"accept": "application/vnd.apache.parquet"})
    columns = pq.read_table(io.BytesIO(answer.content))
    assert str(columns.schema.field("amount").type) == "decimal128(38, 12)"
    assert columns.num_rows == 3 and answer.headers["taximeter-next-cursor"]
    for path in ("spend", "customers/acme/costs", "customers/acme/usage?meter=tokens", "invoices", "alerts"):
        joint = "&" if "?" in path else "?"
        assert (await client.get(f"/v1/{path}{joint}format=csv")).text.count("\r\n") >= 1, path
        assert pq.read_table(io.BytesIO((await client.get(f"/v1/{path}{joint}format=parquet")).content)) is not None
    refused = await client.get("/v1/customers/acme/spend?format=csv")
    assert (refused.status_code, refused.json()["parameter"]) == (400, "format")


@pytest.mark.parametrize(
    ("path", "parameter", "detail"),
    [
        ("spend?by=team", "by", "expected one of charge, customer, dimension:NAME, subscription"),
        ("spend?order=growth", "order", "without `compare_at`"),
        ("spend?cursor=xx", "cursor", "expected the next_cursor"),
        ("customers/acme/costs?by=team", "by", "expected one of model, subject"),
        ("line-items?format=xml", "format", "expected one of csv, json, parquet"),
    ],
)
async def test_a_wrong_question_is_named(client: httpx.AsyncClient, path: str, parameter: str, detail: str) -> None:
    answer = await client.get(f"/v1/{path}")
    assert (answer.status_code, answer.json()["parameter"]) == (400, parameter)
    assert detail in answer.json()["detail"]


@given(st.integers(-(10**30), 10**30), st.lists(st.integers(-(10**20), 10**20), min_size=1, max_size=20))
def test_shares_sum_to_the_whole_and_differ_from_proportion_by_less_than_one(amount: int, weights: list[int]) -> None:
    parts = share_out(amount, weights)
    assert sum(parts) == amount
    sizes = [abs(weight) for weight in weights] if any(weights) else [1] * len(weights)
    assert all(abs(part * sum(sizes) - amount * size) < sum(sizes) for part, size in zip(parts, sizes, strict=True))
