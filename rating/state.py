"""The state of one partition's engine: tables, what they are found by, and their snapshot. No arithmetic.

    customer -> subscription -> bill (a billing period of it) -> line (a charge and its group) -> cell (a total)

Every row is a slot that never moves; texts are held once and known by number.
"""

from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from rating.catalogue import load_catalogue
from rating.compiled import TENANT, TIME_MAX, TIME_MIN, Compiled, Plan
from rating.deduplicate import Deduplicator
from rating.exact import wide_of
from rating.index import HashIndex
from rating.table import Table
from schemas.faults import encode_document
from schemas.identity import partition_of
from schemas.numbers import SCALED_MAX
from schemas.period import Calendar

SNAPSHOT_VERSION: Final = 1
NO_LEVEL: Final = SCALED_MAX + 1
"""The next threshold of a bill that has none."""
NO_SUBSCRIPTION: Final = -1
DEFAULT_ID: Final = "default"
"""The id of the subscription of a customer that has none of its own."""
SEVERAL: Final = -2

_I4, _I8, _U1 = np.int32, np.int64, np.uint8
SUBSCRIPTIONS: Final = {
    "plan": (_I4, 1),
    "calendar": (_I4, 1),
    "start": (_I8, 1),
    "end": (_I8, 1),
    "cursor": (_I8, 1),  # periods that begin before it have their bill; TIME_MAX: none is due yet
}
BILLS: Final = {
    "subscription": (_I4, 1),
    "start": (_I8, 1),
    "end": (_I8, 1),
    "whole": (_I8, 1),  # the length of the calendar's whole period, in microseconds
    "spend": (_I8, 2),
    "next_level": (_I8, 2),
    "opened": (_I8, 1),  # the offset of what opened it
    "closed": (_U1, 1),
    "invoices": (_I4, 1),
}
LINES: Final = {
    "bill": (_I4, 1),
    "charge": (_I4, 1),
    "combo": (_I4, 1),
    "rate": (_I4, 1),  # -1: a flat charge, or one whose price is gone
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
    """Everything that one partition's engine knows."""

    def __init__(self, partition: int, partitions: int, window_days: int | None) -> None:
        self.partition = partition
        self.partitions = partitions
        self.clock = TIME_MIN
        """The greatest tick."""
        self.closed_before = TIME_MIN
        """Periods that end at or before it are closed: the clock less the allowed lateness."""
        self.newest = TIME_MIN
        """The greatest event time."""
        self.catalogue: Compiled = load_catalogue(b"{}")
        self.identities = Deduplicator(window_days)
        self.customers = Names()  # (tenant, customer)
        self.customer_subscription: NDArray[np.int32] = np.full(1024, NO_SUBSCRIPTION, np.int32)
        self.several: dict[int, list[int]] = {}
        self.subscription_names = Names()  # (tenant, subscription id, customer, own)
        self.subscriptions = Table(SUBSCRIPTIONS)
        self.calendars = Names()
        self.charges = Names()
        self.combos = Names([()])
        self.shapes = Names()  # signatures
        self.bill_index, self.line_index, self.cell_index = HashIndex(), HashIndex(), HashIndex()
        self.values_seen = HashIndex()
        self.bills, self.lines, self.cells = Table(BILLS), Table(LINES), Table(CELLS)
        self.bill_lines: list[list[int]] = []
        self.heads: Any = None
        """The parts of each line's JSON that do not change under one catalogue (a cache; see `rating.emit`)."""
        self.fired: dict[int, dict[str, int]] = {}
        """bill -> spend of a threshold (as text) -> how many of its levels have been crossed."""

    # Subscriptions -----------------------------------------------------------------------------------------------

    def customer(self, tenant: str, customer: str) -> int:
        """The number of a customer; one that is new gets the subscription it falls under."""
        found = self.customers.find((tenant, customer))
        return self._add_customer(tenant, customer) if found is None else found

    def _add_customer(self, tenant: str, customer: str) -> int:
        number = self.customers.number((tenant, customer))
        if number >= len(self.customer_subscription):
            grown = np.full(2 * len(self.customer_subscription), NO_SUBSCRIPTION, np.int32)
            grown[:number] = self.customer_subscription[:number]
            self.customer_subscription = grown
        self.customer_subscription[number] = NO_SUBSCRIPTION
        if tenant == TENANT and self.catalogue.default_plan >= 0:
            self.customer_subscription[number] = self._default_subscription(customer)
        return number

    def _default_subscription(self, customer: str) -> int:
        slot = self.subscription(DEFAULT_ID, customer, own=False)
        table = self.subscriptions
        table["plan"][slot] = self.catalogue.default_plan
        table["calendar"][slot] = self.calendars.number(self.catalogue.default_calendar(customer))
        table["start"][slot], table["end"][slot] = TIME_MIN, TIME_MAX
        return slot

    def subscription(self, id: str, customer: str, own: bool) -> int:
        """The slot of a subscription; a new one is due from no time on."""
        slot = self.subscription_names.number((TENANT, id, customer, own))
        if slot == self.subscriptions.size:
            self.subscriptions.extend(1)
            self.subscriptions["cursor"][slot] = TIME_MAX
            self.subscriptions["plan"][slot] = -1
        return slot

    def bind(self, catalogue: Compiled) -> None:
        """Takes a catalogue into force: subscriptions, and the rate of every line."""
        self.catalogue = catalogue
        self.heads = None
        own: dict[int, list[int]] = {}
        for sub in catalogue.subscriptions:
            if partition_of(TENANT, sub.customer, self.partitions) != self.partition:
                continue
            slot = self.subscription(sub.id, sub.customer, own=True)
            table = self.subscriptions
            table["plan"][slot] = sub.plan
            table["calendar"][slot] = self.calendars.number(sub.calendar)
            table["start"][slot], table["end"][slot] = sub.start, sub.end
            if table["cursor"][slot] == TIME_MAX:
                table["cursor"][slot] = sub.start
            own.setdefault(self.customer(TENANT, sub.customer), []).append(slot)
        self.several.clear()
        for number, (tenant, customer) in enumerate(self.customers.values):
            slots = own.get(number, [])
            left = self.subscription_names.find((TENANT, DEFAULT_ID, customer, False)) if slots else None
            if left is not None:  # bills from before it had one of its own still stand under the default plan
                self.subscriptions["plan"][left] = catalogue.default_plan
            if len(slots) > 1:
                self.several[number] = slots
                self.customer_subscription[number] = SEVERAL
            elif slots:
                self.customer_subscription[number] = slots[0]
            elif tenant == TENANT and catalogue.default_plan >= 0:
                self.customer_subscription[number] = self._default_subscription(customer)
            else:
                self.customer_subscription[number] = NO_SUBSCRIPTION
        self._bind_lines()

    def _bind_lines(self) -> None:
        charges = self.charges.values
        for line in range(self.lines.size):
            plan = self.plan_of(int(self.lines["bill"][line]))
            self.lines["rate"][line] = plan.rates.get(charges[self.lines["charge"][line]], -1)

    def plan_of(self, bill: int) -> Plan:
        """The plan under which a bill stands."""
        return self.catalogue.plans[int(self.subscriptions["plan"][self.bills["subscription"][bill]])]

    def calendar_of(self, subscription: int) -> Calendar:
        """How a subscription's periods are cut."""
        calendar: Calendar = self.calendars.values[int(self.subscriptions["calendar"][subscription])]
        return calendar

    # Bills and lines ---------------------------------------------------------------------------------------------

    def add_bill(self, subscription: int, start: int, end: int) -> int:
        """A new bill for the calendar's period `[start, end)`, cut to the subscription's own time."""
        bill = self.bills.extend(1)
        table = self.bills
        table["subscription"][bill] = subscription
        table["start"][bill] = max(start, int(self.subscriptions["start"][subscription]))
        table["end"][bill] = min(end, int(self.subscriptions["end"][subscription]))
        table["whole"][bill] = end - start
        thresholds = self.plan_of(bill).thresholds
        table["next_level"][bill] = wide_of(thresholds[0][0] if thresholds else NO_LEVEL)
        self.bill_lines.append([])
        return bill

    def add_lines(
        self, bill: NDArray[Any], charge: NDArray[Any], combo: NDArray[Any], rate: NDArray[Any]
    ) -> NDArray[np.int64]:
        """New lines, one for each row."""
        first = self.lines.extend(len(bill))
        slots = np.arange(first, first + len(bill))
        lines = self.lines
        lines["bill"][slots], lines["charge"][slots], lines["combo"][slots] = bill, charge, combo
        lines["rate"][slots] = rate
        lines["cell"][slots] = -1
        lines["first"][slots], lines["last"][slots] = TIME_MAX, TIME_MIN
        lines["through"][slots] = -1
        for owner, slot in zip(bill.tolist(), slots.tolist(), strict=True):
            self.bill_lines[owner].append(slot)
        return slots

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
        """Bytes of memory in tables and indexes (texts and lists not counted)."""
        tables = (self.subscriptions, self.bills, self.lines, self.cells)
        indexes = (self.bill_index, self.line_index, self.cell_index, self.values_seen)
        return sum(t.nbytes for t in tables) + sum(i.nbytes for i in indexes) + self.identities.nbytes

    # Snapshot ----------------------------------------------------------------------------------------------------

    def dump(self) -> bytes:
        """The whole state as MessagePack: plain values and the bytes of columns, nothing that is executed."""
        indexes = {name: _dump_index(getattr(self, name)) for name in _INDEXES}
        tables = {name: [getattr(self, name).size, getattr(self, name).dump()] for name in _TABLES}
        return msgspec.msgpack.encode(
            {
                "version": SNAPSHOT_VERSION,
                "partition": [self.partition, self.partitions],
                "clock": [self.clock, self.closed_before, self.newest],
                "catalogue": encode_document(self.catalogue.documents),
                "identities": self.identities.dump(),
                "customers": self.customers.values,
                "subscription_names": self.subscription_names.values,
                "calendars": self.calendars.values,
                "charges": self.charges.values,
                "combos": self.combos.values,
                "shapes": self.shapes.values,
                "indexes": indexes,
                "tables": tables,
                "fired": list(self.fired.items()),
            }
        )

    @classmethod
    def load(cls, raw: bytes, partition: int, partitions: int, window_days: int | None) -> "State":
        """What `dump` wrote. Raises: ValueError where it is of another partition or a newer version."""
        dumped = msgspec.msgpack.decode(raw)
        if dumped["version"] > SNAPSHOT_VERSION:
            raise ValueError(f"found a state of version {dumped['version']}, expected at most {SNAPSHOT_VERSION}")
        if dumped["partition"] != [partition, partitions]:
            raise ValueError(f"found the state of partition {dumped['partition']}, expected {[partition, partitions]}")
        state = cls(partition, partitions, window_days)
        state.clock, state.closed_before, state.newest = dumped["clock"]
        state.identities.load(dumped["identities"])
        state.customers = Names([tuple(value) for value in dumped["customers"]])
        state.customer_subscription = np.full(max(1024, 2 * len(dumped["customers"])), NO_SUBSCRIPTION, np.int32)
        state.subscription_names = Names([tuple(value) for value in dumped["subscription_names"]])
        state.calendars = Names([Calendar(*value) for value in dumped["calendars"]])
        state.charges, state.shapes = Names(dumped["charges"]), Names(dumped["shapes"])
        state.combos = Names([tuple(value) for value in dumped["combos"]])
        for name in _INDEXES:
            setattr(state, name, _load_index(dumped["indexes"][name]))
        for name, spec in _TABLES.items():
            size, columns = dumped["tables"][name]
            setattr(state, name, Table.load(spec, columns, size))
        state.bill_lines = [[] for _ in range(state.bills.size)]
        for line, bill in enumerate(state.lines["bill"][: state.lines.size].tolist()):
            state.bill_lines[bill].append(line)
        state.fired = dict(dumped["fired"])
        state.bind(load_catalogue(dumped["catalogue"]))
        return state


_INDEXES: Final = ("bill_index", "line_index", "cell_index", "values_seen")
_TABLES: Final = {"subscriptions": SUBSCRIPTIONS, "bills": BILLS, "lines": LINES, "cells": CELLS}


def _dump_index(index: HashIndex) -> list[bytes]:
    keys, values = index.items()
    return [keys.tobytes(), values.tobytes()]


def _load_index(dumped: list[bytes]) -> HashIndex:
    keys = np.frombuffer(dumped[0], dtype=np.uint64).reshape(-1, 2)
    return HashIndex.of(keys, np.frombuffer(dumped[1], dtype=np.uint32))
