"""`/v1/keys`: a tenant's own keys, made, rotated and revoked by whoever has one of its keys with `admin`.

In front of a server that asks nobody for a key, nobody can make one here: the command line does.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from rating.spend.parameters import Parameters, Problem
from schemas.access import access_of, tenant_of
from schemas.times import SECOND
from taximeter.access.keys import Key, KeyRefused, make_key, read_expiry, revoke, rotate, shown
from taximeter.access.ring import KeyStore, KeysUnavailable
from taximeter.bodies import read_text
from taximeter.catalogue_http import guarded

KEYS_PATH: Final = "/v1/keys"
GRACE_S: Final = 24 * 3600
GRACE_MAX_S: Final = 90 * 24 * 3600
_BODY_BYTES_MAX: Final = 16 * 1024
_NO_STORE: Final = {"cache-control": "no-store"}


class _Create(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    scopes: list[str]
    expires: str | None = None


class _Rotate(msgspec.Struct, forbid_unknown_fields=True):
    grace_seconds: int = GRACE_S


_Body = TypeVar("_Body", _Create, _Rotate)


class KeysApi:
    """Answers for one store. `clock`: microseconds."""

    def __init__(self, store: KeyStore, clock: Callable[[], int] = lambda: time.time_ns() // 1000) -> None:
        self._store = store
        self._clock = clock

    def routes(self) -> list[BaseRoute]:
        """The routes."""
        return [
            Route(KEYS_PATH, _answering(self._list), methods=["GET"]),
            Route(KEYS_PATH, _answering(self._create), methods=["POST"]),
            Route(KEYS_PATH + "/{id}", _answering(self._show), methods=["GET"]),
            Route(KEYS_PATH + "/{id}", _answering(self._revoke), methods=["DELETE"]),
            Route(KEYS_PATH + "/{id}/rotate", _answering(self._rotate), methods=["POST"]),
        ]

    async def _list(self, request: Request) -> Response:
        _finish(request)
        now = self._clock()
        return _json(200, {"keys": [shown(key, now) for key in self._store.ring.keys(tenant_of(request.scope))]})

    async def _show(self, request: Request) -> Response:
        _finish(request)
        return _json(200, shown(self._key(request), self._clock()))

    async def _create(self, request: Request) -> Response:
        _finish(request)
        _check_asked(request)
        asked = await _read(request, _Create)
        now = self._clock()
        text, records = make_key(tenant_of(request.scope), asked.name, asked.scopes, now, read_expiry(asked.expires))
        await self._store.append(records)
        key = self._store.ring.key(text.split("_")[1])
        assert key is not None  # `append` returns when the ring has it
        return _json(201, {"key": text, **shown(key, now)})

    async def _rotate(self, request: Request) -> Response:
        _finish(request)
        _check_asked(request)
        key, asked = self._key(request), await _read(request, _Rotate)
        if not 0 <= asked.grace_seconds <= GRACE_MAX_S:
            raise KeyRefused(f"grace_seconds: found {asked.grace_seconds}, expected 0 to {GRACE_MAX_S}")
        text, records = rotate(key, self._clock(), asked.grace_seconds * SECOND)
        await self._store.append(records)
        return _json(200, {"key": text, **shown(self._key(request), self._clock())})

    async def _revoke(self, request: Request) -> Response:
        _finish(request)
        _check_asked(request)
        await self._store.append(revoke(self._key(request), self._clock()))
        return _json(200, shown(self._key(request), self._clock()))

    def _key(self, request: Request) -> Key:
        """One of the tenant's own. Raises: Problem; another tenant's is not there."""
        id = request.path_params["id"]
        key = self._store.ring.key(id)
        if key is None or key.about.tenant != tenant_of(request.scope):
            raise Problem(404, "Unknown key", "unknown_key", f"found {id[:60]!r}, expected the id of an API key")
        return key


def _answering(answer: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    async def with_problems(request: Request) -> Response:
        try:
            return await answer(request)
        except KeyRefused as error:
            raise Problem(422, "Key refused", "invalid_key", str(error)) from None
        except KeysUnavailable as error:
            raise Problem(503, "Service Unavailable", "unavailable", str(error)) from None

    return guarded(with_problems)


async def _read(request: Request, kind: type[_Body]) -> _Body:
    body = await read_text(request, _BODY_BYTES_MAX, ("application/json",))
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, "Invalid request", "invalid_request", str(error)) from None


def _check_asked(request: Request) -> None:
    """Keys are changed with a key. Raises: Problem where nobody was asked for one."""
    if access_of(request.scope).key is None:
        detail = "found no API key, because this server asks nobody for one; change keys with `taximeter keys`"
        raise Problem(403, "Forbidden", "no_key", detail)


def _finish(request: Request) -> None:
    Parameters(request).finish()


def _json(status: int, body: object) -> Response:
    return Response(msgspec.json.encode(body), status, _NO_STORE, "application/json")
