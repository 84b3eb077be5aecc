"""What the queries answer: published forms. Decimals are shortest plain texts, times ISO 8601 in UTC."""

import msgspec

from schemas.output import Span


class ChargeSpend(msgspec.Struct, frozen=True, kw_only=True):
    """What one charge has come to over its line items, exactly."""

    subscription: str
    charge: str
    amount: str
    events: int
    line_items: int


class DimensionSpend(msgspec.Struct, frozen=True, kw_only=True):
    """What the line items with this value of a dimension have come to, exactly."""

    dimension: str
    value: str | None
    amount: str
    events: int


class Billed(msgspec.Struct, frozen=True, kw_only=True):
    """What invoices say, drafts and void ones left out: `subtotal` is the rounded charges billed so far, `total`
    what was asked for (commitments, discounts, credits and taxes included). The rest counts invoices by kind."""

    subtotal: str
    total: str
    threshold: int = 0
    period: int = 0
    correction: int = 0


class SubscriptionSpend(msgspec.Struct, frozen=True, kw_only=True):
    """One subscription's spend in one billing period. `thresholds`: how many levels were crossed."""

    subscription: str
    period: Span
    amount: str
    billed: Billed
    thresholds: int


class CurrencySpend(msgspec.Struct, frozen=True, kw_only=True):
    """All of a customer's spend in one currency: `total` is the exact sum of its line items' amounts."""

    currency: str
    total: str
    billed: Billed
    thresholds: int
    by_subscription: list[SubscriptionSpend]
    by_charge: list[ChargeSpend]
    by_dimension: list[DimensionSpend]


class Spend(msgspec.Struct, frozen=True, kw_only=True):
    """What a customer's usage has come to. `as_of`: the greatest event time in it, where there is any usage."""

    customer: str
    period: str
    currencies: list[CurrencySpend]
    as_of: str | None
