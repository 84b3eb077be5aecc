"""Accounts: what a customer's invoices have used of its coupons and credit grants. Amounts are scaled.

Owns what is left of a grant, which coupons still hold for a bill, and which balance has been found low. The documents
say what was given; an account holds only what was used, so a document with a higher amount is a top-up:

    balance of a grant = its amount - what was drawn - what has lapsed

A *bill* is one billing period of one subscription; both are known here by their numbers in the state.
"""

from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rating.settle import CouponLeft, Drawn, GrantLeft, InvoiceTerms, Line, Settled, TaxRounding, settle
from rating.terms import ONCE, CouponTerms, CustomerTerms, GrantTerms
from schemas.currency import Rounding


class Draft(NamedTuple):
    """An invoice before it is settled. `cap` as in `rating.settle`.

    Its closing time is the period's end or, at a level, the time of the event (or tick) that crossed it.
    """

    subscription: int
    bill: int
    closing: int
    lines: Sequence[Line]
    currency: str
    rounding: Rounding = "half_up"
    tax_rounding: TaxRounding = "per_invoice"
    cap: int = 0


@dataclass(slots=True)
class GrantUse:
    """What has become of one grant. `lapsed`: what a `rollover` has let go."""

    drawn: int = 0
    lapsed: int = 0
    currency: str | None = None
    """For a grant without a currency of its own: that of the first invoice that drew on it."""
    warned: int | None = None
    """The grant's amount when its balance was found low: a top-up may be found low again."""


@dataclass(slots=True)
class Account:
    """One customer's."""

    grants: dict[str, GrantUse] = field(default_factory=dict)
    coupons: dict[str, dict[int, dict[int, int]]] = field(default_factory=dict)
    """Coupon -> subscription -> bill that it held for -> what it took off it."""
    draws: dict[int, list[tuple[str, int]]] = field(default_factory=dict)
    """Bill -> what it has drawn and not given back, in order: (grant, amount)."""

    # What is left ----------------------------------------------------------------------------------------------------

    def balance(self, grant: GrantTerms) -> int:
        """What is left of a grant, in force or not."""
        use = self.grants.get(grant.id)
        return grant.amount if use is None else max(0, grant.amount - use.drawn - use.lapsed)

    def terms(self, customer: CustomerTerms, draft: Draft) -> InvoiceTerms:
        """What a draft is settled by: the coupons that hold for its bill, the grants with a balance in its currency."""
        return InvoiceTerms(
            currency=draft.currency,
            rounding=draft.rounding,
            tax_rounding=draft.tax_rounding,
            cap=draft.cap,
            coupons=tuple(self._coupons_left(customer.coupons, draft)),
            grants=tuple(self._grants_left(customer.grants, draft)),
            drawn=tuple(self._drawn(customer.grants, draft.bill)),
        )

    def _coupons_left(self, coupons: Iterable[CouponTerms], draft: Draft) -> Iterator[CouponLeft]:
        for coupon in coupons:
            uses = self.coupons.get(coupon.id, {})
            bills = uses.get(draft.subscription, {})
            held = draft.bill in bills
            if not held and coupon.periods is not None:
                many = sum(map(len, uses.values())) if coupon.periods == ONCE else len(bills)
                if many >= max(coupon.periods, 1):
                    continue
            left = None if coupon.amount is None else max(0, coupon.amount - bills.get(draft.bill, 0))
            yield CouponLeft(coupon.id, coupon.percent, left, held)

    def _grants_left(self, grants: Iterable[GrantTerms], draft: Draft) -> Iterator[GrantLeft]:
        for grant in grants:
            use = self.grants.get(grant.id)
            currency = grant.currency or (use.currency if use else None)
            balance = self.balance(grant)
            if balance and currency in (None, draft.currency):
                yield GrantLeft(grant.id, balance, grant.charges, grant.in_force(draft.closing))

    def _drawn(self, grants: Iterable[GrantTerms], bill: int) -> Iterator[Drawn]:
        if bill in self.draws:
            charges = {grant.id: grant.charges for grant in grants}
            for id, amount in self.draws[bill]:
                yield Drawn(id, amount, charges.get(id, frozenset()))

    def balances(self, customer: CustomerTerms, drafts: Iterable[Draft]) -> dict[str, int]:
        """What would remain of each grant if these invoices were made now, in this order. Changes nothing."""
        after = deepcopy(self)
        for draft in drafts:
            after.issue(customer, draft)
        return {grant.id: after.balance(grant) for grant in customer.grants}

    # What happens to it ----------------------------------------------------------------------------------------------

    def issue(self, customer: CustomerTerms, draft: Draft) -> Settled:
        """Settles an invoice and takes note of what it uses."""
        terms = self.terms(customer, draft)
        settled = settle(draft.lines, terms)
        if settled.before_coupons > 0:
            self._use_coupons(terms.coupons, dict(settled.applied_coupons), draft)
        for id, amount in settled.applied_credits:
            self._use_grant(id, amount, draft)
        return settled

    def _use_coupons(self, coupons: Iterable[CouponLeft], taken: dict[str, int], draft: Draft) -> None:
        """A coupon has held for a bill that had something to take off, even if others left nothing of it."""
        for coupon in coupons:
            bills = self.coupons.setdefault(coupon.id, {}).setdefault(draft.subscription, {})
            bills[draft.bill] = bills.get(draft.bill, 0) + taken.get(coupon.id, 0)

    def _use_grant(self, id: str, amount: int, draft: Draft) -> None:
        use = self.grants.setdefault(id, GrantUse())
        use.drawn += amount
        use.currency = draft.currency
        draws = self.draws.setdefault(draft.bill, [])
        if amount > 0:
            draws.append((id, amount))
        else:
            _give_back(draws, id, -amount)
        if not draws:
            del self.draws[draft.bill]

    def roll_over(self, grants: Iterable[GrantTerms], end: int) -> None:
        """A billing period of the customer has ended and its invoice is made: of a grant with `rollover` that was in
        force before the end, no more than that is left."""
        for grant in grants:
            if grant.rollover is not None and grant.effective_from < end and self.balance(grant) > grant.rollover:
                self.grants.setdefault(grant.id, GrantUse()).lapsed += self.balance(grant) - grant.rollover

    def low_balances(self, grants: Iterable[GrantTerms], closing: int) -> list[tuple[GrantTerms, int]]:
        """The grants in force whose balance has fallen to their `low_balance`: (grant, balance). Each is told once,
        and once again after a top-up."""
        found: list[tuple[GrantTerms, int]] = []
        for grant in grants:
            use = self.grants.get(grant.id)
            if grant.low_balance is None or use is None or not grant.in_force(closing):
                continue
            balance = self.balance(grant)
            if (use.drawn or use.lapsed) and balance <= grant.low_balance and use.warned != grant.amount:
                use.warned = grant.amount
                found.append((grant, balance))
        return found

    # Elsewhere -------------------------------------------------------------------------------------------------------

    def dump(self) -> list[Any]:
        """Plain values for a snapshot: lists, texts and whole numbers. Amounts are texts, for they may be long."""
        return [
            [[id, *_dump_use(use)] for id, use in self.grants.items()],
            [
                [id, subscription, bill, str(amount)]
                for id, uses in self.coupons.items()
                for subscription, bills in uses.items()
                for bill, amount in bills.items()
            ],
            [[bill, id, str(amount)] for bill, draws in self.draws.items() for id, amount in draws],
        ]

    @classmethod
    def load(cls, dumped: list[Any]) -> "Account":
        """What `dump` gave."""
        grants, coupons, draws = dumped
        account = cls({id: _load_use(*use) for id, *use in grants})
        for id, subscription, bill, amount in coupons:
            account.coupons.setdefault(id, {}).setdefault(subscription, {})[bill] = int(amount)
        for bill, id, amount in draws:
            account.draws.setdefault(bill, []).append((id, int(amount)))
        return account


