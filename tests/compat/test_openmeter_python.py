"""OpenMeter's Python SDK, as it is, against a running server: every row of what its users reach for."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import openmeter
import pytest
from corehttp.exceptions import (
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
    ServiceRequestError,
)
from openmeter.models import Event, MeterQueryRequest

from tests.compat.openmeter_door import METER, at, client_of, door, event
from tests.face.running import Server

ODD = 'it\'s "odd" & ü'
EVENTS = [
    event("1", "5T10:00", model="large", kind="in", tokens="0.1"),
    event("2", "5T10:00", model="large", kind="out", tokens="0.2"),
    event("3", "5T23:30", model="small", kind="in", tokens=9007199254740993),
    event("4", "6T10:00", model="small", kind="in", tokens=5, subject="bob"),
    event("5", "6T10:00", tokens=7, subject='it\'s "odd" & ü'),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with door(tmp_path_factory.mktemp("openmeter")) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> openmeter.Client:
    client = client_of(server)
    client.meters.create(METER)
    client.customers.create({"name": "Odd, Ltd", "key": "odd", "usageAttribution": {"subjectKeys": [ODD]}})
    client.events.ingest_events(EVENTS)
    return client


def refused(call: Any, *args: Any, **options: Any) -> tuple[int, str, str]:
    """What the SDK raises: the status, and the problem's title and detail."""
    with pytest.raises(HttpResponseError) as raised:
        call(*args, **options)
    problem = raised.value.model
    if problem is None:
        return raised.value.status_code, "", ""
    return raised.value.status_code, problem.title, problem.detail


# Events -------------------------------------------------------------------------------------------


def test_every_way_to_ingest_answers_204_and_counts_once(client: openmeter.Client) -> None:
    client.meters.create(METER | {"slug": "calls", "aggregation": "COUNT", "eventType": "call", "valueProperty": None})
    one = event("c1", "5T10:00", type="call")
    model = Event(id="c2", source="app", specversion="1.0", type="call", subject="acme", data={"n": 1})
    for _ in range(2):  # the second time all of them are duplicates
        client.events.ingest_event(one)
        client.events.ingest_event(model)
        client.events.ingest_events([one, event("c3", "5T10:00", type="call")])
        client.events.ingest_events_json([event("c4", "5T10:00", type="call")])
        client.events.ingest_events_json(Event(**event("c5", "5T10:00", type="call")))
    (row,) = client.meters.query_json("calls").data
    assert row.value == 5
    # Their client sends an empty body for a plain mapping: that is refused, and not answered as if it had been taken.
    assert refused(client.events.ingest_events_json, event("c6", "5T10:00", type="call"))[0] == 400


def test_what_was_sent_is_seen_by_the_next_query(client: openmeter.Client) -> None:
    client.meters.create(METER | {"slug": "seen", "eventType": "seen"})
    for number in range(1, 21):
        client.events.ingest_event(event(f"s{number}", "5T10:00", type="seen", tokens=1))
        assert client.meters.query_json("seen").data[0].value == number


def test_a_wrong_event_refuses_its_whole_request(client: openmeter.Client, server: Server) -> None:
    good = event("w1", "5T10:00", type="whole", tokens=1)
    wrong = {name: value for name, value in event("w2", "5T10:00", type="whole").items() if name != "subject"}
    status, title, detail = refused(client.events.ingest_events, [good, wrong])
    assert (status, title) == (400, "Bad Request")
    assert detail == (
        "event 1: subject: found nothing, expected a text that is not empty; nothing of this request was taken"
    )
    assert server.get("/v1/events", type="whole")["events"] == []
    assert server.get("/v1/rejections")["rejections"] == []
    for broken in (
        {"data": [1]},
        {"datacontenttype": "text/plain"},
        {"time": "soon"},
        {"id": ""},
        {"specversion": "2"},
    ):
        assert refused(client.events.ingest_event, good | broken)[0] == 400
    assert server.get("/v1/events", type="whole")["events"] == []


