"""What is left: of credit grants, budgets, allowances, commitments, and up to the next threshold.

Everything is read from the engine's state, and nothing is changed. Amounts and units are exact decimals; a share is
rounded half up at the sixth digit after the point, and says so by its name alone: it is for people.
"""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from rating.accounts import Account
from rating.billing import level_key
from rating.compiled import TIME_MAX, TIME_MIN, Level, Plan, Rate
from rating.due import balances, commitment_of
from rating.exact import int_of
from rating.lines import earlier_segments, sibling
from rating.naming import Naming
from rating.retell.periods import LineNow, lines_of, open_heads, rate_of
from rating.retell.retold import Retold
from rating.state import State
from rating.terms import NO_TERMS, GrantTerms
from schemas.currency import round_to_minor
from schemas.numbers import ONE, divide_half_up, format_scaled
from schemas.output import Span
from schemas.times import format_time

SHARE_DIGITS: Final = 6


class CreditLeft(msgspec.Struct, frozen=True, kw_only=True):
    """One grant: `amount = drawn + lapsed + balance`. `remaining`: what would be left of the balance if all open
    periods were invoiced now. `currency` None: of the first invoice that draws on it."""

    grant: str
    currency: str | None
    amount: str
    drawn: str
    lapsed: str
    balance: str
    remaining: str
    priority: int
    charges: list[str]
    effective_from: str | None
    expires_at: str | None
    in_force: bool


class Crossed(msgspec.Struct, frozen=True, kw_only=True):
    """One share of a budget at which an alert is made."""

    share: str
    spend: str
    crossed: bool


class BudgetLeft(msgspec.Struct, frozen=True, kw_only=True):
    """A budget: `remaining = limit - spent`, below nought where it is overrun."""

    subscription: str
    period: Span
    currency: str
    limit: str
    spent: str
    remaining: str
    share: str | None
    alerts: list[Crossed]


class AllowanceLeft(msgspec.Struct, frozen=True, kw_only=True):
    """The free units of one charge, or of one line of it (`dimensions`): `used + remaining = free`."""

    subscription: str
    period: Span
    charge: str
    meter: str
    dimensions: dict[str, str | None]
    free: str
    used: str
    remaining: str


class CommitmentLeft(msgspec.Struct, frozen=True, kw_only=True):
    """The least that a period comes to: `charges` are the rounded charges so far, `remaining` is what they lack."""

    subscription: str
    period: Span
    currency: str
    commitment: str
    charges: str
    remaining: str
    reached: bool
    true_up: bool


class ThresholdNext(msgspec.Struct, frozen=True, kw_only=True):
    """The next level of spend at which an invoice is made; `next` None: there is none any more."""

    subscription: str
    period: Span
    currency: str
    spend: str
    crossed: int
    next: str | None
    remaining: str | None


class Remaining(msgspec.Struct, frozen=True, kw_only=True):
    """All of it, for the open periods of a customer."""

    customer: str
    now: str | None
    credits: list[CreditLeft]
    budgets: list[BudgetLeft]
    allowances: list[AllowanceLeft]
    commitments: list[CommitmentLeft]
    thresholds: list[ThresholdNext]


def remaining(retold: Retold) -> Remaining:
    """What is left of everything that a customer has or is bound to."""
    state, number = retold.state, retold.number
    heads = open_heads(state, number)
    return Remaining(
        customer=retold.customer,
        now=format_time(retold.now) if retold.now > 0 else None,
        credits=_credits(retold),
        budgets=[one for head in heads for one in _budgets(state, head)],
        allowances=[one for head in heads for one in _allowances(state, head)],
        commitments=[one for head in heads for one in _commitments(state, head)],
        thresholds=[one for head in heads for one in _thresholds(state, head)],
    )


def _credits(retold: Retold) -> list[CreditLeft]:
    """Every grant of a customer, in the order in which they are drawn."""
    state, number = retold.state, retold.number
    account = Account() if number is None else state.accounts.of(number)
    after = {} if number is None else balances(state, number)
    terms = state.catalogue.customer_terms.get(retold.customer, NO_TERMS)
    return [_credit(grant, account, after.get(grant.id, grant.amount), retold.now) for grant in terms.grants]


def _credit(grant: GrantTerms, account: Account, after: int, now: int) -> CreditLeft:
    use = account.grants.get(grant.id)
    return CreditLeft(
        grant=grant.id,
        currency=grant.currency or (use.currency if use else None),
        amount=format_scaled(grant.amount),
        drawn=format_scaled(use.drawn if use else 0),
        lapsed=format_scaled(use.lapsed if use else 0),
        balance=format_scaled(account.balance(grant)),
        remaining=format_scaled(after),
        priority=grant.priority,
        charges=sorted(grant.charges),
        effective_from=_time(grant.effective_from),
        expires_at=_time(grant.expires_at),
        in_force=grant.in_force(now),
    )