def _give_back(draws: list[tuple[str, int]], id: str, amount: int) -> None:
    """Takes an amount off the draws on a grant, the last one first."""
    for at in range(len(draws) - 1, -1, -1):
        grant, drawn = draws[at]
        if grant == id and amount:
            back = min(drawn, amount)
            amount -= back
            draws[at] = (grant, drawn - back)
    draws[:] = [draw for draw in draws if draw[1]]


def _dump_use(use: GrantUse) -> list[Any]:
    return [str(use.drawn), str(use.lapsed), use.currency, None if use.warned is None else str(use.warned)]


def _load_use(drawn: str, lapsed: str, currency: str | None, warned: str | None) -> GrantUse:
    return GrantUse(int(drawn), int(lapsed), currency, None if warned is None else int(warned))


class Accounts:
    """The accounts of a partition's customers, by the customer's number. One that was never used is not kept."""

    def __init__(self, known: dict[int, Account] | None = None) -> None:
        self.known = known or {}

    def of(self, customer: int) -> Account:
        """A customer's account, to look at; `change` for one that is kept."""
        return self.known.get(customer) or Account()

    def change(self, customer: int) -> Account:
        """A customer's account, to be changed."""
        return self.known.setdefault(customer, Account())

    def dump(self) -> list[Any]:
        """Plain values for a snapshot."""
        return [[customer, account.dump()] for customer, account in self.known.items()]

    @classmethod
    def load(cls, dumped: list[Any]) -> "Accounts":
        """What `dump` gave."""
        return cls({customer: Account.load(account) for customer, account in dumped})
