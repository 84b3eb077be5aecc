"""Features and entitlements of this dialect, as our documents; and what is left of them, from the usage that is kept.

Value: `usage` is the feature's meter in the current period so far, `balance` what of the allowance is left (never below
nought), `overage` what is used above it. There is access while a balance is left, or where the limit is soft.
"""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import msgspec
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from ingest.compat.backend import Backend, UsageQuestion
from ingest.compat.openmeter.answers import (
    Refusal,
    as_json,
    bad,
    map_of_texts,
    read_object,
    required_text,
    show,
    shown_time,
    tenant,
    text_of,
    time_of,
    times_of,
    unknown_thing,
    whole,
)
from ingest.compat.openmeter.customers import find_customer
from ingest.compat.openmeter.filters import both, read_advanced, read_map
from ingest.compat.openmeter.indexes import entitlements_of, id_of, id_of_customer, owners_of
from ingest.compat.openmeter.periods import INTERVALS, ISO, Interval, period_of
from schemas.catalogue import Catalogue, Entitlement, Feature
from schemas.numbers import NumberError, format_scaled, parse_scaled
from schemas.period import Period
from schemas.times import SECOND, from_datetime, to_datetime

_MINUTE: Final = 60 * SECOND
_UNSAID: Final = ("issue", "grants", "issueAfterResetPriority", "preserveOverageAtReset")
"""Members of an entitlement that ours cannot say: refused where they ask for something."""


# Features -----------------------------------------------------------------------------------------


async def create_feature(backend: Backend, request: Request) -> Response:
    """`POST /api/v1/features`: 201."""
    body = await read_object(request)
    key = required_text(body, "key", 64)
    catalogue = await backend.catalogue(tenant(request))
    known = catalogue.features.get(key)
    if known is not None and not known.archived:
        raise Refusal(409, "feature_exists", f"key: found the feature {key!r} in force, expected another key")
    slug = text_of(body, "meterSlug", 64)
    if slug is not None and (slug not in catalogue.meters or catalogue.meters[slug].archived):
        raise bad("meterSlug", f"found no meter {slug!r}")
    if body.get("unitCost") is not None:
        raise bad("unitCost", "found one, expected none: what usage costs stands in price books")
    advanced = read_advanced(body.get("advancedMeterGroupByFilters"))
    filters = both(read_map(body.get("meterGroupByFilters"), "meterGroupByFilters"), advanced)
    fresh = Feature(
        meter=slug,
        filters={name: sorted(text for text in texts if text is not None) for name, texts in filters.items()},
        name=required_text(body, "name", 256),
        metadata=map_of_texts(body, "metadata"),
    )
    await backend.apply(tenant(request), Catalogue(features={key: fresh}))
    return as_json(_show_feature(backend, tenant(request), key, fresh), 201)


async def list_features(backend: Backend, request: Request) -> Response:
    """`GET /api/v1/features`: an array; where a page is asked for, a page of `items`."""
    catalogue = await backend.catalogue(tenant(request))
    asked = request.query_params
    slugs, everything = set(asked.getlist("meterSlug")), asked.get("includeArchived") == "true"
    shown = [
        _show_feature(backend, tenant(request), key, one)
        for key, one in sorted(catalogue.features.items())
        if (everything or not one.archived) and (not slugs or one.meter in slugs)
    ]
    if "page" not in asked:
        return as_json(shown)
    page, size = whole(request, "page", 1, 1_000_000), whole(request, "pageSize", 100, 1000)
    items = shown[(page - 1) * size : page * size]
    return as_json({"items": items, "page": page, "pageSize": size, "totalCount": len(shown)})


async def get_feature(backend: Backend, request: Request) -> Response:
    """`GET /api/v1/features/{idOrKey}`."""
    catalogue = await backend.catalogue(tenant(request))
    key = _feature_key(catalogue, request.path_params["feature"])
    return as_json(_show_feature(backend, tenant(request), key, catalogue.features[key]))


async def delete_feature(backend: Backend, request: Request) -> Response:
    """`DELETE /api/v1/features/{idOrKey}`: 204. It is archived: entitlements to it stay, no more can be made."""
    catalogue = await backend.catalogue(tenant(request))
    key = _feature_key(catalogue, request.path_params["feature"])
    archived = replace(catalogue.features[key], archived=True)
    await backend.apply(tenant(request), Catalogue(features={key: archived}))
    return Response(None, 204)


