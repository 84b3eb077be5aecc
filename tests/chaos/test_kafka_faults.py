"""Real faults on a real broker, each once or twice: after each, every line, invoice and alert is as it must be.

The short form of `make chaos`: the same processes, clients, faults and comparison, on one deployment for all of it.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.chaos.broker_faults import cut_network, kill_broker, kill_doors
from benchmarks.chaos.deployment import Deployment, Site
from benchmarks.chaos.row import Row
from benchmarks.chaos.worker_faults import crash_at_places, kill_workers, make_zombies

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Doors and workers that reach their broker through a proxy; nobody else's broker, since it is killed."""
    folder: Path = tmp_path_factory.mktemp("chaos")
    site = Site(folder / "kafka")
    try:
        with Deployment(site, folder / "run", doors=1, proxied=True, rate=100) as deployment:
            yield deployment
    finally:
        site.close()


@pytest.fixture
def row(deployment: Deployment) -> Iterator[Row]:
    """The clients send while a test does its worst; then everything is compared."""
    row = Row("short")
    deployment.load.start()
    yield row
    deployment.check(row, close=False)
    assert row.injected and row.events
    assert not row.broken, "\n".join(row.broken)
    assert row.findings.clean, f"{row.findings}\n" + "\n".join(row.findings.examples)


def test_a_killed_worker_changes_nothing(deployment: Deployment, row: Row) -> None:
    kill_workers(deployment, row, 1)


def test_a_crash_between_two_steps_changes_nothing(deployment: Deployment, row: Row) -> None:
    crash_at_places(deployment, row, 1, ("after_journal", "after_emit"))


def test_a_killed_door_loses_nothing_that_it_acknowledged(deployment: Deployment, row: Row) -> None:
    kill_doors(deployment, row, 1)


def test_a_worker_that_stood_still_stops_itself_when_it_wakes(deployment: Deployment, row: Row) -> None:
    make_zombies(deployment, row, 1)


def test_a_broker_that_cannot_be_reached_costs_time_and_nothing_else(deployment: Deployment, row: Row) -> None:
    cut_network(deployment, row, 1, (1.0, 2.0))


def test_a_killed_broker_costs_time_and_nothing_else(deployment: Deployment, row: Row) -> None:
    kill_broker(deployment, row, 1)


def test_the_closed_month_is_to_the_cent_as_it_must_be(deployment: Deployment) -> None:
    row = Row("close")
    deployment.check(row)
    assert row.right, f"{row.broken}\n{row.findings}"
