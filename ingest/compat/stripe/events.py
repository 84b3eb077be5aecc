"""Stripe's meter events: each one is a CloudEvent whose source is `stripe:EVENT_NAME` and whose id the identifier.

The payload is the event's data, texts as they came; the subject is what stands in it under the meter's customer key.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from ingest.columns import Refused as RefusedEvent
from ingest.compat.answering import Refused
from ingest.compat.backend import Backend, EventsQuestion
from ingest.compat.stripe.answers import error, invalid, missing
from ingest.compat.stripe.meters import customer_key, value_key
from ingest.door import NotWhole
from ingest.parse import parse_texts
from schemas.catalogue import Catalogue, Meter
from schemas.event import VOID_TYPE
from schemas.faults import Number
from schemas.numbers import NumberError, parse_scaled
from schemas.times import DAY, SECOND, TimeError, format_time, parse_time

SOURCE: Final = "stripe:"
STREAM_MAX: Final = 100
_PAST: Final = 35 * DAY
_AHEAD: Final = 5 * 60 * SECOND
_MEMBERS: Final = frozenset(("event_name", "payload", "identifier", "timestamp"))
_SECONDS: Final = re.compile(r"\d{1,12}\Z", re.ASCII)
_FIELDS: Final = {"id": "identifier", "type": "event_name", "time": "timestamp"}


class MeterEvent(NamedTuple):
    """One event as it was sent. `micros`: its time, None where it had none; `derived`: its identifier was made here."""

    name: str
    payload: Mapping[str, str]
    identifier: str
    derived: bool
    micros: int | None

    def cloud_event(self, subject: str) -> bytes:
        """The same as a CloudEvent's JSON text."""
        event: dict[str, Any] = {
            "specversion": "1.0",
            "id": self.identifier,
            "source": SOURCE + self.name,
            "type": self.name,
            "subject": subject,
        }
        if self.micros is not None:
            event["time"] = format_time(self.micros)
        return msgspec.json.encode(event | {"data": self.payload})


# What comes in ------------------------------------------------------------------------------------


def read_event(members: Mapping[str, Any], derived: str, now: int, seconds: bool, place: str = "") -> MeterEvent:
    """The event of a form's or a JSON object's members. `seconds`: times are Unix seconds, else RFC 3339.

    `derived`: the identifier of an event that brings none. `place`: the path of the object. Raises: Refused.
    """
    for odd in members.keys() - _MEMBERS - {"expand"}:
        raise invalid(f"Received unknown parameter: {place}{odd[:100]}", place + odd[:100], "parameter_unknown")
    name, payload = _text(members, "event_name", place), members.get("payload")
    if name is None:
        raise missing(place + "event_name")
    if not isinstance(payload, dict) or not payload:
        raise missing(place + "payload")
    identifier = _text(members, "identifier", place)
    return MeterEvent(
        name=name,
        payload={key: _value(value, f"{place}payload[{key[:100]}]") for key, value in payload.items()},
        identifier=identifier or derived,
        derived=identifier is None,
        micros=_time(members, now, seconds, place + "timestamp"),
    )


def _text(members: Mapping[str, Any], name: str, place: str) -> str | None:
    value = members.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise invalid(f"Invalid string: {place}{name}", place + name)
    return value


def _value(value: Any, param: str) -> str:
    if isinstance(value, Number):
        return value.text
    if not isinstance(value, str):
        raise invalid("expected a text", param)
    return value


def _time(members: Mapping[str, Any], now: int, seconds: bool, param: str) -> int | None:
    """The time within Stripe's bounds, in microseconds; None where there is none. Raises: Refused."""
    value = members.get("timestamp")
    if value is None or value == "":
        return None
    text = value.text if isinstance(value, Number) else value
    try:
        if not isinstance(text, str):
            raise TimeError("expected a text")
        if seconds:
            if not _SECONDS.match(text):
                raise TimeError(f"found {text[:60]!r}, expected Unix seconds")
            micros = int(text) * SECOND
        else:
            micros = parse_time(text)
    except TimeError as wrong:
        raise invalid(f"Invalid timestamp: {wrong}", param) from None
    if micros < now - _PAST:
        raise invalid("The timestamp must be within the past 35 days.", param, "timestamp_too_far_in_past")
    if micros > now + _AHEAD:
        raise invalid("The timestamp must be at most 5 minutes ahead.", param, "timestamp_in_future")
    return micros


def meters_by_event(catalogue: Catalogue) -> dict[str, list[Meter]]:
    """Type of event -> the meters that count it and are not archived."""
    found: dict[str, list[Meter]] = {}
    for meter in catalogue.meters.values():
        if not meter.archived:
            found.setdefault(meter.event, []).append(meter)
    return found


