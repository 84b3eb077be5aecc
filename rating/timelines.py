"""Timelines: under which plan a subscription stands at which time. Versions, phases, trials and pauses become one form.

A timeline is a list of entries that rise by start; each holds until the next. Billing periods are cut by the
subscription's calendar, and where entries change within a period it is split into segments.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rating.compiled import TIME_MAX, TIME_MIN, Entry
from schemas.catalogue import Overrides, PriceBook, Subscription
from schemas.faults import Faults, join, unknown
from schemas.times import from_datetime


class Books(Protocol):
    """Where plans come from: the catalogue's compiler."""

    def book(
        self,
        name: str,
        trial: bool = False,
        customer: str | None = None,
        overrides: Overrides | None = None,
        where: str = "",
    ) -> list[tuple[int, int]]:
        """(effective from, plan) of each version."""


class _Phase(NamedTuple):
    start: int
    price_book: str
    overrides: Overrides
    trial: bool
    where: str


def check_timeline(sub: Subscription, books: Mapping[str, PriceBook], where: str, faults: Faults) -> bool:
    """Notes what is wrong in the order of a subscription's times; False where there is no timeline to be made."""
    before = len(faults)
    if sub.end is not None and sub.end <= sub.start:
        faults.add(join(where, "end"), f"found {sub.end}, expected a time after start {sub.start}")
    if sub.trial_end is not None and sub.trial_end <= sub.start:
        faults.add(join(where, "trial_end"), f"found {sub.trial_end}, expected a time after start {sub.start}")
    previous = sub.start
    currency = _currency(books, sub.price_book)
    for i, phase in enumerate(sub.phases):
        at = join(join(where, "phases"), i)
        if phase.start <= previous:
            faults.add(join(at, "start"), f"found {phase.start}, expected a time after {previous}: phases rise")
        previous = phase.start
        if phase.price_book is not None and phase.price_book not in books:
            faults.add(join(at, "price_book"), f"no such price book: {unknown(phase.price_book, list(books))}")
        elif phase.price_book is not None and _currency(books, phase.price_book) != currency:
            other = _currency(books, phase.price_book)
            message = f"found a price book in {other}, expected {currency}: another currency is another subscription"
            faults.add(join(at, "price_book"), message)
    free = sub.start
    for i, pause in enumerate(sub.pauses):
        at = join(join(where, "pauses"), i)
        if pause.start < free:
            faults.add(
                join(at, "start"), f"found {pause.start}, expected {free} or later: pauses rise, after the start"
            )
        if pause.end is None and i < len(sub.pauses) - 1:
            faults.add(join(at, "end"), "missing: only the last pause may be open")
        elif pause.end is not None and pause.end <= pause.start:
            faults.add(join(at, "end"), f"found {pause.end}, expected a time after {pause.start}")
        free = pause.end or free
    return len(faults) == before and sub.price_book in books


def _currency(books: Mapping[str, PriceBook], name: str) -> str | None:
    bodies = books[name].bodies() if name in books else []
    return bodies[0].currency if bodies else None


def subscription_timeline(sub: Subscription, books: Books, where: str) -> tuple[Entry, ...]:
    """The timeline of a subscription whose times `check_timeline` found right."""
    start = from_datetime(sub.start)
    end = TIME_MAX if sub.end is None else from_datetime(sub.end)
    phases = [_Phase(start, sub.price_book, sub.overrides, False, join(where, "overrides"))]
    for i, phase in enumerate(sub.phases):
        book = phase.price_book or phases[-1].price_book
        at = join(join(join(where, "phases"), i), "overrides")
        phases.append(_Phase(from_datetime(phase.start), book, phase.overrides, phase.trial, at))
    trial_end = TIME_MIN if sub.trial_end is None else from_datetime(sub.trial_end)
    pauses = [(from_datetime(p.start), TIME_MAX if p.end is None else from_datetime(p.end)) for p in sub.pauses]
    versions = {
        (i, trial): books.book(phase.price_book, trial, sub.customer, phase.overrides, phase.where)
        for i, phase in enumerate(phases)
        for trial in {phase.trial, phase.trial or trial_end > phase.start}
    }
    cuts = {start, trial_end, *(p.start for p in phases), *(t for pause in pauses for t in pause)}
    cuts |= {effective for found in versions.values() for effective, _ in found}
    entries = [Entry(TIME_MIN, -1, False)]
    seen: set[str] = set()
    for cut in sorted(cut for cut in cuts if start <= cut < end):
        number = max(i for i, phase in enumerate(phases) if phase.start <= cut)
        trial = phases[number].trial or cut < trial_end
        paused = any(first <= cut < last for first, last in pauses)
        plan = -1 if paused else _in_force(versions[number, trial], cut)
        opens = plan >= 0 and not trial and phases[number].price_book not in seen
        if opens:
            seen.add(phases[number].price_book)
        if plan != entries[-1].plan or cut == phases[number].start:
            entries.append(Entry(cut, plan, opens))
    if end < TIME_MAX and entries[-1].plan >= 0:
        entries.append(Entry(end, -1, False))
    return tuple(entries)


