"""`GET /v1/spend`: what a tenant's customers have spent, ranked and compared."""

from collections.abc import Mapping
from typing import Annotated, Any, cast

import msgspec

from rating.spend.parameters import Parameters, cursor_of, invalid, read_cursor
from rating.spend.ranking import BY, DIMENSION, ORDERS, rank
from rating.spend.store import SpendStore, SumBy
from schemas.faults import unknown
from schemas.times import format_time

_FILTERS = ("customer", "subscription", "charge", "currency")
_LISTING = "spend"
_AFTER = msgspec.json.Decoder(tuple[str, Annotated[int, msgspec.Meta(ge=0)]])


class RankingQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """A question about a tenant's spend. Times are microseconds; `at` None is the newest time known."""

    tenant: str
    by: str
    order: str
    at: int | None
    compare_at: int | None
    where: dict[str, str]
    limit: int
    after: int


def read_ranking(parameters: Parameters, tenant: str) -> RankingQuestion:
    """The question of a request. Raises: Problem."""
    by = parameters.text("by", "customer") or "customer"
    if by not in BY and not (by.startswith(DIMENSION) and len(by) > len(DIMENSION)):
        raise invalid("by", unknown(by, [*BY, DIMENSION + "NAME"]))
    compare_at = parameters.time("compare_at")
    order = parameters.choice("order", ORDERS, "amount") or "amount"
    if compare_at is None and order != "amount":
        raise invalid("order", f"found {order!r} without `compare_at`, expected both")
    found = {name: parameters.text(name) for name in _FILTERS}
    cursor = parameters.text("cursor")
    return RankingQuestion(
        tenant=tenant,
        by=by,
        order=order,
        at=parameters.time("at"),
        compare_at=compare_at,
        where={name: text for name, text in found.items() if text is not None},
        limit=parameters.limit(),
        after=0 if cursor is None else read_cursor(cursor, _LISTING, _AFTER)[0],
    )


def answer_ranking(store: SpendStore, asked: RankingQuestion) -> Mapping[str, Any]:
    """The members of the answer."""
    column = cast(SumBy, "dimensions" if asked.by.startswith(DIMENSION) else asked.by)
    at = asked.at if asked.at is not None else store.latest(asked.tenant)
    now = [] if at is None else store.sums(column, asked.tenant, at, asked.where)
    before = None if asked.compare_at is None else store.sums(column, asked.tenant, asked.compare_at, asked.where)
    rows = rank(now, before, asked.by, asked.order)
    end = asked.after + asked.limit
    return {
        "by": asked.by,
        "at": None if at is None else format_time(at),
        "compare_at": None if asked.compare_at is None else format_time(asked.compare_at),
        "spend": rows[asked.after : end],
        "next_cursor": cursor_of(_LISTING, (end,)) if len(rows) > end else None,
    }
