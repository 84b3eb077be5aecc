"""Room for what grows. Address space that nothing has written to takes no memory, so much of it is asked for at once,
and what is large hardly ever moves: copying it, and clearing the pages it moves to, costs more than filling it."""

from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_LARGE_BYTES: Final = 4 << 20
_TIMES: Final = (16, 4)
"""How many times as much as is asked for. 16 times what is large is more than the C library takes from memory that was
used before, and would have to clear."""


def noughts(count: int, dtype: Any, width: tuple[int, ...] = ()) -> NDArray[Any]:
    """At least `count` rows of noughts; many more where that is large and the system has address space for them."""
    if count * prod(width) * np.dtype(dtype).itemsize >= _LARGE_BYTES:
        for times in _TIMES:
            try:
                return np.zeros((count * times, *width), dtype)
            except MemoryError:
                continue
    return np.zeros((count, *width), dtype)


def longer(column: NDArray[Any], size: int, held: int) -> NDArray[Any]:
    """The column, with room for `size` rows; behind the `held` first ones are noughts, if it is another one."""
    if size <= len(column):
        return column
    grown = noughts(max(size, 2 * len(column)), column.dtype, column.shape[1:])
    grown[:held] = column[:held]
    return grown


def address_of(column: NDArray[Any]) -> int:
    """Where a column stands in memory: as `column.ctypes.data`, in a third of the time."""
    address: int = column.__array_interface__["data"][0]
    return address
