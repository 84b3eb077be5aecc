"""Which rejections were made good: by the events that name them in the extension attribute `mends`. A void that does
says also which event it took back: all rejections of that one are made good with it, whichever meter they are of.

A rejection's id in a listing is that of its row; in front of it stands `rej_` where people and programs see it.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from schemas.event import VOID_TYPE
from schemas.identity import digest
from schemas.output import EventRef
from schemas.rejection import EXPLAINED, MENDS, REJECTION_PREFIX
from schemas.times import format_time

MEND_ROWS: Final = pa.schema([("id", pa.string()), ("revision", pa.int64()), ("body", pa.string())])
_ID: Final = re.compile(rf"{REJECTION_PREFIX}([0-9a-f]{{32}}|\d{{1,5}}:\d{{1,19}})\Z", re.ASCII)
_MENTIONED: Final = f'"{MENDS}"'


class _Extensions(msgspec.Struct):
    mends: str | None = None


class _Void(msgspec.Struct):
    source: str
    id: str
    by: EventRef


class _Named(msgspec.Struct):
    subject: str
    source: str
    id: str


class _Rejected(msgspec.Struct):
    code: str
    event: _Named


_EXTENSIONS: Final = msgspec.json.Decoder(_Extensions)
_VOID: Final = msgspec.json.Decoder(_Void)
_REJECTED: Final = msgspec.json.Decoder(_Rejected)
_READ: Final = ["tenant", "subject", "source", "id", "type", "data", "arrived", "extensions"]


class Mending(msgspec.Struct, frozen=True):
    """The event that stands for a rejected one, and when it arrived."""

    source: str
    id: str
    arrived: str


def shown_id(row_id: str) -> str:
    """The id as people and programs see it."""
    return REJECTION_PREFIX + row_id


def row_id(shown: str) -> str | None:
    """The id of the row; None for what is no rejection's id."""
    match = _ID.match(shown)
    return None if match is None else match[1]


def keys_of(tenant: str, rejection: str, body: bytes) -> list[str]:
    """Under which keys it stands who makes a rejection good: its id, and the event where that is in the log."""
    found = [_key(tenant, rejection)]
    try:
        document = _REJECTED.decode(body)
    except msgspec.MsgspecError:
        return found  # of a broken event
    explained = EXPLAINED.get(document.code)
    if explained is not None and explained.used_up and document.code != "conflict":
        found.append(_key_of_event(tenant, document.event.subject, document.event.source, document.event.id))
    return found


def _key(tenant: str, rejection: str) -> str:
    """What one tenant says of a rejection says nothing of another's."""
    return f"{tenant}:{rejection}"


def _key_of_event(tenant: str, subject: str, source: str, id: str) -> str:
    return digest(tenant, subject, source, id).hex()


def names_rejection(rows: pa.RecordBatch) -> bool:
    """Whether some event may name a rejection."""
    column = rows.column("extensions")
    if column.null_count == len(column):
        return False
    return bool(pc.any(pc.match_substring(column, _MENTIONED)).as_py())


def stage_mends(packs: Sequence[pa.RecordBatch]) -> pa.Table:
    """The events that name a rejection, as rows; of several for one rejection the last to arrive counts."""
    found: dict[str, dict[str, str | int]] = {}
    for rows in packs:
        mentioned = pc.match_substring(rows.column("extensions"), _MENTIONED).fill_null(False)
        for row in rows.filter(mentioned).select(_READ).to_pylist():
            named = _named(row)
            if named is None:
                continue
            key, source, id = named
            body = msgspec.json.encode(Mending(source, id, format_time(row["arrived"]))).decode()
            if key not in found or int(found[key]["revision"]) < row["arrived"]:
                found[key] = {"id": key, "revision": row["arrived"], "body": body}
    return pa.Table.from_pylist(list(found.values()), schema=MEND_ROWS)


def _named(row: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """What an event makes good: the key, and the source and id of the event that does. A void says whose it is."""
    try:
        named = _EXTENSIONS.decode(row["extensions"]).mends
        rejection = None if named is None else row_id(named)
        if rejection is None:
            return None
        if row["type"] != VOID_TYPE:
            return _key(row["tenant"], rejection), row["source"], row["id"]
        void = _VOID.decode(row["data"])
        return _key_of_event(row["tenant"], row["subject"], void.source, void.id), void.by.source, void.by.id
    except msgspec.MsgspecError:
        return None
