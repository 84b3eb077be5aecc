"""Who a request comes from, and whether it may do what it asks: the decision alone, without any wire.

Keys are asked for as soon as there is one, on every address, and where there never was one only a server that listens
on a loopback address answers, to everybody, as any tenant that it is told (the header `Taximeter-Tenant` or the
parameter `tenant`, else `default`). Such a server answers no page of another site that a browser on its machine shows.
"""

import base64
import binascii
import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs

from ingest.compat.errors import Failure
from schemas.access import DEFAULT_TENANT, OPEN, Access
from schemas.identity import IDENTIFIER
from taximeter.access.ring import KeyRing, WhyNot
from taximeter.access.routes import Need, need_of

TENANT_HEADER: Final = b"taximeter-tenant"
_REALM: Final = b'Bearer realm="taximeter"'
_WATCHED: Final = frozenset({"/metrics", "/v1/status"})
_LOCAL: Final = re.compile(rb"(localhost|[\d.]+|\[[\da-f:.]+\])(:\d+)?", re.I)
"""A `Host` that is no name which somebody else could have made."""
_LOOKED_AT: Final = frozenset({b"authorization", b"x-api-key", TENANT_HEADER, b"host", b"origin"})

_FOR_GOOD: Final = 1 << 62

_NO_KEY: Final = b"-"
"""Stands for what cannot be a key."""

_Headers = Iterable[tuple[bytes, bytes]]


class Refused(Exception):
    """A request that is not let in. `headers` go into the answer; `close`: the connection ends with it."""

    def __init__(self, failure: Failure, *headers: tuple[bytes, bytes], close: bool = False) -> None:
        super().__init__(failure.detail)
        self.failure = failure
        self.headers = headers
        self.close = close


class Passed(NamedTuple):
    """A head that was let in: what it may do, until when (microseconds), and the changes of keys that were known."""

    access: Access
    until: int
    changes: int


class Gate:
    """Decides. `insecure`: nobody is asked for a key, whatever there is. `public_watching`: `/metrics` and
    `/v1/status` need none. `clock`: microseconds."""

    def __init__(
        self,
        ring: KeyRing,
        *,
        insecure: bool = False,
        public_watching: bool = False,
        clock: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._ring = ring
        self.insecure = insecure
        self._public_watching = public_watching
        self._clock = clock

    @property
    def open(self) -> bool:
        """Whether nobody is asked for a key."""
        return self.insecure or self._ring.empty

    def admit(self, method: str, path: str, headers: _Headers, query: bytes = b"") -> Access:
        """What the request may do. Names of headers are lower case. Raises: Refused (400, 401, 403)."""
        return self._admit(method, path, headers, query)[0]

    def admit_again(self, passed: Passed | None, method: str, path: str, headers: _Headers) -> Passed:
        """`admit` for a head that comes again and again. `passed`: what was found when it came before; it holds until
        a key is changed or the one in it expires. Raises: Refused."""
        changes = self._ring.changes  # before anything is looked at
        if passed is not None and passed.changes == changes and self._clock() < passed.until:
            return passed
        return Passed(*self._admit(method, path, headers, b""), changes)

    def _admit(self, method: str, path: str, headers: _Headers, query: bytes) -> tuple[Access, int]:
        """The access, and until when it holds if no key is changed (microseconds)."""
        given = {name: value for name, value in headers if name in _LOOKED_AT}
        if self.open:
            if not self.insecure:
                _check_local(given)
            return _open_access(given, query), _FOR_GOOD
        need = need_of(method, path)
        if need == "public" or (self._public_watching and path in _WATCHED and need == "operator"):
            return _NOBODY, _FOR_GOOD
        text = _presented(given)
        if text is None:
            raise _unauthorized("no_key", "found no API key, expected one as `Authorization: Bearer KEY`")
        found = self._ring.grant(text, self._clock())
        if isinstance(found, str):
            raise _unauthorized(f"{found}_key", _WHY[found], b', error="invalid_token"')
        if need not in found[0].scopes:
            _check_operator_or_refuse(found[0], need, method, path)
        return found


_NOBODY: Final = Access(scopes=frozenset())
_WHY: Final[Mapping[WhyNot, str]] = {
    "unknown": "found an API key that nobody knows, expected one of this server",
    "expired": "found an API key that has expired, or was rotated too long ago: ask for its successor",
    "revoked": "found an API key that was revoked: ask for another one",
}


def _check_operator_or_refuse(access: Access, need: Need, method: str, path: str) -> None:
    """`need` is none of the key's scopes. Raises: Refused, unless it is `operator` and the key has that too."""
    if need == "operator":
        if "admin" in access.scopes and access.tenant == DEFAULT_TENANT:
            return
        needs, more = "admin, of the tenant default, because it concerns all tenants", {"scope": "admin"}
    else:
        needs, more = str(need), {"scope": str(need)}
    found = ", ".join(sorted(access.scopes))
    detail = f"found a key of the tenant {access.tenant} with {found}; {method} {path[:200]} needs {needs}"
    header = _REALM + b', error="insufficient_scope", scope="%s"' % more["scope"].encode()
    raise Refused(Failure(403, "missing_scope", detail, more), (b"www-authenticate", header))


def _unauthorized(code: str, detail: str, more: bytes = b"") -> Refused:
    return Refused(Failure(401, code, detail), (b"www-authenticate", _REALM + more))


def _presented(given: Mapping[bytes, bytes]) -> bytes | None:
    """The key as it came: `Authorization: Bearer`, or `Basic` with the key as the user's name (what `curl -u` sends to
    Stripe), or `X-API-Key`."""
    kind, _, value = given.get(b"authorization", b"").partition(b" ")
    kind, value = kind.lower(), value.strip()
    if kind == b"bearer" and value:
        return value
    if kind == b"basic":
        try:
            return base64.b64decode(value, validate=True).partition(b":")[0] or None
        except binascii.Error:
            return value
    return given.get(b"x-api-key", b"").strip() or (_NO_KEY if kind else None)


def _check_local(given: Mapping[bytes, bytes]) -> None:
    """A page from elsewhere can make a browser ask servers on its machine, by their address, or by a name that it lets
    point there. Raises: Refused."""
    host, origin = given.get(b"host", b""), given.get(b"origin")
    if host and not _LOCAL.fullmatch(host):
        detail = f"found the host {host[:100].decode('latin-1')!r}, expected localhost or an address"
    elif origin is not None and origin.partition(b"://")[2] != host:
        detail = f"found a page of {origin[:100].decode('latin-1')!r}, expected none of another site"
    else:
        return
    raise Refused(Failure(403, "not_local", f"{detail}: this server asks nobody for a key"))


def _open_access(given: Mapping[bytes, bytes], query: bytes) -> Access:
    """Of a request that is asked for no key. Raises: Refused where the tenant's name cannot be one."""
    tenant = given.get(TENANT_HEADER, b"").decode("latin-1")
    if not tenant and b"tenant=" in query:
        tenant = (parse_qs(query.decode("latin-1")).get("tenant") or [""])[-1]
    if not tenant or tenant == DEFAULT_TENANT:
        return OPEN
    if not IDENTIFIER.match(tenant):
        detail = f"tenant: found {tenant[:60]!r}, expected 1 to 128 letters, digits and . _ - : @ /"
        more: dict[str, Any] = {"parameter": "tenant"}
        raise Refused(Failure(400, "invalid_parameter", detail, more))
    return Access(tenant=tenant)
