"""Stripe's meters: each one is a meter over the events of its name, and bears that name."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ingest.compat.backend import Backend
from ingest.compat.stripe.answers import invalid, list_of, missing, stripe_id, unknown
from schemas.catalogue import Catalogue, CatalogueError, Meter
from schemas.paths import PathError, parse_path
from schemas.times import SECOND, parse_time

FORMULAS: Final = {"sum": "sum", "count": "count", "last": "latest"}
"""Stripe's formulas, and our aggregations."""

CUSTOMER: Final = "stripe.customer_key"
_CUSTOMER_DEFAULT: Final = "stripe_customer_id"
_VALUE_DEFAULT: Final = "value"
_BACK: Final = {ours: theirs for theirs, ours in FORMULAS.items()}
_MEMBERS: Final = frozenset(
    ("display_name", "event_name", "default_aggregation", "customer_mapping", "value_settings", "event_time_window")
)
URL: Final = "/v1/billing/meters"


class Meters:
    """What is done with meters."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def create(self, tenant: str, members: Mapping[str, Any]) -> dict[str, Any]:
        """A meter that is new, or is there as it is. Raises: Refused, LogUnavailable."""
        name, meter = read_meter(members)
        before = (await self._backend.catalogue(tenant)).meters.get(name)
        if before is None:
            return await self._change(tenant, name, meter)
        if before != meter:
            raise invalid(f"There is already a meter with the event name '{name}'.", "event_name", "meter_exists")
        return self.shown(tenant, name, meter)

    async def list(self, tenant: str, query: Mapping[str, str]) -> dict[str, Any]:
        """A page of the meters that Stripe has words for."""
        meters = (await self._backend.catalogue(tenant)).meters
        rows = [(name, meter) for name, meter in sorted(meters.items()) if is_sayable(meter)]
        status = query.get("status")
        if status is not None:
            rows = [row for row in rows if _status(row[1]) == status]
        page = list_of(rows, lambda row: meter_id(tenant, row[0]), query, URL)
        return page | {"data": [self.shown(tenant, *row) for row in page["data"]]}

    async def rename(self, tenant: str, id: str, members: Mapping[str, Any]) -> dict[str, Any]:
        """Another `display_name`. Raises: Refused, LogUnavailable."""
        for odd in members.keys() - {"display_name", "expand"}:
            raise invalid(f"Received unknown parameter: {odd[:100]}", odd[:100], "parameter_unknown")
        name, meter = await self.find(tenant, id)
        display = _text(members, "display_name") if members.get("display_name") else meter.name
        return await self._change(tenant, name, msgspec.structs.replace(meter, name=display))

    async def archive(self, tenant: str, id: str, archived: bool) -> dict[str, Any]:
        """Inactive: its events are refused; or active again. Raises: Refused, LogUnavailable."""
        name, meter = await self.find(tenant, id)
        return await self._change(tenant, name, msgspec.structs.replace(meter, archived=archived))

    async def _change(self, tenant: str, name: str, meter: Meter) -> dict[str, Any]:
        try:
            await self._backend.apply(tenant, Catalogue(meters={name: meter}))
        except CatalogueError as error:
            raise invalid(str(error.faults[0]), "event_name") from None
        return self.shown(tenant, name, meter)

    async def find(self, tenant: str, id: str) -> tuple[str, Meter]:
        """The name and the document of a meter. Raises: Refused (404)."""
        for name, meter in (await self._backend.catalogue(tenant)).meters.items():
            if meter_id(tenant, name) == id and is_sayable(meter):
                return name, meter
        raise unknown("billing meter", id, "id")

    def shown(self, tenant: str, name: str, meter: Meter) -> dict[str, Any]:
        """A meter as Stripe answers it."""
        versions = self._backend.filed(tenant, "meters", name)
        times = [parse_time(one.changed) // SECOND if one.changed else 0 for one in versions] or [0]
        return {
            "id": meter_id(tenant, name),
            "object": "billing.meter",
            "created": times[0],
            "customer_mapping": {"event_payload_key": customer_key(meter), "type": "by_id"},
            "default_aggregation": {"formula": _BACK[meter.aggregate]},
            "display_name": meter.name or name,
            "event_name": meter.event,
            "event_time_window": None,
            "livemode": False,
            "status": _status(meter),
            "status_transitions": {"deactivated_at": times[-1] if meter.archived else None},
            "updated": times[-1],
            "value_settings": {"event_payload_key": value_key(meter) or _VALUE_DEFAULT},
        }


def meter_id(tenant: str, name: str) -> str:
    """The id that Stripe's clients know a meter by."""
    return stripe_id("mtr", tenant, name)


