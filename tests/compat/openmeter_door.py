"""What the tests of OpenMeter's door share: a running `taximeter serve` that rates nothing, and their Python client."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import openmeter

from tests.face.running import Server

METER = {
    "slug": "tokens",
    "name": "Tokens",
    "aggregation": "SUM",
    "eventType": "prompt",
    "valueProperty": "$.tokens",
    "groupBy": {"model": "$.model", "kind": "$.kind"},
}


@contextmanager
def door(folder: Path, *options: str) -> Iterator[Server]:
    """The server, without a catalogue."""
    with Server(folder / "data", *options, catalogue=None) as server:
        yield server


def client_of(server: Server, **options: Any) -> openmeter.Client:
    """Their client, unmodified: only its base URL is ours."""
    return openmeter.Client(endpoint=f"{server.url}/openmeter", token="a key", **options)


def at(text: str) -> datetime:
    """`5T10:30` -> that moment of November 2026, UTC."""
    day, _, clock = text.partition("T")
    hour, _, minute = (clock or "00:00").partition(":")
    return datetime(2026, 11, int(day), int(hour), int(minute), tzinfo=UTC)


def event(id: str, when: str, subject: str = "acme", type: str = "prompt", **data: Any) -> dict[str, Any]:
    """A CloudEvent as their SDK takes it."""
    return {
        "id": id,
        "source": "app",
        "specversion": "1.0",
        "type": type,
        "subject": subject,
        "time": at(when).isoformat(),
        "data": data,
    }
