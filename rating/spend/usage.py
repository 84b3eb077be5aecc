"""A meter's usage by windows of time, computed from the raw events: exact, and by another road than the engine's.

Whole numbers all the way: a value is a Python int that counts 10^-12, so sums neither round nor overflow. An average
is rounded half up at the 12th digit, once.
"""

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rating.spend.columns import numbers, texts
from rating.spend.conditions import passing
from rating.spend.windows import Unit, cut
from schemas.catalogue import Identifier, Meter
from schemas.faults import Faults, Number, read
from schemas.numbers import ONE, divide_half_up, format_scaled
from schemas.paths import Extractor
from schemas.times import format_time


class CatalogueUnreadable(RuntimeError):
    """The newest catalogue of the log has meters that this version cannot read: a broken invariant."""


class UsageWindow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A meter's value in one half-open window, for one combination of `group_by` values. `events`: how many counted."""

    start: str
    end: str
    dimensions: dict[str, str | None] = {}
    value: str
    events: int


class Usage(NamedTuple):
    """`rejected`: events that pass the meter's `where` but lack its value (or have one that is no such number)."""

    windows: list[UsageWindow]
    rejected: int


class Question(NamedTuple):
    """What is asked of a meter: windows of `unit` in `zone`, of events with `first <= time < last` (microseconds)."""

    unit: Unit
    zone: str
    first: int | None = None
    last: int | None = None
    group_by: tuple[str, ...] = ()


@lru_cache(maxsize=16)
def read_meters(catalogue: bytes) -> dict[str, Meter]:
    """The meters of a catalogue's JSON, numbers by their text. Raises: CatalogueUnreadable."""
    document = json.loads(catalogue, parse_int=Number, parse_float=Number)
    faults = Faults()
    meters: dict[str, Meter] = read(dict[Identifier, Meter], document.get("meters", {}), "meters", faults)
    if faults:
        raise CatalogueUnreadable(f"{len(faults)} fault(s) in the meters of the catalogue, the first: {faults[0]}")
    return meters


def measure(meter: Meter, events: pa.Table, question: Question) -> Usage:
    """The windows that hold any usage, by start and then by dimensions. `events`: of `SpendStore.events`."""
    columns = _extract(meter, events, question.group_by)
    counts = passing(meter.where, columns, events.num_rows)
    values: list[Any] = [0] * events.num_rows
    rejected = 0
    if meter.value is not None and meter.aggregate != "count":
        values, valued = (texts if meter.aggregate == "unique_count" else numbers)(columns[meter.value])
        rejected = int(np.count_nonzero(counts & ~valued))
        counts &= valued
    times = events["time"].to_numpy()
    kept = np.flatnonzero(counts)
    windows, window = cut(times[kept], question.unit, question.zone)
    groups, group = _groups([columns[meter.dimensions[name]] for name in question.group_by], kept)
    order = np.lexsort((kept, times[kept], group, window))
    rising = [values[i] for i in kept[order].tolist()]
    found = []
    for start, end in _runs(window[order], group[order]):
        period, names = windows[window[order[start]]], groups[group[order[start]]]
        found.append(
            UsageWindow(
                start=format_time(period.start if question.first is None else max(period.start, question.first)),
                end=format_time(period.end if question.last is None else min(period.end, question.last)),
                dimensions=dict(zip(question.group_by, names, strict=True)),
                value=format_scaled(_AGGREGATES[meter.aggregate](rising[start:end])),
                events=end - start,
            )
        )
    return Usage(found, rejected)


def _extract(meter: Meter, events: pa.Table, group_by: Sequence[str]) -> dict[str, pa.Array]:
    paths = [*meter.where, *(meter.dimensions[name] for name in group_by)]
    if meter.value is not None:
        paths.append(meter.value)
    return Extractor(paths).extract(events["data"].to_pylist()) if paths else {}


def _groups(
    columns: Sequence[pa.Array], kept: npt.NDArray[np.int64]
) -> tuple[list[tuple[str | None, ...]], npt.NDArray[np.int64]]:
    """The combinations of values, in order (null first), and the one of each kept row."""
    rows: list[list[str | None]] = []
    for column in columns:
        found_texts, _ = texts(column)
        rows.append([found_texts[i] for i in kept.tolist()])
    keys = list(zip(*rows, strict=True)) if rows else [()] * len(kept)
    found = sorted(set(keys), key=lambda key: [(text is not None, text or "") for text in key])
    index = {key: at for at, key in enumerate(found)}
    return found, np.array([index[key] for key in keys], dtype=np.int64)


def _runs(window: npt.NDArray[np.int64], group: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Where rows of one window and group begin and end."""
    if not len(window):
        return []
    changes = np.flatnonzero((np.diff(window) != 0) | (np.diff(group) != 0)) + 1
    bounds = [0, *changes.tolist(), len(window)]
    return list(pairwise(bounds))


_AGGREGATES: Final[dict[str, Callable[[list[Any]], int]]] = {
    "count": lambda values: len(values) * ONE,
    "sum": sum,
    "min": min,
    "max": max,
    "avg": lambda values: divide_half_up(sum(values), len(values)),
    "latest": lambda values: values[-1],  # rows stand in order of time, then arrival
    "unique_count": lambda values: len(set(values)) * ONE,
}
