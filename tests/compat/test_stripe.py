"""Stripe's Python SDK, unmodified, against a running `taximeter serve`."""

import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
import stripe

from tests.face.running import Server

_NUMBERS = count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("stripe") / "data", catalogue=None) as running:
        yield running


@pytest.fixture
def client(server: Server) -> stripe.StripeClient:
    return client_of(server)


def client_of(server: Server, key: str = "sk_test_not_asked_for") -> stripe.StripeClient:
    url = f"{server.url}/stripe"
    return stripe.StripeClient(key, base_addresses={"api": url, "meter_events": url})


def fresh(name: str) -> str:
    """A name that no other test has."""
    return f"{name}_{next(_NUMBERS)}"


def meter(client: stripe.StripeClient, formula: str = "sum", **more: Any) -> Any:
    """A meter of its own."""
    name = fresh("meter")
    return client.v1.billing.meters.create(
        {"display_name": name.title(), "event_name": name, "default_aggregation": {"formula": formula}, **more}
    )


def event(name: str, customer: str, value: Any = "1", **more: Any) -> dict[str, Any]:
    return {"event_name": name, "payload": {"stripe_customer_id": customer, "value": value}, **more}


def total(client: stripe.StripeClient, meter: Any, customer: str) -> float:
    """What the customer's events of the last hour come to."""
    now = int(time.time()) // 60 * 60
    asked = {"customer": customer, "start_time": now - 3600, "end_time": now + 120}
    [summary] = client.v1.billing.meters.event_summaries.list(meter.id, asked).data
    return summary.aggregated_value


def refused(call: Any, *arguments: Any) -> stripe.StripeError:
    with pytest.raises(stripe.StripeError) as caught:
        call(*arguments)
    return caught.value


# Meters -------------------------------------------------------------------------------------------


def test_a_meter_is_one_of_ours(server: Server, client: stripe.StripeClient) -> None:
    made = meter(client, value_settings={"event_payload_key": "tokens used"})
    assert (made.object, made.status, made.default_aggregation.formula) == ("billing.meter", "active", "sum")
    assert client.v1.billing.meters.retrieve(made.id) == made
    document = server.get(f"/v1/meters/{made.event_name}")["document"]
    assert (document["aggregate"], document["value"]) == ("sum", "$['tokens used']")
    again = {"display_name": made.display_name, "event_name": made.event_name}
    again |= {"default_aggregation": {"formula": "sum"}, "value_settings": {"event_payload_key": "tokens used"}}
    assert client.v1.billing.meters.create(again).id == made.id
    other = again | {"default_aggregation": {"formula": "count"}}
    error = refused(client.v1.billing.meters.create, other)
    assert (error.http_status, error.param) == (400, "event_name")


def test_a_meter_is_renamed_and_takes_no_events_while_it_is_inactive(client: stripe.StripeClient) -> None:
    made, customer = meter(client), fresh("cus")
    assert client.v1.billing.meters.update(made.id, {"display_name": "Other"}).display_name == "Other"
    send = client.v1.billing.meter_events.create
    send(event(made.event_name, customer, "2"))
    assert client.v1.billing.meters.deactivate(made.id).status == "inactive"
    assert refused(send, event(made.event_name, customer, "3")).param == "event_name"
    assert made.id in [one.id for one in client.v1.billing.meters.list({"status": "inactive"}).data]
    assert total(client, made, customer) == 2  # what was taken stays
    assert client.v1.billing.meters.reactivate(made.id).status == "active"
    send(event(made.event_name, customer, "3"))
    assert total(client, made, customer) == 5


def test_meters_are_listed_page_by_page(client: stripe.StripeClient) -> None:
    made = {meter(client).id for _ in range(5)}
    found = list(client.v1.billing.meters.list({"limit": 2}).auto_paging_iter())
    assert made <= {one.id for one in found}
    assert len({one.id for one in found}) == len(found)
    last = client.v1.billing.meters.list({"limit": 2, "ending_before": found[3].id})
    assert [one.id for one in last.data] == [one.id for one in found[1:3]]
    assert refused(client.v1.billing.meters.list, {"limit": 1000}).param == "limit"
    assert refused(client.v1.billing.meters.list, {"starting_after": "mtr_none"}).param == "starting_after"


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"default_aggregation": {"formula": "median"}}, "default_aggregation[formula]"),
        ({"event_name": ""}, "event_name"),
        ({"event_name": "a b"}, "event_name"),
        ({"event_time_window": "day"}, "event_time_window"),
        ({"colour": "red"}, "colour"),
        ({"value_settings": "x"}, "value_settings"),
        ({"customer_mapping": {"type": "by_name"}}, "customer_mapping[type]"),
    ],
)
def test_a_meter_that_cannot_be_is_refused_by_its_parameter(
    client: stripe.StripeClient, more: dict[str, Any], param: str
) -> None:
    given = {"display_name": "x", "event_name": fresh("meter"), "default_aggregation": {"formula": "sum"}} | more
    error = refused(client.v1.billing.meters.create, given)
    assert isinstance(error, stripe.InvalidRequestError)
    assert error.param == param


