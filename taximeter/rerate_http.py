"""`POST /v1/rerate`: what re-rating a customer comes to and, with `dry_run: false`, doing it.

`serve` shows the difference by an engine of its own, in a thread, one at a time. A door on Kafka has none: there the
entry is only checked against the catalogue and appended; what does not fit then is a rejection of the engine.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from rating.rerate import Preview
from rating.spend.parameters import Parameters, Problem
from schemas.catalogue import Catalogue
from schemas.entry import Rerate, encode_rerate
from schemas.faults import unknown
from schemas.limits import DOCUMENT_BYTES_MAX
from streams.log import encode_position
from taximeter.bodies import read_text
from taximeter.catalogue_http import guarded
from taximeter.rerate import RerateRefused, RerateRequest, answer_of, check_request, partition_for

PATH: Final = "/v1/rerate"
_WAITING_MAX: Final = 8

Show = Callable[[Rerate], Preview]
"""What an entry would do next; blocks. Raises: RerateRefused."""
Append = Callable[[int, bytes], Awaitable[int]]
"""Appends an entry to a partition; returns the position after it, when it is durable. Raises: LogUnavailable."""


class Reratings:
    """Answers for one log. `catalogue` is that of a tenant; `show` is None where there is no state to show it from."""

    def __init__(
        self, partitions: int, append: Append, catalogue: Callable[[str], Catalogue], show: Show | None = None
    ) -> None:
        self._partitions = partitions
        self._append = append
        self._catalogue = catalogue
        self._show = show
        self._turn = asyncio.Semaphore(1)
        self._waiting = 0

    def routes(self) -> list[BaseRoute]:
        """The one route."""
        return [Route(PATH, guarded(self._answer), methods=["POST"])]

    async def _answer(self, request: Request) -> Response:
        parameters = Parameters(request)
        parameters.finish()
        asked = _read(await read_text(request, DOCUMENT_BYTES_MAX, ("application/json",)))
        try:
            entry = check_request(asked, parameters.tenant)
            books = self._catalogue(entry.tenant).price_books
            if entry.price_book is not None and entry.price_book not in books:
                raise RerateRefused([f"price_book: no such price book: {unknown(entry.price_book, list(books))}"])
            body = await self._in_turn(entry, asked.dry_run)
        except RerateRefused as refused:
            more = "" if len(refused.faults) == 1 else f" (and {len(refused.faults) - 1} more)"
            detail = f"{refused.faults[0]}{more}"
            raise Problem(422, "Re-rating refused", "rerate_refused", detail, faults=refused.faults[:1000]) from None
        return Response(body, 200, media_type="application/json")

    async def _in_turn(self, entry: Rerate, dry_run: bool) -> bytes:
        if self._waiting >= _WAITING_MAX:
            detail = f"found {self._waiting} re-ratings waiting, expected fewer than {_WAITING_MAX}: try again later"
            raise Problem(503, "Service Unavailable", "busy", detail)
        self._waiting += 1
        try:
            async with self._turn:
                return await self._rerate(entry, dry_run)
        finally:
            self._waiting -= 1

    async def _rerate(self, entry: Rerate, dry_run: bool) -> bytes:
        if self._show is None and dry_run:
            detail = (
                "dry_run: this door holds no state, so it cannot show what would change; `dry_run: false` applies it"
            )
            raise Problem(501, "Not Implemented", "no_preview", detail)
        found = None if self._show is None else await asyncio.to_thread(self._show, entry)
        position = None
        if not dry_run:
            partition = partition_for(entry, self._partitions)
            position = encode_position({partition: await self._append(partition, encode_rerate(entry))})
        if found is None:
            return msgspec.json.encode({"dry_run": False, **msgspec.to_builtins(entry), "position": position})
        return msgspec.json.encode(answer_of(entry, found, position))


def _read(body: bytes) -> RerateRequest:
    try:
        return msgspec.json.decode(body, type=RerateRequest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, "Invalid request", "invalid_request", str(error)) from None
