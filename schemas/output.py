"""What leaves the engine: line items, invoices, alerts. Decimals and times are texts (see `numbers`, `times`).

Every output has an identity that follows from its meaning alone and a rising revision: a consumer that keeps
the highest `revision` per `id` is always right, however often it is told.
"""

from typing import Literal

import msgspec


class Span(msgspec.Struct, frozen=True):
    """A half-open stretch of time `[start, end)`."""

    start: str
    end: str


class Through(msgspec.Struct, frozen=True):
    """The last position of the log that an output includes."""

    partition: int
    offset: int


class TierAmount(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one tier contributed. `up_to` is absent in the last tier. With `package_size`, `quantity` is what was
    used, `packages` how many were billed and `unit_amount` the price of one. `cell` says which cell of a matrix or
    window of a schedule (0 is the first written, -1 is `otherwise`). Where a model asks something of each event,
    `channel` says what: `percentage` has `rated` (values at the rate), `fixed` (events at the fixed amount), `least`
    and `greatest` (events at the least and the greatest amount) and `free` (values within the allowance), `dynamic`
    has `priced` (the events' own amounts)."""

    start: str = msgspec.field(name="from")
    quantity: str
    unit_amount: str
    flat_amount: str
    amount: str
    up_to: str | None = None
    package_size: str | None = None
    packages: str | None = None
    cell: int | None = None
    channel: str | None = None


class LineItem(msgspec.Struct, frozen=True, kw_only=True):
    """What one charge has come to for one combination of its `group_by` values in one billing period, so far.

    `quantity` is before `free_units`; `amount` is exact to 12 digits, after the charge's own minimum and maximum.
    Where both are nought there is nothing to bill: such a revision only takes an earlier one back.
    """

    id: str
    revision: int
    tenant: str
    customer: str
    subscription: str
    charge: str
    meter: str | None
    dimensions: dict[str, str | None]
    currency: str
    period: Span
    quantity: str
    amount: str
    price_book: str
    price_version: int
    tiers: list[TierAmount]
    events: int
    first_event: str | None
    last_event: str | None
    through: Through | None


class EventRef(msgspec.Struct, frozen=True):
    """Names one usage event."""

    source: str
    id: str


class Because(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a threshold invoice or an alert exists: the level that was reached, and the very event (or the tick) that
    reached it.

    `threshold` is what the catalogue names: the `spend` of a threshold, the amount of a budget, the `low_balance` of a
    grant. `level` is what was reached: a multiple where the threshold repeats, the spend at the budget's share, the
    balance that is left. A balance that the invoice of a close or a correction brought down names no event."""

    threshold: str
    level: str
    event: EventRef | None = None
    tick: str | None = None


class InvoiceLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line item's rounded amount, less what earlier invoices of the period billed of it.

    The lines `overage` and `minimum`, which the price book's commitment makes, have no line item. `discount` is the
    line's part of the price book's maximum and the coupons, `credit` of the credit grants, `tax` of the taxes that are
    added."""

    line_item: str | None
    charge: str
    dimensions: dict[str, str | None]
    quantity: str
    description: str
    amount: str
    discount: str = "0"
    credit: str = "0"
    tax: str = "0"


class AppliedCoupon(msgspec.Struct, frozen=True, kw_only=True):
    """What one coupon took off an invoice; below nought: gave back."""

    coupon: str
    amount: str


class AppliedCredit(msgspec.Struct, frozen=True, kw_only=True):
    """What one credit grant paid of an invoice; below nought: got back."""

    grant: str
    amount: str


class TaxLine(msgspec.Struct, frozen=True, kw_only=True):
    """What one tax comes to. `base` is what it is raised on, without the tax itself; `rate` is a share.

    One that is `inclusive` lies in the prices already, and is no part of the invoice's `taxes`."""

    name: str
    rate: str
    inclusive: bool
    base: str
    amount: str


InvoiceKind = Literal["threshold", "period", "correction"]
InvoiceStatus = Literal["draft", "issued", "paid", "void"]


class Invoice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`total = subtotal + minimum - discounts - credits + taxes`; the invoices of a period sum to the period.

    `subtotal` is the sum of the charge lines and of `overage`; the true-up of a commitment is the line with the charge
    `minimum` and stands in `minimum`. `discounts` is what the price book's maximum and the coupons took off, `credits`
    what grants paid, `taxes` what is added; the lists say it one by one, and are left out where they are empty."""

    id: str
    revision: int
    kind: InvoiceKind
    status: InvoiceStatus
    tenant: str
    customer: str
    subscription: str
    currency: str
    period: Span
    lines: list[InvoiceLine]
    subtotal: str
    minimum: str
    discounts: str
    credits: str
    taxes: str
    total: str
    because: Because | None
    applied_coupons: list[AppliedCoupon] = []
    applied_credits: list[AppliedCredit] = []
    tax_lines: list[TaxLine] = []


AlertKind = Literal["threshold", "budget", "low_balance"]


class Alert(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A level that was reached, once each. `spend` is the exact sum of the period's charges at that moment, `invoice`
    the one that was made of it. Where a balance is low, `grant` says whose."""

    id: str
    kind: AlertKind
    tenant: str
    customer: str
    subscription: str
    currency: str
    period: Span
    spend: str
    because: Because
    invoice: str | None
    grant: str | None = None


class ReconciliationAlert(msgspec.Struct, frozen=True, kw_only=True):
    """The engine's own totals differ from what it has counted: on `taximeter.alerts`, beside the customers' alerts.

    `what` names the comparison, `expected` is what the totals say that were carried with the position, `found` what
    stands elsewhere in the state. From `position` on what the partition says may be wrong: nothing was repaired."""

    id: str
    kind: Literal["reconciliation"]
    partition: int
    position: int
    what: str
    expected: str
    found: str
    message: str


class _Kinded(msgspec.Struct):
    kind: str


_KIND = msgspec.json.Decoder(_Kinded)
_ALERT, _RECONCILIATION = msgspec.json.Decoder(Alert), msgspec.json.Decoder(ReconciliationAlert)


def decode_alert(value: bytes) -> Alert | ReconciliationAlert:
    """A record of `taximeter.alerts`: of a customer, or of the engine itself. Raises: msgspec.MsgspecError."""
    kind = _KIND.decode(value).kind
    return _RECONCILIATION.decode(value) if kind == "reconciliation" else _ALERT.decode(value)
