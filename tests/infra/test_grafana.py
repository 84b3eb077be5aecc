"""The dashboard and the alert rules: every metric and label in them is one that the running processes show."""

import base64
import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.end_to_end.kafka import Deployment
from tests.end_to_end.processes import Processes, free_port
from tests.face.running import ROOT, Server, event
from tests.infra.promql import PromqlError, Selector, selectors

FOLDER = ROOT / "infra" / "grafana"
DASHBOARD = json.loads((FOLDER / "dashboard.json").read_text())
RULES = [rule for group in yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"] for rule in group["rules"]]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = {
    **{f"{p['title']} {t['refId']} {p['id']}": t["expr"] for p in PANELS for t in p["targets"]},
    **{rule["alert"]: rule["expr"] for rule in RULES},
}
OF_PROMETHEUS = {"instance", "job"}
"""Labels that a scrape adds."""

Shown = Mapping[str, set[str]]
"""Name of a sample -> the labels that it has."""


def shown(text: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def missing(there: Shown) -> set[str]:
    """Selectors that name what is not there."""
    wanted = {one for expression in EXPRESSIONS.values() for one in selectors(expression) if one.metric != "up"}
    return {
        f"{one.metric}{sorted(one.labels)}"
        for one in wanted
        if one.metric not in there or one.labels - there[one.metric] - OF_PROMETHEUS
    }


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_an_expression_can_be_read(name: str) -> None:
    found = selectors(EXPRESSIONS[name])
    assert found, "it names some metric"
    for one in found:  # a counter goes into rate or increase, a gauge never
        counts = one.metric.endswith(("_total", "_count", "_bucket", "_sum"))
        assert counts == bool(re.search(rf"(rate|increase)\({one.metric}[{{\[]", EXPRESSIONS[name])), one


@pytest.mark.parametrize(
    "wrong",
    ["rate(x)", "sum by (x", "rate(x[5m]", "x{a=b}", "x{a=~\"(\"}", "foo(x)", "x y", "x >", "rate(x[5 m])", "", "1x"],
)  # fmt: skip
def test_what_is_no_expression_is_refused(wrong: str) -> None:
    with pytest.raises((PromqlError, re.error)):
        selectors(wrong)


def test_selectors_are_found_with_their_labels() -> None:
    text = 'histogram_quantile(0.9, sum by (le, a) (rate(x_bucket{b="c"}[5m]))) / y > 0.5 and z'
    assert selectors(text) == [
        Selector("x_bucket", frozenset({"a", "b", "le"})), Selector("y", frozenset()), Selector("z", frozenset())
    ]  # fmt: skip


def test_the_dashboard_is_whole() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    places = [tuple(panel["gridPos"].values()) for panel in DASHBOARD["panels"]]
    assert len(set(places)) == len(places)
    taken = {(x, y) for h, w, left, top in places for x in range(left, left + w) for y in range(top, top + h)}
    assert len(taken) == sum(h * w for h, w, _, _ in places), "no panel lies on another"
    assert all(t["datasource"]["uid"] == "${datasource}" for panel in PANELS for t in panel["targets"])


def test_every_alert_has_its_runbook() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(set(names)) == len(names)
    text = (ROOT / "docs" / "operations.md").read_text()
    headings = {heading.strip().lower() for heading in re.findall(r"^#### (.+)$", text, re.MULTILINE)}
    for rule in RULES:
        assert rule["labels"]["severity"] in ("critical", "warning") and rule["annotations"]["summary"]
        assert rule["annotations"]["runbook_url"] == f"docs/operations.md#{rule['alert'].lower()}"
    assert headings == {name.lower() for name in names}, "a runbook for each alert, and no other"
    prometheus = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    assert prometheus["rule_files"] == ["alerts.yaml"] and prometheus["scrape_configs"][0]["job_name"] == "taximeter"


def use(door: str, spend: str) -> None:
    """Some of everything."""
    with httpx.Client(timeout=40) as client:
        lines = {"content-type": "application/x-ndjson"}
        body = "\n".join([event("1", subject="acme"), event("2", subject="acme"), event("3", source=...)])
        position = client.post(f"{door}/v1/events", content=body, headers=lines).json()["position"]
        wait: dict[str, Any] = {"position": position, "wait_ms": 30_000}
        assert client.get(f"{spend}/v1/customers/acme/spend", params=wait).status_code == 200


def test_a_server_shows_every_metric(tmp_path: Path) -> None:
    hooks = tmp_path / "hooks.yaml"
    secret = base64.b64encode(b"s" * 24).decode()
    hooks.write_text(
        f"endpoints: {{one: {{url: 'http://127.0.0.1:9/', secrets: [whsec_{secret}], "
        "events: [invoice, alert, line_item.changed]}}"
    )
    with Server(tmp_path / "data", "--webhooks", hooks, "--snapshot-every", "1s") as server:
        use(server.url, server.url)
        deadline = time.monotonic() + 30
        while gone := missing(shown(server.client.get("/metrics").text)):
            assert time.monotonic() < deadline, gone
            time.sleep(0.2)
        routes = {
            sample.labels["route"]
            for family in text_string_to_metric_families(server.client.get("/metrics").text)
            for sample in family.samples
            if sample.name == "taximeter_http_request_seconds_count"
        }
        assert routes == {"/v1/events", "/v1/customers/{customer}/spend"}, "by route, never by path"
        server.client.get("/nowhere/acme")
        assert 'route="other",status="404"' in server.client.get("/metrics").text
        assert "acme" not in server.client.get("/metrics").text


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(200)
def test_the_processes_on_kafka_show_every_metric_between_them(kafka_bootstrap: str, tmp_path: Path) -> None:
    (tmp_path / "book.yaml").write_text(
        "{meters: {tokens: {event: llm.request, aggregate: sum, value: $.tokens}}, price_books: {a: {currency: USD, "
        "charges: {tokens: {meter: tokens, price: {model: unit, unit_amount: '1'}}}}}, "
        "default_subscription: {price_book: a, period: month}}"
    )
    with Processes(tmp_path) as processes:
        deployment = Deployment(kafka_bootstrap, processes, tmp_path / "book.yaml")
        port = free_port()
        watched = ("--snapshots", "snapshots", "--tick", "1s", "--snapshot-every", "1s", "--health-port", port)
        for worker in deployment.workers:
            worker.stop()
        deployment.workers[:] = [processes.start("rate", "rate", *watched, *deployment._kafka)]
        deployment.wait_owned()
        use(deployment.door, deployment.spend)
        rate = f"http://127.0.0.1:{port}"

        def union() -> dict[str, set[str]]:
            found: dict[str, set[str]] = {}
            for url in (deployment.door, deployment.spend, rate):
                for name, labels in shown(httpx.get(f"{url}/metrics", timeout=30).text).items():
                    found.setdefault(name, set()).update(labels)
            return found

        deadline = time.monotonic() + 40
        while gone := {name for name in missing(union()) if not name.startswith("taximeter_webhook")}:
            assert time.monotonic() < deadline, gone
            time.sleep(0.2)
        lag = [
            sample.value
            for family in text_string_to_metric_families(httpx.get(f"{deployment.spend}/metrics", timeout=30).text)
            for sample in family.samples
            if sample.name == "taximeter_spend_lag_offsets"
        ]
        assert len(lag) == 4 and max(lag) < 10, "ticks come once a second, and are included soon"
