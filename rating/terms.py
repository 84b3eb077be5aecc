"""Terms: what documents say of an invoice beside its charges. Checked and compiled.

Owns taxes, coupons and credit grants, inline at a customer or documents of their own; and checks a price book's
maximum, overage and budget. `rating.catalogue` calls it and keeps what comes out; every fault is noted with its path.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple, TypeVar

from rating.settle import TaxRate
from schemas.catalogue import Budget, Catalogue, Coupon, CreditGrant, Customer, Minimum, Prices, Tax
from schemas.currency import MINOR_DIGITS
from schemas.faults import Faults, join, unknown
from schemas.limits import BUDGET_ALERTS_MAX, COUPONS_MAX, CREDIT_GRANTS_MAX, TAXES_MAX
from schemas.numbers import format_scaled, parse_scaled
from schemas.times import from_datetime

_Compiled = TypeVar("_Compiled")
OVERAGE = "overage"
MINIMUM = "minimum"
OWN_LINES = (OVERAGE, MINIMUM)
"""What the invoice lines are called that no charge makes: no charge may have these names."""
ALWAYS = -(2**62)
NEVER = 2**62


class CouponTerms(NamedTuple):
    """A coupon: `percent` (scaled, 10 % is 10) or `amount`, and how long it holds (`once`: 0; for ever: None)."""

    id: str
    percent: int | None
    amount: int | None
    periods: int | None


ONCE = 0
"""`CouponTerms.periods` of a coupon that holds for one bill of the customer in all."""


class GrantTerms(NamedTuple):
    """A credit grant. In force from `effective_from` until before `expires_at`."""

    id: str
    amount: int
    currency: str | None
    priority: int
    effective_from: int
    expires_at: int
    charges: frozenset[str]
    low_balance: int | None
    rollover: int | None

    def in_force(self, at: int) -> bool:
        """Whether it can be drawn on at this time."""
        return self.effective_from <= at < self.expires_at

    def turn(self) -> tuple[int, int, int, str]:
        """By what grants are drawn: the lower priority number, the sooner expiry, the older, the id."""
        return self.priority, self.expires_at, self.effective_from, self.id


@dataclass(frozen=True, slots=True)
class CustomerTerms:
    """What holds for all invoices of a customer: `coupons` in the order listed, `grants` in the order drawn."""

    taxes: tuple[TaxRate, ...] = ()
    coupons: tuple[CouponTerms, ...] = ()
    grants: tuple[GrantTerms, ...] = ()


NO_TERMS = CustomerTerms()


# Customers ------------------------------------------------------------------------------------------------------------


def compile_customers(documents: Catalogue, faults: Faults) -> dict[str, CustomerTerms]:
    """The terms of every customer that has any, by id. Also checks `coupons`, `credit_grants` and `tax_rates`."""
    rates = _tax_rates(documents, faults)
    coupons = _coupons(documents, faults)
    charges = _charges(documents)
    granted = _granted(documents, charges, faults)
    found: dict[str, CustomerTerms] = {}
    for name in dict.fromkeys([*documents.customers, *granted]):
        customer = documents.customers.get(name, Customer())
        where = join("customers", name)
        terms = CustomerTerms(
            taxes=compile_taxes(customer.taxes, rates, join(where, "taxes"), faults),
            coupons=_customer_coupons(customer, coupons, join(where, "coupons"), faults),
            grants=_customer_grants(name, customer, granted.get(name, {}), charges, where, faults),
        )
        if terms != NO_TERMS:
            found[name] = terms
    return found


def tax_rates(documents: Catalogue) -> dict[str, TaxRate]:
    """The documents of `tax_rates`, for the `taxes` of charges. Their faults are noted by `compile_customers`."""
    return _tax_rates(documents, Faults())


def compile_taxes(
    taxes: Sequence[Tax], rates: Mapping[str, TaxRate], where: str, faults: Faults
) -> tuple[TaxRate, ...]:
    """The taxes of a customer or a charge. `rates`: what `tax_rates` found."""
    _check_count(len(taxes), TAXES_MAX, where, faults)
    found: list[TaxRate] = []
    for i, tax in enumerate(taxes):
        at = join(where, i)
        before = len(faults)
        if tax.id is not None and tax.rate is None:
            rate = _referred(tax.id, rates, "tax rate", at, faults)
            if tax != Tax(id=tax.id):
                faults.add(at, f"found more than an id: the rest stands in tax_rates.{tax.id}")
        else:
            rate = _tax(tax, tax.id or "tax", at, faults)
        if rate is not None and rate in found:
            faults.add(at, f"found {rate.name!r} at the rate {format_scaled(rate.rate)} twice")
        if rate is not None and len(faults) == before:
            found.append(rate)
    return tuple(found)


def _tax_rates(documents: Catalogue, faults: Faults) -> dict[str, TaxRate]:
    found: dict[str, TaxRate] = {}
    for id, tax in documents.tax_rates.items():
        at = join("tax_rates", id)
        _check_own_id(tax.id, id, at, faults)
        rate = _tax(tax, id, at, faults)
        if rate is not None:
            found[id] = rate
    return found


def _tax(tax: Tax, name: str, at: str, faults: Faults) -> TaxRate | None:
    if tax.rate is None:
        faults.add(join(at, "rate"), "missing: a share such as 0.081, or the id of a document of tax_rates")
    elif not 0 <= tax.rate <= 1:
        faults.add(join(at, "rate"), f"found {tax.rate}, expected a share from 0 to 1 (8.1 % is 0.081)")
    else:
        return TaxRate(tax.name or name, parse_scaled(tax.rate), tax.inclusive)
    return None


# Coupons --------------------------------------------------------------------------------------------------------------


def _coupons(documents: Catalogue, faults: Faults) -> dict[str, CouponTerms]:
    found: dict[str, CouponTerms] = {}
    for id, coupon in documents.coupons.items():
        at = join("coupons", id)
        _check_own_id(coupon.id, id, at, faults)
        compiled = _coupon(coupon, id, at, faults)
        if compiled is not None:
            found[id] = compiled
    return found


def _customer_coupons(
    customer: Customer, coupons: Mapping[str, CouponTerms], where: str, faults: Faults
) -> tuple[CouponTerms, ...]:
    _check_count(len(customer.coupons), COUPONS_MAX, where, faults)
    found: dict[str, CouponTerms] = {}
    for i, coupon in enumerate(customer.coupons):
        at = join(where, i)
        if coupon.id is not None and coupon.percent is None and coupon.amount is None:
            compiled = _referred(coupon.id, coupons, "coupon", at, faults)
            if coupon.duration != "once":
                faults.add(join(at, "duration"), f"found beside an id alone: it stands in coupons.{coupon.id}")
        else:
            compiled = _coupon(coupon, coupon.id or f"coupon-{i + 1}", at, faults)
        if compiled is not None and compiled.id in found:
            faults.add(join(at, "id"), f"found {compiled.id!r} twice")
        elif compiled is not None:
            found[compiled.id] = compiled
    return tuple(found.values())


def _coupon(coupon: Coupon, id: str, at: str, faults: Faults) -> CouponTerms | None:
    if (coupon.percent is None) == (coupon.amount is None):
        faults.add(at, "expected percent or amount, and one of them only")
    elif coupon.percent is not None and not 0 < coupon.percent <= 100:
        faults.add(join(at, "percent"), f"found {coupon.percent}, expected more than 0 and at most 100")
    elif coupon.amount is not None and coupon.amount <= 0:
        faults.add(join(at, "amount"), f"found {coupon.amount}, expected more than nought")
    else:
        periods = ONCE if coupon.duration == "once" else None if coupon.duration == "forever" else coupon.duration
        return CouponTerms(id, _scaled(coupon.percent), _scaled(coupon.amount), periods)
    return None


# Credit grants --------------------------------------------------------------------------------------------------------


def _charges(documents: Catalogue) -> list[str]:
    """What a grant may pay for: every charge of every price book, and what their terms add to them."""
    bodies = [body for book in documents.price_books.values() for body in book.bodies() if body.charges]
    return list(dict.fromkeys([*(name for body in bodies for name in body.charges), *OWN_LINES])) if bodies else []


def _granted(documents: Catalogue, charges: Sequence[str], faults: Faults) -> dict[str, dict[str, GrantTerms]]:
    """The grants that are documents of their own, by customer and id."""
    found: dict[str, dict[str, GrantTerms]] = {}
    for id, grant in documents.credit_grants.items():
        at = join("credit_grants", id)
        _check_own_id(grant.id, id, at, faults)
        if grant.customer is None:
            faults.add(join(at, "customer"), "missing: whose it is")
        compiled = _grant(grant, id, charges, at, faults)
        if compiled is not None and grant.customer is not None:
            found.setdefault(grant.customer, {})[id] = compiled
    return found


def _customer_grants(
    name: str,
    customer: Customer,
    granted: Mapping[str, GrantTerms],
    charges: Sequence[str],
    where: str,
    faults: Faults,
) -> tuple[GrantTerms, ...]:
    _check_count(len(customer.credit_grants) + len(granted), CREDIT_GRANTS_MAX, join(where, "credit_grants"), faults)
    found = dict(granted)
    for i, grant in enumerate(customer.credit_grants):
        at = join(join(where, "credit_grants"), i)
        if grant.customer not in (None, name):
            faults.add(join(at, "customer"), f"found {grant.customer!r}, expected none or {name!r}, where it stands")
        compiled = _grant(grant, grant.id or f"grant-{i + 1}", charges, at, faults)
        if compiled is not None and compiled.id in found:
            faults.add(join(at, "id"), f"found {compiled.id!r} twice")
        elif compiled is not None:
            found[compiled.id] = compiled
    return tuple(sorted(found.values(), key=GrantTerms.turn))


def _grant(grant: CreditGrant, id: str, charges: Sequence[str], at: str, faults: Faults) -> GrantTerms | None:
    before = len(faults)
    for i, name in enumerate(grant.charges):
        if charges and name not in charges:
            faults.add(join(join(at, "charges"), i), f"no such charge: {unknown(name, list(charges))}")
    for key in ("amount", "low_balance", "rollover"):
        _check_not_negative(getattr(grant, key), join(at, key), faults)
    if grant.currency is not None and grant.currency not in MINOR_DIGITS:
        faults.add(join(at, "currency"), f"found {grant.currency!r}, expected an ISO 4217 code such as USD")
    start = ALWAYS if grant.effective_from is None else from_datetime(grant.effective_from)
    end = NEVER if grant.expires_at is None else from_datetime(grant.expires_at)
    if end <= start:
        faults.add(join(at, "expires_at"), f"found {grant.expires_at}, expected a time after {grant.effective_from}")
    if len(faults) > before:
        return None
    return GrantTerms(
        id=id,
        amount=parse_scaled(grant.amount),
        currency=grant.currency,
        priority=grant.priority,
        effective_from=start,
        expires_at=end,
        charges=frozenset(grant.charges),
        low_balance=_scaled(grant.low_balance),
        rollover=_scaled(grant.rollover),
    )


# Price books ----------------------------------------------------------------------------------------------------------


def check_book(prices: Prices, where: str, faults: Faults) -> None:
    """Notes what is wrong with what one body of prices (overrides included) says of its invoices."""
    _check_not_negative(prices.maximum, join(where, "maximum"), faults)
    _check_not_negative(prices.overage_factor, join(where, "overage_factor"), faults)
    least = prices.minimum.amount if isinstance(prices.minimum, Minimum) else prices.minimum
    if prices.overage_factor is not None and least is None:
        faults.add(join(where, "overage_factor"), "multiplies what is above `minimum`, which is missing")
    if prices.maximum is not None and least is not None and least > prices.maximum:
        faults.add(join(where, "maximum"), f"found {prices.maximum}, expected at least the minimum {least}")
    if prices.budget is not None:
        _check_budget(prices.budget, join(where, "budget"), faults)


def _check_budget(budget: Budget, where: str, faults: Faults) -> None:
    if budget.amount <= 0:
        faults.add(join(where, "amount"), f"found {budget.amount}, expected more than nought")
    _check_count(len(budget.alerts), BUDGET_ALERTS_MAX, join(where, "alerts"), faults)
    for i, share in enumerate(budget.alerts):
        at = join(join(where, "alerts"), i)
        if share <= 0:
            faults.add(at, f"found {share}, expected a percentage above nought")
        if share in budget.alerts[:i]:
            faults.add(at, f"found {share} twice")


# What documents share -------------------------------------------------------------------------------------------------


def _scaled(value: Decimal | None) -> int | None:
    return None if value is None else parse_scaled(value)


def _referred(id: str, known: Mapping[str, _Compiled], what: str, at: str, faults: Faults) -> _Compiled | None:
    if id not in known:
        faults.add(join(at, "id"), f"no such {what}: {unknown(id, list(known))}")
    return known.get(id)


def _check_own_id(found: str | None, id: str, at: str, faults: Faults) -> None:
    if found not in (None, id):
        faults.add(join(at, "id"), f"found {found!r}, expected none or {id!r}, under which it stands")


def _check_count(found: int, most: int, where: str, faults: Faults) -> None:
    if found > most:
        faults.add(where, f"found {found}, expected at most {most}")


def _check_not_negative(value: Decimal | None, at: str, faults: Faults) -> None:
    if value is not None and value < 0:
        faults.add(at, f"found {value}, expected nought or more")
