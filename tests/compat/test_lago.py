"""Lago's Python client, unmodified, against a running `taximeter serve`: events, documents, refusals."""

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from lago_python_client import Client
from lago_python_client.models.billable_metric import BillableMetric
from lago_python_client.models.charge import Charge
from lago_python_client.models.event import BatchEvent, Event
from lago_python_client.models.plan import Plan
from lago_python_client.models.subscription import Subscription

from tests.compat.lago_sdk import details, fresh, metric, plan, refused, send, subscribe
from tests.face.running import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("lago") / "data", catalogue=None) as running:
        yield running


@pytest.fixture
def lago(server: Server) -> Client:
    return Client(api_key="not-asked-for", api_url=f"{server.url}/lago/")


# Events -------------------------------------------------------------------------------------------


def test_a_void_is_not_sent_as_an_event(lago: Client) -> None:
    given = Event(transaction_id=fresh("tx"), external_subscription_id="s", code="taximeter.void")
    assert "code" in details(refused(lago.events.create, given))


def test_a_known_transaction_is_refused_and_counts_once(lago: Client) -> None:
    subscription, id = fresh("sub"), fresh("tx")
    event = Event(transaction_id=id, external_subscription_id=subscription, code="c", timestamp=1795234494)
    taken = lago.events.create(event)
    assert (taken.transaction_id, taken.timestamp) == (id, "2026-11-21T04:14:54.000Z")
    assert details(refused(lago.events.create, event)) == {"transaction_id": ["value_already_exist"]}
    # The same transaction of another subscription is another event.
    assert lago.events.create(event.copy(update={"external_subscription_id": fresh("sub")})).transaction_id == id


def test_a_batch_is_taken_whole_or_not_at_all(lago: Client) -> None:
    subscription = fresh("sub")
    [known] = send(lago, subscription, "c", {})
    other, third = fresh("tx"), fresh("tx")

    def batch(*ids: str) -> BatchEvent:
        return BatchEvent(
            events=[Event(transaction_id=id, external_subscription_id=subscription, code="c") for id in ids]
        )

    assert details(refused(lago.events.batch_create, batch(other, known, third))) == {
        "1": {"transaction_id": ["value_already_exist"]}
    }
    assert refused(lago.events.find, other).response == {
        "status": 404,
        "error": "Not Found",
        "code": "event_not_found",
    }
    assert details(refused(lago.events.batch_create, batch(other, other))) == {
        "1": {"transaction_id": ["value_already_exist"]}
    }
    wrong = batch(other, third)
    wrong.events[1].timestamp = "yesterday"
    wrong.events[0].code = " "
    assert details(refused(lago.events.batch_create, wrong)) == {
        "0": {"code": ["value_is_mandatory"]},
        "1": {"timestamp": ["invalid_format"]},
    }
    lago.events.batch_create(batch(other, third))
    assert lago.events.find(third).external_subscription_id == subscription


def test_a_batch_has_one_to_a_hundred_events(lago: Client) -> None:
    def batch(size: int) -> BatchEvent:
        return BatchEvent(
            events=[Event(transaction_id=fresh("tx"), external_subscription_id="s", code="c") for _ in range(size)]
        )

    lago.events.batch_create(batch(100))
    assert details(refused(lago.events.batch_create, batch(101))) == {"events": ["too_many_events"]}
    assert details(refused(lago.events.batch_create, batch(0))) == {"events": ["no_events"]}


@pytest.mark.parametrize(
    ("timestamp", "shown"),
    [
        (1795234494, "2026-11-21T04:14:54.000Z"),
        ("1795234494.789", "2026-11-21T04:14:54.789Z"),
        ("1795234494.1234567890123", "2026-11-21T04:14:54.123Z"),
        ("2026-11-21T05:14:54.5+01:00", "2026-11-21T04:14:54.500Z"),
        ("1795234494789", None),  # milliseconds
        ("1e9", None),
        ("-1", None),
        ("soon", None),
    ],
)
def test_a_timestamp_is_read_exactly_or_refused(lago: Client, timestamp: int | str, shown: str | None) -> None:
    event = Event(transaction_id=fresh("tx"), external_subscription_id="s", code="c", timestamp=timestamp)
    if shown is None:
        assert details(refused(lago.events.create, event)) == {"timestamp": ["invalid_format"]}
    else:
        assert lago.events.create(event).timestamp == shown
        assert lago.events.find(event.transaction_id).timestamp == shown


