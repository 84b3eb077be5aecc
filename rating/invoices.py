"""Invoice, second half: what is due on a bill becomes an invoice; a level that was crossed becomes an alert.

Owns the form of invoices and alerts, and what an invoice holds beside its charge lines. When one is made is decided in
`rating.billing`. Every invoice bills what its lines have come to, rounded, less what was billed of them before: so the
invoices of a period sum to the period, to the cent.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from rating.compiled import Plan, Rate
from rating.exact import int_of, wide_of
from rating.state import State
from schemas import topics
from schemas.currency import round_to_minor
from schemas.identity import output_id
from schemas.numbers import divide_half_up, format_scaled
from schemas.output import Alert, Because, Invoice, InvoiceKind, InvoiceLine, Span
from streams.processor import Output


class Naming(Protocol):
    """What bills and lines are called outside."""

    def who(self, bill: int) -> tuple[Plan, str, str, str]:
        """(plan, tenant, customer, subscription) of a bill."""

    def span(self, bill: int) -> Span:
        """The period of a bill."""

    def period(self, head: int) -> Span:
        """The whole billed period."""

    def dimensions(self, line: int) -> dict[str, str | None]:
        """The `group_by` values of a line, by name."""

    def line_id(self, line: int) -> str:
        """The identity of a line item."""


class Invoicer:
    """Makes invoices and alerts out of a partition's state, into `outputs`."""

    def __init__(self, state: State, naming: Naming) -> None:
        self.state = state
        self.naming = naming
        self.outputs: list[Output] = []
        self.invoices = 0
        self.alerts = 0

    def alert(self, bill: int, kind: str, spend: int, because: Because, invoice: str | None) -> None:
        """Says that the period has reached a level."""
        plan, tenant, customer, subscription = self.naming.who(bill)
        span = self.naming.period(bill)
        alert = Alert(
            id=output_id("al", tenant, customer, subscription, span.start, kind, because.threshold, because.level),
            kind=kind,  # type: ignore[arg-type]
            tenant=tenant,
            customer=customer,
            subscription=subscription,
            currency=plan.currency,
            period=span,
            spend=format_scaled(spend),
            because=because,
            invoice=invoice,
        )
        self.alerts += 1
        self.outputs.append(Output(topics.ALERTS, alert.id.encode(), msgspec.json.encode(alert)))

    def invoice(
        self, bill: int, kind: InvoiceKind, because: Because | None = None, earlier: Sequence[int] = ()
    ) -> str | None:
        """Bills what has not been billed yet, at the period's end the commitment too. Returns the invoice's id."""
        state = self.state
        _, tenant, customer, subscription = self.naming.who(bill)
        plan = state.terms_of(bill)
        minimum = self._commitment(bill, plan) if kind == "period" else None
        rates = state.catalogue.rates
        lines: list[tuple[Any, InvoiceLine]] = []
        subtotal = total_so_far = 0
        for line in [line for head in (*earlier, bill) for line in state.period_lines(head)]:
            rounded = round_to_minor(int_of(state.lines["amount"][line]), plan.currency, plan.rounding)
            total_so_far += rounded
            due = rounded - int_of(state.lines["billed"][line])
            if not due:
                continue
            state.lines["billed"][line] = wide_of(rounded)
            subtotal += due
            charge = state.charges.values[state.lines["charge"][line]]
            rate = int(state.lines["rate"][line])
            order, description = _describe(plan, charge, None if rate < 0 else rates[rate])
            dimensions = self.naming.dimensions(line)
            shown = InvoiceLine(
                line_item=self.naming.line_id(line),
                charge=charge,
                dimensions=dimensions,
                quantity=format_scaled(int_of(state.lines["quantity"][line])),
                description=description,
                amount=format_scaled(due),
            )
            lines.append(((order, charge, [(v is not None, v or "") for v in dimensions.values()]), shown))
        lines.sort(key=lambda item: item[0])
        shown_lines = [shown for _, shown in lines]
        true_up = 0
        if minimum is not None and minimum > total_so_far:
            true_up = minimum - total_so_far
            shown_lines.append(
                InvoiceLine(
                    line_item=None,
                    charge="minimum",
                    dimensions={},
                    quantity="1",
                    description=f"minimum of {format_scaled(minimum)} {plan.currency} per period",
                    amount=format_scaled(true_up),
                )
            )
        if not shown_lines:
            return None
        span = self.naming.period(bill)
        level = str(state.bills["invoices"][bill]) if kind == "correction" else "" if because is None else because.level
        state.bills["invoices"][bill] += 1
        invoice = Invoice(
            id=output_id("inv", tenant, customer, subscription, span.start, kind, level),
            revision=1,
            kind=kind,
            status="issued",
            tenant=tenant,
            customer=customer,
            subscription=subscription,
            currency=plan.currency,
            period=span,
            lines=shown_lines,
            subtotal=format_scaled(subtotal),
            minimum=format_scaled(true_up),
            discounts="0",
            credits="0",
            taxes="0",
            total=format_scaled(subtotal + true_up),
            because=because,
        )
        self.invoices += 1
        self.outputs.append(Output(topics.INVOICES, invoice.id.encode(), msgspec.json.encode(invoice)))
        return invoice.id

    def _commitment(self, bill: int, plan: Plan) -> int | None:
        if plan.minimum is None or not plan.minimum.true_up:
            return None
        amount = plan.minimum.amount
        if plan.minimum.prorate:
            length = int(self.state.bills["until"][bill] - self.state.bills["start"][bill])
            amount = divide_half_up(amount * length, int(self.state.bills["whole"][bill]))
        return round_to_minor(amount, plan.currency, plan.rounding)


def _describe(plan: Plan, charge: str, rate: Rate | None) -> tuple[int, str]:
    if rate is not None:
        return rate.order, rate.description
    for flat in plan.flats:
        if flat.charge == charge:
            return flat.order, flat.description
    return len(plan.rates) + len(plan.flats), charge
