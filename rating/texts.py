"""Texts held once and known by number, in the order in which they first came, without a Python object for each.

They stand one behind the other as UTF-8 and are found by a hash, by whole dictionary columns at once: about 25 bytes a
text, and its own. The twin, where there is no library, keeps a dict beside them.
"""

import os
from collections.abc import Iterator, Sequence
from ctypes import c_int64, c_uint64, c_void_p
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from native.library import function
from rating.room import longer

_FILL_MAX: Final = 0.6
_HELD: Final = (c_void_p, c_int64, c_uint64, c_void_p, c_void_p)
_NATIVE_FIND: Final = function("tx_texts_find", None, *_HELD, *[c_void_p] * 2, c_int64, c_void_p)
_NATIVE_NUMBER: Final = function("tx_texts_number", c_int64, *_HELD, c_int64, *[c_void_p] * 2, c_int64, c_void_p)
_NATIVE_ENTER: Final = function("tx_texts_enter", None, *_HELD, c_int64, c_int64)


class Texts:
    """Different texts. Number k is the bytes `ends[k]` to `ends[k + 1]`."""

    def __init__(self) -> None:
        self._ends = np.zeros(16, dtype=np.int64)
        self._bytes = np.empty(256, dtype=np.uint8)
        self._count = 0
        self._slots = np.zeros(32, dtype=np.uint64)
        self._seed = int.from_bytes(os.urandom(8))
        """So that nobody can choose texts that fall together. Where they fall shows in no result."""
        self._numbers: dict[str, int] = {}
        """The twin of the slots: one of both is used."""

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        return iter(self.of(np.arange(self._count)))

    def __getitem__(self, number: int) -> str:
        begin, end = self._ends[number : number + 2].tolist()
        return self._bytes[begin:end].tobytes().decode()

    @property
    def columns(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """All bytes, and where each text begins and the last one ends. They move as it grows."""
        return self._bytes, self._ends

    @property
    def nbytes(self) -> int:
        """Bytes of memory held (without the twin's)."""
        return self._slots.nbytes + 8 * (self._count + 1) + int(self._ends[self._count])

    def of(self, numbers: NDArray[Any]) -> list[str]:
        """The texts of some numbers."""
        held = pa.LargeStringArray.from_buffers(self._count, pa.py_buffer(self._ends), pa.py_buffer(self._bytes))
        found: list[str] = held.take(pa.array(numbers)).to_pylist()
        return found

    def find(self, text: str) -> int | None:
        """A text's number, if it has one."""
        found = int(self.find_all([text])[0])
        return found if found >= 0 else None

    def find_all(self, texts: Sequence[str]) -> NDArray[np.int32]:
        """The number of each text, -1 where it has none."""
        if _NATIVE_FIND is None:
            return np.array([self._numbers.get(text, -1) for text in texts], dtype=np.int32)
        return self._find(pa.array(texts, pa.string()))

    def codes(self, columns: Sequence[pa.DictionaryArray]) -> NDArray[np.int32] | None:
        """The number of each row's text, in columns of `schemas.paths.TEXTS` without nulls. Texts that are not held are
        added, in the order in which the dictionaries have them. None: there is no library, and nothing was added."""
        if _NATIVE_NUMBER is None:
            return None
        parts = [self._number(column.dictionary).take(column.indices.to_numpy()) for column in columns]
        return np.concatenate(parts)

    def _number(self, texts: pa.StringArray) -> NDArray[np.int32]:
        """The number of each text, a new one where it has none."""
        assert _NATIVE_NUMBER is not None
        numbers, count = np.empty(len(texts), dtype=np.int32), self._count + len(texts)
        if not len(texts):
            return numbers
        begins, address = _addresses(texts)
        first, last = np.frombuffer(texts.buffers()[1], np.int32)[[texts.offset, texts.offset + len(texts)]].tolist()
        self._make_room(count, int(self._ends[self._count]) + last - first)
        self._make_slots(count)
        of = (begins, address, len(texts), numbers.ctypes.data)
        self._count = _NATIVE_NUMBER(*self._held(), self._count, *of)
        return numbers

    def extend(self, texts: Sequence[str]) -> None:
        """Further texts, of which each is new."""
        encoded = [text.encode() for text in texts]
        lengths = np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded))
        self._append(lengths, np.frombuffer(b"".join(encoded), dtype=np.uint8))

    def _append(self, lengths: NDArray[np.int64], data: NDArray[np.uint8]) -> None:
        first, count, begin = self._count, self._count + len(lengths), int(self._ends[self._count])
        self._make_room(count, begin + len(data))
        self._ends[first + 1 : count + 1] = begin + np.cumsum(lengths)
        self._bytes[begin : begin + len(data)] = data
        self._count = count
        if _NATIVE_ENTER is None:
            self._numbers.update(zip(self.of(np.arange(first, count)), range(first, count), strict=True))
            return
        if not self._make_slots(count):
            _NATIVE_ENTER(*self._held(), first, count)

    def _make_room(self, count: int, size: int) -> None:
        """Room for so many texts, and for so many bytes of them."""
        self._ends = longer(self._ends, count + 1, self._count + 1)
        self._bytes = longer(self._bytes, size, int(self._ends[self._count]))

    def _make_slots(self, count: int) -> bool:
        """Slots for so many texts. Returns whether they are others, which hold all the texts by now."""
        assert _NATIVE_ENTER is not None
        if count <= len(self._slots) * _FILL_MAX:
            return False
        self._slots = np.zeros(1 << int(count / _FILL_MAX).bit_length(), dtype=np.uint64)
        _NATIVE_ENTER(*self._held(), 0, self._count)
        return True

    def _held(self) -> tuple[int, int, int, int, int]:
        bits = len(self._slots).bit_length() - 1
        return self._slots.ctypes.data, bits, self._seed, self._ends.ctypes.data, self._bytes.ctypes.data

    def _find(self, texts: pa.StringArray) -> NDArray[np.int32]:
        """The number of each text, -1 where it has none."""
        assert _NATIVE_FIND is not None
        found = np.empty(len(texts), dtype=np.int32)
        if not len(texts):
            return found
        _NATIVE_FIND(*self._held(), *_addresses(texts), len(texts), found.ctypes.data)
        return found

    def dump(self) -> list[bytes]:
        """Each one's length in bytes, and their bytes."""
        ends = self._ends[: self._count + 1]
        return [np.diff(ends).astype(np.uint32).tobytes(), self._bytes[: ends[-1]].tobytes()]

    @classmethod
    def load(cls, dumped: list[bytes]) -> "Texts":
        """What `dump` gave."""
        found = cls()
        found._append(np.frombuffer(dumped[0], np.uint32).astype(np.int64), np.frombuffer(dumped[1], np.uint8))
        return found


def _addresses(texts: pa.StringArray) -> tuple[int, int]:
    """Of the first text's offset, and of the bytes."""
    _, offsets, data = texts.buffers()
    return offsets.address + 4 * texts.offset, data.address if data is not None else 0
