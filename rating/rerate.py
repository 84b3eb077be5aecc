"""Re-rating: what was billed of a customer is rated again. The one way in which prices reach what is past.

Owns what a re-rating entry does: which periods it concerns, whether another price book fits them, which usage moves to
a segment that was cut after it was counted, and what every line comes to then. Nothing issued is edited: lines get
higher revisions, and what differs from what was billed of a closed period leaves as a correction (`rating.billing`).
Levels that were crossed stay crossed. The same entry twice changes nothing the second time.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import msgspec
import numpy as np
from numpy.typing import NDArray

from rating.billing import Biller
from rating.catalogue import load_catalogue
from rating.changes import FLAT, readings
from rating.compiled import TIME_MAX, TIME_MIN, Compiled, Plan, Shape
from rating.due import find_due
from rating.exact import int_of, wide_of
from rating.items import line_item
from rating.keeper import keep_again, spread_gauges
from rating.lines import earlier_segments, rate_line, shape_of, sibling, unused_amount
from rating.slots import find_cells
from rating.state import State
from rating.voids import recount
from schemas import topics
from schemas.entry import Rerate
from schemas.faults import encode_document, unknown
from schemas.numbers import ONE, NumberError
from schemas.output import Invoice, LineItem
from schemas.times import format_time, parse_time

GONE = "the price book no longer has this charge: it stays as it was billed"
DROPPED = "its price needs every single event, and those of this period are no longer kept: it stays as it was billed"
UNKNOWN = "the events of this period are no longer kept: what was counted stays under the earlier prices"
LARGE = "the amount would not fit 38 digits: it stays as it was billed"
OTHERWISE = "the later prices read usage otherwise: what was counted stays under the earlier ones"


@dataclass(slots=True)
class Rerated:
    """What a re-rating did. `heads`: the periods, in the order in which they were rated. `refused`: why nothing was
    done at all, one text for each reason. `left`: lines that stay as they are, and why."""

    heads: list[int] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    left: dict[int, str] = field(default_factory=dict)


def rerate(state: State, biller: Biller, asked: Rerate, offset: int) -> Rerated:
    """Rates a customer's periods again. Where the price book asked for does not fit, nothing is changed."""
    found = Rerated()
    number = state.customers.find(asked.customer)
    if number is None:
        found.refused.append(f"customer: found {asked.customer!r}, expected a customer that has used something")
        return found
    found.heads = periods_of(state, asked)
    stood = {bill: _terms(state, bill) for head in found.heads for bill in state.segments(head)}
    if asked.price_book is not None and found.heads:
        found.refused = rebook(state, found.heads, asked.price_book)
        if found.refused:
            return found
    spread_gauges(state, [number])
    state.ticks += 1  # lines of gauges count their revisions by it
    for head in found.heads:
        one = _Period(state, biller, head, offset, found.left)
        one.rate()
        one.tell({bill for bill in state.segments(head) if stood.get(bill) != _terms(state, bill)})
        if not state.bills["closed"][head]:
            biller.watch(head)
        elif state.bills["touched"][head] or find_due(state, head).lines:
            state.bills["touched"][head] = 1  # a commitment may be another where no line is
            biller.correct(head, offset)
    return found


def periods_of(state: State, asked: Rerate) -> list[int]:
    """The periods (their heads) that a re-rating concerns, by their end, then by subscription."""
    number = state.customers.find(asked.customer)
    if number is None:
        return []
    since, until = parse_time(asked.since), TIME_MAX if asked.until is None else parse_time(asked.until)
    bills, size = state.bills, state.bills.size
    owner = state.subscriptions["customer"][bills["subscription"][:size]]
    start = bills["start"][:size]
    chosen = (owner == number) & (bills["head"][:size] == np.arange(size)) & (start >= since) & (start < until)
    return state.in_order(np.flatnonzero(chosen).tolist())


def _terms(state: State, bill: int) -> tuple[str, int]:
    plan = state.plan_of(bill)
    return plan.price_book, plan.price_version