# What is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("charge", "field"),
    [
        ({"charge_model": "custom", "properties": {}}, "charges.0.charge_model"),
        ({"charge_model": "standard", "properties": {}}, "charges.0.properties.amount"),
        ({"charge_model": "standard", "properties": {"amount": "1e400"}}, "charges.0.properties.amount"),
        ({"charge_model": "standard", "properties": {"amount": "-1"}}, "charges.0.properties.amount"),
        ({"charge_model": "graduated", "properties": {}}, "charges.0.properties.graduated_ranges"),
        (
            {"charge_model": "volume", "properties": {"volume_ranges": [{"from_value": 0, "to_value": 10}]}},
            "charges.0.properties.volume_ranges.0.to_value",
        ),
        (
            {
                "charge_model": "volume",
                "properties": {"volume_ranges": [{"from_value": 0, "to_value": 10}, {"from_value": 20}]},
            },
            "charges.0.properties.volume_ranges.1.from_value",
        ),
        ({"charge_model": "package", "properties": {"amount": "1"}}, "charges.0.properties.package_size"),
        ({"charge_model": "percentage", "properties": {"rate": "x"}}, "charges.0.properties.rate"),
        (
            {"charge_model": "standard", "properties": {"amount": "1"}, "pay_in_advance": True},
            "charges.0.pay_in_advance",
        ),
        ({"charge_model": "standard", "properties": {"amount": "1"}, "prorated": True}, "charges.0.prorated"),
        ({"charge_model": "standard", "properties": {"amount": "1"}, "invoiceable": False}, "charges.0.invoiceable"),
        (
            {"charge_model": "standard", "properties": {"amount": "1"}, "filters": [{"values": {"x": ["y"]}}]},
            "charges.0.filters.0.values.x",
        ),
    ],
)  # fmt: skip
def test_a_charge_that_cannot_be_said_here_is_refused_by_its_field(
    server: Server, lago: Client, charge: dict[str, Any], field: str
) -> None:
    tokens = metric(lago)
    body = {"name": "P", "code": fresh("plan"), "interval": "monthly", "amount_cents": 0, "amount_currency": "USD"}
    plan = body | {"charges": [{"billable_metric_id": tokens.lago_id, **charge}]}
    answer = server.client.post("/lago/api/v1/plans", json={"plan": plan})
    assert answer.status_code == 422
    assert field in answer.json()["error_details"], answer.text
    assert refused(lago.plans.find, body["code"]).response["code"] == "plan_not_found"


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("plans", {"plan": {"code": "p", "trial_period": 3}}, "trial_period"),
        ("plans", {"plan": {"code": "p", "interval": "semiannual"}}, "interval"),
        ("plans", {"plan": {"code": "p", "amount_currency": "XXX"}}, "amount_currency"),
        ("plans", {"plan": {"code": "p", "usage_thresholds": [{"amount_cents": 1}]}}, "usage_thresholds"),
        ("plans", {"plan": {"name": "p"}}, "code"),
        ("billable_metrics", {"billable_metric": {"aggregation_type": "custom_agg"}}, "aggregation_type"),
        ("billable_metrics", {"billable_metric": {"aggregation_type": "sum_agg"}}, "field_name"),
        ("billable_metrics", {"billable_metric": {"aggregation_type": "weighted_sum_agg"}}, "recurring"),
        (
            "billable_metrics",
            {"billable_metric": {"aggregation_type": "sum_agg", "field_name": "x", "recurring": True}},
            "recurring",
        ),
        ("billable_metrics", {"billable_metric": {"aggregation_type": "sum_agg", "expression": "1 +"}}, "expression"),
        ("customers", {"customer": {"name": "x"}}, "external_id"),
        ("customers", {"customer": {"external_id": "x", "timezone": "Mars/Olympus"}}, "timezone"),
        ("customers", {"customer": {"external_id": "x", "tax_codes": ["vat"]}}, "tax_codes"),
        ("subscriptions", {"subscription": {"plan_code": "x", "external_id": "y"}}, "external_customer_id"),
        ("subscriptions", {"subscription": {"subscription_at": "soon"}}, "subscription_at"),
        ("subscriptions", {"subscription": {"plan_overrides": {"name": "x"}}}, "plan_overrides"),
    ],
)
def test_a_document_that_cannot_be_said_here_is_refused_by_its_field(
    server: Server, path: str, body: dict[str, Any], field: str
) -> None:
    answer = server.client.post(f"/lago/api/v1/{path}", json=body)
    assert answer.status_code == 422, answer.text
    assert field in answer.json()["error_details"], answer.text


def test_codes_exist_once(lago: Client) -> None:
    made = metric(lago)
    twice = BillableMetric(name="x", code=made.code, aggregation_type="count_agg")
    assert details(refused(lago.billable_metrics.create, twice)) == {"code": ["value_already_exist"]}
    code = plan(lago, []).code
    assert details(
        refused(lago.plans.create, Plan(name="x", code=code, interval="monthly", amount_cents=0, amount_currency="USD"))
    ) == {"code": ["value_already_exist"]}