def _feature_key(catalogue: Catalogue, asked: str) -> str:
    if asked in catalogue.features:
        return asked
    key = next((key for key in catalogue.features if id_of("feature", key) == asked), None)
    if key is None:
        raise unknown_thing("feature", asked)
    return key


def _show_feature(backend: Backend, tenant: str, key: str, feature: Feature) -> dict[str, Any]:
    times = times_of(backend.filed(tenant, "features", key))
    shown: dict[str, Any] = {"id": id_of("feature", key), "key": key, "name": feature.name or key, **times}
    if feature.meter is not None:
        shown["meterSlug"] = feature.meter
    if feature.filters:
        shown["advancedMeterGroupByFilters"] = {name: {"$in": texts} for name, texts in feature.filters.items()}
        if all(len(texts) == 1 for texts in feature.filters.values()):
            shown["meterGroupByFilters"] = {name: texts[0] for name, texts in feature.filters.items()}
    if feature.metadata:
        shown["metadata"] = dict(feature.metadata)
    if feature.archived:
        shown["archivedAt"] = times["updatedAt"]
    return shown


# Entitlements -------------------------------------------------------------------------------------


async def create_entitlement(backend: Backend, request: Request) -> Response:
    """`POST /api/v2/customers/{idOrKey}/entitlements`: 201."""
    customer, _ = await find_customer(backend, request)
    return await _create(backend, request, customer)


async def create_subject_entitlement(backend: Backend, request: Request) -> Response:
    """`POST /api/v1/subjects/{idOrKey}/entitlements`: of the customer that the subject belongs to."""
    return await _create(backend, request, await _owner(backend, request))


async def _create(backend: Backend, request: Request, customer: str) -> Response:
    body = await read_object(request)
    catalogue = await backend.catalogue(tenant(request))
    feature = text_of(body, "featureKey", 128) or text_of(body, "featureId", 128)
    if feature is None:
        raise bad("featureKey", "found nothing, expected the key of a feature")
    key = _feature_key(catalogue, feature)
    if catalogue.features[key].archived:
        raise bad("featureKey", f"found the feature {key!r}, which is archived")
    fresh = _entitlement(body, customer, key, backend.now())
    if _held(catalogue, customer, key, backend.now()) is not None:
        raise Refusal(409, "entitlement_exists", f"the customer {customer!r} has an entitlement to {key!r} in force")
    id = id_of("entitlement", customer, key, shown_time(from_datetime(fresh.start)))
    await backend.apply(tenant(request), Catalogue(entitlements={id: fresh}))
    return as_json(_show(backend, request, id, fresh), 201)


async def list_entitlements(backend: Backend, request: Request) -> Response:
    """`GET /api/v2/customers/{idOrKey}/entitlements`: a page of those in force."""
    customer, _ = await find_customer(backend, request)
    held = _all_held(await backend.catalogue(tenant(request)), customer, backend.now())
    items = [_show(backend, request, id, one) for id, one in held.values()]
    return as_json({"items": items, "page": 1, "pageSize": max(len(items), 1), "totalCount": len(items)})


async def get_entitlement(backend: Backend, request: Request) -> Response:
    """`GET /api/v2/customers/{idOrKey}/entitlements/{idOrFeatureKey}`."""
    customer, _ = await find_customer(backend, request)
    id, entitlement = await _find(backend, request, customer)
    return as_json(_show(backend, request, id, entitlement))


async def delete_entitlement(backend: Backend, request: Request) -> Response:
    """`DELETE /api/v2/customers/{idOrKey}/entitlements/{idOrFeatureKey}`: 204; it ends now."""
    customer, _ = await find_customer(backend, request)
    id, entitlement = await _find(backend, request, customer)
    now = to_datetime(backend.now())
    ended = replace(entitlement, end=max(now, entitlement.start))
    await backend.apply(tenant(request), Catalogue(entitlements={id: ended}))
    return Response(None, 204)


async def get_value(backend: Backend, request: Request) -> Response:
    """`GET …/customers/{idOrKey}/entitlements/{idOrFeatureKey}/value`: no access where there is no entitlement."""
    customer, _ = await find_customer(backend, request)
    return await _answer_value(backend, request, customer)


async def get_subject_value(backend: Backend, request: Request) -> Response:
    """`GET /api/v1/subjects/{idOrKey}/entitlements/{idOrFeatureKey}/value`."""
    return await _answer_value(backend, request, await _owner(backend, request))


