"""Rejections on Kafka: `spend` lists what the door, the feed and the engine have rejected, `ingest` sends it again."""

import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.end_to_end.kafka import Deployment
from tests.end_to_end.processes import Processes
from tests.face.running import event, in_process
from tests.face.test_rejections import BOOK

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


def listed(deployment: Deployment, count: int, **where: Any) -> list[Any]:
    """So many rejections, as soon as they are there."""
    deadline = time.monotonic() + 40
    while True:
        found = httpx.get(f"{deployment.spend}/v1/rejections", params=where, timeout=30).json()["rejections"]
        if len(found) == count:
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.1)


@pytest.mark.timeout(200)
def test_what_spend_lists_the_door_sends_again(kafka_bootstrap: str, processes: Processes, tmp_path: Path) -> None:
    (tmp_path / "book.yaml").write_text(BOOK)
    deployment = Deployment(kafka_bootstrap, processes, tmp_path / "book.yaml")
    lines = {"content-type": "application/x-ndjson"}
    body = "\n".join(
        [
            event("e1", subject="acme", data='{"tokens": 1, "words": "two"}'),
            event("e2", subject="acme", source=..., data='{"tokens": 1, "words": 1}'),
        ]
    )
    httpx.post(f"{deployment.door}/v1/events", content=body, headers=lines, timeout=30)
    deployment.produce([event("e3", subject="acme", time="soon", data='{"tokens": 1, "words": 1}')])
    by_code = {one["code"]: one["id"] for one in listed(deployment, 3)}
    assert by_code.keys() == {"invalid_value", "invalid_event", "invalid_time"}

    asked = httpx.post(f"{deployment.door}/v1/rejections/resend", json={"ids": list(by_code.values())}, timeout=30)
    assert asked.status_code == 501 and "taximeter spend" in asked.json()["detail"]
    both = ("--url", deployment.spend, "--door", deployment.door)
    for code, change in (
        ("invalid_value", "data.words=2"),
        ("invalid_event", "source=gate"),
        ("invalid_time", "time=2026-11-05T00:00:00Z"),
    ):
        done = in_process("rejections", "mend", by_code[code], "--set", change, *both, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        [result] = json.loads(done.stdout)["results"]
        assert (result["verdict"], result.get("voids", False)) == ("accepted", code == "invalid_value")
        position = json.loads(done.stdout)["position"]
    wait = {"position": position, "wait_ms": 30_000, "customer": "acme"}
    items = httpx.get(f"{deployment.spend}/v1/line-items", params=wait, timeout=40).json()["line_items"]
    assert {one["charge"]: one["amount"] for one in items} == {"tokens": "3", "words": "400", "calls": "30000"}
    assert not listed(deployment, 0, mended="false")
    assert {one["mended"]["id"] for one in listed(deployment, 3)} == {"e1+mend.1", "e2", "e3"}
