"""Two tenants on one server: every route shows each its own, and nothing that one does is seen by the other."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from rating.engine import RatingSettings
from streams.embedded.host import HostSettings
from taximeter.embedded import Embedded, EmbeddedSettings
from taximeter.status import findings
from tests.face.running import event, in_process
from tests.tenants.asgi import Front

BOOK: dict[str, Any] = {
    "meters": {"tokens": {"event": "llm.request", "aggregate": "sum", "value": "$.tokens"}},
    "price_books": {
        "launch": {
            "currency": "USD",
            "charges": {"tokens": {"meter": "tokens", "price": {"model": "unit", "unit_amount": "2"}}},
        }
    },
    "customers": {"acme": {"subjects": ["team-a"]}},
    "default_subscription": {"price_book": "launch"},
}
OTHERS = {**BOOK, "customers": {"acme": {"subjects": ["team-b"]}, "umbrella": {"subjects": ["team-a"]}}}
ONE, TWO = {"as-tenant": "default", "as-key": "k1"}, {"as-tenant": "two/2", "as-key": "k2"}
KINDS = ("meters", "price-books", "customers", "subscriptions", "coupons", "credit-grants", "tax-rates")


@asynccontextmanager
async def running(data: Path) -> AsyncIterator[tuple[Embedded, httpx.AsyncClient]]:
    settings = EmbeddedSettings(
        data=data,
        partitions=3,
        archive=str(data / "archive"),
        rating=RatingSettings(3, lateness=0),
        host=HostSettings(tick_seconds=None),
    )
    async with Embedded(settings) as parts:
        transport = httpx.ASGITransport(Front(Starlette(routes=parts.routes())))
        async with httpx.AsyncClient(transport=transport, base_url="http://taximeter", timeout=60) as client:
            yield parts, client


async def put(client: httpx.AsyncClient, path: str, body: Any, whose: dict[str, str]) -> httpx.Response:
    answer = await client.put(path, json=body, headers=whose)
    assert answer.status_code in (200, 201), answer.text
    return answer


async def send(client: httpx.AsyncClient, whose: dict[str, str], *events: str) -> Any:
    headers = {"content-type": "application/x-ndjson", **whose}
    answer = await client.post("/v1/events", content="\n".join(events), headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def get(client: httpx.AsyncClient, path: str, whose: dict[str, str], position: str = "") -> Any:
    wait = {"position": position, "wait_ms": 20_000} if position else {}
    answer = await client.get(path, headers=whose, params=wait or None)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def amounts(client: httpx.AsyncClient, whose: dict[str, str], position: str) -> dict[str, str]:
    items = (await get(client, "/v1/line-items", whose, position))["line_items"]
    assert {item["tenant"] for item in items} <= {whose["as-tenant"]}
    return {item["customer"]: item["amount"] for item in items}


async def test_each_tenant_has_its_own_of_everything(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as (parts, client):
        await put(client, "/v1/catalogue", BOOK, ONE)
        assert (await get(client, "/v1/catalogue", TWO))["versions"] == {}
        for kind in KINDS:
            assert (await get(client, f"/v1/{kind}", TWO))[kind.replace("-", "_")] == []
        assert (await client.get("/v1/customers/acme", headers=TWO)).status_code == 404
        await put(client, "/v1/catalogue", OTHERS, TWO)
        # A changed price of one is none of the other's business, and their versions are counted apart.
        dear = json.loads(json.dumps(BOOK["price_books"]["launch"]).replace('"2"', '"5"'))
        changed = await put(client, "/v1/price-books/launch", dear, TWO)
        assert changed.json()["version"] == 2
        assert (await get(client, "/v1/price-books/launch", ONE))["version"] == 1

        same = event("e1", data='{"tokens": 10}')
        first, again = await send(client, ONE, same), await send(client, TWO, same, same)
        assert (first["accepted"], again["accepted"]) == (1, 1)
        assert await amounts(client, ONE, first["position"]) == {"acme": "20"}
        assert await amounts(client, TWO, again["position"]) == {"umbrella": "50"}
        assert (await get(client, "/v1/customers/acme/spend", TWO, again["position"]))["currencies"] == []
        usage = "/v1/customers/{}/usage?meter=tokens"
        assert (await get(client, usage.format("umbrella"), TWO))["windows"]
        assert (await get(client, usage.format("umbrella"), ONE))["windows"] == []

        void = event("v1", type="taximeter.void", data='{"source": "gate", "id": "e1", "reason": "a test"}')
        after = await send(client, TWO, void, event("e2", data='{"tokens": 1}'), event("bad", data="{}"))
        assert await amounts(client, TWO, after["position"]) == {"umbrella": "5"}
        assert await amounts(client, ONE, after["position"]) == {"acme": "20"}
        rejected = await get(client, "/v1/rejections", TWO, after["position"])
        assert [(one["code"], one["tenant"]) for one in rejected["rejections"]] == [("missing_value", "two/2")]
        assert (await get(client, "/v1/rejections", ONE))["rejections"] == []

        closed = (await client.post("/v1/ticks", json={"time": "2026-12-05T00:00:00Z"})).json()["position"]
        [mine] = (await get(client, "/v1/invoices", ONE, closed))["invoices"]
        [theirs] = (await get(client, "/v1/invoices", TWO, closed))["invoices"]
        assert (mine["total"], theirs["total"]) == ("20", "5")
        assert (await client.get(f"/v1/invoices/{theirs['id']}", headers=ONE)).status_code == 404
        assert (await client.get(f"/v1/invoices/{theirs['id']}", headers=TWO)).status_code == 200

        asked = {"customer": "acme", "from": "2026-11-01T00:00:00Z", "dry_run": False}
        refused = await client.post("/v1/rerate", json=asked, headers=TWO)
        assert (refused.status_code, refused.json()["code"]) == (422, "rerate_refused")
        assert "expected a customer that has used something" in refused.json()["detail"]
        done = await client.post("/v1/rerate", json={**asked, "customer": "umbrella"}, headers=TWO)
        assert done.status_code == 200, done.text

        sample = {"events": [json.loads(event("s1", data='{"tokens": 1}'))]}
        for whose, customer, amount in ((ONE, "acme", "2"), (TWO, "umbrella", "5")):
            [line] = (await client.post("/v1/simulate", json=sample, headers=whose)).json()["line_items"]
            assert (line["tenant"], line["customer"], line["amount"]) == (whose["as-tenant"], customer, amount)

    async with running(tmp_path / "data") as (parts, client):
        assert (await get(client, "/v1/price-books/launch", TWO))["version"] == 2
        assert (await get(client, "/v1/price-books/launch", ONE))["version"] == 1
        more = await send(client, TWO, event("e2", data='{"tokens": 1}'), event("e3", data='{"tokens": 2}'))
        assert await amounts(client, TWO, more["position"]) == {"umbrella": "15"}, "the identity of e2 is remembered"
        status = parts.measure().status
        assert status.reconciled and findings(status) == []

    where = ("--data", tmp_path / "data", "--lateness", "0")
    audited = await asyncio.to_thread(in_process, "audit", *where)
    assert audited.returncode == 0, audited
    said = " ".join(audited.stdout.split())
    assert "2 line items and 2 invoices computed again" in said and said.endswith("no difference."), said
    of_two = await asyncio.to_thread(in_process, "audit", *where, "--tenant", "two/2", "--json")
    alone = json.loads(of_two.stdout)
    assert (alone["line_items"], alone["differences"]) == (1, [])
    explained = await asyncio.to_thread(in_process, "explain", *where, line["id"])
    assert explained.returncode == 0 and "umbrella" in explained.stdout, explained


@pytest.mark.parametrize("kind", KINDS)
async def test_a_key_cannot_name_another_tenant(tmp_path: Path, kind: str) -> None:
    async with running(tmp_path / "data") as (_, client):
        for method, path in (("GET", f"/v1/{kind}"), ("GET", f"/v1/{kind}/x"), ("PUT", f"/v1/{kind}/x")):
            answer = await client.request(method, f"{path}?tenant=default", headers=TWO, json={})
            assert (answer.status_code, answer.json()["code"]) == (403, "other_tenant"), (method, path)
        for path in ("catalogue", "rerate", "simulate"):
            method = "PUT" if path == "catalogue" else "POST"
            answer = await client.request(method, f"/v1/{path}?tenant=default", headers=TWO, json={})
            assert (answer.status_code, answer.json()["code"]) == (403, "other_tenant"), path