def test_null_is_absent_and_extensions_are_kept(client: openmeter.Client) -> None:
    plain = event("n1", "5T10:00", type="nulls", n=1) | {"time": None, "datacontenttype": None, "dataschema": None}
    client.events.ingest_event(plain | {"traceparent": "00-ab"})
    (found,) = client.events.list(id="n1")
    assert found.event["traceparent"] == "00-ab"
    assert abs(found.event.time - datetime.now(UTC)) < timedelta(minutes=1)


def test_no_events_are_204_as_a_batch_and_400_as_json(client: openmeter.Client) -> None:
    client.events.ingest_events([])
    assert refused(client.events.ingest_events_json, [])[::2] == (400, "no events found")


def test_events_are_listed_with_what_no_meter_can_count_of_them(client: openmeter.Client) -> None:
    client.meters.create(METER | {"slug": "odd", "eventType": "odd"})
    for id, value in (("missing", None), ("nan", "NaN"), ("infinite", "Infinity"), ("text", "ten"), ("right", "1e2")):
        client.events.ingest_event(event(f"odd-{id}", "7T10:00", type="odd", tokens=value))
    client.events.ingest_event(event("odd-unmetered", "7T10:00", type="nothing counts this"))
    found = {one.event.id: one for one in client.events.list(id="odd-")}
    said = {id: one.validation_error for id, one in found.items()}
    assert said.pop("odd-right") is None
    assert said.pop("odd-unmetered") == "no meter counts events of type nothing counts this"
    assert said == {
        f"odd-{id}": "meter odd: no value that can be counted at $.tokens"
        for id in ("missing", "nan", "infinite", "text")
    }
    assert found["odd-right"].ingested_at == found["odd-right"].stored_at
    assert found["odd-right"].event.data == {"tokens": "1e2"}
    assert client.meters.query_json("odd").data[0].value == 100


def test_events_are_listed_newest_first_by_part_of_id_and_subject_and_by_time(client: openmeter.Client) -> None:
    ids = [f"list-{number}" for number in range(5)]
    for id in ids:
        client.events.ingest_event(event(id, f"{10 + int(id[-1])}T00:00", type="listed", subject=f"team-{id}"))
    listed = client.events.list
    assert [one.event.id for one in listed(id="list-")] == ids[::-1]
    assert [one.event.id for one in listed(id="list-", limit=2)] == ids[:2:-1]
    assert [one.event.id for one in listed(subject="team-list-3")] == ["list-3"]
    assert [one.event.id for one in listed(id="list-", from_parameter=at("11"), to=at("13"))] == ["list-2", "list-1"]
    assert listed(id="list-", ingested_at_from=at("30")) == []
    assert refused(listed, limit=101)[2] == "limit: found '101', expected a whole number from 1 to 100"


def test_the_second_listing_pages_by_cursor_and_filters(client: openmeter.Client) -> None:
    ids = [f"page-{number:02}" for number in range(25)]
    client.events.ingest_events([event(id, "5T10:00", type="paged", subject=id) for id in ids])
    listed = client.events_v2.list
    paged = {"type": {"$eq": "paged"}}
    assert sorted(one.event.id for one in listed(limit=10, filter=paged)) == ids
    assert [one.event.id for one in listed(filter=paged | {"id": {"$like": "%-07%"}})] == ["page-07"]
    assert {one.event.id for one in listed(filter=paged | {"subject": {"$in": ids[:2]}})} == set(ids[:2])
    assert list(listed(filter=paged | {"time": {"$lt": "2026-11-05T10:00:00Z"}})) == []
    assert len(list(listed(filter=paged | {"time": {"$gte": "2026-11-05T10:00:00Z"}}))) == 25
    assert list(listed(filter={"customerId": {"$eq": "nobody"}})) == []
    status, _, detail = refused(lambda: list(listed(filter={"type": {"$ne": "paged"}})))
    assert status == 400 and detail.startswith("filter: found type.$ne, expected")