def subject_of(event: MeterEvent, counting: Mapping[str, Sequence[Meter]], place: str) -> str:
    """Whose usage an event is. Raises: Refused where no meter counts it, or one could not."""
    meters = counting.get(event.name, ())
    if not meters:
        message = f"No active meter found for the event name '{event.name[:100]}'."
        raise invalid(message, place + "event_name", "no_meter")
    subjects = {_customer(event, meter, place) for meter in meters}
    if len(subjects) > 1:
        message = "the meters of this event name find different customers in the payload"
        raise invalid(message, place + "payload", "ambiguous_customer")
    for meter in meters:
        _check_value(event, meter, place)
    return subjects.pop()


def _customer(event: MeterEvent, meter: Meter, place: str) -> str:
    key = customer_key(meter)
    found = event.payload.get(key, "")
    if not found.strip():
        message = f"The payload must name the customer under '{key}'."
        raise invalid(message, f"{place}payload[{key}]", "meter_event_no_customer_defined")
    return found


def _check_value(event: MeterEvent, meter: Meter, place: str) -> None:
    key = value_key(meter)
    if key is None:
        return
    if key not in event.payload:
        message = f"The payload must hold the value under '{key}'."
        raise invalid(message, f"{place}payload[{key}]", "meter_event_value_not_found")
    try:
        parse_scaled(event.payload[key])
    except NumberError as wrong:
        raise invalid(f"Invalid value: {wrong}", f"{place}payload[{key}]", "meter_event_invalid_value") from None


# Taking -------------------------------------------------------------------------------------------


async def take(backend: Backend, tenant: str, events: Sequence[MeterEvent], subjects: Sequence[str]) -> None:
    """Takes all events or none; one that was taken before, as it is, is taken. Raises: Refused, LogUnavailable."""
    parsed = parse_texts([event.cloud_event(who) for event, who in zip(events, subjects, strict=True)])
    try:
        await backend.take(tenant, parsed, whole=True, new=True)
        return
    except NotWhole as found:
        receipt = found.receipt
    for refused in receipt.refused:
        raise _refused(refused, events[refused.at])
    for at, conflict in receipt.duplicates.items():
        if conflict:
            raise _conflict(events[at])
    try:
        await backend.take(tenant, parsed, whole=True)
    except NotWhole as found:
        raise _refused(found.receipt.refused[0], events[found.receipt.refused[0].at]) from None


def _refused(refused: RefusedEvent, event: MeterEvent) -> Refused:
    path = refused.fault.path or ""
    param = _FIELDS.get(path) or ("payload" if path in ("subject", "") or path.startswith("data") else "event_name")
    return invalid(f"event '{event.identifier[:100]}': {refused.fault.message}", param)


def _conflict(event: MeterEvent) -> Refused:
    if event.derived:
        message = "The Idempotency-Key was used for another event, and this one brings no identifier of its own."
        return invalid(message, code="idempotency_key_reused", type="idempotency_error")
    message = f"An event already exists with identifier {event.identifier[:100]}."
    return invalid(message, "identifier", "duplicate_meter_event")


# Adjustments --------------------------------------------------------------------------------------


async def cancel(backend: Backend, tenant: str, members: Mapping[str, Any]) -> tuple[str, str]:
    """Takes an event back; its name and identifier. Raises: Refused, NoQueries, Late, LogUnavailable."""
    name, inside = _text(members, "event_name", ""), members.get("cancel")
    if name is None:
        raise missing("event_name")
    if members.get("type") != "cancel":
        raise invalid("expected the type 'cancel'", "type")
    identifier = _text(inside, "identifier", "cancel.") if isinstance(inside, dict) else None
    if identifier is None:
        raise missing("cancel[identifier]")
    subjects = await _subjects(backend, tenant, name, identifier)
    if not subjects:
        message = f"No meter event found with the identifier {identifier[:100]}."
        raise error(400, "invalid_request_error", "resource_missing", message, "cancel[identifier]")
    reference = {"source": SOURCE + name, "id": identifier, "reason": "cancelled over Stripe's API"}
    voids = [
        {"specversion": "1.0", "id": f"cancel:{identifier}", "source": SOURCE + name, "type": VOID_TYPE}
        | {"subject": subject, "data": reference}
        for subject in subjects
    ]
    try:
        await backend.take(tenant, parse_texts([msgspec.json.encode(void) for void in voids]), whole=True)
    except NotWhole as found:
        raise invalid(found.receipt.refused[0].fault.message, "cancel[identifier]") from None
    return name, identifier


async def _subjects(backend: Backend, tenant: str, name: str, identifier: str) -> list[str]:
    """Whose events of that name bear the identifier: it is unique for each customer."""
    found: dict[str, None] = {}
    after: str | None = None
    while True:
        asked = EventsQuestion(type=name, source=SOURCE + name, id=identifier, after=after)
        page = await backend.kept_events(tenant, asked)
        found |= dict.fromkeys(str(kept.event["subject"]) for kept in page.events)
        after = page.next
        if after is None:
            return sorted(found)