# Another price book --------------------------------------------------------------------------------------------------


def rebook(state: State, heads: Sequence[int], price_book: str) -> list[str]:
    """Puts periods under another price book for good. Returns why not, and changes nothing then."""
    books = state.catalogue.documents.price_books
    if price_book not in books:
        return [f"price_book: no such price book: {unknown(price_book, list(books))}"]
    bills = [bill for head in heads for bill in state.segments(head)]
    wanted = {bill: state.rebooking(bill, price_book) for bill in bills}
    catalogue = state.catalogue
    if any(one not in catalogue.rebooked for one in wanted.values()):
        both = dict.fromkeys([*state.rebooked(), *wanted.values()])
        catalogue = load_catalogue(encode_document(catalogue.documents), both)
    refused = [str(fault) for one in dict.fromkeys(wanted.values()) for fault in catalogue.rebook_faults.get(one, ())]
    for bill, one in wanted.items():
        start = int(state.bills["start"][bill])
        entry = [entry for entry in catalogue.rebooked[one] if entry.start <= start][-1:]
        if not entry or entry[0].plan < 0:
            refused.append(f"price_book: no version of {price_book} is in force at {format_time(start)}")
            continue
        refused += _misfits(state.catalogue, int(state.bills["plan"][bill]), catalogue, entry[0].plan)
    if refused:
        return list(dict.fromkeys(refused))
    number = state.books.number(price_book)
    for bill in bills:
        state.bills["book"][bill] = number
    state.bind(catalogue)
    for head in heads:
        chain = state.segments(head)
        for before, bill in pairwise(chain):
            state.bills["carries"][bill] = state.carries(before, bill)
    return []


def _misfits(before: Compiled, was: int, after: Compiled, now: int) -> list[str]:
    """What keeps a bill from changing over from one plan to another: usage is counted as its charges read it."""
    if was < 0:
        return []
    old, new = before.plans[was], after.plans[now]
    found = []
    if old.currency != new.currency:
        found.append(f"{new.price_book}: found the currency {new.currency}, expected {old.currency} as it was billed")
    reads, would = readings(before, was), readings(after, now)
    for charge in dict.fromkeys([*reads, *would]):
        one, other = reads.get(charge), would.get(charge)
        if one == other or {one, other} <= {FLAT, None}:
            continue
        if other is None or (one is None):
            has, lacks = (old, new) if other is None else (new, old)
            found.append(f"{charge}: {_of(has)} charges usage by it, {_of(lacks)} has no such charge")
        else:
            found.append(f"{charge}: {_of(new)} reads usage otherwise than {_of(old)} (was: {one}; now: {other})")
    return found


def _of(plan: Plan) -> str:
    return f"{plan.price_book} (version {plan.price_version})"


# One period ----------------------------------------------------------------------------------------------------------


