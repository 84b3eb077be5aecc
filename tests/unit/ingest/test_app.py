"""The door over HTTP, by a real client and, for what clients do not do, by hand."""

import gzip
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from ingest.app import Disconnected, application, health_routes, read_body, routes
from ingest.content import BodyRefused
from schemas.limits import BATCH_EVENTS_MAX, BODY_BYTES_MAX
from tests.unit.ingest.doors import ListLog, event, make_door, text


@pytest.fixture
def log() -> ListLog:
    return ListLog(partitions=1)


def client_of(log: ListLog, mounted: bool = False) -> httpx.AsyncClient:
    door, health = make_door(log), health_routes(lambda: not log.down)
    app: Any = Starlette(routes=[*routes(door), *health]) if mounted else application(door, others=health)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://door")


@pytest.fixture(params=[False, True], ids=["alone", "mounted"])
def client(log: ListLog, request: pytest.FixtureRequest) -> Iterator[httpx.AsyncClient]:
    yield client_of(log, request.param)


async def test_a_batch(client: httpx.AsyncClient, log: ListLog) -> None:
    answer = await client.post("/v1/events", json=[event(), event(id="e2"), event(id="e2"), {"id": "e4"}])
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/json"
    found = answer.json()
    assert (found["accepted"], found["duplicates"], found["rejected"], found["position"]) == (2, 1, 1, "0:3")
    assert found["events"] == [
        {"index": 2, "id": "e2", "source": "gateway", "verdict": "duplicate"},
        {
            "index": 3, "id": "e4", "verdict": "rejected", "code": "invalid_event", "path": "specversion",
            "message": 'found nothing, expected "1.0"',
        },
    ]  # fmt: skip
    assert log.ids() == ["e1", "e2", "e2"] and len(log.rejections) == 1


async def test_all_verdicts(client: httpx.AsyncClient) -> None:
    body = b"\n".join([text(event()), b"", b"{", text(event(id="e2"))])
    headers = {"content-type": "application/x-ndjson"}
    answer = await client.post("/v1/events?verdicts=all", content=body, headers=headers)
    assert [(e["line"], e["verdict"]) for e in answer.json()["events"]] == [
        (1, "accepted"), (3, "rejected"), (4, "accepted"),
    ]  # fmt: skip


async def test_a_single_event_is_always_listed(client: httpx.AsyncClient) -> None:
    for verdict in ("accepted", "duplicate"):
        answer = await client.post("/v1/events", json=event())
        assert answer.status_code == 200
        assert answer.json()["events"] == [{"index": 0, "id": "e1", "source": "gateway", "verdict": verdict}]


