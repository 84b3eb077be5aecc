"""Meters of this dialect, as documents of ours: what `/v1/meters` shows under their slug.

A meter that their language cannot say (conditions, expressions, conversions, gauges, percentiles) is queried by its id
like any other and is not listed.
"""

import re
from typing import Any, Final

from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from ingest.compat.backend import Backend
from ingest.compat.openmeter.answers import (
    Refusal,
    as_json,
    bad,
    map_of_texts,
    read_object,
    required_text,
    show,
    tenant,
    text_of,
    times_of,
    unknown_thing,
    whole,
)
from ingest.compat.openmeter.indexes import id_of
from schemas.catalogue import Aggregate, Catalogue, Meter

_AGGREGATES: Final[dict[str, Aggregate]] = {
    "SUM": "sum",
    "COUNT": "count",
    "UNIQUE_COUNT": "unique_count",
    "AVG": "avg",
    "MIN": "min",
    "MAX": "max",
    "LATEST": "latest",
}
_NAMES: Final = {ours: theirs for theirs, ours in _AGGREGATES.items()}
_SLUG: Final = re.compile(r"[a-z0-9]+(?:_[a-z0-9]+)*\Z", re.ASCII)
_DIMENSION: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z", re.ASCII)
_ORDER: Final = ("key", "name", "aggregation", "createdAt", "updatedAt")
_PAGE_MAX: Final = 1000


async def create_meter(backend: Backend, request: Request) -> Response:
    """`POST /api/v1/meters`: 201."""
    body = await read_object(request)
    slug = required_text(body, "slug", 64)
    if not _SLUG.match(slug):
        raise bad("slug", f"found {slug!r}, expected a-z, 0-9 and single underscores between them")
    catalogue = await backend.catalogue(tenant(request))
    known = catalogue.meters.get(slug)
    if known is not None and not known.archived:
        raise Refusal(409, "meter_exists", f"slug: found the meter {slug!r} in force, expected another slug")
    await backend.apply(tenant(request), Catalogue(meters={slug: _meter(body)}))
    return await _answer(backend, request, slug, 201)


async def list_meters(backend: Backend, request: Request) -> Response:
    """`GET /api/v1/meters`: an array."""
    asked = request.query_params
    catalogue = await backend.catalogue(tenant(request))
    everything = asked.get("includeDeleted") == "true"
    shown = [
        show_meter(backend, tenant(request), slug, meter)
        for slug, meter in sorted(catalogue.meters.items())
        if is_sayable(meter) and (everything or not meter.archived)
    ]
    return as_json(page_of(shown, request, {"key": "slug"}, _ORDER))


async def get_meter(backend: Backend, request: Request) -> Response:
    """`GET /api/v1/meters/{idOrSlug}`."""
    slug, meter = await find_meter(backend, request)
    if not is_sayable(meter):
        raise Refusal(404, "unknown_meter", f"the meter {slug!r} has no words here: see /v1/meters/{slug}")
    return as_json(show_meter(backend, tenant(request), slug, meter))


async def update_meter(backend: Backend, request: Request) -> Response:
    """`PUT /api/v1/meters/{idOrSlug}`: name, description, metadata and groupBy."""
    slug, meter = await find_meter(backend, request)
    body = await read_object(request)
    fresh = _with_texts(meter, body)
    if body.get("groupBy") is not None:
        fresh = replace(fresh, dimensions=_dimensions(body))
    await backend.apply(tenant(request), Catalogue(meters={slug: fresh}))
    return await _answer(backend, request, slug, 200)


async def delete_meter(backend: Backend, request: Request) -> Response:
    """`DELETE /api/v1/meters/{idOrSlug}`: 204. The document stays, archived: what it has counted can be explained."""
    slug, meter = await find_meter(backend, request)
    catalogue = await backend.catalogue(tenant(request))
    users = _users(catalogue, slug)
    if users:
        raise Refusal(409, "meter_in_use", f"the meter {slug!r} is used by {', '.join(users[:5])}")
    await backend.apply(tenant(request), Catalogue(meters={slug: replace(meter, archived=True)}))
    return Response(None, 204)


async def find_meter(backend: Backend, request: Request) -> tuple[str, Meter]:
    """The meter of a path, by slug or id. Raises: Refusal (404)."""
    asked = request.path_params["meter"]
    meters = (await backend.catalogue(tenant(request))).meters
    slug = asked if asked in meters else next((slug for slug in meters if id_of_meter(slug) == asked), None)
    if slug is None or meters[slug].archived:
        raise unknown_thing("meter", asked)
    return slug, meters[slug]


def id_of_meter(slug: str) -> str:
    """A meter's id."""
    return id_of("meter", slug)


