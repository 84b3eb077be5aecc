"""Lago's billable metrics: each one is a meter of the same name, over the events of that code."""

import re
from decimal import Decimal
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ingest.compat.answering import json_response
from ingest.compat.lago.answers import (
    EXISTS,
    INVALID,
    Errors,
    changed_seconds,
    lago_id,
    page_of,
    unknown,
    unprocessable,
)
from ingest.compat.lago.documents import Documents, Fields, Members, read_root
from schemas.access import tenant_of
from schemas.catalogue import Catalogue, Convert, Meter
from schemas.expressions import ExpressionError, value_paths
from schemas.limits import ID_LENGTH_MAX
from schemas.paths import parse_path

AGGREGATES: Final = {
    "count_agg": "count",
    "sum_agg": "sum",
    "max_agg": "max",
    "unique_count_agg": "unique_count",
    "weighted_sum_agg": "time_weighted",
    "latest_agg": "latest",
}
"""Lago's aggregations, and ours."""

_BACK: Final = {ours: theirs for theirs, ours in AGGREGATES.items()}
_ROUNDS: Final = {"ceil": "up", "floor": "down", "round": "half_up"}
_ROUNDS_BACK: Final = {ours: theirs for theirs, ours in _ROUNDS.items()}
_PLAIN: Final = re.compile(r"[A-Za-z_]\w*\Z", re.ASCII)
_PROPERTY: Final = re.compile(r"\bevent\.properties\.([A-Za-z_]\w*)", re.ASCII)
_FILTERS: Final = "lago.filter."
_RESETS: Final = "a gauge is carried from one period into the next, so a weighted sum must be recurring"
_CARRIED: Final = "usage of {} begins at nought in every period, so it cannot be recurring"


class Metrics:
    """The routes of billable metrics."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    async def create(self, request: Request) -> Response:
        """`POST /billable_metrics`."""
        tenant = tenant_of(request.scope)
        code, meter = read_metric(await read_root(request, "billable_metric"))
        async with self._documents.changing:
            if code in (await self._documents.backend.catalogue(tenant)).meters:
                raise unprocessable({"code": [EXISTS]})
            await self._documents.apply(tenant, Catalogue(meters={code: meter}), f"meters.{code}")
        return json_response({"billable_metric": self._shown(tenant, code, meter)})

    async def find(self, request: Request) -> Response:
        """`GET /billable_metrics/{code}`."""
        tenant, code = tenant_of(request.scope), request.path_params["id"]
        meter = (await self._documents.backend.catalogue(tenant)).meters.get(code)
        if meter is None or meter.aggregate not in _BACK:
            raise unknown("billable_metric")
        return json_response({"billable_metric": self._shown(tenant, code, meter)})

    async def find_all(self, request: Request) -> Response:
        """`GET /billable_metrics`: all meters whose aggregation Lago has a word for."""
        tenant = tenant_of(request.scope)
        meters = (await self._documents.backend.catalogue(tenant)).meters
        found = [(code, meter) for code, meter in sorted(meters.items()) if meter.aggregate in _BACK]
        rows, meta = page_of(found, request.query_params)
        return json_response(
            {"billable_metrics": [self._shown(tenant, code, meter) for code, meter in rows], "meta": meta}
        )

    def _shown(self, tenant: str, code: str, meter: Meter) -> dict[str, Any]:
        field, expression = _field_of(meter)
        rounding = meter.convert
        return {
            **short(tenant, code, meter),
            "description": meter.description or None,
            "recurring": meter.aggregate == "time_weighted",
            "rounding_function": _ROUNDS_BACK.get(rounding.round or "") if rounding else None,
            "rounding_precision": rounding.digits if rounding else None,
            "weighted_interval": "seconds" if meter.aggregate == "time_weighted" else None,
            "expression": expression,
            "field_name": field,
            "created_at": changed_seconds(self._documents.created(tenant, "meters", code)),
            "filters": filters_of(meter),
        }


def short(tenant: str, code: str, meter: Meter) -> dict[str, Any]:
    """What usage says of a metric."""
    return {
        "lago_id": lago_id("billable_metric", tenant, code),
        "name": meter.name or code,
        "code": code,
        "aggregation_type": _BACK.get(meter.aggregate, meter.aggregate),
    }


def filters_of(meter: Meter) -> list[dict[str, Any]]:
    """The metric's filters: the dimensions whose values were named."""
    return [
        {"key": key, "values": msgspec.json.decode(meter.metadata[_FILTERS + key], type=list[str])}
        for key in meter.dimensions
        if _FILTERS + key in meter.metadata
    ]


