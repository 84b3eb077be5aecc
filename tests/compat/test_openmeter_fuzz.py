"""Whatever is sent to OpenMeter's door is answered in its dialect: never a 500, never half taken."""

import asyncio
import json
from typing import Any
from urllib.parse import urlencode

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette

from ingest.compat.openmeter.answers import Refusal
from ingest.compat.openmeter.app import _ROUTES, openmeter_routes
from ingest.compat.openmeter.filters import read_filters
from ingest.compat.openmeter.periods import ISO, period_of
from ingest.compat.openmeter.queries import read_body
from schemas.times import from_datetime, to_datetime
from taximeter.compat import CompatBackend
from taximeter.documents import Catalogues
from tests.compat.openmeter_door import METER, event
from tests.unit.ingest.doors import ListLog, make_door

WORDS = (
    "slug", "name", "key", "aggregation", "eventType", "valueProperty", "groupBy", "metadata", "description",
    "SUM", "COUNT", "$.tokens", "tokens", "model", "usageAttribution", "subjectKeys", "featureKey", "type",
    "metered", "static", "config", "usagePeriod", "interval", "MONTH", "anchor", "issueAfterReset", "isSoftLimit",
    "measureUsageFrom", "meterSlug", "from", "to", "windowSize", "windowTimeZone", "DAY", "subject",
    "filterCustomerId", "filterGroupBy", "$eq", "$in", "$and", "$like", "advancedMeterGroupByFilters",
    "meterGroupByFilters", "filterGroupBy[model]", "2026-11-05T00:00:00Z", "Europe/Berlin", "limit", "filter",
    "cursor", "id", "source", "specversion", "1.0", "time", "data", "page", "pageSize", "orderBy", "customerId",
    "acme",
)  # fmt: skip
texts = st.sampled_from(WORDS) | st.text(max_size=20)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=6), max_leaves=20
)
shallow = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


async def nowhere(entry: bytes, records: list[tuple[bytes, bytes]]) -> dict[int, int]:
    return {0: 1}


def ask(requests: list[tuple[str, str, bytes]]) -> tuple[list[httpx.Response], ListLog]:
    """The answers to requests, one after the other, of a door with a meter, a customer and a feature."""
    log = ListLog()
    app = Starlette(routes=openmeter_routes(CompatBackend(make_door(log), Catalogues(), nowhere, None)))

    async def run() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app, raise_app_exceptions=True)
        base = "http://door/openmeter/api/"
        async with httpx.AsyncClient(transport=transport, base_url=base) as client:
            for path, body in (
                ("v1/meters", METER),
                ("v1/customers", {"name": "Acme", "key": "acme"}),
                ("v1/features", {"key": "gpt", "name": "GPT", "meterSlug": "tokens"}),
            ):
                assert (await client.post(path, json=body)).status_code == 201
            headers = {"content-type": "application/json"}
            return [await client.request(m, path, content=body, headers=headers) for m, path, body in requests]

    return asyncio.run(run()), log


def check(answer: httpx.Response) -> None:
    assert answer.status_code in (200, 201, 204, 400, 404, 409, 501), (answer.status_code, answer.text)
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"]


def paths(*methods: str) -> list[tuple[str, str]]:
    names = {"meter": "tokens", "customer": "acme", "feature": "gpt", "subject": "acme", "key": "model"}
    return [(m, path.removeprefix("/api/").format(**names)) for m, path, _ in _ROUTES if m in methods]


@shallow
@given(st.data())
def test_any_json_to_any_route_that_takes_one(data: st.DataObject) -> None:
    bodies = [data.draw(values) for _ in range(3)]
    encoded = [json.dumps(body).encode(errors="surrogatepass") for body in bodies] + [data.draw(st.binary(max_size=40))]
    answers, _ = ask([(method, path, body) for method, path in paths("POST", "PUT") for body in encoded])
    for answer in answers:
        check(answer)


