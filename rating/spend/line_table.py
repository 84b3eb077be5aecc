"""Line items in memory: one row for each identifier, its newest revision, in one table of numbers.

Texts that line items share stand beside the table, by number. What an identifier stands for never changes, so a new
revision of a line item that is known is found by its identifier and changes numbers alone.

One thread changes a table at a time. Readers take no lock: they look at `moves` before and after.
"""

import struct
from collections.abc import Callable, Sequence
from hashlib import blake2b
from itertools import pairwise, repeat
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rating.spend.columns import distinct
from schemas.paths import DECIMAL

LINE_BYTES: Final = 208
"""Of one line item: its row (57 bytes), its id (16 bytes), its places in a dictionary and two lists, and what Python
adds."""
LABEL_BYTES: Final = 640
"""Of a text that line items share (a charge with its dimensions, a subscription with its period), but for its letters.
"""

Key = tuple[str, str]
"""Tenant and customer."""

Pairs = tuple[tuple[str, str | None], ...]
"""A line item's dimensions and their values."""

Rows: TypeAlias = Any
"""A `pyarrow.Table` or `RecordBatch`."""

Numbers: TypeAlias = npt.NDArray[np.int64]
Values: TypeAlias = npt.NDArray[np.void]

OWN: Final = ("tenant", "customer", "id", "revision", "currency", "subscription", "period_start", "period_end")
COLUMNS: Final = (*OWN, "charge", "dimensions", "quantity", "amount", "events", "last_event")
"""Of line items, what is looked at."""

NOBODY: Final = -1
"""The owner of line items that are passed over."""

_FIELDS: Final = np.dtype(
    [
        ("revision", "<i8"), ("owner", "<i8"), ("series", "<i4"), ("item", "<i4"), ("amount", "V16"), ("events", "<i8"),
        ("last", "<i8"), ("billable", "?"),
    ]
)  # fmt: skip
_ROW: Final = np.dtype(f"V{_FIELDS.itemsize}")
"""The same in one piece: many times as quick to move."""
_UNPACK: Final = struct.Struct("<qqii16sqq?").iter_unpack
"""The same as `_FIELDS`."""
_ROWS_MIN: Final = 256
_UNKNOWN: Final = -1
_NEVER: Final = -(2**63)
_ID_BEGIN: Final = b"li_"
_ID_LENGTH: Final = 35
_DIGITS: Final = np.array([b"0123456789abcdef".find(letter) for letter in range(256)], np.int8).view(np.uint8)
"""What each letter of an identifier is as a hexadecimal digit; 255 where it is none."""
_DIMENSIONS = msgspec.json.Decoder(dict[str, str | None])


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


class Labels:
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

    def lines(self, values: Values) -> list[Line]:
        """Rows of a table as line items, without the nought ones."""
        series, items, number, make = self.series, self.items, int.from_bytes, Line._make
        return [
            make((*series[at], *items[item], number(amount, "little", signed=True), events, _time(last)))
            for _, _, at, item, amount, events, last, billable in _UNPACK(values.tobytes())
            if billable
        ]


class Change(NamedTuple):
    """What some line items come to, to be put into the table: by owner, which are known and changed, and which are new.

    `added` are whole in the table already, and no owner's yet; `owners` and `rows` go by rising owner.
    """

    owners: Numbers
    rows: Numbers
    values: Values
    added: dict[int, list[int]]
    """Owner -> rows."""


UNCHANGED: Final = Change(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, _ROW), {})


