"""Invoices and their line items as FOCUS rows: one for each line, each tax that is added, and each credit.

What a row bills is what the invoice bills: the `BilledCost` of an `InvoiceId` sums to the invoice's total, to the cent.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any, Final

from schemas.output import Invoice, InvoiceLine, LineItem, Span, TaxLine
from schemas.times import parse_time, to_datetime

Row = dict[str, Any]

_KINDS: Final = {"threshold": 0, "period": 1, "correction": 2}
_EXACT: Final = Context(prec=60, rounding=ROUND_HALF_UP)
_UNIT_PRICE: Final = Decimal("1e-18")
_WHOLE: Final = "Charges"
"""The unit of a price that is for the whole line: there is no price of one of its quantity."""


@dataclass(frozen=True)
class Seller:
    """Who sells what: words that no invoice holds."""

    provider: str
    service: str
    category: str = "Other"
    subcategory: str = "Other (Other)"
    customers: Mapping[str, str] = field(default_factory=dict)
    """Customer -> its name, where it has one."""
    one_time: frozenset[tuple[str, str]] = frozenset()
    """(price book, charge) of fees that are charged once."""


def rows_of(invoices: Iterable[Invoice], line_items: Iterable[LineItem], seller: Seller) -> Iterator[Row]:
    """The rows of issued and paid invoices. `line_items`: those that the invoices name; of periods that were invoiced
    in parts all of these must be among the invoices, since a line says what was used up to then.

    Raises: KeyError where a line item is missing."""
    known = {line.id: line for line in line_items}
    used: dict[str, Decimal] = {}
    for invoice in sorted(invoices, key=_order):
        if invoice.status not in ("issued", "paid"):
            continue
        head = _head(invoice, seller)
        for line in invoice.lines:
            item = None if line.line_item is None else known[line.line_item]
            yield head | _line(invoice, line, item, used, seller)
        for tax in invoice.tax_lines:
            if not tax.inclusive:
                yield head | _tax(invoice, tax)
        for credit in invoice.applied_credits:
            yield head | _flat(invoice, "Credit", -Decimal(credit.amount), f"Credit {credit.grant}")


def _order(invoice: Invoice) -> tuple[Any, ...]:
    """As the invoices of a period were made."""
    level = Decimal(invoice.because.level) if invoice.because else Decimal(0)
    return invoice.subscription, parse_time(invoice.period.start), _KINDS[invoice.kind], level, invoice.id


def _head(invoice: Invoice, seller: Seller) -> Row:
    return {
        "BillingAccountId": invoice.customer,
        "BillingAccountName": seller.customers.get(invoice.customer) or invoice.customer,
        "BillingAccountType": "Customer",
        "BillingCurrency": invoice.currency,
        "PricingCurrency": invoice.currency,
        **_span("BillingPeriod", invoice.period),
        "ChargeClass": "Correction" if invoice.kind == "correction" else None,
        "InvoiceId": invoice.id,
        "InvoiceIssuerName": seller.provider,
        "ProviderName": seller.provider,
        "PublisherName": seller.provider,
        "ServiceCategory": seller.category,
        "ServiceName": seller.service,
        "ServiceSubcategory": seller.subcategory,
        "SubAccountId": invoice.subscription,
        "SubAccountName": invoice.subscription,
        "SubAccountType": "Subscription",
        "x_InvoiceKind": invoice.kind,
    }


def _line(invoice: Invoice, line: InvoiceLine, item: LineItem | None, used: dict[str, Decimal], seller: Seller) -> Row:
    amount, discount = Decimal(line.amount), Decimal(line.discount)
    if item is None:  # the commitment's true-up, and what is above it
        return _flat(invoice, "Adjustment", amount - discount, line.description, amount) | {"x_Charge": line.charge}
    quantity = Decimal(line.quantity) - used.get(item.id, Decimal(0))
    used[item.id] = Decimal(line.quantity)
    late = parse_time(item.period.end) <= parse_time(invoice.period.start)
    corrects = late or invoice.kind == "correction"
    metered = item.meter is not None
    sku = f"{item.price_book}/{item.charge}"
    dimensions = {name: value for name, value in item.dimensions.items() if value is not None}
    frequency = "One-Time" if (item.price_book, item.charge) in seller.one_time else "Recurring"
    return {
        **_costs(amount - discount, amount),
        **_span("ChargePeriod", item.period),
        "ChargeCategory": "Usage" if metered else "Purchase",
        "ChargeClass": "Correction" if corrects else None,
        "ChargeDescription": line.description,
        "ChargeFrequency": "Usage-Based" if metered else frequency,
        **({"ConsumedQuantity": quantity, "ConsumedUnit": unit_of(item.meter)} if item.meter and not corrects else {}),
        **({} if corrects else _price(amount, quantity if item.meter else Decimal(1), unit_of(item.meter or "fee"))),
        "PricingCategory": "Standard",
        "SkuId": sku,
        "SkuMeter": item.meter or item.charge,
        "SkuPriceId": f"{sku}/{item.price_version}",
        "Tags": json.dumps(dimensions, ensure_ascii=False, sort_keys=True) if dimensions else None,
        "x_Charge": item.charge,
        "x_LineItemId": item.id,
    }


def _tax(invoice: Invoice, tax: TaxLine) -> Row:
    percent = f"{(Decimal(tax.rate) * 100).normalize():f}"
    return _flat(invoice, "Tax", Decimal(tax.amount), f"{tax.name} {percent} %")


def _flat(invoice: Invoice, category: str, cost: Decimal, description: str, listed: Decimal | None = None) -> Row:
    """A row that has no quantity."""
    return {
        **_costs(cost, cost if listed is None else listed),
        **_span("ChargePeriod", invoice.period),
        "ChargeCategory": category,
        "ChargeDescription": description,
        "ChargeFrequency": "Recurring",
    }


def _costs(billed: Decimal, listed: Decimal) -> Row:
    """Nothing is amortized, so what is effective is what is billed."""
    costs = {"BilledCost": billed, "EffectiveCost": billed, "ContractedCost": listed, "ListCost": listed}
    return costs | {"PricingCurrencyEffectiveCost": billed}


def _price(cost: Decimal, quantity: Decimal, unit: str) -> Row:
    """A quantity and the price of one that come to the cost; a price is never below nought."""
    price = _EXACT.divide(cost, quantity) if quantity else Decimal(-1)
    if price < 0:
        quantity, price, unit = Decimal(-1 if cost < 0 else 1), abs(cost), _WHOLE
    price = price.quantize(_UNIT_PRICE, context=_EXACT)
    names = [f"{currency}{kind}UnitPrice" for currency in ("", "PricingCurrency") for kind in ("List", "Contracted")]
    return {"PricingQuantity": quantity, "PricingUnit": unit, **dict.fromkeys(names, price)}


def _span(name: str, span: Span) -> Row:
    return {f"{name}Start": to_datetime(parse_time(span.start)), f"{name}End": to_datetime(parse_time(span.end))}


def unit_of(name: str) -> str:
    """A meter's name as FOCUS writes units: `input_tokens` is `Input Tokens`."""
    words = [word for word in re.split(r"[^A-Za-z0-9]+", name) if word]
    text = " ".join(word[0].upper() + word[1:] for word in words)
    return text if text[:1].isalpha() else f"Units {text}".strip()