def _time(at: int) -> str | None:
    return format_time(at) if TIME_MIN < at < TIME_MAX and at >= 0 else None


def _named(state: State, head: int) -> tuple[Plan, str, Span]:
    naming = Naming(state)
    _, _, _, subscription = naming.who(head)
    return state.terms_of(head), subscription, naming.period(head)


def _budgets(state: State, head: int) -> Iterator[BudgetLeft]:
    plan, subscription, period = _named(state, head)
    levels = [level for level in plan.levels if level.kind == "budget"]
    spent = int_of(state.bills["spend"][head])
    for limit in dict.fromkeys(level.of for level in levels):
        own = sorted(level.spend for level in levels if level.of == limit)
        fired = state.fired.get(head, {})
        yield BudgetLeft(
            subscription=subscription,
            period=period,
            currency=plan.currency,
            limit=format_scaled(limit),
            spent=format_scaled(spent),
            remaining=format_scaled(limit - spent),
            share=share_of(spent, limit),
            alerts=[
                Crossed(
                    share=share_of(spend, limit) or "0",
                    spend=format_scaled(spend),
                    crossed=bool(fired.get(level_key(Level(spend, False, "budget", limit)))),
                )
                for spend in own
            ],
        )


def _allowances(state: State, head: int) -> Iterator[AllowanceLeft]:
    """The free units of each charge in the segment that is the period's last: of every line, or, where there is none
    yet, of the charge."""
    _, subscription, period = _named(state, head)
    bill = state.segments(head)[-1]
    lines: dict[str, list[LineNow]] = {}
    for line in lines_of(state, head):
        lines.setdefault(line.charge, []).append(line)
    for charge, index in state.plan_of(bill).rates.items():
        rate: Rate = state.catalogue.rates[index]
        if not rate.free_units:
            continue
        seen: set[tuple[Any, ...]] = set()
        for line in lines.get(charge, []):
            key = tuple(line.dimensions.items())
            if key not in seen and rate_of(state, line.line) is not None:
                seen.add(key)
                used = _used(state, bill, line.line)
                yield _allowance(subscription, period, rate, line.dimensions, used)
        if not seen:
            yield _allowance(subscription, period, rate, dict.fromkeys(rate.group_by), 0)


def _used(state: State, bill: int, line: int) -> int:
    """What a charge and group has used in a segment and those before it whose units stay used in it."""
    found = (sibling(state, line, other) for other in [*earlier_segments(state, bill), bill])
    return sum(int_of(state.lines["quantity"][one]) for one in found if one is not None)


def _allowance(
    subscription: str, period: Span, rate: Rate, dimensions: dict[str, str | None], quantity: int
) -> AllowanceLeft:
    used = min(max(quantity, 0), rate.free_units)
    return AllowanceLeft(
        subscription=subscription,
        period=period,
        charge=rate.charge,
        meter=rate.meter,
        dimensions=dimensions,
        free=format_scaled(rate.free_units),
        used=format_scaled(used),
        remaining=format_scaled(rate.free_units - used),
    )


def _commitments(state: State, head: int) -> Iterator[CommitmentLeft]:
    plan, subscription, period = _named(state, head)
    least = commitment_of(state, head, plan)
    if least is None or plan.minimum is None:
        return
    charges = sum(round_to_minor(line.amount, plan.currency, plan.rounding) for line in lines_of(state, head))
    yield CommitmentLeft(
        subscription=subscription,
        period=period,
        currency=plan.currency,
        commitment=format_scaled(least),
        charges=format_scaled(charges),
        remaining=format_scaled(max(0, least - charges)),
        reached=charges >= least,
        true_up=plan.minimum.true_up,
    )


def _thresholds(state: State, head: int) -> Iterator[ThresholdNext]:
    plan, subscription, period = _named(state, head)
    levels = [level for level in plan.levels if level.kind == "threshold"]
    if not levels:
        return
    fired = state.fired.get(head, {})
    crossed = [fired.get(level_key(level), 0) for level in levels]
    coming = [one.spend * (n + 1) for one, n in zip(levels, crossed, strict=True) if one.repeat or not n]
    spend, following = int_of(state.bills["spend"][head]), min(coming, default=None)
    yield ThresholdNext(
        subscription=subscription,
        period=period,
        currency=plan.currency,
        spend=format_scaled(spend),
        crossed=sum(crossed),
        next=None if following is None else format_scaled(following),
        remaining=None if following is None else format_scaled(following - spend),
    )


def share_of(part: int, whole: int) -> str | None:
    """A part of a whole as a decimal text, rounded half up at the sixth digit; None of nought."""
    if not whole:
        return None
    sign = -1 if whole < 0 else 1
    step = ONE // 10**SHARE_DIGITS
    return format_scaled(divide_half_up(part * 10**SHARE_DIGITS * sign, abs(whole)) * step)