def find_metric(tenant: str, catalogue: Catalogue, id: str) -> str | None:
    """The code of the metric with that `lago_id`."""
    return next((code for code in catalogue.meters if lago_id("billable_metric", tenant, code) == id), None)


def path_of(name: str) -> str:
    """The path of a property. Its name may hold anything."""
    if _PLAIN.match(name):
        return f"$.{name}"
    escaped = re.sub(r"(['\\])", r"\\\1", name)
    return f"$['{escaped}']"


def read_metric(members: Members) -> tuple[str, Meter]:
    """The code and the meter. Raises: Refused (422)."""
    errors: Errors = {}
    fields = Fields(members, errors)
    code, name = fields.text("code", mandatory=True) or "", fields.text("name", mandatory=True) or ""
    kind = fields.choice("aggregation_type", tuple(AGGREGATES))
    value = _value(fields, kind)
    recurring = fields.flag("recurring") or False
    if kind == "weighted_sum_agg" and not recurring:
        fields.wrong("recurring", INVALID, _RESETS)
    elif recurring and kind != "weighted_sum_agg":
        fields.wrong("recurring", INVALID, _CARRIED.format(kind))
    if kind == "weighted_sum_agg":
        fields.choice("weighted_interval", ("seconds",), "seconds")
    convert = _rounding(fields)
    dimensions, metadata = _filters(fields)
    description = fields.text("description") or ""
    fields.finish()
    gauge = {"unit": "period", "reads": "change"} if kind == "weighted_sum_agg" else {}
    return code, Meter(
        event=code,
        aggregate=AGGREGATES[kind],  # type: ignore[arg-type]  # the values are aggregates
        value=value,
        dimensions=dimensions,
        convert=convert,
        description=description,
        name=name,
        metadata=metadata,
        **gauge,  # type: ignore[arg-type]  # as above
    )


def _value(fields: Fields, kind: str) -> str | None:
    expression, field = fields.text("expression"), fields.text("field_name")
    if kind == "count_agg":
        return None
    if expression is not None:
        value = _PROPERTY.sub(lambda match: f"$.{match[1]}", expression)
        try:
            value_paths(value)
        except ExpressionError as error:
            fields.wrong("expression", "invalid_expression", str(error))
        return value
    if field is None:
        fields.wrong("field_name", "value_is_mandatory")
        return None
    if len(path_of(field)) > ID_LENGTH_MAX:
        fields.wrong("field_name", INVALID, f"found {len(field)} characters, expected a shorter name")
    return path_of(field)


def _rounding(fields: Fields) -> Convert | None:
    if fields.text("rounding_function") is None:
        return None
    word = _ROUNDS.get(fields.choice("rounding_function", tuple(_ROUNDS)))
    precision = fields.members.get("rounding_precision")
    digits = 0 if precision is None else fields.whole("rounding_precision", least=-26) or 0
    return Convert(multiply=Decimal(1), round=word, digits=digits)  # type: ignore[arg-type]  # `choice` has checked the word


def _filters(fields: Fields) -> tuple[dict[str, str], dict[str, str]]:
    """The dimensions, and their named values as metadata."""
    dimensions: dict[str, str] = {}
    metadata: dict[str, str] = {}
    for i, members in enumerate(fields.objects("filters")):
        one = Fields(members, fields.errors, f"filters.{i}.")
        key, values = one.text("key", mandatory=True), one.texts("values")
        if key is not None:
            dimensions[key] = path_of(key)
            metadata[_FILTERS + key] = msgspec.json.encode(values).decode()
    return dimensions, metadata


def _field_of(meter: Meter) -> tuple[str | None, str | None]:
    """The field's name, or the expression, that a meter's value is."""
    if meter.value is None:
        return None, None
    try:
        steps = parse_path(meter.value)
    except ValueError:
        return None, meter.value
    return (str(steps[0]), None) if len(steps) == 1 else (None, meter.value)
