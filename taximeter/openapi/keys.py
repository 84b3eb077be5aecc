"""The operations about API keys."""

from typing import Final

from schemas.access import SCOPES
from taximeter.access.http import GRACE_MAX_S, GRACE_S
from taximeter.openapi.operation import (
    ID,
    TENANT,
    TEXT,
    TIME,
    Content,
    Operation,
    Parameter,
    json_answer,
    listed,
    members,
    one_of,
    some,
    whole,
)

_TAG: Final = "Keys"
_SCOPES: Final = listed(one_of(*SCOPES)) | {"minItems": 1}
_PATH_ID: Final = (TENANT, Parameter("id", ID, "The key's id, which is no secret.", "path", required=True))
_KEY: Final = members(id=TEXT, tenant=TEXT, name=TEXT, scopes=_SCOPES, created=TIME, state=TEXT, secrets=listed({}))
_NEW: Final = _KEY | {
    "properties": _KEY["properties"] | {"key": {"type": "string", "description": "The key itself, shown this once."}},
    "required": [*_KEY["required"], "key"],
}

KEYS: Final = (
    Operation(
        method="get",
        path="/v1/keys",
        id="listKeys",
        summary="The tenant's keys, revoked and expired ones too",
        tag=_TAG,
        scope="admin",
        parameters=(TENANT,),
        answers={200: json_answer("Keys without their secrets.", members(keys=listed(_KEY)))},
        problems=(400, 405),
    ),
    Operation(
        method="post",
        path="/v1/keys",
        id="createKey",
        summary="Make a key",
        description="Only with a key: where nobody is asked for one, `taximeter keys create` makes the first.",
        tag=_TAG,
        scope="admin",
        body=Content(
            {
                "application/json": some(
                    name={"type": "string", "minLength": 1, "maxLength": 128}, scopes=_SCOPES, expires=TIME
                )
                | {"required": ["name", "scopes"]}
            }
        ),
        answers={201: json_answer("The new key.", _NEW)},
        problems=(400, 405, 408, 413, 415, 422, 503),
    ),
    Operation(
        method="get",
        path="/v1/keys/{id}",
        id="getKey",
        summary="One key",
        tag=_TAG,
        scope="admin",
        parameters=_PATH_ID,
        answers={200: json_answer("The key without its secrets.", _KEY)},
        problems=(400, 404, 405),
    ),
    Operation(
        method="delete",
        path="/v1/keys/{id}",
        id="revokeKey",
        summary="Revoke a key, for good",
        tag=_TAG,
        scope="admin",
        parameters=_PATH_ID,
        answers={200: json_answer("The key, revoked.", _KEY)},
        problems=(400, 404, 405, 503),
    ),
    Operation(
        method="post",
        path="/v1/keys/{id}/rotate",
        id="rotateKey",
        summary="Give a key another secret; the one before goes on for a while",
        tag=_TAG,
        scope="admin",
        parameters=_PATH_ID,
        body=Content({"application/json": some(grace_seconds=whole(0, GRACE_MAX_S, GRACE_S))}),
        answers={200: json_answer("The same key with its new secret.", _NEW)},
        problems=(400, 404, 405, 408, 413, 415, 422, 503),
    ),
)
"""What `serve` and `ingest` serve."""
