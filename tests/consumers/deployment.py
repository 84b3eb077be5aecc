"""A deployment on Kafka that is fed day by day, and what its topics and its answers hold: for tests of consumers."""

import random
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

from tests.end_to_end.kafka import Deployment
from tests.end_to_end.outputs import Queries, read
from tests.end_to_end.processes import Process, Processes
from tests.face.running import ROOT, environment, event

HERE = Path(__file__).parent
BOOK = HERE / "book.yaml"
EXAMPLES = ROOT / "examples"
CUSTOMERS = ("acme", "beta", "north/7", *(f"c-{n}" for n in range(12)))


class Fed:
    """A running deployment. `day`: which day of November 2026 it is, from 1."""

    def __init__(self, bootstrap: str, processes: Processes, deployment: Deployment) -> None:
        self.bootstrap = bootstrap
        self.processes = processes
        self.deployment = deployment
        self.prefix = deployment._prefix
        self.day = 1
        self._random = random.Random(2026)

    def live(self, late: int = 0) -> str:
        """A day's usage, `late` events of the day before, and the day's end; the position after it."""
        events = [self._event(n, self.day) for n in range(120)]
        events += [self._event(1000 + n, self.day - 1) for n in range(late)]
        headers = {"content-type": "application/x-ndjson"}
        body = "\n".join(events)
        answer = httpx.post(f"{self.deployment.door}/v1/events", content=body, headers=headers, timeout=30)
        assert answer.status_code == 200 and answer.json()["rejected"] == 0, answer.text
        self.day += 1
        with Queries(self.deployment.door) as door:
            return door.tick(f"2026-11-{self.day:02}T00:00:00Z")

    def _event(self, number: int, day: int) -> str:
        model, tokens = self._random.choice(["large", "small"]), self._random.randrange(1, 900)
        time = f"2026-11-{day:02}T{self._random.randrange(24):02}:00:00Z"
        id, subject = f"{self.day}-{number}", self._random.choice(CUSTOMERS)
        return event(id, time, f'{{"tokens": {tokens}, "model": "{model}"}}', subject=subject)

    def outputs(self, position: str = "") -> dict[str, list[dict[str, Any]]]:
        """What the engine answers: listing -> outputs, the highest revision of each."""
        with Queries(self.deployment.spend) as queries:
            return {name: read(found) for name, found in queries.outputs(position).items()}

    def totals(self, position: str = "") -> dict[tuple[str, str], Decimal]:
        """(customer, currency) -> what was invoiced, as the engine answers."""
        totals: dict[tuple[str, str], Decimal] = {}
        for invoice in self.outputs(position)["invoices"]:
            key = invoice["customer"], invoice["currency"]
            totals[key] = totals.get(key, Decimal(0)) + Decimal(invoice["total"])
        return totals

    def start_example(self, name: str, *arguments: object, cwd: Path) -> subprocess.Popen[str]:
        """An example as its reader would start it, where nothing of ours can be imported."""
        command = [sys.executable, "-P", str(EXAMPLES / name), *map(str, arguments)]
        return subprocess.Popen(
            command, cwd=cwd, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run_example(self, name: str, *arguments: object, cwd: Path) -> str:
        """What it prints until it has come to its end."""
        process = self.start_example(name, *arguments, cwd=cwd)
        out, complaints = process.communicate(timeout=60)
        assert process.returncode == 0, complaints
        return out

    def start(self, name: str, *arguments: object) -> Process:
        """Another command of `taximeter` on this deployment's topics."""
        return self.processes.start(name, *arguments, *self.deployment._kafka)


def fed(bootstrap: str, folder: Path) -> Iterator[Fed]:
    """Three days, one with late usage."""
    with Processes(folder) as processes:
        found = Fed(bootstrap, processes, Deployment(bootstrap, processes, BOOK))
        for late in (0, 10, 0):
            position = found.live(late)
        with Queries(found.deployment.spend) as queries:
            queries.wait(position)
        yield found
    print(found.processes.tails())
