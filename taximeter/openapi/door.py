"""The door's operations."""

from typing import Final

from ingest.app import Problem, TickAnswer
from ingest.receipt import Answer as Taken
from schemas.event import UsageEvent
from taximeter.openapi.operation import (
    OBJECT,
    TEXT,
    Answer,
    Content,
    Operation,
    Parameter,
    json_answer,
    listed,
    one_of,
    some,
)

_EVENT: Final = {
    "specversion": "1.0",
    "id": "e1",
    "source": "gateway",
    "type": "llm.request",
    "subject": "team-a",
    "data": {"tokens": 1200, "model": "large"},
}
_CE: Final = {"id": "ce-id", "source": "ce-source", "type": "ce-type", "subject": "ce-subject"}

DOOR: Final = (
    Operation(
        method="post",
        path="/v1/events",
        id="sendEvents",
        summary="Take usage events",
        description=(
            "CloudEvents 1.0: one event (structured, or binary with `ce-` headers), a batch, or NDJSON. An answer with "
            "2xx comes when all that it calls accepted is on disk. Every event has a verdict of its own."
        ),
        tag="Events",
        scope="ingest",
        parameters=(
            Parameter("verdicts", one_of("all"), "A verdict for every event, not only for those not accepted."),
            Parameter("ce-specversion", TEXT, "Binary mode: `data` alone is the body.", "header"),
            *(Parameter(header, TEXT, f"Binary mode: the event's `{name}`.", "header") for name, header in _CE.items()),
            Parameter("ce-time", TEXT, "Binary mode: the event's time.", "header"),
        ),
        body=Content(
            {
                "application/cloudevents+json": UsageEvent,
                "application/cloudevents-batch+json": listed(UsageEvent),
                "application/json": {"anyOf": [UsageEvent, listed(UsageEvent), OBJECT]},
                "application/x-ndjson": {"type": "string", "description": "An event a line."},
            },
        ),
        answers={
            200: json_answer("At least one event was accepted or a duplicate, or there was none.", Taken),
            400: Answer(
                "All events were rejected (a verdict for each), or the body cannot be read as a whole (a problem).",
                Content({"application/json": Taken, "application/problem+json": Problem}),
            ),
        },
        problems=(405, 408, 413, 415, 503),
    ),
    Operation(
        method="post",
        path="/v1/ticks",
        id="tick",
        summary="Say what time it is",
        description="Periods that ended longer ago than the lateness are closed. A tick never turns the clock back.",
        tag="Events",
        scope="admin",
        body=Content({"application/json": some(time={"type": ["string", "null"], "format": "date-time"})}),
        answers={200: json_answer("The tick's time, and the position after it in every partition.", TickAnswer)},
        problems=(400, 405, 408, 413, 503),
    ),
)
"""What `taximeter serve` and `taximeter ingest` serve."""
