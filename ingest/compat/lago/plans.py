"""Lago's plans: each one is a price book of the same name, its charges the book's charges.

The subscription fee is the charge `subscription_fee`, flat, prorated. How often a plan bills stands in its metadata: a
price book has no period of its own, a subscription has.
"""

from decimal import Decimal
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ingest.compat.answering import json_response
from ingest.compat.lago.answers import (
    EXISTS,
    INVALID,
    MANDATORY,
    Errors,
    changed_seconds,
    lago_id,
    page_of,
    unknown,
    unprocessable,
)
from ingest.compat.lago.documents import NAME, Documents, Fields, Members, money_of, prices_at, read_root
from ingest.compat.lago.metrics import filters_of, find_metric, path_of
from ingest.compat.lago.prices import MODELS, Price, Priced, read_price, say_price
from schemas.access import tenant_of
from schemas.catalogue import Catalogue, Charge, Meter, Minimum, PriceBook, Prices
from schemas.currency import MINOR_DIGITS

FEE: Final = "subscription_fee"
INTERVAL: Final = "lago.interval"
PERIODS: Final = {"weekly": "week", "monthly": "month", "quarterly": "quarter", "yearly": "year"}
"""Lago's intervals, and our periods."""

_ALL_VALUES: Final = "__ALL_FILTER_VALUES__"
_PLAN_REFUSED: Final = {
    "trial_period": "a trial here is free of usage charges too: give the subscription a trial_end over /v1",
    "bill_charges_monthly": "charges are billed with the plan's period",
    "fixed_charges": "fixed charges are not taken: use a subscription fee, or write the price book over /v1",
    "usage_thresholds": "Lago counts lifetime usage, thresholds here count a period's: write them over /v1",
    "tax_codes": "taxes stand at the customer: write them over /v1",
}
_CHARGE_REFUSED: Final = {
    "pay_in_advance": "usage is billed at the end of the period, or when a threshold is reached",
    "prorated": "usage is not prorated",
    "regroup_paid_fees": "no fees are paid in advance",
    "tax_codes": "taxes stand at the customer: write them over /v1",
    "applied_pricing_unit": "prices are in the plan's currency",
}


class Plans:
    """The routes of plans."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    async def create(self, request: Request) -> Response:
        """`POST /plans`."""
        tenant, members = tenant_of(request.scope), await read_root(request, "plan")
        async with self._documents.changing:
            catalogue = await self._documents.backend.catalogue(tenant)
            code, book, meters = read_plan(tenant, members, catalogue)
            if code in catalogue.price_books:
                raise unprocessable({"code": [EXISTS]})
            fresh = Catalogue(meters=meters, price_books={code: book})
            await self._documents.apply(tenant, fresh, f"price_books.{code}")
        return json_response({"plan": self._shown(tenant, code, book, catalogue)})

    async def find(self, request: Request) -> Response:
        """`GET /plans/{code}`."""
        tenant, code = tenant_of(request.scope), request.path_params["id"]
        catalogue = await self._documents.backend.catalogue(tenant)
        if code not in catalogue.price_books:
            raise unknown("plan")
        return json_response({"plan": self._shown(tenant, code, catalogue.price_books[code], catalogue)})

    async def find_all(self, request: Request) -> Response:
        """`GET /plans`."""
        tenant = tenant_of(request.scope)
        catalogue = await self._documents.backend.catalogue(tenant)
        rows, meta = page_of(sorted(catalogue.price_books.items()), request.query_params)
        plans = [self._shown(tenant, code, book, catalogue) for code, book in rows]
        return json_response({"plans": plans, "meta": meta})

    def _shown(self, tenant: str, code: str, book: PriceBook, catalogue: Catalogue) -> Members:
        prices = prices_at(book.bodies(), self._documents.backend.now())
        created = changed_seconds(self._documents.created(tenant, "price_books", code))
        fee = prices.charges.get(FEE)
        charges = {name: charge for name, charge in prices.charges.items() if charge.meter is not None}
        return {
            "lago_id": lago_id("plan", tenant, code),
            "name": book.metadata.get(NAME) or code,
            "created_at": created,
            "code": code,
            "interval": book.metadata.get(INTERVAL, "monthly"),
            "description": book.description or None,
            "amount_cents": fee_cents(prices),
            "amount_currency": prices.currency,
            "trial_period": None,
            "pay_in_advance": fee is not None and fee.when == "in_advance",
            "bill_charges_monthly": None,
            "charges": [
                _charge_shown(tenant, code, name, charge, prices, catalogue, created)
                for name, charge in charges.items()
            ],
            "minimum_commitment": _commitment_shown(tenant, code, prices, book),
            "taxes": [],
        }


def charge_id(tenant: str, plan: str, name: str) -> str:
    """The `lago_id` of a plan's charge."""
    return lago_id("charge", tenant, plan, name)


