"""Lago's events: each one is a CloudEvent whose source is the subscription, and whose id the transaction.

`external_subscription_id` is the subject too: the subscription's customer claims it. A subscription that nobody knows
is a customer by itself, so that nothing is lost. `precise_total_amount_cents` is kept in `data`, under that name.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ingest.columns import Fault, Parsed
from ingest.compat.answering import json_response, members_of, read_members
from ingest.compat.backend import Backend, EventsQuestion
from ingest.compat.lago.answers import (
    EXISTS,
    FORMAT,
    INVALID,
    MANDATORY,
    Errors,
    bad_request,
    iso_milliseconds,
    lago_id,
    unknown,
    unprocessable,
)
from ingest.compat.lago.documents import owner_of
from ingest.content import BodyRefused
from ingest.door import NotWhole
from ingest.parse import parse_texts
from schemas.access import tenant_of
from schemas.catalogue import Catalogue
from schemas.event import VOID_TYPE
from schemas.limits import BODY_BYTES_MAX, TIME_MAX_YEAR
from schemas.numbers import NumberError, parse_scaled
from schemas.times import SECOND, TimeError, format_time, from_datetime, parse_time

BATCH_MAX: Final = 100
SOURCE: Final = "lago:"
AMOUNT: Final = "precise_total_amount_cents"
SECONDS_MAX: Final = from_datetime(datetime(TIME_MAX_YEAR + 1, 1, 1, tzinfo=UTC)) // SECOND
"""Unix seconds from which on a time is refused: those that are sent in milliseconds are beyond it."""
_SECONDS: Final = re.compile(r"(\d{1,12})(?:\.(\d*))?\Z", re.ASCII)
_FIELDS: Final = {"id": "transaction_id", "type": "code", "time": "timestamp"}
_TEXT: Final = msgspec.json.Decoder(str)
_EVENTS: Final = msgspec.json.Decoder(list[msgspec.Raw])


class Sent(NamedTuple):
    """One event as it was sent. `micros`: its time, None where it had none; `properties`: a JSON object's text."""

    transaction: str
    subscription: str
    code: str
    micros: int | None
    amount: str | None
    properties: bytes

    def cloud_event(self) -> bytes:
        """The same as a CloudEvent's JSON text."""
        event: dict[str, Any] = {
            "specversion": "1.0",
            "id": self.transaction,
            "source": SOURCE + self.subscription,
            "type": self.code,
            "subject": self.subscription,
        }
        if self.micros is not None:
            event["time"] = format_time(self.micros)
        return msgspec.json.encode(event | {"data": msgspec.Raw(self._data())})

    def _data(self) -> bytes:
        if self.amount is None:
            return self.properties
        members = msgspec.json.decode(self.properties, type=dict[str, msgspec.Raw])
        return msgspec.json.encode({**members, AMOUNT: self.amount})


class Events:
    """The three routes of events."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def create(self, request: Request) -> Response:
        """`POST /events`: one event, known or refused ones are a 422."""
        members = await read_members(request, BODY_BYTES_MAX)
        if not _is_object(members.get("event")):
            raise bad_request("param is missing or the value is empty: event")
        sent, errors = read_event(members["event"])
        if sent is None:
            raise unprocessable(errors)
        tenant = tenant_of(request.scope)
        if found := await self._take(tenant, [sent]):
            raise unprocessable(found[0])
        known, now = self._backend.known(tenant), self._backend.now()
        return json_response({"event": shown(sent, tenant, known, now)})

    async def create_batch(self, request: Request) -> Response:
        """`POST /events/batch`: up to `BATCH_MAX` events, all of them or none; what is wrong, by position."""
        texts = _batch(await read_members(request, BODY_BYTES_MAX))
        found: dict[int, Errors] = {}
        sent: list[Sent] = []
        for at, text in enumerate(texts):
            event, errors = read_event(text)
            if event is None:
                found[at] = errors
            else:
                sent.append(event)
        tenant = tenant_of(request.scope)
        found = found or await self._take(tenant, sent)
        if found:
            raise unprocessable({str(at): errors for at, errors in sorted(found.items())})
        known, now = self._backend.known(tenant), self._backend.now()
        return json_response({"events": [shown(event, tenant, known, now) for event in sent]})

    async def find(self, request: Request) -> Response:
        """`GET /events/{transaction_id}`: the latest kept event of that transaction, of any subscription."""
        tenant, transaction = tenant_of(request.scope), request.path_params["id"]
        after: str | None = None
        while True:
            page = await self._backend.kept_events(tenant, EventsQuestion(id=transaction, after=after))
            for kept in page.events:
                if str(kept.event["source"]).startswith(SOURCE) and kept.event["type"] != VOID_TYPE:
                    catalogue = await self._backend.catalogue(tenant)
                    return json_response({"event": _found(kept.event, tenant, catalogue, kept.arrived)})
            after = page.next
            if after is None:
                raise unknown("event")

    async def _take(self, tenant: str, sent: list[Sent]) -> dict[int, Errors]:
        """What is wrong by position, and then nothing was taken; nothing where all of them are durable."""
        parsed: Parsed = parse_texts([event.cloud_event() for event in sent])
        try:
            await self._backend.take(tenant, parsed, whole=True, new=True)
        except NotWhole as refused:
            receipt = refused.receipt
            found: dict[int, Errors] = {at: {"transaction_id": [EXISTS]} for at in receipt.duplicates}
            return found | {one.at: _errors(one.fault) for one in receipt.refused}
        return {}


# What comes in ------------------------------------------------------------------------------------


def _batch(members: Mapping[str, bytes]) -> list[bytes]:
    """The texts of a batch's events. Raises: Refused."""
    try:
        texts = [bytes(raw) for raw in _EVENTS.decode(members.get("events", b"[]"))]
    except msgspec.MsgspecError:
        texts = []
    if not texts:
        raise unprocessable({"events": ["no_events"]})
    if len(texts) > BATCH_MAX:
        raise unprocessable({"events": ["too_many_events"]})
    return texts


