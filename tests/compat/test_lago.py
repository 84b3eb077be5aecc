"""Lago's Python client, unmodified, against a running `taximeter serve`."""

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from lago_python_client import Client
from lago_python_client.exceptions import LagoApiError
from lago_python_client.models.billable_metric import BillableMetric, BillableMetricFilter, BillableMetricFilters
from lago_python_client.models.charge import Charge, Charges
from lago_python_client.models.customer import Customer
from lago_python_client.models.event import BatchEvent, Event
from lago_python_client.models.minimum_commitment import MinimumCommitment
from lago_python_client.models.plan import Plan
from lago_python_client.models.subscription import Subscription

from tests.face.running import Server

_NUMBERS = count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("lago") / "data", catalogue=None) as running:
        yield running


@pytest.fixture
def lago(server: Server) -> Client:
    return Client(api_key="not-asked-for", api_url=f"{server.url}/lago/")


def fresh(name: str) -> str:
    """A name that no other test has."""
    return f"{name}-{next(_NUMBERS)}"


def metric(lago: Client, kind: str = "sum_agg", field: str | None = "n", **more: Any) -> Any:
    """A metric of its own."""
    code = fresh("metric").replace("-", "_")
    return lago.billable_metrics.create(
        BillableMetric(name=code.title(), code=code, aggregation_type=kind, field_name=field, **more)
    )


def plan(lago: Client, charges: list[Charge], **more: Any) -> Any:
    """A plan of its own, without a fee."""
    fields = {"name": "Plan", "interval": "monthly", "amount_cents": 0, "amount_currency": "USD"} | more
    return lago.plans.create(Plan(code=fresh("plan"), charges=Charges(__root__=charges), **fields))


def subscribe(lago: Client, plan_code: str, customer: str | None = None, **more: Any) -> tuple[str, str]:
    """A subscription from now on; its customer and its own id."""
    customer, id = customer or fresh("customer"), fresh("sub")
    lago.subscriptions.create(Subscription(external_customer_id=customer, plan_code=plan_code, external_id=id, **more))
    return customer, id


def send(lago: Client, subscription: str, code: str, *properties: dict[str, Any], **more: Any) -> list[str]:
    """Events of now, in one batch; their transactions."""
    ids = [fresh("tx") for _ in properties]
    events = [
        Event(transaction_id=id, external_subscription_id=subscription, code=code, properties=one, **more)
        for id, one in zip(ids, properties, strict=True)
    ]
    lago.events.batch_create(BatchEvent(events=events))
    return ids


def refused(call: Any, *arguments: Any, **named: Any) -> LagoApiError:
    with pytest.raises(LagoApiError) as caught:
        call(*arguments, **named)
    return caught.value


def details(error: LagoApiError) -> Any:
    """The errors by field of a 422."""
    assert error.status_code == 422, error.response
    assert error.response["code"] == "validation_errors"
    return error.response["error_details"]


# From a metric to current usage -------------------------------------------------------------------


