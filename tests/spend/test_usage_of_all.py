"""Usage of a whole tenant, of subjects and by filters; and the kept events themselves. The same from both stores."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from rating.spend.app import routes
from rating.spend.store import EventFilter, SpendStore, Whose
from rating.spend.view import SpendView
from schemas.times import parse_time
from tests.spend.records import Log, catalogue, event, tick

METERS = {
    "tokens": {"event": "llm.request", "aggregate": "sum", "value": "$.n", "dimensions": {"model": "$.model"}},
    "disk": {"event": "resized", "aggregate": "time_weighted", "value": "$.gib", "unit": "hour"},
    "share": {"event": "resized", "aggregate": "time_weighted", "value": "$.gib", "unit": "period"},
}
KEYS = ("customer", "subject")


def used(id: str, hour: int, n: Any, who: str, subject: str, model: str | None = None, **more: Any) -> dict[str, Any]:
    """One request of a customer's subject, on the second of November."""
    data = {"n": n} | ({"model": model} if model else {})
    return event(id, f"2026-11-02T{hour:02d}:00:00Z", data, customer=who, subject=subject, **more)


@pytest.fixture
def log() -> Log:
    log = Log()
    log.append("taximeter.events", catalogue(METERS))
    log.events(
        used("a", 10, "1.5", "acme", "team-a", "large", arrived=100),
        used("b", 11, 2, "acme", "team-b", "small", arrived=200, extensions='{"trace":"t1"}'),
        used("b", 12, 7, "acme", "team-a", "small", arrived=300),  # a duplicate, though of another subject
        used("c", 12, 4, "acme", "team-b", arrived=400),
        event("z", "2026-11-02T12:00:00Z", {"gib": 2}, type="resized", arrived=450),
    )
    log.events(used("a", 10, 8, "beta", "beta", "large", arrived=500), partition=1)
    log.events(
        used("d", 13, 16, "acme", "team-a", "large", arrived=600),
        event("v", "2026-11-02T13:00:00Z", {"source": "cli", "id": "d"}, type="taximeter.void", arrived=700),
        event("y", "2026-11-02T12:30:00Z", {"gib": 1}, type="resized", customer="beta", arrived=800),
    )
    for partition in (0, 1):
        log.append("taximeter.events", tick("2026-11-02T14:00:00Z"), partition)
    return log


@pytest.fixture
async def client(store: SpendStore, log: Log) -> AsyncIterator[httpx.AsyncClient]:
    view = SpendView(store, log)
    feed = asyncio.create_task(view.run())
    await view.wait_for({0: log.end("taximeter.events", 0), 1: log.end("taximeter.events", 1)}, 20, of="usage")
    app = Starlette(routes=routes(view))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://spend") as found:
        yield found
    feed.cancel()
    with suppress(asyncio.CancelledError):
        await feed


async def values(client: httpx.AsyncClient, query: str, path: str = "/v1/usage") -> list[tuple[Any, ...]]:
    answer = await client.get(f"{path}?{query}")
    assert answer.status_code == 200, answer.text
    return [(*window.get("dimensions", {}).values(), window["value"]) for window in answer.json().get("windows", [])]


async def test_a_tenants_usage_counts_each_identity_once_and_no_voided_event(client: httpx.AsyncClient) -> None:
    assert await values(client, "meter=tokens&window=total") == [("15.5",)]
    assert await values(client, "meter=tokens&window=total&group_by=customer") == [("acme", "7.5"), ("beta", "8")]
    by_both = await values(client, "meter=tokens&window=total&group_by=customer,subject")
    assert by_both == [("acme", "team-a", "1.5"), ("acme", "team-b", "6"), ("beta", "beta", "8")]


async def test_usage_of_subjects_and_of_some_customers(client: httpx.AsyncClient) -> None:
    assert await values(client, "meter=tokens&window=total&subject=team-a") == [("1.5",)]
    assert await values(client, "meter=tokens&window=total&subject=team-a&subject=beta") == [("9.5",)]
    assert await values(client, "meter=tokens&window=total&customer=beta") == [("8",)]
    own = "/v1/customers/acme/usage"
    assert await values(client, "meter=tokens&window=total&group_by=subject", own) == [
        ("team-a", "1.5"),
        ("team-b", "6"),
    ]
    assert await values(client, "meter=tokens&window=total&subject=beta", own) == []


async def test_filters_are_any_of_a_dimension_and_all_of_several(client: httpx.AsyncClient) -> None:
    assert await values(client, "meter=tokens&window=total&filter=model:large") == [("9.5",)]
    assert await values(client, "meter=tokens&window=total&filter=model:large&filter=model:small") == [("11.5",)]
    assert await values(client, "meter=tokens&window=total&filter=model") == [("4",)]
    by_hour = await values(client, "meter=tokens&window=hour&filter=model:small")
    assert by_hour == [("2",)]


