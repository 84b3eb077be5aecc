"""The catalogue's operations: one set for each kind of document, and the catalogue as a whole."""

from collections.abc import Iterator
from typing import Any, Final

from schemas.catalogue import KINDS
from taximeter.openapi.operation import (
    ANYTHING,
    ID,
    MAYBE_TEXT,
    OBJECT,
    TENANT,
    TEXT,
    WHOLE,
    Answer,
    Content,
    Operation,
    Parameter,
    json_answer,
    listed,
    one_of,
    whole,
)

_NAMES: Final = {
    "meters": ("meter", "Meters"),
    "price_books": ("price book", "Price books"),
    "customers": ("customer", "Customers"),
    "subscriptions": ("subscription", "Subscriptions"),
    "coupons": ("coupon", "Coupons"),
    "credit_grants": ("credit grant", "Credit grants"),
    "tax_rates": ("tax rate", "Tax rates"),
}
_TAG: Final = "Catalogue"
_ID: Final = Parameter("id", ID, "Its id. A slash in it may be percent-encoded.", "path")
_DRY_RUN: Final = Parameter("dry_run", one_of("true", "false"), "`true`: only say what it would change.")
_MATCH: Final = (
    Parameter("If-Match", TEXT, "Only where this version (its `ETag`) is in force.", "header"),
    Parameter("If-None-Match", TEXT, "`*`: only where there is none yet.", "header"),
)
_CHANGE: Final = {
    "type": "object",
    "properties": {"path": TEXT, "from": ANYTHING, "to": ANYTHING},
    "required": ["path"],
}
_SHOWN: Final = {
    "type": "object",
    "properties": {
        "kind": TEXT,
        "id": TEXT,
        "version": WHOLE,
        "changed": MAYBE_TEXT,
        "document": OBJECT,
    },
    "required": ["kind", "id", "version", "document"],
}
_OUTCOME: Final = {
    "type": "object",
    "properties": {
        "kind": TEXT,
        "id": TEXT,
        "version": WHOLE,
        "change": one_of("created", "changed", "unchanged"),
        "changes": listed(_CHANGE),
        "document": OBJECT,
        "position": {"type": "string", "description": "Where the change acts: a query given it includes the change."},
        "dry_run": {"type": "boolean"},
    },
    "required": ["kind", "id", "version", "change", "document"],
}
_VERSIONS: Final = {
    "type": "object",
    "properties": {
        "kind": TEXT,
        "id": TEXT,
        "versions": listed(
            {
                "type": "object",
                "properties": {"version": WHOLE, "changed": MAYBE_TEXT, "changes": listed(_CHANGE)},
                "required": ["version"],
            }
        ),
    },
    "required": ["kind", "id", "versions"],
}
_UNCHANGED: Final = Answer("`If-None-Match`: that version is in force.")
_READS: Final = (400, 404, 405)
_WRITES: Final = (400, 405, 408, 412, 413, 415, 422, 503)


def _body(what: str, schema: Any = OBJECT) -> Content:
    described = {**schema, "description": f"The {what}, as it stands in a catalogue file."}
    return Content({"application/json": described, "application/yaml": described})


def _one(what: str, name: str, path: str, parameters: tuple[Parameter, ...], sample: str) -> Iterator[Operation]:
    shared: dict[str, Any] = {"tag": _TAG, "path": path, "sample": sample}
    yield Operation(
        method="get",
        id=f"get{name}",
        summary=f"A {what}",
        scope="query",
        parameters=(
            TENANT,
            *parameters,
            Parameter("version", whole(1, 2**31), "An earlier version of it."),
            Parameter("If-None-Match", TEXT, "The version that the client has.", "header"),
        ),
        answers={200: json_answer("The document and its version.", _SHOWN), 304: _UNCHANGED},
        problems=_READS,
        **shared,
    )
    yield Operation(
        method="put",
        id=f"put{name}",
        summary=f"Bring a {what} into force",
        description="Checked against everything in force, and refused whole with every fault.",
        scope="admin",
        parameters=(TENANT, *parameters, _DRY_RUN, *_MATCH),
        body=_body(what),
        answers={
            200: json_answer("In force; or with `dry_run` what it would change.", _OUTCOME),
            201: json_answer("In force, and new.", _OUTCOME),
        },
        problems=_WRITES,
        **shared,
    )
    yield Operation(
        method="get",
        path=f"{path}/versions",
        id=f"list{name}Versions",
        summary=f"What a {what} was, the latest version first",
        tag=_TAG,
        scope="query",
        parameters=(TENANT, *parameters),
        answers={200: json_answer("Its versions, each with what it changed.", _VERSIONS)},
        problems=_READS,
        sample=f"{sample}/versions",
    )