def test_the_whole_way_from_a_metric_to_current_usage(server: Server, lago: Client) -> None:
    tokens = metric(lago)
    calls = metric(lago, "count_agg", None)
    tiers = [
        {"from_value": 0, "to_value": 10, "per_unit_amount": "0.5", "flat_amount": "0"},
        {"from_value": 11, "to_value": None, "per_unit_amount": "0.1", "flat_amount": "1"},
    ]
    made = plan(
        lago,
        [
            Charge(billable_metric_id=tokens.lago_id, charge_model="graduated", properties={"graduated_ranges": tiers}),
            Charge(
                billable_metric_id=calls.lago_id,
                charge_model="package",
                properties={"amount": "1", "package_size": 10, "free_units": 5},
                invoice_display_name="API calls",
            ),
        ],
        amount_cents=2000,
        pay_in_advance=True,
        minimum_commitment=MinimumCommitment(amount_cents=5000, invoice_display_name="Commitment"),
    )
    customer = fresh("acme")
    lago.customers.create(Customer(external_id=customer, name="Acme", timezone="Europe/Zurich", currency="USD"))
    customer, subscription = subscribe(lago, made.code, customer)
    # A time in whole seconds, as clients write it, may lie before the second's part in which the subscription began.
    send(lago, subscription, tokens.code, {"n": "12"}, timestamp=int(time.time()))
    send(lago, subscription, calls.code, *[{}] * 20)

    usage = lago.customers.current_usage(customer, subscription)
    assert (usage.amount_cents, usage.total_amount_cents, usage.currency) == (620 + 200, 820, "USD")
    by_code = {one.billable_metric.code: one for one in usage.charges_usage}
    assert (by_code[tokens.code].units, by_code[tokens.code].events_count) == ("12", 1)
    assert by_code[calls.code].amount_cents == 200  # 15 paid calls are two packages
    assert by_code[calls.code].charge.invoice_display_name == "API calls"
    assert usage.to_datetime.endswith("59:59Z")

    # The amounts are the line items', and the documents are ours.
    items = server.get("/v1/line-items", customer=customer, subscription=subscription)["line_items"]
    own = {item["meter"]: item["amount"] for item in items if item["meter"]}
    assert own == {tokens.code: "6.2", calls.code: "2"}
    book = server.get(f"/v1/price-books/{made.code}")["document"]
    assert book["charges"]["subscription_fee"]["price"] == {"model": "flat", "amount": "20"}
    assert book["minimum"] == {"amount": "50", "prorate": True}
    assert server.get(f"/v1/meters/{tokens.code}")["document"]["value"] == "$.n"
    found = lago.plans.find(made.code)
    assert found.amount_cents == 2000
    assert found.minimum_commitment.amount_cents == 5000
    assert found.charges.__root__[0].properties["graduated_ranges"] == tiers


def test_groups_and_filters_of_usage_can_be_asked_for(lago: Client) -> None:
    tokens = metric(lago)
    properties = {"amount": "0.01", "pricing_group_keys": ["region"]}
    made = plan(
        lago,
        [
            Charge(billable_metric_id=tokens.lago_id, charge_model="standard", properties=properties),
            Charge(
                billable_metric_id=tokens.lago_id, charge_model="standard", properties={"amount": "1"}, code="plain"
            ),
        ],
    )
    customer, subscription = subscribe(lago, made.code)
    send(lago, subscription, tokens.code, {"n": 100, "region": "eu"}, {"n": 250, "region": "us"}, {"n": 7})
    usage = lago.customers.current_usage(customer, subscription)
    grouped = {one.grouped_by["region"]: (one.units, one.amount_cents) for one in usage.charges_usage[0].grouped_usage}
    assert grouped == {"eu": ("100", 100), "us": ("250", 250), None: ("7", 7)}
    assert usage.amount_cents == 357 + 35700
    of_one = lago.customers.current_usage(customer, subscription, charge_code="plain")
    assert [one.amount_cents for one in of_one.charges_usage] == [35700]
    of_eu = lago.customers.current_usage(customer, subscription, charge_code=tokens.code, group={"region": "eu"})
    assert (of_eu.amount_cents, of_eu.charges_usage[0].events_count) == (100, 1)


def test_usage_of_two_subscriptions_of_one_customer_is_rated_apart(server: Server, lago: Client) -> None:
    calls = metric(lago, "count_agg", None)
    ranges = [{"from_value": 0, "to_value": 2, "per_unit_amount": "1"}, {"from_value": 3, "per_unit_amount": "0.1"}]
    made = plan(
        lago,
        [Charge(billable_metric_id=calls.lago_id, charge_model="graduated", properties={"graduated_ranges": ranges})],
    )
    customer, first = subscribe(lago, made.code)
    _, second = subscribe(lago, made.code, customer)
    send(lago, first, calls.code, {}, {}, {})
    send(lago, second, calls.code, {})
    assert lago.customers.current_usage(customer, first).amount_cents == 210
    assert lago.customers.current_usage(customer, second).amount_cents == 100
    assert lago.subscriptions.find(second).external_customer_id == customer
    assert server.get(f"/v1/subscriptions/{second}")["document"]["customer"] == f"{customer}/{second}"
    assert customer in [one.external_id for one in lago.customers.find_all(options={"per_page": 1000})["customers"]]


