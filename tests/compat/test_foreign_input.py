"""Lago's and Stripe's doors, given anything at all: never a 500, nothing half taken, every answer in the dialect."""

import json
from collections.abc import Iterator
from itertools import count
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.compat.answering import Refused
from ingest.compat.lago.events import read_event
from ingest.compat.stripe.forms import parse_form
from ingest.content import BodyRefused
from ingest.parse import parse_texts
from tests.face.running import Server

_NUMBERS = count(1)
_QUIET = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

texts = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["", " ", "0", "1", "-1", "1e9", "NaN", "1795234494", "2026-11-21T00:00:00Z", "\x00", "a/b", "ü"]),
)
numbers = st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.just(10**400))
scalars = st.one_of(st.none(), st.booleans(), numbers, texts, st.just("\ud800"))  # half of a pair is no character
values = st.recursive(
    scalars, lambda inside: st.one_of(st.lists(inside, max_size=3), st.dictionaries(texts, inside, max_size=3)),
    max_leaves=8,
)  # fmt: skip


def shaped(names: list[str]) -> st.SearchStrategy[Any]:
    """Objects that mostly have the names that are expected, with anything in them."""
    return st.dictionaries(st.one_of(st.sampled_from(names), texts), values, max_size=len(names))


lago_events = shaped(
    ["transaction_id", "external_subscription_id", "code", "timestamp", "properties", "precise_total_amount_cents"]
)
charges = shaped(["billable_metric_id", "charge_model", "properties", "filters", "min_amount_cents", "code"])
LAGO = {
    "events": st.fixed_dictionaries({"event": st.one_of(lago_events, values)}),
    "events/batch": st.fixed_dictionaries({"events": st.one_of(st.lists(lago_events, max_size=4), values)}),
    "billable_metrics": st.fixed_dictionaries(
        {"billable_metric": shaped(["name", "code", "aggregation_type", "field_name", "filters", "rounding_function"])}
    ),
    "plans": st.fixed_dictionaries(
        {
            "plan": st.one_of(
                shaped(["name", "code", "interval", "amount_cents", "amount_currency", "charges"]),
                st.fixed_dictionaries({"charges": st.lists(charges, max_size=2)}),
            )
        }
    ),
    "customers": st.fixed_dictionaries({"customer": shaped(["external_id", "name", "timezone", "currency"])}),
    "subscriptions": st.fixed_dictionaries(
        {"subscription": shaped(["external_customer_id", "plan_code", "external_id", "subscription_at", "ending_at"])}
    ),
}
stripe_events = shaped(["event_name", "payload", "identifier", "timestamp"])
STRIPE_JSON = {
    "v2/billing/meter_events": stripe_events,
    "v2/billing/meter_event_adjustments": shaped(["event_name", "type", "cancel"]),
    "v2/billing/meter_event_session": values,
    "v2/billing/meter_event_stream": st.fixed_dictionaries({"events": st.lists(stripe_events, max_size=3)}),
}
_STRIPE_NAMES = st.one_of(
    st.sampled_from(
        ["event_name", "payload[value]", "payload[stripe_customer_id]", "identifier", "timestamp", "payload", "a[]",
         "display_name", "default_aggregation[formula]", "cancel[identifier]", "type", "value_settings[x][y]", "[", "]"]
    ),
    texts,
)  # fmt: skip
forms = st.lists(st.tuples(_STRIPE_NAMES, texts), max_size=6)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("foreign") / "data", catalogue=None) as running:
        meter = {"billable_metric": {"name": "n", "code": "n", "aggregation_type": "sum_agg", "field_name": "n"}}
        assert running.client.post("/lago/api/v1/billable_metrics", json=meter).status_code == 200
        yield running


