"""What OpenMeter's clients see when things fail: a log that takes nothing, no store, wrong addresses and bodies."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx
import openmeter
import pytest
from corehttp.exceptions import HttpResponseError

from ingest.compat.openmeter.app import openmeter_routes
from taximeter.compat import CompatBackend
from taximeter.documents import Catalogues
from taximeter.http import make_app, running
from tests.compat.openmeter_door import METER, event
from tests.unit.ingest.doors import ListLog, make_door

T = TypeVar("T")


async def nowhere(entry: bytes, records: list[tuple[bytes, bytes]]) -> dict[int, int]:
    return {0: 1}


@asynccontextmanager
async def served(log: ListLog) -> AsyncIterator[str]:
    """A door on a log in memory, over real HTTP, without a store. Yields the base URL for their clients."""
    backend = CompatBackend(make_door(log), Catalogues(), nowhere, None)
    async with running(make_app(openmeter_routes(backend), dict), "127.0.0.1", 0) as url:
        yield f"{url}/openmeter"


async def raised(call: Callable[..., Any], *args: Any) -> HttpResponseError:
    with pytest.raises(HttpResponseError) as found:
        await asyncio.to_thread(call, *args)
    return found.value


async def test_a_log_that_takes_nothing_is_503_and_the_clients_retry_is_taken_once() -> None:
    log = ListLog()
    log.down = True
    async with served(log) as url:
        client = openmeter.Client(endpoint=url, token="a key", retry_total=0)
        error = await raised(client.events.ingest_event, event("1", "20T10:00", tokens=1))
        assert (error.status_code, error.response.headers["retry-after"]) == (503, "1")
        assert error.model.detail == "nothing of this request was promised, send it again: the disk is full"
        patient = openmeter.Client(endpoint=url, token="a key", retry_total=3)
        sending = asyncio.create_task(asyncio.to_thread(patient.events.ingest_event, event("2", "20T10:00", tokens=1)))
        await asyncio.sleep(0.5)
        log.down = False
        await sending
    assert log.ids() == ["2"]


async def test_a_process_without_a_store_says_who_answers() -> None:
    async with served(ListLog()) as url:
        client = openmeter.Client(endpoint=url, token="a key")
        await asyncio.to_thread(client.meters.create, METER)
        error = await raised(client.meters.query_json, "tokens")
        assert error.status_code == 501
        assert error.model.detail == "this process keeps no store: ask `taximeter spend`, or `taximeter serve`"
        assert (await raised(client.events.list)).status_code == 501


@pytest.mark.parametrize(
    ("method", "path", "status", "content"),
    [
        ("GET", "/nothing", 404, b""),
        ("GET", "/", 404, b""),
        ("GET", "/api/v1/meters/", 404, b""),
        ("PATCH", "/api/v1/meters", 405, b""),
        ("DELETE", "/api/v1/events", 405, b""),
        ("GET", "/api/v1/meters/unknown", 404, b""),
        ("POST", "/api/v1/events", 413, b" " * (32 * 1024 * 1024 + 1)),
        ("POST", "/api/v1/meters", 413, b" " * (1024 * 1024 + 1)),
        ("POST", "/api/v1/meters", 400, b"{"),
        ("POST", "/api/v1/meters", 400, b"[]"),
        ("POST", "/api/v1/meters", 400, b""),
        ("POST", "/api/v1/meters", 400, b'{"slug": "\\ud800"}'),
        ("POST", "/api/v1/customers", 400, b"[" * 5000),
    ],
)
async def test_every_error_is_a_problem_that_the_sdks_can_read(
    method: str, path: str, status: int, content: bytes
) -> None:
    async with served(ListLog()) as url, httpx.AsyncClient(timeout=30) as client:
        answer = await client.request(method, url + path, content=content, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    body = answer.json()
    assert body["type"] == "about:blank" and body["status"] == status and body["title"] and body["detail"]
    assert "retry-after" not in answer.headers


async def test_another_media_type_is_415() -> None:
    async with served(ListLog()) as url, httpx.AsyncClient() as client:
        headers = {"content-type": "text/plain"}
        answer = await client.post(f"{url}/api/v1/events", content=b"{}", headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (415, "application/problem+json")


async def gathered(calls: list[Awaitable[T]]) -> list[T]:
    return list(await asyncio.gather(*calls))


async def test_many_clients_at_once_lose_nothing() -> None:
    log = ListLog()
    async with served(log) as url, httpx.AsyncClient(timeout=60) as client:
        sent = [event(str(number), "20T10:00", tokens=1) for number in range(300)]
        answers = await gathered([client.post(f"{url}/api/v1/events", json=[one]) for one in sent])
    assert {answer.status_code for answer in answers} == {204}
    assert sorted(log.ids(), key=int) == [one["id"] for one in sent]
