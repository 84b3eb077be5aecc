"""Live and ready differ: what hangs is not live, what is not there yet is not ready, and both say why."""

import httpx
import pytest

from streams.watchdog import Stall
from taximeter.http import make_app
from taximeter.metrics import Measured
from taximeter.observe import EngineTotals
from taximeter.status import Finding, PartitionStatus, SpendStatus, make_status
from taximeter.status_http import watch_routes
from taximeter.worker_health import WorkerHealth


async def ask(path: str, *, ready: bool = True, stalls: tuple[Stall, ...] = ()) -> httpx.Response:
    waiting = {} if ready else {"2": "restoring at position 7 of 90"}
    conditions = {"engine": ready, "spend": True}
    partitions = [PartitionStatus(partition=2, position=7, end=90, ready=ready)]
    routes = watch_routes(lambda: Measured(make_status("embedded", partitions, ready=ready)))
    app = make_app(routes, lambda: conditions, lambda: stalls, lambda: waiting)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        return await client.get(path)


async def test_a_process_that_restores_is_live_and_not_ready() -> None:
    assert (await ask("/health/live", ready=False)).status_code == 200
    answer = await ask("/health/ready", ready=False)
    assert answer.status_code == 503
    assert answer.json()["waiting"] == {"2": "restoring at position 7 of 90"}


async def test_a_process_in_which_something_hangs_is_not_live() -> None:
    answer = await ask("/health/live", stalls=(Stall("partition 2", 95.0, "processing at position 7"),))
    assert answer.status_code == 503
    assert answer.json()["stalls"] == ["partition 2 has stood still for 95 s: processing at position 7"]


async def test_status_and_metrics_are_answered_while_it_restores() -> None:
    assert (await ask("/v1/status", ready=False)).json()["partitions"][0]["end"] == 90
    assert 'taximeter_lag_offsets{partition="2"} 83.0' in (await ask("/metrics", ready=False)).text


def test_a_worker_that_has_not_begun_is_live_and_not_ready() -> None:
    health = WorkerHealth(EngineTotals(), "127.0.0.1", 0)
    try:
        url = f"http://127.0.0.1:{health.port}"
        assert httpx.get(url + "/health/live").status_code == 200
        assert httpx.get(url + "/health/ready").json() == {"status": "starting", "conditions": {"started": False}}
        assert "taximeter_ready 0.0" in httpx.get(url + "/metrics").text
        assert httpx.get(url + "/nothing").status_code == 404
    finally:
        health.stop()


@pytest.mark.parametrize("where", ["partition", "spend"])
def test_one_difference_anywhere_is_the_verdict(where: str) -> None:
    wrong = [Finding(partition=0, position=9, what="events", expected="1", found="2")]
    partition = PartitionStatus(partition=0, position=9, end=9, differences=wrong if where == "partition" else [])
    spend = SpendStatus(through={0: 9}, differences=wrong if where == "spend" else [])
    assert not make_status("embedded", [partition], ready=True, spend=spend).reconciled
    assert make_status("embedded", [PartitionStatus(partition=0, position=9, end=9)], ready=True).reconciled
