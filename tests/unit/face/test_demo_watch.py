"""What the demo asks: an answer that is held to the cent must include what was sent."""

import asyncio
from collections.abc import Awaitable, Callable

import httpx

from taximeter.demo_watch import Queries, Seen

POSITION = "0:17"


def asked(questions: Callable[[Queries], Awaitable[object]]) -> list[tuple[str, str | None]]:
    """The path and the position of every question."""
    seen: list[tuple[str, str | None]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append((request.url.path, request.url.params.get("position")))
        listing = request.url.path.rpartition("/")[2].replace("-", "_")
        return httpx.Response(200, json={listing: [], "next_cursor": None, "currencies": []})

    async def ask() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
            await questions(Queries(client, "http://taximeter"))

    asyncio.run(ask())
    return seen


def test_what_is_checked_is_asked_for_up_to_the_position() -> None:
    found = asked(lambda queries: queries.everything(["acme"], POSITION))
    listings = ("/v1/line-items", "/v1/invoices", "/v1/alerts", "/v1/rejections")
    assert sorted(found[:4]) == sorted((path, POSITION) for path in listings)
    assert found[4:] == [("/v1/customers/acme/spend", None)]


def test_watching_waits_for_a_position_only_where_it_is_given_one() -> None:
    assert asked(lambda queries: queries.watch(Seen(), ["acme"]))[0] == ("/v1/invoices", None)
    assert asked(lambda queries: queries.watch(Seen(), ["acme"], POSITION))[0] == ("/v1/invoices", POSITION)
