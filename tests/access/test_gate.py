"""The table of scopes against the routes that there really are, and every decision that the gate takes."""

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import BaseRoute, Mount, Route

from ingest.compat.errors import refuse
from schemas.access import SCOPES, Access
from schemas.times import SECOND
from taximeter.access.gate import Gate, Refused
from taximeter.access.http import KeysApi
from taximeter.access.keys import encode_record, make_key
from taximeter.access.ring import KeyRing
from taximeter.access.routes import TABLE, find_row, need_of
from taximeter.access.sqlite_store import SqliteKeys
from taximeter.embedded import Embedded, EmbeddedSettings
from taximeter.http import make_app
from taximeter.openapi.operations import OPERATIONS

NOW = 1_790_000_000 * SECOND
ANY_METHOD = ("GET", "PUT")
"""Of a route that takes every method and answers most of them with 405: what it really does."""


def ways(route: BaseRoute) -> Iterator[tuple[str, str]]:
    """The methods and paths that a route answers."""
    if isinstance(route, Route):
        path = re.sub(r"\{[^}]*\}", "x/y", route.path)
        plain = {"/v1/events": ("POST",), "/v1/ticks": ("POST",)}  # ASGI callables: they look at the method themselves
        methods = plain.get(path) or sorted((route.methods or set()) - {"HEAD"}) or ANY_METHOD
        yield from ((method, path) for method in methods if method in ("GET", "PUT", "POST", "DELETE", "PATCH"))
    elif isinstance(route, Mount):
        # Another dialect's: what it sets up is no row and so needs `admin`. `need_of` knows what it asks and sends.
        for inside in route.routes:
            if isinstance(inside, Route):
                path = route.path + re.sub(r"\{[^}]*\}", "x", inside.path)
                yield from ((method, path) for method in sorted(inside.methods or ()) if method == "GET")
    elif not hasattr(route, "_prefix"):
        yield from ways(route._route)  # type: ignore[attr-defined]  # taken only where a past moment is asked for
    else:
        prefix = route._prefix  # type: ignore[attr-defined]  # of a document of the catalogue
        yield from ((method, prefix + end) for method, end in (("GET", "x"), ("PUT", "x"), ("GET", "x/versions")))


@pytest.fixture
async def routes(tmp_path: Path) -> list[BaseRoute]:
    async with Embedded(EmbeddedSettings(tmp_path)) as parts:
        app = make_app([*parts.routes(), *KeysApi(SqliteKeys(tmp_path)).routes()], parts.ready)
        return list(app.routes)


async def test_every_route_of_the_server_stands_in_the_table(routes: list[BaseRoute]) -> None:
    found = [way for route in routes for way in ways(route)]
    assert len(found) > 40
    unlisted = [
        (method, path)
        for method, path in found
        if find_row(method, path) is None
        # Methods that these answer with 405.
        and (method, path) not in {(m, p) for m in ("DELETE", "PATCH", "POST", "PUT") for p in _ONLY_GET_AND_PUT}
    ]
    assert not unlisted, f"add rows for these to taximeter/access/routes.py: {unlisted}"


_ONLY_GET_AND_PUT = {"/v1/default-subscription", "/v1/default-subscription/versions", "/v1/catalogue"}


def test_the_documented_scopes_are_those_of_the_table() -> None:
    said, found = {}, {}
    for operation in OPERATIONS:
        path = re.sub(r"\{\w+\}", "x", operation.path)
        need = need_of(operation.method.upper(), path)
        said[operation.id] = operation.scope
        found[operation.id] = None if need == "public" else "admin" if need == "operator" else need
    assert said == found