def is_sayable(meter: Meter) -> bool:
    """Whether this dialect has words for all that a meter does."""
    plain = meter.value is None or bool(re.match(r"\$[^\s+*/()-]*\Z", meter.value))
    return meter.aggregate in _NAMES and plain and not meter.where and meter.convert is None and meter.align is None


def show_meter(backend: Backend, tenant: str, slug: str, meter: Meter) -> dict[str, Any]:
    """A meter as this dialect shows it."""
    times = times_of(backend.filed(tenant, "meters", slug))
    shown: dict[str, Any] = {
        "id": id_of_meter(slug),
        "slug": slug,
        "name": meter.name or slug,
        "aggregation": _NAMES[meter.aggregate],
        "eventType": meter.event,
        "groupBy": dict(meter.dimensions),
        **times,
    }
    if meter.value is not None:
        shown["valueProperty"] = meter.value
    if meter.description:
        shown["description"] = meter.description
    if meter.metadata:
        shown["metadata"] = dict(meter.metadata)
    if meter.archived:
        shown["deletedAt"] = times["updatedAt"]
    return shown


def page_of(
    shown: list[dict[str, Any]], request: Request, names: dict[str, str], orders: tuple[str, ...]
) -> list[dict[str, Any]]:
    """The page of a list that a request asks for. `names`: an order's name -> the member that it goes by."""
    asked = request.query_params
    order = asked.get("orderBy") or "key"
    direction = (asked.get("order") or "ASC").upper()
    if order not in orders or direction not in ("ASC", "DESC"):
        raise bad("orderBy", f"found {order[:60]!r} {direction[:60]!r}, expected {', '.join(orders)}; ASC or DESC")
    page, size = whole(request, "page", 1, 1_000_000), whole(request, "pageSize", 100, _PAGE_MAX)
    by = names.get(order, order)
    shown.sort(key=lambda one: str(one.get(by, "")), reverse=direction == "DESC")
    return shown[(page - 1) * size : page * size]


async def _answer(backend: Backend, request: Request, slug: str, status: int) -> Response:
    meter = (await backend.catalogue(tenant(request))).meters[slug]
    return as_json(show_meter(backend, tenant(request), slug, meter), status)


def _meter(body: dict[str, Any]) -> Meter:
    """Our document of a meter that is to be made; its bounds are checked when it is applied. Raises: Refusal."""
    aggregation = required_text(body, "aggregation")
    if aggregation not in _AGGREGATES:
        raise bad("aggregation", f"found {aggregation[:60]!r}, expected one of {', '.join(_AGGREGATES)}")
    value = text_of(body, "valueProperty")
    if (value is None) != (aggregation == "COUNT"):
        expected = "none, since COUNT has no value" if aggregation == "COUNT" else "a JSONPath such as $.tokens"
        raise bad("valueProperty", f"found {show(value) if value is not None else 'nothing'}, expected {expected}")
    if value is not None and not value.startswith("$"):
        raise bad("valueProperty", f"found {value[:60]!r}, expected a JSONPath such as $.tokens")
    if body.get("eventFrom") is not None:
        raise bad(
            "eventFrom", f"found {show(body['eventFrom'])}, expected none: a meter counts every event of its type"
        )
    event = required_text(body, "eventType")
    meter = Meter(event=event, aggregate=_AGGREGATES[aggregation], value=value, dimensions=_dimensions(body))
    return _with_texts(meter, body)


def _dimensions(body: dict[str, Any]) -> dict[str, str]:
    found = map_of_texts(body, "groupBy")
    for name, path in found.items():
        if not _DIMENSION.match(name) or name in ("subject", "customer", "customer_id"):
            raise bad("groupBy", f"found the name {name[:60]!r}, expected letters, digits and _, and none of our own")
        if not path.startswith("$"):
            raise bad("groupBy", f"{name}: found {path[:60]!r}, expected a JSONPath such as $.model")
    return found


def _with_texts(meter: Meter, body: dict[str, Any]) -> Meter:
    """The meter with the body's name, description and metadata, where it has them."""
    texts: dict[str, Any] = {name: text_of(body, name) for name in ("name", "description")}
    texts["metadata"] = map_of_texts(body, "metadata") if body.get("metadata") is not None else None
    return replace(meter, **{name: value for name, value in texts.items() if value is not None})


def _users(catalogue: Catalogue, slug: str) -> list[str]:
    """What asks for a meter: charges and features."""
    found = [
        f"the charge {charge!r} of the price book {name!r}"
        for name, book in catalogue.price_books.items()
        for body in book.bodies()
        for charge, asked in body.charges.items()
        if asked.meter == slug
    ]
    return found + [f"the feature {name!r}" for name, one in catalogue.features.items() if one.meter == slug]
