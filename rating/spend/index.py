"""What each customer's spend is made of, in memory beside the store: a question about spend needs no SQL.

Line items are rows of one table (`rating.spend.line_table`); an account (one customer's line items, invoices and
crossings) knows which are its own. A batch is first made up beside the accounts that it changes; then each of them
takes its part in at once. A reader asks for one account and sees all of a batch's part in it or nothing, without a
lock.

The index says what the tables say and what is about to be written to them. When it would take more than its bound, what
nobody has asked for the longest is let go, and read again from the tables when somebody asks.
"""

import heapq
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, count
from threading import Lock
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import pyarrow.compute as pc

from rating.spend import line_table
from rating.spend.columns import scaled
from rating.spend.line_table import NOBODY, UNCHANGED, Change, Key, Labels, Line, LineTable, Rows, Values
from schemas.paths import DECIMAL

BYTES_MAX: Final = 512 * 1024 * 1024
"""What an index may take, as it counts itself: more than two million line items."""

ACCOUNT_BYTES: Final = 640
BILL_BYTES: Final = 560
CROSSING_BYTES: Final = 320

_THRESHOLD: Final = '"kind":"threshold"'
_AT_ONCE: Final = 256
"""So many accounts change in one go: who reads one of them waits for all of these."""


class Bill(NamedTuple):
    """An invoice."""

    currency: str
    subscription: str
    start: int
    end: int
    kind: str
    status: str
    subtotal: int
    total: int


class Crossing(NamedTuple):
    """A threshold that was crossed."""

    currency: str
    subscription: str
    start: int
    end: int


class Contents(NamedTuple):
    """What an account came to at one moment; line items without the nought ones."""

    lines: list[Line]
    bills: list[Bill]
    crossings: list[Crossing]


class _Apart(NamedTuple):
    """The line items of an account that was let go, as they were then."""

    values: Values
    labels: Labels
    moves: int = 0


class Account:
    """One customer's part of the index."""

    __slots__ = ("_bills", "_crossings", "_held", "number", "used")

    def __init__(self, table: LineTable, number: int) -> None:
        self.number = number
        """Its own as long as it is in the index."""
        self.used = 0
        """When somebody asked for it last: rises with time."""
        self._held: tuple[LineTable | _Apart, list[int]] = (table, [])
        self._bills: dict[str, tuple[int, Bill]] = {}
        self._crossings: dict[str, Crossing] = {}

    def __len__(self) -> int:
        return len(self._held[1]) + len(self._bills)

    def read(self) -> Contents:
        """What is in it now. May be called from any thread."""
        while True:
            table, rows = self._held
            moves = table.moves
            rows = rows[:]  # one step each: no other thread runs within; before the values, which only become more
            values = table.values[rows]
            bills = list(self._bills.values())
            crossings = list(self._crossings.values())
            if moves == table.moves and not moves % 2:
                return Contents(table.labels.lines(values), [bill for _, bill in bills], crossings)
            time.sleep(0)  # another thread is at its few instructions

    @property
    def nbytes(self) -> int:
        """Bytes held, without its line items."""
        return ACCOUNT_BYTES + BILL_BYTES * len(self._bills) + CROSSING_BYTES * len(self._crossings)

    def grow(self, rows: Sequence[int], others: Sequence["_Keep"]) -> None:
        """Takes over new rows of the table, and keeps rows of other tables."""
        self._held[1].extend(rows)
        for keep, values in others:
            keep(self, values)

    def let_go(self, table: LineTable) -> None:
        """Keeps a copy of its line items for who reads it still, and lets go of their rows."""
        rows = self._held[1]
        table.moves += 1
        self._held = _Apart(table.values[rows], table.labels), list(range(len(rows)))
        table.remove(rows)
        table.moves += 1

    def keep_bill(self, values: Sequence[Any]) -> None:
        """Keeps an invoice, unless a revision as high is there."""
        id, revision, *values = values
        known = self._bills.get(id)
        if known is None or known[0] < revision:
            self._bills[id] = revision, Bill(*values)

    def keep_alert(self, values: Sequence[Any]) -> None:
        """Keeps the first crossing of a threshold."""
        id, _, *crossing, body = values
        if _THRESHOLD in body:
            self._crossings.setdefault(id, Crossing(*crossing))


