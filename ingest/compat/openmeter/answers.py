"""What every route of this dialect shares: problems as its SDKs read them, JSON, ids and times.

The Node SDK reads a problem only under the content type `application/problem+json` without parameters, and the Python
SDK waits and tries again wherever a `Retry-After` stands: it stands on 503 alone.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ingest.app import Disconnected, read_body
from ingest.columns import Refused
from ingest.compat.backend import Backend, Late, NotHere, QueryRefused
from ingest.compat.errors import Failure, problem
from ingest.content import BodyRefused, inflate
from ingest.door import NotWhole
from schemas.access import tenant_of
from schemas.catalogue import CatalogueError, Filed
from schemas.limits import DOCUMENT_BYTES_MAX
from schemas.times import TimeError, format_time, parse_time
from streams.log import LogUnavailable

Answer = Callable[[Request], Awaitable[Response]]

_LOG = logging.getLogger(__name__)
_UNKNOWN_TIME: Final = "1970-01-01T00:00:00Z"
_FAULTS_MAX: Final = 100


class Refusal(Exception):
    """An answer that says why there is no other. `more`: further members of the problem, under `extensions`."""

    def __init__(self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None, **more: Any):
        super().__init__(detail)
        self.failure = Failure(status, code, detail, {"extensions": more} if more else {})
        self.headers = dict(headers or {})


def bad(name: str, detail: str) -> Refusal:
    """A parameter or a member of a body that cannot be taken."""
    return Refusal(400, "invalid_parameter", f"{name}: {detail}", field=name)


def unknown_thing(kind: str, name: str) -> Refusal:
    """What is asked for is not there."""
    return Refusal(404, f"unknown_{kind}", f"found no {kind} {name[:128]!r}")


def guarded(backend: Backend, answer: Answer) -> Answer:
    """The answer, or the problem that kept it from being given."""

    async def guarded(request: Request) -> Response:
        try:
            return await answer(request)
        except Disconnected:
            return Response(None, 400)
        except Exception as error:
            return _failed(_refusal(error, backend, request))

    return guarded


def _refusal(error: Exception, backend: Backend, request: Request) -> Refusal:
    retry = {"retry-after": str(backend.retry_after_seconds)}
    match error:
        case Refusal():
            return error
        case BodyRefused():
            return Refusal(error.status, error.code, error.detail)
        case NotWhole():
            return refuse_events(error.receipt.refused, error.receipt.lines)
        case CatalogueError():
            faults = [{"path": fault.path, "message": fault.message} for fault in error.faults[:_FAULTS_MAX]]
            first, more = error.faults[0], len(error.faults) - 1
            detail = f"{first.path}: {first.message}" + (f" (and {more} more)" if more else "")
            return Refusal(400, "invalid_document", detail, faults=faults)
        case QueryRefused():
            return Refusal(error.status, error.code, error.detail)
        case NotHere():
            return Refusal(501, "not_here", str(error))
        case Late():
            return Refusal(503, "late", str(error), retry)
        case LogUnavailable():
            detail = f"nothing of this request was promised, send it again: {error}"
            return Refusal(503, "unavailable", detail, retry)
        case _:
            _LOG.error("no answer to %s", request.scope["route"].path, exc_info=error)  # a path itself names customers
            return Refusal(500, "internal_error", f"{type(error).__name__}: {error}")


def refuse_events(refused: list[Refused], lines: list[int] | None) -> Refusal:
    """A request of which nothing was taken because of some of its events."""
    faults = []
    for one in refused[:_FAULTS_MAX]:
        place = {"index": one.at} if lines is None else {"line": lines[one.at]}
        message = {"path": one.fault.path, "message": one.fault.message, "code": one.fault.code}
        faults.append(place | {name: value for name, value in message.items() if value is not None})
    first = faults[0]
    at = f"line {first['line']}" if "line" in first else f"event {first['index']}"
    where = ": ".join(str(part) for part in (at, first.get("path")) if part is not None)
    more = f" (and {len(refused) - 1} more events)" if len(refused) > 1 else ""
    detail = f"{where}: {first['message']}{more}; nothing of this request was taken"
    return Refusal(400, str(first["code"]), detail, faults=faults)


def _failed(refusal: Refusal) -> Response:
    media_type, content = problem(refusal.failure)
    return Response(content, refusal.failure.status, refusal.headers, media_type.decode())


async def not_here(request: Request, error: Exception) -> Response:
    """What the router has no route or no method for."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = dict((error.headers if isinstance(error, HTTPException) else None) or {})
    if status == 405:
        detail = f"{request.method} is not allowed here, expected {headers.get('Allow', 'another method')}"
        return _failed(Refusal(405, "method_not_allowed", detail, headers))
    return _failed(Refusal(status, "not_found", f"no such resource: {request.url.path}", headers))


