"""What each customer's spend is made of, in memory beside the store: a question about spend needs no SQL.

A line item is packed into some 200 bytes, and is held once for each id: its newest revision. A batch is first made up
beside the accounts (one customer's line items, invoices and crossings) that it changes; then each of them takes its
part in at once. A reader asks for one account and sees all of a batch's part in it or nothing, without a lock.

The index says what the tables say and what is about to be written to them. When it would take more than its bound, what
nobody has asked for the longest is let go, and read again from the tables when somebody asks.
"""

import heapq
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import count
from threading import Lock
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rating.spend.columns import distinct, scaled
from schemas.paths import DECIMAL

BYTES_MAX: Final = 512 * 1024 * 1024
"""What an index may take, as it counts itself: more than two million line items."""

LINE_BYTES: Final = 208
"""Of one line item: its place in a dictionary, its id (16 bytes), its values (49 bytes), and what Python adds."""
ACCOUNT_BYTES: Final = 640
BILL_BYTES: Final = 560
CROSSING_BYTES: Final = 320
LABEL_BYTES: Final = 640
"""Of a text that line items share (a charge with its dimensions, a subscription with its period), but for its letters.
"""

Key = tuple[str, str]
"""Tenant and customer."""

Pairs = tuple[tuple[str, str | None], ...]
"""A line item's dimensions and their values."""

_PACKED: Final = struct.Struct("<qii16sqq?")
_FIELDS: Final = np.dtype(
    [
        ("revision", "<i8"), ("series", "<i4"), ("item", "<i4"), ("amount", "V16"), ("events", "<i8"), ("last", "<i8"),
        ("billable", "?"),
    ]
)  # fmt: skip
"""The same as `_PACKED`, for many at once."""
_REVISION: Final = struct.Struct("<q")
_NEVER: Final = -(2**63)
_ID_BEGIN: Final = b"li_"
_ID_LENGTH: Final = 35
_DIGITS: Final = np.array([b"0123456789abcdef".find(letter) for letter in range(256)], np.int8).view(np.uint8)
"""What each letter of an identifier is as a hexadecimal digit; 255 where it is none."""
_DIMENSIONS = msgspec.json.Decoder(dict[str, str | None])
_THRESHOLD: Final = '"kind":"threshold"'


class Line(NamedTuple):
    """A line item: `amount` is a scaled number, times are microseconds."""

    currency: str
    subscription: str
    start: int
    end: int
    charge: str
    pairs: Pairs
    amount: int
    events: int
    last_event: int | None


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


class _Labels:
    """Texts that many line items share, by number. Grows only, so a number once given holds for as long as it does."""

    def __init__(self) -> None:
        self.series: list[tuple[str, str, int, int]] = []
        self.items: list[tuple[str, Pairs]] = []
        self.nbytes = 0
        self._series: dict[tuple[str, str, int, int], int] = {}
        self._items: dict[tuple[str, str], int] = {}

    def series_of(self, series: tuple[str, str, int, int]) -> int:
        """The number of a currency, subscription and period."""
        found = self._series.get(series)
        if found is None:
            found = len(self.series)
            self.series.append(series)
            self._series[series] = found
            self.nbytes += LABEL_BYTES + len(series[1])
        return found

    def item_of(self, item: tuple[str, str]) -> int:
        """The number of a charge and its dimensions (JSON)."""
        found = self._items.get(item)
        if found is None:
            found = len(self.items)
            self.items.append((item[0], tuple(_DIMENSIONS.decode(item[1]).items())))
            self._items[item] = found
            self.nbytes += LABEL_BYTES + 2 * len(item[1])
        return found


class Contents(NamedTuple):
    """What an account came to at one moment; line items without the nought ones."""

    lines: list[Line]
    bills: list[Bill]
    crossings: list[Crossing]