# Over the wire ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", LAGO)
@_QUIET
@given(data=st.data())
def test_lagos_door_answers_anything_in_its_dialect(server: Server, path: str, data: st.DataObject) -> None:
    body = json.dumps(data.draw(st.one_of(LAGO[path], values)))
    answer = server.client.post(f"/lago/api/v1/{path}", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (200, 400, 404, 422), (body, answer.text)
    assert answer.status_code == 200 or answer.json()["status"] == answer.status_code


@pytest.mark.parametrize("path", STRIPE_JSON)
@_QUIET
@given(data=st.data())
def test_stripes_door_answers_any_json_in_its_dialect(server: Server, path: str, data: st.DataObject) -> None:
    body = json.dumps(data.draw(st.one_of(STRIPE_JSON[path], values)))
    answer = server.client.post(f"/stripe/{path}", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (200, 400, 401), (body, answer.text)
    assert answer.status_code == 200 or answer.json()["error"]["message"]


@pytest.mark.parametrize("path", ["meter_events", "meters", "meter_event_adjustments"])
@_QUIET
@given(fields=forms)
def test_stripes_door_answers_any_form_in_its_dialect(server: Server, path: str, fields: list[tuple[str, str]]) -> None:
    body = "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in fields)
    answer = server.client.post(
        f"/stripe/v1/billing/{path}", content=body, headers={"content-type": "application/x-www-form-urlencoded"}
    )
    assert answer.status_code in (200, 400), (body, answer.text)
    assert answer.status_code == 200 or answer.json()["error"]["message"]


@_QUIET
@given(
    query=st.dictionaries(
        st.sampled_from(
            [
                "per_page",
                "page",
                "limit",
                "starting_after",
                "customer",
                "start_time",
                "end_time",
                "value_grouping_window",
                "external_subscription_id",
                "filter_by_group",
                "group[x]",
            ]
        ),
        texts,
    ),
    path=st.sampled_from(
        [
            "lago/api/v1/plans",
            "lago/api/v1/billable_metrics",
            "lago/api/v1/customers/x/current_usage",
            "stripe/v1/billing/meters",
            "stripe/v1/billing/meters/x/event_summaries",
        ]
    ),
)
def test_any_query_is_answered(server: Server, path: str, query: dict[str, str]) -> None:
    answer = server.client.get(f"/{path}", params=query)
    assert answer.status_code in (200, 400, 404, 405, 422), (path, query, answer.text)


@settings(_QUIET, max_examples=60)
@given(tail=st.lists(lago_events, min_size=1, max_size=3))
def test_a_refused_batch_leaves_nothing(server: Server, tail: list[dict[str, Any]]) -> None:
    id = f"whole-{next(_NUMBERS)}"
    first = {"transaction_id": id, "external_subscription_id": "whole", "code": "n"}
    body = json.dumps({"events": [first, *tail]})
    answer = server.client.post("/lago/api/v1/events/batch", content=body)
    assert answer.status_code in (200, 400, 422), answer.text
    found = server.client.get(f"/lago/api/v1/events/{id}")
    assert found.status_code == (200 if answer.status_code == 200 else 404)


# The readers themselves ---------------------------------------------------------------------------


@given(st.binary(max_size=60))
def test_a_form_is_read_or_refused(body: bytes) -> None:
    try:
        found = parse_form(body)
    except Refused:
        return
    assert all(isinstance(value, str | dict) for value in found.values())


@given(
    st.dictionaries(st.text(st.characters(exclude_characters="[]", codec="utf-8"), min_size=1), st.text(), max_size=5)
)
def test_a_form_says_what_was_written(fields: dict[str, str]) -> None:
    body = "&".join(f"payload[{quote_plus(name)}]={quote_plus(value)}" for name, value in fields.items())
    assert parse_form(body.encode()).get("payload", {}) == fields


@given(st.one_of(st.binary(max_size=60), lago_events.map(lambda event: json.dumps(event).encode())))
def test_an_event_is_read_or_refused_by_field(text: bytes) -> None:
    try:
        sent, errors = read_event(text)
    except BodyRefused:
        raise AssertionError("a batch would be refused without saying which event is wrong") from None
    assert (sent is None) == bool(errors)
    if sent is not None:
        assert parse_texts([sent.cloud_event()]).total == 1