def _operations() -> Iterator[Operation]:
    for kind in KINDS:
        what, plural = _NAMES.get(kind, (kind.replace("_", " "), kind.replace("_", " ").capitalize()))
        segment, name = kind.replace("_", "-"), "".join(part.capitalize() for part in what.split())
        yield Operation(
            method="get",
            path=f"/v1/{segment}",
            id=f"list{''.join(part.capitalize() for part in kind.split('_'))}",
            summary=f"{plural}, by id",
            tag=_TAG,
            scope="query",
            parameters=(
                TENANT,
                Parameter("limit", whole(1, 1000, 100), "How many at most."),
                Parameter("after", TEXT, "The `next_after` of the page before."),
            ),
            answers={
                200: json_answer(
                    "A page of them.",
                    {
                        "type": "object",
                        "properties": {kind: listed(_SHOWN), "next_after": MAYBE_TEXT},
                        "required": [kind, "next_after"],
                    },
                )
            },
            problems=(400, 405),
        )
        yield from _one(what, name, f"/v1/{segment}/{{id}}", (_ID,), f"/v1/{segment}/id")
    yield from _one(
        "default subscription", "DefaultSubscription", "/v1/default-subscription", (), "/v1/default-subscription"
    )


_WHOLE: Final = (
    Operation(
        method="get",
        path="/v1/catalogue",
        id="getCatalogue",
        summary="Everything in force",
        tag=_TAG,
        scope="query",
        parameters=(TENANT, Parameter("If-None-Match", TEXT, "The `ETag` that the client has.", "header")),
        answers={
            200: json_answer(
                "All documents, and the version of each.",
                {
                    "type": "object",
                    "properties": {"catalogue": OBJECT, "versions": OBJECT},
                    "required": ["catalogue", "versions"],
                },
            ),
            304: _UNCHANGED,
        },
        problems=(400, 405),
    ),
    Operation(
        method="put",
        path="/v1/catalogue",
        id="putCatalogue",
        summary="Bring several documents into force, or none",
        tag=_TAG,
        scope="admin",
        parameters=(TENANT, _DRY_RUN, *_MATCH),
        body=_body("documents", {"type": ["object", "null"]}),
        answers={
            200: json_answer(
                "What has changed.",
                {
                    "type": "object",
                    "properties": {
                        "documents": listed({"type": "object"}),
                        "unchanged": WHOLE,
                        "position": TEXT,
                        "dry_run": {"type": "boolean"},
                    },
                    "required": ["documents", "unchanged"],
                },
            )
        },
        problems=_WRITES,
    ),
    Operation(
        method="post",
        path="/v1/simulate",
        id="simulate",
        summary="What events would cost",
        description="By the real engine, under the catalogue in force with others laid over it. Nothing is kept.",
        tag=_TAG,
        scope="query",
        parameters=(TENANT,),
        body=Content(
            {
                "application/json": {
                    "type": "object",
                    "properties": {
                        "events": listed(OBJECT),
                        "catalogue": {"type": ["object", "string"]},
                        "documents": listed(OBJECT),
                        "as_of": {"type": ["string", "null"], "format": "date-time"},
                        "base": one_of("in_force", "nothing"),
                        "compare": {"type": "boolean"},
                        "customers": listed(TEXT),
                    },
                    "required": ["events"],
                    "additionalProperties": False,
                }
            }
        ),
        answers={200: json_answer("The outputs, and how many events counted.", OBJECT)},
        problems=(400, 405, 408, 413, 415, 422, 503),
    ),
    Operation(
        method="post",
        path="/v1/rerate",
        id="rerate",
        summary="Rate billing periods again, or show what that would change",
        tag=_TAG,
        scope="admin",
        parameters=(TENANT,),
        body=Content(
            {
                "application/json": {
                    "type": "object",
                    "properties": {
                        "customer": TEXT,
                        "from": {"type": "string", "format": "date-time"},
                        "to": {"type": "string", "format": "date-time"},
                        "price_book": TEXT,
                        "reason": TEXT,
                        "id": TEXT,
                        "dry_run": {"type": "boolean", "default": True},
                    },
                    "required": ["customer", "from"],
                    "additionalProperties": False,
                }
            }
        ),
        answers={200: json_answer("The lines that differ, and the invoices that it makes.", OBJECT)},
        problems=(400, 405, 408, 413, 415, 422, 501, 503),
    ),
)

CATALOGUE: Final = (*_operations(), *_WHOLE)
