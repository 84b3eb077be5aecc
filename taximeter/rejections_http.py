"""Rejected events sent again: `POST /v1/rejections/{id}/resend`, and many at once with `POST /v1/rejections/resend`.

A resend goes through the door as a request of its own, whole or not at all, and gets a verdict of its own. `serve`
looks rejections up by itself; a door on Kafka has none of them, and takes the documents that `spend` has shown.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ingest.door import Door, NotWhole
from ingest.mend import Change, Mend, MendRefused, Rejected, mend
from ingest.parse import parse_texts
from ingest.receipt import Receipt
from rating.spend.mends import Mending
from rating.spend.parameters import Parameters, Problem
from rating.spend.rejections import RejectionFilter, find, get
from rating.spend.store import SpendStore
from rating.spend.view import PositionNotReached, SpendView
from schemas.access import tenant_of
from schemas.faults import unknown
from schemas.limits import BODY_BYTES_MAX
from schemas.rejection import CODES
from streams.log import decode_position, encode_position
from taximeter.bodies import read_text
from taximeter.catalogue_http import guarded

PATH: Final = "/v1/rejections/resend"
RESENT_MAX: Final = 1_000
"""Rejections in one request."""
_SEEN_S: Final = 5.0
"""How long an answer waits for the listing to show what was sent."""


class ResendRequest(Change, frozen=True, kw_only=True):
    """One rejection made good. With `dry_run` it is only shown what would be sent."""

    dry_run: bool = False


class ResendManyRequest(Change, frozen=True, kw_only=True):
    """Several: those named by `ids`, given as `rejections`, or found by `code` and `meter` (then those that no event
    stands for yet, the newest first). `merge` and `replace` hold for each, `event` only for a single one. Nothing is
    sent unless `dry_run` is false.
    """

    ids: list[str] | None = None
    rejections: list[msgspec.Raw] | None = None
    code: str | None = None
    meter: str | None = None
    limit: int = RESENT_MAX
    dry_run: bool = True


class EventId(msgspec.Struct, frozen=True):
    """The event that stands for a rejection."""

    source: str
    id: str


class Resent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one rejection. `verdict`: the door's of the mended event (`accepted`, `duplicate`, `rejected`), or
    `refused`: nothing was sent, `code` and `message` say why; `with`: another rejection's resend makes it good; or
    `shown`: of a dry run. `events` are those to send."""

    rejection: str
    verdict: str
    event: EventId | None = None
    voids: bool = False
    code: str | None = None
    path: str | None = None
    message: str | None = None
    events: list[msgspec.Raw] | None = None


class ResendAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of all. `more`: there are further rejections of the kind asked for."""

    dry_run: bool
    sent: int
    refused: int
    more: bool
    results: list[Resent]
    position: str


class _Document(Rejected, frozen=True, kw_only=True):
    mended: Mending | None = None


_DOCUMENT: Final = msgspec.json.Decoder(_Document)


class Resending:
    """The routes. `view` is None where there is no listing."""

    def __init__(self, door: Door, view: SpendView | None = None) -> None:
        self._door = door
        self._view = view

    def routes(self) -> list[BaseRoute]:
        """To be mounted before the listing's."""
        found: list[BaseRoute] = [Route(PATH, guarded(self._many), methods=["POST"])]
        if self._view is not None:
            found.append(Route("/v1/rejections/{id}/resend", guarded(self._one), methods=["POST"]))
        return found

    async def _one(self, request: Request) -> Response:
        Parameters(request).finish()
        tenant, id = tenant_of(request.scope), request.path_params["id"]
        asked = await _read(request, ResendRequest)
        [document] = await self._ask(lambda store: [get(store, tenant, id)])
        answer = await self._resend([document], asked, asked.dry_run, tenant)
        one = answer.results[0]
        if one.verdict == "refused":
            status = 409 if one.code == "already_mended" else 422
            raise Problem(status, "Not sent", one.code or "", one.message or "", rejection=one.rejection)
        return _json(400 if one.verdict == "rejected" else 200, answer)

    async def _many(self, request: Request) -> Response:
        Parameters(request).finish()
        tenant = tenant_of(request.scope)
        asked = await _read(request, ResendManyRequest)
        _check(asked)
        documents, more = await self._documents(asked, tenant)
        return _json(200, await self._resend(documents, asked, asked.dry_run, tenant, more))

    async def _documents(self, asked: ResendManyRequest, tenant: str) -> tuple[Sequence[msgspec.Raw], bool]:
        if asked.rejections is not None:
            return asked.rejections, False
        ids = asked.ids
        if ids is not None:
            return await self._ask(lambda store: [get(store, tenant, id) for id in ids]), False
        wanted = RejectionFilter(code=asked.code, meter=asked.meter, mended=False)
        found = await self._ask(lambda store: [find(store, tenant, wanted, None, asked.limit)])
        return found[0].rejections, found[0].after is not None

    async def _ask(self, query: Callable[[SpendStore], list[Any]]) -> list[Any]:
        if self._view is None:
            detail = "this door keeps no rejections: send them as `rejections`, as `taximeter spend` lists them"
            raise Problem(501, "Not Implemented", "no_listing", detail)
        return await self._view.ask(query)

    async def _resend(
        self, documents: Sequence[msgspec.Raw], change: Change, dry_run: bool, tenant: str, more: bool = False
    ) -> ResendAnswer:
        """Each on its own, all at once, so that they share the log's writes. Raises: LogUnavailable: send it again."""
        tries = _once([_prepare(_document(raw, at), change) for at, raw in enumerate(documents)])
        position: dict[int, int] = {}

        async def one(tried: Resent | tuple[str, Mend]) -> Resent:
            if isinstance(tried, Resent):
                return tried
            id, made = tried
            event, texts = EventId(made.source, made.id), [msgspec.Raw(text) for text in made.events]
            if dry_run:
                return Resent(rejection=id, verdict="shown", event=event, voids=made.voids, events=texts)
            receipt = await self._take(made, tenant)
            for partition, offset in decode_position(receipt.position).items():
                position[partition] = max(offset, position.get(partition, 0))
            return _said(id, event, made.voids, receipt)

        results = await asyncio.gather(*map(one, tries))
        await self._show(position)
        return ResendAnswer(
            dry_run=dry_run,
            sent=sum(result.verdict in ("accepted", "duplicate") for result in results),
            refused=sum(result.verdict in ("refused", "rejected") for result in results),
            more=more,
            results=results,
            position=encode_position(position),
        )

    async def _take(self, made: Mend, tenant: str) -> Receipt:
        try:
            return await self._door.take_parsed(parse_texts(made.events), tenant, whole=True)
        except NotWhole as not_whole:
            return not_whole.receipt

    async def _show(self, position: dict[int, int]) -> None:
        """Waits until the listing shows it, so that nobody who looks sends it a second time."""
        if self._view is not None and position:
            try:
                await self._view.wait_for(position, _SEEN_S, of="usage")
            except PositionNotReached:
                return