@shallow
@given(st.data())
def test_members_that_are_nearly_right(data: st.DataObject) -> None:
    """A good body with one member of any value."""
    good: dict[str, dict[str, Any]] = {
        "v1/meters": METER | {"slug": "other"},
        "v1/customers": {"name": "B", "key": "b", "usageAttribution": {"subjectKeys": ["b"]}},
        "v1/features": {"key": "f", "name": "F", "meterSlug": "tokens", "meterGroupByFilters": {"model": "x"}},
        "v2/customers/acme/entitlements": {
            "featureKey": "gpt", "type": "metered", "usagePeriod": {"interval": "MONTH"}, "issueAfterReset": 5,
        },
        "v1/meters/tokens/query": {"windowSize": "DAY", "groupBy": ["model"], "filterGroupBy": {"model": ["x"]}},
    }  # fmt: skip
    requests = []
    for path, body in good.items():
        name, value = data.draw(st.sampled_from(sorted(body)) | texts), data.draw(values)
        requests.append(("POST", path, json.dumps(body | {name: value}).encode(errors="surrogatepass")))
    for answer in ask(requests)[0]:
        check(answer)


@shallow
@given(st.lists(st.tuples(texts, texts | values.map(str) | values.map(json.dumps)), max_size=5))
def test_any_parameters_of_any_question(pairs: list[tuple[str, str]]) -> None:
    query = urlencode(pairs, errors="replace")
    for answer in ask([(method, f"{path}?{query}", b"") for method, path in paths("GET")])[0]:
        check(answer)


@shallow
@given(st.lists(values | st.just(event("1", "20T10:00", tokens=1)), min_size=1, max_size=4))
def test_a_request_is_taken_whole_or_not_at_all(events: list[Any]) -> None:
    body = json.dumps(events).encode(errors="surrogatepass")
    (answer,), log = ask([("POST", "v1/events", body)])
    check(answer)
    assert len(log.ids()) == (len(events) if answer.status_code == 204 else 0)
    assert log.rejections == []


@given(
    st.dictionaries(st.text(max_size=8), st.text(max_size=8) | st.lists(st.text(max_size=8), max_size=3), max_size=4)
)
def test_a_filter_as_python_writes_it_is_read_as_it_was_meant(asked: dict[str, str | list[str]]) -> None:
    meant = {name: frozenset([one] if isinstance(one, str) else one) for name, one in asked.items()}
    assert read_filters([("filterGroupBy", str(asked))]) == meant
    assert read_filters([("filterGroupBy", json.dumps(asked))]) == meant


@given(st.text(max_size=200) | st.text(alphabet="({[]})'\"\\:,0x1eJ._+- ", max_size=200) | values.map(str))
def test_any_text_as_a_filter_is_read_or_refused(text: str) -> None:
    try:
        assert isinstance(read_filters([("filterGroupBy", text)]), dict)
    except Refusal as refusal:
        assert refusal.failure.status == 400


def test_a_filter_is_never_evaluated() -> None:
    for text in (
        "__import__('os').getpid()",
        "{'a': open('/etc/passwd').read()}",
        "[" * 8000,
        "{'a': 'b'" + "}" * 8000,
    ):
        try:
            read_filters([("filterGroupBy", text)])
            raise AssertionError(text)
        except Refusal as refusal:
            assert refusal.failure.status == 400


@given(values)
def test_any_body_of_a_query_is_read_or_refused(body: Any) -> None:
    if isinstance(body, dict):
        try:
            read_body(body)
        except Refusal as refusal:
            assert refusal.failure.status == 400


@given(st.datetimes(), st.sampled_from(sorted(ISO)), st.integers(0, 10**16))
def test_periods_cover_time_without_gaps(anchor: Any, interval: Any, time: int) -> None:
    anchor = anchor.replace(day=28) if (anchor.month, anchor.day) == (2, 29) else anchor  # not every year has it
    anchor = anchor.replace(year=1990 + anchor.year % 100, tzinfo=to_datetime(0).tzinfo)
    period = period_of(anchor, interval, time)
    assert period.start <= time < period.end
    assert period_of(anchor, interval, period.end).start == period.end
    assert period_of(anchor, interval, period.start) == period
    assert period_of(anchor, interval, from_datetime(anchor)).start == from_datetime(anchor)
