"""The questions about usage over HTTP: of a customer, of a whole tenant, and the kept events themselves."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from rating.spend.gauges import TooManyWindows
from rating.spend.parameters import Parameters, Problem, cursor_of, invalid, read_cursor
from rating.spend.store import EventFilter, EventPlace, SpendStore, Whose
from rating.spend.usage import OWNERS, TOTAL, Question, columns_for, measure, read_meters, stretch
from rating.spend.windows import UNITS
from schemas.catalogue import Meter
from schemas.event import VOID_TYPE
from schemas.faults import unknown
from schemas.identity import partition_of
from schemas.times import format_time

_PLACE = msgspec.json.Decoder(tuple[str, int, int, int, int])
_ORIGIN = "events"


class UsageQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """A question about one meter's usage. `partition`: of the customer, where it is one customer's."""

    whose: Whose
    meter: str
    question: Question
    partition: int | None


def read_usage(parameters: Parameters, tenant: str, partitions: int, customer: str | None) -> UsageQuestion:
    """The question of a request. Raises: Problem."""
    meter = parameters.text("meter")
    unit = parameters.choice("window", (*UNITS, TOTAL), "day")
    zone, first, last = parameters.zone("timezone"), parameters.time("from"), parameters.time("to")
    group_by = tuple(dict.fromkeys(part for text in parameters.texts("group_by") for part in text.split(",")))
    customers = (customer,) if customer is not None else tuple(dict.fromkeys(parameters.texts("customer")))
    if meter is None:
        raise invalid("meter", "missing, expected the name of a meter")
    if first is not None and last is not None and first > last:
        raise invalid("from", "found a time after `to`, expected one at or before it")
    return UsageQuestion(
        whose=Whose(tenant, customers, tuple(dict.fromkeys(parameters.texts("subject")))),
        meter=meter,
        question=Question(unit, zone, first, last, group_by, filters=_filters(parameters)),  # type: ignore[arg-type]  # `choice` has checked the unit
        partition=partition_of(tenant, customers[0], partitions) if len(customers) == 1 else None,
    )


def _filters(parameters: Parameters) -> dict[str, frozenset[str | None]]:
    """`filter=model:large`, repeated: of one dimension any of the values; `filter=model` alone: without it."""
    found: dict[str, set[str | None]] = {}
    for text in parameters.texts("filter"):
        name, colon, value = text.partition(":")
        if not name:
            raise invalid("filter", f"found {text[:60]!r}, expected DIMENSION:VALUE, or DIMENSION alone for none")
        found.setdefault(name, set()).add(value if colon else None)
    return {name: frozenset(values) for name, values in found.items()}


def answer_usage(
    store: SpendStore,
    asked: UsageQuestion,
    catalogue: bytes | None,
    known_at: int | None = None,
    newest: Callable[[], int | None] | None = None,
) -> dict[str, Any]:
    """The members of the answer. `known_at`: of what had arrived by then; `newest`: the greatest time known then.

    Raises: Problem where the meter, a dimension or the windows are impossible.
    """
    meter = _meter(catalogue, asked.meter, asked.question)
    columns = columns_for(meter, asked.question)
    events = store.events(asked.whose, meter.event, *stretch(meter, asked.question), known_at, columns)
    known = (
        (newest or (lambda: store.newest(asked.whose, asked.partition))) if meter.aggregate == "time_weighted" else None
    )
    try:
        usage = measure(meter, events, asked.question._replace(newest=known() if known else None))
    except TooManyWindows as error:
        raise invalid("window", str(error)) from None
    one = {"customer": asked.whose.customers[0]} if len(asked.whose.customers) == 1 else {}
    return {
        **one,
        "meter": asked.meter,
        "aggregate": meter.aggregate,
        "window": asked.question.unit,
        "timezone": asked.question.zone,
        "windows": usage.windows,
        "rejected": usage.rejected,
    }


def _meter(catalogue: bytes | None, name: str, question: Question) -> Meter:
    meters = {} if catalogue is None else read_meters(catalogue)
    if name not in meters:
        raise Problem(404, "Unknown meter", "unknown_meter", unknown(name, list(meters)), meters=sorted(meters))
    dimensions = list(meters[name].dimensions)
    for dimension in question.group_by:
        if dimension not in (*dimensions, *OWNERS):
            raise invalid("group_by", unknown(dimension, [*dimensions, *OWNERS]))
    for dimension in question.filters:
        if dimension not in dimensions:
            raise invalid("filter", unknown(dimension, dimensions))
    return meters[name]


# Kept events --------------------------------------------------------------------------------------


def read_events(parameters: Parameters, tenant: str) -> tuple[Whose, EventFilter, EventPlace | None, int]:
    """Which kept events a request asks for. Raises: Problem."""
    customers, subjects = (tuple(dict.fromkeys(parameters.texts(name))) for name in OWNERS)
    where = EventFilter(
        type=parameters.text("type"),
        source=parameters.text("source"),
        id=parameters.text("id"),
        first=parameters.time("from"),
        last=parameters.time("to"),
        arrived_from=parameters.time("arrived_from"),
        arrived_to=parameters.time("arrived_to"),
    )
    return Whose(tenant, customers, subjects), where, place_of(parameters.text("cursor")), parameters.limit()


def answer_events(
    store: SpendStore, whose: Whose, where: EventFilter, after: EventPlace | None, limit: int
) -> Mapping[str, Any]:
    """A page of kept events, each as a CloudEvent with its customer and arrival; the last one to arrive first."""
    rows = store.kept_events(whose, where, after, limit + 1).to_pylist()
    shown = [_shown(row) for row in rows[:limit]]
    if len(rows) <= limit:
        return {"events": shown, "next_cursor": None}
    last = rows[limit - 1]
    place = EventPlace(last["arrived"], last["log_partition"], last["log_offset"], last["log_index"])
    return {"events": shown, "next_cursor": cursor_of(_ORIGIN, place)}


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    extensions = msgspec.json.decode(row["extensions"]) if row["extensions"] else {}
    event = {"specversion": "1.0", "id": row["id"], "source": row["source"], "type": row["type"]}
    time = {} if row["type"] == VOID_TYPE else {"time": format_time(row["time"])}
    event |= {"subject": row["subject"], **time, **extensions, "data": msgspec.Raw(row["data"])}
    return {"event": event, "customer": row["customer"], "arrived": format_time(row["arrived"])}


def place_of(cursor: str | None) -> EventPlace | None:
    """Where a page of kept events begins, from the `next_cursor` of the one before. Raises: Problem."""
    return None if cursor is None else EventPlace(*read_cursor(cursor, _ORIGIN, _PLACE))
