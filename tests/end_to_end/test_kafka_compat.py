"""OpenMeter's client on Kafka: the door takes, the spend server answers, and each says what is the other's."""

import time

import openmeter
import pytest
from corehttp.exceptions import HttpResponseError

from tests.compat.openmeter_door import METER, event
from tests.end_to_end.processes import Processes

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


@pytest.mark.timeout(120)
def test_the_door_takes_and_the_spend_server_answers(kafka_bootstrap: str, processes: Processes) -> None:
    kafka = ("--bootstrap", kafka_bootstrap, "--prefix", f"compat-{time.time_ns()}.", "--partitions", 2)
    door = processes.start("ingest", "ingest", "--port", 0, "--max-ahead", 0, *kafka)
    spend = processes.start("spend", "spend", "--port", 0, "--data", "spend", *kafka)
    sending, asking = (
        openmeter.Client(endpoint=f"{processes.ready(process)}/openmeter", token="a key") for process in (door, spend)
    )
    sending.meters.create(METER)
    sending.events.ingest_events([event(str(n), "5T10:00", f"customer-{n % 7}", tokens="0.1") for n in range(100)])
    sending.events.ingest_events([event(str(n), "5T10:00", f"customer-{n % 7}", tokens="0.1") for n in range(100)])

    def counted() -> bool:
        try:
            return [row.value for row in asking.meters.query_json("tokens").data] == [10]
        except HttpResponseError as error:
            assert error.status_code == 404, "the meter is not there yet"
            return False

    processes.until(counted, "the spend server counts each event once", 60)
    assert [meter.slug for meter in asking.meters.list()] == ["tokens"]
    for call, detail in (
        (lambda: sending.meters.query_json("tokens"), "this process keeps no store"),
        (lambda: asking.events.ingest_event(event("x", "5T10:00")), "this process takes nothing"),
        (lambda: asking.meters.create(METER | {"slug": "other"}), "this process takes nothing"),
    ):
        with pytest.raises(HttpResponseError) as refused:
            call()
        assert refused.value.status_code == 501
        assert detail in refused.value.model.detail
