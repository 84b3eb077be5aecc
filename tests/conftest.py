"""What tests of every folder share: a real Kafka broker."""

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from native import build

# Before any module of ours looks for it; a test that would run without it fails instead.
build.build()
os.environ.setdefault("TAXIMETER_NATIVE", "require")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def broker_module() -> ModuleType:
    """`infra/kafka/broker.py`, loaded by path: infra is not a package."""
    path = ROOT / "infra" / "kafka" / "broker.py"
    spec = importlib.util.spec_from_file_location("taximeter_infra_kafka_broker", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def kafka_bootstrap(broker_module: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a broker that all tests share: KAFKA_BOOTSTRAP if it is set, else one of our own.

    Give topics and groups names of their own; to kill a broker take `new_broker`.
    """
    given = os.environ.get("KAFKA_BOOTSTRAP")
    if given:
        yield given
        return
    with broker_module.Broker(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker.bootstrap


@pytest.fixture
def new_broker(broker_module: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """Makes a started broker that only this test uses, and may kill; takes what Broker takes after `data_dir`."""
    started: list[Any] = []

    def start(**options: Any) -> Any:
        broker = broker_module.Broker(tmp_path_factory.mktemp("kafka"), **options)
        started.append(broker)
        return broker.start()

    yield start
    for broker in started:
        broker.stop()


LONGEST = (
    "tests/focus/",
    "tests/consumers/",
    "tests/kafka/",
    "tests/end_to_end/",
    "tests/access/",
    "tests/chaos/",
    "tests/repair/",
    "tests/docs/",
    "tests/compat/",
    "tests/spend/",
    "tests/alibaba/",
)
"""What takes longest is begun first, so that at the end no worker is left alone with it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sorts the tests by that; within a file they keep their order."""
    ranks = {name: rank for rank, name in enumerate(LONGEST)}

    def rank(item: pytest.Item) -> int:
        path = item.path.relative_to(ROOT).as_posix()
        return next((rank for name, rank in ranks.items() if path.startswith(name)), len(ranks))

    items.sort(key=rank)
