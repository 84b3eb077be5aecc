"""Events of this dialect: taken whole or not at all, and listed as they came.

They are CloudEvents in every form of our own door, so its parser reads them; what differs is the answer. An event whose
envelope is wrong refuses the request; data that no meter can count is taken, and shown with what is wrong with it.
"""

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from ingest.app import read_body
from ingest.compat.backend import Backend, EventsPage, EventsQuestion, KeptEvent
from ingest.compat.openmeter.answers import (
    Refusal,
    as_json,
    bad,
    decode_json,
    refuse_events,
    show,
    shown_time,
    tenant,
    time_of,
)
from ingest.compat.openmeter.indexes import customers_by_id, id_of_customer
from ingest.content import header
from ingest.parse import parse
from schemas.catalogue import Catalogue
from schemas.limits import BODY_BYTES_MAX

_LIMIT: Final = 100
_BATCH: Final = "application/cloudevents-batch+json"
_TIMES: Final = {"$gte": ("first", 0), "$gt": ("first", 1), "$lt": ("last", 0), "$lte": ("last", 1)}
"""Operator -> the bound of a half-open stretch, and how much later it is."""


async def ingest(backend: Backend, request: Request) -> Response:
    """`POST /api/v1/events`: 204 where every event is durable, else nothing is taken."""
    headers = request.scope["headers"]
    parsed = parse(await read_body(request.scope, request.receive, BODY_BYTES_MAX), headers)
    if parsed.refused:
        raise refuse_events(parsed.refused, parsed.lines)
    if parsed.total == 0:
        media_type = (header(headers, b"content-type") or "").partition(";")[0].strip().lower()
        if media_type != _BATCH:
            raise Refusal(400, "no_events", "no events found")
        return Response(None, 204)
    await backend.take(tenant(request), parsed, whole=True)
    return Response(None, 204)


async def list_events(backend: Backend, request: Request) -> Response:
    """`GET /api/v1/events`: an array, the last one to arrive first. `id` and `subject` match partially."""
    asked = request.query_params
    catalogue = await backend.catalogue(tenant(request))
    customers = _customers(catalogue, asked.getlist("customerId"))
    if customers == ():
        return as_json([])
    question = EventsQuestion(
        customers=customers or (),
        id_part=asked.get("id") or None,
        subject_part=asked.get("subject") or None,
        first=time_of(asked.get("from"), "from"),
        last=time_of(asked.get("to"), "to"),
        arrived_from=time_of(asked.get("ingestedAtFrom"), "ingestedAtFrom"),
        arrived_to=time_of(asked.get("ingestedAtTo"), "ingestedAtTo"),
        limit=_limit(request),
    )
    page = await backend.kept_events(tenant(request), question)
    return as_json(_shown(page, catalogue))


async def list_events_v2(backend: Backend, request: Request) -> Response:
    """`GET /api/v2/events`: pages of `items`, the last one to arrive first."""
    asked = request.query_params
    catalogue = await backend.catalogue(tenant(request))
    question = _filtered(asked.get("filter"), catalogue)
    if question is None:
        return as_json({"items": []})
    page = await backend.kept_events(
        tenant(request), question._replace(after=asked.get("cursor") or None, limit=_limit(request))
    )
    more = {} if page.next is None else {"nextCursor": page.next}
    return as_json({"items": _shown(page, catalogue), **more})


def _limit(request: Request) -> int:
    text = request.query_params.get("limit") or str(_LIMIT)
    if not (text.isascii() and text.isdigit() and len(text) < 4 and 1 <= int(text) <= _LIMIT):
        raise bad("limit", f"found {text[:60]!r}, expected a whole number from 1 to {_LIMIT}")
    return int(text)


def _customers(catalogue: Catalogue, ids: list[str]) -> tuple[str, ...] | None:
    """The customers of these ids; None where none were named, empty where none of them is known."""
    known = customers_by_id(catalogue)
    return tuple(known[id] for id in dict.fromkeys(ids) if id in known) if ids else None


def _filtered(text: str | None, catalogue: Catalogue) -> EventsQuestion | None:
    """What a filter asks for; None where it can match nothing. Raises: Refusal."""
    filters = decode_json(text, "filter") if text else {}
    if not isinstance(filters, dict):
        raise bad("filter", f"found {show(filters)}, expected an object")
    found: dict[str, Any] = {}
    for name, condition in filters.items():
        if condition is None:
            continue
        if not isinstance(condition, dict):
            raise bad("filter", f'{name}: found {show(condition)}, expected an object such as {{"$eq": …}}')
        for operator, value in condition.items():
            if value is not None:
                _add(found, name, operator, value)
    ids = found.pop("customer_ids", None)
    if ids is not None:
        customers = _customers(catalogue, ids)
        if not customers:
            return None
        found["customers"] = customers
    return EventsQuestion(**found)


def _add(found: dict[str, Any], name: str, operator: str, value: Any) -> None:
    """Adds one condition of a filter. Raises: Refusal where it is none of those that can be asked."""
    texts = value if isinstance(value, list) else [value]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise bad("filter", f"{name}.{operator}: found {show(value)}, expected texts")
    one = len(texts) == 1
    match name, operator:
        case (("id" | "source" | "type"), ("$eq" | "$in")) if one:
            found[name] = texts[0]
        case (("id" | "subject"), "$like") if one and _part_of(texts[0]):
            found[f"{name}_part"] = _part_of(texts[0])
        case "subject", ("$eq" | "$in"):
            found["subjects"] = tuple(texts)
        case "customerId", ("$eq" | "$in"):
            found["customer_ids"] = texts
        case (("time" | "ingestedAt"), ("$gt" | "$gte" | "$lt" | "$lte")) if one:
            bound, later = _TIMES[operator]
            if name == "ingestedAt":
                bound = {"first": "arrived_from", "last": "arrived_to"}[bound]
            found[bound] = (time_of(texts[0], f"filter.{name}") or 0) + later
        case _:
            raise bad(
                "filter",
                f"found {name}.{operator}, expected $eq of id, source, type; $eq or $in of subject, customerId; "
                "$like of id, subject with %TEXT%; $gt, $gte, $lt, $lte of time, ingestedAt",
            )


def _part_of(pattern: str) -> str:
    """The text of a pattern `%TEXT%`; empty where it is another pattern."""
    part = pattern[1:-1]
    return part if pattern[:1] == pattern[-1:] == "%" and len(pattern) > 2 and not set(part) & set("%_\\") else ""


def _shown(page: EventsPage, catalogue: Catalogue) -> list[dict[str, Any]]:
    return [_ingested(one, catalogue) for one in page.events]


def _ingested(one: KeptEvent, catalogue: Catalogue) -> dict[str, Any]:
    arrived = shown_time(one.arrived)
    shown: dict[str, Any] = {"event": one.event, "ingestedAt": arrived, "storedAt": arrived}
    if one.customer in catalogue.customers:
        shown["customerId"] = id_of_customer(one.customer)
    if one.rejected is not None:
        shown["validationError"] = one.rejected
    return shown
