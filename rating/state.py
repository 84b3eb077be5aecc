"""The state of one tenant in one partition: tables, what they are found by, and their snapshot. No arithmetic.

    customer -> subscription -> bill (a billing period of it) -> line (a charge and its group) -> cell (a total)

Every row is a slot that never moves; texts are held once and known by number.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rating.accounts import Accounts
from rating.catalogue import load_catalogue
from rating.compiled import TIME_MAX, TIME_MIN, Compiled, Entry, Plan, Rebooking
from rating.exact import wide_of
from rating.index import NOUGHT_KEY, HashIndex, Keys, make_keys, without_nought
from rating.kept import Kept
from rating.ledger import Ledger
from rating.room import longer
from rating.sheets.shelf import Shelf
from rating.table import ROWS_AT_ONCE, Table, different
from rating.texts import Texts
from rating.timelines import Timelines
from rating.totals import Totals
from schemas.faults import encode_document
from schemas.identity import partition_of
from schemas.numbers import SCALED_MAX
from schemas.period import Calendar

NO_LEVEL: Final = SCALED_MAX + 1
"""The next threshold of a bill that has none."""
NO_SUBSCRIPTION: Final = -1
DEFAULT_ID: Final = "default"
"""The id of the subscription of a customer that has none of its own."""
SEVERAL: Final = -2

NEVER: Final = (Entry(TIME_MIN, -1, False),)
"""The timeline of a subscription that is not in the catalogue."""
NO_PLAN: Final = Plan("", 1, "USD", "half_up", "per_invoice", (), {}, (), None, None, None, True, "invoice", False)

Rows = NDArray[np.int64]

_ROOM: Final = 16
"""For how many customers there is room at first: most tenants have few in a partition."""
_I4, _I8, _U1 = np.int32, np.int64, np.uint8
SUBSCRIPTIONS: Final = {
    "customer": (_I4, 1),
    "timeline": (_I4, 1),
    "calendar": (_I4, 1),
    "start": (_I8, 1),
    "end": (_I8, 1),
    "cursor": (_I8, 1),  # periods that begin before it have their bill; TIME_MAX: none is due yet
    "opened": (_U1, 1),  # whether what is charged once at the very beginning has been
}
BILLS: Final = {
    # A row is a segment of a billing period: all of it, unless its subscription's timeline changes within.
    "subscription": (_I4, 1),
    "plan": (_I4, 1),
    "book": (_I4, 1),  # the price book under which it was re-rated, by number; 0: that of its subscription
    "head": (_I4, 1),  # the period's first segment, which holds what is the whole period's
    "next": (_I4, 1),  # the segment after it, -1 for none
    "start": (_I8, 1),
    "end": (_I8, 1),
    "whole": (_I8, 1),  # the length of the calendar's whole period, in microseconds
    "carries": (_U1, 1),  # whether the units of the segment before it stay used
    "opens": (_U1, 1),  # whether its price book takes force here for the first time
    "line": (_I4, 1),  # its newest line, -1 for none; the others by `before`
    # Of the head alone:
    "from": (_I8, 1),  # the calendar's period
    "since": (_I8, 1),  # where the billed period begins and ends: the calendar's, cut to the subscription's own time
    "until": (_I8, 1),
    "touched": (_U1, 1),  # lines have changed since the close
    "spend": (_I8, 2),
    "next_level": (_I8, 2),
    "opened": (_I8, 1),  # the offset of what opened it
    "closed": (_U1, 1),
    "invoiced": (_I4, 1),  # where its invoices are counted, 0 while it has none
}
INVOICED: Final = {
    # Row 0 is of all periods that have no invoice.
    "invoices": (_I4, 1),
    # What they have billed beside lines:
    "overage_billed": (_I8, 2),
    "minimum_billed": (_I8, 2),
    "capped": (_I8, 2),  # what the price book's maximum has taken off
}
LINES: Final = {
    "bill": (_I4, 1),
    "charge": (_I4, 1),
    "combo": (_I4, 1),
    "rate": (_I4, 1),  # -1: a flat charge, or one whose price is gone
    "before": (_I4, 1),  # the line of its bill that was made before it, -1 for none
    "cell": (_I4, 1),  # its first cell in the order of the price book, -1 for none; the others follow by `next`
    "quantity": (_I8, 2),
    "gross": (_I8, 2),  # the sum of its cells' amounts
    "rest": (_I8, 1),  # what rounding took from them, in units of 10^-24
    "amount": (_I8, 2),
    "billed": (_I8, 2),
    "events": (_I8, 1),
    "revision": (_I8, 1),
    "first": (_I8, 1),
    "last": (_I8, 1),
    "through": (_I8, 1),
    "written": (_U1, 1),
}
CELLS: Final = {
    "line": (_I4, 1),
    "shape": (_I4, 1),  # the shape of charge by which it reads usage, by number
    "number": (_I4, 1),
    "next": (_I4, 1),  # the cell that follows it in its line, -1 for none
    "events": (_I8, 1),
    "value": (_I8, 2),
    "at": (_I8, 1),
    "quantity": (_I8, 2),
    "amount": (_I8, 2),
    "rest": (_I8, 1),  # what rounding took from the amount, in units of 10^-24
}


class Names:
    """Values known by number, in the order in which they first came."""

    def __init__(self, values: list[Any] | None = None) -> None:
        self.values: list[Any] = values or []
        self._numbers = {value: number for number, value in enumerate(self.values)}

    def number(self, value: Any) -> int:
        """The value's number, a new one where it has none."""
        found = self._numbers.get(value)
        if found is None:
            found = self._numbers[value] = len(self.values)
            self.values.append(value)
        return found

    def find(self, value: Any) -> int | None:
        """The value's number, if it has one."""
        return self._numbers.get(value)


