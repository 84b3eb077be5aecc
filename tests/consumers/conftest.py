"""What the tests of consumers share: one deployment on Kafka, fed by the real door and the real engine."""

from collections.abc import Iterator

import pytest

from tests.consumers import deployment


@pytest.fixture(scope="session")
def fed(kafka_bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[deployment.Fed]:
    """A deployment with three days of usage; tests may live further days on it."""
    yield from deployment.fed(kafka_bootstrap, tmp_path_factory.mktemp("fed"))
