"""Lago's and Stripe's doors where something is missing: a log that takes nothing, a process that keeps no store."""

import asyncio
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import stripe
from lago_python_client import Client
from lago_python_client.exceptions import LagoApiError
from lago_python_client.models.event import BatchEvent, Event

from ingest.compat.answering import Refused
from ingest.compat.stripe.replays import Replays
from ingest.compat.stripe.sessions import LIFETIME_S, Sessions
from ingest.door import DoorSettings
from schemas.times import DAY, SECOND
from taximeter.embedded import Embedded, EmbeddedSettings
from taximeter.http import make_app, running
from tests.end_to_end.processes import Processes

EVENT = Event(transaction_id="t", external_subscription_id="s", code="c")
BOOK = "meters: {calls: {event: calls, aggregate: count}}\n"


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    with Processes(tmp_path) as running_ones:
        yield running_ones


def stripe_client(url: str) -> stripe.StripeClient:
    return stripe.StripeClient("sk_test", base_addresses={"api": f"{url}/stripe", "meter_events": f"{url}/stripe"})


def stripe_event(**more: Any) -> dict[str, Any]:
    return {"event_name": "calls", "payload": {"stripe_customer_id": "cus_1"}, **more}


async def with_full_log(tmp_path: Path, call: Callable[[str], Any]) -> Any:
    """What a call of a client comes to where the log has no room for anything."""
    settings = EmbeddedSettings(data=tmp_path / "data", door=DoorSettings(waiting_events_max=0, retry_after_seconds=7))
    async with Embedded(settings) as parts, running(make_app(parts.routes(), parts.ready), "127.0.0.1", 0) as url:
        await asyncio.to_thread(httpx.post, f"{url}/stripe/v1/billing/meters", data={
            "display_name": "Calls", "event_name": "calls", "default_aggregation[formula]": "count"})  # fmt: skip
        return await asyncio.to_thread(call, url)


async def test_lagos_client_is_told_to_wait_for_a_log_that_takes_nothing(tmp_path: Path) -> None:
    def call(url: str) -> list[LagoApiError]:
        lago = Client(api_key="k", api_url=f"{url}/lago/")
        found = []
        for send in (lambda: lago.events.create(EVENT), lambda: lago.events.batch_create(BatchEvent(events=[EVENT]))):
            with pytest.raises(LagoApiError) as caught:
                send()
            found.append(caught.value)
        return found

    for error in await with_full_log(tmp_path, call):
        assert (error.status_code, error.response["status"]) == (503, 503)
        assert error.headers is not None
        assert (error.headers["x-ratelimit-reset"], error.headers["retry-after"]) == ("7", "7")


async def test_stripes_client_tries_again_where_the_log_takes_nothing(tmp_path: Path) -> None:
    def call(url: str) -> stripe.StripeError:
        with pytest.raises(stripe.StripeError) as caught:
            stripe_client(url).v1.billing.meter_events.create(stripe_event())
        return caught.value

    error = await with_full_log(tmp_path, call)
    assert isinstance(error, stripe.APIError)
    assert error.http_status == 503
    assert error.headers is not None
    assert (error.headers["stripe-should-retry"], error.headers["retry-after"]) == ("true", "7")