def fee_cents(prices: Prices) -> int:
    """The subscription fee in minor units; nought where there is none."""
    fee = prices.charges.get(FEE)
    return 0 if fee is None else cents_of(Decimal(str(fee.price.get("amount", "0"))), prices.currency)


def cents_of(amount: Decimal, currency: str) -> int:
    """An amount in minor units; of a part of one, the whole ones."""
    return int(amount.scaleb(MINOR_DIGITS.get(currency, 2)))


# What comes in ------------------------------------------------------------------------------------


def read_plan(tenant: str, members: Members, catalogue: Catalogue) -> tuple[str, PriceBook, dict[str, Meter]]:
    """The code, the price book, and the meters that it needs dimensions of. Raises: Refused (422)."""
    errors: Errors = {}
    fields = Fields(members, errors)
    code, name = fields.text("code", mandatory=True) or "", fields.text("name", mandatory=True) or ""
    interval = fields.choice("interval", tuple(PERIODS))
    currency = fields.choice("amount_currency", tuple(MINOR_DIGITS))
    if members.get("amount_cents") is None:
        fields.wrong("amount_cents", MANDATORY)
    amount = fields.whole("amount_cents") or 0
    in_advance = fields.flag("pay_in_advance") or False
    refused = _PLAN_REFUSED.items()
    # That is what a monthly plan does.
    fields.refuse({key: why for key, why in refused if (key, interval) != ("bill_charges_monthly", "monthly")})
    charges: dict[str, Charge] = {}
    meters: dict[str, Meter] = {}
    if amount:
        price = {"model": "flat", "amount": str(money_of(amount, currency))}
        charges[FEE] = Charge(price=price, when="in_advance" if in_advance else "in_arrears", prorate=True)
    for i, one in enumerate(fields.objects("charges")):
        _read_charge(tenant, Fields(one, errors, f"charges.{i}."), catalogue, charges, meters, currency)
    minimum, metadata = _read_commitment(fields, currency)
    description = fields.text("description") or ""
    fields.finish()
    book = PriceBook(
        currency=currency,
        charges=charges,
        minimum=minimum,
        description=description,
        metadata={NAME: name, INTERVAL: interval, **metadata},
    )
    return code, book, meters


def _read_commitment(fields: Fields, currency: str) -> tuple[Minimum | None, dict[str, str]]:
    value = fields.members.get("minimum_commitment")
    if not value:
        return None, {}
    if not isinstance(value, dict):
        fields.wrong("minimum_commitment", INVALID, "expected an object")
        return None, {}
    inside = Fields(value, fields.errors, "minimum_commitment.")
    inside.refuse({"tax_codes": _PLAN_REFUSED["tax_codes"]})
    cents = inside.whole("amount_cents", least=1)
    if cents is None:
        return None, {}
    title = inside.text("invoice_display_name")
    metadata = {"lago.minimum": title} if title else {}
    return Minimum(amount=money_of(cents, currency), prorate=True), metadata


def _read_charge(
    tenant: str,
    fields: Fields,
    catalogue: Catalogue,
    charges: dict[str, Charge],
    meters: dict[str, Meter],
    currency: str,
) -> None:
    """Adds one charge, and its meter where that needs more dimensions."""
    id = fields.text("billable_metric_id", mandatory=True) or ""
    code = find_metric(tenant, catalogue, id)
    if code is None:
        if id:
            fields.wrong("billable_metric_id", "not_found", f"found {id[:60]!r}, expected the lago_id of a metric")
        return
    model = fields.choice("charge_model", tuple(MODELS))
    fields.refuse(_CHARGE_REFUSED)
    if fields.flag("invoiceable") is False:
        fields.wrong("invoiceable", INVALID, "every charge is invoiced")
    if model not in MODELS:
        return
    meter = meters.get(code, catalogue.meters[code])
    priced = read_price(model, fields.members.get("properties"), fields)
    priced = _read_filters(fields, model, meter, priced)
    group_by = _groups(fields)
    least = fields.whole("min_amount_cents") or 0
    if least and group_by:
        fields.wrong("min_amount_cents", INVALID, "with groups the minimum would hold for each group")
    fresh = {key: path_of(key) for key in group_by if key not in meter.dimensions}
    if fresh:
        meters[code] = msgspec.structs.replace(meter, dimensions={**meter.dimensions, **fresh})
    charge = Charge(
        meter=code,
        price=priced.price,
        group_by=group_by,
        minimum=money_of(least, currency) if least else None,
        description=fields.text("invoice_display_name") or "",
    )
    if priced.free_units:
        charge = msgspec.structs.replace(charge, free_units=priced.free_units)
    charges[_free_name(fields.text("code") or code, charges)] = charge


