"""A meter's usage by windows of time, computed from the raw events: exact, and by another road than the engine's.

Whole numbers all the way: a value is a Python int that counts 10^-12, so sums neither round nor overflow. An average
and a gauge's integral are rounded half up at the 12th digit, once. Values are in the units that `convert` gives each
event; one of the whole total belongs to a billing period and is left to the line item.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rating.spend.columns import texts
from rating.spend.conditions import passing
from rating.spend.formulas import meter_values
from rating.spend.gauges import Reading, Span, integrate, integrate_whole
from rating.spend.windows import Unit, cut, window_of
from schemas.catalogue import Identifier, Meter
from schemas.expressions import value_paths
from schemas.faults import Faults, Number, read
from schemas.numbers import ONE, divide_half_up, format_scaled
from schemas.paths import Extractor
from schemas.period import Period
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
    """What is asked of a meter: windows of `unit` in `zone`, of events with `first <= time < last` (microseconds).

    `newest`: the greatest time known, up to which gauges (`time_weighted`) hold their levels; else the last event's.
    `group_by`: dimensions of the meter, and `customer` and `subject` where it has no dimension of that name. `filters`:
    for a dimension the values (None: without it) of which one must be there.
    """

    unit: Unit | Literal["total"]
    zone: str
    first: int | None = None
    last: int | None = None
    group_by: tuple[str, ...] = ()
    newest: int | None = None
    filters: Mapping[str, frozenset[str | None]] = MappingProxyType({})


TOTAL: Final = "total"
"""In place of a unit: one window over all that was asked for."""

OWNERS: Final = ("customer", "subject")
"""What usage may be grouped by beside a meter's dimensions: whose it is."""


def columns_for(meter: Meter, question: Question) -> tuple[str, ...]:
    """The columns of `SpendStore.events` that `measure` needs."""
    owners = [name for name in OWNERS if name in question.group_by and name not in meter.dimensions]
    return ("time", "data", *owners) if meter.aggregate != "time_weighted" else ("time", "data", *OWNERS)


@lru_cache(maxsize=16)
def read_meters(catalogue: bytes) -> dict[str, Meter]:
    """The meters of a catalogue's JSON, numbers by their text. Raises: CatalogueUnreadable."""
    document = json.loads(catalogue, parse_int=Number, parse_float=Number)
    faults = Faults()
    meters: dict[str, Meter] = read(dict[Identifier, Meter], document.get("meters", {}), "meters", faults)
    if faults:
        raise CatalogueUnreadable(f"{len(faults)} fault(s) in the meters of the catalogue, the first: {faults[0]}")
    return meters


def stretch(meter: Meter, question: Question) -> tuple[int | None, int | None]:
    """The first and last time of the events that `measure` must see: a gauge's level comes from those before."""
    if meter.aggregate != "time_weighted":
        return question.first, question.last
    if question.last is None or meter.align is None:
        return None, question.last
    return None, window_of(question.last - 1, "day", question.zone).end


def measure(meter: Meter, events: pa.Table, question: Question) -> Usage:
    """The windows that hold any usage, by start and then by dimensions. `events`: of `SpendStore.events`, in `stretch`.

    Raises: rating.spend.gauges.TooManyWindows.
    """
    columns = _extract(meter, events, [*question.group_by, *question.filters])
    counts = passing(meter.where, columns, events.num_rows)
    for name, wanted in question.filters.items():
        found_texts, _ = texts(columns[meter.dimensions[name]])
        counts &= np.array([text in wanted for text in found_texts], dtype=np.bool_)
    values, valued = meter_values(meter, columns, events.num_rows)
    times = events["time"].to_numpy()
    asked = np.ones(len(times), dtype=np.bool_) if question.first is None else times >= question.first
    rejected = int(np.count_nonzero(counts & ~valued & asked))
    kept = np.flatnonzero(counts & valued)
    question = _bounded(question, times[kept])
    named = [
        columns[meter.dimensions[name]] if name in meter.dimensions else events[name] for name in question.group_by
    ]
    groups, group = _groups(named, kept)
    if meter.aggregate == "time_weighted":
        owners = events["customer"].to_pylist() if "customer" in events.column_names else [""] * len(times)
        return Usage(_gauge_windows(meter, columns, owners, values, times, kept, groups, group, question), rejected)
    windows, window = _cut(times[kept], question)
    order = np.lexsort((kept, times[kept], group, window))
    rising = [values[i] for i in kept[order].tolist()]
    found = []
    for start, end in _runs(window[order], group[order]):
        period, names = windows[window[order[start]]], groups[group[order[start]]]
        value = _AGGREGATES[meter.aggregate](rising[start:end], meter)
        found.append(_window(question, period, names, value, end - start))
    return Usage(found, rejected)


def unusable(meter: Meter, data: Sequence[bytes]) -> npt.NDArray[np.bool_]:
    """Which events (their data's texts) pass the meter's `where` and bring it no value that it can count."""
    paths = [*meter.where, *(value_paths(meter.value) if meter.value is not None else [])]
    columns = Extractor(paths).extract(list(data)) if paths else {}
    _, valued = meter_values(meter, columns, len(data))
    return passing(meter.where, columns, len(data)) & ~valued


