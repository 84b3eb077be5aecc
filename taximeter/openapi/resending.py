"""The operations that send rejected events again."""

from typing import Any, Final

from schemas.rejection import CODES
from taximeter.openapi.operation import (
    OBJECT,
    TEXT,
    YES_NO,
    Answer,
    Content,
    Operation,
    Parameter,
    json_answer,
    listed,
    one_of,
    some,
    whole,
)
from taximeter.rejections_http import PATH, RESENT_MAX, ResendAnswer

_TAG: Final = "Rejections"
_CHANGE: Final[dict[str, Any]] = {
    "merge": {**OBJECT, "description": "What is changed of the event: a JSON Merge Patch (RFC 7396)."},
    "event": {**OBJECT, "description": "The whole mended event, for one rejection."},
    "replace": {**YES_NO, "description": "Of a conflict: the event takes the place of the first one."},
    "reason": TEXT,
    "dry_run": {**YES_NO, "description": "Show what would be sent, and send nothing."},
}
_PROBLEMS: Final = (400, 404, 405, 408, 409, 413, 415, 422, 500, 501, 503)

RESENDING: Final = (
    Operation(
        method="post",
        path="/v1/rejections/{id}/resend",
        id="resendRejection",
        summary="Send one rejected event again, mended",
        description=(
            "Goes through the door as a new request, whole or not at all. Where the id is used up, a void takes the "
            "old event back, and the mended one comes as `<id>+mend.1`."
        ),
        tag=_TAG,
        scope="ingest",
        parameters=(Parameter("id", TEXT, "The rejection's id.", "path"),),
        body=Content({"application/json": some(**_CHANGE)}),
        answers={
            200: json_answer("It was taken, or is shown.", ResendAnswer),
            400: Answer(
                "The door did not take it (and says why), or the request is wrong (a problem).",
                Content({"application/json": ResendAnswer, "application/problem+json": OBJECT}),
            ),
        },
        problems=_PROBLEMS[1:],
    ),
    Operation(
        method="post",
        path=PATH,
        id="resendRejections",
        summary="Send several again",
        description="By `ids`, by `code` and `meter`, or given as `rejections`. `dry_run` is true by default.",
        tag=_TAG,
        scope="ingest",
        body=Content(
            {
                "application/json": some(
                    ids=listed(TEXT),
                    rejections=listed(OBJECT),
                    code=one_of(*CODES),
                    meter=TEXT,
                    limit=whole(1, RESENT_MAX, RESENT_MAX),
                    **_CHANGE,
                )
            }
        ),
        answers={200: json_answer("What became of each.", ResendAnswer)},
        problems=_PROBLEMS,
    ),
)
"""What `taximeter serve` serves; `taximeter ingest` the second, with `rejections`."""
