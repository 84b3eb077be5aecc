"""Invoice, second half: what is due on a bill becomes an invoice; a level that was reached becomes an alert.

Owns the form of invoices and alerts. When an invoice is made is decided in `rating.billing`, which lines it has in
`rating.due`, and what comes off them and on top in `rating.settle`, by what `rating.accounts` has left.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from rating.due import Due, DueLine, customer_of, find_due, make_draft, take_note
from rating.exact import int_of
from rating.naming import Naming
from rating.settle import Settled, SettledLine
from rating.state import State
from rating.terms import GrantTerms
from schemas import topics
from schemas.identity import output_id
from schemas.numbers import format_scaled
from schemas.output import (
    Alert,
    AlertKind,
    AppliedCoupon,
    AppliedCredit,
    Because,
    Invoice,
    InvoiceKind,
    InvoiceLine,
    TaxLine,
)
from streams.processor import Output


class Invoicer:
    """Makes invoices and alerts out of a partition's state, into `outputs`."""

    def __init__(self, state: State, naming: Naming) -> None:
        self.state = state
        self.naming = naming
        self.outputs: list[Output] = []
        self.invoices = 0
        self.alerts = 0

    # Alerts ------------------------------------------------------------------------------------------------------

    def alert(self, head: int, kind: AlertKind, spend: int, because: Because, invoice: str | None) -> None:
        """Says that the period has reached a level."""
        self._alert(head, kind, spend, because, invoice, [because.threshold, because.level])

    def _low_balance(
        self, head: int, grant: GrantTerms, balance: int, because: Because | None, made: str | None
    ) -> None:
        """Says that little is left of a grant. It is told again after a top-up: so the invoice is in its identity."""
        least = format_scaled(grant.low_balance or 0)
        event, tick = (None, None) if because is None else (because.event, because.tick)
        because = Because(least, format_scaled(balance), event, tick)
        spend = int_of(self.state.bills["spend"][head])
        self._alert(head, "low_balance", spend, because, made, [grant.id, made or ""], grant.id)

    def _alert(
        self,
        head: int,
        kind: AlertKind,
        spend: int,
        because: Because,
        invoice: str | None,
        level: list[str],
        grant: str | None = None,
    ) -> None:
        plan, tenant, customer, subscription = self.naming.who(head)
        span = self.naming.period(head)
        alert = Alert(
            id=output_id("al", tenant, customer, subscription, span.start, kind, *level),
            kind=kind,
            tenant=tenant,
            customer=customer,
            subscription=subscription,
            currency=plan.currency,
            period=span,
            spend=format_scaled(spend),
            because=because,
            invoice=invoice,
            grant=grant,
        )
        self.alerts += 1
        self.outputs.append(Output(topics.ALERTS, alert.id.encode(), msgspec.json.encode(alert)))

    # Invoices ----------------------------------------------------------------------------------------------------

    def invoice(
        self,
        head: int,
        kind: InvoiceKind,
        because: Because | None = None,
        earlier: Sequence[int] = (),
        at: int | None = None,
    ) -> str | None:
        """Bills what has not been billed yet. Returns the invoice's id, None where nothing is due.

        `earlier`: closed periods whose corrections join this invoice. `at`: its closing time, by default the period's
        end. After the period's own invoice, credits that do not roll over lapse."""
        state = self.state
        end = int(state.bills["until"][head])
        closing = end if at is None else at
        older = sorted(earlier, key=lambda other: int(state.bills["start"][other]))
        dues = [due for due in (find_due(state, other) for other in (head, *older)) if due.lines]
        made = self._issue(head, kind, because, dues, closing) if dues else None
        number, terms = customer_of(state, head)
        if terms.grants:
            account = state.accounts.change(number)
            if kind == "period":
                account.roll_over(terms.grants, end)
            for grant, balance in account.low_balances(terms.grants, closing):
                self._low_balance(head, grant, balance, because, made)
        return made

    def _issue(self, head: int, kind: InvoiceKind, because: Because | None, dues: list[Due], closing: int) -> str:
        state = self.state
        number, terms = customer_of(state, head)
        account = state.accounts.change(number) if terms.coupons or terms.grants else state.accounts.of(number)
        draft = make_draft(state, head, dues, closing)
        settled = account.issue(terms, draft)
        for due in dues:
            take_note(state, due)
        lines = [line for due in dues for line in due.lines]
        true_up = sum(line.amount for line in draft.lines if not line.charged)
        _, tenant, customer, subscription = self.naming.who(head)
        span = self.naming.period(head)
        row = state.invoiced_of(head)
        invoices = state.invoiced["invoices"]
        level = str(invoices[row]) if kind == "correction" else "" if because is None else because.level
        invoices[row] += 1
        invoice = Invoice(
            id=output_id("inv", tenant, customer, subscription, span.start, kind, level),
            revision=1,
            kind=kind,
            status="issued",
            tenant=tenant,
            customer=customer,
            subscription=subscription,
            currency=draft.currency,
            period=span,
            lines=[self._line(line, parts) for line, parts in zip(lines, settled.lines, strict=True)],
            subtotal=format_scaled(sum(line.amount for line in lines) - true_up),
            minimum=format_scaled(true_up),
            discounts=format_scaled(settled.discounts),
            credits=format_scaled(settled.credits),
            taxes=format_scaled(settled.taxes),
            total=format_scaled(settled.total),
            because=because,
            **_lists(settled),
        )
        self.invoices += 1
        self.outputs.append(Output(topics.INVOICES, invoice.id.encode(), msgspec.json.encode(invoice)))
        return invoice.id

    def _line(self, due: DueLine, parts: SettledLine) -> InvoiceLine:
        own = due.line < 0
        return InvoiceLine(
            line_item=None if own else self.naming.line_id(due.line),
            charge=due.charge,
            dimensions={} if own else self.naming.dimensions(due.line),
            quantity="1" if own else format_scaled(int_of(self.state.lines["quantity"][due.line])),
            description=due.description,
            amount=format_scaled(due.amount),
            discount=format_scaled(parts.discount),
            credit=format_scaled(parts.credit),
            tax=format_scaled(parts.tax),
        )


def _lists(settled: Settled) -> dict[str, list[Any]]:
    """What came off and on top, one by one."""
    return {
        "applied_coupons": [AppliedCoupon(coupon=id, amount=format_scaled(n)) for id, n in settled.applied_coupons],
        "applied_credits": [AppliedCredit(grant=id, amount=format_scaled(n)) for id, n in settled.applied_credits],
        "tax_lines": [
            TaxLine(
                name=tax.name,
                rate=format_scaled(tax.rate),
                inclusive=tax.inclusive,
                base=format_scaled(tax.base),
                amount=format_scaled(tax.amount),
            )
            for tax in settled.tax_lines
        ],
    }
