"""From a metric to current usage, by Lago's Python client as it is, against a running `taximeter serve`."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from lago_python_client import Client
from lago_python_client.models.billable_metric import BillableMetricFilter, BillableMetricFilters
from lago_python_client.models.charge import Charge
from lago_python_client.models.customer import Customer
from lago_python_client.models.minimum_commitment import MinimumCommitment

from tests.compat.lago_sdk import fresh, metric, plan, send, subscribe
from tests.face.running import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("lago") / "data", catalogue=None) as running:
        yield running


@pytest.fixture
def lago(server: Server) -> Client:
    return Client(api_key="not-asked-for", api_url=f"{server.url}/lago/")


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
