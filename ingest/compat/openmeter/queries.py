"""Meter queries of this dialect: the parameters of GET and of POST, rows in JSON and in CSV, subjects and values.

A value leaves as a JSON number that is the decimal's own text: no binary fraction stands between.
"""

import csv
import io
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ingest.compat.backend import Backend, Unit, UsageQuestion, UsageRow
from ingest.compat.openmeter.answers import as_json, bad, read_object, show, shown_time, tenant, time_of
from ingest.compat.openmeter.filters import Filters, both, read_advanced, read_filters, read_map
from ingest.compat.openmeter.indexes import customers_by_id, id_of_customer, owners_of
from ingest.compat.openmeter.meters import find_meter
from schemas.catalogue import Catalogue, Meter
from schemas.period import Calendar, PeriodError, load_zone
from schemas.times import SECOND

_UNITS: Final[dict[str, Unit]] = {"MINUTE": "minute", "HOUR": "hour", "DAY": "day", "MONTH": "month"}
_MINUTE: Final = 60 * SECOND
_MANY: Final = 100
_OWNERS: Final = {"subject": "subject", "customer_id": "customer"}
"""What theirs is called -> what ours is called, of what rows can be grouped by beside dimensions."""


class Asked(NamedTuple):
    """A query as it was asked: `unit` in their words."""

    first: int | None
    last: int | None
    unit: str | None
    zone: str
    subjects: tuple[str, ...]
    customers: tuple[str, ...]
    group_by: tuple[str, ...]
    filters: Filters


async def query_meter(backend: Backend, request: Request) -> Response:
    """`GET` and `POST /api/v1/meters/{idOrSlug}/query`."""
    slug, meter = await find_meter(backend, request)
    asked = read_body(await read_object(request, empty=True)) if request.method == "POST" else read_query(request)
    catalogue = await backend.catalogue(tenant(request))
    rows = await _rows(backend, request, slug, meter, asked, catalogue)
    if _wants_csv(request):
        return _csv(slug, asked, rows, catalogue)
    answer: dict[str, Any] = {"data": [_row(row, asked) for row in rows]}
    for name, value in (("from", asked.first), ("to", asked.last)):
        if value is not None:
            answer[name] = shown_time(value)
    if asked.unit is not None:
        answer["windowSize"] = asked.unit
    return as_json(answer)


async def list_subjects_of(backend: Backend, request: Request) -> Response:
    """`GET /api/v1/meters/{idOrSlug}/subjects`: those with usage."""
    return await _names(backend, request, "subject")


async def list_values(backend: Backend, request: Request) -> Response:
    """`GET /api/v1/meters/{idOrSlug}/group-by/{key}/values`: those with usage."""
    return await _names(backend, request, request.path_params["key"])


async def _names(backend: Backend, request: Request, name: str) -> Response:
    slug, meter = await find_meter(backend, request)
    if name not in meter.dimensions and name != "subject":
        raise bad("groupBy", f"found {name[:60]!r}, expected one of {', '.join(sorted(meter.dimensions)) or 'none'}")
    first, last = _stretch(*(time_of(request.query_params.get(part) or None, part) for part in ("from", "to")))
    question = UsageQuestion(meter=slug, first=first, last=last, group_by=(name,))
    found = {row.dimensions[name] for row in await backend.usage(tenant(request), question)}
    return as_json(sorted(text for text in found if text is not None))


# What is asked ------------------------------------------------------------------------------------


def read_query(request: Request) -> Asked:
    """The parameters of a GET. Raises: Refusal."""
    asked = request.query_params
    return _asked(
        {name: asked.get(name) or None for name in ("from", "to", "windowSize", "windowTimeZone")},
        {name: asked.getlist(name) for name in ("subject", "filterCustomerId", "groupBy")},
        read_filters(asked.multi_items()),
    )


def read_body(body: Mapping[str, Any]) -> Asked:
    """The members of a POST. Raises: Refusal."""
    texts: dict[str, str | None] = {}
    for name in ("from", "to", "windowSize", "windowTimeZone"):
        value = body.get(name)
        if value is not None and not isinstance(value, str):
            raise bad(name, f"found {show(value)}, expected a text")
        texts[name] = value or None
    lists: dict[str, list[str]] = {}
    for name in ("subject", "filterCustomerId", "groupBy"):
        value = body.get(name) or []
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise bad(name, f"found {show(value)}, expected a list of texts")
        lists[name] = value
    plain = read_map(body.get("filterGroupBy"), "filterGroupBy")
    return _asked(texts, lists, both(plain, read_advanced(body.get("advancedMeterGroupByFilters"))))


