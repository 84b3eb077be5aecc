"""One trace over four processes and a real broker: `ingest`, `rate` and `spend`, joined by the log alone."""

from pathlib import Path

import httpx
import pytest

from tests.end_to_end.kafka import Deployment
from tests.end_to_end.processes import Processes
from tests.face.running import event
from tests.tracing.collector import Collector
from tests.tracing.test_embedded_traces import BOOK, OF_EVENT, PARENT, TRACE, child_of, names

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


@pytest.mark.timeout(200)
def test_one_trace_goes_over_all_processes(
    kafka_bootstrap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "book.yaml").write_text(BOOK)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    with Collector() as collector, Processes(tmp_path) as processes:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        deployment = Deployment(kafka_bootstrap, processes, tmp_path / "book.yaml")
        body = "\n".join(event(f"e{n}", subject="acme", data='{"tokens": 300}') for n in range(5))
        headers = {"content-type": "application/x-ndjson", "traceparent": PARENT}
        answer = httpx.post(deployment.door + "/v1/events", content=body, headers=headers, timeout=30)
        assert answer.status_code == 200, answer.text
        wait = {"position": answer.json()["position"], "wait_ms": 30_000}
        [invoice] = httpx.get(deployment.spend + "/v1/invoices", params=wait, timeout=40).json()["invoices"]

        wanted = {"emit invoice", "emit alert", "emit line item", "include in spend"}
        collector.until(lambda: wanted <= names(collector.of(TRACE)), "the whole trace")
        spans = collector.of(TRACE)
        services = {span.name: span.service.removeprefix("taximeter-") for span in spans}
        assert services == {
            "POST /v1/events": "ingest",
            "parse": "ingest",
            "route": "ingest",
            "append": "ingest",
            "rate": "rate",
            "emit invoice": "rate",
            "emit alert": "rate",
            "emit line item": "rate",
            "include in spend": "spend",
        }
        assert [child_of(spans, name) for name in ("append", "rate", "emit invoice", "include in spend")] == [
            "POST /v1/events", "append", "rate", "append"
        ]  # fmt: skip
        assert next(s.attributes["taximeter.id"] for s in spans if s.name == "emit invoice") == invoice["id"]

        own = f"00-{OF_EVENT}-2222222222222222-01"  # another program writes to Kafka itself
        deployment.produce([event("j1", subject="beta", data='{"tokens": 5000}', traceparent=own)])
        wanted = {"rate", "emit invoice", "include in spend"}
        collector.until(lambda: wanted <= names(collector.of(OF_EVENT)), "the trace that an event brings")
        for process in processes.all:
            process.stop()
