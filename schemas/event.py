"""The usage event (CloudEvents 1.0) and the packed batch in which events travel.

A *pack* is one Arrow IPC stream with one record batch: the columns below, and beside them any number of
*path columns*, named by their path (`$.tokens`): what a meter reads from `data`, taken out once at the door.
A path column is a cache of `data`, never another truth; what is absent is read from `data` itself.
Its Arrow type says what it holds (see `schemas.paths`).

The pack's schema metadata holds `version` and `tenant`: one tenant per pack; and `traces` where a trace goes on with
some of its rows (`schemas.trace`).
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import pyarrow as pa

from schemas.trace import TRACES_KEY, Stretch, encode_traces

PACK_VERSION: Final = b"1"
VOID_TYPE: Final = "taximeter.void"

PACK_COLUMNS: Final[tuple[pa.Field, ...]] = (
    pa.field("identity", pa.binary(16), nullable=False),  # event_identity(tenant, customer, source, id)
    pa.field("content", pa.uint32(), nullable=False),  # fingerprint of what the event says
    pa.field("customer", pa.dictionary(pa.int32(), pa.string()), nullable=False),
    pa.field("subject", pa.dictionary(pa.int32(), pa.string()), nullable=False),
    pa.field("source", pa.dictionary(pa.int32(), pa.string()), nullable=False),
    pa.field("type", pa.dictionary(pa.int32(), pa.string()), nullable=False),
    pa.field("id", pa.string(), nullable=False),
    pa.field("time", pa.int64(), nullable=False),  # event time, microseconds since the epoch, UTC
    pa.field("arrived", pa.int64(), nullable=False),  # when the door took it, microseconds since the epoch
    pa.field("data", pa.binary(), nullable=False),  # the JSON object's text as it came
    pa.field("extensions", pa.string(), nullable=True),  # extension attributes as a JSON object, or null
)


def pack_schema(tenant: str, paths: tuple[pa.Field, ...] = (), traces: Sequence[Stretch] = ()) -> pa.Schema:
    """The Arrow schema of one tenant's packed batch, with its path columns and the traces that go on with it."""
    metadata = {b"version": PACK_VERSION, b"tenant": tenant.encode()}
    if traces:
        metadata[TRACES_KEY] = encode_traces(traces)
    return pa.schema([*PACK_COLUMNS, *paths], metadata=metadata)


class UsageEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A CloudEvent that says who used how much of what.

    `subject` names who used it; `time` defaults to the arrival; `data` is a JSON object.
    Extension attributes stand beside these fields and are kept.
    """

    id: str
    source: str
    type: str
    subject: str
    specversion: str = "1.0"
    time: str | None = None
    datacontenttype: str | None = None
    dataschema: str | None = None
    data: dict[str, Any] | None = None
