"""The CloudEvents SDKs, 1.x and 2.x, in each mode that they have, at the root and at OpenMeter's door."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from cloudevents.conversion import to_binary, to_json, to_structured
from cloudevents.http import CloudEvent

from tests.compat.foreign import run_python
from tests.compat.openmeter_door import door
from tests.face.running import Server

DOORS = {"root": ("/v1/events", 200), "openmeter": ("/openmeter/api/v1/events", 204)}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with door(tmp_path_factory.mktemp("cloudevents")) as running:
        yield running


def event(id: str, data: Any, **attributes: Any) -> CloudEvent:
    common = {"id": id, "source": "/ce 1", "type": "ce", "subject": "acme", "time": "2026-11-05T10:00:00.786055+00:00"}
    return CloudEvent(common | attributes, data)


def kept(server: Server, id: str) -> list[dict[str, Any]]:
    position = ",".join(f"{p}:{n}" for p, n in server.get("/v1/events")["through"].items())
    return [one["event"] for one in server.get("/v1/events", position, id=id)["events"]]


def settled(server: Server, id: str) -> list[dict[str, Any]]:
    """The kept events of an id, once what the door took is visible: OpenMeter's listing waits for it."""
    server.client.get("/openmeter/api/v1/events").raise_for_status()
    for _ in range(200):
        if found := kept(server, id):
            return found
    return []


@pytest.mark.parametrize("name", DOORS)
def test_every_mode_of_1_x(server: Server, name: str) -> None:
    path, good = DOORS[name]

    def send(headers: Any, body: Any) -> int:
        return server.client.post(path, content=body, headers=dict(headers)).status_code

    binary = event(f"{name}-b", {"value": 5}, datacontenttype="application/json", traceparent="00-ab")
    assert send(*to_binary(binary)) == good
    untyped = event(f"{name}-u", {"value": 5})
    headers, body = to_binary(untyped)
    assert "content-type" not in headers
    assert send(headers, body) == good
    assert send(*to_structured(event(f"{name}-s", {"value": 5}))) == good
    batch = b"[" + b",".join(to_json(event(f"{name}-{n}", {"value": 5})) for n in "xy") + b"]"
    assert send({"content-type": "application/cloudevents-batch+json; charset=UTF-8"}, batch) == good
    assert send({"content-type": "application/cloudevents-batch+json"}, b"[]") == good
    assert send(*to_structured(event(f"{name}-64", b'{"value": 5}'))) == good
    assert send(*to_structured(event(f"{name}-raw", b"\x00\x01"))) == 400
    assert send(*to_structured(event(f"{name}-none", {"value": 5}, subject=""))) == 400
    assert (
        send({"content-type": "APPLICATION/CloudEvents+JSON; charset=utf-8"}, to_json(event(f"{name}-c", {}))) == good
    )
    for id in ("b", "u", "s", "x", "y", "64"):
        (found,) = settled(server, f"{name}-{id}")
        assert (found["data"], found["time"]) == ({"value": 5}, "2026-11-05T10:00:00.786055Z"), id
    assert settled(server, f"{name}-b")[0]["traceparent"] == "00-ab"
    assert kept(server, f"{name}-raw") == []


@pytest.mark.slow
def test_every_mode_of_2_x(server: Server) -> None:
    urls = [f"{server.url}{path}" for path, _ in DOORS.values()]
    seen = json.loads(run_python("cloudevents-2", ["cloudevents==2.2.0"], "tests/compat/cloudevents_2.py", *urls))
    for name, (_, good) in DOORS.items():
        assert seen[name] == [good, good, good, good, 400]
        assert settled(server, f"{name}-1")[0]["source"] == "/ce 2"
        (odd,) = settled(server, f'{name} %3 "ü"')
        assert (odd["data"], odd["note"]) == ({"value": 7}, "50% ü")


def test_binary_mode_without_a_content_type_is_json(server: Server) -> None:
    names = {"specversion": "1.0", "id": "plain", "source": "s", "type": "ce", "subject": "acme"}
    request = server.client.build_request(
        "POST", "/openmeter/api/v1/events", content=b'{"value": 1}', headers={f"CE-{n}": v for n, v in names.items()}
    )
    assert "content-type" not in request.headers
    assert server.client.send(request).status_code == 204
    assert settled(server, "plain")[0]["data"] == {"value": 1}


def test_a_version_that_is_not_1_0_is_refused(server: Server) -> None:
    old = {"specversion": "0.3", "id": "old", "source": "s", "type": "ce", "subject": "acme"}
    answer: httpx.Response = server.client.post("/openmeter/api/v1/events", json=old)
    assert answer.status_code == 400
    assert 'specversion: found "0.3", expected "1.0"' in answer.json()["detail"]
