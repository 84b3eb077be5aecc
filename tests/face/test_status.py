"""`taximeter status`, `GET /v1/status`, `GET /metrics` and the health endpoints of a running server, and after it."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from prometheus_client.parser import text_string_to_metric_families

from taximeter.metrics import Measured, families
from taximeter.status import make_status
from tests.face.running import ROOT, Server, event, taximeter


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("status") / "data"


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with Server(folder, "--partitions", "2") as server:
        events = [event(f"{n}", subject=f"customer-{n % 7}") for n in range(50)]
        position = server.send([*events, *events[:9], event("3", subject="customer-3", data='{"tokens": 2}')])
        server.get("/v1/line-items", position)
        yield server


def test_the_equation_stands_in_figures(server: Server) -> None:
    status = server.get("/v1/status")
    assert status["reconciled"] and status["ready"] and status["host"] == "embedded"
    totals = [one["totals"] for one in status["partitions"]]
    assert sum(one["events"] for one in totals) == 60
    assert sum(one["accepted"] for one in totals) == 50
    assert sum(one.get("duplicates", 0) for one in totals) == 9
    assert [one["position"] for one in status["partitions"]] == [one["end"] for one in status["partitions"]]
    assert all("accepted +" in equation and "rated" in equation for equation in status["equations"])


def test_the_command_shows_the_same_to_people(server: Server) -> None:
    done = taximeter("status", "--url", server.url)
    assert done.returncode == 0, done.stderr
    assert "embedded, ready" in done.stdout and "everything agrees" in done.stdout
    assert re.search(
        r"partition 0: \d+ events = \d+ accepted \+ \d+ duplicates \+ \d+ conflicts; .* rated ✓",
        " ".join(done.stdout.split()),
    )
    shown = json.loads(taximeter("status", "--url", server.url, "--json").stdout)
    assert shown["partitions"][1]["totals"] == server.get("/v1/status")["partitions"][1]["totals"]


def test_metrics_are_readable_and_say_the_same(server: Server) -> None:
    answer = server.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    found = {family.name: family for family in text_string_to_metric_families(answer.text)}
    accepted = [s.value for s in found["taximeter_events"].samples if s.labels["kind"] == "accepted"]
    assert sum(accepted) == 50
    assert [s.value for s in found["taximeter_reconciled"].samples] == [1.0, 1.0]
    assert {s.labels["partition"] for s in found["taximeter_step_seconds"].samples} == {"0", "1"}
    assert found["taximeter_door_events"].samples[0].value == 50
    assert found["taximeter_build_info"].samples[0].labels["host"] == "embedded"


def test_the_documentation_names_the_metrics_that_there_are() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    documented = set(re.findall(r"^\| `(taximeter_\w+)`", text, re.MULTILINE))
    assert documented == _names()


def _names() -> set[str]:
    """As Prometheus knows them: a counter's name ends with `_total`, an info's with `_info`."""
    endings = {"counter": "_total", "info": "_info"}
    found = families(Measured(make_status("embedded", [], ready=True)))
    return {family.name + endings.get(family.type, "") for family in found}


def test_live_and_ready_say_why(server: Server) -> None:
    assert server.get("/health/live") == {"status": "live"}
    ready = server.get("/health/ready")
    assert ready == {"status": "ready", "conditions": {"engine": True, "caught_up": True, "spend": True}}


def test_a_folder_that_a_server_holds_is_refused(server: Server, folder: Path) -> None:
    done = taximeter("status", "--data", folder, "--partitions", "2")
    assert done.returncode == 1 and "taximeter status: " in done.stderr


@pytest.mark.parametrize("words", [[], ["--url", "http://127.0.0.1:1", "--data", "."]], ids=["none", "two"])
def test_one_place_must_be_named(words: list[str]) -> None:
    done = taximeter("status", *words)
    assert done.returncode == 2 and "--bootstrap" in done.stderr


def test_nobody_there_is_said(tmp_path: Path) -> None:
    assert taximeter("status", "--url", "http://127.0.0.1:1").returncode == 1
    done = taximeter("status", "--data", tmp_path)
    assert done.returncode == 1 and "expected a data folder" in done.stderr
    assert not list(tmp_path.iterdir()), "looking makes nothing"


class TestAfterwards:
    """What a server has left behind."""

    @pytest.fixture
    def left(self, tmp_path: Path) -> Path:
        data = tmp_path / "data"
        with Server(data) as server:
            position = server.send([event(f"{n}") for n in range(20)])
            server.get("/v1/line-items", position)
            time.sleep(0.3)
            assert server.stop()[0] == 0
        return data

    def status(self, data: Path) -> tuple[int, dict[str, Any]]:
        done = taximeter("status", "--data", data, "--json")
        return done.returncode, json.loads(done.stdout)

    def test_it_is_compared_on_every_side(self, left: Path) -> None:
        code, status = self.status(left)
        assert code == 0 and status["reconciled"], status
        assert status["spend"]["amounts_compared"] and status["spend"]["compared"]
        assert status["partitions"][0]["snapshot"]["position"] == status["partitions"][0]["position"] > 0
        assert "notes" not in status

    def test_a_tampered_spend_store_is_said(self, left: Path) -> None:
        with duckdb.connect(str(left / "spend.duckdb")) as store:
            store.execute("UPDATE line_items SET amount = amount + 1")
        code, status = self.status(left)
        assert code == 1 and not status["reconciled"]
        assert [one["what"] for one in status["spend"]["differences"]] == ["the sum of all line items"]
        shown = taximeter("status", "--data", left)
        assert shown.returncode == 1 and "✗ it does not reconcile" in shown.stdout
        assert "the sum of all line items should be" in " ".join(shown.stdout.split())
