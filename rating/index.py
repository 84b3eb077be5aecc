"""A hash index from 128-bit keys to 32-bit values, probed and extended by whole columns.

Open addressing with linear probing over flat numpy arrays: 20 bytes a slot, 47 to 70 % full as long as nobody asks for
quicker growth, so 29 to 43 bytes a key; no Python object per key. Deterministic: the same keys in the same order give
the same values.
"""

from ctypes import c_int64, c_void_p
from typing import Final

import numpy as np
from numpy.typing import NDArray

from native.library import function
from rating.room import longer, noughts

Keys = NDArray[np.uint64]  # shape (n, 2)

_FILL_MAX: Final = 0.7
_MIX_LOW: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX_HIGH: Final = np.uint64(0xC2B2AE3D27D4EB4F)
NOUGHT_KEY: Final = np.array([0x5BD1E9955BD1E995, 0x9AE16A3B2F90404F], dtype=np.uint64)

_AT: Final = c_void_p
_NATIVE_SEEK: Final = function("tx_index_seek", c_int64, _AT, c_int64, _AT, c_int64, _AT)
_NATIVE_ADD: Final = function("tx_index_add", c_int64, _AT, _AT, c_int64, _AT, _AT, c_int64, _AT, _AT)
_NATIVE_SPREAD: Final = function("tx_index_spread", None, _AT, _AT, c_int64, c_int64, _AT)
_NATIVE_DIFFERS: Final = function("tx_index_differs", None, _AT, _AT, _AT, c_int64, _AT)


