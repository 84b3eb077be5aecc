"""Due: what a billing period has come to beyond what was billed of it, and the draft of an invoice of that.

Owns the lines of an invoice before anything comes off: the rounded charges less what earlier invoices billed of them;
from the close on `overage` (what is above the commitment, multiplied) and `minimum` (what is missing to it); and what
the price book's maximum takes off. All of them are worked out for the whole period and billed as differences, so the
invoices of a period sum to the period. Reading is apart from noting (`take_note`): a query asks without billing.
"""

from collections.abc import Sequence
from typing import NamedTuple

from rating.accounts import Draft
from rating.compiled import Plan
from rating.exact import int_of, wide_of
from rating.settle import Line, TaxRate
from rating.state import State
from rating.terms import MINIMUM, NO_TERMS, OVERAGE, CustomerTerms
from schemas.currency import round_quotient, round_to_minor
from schemas.numbers import ONE, divide_half_up, format_scaled

_BILLED = {OVERAGE: "overage_billed", MINIMUM: "minimum_billed"}
"""Which column of a period's head holds what was billed by a line that no charge makes."""


class DueLine(NamedTuple):
    """One line of an invoice. `line`: the state's, or -1 for `overage` and `minimum`. `taxes` None: the customer's."""

    line: int
    charge: str
    amount: int
    taxes: tuple[TaxRate, ...] | None
    description: str


class Due(NamedTuple):
    """What is due on one period. `cap`: what the maximum takes off beyond what it took off earlier invoices."""

    head: int
    lines: list[DueLine]
    cap: int


def find_due(state: State, head: int) -> Due:
    """What is due on a period now. Its terms are those of its last segment. Changes nothing."""
    plan = state.terms_of(head)
    lines, charges = _charge_lines(state, head, plan)
    commitment = _commitment(state, head, plan)
    overage = 0
    if commitment is not None and plan.overage_factor is not None:
        above = max(0, charges - commitment) * (plan.overage_factor - ONE)
        overage = round_quotient(above, ONE, plan.currency, plan.rounding)
    charges += overage
    most = charges if plan.maximum is None else round_to_minor(plan.maximum, plan.currency, plan.rounding)
    capped = max(0, charges - most)
    true_up = 0
    if commitment is not None and plan.minimum is not None and plan.minimum.true_up:
        true_up = max(0, commitment - (charges - capped))
    invoiced, row = state.invoiced, int(state.bills["invoiced"][head])
    for charge, amount in ((OVERAGE, overage), (MINIMUM, true_up)):
        due = amount - int_of(invoiced[_BILLED[charge]][row])
        if due:
            lines.append(DueLine(-1, charge, due, None, _describe_own(charge, plan, commitment)))
    return Due(head, lines, capped - int_of(invoiced["capped"][row]))


def _charge_lines(state: State, head: int, plan: Plan) -> tuple[list[DueLine], int]:
    """The period's charges: what is due of each, in the order of an invoice, and what all have come to."""
    rates, found, total = state.catalogue.rates, [], 0
    for place, bill in enumerate(state.segments(head)):
        flats = {flat.charge: flat for flat in state.plan_of(bill).flats}
        for line in state.lines_of(bill):
            rounded = round_to_minor(int_of(state.lines["amount"][line]), plan.currency, plan.rounding)
            total += rounded
            due = rounded - int_of(state.lines["billed"][line])
            if not due:
                continue
            charge = state.charges.values[state.lines["charge"][line]]
            number = int(state.lines["rate"][line])
            terms = rates[number] if number >= 0 else flats.get(charge)
            shown = DueLine(line, charge, due, *(terms.taxes, terms.description) if terms else (None, charge))
            group = [(value is not None, value or "") for value in state.combos.values[state.lines["combo"][line]]]
            found.append(((place, terms is None, terms.order if terms else 0, charge, group), shown))
    found.sort(key=lambda item: item[0])
    return [shown for _, shown in found], total


def _commitment(state: State, head: int, plan: Plan) -> int | None:
    """The least that a period comes to, rounded; None before its close, or where there is none."""
    return commitment_of(state, head, plan) if state.bills["closed"][head] else None


def commitment_of(state: State, head: int, plan: Plan) -> int | None:
    """The least that a period comes to at its close, rounded; None where the price book asks for none."""
    if plan.minimum is None:
        return None
    amount = plan.minimum.amount
    if plan.minimum.prorate:
        length = int(state.bills["until"][head] - state.bills["since"][head])
        amount = divide_half_up(amount * length, int(state.bills["whole"][head]))
    return round_to_minor(amount, plan.currency, plan.rounding)


def _describe_own(charge: str, plan: Plan, commitment: int | None) -> str:
    if commitment is None:
        return charge
    if charge == MINIMUM:
        return f"minimum of {format_scaled(commitment)} {plan.currency} per period"
    times = format_scaled(plan.overage_factor or ONE)
    return f"what is above {format_scaled(commitment)} {plan.currency}, times {times}"


def take_note(state: State, due: Due) -> None:
    """An invoice bills what is due."""
    row = state.invoiced_of(due.head)
    for line, charge, amount, _, _ in due.lines:
        table, column, slot = (state.invoiced, _BILLED[charge], row) if line < 0 else (state.lines, "billed", line)
        table[column][slot] = wide_of(int_of(table[column][slot]) + amount)
    state.invoiced["capped"][row] = wide_of(int_of(state.invoiced["capped"][row]) + due.cap)


# Drafts ---------------------------------------------------------------------------------------------------------------


def customer_of(state: State, head: int) -> tuple[int, CustomerTerms]:
    """Whose a period is: the number, and what holds for all its invoices."""
    number = int(state.subscriptions["customer"][state.bills["subscription"][head]])
    return number, state.catalogue.customer_terms.get(state.customers[number], NO_TERMS)


def make_draft(state: State, head: int, dues: Sequence[Due], closing: int) -> Draft:
    """The draft of a period's invoice over what is due on it, and on earlier periods that go with it."""
    plan = state.terms_of(head)
    _, terms = customer_of(state, head)
    return Draft(
        subscription=int(state.bills["subscription"][head]),
        bill=head,
        closing=closing,
        lines=[
            Line(line.charge, line.amount, terms.taxes if line.taxes is None else line.taxes, line.charge != MINIMUM)
            for due in dues
            for line in due.lines
        ],
        currency=plan.currency,
        rounding=plan.rounding,
        tax_rounding=plan.tax_rounding,
        cap=sum(due.cap for due in dues),
    )


def balances(state: State, customer: int) -> dict[str, int]:
    """What would remain of each of a customer's credit grants if it were invoiced now for its open periods and for what
    has changed in closed ones (scaled; commitments are due at the close, and not before). Changes nothing.
    """
    bills, size = state.bills, state.bills.size
    owner = state.subscriptions["customer"][bills["subscription"][:size]]
    heads = [head for head in (owner == customer).nonzero()[0].tolist() if bills["head"][head] == head]
    due_now = state.in_order(head for head in heads if not bills["closed"][head] or bills["touched"][head])
    now = max(state.clock, int(state.customer_newest[customer]))
    drafts = []
    for head in due_now:
        due = find_due(state, head)
        if due.lines:
            closing = int(bills["until"][head]) if bills["closed"][head] else now
            drafts.append(make_draft(state, head, [due], closing))
    terms = state.catalogue.customer_terms.get(state.customers[customer], NO_TERMS)
    return state.accounts.of(customer).balances(terms, drafts)