# Meters -------------------------------------------------------------------------------------------


def test_a_meter_is_a_document_of_ours_and_comes_back_as_it_was(client: openmeter.Client, server: Server) -> None:
    asked = METER | {"slug": "kept", "description": "A\nB", "metadata": {"team": "x"}}
    made = client.meters.create(asked)
    assert {name: made[name] for name in asked} == asked
    assert made.created_at == made.updated_at
    assert client.meters.get("kept") == client.meters.get(made.id) == made
    assert server.get("/v1/meters/kept")["document"] == {
        "event": "prompt", "aggregate": "sum", "value": "$.tokens", "name": "Tokens", "description": "A\nB",
        "dimensions": {"model": "$.model", "kind": "$.kind"}, "metadata": {"team": "x"},
    }  # fmt: skip
    assert made in client.meters.list()
    with pytest.raises(ResourceExistsError):
        client.meters.create(asked)


def test_meters_of_ours_are_theirs_where_their_language_has_words(client: openmeter.Client, server: Server) -> None:
    for id, document in {
        "ours": {"event": "prompt", "aggregate": "count"},
        "gauge": {"event": "prompt", "aggregate": "time_weighted", "value": "$.tokens", "unit": "hour"},
        "conditional": {"event": "prompt", "aggregate": "count", "where": {"$.model": "large"}},
    }.items():
        assert server.client.put(f"/v1/meters/{id}", json=document).status_code == 201
    listed = {meter.slug for meter in client.meters.list()}
    assert "ours" in listed and not listed & {"gauge", "conditional"}
    assert client.meters.query_json("conditional").data[0].value == 2


def test_meters_are_paged_and_ordered(client: openmeter.Client) -> None:
    slugs = [meter.slug for meter in client.meters.list()]
    assert slugs == sorted(slugs)
    assert [meter.slug for meter in client.meters.list(page=2, page_size=1)] == slugs[1:2]
    assert [meter.slug for meter in client.meters.list(order="DESC", order_by="key")] == slugs[::-1]


def test_a_meter_is_changed_and_deleted_unless_it_is_used(client: openmeter.Client, server: Server) -> None:
    client.meters.create(METER | {"slug": "gone", "eventType": "gone"})
    changed = client.meters.update("gone", {"name": "Other", "groupBy": {"model": "$.model"}, "metadata": {"a": "b"}})
    assert (changed.name, changed.group_by, changed.metadata) == ("Other", {"model": "$.model"}, {"a": "b"})
    assert changed.updated_at > changed.created_at
    client.meters.delete("gone")
    with pytest.raises(ResourceNotFoundError):
        client.meters.get("gone")
    with pytest.raises(ResourceNotFoundError):
        client.meters.query_json("gone")
    assert server.get("/v1/meters/gone")["document"]["archived"] is True
    assert "gone" not in {meter.slug for meter in client.meters.list()}
    assert "gone" in {meter.slug for meter in client.meters.list(include_deleted=True)}
    assert client.meters.create(METER | {"slug": "gone", "eventType": "gone"}).deleted_at is None
    book = {"currency": "USD", "charges": {"gone": {"meter": "gone", "price": {"model": "unit", "unit_amount": "1"}}}}
    assert server.client.put("/v1/price-books/launch", json=book).status_code == 201
    with pytest.raises(ResourceExistsError):
        client.meters.delete("gone")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"slug": "Not A Slug"}, "slug"),
        ({"slug": None}, "slug"),
        ({"aggregation": "MEDIAN"}, "aggregation"),
        ({"aggregation": "COUNT"}, "valueProperty"),
        ({"valueProperty": None}, "valueProperty"),
        ({"valueProperty": "tokens"}, "valueProperty"),
        ({"eventType": ""}, "eventType"),
        ({"groupBy": {"a b": "$.a"}}, "groupBy"),
        ({"groupBy": {"subject": "$.a"}}, "groupBy"),
        ({"groupBy": ["a"]}, "groupBy"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"eventFrom": "2026-11-01T00:00:00Z"}, "eventFrom"),
    ],
)
def test_a_meter_that_cannot_be_is_refused_with_its_field(
    client: openmeter.Client, change: dict[str, Any], field: str
) -> None:
    status, title, detail = refused(client.meters.create, METER | {"slug": "wrong"} | change)
    assert (status, title, detail.partition(":")[0]) == (400, "Bad Request", field)


