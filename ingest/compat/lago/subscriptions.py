"""Lago's subscriptions: each one is a subscription of the same name, and a subject that its customer claims.

Lago rates each subscription by the events that name it; here all of a customer's usage is rated by all of the
customer's subscriptions. So a subscription that reads a meter which another one of the same customer reads at the same
time gets an account of its own: a customer `CUSTOMER/SUBSCRIPTION` with the same name, time zone and taxes.
"""

from datetime import date, datetime
from typing import Final
from zoneinfo import ZoneInfo

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ingest.compat.answering import json_response
from ingest.compat.lago.answers import EXISTS, FORMAT, INVALID, Errors, iso_seconds, lago_id, unknown, unprocessable
from ingest.compat.lago.documents import CUSTOMER, NAME, Documents, Fields, Members, owner_of, prices_at, read_root
from ingest.compat.lago.plans import fee_cents, interval_of
from schemas.access import tenant_of
from schemas.catalogue import Catalogue, Customer, Subscription
from schemas.period import Period, load_zone, make_calendar
from schemas.times import SECOND, TimeError, from_datetime, parse_time, to_datetime

BILLING: Final = "lago.billing_time"
_CALENDAR: Final[dict[str, int | str]] = {"week": 1, "month": 1, "quarter": "01-01", "year": "01-01"}
"""Where the periods of calendar billing begin."""

_REFUSED: Final = {
    "plan_overrides": "write the subscription's overrides over /v1",
    "activation_rules": "a subscription is active from its start",
}


class Subscriptions:
    """The routes of subscriptions."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    async def create(self, request: Request) -> Response:
        """`POST /subscriptions`: from now on, or from `subscription_at`. An unknown customer is made."""
        tenant, members = tenant_of(request.scope), await read_root(request, "subscription")
        errors: Errors = {}
        fields = Fields(members, errors)
        names = ("external_customer_id", "plan_code", "external_id")
        customer, plan, id = (fields.text(name, mandatory=True) or "" for name in names)
        billing = fields.choice("billing_time", ("calendar", "anniversary"), "calendar")
        title = fields.text("name")
        fields.refuse(_REFUSED)
        async with self._documents.changing:
            catalogue = await self._documents.backend.catalogue(tenant)
            owner = catalogue.customers.get(customer, Customer())
            now = self._documents.backend.now()
            start = _time(fields, "subscription_at", owner.timezone)
            end = _time(fields, "ending_at", owner.timezone)
            fields.finish()
            if plan not in catalogue.price_books:
                raise unknown("plan")
            before = catalogue.subscriptions.get(id)
            if before is not None:
                _check_same(before, customer, plan, now)
                return json_response({"subscription": shown(tenant, id, before, catalogue, now)})
            period = interval_of(catalogue.price_books[plan])
            subscription = Subscription(
                customer=customer,
                price_book=plan,
                start=to_datetime(now - now % SECOND if start is None else start),
                end=None if end is None else to_datetime(end),
                period=period,  # type: ignore[arg-type]  # one of our units
                anchor=_CALENDAR[period] if billing == "calendar" else None,
                metadata={BILLING: billing, **({NAME: title} if title else {})},
            )
            fresh = _placed(catalogue, id, subscription, owner)
            await self._documents.apply(tenant, fresh, f"subscriptions.{id}")
            catalogue = await self._documents.backend.catalogue(tenant)
        return json_response({"subscription": shown(tenant, id, fresh.subscriptions[id], catalogue, now)})

    async def find(self, request: Request) -> Response:
        """`GET /subscriptions/{external_id}`."""
        tenant, id = tenant_of(request.scope), request.path_params["id"]
        catalogue = await self._documents.backend.catalogue(tenant)
        if id not in catalogue.subscriptions:
            raise unknown("subscription")
        now = self._documents.backend.now()
        return json_response({"subscription": shown(tenant, id, catalogue.subscriptions[id], catalogue, now)})

    async def end(self, request: Request) -> Response:
        """`DELETE /subscriptions/{external_id}`: it ends now."""
        tenant, id = tenant_of(request.scope), request.path_params["id"]
        async with self._documents.changing:
            catalogue = await self._documents.backend.catalogue(tenant)
            now = self._documents.backend.now()
            found = catalogue.subscriptions.get(id)
            if found is None or _status(found, now) == "terminated":
                raise unknown("subscription")
            # Up to the next whole second, so that what this second has brought is in.
            ended = max(now - now % SECOND, from_datetime(found.start)) + SECOND
            ending = msgspec.structs.replace(found, end=to_datetime(ended))
            await self._documents.apply(tenant, Catalogue(subscriptions={id: ending}), f"subscriptions.{id}")
        return json_response({"subscription": shown(tenant, id, ending, catalogue, ended)})


def _check_same(before: Subscription, customer: str, plan: str, now: int) -> None:
    """The same again is no fault. Raises: Refused (422) where it is another one, or has ended."""
    if owner_of(before) != customer:
        raise unprocessable({"external_id": [EXISTS]})
    if _status(before, now) == "terminated":
        detail = "it has ended, and what it was billed by stays: give the new one an external_id of its own"
        raise unprocessable({"external_id": [EXISTS, detail]})
    if before.price_book != plan:
        detail = "a change of the plan is a phase of the subscription: write it over /v1"
        raise unprocessable({"plan_code": [INVALID, detail]})


def _time(fields: Fields, name: str, zone: str | None) -> int | None:
    """A time, or a day in the customer's zone; None where there is none."""
    text = fields.text(name)
    if text is None:
        return None
    try:
        if len(text) == len("2026-11-21"):
            return from_datetime(datetime.combine(date.fromisoformat(text), datetime.min.time(), _zone(zone)))
        return parse_time(text)
    except (TimeError, ValueError) as error:
        fields.wrong(name, FORMAT, str(error))
        return None