def _asked(texts: Mapping[str, str | None], lists: Mapping[str, list[str]], filters: Filters) -> Asked:
    unit, zone = texts["windowSize"], texts["windowTimeZone"] or "UTC"
    if unit is not None and unit not in _UNITS:
        raise bad("windowSize", f"found {unit[:60]!r}, expected one of {', '.join(_UNITS)}")
    try:
        load_zone(zone)
    except PeriodError as error:
        raise bad("windowTimeZone", str(error)) from None
    for name, values in lists.items():
        if len(values) > _MANY:
            raise bad(name, f"found {len(values)} values, expected at most {_MANY}")
    first, last = _stretch(time_of(texts["from"], "from"), time_of(texts["to"], "to"))
    subjects, customers, group_by = (tuple(dict.fromkeys(lists[name])) for name in lists)
    if subjects and "subject" not in group_by:  # as theirs: who is filtered by is also told apart
        group_by = ("subject", *group_by)
    return Asked(first, last, unit, zone, subjects, customers, group_by, filters)


def _stretch(first: int | None, last: int | None) -> tuple[int | None, int | None]:
    if first is not None and last is not None and first >= last:
        raise bad("to", f"found {shown_time(last)}, expected a time after `from`, {shown_time(first)}")
    return first, last


# What is answered ---------------------------------------------------------------------------------


async def _rows(
    backend: Backend, request: Request, slug: str, meter: Meter, asked: Asked, catalogue: Catalogue
) -> list[UsageRow]:
    known = customers_by_id(catalogue)
    for id in asked.customers:
        if id not in known:
            raise bad("filterCustomerId", f"found no customer of the id {id[:60]!r}")
    for name in asked.group_by:
        if name not in meter.dimensions and name not in _OWNERS:
            expected = ", ".join([*sorted(meter.dimensions), *_OWNERS])
            raise bad("groupBy", f"found {name[:60]!r}, expected one of {expected}")
    question = UsageQuestion(
        meter=slug,
        unit=_UNITS[asked.unit] if asked.unit is not None else "total",
        zone=asked.zone,
        first=asked.first,
        last=asked.last,
        customers=tuple(known[id] for id in asked.customers),
        subjects=asked.subjects,
        group_by=tuple(_ours(name, meter) for name in asked.group_by),
        filters=asked.filters,
    )
    rows = await backend.usage(tenant(request), question)
    names = {_ours(name, meter): name for name in asked.group_by}
    found = []
    for row in rows:
        start, end = _window(row, asked)
        dimensions = {names[name]: value for name, value in row.dimensions.items()}
        found.append(row._replace(start=start, end=end, dimensions=dimensions))
    return found


def _ours(name: str, meter: Meter) -> str:
    return name if name in meter.dimensions else _OWNERS[name]


def _window(row: UsageRow, asked: Asked) -> tuple[int, int]:
    """A row's window: whole, whatever stretch of it was asked for; what was asked for, where there is no window."""
    if asked.unit is not None:
        start, end = Calendar(_UNITS[asked.unit], asked.zone, 1, 1).containing(row.start)
        return start, end
    start = asked.first if asked.first is not None else row.start - row.start % _MINUTE
    return start, asked.last if asked.last is not None else row.end - 1 - (row.end - 1) % _MINUTE + _MINUTE


def _row(row: UsageRow, asked: Asked) -> dict[str, Any]:
    owners = {name: row.dimensions[name] for name in asked.group_by if name in _OWNERS}
    shown: dict[str, Any] = {
        "value": msgspec.Raw(row.value.encode()),
        "windowStart": shown_time(row.start),
        "windowEnd": shown_time(row.end),
        "subject": owners.get("subject"),
        "groupBy": {name: value for name, value in row.dimensions.items() if name not in owners},
    }
    customer = owners.get("customer_id")
    if customer is not None:
        shown["customerId"] = id_of_customer(customer)
    return shown


def _wants_csv(request: Request) -> bool:
    accepted = request.headers.get("accept", "").lower()
    return "text/csv" in accepted and "application/json" not in accepted


def _csv(slug: str, asked: Asked, rows: list[UsageRow], catalogue: Catalogue) -> Response:
    """The columns of their server: the window, the subject and whose it is, the groups, the value."""
    names = [name for name in asked.group_by if name != "subject"]
    owner = owners_of(catalogue)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["window_start", "window_end", "subject", "customer_name", "customer_email", *names, "value"])
    for row in rows:
        subject = row.dimensions.get("subject")
        customer = catalogue.customers.get(owner.get(subject or "", ""))
        name = (customer.name or owner[subject or ""]) if customer else ""
        email = customer.metadata.get("openmeter:primaryEmail", "") if customer else ""
        groups = [_told(name, row.dimensions.get(name)) for name in names]
        start, end = shown_time(row.start), shown_time(row.end)
        writer.writerow([start, end, subject or "", name, email, *groups, row.value])
    headers = {"content-disposition": f'attachment; filename="{slug}.csv"'}
    return Response(text.getvalue().encode(), 200, headers, "text/csv")


def _told(name: str, value: str | None) -> str:
    return id_of_customer(value) if name == "customer_id" and value is not None else value or ""