class Account:
    """One customer's part of the index. `moves` rises with every change, and is odd within one."""

    __slots__ = ("_bills", "_crossings", "_lines", "labels", "moves", "used")

    def __init__(self, labels: _Labels) -> None:
        self.labels = labels
        self._lines: dict[bytes, bytes] = {}
        self._bills: dict[str, tuple[int, Bill]] = {}
        self._crossings: dict[str, Crossing] = {}
        self.moves = 0
        self.used = 0
        """When somebody asked for it last: rises with time."""

    def __len__(self) -> int:
        return len(self._lines) + len(self._bills)

    def read(self) -> Contents:
        """What is in it now. May be called from any thread."""
        while True:
            moves = self.moves
            packed = list(self._lines.values())  # one step each: no other thread runs within
            bills = list(self._bills.values())
            crossings = list(self._crossings.values())
            if moves == self.moves and not moves % 2:
                return Contents(self._unpacked(packed), [bill for _, bill in bills], crossings)
            time.sleep(0)  # another thread is at its few instructions

    def _unpacked(self, packed: list[bytes]) -> list[Line]:
        series, items, number = self.labels.series, self.labels.items, int.from_bytes
        make = Line._make
        return [
            make((*series[at], *items[item], number(amount, "little", signed=True), events, _time(last)))
            for _, at, item, amount, events, last, billable in map(_PACKED.unpack, packed)
            if billable
        ]

    @property
    def nbytes(self) -> int:
        """Bytes held, without the shared texts."""
        return ACCOUNT_BYTES + self._size()

    def _size(self) -> int:
        return LINE_BYTES * len(self._lines) + BILL_BYTES * len(self._bills) + CROSSING_BYTES * len(self._crossings)

    def join(self, other: "Account") -> int:
        """Takes over what the other has and this has not, or in a lower revision. Returns the bytes that it adds."""
        lines = self._newer(other._lines)
        whole = self._size()
        bills = {id: one for id, one in other._bills.items() if id not in self._bills or self._bills[id][0] < one[0]}
        crossings = {id: one for id, one in other._crossings.items() if id not in self._crossings}
        self.moves += 1
        self._lines.update(lines)
        self._bills.update(bills)
        self._crossings.update(crossings)
        self.moves += 1
        return self._size() - whole

    def join_lines(self, lines: dict[bytes, bytes]) -> int:
        """The same of line items alone (see `_pack`)."""
        known = self._lines
        size = len(known)
        lines = self._newer(lines)
        self.moves += 1
        known.update(lines)
        self.moves += 1
        return LINE_BYTES * (len(known) - size)

    def _newer(self, lines: dict[bytes, bytes]) -> dict[bytes, bytes]:
        """What of some line items this has not, or in a lower revision."""
        known, revision = self._lines, _REVISION.unpack_from
        return {
            name: packed
            for name, packed in lines.items()
            if (old := known.get(name)) is None or revision(old) < revision(packed)
        }

    def keep_lines(self, lines: Iterable[tuple[bytes, bytes]]) -> None:
        """Keeps line items (see `_pack`), unless a revision as high is there."""
        known, revision = self._lines, _REVISION.unpack_from
        for name, packed in lines:
            old = known.get(name)
            if old is None or revision(old) < revision(packed):
                known[name] = packed

    def _keep_bills(self, id: str, revision: int, *values: Any) -> None:
        known = self._bills.get(id)
        if known is None or known[0] < revision:
            self._bills[id] = revision, Bill(*values)

    def _keep_alerts(self, id: str, _: int, *values: Any) -> None:
        *crossing, body = values
        if _THRESHOLD in body:
            self._crossings.setdefault(id, Crossing(*crossing))


Rows: TypeAlias = Any
"""A `pyarrow.Table` or `RecordBatch`."""

Read = Callable[[str, Sequence[str]], Iterable[Rows]]
"""Reads columns of a table of the store: any order, any revisions of an id as long as the newest is among them."""

