"""Faults of what the workers stand on: doors killed in the middle of requests, the broker killed, its port closed."""

import random
import time
from typing import Final

from benchmarks.chaos.deployment import RECOVERY_MAX_S, Deployment
from benchmarks.chaos.row import Row
from benchmarks.chaos.worker_faults import now_ms

_DOWN_S: Final = (0.2, 3.0)
_CUT_S: Final = (1.0, 9.0)
"""Shorter and longer than the session of a worker and than what a producer waits for."""


def kill_doors(deployment: Deployment, row: Row, times: int) -> None:
    """kill -9 of a door while requests are under way in it. Recovered: it acknowledges something again."""
    chance = random.Random()
    while row.kills < times and not row.is_late():
        number = chance.randrange(len(deployment.doors))
        door, url = deployment.doors[number], deployment.urls[number]
        deployment.fleet.wait_ready(door, RECOVERY_MAX_S)
        _wait_ack(deployment, row, url, time.monotonic(), count=False)
        time.sleep(chance.uniform(0.0, 0.3))
        deadline = time.monotonic() + 2.0
        while deployment.load.unanswered == 0 and time.monotonic() < deadline:
            pass  # a moment at which a request is under way
        row.in_flight += deployment.in_flight()
        at = time.monotonic()
        row.kills += door.kill()
        row.injected += 1
        for other in deployment.doors:
            if other is not door and chance.random() < 0.5 and other.kill():
                row.kills += 1
                row.injected += 1
        _wait_ack(deployment, row, url, at)


def _wait_ack(deployment: Deployment, row: Row, url: str, at: float, count: bool = True) -> None:
    deadline = time.monotonic() + RECOVERY_MAX_S
    while (back := deployment.load.first_ack(url, at)) is None:
        if time.monotonic() > deadline:
            row.broken.append(f"the door at {url} acknowledged nothing within {RECOVERY_MAX_S:.0f} s")
            return
        time.sleep(0.02)
    if count:
        row.recoveries.append(back.at - at)


def kill_broker(deployment: Deployment, row: Row, times: int) -> None:
    """kill -9 of the broker under load; it comes back on the same files after a while."""
    chance = random.Random()
    for _ in row.rounds(times):
        deployment.wait_flowing()
        concerned = deployment.watch.epochs()
        row.in_flight += deployment.in_flight()
        at = now_ms()
        deployment.site.broker.kill()
        row.kills += 1
        row.injected += 1
        time.sleep(chance.uniform(*_DOWN_S))
        deployment.site.broker.restart()
        row.broker_restarts += 1
        deployment.recovery(row, concerned, at, newer_epoch=False)


def cut_network(deployment: Deployment, row: Row, times: int, seconds: tuple[float, float] = _CUT_S) -> None:
    """The broker's port is closed and every connection reset, for seconds; the broker itself knows nothing of it."""
    chance = random.Random()
    for _ in row.rounds(times):
        deployment.wait_flowing()
        concerned = deployment.watch.epochs()
        row.in_flight += deployment.in_flight()
        deployment.site.proxy.cut()
        at = now_ms()
        row.injected += 1
        time.sleep(chance.uniform(*seconds))
        deployment.site.proxy.open()
        deployment.recovery(row, concerned, at + 100, newer_epoch=False)