class _Period:
    """Rates one period again, segment by segment."""

    def __init__(self, state: State, biller: Biller, head: int, offset: int, left: dict[int, str]) -> None:
        self.state = state
        self.biller = biller
        self.head = head
        self.offset = offset
        self.left = left
        self.before = {line: int(state.lines["revision"][line]) for line in state.period_lines(head)}

    def rate(self) -> None:
        """Everything that the period asks, in the order in which its segments follow each other."""
        state, biller, at = self.state, self.biller, np.array([self.offset])
        moved = self._move_usage()
        kept = self._kept_whole()
        closed = bool(state.bills["closed"][self.head])
        for bill in state.segments(self.head):
            plan, one = state.plan_of(bill), np.array([bill])
            flats = [flat for flat in plan.flats if flat.in_advance or closed]
            for flat in flats:
                biller.charge_flat(one, flat, at)
            self._unasked(bill, {flat.charge for flat in flats}, closed)
            for line in state.lines_of(bill):
                if state.lines["events"][line] or state.cells_of(line):
                    self._usage(line, line in moved, kept)
        if closed:
            biller.charge_ended(self.head, self.offset)

    def tell(self, bills: set[int]) -> None:
        """Lines of segments that stand under other prices now say so, whether or not they come to the same."""
        lines = self.state.lines
        for bill in bills:
            for line in self.state.lines_of(bill):
                if lines["written"][line] and int(lines["revision"][line]) == self.before.get(line):
                    lines["revision"][line] += 1
                    lines["through"][line] = max(int(lines["through"][line]), self.offset)
                    self.biller.changed.append(line)

    def _unasked(self, bill: int, flats: set[str], closed: bool) -> None:
        """Lines that no event made: what is no longer asked goes to nought, what no usage costs is asked anew."""
        state = self.state
        plan, one, at = state.plan_of(bill), np.array([bill]), np.array([self.offset])
        for line in state.lines_of(bill):
            charge = state.charges.values[state.lines["charge"][line]]
            if state.lines["events"][line] or state.cells_of(line) or charge in flats:
                continue
            number = int(state.lines["rate"][line])
            rate = state.catalogue.rates[number] if number >= 0 else None
            due = rate is not None and rate.due_unused and closed and not plan.trial
            self.biller.due(one, charge, [unused_amount(rate) if rate is not None and due else 0], 0, at)

    def _usage(self, line: int, moved: bool, kept: set[int]) -> None:
        state = self.state
        number = int(state.lines["rate"][line])
        if number < 0:
            if int_of(state.lines["amount"][line]):
                self.left[line] = GONE
            return
        rate = state.catalogue.rates[number]
        if rate.kept or rate.ordered:
            bills = earlier_segments(state, int(state.lines["bill"][line]))
            if not kept.issuperset([line, *(n for n in (sibling(state, line, b) for b in bills) if n is not None)]):
                self.left[line] = DROPPED
                return
        try:
            rate_line(state, line)
        except NumberError:
            self.left[line] = LARGE
            return
        self.biller.rerate(line, int(moved), self.offset)

    # Usage between segments --------------------------------------------------------------------------------------

    def _cells(self) -> NDArray[np.int64]:
        lines = self.state.period_lines(self.head)
        return np.array([cell for line in lines for cell in self.state.cells_of(line)], dtype=np.int64)

    def _kept_whole(self) -> set[int]:
        """The lines every event of which is still in the ledger."""
        of = self.state.cells["line"]
        broken = {int(of[cell]) for cell, rows in self._rows(self._cells()).items() if not self._whole(cell, rows)}
        return set(self.state.period_lines(self.head)) - broken

    def _rows(self, cells: NDArray[np.int64]) -> dict[int, NDArray[np.int64]]:
        """The rows of the ledger of each of some cells."""
        cells = np.sort(cells)
        rows = self.state.ledger.of_cells(cells)
        owner = self.state.ledger.read("cell", rows)
        order = np.argsort(owner, kind="stable")
        rows, owner = rows[order], owner[order]
        first, last = (np.searchsorted(owner, cells, side=side) for side in ("left", "right"))
        return {cell: rows[a:b] for cell, a, b in zip(cells.tolist(), first.tolist(), last.tolist(), strict=True)}

    def _whole(self, cell: int, rows: NDArray[np.int64]) -> bool:
        return len(rows) == int(self.state.cells["events"][cell])

    def _move_usage(self) -> set[int]:
        """Usage that was counted before its period was cut moves into the segment that holds its time. Returns the
        lines that gain or lose any."""
        state = self.state
        segments = state.segments(self.head)
        if len(segments) < 2:
            return set()
        starts = state.bills["start"][segments]
        changed: set[int] = set()
        for cell, rows in self._rows(self._cells()).items():
            line = int(state.cells["line"][cell])
            at = np.maximum(np.searchsorted(starts, state.ledger.read("time", rows), side="right") - 1, 0)
            owner = np.array(segments)[at]
            elsewhere = owner != state.lines["bill"][line]
            if not self._whole(cell, rows):
                if state.lines["last"][line] >= state.bills["end"][state.lines["bill"][line]]:
                    self.left[line] = UNKNOWN
                continue
            if not elsewhere.any() or state.lines["rate"][line] < 0:
                continue
            shape = shape_of(state, line)
            for bill in np.unique(owner[elsewhere]).tolist():
                target = self._cell_in(bill, shape, line, int(state.cells["number"][cell]))
                if target is None:
                    self.left[line] = OTHERWISE
                    continue
                there = rows[owner == bill]
                state.ledger.move(there, np.full(len(there), target))
                changed.update((cell, target))
        if changed:
            self._recount(np.array(sorted(changed), dtype=np.int32))
        return {int(state.cells["line"][cell]) for cell in changed}

    def _cell_in(self, bill: int, shape: Shape, line: int, number: int) -> int | None:
        """The cell of the same charge and group in another segment; None where that reads usage otherwise."""
        state = self.state
        plan = int(state.bills["plan"][bill])
        rate = int(state.catalogue.plan_rates[plan, shape.index]) if plan >= 0 else -1
        if rate < 0:
            return None
        combo = np.array([state.lines["combo"][line]], dtype=np.int64)
        found = find_cells(state, shape, np.array([bill]), combo, np.array([number]), np.array([rate]))
        return int(found[0])

    def _recount(self, cells: NDArray[np.int32]) -> None:
        state = self.state
        keep_again(state, cells.tolist())
        recount(state, cells)
        for line in sorted({int(state.cells["line"][cell]) for cell in cells.tolist()}):
            self._recount_texts(line)
            own = state.cells_of(line)
            rate = state.catalogue.rates[int(state.lines["rate"][line])]
            counted = [cell for cell in own if rate.counted[int(state.cells["number"][cell])]]
            state.lines["events"][line] = sum(int(state.cells["events"][cell]) for cell in counted)
            times = state.ledger.read("time", state.ledger.of_cells(np.array(own, dtype=np.int64)))
            state.lines["first"][line] = int(times.min()) if len(times) else TIME_MAX
            state.lines["last"][line] = int(times.max()) if len(times) else TIME_MIN

    def _recount_texts(self, line: int) -> None:
        """Segments of a period count a text once between them: the first one that has it does."""
        state = self.state
        rate = state.catalogue.rates[int(state.lines["rate"][line])]
        if state.catalogue.meter(rate.meter).aggregate.reads != "text":
            return
        seen: dict[int, set[tuple[int, ...]]] = {}
        for bill in state.segments(self.head):
            other = sibling(state, line, bill)
            for cell in () if other is None else state.cells_of(other):
                rows = state.ledger.of_cells(np.array([cell]))
                if not self._whole(cell, rows):
                    continue
                known = seen.setdefault(int(state.cells["number"][cell]), set())
                texts = {tuple(text) for text in state.ledger.read("value", rows).tolist()} - known
                known |= texts
                state.cells["value"][cell] = wide_of(len(texts) * ONE)


# Showing it ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Preview:
    """What a re-rating comes to: the lines of its periods by id before and after, the invoices that it makes, and those
    lines that stay as they are although they are in its periods, each with the reason."""

    rerated: Rerated
    before: dict[str, LineItem]
    after: dict[str, LineItem]
    invoices: list[Invoice]
    left: list[tuple[LineItem, str]]


def preview(state: State, asked: Rerate) -> Preview:
    """Does it to a state that nobody else uses, and shows what has become of it."""
    biller = Biller(state)
    before = _shown(state, biller, periods_of(state, asked))
    rerated = rerate(state, biller, asked, -1)
    after = _shown(state, biller, rerated.heads)
    made = [msgspec.json.decode(o.value, type=Invoice) for o in biller.outputs if o.topic == topics.INVOICES]
    left = [(line_item(state, biller, line), why) for line, why in rerated.left.items()]
    return Preview(rerated, before, after, made, left)


def _shown(state: State, biller: Biller, heads: Sequence[int]) -> dict[str, LineItem]:
    items = (line_item(state, biller, line) for head in heads for line in state.period_lines(head))
    return {item.id: item for item in items if (item.quantity, item.amount) != ("0", "0")}
