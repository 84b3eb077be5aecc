"""The questions about rejections: the listing, and one of them with what it means and whether it was made good."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from rating.spend.mends import Mending, keys_of, row_id, shown_id
from rating.spend.parameters import Parameters, Problem, cursor_of
from rating.spend.store import Place, Row, SpendStore
from schemas.rejection import CODES, EXPLAINED, Rejection

_LOOKED_AT_MAX: Final = 20_000
"""Rows that one page looks through for those that are asked for; then it goes on at its cursor."""
_FLAGS: Final = ("true", "false")


class _Meter(msgspec.Struct):
    code: str
    meter: str | None = None


_METER: Final = msgspec.json.Decoder(_Meter)


class ListedRejection(Rejection, frozen=True, kw_only=True, omit_defaults=True):
    """A rejection as it is shown. `mended`: the event that stands for it."""

    id: str
    mended: Mending | None = None


class RejectionFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which rejections; None: any. `mended`: whether an event stands for it."""

    code: str | None = None
    meter: str | None = None
    mended: bool | None = None


class Found(msgspec.Struct, frozen=True):
    """Some rejections as they are shown, and the place to go on from; None: there are no more."""

    rejections: list[msgspec.Raw]
    after: Place | None


def find(store: SpendStore, tenant: str, asked: RejectionFilter, after: Place | None, limit: int) -> Found:
    """At most `limit` rejections that are asked for, the last one written first."""
    where: dict[str, str | int] = {"tenant": tenant}
    if asked.code is not None:
        where["code"] = asked.code
    found: list[tuple[Row, bytes | None]] = []
    chunk = limit + 1 if asked.meter is None and asked.mended is None else max(limit + 1, 500)
    looked_at = 0
    while True:
        rows = store.page("rejections", where, after, chunk)
        for row, mended in zip(rows, _mended(store, tenant, rows), strict=True):
            if asked.mended in (None, mended is not None) and _is_of(row, asked.meter):
                found.append((row, mended))
        looked_at += len(rows)
        if len(found) > limit or len(rows) < chunk or looked_at >= _LOOKED_AT_MAX:
            break
        after = rows[-1].place
    shown = [_shown(row, mended) for row, mended in found[:limit]]
    if len(found) > limit:
        return Found(shown, found[limit - 1][0].place)
    return Found(shown, rows[-1].place if len(rows) == chunk else None)


def get(store: SpendStore, tenant: str, id: str) -> msgspec.Raw:
    """One rejection as it is shown. Raises: Problem (404)."""
    row = row_id(id)
    found = [] if row is None else store.page("rejections", {"tenant": tenant, "id": row}, None, 1)
    if not found:
        raise Problem(
            404, "Unknown rejection", "unknown_rejection", f"found {id[:200]!r}, expected the id of a rejection"
        )
    return _shown(found[0], *_mended(store, tenant, found))


def _mended(store: SpendStore, tenant: str, rows: Sequence[Row]) -> list[bytes | None]:
    """Beside each rejection the event that stands for it: by its id, or by that of the event, which several meters may
    have rejected."""
    keys = [keys_of(tenant, row.place.id, row.body) for row in rows]
    mends = store.mends([key for of in keys for key in of])
    return [next((mends[key] for key in of if key in mends), None) for of in keys]


def _is_of(row: Row, meter: str | None) -> bool:
    return meter is None or _METER.decode(row.body).meter == meter


def _shown(row: Row, mended: bytes | None) -> msgspec.Raw:
    """The document with its id before it, and behind it the event that stands for it."""
    tail = b"" if mended is None else b',"mended":' + mended
    return msgspec.Raw(b'{"id":"%b",%b%b}' % (shown_id(row.place.id).encode(), row.body[1:-1], tail))


def read_listing(parameters: Parameters, tenant: str) -> Callable[[SpendStore], Mapping[str, Any]]:
    """What `GET /v1/rejections` asks. Raises: Problem."""
    mended = parameters.choice("mended", _FLAGS)
    asked = RejectionFilter(
        code=parameters.choice("code", CODES),
        meter=parameters.text("meter"),
        mended=None if mended is None else mended == "true",
    )
    limit, after = parameters.limit(), parameters.after("rejections")

    def query(store: SpendStore) -> Mapping[str, Any]:
        found = find(store, tenant, asked, after, limit)
        cursor = None if found.after is None else cursor_of("rejections", found.after)
        return {"rejections": found.rejections, "next_cursor": cursor}

    return query


def read_one(parameters: Parameters, tenant: str) -> Callable[[SpendStore], Mapping[str, Any]]:
    """What `GET /v1/rejections/{id}` asks."""
    id = parameters.path["id"]

    def query(store: SpendStore) -> Mapping[str, Any]:
        found = get(store, tenant, id)
        meaning, what_to_do, _ = EXPLAINED[_METER.decode(found).code]
        return {"rejection": found, "meaning": meaning, "what_to_do": what_to_do}

    return query
