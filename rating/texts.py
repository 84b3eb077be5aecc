"""Texts and the numbers that belong to them, looked up by whole dictionary columns, without a Python object for each.

What is not known yet is asked of somebody else, once. So this may be thrown away at any time: it holds no truth of its
own. Compiled only; where the library is not there, whoever is asked is asked about every text (see `rating.columns`).
About 25 bytes a text, and its own.
"""

import os
from collections.abc import Callable, Sequence
from ctypes import c_int64, c_uint64, c_void_p
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from native.library import function

Numbers = Sequence[int] | NDArray[np.int32]

_FILL_MAX: Final = 0.6
_HELD: Final = (c_void_p, c_int64, c_uint64, c_void_p, c_void_p)
_NATIVE_FIND: Final = function("tx_texts_find", c_int64, *_HELD, *[c_void_p] * 3, c_int64, c_void_p)
_NATIVE_ENTER: Final = function("tx_texts_enter", None, *_HELD, c_int64, c_int64)


class Texts:
    """Texts of one tenant, each with a number."""

    def __init__(self) -> None:
        self._slots = np.zeros(32, dtype=np.uint64)
        self._seed = int.from_bytes(os.urandom(8))
        """So that nobody can choose texts that fall together. Where they fall shows in no result."""
        self._ends = np.empty(16, dtype=np.int64)
        self._bytes = np.empty(256, dtype=np.uint8)
        self._numbers = np.empty(16, dtype=np.int32)
        self._count = 0

    @property
    def nbytes(self) -> int:
        """Bytes of memory held."""
        return self._slots.nbytes + self._ends.nbytes + self._bytes.nbytes + self._numbers.nbytes

    def codes(
        self,
        columns: Sequence[pa.DictionaryArray],
        numbers_of: Callable[[list[str]], Sequence[int] | NDArray[np.int32]],
    ) -> NDArray[np.int32] | None:
        """The number of each row's text, in columns of `schemas.paths.TEXTS` without nulls. `numbers_of` is asked
        about texts that are not known, each once, in the order in which the dictionaries have them. None: there is no
        library."""
        if _NATIVE_FIND is None:
            return None
        dictionaries = [column.dictionary for column in columns]
        found = [self._find(dictionary) for dictionary in dictionaries]
        lacking = [at for at, (_, missing) in enumerate(found) if missing]
        if lacking:
            unknown = (dictionaries[at].take(pa.array(np.flatnonzero(found[at][0] < 0))).to_pylist() for at in lacking)
            texts = list(dict.fromkeys(text for each in unknown for text in each))
            self._add(texts, numbers_of(texts))
            for at in lacking:
                found[at] = self._find(dictionaries[at])
        parts = [numbers.take(column.indices.to_numpy()) for column, (numbers, _) in zip(columns, found, strict=True)]
        return np.concatenate(parts)

    def _held(self) -> tuple[int, int, int, int, int]:
        bits = len(self._slots).bit_length() - 1
        return self._slots.ctypes.data, bits, self._seed, self._ends.ctypes.data, self._bytes.ctypes.data

    def _find(self, dictionary: pa.StringArray) -> tuple[NDArray[np.int32], int]:
        """The number of each text, -1 where it has none; and how many have none."""
        assert _NATIVE_FIND is not None
        found = np.empty(len(dictionary), dtype=np.int32)
        if not len(dictionary):
            return found, 0
        _, offsets, data = dictionary.buffers()
        begins, texts = offsets.address + 4 * dictionary.offset, data.address if data is not None else 0
        column = (self._numbers.ctypes.data, begins, texts, len(dictionary), found.ctypes.data)
        return found, _NATIVE_FIND(*self._held(), *column)

    def _add(self, texts: list[str], numbers: Numbers) -> None:
        """Texts that are not held."""
        assert _NATIVE_ENTER is not None
        encoded = [text.encode() for text in texts]
        first, count = self._count, self._count + len(texts)
        ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)
        ends += self._ends[first - 1] if first else 0
        data = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        self._ends, self._numbers = _room(self._ends, count), _room(self._numbers, count)
        self._bytes = _room(self._bytes, int(ends[-1]))
        self._ends[first:count], self._numbers[first:count] = ends, numbers
        self._bytes[int(ends[-1]) - len(data) : int(ends[-1])] = data
        if count > len(self._slots) * _FILL_MAX:
            self._slots = np.zeros(1 << int(count / _FILL_MAX).bit_length(), dtype=np.uint64)
            first = 0
        self._count = count
        _NATIVE_ENTER(*self._held(), first, count)


def _room(column: NDArray[Any], size: int) -> NDArray[Any]:
    """The column, longer if it must be."""
    if size <= len(column):
        return column
    return np.concatenate([column, np.empty(max(size, 2 * len(column)) - len(column), dtype=column.dtype)])
