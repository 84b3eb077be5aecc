"""The bill as it would be: the invoices that the engine would make of what is open, if no further usage came.

Owns going on in time on a copy of the engine's state. Two closings:

- `end`: the clock goes on to each period's end, as it will. Levels of gauges hold on, commitments fall due, later
  periods of other subscriptions are closed in their turn (and draw on the same credits): to the cent the invoices that
  will be made if nothing more is sent.
- `now`: each open period is closed where the clock stands. Gauges are integrated so far; a grant counts if it is in
  force now.
"""

from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from rating.billing import Biller
from rating.retell.periods import heads_of, next_due, open_heads
from rating.retell.retold import Retold, Said
from schemas.numbers import format_scaled, parse_scaled
from schemas.output import Invoice
from schemas.times import format_time

Closing = Literal["end", "now"]
CLOSINGS: Final = ("end", "now")
STEPS_MAX: Final = 4_000
"""How often the clock may be moved on for one bill."""

_Period = tuple[str, str]
"""The subscription and the beginning of its period."""


class TooManySteps(ValueError):
    """A bill would look too far ahead."""


class IssuedInvoice(msgspec.Struct, frozen=True, kw_only=True):
    """An invoice of an open period that has been made already: its lines are taken off the draft's."""

    id: str
    kind: str
    total: str


class CurrencyBill(msgspec.Struct, frozen=True, kw_only=True):
    """What all drafts of one currency come to: `subtotal` and `total` are the sums of theirs, `issued` the total of the
    invoices that were made before for the same periods."""

    currency: str
    subtotal: str
    total: str
    issued: str


class Bill(msgspec.Struct, frozen=True, kw_only=True):
    """The drafts of a customer's open periods, by their ends. `now`: the time at which the engine's clock stands."""

    customer: str
    status: str
    closing: Closing
    now: str | None
    invoices: list[Invoice]
    issued: list[IssuedInvoice]
    currencies: list[CurrencyBill]


def draft_bill(retold: Retold, closing: Closing) -> Bill:
    """The bill of what a customer's engine holds. `retold` is not changed. Raises: TooManySteps."""
    state, number = retold.state, retold.number
    periods = {_period_of(retold, head) for head in open_heads(state, number)}
    drafts = [msgspec.structs.replace(invoice, status="draft") for invoice in draft_invoices(retold.copy(), closing)]
    issued = [one for one in retold.said.invoices if (one.subscription, one.period.start) in periods]
    return Bill(
        customer=retold.customer,
        status="draft",
        closing=closing,
        now=format_time(retold.now) if retold.now > 0 else None,
        invoices=drafts,
        issued=[IssuedInvoice(id=one.id, kind=one.kind, total=one.total) for one in issued],
        currencies=_currencies(drafts, issued),
    )


def draft_invoices(retold: Retold, closing: Closing) -> list[Invoice]:
    """The invoices that are still to be made of a customer's periods. Changes `retold`. Raises: TooManySteps."""
    if retold.number is None:
        return []
    periods = {_period_of(retold, head) for head in heads_of(retold.state, retold.number)}
    made = _close_now(retold) if closing == "now" else _close_in_time(retold)
    return [invoice for invoice in made if (invoice.subscription, invoice.period.start) in periods]


def _close_now(retold: Retold) -> list[Invoice]:
    state, number, now = retold.state, retold.number, retold.now
    biller = Biller(state)
    for head in heads_of(state, number):
        if state.bills["closed"][head] and state.bills["touched"][head]:
            biller.correct(head, -1)
    for head in open_heads(state, number):
        biller.close(head, -1, now)
    said = Said()
    said.take(biller.outputs)
    return said.invoices


def _close_in_time(retold: Retold) -> list[Invoice]:
    """The clock goes on, from one time at which something is due to the next, until what is open now is closed."""
    state, number, lateness = retold.state, retold.number, retold.settings.lateness
    assert number is not None
    bills = state.bills
    heads = heads_of(state, number)
    waiting = [head for head in heads if not bills["closed"][head]]
    touched = any(bills["closed"][head] and bills["touched"][head] for head in heads)
    made: list[Invoice] = []
    steps = 0
    while touched or not all(state.bills["closed"][head] for head in waiting):
        due = state.clock + 1 if touched else next_due(state, number, lateness)
        if due is None or steps >= STEPS_MAX:
            raise TooManySteps(
                f"the clock would be moved on more than {STEPS_MAX} times to the end of every open period"
            )
        made += retold.tick(max(due, state.clock + 1)).invoices
        touched, steps = False, steps + 1
    return made


def _period_of(retold: Retold, head: int) -> _Period:
    state = retold.state
    _, subscription, _, _ = state.name_of(head)
    return subscription, format_time(int(state.bills["since"][head]))


def _currencies(drafts: Iterable[Invoice], issued: Iterable[Invoice]) -> list[CurrencyBill]:
    sums: dict[str, list[int]] = {}
    for one in drafts:
        own = sums.setdefault(one.currency, [0, 0, 0])
        own[0] += parse_scaled(one.subtotal)
        own[1] += parse_scaled(one.total)
    for one in issued:
        sums.setdefault(one.currency, [0, 0, 0])[2] += parse_scaled(one.total)
    return [
        CurrencyBill(
            currency=currency, subtotal=format_scaled(own[0]), total=format_scaled(own[1]), issued=format_scaled(own[2])
        )
        for currency, own in sorted(sums.items())
    ]
