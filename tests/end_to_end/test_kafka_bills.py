"""Bills and past moments from `taximeter spend` on Kafka: a customer's kept inputs rated again in another process."""

from pathlib import Path

import httpx
import pytest

from schemas.numbers import parse_scaled
from schemas.times import format_time
from tests.end_to_end.kafka import Deployment
from tests.end_to_end.processes import Processes
from tests.face.running import BOOK, event

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


@pytest.mark.timeout(200)
def test_a_customer_is_rated_again_as_the_worker_rated_it(
    kafka_bootstrap: str, processes: Processes, tmp_path: Path
) -> None:
    (tmp_path / "book.yaml").write_text(BOOK)
    deployment = Deployment(kafka_bootstrap, processes, tmp_path / "book.yaml")
    customers = [f"customer-{n}" for n in range(3)]
    position = {}
    for round in range(2):
        events = [event(f"{round}-{n}", subject=customers[n % 3]) for n in range(300)]
        body = "\n".join([*events, *events[:30]])
        headers = {"content-type": "application/x-ndjson"}
        answer = httpx.post(deployment.door + "/v1/events", content=body, headers=headers, timeout=30)
        assert answer.status_code == 200, answer.text
        position = {"position": answer.json()["position"], "wait_ms": "30000"}
        for customer in customers:
            url = f"{deployment.spend}/v1/customers/{customer}"
            spend, left, bill = (
                httpx.get(f"{url}/{name}", params=position, timeout=40).raise_for_status().json()
                for name in ("spend", "remaining", "bill")
            )
            (usd,) = spend["currencies"]
            assert left["thresholds"][0]["spend"] == usd["total"]
            asked = parse_scaled(usd["billed"]["subtotal"]) + parse_scaled(bill["currencies"][0]["subtotal"])
            shown = httpx.get(f"{deployment.spend}/v1/line-items", params={"customer": customer}, timeout=30).json()[
                "line_items"
            ]
            assert asked == sum(round_half_up(item["amount"]) for item in shown)
            past = httpx.get(
                f"{url}/spend", params=position | {"as_known_at": format_time(4 * 10**15)}, timeout=30
            ).json()
            assert past["currencies"] == spend["currencies"]
            before = httpx.get(f"{url}/spend", params={"as_known_at": "2020-01-01T00:00:00Z"}, timeout=30).json()
            assert before["currencies"] == []


def round_half_up(text: str) -> int:
    """An amount (not below nought) in whole cents, scaled."""
    cent = 10**10
    return (parse_scaled(text) + cent // 2) // cent * cent