def _free_name(name: str, taken: dict[str, Charge]) -> str:
    if name not in taken and name != FEE:
        return name
    return next(found for i in range(2, 10_000) if (found := f"{name}_{i}") not in taken)


def _groups(fields: Fields) -> list[str]:
    properties = fields.members.get("properties")
    inside = Fields(properties if isinstance(properties, dict) else {}, fields.errors, fields.place + "properties.")
    return list(dict.fromkeys([*inside.texts("pricing_group_keys"), *inside.texts("grouped_by")]))


def _read_filters(fields: Fields, model: str, meter: Meter, default: Priced) -> Priced:
    """The prices of the charge's filters as cells of a matrix, around the price of all other usage."""
    filters = fields.objects("filters")
    if not filters:
        return default
    known = {one["key"]: one["values"] for one in filters_of(meter)}
    by: list[str] = []
    cells: list[Price] = []
    for i, members in enumerate(filters):
        inside = Fields(members, fields.errors, f"{fields.place}filters.{i}.")
        match = _match(inside, known)
        priced = read_price(model, members.get("properties"), inside)
        by += [key for key in match if key not in by]
        cells.append({"match": match, "price": priced.price})
        if priced.free_units or default.free_units:
            inside.wrong("properties.free_units", INVALID, "free units beside filters cannot be told apart")
        title = inside.text("invoice_display_name")
        if title is not None:
            inside.wrong("invoice_display_name", INVALID, "a filter has no name of its own here")
    return Priced({"model": "matrix", "by": by, "cells": cells, "otherwise": default.price})


def _match(fields: Fields, known: dict[str, list[str]]) -> dict[str, list[str]]:
    values = fields.members.get("values")
    if not isinstance(values, dict) or not values:
        fields.wrong("values", MANDATORY)
        return {}
    inside = Fields(values, fields.errors, fields.place + "values.")
    found: dict[str, list[str]] = {}
    for key in values:
        if key not in known:
            inside.wrong(key, INVALID, f"expected a filter of the metric: {', '.join(known) or 'it has none'}")
            continue
        texts = inside.texts(key)
        found[key] = known[key] if texts == [_ALL_VALUES] else texts
        if not found[key] or any(text not in known[key] for text in found[key]):
            inside.wrong(key, INVALID, f"expected some of {', '.join(known[key])[:200]}")
    return found


# What goes out ------------------------------------------------------------------------------------


def _charge_shown(
    tenant: str, plan: str, name: str, charge: Charge, prices: Prices, catalogue: Catalogue, created: str
) -> Members:
    price = charge.price
    filters: list[Members] = []
    if price.get("model") == "matrix":
        for cell in price["cells"]:
            _, properties = say_price(cell["price"], Decimal(0))
            values = {key: one if isinstance(one, list) else [one] for key, one in cell["match"].items()}
            filters.append({"invoice_display_name": None, "properties": properties, "values": _plain(values)})
        price = price.get("otherwise") or {"model": "matrix"}
    model, properties = say_price(price, charge.free_units)
    if charge.group_by:
        properties |= {"pricing_group_keys": charge.group_by}
    meter = charge.meter or ""
    return {
        "lago_id": charge_id(tenant, plan, name),
        "lago_billable_metric_id": lago_id("billable_metric", tenant, meter),
        "billable_metric_code": meter,
        "code": name,
        "created_at": created,
        "charge_model": model,
        "pay_in_advance": False,
        "prorated": False,
        "invoiceable": True,
        "invoice_display_name": charge.description or None,
        "min_amount_cents": cents_of(charge.minimum or Decimal(0), prices.currency),
        "properties": properties,
        "filters": filters,
        "taxes": [],
    }


def _plain(values: dict[str, list[Any]]) -> dict[str, list[str]]:
    return {key: [str(value) for value in texts] for key, texts in values.items()}


def _commitment_shown(tenant: str, plan: str, prices: Prices, book: PriceBook) -> Members | None:
    minimum = prices.minimum
    if minimum is None:
        return None
    amount = minimum.amount if isinstance(minimum, Minimum) else minimum
    return {
        "lago_id": lago_id("minimum_commitment", tenant, plan),
        "amount_cents": cents_of(amount, prices.currency),
        "invoice_display_name": book.metadata.get("lago.minimum"),
        "interval": book.metadata.get(INTERVAL, "monthly"),
        "taxes": [],
    }


def interval_of(book: PriceBook) -> str:
    """Our period for the plan's interval."""
    return PERIODS.get(book.metadata.get(INTERVAL, "monthly"), "month")