async def test_all_rejected_is_400_in_the_same_shape(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/events", json=[{}, {}])
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/json")
    assert (answer.json()["rejected"], len(answer.json()["events"]), answer.json()["position"]) == (2, 2, "")


async def test_no_events_is_200(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/events", content=b"[]")
    assert (answer.status_code, answer.json()) == (
        200, {"accepted": 0, "duplicates": 0, "rejected": 0, "position": "", "events": []},
    )  # fmt: skip


async def test_binary_mode_and_gzip(client: httpx.AsyncClient, log: ListLog) -> None:
    headers = {"ce-specversion": "1.0", "ce-id": "b", "ce-source": "s", "ce-type": "t", "ce-subject": "acme"}
    assert (await client.post("/v1/events", content=b"{}", headers=headers)).status_code == 200
    squeezed = gzip.compress(text(event()))
    assert (await client.post("/v1/events", content=squeezed, headers={"content-encoding": "gzip"})).status_code == 200
    assert log.ids() == ["b", "e1"]


async def test_head_says_that_the_door_is_there(client: httpx.AsyncClient) -> None:
    answer = await client.head("/v1/events")
    assert (answer.status_code, answer.content) == (200, b"")


def check_problem(answer: httpx.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    found = answer.json()
    assert (found["type"], found["status"], found["code"]) == ("about:blank", status, code)
    assert found["title"] and found["detail"]


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "code"),
    [
        ("/v1/events", b"{", {}, 400, "invalid_json"),
        ("/v1/events", b"{}", {"content-type": "text/plain"}, 415, "unsupported_media_type"),
        ("/v1/events", b"{}", {"content-encoding": "br"}, 415, "unsupported_media_type"),
        ("/v1/events", b"{}", {"content-encoding": "gzip"}, 400, "invalid_encoding"),
        ("/v1/events", b"{}\n" * (BATCH_EVENTS_MAX + 1), {"content-type": "application/x-ndjson"}, 413, "too_large"),
        ("/v1/ticks", b"", {}, 400, "invalid_json"),
        ("/v1/ticks", b"[]", {}, 400, "invalid_json"),
        ("/v1/ticks", b"\xff", {}, 400, "invalid_json"),
        ("/v1/ticks", b'{"time":"soon"}', {}, 400, "invalid_time"),
        ("/v1/ticks", b'{"time":5}', {}, 400, "invalid_time"),
        ("/v1/ticks", b'{"at":"2026-11-21T10:00:00Z"}', {}, 400, "invalid_time"),
        ("/v1/ticks", b" " * 5000, {}, 413, "too_large"),
    ],
)
async def test_problems(
    client: httpx.AsyncClient, path: str, body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    answer = await client.post(path, content=body, headers=headers)
    check_problem(answer, status, code)


async def test_other_methods(client: httpx.AsyncClient) -> None:
    for path in ("/v1/events", "/v1/ticks"):
        answer = await client.get(path)
        check_problem(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == "POST"


async def test_an_unavailable_log_is_503(client: httpx.AsyncClient, log: ListLog) -> None:
    log.down = True
    for path, body in (("/v1/events", event()), ("/v1/events", {}), ("/v1/ticks", {})):
        answer = await client.post(path, json=body)
        check_problem(answer, 503, "unavailable")
        assert answer.headers["retry-after"] == "1"
    assert (await client.get("/health/live")).status_code == 200
    check_problem(await client.get("/health/ready"), 503, "not_ready")


async def test_health(client: httpx.AsyncClient) -> None:
    assert (await client.get("/health/ready")).status_code == 200
    assert (await client.head("/health/live")).status_code == 200


async def test_ticks(client: httpx.AsyncClient, log: ListLog) -> None:
    answer = await client.post("/v1/ticks", json={"time": "2026-12-01T01:00:00+01:00"})
    assert answer.json() == {"time": "2026-12-01T00:00:00Z", "position": "0:1"}
    assert (await client.post("/v1/ticks", json={})).json() == {"time": "2026-11-21T10:00:00Z", "position": "0:2"}


def receiver(messages: list[dict[str, Any]]) -> Any:
    left = iter(messages)

    async def receive() -> dict[str, Any]:
        return next(left)

    return receive


def part(body: bytes, more: bool) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


async def test_a_body_is_refused_as_soon_as_it_is_too_long() -> None:
    scope = {"headers": [(b"content-length", b"%d" % (BODY_BYTES_MAX + 1))]}
    with pytest.raises(BodyRefused) as refused:
        await read_body(scope, receiver([]), BODY_BYTES_MAX)
    assert refused.value.status == 413
    with pytest.raises(BodyRefused):
        await read_body({"headers": []}, receiver([part(b"123", True), part(b"45", True)]), 4)
    assert await read_body({"headers": []}, receiver([part(b"123", True), part(b"4", False)]), 4) == b"1234"


async def test_a_client_that_goes_away_has_sent_nothing(log: ListLog) -> None:
    receive = receiver([part(text(event()), True), {"type": "http.disconnect"}])
    with pytest.raises(Disconnected):
        await read_body({"headers": []}, receive, 1000)
    sent: list[Any] = []
    receive = receiver([part(text(event()), True), {"type": "http.disconnect"}])
    scope = {"type": "http", "method": "POST", "path": "/v1/events", "headers": [], "query_string": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    await application(make_door(log))(scope, receive, send)
    assert sent == [] and log.entries == []
