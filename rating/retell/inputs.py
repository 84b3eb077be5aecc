"""What a spend store keeps of the inputs of one partition and one customer, as columns and plain values.

Owns reading them, and what is left of them at a moment. Nothing is rated here.
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rating.retell.moment import Moment
from rating.spend.store import SpendStore
from schemas.entry import CATALOGUES, RERATE, TICK, decode_catalogue, decode_rerate, encode_catalogue, encode_entry
from schemas.event import VOID_TYPE

Rows = NDArray[np.int64]

EVENTS_MAX: Final = 200_000
"""Events that one question may rate."""
READ_EVENTS: Final = 20_000
"""Events that are read at once: more than one entry of the log holds."""


class Control(NamedTuple):
    """An input that is no usage event and no tick: a catalogue or a re-rating, as the log's entry."""

    offset: int
    kind: int
    value: bytes


class Inputs(NamedTuple):
    """The inputs of one customer in a stretch of its partition's log, each part in the log's order.

    `events`: every event of the customer as it came, voids and duplicates too (`SpendStore.arrivals`). `tick_offset`
    and `tick_time`: the partition's ticks, those left out that turn the clock back.
    """

    events: pa.Table
    tick_offset: Rows
    tick_time: Rows
    controls: list[Control]


class TooManyEvents(ValueError):
    """A question would rate more events than one may."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the customer has more than {limit} kept events, expected at most as many for one question")
        self.limit = limit


def read_inputs(
    store: SpendStore, tenant: str, customer: str, partition: int, start: int, end: int, events_max: int = EVENTS_MAX
) -> Iterator[tuple[Inputs, int]]:
    """The inputs of `[start, end)` of a partition's log that concern a customer, a part at a time, each with the offset
    at which it ends. Raises: TooManyEvents, before anything is read.
    """
    if store.count_arrivals(tenant, customer, partition, start, end) > events_max:
        raise TooManyEvents(events_max)
    while True:
        events = store.arrivals(tenant, customer, partition, start, end, READ_EVENTS + 1)
        until = end
        if events.num_rows > READ_EVENTS:
            # The events of one entry of the log may stand at one offset: they are not cut apart.
            until = events["log_offset"][-1].as_py()
            events = events.filter(pc.less(events["log_offset"], until))
        yield _joined(events, store.controls(partition, start, until), tenant, customer), until
        if until == end:
            return
        start = until


def _joined(events: pa.Table, found: pa.Table, tenant: str, customer: str) -> Inputs:
    kinds, offsets = found["kind"].to_numpy(), found["log_offset"].to_numpy()
    ticks = kinds == TICK
    time = found["time"].to_numpy()[ticks]
    rising = np.diff(np.maximum.accumulate(time), prepend=np.int64(-(2**62))) > 0
    rest = found.filter(pa.array(~ticks))
    controls = [
        Control(offset, kind, value)
        for offset, kind, body in zip(*(rest[name].to_pylist() for name in ("log_offset", "kind", "body")), strict=True)
        if (value := _concerning(kind, body.encode(), tenant, customer)) is not None
    ]
    return Inputs(events, offsets[ticks][rising], time[rising], controls)


def at_moment(inputs: Inputs, moment: Moment, stop: int | None) -> Inputs:
    """What of the inputs a moment leaves. `stop`: the offset of the first input that came after `moment.known_at`."""
    events, offset, time, controls = inputs
    keep = np.ones(len(offset), dtype=np.bool_)
    if moment.as_of is not None:
        before = pc.less(events["time"], moment.as_of)
        events = events.filter(pc.or_(before, pc.equal(events["type"], VOID_TYPE)))  # a void's time has no meaning
        keep &= time <= moment.as_of
    if moment.known_at is not None:
        events = events.filter(pc.less_equal(events["arrived"], moment.known_at))
        keep &= time <= moment.known_at
        controls = [one for one in controls if stop is None or one.offset < stop]
    return Inputs(events, offset[keep], time[keep], controls)


class _Owned(msgspec.Struct):
    customer: str | None = None


_PARTS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_OWNED: Final = msgspec.json.Decoder(_Owned)


def _concerning(kind: int, payload: bytes, tenant: str, customer: str) -> bytes | None:
    """The entry with what concerns a customer; None where nothing does."""
    if kind in CATALOGUES:
        brought = decode_catalogue(kind, payload)
        mine = brought.tenant == tenant
        return encode_catalogue(tenant, reduce_catalogue(bytes(brought.catalogue), customer)) if mine else None
    if kind == RERATE:
        asked = decode_rerate(payload)
        return encode_entry(RERATE, payload) if (asked.tenant, asked.customer) == (tenant, customer) else None
    return None


def reduce_catalogue(payload: bytes, customer: str) -> bytes:
    """A catalogue (JSON) without other customers' documents; the rest of the text stays as it is, digit by digit."""
    kinds = _PARTS.decode(payload)
    if "customers" in kinds:
        kinds["customers"] = _kept(kinds["customers"], lambda id, _: id == customer)
    for kind in ("subscriptions", "credit_grants"):
        if kind in kinds:
            kinds[kind] = _kept(kinds[kind], lambda _, raw: _OWNED.decode(raw).customer in (None, customer))
    return msgspec.json.encode(kinds)


def _kept(documents: msgspec.Raw, wanted: Any) -> msgspec.Raw:
    parts = _PARTS.decode(documents)
    return msgspec.Raw(msgspec.json.encode({id: raw for id, raw in parts.items() if wanted(id, raw)}))