@pytest.mark.kafka
@pytest.mark.slow
def test_a_door_without_a_store_takes_events_and_says_who_answers(
    kafka_bootstrap: str, processes: Processes, tmp_path: Path
) -> None:
    (tmp_path / "book.yaml").write_text(BOOK)
    kafka = ("--bootstrap", kafka_bootstrap, "--prefix", f"compat-{uuid.uuid4().hex[:8]}.", "--partitions", 2)
    started = processes.start("ingest", "ingest", "--port", 0, "--catalogue", tmp_path / "book.yaml", *kafka)
    url = processes.ready(started)
    lago, stripes = Client(api_key="k", api_url=f"{url}/lago/"), stripe_client(url)

    assert lago.events.create(EVENT).transaction_id == "t"
    with pytest.raises(LagoApiError) as known:
        lago.events.create(EVENT)
    assert known.value.status_code == 422
    with pytest.raises(LagoApiError) as unanswered:
        lago.events.find("t")
    assert unanswered.value.status_code == 501
    assert "taximeter spend" in unanswered.value.response["detail"]

    made = stripes.v1.billing.meters.create(
        {"display_name": "N", "event_name": "n", "default_aggregation": {"formula": "sum"}}
    )
    sent = {"event_name": "n", "payload": {"stripe_customer_id": "cus_1", "value": "3"}}
    assert stripes.v1.billing.meter_events.create(sent).payload["value"] == "3"
    with pytest.raises(stripe.StripeError) as summaries:
        stripes.v1.billing.meters.event_summaries.list(made.id, {"customer": "cus_1", "start_time": 0, "end_time": 60})
    assert summaries.value.http_status == 501

    # A meter that another process has made is known as soon as an event names it.
    other = processes.ready(processes.start("ingest", "ingest", "--port", 0, *kafka))
    stripes.v1.billing.meters.create(
        {"display_name": "M", "event_name": "m", "default_aggregation": {"formula": "sum"}}
    )
    taken = stripe_client(other).v1.billing.meter_events.create({**sent, "event_name": "m"})
    assert taken.event_name == "m"

    # The other half: a process with a store, which takes nothing.
    spend = processes.ready(processes.start("spend", "spend", "--port", 0, "--data", "spend", *kafka))
    with pytest.raises(stripe.StripeError) as not_taken:
        stripe_client(spend).v1.billing.meter_events.create(sent)
    assert not_taken.value.http_status == 501
    with pytest.raises(LagoApiError) as neither:
        Client(api_key="k", api_url=f"{spend}/lago/").events.create(EVENT)
    assert neither.value.status_code == 501
    now = int(time.time()) // 60 * 60
    asked: Any = {"customer": "cus_1", "start_time": now - 3600, "end_time": now + 120}

    def summed() -> bool:
        [summary] = stripe_client(spend).v1.billing.meters.event_summaries.list(made.id, asked).data
        return summary.aggregated_value == 3

    processes.until(summed, "the event that the door took is in the store", 60)
    assert Client(api_key="k", api_url=f"{spend}/lago/").events.find("t").code == "c"


# What a process remembers -------------------------------------------------------------------------


def test_a_session_is_of_one_tenant_and_ends() -> None:
    sessions, now = Sessions(), 1_795_000_000 * SECOND
    session = sessions.open("acme", now)
    assert session.expires == now + LIFETIME_S * SECOND
    assert sessions.tenant_of(session.token, session.expires - 1) == "acme"
    head, _, signature = session.token.partition(".")
    other = sessions.open("other", now).token.partition(".")[0]
    for token in (f"{other}.{signature}", head, f"{head}.", f"{head}.{signature[:-2]}", "", "mes_.", "ü"):
        with pytest.raises(Refused):
            sessions.tenant_of(token, now)
    for holder, at in ((sessions, session.expires), (Sessions(), now)):
        with pytest.raises(Refused):
            holder.tenant_of(session.token, at)
    shared = b"s" * 32
    assert Sessions(shared).tenant_of(Sessions(shared).open("acme", now).token, now) == "acme"


def test_a_key_is_remembered_for_a_day_by_its_tenant() -> None:
    now = [0]
    replays = Replays(lambda: now[0], remembered=2)
    assert replays.begin("a", "k", "/p", b"body") is None
    with pytest.raises(Refused):  # it is still being answered
        replays.begin("a", "k", "/p", b"body")
    replays.end("a", "k", b"answer")
    assert replays.begin("a", "k", "/p", b"body") == b"answer"
    assert replays.begin("b", "k", "/p", b"other") is None  # another tenant's key of the same name
    for path, body in (("/p", b"other"), ("/q", b"body")):
        with pytest.raises(Refused):
            replays.begin("a", "k", path, body)
    now[0] = DAY
    assert replays.begin("a", "k", "/p", b"other") is None
    replays.forget("a", "k")
    assert replays.begin("a", "k", "/p", b"third") is None
    replays.begin("a", "k2", "/p", b"")
    replays.end("a", "k2", b"x" * 5000)  # too long to be remembered: it is done again, under the same identities
    assert replays.begin("a", "k2", "/p", b"") is None