EXPECTED = {
    ("GET", "/health/live"): "public",
    ("GET", "/health/ready"): "public",
    ("POST", "/v1/events"): "ingest",
    ("GET", "/v1/events"): "query",
    ("PUT", "/v1/events"): "admin",
    ("POST", "/v1/ticks"): "operator",
    ("GET", "/metrics"): "operator",
    ("GET", "/v1/status"): "operator",
    ("GET", "/v1/customers/acme/spend"): "query",
    ("HEAD", "/v1/customers/acme/spend"): "query",
    ("GET", "/v1/customers/a/b/usage"): "query",
    ("GET", "/v1/invoices/inv_1"): "query",
    ("GET", "/v1/meters"): "query",
    ("GET", "/v1/price-books/launch/versions"): "query",
    ("PUT", "/v1/price-books/launch"): "admin",
    ("PUT", "/v1/customers/acme/spend"): "admin",
    ("PUT", "/v1/catalogue"): "admin",
    ("DELETE", "/v1/customers/acme"): "admin",
    ("POST", "/v1/simulate"): "query",
    ("POST", "/v1/rerate"): "admin",
    ("GET", "/v1/keys"): "admin",
    ("POST", "/v1/keys/x/rotate"): "admin",
    ("POST", "/openmeter/api/v1/events"): "ingest",
    ("POST", "/openmeter/api/v1/meters/m/query"): "query",
    ("GET", "/openmeter/api/v1/meters"): "query",
    ("POST", "/openmeter/api/v1/meters"): "admin",
    ("POST", "/lago/api/v1/events/batch"): "ingest",
    ("GET", "/lago/api/v1/customers/acme/current_usage"): "query",
    ("POST", "/lago/api/v1/plans"): "admin",
    ("POST", "/stripe/v1/billing/meter_events"): "ingest",
    ("POST", "/stripe/v2/billing/meter_event_stream"): "public",  # a session's token is asked for instead
    ("POST", "/stripe/v1/billing/meters"): "admin",
    ("GET", "/v1/nothing-yet"): "admin",
    ("OPTIONS", "/v1/events"): "admin",
    ("GET", "/v1/keysmith"): "admin",
    ("GET", "/health/live/x"): "admin",
    ("GET", "/docs/../v1/keys"): "public",  # never a route: paths are taken letter by letter
    ("GET", "//v1/events"): "admin",
}


def test_what_each_request_needs() -> None:
    assert {way: need_of(*way) for way in EXPECTED} == EXPECTED


def gate_with(tenant: str = "acme", scopes: tuple[str, ...] = SCOPES, **options: Any) -> tuple[Gate, str]:
    text, records = make_key(tenant, "k", scopes, NOW)
    ring = KeyRing()
    ring.add(map(encode_record, records))
    return Gate(ring, clock=lambda: NOW, **options), text


def ask(gate: Gate, way: tuple[str, str], *headers: tuple[bytes, bytes], query: bytes = b"") -> Access:
    return gate.admit(*way, headers, query)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("tenant", ["default", "acme"])
def test_every_scope_at_every_row(scope: str, tenant: str) -> None:
    gate, text = gate_with(tenant, (scope,))
    bearer = (b"authorization", b"Bearer " + text.encode())
    for row in TABLE:
        for method in row.methods.split(","):
            way = (method, row.path.replace("*", "x"))
            may = row.need in ("public", scope) or (row.need == "operator" and (scope, tenant) == ("admin", "default"))
            try:
                access = ask(gate, way, bearer)
                assert may, f"{way} let {scope} of {tenant} in, and needs {row.need}"
                assert access.tenant == ("default" if row.need == "public" else tenant)
            except Refused as refused:
                assert not may and refused.failure.status == 403
                wanted = "admin" if row.need == "operator" else row.need
                assert refused.failure.more == {"scope": wanted} and wanted in refused.failure.detail
                header = dict(refused.headers)[b"www-authenticate"].decode()
                assert f'error="insufficient_scope", scope="{wanted}"' in header
            if row.need != "public":
                with pytest.raises(Refused) as none:
                    ask(gate, way)
                assert none.value.failure.status == 401 and none.value.headers[0][1].startswith(b"Bearer ")


def test_the_ways_to_say_a_key() -> None:
    gate, text = gate_with()
    key = text.encode()
    way = ("GET", "/v1/line-items")
    good = [
        (b"authorization", b"Bearer " + key),
        (b"authorization", b"bearer   " + key + b" "),
        (b"x-api-key", key),
        (b"authorization", b"Basic " + base64.b64encode(key + b":")),
    ]
    assert {ask(gate, way, one).tenant for one in good} == {"acme"}
    bad = {
        (b"authorization", key): "unknown_key",  # without a scheme
        (b"authorization", b"Bearer"): "unknown_key",
        (b"authorization", b"Bearer "): "unknown_key",
        (b"authorization", b"Bearer \xff\xfe"): "unknown_key",
        (b"authorization", b"Basic !!"): "unknown_key",
        (b"authorization", b"Basic "): "no_key",
        (b"authorization", b""): "no_key",
        (b"x-api-key", b""): "no_key",
        (b"cookie", key): "no_key",
    }
    for header, code in bad.items():
        with pytest.raises(Refused) as refused:
            ask(gate, way, header)
        assert (refused.value.failure.status, refused.value.failure.code) == (401, code), header
        assert text not in refused.value.failure.detail


