"""Invoice: bills are opened, levels are crossed, periods are closed. One bill is one subscription's billing period.

Owns what happens to a bill as a whole: the charges for the period itself, and when an invoice is made (at levels and at
the close). What an invoice holds is made in `rating.invoices`.
"""

import numpy as np
from numpy.typing import NDArray

from rating.compiled import TIME_MAX, FlatCharge, Plan, Rate
from rating.exact import int_of, wide_of
from rating.invoices import Invoicer
from rating.metering import bill_keys, find_lines
from rating.state import NO_LEVEL, State
from rating.table import Table
from schemas.identity import output_id
from schemas.limits import CROSSED_LEVELS_MAX
from schemas.numbers import ONE, check_scaled, divide_half_up, format_scaled
from schemas.output import Because, EventRef, Span
from schemas.times import format_time
from streams.processor import Output


class Biller:
    """Makes invoices and alerts out of a partition's state, into `outputs`; notes which lines changed."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.invoicer = Invoicer(state, self)
        self.changed: list[int] = []
        self.changed_columns: list[NDArray[np.int64]] = []
        self.amount_change = 0

    @property
    def outputs(self) -> list[Output]:
        """Invoices and alerts, in the order in which they were made."""
        return self.invoicer.outputs

    @property
    def invoices(self) -> int:
        """How many invoices were made."""
        return self.invoicer.invoices

    @property
    def alerts(self) -> int:
        """How many alerts were made."""
        return self.invoicer.alerts

    def changed_lines(self) -> NDArray[np.int64]:
        """The lines that changed, each once, rising."""
        return np.unique(np.concatenate([np.array(self.changed, dtype=np.int64), *self.changed_columns]))

    # Opening -----------------------------------------------------------------------------------------------------

    def open(self, bills: NDArray[np.int64]) -> None:
        """Bills that have just been made: charges in advance are due at once."""
        state = self.state
        subscription = state.bills["subscription"][bills]
        plans = state.subscriptions["plan"][subscription]
        for number in np.unique(plans).tolist():
            own = bills[plans == number]
            for flat in state.catalogue.plans[number].flats:
                if flat.in_advance:
                    self._charge_flat(own, flat, state.bills["opened"][own])
        names = state.subscription_names.values
        default = np.array([names[slot][3] is False for slot in subscription.tolist()], dtype=np.bool_)
        np.minimum.at(state.subscriptions["cursor"], subscription[default], state.bills["end"][bills[default]])

    def _charge_flat(self, bills: NDArray[np.int64], flat: FlatCharge, offset: NDArray[np.int64]) -> None:
        """Charges bills of one plan."""
        table = self.state.bills
        amounts = [flat.amount] * len(bills)
        if flat.prorate:
            lengths, wholes = (table["end"][bills] - table["start"][bills]).tolist(), table["whole"][bills].tolist()
            amounts = [divide_half_up(flat.amount * n, whole) for n, whole in zip(lengths, wholes, strict=True)]
        due = np.array([amount != 0 for amount in amounts], dtype=np.bool_)
        if due.any():
            self._due(bills[due], flat.charge, [amount for amount in amounts if amount], ONE, offset[due])

    def _due(
        self, bills: NDArray[np.int64], charge: str, amounts: list[int], quantity: int, offset: NDArray[np.int64]
    ) -> None:
        """Lines that no event makes, for bills of one plan: a flat charge, or usage of nought that is billed."""
        state = self.state
        rate = state.plan_of(int(bills[0])).rates.get(charge, -1)
        none = np.zeros(len(bills), np.int64)
        lines = find_lines(state, bills, state.charges.number(charge), none, none + rate)
        table = state.lines
        before = [int_of(wide) for wide in table["amount"][lines].tolist()]
        table["quantity"][lines] = wide_of(quantity)
        table["gross"][lines] = table["amount"][lines] = [wide_of(amount) for amount in amounts]
        table["revision"][lines] += 1
        table["through"][lines] = offset
        for bill, amount, held in zip(bills.tolist(), amounts, before, strict=True):
            self.change_spend(bill, amount - held)
        self.changed_columns.append(lines)

    def change_spend(self, bill: int, change: int) -> None:
        """Adds to the sum of a bill's charges."""
        spend = self.state.bills["spend"]
        spend[bill] = wide_of(int_of(spend[bill]) + change)
        self.amount_change += change

    def rerate_open(self) -> None:
        """The catalogue has changed: every line of an open bill comes to what its totals cost now."""
        state = self.state
        for bill in np.flatnonzero(state.bills["closed"][: state.bills.size] == 0).tolist():
            self._watch(bill)
            for line in state.bill_lines[bill]:
                if state.lines["rate"][line] >= 0 and state.lines["events"][line]:
                    self._rerate(bill, line)

    def _watch(self, bill: int) -> None:
        """Sets the next level anew, after the thresholds of the price book may have changed."""
        fired = self.state.fired.get(bill, {})
        following = NO_LEVEL
        for level, repeat in self.state.plan_of(bill).thresholds:
            reached = fired.get(format_scaled(level), 0)
            if repeat or not reached:
                following = min(following, level * (reached + 1))
        self.state.bills["next_level"][bill] = wide_of(following)

    def _rerate(self, bill: int, line: int) -> None:
        state = self.state
        rate = state.catalogue.rates[int(state.lines["rate"][line])]
        cells = state.cells_of(line)
        total = 0
        for cell, (_, exact) in zip(cells, rate_cells(state, rate, line), strict=True):
            set_exact(state.cells, "amount", cell, exact)
            total += exact
        set_exact(state.lines, "gross", line, total)
        amount = clamp(check_scaled(divide_half_up(total, ONE)), rate)
        before = int_of(state.lines["amount"][line])
        state.lines["amount"][line] = wide_of(amount)
        if amount != before:
            state.lines["revision"][line] += 1
            self.change_spend(bill, amount - before)
            self.changed.append(line)

    # Thresholds --------------------------------------------------------------------------------------------------

    def check_levels(self, bill: int, event: EventRef | None, tick: int | None = None) -> None:
        """Makes the invoice and the alerts of every level that the bill has reached."""
        state = self.state
        spend = int_of(state.bills["spend"][bill])
        if spend < int_of(state.bills["next_level"][bill]):
            return
        fired = state.fired.setdefault(bill, {})
        crossed: list[tuple[int, int]] = []  # (level, threshold)
        following = NO_LEVEL
        for level, repeat in state.plan_of(bill).thresholds:
            key = format_scaled(level)
            before = fired.get(key, 0)
            now = max(before, spend // level) if repeat else max(before, int(spend >= level))
            if now > before:
                fired[key] = now
                first = max(before + 1, now - CROSSED_LEVELS_MAX + 1)
                crossed.extend((multiple * level, level) for multiple in range(first, now + 1))
            if repeat or not now:
                following = min(following, level * (now + 1))
        state.bills["next_level"][bill] = wide_of(following)
        if not crossed:
            return
        crossed.sort()
        when = None if tick is None else format_time(tick)
        highest, threshold = crossed[-1]
        because = Because(format_scaled(threshold), format_scaled(highest), event, when)
        invoice = self.invoicer.invoice(bill, "threshold", because)
        for level, of in crossed:
            self.invoicer.alert(bill, spend, Because(format_scaled(of), format_scaled(level), event, when), invoice)

    # Time --------------------------------------------------------------------------------------------------------

    def tick(self, now: int, lateness: int, offset: int) -> None:
        """It is `now`: periods that have begun are opened, those that ended `lateness` ago are closed."""
        state = self.state
        if now <= state.clock:
            return
        state.clock = now
        opened = self._open_due(now, offset)
        state.closed_before = now - lateness
        bills = state.bills
        ended = (bills["closed"][: bills.size] == 0) & (bills["end"][: bills.size] <= state.closed_before)
        ending = np.flatnonzero(ended).tolist()
        names = state.subscription_names.values
        for bill in sorted(ending, key=lambda b: (int(bills["end"][b]), names[bills["subscription"][b]])):
            self._close(bill, offset)
        for bill in sorted(opened - set(ending), key=lambda b: names[bills["subscription"][b]]):
            self.check_levels(bill, None, now)

    def _open_due(self, now: int, offset: int) -> set[int]:
        """Makes the bills of periods that have begun and matter without usage. Returns the new ones."""
        state = self.state
        table = state.subscriptions
        opened: set[int] = set()
        for subscription in np.flatnonzero(table["cursor"][: table.size] <= now).tolist():
            plan = state.catalogue.plans[int(table["plan"][subscription])]
            end = int(table["end"][subscription])
            cursor = int(table["cursor"][subscription])
            calendar = state.calendar_of(subscription)
            while cursor <= now and cursor < end:
                period = calendar.containing(cursor)
                if self._matters_unused(plan) and period.end > plan.effective_from:
                    opened.update(self._make_bill(subscription, period.start, period.end, offset))
                cursor = period.end
            table["cursor"][subscription] = cursor if cursor < end else TIME_MAX - 1
        return opened

    def _matters_unused(self, plan: Plan) -> bool:
        return plan.periodic or any(self.state.catalogue.rates[rate].due_unused for rate in plan.rates.values())

    def _make_bill(self, subscription: int, start: int, end: int, offset: int) -> list[int]:
        """Makes the bill of a period where there is none yet, and returns it."""
        state = self.state
        places, new = state.bill_index.add(bill_keys(np.array([subscription]), np.array([start])))
        if new[0]:
            bill = state.add_bill(subscription, start, end)
            state.bill_index.values[places[0]] = bill
            state.bills["opened"][bill] = offset
            self.open(np.array([bill]))
            return [bill]
        return []

    def _close(self, bill: int, offset: int) -> None:
        """The period is over: what is due without usage, the commitment, the last invoice."""
        state = self.state
        plan = state.plan_of(bill)
        for flat in plan.flats:
            if not flat.in_advance:
                self._charge_flat(np.array([bill]), flat, np.array([offset]))
        charged = {int(state.lines["charge"][line]) for line in state.bill_lines[bill]}
        for charge, index in plan.rates.items():
            rate = state.catalogue.rates[index]
            if rate.due_unused and state.charges.number(charge) not in charged:
                amount = unused_amount(rate)
                if amount:
                    self._due(np.array([bill]), charge, [amount], 0, np.array([offset]))
        state.bills["closed"][bill] = 1
        self.invoicer.invoice(bill, "period")
        state.fired.pop(bill, None)

    # Names -------------------------------------------------------------------------------------------------------

    def who(self, bill: int) -> tuple[Plan, str, str, str]:
        """(plan, tenant, customer, subscription) of a bill."""
        tenant, subscription, customer, _ = self.state.subscription_names.values[
            int(self.state.bills["subscription"][bill])
        ]
        return self.state.plan_of(bill), tenant, customer, subscription

    def span(self, bill: int) -> Span:
        """The period of a bill."""
        return Span(format_time(int(self.state.bills["start"][bill])), format_time(int(self.state.bills["end"][bill])))

    def dimensions(self, line: int) -> dict[str, str | None]:
        """The `group_by` values of a line, by name."""
        state = self.state
        rate = int(state.lines["rate"][line])
        names = state.catalogue.rates[rate].group_by if rate >= 0 else ()
        values = state.combos.values[state.lines["combo"][line]]
        return dict(zip(names, values or [None] * len(names), strict=False))

    def line_id(self, line: int) -> str:
        """The identity of a line item: what it means, and nothing else."""
        state = self.state
        bill = int(state.lines["bill"][line])
        _, tenant, customer, subscription = self.who(bill)
        start = format_time(int(state.bills["start"][bill]))
        charge = state.charges.values[state.lines["charge"][line]]
        return output_id("li", tenant, customer, subscription, start, charge, *dimension_parts(self.dimensions(line)))


def unused_amount(rate: Rate) -> int:
    """What a charge comes to in a period without any usage: nought in the cell that matches no named value."""
    gross = rate.tables[-1].amount(0, enter_at_nought=rate.bill_zero_usage)
    return clamp(gross, rate)


def rate_cells(state: State, rate: Rate, line: int, changed: dict[int, int] | None = None) -> list[tuple[int, int]]:
    """(billed quantity, exact amount with 24 digits after the point) of each cell of a line.

    Free units come off the cells in the order of the price book. `changed`: cell -> its quantity, where it differs
    from what the state holds.
    """
    free = rate.free_units
    found: list[tuple[int, int]] = []
    for cell in state.cells_of(line):
        quantity = int_of(state.cells["quantity"][cell])
        if changed:
            quantity = changed.get(cell, quantity)
        taken = min(free, quantity) if quantity > 0 else 0
        free -= taken
        table = rate.tables[int(state.cells["number"][cell])]
        found.append((quantity - taken, table.exact(quantity - taken, rate.bill_zero_usage)))
    return found


def exact_of(table: Table, name: str, slot: int) -> int:
    """A rounded amount and what rounding took from it: 24 digits after the point."""
    return int_of(table[name][slot]) * ONE + int(table["rest"][slot])


def set_exact(table: Table, name: str, slot: int, exact: int) -> None:
    """Writes what `exact_of` reads."""
    amount = divide_half_up(exact, ONE)
    table[name][slot], table["rest"][slot] = wide_of(amount), exact - amount * ONE


def clamp(gross: int, rate: Rate) -> int:
    """A charge's amount between its own maximum and minimum."""
    if rate.maximum is not None:
        gross = min(gross, rate.maximum)
    if rate.minimum is not None:
        gross = max(gross, rate.minimum)
    return gross


def dimension_parts(dimensions: dict[str, str | None]) -> list[str]:
    """The parts of a line's identity that say its group: an absent value is none of all texts."""
    parts: list[str] = []
    for name, value in dimensions.items():
        parts.extend((name, "0") if value is None else (name, "1", value))
    return parts


def sized(*parts: str) -> bytes:
    """What `schemas.identity.digest` takes the hash of, for identities that share their first or last parts."""
    raw = [part.encode() for part in parts]
    return b"".join(len(part).to_bytes(4, "little") + part for part in raw)