async def _answer_value(backend: Backend, request: Request, customer: str) -> Response:
    at = time_of(request.query_params.get("time") or None, "time")
    catalogue = await backend.catalogue(tenant(request))
    now = backend.now() if at is None else at
    held = _held(catalogue, customer, request.path_params["feature"], now)
    return as_json({"hasAccess": False} if held is None else await _value(backend, request, held[1], now))


async def get_access(backend: Backend, request: Request) -> Response:
    """`GET /api/v1/customers/{idOrKey}/access`: every entitlement in force, by feature."""
    customer, _ = await find_customer(backend, request)
    now = backend.now()
    held = _all_held(await backend.catalogue(tenant(request)), customer, now)
    found = {key: await _value(backend, request, one, now) for key, (_, one) in held.items()}
    return as_json({"entitlements": found})


async def _owner(backend: Backend, request: Request) -> str:
    asked = request.path_params["subject"]
    owners = owners_of(await backend.catalogue(tenant(request)))
    key = asked if asked in owners else next((key for key in owners if id_of("subject", key) == asked), None)
    if key is None:
        raise unknown_thing("subject", asked)
    return owners[key]


async def _find(backend: Backend, request: Request, customer: str) -> tuple[str, Entitlement]:
    asked = request.path_params["feature"]
    found = _held(await backend.catalogue(tenant(request)), customer, asked, backend.now())
    if found is None:
        raise unknown_thing("entitlement", asked)
    return found


def _held(catalogue: Catalogue, customer: str, asked: str, at: int) -> tuple[str, Entitlement] | None:
    """A customer's entitlement in force at a time, by its id or its feature's key or id."""
    for key, (id, one) in _all_held(catalogue, customer, at).items():
        if asked in (key, id, id_of("feature", key)):
            return id, one
    return None


def _all_held(catalogue: Catalogue, customer: str, at: int) -> dict[str, tuple[str, Entitlement]]:
    """Feature -> id and entitlement, of those in force at a time."""
    moment = to_datetime(at)
    return {
        one.feature: (id, one)
        for id, one in entitlements_of(catalogue).get(customer, ())
        if one.start <= moment and (one.end is None or moment < one.end)
    }


async def _value(backend: Backend, request: Request, entitlement: Entitlement, at: int) -> dict[str, Any]:
    if entitlement.kind == "boolean":
        return {"hasAccess": True}
    if entitlement.kind == "static":
        return {"hasAccess": True, "config": entitlement.config}
    used = await _usage(backend, request, entitlement, at)
    allowed = parse_scaled(str(entitlement.allowance))
    balance, overage = max(allowed - used, 0), max(used - allowed, 0)
    numbers = {"balance": balance, "usage": used, "overage": overage, "totalAvailableGrantAmount": allowed}
    shown = {name: msgspec.Raw(format_scaled(number).encode()) for name, number in numbers.items()}
    return {"hasAccess": balance > 0 or entitlement.soft_limit, **shown}


async def _usage(backend: Backend, request: Request, entitlement: Entitlement, at: int) -> int:
    """The feature's meter in the period so far, a scaled number."""
    catalogue = await backend.catalogue(tenant(request))
    feature = catalogue.features[entitlement.feature]
    first = max(_period(entitlement, at).start, from_datetime(entitlement.start))
    if feature.meter is None or first > at:
        return 0
    question = UsageQuestion(
        meter=feature.meter,
        first=first,
        last=at + 1,
        customers=(entitlement.customer,),
        filters={name: frozenset(texts) for name, texts in feature.filters.items()},
    )
    rows = await backend.usage(tenant(request), question)
    return parse_scaled(rows[0].value) if rows else 0


def _period(entitlement: Entitlement, at: int) -> Period:
    return period_of(entitlement.anchor or entitlement.start, entitlement.period, at)