# Queries ------------------------------------------------------------------------------------------


def values(answer: Any) -> list[Any]:
    return [row.value for row in answer.data]


def test_a_query_without_windows_adds_up_exactly(client: openmeter.Client, server: Server) -> None:
    answer = server.client.get("/openmeter/api/v1/meters/tokens/query")
    assert answer.headers["content-type"] == "application/json"
    assert answer.text == (
        '{"data":[{"value":9007199254741005.3,"windowStart":"2026-11-05T10:00:00Z","windowEnd":"2026-11-06T10:01:00Z",'
        '"subject":null,"groupBy":{}}]}'
    )
    row = client.meters.query_json("tokens", from_parameter=at("6"), to=at("7")).data[0]
    assert (row.value, row.window_start, row.window_end, row.subject, row.group_by) == (12, at("6"), at("7"), None, {})


def test_windows_are_cut_in_the_zone_that_is_asked_for(client: openmeter.Client) -> None:
    by_day = client.meters.query_json("tokens", window_size="DAY", subject=["acme"], group_by=["model"])
    assert [(row.window_start, row.group_by["model"]) for row in by_day.data] == [
        (at("5"), "large"),
        (at("5"), "small"),
    ]
    assert by_day.data[0].window_end == at("6")
    berlin = client.meters.query_json("tokens", window_size="DAY", window_time_zone="Europe/Berlin", subject=["acme"])
    assert [row.window_start for row in berlin.data] == [at("4T23:00"), at("5T23:00")]
    assert [row.value for row in client.meters.query_json("tokens", window_size="MONTH").data] == [9007199254741005.3]
    assert len(client.meters.query_json("tokens", window_size="HOUR").data) == 3
    assert len(client.meters.query_json("tokens", window_size="MINUTE", group_by=["kind"]).data) == 5


def test_rows_are_told_apart_by_subject_and_dimensions(client: openmeter.Client) -> None:
    by_subject = client.meters.query_json("tokens", group_by=["subject"], from_parameter=at("6"))
    assert {row.subject: row.value for row in by_subject.data} == {"bob": 5, 'it\'s "odd" & ü': 7}
    both = client.meters.query_json("tokens", subject=["acme", "bob"], from_parameter=at("5T12:00"))
    assert {row.subject: row.value for row in both.data} == {"acme": float(2**53), "bob": 5}
    null = client.meters.query_json("tokens", group_by=["model"], subject=['it\'s "odd" & ü'])
    assert null.data[0].group_by == {"model": None}


def test_every_filter_as_the_sdk_sends_it(client: openmeter.Client) -> None:
    assert values(client.meters.query_json("tokens", filter_group_by={"model": "large"})) == [0.3]
    assert values(client.meters.query_json("tokens", filter_group_by={"model": "large", "kind": "in"})) == [0.1]
    assert values(client.meters.query_json("tokens", filter_group_by={"model": "it's"})) == []
    advanced = {"model": {"$in": ["large", "other"]}, "kind": {"$eq": "out"}}
    assert values(client.meters.query_json("tokens", advanced_meter_group_by_filters=advanced)) == [0.2]
    status, _, detail = refused(
        client.meters.query_json, "tokens", advanced_meter_group_by_filters={"model": {"$ne": "large"}}
    )
    assert status == 400 and detail.startswith('advancedMeterGroupByFilters.model: found $ne "large", expected $eq')


