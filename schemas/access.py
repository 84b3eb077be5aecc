"""Who asks: the tenant, and what the request may do. Found out in front of the routes; they read it in the ASGI scope.

A request's key belongs to one tenant, and nothing of another tenant can be seen, changed or influenced with it. Where
no keys are asked for (a server on a loopback address), every request may do everything, as the tenant `default`.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal, get_args

import msgspec

KeyScope = Literal["ingest", "query", "admin"]
"""What a key may be for: sending usage events; asking; changing the catalogue, the clock and other keys."""

SCOPES: Final[tuple[KeyScope, ...]] = get_args(KeyScope)
DEFAULT_TENANT: Final = "default"
SCOPE_NAME: Final = "taximeter.access"
"""The name in an ASGI scope under which a request's `Access` stands."""


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """What a request may do. `key` is the id of the key that it came with, never the key itself; None: none asked."""

    tenant: str = DEFAULT_TENANT
    scopes: frozenset[KeyScope] = frozenset(SCOPES)
    key: str | None = None


OPEN: Final = Access()
"""Of every request where no keys are asked for."""


def access_of(scope: Mapping[str, Any]) -> Access:
    """What the application in front has found out of a request; `OPEN` where nothing stands in front."""
    found: Access = scope.get(SCOPE_NAME, OPEN)
    return found


def tenant_of(scope: Mapping[str, Any]) -> str:
    """The tenant whose request it is."""
    return access_of(scope).tenant
