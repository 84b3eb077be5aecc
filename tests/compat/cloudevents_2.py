"""Run with cloudevents 2.x: sends events in each of its modes to the URLs of the arguments, prints the statuses."""

import json
import sys
import urllib.error
import urllib.request
from datetime import UTC, datetime
from typing import Any

from cloudevents.core.bindings.http import to_binary_event, to_structured_event  # type: ignore[import-not-found]
from cloudevents.core.v1.event import CloudEvent  # type: ignore[import-not-found]


def event(id: str, data: Any, **attributes: Any) -> Any:
    """One event of theirs."""
    common = {"id": id, "source": "/ce 2", "type": "ce", "specversion": "1.0", "subject": "acme"}
    return CloudEvent(attributes=common | {"time": datetime(2026, 11, 5, 10, tzinfo=UTC)} | attributes, data=data)


def send(url: str, message: Any) -> int:
    """The status of the answer."""
    body = message.body if isinstance(message.body, bytes) else (message.body or "").encode()
    request = urllib.request.Request(url, data=body, headers=dict(message.headers), method="POST")
    # urllib adds a content type of its own where none is set: take it out again, as other clients do not add one.
    if not any(name.lower() == "content-type" for name in message.headers):
        request.add_unredirected_header("Content-type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


seen = {}
for name, url in (("root", sys.argv[1]), ("openmeter", sys.argv[2])):
    json_type = {"datacontenttype": "application/json"}
    seen[name] = [
        send(url, to_binary_event(event(f"{name}-1", {"value": 5}, **json_type))),
        send(url, to_structured_event(event(f"{name}-2", {"value": 6}, **json_type))),
        send(url, to_binary_event(event(f'{name} %3 "ü"', {"value": 7}, **json_type, note="50% ü"))),
        send(url, to_structured_event(event(f"{name}-4", b'{"value": 8}'))),
        send(url, to_structured_event(event(f"{name}-5", b"\x00\x01"))),
    ]
print(json.dumps(seen))
