"""One trace shows an event's way from the request to the invoice: `taximeter serve` and a real OTLP receiver."""

import time
from pathlib import Path
from typing import Any

import pytest

from tests.face.running import Server, event
from tests.tracing.collector import Collector, Seen

BOOK = """
meters:
  tokens: {event: llm.request, aggregate: sum, value: $.tokens}
price_books:
  launch:
    currency: USD
    charges: {tokens: {meter: tokens, price: {model: unit, unit_amount: "0.01"}}}
    thresholds: [{spend: 10}]
default_subscription: {price_book: launch, period: month}
"""
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
OF_EVENT = "11111111111111111111111111111111"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans go out ten times a second."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")


def names(spans: list[Seen]) -> set[str]:
    return {span.name for span in spans}


def child_of(spans: list[Seen], name: str) -> str:
    """The name of a span's parent in the same trace; empty for one that came from outside."""
    by_id = {span.span: span.name for span in spans}
    return next(by_id.get(span.parent, "") for span in spans if span.name == name)


def test_one_trace_goes_from_the_request_to_the_invoice(tmp_path: Path) -> None:
    with Collector() as collector, Server(tmp_path / "data", "--otlp", collector.url, catalogue=BOOK) as server:
        crossing = event("e2", subject="acme-secret", data='{"tokens": 2000}')
        answer = server.post("\n".join([event("e1", subject="acme-secret"), crossing]), traceparent=PARENT)
        assert answer.status_code == 200, answer.text
        server.get("/v1/invoices", answer.json()["position"], customer="acme-secret")
        expected = {"POST /v1/events", "parse", "route", "append", "rate", "emit invoice", "emit alert",
                    "emit line item", "include in spend"}  # fmt: skip
        collector.until(lambda: names(collector.of(TRACE)) == expected, "the whole trace")
        spans = collector.of(TRACE)
        assert {name: child_of(spans, name) for name in sorted(expected)} == {
            "POST /v1/events": "",
            "append": "POST /v1/events",
            "emit alert": "rate",
            "emit invoice": "rate",
            "emit line item": "rate",
            "include in spend": "append",
            "parse": "POST /v1/events",
            "rate": "append",
            "route": "POST /v1/events",
        }
        of = {span.name: span for span in spans}
        assert of["POST /v1/events"].parent == "00f067aa0ba902b7"
        assert of["POST /v1/events"].attributes["http.response.status_code"] == 200
        invoice = server.get("/v1/invoices", customer="acme-secret")["invoices"][0]
        assert of["emit invoice"].attributes["taximeter.id"] == invoice["id"]
        [step] = [one for one in collector.spans if one.name == "step" and TRACE in one.links]
        assert step.trace != TRACE and step.attributes["taximeter.invoices"] == 1
        assert of["rate"].links == [step.trace]
        assert all(span.begun_ns <= span.ended_ns for span in spans)
        assert {span.service for span in spans} == {"taximeter-serve"}
        assert server.stop()[0] == 0
        assert not any(b"acme-secret" in body or b"e2" in body.split() for body in collector.bodies)


def test_an_event_brings_a_trace_of_its_own(tmp_path: Path) -> None:
    with Collector() as collector, Server(tmp_path / "data", "--otlp", collector.url, catalogue=BOOK) as server:
        own = f"00-{OF_EVENT}-2222222222222222-01"
        crossing = event("e2", subject="acme", data='{"tokens": 2000}', traceparent=own)
        server.post("\n".join([event("e1", subject="acme"), crossing, event("e3", subject="acme")]), traceparent=PARENT)
        collector.until(lambda: "include in spend" in names(collector.of(OF_EVENT)), "the event's own trace")
        spans = collector.of(OF_EVENT)
        assert {"accept", "rate", "emit invoice", "emit alert"} <= names(spans)
        assert next(span.links for span in spans if span.name == "accept") == [TRACE]
        assert "emit invoice" not in names(collector.of(TRACE)), "the other events did not cause it"


