"""Valid events -> rows of packs: whose each is, in which partition, which identity, and what it says.

Where the events are in a table the compiled half does it; the lists' way gives the same.
"""

import ctypes
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from ingest.columns import ABSENT, Events, Fault, Parsed, Refused, Rows
from ingest.route import Router, explain_no_route
from ingest.table import MICROS, PARTITION, TYPE, Table
from native.library import function
from schemas.event import VOID_TYPE
from schemas.identity import content_fingerprint, event_identities
from schemas.output import EventRef
from schemas.times import format_time

_route = function(
    "tx_route", None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_char_p, ctypes.c_int64, ctypes.c_void_p,
    ctypes.c_void_p, ctypes.c_void_p,
)  # fmt: skip


class Routed:
    """The valid events of a request: `events`, their `rows` in the same order, and the partition of each."""

    __slots__ = ("events", "partitions", "rows")

    def __init__(self, events: Events, router: Router, arrived: int | Sequence[int]) -> None:
        """Every subject must have a route. `arrived`: when all events have arrived, or each of them; microseconds."""
        self.events = events
        self.rows: Rows
        self.partitions: list[int] | NDArray[np.int64]
        self.rows, self.partitions = (
            _route_lists(events, router, arrived)
            if events.table is None
            else _route_table(events.table, router, arrived)
        )

    def by_partition(self) -> dict[int, Rows]:
        """The rows of each partition, in the order of the request."""
        each = self.partitions
        if not len(each):
            return {}
        first = each[0]
        if each.count(first) == len(each) if isinstance(each, list) else (each == first).all():
            return {int(first): self.rows}
        return {partition: self.rows.pick(self.of(partition)) for partition in np.unique(each).tolist()}

    def of(self, partition: int) -> NDArray[np.int64]:
        """Which events belong to a partition."""
        return np.flatnonzero(np.asarray(self.partitions) == partition)


def _route_lists(events: Events, router: Router, arrived: int | Sequence[int]) -> tuple[Rows, list[int]]:
    came = [arrived] * len(events) if isinstance(arrived, int) else list(arrived)
    routes = [route for route in router.routes(events.subject) if route is not None]
    customers = [route.customer for route in routes]
    rows = Rows(
        event_identities(router.hashers(customers, events.source), events.id),
        contents(events),
        customers,
        events.subject,
        events.source,
        events.type,
        events.id,
        [at if at != ABSENT else arrival for at, arrival in zip(events.micros, came, strict=True)],
        came,
        events.data,
        events.extensions,
    )
    return rows, [route.partition for route in routes]


def _route_table(table: Table, router: Router, arrived: int | Sequence[int]) -> tuple[Rows, NDArray[np.int64]]:
    """The same for a table, which is left as it is."""
    assert _route is not None
    places = router.places(table)
    came = np.full(len(table), arrived, np.int64) if isinstance(arrived, int) else np.array(arrived, np.int64)
    tenant = router.tenant.encode()
    routed = Table(table.rows.copy(), (*table.held, places.routes.held))
    to = places.rows.ctypes.data, places.routes.rows.ctypes.data
    _route(routed.address, len(routed), tenant, len(tenant), *to, came.ctypes.data)
    return Rows(table=routed), routed.rows[:, PARTITION]


def contents(events: Events) -> list[int]:
    """The fingerprint of what each event says: not its identity, not its arrival.

    An absent time stays absent, so that a retry of an event without a time is no conflict.
    """
    heads = [
        f"{type}\0{subject}\0{time or ''}\0{extensions or ''}".encode()
        for type, subject, time, extensions in zip(
            events.type, events.subject, events.time, events.extensions, strict=True
        )
    ]
    return list(map(content_fingerprint, heads, events.data))


def refuse_unroutable(
    parsed: Parsed, router: Router, arrived: int | Sequence[int], max_ahead: int | None
) -> tuple[Events, list[Refused]]:
    """The events that may go in, and all refused ones in order: those of `parsed`, and those that

    belong to no possible customer, or are further ahead of their arrival than `max_ahead` (microseconds) allows.
    `arrived`: when all have arrived, or each of them by position in the request.
    """
    events = parsed.events
    if not len(events):
        return events, parsed.refused
    latest = None if max_ahead is None else (arrived if isinstance(arrived, int) else min(arrived)) + max_ahead
    if events.table is not None and _is_right(events.table, router, latest):
        return events, parsed.refused
    wrong: dict[int, Fault] = {}
    for i, route in enumerate(router.routes(events.subject)):
        if events.type[i] == VOID_TYPE:
            fault = explain_no_void(events.data[i])
            if fault is not None:
                wrong[i] = fault
        if route is None and i not in wrong:
            wrong[i] = Fault("invalid_event", "subject", explain_no_route(events.subject[i]))
    if max_ahead is not None and latest is not None and max(events.micros) > latest:
        for i, (at, micros) in enumerate(zip(events.at, events.micros, strict=True)):
            own = latest if isinstance(arrived, int) else arrived[at] + max_ahead
            if i not in wrong and micros > own:
                wrong[i] = Fault("time_out_of_bounds", "time", _explain_ahead(events.time[i], own))
    if not wrong:
        return events, parsed.refused
    refused = [
        Refused(events.at[i], fault, events.show(i), events.id[i], events.source[i]) for i, fault in wrong.items()
    ]
    return events.without(wrong.keys()), sorted([*parsed.refused, *refused], key=lambda one: one.at)


def _is_right(table: Table, router: Router, latest: int | None) -> bool:
    """Whether nothing of a table can be refused, by its different subjects, its different types and its latest time."""
    if latest is not None and int(table.rows[:, MICROS].max()) > latest:
        return False
    if VOID_TYPE.encode() in table.distinct(TYPE)[0]:
        return False
    return router.places(table).all_known


def explain_no_void(data: bytes) -> Fault | None:
    """What is wrong with the data of an event that takes another one back; None where it names one."""
    try:
        msgspec.json.decode(data, type=EventRef)
    except msgspec.ValidationError as error:
        message = f"a void names what it takes back by source and id, both texts: {error}"
        return Fault("invalid_data", "data", message)
    return None


def _explain_ahead(text: str | None, latest: int) -> str:
    return f"found {text!r}, expected a time up to {format_time(latest)}, by the clock of this server"
