"""The parts of the webhooks: signatures, endpoints, the queue, the messages that records make."""

from pathlib import Path

import msgspec
import pytest

from downstream.notifications.endpoints import Endpoint, EndpointsError, load_endpoints
from downstream.notifications.follow import message_of
from downstream.notifications.queue import Counts, Queue, QueueRefused
from downstream.notifications.sender import RETRIES_S
from downstream.notifications.signing import SecretError, make_secret, read_secret, sign
from schemas import topics
from schemas.output import ReconciliationAlert
from streams.log import TopicRecord
from tests.notifications.receiver import SECRET

WHERE = {(topics.INVOICES, 0): 1}


def endpoint(**changes: object) -> Endpoint:
    return msgspec.convert({"url": "https://example.com/hook", "secrets": [SECRET]} | changes, Endpoint)


def record(topic: str, output: dict[str, object]) -> TopicRecord:
    return TopicRecord(topic, 0, 7, 8, b"key", msgspec.json.encode(output))


def test_the_signature_is_that_of_the_specification() -> None:
    # The worked example of the Standard Webhooks specification's libraries.
    found = sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}', [SECRET])
    assert found == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    two = sign("m", 1, b"", [make_secret(), SECRET])["webhook-signature"].split(" ")
    assert len(two) == 2 and two[1] == sign("m", 1, b"", [SECRET])["webhook-signature"]


@pytest.mark.parametrize("text", ["", "whsec_", "whsec_c2hvcnQ=", "whsec_not base64!", SECRET.removeprefix("whsec_")])
def test_what_is_no_secret_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(SecretError) as refused:
        read_secret(text)
    assert len(text) < 8 or text.removeprefix("whsec_") not in str(refused.value)


def test_every_fault_of_a_file_is_named_with_its_path(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.yaml"
    path.write_text(
        "endpoints:\n"
        "  a b: {url: 'ftp://x', secrets: []}\n"
        f"  good: {{url: 'https://example.com', secrets: [{SECRET}], events: [invoice, alert.low_balance]}}\n"
        "  bad: {url: 'https://example.com', secrets: [whsec_x], events: [refund], start: later, timeout_s: 0}\n"
    )
    with pytest.raises(EndpointsError) as refused:
        load_endpoints(path)
    assert [line.removeprefix(f"{path}: ").split(":")[0] for line in str(refused.value).splitlines()] == [
        "endpoints.a b",
        "endpoints.a b.url",
        "endpoints.a b.secrets",
        "endpoints.bad.secrets[0]",
        "endpoints.bad.events[0]",
        "endpoints.bad.start",
        "endpoints.bad.timeout_s",
    ]
    path.write_text("endpoints: {a: {url: 'https://example.com', secrets: [], color: red}}")
    with pytest.raises(EndpointsError, match=r"color.*endpoints\[\.\.\.\]"):
        load_endpoints(path)


def test_a_record_is_a_message_for_those_who_want_it() -> None:
    invoice = record(topics.INVOICES, {"id": "in_1", "revision": 2, "status": "issued", "customer": "acme"})
    alert = record(topics.ALERTS, {"id": "al_1", "kind": "budget", "customer": "acme"})
    line = record(topics.LINE_ITEMS, {"id": "li_1", "revision": 3, "customer": "acme"})
    everything = endpoint(events=["invoice", "alert", "line_item"])
    assert message_of(everything, invoice) == (
        "in_1.2",
        "invoice.issued",
        b'{"type":"invoice.issued","data":' + invoice.value + b"}",
    )
    assert [(found := message_of(everything, r)) and found[:2] for r in (alert, line)] == [
        ("al_1", "alert.budget"),
        ("li_1.3", "line_item.changed"),
    ]
    wanted = [
        [message_of(one, r) is not None for r in (invoice, alert, line)]
        for one in (
            endpoint(),
            endpoint(events=["alert.budget"]),
            endpoint(events=["alert.threshold"]),
            endpoint(events=["line_item.changed"]),
            endpoint(customers=["beta"]),
            endpoint(customers=["acme"]),
        )
    ]
    assert wanted == [
        [True, True, False],
        [False, True, False],
        [False, False, False],
        [False, False, True],
        [False, False, False],
        [True, True, False],
    ]
    assert message_of(everything, TopicRecord(topics.INVOICES, 0, 7, 8, b"key", b"")) is None


def test_a_message_is_there_once_and_its_position_with_it(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "queue.sqlite")
    assert queue.positions("one") == {}
    for _ in range(2):
        queue.add("one", [("in_1", "invoice.issued", b"1"), ("in_2", "invoice.issued", b"2")], WHERE, 100.0)
    queue.add("two", [("in_1", "invoice.issued", b"1")], WHERE, 100.0)
    queue.close()
    queue = Queue(tmp_path / "queue.sqlite")
    assert queue.positions("one") == WHERE
    assert [message.id for message in queue.due("one", 100.0, 9)] == ["in_1", "in_2"]
    assert queue.due("one", 99.0, 9) == [] and queue.next_due("one") == 100.0

    first, second = queue.due("one", 100.0, 9)
    queue.delivered(first)
    queue.failed(second, "500 no", 105.0)
    assert queue.due("one", 104.0, 9) == []
    (again,) = queue.due("one", 105.0, 9)
    assert (again.id, again.attempts, again.error, again.body) == ("in_2", 1, "500 no", b"2")
    queue.failed(again, "410 gone", None)
    assert queue.counts() == {"one": Counts(0, 1, 1), "two": Counts(1, 0, 0)}
    assert [(m.id, m.attempts, m.error) for m in queue.dead()] == [("in_2", 2, "410 gone")]
    queue.add("one", [("in_2", "invoice.issued", b"2")], WHERE, 200.0)
    assert queue.next_due("one") is None, "a dead letter is not brought back by its record"
    assert queue.replay(300.0, "two") == queue.replay(300.0, None, "in_1") == 0
    assert queue.replay(300.0, "one", "in_2") == 1
    assert [(m.id, m.attempts) for m in queue.due("one", 300.0, 9)] == [("in_2", 0)]


def test_a_queue_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "queue.sqlite")
    queue._execute("PRAGMA user_version = 2")
    queue.close()
    with pytest.raises(QueueRefused, match="found version 2, expected 1 at most"):
        Queue(tmp_path / "queue.sqlite")


def test_tries_go_on_for_three_days() -> None:
    assert 3 <= sum(RETRIES_S) / 86400 <= 4


def test_what_the_engine_says_of_itself_goes_to_those_who_name_it_and_to_no_customer() -> None:
    alert = ReconciliationAlert(
        id="rc_1", kind="reconciliation", partition=0, position=9, what="events", expected="1", found="2", message="…"
    )
    told = TopicRecord(topics.ALERTS, 0, 7, 8, b"rc_1", msgspec.json.encode(alert))
    assert message_of(endpoint(), told) is None
    assert message_of(endpoint(events=["alert"]), told) is None
    assert message_of(endpoint(events=["alert.reconciliation"], customers=["acme"]), told) is None
    found = message_of(endpoint(events=["alert.reconciliation"]), told)
    assert found is not None and found[:2] == ("rc_1", "alert.reconciliation")