def default_timeline(versions: Sequence[tuple[int, int]]) -> tuple[Entry, ...]:
    """The timeline of customers without a subscription of their own: the versions of one price book."""
    entries = [] if versions and versions[0][0] == TIME_MIN else [Entry(TIME_MIN, -1, False)]
    entries.extend(Entry(start, plan, i == 0) for i, (start, plan) in enumerate(versions))
    return tuple(entries)


def _in_force(versions: Iterable[tuple[int, int]], time: int) -> int:
    found = -1
    for start, plan in versions:
        if start <= time:
            found = plan
    return found


class Timelines:
    """Many timelines as columns: where each begins, and its entries one behind the other."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[Entry, ...], int] = {}
        self._first: list[int] = []
        self._entries: list[Entry] = []
        self._columns: tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]] | None = None

    def number(self, timeline: tuple[Entry, ...]) -> int:
        """The timeline's number, a new one where it has none."""
        found = self._numbers.get(timeline)
        if found is None:
            found = self._numbers[timeline] = len(self._first)
            self._first.append(len(self._entries))
            self._entries.extend(timeline)
            self._columns = None
        return found

    def _made(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
        if self._columns is None:
            first = np.array([*self._first, len(self._entries)], dtype=np.int64)
            start = np.array([e.start for e in self._entries] + [TIME_MAX], dtype=np.int64)
            plan = np.array([e.plan for e in self._entries] + [-1], dtype=np.int64)
            opens = np.array([e.opens for e in self._entries] + [False], dtype=np.bool_)
            self._columns = first, start, plan, opens
        return self._columns

    def at(self, timeline: NDArray[Any], time: NDArray[np.int64]) -> NDArray[np.int64]:
        """The entry that holds each time in each timeline."""
        first, start, _, _ = self._made()
        entry = first[timeline].copy()
        last = first[timeline + 1] - 1
        for _ in range(int((last - entry).max(initial=0))):
            later = (entry < last) & (time >= start[np.minimum(entry + 1, len(start) - 1)])
            if not later.any():
                break
            entry[later] += 1
        return entry

    def plan(self, entry: NDArray[np.int64]) -> NDArray[np.int64]:
        """The plan of each entry."""
        found: NDArray[np.int64] = self._made()[2][entry]
        return found

    def since(self, entry: NDArray[np.int64]) -> NDArray[np.int64]:
        """When each entry begins."""
        found: NDArray[np.int64] = self._made()[1][entry]
        return found

    def opens(self, entry: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether the price book of each entry takes force there for the first time."""
        found: NDArray[np.bool_] = self._made()[3][entry]
        return found

    def whole(self, timeline: NDArray[Any], start: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The last entry of each timeline, and whether it is plain that it holds from a period's start on, alone."""
        first, since, plan, _ = self._made()
        entry = first[timeline + 1] - 1
        return entry, (entry - first[timeline] < 2) & (since[entry] <= start) & (plan[entry] >= 0)

    def columns(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Where each timeline begins among all entries (and the last one ends), and when each entry begins, and its
        plan."""
        return self._made()[:3]

    def entries(self, timeline: int) -> list[Entry]:
        """One timeline."""
        first = self._made()[0]
        return self._entries[int(first[timeline]) : int(first[timeline + 1])]
