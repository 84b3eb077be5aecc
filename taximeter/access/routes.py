"""Which scope a request needs: one table, by method and path. What no row names needs `admin`.

`*` in a path stands for anything that is not empty, slashes included. The first row that fits holds.
"""

import re
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from schemas.access import KeyScope
from schemas.catalogue import KINDS

Need = KeyScope | Literal["public", "operator"]
"""`public`: nobody is asked for a key. `operator`: `admin` of the tenant `default`, because it touches or shows what
belongs to all tenants."""


class Row(NamedTuple):
    """Methods, with commas; a path; and what a request to it needs."""

    methods: str
    path: str
    need: Need


TABLE: Final = (
    # Whether the process lives, and what describes it.
    Row("GET", "/", "public"),
    Row("GET", "/health/live", "public"),
    Row("GET", "/health/ready", "public"),
    Row("GET", "/openapi.json", "public"),
    Row("GET", "/docs", "public"),
    Row("GET", "/docs/*", "public"),
    # All tenants at once.
    Row("GET", "/metrics", "operator"),
    Row("GET", "/v1/status", "operator"),
    Row("POST", "/v1/ticks", "operator"),
    # The door.
    Row("POST", "/v1/events", "ingest"),
    Row("POST", "/openmeter/api/v1/events", "ingest"),
    Row("POST", "/lago/api/v1/events", "ingest"),
    Row("POST", "/lago/api/v1/events/batch", "ingest"),
    Row("POST", "/stripe/v1/billing/meter_events", "ingest"),
    Row("POST", "/stripe/v1/billing/meter_event_adjustments", "ingest"),
    Row("POST", "/stripe/v2/billing/meter_events", "ingest"),
    Row("POST", "/stripe/v2/billing/meter_event_adjustments", "ingest"),
    Row("POST", "/stripe/v2/billing/meter_event_session", "ingest"),
    # Its bearer is no key but a session's token, which the route itself asks for.
    Row("POST", "/stripe/v2/billing/meter_event_stream", "public"),
    # Keys, before what may be read.
    Row("GET,POST", "/v1/keys", "admin"),
    Row("GET,POST,DELETE", "/v1/keys/*", "admin"),
    # Spend, usage, outputs.
    Row("GET", "/v1/customers/*/spend", "query"),
    Row("GET", "/v1/customers/*/usage", "query"),
    *(Row("GET", f"/v1/customers/*/{last}", "query") for last in ("costs", "live")),
    *(Row("GET", f"/v1/customers/*/{last}", "query") for last in ("bill", "remaining", "forecast", "compare")),
    Row("GET", "/v1/customers/*/series", "query"),
    Row("GET", "/v1/live", "query"),
    Row("GET", "/v1/spend", "query"),
    Row("GET", "/v1/events", "query"),
    Row("GET", "/v1/usage", "query"),
    Row("GET", "/v1/line-items", "query"),
    Row("GET", "/v1/invoices", "query"),
    Row("GET", "/v1/invoices/*", "query"),
    Row("GET", "/v1/rejections", "query"),
    Row("GET", "/v1/rejections/*", "query"),
    Row("POST", "/v1/rejections/resend", "ingest"),
    Row("POST", "/v1/rejections/*/resend", "ingest"),
    Row("GET", "/v1/alerts", "query"),
    # The catalogue.
    *(
        row
        for kind in (kind.replace("_", "-") for kind in KINDS)
        for row in (
            Row("GET", f"/v1/{kind}", "query"),
            Row("GET", f"/v1/{kind}/*", "query"),
            Row("PUT", f"/v1/{kind}/*", "admin"),
        )
    ),
    Row("GET", "/v1/default-subscription", "query"),
    Row("GET", "/v1/default-subscription/versions", "query"),
    Row("PUT", "/v1/default-subscription", "admin"),
    Row("GET", "/v1/catalogue", "query"),
    Row("PUT", "/v1/catalogue", "admin"),
    Row("POST", "/v1/simulate", "query"),
    Row("POST", "/v1/rerate", "admin"),
    # The doors of other systems: what they ask. (What they set up is no row: `admin`.)
    Row("POST", "/openmeter/api/v1/meters/*/query", "query"),
    Row("GET", "/openmeter/*", "query"),
    Row("GET", "/lago/*", "query"),
    Row("GET", "/stripe/*", "query"),
)  # fmt: skip

_PATTERNS: Final = [
    (frozenset(row.methods.split(",")), re.compile(".+".join(map(re.escape, row.path.split("*"))), re.S), row)
    for row in TABLE
]


@lru_cache(maxsize=8192)
def find_row(method: str, path: str) -> Row | None:
    """The row that a request falls under; HEAD is GET. None: nobody has listed it."""
    method = "GET" if method == "HEAD" else method
    for methods, pattern, row in _PATTERNS:
        if method in methods and pattern.fullmatch(path):
            return row
    return None


def need_of(method: str, path: str) -> Need:
    """What a request needs."""
    row = find_row(method, path)
    return "admin" if row is None else row.need
