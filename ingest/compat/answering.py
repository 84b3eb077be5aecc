"""How a door in another dialect answers: its routes under one prefix, and every failure in that dialect's form.

Whatever goes wrong under the prefix is said in the dialect: by a route (`Refused`), by the routing (404, 405), by the
reading of a body, by a log that takes nothing (503), by a store that is not there (501) or late (503).
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from ingest.app import Disconnected, read_body
from ingest.compat.backend import Late, NotHere, QueryRefused
from ingest.compat.errors import Body, Failure, Formatter
from ingest.content import BodyRefused, inflate
from ingest.json_text import deeper_than, repeated_name, why_not_json
from schemas.faults import MISSING, Faults
from schemas.limits import EVENT_DEPTH_MAX
from schemas.plain import read_json
from streams.log import LogUnavailable

_LOG = logging.getLogger(__name__)
_ENVELOPES: Final = 8
"""How many objects and lists a dialect puts around an event's data."""

Answer = Callable[[Request], Awaitable[Response]]


class Refused(Exception):
    """A request that is refused, with the body that the dialect says it by."""

    def __init__(self, status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        super().__init__(str(body))
        self.response = json_response(body, status, headers)


class Dialect:
    """One dialect's way to answer. `formatter`: how a failure is said that no route of its own has a form for."""

    def __init__(self, prefix: str, formatter: Formatter, wait_headers: Callable[[int], Mapping[str, str]]) -> None:
        """`wait_headers`: seconds -> the headers that make this dialect's clients wait and try again."""
        self._prefix = prefix
        self._formatter = formatter
        self._wait_headers = wait_headers

    def mount(self, table: Iterable[tuple[str, str, Answer]], retry_after: Callable[[], int]) -> Mount:
        """Method, path and answer of each route, under the prefix. What is not there is refused in the dialect.

        Those of one path become one route, so that a wrong method is told which are right.
        """
        by_path: dict[str, dict[str, Answer]] = {}
        for method, path, answer in table:
            by_path.setdefault(path, {})[method] = answer
        routes = [
            Route(path, self._guarded(_one_of(answers), retry_after), methods=list(answers))
            for path, answers in by_path.items()
        ]
        app = Starlette(routes=routes, exception_handlers={HTTPException: self._not_routed})
        app.router.redirect_slashes = False
        return Mount(self._prefix, app=app)

    def _guarded(self, answer: Answer, retry_after: Callable[[], int]) -> Answer:
        """The answer, or in the dialect what kept it from being given."""

        async def guarded(request: Request) -> Response:
            try:
                return await answer(request)
            except Refused as refused:
                return refused.response
            except BodyRefused as refused:
                return self._failed(Failure(refused.status, refused.code, refused.detail))
            except LogUnavailable as error:
                return self._unavailable(error, retry_after())
            except Late as error:
                detail = f"what was taken is not yet in the queries, ask again: {error}"
                return self._failed(Failure(503, "late", detail), self._wait_headers(retry_after()))
            except NotHere as error:
                return self._failed(Failure(501, "not_served_here", str(error)))
            except QueryRefused as refused:
                return self._failed(Failure(refused.status, refused.code, f"{refused.name}: {refused.detail}"))
            except Disconnected:
                return Response(None, 400)
            except Exception as error:
                _LOG.exception("no answer to %s", request.scope["route"].path)  # a path itself names customers
                return self._failed(Failure(500, "internal_error", f"{type(error).__name__}: {error}"))

        return guarded

    def _unavailable(self, error: LogUnavailable, retry_after: int) -> Response:
        """503; 429 for a tenant over its rate: such an error says itself how many `seconds` it is to wait."""
        detail = f"nothing of this request was promised, send it again: {error}"
        seconds: int | None = getattr(error, "seconds", None)
        if seconds is not None:
            return self._failed(Failure(429, "over_rate", detail), self._wait_headers(seconds))
        return self._failed(Failure(503, "unavailable", detail), self._wait_headers(retry_after))

    def _failed(self, failure: Failure, headers: Mapping[str, str] | None = None) -> Response:
        return _said(self._formatter(failure), failure.status, headers)

    async def _not_routed(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        path = request.url.path[:200]
        if error.status_code == 404:
            return self._failed(Failure(404, "not_found", f"no such resource: {path}"))
        allowed = dict(error.headers or {})
        expected = allowed.get("Allow", "another method")
        detail = f"{request.method} is not allowed here, expected {expected}"
        code = HTTPStatus(error.status_code).name.lower()
        return self._failed(Failure(error.status_code, code, detail), allowed)


def _one_of(answers: Mapping[str, Answer]) -> Answer:
    async def answer(request: Request) -> Response:
        return await answers["GET" if request.method == "HEAD" else request.method](request)

    return answer


def _said(body: Body, status: int, headers: Mapping[str, str] | None = None) -> Response:
    return Response(body.content, status, dict(headers or {}), body.media_type.decode())


def json_response(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(msgspec.json.encode(body), status, dict(headers or {}), "application/json")


# Bodies -------------------------------------------------------------------------------------------


async def read_content(request: Request, bytes_max: int, media_types: Sequence[str]) -> bytes:
    """The body's bytes. Raises: BodyRefused (413, 415, 400 for a broken encoding), Disconnected."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type and media_type not in media_types:
        detail = f"found the content type {media_type!r}, expected {' or '.join(media_types)}"
        raise BodyRefused(415, "unsupported_media_type", detail)
    body = await read_body(request.scope, request.receive, bytes_max)
    return inflate(body, request.scope["headers"], bytes_max)


async def read_members(request: Request, bytes_max: int) -> dict[str, bytes]:
    """The members of a JSON body's object, each as its text: numbers stay as they were written. Raises: BodyRefused."""
    text = await read_content(request, bytes_max, ("application/json",))
    return members_of(text)


def members_of(text: bytes) -> dict[str, bytes]:
    """The members of a JSON object, each as its text. Raises: BodyRefused, also where a name stands twice anywhere."""
    if deeper_than(text, EVENT_DEPTH_MAX + _ENVELOPES):
        detail = f"found objects nested more than {EVENT_DEPTH_MAX + _ENVELOPES} deep"
        raise BodyRefused(400, "invalid_json", detail)
    try:
        text.decode()
        members = _members.decode(text)
        _anything.decode(text)
        twice = repeated_name(text)
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise BodyRefused(400, "invalid_json", why_not_json(text, error)) from None
    if twice is not None:
        raise BodyRefused(400, "invalid_json", f"found the name {twice[:60]!r} twice in one object, expected it once")
    return {name: bytes(raw) for name, raw in members.items()}


def plain_of(text: bytes) -> Any:
    """The plain value of a JSON text, numbers as `schemas.faults.Number`. Raises: BodyRefused."""
    faults = Faults()
    value = read_json(text, faults)
    if value is MISSING:
        raise BodyRefused(400, "invalid_json", str(faults[0]))
    return value


_anything = msgspec.json.Decoder(float_hook=msgspec.Raw)
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
