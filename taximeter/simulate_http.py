"""`POST /v1/simulate`: what a sample of events would cost under the catalogue in force, with other documents laid over.

It runs in a thread, one at a time, on an engine of its own: nothing is written, and the server goes on answering.
"""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from rating.catalogue import load_catalogue
from rating.spend.parameters import Parameters, Problem
from schemas.catalogue import Catalogue, CatalogueError, merge
from schemas.faults import MISSING, Faults, describe, encode_document, read, unknown
from schemas.limits import BODY_BYTES_MAX, SIMULATED_EVENTS_MAX
from schemas.plain import read_plain
from schemas.times import DAY, TimeError, parse_time
from taximeter.bodies import read_text
from taximeter.documents import Catalogues, catalogue_of
from taximeter.rate_file import Rated
from taximeter.simulate import TooMuch, compare, concerned, difference_document, simulate, since_first_event

AHEAD_DAYS_MAX: Final = 400
"""How far after the last event (or now) a simulation may look: each period until then is billed."""
_WAITING_MAX: Final = 8


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    kind: str
    id: str
    document: msgspec.Raw


class _Asked(msgspec.Struct, forbid_unknown_fields=True):
    events: list[msgspec.Raw]
    catalogue: msgspec.Raw = msgspec.Raw(b"{}")
    documents: list[_Document] = []
    as_of: str | None = None
    base: Literal["in_force", "nothing"] = "in_force"
    compare: bool = False
    customers: list[str] = []


class Simulations:
    """Answers simulations under the catalogues in force."""

    def __init__(self, catalogues: Catalogues, clock: Callable[[], int] = lambda: time.time_ns() // 1000) -> None:
        self._catalogues = catalogues
        self._clock = clock
        self._turn = asyncio.Semaphore(1)
        self._waiting = 0

    async def answer(self, request: Request) -> Response:
        """Reads the request, simulates, answers. Raises: Problem, BodyRefused, Disconnected."""
        parameters = Parameters(request)
        parameters.finish()
        asked = _read(await read_text(request, BODY_BYTES_MAX, ("application/json",)))
        if self._waiting >= _WAITING_MAX:
            detail = f"found {self._waiting} simulations waiting, expected fewer than {_WAITING_MAX}: try again later"
            raise Problem(503, "Service Unavailable", "busy", detail)
        self._waiting += 1
        try:
            async with self._turn:
                in_force = self._catalogues.of(parameters.tenant)
                rate = partial(self._rate, tenant=parameters.tenant)
                body = await asyncio.to_thread(self._simulate, asked, in_force.catalogue, rate)
        finally:
            self._waiting -= 1
        return Response(body, 200, media_type="application/json")

    def _simulate(self, asked: _Asked, in_force: Catalogue, rate: Callable[..., Rated]) -> bytes:
        events = [bytes(event) for event in asked.events]
        sent = _read_catalogue(asked)
        as_of = None if asked.as_of is None else _read_time(asked.as_of)
        before = Catalogue() if asked.base == "nothing" else in_force
        also = {*asked.customers, *sent.customers, *(one.customer for one in sent.subscriptions.values())}
        whole = merge(before, sent)
        try:
            load_catalogue(encode_document(whole))
            rated = rate(whole, events, as_of, also)
            body = _outcome(rated)
            if asked.compare:
                other = rate(in_force, events, as_of, also)
                body["in_force"] = _outcome(other)
                body["differences"] = [difference_document(one) for one in compare(other, rated)]
        except CatalogueError as error:
            raise _refused(error.faults) from None
        except TooMuch as error:
            raise Problem(422, "Too much", "too_large", str(error)) from None
        return encode_document(body)

    def _rate(self, catalogue: Catalogue, events: list[bytes], as_of: int | None, also: set[str], tenant: str) -> Rated:
        if as_of is not None:
            last = max([self._clock(), *filter(None, map(_time_of, events))])
            if as_of > last + AHEAD_DAYS_MAX * DAY:
                raise _wrong("as_of", f"expected at most {AHEAD_DAYS_MAX} days after the last event")
        return since_first_event(simulate(concerned(catalogue, events, also), events, as_of, tenant))


def _outcome(rated: Rated) -> dict[str, Any]:
    return {
        "events": rated.events,
        "accepted": rated.accepted,
        "duplicates": rated.duplicates,
        "rejected": rated.rejected,
        "line_items": rated.line_items,
        "invoices": rated.invoices,
        "alerts": rated.alerts,
        "rejections": rated.rejections,
    }


def _read(body: bytes) -> _Asked:
    """Raises: Problem."""
    try:
        asked = msgspec.json.decode(body, type=_Asked)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, "Invalid request", "invalid_request", str(error)) from None
    if len(asked.events) > SIMULATED_EVENTS_MAX:
        detail = f"events: found {len(asked.events)}, expected at most {SIMULATED_EVENTS_MAX}"
        raise Problem(413, "Content Too Large", "too_large", detail)
    return asked


def _read_catalogue(asked: _Asked) -> Catalogue:
    """The documents sent: a catalogue as JSON, or as a text of YAML, and single documents. Raises: Problem."""
    faults = Faults()
    value = read_plain(bytes(asked.catalogue), faults)
    if isinstance(value, str):
        value = read_plain(value, faults)
    if value is MISSING:
        raise _refused(faults)
    if not isinstance(value, dict | None):
        raise _wrong("catalogue", f"found {describe(value)}, expected a mapping")
    kinds = list(Catalogue.__struct_fields__)
    for i, one in enumerate(asked.documents):
        if one.kind not in kinds:
            raise _wrong(f"documents[{i}].kind", unknown(one.kind, kinds))
    parts = catalogue_of((one.kind, one.id, read_plain(bytes(one.document), faults)) for one in asked.documents)
    whole = dict(value or {})
    for kind, documents in parts.items():
        both = isinstance(documents, dict) and isinstance(whole.get(kind), dict) and kind in parts
        whole[kind] = {**whole[kind], **documents} if both and kind != "default_subscription" else documents
    found = read(Catalogue, whole, "", faults)
    if found is MISSING or faults:
        raise _refused(faults)
    catalogue: Catalogue = found
    return catalogue


def _read_time(text: str) -> int:
    try:
        return parse_time(text)
    except TimeError as error:
        raise _wrong("as_of", str(error)) from None


class _Time(msgspec.Struct):
    time: str | None = None


def _time_of(event: bytes) -> int | None:
    try:
        found = msgspec.json.decode(event, type=_Time).time
        return None if found is None else parse_time(found)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TimeError):
        return None


def _wrong(path: str, message: str) -> Problem:
    return _refused([(path, message)])


def _refused(faults: Any) -> Problem:
    listed = [{"path": path, "message": message} for path, message in faults]
    more = "" if len(listed) == 1 else f" (and {len(listed) - 1} more)"
    detail = f"{listed[0]['path'] or '(document)'}: {listed[0]['message']}{more}"
    return Problem(422, "Simulation refused", "invalid_catalogue", detail, faults=listed[:1000])