def test_the_same_by_post(client: openmeter.Client) -> None:
    asked = MeterQueryRequest(
        from_property=at("5"), to=at("6"), window_size="DAY", window_time_zone="UTC", subject=["acme"],
        group_by=["model"], filter_group_by={"model": ["large", "small"], "kind": ["in"]},
    )  # fmt: skip
    answer = client.meters.query("tokens", asked)
    assert [(row.group_by["model"], row.value) for row in answer.data] == [("large", 0.1), ("small", float(2**53))]
    assert (answer.from_property, answer.to, answer.window_size) == (at("5"), at("6"), "DAY")
    assert client.meters.query("tokens", {"advancedMeterGroupByFilters": {"kind": {"$eq": "out"}}}).data[0].value == 0.2


def test_csv(client: openmeter.Client) -> None:
    text = "".join(client.meters.query_csv("tokens", subject=['it\'s "odd" & ü'], group_by=["model"]))
    assert text == (
        "window_start,window_end,subject,customer_name,customer_email,model,value\n"
        '2026-11-06T10:00:00Z,2026-11-06T10:01:00Z,"it\'s ""odd"" & ü","Odd, Ltd",,,7\n'
    )
    assert "".join(client.meters.query_csv_post("tokens")).endswith(",9007199254741005.3\n")


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"from_parameter": at("6"), "to": at("6")}, "to"),
        ({"from_parameter": at("7"), "to": at("6")}, "to"),
        ({"group_by": ["nothing"]}, "groupBy"),
        ({"window_size": "SECOND"}, "windowSize"),
        ({"window_time_zone": "Mars/Olympus"}, "windowTimeZone"),
        ({"filter_customer_id": ["01HZZZZZZZZZZZZZZZZZZZZZZZ"]}, "filterCustomerId"),
        ({"filter_group_by": {"nothing": "x"}}, "filter"),
    ],
)
def test_a_query_that_cannot_be_is_refused_with_its_field(
    client: openmeter.Client, asked: dict[str, Any], field: str
) -> None:
    status, _, detail = refused(client.meters.query_json, "tokens", **asked)
    assert (status, detail.partition(":")[0]) == (400, field)


def test_every_aggregation(client: openmeter.Client) -> None:
    expected = {"SUM": 10, "COUNT": 4, "UNIQUE_COUNT": 3, "AVG": 2.5, "MIN": 1, "MAX": 5, "LATEST": 1}
    for aggregation in expected:
        value = None if aggregation == "COUNT" else "$.tokens"
        slug = f"agg_{aggregation.lower()}"
        client.meters.create(
            METER | {"slug": slug, "aggregation": aggregation, "eventType": "agg", "valueProperty": value}
        )
    for number, tokens in enumerate((3, "1", 5, 1)):
        client.events.ingest_event(event(f"agg{number}", f"{1 + number}T00:00", type="agg", tokens=tokens))
    found = {name: client.meters.query_json(f"agg_{name.lower()}").data[0].value for name in expected}
    assert found == expected


def test_subjects_and_values_of_a_meter(client: openmeter.Client) -> None:
    assert client.meters.list_subjects("tokens") == ["acme", "bob", 'it\'s "odd" & ü']
    assert client.meters.list_subjects("tokens", from_parameter=at("6")) == ["bob", 'it\'s "odd" & ü']
    assert client.meters.list_group_by_values("tokens", "model") == ["large", "small"]
    assert refused(client.meters.list_group_by_values, "tokens", "nothing")[0] == 400


# Customers, features, entitlements ----------------------------------------------------------------


