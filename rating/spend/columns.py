"""Reads Arrow columns of exact decimals and of paths' values as Python values, without a detour by `Decimal`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.numbers import NumberError, format_scaled, parse_scaled
from schemas.paths import DECIMAL, number_of, text_of


def scaled(column: pa.Array | pa.ChunkedArray) -> list[int]:
    """The scaled numbers of a decimal128(38, 12) column; null is 0."""
    if isinstance(column, pa.ChunkedArray):
        return [number for chunk in column.chunks for number in scaled(chunk)]
    if column.type != DECIMAL:
        raise TypeError(f"found a column of {column.type}, expected {DECIMAL}")
    column = column.fill_null(0) if column.null_count else column
    if not len(column):
        return []
    halves = np.frombuffer(column.buffers()[1], dtype=np.int64)
    halves = halves[2 * column.offset : 2 * (column.offset + len(column))]
    low, high = halves[0::2], halves[1::2]
    if np.array_equal(high, low >> 63):  # all fit 64 bits, which is the rule
        numbers: list[int] = low.tolist()
        return numbers
    lows = low.view(np.uint64).tolist()
    return [(upper << 64) | lower for upper, lower in zip(high.tolist(), lows, strict=True)]


def distinct(column: pa.Array) -> tuple[list[Any], npt.NDArray[np.int64]]:
    """The different values of a column and, for each row, the index of its own (null: one past the last)."""
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    values = encoded.dictionary.to_pylist()
    codes = encoded.indices.fill_null(len(values)).to_numpy(zero_copy_only=False).astype(np.int64)
    return values, codes


def numbers(column: pa.Array) -> tuple[list[int | None], npt.NDArray[np.bool_]]:
    """The scaled number of each row of a path's column (a JSON number, or a string that holds one), and which rows
    have one."""
    if pa.types.is_decimal(column.type):
        return list(scaled(column)), column.is_valid().to_numpy(zero_copy_only=False)
    read = parse_scaled if pa.types.is_dictionary(column.type) else number_of
    values, codes = distinct(column)
    known: list[int | None] = [*(_number(read, value) for value in values), None]
    valued = np.array([number is not None for number in known], dtype=np.bool_)
    return [known[code] for code in codes.tolist()], valued[codes]


def texts(column: pa.Array) -> tuple[list[str | None], npt.NDArray[np.bool_]]:
    """The text by which each row's value is told apart (see `schemas.paths.text_of`), and which rows have one."""
    values, codes = distinct(column)
    if pa.types.is_decimal(column.type):
        values = [format_scaled(parse_scaled(value)) for value in values]
    elif not pa.types.is_dictionary(column.type):
        values = [text_of(value) for value in values]
    known: Sequence[str | None] = [*values, None]
    return [known[code] for code in codes.tolist()], codes < len(values)


def _number(read: Any, text: str) -> int | None:
    try:
        number: int = read(text)
    except NumberError:
        return None
    return number