class LineTable:
    """All line items of an index, by row."""

    def __init__(self) -> None:
        self.labels = Labels()
        self.values: Values = np.zeros(_ROWS_MIN, _ROW)
        self.moves = 0
        """Rises with every change, and is odd within one."""
        self._rows: dict[bytes, int] = {}
        self._names: list[bytes] = []
        self._free: list[int] = []

    @property
    def nbytes(self) -> int:
        """Bytes held, counted by what is in it."""
        return LINE_BYTES * len(self._rows) + self.labels.nbytes

    def change(self, rows: Rows, owner_of: Callable[[Key], int]) -> Change:
        """What these line items change: of each id the highest revision, the first of several.

        `owner_of` is asked once for each customer of whom there is something new.
        """
        rows = rows.select(COLUMNS)
        names, revisions = _names(rows["id"]), _joined(rows["revision"]).to_numpy()
        if len(set(names)) < len(names):
            newest = _newest(names, revisions)
            rows, names, revisions = rows.take(pa.array(newest)), [names[at] for at in newest], revisions[newest]
        found = np.fromiter(map(self._rows.get, names, repeat(_UNKNOWN)), np.int64, len(names))
        known = np.flatnonzero(found != _UNKNOWN)
        added = self._add(rows, names, np.flatnonzero(found == _UNKNOWN), owner_of)
        values = self.values[found[known]]
        newer = values.view(_FIELDS)["revision"] < revisions[known]
        known, values = known[newer], values[newer]
        _fill(values.view(_FIELDS), rows, known)
        owners = values.view(_FIELDS)["owner"]
        order = np.argsort(owners, kind="stable")
        return Change(owners[order], found[known[order]], values[order], added)

    def _add(
        self, rows: Rows, names: Sequence[bytes], which: Numbers, owner_of: Callable[[Key], int]
    ) -> dict[int, list[int]]:
        """Rows for those that are not here, each with its owner."""
        if not len(which):
            return {}
        rows = rows.take(pa.array(which))
        owners = _numbered(rows, ("tenant", "customer"), owner_of)
        owned = np.flatnonzero(owners != NOBODY)
        if len(owned) < len(owners):
            rows, owners, which = rows.take(pa.array(owned)), owners[owned], which[owned]
        values = np.empty(len(which), _FIELDS)
        values["owner"] = owners
        values["series"] = _numbered(rows, _SERIES, self.labels.series_of)
        values["item"] = _numbered(rows, ("charge", "dimensions"), self.labels.item_of)
        _fill(values, rows, np.arange(len(which)))
        places = self._enter([names[at] for at in which.tolist()])
        self.values[places] = values.view(_ROW)
        order = np.argsort(owners, kind="stable")
        different, begins = np.unique(owners[order], return_index=True)
        rows_of = list(map(places.__getitem__, order.tolist()))
        bounds = pairwise([*begins.tolist(), len(places)])
        return {owner: rows_of[slice(*bound)] for owner, bound in zip(different.tolist(), bounds, strict=True)}

    def _enter(self, names: list[bytes]) -> list[int]:
        """The rows of new names."""
        again = [self._free.pop() for _ in range(min(len(self._free), len(names)))]
        begin, known = len(self._names), len(again)
        places = [*again, *range(begin, begin + len(names) - known)]
        for place, name in zip(again, names, strict=False):
            self._names[place] = name
        self._names += names[known:]
        self._rows.update(zip(names, places, strict=True))
        if len(self._names) > len(self.values):
            grown = np.zeros(max(len(self._names), len(self.values) * 3 // 2), _ROW)
            grown[: len(self.values)] = self.values
            self.values = grown  # who reads the former one reads what stood there
        return places

    def remove(self, rows: Sequence[int]) -> None:
        """Lets go of rows."""
        for row in rows:
            del self._rows[self._names[row]]
            self._names[row] = b""
        self._free += rows


_SERIES: Final = ("currency", "subscription", "period_start", "period_end")


def _newest(names: Sequence[bytes], revisions: Numbers) -> Numbers:
    """Where the highest revision of each name stands, the first of several."""
    found: dict[bytes, int] = {}
    for at, name in enumerate(names):
        if (known := found.setdefault(name, at)) != at and revisions[known] < revisions[at]:
            found[name] = at
    return np.array(list(found.values()), np.int64)


def _fill(values: Values, rows: Rows, which: Numbers) -> None:
    """Puts in what another revision changes."""
    amount, quantity = (_halves(_joined(rows[name]))[which] for name in ("amount", "quantity"))
    values["revision"] = _joined(rows["revision"]).to_numpy()[which]
    values["amount"] = amount.view("V16")[:, 0]
    values["events"] = _joined(rows["events"]).to_numpy()[which]
    values["last"] = _joined(rows["last_event"]).fill_null(_NEVER).to_numpy()[which]
    values["billable"] = (amount | quantity).any(axis=1)


def _numbered(rows: Rows, columns: Sequence[str], number: Callable[[Any], int]) -> Numbers:
    """What `number` says of each row's values in these columns; it is asked once for each that is different."""
    values, codes = zip(*(distinct(_joined(rows[column])) for column in columns), strict=True)
    mixed = codes[0]
    for more, own in zip(values[1:], codes[1:], strict=True):
        mixed = np.unique(mixed, return_inverse=True)[1] * len(more) + own  # below rows times rows
    _, first, inverse = np.unique(mixed, return_index=True, return_inverse=True)
    different = ([of[code] for code in own[first].tolist()] for of, own in zip(values, codes, strict=True))
    return np.array([number(each) for each in zip(*different, strict=True)], np.int64)[inverse]


def _halves(column: pa.Array) -> Numbers:
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
            short: list[bytes] = (digits[:, 0::2] << 4 | digits[:, 1::2]).view("V16")[:, 0].tolist()
            return short
    return [_short(id) for id in ids.to_pylist()]


def _joined(column: Rows) -> pa.Array:
    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


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
