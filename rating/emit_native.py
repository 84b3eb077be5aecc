"""Line items by the library: many lines into one buffer, out of the state's tables and of texts that C can read.

Owns those texts, and the identities of lines that have been written: a cache, which holds for one catalogue. What is
said of a line is put together each time from its subscription, its charge, its group and its plan, so that a line keeps
nothing but the 16 bytes of its identity. `native/src/emit.c` writes; its twin is `rating.emit_columns`.
"""

import ctypes
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from native.library import function
from rating.billing import Biller
from rating.compiled import Compiled, Plan, Rate
from rating.exact import wide_of
from rating.items import encode, encode_by_hand, is_silent, members, shown_tiers, tier_texts
from rating.room import address_of, longer
from rating.state import DEFAULT_ID, State
from schemas import topics
from schemas.identity import IDENTITY_BYTES
from schemas.numbers import NumberError, parse_scaled
from schemas.output import TierAmount
from streams.processor import Block, Outputs, Part

WRITE: Final = function("tx_write_lines", ctypes.c_int64, ctypes.c_void_p)
_CHOOSE: Final = function("tx_choose_lines", ctypes.c_int64, *[ctypes.c_void_p] * 3)

_new_bytes: Final = ctypes.pythonapi.PyBytes_FromStringAndSize
_new_bytes.restype, _new_bytes.argtypes = ctypes.py_object, [ctypes.c_char_p, ctypes.c_ssize_t]
_bytes_of: Final = ctypes.pythonapi.PyBytes_AsString
_bytes_of.restype, _bytes_of.argtypes = ctypes.c_void_p, [ctypes.py_object]
"""Bytes that are not written yet, and where they stand: the library writes them, before anybody else sees them."""
_ROOM: Final = 1 << 20
"""Bytes that are written at once."""
_ROWS: Final = 1 << 12
_KEY_BYTES: Final = len("li_") + 2 * IDENTITY_BYTES
_LINE_COLUMNS: Final = (
    *("bill", "charge", "combo", "rate", "cell"),
    *("quantity", "amount", "events", "revision", "first", "last", "through", "written"),
)
_CELL_COLUMNS: Final = ("number", "next", "quantity", "amount")
_BILL_COLUMNS: Final = ("subscription", "plan", "head", "next", "start", "end")
_TEXTS: Final = ("fixed", "customers", "names", "charges", "combos", "rates", "plans", "tables", "tiers")
_WHOLE, _BLOCKS_DOWN, _SILENT, _UNIT_BELOW = 1, 2, 4, 8


class _Texts(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_void_p), ("end", ctypes.c_void_p)]


class _Emission(ctypes.Structure):
    """`emission` of emit.c."""

    _fields_ = [
        ("lines", ctypes.c_void_p),
        ("count", ctypes.c_int64),
        ("out", ctypes.c_void_p),
        ("room", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("keys", "ends", "ids")),
        *((f"line_{name}", ctypes.c_void_p) for name in _LINE_COLUMNS),
        *((f"cell_{name}", ctypes.c_void_p) for name in _CELL_COLUMNS),
        *((f"bill_{name}", ctypes.c_void_p) for name in _BILL_COLUMNS),
        ("subscription_customer", ctypes.c_void_p),
        *((f"{name}_step", ctypes.c_int64) for name in ("line", "cell", "bill", "subscription")),
        ("own", ctypes.c_void_p),
        ("owns", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("rate", "table", "tier", "combo_first")),
        *((name, _Texts) for name in _TEXTS),
    ]


class Written(NamedTuple):
    """Lines as they are written: the keys, a row for each; all texts, and what may stand behind them; where each text
    ends, after a nought.

    An empty text is of a line that is left for others to write."""

    keys: NDArray[np.uint8]
    values: bytes
    ends: NDArray[np.int64]

    @property
    def left(self) -> list[int]:
        """Which lines are left."""
        return np.flatnonzero(self.ends[1:] == self.ends[:-1]).tolist()

    def blocks(self, first: int, end: int) -> list[Block]:
        """Some of the lines as one block; none, where there are none."""
        if first == end:
            return []
        ends = self.ends[first : end + 1]
        return [Block(topics.LINE_ITEMS, _KEY_BYTES, self.keys[first:end].tobytes(), self.values, ends)]