def _status(meter: Meter) -> str:
    return "inactive" if meter.archived else "active"


def is_sayable(meter: Meter) -> bool:
    """Whether Stripe has words for a meter: sum, count or last of one member of the payload."""
    return meter.aggregate in _BACK and (meter.value is None or value_key(meter) is not None)


def customer_key(meter: Meter) -> str:
    """Under which name an event's payload names the customer."""
    return meter.metadata.get(CUSTOMER) or _CUSTOMER_DEFAULT


def value_key(meter: Meter) -> str | None:
    """Under which name the payload holds the value; None where it is not one member."""
    if meter.value is None:
        return None
    try:
        steps = parse_path(meter.value)
    except PathError:
        return None
    return str(steps[0]) if len(steps) == 1 and isinstance(steps[0], str) else None


def read_meter(members: Mapping[str, Any]) -> tuple[str, Meter]:
    """The name and the meter. Raises: Refused."""
    for odd in members.keys() - _MEMBERS - {"expand"}:
        raise invalid(f"Received unknown parameter: {odd[:100]}", odd[:100], "parameter_unknown")
    event, display = (_text(members, name) for name in ("event_name", "display_name"))
    formula = _inside(members, "default_aggregation", "formula")
    if formula is None:
        raise missing("default_aggregation[formula]")
    if formula not in FORMULAS:
        message = f"Invalid formula: must be one of {', '.join(FORMULAS)}"
        raise invalid(message, "default_aggregation[formula]")
    if members.get("event_time_window"):
        raise invalid("events that are aggregated before are not taken", "event_time_window")
    if (kind := _inside(members, "customer_mapping", "type")) not in (None, "by_id"):
        raise invalid(f"found {str(kind)[:60]!r}, expected by_id", "customer_mapping[type]")
    customer = _inside(members, "customer_mapping", "event_payload_key") or _CUSTOMER_DEFAULT
    value = _inside(members, "value_settings", "event_payload_key") or _VALUE_DEFAULT
    return event, Meter(
        event=event,
        aggregate=FORMULAS[formula],  # type: ignore[arg-type]  # the values are aggregates
        value=None if formula == "count" else _path(value),
        name=display,
        metadata={CUSTOMER: customer},
    )


def _text(members: Mapping[str, Any], name: str) -> str:
    value = members.get(name)
    if value is None or value == "":
        raise missing(name)
    if not isinstance(value, str):
        raise invalid(f"Invalid string: {name}", name)
    return value


def _inside(members: Mapping[str, Any], name: str, inner: str) -> str | None:
    value = members.get(name)
    if value is None:
        return None
    found = value.get(inner) if isinstance(value, dict) else value
    if found is not None and not isinstance(found, str):
        raise invalid(f"Invalid string: {name}[{inner}]", f"{name}[{inner}]")
    if not isinstance(value, dict):
        raise invalid("expected an object", name)
    return found or None


def _path(key: str) -> str:
    escaped = key.replace("\\", "\\\\").replace("'", "\\'")
    return f"$.{key}" if key.isidentifier() and key.isascii() else f"$['{escaped}']"