# Events -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("formula", "expected"), [("sum", 6.5), ("count", 3), ("last", 1.5)])
def test_events_come_to_their_summary(client: stripe.StripeClient, formula: str, expected: float) -> None:
    made, customer, now = meter(client, formula), fresh("cus"), int(time.time())
    for i, value in enumerate(["2", "3", "1.5"]):
        taken = client.v1.billing.meter_events.create(event(made.event_name, customer, value, timestamp=now - 5 + i))
        assert taken.payload["value"] == value
        assert taken.timestamp == now - 5 + i
    assert total(client, made, customer) == expected
    assert total(client, made, fresh("cus")) == 0


def test_a_customer_may_stand_under_another_name(client: stripe.StripeClient) -> None:
    made = meter(
        client,
        customer_mapping={"event_payload_key": "who", "type": "by_id"},
        value_settings={"event_payload_key": "bytes"},
    )
    payload = {"who": "cus_other", "bytes": "7"}
    client.v1.billing.meter_events.create({"event_name": made.event_name, "payload": payload})
    assert total(client, made, "cus_other") == 7
    error = refused(client.v1.billing.meter_events.create, {"event_name": made.event_name, "payload": {"bytes": "7"}})
    assert error.param == "payload[who]"


def test_an_identifier_counts_once(client: stripe.StripeClient) -> None:
    made, customer = meter(client), fresh("cus")
    sent = event(made.event_name, customer, "5", identifier="one", timestamp=int(time.time()))
    client.v1.billing.meter_events.create(sent)
    client.v1.billing.meter_events.create(sent)
    error = refused(client.v1.billing.meter_events.create, event(made.event_name, customer, "6", identifier="one"))
    assert (error.http_status, error.param) == (400, "identifier")
    assert total(client, made, customer) == 5


def test_an_idempotency_key_counts_once_and_is_not_for_another_body(client: stripe.StripeClient) -> None:
    made, customer, key = meter(client), fresh("cus"), {"idempotency_key": fresh("key")}
    first = client.v1.billing.meter_events.create(event(made.event_name, customer, "5"), key)
    again = client.v1.billing.meter_events.create(event(made.event_name, customer, "5"), key)
    assert again == first
    for other in (event(made.event_name, customer, "6"), event(made.event_name, fresh("cus"), "5")):
        assert isinstance(refused(client.v1.billing.meter_events.create, other, key), stripe.IdempotencyError)
    assert total(client, made, customer) == 5


def test_a_key_under_which_nothing_was_done_may_be_used_again(client: stripe.StripeClient) -> None:
    made, customer, key = meter(client), fresh("cus"), {"idempotency_key": fresh("key")}
    wrong = event(made.event_name, customer, "many")
    assert refused(client.v1.billing.meter_events.create, wrong, key).param == "payload[value]"
    client.v1.billing.meter_events.create(event(made.event_name, customer, "2"), key)
    assert total(client, made, customer) == 2


def test_a_retry_after_a_crash_counts_once(tmp_path: Path) -> None:
    key = {"idempotency_key": "the-same"}
    with Server(tmp_path / "data", catalogue=None) as first:
        made = meter(client_of(first))
        sent = event(made.event_name, "cus_1", "5")
        before = client_of(first).v1.billing.meter_events.create(sent, key)
        first.kill()
    with Server(tmp_path / "data", catalogue=None) as second:
        after = client_of(second).v1.billing.meter_events.create(sent, key)
        assert after.identifier == before.identifier
        assert total(client_of(second), made, "cus_1") == 5


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"event_name": "none"}, "event_name"),
        ({"event_name": None}, "event_name"),
        ({"payload": {}}, "payload"),
        ({"payload": {"value": "1"}}, "payload[stripe_customer_id]"),
        ({"payload": {"stripe_customer_id": "cus_1"}}, "payload[value]"),
        ({"payload": {"stripe_customer_id": "cus_1", "value": "1e400"}}, "payload[value]"),
        ({"payload": {"stripe_customer_id": "cus_1", "value": "NaN"}}, "payload[value]"),
        ({"timestamp": 1}, "timestamp"),
        ({"timestamp": "soon"}, "timestamp"),
        ({"timestamp": 2**40}, "timestamp"),
        ({"identifier": "x" * 5000}, "identifier"),
        ({"extra": "x"}, "extra"),
    ],
)
def test_a_wrong_event_is_refused_by_its_parameter(
    client: stripe.StripeClient, change: dict[str, Any], param: str
) -> None:
    made = meter(client)
    error = refused(client.v1.billing.meter_events.create, event(made.event_name, "cus_wrong") | change)
    assert isinstance(error, stripe.InvalidRequestError)
    assert (error.http_status, error.param) == (400, param)
    assert total(client, made, "cus_wrong") == 0


