"""`POST /v1/rerate` at a door that holds no state: it appends, and shows nothing."""

from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from schemas.catalogue import Catalogue, PriceBook
from schemas.entry import Entry, Rerate, decode_rerate
from taximeter.rerate import partition_for
from taximeter.rerate_http import Reratings

ASKED = {"customer": "acme", "from": "2026-11-01T01:00:00+01:00", "reason": "why", "id": "r-1"}


async def ask(body: Any) -> tuple[httpx.Response, list[tuple[int, bytes]]]:
    appended: list[tuple[int, bytes]] = []

    async def append(partition: int, entry: bytes) -> int:
        appended.append((partition, entry))
        return 8

    catalogue = Catalogue(price_books={"launch": PriceBook()})
    app = Starlette(routes=Reratings(4, append, lambda tenant: catalogue).routes())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://door") as client:
        return await client.post("/v1/rerate", json=body), appended


async def test_the_entry_goes_to_the_partition_of_the_customer() -> None:
    answer, appended = await ask({**ASKED, "dry_run": False, "price_book": "launch"})
    assert answer.status_code == 200
    entry = Rerate(customer="acme", since="2026-11-01T00:00:00Z", price_book="launch", reason="why", id="r-1")
    ((partition, value),) = appended
    assert (partition, decode_rerate(Entry(0, 1, value).payload)) == (partition_for(entry, 4), entry)
    assert answer.json()["position"] == f"{partition}:8"


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({}, 501, "no_preview"),
        ({"dry_run": False, "price_book": "lunch"}, 422, "rerate_refused"),
        ({"dry_run": False, "from": ""}, 422, "rerate_refused"),
        ({"dry_run": False, "customer": 7}, 400, "invalid_request"),
        ({"dry_run": False, "reason": "x" * 600}, 422, "rerate_refused"),
    ],
)
async def test_what_it_cannot_do_is_said_and_nothing_is_appended(changes: Any, status: int, code: str) -> None:
    answer, appended = await ask({**ASKED, **changes})
    assert (answer.status_code, answer.json()["code"], appended) == (status, code, [])