def test_customers_own_subjects_and_are_queried_by_id(client: openmeter.Client, server: Server) -> None:
    asked = {
        "name": "Umbrella Ltd", "key": "umbrella", "usageAttribution": {"subjectKeys": ["u-1", "u-2"]},
        "metadata": {"tier": "gold"}, "primaryEmail": "a@b.example", "currency": "USD",
        "billingAddress": {"country": "CH", "city": "Bern"},
    }  # fmt: skip
    made = client.customers.create(asked)
    assert {name: made[name] for name in asked} == asked
    assert client.customers.get("umbrella") == client.customers.get(made.id) == made
    assert server.get("/v1/customers/umbrella")["document"]["subjects"] == ["u-1", "u-2"]
    with pytest.raises(ResourceExistsError):
        client.customers.create(asked)
    with pytest.raises(ResourceExistsError):
        client.customers.create({"name": "Thief", "key": "thief", "usageAttribution": {"subjectKeys": ["u-2"]}})
    client.meters.create(METER | {"slug": "owned", "eventType": "owned"})
    for id, subject in (("o1", "u-1"), ("o2", "u-2"), ("o3", "acme")):
        client.events.ingest_event(event(id, "5T10:00", type="owned", subject=subject, tokens=1))
    assert values(client.meters.query_json("owned", filter_customer_id=[made.id])) == [2]
    by_customer = client.meters.query_json("owned", group_by=["customer_id"])
    assert {row.customer_id: row.value for row in by_customer.data}[made.id] == 2
    assert {one.customer_id for one in client.events.list(id="o1")} == {made.id}
    assert {one.event.id for one in client.events.list(customer_id=[made.id])} == {"o1", "o2"}
    page = client.customers.list(name="umbrella")
    assert [one.key for one in page.items_property] == ["umbrella"]
    changed = client.customers.update("umbrella", {"name": "U", "usageAttribution": {"subjectKeys": ["u-1", "u-3"]}})
    assert (changed.name, changed.usage_attribution.subject_keys) == ("U", ["u-1", "u-3"])


def test_subjects_are_customers_of_their_own(client: openmeter.Client, server: Server) -> None:
    made = client.subjects.upsert([{"key": "lone", "displayName": "Lone"}, {"key": "other", "metadata": {"a": "b"}}])
    assert [(one.key, one.display_name) for one in made] == [("lone", "Lone"), ("other", "other")]
    assert {"lone", "other"} <= {one.key for one in client.subjects.list()}
    assert server.get("/v1/customers/lone")["document"] == {"subjects": ["lone"], "name": "Lone"}


def test_entitlements_are_what_is_left_of_them(client: openmeter.Client, server: Server) -> None:
    client.meters.create(METER | {"slug": "prompts", "eventType": "entitled"})
    client.customers.create({"name": "Ent", "key": "ent", "usageAttribution": {"subjectKeys": ["ent-1", "ent-2"]}})
    feature = client.features.create({"key": "gpt", "name": "GPT", "meterSlug": "prompts"})
    assert (feature.key, feature.meter_slug) == ("gpt", "prompts")
    assert "gpt" in {one["key"] for one in client.features.list()}
    made = client.customer_entitlements_v2.post(
        "ent",
        {"featureKey": "gpt", "type": "metered", "usagePeriod": {"interval": "MONTH"}, "issueAfterReset": 100.5},
    )
    assert (made["type"], made["issueAfterReset"], made["featureKey"]) == ("metered", 100.5, "gpt")
    with pytest.raises(ResourceExistsError):
        client.customer_entitlements_v2.post(
            "ent", {"featureKey": "gpt", "type": "metered", "usagePeriod": {"interval": "MONTH"}}
        )
    for subject, tokens in (("ent-1", 40), ("ent-2", "0.25")):
        client.events.ingest_event(
            {
                key: value
                for key, value in event(subject, "5T10:00", subject, "entitled", tokens=tokens).items()
                if key != "time"
            }
        )
    for value in (
        client.customer_entitlement.get_customer_entitlement_value("ent", "gpt"),
        client.customer_entitlement_v2.get_customer_entitlement_value("ent", "gpt"),
        client.customer_entitlement_v2.get_customer_entitlement_value("ent", made["id"]),
        client.customer.get_customer_access("ent").entitlements["gpt"],
    ):
        assert (value.has_access, value.usage, value.balance, value.overage) == (True, 40.25, 60.25, 0)
        assert value.total_available_grant_amount == 100.5
    client.events.ingest_event(event("much", "5T10:00", "ent-1", "entitled", tokens=100) | {"time": None})
    value = client.customer_entitlement.get_customer_entitlement_value("ent", "gpt")
    assert (value.has_access, value.usage, value.balance, value.overage) == (False, 140.25, 0, 39.75)
    next_period = datetime.now(UTC) + timedelta(days=32)
    value = client.customer_entitlement_v2.get_customer_entitlement_value("ent", "gpt", time=next_period)
    assert (value.has_access, value.usage, value.balance) == (True, 0, 100.5)
    before = datetime.now(UTC) - timedelta(days=1)
    assert client.customer_entitlement.get_customer_entitlement_value("ent", "gpt", time=before).has_access is False
    assert server.get(f"/v1/entitlements/{made['id']}")["document"]["allowance"] == "100.5"
    client.customer_entitlements_v2.delete("ent", "gpt")
    assert client.customer_entitlement.get_customer_entitlement_value("ent", "gpt").has_access is False