async def test_one_window_over_all_has_the_bounds_that_were_asked_for(client: httpx.AsyncClient) -> None:
    bounds = "from=2026-11-02T10:30:00Z&to=2026-11-02T12:00:00Z"
    found = (await client.get(f"/v1/usage?meter=tokens&window=total&{bounds}")).json()["windows"]
    assert found == [{"start": "2026-11-02T10:30:00Z", "end": "2026-11-02T12:00:00Z", "value": "2", "events": 1}]
    (without,) = (await client.get("/v1/usage?meter=tokens&window=total")).json()["windows"]
    assert (without["start"], without["end"]) == ("2026-11-02T10:00:00Z", "2026-11-02T12:00:00.000001Z")


async def test_gauges_of_several_customers_are_several(client: httpx.AsyncClient) -> None:
    # acme holds 2 GiB from 12:00 and beta 1 from 12:30; the newest time known is 14:00.
    assert await values(client, "meter=disk&window=total") == [("5.5",)]
    assert await values(client, "meter=disk&window=total&group_by=customer") == [("acme", "4"), ("beta", "1.5")]
    bounds = "from=2026-11-02T13:00:00Z&to=2026-11-02T15:00:00Z"
    assert await values(client, f"meter=disk&window=total&{bounds}") == [("3",)]
    assert await values(client, f"meter=share&window=total&{bounds}&customer=acme") == [("1",)]


async def test_kept_events_come_as_they_came_the_last_one_first(client: httpx.AsyncClient) -> None:
    found, cursor = [], ""
    while True:
        page = (await client.get(f"/v1/events?limit=2{cursor}")).json()
        found += page["events"]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert [one["event"]["id"] for one in found] == ["y", "v", "d", "a", "z", "c", "b", "b", "a"]
    first = found[-2]
    assert first == {
        "event": {
            "specversion": "1.0",
            "id": "b",
            "source": "cli",
            "type": "llm.request",
            "subject": "team-b",
            "time": "2026-11-02T11:00:00Z",
            "trace": "t1",
            "data": {"n": 2, "model": "small"},
        },
        "customer": "acme",
        "arrived": "1970-01-01T00:00:00.0002Z",
    }
    filtered = "type=llm.request&customer=acme&from=2026-11-02T12:00:00Z&to=2026-11-02T13:00:00Z"
    ids = [one["event"]["id"] for one in (await client.get(f"/v1/events?{filtered}")).json()["events"]]
    assert ids == ["c", "b"]


def test_kept_events_by_a_part_of_their_id_and_subject(store: SpendStore, log: Log) -> None:
    log.events(used("Part-1%x", 15, 1, "acme", "team-c", arrived=900))
    store.apply(log.records)

    def found(**where: str) -> list[str]:
        return store.kept_events(Whose("default"), EventFilter(**where), None, 100)["id"].to_pylist()

    assert found(id_part="-1%") == ["Part-1%x"] and found(id_part="part") == [] and found(id_part="%") == ["Part-1%x"]
    assert found(subject_part="am-b") == ["c", "b"]
    assert found(subject_part="team", id_part="b") == ["b", "b"]


def test_what_was_known_at_a_moment_is_what_had_arrived(store: SpendStore, log: Log) -> None:
    store.apply(log.records)
    of_acme = Whose("default", ("acme",))

    def known(at: int | None) -> list[tuple[str, bytes]]:
        rows = store.events(of_acme, "llm.request", None, None, known_at=at, columns=("id", "data")).to_pylist()
        return [(row["id"], row["data"]) for row in rows]

    assert [id for id, _ in known(None)] == ["a", "b", "c"]
    assert [id for id, _ in known(650)] == ["a", "b", "c", "d"]  # the void came later
    assert [id for id, _ in known(200)] == ["a", "b"]
    assert known(99) == []
    last = parse_time("2026-11-02T11:00:00Z")
    assert store.events(of_acme, "llm.request", None, last, known_at=650, columns=("id",)).to_pylist() == [{"id": "a"}]


@pytest.mark.parametrize(
    ("query", "parameter", "detail"),
    [
        ("meter=tokens&filter=kind:x", "filter", "found 'kind', expected one of model"),
        ("meter=tokens&filter=:x", "filter", "expected DIMENSION:VALUE"),
        ("meter=tokens&group_by=team", "group_by", "expected one of customer, model, subject"),
    ],
)
async def test_a_wrong_question_is_named(client: httpx.AsyncClient, query: str, parameter: str, detail: str) -> None:
    answer = await client.get(f"/v1/usage?{query}")
    assert (answer.status_code, answer.json()["parameter"]) == (400, parameter)
    assert detail in answer.json()["detail"]