def _cut(times: npt.NDArray[np.int64], question: Question) -> tuple[list[Period], npt.NDArray[np.int64]]:
    if question.unit != TOTAL:
        return cut(times, question.unit, question.zone)
    return [_whole(question)], np.zeros(len(times), np.int64)


def _whole(question: Question) -> Period:
    return Period(question.first or 0, question.last or 0)  # bounded, where it is asked for


def _bounded(question: Question, times: npt.NDArray[np.int64]) -> Question:
    """One window over all has the bounds that were asked for, else those of the events."""
    if question.unit != TOTAL or not len(times):
        return question
    first = int(times.min()) if question.first is None else question.first
    newest = max(int(times.max()), question.newest or int(times.max()))
    return question._replace(first=first, last=newest + 1 if question.last is None else question.last)


def _gauge_windows(
    meter: Meter,
    columns: dict[str, pa.Array],
    owners: Sequence[str],
    values: Sequence[int],
    times: npt.NDArray[np.int64],
    kept: npt.NDArray[np.int64],
    groups: Sequence[tuple[str | None, ...]],
    group: npt.NDArray[np.int64],
    question: Question,
) -> list[UsageWindow]:
    """One gauge for each customer and combination of all the meter's dimensions and its key, added up by group."""
    named = [*meter.dimensions.values(), *([meter.key] if meter.key is not None else [])]
    gauges = list(zip(owners, *(texts(columns[path])[0] for path in named), strict=True))
    newest = max([*times[kept].tolist(), *([question.newest] if question.newest is not None else [])], default=0)
    end = newest if question.last is None else min(newest, question.last)
    readings: list[list[Reading]] = [[] for _ in groups]
    for row, number in zip(kept.tolist(), group.tolist(), strict=True):
        time = int(times[row])
        if meter.align is not None:
            time = window_of(time, "day", question.zone).start
        if question.last is None or time < question.last:
            readings[number].append(Reading(time, gauges[row], values[row]))
    found = [
        (span.window, number, span)
        for number, of_group in enumerate(readings)
        for span in _integrate(meter, of_group, question, end)
    ]
    return [
        _window(question, window, groups[number], span.value, span.events) for window, number, span in sorted(found)
    ]


def _integrate(meter: Meter, readings: Sequence[Reading], question: Question, end: int) -> Iterator[Span]:
    if question.unit != TOTAL:
        return integrate(meter, readings, question.unit, question.zone, question.first, end)
    return integrate_whole(meter, readings, _whole(question), end)


def _window(question: Question, period: Period, names: tuple[str | None, ...], value: int, events: int) -> UsageWindow:
    return UsageWindow(
        start=format_time(period.start if question.first is None else max(period.start, question.first)),
        end=format_time(period.end if question.last is None else min(period.end, question.last)),
        dimensions=dict(zip(question.group_by, names, strict=True)),
        value=format_scaled(value),
        events=events,
    )


def _extract(meter: Meter, events: pa.Table, names: Sequence[str]) -> dict[str, pa.Array]:
    paths = [*meter.where, *(meter.dimensions[name] for name in names if name in meter.dimensions)]
    if meter.value is not None:
        paths += value_paths(meter.value)
    if meter.aggregate == "time_weighted":
        paths += [*meter.dimensions.values(), *([meter.key] if meter.key is not None else [])]
    return Extractor(paths).extract(events["data"].to_pylist()) if paths else {}


def _groups(
    columns: Sequence[pa.Array | pa.ChunkedArray], kept: npt.NDArray[np.int64]
) -> tuple[list[tuple[str | None, ...]], npt.NDArray[np.int64]]:
    """The combinations of values, in order (null first), and the one of each kept row."""
    rows: list[list[str | None]] = []
    for column in columns:
        found_texts = column.to_pylist() if isinstance(column, pa.ChunkedArray) else texts(column)[0]
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


def _percentile(values: list[int], meter: Meter) -> int:
    """Nearest rank: the least value that at least so many percent do not exceed."""
    rising, share = sorted(values), Fraction(meter.percentile or 100) / 100
    return next(value for at, value in enumerate(rising, 1) if Fraction(at, len(rising)) >= share)


_AGGREGATES: Final[dict[str, Callable[[list[Any], Meter], int]]] = {
    "count": lambda values, _: len(values) * ONE,
    "sum": lambda values, _: sum(values),
    "min": lambda values, _: min(values),
    "max": lambda values, _: max(values),
    "avg": lambda values, _: divide_half_up(sum(values), len(values)),
    "latest": lambda values, _: values[-1],  # rows stand in order of time, then arrival
    "unique_count": lambda values, _: len(set(values)) * ONE,
    "percentile": _percentile,
}
"""All but `time_weighted`, which has usage in windows without events too."""
