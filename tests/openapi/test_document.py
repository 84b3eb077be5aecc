"""The OpenAPI document says what the running server does: route by route, parameter by parameter, answer by answer."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance
from starlette.routing import BaseRoute, Mount, Route

from taximeter.access.http import KeysApi
from taximeter.access.sqlite_store import SqliteKeys
from taximeter.embedded import Embedded, EmbeddedSettings
from taximeter.http import make_app
from taximeter.openapi.document import is_served
from taximeter.openapi.operations import OPERATIONS
from tests.face.running import BOOK, Server, event


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that knows a customer, some usage, an invoice, an alert and a rejection."""
    with Server(tmp_path_factory.mktemp("openapi") / "data", catalogue=BOOK) as found:
        events = [event(f"e{number}", data='{"tokens": 6000, "model": "large"}') for number in range(10)]
        found.send([*events, event("wrong", data='{"tokens": "lots"}')])
        yield found


@pytest.fixture(scope="module")
def schema(server: Server) -> Any:
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json")


TRIED = [
    (one.id, mode)
    for one in OPERATIONS
    for mode in GenerationMode
    if one.tag != "Live"  # a stream does not end
    # Where anything may be said, nothing is wrong.
    and (mode is GenerationMode.POSITIVE or one.body or any(p.where == "query" for p in one.parameters))
]


@pytest.mark.parametrize(("id", "mode"), TRIED, ids=[f"{id}-{mode.value}" for id, mode in TRIED])
def test_the_server_answers_as_it_says(schema: Any, id: str, mode: GenerationMode) -> None:
    """Requests that fit the document and such that do not: every answer is one that the document names.

    That all that fits is taken is not asked: a time zone, a meter or a position must also exist.
    """

    @settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
    @given(case=schema.find_operation_by_id(id).as_strategy(generation_mode=mode))
    def tried(case: Any) -> None:
        case.call_and_validate(timeout=30, excluded_checks=[positive_data_acceptance])

    tried()


def test_every_route_is_described(tmp_path: Path) -> None:
    """No route without an operation: what is served is said."""
    described = {operation.path for operation in OPERATIONS}
    assets = {"/docs/start.js", "/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css", "/docs/favicon-32x32.png"}
    for route in routes_of(tmp_path):
        if isinstance(route, Mount):
            continue
        path = getattr(route, "path", None)
        if isinstance(route, Route) and path is not None and path not in assets:
            plain = re.sub(r":path\}", "}", path)
            assert plain in described, f"{path} is served, and in no operation"


def test_every_operation_is_served(tmp_path: Path) -> None:
    routes = routes_of(tmp_path)
    assert [operation.id for operation in OPERATIONS if not is_served(operation, routes)] == []
    ids = [operation.id for operation in OPERATIONS]
    assert len(ids) == len(set(ids))


def routes_of(folder: Path) -> list[BaseRoute]:
    """What `taximeter serve` serves."""
    import asyncio

    async def made() -> list[BaseRoute]:
        async with Embedded(EmbeddedSettings(data=folder / "data")) as parts:
            keys = KeysApi(SqliteKeys(folder / "data")).routes()
            return list(make_app([*parts.routes(), *keys], parts.ready).routes)

    return asyncio.run(made())


@pytest.mark.parametrize(
    "operation",
    [one for one in OPERATIONS if one.method == "get" and one.path.startswith("/v1/") and one.path != "/v1/status"],
    ids=lambda operation: operation.id,
)
def test_the_parameters_are_those_that_the_server_knows(server: Server, operation: Any) -> None:
    """The server lists what it expected where it is asked something unknown."""
    required = {parameter.name: "tokens" for parameter in operation.parameters if parameter.required}
    path = re.sub(r"\{customer\}", "acme", operation.path).replace("/meters/{id}", "/meters/tokens")
    path = path.replace("{id}", "id")
    answer = server.client.get(path, params={**required, "zzz": "1"})
    if answer.status_code in (404, 405):
        assert "versions" in path or "{id}" in operation.path or "default" in path, answer.text
        return
    assert (answer.status_code, answer.json()["code"]) == (400, "unknown_parameter"), answer.text
    expected = answer.json()["detail"].partition("expected one of ")[2]
    known = set() if expected in ("", "nothing") else set(re.split(r", ", re.sub(r" \(.*\)$", "", expected)))
    own = {parameter.name for parameter in operation.parameters if parameter.where == "query"}
    assert known == own


def test_the_document_is_valid_openapi(server: Server) -> None:
    document = server.client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    for name, component in document["components"]["schemas"].items():
        jsonschema.Draft202012Validator.check_schema(component), name
    references = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert references <= document["components"]["schemas"].keys()


def test_the_page_needs_nothing_from_elsewhere(server: Server) -> None:
    page = httpx.get(f"{server.url}/docs", timeout=30)
    assert page.headers["content-type"].startswith("text/html")
    linked = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert linked and not [link for link in linked if "//" in link]
    for link in linked:
        found = httpx.get(f"{server.url}/{link}", timeout=30)
        assert (found.status_code, len(found.content) > 100) == (200, True), link
    assert "default-src 'self'" in page.headers["content-security-policy"]


def test_the_doors_of_other_systems_are_described_route_by_route(server: Server) -> None:
    document = server.client.get("/openapi.json").json()
    for path, method in (
        ("/openmeter/api/v1/events", "post"),
        ("/openmeter/api/v1/meters/{slug}/query", "get"),
        ("/lago/api/v1/events/batch", "post"),
        ("/stripe/v1/billing/meter_events", "post"),
        ("/stripe/v2/billing/meter_event_stream", "post"),
    ):
        known = [one for one in document["paths"] if re.sub(r"\{\w+\}", "{}", one) == re.sub(r"\{\w+\}", "{}", path)]
        assert known and method in document["paths"][known[0]], path
    ids = [one["operationId"] for path in document["paths"].values() for one in path.values()]
    assert len(ids) == len(set(ids))
