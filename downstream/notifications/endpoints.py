"""Who wants to be told what: the endpoints of a YAML file, checked whole."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec
import yaml

from downstream.notifications.signing import SecretError, read_secret

RECONCILIATION: Final = "alert.reconciliation"
"""The engine's own figures differ: for operators, of no customer."""
KINDS: Final = (
    "invoice.issued",
    "alert.threshold",
    "alert.budget",
    "alert.low_balance",
    RECONCILIATION,
    "line_item.changed",
)
"""`line_item.changed` is said only to those who name it: there is one for each change of each line. So is
`alert.reconciliation`, which is no customer's."""
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")


class EndpointsError(ValueError):
    """A file of endpoints with faults; the message has a line for each, with its path."""


class Endpoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One receiver."""

    url: str
    secrets: list[str]
    """The newest first. Every message is signed with each of them, so that a receiver can change over."""
    events: list[str] = []
    """Kinds, or the beginnings of them (`invoice`, `alert.budget`). Empty: all but line items."""
    customers: list[str] = []
    """Empty: all."""
    start: str = "now"
    """`now`: what comes after the endpoint was first seen. `beginning`: everything that the topics hold."""
    timeout_s: int = 15

    def wants(self, kind: str, customer: str) -> bool:
        """Whether it is to be told."""
        if kind == RECONCILIATION:
            return kind in self.events and not self.customers
        asked = self.events or ["invoice", "alert"]
        return any(kind == one or kind.startswith(one + ".") for one in asked) and (
            not self.customers or customer in self.customers
        )


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    endpoints: dict[str, Endpoint]


def load_endpoints(path: Path) -> Mapping[str, Endpoint]:
    """By id. Raises: EndpointsError, OSError."""
    try:
        found = msgspec.convert(yaml.safe_load(path.read_bytes()), _File).endpoints
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise EndpointsError(f"{path}: {error}") from None
    faults = [fault for name, endpoint in found.items() for fault in _faults(name, endpoint)]
    if faults:
        raise EndpointsError("\n".join(f"{path}: endpoints.{fault}" for fault in faults))
    return found


def _faults(name: str, endpoint: Endpoint) -> list[str]:
    faults = []
    if not _ID.match(name):
        faults.append(f"{name}: found this id, expected letters, digits and . _ -, at most 64")
    url = urlsplit(endpoint.url)
    if url.scheme not in ("http", "https") or not url.hostname:
        faults.append(f"{name}.url: found {endpoint.url!r}, expected https://host/path")
    if not endpoint.secrets:
        faults.append(f"{name}.secrets: found none, expected one at least (`taximeter webhooks secret` makes one)")
    for at, secret in enumerate(endpoint.secrets):
        try:
            read_secret(secret)
        except SecretError as error:
            faults.append(f"{name}.secrets[{at}]: {error}")
    for at, event in enumerate(endpoint.events):
        if not any(kind == event or kind.startswith(event + ".") for kind in KINDS):
            faults.append(f"{name}.events[{at}]: found {event!r}, expected one of {', '.join(KINDS)} or a beginning")
    if endpoint.start not in ("now", "beginning"):
        faults.append(f"{name}.start: found {endpoint.start!r}, expected now or beginning")
    if not 1 <= endpoint.timeout_s <= 120:
        faults.append(f"{name}.timeout_s: found {endpoint.timeout_s}, expected 1 to 120")
    return faults