def test_what_nobody_samples_is_not_traced(tmp_path: Path) -> None:
    with Collector() as collector, Server(tmp_path / "data", "--otlp", collector.url, catalogue=BOOK) as server:
        first = server.post(event("e1", subject="acme"), traceparent=PARENT[:-1] + "0").json()
        second = server.post(event("e2", subject="acme"), traceparent=PARENT).json()
        server.get("/v1/line-items", second["position"])
        collector.until(lambda: "include in spend" in names(collector.of(TRACE)), "the sampled one")
        assert len([span for span in collector.of(TRACE) if span.name == "append"]) == 1
        assert first["accepted"] == second["accepted"] == 1


def test_a_rejection_is_in_the_trace_of_its_event(tmp_path: Path) -> None:
    with Collector() as collector, Server(tmp_path / "data", "--otlp", collector.url, catalogue=BOOK) as server:
        server.post(event("e1", subject="acme", data='{"tokens": "lots"}'), traceparent=PARENT)
        collector.until(lambda: "emit rejection" in names(collector.of(TRACE)), "the rejection")
        [span] = [span for span in collector.of(TRACE) if span.name == "emit rejection"]
        assert span.attributes == {"taximeter.code": "invalid_value"}


def test_a_collector_that_is_not_there_holds_nothing_up(tmp_path: Path) -> None:
    with Server(tmp_path / "data", "--otlp", "http://127.0.0.1:1", catalogue=BOOK) as server:
        position = server.send([event(f"e{n}", subject="acme") for n in range(50)])
        assert server.get("/v1/line-items", position)["line_items"][0]["events"] == 50
        begun = time.monotonic()
        assert server.stop()[0] == 0
        assert time.monotonic() - begun < 20


def test_the_standard_environment_turns_it_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_SERVICE_NAME", "billing")
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
        with Server(tmp_path / "off", catalogue=BOOK) as server:
            server.send([event("e1", subject="acme")])
            assert server.stop()[0] == 0
        assert not collector.spans
        monkeypatch.delenv("OTEL_TRACES_SAMPLER")
        with Server(tmp_path / "on", catalogue=BOOK) as server:
            server.send([event("e1", subject="acme")])
            assert server.stop()[0] == 0
        assert {span.service for span in collector.spans} == {"billing"}
        assert "POST /v1/events" in names(collector.spans), "what waits at the end is sent"


@pytest.mark.parametrize(
    ("words", "environment", "said"),
    [
        (["--otlp", "collector:4318"], {}, "--otlp: found 'collector:4318', expected a URL"),
        (["--otlp", "http://127.0.0.1:1"], {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "expected http/protobuf"),
    ],
    ids=["url", "protocol"],
)
def test_a_wrong_setting_is_refused(words: list[str], environment: dict[str, str], said: str, tmp_path: Path,
                                    monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(AssertionError, match=f"ended with 2: .*{said}"), Server(tmp_path / "data", *words):
        pass


def test_traces_change_no_output(tmp_path: Path) -> None:
    """The same requests with and without traces: the same outputs, byte for byte."""
    found: list[Any] = []
    with Collector() as collector:
        for name, options in (("off", []), ("on", ["--otlp", collector.url])):
            with Server(tmp_path / name, *options, "--max-ahead", "0", catalogue=BOOK) as server:
                events = [event(f"e{n}", subject=f"c{n % 3}", data='{"tokens": 150}') for n in range(60)]
                position = ""
                for start in range(0, 60, 20):
                    body = "\n".join(events[start : start + 20])
                    position = server.post(body, traceparent=PARENT).json()["position"]
                    server.get("/v1/line-items", position)
                listed = [server.listing(kind, position) for kind in ("line-items", "invoices")]
                found.append([*listed, server.get("/v1/alerts")["alerts"]])
        assert collector.spans
    assert found[0] == found[1] and found[0][1]