class HashIndex:
    """128-bit keys, each with a `uint32` value. The key (0, 0) is held as another fixed one."""

    def __init__(self, capacity: int = 16, growth: float = 1.5) -> None:
        """`growth`: how many times larger it becomes when it is full. More wastes memory, less takes longer."""
        self._clear(max(32, int(capacity / _FILL_MAX) + 1))
        self._growth = growth
        self.count = 0

    def __len__(self) -> int:
        return self.count

    @property
    def nbytes(self) -> int:
        """Bytes of memory held."""
        return self._keys.nbytes + self.values.nbytes

    @property
    def keys(self) -> Keys:
        """The key of each place, (0, 0) where there is none: for compiled functions, which probe by themselves."""
        return self._keys

    def find(self, keys: Keys) -> NDArray[np.int64]:
        """The place of each key in `values`, or -1 where it is not held."""
        if _NATIVE_SEEK is not None:
            places, missing = self._sought(np.ascontiguousarray(keys))
            return np.maximum(places, -1) if missing else places
        keys = without_nought(keys)
        places, held = self._seek(keys, self._home(keys))
        return places if held.all() else np.where(held, places, -1)

    def add(self, keys: Keys) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Adds what is not held. Returns each key's place in `values`, and whether this row was the first to bring it.

        The values of new keys have no meaning until the caller writes them. Places hold until the next `add`.
        """
        if _NATIVE_ADD is not None:
            return self._enter(np.ascontiguousarray(keys), None)
        keys = without_nought(keys)
        new = np.zeros(len(keys), dtype=np.bool_)
        places, held = self._seek(keys, self._home(keys))
        if held.all():
            return places, new
        rows = np.flatnonzero(~held)
        if self.make_room(len(rows)):
            places, _ = self._seek(keys, self._home(keys))
        at = places[rows]
        while len(rows):
            # The first row to ask for an empty place gets it: written last, it stays. The others look again.
            self.values[at[::-1]] = rows[::-1]
            won = self.values[at] == rows
            self._keys[at[won]] = keys.take(rows[won], axis=0)
            new[rows[won]] = True
            rows = rows[~won]
            at, held = self._seek(keys.take(rows, axis=0), at[~won])
            places[rows] = at
            rows, at = rows[~held], at[~held]
        self.count += int(new.sum())
        return places, new

    def enter(self, keys: Keys, values: NDArray[np.uint32]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Adds what is not held, with its value. Returns which rows were the first to bring their key, and which bring
        another value than is held then."""
        if _NATIVE_DIFFERS is not None:
            keys, values = np.ascontiguousarray(keys), np.ascontiguousarray(values)
            places, new = self._enter(keys, values)
            differs = np.empty(len(keys), dtype=np.bool_)
            held = self.values.ctypes.data
            _NATIVE_DIFFERS(held, places.ctypes.data, values.ctypes.data, len(keys), differs.ctypes.data)
            return new, differs
        places, new = self.add(keys)
        self.values[places[new]] = values[new]
        return new, self.values[places] != values

    def _sought(self, keys: Keys) -> tuple[NDArray[np.int64], int]:
        """Each key's place, or the complement of where it would be; and how many are not held."""
        assert _NATIVE_SEEK is not None
        places = np.empty(len(keys), dtype=np.int64)
        table = self._keys.ctypes.data, len(self._keys)
        return places, _NATIVE_SEEK(*table, keys.ctypes.data, len(keys), places.ctypes.data)

    def _enter(self, keys: Keys, values: NDArray[np.uint32] | None) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """`add`, compiled; new keys get their rows' values, where there are any."""
        assert _NATIVE_ADD is not None
        if self.count + len(keys) > len(self._keys) * _FILL_MAX:
            self.make_room(self._sought(keys)[1])
        places, new = np.empty(len(keys), dtype=np.int64), np.zeros(len(keys), dtype=np.bool_)
        table = self._keys.ctypes.data, self.values.ctypes.data, len(self._keys)
        brought = None if values is None else values.ctypes.data
        rows = keys.ctypes.data, brought, len(keys)
        self.count += _NATIVE_ADD(*table, *rows, places.ctypes.data, new.ctypes.data)
        return places, new

    def _seek(self, keys: Keys, at: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """From `at` on, where each key is held or would be, and whether it is."""
        found = self._keys.take(at, axis=0)  # several times faster than [at], of rows of two
        held = (found[:, 0] == keys[:, 0]) & (found[:, 1] == keys[:, 1])
        going = np.flatnonzero(~held & ((found[:, 0] | found[:, 1]) != 0))
        while len(going):
            further = at[going] + 1
            further[further == len(self._keys)] = 0
            at[going] = further
            found, sought = self._keys.take(further, axis=0), keys.take(going, axis=0)
            same = (found[:, 0] == sought[:, 0]) & (found[:, 1] == sought[:, 1])
            held[going[same]] = True
            going = going[~same & ((found[:, 0] | found[:, 1]) != 0)]
        return at, held

    def items(self) -> tuple[Keys, NDArray[np.uint32]]:
        """All keys and their values, in the order of their places."""
        used = (self._keys[:, 0] | self._keys[:, 1]) != 0
        return self._keys[used], self.values[used]

    def ordered(self) -> tuple[Keys, NDArray[np.uint32]]:
        """All keys and their values, by value and key: the same ones, however the index grew."""
        keys, values = self.items()
        order = np.lexsort((keys[:, 1], keys[:, 0], values))
        return keys.take(order, axis=0), values.take(order)

    @classmethod
    def of(cls, keys: Keys, values: NDArray[np.uint32]) -> "HashIndex":
        """An index that holds these distinct keys."""
        index = cls(len(keys))
        places, _ = index.add(keys)
        index.values[places] = values
        return index

    def _home(self, keys: Keys) -> NDArray[np.int64]:
        mixed = keys[:, 0] * _MIX_LOW ^ keys[:, 1] * _MIX_HIGH
        mixed ^= mixed >> np.uint64(32)
        mixed *= _MIX_LOW
        half = np.uint64(32)
        return (((mixed >> half) * np.uint64(len(self._keys))) >> half).astype(np.int64)  # below the size: of 32 bits

    @property
    def room(self) -> int:
        """How many keys it can hold at most as it is."""
        return int(len(self._keys) * _FILL_MAX)

    def make_room(self, extra: int) -> bool:
        """Room for so many keys more. Returns whether the places have changed."""
        size = len(self._keys)
        if self.count + extra <= size * _FILL_MAX:
            return False
        size = max(int(size * self._growth), int((self.count + extra) / _FILL_MAX) + 1)
        if _NATIVE_SPREAD is not None:
            before = self._lengthen(size)
            aside = np.empty((self.count, 3), dtype=np.uint64)
            _NATIVE_SPREAD(self._keys.ctypes.data, self.values.ctypes.data, before, size, aside.ctypes.data)
            return True
        keys, values = self.items()
        self._clear(size)
        self.count = 0
        places, _ = self.add(keys)
        self.values[places] = values
        return True

    def _clear(self, size: int) -> None:
        self._room = noughts(size, np.uint64, (2,)), noughts(size, np.uint32)
        self._keys, self.values = (column[:size] for column in self._room)

    def _lengthen(self, size: int) -> int:
        """More places, which are empty. Returns how many there were."""
        before = len(self._keys)
        keys, values = self._room
        self._room = longer(keys, size, before), longer(values, size, before)
        self._keys, self.values = (column[:size] for column in self._room)
        return before


def without_nought(keys: Keys) -> Keys:
    """The keys as they are held: (0, 0) marks an empty place, and is held as another fixed one."""
    nought = (keys[:, 0] | keys[:, 1]) == 0
    if not nought.any():
        return keys
    keys = keys.copy()
    keys[nought] = NOUGHT_KEY
    return keys


def make_keys(high: NDArray[np.uint64], low: NDArray[np.uint64]) -> Keys:
    """128-bit keys of two halves."""
    keys = np.empty((len(high), 2), dtype=np.uint64)
    keys[:, 0], keys[:, 1] = high, low
    return keys