def test_a_subscription_is_the_same_again_or_ends(lago: Client) -> None:
    code = plan(lago, []).code
    customer, id = subscribe(lago, code)
    again = Subscription(external_customer_id=customer, plan_code=code, external_id=id)
    assert lago.subscriptions.create(again).status == "active"
    assert details(refused(lago.subscriptions.create, again.copy(update={"external_customer_id": fresh("c")}))) == {
        "external_id": ["value_already_exist"]
    }
    other = again.copy(update={"plan_code": plan(lago, []).code})
    assert "plan_code" in details(refused(lago.subscriptions.create, other))
    unknown = again.copy(update={"plan_code": "none"})
    assert refused(lago.subscriptions.create, unknown).response["code"] == "plan_not_found"
    assert lago.subscriptions.destroy(id).status == "terminated"
    time.sleep(1.1)  # it ends with the second
    error = refused(lago.customers.current_usage, customer, id)
    assert error.response == {"status": 405, "error": "Method Not Allowed", "code": "no_active_subscription"}
    assert refused(lago.subscriptions.destroy, id).response["code"] == "subscription_not_found"
    assert "external_id" in details(refused(lago.subscriptions.create, again))


@pytest.mark.parametrize(
    ("interval", "period", "anchor"),
    [("weekly", "week", 1), ("monthly", "month", 1), ("quarterly", "quarter", "01-01"), ("yearly", "year", "01-01")],
)
def test_an_interval_is_a_period_of_the_calendar_or_of_the_start(
    server: Server, lago: Client, interval: str, period: str, anchor: int | str
) -> None:
    code = plan(lago, [], interval=interval, amount_cents=100).code
    customer, calendar = subscribe(lago, code)
    _, anniversary = subscribe(lago, code, billing_time="anniversary")
    document = server.get(f"/v1/subscriptions/{calendar}")["document"]
    assert (document.get("period", "month"), document["anchor"]) == (period, anchor)
    assert "anchor" not in server.get(f"/v1/subscriptions/{anniversary}")["document"]
    now = datetime.now(UTC)
    ends = {
        "week": now.date() + timedelta(days=6 - now.weekday()),
        "month": (now.replace(day=1) + timedelta(days=32)).replace(day=1).date() - timedelta(days=1),
        "year": now.date().replace(month=12, day=31),
    }
    shown = lago.customers.current_usage(customer, calendar)
    assert ends.get(period, date.fromisoformat(shown.issuing_date)) == date.fromisoformat(shown.issuing_date)
    assert lago.plans.find(code).interval == interval


# Errors in the dialect ----------------------------------------------------------------------------


def test_what_is_not_there_is_a_404_of_its_kind(lago: Client) -> None:
    for call, code in [
        (lago.events.find, "event_not_found"),
        (lago.billable_metrics.find, "billable_metric_not_found"),
        (lago.plans.find, "plan_not_found"),
        (lago.customers.find, "customer_not_found"),
        (lago.subscriptions.find, "subscription_not_found"),
    ]:
        assert refused(call, "none").response == {"status": 404, "error": "Not Found", "code": code}
    assert refused(lago.customers.current_usage, "none", "none").response["code"] == "customer_not_found"
    assert refused(lago.wallets.find_all).status_code == 404  # not served here


@pytest.mark.parametrize(
    ("method", "path", "content", "media_type", "status"),
    [
        ("GET", "/api/v1/nowhere", b"", "", 404),
        ("PUT", "/api/v1/events", b"{}", "application/json", 405),
        ("POST", "/api/v1/events", b"{", "application/json", 400),
        ("POST", "/api/v1/events", b"[]", "application/json", 400),
        ("POST", "/api/v1/events", b"{}", "application/json", 400),
        ("POST", "/api/v1/events", b'{"event": {}, "event": {}}', "application/json", 400),
        ("POST", "/api/v1/events", b"[" * 5000, "application/json", 400),
        ("POST", "/api/v1/events", b"a=b", "application/x-www-form-urlencoded", 415),
        ("POST", "/api/v1/events", b" " * (33 * 1024 * 1024), "application/json", 413),
    ],
)
def test_every_refusal_is_json_with_status_and_error(
    server: Server, method: str, path: str, content: bytes, media_type: str, status: int
) -> None:
    headers = {"content-type": media_type} if media_type else {}
    answer = server.client.request(method, f"/lago{path}", content=content, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
    assert answer.json()["status"] == status
    assert answer.json()["error"]


def test_head_is_answered_where_get_is(server: Server) -> None:
    answer = httpx.head(f"{server.url}/lago/api/v1/billable_metrics")
    assert (answer.status_code, answer.content) == (200, b"")


def test_an_event_sent_again_after_a_crash_counts_once(tmp_path: Path) -> None:
    with Server(tmp_path / "data", catalogue=None) as first:
        lago = Client(api_key="k", api_url=f"{first.url}/lago/")
        tokens = metric(lago)
        charge = Charge(billable_metric_id=tokens.lago_id, charge_model="standard", properties={"amount": "1"})
        customer, subscription = subscribe(lago, plan(lago, [charge]).code)
        event = Event(
            transaction_id="once", external_subscription_id=subscription, code=tokens.code, properties={"n": 3}
        )
        lago.events.create(event)
        first.kill()
    with Server(tmp_path / "data", catalogue=None) as second:
        lago = Client(api_key="k", api_url=f"{second.url}/lago/")
        lago.events.create(event)  # the door has forgotten it; the engine has not
        assert lago.customers.current_usage(customer, subscription).charges_usage[0].units == "3"