class State:
    """Everything that one partition's engine knows of one tenant (`rating.tenants` has them all)."""

    def __init__(self, partition: int, partitions: int, tenant: str, shelf: Shelf | None = None) -> None:
        """`shelf`: for the rows of its ledger, which all stay in memory without one."""
        self.tenant = tenant
        self.ledger = Ledger(shelf)
        self.totals = Totals()
        self.voided = HashIndex()
        """Identities of events that were taken back, whether or not they have come."""
        self.kept = Kept()
        self.accounts = Accounts()
        self.unused: dict[tuple[int, int], int] = {}
        """(head, charge) -> the segment in which a charge was billed for the absence of usage."""
        self.born: dict[int, int] = {}
        """For each line of a period of several segments the arrival of its first event."""
        self.gauges = Names()
        """Which gauge of a group: the values of all the meter's dimensions and its key."""
        self.customer_newest: NDArray[np.int64] = np.full(_ROOM, TIME_MIN, np.int64)
        """For each customer the greatest time of an accepted event."""
        self.customer_events: NDArray[np.int64] = np.zeros(_ROOM, np.int64)
        """For each customer how many events were accepted, voids included."""
        self.ticks = 0
        self.arrivals = 0
        """How many events of the tenant have come: the arrival of an event is its place among them."""
        self.corrected_from = TIME_MIN
        """Periods that end at or before it are closed for good."""
        self.timelines = Timelines()
        self.partition = partition
        self.partitions = partitions
        self.clock = TIME_MIN
        """The greatest tick."""
        self.closed_before = TIME_MIN
        """Periods that end at or before it are closed: the clock less the allowed lateness."""
        self.newest = TIME_MIN
        """The greatest event time."""
        self.catalogue: Compiled = load_catalogue(b"{}")
        self.customers = Texts()
        self.customer_subscription: NDArray[np.int32] = np.full(_ROOM, NO_SUBSCRIPTION, np.int32)
        """For each customer the subscription under which its periods go on, or SEVERAL."""
        self.several: dict[int, list[int]] = {}
        self.customer_default: NDArray[np.int32] = np.full(_ROOM, NO_SUBSCRIPTION, np.int32)
        """For each customer the default subscription, which it may have had before it got one of its own."""
        self.subscriptions = Table(SUBSCRIPTIONS)
        self.own_names: dict[int, tuple[str, str]] = {}
        """(id, customer) of each subscription that is no default."""
        self._own_slots: dict[tuple[str, str], int] = {}
        self.calendars = Names()
        self.charges = Names()
        self.combos = Names([()])
        self.shapes = Names()  # signatures
        self.books = Names([""])
        """Price books under which bills were re-rated; number 0 is none."""
        self.bill_index, self.line_index = HashIndex(), HashIndex()
        self.cell_index = HashIndex()
        """The cells that are not alone in their line (see `rating.slots`)."""
        self.values_seen = HashIndex()
        self.bills, self.lines, self.cells = Table(BILLS), Table(LINES), Table(CELLS)
        self.invoiced = Table(INVOICED)
        self.invoiced.extend(1)
        self.heads: Any = None
        """What of each line's JSON does not change under one catalogue (a cache; see `rating.emit`)."""
        self.workspace: Any = None
        """Where the compiled fold works (a cache; see `rating.fold_native`)."""
        self.fired: dict[int, dict[str, int]] = {}
        """bill -> spend of a threshold (as text) -> how many of its levels have been crossed."""

    def set_clock(self, other: "State") -> None:
        """It is as late as another state knows it to be."""
        self.clock, self.closed_before, self.corrected_from = other.clock, other.closed_before, other.corrected_from
        self.ticks = other.ticks

    # Subscriptions -----------------------------------------------------------------------------------------------

    def customer(self, customer: str) -> int:
        """The number of a customer; one that is new gets the subscription it falls under."""
        return int(self.numbers_of(self.tenant, [customer])[0])

    def numbers_of(self, _tenant: str, customers: Sequence[str]) -> NDArray[np.int32]:
        """The numbers of many customers; those that are new get the subscription they fall under, in their order."""
        found = self.customers.find_all(customers)
        missing = np.flatnonzero(found < 0).tolist()
        if missing:
            first = len(self.customers)
            self.customers.extend(list(dict.fromkeys(customers[at] for at in missing)))
            self._settle_customers(first)
            found = self.customers.find_all(customers)
        return found

    def codes_of(self, columns: Sequence[pa.DictionaryArray]) -> NDArray[np.int32] | None:
        """The same for each row of such columns as `Texts.codes` reads; None where it cannot."""
        first = len(self.customers)
        found = self.customers.codes(columns)
        if len(self.customers) > first:
            self._settle_customers(first)
        return found

    def _settle_customers(self, first: int) -> None:
        """The customers from `first` on are new."""
        self._make_room(first)
        if self.catalogue.default_timelines:
            known, new = self.catalogue.documents.customers, np.arange(first, len(self.customers))
            self._set_defaults(new, [one for one in self.customers.of(new) if one in known] if known else [])

    def _make_room(self, first: int) -> None:
        """The customers from `first` on are new."""
        of = (first, len(self.customers))
        self.customer_subscription = _grown(self.customer_subscription, *of, NO_SUBSCRIPTION)
        self.customer_default = _grown(self.customer_default, *of, NO_SUBSCRIPTION)
        self.customer_newest = _grown(self.customer_newest, *of, TIME_MIN)
        self.customer_events = _grown(self.customer_events, *of, 0)

    def _set_defaults(self, numbers: NDArray[np.int64], named: Sequence[str]) -> None:
        """Customers stand under their default subscription, as the catalogue has it. `named`: those of them that a
        document names: all others have the same timeline, and the same calendar."""
        table, catalogue = self.subscriptions, self.catalogue
        fresh = numbers[self.customer_default[numbers] == NO_SUBSCRIPTION]
        self.customer_default[fresh] = self._add_subscriptions(len(fresh))
        slots = self.customer_default[numbers]
        self.customer_subscription[numbers] = slots
        table["customer"][slots] = numbers
        table["start"][slots], table["end"][slots] = TIME_MIN, TIME_MAX
        table["timeline"][slots] = self.timelines.number(catalogue.default_timeline(None))
        table["calendar"][slots] = self.calendars.number(catalogue.default_calendar(None))
        for customer, number in zip(named, self.customers.find_all(named).tolist(), strict=True):
            slot = self.customer_default[number]
            table["timeline"][slot] = self.timelines.number(catalogue.default_timeline(customer))
            table["calendar"][slot] = self.calendars.number(catalogue.default_calendar(customer))

    def _add_subscriptions(self, count: int) -> NDArray[np.int64]:
        """Subscriptions that are due from no time on."""
        first = self.subscriptions.extend(count)
        new = slice(first, first + count)
        self.subscriptions["cursor"][new] = TIME_MAX
        self.subscriptions["timeline"][new] = self.timelines.number(NEVER)
        return np.arange(first, first + count)

    def _own_subscription(self, id: str, customer: str) -> int:
        slot = self._own_slots.get((id, customer))
        if slot is None:
            slot = self._own_slots[id, customer] = int(self._add_subscriptions(1)[0])
            self.own_names[slot] = id, customer
        return slot

    def name_of(self, bill: int) -> tuple[str, str, str, bool]:
        """What a bill's subscription is known by: (tenant, id, customer, whether it is the customer's own)."""
        slot = int(self.bills["subscription"][bill])
        if slot in self.own_names:
            return self.tenant, *self.own_names[slot], True
        return self.tenant, DEFAULT_ID, self.customers[int(self.subscriptions["customer"][slot])], False

    def current(self, customer: int) -> list[int]:
        """The subscriptions under which a customer's periods go on: its own, or the default where it has none."""
        one = int(self.customer_subscription[customer])
        return self.several[customer] if one == SEVERAL else [one] if one >= 0 else []

    def bind(self, catalogue: Compiled) -> None:
        """Takes a catalogue into force: subscriptions, and the plan of every bill and the rate of every line."""
        self.catalogue = catalogue
        self.heads = None
        self.timelines = Timelines()
        table = self.subscriptions
        table["timeline"][: table.size] = self.timelines.number(NEVER)
        own: dict[int, list[int]] = {}
        for sub in catalogue.subscriptions:
            if partition_of(self.tenant, sub.customer, self.partitions) != self.partition:
                continue
            slot = self._own_subscription(sub.id, sub.customer)
            number = self.customer(sub.customer)
            table["customer"][slot] = number
            table["timeline"][slot] = self.timelines.number(sub.timeline)
            table["calendar"][slot] = self.calendars.number(sub.calendar)
            table["start"][slot], table["end"][slot] = sub.start, sub.end
            if table["cursor"][slot] == TIME_MAX:
                table["cursor"][slot] = sub.start
            own.setdefault(number, []).append(slot)
        size = len(self.customers)
        self.customer_subscription[:size] = NO_SUBSCRIPTION
        if catalogue.default_timelines:
            falls = np.ones(size, dtype=np.bool_)
            falls[list(own)] = False
            # Bills from before a customer had one of its own still stand under the default.
            falls |= self.customer_default[:size] != NO_SUBSCRIPTION
            named = list(catalogue.documents.customers)
            number_of = self.customers.find_all(named)
            numbers = np.flatnonzero(falls)
            chosen = np.flatnonzero((number_of >= 0) & np.isin(number_of, numbers)).tolist()
            self._set_defaults(numbers, [named[at] for at in chosen])
        self.several = {number: slots for number, slots in own.items() if len(slots) > 1}
        for number, slots in own.items():
            self.customer_subscription[number] = slots[0] if len(slots) == 1 else SEVERAL
        self._bind_bills()

    def _bind_bills(self) -> None:
        bills, size = self.bills, self.bills.size
        subscription = bills["subscription"][:size]
        timeline = self.subscriptions["timeline"][subscription]
        for rebooked in np.flatnonzero(bills["book"][:size]).tolist():
            timeline[rebooked] = self.timelines.number(self.catalogue.rebooked[self.rebooking(rebooked)])
        entry = self.timelines.at(timeline, bills["start"][:size])
        bills["plan"][:size] = self.timelines.plan(entry)
        plan = bills["plan"][self.lines["bill"][: self.lines.size]].astype(np.int64)
        pairs = (plan + 1) * len(self.charges.values) + self.lines["charge"][: self.lines.size]
        known, of = np.unique(pairs, return_inverse=True)
        found = np.array([self._rate_of(*divmod(pair, len(self.charges.values))) for pair in known.tolist()], _I4)
        self.lines["rate"][: self.lines.size] = found[of]

    def _rate_of(self, plan: int, charge: int) -> int:
        """The rate of a charge under a plan, by the plan's number and one; -1 where there is none."""
        return self.catalogue.plans[plan - 1].rates.get(self.charges.values[charge], -1) if plan else -1

    def rebooking(self, bill: int, price_book: str | None = None) -> Rebooking:
        """A bill's subscription under a price book: by default the one under which it was re-rated."""
        _, id, customer, own = self.name_of(bill)
        return Rebooking(price_book or self.books.values[int(self.bills["book"][bill])], customer, id, own)

    def rebooked(self) -> list[Rebooking]:
        """What must be compiled beside the documents for the bills that were re-rated under another price book."""
        bills = np.flatnonzero(self.bills["book"][: self.bills.size]).tolist()
        return list(dict.fromkeys(self.rebooking(bill) for bill in bills))

    def plan_of(self, bill: int) -> Plan:
        """The plan under which a segment stands; of one whose subscription is gone, that of nobody."""
        plan = int(self.bills["plan"][bill])
        return self.catalogue.plans[plan] if plan >= 0 else NO_PLAN

    def in_order(self, heads: Iterable[int]) -> list[int]:
        """Periods by their end, then by subscription."""
        return sorted(heads, key=lambda head: (int(self.bills["until"][head]), self.name_of(head)))

    def terms_of(self, head: int) -> Plan:
        """The plan whose terms hold for a whole period: that of its last segment that is no trial."""
        plans = [self.plan_of(bill) for bill in self.segments(head)]
        return next((plan for plan in reversed(plans) if not plan.trial), plans[-1])

    def segments(self, head: int) -> list[int]:
        """The segments of a period, in order."""
        found, at = [head], int(self.bills["next"][head])
        while at >= 0:
            found.append(at)
            at = int(self.bills["next"][at])
        return found

    def period_lines(self, head: int) -> list[int]:
        """The lines of all the segments of a period."""
        return [line for bill in self.segments(head) for line in self.lines_of(bill)]

    def lines_of(self, bill: int) -> list[int]:
        """The lines of a segment, in the order in which they were made."""
        found = []
        at = int(self.bills["line"][bill])
        while at >= 0:
            found.append(at)
            at = int(self.lines["before"][at])
        return found[::-1]

    def calendar_of(self, subscription: int) -> Calendar:
        """How a subscription's periods are cut."""
        calendar: Calendar = self.calendars.values[int(self.subscriptions["calendar"][subscription])]
        return calendar

    # Bills and lines ---------------------------------------------------------------------------------------------

    def add_periods(self, subscription: Rows, start: Rows, end: Rows) -> Rows:
        """The bills of the calendar's periods `[start, end)`: one for each segment in which a plan is in force."""
        entry, is_whole = self.timelines.whole(self.subscriptions["timeline"][subscription], start)
        cuts = np.union1d(np.flatnonzero(is_whole[1:] != is_whole[:-1]) + 1, np.arange(0, len(start), ROWS_AT_ONCE)[1:])
        made = []
        for rows in np.split(np.arange(len(start)), cuts):
            if not len(rows) or is_whole[rows[0]]:
                made.append(self._add_bills(subscription[rows], start[rows], end[rows], entry[rows]))
            else:
                columns = (subscription[rows].tolist(), start[rows].tolist(), end[rows].tolist())
                made += [np.array(self._add_period(*period), dtype=np.int64) for period in zip(*columns, strict=True)]
        return np.concatenate(made)

    def _add_period(self, subscription: int, start: int, end: int) -> list[int]:
        entries = self.timelines.entries(int(self.subscriptions["timeline"][subscription]))
        made: list[int] = []
        for at, entry in enumerate(entries):
            until = entries[at + 1].start if at + 1 < len(entries) else TIME_MAX
            first, last = max(entry.start, start), min(until, end)
            if entry.plan >= 0 and first < last:
                made.append(self._add_bill(subscription, start, end, first, last, entry, made[-1] if made else -1))
        return made

    def _add_bills(self, subscription: Rows, start: Rows, end: Rows, entry: Rows) -> Rows:
        """The bills of periods that have one segment each, under the plan of one entry."""
        first = self.bills.extend(len(start))
        bills, table, owner = np.arange(first, first + len(start)), self.bills, self.subscriptions
        new = slice(first, first + len(start))
        plan, since, opens = self.timelines.plan(entry), self.timelines.since(entry), self.timelines.opens(entry)
        table["subscription"][new], table["plan"][new], table["whole"][new] = subscription, plan, end - start
        table["start"][new], table["from"][new], table["end"][new] = start, start, end
        table["head"][new], table["next"][new], table["line"][new] = bills, -1, -1
        table["since"][new] = np.maximum(start, owner["start"][subscription])
        table["until"][new] = np.minimum(end, owner["end"][subscription])
        begins = (since == start) | ((since == TIME_MIN) & (owner["opened"][subscription] == 0))
        opening = np.flatnonzero(opens & begins)
        if len(opening):
            # Of several periods of one subscription the first one opens what has no beginning.
            again = np.zeros(len(start), dtype=np.bool_)
            if not (subscription[1:] > subscription[:-1]).all():
                again[:] = True
                again[np.unique(subscription, return_index=True)[1]] = False
            table["opens"][bills[opening]] = ~again[opening] | (since == start)[opening]
        owner["opened"][subscription] = 1
        for number in different(plan):
            levels = self.catalogue.plans[number].levels
            table["next_level"][bills[plan == number]] = wide_of(levels[0].spend if levels else NO_LEVEL)
        return bills

    def _add_bill(
        self, subscription: int, start: int, end: int, first: int, last: int, entry: Entry, before: int
    ) -> int:
        bill = self.bills.extend(1)
        table = self.bills
        table["subscription"][bill] = subscription
        table["plan"][bill] = entry.plan
        table["start"][bill], table["end"][bill] = first, last
        table["whole"][bill] = end - start
        table["next"][bill] = table["line"][bill] = -1
        begins = entry.start == first or (entry.start == TIME_MIN and not self.subscriptions["opened"][subscription])
        table["opens"][bill] = entry.opens and begins
        self.subscriptions["opened"][subscription] = 1
        head = bill
        if before >= 0:
            head = int(table["head"][before])
            table["next"][before] = bill
            table["book"][bill] = table["book"][head]
            if table["book"][bill]:
                number = self.timelines.number(self.catalogue.rebooked[self.rebooking(bill)])
                at = self.timelines.at(np.array([number]), np.array([first]))
                table["plan"][bill] = self.timelines.plan(at)[0]
            table["carries"][bill] = self.carries(before, bill)
        plan = self.catalogue.plans[entry.plan]
        if head == bill or not plan.trial:  # see `terms_of`
            table["next_level"][head] = wide_of(plan.levels[0].spend if plan.levels else NO_LEVEL)
        table["head"][bill] = head
        table["from"][bill] = start
        table["since"][head] = max(start, int(self.subscriptions["start"][subscription]))
        table["until"][head] = min(end, int(self.subscriptions["end"][subscription]))
        return bill

    def invoiced_of(self, head: int) -> int:
        """Where a period's invoices are counted, from now on."""
        row = int(self.bills["invoiced"][head])
        if not row:
            row = self.bills["invoiced"][head] = self.invoiced.extend(1)
        return row

    def cut_period(self, head: int) -> list[int]:
        """Cuts an open period's segments where the subscription's timeline changes now. Returns those that are new.

        A segment whose entry is gone stays, and stands under what is in force at its start."""
        table = self.bills
        subscription, start = int(table["subscription"][head]), int(table["from"][head])
        end = start + int(table["whole"][head])
        held = {int(table["start"][bill]): bill for bill in self.segments(head)}
        entries = self.timelines.entries(int(self.subscriptions["timeline"][subscription]))
        made: list[int] = []
        for at, entry in enumerate(entries):
            until = entries[at + 1].start if at + 1 < len(entries) else TIME_MAX
            first, last = max(entry.start, start), min(until, end)
            if entry.plan < 0 or first >= last:
                continue
            if first not in held and first > int(table["start"][head]):
                held[first] = self._add_bill(subscription, start, end, first, last, entry, head)
                made.append(held[first])
            if first in held:
                table["end"][held[first]] = last
        chain = [held[first] for first in sorted(held)]
        for bill, following in zip(chain, [*chain[1:], -1], strict=True):
            table["next"][bill] = following
            if following >= 0:
                table["end"][bill] = min(int(table["end"][bill]), int(table["start"][following]))
                table["carries"][following] = self.carries(bill, following)
        table["until"][head] = min(end, int(self.subscriptions["end"][subscription]))
        return made

    def carries(self, before: int, bill: int) -> bool:
        """Whether units used before stay used: under the same price book. (Those of a trial never count.)"""
        earlier, later = self.plan_of(before), self.plan_of(bill)
        same = earlier.price_version == later.price_version
        return (later.carry_usage or same or earlier.trial) and earlier.price_book == later.price_book

    def add_lines(
        self, bill: NDArray[Any], charge: NDArray[Any], combo: NDArray[Any], rate: NDArray[Any]
    ) -> NDArray[np.int64]:
        """New lines, one for each row."""
        first = self.lines.extend(len(bill))
        slots = np.arange(first, first + len(bill))
        lines, new = self.lines, slice(first, first + len(bill))
        lines["bill"][new], lines["charge"][new], lines["combo"][new] = bill, charge, combo
        lines["rate"][new] = rate
        lines["cell"][new] = -1
        lines["first"][new], lines["last"][new] = TIME_MAX, TIME_MIN
        lines["through"][new] = -1
        self._chain_lines(first)
        return slots

    def _chain_lines(self, first: int) -> None:
        """The lines from `first` on stand behind those that their bills have."""
        newest, before = self.bills["line"], self.lines["before"]
        bill = self.lines["bill"][first : self.lines.size]
        order = np.argsort(bill, kind="stable")
        of = bill[order]
        is_first = np.append(True, of[1:] != of[:-1]) if len(of) else np.empty(0, np.bool_)
        slots = first + order
        before[slots] = np.where(is_first, newest[of], np.append(-1, slots[:-1]) if len(of) else slots)
        newest[of] = slots  # written last, the newest one of a bill stays

    def attach_cells(self, cells: NDArray[np.int64], lines: NDArray[np.int64]) -> None:
        """Notes which cells each line holds."""
        first = self.lines["cell"]
        self.cells["next"][cells] = -1
        empty = np.flatnonzero(first[lines] == -1)[::-1]  # written last, the first one of a line stays
        first[lines[empty]] = cells[empty]
        others = np.flatnonzero(first[lines] != cells)
        for cell, line in zip(cells[others].tolist(), lines[others].tolist(), strict=True):
            self._attach_cell(cell, line)

    def _attach_cell(self, cell: int, line: int) -> None:
        """Puts a cell into its line's chain behind those that the price book writes before it."""
        first, following, number = self.lines["cell"], self.cells["next"], self.cells["number"]
        before, at = -1, int(first[line])
        while at >= 0 and number[at] <= number[cell]:
            before, at = at, int(following[at])
        following[cell] = at
        if before < 0:
            first[line] = cell
        else:
            following[before] = cell

    def index_cells(self, cells: NDArray[np.int64]) -> None:
        """Those of some cells that are not alone in their line can be found; the others are, by way of it."""
        first = self.lines["cell"][self.cells["line"][cells]]
        cells = cells[self.cells["next"][first] >= 0]
        places, _ = self.cell_index.add(self.cell_keys(cells))
        self.cell_index.values[places] = cells

    def cell_keys(self, cells: NDArray[np.int64]) -> Keys:
        """What each of some cells is of, whether or not it is in the index."""
        table, line = self.cells, self.cells["line"][cells]
        bill, combo = self.lines["bill"][line], self.lines["combo"][line]
        return cell_keys(bill, table["shape"][cells], combo, table["number"][cells])

    def cells_of(self, line: int) -> list[int]:
        """The cells of a line as the price book writes them."""
        found = []
        at = int(self.lines["cell"][line])
        while at >= 0:
            found.append(at)
            at = int(self.cells["next"][at])
        return found

    @property
    def nbytes(self) -> int:
        """Bytes of memory in tables and indexes (lists not counted)."""
        tables = (self.subscriptions, self.bills, self.invoiced, self.lines, self.cells, self.ledger)
        indexes = (self.bill_index, self.line_index, self.cell_index, self.values_seen, self.voided)
        columns = (self.customer_subscription, self.customer_default, self.customer_newest, self.customer_events)
        of_customers = len(self.customers) * sum(column.itemsize for column in columns)
        return of_customers + sum(t.nbytes for t in (*tables, *indexes, self.customers))

    # Snapshot ----------------------------------------------------------------------------------------------------

    def dump(self) -> dict[str, Any]:
        """The whole state, but for the rows of the ledger that lie in files: plain values and the bytes of columns."""
        indexes = {name: _dump_index(getattr(self, name)) for name in _INDEXES}
        indexes["cell_index"] = self._dump_cells()
        tables = {name: [getattr(self, name).size, getattr(self, name).dump()] for name in _TABLES}
        for table, column in (
            *(("subscriptions", "timeline"), ("bills", "line")),
            *(("lines", "before"), ("cells", "shape")),
        ):
            del tables[table][1][column]  # `bind` and `load` give them
        return {
            "clock": [self.clock, self.closed_before, self.newest],
            "catalogue": encode_document(self.catalogue.documents),
            "customers": self.customers.dump(),
            "own_names": [[slot, *name] for slot, name in self.own_names.items()],
            "calendars": self.calendars.values,
            "charges": self.charges.values,
            "combos": self.combos.values,
            "books": self.books.values,
            "shapes": self.shapes.values,
            "indexes": indexes,
            "tables": tables,
            "fired": list(self.fired.items()),
            "gauges": self.gauges.values,
            "ledger": self.ledger.dump(),
            "ticks": self.ticks,
            "totals": self.totals.dump(),
            "accounts": self.accounts.dump(),
            "unused": [[*key, bill] for key, bill in self.unused.items()],
            "born": list(self.born.items()),
            "arrivals": self.arrivals,
            "corrected_from": self.corrected_from,
            "customer_newest": self.customer_newest[: len(self.customers)].tobytes(),
            "customer_events": self.customer_events[: len(self.customers)].tobytes(),
            "customer_default": self.customer_default[: len(self.customers)].tobytes(),
        }

    def _dump_cells(self) -> list[bytes]:
        """An index of all cells: their keys, with noughts held as an index holds them, and their numbers."""
        keys = without_nought(self.cell_keys(np.arange(self.cells.size)))
        return [keys.tobytes(), np.arange(self.cells.size, dtype=np.uint32).tobytes()]

    def _load_cells(self, dumped: list[bytes]) -> None:
        """The cells get the shapes that their keys say."""
        keys = np.frombuffer(dumped[0], dtype=np.uint64).reshape(-1, 2)
        keys = np.where((keys == NOUGHT_KEY).all(axis=1, keepdims=True), np.uint64(0), keys)
        cells = np.frombuffer(dumped[1], dtype=np.uint32).astype(np.int64)
        self.cells["shape"][cells] = (keys[:, 0] & np.uint64(0xFFFFFFFF)).astype(np.int32)
        self.index_cells(cells)

    @classmethod
    def load(
        cls, dumped: dict[str, Any], partition: int, partitions: int, tenant: str, shelf: Shelf | None = None
    ) -> "State":
        """What `dump` wrote; what is kept of events comes after it (`rating.keeper.keep_again`)."""
        state = cls(partition, partitions, tenant)
        state.clock, state.closed_before, state.newest = dumped["clock"]
        state.customers = Texts.load(dumped["customers"])
        state.own_names = {slot: (id, customer) for slot, id, customer in dumped["own_names"]}
        state._own_slots = {name: slot for slot, name in state.own_names.items()}
        state.calendars = Names([Calendar(*value) for value in dumped["calendars"]])
        state.charges, state.shapes = Names(dumped["charges"]), Names(dumped["shapes"])
        state.combos = Names([tuple(value) for value in dumped["combos"]])
        state.books = Names(dumped.get("books", [""]))
        for name in _INDEXES:
            setattr(state, name, _load_index(dumped["indexes"][name]))
        for name, spec in _TABLES.items():
            size, columns = dumped["tables"][name]
            setattr(state, name, Table.load(spec, columns, size))
        state._load_cells(dumped["indexes"]["cell_index"])
        state.ledger = Ledger.load(dumped["ledger"], shelf)
        state.accounts = Accounts.load(dumped["accounts"])
        state.unused = {(head, charge): bill for head, charge, bill in dumped["unused"]}
        state.born = dict(dumped["born"])
        state.gauges = Names([tuple(texts) for texts in dumped["gauges"]])
        state.totals = Totals.load(dumped["totals"])
        state.ticks, state.arrivals = dumped["ticks"], dumped["arrivals"]
        state.corrected_from = dumped["corrected_from"]
        known = len(state.customers)
        state._make_room(0)
        state.customer_newest[:known] = np.frombuffer(dumped["customer_newest"], np.int64)
        state.customer_events[:known] = np.frombuffer(dumped["customer_events"], np.int64)
        state.customer_default[:known] = np.frombuffer(dumped["customer_default"], np.int32)
        state.bills["line"][: state.bills.size] = -1
        state._chain_lines(0)
        state.fired = dict(dumped["fired"])
        state.bind(load_catalogue(dumped["catalogue"], state.rebooked()))
        return state