def _entitlement(body: Mapping[str, Any], customer: str, feature: str, now: int) -> Entitlement:
    """Our document of an entitlement that is to be made. Raises: Refusal."""
    kind = required_text(body, "type", 20)
    start = to_datetime(now - now % _MINUTE)
    metadata = map_of_texts(body, "metadata")
    plain = Entitlement(customer=customer, feature=feature, start=start, metadata=metadata)
    if kind == "boolean":
        return replace(plain, kind="boolean")
    if kind == "static":
        config = body.get("config")
        if not isinstance(config, str):
            raise bad("config", f"found {show(config)}, expected a text that holds JSON")
        return replace(plain, kind="static", config=config)
    if kind != "metered":
        raise bad("type", f"found {kind!r}, expected metered, static or boolean")
    for name in _UNSAID:
        if body.get(name) and not (name == "issueAfterResetPriority" and body[name] == 1):
            raise bad(name, f"found {show(body[name])}, expected none: an allowance is the same in each period")
    interval, anchor = _usage_period(body, start)
    measured = body.get("measureUsageFrom")
    return replace(
        plain,
        start=start if measured is None else _measured(measured, anchor, interval, now),
        allowance=_amount(body),
        period=interval,
        anchor=anchor,
        soft_limit=_flag(body, "isSoftLimit") or _flag(body, "isUnlimited"),
    )


def _usage_period(body: Mapping[str, Any], start: datetime) -> tuple[Interval, datetime]:
    found = body.get("usagePeriod")
    asked: dict[str, Any] = found if isinstance(found, dict) else {}
    interval = asked.get("interval")
    if not isinstance(interval, str) or interval not in INTERVALS:
        raise bad("usagePeriod", f"found {show(found)}, expected an interval of {', '.join(INTERVALS)}")
    anchor = time_of(text_of(asked, "anchor"), "usagePeriod.anchor")
    return INTERVALS[interval], start if anchor is None else to_datetime(anchor)


def _measured(asked: Any, anchor: datetime, interval: Interval, now: int) -> datetime:
    if asked == "CURRENT_PERIOD_START":
        return to_datetime(period_of(anchor, interval, now).start)
    if asked == "NOW":
        return to_datetime(now - now % _MINUTE)
    at = time_of(asked, "measureUsageFrom") if isinstance(asked, str) else None
    if at is None or at > now:
        raise bad("measureUsageFrom", f"found {show(asked)}, expected CURRENT_PERIOD_START, NOW or a past time")
    return to_datetime(at)


def _amount(body: Mapping[str, Any]) -> Decimal:
    """`issueAfterReset`, from its text. Raises: Refusal."""
    value = body.get("issueAfterReset")
    if value is None:
        return Decimal(0)
    if isinstance(value, bool) or not isinstance(value, int | msgspec.Raw):
        raise bad("issueAfterReset", f"found {show(value)}, expected a number")
    try:
        scaled = parse_scaled(bytes(value).decode() if isinstance(value, msgspec.Raw) else str(value))
    except NumberError as error:
        raise bad("issueAfterReset", str(error)) from None
    if scaled < 0:
        raise bad("issueAfterReset", f"found {format_scaled(scaled)}, expected nought or more")
    return Decimal(format_scaled(scaled))


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise bad(name, f"found {show(value)}, expected true or false")
    return bool(value)


def _show(backend: Backend, request: Request, id: str, one: Entitlement) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": id,
        "type": one.kind,
        "customerId": id_of_customer(one.customer),
        "customerKey": one.customer,
        "subjectKey": one.customer,
        "featureKey": one.feature,
        "featureId": id_of("feature", one.feature),
        "activeFrom": shown_time(from_datetime(one.start)),
        **times_of(backend.filed(tenant(request), "entitlements", id)),
    }
    if one.metadata:
        shown["metadata"] = dict(one.metadata)
    if one.end is not None:
        shown["activeTo"] = shown_time(from_datetime(one.end))
    if one.kind == "static":
        shown["config"] = one.config
    if one.kind == "metered":
        shown |= _show_metered(one, backend.now())
    return shown


def _show_metered(one: Entitlement, now: int) -> dict[str, Any]:
    period = _period(one, now)
    anchor = from_datetime(one.anchor or one.start)
    start = from_datetime(one.start)
    allowance = msgspec.Raw(format_scaled(parse_scaled(str(one.allowance))).encode())
    return {
        "isSoftLimit": one.soft_limit,
        "issueAfterReset": allowance,
        "issue": {"amount": allowance},
        "lastReset": shown_time(max(period.start, start)),
        "measureUsageFrom": shown_time(start),
        "currentUsagePeriod": {"from": shown_time(period.start), "to": shown_time(period.end)},
        "usagePeriod": {"interval": one.period.upper(), "intervalISO": ISO[one.period], "anchor": shown_time(anchor)},
    }