def choose_by_library(state: State, lines: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those of the lines that have something to say, in the order in which they are written; see `tx_choose_lines`."""
    return _writer(state).choose(lines)


def encode_by_library(state: State, biller: Biller, lines: NDArray[np.int64]) -> Outputs:
    """The lines as they are written, in their order."""
    parts: list[Part] = []
    done = 0
    for written in _writer(state).write(lines):
        count, first = len(written.keys), 0
        for at in written.left:
            parts += written.blocks(first, at)
            parts.append(encode_by_hand(state, biller, int(lines[done + at])))
            first = at + 1
        parts += written.blocks(first, count)
        done += count
    return Outputs(parts)


def _writer(state: State) -> "Writer":
    if state.heads is None:
        state.heads = Writer(state)
    found: Writer = state.heads
    return found


class Texts:
    """Texts one behind the other: text k is the bytes `ends[k]` to `ends[k + 1]`. It grows."""

    def __init__(self, texts: Sequence[str] = ()) -> None:
        self.bytes = np.zeros(64, dtype=np.uint8)
        self.ends = np.zeros(16, dtype=np.int64)
        self.count = 0
        self.add(texts)

    def add(self, texts: Sequence[str]) -> None:
        """Adds texts behind those that are there."""
        if not texts:
            return
        _, offsets, data = pa.array(texts, pa.large_string()).buffers()
        ends = np.frombuffer(offsets, np.int64, len(texts) + 1)
        begin, count = int(self.ends[self.count]), self.count + len(texts)
        size = begin + int(ends[-1])
        self.bytes = longer(self.bytes, size, begin)
        if data is not None:
            self.bytes[begin:size] = np.frombuffer(data, np.uint8, size - begin)
        self.ends = longer(self.ends, count + 1, self.count + 1)
        self.ends[self.count + 1 : count + 1] = ends[1:] + begin
        self.count = count


class Writer:
    """Writes lines of one state under one catalogue."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._call = _Emission()
        self._ids = np.zeros((16, IDENTITY_BYTES), dtype=np.uint8)
        """Of each line; noughts where it is not known yet."""
        self._charges, self._combos = Texts(), Texts()
        self._combo_first = np.zeros(16, dtype=np.int64)
        self._known_combos = 0
        compiled = state.catalogue
        tenant = members({"tenant": state.tenant}) + ","
        through = f',"through":{{"partition":{state.partition},"offset":'
        self._fixed = Texts([tenant, state.tenant, through, DEFAULT_ID])
        self._names = Texts([text for id, customer in state.own_names.values() for text in (customer, id)])
        self._own = np.full(max(state.own_names, default=-1) + 1, -1, dtype=np.int32)
        self._own[list(state.own_names)] = np.arange(len(state.own_names))
        self._rates = Texts(list(chain.from_iterable(map(_rate_texts, compiled.rates))))
        self._plans = Texts(list(chain.from_iterable(map(_plan_texts, compiled.plans))))
        self._rate = _rate_rows(compiled)
        self._table, self._tables = _table_rows(compiled)
        self._tier, self._tiers = _tier_rows(compiled)
        self._point({name: getattr(self, f"_{name}") for name in ("rate", "table", "tier", "own")})
        self._call.owns = len(self._own)
        for name in ("fixed", "names", "rates", "plans", "tables", "tiers"):
            self._point_texts(name)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that grow with the state."""
        texts = (self._charges, self._combos)
        return self._ids.nbytes + self._combo_first.nbytes + sum(t.bytes.nbytes + t.ends.nbytes for t in texts)

    def choose(self, lines: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those that have something to say, in the order in which they are written."""
        assert _CHOOSE is not None
        self._keep_up()
        lines = np.ascontiguousarray(lines, dtype=np.int64)
        chosen, aside = np.empty((2, len(lines)), dtype=np.int64)
        self._point({"lines": lines})
        self._call.count = len(lines)
        return chosen[: _CHOOSE(ctypes.byref(self._call), address_of(chosen), address_of(aside))]

    def write(self, lines: NDArray[np.int64]) -> Iterator[Written]:
        """The lines as they are written, in order and in parts."""
        assert WRITE is not None
        self._keep_up()
        lines = np.ascontiguousarray(lines, dtype=np.int64)
        room, done = _ROOM, 0
        keys = np.empty((min(len(lines), _ROWS), _KEY_BYTES), dtype=np.uint8)
        ends = np.zeros(len(keys) + 1, dtype=np.int64)
        while done < len(lines):
            part = lines[done : done + _ROWS]
            out = _new_bytes(None, room)
            self._point({"lines": part, "keys": keys, "ends": ends[1:]})
            self._call.out, self._call.room, self._call.count = _bytes_of(out), room, len(part)
            written = WRITE(ctypes.byref(self._call))
            if not written:  # a line that does not fit alone
                room *= 2
                continue
            end = int(ends[written])
            values = out if 2 * end > room else out[:end]  # what is kept is not much more than what is said
            yield Written(keys[:written], values, ends[: written + 1].copy())
            done += written

    def _keep_up(self) -> None:
        """What the state has got since: its tables where they stand now, and its new names."""
        state = self._state
        self._ids = longer(self._ids, state.lines.size, len(self._ids))
        self._charges.add(state.charges.values[self._charges.count :])
        self._add_combos(state.combos.values[self._known_combos :])
        self._point({"ids": self._ids, "combo_first": self._combo_first})
        self._point({f"line_{name}": state.lines[name] for name in _LINE_COLUMNS})
        self._point({f"cell_{name}": state.cells[name] for name in _CELL_COLUMNS})
        self._point({f"bill_{name}": state.bills[name] for name in _BILL_COLUMNS})
        self._point({"subscription_customer": state.subscriptions["customer"]})
        for name, table in (("line", state.lines), ("cell", state.cells), ("bill", state.bills)):
            setattr(self._call, f"{name}_step", table.step)
        self._call.subscription_step = state.subscriptions.step
        self._call.customers = _Texts(*(address_of(column) for column in state.customers.columns))
        for name in ("charges", "combos"):
            self._point_texts(name)

    def _add_combos(self, new: list[tuple[str | None, ...]]) -> None:
        if not new:
            return
        before, self._known_combos = self._known_combos, self._known_combos + len(new)
        self._combo_first = longer(self._combo_first, self._known_combos + 1, before + 1)
        ends = np.cumsum([len(values) for values in new]) + self._combos.count
        self._combo_first[before + 1 : self._known_combos + 1] = ends
        self._combos.add(["0" if value is None else f"1{value}" for values in new for value in values])

    def _point(self, arrays: dict[str, NDArray[Any]]) -> None:
        for name, array in arrays.items():
            setattr(self._call, name, address_of(array))

    def _point_texts(self, name: str) -> None:
        texts: Texts = getattr(self, f"_{name}")
        setattr(self._call, name, _Texts(address_of(texts.bytes), address_of(texts.ends)))


# What does not change under one catalogue ----------------------------------------------------------------------------


def _rate_texts(rate: Rate) -> Iterator[str]:
    yield members({"charge": rate.charge, "meter": rate.meter}) + ',"dimensions":{'
    for name in rate.group_by:
        yield from (name, encode(name).decode() + ":")


def _plan_texts(plan: Plan) -> Iterator[str]:
    yield "}," + members({"currency": plan.currency}) + ',"period":{"start":"'
    yield '",' + members({"price_book": plan.price_book, "price_version": plan.price_version}) + ',"tiers":['


def _rate_rows(compiled: Compiled) -> NDArray[np.int64]:
    """`rate_row` of emit.c for each rate."""
    rows, texts = [], 0
    for rate, table in zip(compiled.rates, compiled.rate_table.tolist(), strict=True):
        by_hand = rate.by_hand or rate.bounded or len(set(rate.group_by)) < len(rate.group_by)
        names = -1 if by_hand else len(rate.group_by)
        rows.append((table, *wide_of(rate.free_units), texts, names, rate.by_hand or rate.bounded))
        texts += 1 + 2 * len(rate.group_by)
    return np.array(rows, dtype=np.int64)


def _table_rows(compiled: Compiled) -> tuple[NDArray[np.int64], Texts]:
    """`table_row` of emit.c for each table, and what a quantity of nought shows."""
    rows, texts = [], []
    for first, count, rate, number in _tables(compiled):
        table = rate.tables[number]
        flags = _WHOLE * table.whole | _BLOCKS_DOWN * table.blocks_down
        flags |= _SILENT * is_silent(rate, number) | _UNIT_BELOW * (table.below_nought == "unit")
        rows.append((first, first + count - 1, flags, table.zero_blocks))
        texts.append(encode(shown_tiers(rate, number, 0)).decode()[1:-1])
    return np.array(rows, dtype=np.int64), Texts(texts)


def _tier_rows(compiled: Compiled) -> tuple[NDArray[np.int64], Texts]:
    """`tier_row` of emit.c for each tier, and five texts: the four of `tier_texts`, and all of it where it is full."""
    rows: list[tuple[int, ...]] = []
    texts: list[str] = []
    constant = iter(tier_texts(compiled))
    for _, _, rate, number in _tables(compiled):
        table = rate.tables[number]
        full = _full_tiers(rate, number)
        before = 0
        for at, tier in enumerate(table.tiers):
            start = 0 if table.whole else tier.start
            by_hand = full is None and at > 0
            bounds = (*wide_of(table.last(tier) or 0), *wide_of(start), *wide_of(before), *wide_of(tier.block))
            rows.append((*bounds, by_hand))
            shown = full[at] if full and at < len(full) else None
            texts.extend((*next(constant), "" if shown is None else encode(shown).decode()))
            before += 0 if shown is None else parse_scaled(shown.amount)
    return np.array(rows, dtype=np.int64), Texts(texts)


def _full_tiers(rate: Rate, number: int) -> list[TierAmount] | None:
    """What each tier but the last shows where a quantity lies above it; None where that has too many digits."""
    table = rate.tables[number]
    if table.whole:
        return []
    try:
        return shown_tiers(rate, number, table.tiers[-1].start + 1)[:-1]
    except NumberError:
        return None


def _tables(compiled: Compiled) -> Iterator[tuple[int, int, Rate, int]]:
    """Each table: its first tier, how many there are, and whose table it is."""
    of = ((rate, number) for rate in compiled.rates for number in range(len(rate.tables)))
    for first, count, (rate, number) in zip(
        compiled.tiers.first.tolist(), compiled.tiers.count.tolist(), of, strict=True
    ):
        yield first, count, rate, number