_INDEXES: Final = ("bill_index", "line_index", "values_seen", "voided")
_TABLES: Final = {
    "subscriptions": SUBSCRIPTIONS,
    "bills": BILLS,
    "invoiced": INVOICED,
    "lines": LINES,
    "cells": CELLS,
}


def cell_keys(bill: NDArray[Any], shape: NDArray[Any] | int, combo: NDArray[Any], number: NDArray[Any]) -> Keys:
    """The keys of cells: of a line, the shape by which they read usage, and their numbers there."""
    high = bill.astype(np.uint64) << np.uint64(32) | np.asarray(shape).astype(np.uint64)
    return make_keys(high, combo.astype(np.uint64) << np.uint64(16) | number.astype(np.uint64))


def _grown(column: NDArray[Any], first: int, size: int, nothing: int) -> NDArray[Any]:
    """The column with room for `size` rows, and `nothing` in those from `first` on."""
    column = longer(column, size, first)
    column[first:size] = nothing
    return column


def _dump_index(index: HashIndex) -> list[bytes]:
    keys, values = index.ordered()
    return [keys.tobytes(), values.tobytes()]


def _load_index(dumped: list[bytes]) -> HashIndex:
    keys = np.frombuffer(dumped[0], dtype=np.uint64).reshape(-1, 2)
    return HashIndex.of(keys, np.frombuffer(dumped[1], dtype=np.uint32))
