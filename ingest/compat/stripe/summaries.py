"""Stripe's event summaries: what a customer's events of a meter come to, in one window or by hours or days (UTC)."""

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from ingest.compat.backend import Backend, Unit, UsageQuestion, UsageRow
from ingest.compat.stripe.answers import invalid, list_of, missing, stripe_id
from ingest.compat.stripe.meters import URL, meter_id
from schemas.times import SECOND

_WHOLE: Final = re.compile(r"\d{1,11}\Z", re.ASCII)
_MINUTE: Final = 60
_WINDOWS: Final[dict[str, tuple[Unit, int]]] = {"hour": ("hour", 3600), "day": ("day", 86400)}


class Asked(NamedTuple):
    """What is asked for; times are Unix seconds."""

    customer: str
    start: int
    end: int
    unit: Unit


def read_asked(query: Mapping[str, str]) -> Asked:
    """The question of a request. Raises: Refused."""
    customer = query.get("customer")
    if not customer:
        raise missing("customer")
    grouping = query.get("value_grouping_window")
    if grouping is not None and grouping not in _WINDOWS:
        message = f"found {grouping[:60]!r}, expected one of {', '.join(_WINDOWS)}"
        raise invalid(message, "value_grouping_window")
    unit, seconds = _WINDOWS[grouping] if grouping else ("total", _MINUTE)
    start, end = (_time(query, name, seconds) for name in ("start_time", "end_time"))
    if start >= end:
        raise invalid("The start_time must be before the end_time.", "start_time")
    return Asked(customer, start, end, unit)


def _time(query: Mapping[str, str], name: str, seconds: int) -> int:
    text = query.get(name)
    if not text:
        raise missing(name)
    if not _WHOLE.match(text):
        raise invalid(f"Invalid integer: {text[:60]}", name)
    if int(text) % seconds:
        bound = {_MINUTE: "minute", 3600: "hour", 86400: "day (UTC)"}[seconds]
        raise invalid(f"found {text}, expected a time on a {bound} boundary", name)
    return int(text)


async def summaries(backend: Backend, tenant: str, name: str, asked: Asked, query: Mapping[str, str]) -> dict[str, Any]:
    """A page of summaries, the latest first; without windows it is one, of nought where there is no usage."""
    catalogue = await backend.catalogue(tenant)
    claimed = (owner for owner, customer in catalogue.customers.items() if asked.customer in customer.subjects)
    question = UsageQuestion(
        meter=name,
        unit=asked.unit,
        first=asked.start * SECOND,
        last=asked.end * SECOND,
        customers=tuple(dict.fromkeys((next(claimed, asked.customer), asked.customer))),
        subjects=(asked.customer,),
    )
    rows = await backend.usage(tenant, question)
    if not rows and asked.unit == "total":
        rows = [UsageRow(asked.start * SECOND, asked.end * SECOND, {}, "0", 0)]
    id = meter_id(tenant, name)
    page = list_of(rows[::-1], lambda row: _id(id, asked, row), query, f"{URL}/{id}/event_summaries")
    return page | {"data": [_shown(id, asked, row) for row in page["data"]]}


def _id(meter: str, asked: Asked, row: UsageRow) -> str:
    return stripe_id("mtrusg", meter, asked.customer, str(row.start), str(row.end))


def _shown(meter: str, asked: Asked, row: UsageRow) -> dict[str, Any]:
    return {
        "id": _id(meter, asked, row),
        "object": "billing.meter_event_summary",
        "aggregated_value": msgspec.Raw(row.value.encode()),  # a number, all its digits written
        "start_time": row.start // SECOND,
        "end_time": row.end // SECOND,
        "livemode": False,
        "meter": meter,
    }