def _check(asked: ResendManyRequest) -> None:
    """Raises: Problem."""
    ways = [asked.ids is not None, asked.rejections is not None, asked.code is not None or asked.meter is not None]
    if sum(ways) != 1:
        raise _invalid("expected one of ids, rejections, and code or meter")
    if asked.code is not None and asked.code not in CODES:
        raise _invalid(f"code: {unknown(asked.code, list(CODES))}")
    count = len(asked.ids or asked.rejections or ())
    if bytes(asked.event) != b"null" and count != 1:
        raise _invalid("event: found one event, expected it for one rejection; merge changes many")
    if count > RESENT_MAX or not 1 <= asked.limit <= RESENT_MAX:
        raise _invalid(f"found {max(count, asked.limit)} rejections, expected 1 to {RESENT_MAX} in one request")


def _prepare(document: _Document, change: Change) -> Resent | tuple[str, Mend]:
    """What to send for one rejection; or why nothing is sent."""
    if document.mended is not None:
        by = document.mended
        message = f"{document.id} was made good by the event {by.id} of {by.source} at {by.arrived}"
        event = EventId(by.source, by.id)
        return Resent(rejection=document.id, verdict="refused", event=event, code="already_mended", message=message)
    try:
        return document.id, mend(document, change)
    except MendRefused as refused:
        return Resent(rejection=document.id, verdict="refused", code=refused.code, message=str(refused))


def _once(tries: Sequence[Resent | tuple[str, Mend]]) -> list[Resent | tuple[str, Mend]]:
    """One event that several meters have rejected is sent once: it makes good for all of them."""
    first: dict[tuple[str, str], str] = {}
    found: list[Resent | tuple[str, Mend]] = []
    for tried in tries:
        if not isinstance(tried, Resent):
            id, made = tried
            before = first.setdefault((made.source, made.id), id)
            if before != id and made.voids:
                message = f"{id} is made good together with {before}: both are of one event"
                event = EventId(made.source, made.id)
                found.append(Resent(rejection=id, verdict="with", event=event, message=message))
                continue
        found.append(tried)
    return found


def _said(id: str, event: EventId, voids: bool, receipt: Receipt) -> Resent:
    """What the door says of the mended event, which comes last; or of a void that keeps it out."""
    verdicts = list(receipt.verdicts())
    verdict = next((one for one in verdicts if one.verdict == "rejected"), verdicts[-1])
    return Resent(
        rejection=id,
        verdict=verdict.verdict,
        event=event,
        voids=voids,
        code=verdict.code,
        path=verdict.path,
        message=verdict.message,
    )


def _document(raw: msgspec.Raw, at: int) -> _Document:
    try:
        return _DOCUMENT.decode(bytes(raw))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _invalid(f"rejections[{at}]: {error}") from None


async def _read(request: Request, type: type[Any]) -> Any:
    """The request's body; an empty one asks for nothing in particular. Raises: Problem, BodyRefused."""
    body = await read_text(request, BODY_BYTES_MAX, ("application/json",))
    try:
        return msgspec.json.decode(body or b"{}", type=type)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _invalid(str(error)) from None


def _invalid(detail: str) -> Problem:
    return Problem(400, "Invalid request", "invalid_request", detail)


def _json(status: int, answer: ResendAnswer) -> Response:
    return Response(msgspec.json.encode(answer), status, media_type="application/json")
