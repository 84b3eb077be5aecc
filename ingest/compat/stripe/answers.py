"""What Stripe's clients read: errors, lists, ids."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from ingest.compat.answering import Refused
from schemas.identity import digest

LIMIT_DEFAULT: Final = 10
LIMIT_MAX: Final = 100
_T = TypeVar("_T")


def invalid(
    message: str, param: str | None = None, code: str = "parameter_invalid", type: str = "invalid_request_error"
) -> Refused:
    """A 400 that names the parameter."""
    return error(400, type, code, message, param)


def missing(param: str) -> Refused:
    """A 400 for a parameter that must be there."""
    return invalid(f"Missing required param: {param}.", param, "parameter_missing")


def unknown(what: str, id: str, param: str) -> Refused:
    """A 404 for an object that is not there."""
    return error(404, "invalid_request_error", "resource_missing", f"No such {what}: '{id[:200]}'", param)


def error(status: int, type: str, code: str, message: str, param: str | None = None) -> Refused:
    """An error of any status."""
    body: dict[str, Any] = {"type": type, "code": code, "message": message}
    return Refused(status, {"error": body if param is None else body | {"param": param}})


def stripe_id(prefix: str, *names: str) -> str:
    """An id as Stripe writes them, the same for ever for what has these names."""
    return f"{prefix}_{digest('stripe', *names).hex()[:24]}"


def list_of(rows: Sequence[_T], id_of: Callable[[_T], str], query: Mapping[str, str], url: str) -> dict[str, Any]:
    """One page of a list, by `limit`, `starting_after` and `ending_before`; `data` is yet to be shown.

    Raises: Refused where one of them is impossible.
    """
    limit = _limit(query.get("limit"))
    ids = [id_of(row) for row in rows]
    after, before = query.get("starting_after"), query.get("ending_before")
    if after is not None and before is not None:
        raise invalid("You can only use one of starting_after and ending_before.", "starting_after")
    if before is not None:
        end = _place(ids, before, "ending_before")
        start = max(end - limit, 0)
        return {"object": "list", "data": list(rows[start:end]), "has_more": start > 0, "url": url}
    start = 0 if after is None else _place(ids, after, "starting_after") + 1
    page = list(rows[start : start + limit])
    return {"object": "list", "data": page, "has_more": start + limit < len(rows), "url": url}


def _place(ids: Sequence[str], id: str, param: str) -> int:
    if id not in ids:
        raise invalid(f"No such object: '{id[:200]}'", param, "resource_missing")
    return ids.index(id)


def _limit(text: str | None) -> int:
    if text is None:
        return LIMIT_DEFAULT
    if not (text.isascii() and text.isdigit() and len(text) < 5 and 1 <= int(text) <= LIMIT_MAX):
        raise invalid(f"found {text[:60]!r}, expected a whole number from 1 to {LIMIT_MAX}", "limit")
    return int(text)