# Models -------------------------------------------------------------------------------------------

_RANGES = [
    {"from_value": 0, "to_value": 10, "per_unit_amount": "2", "flat_amount": "1"},
    {"from_value": 10, "to_value": None, "per_unit_amount": "1", "flat_amount": "0"},
]
_RATES = [
    {"from_value": 0, "to_value": 100, "rate": "10", "flat_amount": "0"},
    {"from_value": 101, "to_value": None, "rate": "2.5", "flat_amount": "3"},
]


@pytest.mark.parametrize(
    ("model", "properties", "values", "cents"),
    [
        ("standard", {"amount": "0.1"}, ["0.1", "0.2"], 3),
        ("standard", {"amount": "0.000001"}, ["9007199254740993"], 900719925474),
        ("graduated", {"graduated_ranges": _RANGES}, ["10", "2"], 2100 + 200),
        ("volume", {"volume_ranges": _RANGES}, ["10", "2"], 1200),
        ("package", {"amount": "5", "package_size": 10, "free_units": 10}, ["11"], 500),
        ("percentage", {"rate": "2.9"}, ["100", "50"], 435),
        ("percentage", {"rate": "1.3", "fixed_amount": "2.0"}, ["50", "100", "250", "400"], 1840),
        (
            "percentage",
            {"rate": "2.99", "fixed_amount": "0", "per_transaction_min_amount": "1.75",
             "per_transaction_max_amount": "12"},
            ["10", "80", "10000"],
            1614,
        ),
        ("percentage", {"rate": "1", "free_units_per_events": 2}, ["100", "100", "100"], 100),
        ("graduated_percentage", {"graduated_percentage_ranges": _RATES}, ["300"], 1000 + 500 + 300),
    ],
)  # fmt: skip
def test_a_charge_model_comes_to_what_it_comes_to_in_lago(
    lago: Client, model: str, properties: dict[str, Any], values: list[str], cents: int
) -> None:
    tokens = metric(lago)
    made = plan(lago, [Charge(billable_metric_id=tokens.lago_id, charge_model=model, properties=properties)])
    customer, subscription = subscribe(lago, made.code)
    send(lago, subscription, tokens.code, *[{"n": value} for value in values])
    usage = lago.customers.current_usage(customer, subscription)
    assert usage.amount_cents == cents
    assert Decimal(usage.charges_usage[0].units) == sum(map(Decimal, values))
    assert usage.charges_usage[0].charge.charge_model == model
    shown = lago.plans.find(made.code).charges.__root__[0]
    again = plan(lago, [Charge(billable_metric_id=tokens.lago_id, charge_model=model, properties=shown.properties)])
    assert lago.plans.find(again.code).charges.__root__[0].properties == shown.properties


def test_a_dynamic_charge_adds_up_the_events_own_amounts(lago: Client) -> None:
    tokens = metric(lago)
    made = plan(lago, [Charge(billable_metric_id=tokens.lago_id, charge_model="dynamic", properties={})])
    customer, subscription = subscribe(lago, made.code)
    [id] = send(lago, subscription, tokens.code, {"n": 1}, precise_total_amount_cents="1234.5")
    send(lago, subscription, tokens.code, {"n": 2}, precise_total_amount_cents="0.5")
    assert lago.customers.current_usage(customer, subscription).amount_cents == 1235
    found = lago.events.find(id)
    assert (found.precise_total_amount_cents, found.properties) == ("1234.5", {"n": 1})