_OWN: Final = ("tenant", "customer", "id", "revision", "currency", "subscription", "period_start", "period_end")
COLUMNS: Final = {
    "line_items": (*_OWN, "charge", "dimensions", "quantity", "amount", "events", "last_event"),
    "invoices": (*_OWN, "kind", "status", "subtotal", "total"),
    "alerts": (*_OWN, "body"),
}
"""What the index reads of each table."""


class _Opened(dict[Key, Account]):
    """The accounts that rows are merged into, opened when the first row of each comes."""

    def __init__(self, open: Callable[[], Account]) -> None:
        super().__init__()
        self._open = open

    def __missing__(self, key: Key) -> Account:
        self[key] = account = self._open()
        return account


class SpendIndex:
    """Accounts by tenant and customer. Readers take no lock; changes wait for each other."""

    def __init__(self, bytes_max: int = BYTES_MAX) -> None:
        self.bytes_max = bytes_max
        self.whole = False
        """Whether everybody who is in the store is in it: then who is not in it has no spend."""
        self._labels = _Labels()
        self._nobody = Account(self._labels)
        self._accounts: dict[Key, Account] = {}
        self._arriving: dict[Key, list[Account]] = {}
        """What is being read from the store, with what has come to the store since that was begun."""
        self._unwritten: list[Mapping[str, Rows]] = []
        self._bytes = 0
        self._clock = count(1)
        self._changing = Lock()

    def __len__(self) -> int:
        return len(self._accounts)

    @property
    def nbytes(self) -> int:
        """Bytes held, counted by what is in it."""
        return self._bytes + self._labels.nbytes

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
            opened = _Opened(lambda: Account(self._labels))
            rows_read = 0
            for name, columns in COLUMNS.items():
                for rows in read(name, columns):
                    _merge(name, rows, opened, self._labels)
                    rows_read += rows.num_rows
                    if rows_read * BILL_BYTES > self.bytes_max and _size(opened) + self.nbytes > self.bytes_max:
                        self._forget()
                        return
            self._accounts, self._bytes = dict(opened), _size(opened)
            self.whole = True

    def take(self, staged: Mapping[str, Rows], *, written: bool = True) -> None:
        """Takes in what a batch brings, each id once. Where that is not `written` yet, an account that is read from the
        store gets it from here until `written` is told."""
        with self._changing:
            if not written:
                self._unwritten.append(staged)
            news = _Opened(lambda: Account(self._labels))
            if COLUMNS.keys() & staged.keys() == {"line_items"}:  # as a rule
                for key, lines in list(_lines_of(staged["line_items"], self._labels)):
                    there = self._accounts.get(key)
                    if there is not None:
                        self._bytes += there.join_lines(dict(lines))
                    else:
                        news[key].keep_lines(lines)
            else:
                for name in COLUMNS:
                    if name in staged:
                        _merge(name, staged[name], news, self._labels)
            for key, new in news.items():
                self._join(key, new)
            self._keep_bound()

    def written(self, parts: Sequence[Mapping[str, Rows]]) -> None:
        """The store has these now, the first of those that it had not."""
        with self._changing:
            del self._unwritten[: len(parts)]

    def _join(self, key: Key, new: Account) -> None:
        there = self._accounts.get(key)
        if there is not None:
            self._bytes += there.join(new)
        elif self.whole:
            self._accounts[key] = new
            self._bytes += new.nbytes
        else:
            for arriving in self._arriving.get(key, ()):
                arriving.join(new)

    def load(self, key: Key, read: Read) -> Account:
        """A customer's account, read from the store where it is not here.

        What comes to the store while it is read is in it, too: `take` keeps it in the account that arrives.
        """
        with self._changing:
            there = self.get(key)
            if there is not None:
                return there
            mine = Account(self._labels)
            self._arriving.setdefault(key, []).append(mine)
            for staged in self._unwritten:
                for name in COLUMNS.keys() & staged.keys():
                    _merge(name, _only(key, staged[name]), _Opened(lambda: mine), self._labels)
        try:
            found = {name: list(read(name, columns)) for name, columns in COLUMNS.items()}
        except BaseException:
            with self._changing:
                self._arrived(key, mine)
            raise
        with self._changing:
            self._arrived(key, mine)
            there = self._accounts.get(key)
            if there is not None:  # another thread has asked for it, too, and was sooner
                return there
            if mine.labels is self._labels:
                return self._loaded(key, mine, found)
        return self.load(key, read)  # the texts were let go meanwhile, and its numbers with them

    def _loaded(self, key: Key, mine: Account, found: Mapping[str, Sequence[Rows]]) -> Account:
        for name, parts in found.items():
            for rows in parts:
                _merge(name, rows, _Opened(lambda: mine), self._labels)
        mine.used = next(self._clock)
        self._bytes += mine.nbytes
        self._accounts[key] = mine
        self._keep_bound()
        return mine

    def _arrived(self, key: Key, account: Account) -> None:
        self._arriving[key].remove(account)
        if not self._arriving[key]:
            del self._arriving[key]

    def _keep_bound(self) -> None:
        """Lets go of the accounts that nobody has asked for the longest, until a tenth of the room is free."""
        if self.nbytes <= self.bytes_max:
            return
        self.whole = False  # first: from here on, who is missed is looked for in the store
        if self._labels.nbytes > self.bytes_max // 2:
            self._forget()  # texts are shared by all: no single account frees one
            return
        goal = self.bytes_max - self.bytes_max // 10
        while self.nbytes > goal and self._accounts:
            oldest = heapq.nsmallest(len(self._accounts) // 8 + 1, self._accounts.items(), key=lambda one: one[1].used)
            for key, account in oldest:
                del self._accounts[key]
                self._bytes -= account.nbytes
                if self.nbytes <= goal:
                    break

    def _forget(self) -> None:
        self.whole = False
        self._accounts, self._labels, self._bytes = {}, _Labels(), 0


def _size(accounts: Mapping[Key, Account]) -> int:
    return sum(account.nbytes for account in accounts.values())


def _merge(name: str, rows: Rows, opened: _Opened, labels: _Labels) -> None:
    """Keeps rows of a table in the accounts that they belong to."""
    if name == "line_items":
        _merge_lines(rows, opened, labels)
        return
    columns = (_VALUES.get(column, _plain)(rows[column]) for column in COLUMNS[name])
    keep = _KEEP[name]
    for tenant, customer, *values in zip(*columns, strict=True):
        keep(opened[tenant, customer], *values)


def _merge_lines(rows: Rows, opened: _Opened, labels: _Labels) -> None:
    for key, lines in _lines_of(rows, labels):
        opened[key].keep_lines(lines)


def _lines_of(rows: Rows, labels: _Labels) -> Iterator[tuple[Key, list[tuple[bytes, bytes]]]]:
    """Line items as accounts keep them, by account: made column by column, row by row they are only handed out."""
    if not rows.num_rows:
        return
    keys: list[Key] = []

    def enter(key: Key) -> int:
        keys.append(key)
        return len(keys) - 1

    owners = _numbered(rows, ("tenant", "customer"), enter)
    order = np.argsort(owners, kind="stable")
    names, packed = _names(rows["id"]), _cut(_pack(rows, labels)[order].tobytes(), _PACKED.size)
    lines = list(zip(map(names.__getitem__, order.tolist()), packed, strict=True))
    ends = np.cumsum(np.bincount(owners, minlength=len(keys))).tolist()
    begin = 0
    for key, end in zip(keys, ends, strict=True):
        yield key, lines[begin:end]
        begin = end


def _numbered(rows: Rows, columns: Sequence[str], number: Callable[[Any], int]) -> npt.NDArray[np.int64]:
    """What `number` says of each row's values in these columns; it is asked once for each that is different."""
    values, codes = zip(*(distinct(_joined(rows[column])) for column in columns), strict=True)
    mixed = codes[0]
    for more, own in zip(values[1:], codes[1:], strict=True):
        mixed = np.unique(mixed, return_inverse=True)[1] * len(more) + own  # below rows times rows
    _, first, inverse = np.unique(mixed, return_index=True, return_inverse=True)
    different = ([of[code] for code in own[first].tolist()] for of, own in zip(values, codes, strict=True))
    return np.array([number(each) for each in zip(*different, strict=True)], np.int64)[inverse]


def _pack(rows: Rows, labels: _Labels) -> npt.NDArray[np.void]:
    """Line items as `_FIELDS` has them."""
    amount, quantity = (_halves(_joined(rows[name])) for name in ("amount", "quantity"))
    packed = np.empty(len(amount), _FIELDS)
    packed["revision"] = _joined(rows["revision"]).to_numpy()
    packed["series"] = _numbered(rows, ("currency", "subscription", "period_start", "period_end"), labels.series_of)
    packed["item"] = _numbered(rows, ("charge", "dimensions"), labels.item_of)
    packed["amount"] = amount.view("V16")[:, 0]
    packed["events"] = _joined(rows["events"]).to_numpy()
    packed["last"] = _joined(rows["last_event"]).fill_null(_NEVER).to_numpy()
    packed["billable"] = (amount | quantity).any(axis=1)
    return packed


def _halves(column: pa.Array) -> npt.NDArray[np.int64]:
    """The two halves of scaled numbers, the low one first."""
    if column.type != DECIMAL:
        raise TypeError(f"found a column of {column.type}, expected {DECIMAL}")
    found = np.frombuffer(column.buffers()[1], np.int64).reshape(-1, 2)
    return found[column.offset : column.offset + len(column)]


def _names(column: Rows) -> list[bytes]:
    """`_short` of each."""
    ids = _joined(column).cast(pa.string())
    ends = np.frombuffer(ids.buffers()[1], np.int32)[ids.offset : ids.offset + len(ids) + 1]
    if (np.diff(ends) == _ID_LENGTH).all():
        letters = np.frombuffer(ids.buffers()[2], np.uint8)[ends[0] : ends[-1]].reshape(-1, _ID_LENGTH)
        digits = _DIGITS[letters[:, len(_ID_BEGIN) :]]
        if (letters[:, : len(_ID_BEGIN)] == np.frombuffer(_ID_BEGIN, np.uint8)).all() and (digits < 16).all():
            return _cut((digits[:, 0::2] << 4 | digits[:, 1::2]).tobytes(), 16)
    return [_short(id) for id in ids.to_pylist()]


def _cut(whole: bytes, size: int) -> list[bytes]:
    return [whole[at : at + size] for at in range(0, len(whole), size)]


def _joined(column: Rows) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _only(key: Key, rows: pa.Table) -> pa.Table:
    """The rows of one customer."""
    return rows.filter((pc.field("tenant") == key[0]) & (pc.field("customer") == key[1]))


def _plain(column: Any) -> list[Any]:
    return column.to_pylist()


_VALUES: Final[dict[str, Callable[[Any], list[Any]]]] = {"subtotal": scaled, "total": scaled}
_KEEP: Final[dict[str, Callable[..., None]]] = {
    "invoices": Account._keep_bills,
    "alerts": Account._keep_alerts,
}


def _time(packed: int) -> int | None:
    return None if packed == _NEVER else packed


def _short(id: str) -> bytes:
    """An identifier in 16 bytes where it is one that the engine makes, else in 17: never two with the same."""
    if len(id) == 35 and id.startswith("li_"):
        try:
            short = bytes.fromhex(id[3:])
        except ValueError:
            pass
        else:
            if short.hex() == id[3:]:
                return short
    return blake2b(id.encode(), digest_size=17).digest()
