"""What tests of Lago's door share: documents and events by Lago's own client, each under a name of its own."""

from itertools import count
from typing import Any

import pytest
from lago_python_client import Client
from lago_python_client.exceptions import LagoApiError
from lago_python_client.models.billable_metric import BillableMetric
from lago_python_client.models.charge import Charge, Charges
from lago_python_client.models.event import BatchEvent, Event
from lago_python_client.models.plan import Plan
from lago_python_client.models.subscription import Subscription

_NUMBERS = count(1)

_NUMBERS = count(1)


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
