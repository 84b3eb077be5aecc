"""The operations about the process itself."""

from typing import Final

from taximeter.openapi.operation import OBJECT, TEXT, Answer, Content, Operation, json_answer

_TAG: Final = "Server"
_HTML: Final = Answer("A page.", Content({"text/html": {"type": "string"}}))
_HEALTH: Final = {"type": "object", "properties": {"status": TEXT}, "required": ["status"]}

SERVER: Final = (
    Operation(
        method="get",
        path="/health/live",
        id="isLive",
        summary="Whether the process can answer and nothing in it hangs",
        tag=_TAG,
        scope=None,
        answers={
            200: json_answer("It can.", _HEALTH),
            503: json_answer("Something has stood still.", _HEALTH),
        },
        problems=(405,),
    ),
    Operation(
        method="get",
        path="/health/ready",
        id="isReady",
        summary="Whether it is restored, caught up and fed",
        tag=_TAG,
        scope=None,
        answers={200: json_answer("It is.", _HEALTH), 503: json_answer("Not yet, and why.", _HEALTH)},
        problems=(405,),
    ),
    Operation(
        method="get",
        path="/v1/status",
        id="getStatus",
        summary="How far each partition is, its totals, and whether all figures agree",
        tag=_TAG,
        scope="admin",
        answers={200: json_answer("The figures.", OBJECT)},
        problems=(405,),
    ),
    Operation(
        method="get",
        path="/metrics",
        id="getMetrics",
        summary="The same for Prometheus",
        tag=_TAG,
        scope="admin",
        answers={200: Answer("Prometheus' text format.", Content({"text/plain": {"type": "string"}}))},
        problems=(405,),
    ),
    Operation(
        method="get",
        path="/openapi.json",
        id="getOpenapi",
        summary="This document",
        tag=_TAG,
        scope=None,
        answers={200: json_answer("OpenAPI 3.1.", OBJECT)},
        problems=(405,),
    ),
    Operation(
        method="get",
        path="/docs",
        id="readDocs",
        summary="This document as a page",
        tag=_TAG,
        scope=None,
        answers={200: _HTML},
        problems=(405,),
    ),
)
"""What every HTTP server of ours serves."""