def test_filters_price_what_they_match_and_the_charge_the_rest(lago: Client) -> None:
    filters = BillableMetricFilters(
        __root__=[
            BillableMetricFilter(key="model", values=["large", "small"]),
            BillableMetricFilter(key="kind", values=["in", "out"]),
        ]
    )
    tokens = metric(lago, filters=filters)
    assert lago.billable_metrics.find(tokens.code).filters == filters
    given = [
        {"values": {"model": ["large"], "kind": ["out"]}, "properties": {"amount": "1"}},
        {"values": {"model": ["__ALL_FILTER_VALUES__"]}, "properties": {"amount": "0.1"}},
    ]
    charge = {"charge_model": "standard", "properties": {"amount": "0.01"}, "filters": given}
    made = plan(lago, [Charge(billable_metric_id=tokens.lago_id, **charge)])
    customer, subscription = subscribe(lago, made.code)
    uses = [("large", "out"), ("large", "in"), ("small", "out"), ("other", "out")]
    send(lago, subscription, tokens.code, *[{"n": 1, "model": model, "kind": kind} for model, kind in uses])
    assert lago.customers.current_usage(customer, subscription).amount_cents == 100 + 10 + 10 + 1
    [shown] = lago.plans.find(made.code).charges.__root__
    assert shown.properties == {"amount": "0.01"}
    assert shown.filters.__root__[0].values == {"model": ["large"], "kind": ["out"]}


@pytest.mark.parametrize(
    ("kind", "values", "units"),
    [
        ("sum_agg", [1, "2.5", -1], "2.5"),
        ("max_agg", [3, 9, 4], "9"),
        ("latest_agg", [3, 9, 4], "4"),
        ("unique_count_agg", ["a", "b", "a"], "2"),
        ("count_agg", [1, 1, 1], "3"),
    ],
)
def test_an_aggregation_comes_to_its_units(lago: Client, kind: str, values: list[Any], units: str) -> None:
    made = metric(lago, kind, None if kind == "count_agg" else "odd name's")
    code = plan(
        lago, [Charge(billable_metric_id=made.lago_id, charge_model="standard", properties={"amount": "1"})]
    ).code
    customer, subscription = subscribe(lago, code)
    send(lago, subscription, made.code, *[{"odd name's": value} for value in values])
    assert lago.customers.current_usage(customer, subscription).charges_usage[0].units == units
    assert lago.billable_metrics.find(made.code).aggregation_type == kind


def test_a_weighted_sum_is_a_gauge_over_the_period(server: Server, lago: Client) -> None:
    made = metric(lago, "weighted_sum_agg", "gib", recurring=True, weighted_interval="seconds")
    code = plan(
        lago, [Charge(billable_metric_id=made.lago_id, charge_model="standard", properties={"amount": "100"})]
    ).code
    month = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    next_month = (month + timedelta(days=32)).replace(day=1)
    middle = int((month + (next_month - month) / 2).timestamp())
    start = month.date().isoformat()
    customer, subscription = subscribe(lago, code, subscription_at=start, billing_time="anniversary")
    send(lago, subscription, made.code, {"gib": 2}, timestamp=int(month.timestamp()))
    send(lago, subscription, made.code, {"gib": -1}, timestamp=middle)
    document = server.get(f"/v1/meters/{made.code}")["document"]
    assert (document["aggregate"], document["reads"], document["unit"]) == ("time_weighted", "change", "period")
    usage = lago.customers.current_usage(customer, subscription)
    assert usage.from_datetime == f"{start}T00:00:00Z"
    assert usage.charges_usage[0].units == "1"  # two for half of the period


def test_an_expression_and_a_rounding_are_kept(lago: Client) -> None:
    made = metric(
        lago,
        expression="event.properties.a * 3 + event.properties.b",
        rounding_function="ceil",
        rounding_precision=0,
    )
    code = plan(
        lago, [Charge(billable_metric_id=made.lago_id, charge_model="standard", properties={"amount": "1"})]
    ).code
    customer, subscription = subscribe(lago, code)
    send(lago, subscription, made.code, {"a": 1, "b": "0.2"})
    assert lago.customers.current_usage(customer, subscription).charges_usage[0].units == "4"
    found = lago.billable_metrics.find(made.code)
    assert (found.expression, found.rounding_function) == ("$.a * 3 + $.b", "ceil")


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