def test_soft_static_and_boolean_entitlements_and_filters(client: openmeter.Client) -> None:
    client.meters.create(METER | {"slug": "soft", "eventType": "soft"})
    client.customers.create({"name": "Soft", "key": "soft", "usageAttribution": {"subjectKeys": ["soft"]}})
    client.features.create(
        {"key": "large_only", "name": "L", "meterSlug": "soft", "meterGroupByFilters": {"model": "large"}}
    )
    for key in ("config", "flag"):
        client.features.create({"key": key, "name": key})
    post = client.customer_entitlements_v2.post
    metered = {"type": "metered", "usagePeriod": {"interval": "P1D", "anchor": "2026-11-01T12:00:00Z"}}
    post("soft", metered | {"featureKey": "large_only", "isSoftLimit": True, "issueAfterReset": 1})
    post("soft", {"featureKey": "config", "type": "static", "config": '{"n": 1}'})
    post("soft", {"featureKey": "flag", "type": "boolean"})
    for model in ("large", "small"):
        client.events.ingest_event(
            event(f"soft-{model}", "5T10:00", "soft", "soft", tokens=3, model=model) | {"time": None}
        )
    found = client.customer.get_customer_access("soft").entitlements
    assert (found["large_only"].has_access, found["large_only"].usage, found["large_only"].overage) == (True, 3, 2)
    assert (found["config"].has_access, json.loads(found["config"].config)) == (True, {"n": 1})
    assert found["flag"].has_access is True
    assert {one["featureKey"] for one in client.customer_entitlements_v2.list("soft").items_property} == set(found)
    assert client.customer_entitlement.get_customer_entitlement_value("soft", "gpt").has_access is False
    for wrong in (
        {"featureKey": "flag", "type": "metered", "usagePeriod": {"interval": "MONTH"}},
        {"featureKey": "large_only", "type": "metered", "usagePeriod": {"interval": "PT1H"}},
        {"featureKey": "config", "type": "static", "config": "no json"},
    ):
        client.customers.create({"name": "W", "key": f"w{time.time_ns()}"})
        assert refused(post, client.customers.list().items_property[-1].key, wrong)[0] == 400
    with pytest.raises(ResourceNotFoundError):
        post("soft", {"featureKey": "unknown", "type": "boolean"})
    with pytest.raises(ResourceNotFoundError):
        client.customer.get_customer_access("nobody")


# Failures -----------------------------------------------------------------------------------------


def test_a_server_that_is_gone_is_the_clients_own_error() -> None:
    client = openmeter.Client(endpoint="http://127.0.0.1:9/openmeter", token="a key", retry_total=0)
    with pytest.raises(ServiceRequestError):
        client.events.ingest_event(event("x", "5T10:00"))
