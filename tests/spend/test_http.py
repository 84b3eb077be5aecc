"""The HTTP questions: every route, and what wrong parameters are told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from rating.spend.app import routes
from rating.spend.duckdb_store import DuckdbStore
from rating.spend.view import SpendView
from schemas import topics
from schemas.identity import partition_of
from tests.spend.records import DECEMBER, Log, alert, catalogue, event, invoice, line, rejection, threshold
from tests.tenants.asgi import Front

METERS = {
    "tokens": {"event": "llm.request", "aggregate": "sum", "value": "$.n", "dimensions": {"model": "$.model"}},
    "requests": {"event": "llm.request", "aggregate": "count", "where": {"$.ok": True}},
    "level": {"event": "llm.request", "aggregate": "time_weighted", "value": "2 * $.n", "unit": "hour"},
}
PARTITION = partition_of("default", "acme", 2)


def fill(log: Log) -> None:
    """What the questions below are about."""
    log.append(topics.EVENTS, catalogue(METERS), PARTITION)
    log.events(
        event("a", "2026-11-02T10:00:00Z", {"n": "1.50", "model": "large", "ok": True}),
        event("b", "2026-11-02T11:00:00Z", {"n": 2, "model": "small"}),
        event("b", "2026-11-02T12:00:00Z", {"n": 5, "model": "small"}),
        event("c", "2026-11-02T23:30:00Z", {"n": 4, "model": "large"}),
        event("d", "2026-11-03T10:00:00Z", {"model": "large"}),
        partition=PARTITION,
    )
    lines = [
        line("li_1", dimensions={"model": "large"}, amount="100.125", events=3, last_event="2026-11-03T10:00:00.5Z"),
        line("li_2", dimensions={"model": None}, amount="0.5"),
        line("li_3", charge="platform", amount="20", events=0, last_event=None),
        line("li_4", subscription="acme-eu", currency="EUR", amount="7"),
        line("li_5", subscription="acme-eu", currency="EUR", amount="9", period=DECEMBER),
        line("li_6", amount="0", quantity="0"),
        line("li_7", customer="team/a", amount="3"),
        line("li_8", tenant="other", amount="55"),
    ]
    for item in lines:
        log.append(topics.LINE_ITEMS, item)
    log.append(topics.INVOICES, threshold("in_1", "100", subtotal="100.13", total="100.13"))
    log.append(topics.INVOICES, threshold("in_2", "200", status="draft"))
    log.append(topics.INVOICES, invoice("in_3", customer="other"))
    log.append(topics.ALERTS, alert())
    log.append(topics.ALERTS, alert("al_2", customer="other"))
    for offset in range(5):
        log.append(topics.REJECTIONS, rejection(offset, code="missing_value" if offset % 2 else "invalid_value"))
    log.done(end=6)


@pytest.fixture
async def log() -> Log:
    log = Log()
    fill(log)
    return log


@pytest.fixture
async def client(log: Log) -> AsyncIterator[httpx.AsyncClient]:
    view = SpendView(DuckdbStore(":memory:"), log)
    feed = asyncio.create_task(view.run())
    await view.wait_for({0: 6}, timeout=10)
    await view.wait_for({PARTITION: 6}, timeout=10, of="usage")
    transport = httpx.ASGITransport(Front(Starlette(routes=routes(view))))
    async with httpx.AsyncClient(transport=transport, base_url="http://spend") as client:
        yield client
    feed.cancel()
    with suppress(asyncio.CancelledError):
        await feed


async def get(client: httpx.AsyncClient, path: str, **parameters: Any) -> Any:
    answer = await client.get(path, params=parameters)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


async def test_spend_is_exact_and_broken_down(client: httpx.AsyncClient) -> None:
    answer = await get(client, "/v1/customers/acme/spend")
    assert answer["through"] == {"0": 6, "1": 0}
    assert answer["as_of"] == "2026-11-03T10:00:00.5Z"
    eur, usd = answer["currencies"]
    billed = {"subtotal": "100.13", "total": "100.13", "threshold": 1, "period": 0, "correction": 0}
    november = {"start": "2026-11-01T00:00:00Z", "end": "2026-12-01T00:00:00Z"}
    assert usd == {
        "currency": "USD",
        "total": "120.625",
        "billed": billed,
        "thresholds": 1,
        "by_subscription": [
            {"subscription": "acme-launch", "period": november, "amount": "120.625", "billed": billed, "thresholds": 1}
        ],
        "by_charge": [
            {"subscription": "acme-launch", "charge": "platform", "amount": "20", "events": 0, "line_items": 1},
            {"subscription": "acme-launch", "charge": "tokens", "amount": "100.625", "events": 4, "line_items": 2},
        ],
        "by_dimension": [
            {"dimension": "model", "value": None, "amount": "0.5", "events": 1},
            {"dimension": "model", "value": "large", "amount": "100.125", "events": 3},
        ],
    }
    assert (eur["currency"], eur["total"]) == ("EUR", "9")  # December is the current period of acme-eu


async def test_spend_of_a_period_and_of_all(client: httpx.AsyncClient) -> None:
    answer = await get(client, "/v1/customers/acme/spend", period="2026-11-01T01:00:00+01:00")
    assert answer["period"] == "2026-11-01T00:00:00Z"
    assert [(c["currency"], c["total"]) for c in answer["currencies"]] == [("EUR", "7"), ("USD", "120.625")]
    answer = await get(client, "/v1/customers/acme/spend", period="all")
    assert [(c["currency"], c["total"]) for c in answer["currencies"]] == [("EUR", "16"), ("USD", "120.625")]
    answer = await get(client, "/v1/customers/acme/spend", period="2020-01-01T00:00:00Z")
    assert (answer["currencies"], answer["as_of"]) == ([], None)


async def test_customers_without_spend_and_with_slashes(client: httpx.AsyncClient) -> None:
    assert (await get(client, "/v1/customers/nobody/spend"))["currencies"] == []
    for path in ("/v1/customers/team/a/spend", "/v1/customers/team%2Fa/spend"):
        assert (await get(client, path))["currencies"][0]["total"] == "3"
    assert (await get(client, "/v1/customers/acme/spend", tenant="other"))["currencies"][0]["total"] == "55"


async def test_usage_by_window_and_dimension(client: httpx.AsyncClient) -> None:
    answer = await get(
        client, "/v1/customers/acme/usage", meter="tokens", window="day", timezone="Europe/Zurich", group_by="model"
    )
    assert answer == {
        "customer": "acme",
        "meter": "tokens",
        "aggregate": "sum",
        "window": "day",
        "timezone": "Europe/Zurich",
        "rejected": 1,
        "through": {str(PARTITION): 6, str(1 - PARTITION): 0},
        "windows": [
            {
                "start": "2026-11-01T23:00:00Z",
                "end": "2026-11-02T23:00:00Z",
                "dimensions": {"model": "large"},
                "value": "1.5",
                "events": 1,
            },
            {
                "start": "2026-11-01T23:00:00Z",
                "end": "2026-11-02T23:00:00Z",
                "dimensions": {"model": "small"},
                "value": "2",
                "events": 1,
            },
            {
                "start": "2026-11-02T23:00:00Z",
                "end": "2026-11-03T23:00:00Z",
                "dimensions": {"model": "large"},
                "value": "4",
                "events": 1,
            },
        ],
    }
    answer = await get(client, "/v1/customers/acme/usage", meter="tokens", **{"from": "2026-11-02T12:00:00Z"})
    assert [w["value"] for w in answer["windows"]] == ["4"]  # the second `b` is a duplicate
    answer = await get(client, "/v1/customers/acme/usage", meter="requests", window="month")
    assert answer["windows"] == [
        {"start": "2026-11-01T00:00:00Z", "end": "2026-12-01T00:00:00Z", "value": "1", "events": 1}
    ]


async def test_a_gauge_is_used_until_the_newest_time_known(client: httpx.AsyncClient) -> None:
    answer = await get(client, "/v1/customers/acme/usage", meter="level", window="day")
    assert [(w["start"], w["value"], w["events"]) for w in answer["windows"]] == [
        ("2026-11-02T00:00:00Z", "57", 3),
        ("2026-11-03T00:00:00Z", "80", 0),  # up to the event that has no value
    ]
    assert answer["rejected"] == 1
    bounds = {"from": "2026-11-02T23:00:00Z", "to": "2026-11-03T00:30:00Z"}
    answer = await get(client, "/v1/customers/acme/usage", meter="level", window="hour", **bounds)
    assert [(w["start"], w["value"]) for w in answer["windows"]] == [
        ("2026-11-02T23:00:00Z", "6"),
        ("2026-11-03T00:00:00Z", "4"),
    ]


async def test_line_items_by_filter_and_page(client: httpx.AsyncClient) -> None:
    async def ids(**parameters: Any) -> list[str]:
        return [item["id"] for item in (await get(client, "/v1/line-items", **parameters))["line_items"]]

    assert await ids() == ["li_5", "li_7", "li_4", "li_3", "li_2", "li_1"]
    assert await ids(customer="acme", charge="tokens", subscription="acme-launch") == ["li_2", "li_1"]
    assert await ids(period="2026-12-01T00:00:00Z") == ["li_5"]
    assert await ids(tenant="other") == ["li_8"]
    first = await get(client, "/v1/line-items", limit=4)
    rest = await get(client, "/v1/line-items", limit=4, cursor=first["next_cursor"])
    assert [i["id"] for i in first["line_items"] + rest["line_items"]] == await ids()
    assert rest["next_cursor"] is None
    assert first["line_items"][0]["tiers"] == []
    assert first["through"] == {"0": 6, "1": 0}


async def test_a_page_that_ends_the_listing_has_no_next(client: httpx.AsyncClient) -> None:
    assert (await get(client, "/v1/line-items", limit=6))["next_cursor"] is None
    assert (await get(client, "/v1/line-items", limit=5))["next_cursor"] is not None


async def test_invoices(client: httpx.AsyncClient) -> None:
    found = await get(client, "/v1/invoices", customer="acme")
    assert [i["id"] for i in found["invoices"]] == ["in_2", "in_1"]
    found = await get(client, "/v1/invoices", kind="period")
    assert [i["id"] for i in found["invoices"]] == ["in_3"]
    found = await get(client, "/v1/invoices/in_1")
    assert found["invoice"]["because"]["event"] == {"source": "cli", "id": "e1"}
    assert found["through"] == {"0": 6, "1": 0}


async def test_rejections_and_alerts(client: httpx.AsyncClient) -> None:
    first = await get(client, "/v1/rejections", limit=3)
    assert [r["where"]["offset"] for r in first["rejections"]] == [4, 3, 2]
    rest = await get(client, "/v1/rejections", limit=3, cursor=first["next_cursor"])
    assert [r["where"]["offset"] for r in rest["rejections"]] == [1, 0]
    found = await get(client, "/v1/rejections", code="missing_value")
    assert [r["where"]["offset"] for r in found["rejections"]] == [3, 1]
    assert [a["id"] for a in (await get(client, "/v1/alerts"))["alerts"]] == ["al_2", "al_1"]
    assert [a["id"] for a in (await get(client, "/v1/alerts", customer="acme"))["alerts"]] == ["al_1"]


async def test_the_answer_waits_for_the_position(client: httpx.AsyncClient, log: Log) -> None:
    asked = asyncio.create_task(get(client, "/v1/customers/acme/spend", position="0:9"))
    await asyncio.sleep(0.05)
    log.append(topics.LINE_ITEMS, line("li_1", 2, amount="1000"))
    log.done(end=9)
    answer = await asked
    assert answer["through"]["0"] == 9
    assert answer["currencies"][1]["total"] == "1020.5"


async def test_a_position_that_does_not_come_is_a_problem(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/customers/acme/spend", params={"position": "0:7,1:0", "wait_ms": 20})
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, answer.json()) == (
        504,
        {
            "type": "about:blank",
            "title": "Position not reached",
            "status": 504,
            "detail": "position: asked for 0:7,1:0, after 20 ms the answer would include 0:6,1:0",
            "code": "position_not_reached",
            "asked": {"0": 7, "1": 0},
            "through": {"0": 6, "1": 0},
        },
    )
    # Usage needs only the events, and has them.
    await get(client, "/v1/customers/acme/usage", meter="tokens", position=f"{PARTITION}:6", wait_ms=0)


async def test_unknown_meter_and_invoice(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/customers/acme/usage", params={"meter": "token"})
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_meter")
    assert answer.json()["meters"] == ["level", "requests", "tokens"]
    assert answer.json()["detail"] == "found 'token' (did you mean 'tokens'?), expected one of level, requests, tokens"
    answer = await client.get("/v1/invoices/in_none")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_invoice")


OF_OTHER = {"as-tenant": "other", "as-key": "k1"}


async def test_a_key_sees_its_own_tenant_alone(client: httpx.AsyncClient) -> None:
    spend = (await client.get("/v1/customers/acme/spend", headers=OF_OTHER)).json()
    assert [one["total"] for one in spend["currencies"]] == ["55"]
    items = (await client.get("/v1/line-items", headers=OF_OTHER)).json()["line_items"]
    assert [item["id"] for item in items] == ["li_8"]
    for listing in ("invoices", "alerts", "rejections"):
        assert (await client.get(f"/v1/{listing}", headers=OF_OTHER)).json()[listing] == []
    invoice = await client.get("/v1/invoices/in_1", headers=OF_OTHER)
    assert (invoice.status_code, invoice.json()["code"]) == (404, "unknown_invoice")
    usage = await client.get("/v1/customers/acme/usage", params={"meter": "tokens"}, headers=OF_OTHER)
    assert (usage.status_code, usage.json()["code"], usage.json()["meters"]) == (404, "unknown_meter", [])


@pytest.mark.parametrize("path", ["customers/acme/spend", "customers/acme/usage?meter=tokens", "line-items", "invoices",
                                  "invoices/in_1", "rejections", "alerts"])  # fmt: skip
async def test_a_key_cannot_ask_as_another_tenant(client: httpx.AsyncClient, path: str) -> None:
    more = "&" if "?" in path else "?"
    answer = await client.get(f"/v1/{path}{more}tenant=default", headers=OF_OTHER)
    assert (answer.status_code, answer.json()["code"]) == (403, "other_tenant")
    assert answer.json()["detail"] == "tenant: found 'default', expected 'other', to which this key belongs"
    same = await client.get(f"/v1/{path}{more}tenant=other", headers=OF_OTHER)
    assert same.status_code in (200, 404)


async def test_without_keys_a_request_names_its_tenant(client: httpx.AsyncClient) -> None:
    assert (await get(client, "/v1/line-items", tenant="other"))["line_items"][0]["id"] == "li_8"
    wrong = await client.get("/v1/line-items", params={"tenant": "a b"})
    assert (wrong.status_code, wrong.json()["parameter"]) == (400, "tenant")


CURSOR_OF_INVOICES = "WyJpbnZvaWNlcyIsImEiLCJiIl0="
WRONG = [
    ("customers/acme/spend", "period=last", "period", "found 'last', expected current, all or the start of a period"),
    ("customers/acme/spend", "position=abc", "position", "found the position 'abc', expected one that the door gave"),
    (
        "customers/acme/spend",
        "position=7:1",
        "position",
        "found partition 7 and offset 1, expected a partition from 0 to",
    ),
    ("customers/acme/spend", "position=0:-1", "position", "found partition 0 and offset -1"),
    ("customers/acme/spend", "wait_ms=soon", "wait_ms", "found 'soon', expected a whole number from 0 to 30000"),
    ("customers/acme/spend", "wait_ms=30001", "wait_ms", "found '30001', expected a whole number from 0 to 30000"),
    ("customers/acme/spend", "wait_ms=-1", "wait_ms", "found '-1', expected a whole number from 0 to 30000"),
    ("customers/acme/spend", "perod=all", "perod", "found 'perod' (did you mean 'period'?), expected one of"),
    ("customers/acme/spend", "period=all&period=all", "period", "found 2 values, expected one"),
    ("customers/acme/usage", "", "meter", "missing, expected the name of a meter"),
    ("customers/acme/usage", "meter=tokens&window=year", "window", "found 'year', expected one of day, hour, minute,"),
    ("customers/acme/usage", "meter=tokens&timezone=Zurich", "timezone", "found 'Zurich', expected an IANA time zone"),
    ("customers/acme/usage", "meter=tokens&timezone=../../etc", "timezone", "expected an IANA time zone"),
    ("customers/acme/usage", "meter=tokens&from=yesterday", "from", "found 'yesterday', expected an RFC 3339 time"),
    ("customers/acme/usage", "meter=tokens&to=2026-13-01T00:00:00Z", "to", "month must be in 1..12"),
    (
        "customers/acme/usage",
        "meter=tokens&from=2026-11-02T00:00:00Z&to=2026-11-01T00:00:00Z",
        "from",
        "found a time after `to`, expected one at or before it",
    ),
    ("customers/acme/usage", "meter=tokens&group_by=modle", "group_by", "found 'modle' (did you mean 'model'?)"),
    (
        "customers/acme/usage",
        "meter=requests&group_by=model",
        "group_by",
        "found 'model', expected one of customer, subject",
    ),
    ("line-items", "limit=0", "limit", "found '0', expected a whole number from 1 to 1000"),
    ("line-items", "limit=1001", "limit", "found '1001', expected a whole number from 1 to 1000"),
    ("line-items", "limit=9999999999999999999999", "limit", "expected a whole number from 1 to 1000"),
    ("line-items", "cursor=@@", "cursor", "found '@@', expected the next_cursor of an earlier page"),
    ("line-items", "cursor=%C3%A9", "cursor", "expected the next_cursor of an earlier page"),
    (
        "line-items",
        f"cursor={CURSOR_OF_INVOICES}",
        "cursor",
        "found a cursor of 'invoices', expected one of 'line_items'",
    ),
    ("line-items", "period=november", "period", "found 'november', expected an RFC 3339 time"),
    ("line-items", "customer=", "customer", "found 0 characters, expected 1 to 512"),
    ("line-items", "customer=" + "a" * 513, "customer", "found 513 characters, expected 1 to 512"),
    ("invoices", "kind=final", "kind", "found 'final', expected one of correction, period, threshold"),
    ("invoices", "code=conflict", "code", "found 'code', expected one of"),
    ("rejections", "code=bad", "code", "found 'bad', expected one of conflict"),
    ("alerts", "limit=1.5", "limit", "found '1.5', expected a whole number from 1 to 1000"),
    ("invoices/in_1", "limit=1", "limit", "found 'limit', expected one of format, position, tenant, wait_ms"),
]


@pytest.mark.parametrize(("path", "query", "parameter", "detail"), WRONG, ids=[f"{p}?{q}"[:60] for p, q, _, _ in WRONG])
async def test_a_wrong_parameter_is_named(
    client: httpx.AsyncClient, path: str, query: str, parameter: str, detail: str
) -> None:
    answer = await client.get(f"/v1/{path}?{query}")
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (answer.status_code, problem["status"], problem["type"]) == (400, 400, "about:blank"), problem
    assert problem["code"] in ("invalid_parameter", "unknown_parameter")
    assert problem["parameter"] == parameter
    assert detail in problem["detail"]


async def test_what_breaks_within_is_a_problem_too(client: httpx.AsyncClient, log: Log) -> None:
    log.append(topics.EVENTS, catalogue({"m": {"event": "e", "aggregate": "most"}}), PARTITION)
    answer = await client.get("/v1/customers/acme/usage", params={"meter": "m", "position": f"{PARTITION}:7"})
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "meters.m.aggregate" in answer.json()["detail"]