# Bodies and answers -------------------------------------------------------------------------------


async def read_object(request: Request, empty: bool = False) -> dict[str, Any]:
    """The JSON object of a body, its numbers with a fraction or an exponent by their text (`msgspec.Raw`).

    `empty`: no body at all is an object without members. Raises: Refusal, BodyRefused.
    """
    value = await read_json(request, b"{}" if empty else b"")
    if not isinstance(value, dict):
        raise Refusal(400, "invalid_json", f"found {_kind(value)}, expected an object")
    return value


async def read_json(request: Request, default: bytes = b"") -> Any:
    """Any JSON value of a body; that of `default` where there is none. Raises: Refusal, BodyRefused."""
    headers = request.scope["headers"]
    body = inflate(await read_body(request.scope, request.receive, DOCUMENT_BYTES_MAX), headers, DOCUMENT_BYTES_MAX)
    return decode_json(body or default, "the body")


def decode_json(text: bytes | str, what: str) -> Any:
    """A JSON text's value. Raises: Refusal."""
    try:
        value = _JSON.decode(text)
        msgspec.json.encode(value)  # a lone surrogate can be read, and not be written again
        return value
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError) as error:
        raise Refusal(400, "invalid_json", f"{what}: found no JSON: {error}") from None


_JSON = msgspec.json.Decoder(float_hook=msgspec.Raw)


def _kind(value: Any) -> str:
    return "an array" if isinstance(value, list) else "nothing" if value is None else "no object"


def as_json(value: Any, status: int = 200) -> Response:
    """An answer in JSON."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def tenant(request: Request) -> str:
    """Whose request it is."""
    return tenant_of(request.scope)


# Members ------------------------------------------------------------------------------------------


def text_of(value: Mapping[str, Any], name: str, most: int = 2000) -> str | None:
    """A text; None where it is absent or null. Raises: Refusal."""
    found = value.get(name)
    if found is None:
        return None
    if not isinstance(found, str) or len(found) > most:
        raise bad(name, f"found {show(found)}, expected a text of at most {most} characters")
    return found


def required_text(value: Mapping[str, Any], name: str, most: int = 2000) -> str:
    """A text that is not empty. Raises: Refusal."""
    found = text_of(value, name, most)
    if not found:
        raise bad(name, f"found {'nothing' if found is None else 'an empty text'}, expected a text")
    return found


def map_of_texts(value: Mapping[str, Any], name: str) -> dict[str, str]:
    """A map of texts; empty where it is absent or null. Raises: Refusal."""
    found = value.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(one, str) for one in found.values()):
        raise bad(name, f"found {show(found)}, expected a map of texts")
    return found


def show(value: Any) -> str:
    """A value as a message shows it."""
    text = msgspec.json.encode(value).decode(errors="replace")
    return text if len(text) <= 80 else text[:77] + "..."


def time_of(text: str | None, name: str) -> int | None:
    """Microseconds of an RFC 3339 time. Raises: Refusal."""
    try:
        return None if text is None else parse_time(text)
    except TimeError as error:
        raise bad(name, str(error)) from None


def whole(request: Request, name: str, default: int, most: int) -> int:
    """A whole number from 1 to `most`. Raises: Refusal."""
    text = request.query_params.get(name) or str(default)
    if not (text.isascii() and text.isdigit() and len(text) < 9 and 1 <= int(text) <= most):
        raise bad(name, f"found {text[:60]!r}, expected a whole number from 1 to {most}")
    return int(text)


def times_of(versions: list[Filed]) -> dict[str, str]:
    """`createdAt` and `updatedAt` of a document."""
    first, last = (versions[0], versions[-1]) if versions else (None, None)
    made = (first.changed if first else None) or _UNKNOWN_TIME
    return {"createdAt": made, "updatedAt": (last.changed if last else None) or made}


def shown_time(micros: int) -> str:
    """A time as answers have it."""
    return format_time(micros)
