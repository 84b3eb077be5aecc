"""Texts held once and known by number, in the order in which they first came, without a Python object for each.

They stand one behind the other as UTF-8 and are found by a hash, by whole dictionary columns at once: about 25 bytes a
text, and its own. The twin, where there is no library, keeps a dict beside them.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from ctypes import c_int64, c_uint64, c_void_p
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from native.library import function
from rating.room import longer

_FILL_MAX: Final = 0.6
_HELD: Final = (c_void_p, c_int64, c_uint64, c_void_p, c_void_p)
_NATIVE_FIND: Final = function("tx_texts_find", c_int64, *_HELD, *[c_void_p] * 2, c_int64, c_void_p)
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
        return self._find(pa.array(texts, pa.string()))[0]

    def codes(
        self, columns: Sequence[pa.DictionaryArray], add: Callable[[list[str]], object]
    ) -> NDArray[np.int32] | None:
        """The number of each row's text, in columns of `schemas.paths.TEXTS` without nulls. `add` is asked to add the
        texts that are not held, each once, in the order in which the dictionaries have them. None: there is no
        library."""
        if _NATIVE_FIND is None:
            return None
        dictionaries = [column.dictionary for column in columns]
        found = [self._find(dictionary) for dictionary in dictionaries]
        lacking = [at for at, (_, missing) in enumerate(found) if missing]
        if lacking:
            unknown = (dictionaries[at].take(pa.array(np.flatnonzero(found[at][0] < 0))).to_pylist() for at in lacking)
            add(list(dict.fromkeys(text for each in unknown for text in each)))
            for at in lacking:
                found[at] = self._find(dictionaries[at])
        parts = [numbers.take(column.indices.to_numpy()) for column, (numbers, _) in zip(columns, found, strict=True)]
        return np.concatenate(parts)

    def extend(self, texts: Sequence[str]) -> None:
        """Further texts, of which each is new."""
        encoded = [text.encode() for text in texts]
        lengths = np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded))
        self._append(lengths, np.frombuffer(b"".join(encoded), dtype=np.uint8))

    def _append(self, lengths: NDArray[np.int64], data: NDArray[np.uint8]) -> None:
        first, count, begin = self._count, self._count + len(lengths), int(self._ends[self._count])
        self._ends = longer(self._ends, count + 1, first + 1)
        self._bytes = longer(self._bytes, begin + len(data), begin)
        self._ends[first + 1 : count + 1] = begin + np.cumsum(lengths)
        self._bytes[begin : begin + len(data)] = data
        self._count = count
        if _NATIVE_ENTER is None:
            self._numbers.update(zip(self.of(np.arange(first, count)), range(first, count), strict=True))
            return
        if count > len(self._slots) * _FILL_MAX:
            self._slots = np.zeros(1 << int(count / _FILL_MAX).bit_length(), dtype=np.uint64)
            first = 0
        _NATIVE_ENTER(*self._held(), first, count)

    def _held(self) -> tuple[int, int, int, int, int]:
        bits = len(self._slots).bit_length() - 1
        return self._slots.ctypes.data, bits, self._seed, self._ends.ctypes.data, self._bytes.ctypes.data

    def _find(self, texts: pa.StringArray) -> tuple[NDArray[np.int32], int]:
        """The number of each text, -1 where it has none; and how many have none."""
        assert _NATIVE_FIND is not None
        found = np.empty(len(texts), dtype=np.int32)
        if not len(texts):
            return found, 0
        _, offsets, data = texts.buffers()
        begins, address = offsets.address + 4 * texts.offset, data.address if data is not None else 0
        return found, _NATIVE_FIND(*self._held(), begins, address, len(texts), found.ctypes.data)

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