Read = Callable[[str, Sequence[str]], Iterable[Rows]]
"""Reads columns of a table of the store: any order, any revisions of an id as long as the newest is among them."""

COLUMNS: Final = {
    "line_items": line_table.COLUMNS,
    "invoices": (*line_table.OWN, "kind", "status", "subtotal", "total"),
    "alerts": (*line_table.OWN, "body"),
}
"""What the index reads of each table."""

_Keep: TypeAlias = tuple[Callable[[Account, Sequence[Any]], None], Sequence[Any]]
"""How a row is kept in an account, and its values."""

_KEEP: Final[dict[str, Callable[[Account, Sequence[Any]], None]]] = {
    "invoices": Account.keep_bill,
    "alerts": Account.keep_alert,
}


class SpendIndex:
    """Accounts by tenant and customer. Readers take no lock; changes wait for each other."""

    def __init__(self, bytes_max: int = BYTES_MAX) -> None:
        self.bytes_max = bytes_max
        self.whole = False
        """Whether everybody who is in the store is in it: then who is not in it has no spend."""
        self._clock = count(1)
        self._changing = Lock()
        self._unwritten: list[Mapping[str, Rows]] = []
        self._arriving: dict[Key, list[list[Mapping[str, Rows]]]] = {}
        """Who is being read from the store, with what has come to the store since that was begun."""
        self._forget()

    def __len__(self) -> int:
        return len(self._accounts)

    @property
    def nbytes(self) -> int:
        """Bytes held, counted by what is in it."""
        return self._bytes + self._table.nbytes

    def get(self, key: Key) -> Account | None:
        """A customer's account; None where only the store knows."""
        found = self._accounts.get(key)
        if found is None:
            return self._nobody if self.whole else None
        found.used = next(self._clock)
        return found

    def build(self, read: Read) -> None:
        """Takes the whole store in, or nothing where that would be more than the bound."""
        with self._changing:
            for name, columns in COLUMNS.items():
                for rows in read(name, columns):
                    self._change({name: rows}, self._open)
                    if self.nbytes > self.bytes_max:
                        self._forget()
                        return
            self.whole = True

    def take(self, staged: Mapping[str, Rows], *, written: bool = True) -> None:
        """Takes in what a batch brings. Where that is not `written` yet, an account that is read from the store gets it
        from here until `written` is told."""
        with self._changing:
            if not written:
                self._unwritten.append(staged)
            for news in chain.from_iterable(self._arriving.values()):
                news.append(staged)
            self._change(staged, self._open if self.whole else self._accounts.get)
            self._keep_bound()

    def written(self, parts: Sequence[Mapping[str, Rows]]) -> None:
        """The store has these now, the first of those that it had not."""
        with self._changing:
            del self._unwritten[: len(parts)]

    def load(self, key: Key, read: Read) -> Account:
        """A customer's account, read from the store where it is not here.

        What comes to the store while it is read is in it, too.
        """
        with self._changing:
            there = self.get(key)
            if there is not None:
                return there
            news = self._unwritten[:]
            self._arriving.setdefault(key, []).append(news)
        try:
            found = [{name: rows} for name, columns in COLUMNS.items() for rows in read(name, columns)]
        except BaseException:
            with self._changing:
                self._arrived(key, news)
            raise
        with self._changing:
            self._arrived(key, news)
            there = self._accounts.get(key)
            if there is not None:  # another thread has asked for it, too, and was sooner
                return there
            mine = self._opened()
            for staged in (*found, *(_only(key, staged) for staged in news)):
                self._change(staged, lambda _: mine)
            mine.used = next(self._clock)
            self._accounts[key] = mine
            self._keep_bound()
            return mine

    def _arrived(self, key: Key, news: list[Mapping[str, Rows]]) -> None:
        self._arriving[key] = [other for other in self._arriving[key] if other is not news]
        if not self._arriving[key]:
            del self._arriving[key]

    def _open(self, key: Key) -> Account:
        """A customer's account, an empty one where there is none."""
        account = self._accounts.get(key)
        if account is None:
            account = self._accounts[key] = self._opened()
        return account

    def _opened(self) -> Account:
        account = Account(self._table, next(self._clock))
        self._numbers[account.number] = account
        self._bytes += account.nbytes
        return account

    def _change(self, staged: Mapping[str, Rows], find: Callable[[Key], Account | None]) -> None:
        """Keeps rows of the tables in the accounts that they belong to; where none is found they are passed over."""

        def owner_of(key: Key) -> int:
            account = find(key)
            return NOBODY if account is None else account.number

        others: dict[int, list[_Keep]] = {}
        for name, keep in _KEEP.items():
            if name in staged:
                for tenant, customer, *values in _values(name, staged[name]):
                    others.setdefault(owner_of((tenant, customer)), []).append((keep, values))
        others.pop(NOBODY, None)
        lines = staged.get("line_items")
        change = UNCHANGED if lines is None else self._table.change(lines, owner_of)
        before = self._size(others)
        self._publish(change, others)
        self._bytes += self._size(others) - before

    def _size(self, numbers: Iterable[int]) -> int:
        return sum(self._numbers[number].nbytes for number in numbers)

    def _publish(self, change: Change, others: Mapping[int, list[_Keep]]) -> None:
        """Some accounts at a time."""
        table = self._table
        news = np.unique(np.fromiter(chain(change.added, others), np.int64))
        touched = np.unique(np.concatenate((change.owners, news)))
        for at in range(0, len(touched), _AT_ONCE):
            some = touched[at : at + _AT_ONCE]
            ends = (some[0], some[-1] + 1)
            begin, end = np.searchsorted(change.owners, ends)
            grown = [self._numbers[number] for number in news[slice(*np.searchsorted(news, ends))].tolist()]
            table.moves += 1
            table.values[change.rows[begin:end]] = change.values[begin:end]
            for account in grown:
                account.grow(change.added.get(account.number, ()), others.get(account.number, ()))
            table.moves += 1

    def _keep_bound(self) -> None:
        """Lets go of the accounts that nobody has asked for the longest, until a tenth of the room is free."""
        if self.nbytes <= self.bytes_max:
            return
        self.whole = False  # first: from here on, who is missed is looked for in the store
        if self._table.labels.nbytes > self.bytes_max // 2:
            self._forget()  # texts are shared by all: no single account frees one
            return
        goal = self.bytes_max - self.bytes_max // 10
        while self.nbytes > goal and self._accounts:
            oldest = heapq.nsmallest(len(self._accounts) // 8 + 1, self._accounts.items(), key=lambda one: one[1].used)
            for key, account in oldest:
                del self._accounts[key], self._numbers[account.number]
                self._bytes -= account.nbytes
                account.let_go(self._table)
                if self.nbytes <= goal:
                    break

    def _forget(self) -> None:
        """Lets go of everybody; who reads an account still has its table."""
        self.whole = False
        self._table, self._bytes = LineTable(), 0
        self._nobody = Account(self._table, NOBODY)
        self._accounts: dict[Key, Account] = {}
        self._numbers: dict[int, Account] = {}


def _only(key: Key, staged: Mapping[str, Rows]) -> dict[str, Rows]:
    """The rows of one customer."""
    whose = (pc.field("tenant") == key[0]) & (pc.field("customer") == key[1])
    return {name: staged[name].select(COLUMNS[name]).filter(whose) for name in COLUMNS.keys() & staged.keys()}


def _values(name: str, rows: Rows) -> Iterator[tuple[Any, ...]]:
    columns = (rows[column] for column in COLUMNS[name])
    return zip(*(scaled(column) if column.type == DECIMAL else column.to_pylist() for column in columns), strict=True)
