"""`taximeter spend` on ClickHouse's engine beside one on DuckDB: the same answers, also after kill -9."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.end_to_end.kafka import Deployment
from tests.end_to_end.processes import Processes
from tests.face.running import BOOK, ROOT, event

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
QUESTIONS = (
    "/v1/line-items?limit=1000",
    "/v1/line-items?customer=customer-3&charge=tokens",
    "/v1/invoices",
    "/v1/alerts",
    "/v1/rejections",
    "/v1/customers/customer-3/spend?period=all",
    "/v1/customers/customer-3/usage?meter=tokens&group_by=model",
)


@pytest.mark.timeout(200)
def test_both_stores_answer_the_same_and_a_kill_changes_nothing(
    kafka_bootstrap: str, processes: Processes, tmp_path: Path
) -> None:
    (tmp_path / "book.yaml").write_text(BOOK)
    deployment = Deployment(kafka_bootstrap, processes, tmp_path / "book.yaml")
    address = f"chdb://{tmp_path / 'clickhouse'}"
    words = ("spend", "--port", 0, "--clickhouse", address, *deployment._kafka)
    spend = processes.start("spend-on-clickhouse", *words)
    url = processes.ready(spend)
    for round in range(3):
        send(deployment.door, [event(f"{round}-{n}", subject=f"customer-{n % 20}") for n in range(300)])
        spend.kill()
        position = send(deployment.door, [event(f"{round}-more-{n}", subject="customer-3") for n in range(50)])
        spend = processes.start("spend-on-clickhouse", *words)
        url = processes.ready(spend)
        assert answers(url, position) == answers(deployment.spend, position)
    spend.stop()
    # In a process of its own: one process can have the engine open on one folder only.
    command = [sys.executable, "-c", LOOK, address]
    looked = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert looked.stdout.split() == ["40", "40", str(3 * 350)], looked.stdout + looked.stderr


LOOK = """
import sys
from rating.spend.clickhouse_store import open_clickhouse
store = open_clickhouse(sys.argv[1])
print(*store._client.query("SELECT count(), uniqExact(id) FROM taximeter.line_items FINAL").result_rows[0])
print(sum(store.count_events(partition, 0, 10**9) for partition in range(4)))
store.close()
"""


def send(door: str, events: list[str]) -> str:
    """Posts events; the position after them."""
    headers = {"content-type": "application/x-ndjson"}
    answer = httpx.post(door + "/v1/events", content="\n".join(events), headers=headers, timeout=20)
    assert answer.status_code == 200, answer.text
    return answer.json()["position"]


def answers(url: str, position: str) -> dict[str, Any]:
    """Every question's answer that includes a position, without how far beyond it goes."""
    found = {}
    for question in QUESTIONS:
        mark = "&" if "?" in question else "?"
        answer = httpx.get(f"{url}{question}{mark}position={position}&wait_ms=30000", timeout=40)
        assert answer.status_code == 200, answer.text
        found[question] = {name: value for name, value in answer.json().items() if name != "through"}
    return found
