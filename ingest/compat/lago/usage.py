"""Lago's current usage: the line items of the subscription's current period, as they stand.

Nothing is rated when it is asked for: the amounts are those of the invoice that would be made now, line by line, before
coupons, credits and taxes.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, Final, NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ingest.compat.answering import Refused, json_response
from ingest.compat.backend import Backend
from ingest.compat.lago.answers import iso_seconds, unknown, unprocessable
from ingest.compat.lago.documents import Members, owner_of, prices_at
from ingest.compat.lago.metrics import short
from ingest.compat.lago.plans import charge_id
from ingest.compat.lago.prices import say_price
from ingest.compat.lago.subscriptions import current_period, is_active
from schemas.access import tenant_of
from schemas.catalogue import Catalogue, Charge, Customer, Meter, Prices, Subscription
from schemas.currency import round_to_minor, whole_minor_units
from schemas.numbers import format_scaled, parse_scaled
from schemas.output import LineItem
from schemas.period import load_zone
from schemas.times import SECOND, parse_time, to_datetime

_GROUPS: Final = msgspec.json.Decoder(dict[str, str])


class Asked(NamedTuple):
    """What a request asks for: only some charges, only usage of some groups. None: all."""

    charge_id: str | None
    charge_code: str | None
    metric: str | None
    group: dict[str, str]


class Sums(NamedTuple):
    """What some line items come to: minor units, events, and units as a scaled number."""

    cents: int
    events: int
    units: int

    def said(self) -> Members:
        """As Lago's clients read it."""
        units = format_scaled(self.units)
        return {
            "units": units,
            "total_aggregated_units": units,
            "events_count": self.events,
            "amount_cents": self.cents,
        }


class Usage:
    """The route of current usage."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def current(self, request: Request) -> Response:
        """`GET /customers/{external_id}/current_usage?external_subscription_id=…`."""
        tenant, customer = tenant_of(request.scope), request.path_params["id"]
        catalogue, now = await self._backend.catalogue(tenant), self._backend.now()
        if customer not in catalogue.customers:
            raise unknown("customer")
        id = request.query_params.get("external_subscription_id") or ""
        subscription = catalogue.subscriptions.get(id)
        if subscription is None or owner_of(subscription) != customer or not is_active(subscription, now):
            body = {"status": 405, "error": "Method Not Allowed", "code": "no_active_subscription"}
            raise Refused(405, body)
        asked = _read(request)
        items = await self._backend.line_items(tenant, subscription.customer, id)
        return json_response({"customer_usage": _usage(tenant, catalogue, subscription, items, asked, now)})


def _read(request: Request) -> Asked:
    query = request.query_params
    group = {
        name[len("group[") : -1]: value
        for name, value in query.items()
        if name.startswith("group[") and name.endswith("]")
    }
    if query.get("filter_by_group"):
        try:
            group |= _GROUPS.decode(query["filter_by_group"])
        except msgspec.MsgspecError:
            raise unprocessable({"filter_by_group": ["invalid_format"]}) from None
    return Asked(
        charge_id=query.get("charge_id") or query.get("filter_by_charge_id"),
        charge_code=query.get("charge_code") or query.get("filter_by_charge_code"),
        metric=query.get("billable_metric_code"),
        group=group,
    )


def _usage(
    tenant: str, catalogue: Catalogue, subscription: Subscription, items: Sequence[LineItem], asked: Asked, now: int
) -> Members:
    zone = catalogue.customers.get(subscription.customer, Customer()).timezone
    period = current_period(subscription, zone, now)
    prices = prices_at(catalogue.price_books[subscription.price_book].bodies(), now)
    current = [item for item in items if period.start <= parse_time(item.period.start) < period.end]
    plan = subscription.price_book
    charges_usage = [
        _charge_usage(tenant, plan, name, charge, catalogue.meters[charge.meter], prices, current, asked)
        for name, charge in prices.charges.items()
        if charge.meter is not None and _is_asked(tenant, plan, name, charge, asked)
    ]
    amount = sum(one["amount_cents"] for one in charges_usage)
    last = to_datetime(period.end - SECOND).astimezone(load_zone(subscription.timezone or zone or "UTC"))
    return {
        "from_datetime": iso_seconds(period.start),
        "to_datetime": iso_seconds(period.end - SECOND),
        "issuing_date": last.date().isoformat(),
        "lago_invoice_id": None,
        "currency": prices.currency,
        "amount_cents": amount,
        "taxes_amount_cents": 0,
        "total_amount_cents": amount,
        "charges_usage": charges_usage,
    }


def _is_asked(tenant: str, plan: str, name: str, charge: Charge, asked: Asked) -> bool:
    return (
        asked.charge_id in (None, charge_id(tenant, plan, name))
        and asked.charge_code in (None, name)
        and asked.metric in (None, charge.meter)
    )


def _charge_usage(
    tenant: str,
    plan: str,
    name: str,
    charge: Charge,
    meter: Meter,
    prices: Prices,
    items: Iterable[LineItem],
    asked: Asked,
) -> dict[str, Any]:
    own = [
        item
        for item in items
        if item.charge == name and all(item.dimensions.get(key) == value for key, value in asked.group.items())
    ]
    plain = charge.price
    if plain.get("model") == "matrix":
        plain = plain.get("otherwise") or plain
    return {
        **_sums(own, prices).said(),
        "amount_currency": prices.currency,
        "charge": {
            "lago_id": charge_id(tenant, plan, name),
            "charge_model": say_price(plain, charge.free_units)[0],
            "invoice_display_name": charge.description or None,
        },
        "billable_metric": short(tenant, str(charge.meter), meter),
        "filters": [],
        "grouped_usage": _grouped(own, prices) if charge.group_by else [],
    }


def _sums(items: Sequence[LineItem], prices: Prices) -> Sums:
    """Each line is rounded by itself, as on an invoice."""

    def cents(item: LineItem) -> int:
        rounded = round_to_minor(parse_scaled(item.amount), item.currency, prices.rounding)
        return whole_minor_units(rounded, item.currency)

    return Sums(
        cents=sum(map(cents, items)),
        events=sum(item.events for item in items),
        units=sum(parse_scaled(item.quantity) for item in items),
    )


def _grouped(items: Sequence[LineItem], prices: Prices) -> list[Members]:
    """The sums of each combination of the charge's groups."""
    found: list[Members] = []
    for _, group in groupby(sorted(items, key=_combination), _combination):
        own = list(group)
        found.append({**_sums(own, prices).said(), "grouped_by": own[0].dimensions, "filters": []})
    return found


def _combination(item: LineItem) -> list[tuple[str, bool, str]]:
    return [(name, value is not None, value or "") for name, value in sorted(item.dimensions.items())]