def _zone(name: str | None) -> ZoneInfo:
    return load_zone(name or "UTC")


# Accounts -----------------------------------------------------------------------------------------


def _placed(catalogue: Catalogue, id: str, subscription: Subscription, owner: Customer) -> Catalogue:
    """The documents of a new subscription: itself, and the customer that claims its subject."""
    customer = subscription.customer
    shared = any(
        _overlap(subscription, other) and _meters(catalogue, subscription) & _meters(catalogue, other)
        for other in catalogue.subscriptions.values()
        if other.customer == customer
    )
    if not shared:
        claiming = msgspec.structs.replace(owner, subjects=list(dict.fromkeys([*owner.subjects, id])))
        return Catalogue(customers={customer: claiming}, subscriptions={id: subscription})
    account = f"{customer}/{id}"
    own = Customer(
        subjects=[id], timezone=owner.timezone, taxes=owner.taxes, name=owner.name, metadata={CUSTOMER: customer}
    )
    metadata = subscription.metadata | {CUSTOMER: customer}
    placed = msgspec.structs.replace(subscription, customer=account, metadata=metadata)
    return Catalogue(customers={account: own}, subscriptions={id: placed})


def _overlap(one: Subscription, other: Subscription) -> bool:
    return (other.end is None or one.start < other.end) and (one.end is None or other.start < one.end)


def _meters(catalogue: Catalogue, subscription: Subscription) -> set[str]:
    """The events that any price book of a subscription reads."""
    books = {subscription.price_book, *(phase.price_book for phase in subscription.phases)}
    charges = [
        charge
        for name in books
        if name is not None and name in catalogue.price_books
        for prices in catalogue.price_books[name].bodies()
        for charge in prices.charges.values()
    ]
    return {catalogue.meters[charge.meter].event for charge in charges if charge.meter in catalogue.meters}


# What goes out ------------------------------------------------------------------------------------


def current_period(subscription: Subscription, zone: str | None, now: int) -> Period:
    """The billing period that holds `now`, cut at the subscription's start and end."""
    start = from_datetime(subscription.start)
    end = None if subscription.end is None else from_datetime(subscription.end)
    zone = subscription.timezone or zone or "UTC"
    found = make_calendar(subscription.period, subscription.anchor, zone, start).containing(max(now, start))
    return Period(max(found.start, start), found.end if end is None else min(found.end, end))


def is_active(subscription: Subscription, now: int) -> bool:
    """Whether it has begun and not ended."""
    return _status(subscription, now) == "active"


def _status(subscription: Subscription, now: int) -> str:
    if now < from_datetime(subscription.start):
        return "pending"
    ended = subscription.end is not None and from_datetime(subscription.end) <= now
    return "terminated" if ended else "active"


def shown(tenant: str, id: str, subscription: Subscription, catalogue: Catalogue, now: int) -> Members:
    """A subscription as Lago answers it."""
    start, status = iso_seconds(from_datetime(subscription.start)), _status(subscription, now)
    end = None if subscription.end is None else iso_seconds(from_datetime(subscription.end))
    owner = catalogue.customers.get(subscription.customer, Customer())
    prices = prices_at(catalogue.price_books[subscription.price_book].bodies(), now)
    period = current_period(subscription, owner.timezone, now) if status == "active" else None
    return {
        "lago_id": lago_id("subscription", tenant, id),
        "external_id": id,
        "lago_customer_id": lago_id("customer", tenant, owner_of(subscription)),
        "external_customer_id": owner_of(subscription),
        "name": subscription.metadata.get(NAME),
        "plan_code": subscription.price_book,
        "plan_amount_cents": str(fee_cents(prices)),
        "plan_amount_currency": prices.currency,
        "status": status,
        "billing_time": subscription.metadata.get(BILLING, "calendar"),
        "subscription_at": start,
        "started_at": None if status == "pending" else start,
        "terminated_at": end if status == "terminated" else None,
        "ending_at": end,
        "created_at": start,
        "current_billing_period_started_at": iso_seconds(period.start) if period else None,
        "current_billing_period_ending_at": iso_seconds(period.end - SECOND) if period else None,
    }