def read_event(text: bytes) -> tuple[Sent | None, Errors]:
    """The event of a JSON text, or what is wrong with it by field. Members that Lago does not know are passed over."""
    try:
        members = members_of(text)
    except BodyRefused as refused:
        return None, {"base": [INVALID, refused.detail]}
    errors: Errors = {}
    names = ("transaction_id", "external_subscription_id", "code")
    transaction, subscription, code = (_name(members.get(name), name, errors) for name in names)
    if code == VOID_TYPE:
        errors["code"] = [INVALID, "events of this type take others back, and are not sent here"]
    micros = _time(members.get("timestamp"), errors)
    amount = _amount(members.get(AMOUNT), errors)
    properties = members.get("properties", b"null").strip()
    if properties == b"null":
        properties = b"{}"
    if not properties.startswith(b"{"):
        errors["properties"] = [FORMAT]
    elif amount is not None and AMOUNT in members_of(properties):
        errors["properties"] = [INVALID, f"found {AMOUNT} in the properties and beside them, expected it once"]
    if errors:
        return None, errors
    return Sent(transaction, subscription, code, micros, amount, properties), {}


def _name(raw: bytes | None, name: str, errors: Errors) -> str:
    """A text that is not blank; a number counts as its text."""
    text = _text_of(raw)
    if text is None or not text.strip():
        errors[name] = [MANDATORY] if raw is None or text is not None or raw == b"null" else [FORMAT]
        return ""
    return text


def _text_of(raw: bytes | None) -> str | None:
    """The text of a JSON string, or of a number as it was written; None for all else."""
    if raw is None:
        return None
    if raw[:1] == b'"':
        try:
            return _TEXT.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None
    return raw.decode() if raw[:1] in b"-0123456789" else None


def _time(raw: bytes | None, errors: Errors) -> int | None:
    """Unix seconds (a whole number or a decimal, as number or text), or an ISO 8601 time; to the microsecond."""
    text = None if raw is None or raw == b"null" else _text_of(raw)
    if text is None:
        if raw is not None and raw != b"null":
            errors["timestamp"] = [FORMAT]
        return None
    match = _SECONDS.match(text)
    if match is not None and int(match[1]) < SECONDS_MAX:
        return int(match[1]) * SECOND + int((match[2] or "").ljust(6, "0")[:6])
    try:
        return max(parse_time(text), 0)
    except TimeError:
        errors["timestamp"] = [FORMAT]
        return None


def _amount(raw: bytes | None, errors: Errors) -> str | None:
    if raw is None or raw == b"null":
        return None
    text = _text_of(raw)
    try:
        parse_scaled(text or "")
    except NumberError:
        errors[AMOUNT] = [INVALID]
        return None
    return text


def _is_object(raw: bytes | None) -> bool:
    return raw is not None and raw.startswith(b"{")


def _errors(fault: Fault) -> Errors:
    """What our own door found wrong with an event, by Lago's field."""
    path = fault.path or ""
    name = _FIELDS.get(path) or ("properties" if path.startswith("data") else "external_subscription_id")
    word = FORMAT if fault.code in ("invalid_time", "time_out_of_bounds") else INVALID
    return {name: [word, fault.message]}


# What goes out ------------------------------------------------------------------------------------


def shown(sent: Sent, tenant: str, catalogue: Catalogue, now: int) -> dict[str, Any]:
    """An event that was taken, as Lago answers it."""
    subscription = catalogue.subscriptions.get(sent.subscription)
    known = subscription is not None
    return {
        "lago_id": lago_id("event", tenant, sent.subscription, sent.transaction),
        "transaction_id": sent.transaction,
        "lago_customer_id": lago_id("customer", tenant, owner_of(subscription)) if subscription else None,
        "code": sent.code,
        "timestamp": iso_milliseconds(now if sent.micros is None else sent.micros),
        "precise_total_amount_cents": sent.amount,
        "properties": msgspec.Raw(sent.properties),
        "lago_subscription_id": lago_id("subscription", tenant, sent.subscription) if known else None,
        "external_subscription_id": sent.subscription,
        "created_at": iso_milliseconds(now),
    }


def _found(event: Mapping[str, Any], tenant: str, catalogue: Catalogue, arrived: int) -> dict[str, Any]:
    """A kept event, as Lago answers it."""
    data = msgspec.json.decode(msgspec.json.encode(event["data"]), type=dict[str, msgspec.Raw])
    amount = data.pop(AMOUNT, None)
    sent = Sent(
        transaction=str(event["id"]),
        subscription=str(event["source"]).removeprefix(SOURCE),
        code=str(event["type"]),
        micros=parse_time(str(event["time"])),
        amount=None if amount is None else _text_of(bytes(amount)),
        properties=msgspec.json.encode(data),
    )
    return shown(sent, tenant, catalogue, arrived)
