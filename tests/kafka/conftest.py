"""What the tests of Kafka share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kafka.deployment import Deployment


@pytest.fixture
def deployment(kafka_bootstrap: str, tmp_path: Path) -> Iterator[Deployment]:
    """Topics of this test's own on the shared broker; its workers end with it."""
    deployment = Deployment(kafka_bootstrap, tmp_path)
    yield deployment
    deployment.close()
