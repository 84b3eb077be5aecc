"""What running processes log: a JSON object a line where it is asked for, and never what an event or customer says."""

import json
import logging
import sqlite3
import time
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from streams.redact import safe_message, stack_of
from taximeter.logs import JsonFormatter, TextFormatter
from tests.end_to_end.kafka import Deployment
from tests.end_to_end.processes import Processes, free_port
from tests.face.running import TAXIMETER, Server, event, taximeter

MARKS = ("mark-customer", "mark-subject", "mark-source", "mark-id", "mark-data", "mark-key", "mark-document")
BOOK = """
meters:
  tokens: {event: llm.request, aggregate: sum, value: $.tokens, dimensions: {model: $.model}}
price_books:
  launch:
    currency: USD
    charges: {tokens: {meter: tokens, group_by: [model], price: {model: unit, unit_amount: "1"}}}
    thresholds: [{spend: 10}]
customers:
  mark-customer: {subjects: [mark-subject]}
default_subscription: {price_book: launch, period: month}
"""


def used(number: int, **changes: Any) -> str:
    marked = {"source": "mark-source", "subject": "mark-subject", "data": '{"tokens": 7, "model": "mark-data"}'}
    return event(f"mark-id-{number}", **(marked | changes))


def trouble(door: str, spend: str) -> None:
    """Everything that a client can do wrong, and some things that it does right."""
    with httpx.Client(timeout=30, headers={"authorization": "Bearer mark-key"}) as client:
        lines = {"content-type": "application/x-ndjson"}
        good = [used(1), used(2), used(1), used(2, data='{"tokens": 8, "model": "mark-data"}')]
        wrong = [
            used(3, data='{"tokens": "mark-data"}'),
            used(4, data="{}"),
            used(5, time="mark-data"),
            used(6, source=...),
            used(7, subject="mark-subject !"),
            '{"mark-data": ',
        ]
        answer = client.post(f"{door}/v1/events", content="\n".join([*good, *wrong]), headers=lines).json()
        assert answer["accepted"] == 4 and answer["rejected"] > 2, answer
        client.post(f"{door}/v1/events", content=b"mark-data", headers={"content-type": "mark/data"})
        client.post(f"{door}/v1/events", content=b"\xffmark-data", headers={"content-type": "application/json"})
        client.post(f"{door}/v1/ticks", json={"time": "mark-data"})
        client.post(f"{door}/v1/rejections/resend", json={"rejections": [{"id": "mark-id"}]})
        client.put(f"{door}/v1/customers/mark-document", json={"subjects": ["mark-subject"]})
        client.put(f"{door}/v1/price-books/mark-document", json={"currency": "mark-data"})
        client.post(f"{door}/v1/rerate", json={"customer": "mark-customer", "from": "mark-data"})
        wait = {"position": answer["position"], "wait_ms": "30000"}
        found = client.get(f"{spend}/v1/customers/mark-customer/spend", params=wait)
        assert found.status_code == 200 and found.json()["currencies"], found.text
        for path in ("customers/mark-customer/usage?meter=mark-data", "customers/mark-customer/costs?by=mark-data",
                     "invoices/mark-id", "rejections/mark-id", "line-items?customer=mark-customer&cursor=mark-data",
                     "customers/mark-customer/spend?period=mark-data", "mark-data"):  # fmt: skip
            client.get(f"{spend}/v1/{path}")


def assert_silent(log: str, name: str) -> None:
    assert log, f"{name} logged something"
    said = [line[:300] for line in log.splitlines() if any(mark in line for mark in MARKS)]
    assert not said, f"{name}: {said}"


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_server_says_nothing_of_anybody(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.face.running.TAXIMETER", [*TAXIMETER, "--log-level", "debug", "--log-format", form])
    hooks = tmp_path / "hooks.yaml"
    secret = "whsec_bWFyay1rZXltYXJrLWtleW1hcmsta2V5bWFyay1rZXk="
    hooks.write_text(f"endpoints: {{one: {{url: 'http://127.0.0.1:9/mark-key', secrets: [{secret}]}}}}")
    with Server(tmp_path / "data", "--webhooks", hooks, catalogue=BOOK) as server:
        trouble(server.url, server.url)
        with sqlite3.connect(tmp_path / "data" / "webhooks.sqlite") as queue:  # the last try of all
            queue.execute("UPDATE messages SET attempts = 100, due = 0")
        _until(lambda: "dead letter" in server.complaints())
        assert server.stop()[0] == 0
        assert_silent(server.complaints(), "serve")
        if form == "json":
            lines = [json.loads(line) for line in server.complaints().splitlines()]
            assert all(line.keys() >= {"time", "level", "logger", "message"} for line in lines)
            assert {"info", "error"} <= {line["level"] for line in lines}


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(200)
def test_the_processes_on_kafka_say_nothing_of_anybody(
    kafka_bootstrap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "book.yaml").write_text(BOOK)
    monkeypatch.setattr("tests.end_to_end.processes.WORDS", ("--log-level", "debug", "--log-format", "json"))
    with Processes(tmp_path) as processes:
        deployment = Deployment(kafka_bootstrap, processes, tmp_path / "book.yaml")
        trouble(deployment.door, deployment.spend)
        deployment.produce([used(20), used(21, data='{"tokens": "mark-data"}'), used(22, time="mark-data")])
        time.sleep(1)
        for process in processes.all:
            process.stop()
            assert_silent(process.log, process.name)
            assert all(isinstance(json.loads(line), dict) for line in process.log.splitlines())


def test_a_complaint_is_json_too(tmp_path: Path) -> None:
    port = free_port()
    done = taximeter("--log-format", "json", "serve", "--data", tmp_path / "data", "--otlp", f"{port}", cwd=tmp_path)
    assert done.returncode == 2
    [line] = [json.loads(line) for line in done.stderr.splitlines()]
    assert line["level"] == "error" and line["message"].startswith("--otlp: found")


def test_an_exception_of_others_is_named_and_not_quoted() -> None:
    def fail() -> None:
        try:
            msgspec.json.decode(b'"mark-data"', type=int)
        except msgspec.MsgspecError as error:
            raise AssertionError("found 3 lines, expected 4") from error

    try:
        {}["mark-customer"]
    except KeyError as error:
        assert safe_message(error) == "KeyError" and "mark" not in stack_of(error).replace('{}["mark-customer"]', "")
    try:
        fail()
    except AssertionError as error:
        text = stack_of(error)
        assert "AssertionError: found 3 lines, expected 4" in text and "msgspec.ValidationError" in text
        assert "Expected `int`" not in text and "test_logs.py" in text
        record = logging.LogRecord("x", logging.ERROR, "", 1, "no answer", None, (AssertionError, error, None))
        line = json.loads(JsonFormatter().format(record))
        assert line["error"] == {"type": "AssertionError", "stack": text}
        assert text in TextFormatter().format(record)
    never = logging.LogRecord("asyncio", logging.ERROR, "", 1, "Task failed\nfuture: KeyError('mark-id')", None, None)
    assert "mark" not in TextFormatter().format(never) + JsonFormatter().format(never)


def _until(condition: Any) -> None:
    deadline = time.monotonic() + 40
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
