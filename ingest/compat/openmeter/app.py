"""The routes of this dialect under one prefix. Every error in it is a problem as its SDKs read them, a 404 too."""

from collections.abc import Awaitable, Callable
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from ingest.compat.backend import Backend
from ingest.compat.openmeter import customers, entitlements, events, meters, queries
from ingest.compat.openmeter.answers import guarded, not_here

PREFIX: Final = "/openmeter"
_Handler = Callable[[Backend, Request], Awaitable[Response]]

_CUSTOMER: Final = "/customers/{customer}"
_ROUTES: Final[tuple[tuple[str, str, _Handler], ...]] = (
    ("POST", "/api/v1/events", events.ingest),
    ("GET", "/api/v1/events", events.list_events),
    ("GET", "/api/v2/events", events.list_events_v2),
    ("POST", "/api/v1/meters", meters.create_meter),
    ("GET", "/api/v1/meters", meters.list_meters),
    ("GET", "/api/v1/meters/{meter}", meters.get_meter),
    ("PUT", "/api/v1/meters/{meter}", meters.update_meter),
    ("DELETE", "/api/v1/meters/{meter}", meters.delete_meter),
    ("GET", "/api/v1/meters/{meter}/query", queries.query_meter),
    ("POST", "/api/v1/meters/{meter}/query", queries.query_meter),
    ("GET", "/api/v1/meters/{meter}/subjects", queries.list_subjects_of),
    ("GET", "/api/v1/meters/{meter}/group-by/{key}/values", queries.list_values),
    ("POST", "/api/v1/subjects", customers.upsert_subjects),
    ("GET", "/api/v1/subjects", customers.list_subjects),
    ("GET", "/api/v1/subjects/{subject}", customers.get_subject),
    ("POST", "/api/v1/subjects/{subject}/entitlements", entitlements.create_subject_entitlement),
    ("GET", "/api/v1/subjects/{subject}/entitlements/{feature}/value", entitlements.get_subject_value),
    ("POST", "/api/v1/customers", customers.create_customer),
    ("GET", "/api/v1/customers", customers.list_customers),
    ("GET", f"/api/v1{_CUSTOMER}", customers.get_customer),
    ("PUT", f"/api/v1{_CUSTOMER}", customers.update_customer),
    ("GET", f"/api/v1{_CUSTOMER}/access", entitlements.get_access),
    ("GET", f"/api/v1{_CUSTOMER}/entitlements/{{feature}}/value", entitlements.get_value),
    ("GET", f"/api/v2{_CUSTOMER}/entitlements/{{feature}}/value", entitlements.get_value),
    ("POST", f"/api/v2{_CUSTOMER}/entitlements", entitlements.create_entitlement),
    ("GET", f"/api/v2{_CUSTOMER}/entitlements", entitlements.list_entitlements),
    ("GET", f"/api/v2{_CUSTOMER}/entitlements/{{feature}}", entitlements.get_entitlement),
    ("DELETE", f"/api/v2{_CUSTOMER}/entitlements/{{feature}}", entitlements.delete_entitlement),
    ("POST", "/api/v1/features", entitlements.create_feature),
    ("GET", "/api/v1/features", entitlements.list_features),
    ("GET", "/api/v1/features/{feature}", entitlements.get_feature),
    ("DELETE", "/api/v1/features/{feature}", entitlements.delete_feature),
)
"""Method, path, handler. Those of one path become one route, so that a wrong method is told which are right."""


def openmeter_routes(backend: Backend) -> list[Mount]:
    """The dialect under its prefix, for an application's router."""
    by_path: dict[str, dict[str, _Handler]] = {}
    for method, path, handler in _ROUTES:
        by_path.setdefault(path, {})[method] = handler
    found = [Route(path, _one_of(backend, handlers), methods=list(handlers)) for path, handlers in by_path.items()]
    app = Starlette(routes=found, exception_handlers={404: not_here, 405: not_here})
    app.router.redirect_slashes = False
    return [Mount(PREFIX, app)]


def _one_of(backend: Backend, handlers: dict[str, _Handler]) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        handler = handlers["GET" if request.method == "HEAD" else request.method]
        return await handler(backend, request)

    return guarded(backend, answer)