def test_an_event_may_be_35_days_old_and_5_minutes_ahead(client: stripe.StripeClient) -> None:
    made, now = meter(client), int(time.time())
    create = client.v1.billing.meter_events.create
    for seconds in (-35 * 86400 + 60, 290):
        create(event(made.event_name, "cus_1", timestamp=now + seconds))
    for seconds in (-35 * 86400 - 60, 360):
        assert refused(create, event(made.event_name, "cus_1", timestamp=now + seconds)).param == "timestamp"


# Version 2 ----------------------------------------------------------------------------------------


def test_events_of_version_2_are_json(client: stripe.StripeClient) -> None:
    made, customer = meter(client), fresh("cus")
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    taken = client.v2.billing.meter_events.create(event(made.event_name, customer, "0.1", timestamp=stamp))
    assert (taken.object, taken.timestamp) == ("v2.billing.meter_event", stamp)
    wrong = event(made.event_name, customer, timestamp="1795234500")
    assert refused(client.v2.billing.meter_events.create, wrong).http_status == 400
    assert total(client, made, customer) == 0.1


def test_a_session_streams_events_all_or_none(server: Server, client: stripe.StripeClient) -> None:
    made, customer = meter(client), fresh("cus")
    session = client.v2.billing.meter_event_session.create()
    stream = client_of(server, session.authentication_token).v2.billing.meter_event_stream.create
    stream({"events": [event(made.event_name, customer) for _ in range(100)]})
    assert total(client, made, customer) == 100
    error = refused(stream, {"events": [event(made.event_name, customer), event("none", customer)]})
    assert error.json_body["error"]["param"] == "events[1].event_name"
    assert refused(stream, {"events": [event(made.event_name, customer) for _ in range(101)]}).http_status == 400
    assert refused(stream, {"events": []}).http_status == 400
    known = event(made.event_name, customer, identifier="known", timestamp="2026-11-21T00:00:00Z")
    known["timestamp"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    stream({"events": [known]})
    stream({"events": [known, event(made.event_name, customer)]})  # the one counts once, the other is new
    assert total(client, made, customer) == 102


def test_a_stream_needs_a_session(server: Server, client: stripe.StripeClient) -> None:
    for key in ("sk_test_1", "mes_", "mes_a.b", "mes_" + "ü"):
        header = {"authorization": f"Bearer {key}".encode()}
        answer = server.client.post("/stripe/v2/billing/meter_event_stream", json={"events": []}, headers=header)
        assert (answer.status_code, answer.json()["error"]["type"]) == (401, "temporary_session_expired")
    error = refused(client.v2.billing.meter_event_stream.create, {"events": []})
    assert isinstance(error, stripe.TemporarySessionExpiredError)


# Summaries and adjustments ------------------------------------------------------------------------


def test_summaries_by_hour_and_day(client: stripe.StripeClient) -> None:
    made, customer = meter(client), fresh("cus")
    day = int(time.time()) // 86400 * 86400 - 86400
    for hour, value in ((0, "1"), (5, "2"), (5, "3"), (23, "4")):
        client.v1.billing.meter_events.create(event(made.event_name, customer, value, timestamp=day + hour * 3600 + 59))

    def asked(**more: Any) -> Any:
        params = {"customer": customer, "start_time": day, "end_time": day + 86400, **more}
        return client.v1.billing.meters.event_summaries.list(made.id, params)

    assert [one.aggregated_value for one in asked().data] == [10]
    assert [one.aggregated_value for one in asked(value_grouping_window="day").data] == [10]
    by_hour = asked(value_grouping_window="hour", limit=2)
    found = [(one.start_time - day, one.end_time - day, one.aggregated_value) for one in by_hour.auto_paging_iter()]
    assert found == [(82800, 86400, 4), (18000, 21600, 5), (0, 3600, 1)]
    part = client.v1.billing.meters.event_summaries.list(
        made.id, {"customer": customer, "start_time": day + 60, "end_time": day + 18060}
    )
    assert [one.aggregated_value for one in part.data] == [5]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"start_time": 30}, "start_time"),
        ({"end_time": 61}, "end_time"),
        ({"start_time": 60, "value_grouping_window": "hour"}, "start_time"),
        ({"end_time": 7200, "value_grouping_window": "day"}, "end_time"),
        ({"value_grouping_window": "week"}, "value_grouping_window"),
        ({"start_time": 86400}, "start_time"),
        ({"start_time": "now"}, "start_time"),
        ({"customer": ""}, "customer"),
    ],
)
def test_a_wrong_question_is_refused_by_its_parameter(
    client: stripe.StripeClient, change: dict[str, Any], param: str
) -> None:
    made = meter(client)
    params = {"customer": "cus_1", "start_time": 0, "end_time": 86400} | change
    error = refused(client.v1.billing.meters.event_summaries.list, made.id, params)
    assert (error.http_status, error.param) == (400, param)


