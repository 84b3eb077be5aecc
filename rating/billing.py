"""Invoice: periods are opened, levels are crossed, periods are closed and corrected.

Owns what happens to a billing period as a whole: the charges for the period itself, and when an invoice is made (at
levels, at the close, and after it). What an invoice holds is made in `rating.invoices`; what a single line comes to, in
`rating.lines`. A period's *head* is its first segment.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from rating.cells import Contributions
from rating.columns import Batch
from rating.compiled import TIME_MAX, FlatCharge, Level, Plan
from rating.exact import int_of, sum_wide, wide_of
from rating.invoices import Invoicer
from rating.keeper import gauge_lines, spread_gauges
from rating.lines import (
    billed_quantities,
    cell_totals,
    later_segments,
    rate_line,
    sibling,
    unused_amount,
)
from rating.metering import bill_keys, index_bills, make_periods
from rating.naming import Naming
from rating.slots import find_lines
from rating.standing import Standing, lines_to_tell
from rating.state import NO_LEVEL, State
from rating.table import ROWS_AT_ONCE, Table, different
from rating.tally import Tally
from schemas.event import VOID_TYPE
from schemas.limits import CROSSED_LEVELS_MAX
from schemas.numbers import ONE, check_scaled, divide_half_up, format_scaled
from schemas.output import Because, EventRef
from schemas.times import format_time
from streams.processor import Output


class Biller(Naming):
    """Makes invoices and alerts out of a partition's state, into `outputs`; notes which lines changed."""

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self.invoicer = Invoicer(state, Naming(state))  # not `self`: what holds itself waits for the collector
        self.changed: list[int] = []
        self.changed_columns: list[NDArray[np.int64]] = []
        self.amount_change = 0
        self.tally = Tally()
        """What the stages tell of the batch that is being folded."""

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
        found = np.sort(np.concatenate([np.array(self.changed, dtype=np.int64), *self.changed_columns]))
        return found[np.diff(found, prepend=-1) != 0]

    # Opening -----------------------------------------------------------------------------------------------------

    def open(self, bills: NDArray[np.int64]) -> None:
        """Bills that have just been made: charges in advance are due at once."""
        state = self.state
        if not len(bills):
            return
        plans = state.bills["plan"][bills]
        for number in different(plans):
            own = bills[plans == number]
            for flat in state.catalogue.plans[number].flats:
                if flat.in_advance:
                    self.charge_flat(own, flat, state.bills["opened"][own])
        heads = bills[state.bills["head"][bills] == bills]
        subscription = state.bills["subscription"][heads]
        default = np.ones(len(heads), dtype=np.bool_)
        if state.own_names:
            default = np.array([slot not in state.own_names for slot in subscription.tolist()], dtype=np.bool_)
        end = state.bills["from"][heads] + state.bills["whole"][heads]
        np.minimum.at(state.subscriptions["cursor"], subscription[default], end[default])

    def charge_flat(self, bills: NDArray[np.int64], flat: FlatCharge, offset: NDArray[np.int64]) -> None:
        """Charges bills of one plan."""
        state, charge = self.state, self.state.charges.number(flat.charge)
        due = np.ones(len(bills), dtype=np.bool_)
        if flat.once:
            due = state.bills["opens"][bills] == 1
            for at in np.flatnonzero(~due).tolist():
                due[at] = any(state.lines["charge"][line] == charge for line in state.lines_of(int(bills[at])))
        if due.any():
            self.due(bills[due], flat.charge, self._flat_amounts(bills[due], flat), ONE, offset[due])

    def _flat_amounts(self, bills: NDArray[np.int64], flat: FlatCharge) -> list[int]:
        table = self.state.bills
        amounts = [flat.amount] * len(bills)
        plain = (table["head"][bills] == bills) & (table["next"][bills] < 0)
        for at in np.flatnonzero(~plain).tolist() if not (flat.once or flat.prorate) else range(len(bills)):
            amounts[at] = self._flat_amount(int(bills[at]), flat)
        return amounts

    def _flat_amount(self, bill: int, flat: FlatCharge) -> int:
        """What a flat charge comes to in one segment. Shares are formed from the beginning of the period, so that
        those of all segments at one price add up to it."""
        bills = self.state.bills
        if flat.once:
            return flat.amount if bills["opens"][bill] else 0
        if not flat.prorate and bills["head"][bill] == bill and bills["next"][bill] < 0:
            return flat.amount
        before = billed = whole = 0
        for segment in self.state.segments(int(bills["head"][bill])):
            if segment == bill:
                before = whole
            if not self.state.plan_of(segment).trial:
                whole += int(bills["end"][segment] - bills["start"][segment])
            if segment == bill:
                billed = whole
        if flat.prorate:
            whole = int(bills["whole"][bill])
        return divide_half_up(flat.amount * billed, whole) - divide_half_up(flat.amount * before, whole)

    def due(
        self, bills: NDArray[np.int64], charge: str, amounts: list[int], quantity: int, offset: NDArray[np.int64]
    ) -> None:
        """Lines that no event makes, for bills of one plan: a flat charge, or usage of nought that is billed."""
        for first in range(0, len(bills), ROWS_AT_ONCE):
            rows = slice(first, first + ROWS_AT_ONCE)
            self._due(bills[rows], charge, amounts[rows], quantity, offset[rows])

    def _due(
        self, bills: NDArray[np.int64], charge: str, amounts: list[int], quantity: int, offset: NDArray[np.int64]
    ) -> None:
        state = self.state
        rate = state.plan_of(int(bills[0])).rates.get(charge, -1)
        none = np.zeros(len(bills), np.int64)
        lines = find_lines(state, bills, state.charges.number(charge), none, none + rate)
        table = state.lines
        wide = np.array([wide_of(amount) for amount in amounts] if len(set(amounts)) > 1 else [wide_of(amounts[0])])
        before = table["amount"][lines]
        same = (before == wide).all(axis=1) & (table["revision"][lines] > 0)
        table["quantity"][lines] = wide_of(quantity)
        table["gross"][lines] = table["amount"][lines] = wide
        table["rest"][lines] = 0
        table["revision"][lines[~same]] += 1
        table["through"][lines[~same]] = offset[~same]
        self._change_spends(state.bills["head"][bills], wide, before)
        self.changed_columns.append(lines[~same])

    def _change_spends(self, heads: NDArray[np.int32], after: NDArray[np.int64], before: NDArray[np.int64]) -> None:
        """Adds what lines have come to, less what they came to before, to their periods' sums."""
        after, spend = np.broadcast_to(after, before.shape), self.state.bills["spend"]
        if not before.any() and (heads[1:] > heads[:-1]).all() and not spend[heads].any():
            spend[heads] = after
            self.state.bills["touched"][heads] |= after.any(axis=1)
            self.amount_change += sum_wide(after)
            return
        changes = zip(after.tolist(), before.tolist(), strict=True)
        for head, (now, was) in zip(heads.tolist(), changes, strict=True):
            self.change_spend(head, int_of(now) - int_of(was))

    def change_spend(self, head: int, change: int) -> None:
        """Adds to the sum of a period's charges."""
        spend = self.state.bills["spend"]
        spend[head] = wide_of(int_of(spend[head]) + change)
        self.state.bills["touched"][head] |= change != 0
        self.amount_change += change

    # Lines again -------------------------------------------------------------------------------------------------

    def rerate(
        self, line: int, revised: int = 0, offset: int = -1, changes: dict[int, list[int]] | None = None
    ) -> bool:
        """A line comes to what its totals come to now. `revised`: by how many its revision rises in any case (else by
        one, where its quantity or amount is another). `changes`: takes what changes the period's sum, which is left as
        it is then. Returns whether the line is another. Raises: NumberError where a number does not fit."""
        state, lines = self.state, self.state.lines
        if lines["rate"][line] < 0:
            return False
        after = rate_line(state, line)
        before = (int_of(lines["quantity"][line]), int_of(lines["amount"][line]))
        self._settle_cells(line)
        lines["quantity"][line], lines["amount"][line] = wide_of(after.quantity), wide_of(after.amount)
        self.set_exact(lines, "gross", line, after.exact)
        differs = before != (after.quantity, after.amount)
        if differs or revised:
            lines["revision"][line] += max(revised, 1)
            lines["through"][line] = max(int(lines["through"][line]), offset)
            head, change = int(state.bills["head"][lines["bill"][line]]), after.amount - before[1]
            if changes is None:
                self.change_spend(head, change)
            else:
                changes.setdefault(head, []).append(change)
            self.changed.append(line)
        return differs

    def _settle_cells(self, line: int) -> None:
        """Each cell holds what its total means and costs by itself, for the next batch's columns."""
        state, cells = self.state, self.state.cells
        rate = state.catalogue.rates[int(state.lines["rate"][line])]
        totals = cell_totals(state, rate, line)
        billed = billed_quantities(rate, {number: after.quantity for number, after in totals.items()})
        for cell in state.cells_of(line):
            number = int(cells["number"][cell])
            if not rate.by_hand:
                cells["quantity"][cell] = wide_of(totals[number].quantity)
                self.set_exact(cells, "amount", cell, rate.tables[number].exact(billed[number], rate.bill_zero_usage))

    def rerate_later(self, parts: Iterable[Contributions], batch: Batch) -> None:
        """Later segments build on what earlier ones have used: their lines change with the events of these parts."""
        state = self.state
        for part in parts:
            if not part.counted:
                continue
            segmented = np.flatnonzero(state.bills["next"][part.bill] >= 0)
            by_line: dict[int, list[int]] = {}
            lines = state.cells["line"][part.cell[segmented]]
            for line, row in zip(lines.tolist(), part.row[segmented].tolist(), strict=True):
                by_line.setdefault(line, []).append(row)
            for line, rows in by_line.items():
                self.rerate_siblings(line, [state.arrivals + row for row in rows], int(batch.offset[rows[-1]]))

    def rerate_siblings(
        self, line: int, arrivals: list[int], offset: int, changes: dict[int, list[int]] | None = None
    ) -> None:
        """Events that came at these arrivals have changed a line: so have those that build on it. `changes`: as for
        `rerate`."""
        state = self.state
        for bill in later_segments(state, int(state.lines["bill"][line])):
            other = sibling(state, line, bill)
            if (
                other is not None and state.lines["revision"][other]
            ):  # else it is made for an event that is still to come
                born = state.born.get(other, -1)
                self.rerate(other, sum(arrival > born for arrival in arrivals), offset, changes)

    def rerate_after_void(self, lines: Iterable[int], arrival: int, offset: int) -> None:
        """An event was taken back from some lines: they and those that build on them change. A period's sum must fit
        with all of them, in whatever order they come. Raises: NumberError where a number does not fit."""
        changes: dict[int, list[int]] = {}
        for line in lines:
            self.rerate(line, 1, offset, changes)
            self.rerate_siblings(line, [arrival], offset, changes)
        for head, found in changes.items():
            check_scaled(int_of(self.state.bills["spend"][head]) + sum(found))
            self.change_spend(head, sum(found))
            self.state.bills["touched"][head] |= any(found)

    @staticmethod
    def set_exact(table: Table, name: str, slot: int, exact: int) -> None:
        """Writes what `rating.lines.exact_of` reads."""
        amount = divide_half_up(exact, ONE)
        table[name][slot], table["rest"][slot] = wide_of(check_scaled(amount)), exact - amount * ONE

    # Gauges ------------------------------------------------------------------------------------------------------

    def advance(self, batch: Batch, row: int, customer: int) -> None:
        """One more event of a customer has been accepted: its gauges are known up to its time."""
        state = self.state
        state.customer_events[customer] += 1
        if batch.text_at("type", row) != VOID_TYPE:
            state.customer_newest[customer] = max(int(state.customer_newest[customer]), int(batch.time[row]))

    def move_gauges(
        self,
        customer: int,
        offset: int,
        heads: set[int] | None = None,
        since: int = TIME_MAX,
        without: Iterable[int] = (),
    ) -> list[int]:
        """Brings a customer's gauges up to date, in periods that are open or were changed since that time. Returns the
        periods. `heads`: only these; `without`: none of these."""
        state = self.state
        spread_gauges(state, [customer])
        found: dict[int, None] = {}
        for line in gauge_lines(state, customer):
            bill = int(state.lines["bill"][line])
            head = int(state.bills["head"][bill])
            late = bool(state.bills["closed"][head]) and int(state.bills["end"][bill]) <= since
            if late or head in without or (heads is not None and head not in heads) or state.lines["rate"][line] < 0:
                continue
            before = int(state.lines["revision"][line])
            self.rerate(line, 1, offset)
            state.lines["revision"][line] = max(before, int(state.customer_events[customer]) + state.ticks)
            found[head] = None
        return list(found)

    # A changed catalogue -----------------------------------------------------------------------------------------

    def rerate_open(self, before: Standing) -> None:
        """The catalogue has changed: every line of an open period comes to what its totals cost now.

        Closed periods are cut where their subscription's timeline changes now, so that late usage finds its segment;
        what was billed of them stays (see `rating.rerate`). `before`: taken before the catalogue took force."""
        state = self.state
        size = state.bills.size
        state.ticks += 1  # lines of gauges count their revisions by it
        for head in self._closed_to_cut():
            self._cut_again(head)
        heads = (state.bills["closed"][:size] == 0) & (state.bills["head"][:size] == np.arange(size))
        for head in np.flatnonzero(heads).tolist():
            self._cut_again(head)
            self.watch(head)
            for bill in state.segments(head):
                self._flats_again(bill)
                for line in state.lines_of(bill):
                    if state.lines["events"][line] or len(state.cells_of(line)):
                        self.rerate(line)
        for line in list(lines_to_tell(state, before)):
            state.lines["revision"][line] += 1
            self.changed.append(line)

    def _closed_to_cut(self) -> list[int]:
        """The closed periods in a segment of which the timeline changes."""
        bills, size = self.state.bills, self.state.bills.size
        closed = np.flatnonzero(bills["closed"][:size] == 1)
        timeline = self.state.subscriptions["timeline"][bills["subscription"][closed]]
        first = self.state.timelines.at(timeline, bills["start"][closed])
        last = self.state.timelines.at(timeline, bills["end"][closed] - 1)
        return sorted(set(bills["head"][closed[first != last]].tolist()))

    def _cut_again(self, head: int) -> None:
        """Segments end where the subscription's timeline says now, and those that are new are made."""
        state, bills = self.state, self.state.bills
        made = state.cut_period(head)
        if made:
            slots = np.array(made, dtype=np.int64)
            bills["opened"][slots], bills["closed"][slots] = bills["opened"][head], bills["closed"][head]
            index_bills(state, slots)
        if bills["closed"][head]:
            bills["next_level"][head] = wide_of(NO_LEVEL)

    def _flats_again(self, bill: int) -> None:
        state = self.state
        plan = state.plan_of(bill)
        one = np.array([bill])
        for flat in plan.flats:
            if flat.in_advance:
                self.charge_flat(one, flat, state.bills["opened"][one])

    def watch(self, head: int) -> None:
        """Sets the next level anew, after the levels of the price book may have changed."""
        fired = self.state.fired.get(head, {})
        following = NO_LEVEL
        for level in self.state.terms_of(head).levels:
            reached = fired.get(level_key(level), 0)
            if level.repeat or not reached:
                following = min(following, level.spend * (reached + 1))
        self.state.bills["next_level"][head] = wide_of(following)

    # Levels ------------------------------------------------------------------------------------------------------

    def check_levels(self, head: int, event: EventRef | None, at: int) -> None:
        """Makes the invoice and the alerts of every level that the period has reached by an event, or a tick, `at`."""
        state = self.state
        spend = int_of(state.bills["spend"][head])
        if spend < int_of(state.bills["next_level"][head]):
            return
        fired = state.fired.setdefault(head, {})
        crossed: list[tuple[int, Level]] = []
        following = NO_LEVEL
        for level in state.terms_of(head).levels:
            key, one = level_key(level), level.spend
            before = fired.get(key, 0)
            now = max(before, spend // one) if level.repeat else max(before, int(spend >= one))
            if now > before:
                fired[key] = now
                first = max(before + 1, now - CROSSED_LEVELS_MAX + 1)
                crossed.extend((multiple * one, level) for multiple in range(first, now + 1))
            if level.repeat or not now:
                following = min(following, one * (now + 1))
        state.bills["next_level"][head] = wide_of(following)
        if not crossed:
            return
        crossed.sort()
        when = None if event is not None else format_time(at)

        def because(reached: int, level: Level) -> Because:
            return Because(format_scaled(level.of), format_scaled(reached), event, when)

        invoice = None
        billed = [(reached, level) for reached, level in crossed if level.kind == "threshold"]
        if billed:
            invoice = self.invoicer.invoice(head, "threshold", because(*billed[-1]), at=at)
        for reached, level in crossed:
            self.invoicer.alert(head, level.kind, spend, because(reached, level), invoice)

    # Time --------------------------------------------------------------------------------------------------------

    def tick(self, now: int, lateness: int, corrections: int, offset: int) -> None:
        """It is `now`: periods that have begun are opened, those that ended `lateness` ago are closed, and what came
        after a close is corrected; `corrections` after the close a period is left as it is."""
        state = self.state
        if now <= state.clock:
            return
        state.clock = now
        state.ticks += 1
        opened = self._open_due(now, offset)
        moved = self._move_all(offset)
        state.closed_before = now - lateness
        before, state.corrected_from = state.corrected_from, state.closed_before - corrections
        bills, size = state.bills, state.bills.size
        heads = bills["head"][:size] == np.arange(size)
        ended = np.flatnonzero(heads & (bills["closed"][:size] == 0) & (bills["until"][:size] <= state.closed_before))
        late = np.flatnonzero(heads & (bills["closed"][:size] == 1) & (bills["touched"][:size] == 1))
        for head in state.in_order(late.tolist()):
            self.correct(head, offset)
        for head in state.in_order(ended.tolist()):
            self.close(head, offset)
        for head in sorted((opened | moved) - set(ended.tolist()), key=state.name_of):
            self.check_levels(head, None, now)
        self._drop_old(before)

    def settle_gauges(self, now: int, offset: int) -> None:
        """It is known to be `now` at least: gauges come up to date, and nothing else is due. The end of a file, where
        nobody says what time it is."""
        state = self.state
        if now <= state.clock or not state.kept.of_customer:
            return
        state.clock = now
        state.ticks += 1
        for customer in sorted(state.kept.of_customer):
            self.open_for_gauges(customer, TIME_MAX, np.array([now]), np.array([offset]))
        for head in sorted(self._move_all(offset), key=state.name_of):
            if not state.bills["closed"][head]:
                self.check_levels(head, None, now)

    def _move_all(self, offset: int) -> set[int]:
        """Brings all gauges up to date. Returns the periods that show any."""
        found: set[int] = set()
        for customer in sorted(self.state.kept.of_customer):
            found.update(self.move_gauges(customer, offset))
        return found

    def open_for_gauges(self, customer: int, begun: int, times: NDArray[np.int64], offsets: NDArray[np.int64]) -> None:
        """A level holds on into the periods that have begun by a customer's newest event: they get their bills, with
        the first event that knows of them.

        `begun`: the first of the levels in this batch. `times`, `offsets`: of the customer's accepted events."""
        state = self.state
        table = state.subscriptions
        known = max(int(times.max()), int(state.customer_newest[customer]), state.clock)
        begun = min(begun, state.kept.begun(customer))
        if begun > known:
            return  # every level was taken back
        for subscription in state.current(customer):
            calendar, end = state.calendar_of(subscription), int(table["end"][subscription])
            at = calendar.containing(max(begun, int(table["start"][subscription]))).end
            while at <= known and at < end:
                period = calendar.containing(at)
                later = offsets[times >= at]
                if period.end > state.corrected_from:
                    self._make_period(
                        subscription, period.start, period.end, int((later if len(later) else offsets)[0])
                    )
                at = period.end

    def _open_due(self, now: int, offset: int) -> set[int]:
        """Makes the bills of periods that have begun and matter without usage. Returns the new heads."""
        state = self.state
        table = state.subscriptions
        opened: set[int] = set()
        for subscription in np.flatnonzero(table["cursor"][: table.size] <= now).tolist():
            if subscription not in state.current(int(table["customer"][subscription])):
                table["cursor"][subscription] = TIME_MAX - 1  # the default's, left for a subscription of its own
                continue
            end = int(table["end"][subscription])
            cursor = int(table["cursor"][subscription])
            calendar = state.calendar_of(subscription)
            timeline = int(table["timeline"][subscription])
            gauges = int(table["customer"][subscription]) in state.kept.of_customer
            while cursor <= now and cursor < end:
                period = calendar.containing(cursor)
                if gauges or self._matters_unused(timeline, period.start, period.end):
                    opened.update(self._make_period(subscription, period.start, period.end, offset))
                cursor = period.end
            table["cursor"][subscription] = cursor if cursor < end else TIME_MAX - 1
        return opened

    def _matters_unused(self, timeline: int, start: int, end: int) -> bool:
        """Whether some plan in force within a period asks something without usage."""
        entries = self.state.timelines.entries(timeline)
        ends = [entry.start for entry in entries[1:]] + [TIME_MAX]
        plans = [
            e.plan for e, last in zip(entries, ends, strict=True) if e.plan >= 0 and e.start < end and last > start
        ]
        return any(self._asks_unused(self.state.catalogue.plans[plan]) for plan in plans)

    def _asks_unused(self, plan: Plan) -> bool:
        return plan.periodic or any(self.state.catalogue.rates[rate].due_unused for rate in plan.rates.values())

    def _make_period(self, subscription: int, start: int, end: int, offset: int) -> list[int]:
        """Makes the bills of a period where there are none yet, and returns its head."""
        state = self.state
        timeline = np.array([state.subscriptions["timeline"][subscription]])
        entries = state.timelines.entries(int(timeline[0]))
        ends = [entry.start for entry in entries[1:]] + [TIME_MAX]
        spans = zip(entries, ends, strict=True)
        starts = [max(e.start, start) for e, last in spans if e.plan >= 0 and max(e.start, start) < min(last, end)]
        if not starts:
            return []
        key = bill_keys(np.array([subscription]), np.array(starts[:1]))
        if state.bill_index.find(key)[0] >= 0:
            return []
        made = make_periods(state, *(np.array([n], dtype=np.int64) for n in (subscription, start, end, offset)))
        self.open(made)
        return made[:1].tolist()

    def close(self, head: int, offset: int, at: int | None = None) -> None:
        """The period is over: what is due without usage, the commitment, the last invoice. `at`: the invoice's closing
        time, by default the period's end."""
        state = self.state
        earlier = self._waiting(head)
        self.charge_ended(head, offset)
        state.bills["closed"][state.segments(head)] = 1
        for before in earlier:
            state.bills["touched"][before] = 0
        state.bills["touched"][head] = 0
        self.invoicer.invoice(head, "period", earlier=earlier, at=at)
        state.fired.pop(head, None)
        state.bills["next_level"][head] = wide_of(NO_LEVEL)  # what comes later is corrected, and crosses nothing

    def charge_ended(self, head: int, offset: int) -> None:
        """What is due once a period is over: flat charges in arrears, and what is asked for no usage."""
        state = self.state
        for bill in state.segments(head):
            for flat in state.plan_of(bill).flats:
                if not flat.in_advance:
                    self.charge_flat(np.array([bill]), flat, np.array([offset]))
        self._charge_unused(head, offset)

    def _charge_unused(self, head: int, offset: int) -> None:
        """What charges ask for a period without any usage of theirs, once, in its first segment that is billed."""
        state = self.state
        billed = [bill for bill in state.segments(head) if not state.plan_of(bill).trial]
        lines = [line for bill in billed for line in state.lines_of(bill)]
        used = {
            int(state.lines["charge"][n]) for n in lines if state.lines["events"][n] or state.lines["amount"][n].any()
        }
        for bill in billed:
            for charge, index in state.plan_of(bill).rates.items():
                rate, name = state.catalogue.rates[index], state.charges.number(charge)
                if rate.due_unused and name not in used:
                    used.add(name)
                    amount = unused_amount(rate)
                    if amount:
                        self.due(np.array([bill]), charge, [amount], 0, np.array([offset]))
                        state.unused[head, name] = bill

    def drop_unused(self, parts: Iterable[Contributions], batch: Batch) -> None:
        """Usage has come for charges that were billed for its absence: they are not any more."""
        state = self.state
        if not state.unused:
            return
        for part in parts:
            heads = state.bills["head"][part.bill]
            charges = state.lines["charge"][state.cells["line"][part.cell]]
            for head, charge, row in zip(heads.tolist(), charges.tolist(), part.row.tolist(), strict=True):
                bill = state.unused.pop((head, charge), None)
                if bill is not None:
                    offset = np.array([batch.offset[row]])
                    self.due(np.array([bill]), state.charges.values[charge], [0], 0, offset)

    def _waiting(self, head: int) -> list[int]:
        """Closed periods of the same subscription whose corrections wait for its next invoice."""
        state, size = self.state, self.state.bills.size
        bills = state.bills
        same = bills["subscription"][:size] == bills["subscription"][head]
        late = np.flatnonzero(same & (bills["closed"][:size] == 1) & (bills["touched"][:size] == 1))
        return [h for h in late.tolist() if h != head and bills["head"][h] == h and self._waits(h)]

    def _waits(self, head: int) -> bool:
        """Whether corrections of a period go on the subscription's next invoice, and there will be one."""
        state = self.state
        if state.terms_of(head).corrections != "next":
            return False
        subscription, until = int(state.bills["subscription"][head]), int(state.bills["until"][head])
        size = state.bills.size
        same = state.bills["subscription"][:size] == subscription
        if (same & (state.bills["start"][:size] >= until) & (state.bills["closed"][:size] == 0)).any():
            return True  # there is a later period, and it has its invoice before it
        following = state.calendar_of(subscription).containing(until)
        return until < int(state.subscriptions["end"][subscription]) and following.end > state.closed_before

    def correct(self, head: int, offset: int) -> None:
        """Something was counted, or taken back, after the period's close."""
        self._charge_unused(head, offset)
        if not self._waits(head):
            self.state.bills["touched"][head] = 0
            self.invoicer.invoice(head, "correction")

    def _drop_old(self, before: int) -> None:
        """Rows of the ledger go once their whole period is closed for good (not a segment of it: it is corrected as
        long as the period is): looked at when one has been since `before`."""
        state, bills = self.state, self.state.bills
        until = bills["until"][bills["head"][: bills.size]]  # of each segment's period
        if not ((until > before) & (until <= state.corrected_from)).any():
            return
        of = state.lines["bill"][state.cells["line"][: state.cells.size]]
        cells = np.flatnonzero(until[of] <= state.corrected_from)
        if state.ledger.drop(cells, state.cells["events"][cells]):
            state.kept.drop(state.ledger.over)


def level_key(level: Level) -> str:
    """How a level that was crossed is remembered."""
    spend = format_scaled(level.spend)
    return spend if level.kind == "threshold" else f"{level.kind} {spend}"
