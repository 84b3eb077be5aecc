"""Lago's routes, under `/lago/api/v1/`."""

from collections.abc import Mapping
from typing import Final

from starlette.routing import Mount

from ingest.compat.answering import Dialect
from ingest.compat.backend import Backend
from ingest.compat.errors import lago
from ingest.compat.lago.customers import Customers
from ingest.compat.lago.documents import Documents
from ingest.compat.lago.events import Events
from ingest.compat.lago.metrics import Metrics
from ingest.compat.lago.plans import Plans
from ingest.compat.lago.subscriptions import Subscriptions
from ingest.compat.lago.usage import Usage

PREFIX: Final = "/lago"
_API: Final = "/api/v1"


def lago_door(backend: Backend) -> Mount:
    """The door, to be mounted among an application's routes."""
    dialect = Dialect(PREFIX, lago, _wait)
    documents = Documents(backend)
    events, metrics, plans = Events(backend), Metrics(documents), Plans(documents)
    customers, subscriptions, usage = Customers(documents), Subscriptions(documents), Usage(backend)
    table = (
        ("POST", "/events", events.create),
        ("POST", "/events/batch", events.create_batch),
        ("GET", "/events/{id:path}", events.find),
        ("POST", "/billable_metrics", metrics.create),
        ("GET", "/billable_metrics", metrics.find_all),
        ("GET", "/billable_metrics/{id:path}", metrics.find),
        ("POST", "/plans", plans.create),
        ("GET", "/plans", plans.find_all),
        ("GET", "/plans/{id:path}", plans.find),
        ("POST", "/customers", customers.create),
        ("GET", "/customers", customers.find_all),
        ("GET", "/customers/{id:path}/current_usage", usage.current),
        ("GET", "/customers/{id:path}", customers.find),
        ("POST", "/subscriptions", subscriptions.create),
        ("GET", "/subscriptions/{id:path}", subscriptions.find),
        ("DELETE", "/subscriptions/{id:path}", subscriptions.end),
    )
    routes = ((method, _API + path, answer) for method, path, answer in table)
    return dialect.mount(routes, lambda: backend.retry_after_seconds)


def _wait(seconds: int) -> Mapping[str, str]:
    """Lago's client waits by `x-ratelimit-reset`, a number of seconds; others by `retry-after`."""
    return {"retry-after": str(seconds), "x-ratelimit-reset": str(seconds)}
