"""What Lago's clients read: errors by field, ids, times."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from ingest.compat.answering import Refused
from schemas.faults import Faults
from schemas.identity import digest
from schemas.times import format_time, parse_time

Errors = dict[str, list[str]]
"""Field -> what is wrong with it: Lago's word for it, and then perhaps what was found and expected."""

MANDATORY: Final = "value_is_mandatory"
INVALID: Final = "value_is_invalid"
FORMAT: Final = "invalid_format"
EXISTS: Final = "value_already_exist"


def unprocessable(details: Mapping[str, Any]) -> Refused:
    """A 422 with what is wrong by field (in a batch: by position, and then by field)."""
    body = {"status": 422, "error": "Unprocessable Entity", "code": "validation_errors", "error_details": details}
    return Refused(422, body)


def unknown(resource: str) -> Refused:
    """A 404 that names the kind of what is not there."""
    return Refused(404, {"status": 404, "error": "Not Found", "code": f"{resource}_not_found"})


def bad_request(message: str) -> Refused:
    """A 400: the body as a whole is not what Lago expects."""
    return Refused(400, {"status": 400, "error": f"BadRequest: {message}"})


def faulty(faults: Faults, prefix: str) -> Refused:
    """A 422 for documents that the catalogue refuses; paths below `prefix` are told from there."""
    errors: Errors = {}
    for fault in faults:
        path = fault.path.removeprefix(prefix).lstrip(".") or "base"
        errors.setdefault(path, [INVALID]).append(fault.message)
    return unprocessable(errors)


def lago_id(kind: str, *names: str) -> str:
    """The `lago_id` of what has these names: the same for ever, so it need not be kept anywhere."""
    return str(UUID(bytes=digest("lago", kind, *names), version=5))


def iso_seconds(micros: int) -> str:
    """A time to the second, as Lago writes it."""
    return format_time(micros - micros % 1_000_000)


def iso_milliseconds(micros: int) -> str:
    """A time with milliseconds, as Lago writes those of events."""
    return f"{iso_seconds(micros)[:-1]}.{micros % 1_000_000 // 1000:03d}Z"


def changed_seconds(changed: str | None) -> str:
    """When a document was made, to the second; documents from before that was kept count from 1970."""
    return iso_seconds(parse_time(changed) if changed else 0)


def page_of(rows: Sequence[Any], query: Mapping[str, str]) -> tuple[Sequence[Any], dict[str, Any]]:
    """One page of a listing, and its `meta`. What is no page is the first, as with Lago."""
    per_page, page = (_whole(query.get(name), default) for name, default in (("per_page", 20), ("page", 1)))
    per_page = min(per_page, 1000)
    total_pages = -(-len(rows) // per_page)
    meta = {
        "current_page": page,
        "next_page": page + 1 if page < total_pages else None,
        "prev_page": page - 1 if page > 1 else None,
        "total_pages": total_pages,
        "total_count": len(rows),
    }
    return rows[(page - 1) * per_page : page * per_page], meta


def _whole(text: str | None, default: int) -> int:
    plain = text is not None and text.isascii() and text.isdigit() and len(text) < 10
    return max(int(text or 0), 1) if plain else default