def test_a_key_cannot_choose_its_tenant() -> None:
    gate, text = gate_with()
    headers = ((b"authorization", b"Bearer " + text.encode()), (b"taximeter-tenant", b"other"))
    assert ask(gate, ("GET", "/v1/line-items"), *headers, query=b"tenant=other").tenant == "acme"


def test_without_any_key_the_request_says_its_tenant() -> None:
    gate = Gate(KeyRing())
    way = ("POST", "/v1/events")
    assert gate.open and ask(gate, way) == Access()
    assert ask(gate, way, (b"taximeter-tenant", b"acme")) == Access(tenant="acme")
    assert ask(gate, way, query=b"x=1&tenant=a%2Fb") == Access(tenant="a/b")
    assert ask(gate, way, (b"taximeter-tenant", b"acme"), query=b"tenant=other").tenant == "acme"
    assert ask(gate, way, (b"authorization", b"Bearer whatever")) == Access(), "SDKs send a key of some sort"
    for wrong in (b"a b", b"x" * 129, b"\xe9"):
        with pytest.raises(Refused) as refused:
            ask(gate, way, (b"taximeter-tenant", wrong))
        assert refused.value.failure.status == 400 and refused.value.failure.more == {"parameter": "tenant"}


def test_without_any_key_no_page_of_another_site_is_answered() -> None:
    ring = KeyRing()
    gate, way = Gate(ring, clock=lambda: NOW), ("POST", "/v1/ticks")

    def asked(host: bytes | None, origin: bytes | None = None) -> int:
        headers = [(name, value) for name, value in ((b"host", host), (b"origin", origin)) if value is not None]
        try:
            ask(gate, way, *headers)
            return 200
        except Refused as refused:
            assert refused.failure.code == "not_local"
            return refused.failure.status

    for host in (b"localhost", b"LOCALHOST:8080", b"127.0.0.1:8080", b"[::1]:8080", b"10.0.0.7", None):
        assert asked(host) == 200, host
    for host in (b"evil.example", b"evil.example:8080", b"localhost.evil.example", b"[::1].evil.example"):
        assert asked(host) == 403, host
    assert asked(b"localhost:8080", b"http://localhost:8080") == 200
    for origin in (b"https://evil.example", b"null", b"", b"http://localhost:9999", b"http://localhost"):
        assert asked(b"localhost:8080", origin) == 403, origin
    assert Gate(ring, insecure=True).admit(*way, [(b"host", b"app.example")]) == Access(), "a proxy keeps the name"


def test_the_first_key_closes_the_server_and_the_last_one_does_not_open_it() -> None:
    ring = KeyRing()
    gate = Gate(ring, clock=lambda: NOW)
    assert gate.open
    text, records = make_key("acme", "k", ["query"], NOW - SECOND, NOW)
    ring.add(map(encode_record, records))
    assert not gate.open, "an expired key counts"
    with pytest.raises(Refused, match="expired"):
        ask(gate, ("GET", "/v1/line-items"), (b"x-api-key", text.encode()))


def test_metrics_may_be_made_public_and_nothing_else_is() -> None:
    gate, _ = gate_with(public_watching=True)
    assert ask(gate, ("GET", "/metrics")).scopes == frozenset()
    assert ask(gate, ("GET", "/v1/status")).scopes == frozenset()
    for way in (("POST", "/v1/ticks"), ("POST", "/metrics"), ("GET", "/v1/line-items")):
        with pytest.raises(Refused):
            ask(gate, way)


@pytest.mark.parametrize(
    ("path", "media_type", "body"),
    [
        ("/v1/events", b"application/problem+json", b'"status":401'),
        ("/openmeter/api/v1/events", b"application/problem+json", b'"code":"no_key"'),
        ("/lago/api/v1/events", b"application/json", b'{"status":401,"error":"Unauthorized"}'),
        ("/stripe/v1/billing/meters", b"application/json", b'{"error":{"type":"invalid_request_error"'),
        ("/stripes", b"application/problem+json", b'"status":401'),
    ],
)
def test_errors_speak_the_dialect_of_the_path(path: str, media_type: bytes, body: bytes) -> None:
    gate, _ = gate_with()
    with pytest.raises(Refused) as refused:
        ask(gate, ("POST", path))
    said = refuse(path)(refused.value.failure)
    assert said.media_type == media_type and body in said.content