def test_a_cancelled_event_counts_no_more(server: Server, client: stripe.StripeClient) -> None:
    made, customer = meter(client), fresh("cus")
    for id, value in (("first", "5"), ("second", "7")):
        client.v1.billing.meter_events.create(event(made.event_name, customer, value, identifier=id))
    given = {"event_name": made.event_name, "type": "cancel", "cancel": {"identifier": "first"}}
    adjusted = client.v1.billing.meter_event_adjustments.create(given)
    assert (adjusted.status, adjusted.cancel.identifier) == ("pending", "first")
    assert total(client, made, customer) == 7
    given["cancel"] = {"identifier": "second"}
    assert client.v2.billing.meter_event_adjustments.create(given).type == "cancel"
    assert total(client, made, customer) == 0
    kept = server.get("/v1/events", customer=customer)["events"]
    assert [one["event"]["type"] for one in kept].count("taximeter.void") == 2
    given["cancel"] = {"identifier": "third"}
    assert refused(client.v1.billing.meter_event_adjustments.create, given).http_status == 400


# Errors in the dialect ----------------------------------------------------------------------------


def test_what_is_not_there_is_a_404(client: stripe.StripeClient) -> None:
    for error in (
        refused(client.v1.billing.meters.retrieve, "mtr_none"),
        refused(
            client.v1.billing.meters.event_summaries.list,
            "mtr_none",
            {"customer": "c", "start_time": 0, "end_time": 60},
        ),
        refused(client.v1.customers.list),
    ):
        assert isinstance(error, stripe.InvalidRequestError)
        assert error.http_status == 404


@pytest.mark.parametrize(
    ("method", "path", "content", "media_type", "status"),
    [
        ("GET", "/v1/nowhere", b"", "", 404),
        ("GET", "/v1/billing/meter_events", b"", "", 405),
        ("POST", "/v1/billing/meter_events", b"{}", "application/json", 415),
        ("POST", "/v1/billing/meter_events", b"\xff=1", "application/x-www-form-urlencoded", 400),
        ("POST", "/v1/billing/meter_events", b"a[=1", "application/x-www-form-urlencoded", 400),
        ("POST", "/v1/billing/meter_events", b"a=1&a[b]=1", "application/x-www-form-urlencoded", 400),
        ("POST", "/v1/billing/meter_events", b"a=1&a=1", "application/x-www-form-urlencoded", 400),
        ("POST", "/v1/billing/meter_events", b"a=1&" * 600, "application/x-www-form-urlencoded", 400),
        ("POST", "/v2/billing/meter_events", b"[]", "application/json", 400),
        ("POST", "/v2/billing/meter_events", b"{", "application/json", 400),
        ("POST", "/v2/billing/meter_events", b'{"a": ' * 500, "application/json", 400),
        ("POST", "/v2/billing/meter_events", b" " * (33 * 1024 * 1024), "application/json", 413),
    ],
)
def test_every_refusal_has_an_error_at_its_root(
    server: Server, method: str, path: str, content: bytes, media_type: str, status: int
) -> None:
    headers = {"content-type": media_type} if media_type else {}
    answer = server.client.request(method, f"/stripe{path}", content=content, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
    assert answer.json()["error"]["message"]


def test_head_is_answered_where_get_is(server: Server) -> None:
    answer = httpx.head(f"{server.url}/stripe/v1/billing/meters")
    assert (answer.status_code, answer.content) == (200, b"")
