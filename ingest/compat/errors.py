"""Errors in the form that each system's clients read, whoever answers them: a route, or the layer in front of all.

What the clients were measured to need: OpenMeter's Node SDK reads `application/problem+json` without parameters only;
Lago's client takes any body that is no JSON object for a 500; Stripe's wants `error` at the root.
"""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import msgspec


class Failure(NamedTuple):
    """What is said of a request that fails. `code` is a word for programs, `more` are members of a problem's own."""

    status: int
    code: str
    detail: str
    more: Mapping[str, Any] = {}

    @property
    def title(self) -> str:
        """The status in words."""
        return _TITLES.get(self.status) or HTTPStatus(self.status).phrase


class Body(NamedTuple):
    """An answer's media type and content."""

    media_type: bytes
    content: bytes


Formatter = Callable[[Failure], Body]
_TITLES: Final = {413: "Content Too Large", 422: "Unprocessable Entity"}  # RFC 9110's words, in every Python


def problem(failure: Failure) -> Body:
    """Ours and OpenMeter's: a problem by RFC 9457."""
    status, code, detail, more = failure
    body = {"type": "about:blank", "title": failure.title, "status": status, "detail": detail, "code": code, **more}
    return Body(b"application/problem+json", msgspec.json.encode(body))


def lago(failure: Failure) -> Body:
    """Lago's: `status` and `error`. It says no more of a 401."""
    body: dict[str, Any] = {"status": failure.status, "error": failure.title}
    if failure.status != 401:
        body |= {"code": failure.code, "detail": failure.detail}
    return Body(b"application/json", msgspec.json.encode(body))


def stripe(failure: Failure) -> Body:
    """Stripe's: `error` with `type`, `code` and `message`."""
    kind = _STRIPE_TYPES.get(failure.status, "api_error" if failure.status >= 500 else "invalid_request_error")
    body = {"error": {"type": kind, "code": failure.code, "message": failure.detail}}
    return Body(b"application/json", msgspec.json.encode(body))


_STRIPE_TYPES: Final = {429: "rate_limit"}
_FORMATTERS: Final = (("/openmeter", problem), ("/lago", lago), ("/stripe", stripe))


def refuse(path: str) -> Formatter:
    """How a failure of a request to this path is said."""
    for prefix, formatter in _FORMATTERS:
        if path == prefix or path.startswith(prefix + "/"):
            return formatter
    return problem
