"""`taximeter webhooks run` on Kafka, to the example of a receiver: signed, once, and after every kill."""

import json
import sqlite3
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from examples.webhook_receiver import Refused, act, verify
from tests.consumers.deployment import Fed
from tests.end_to_end.processes import Process, Processes, free_port
from tests.face.running import taximeter
from tests.notifications.receiver import SECRET, Receiver

HEADERS = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330",
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}
BODY = b'{"test": 2432232314}'


def test_the_receiver_takes_the_example_of_the_specification_and_nothing_near_it() -> None:
    now = 1614265330.0
    other = "whsec_" + "A" * 32
    assert verify([SECRET], HEADERS, BODY, now + 299) == HEADERS["webhook-id"]
    assert verify([other, SECRET], HEADERS, BODY, now) == HEADERS["webhook-id"], "while a secret is changed"
    two = {"webhook-signature": "v1a,abcd v1,nonsense " + HEADERS["webhook-signature"]}
    assert verify([SECRET], HEADERS | two, BODY, now) == HEADERS["webhook-id"]
    wrong: list[tuple[list[str], dict[str, str], bytes, float]] = [
        ([other], HEADERS, BODY, now),
        ([SECRET], HEADERS, BODY + b" ", now),
        ([SECRET], HEADERS | {"webhook-id": "msg_other"}, BODY, now),
        ([SECRET], HEADERS | {"webhook-timestamp": "1614265331"}, BODY, now),
        ([SECRET], HEADERS | {"webhook-timestamp": "soon"}, BODY, now),
        ([SECRET], HEADERS | {"webhook-signature": HEADERS["webhook-signature"].replace("v1,", "v2,")}, BODY, now),
        ([SECRET], HEADERS | {"webhook-signature": ""}, BODY, now),
        ([SECRET], {name: value for name, value in HEADERS.items() if name != "webhook-id"}, BODY, now),
        ([SECRET], HEADERS, BODY, now + 301),
        ([SECRET], HEADERS, BODY, now - 301),
    ]
    for secrets, headers, body, at in wrong:
        with pytest.raises(Refused):
            verify(secrets, headers, body, at)


class Example:
    """The example as its reader would start it, on a port that it can have again."""

    def __init__(self, fed: Fed, folder: Path) -> None:
        self.path = folder / "received.sqlite"
        self.port = free_port()
        self._fed, self._folder = fed, folder
        self.process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks"

    def start(self) -> None:
        arguments = ("--secret", SECRET, "--database", self.path, "--port", self.port)
        self.process = self._fed.start_example("webhook_receiver.py", *arguments, cwd=self._folder)
        assert self.process.stdout is not None and "ready at" in self.process.stdout.readline()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.communicate()

    def outputs(self) -> dict[str, Any]:
        """Id -> what was received."""
        rows = sqlite3.connect(self.path).execute("SELECT data FROM outputs")
        return {data["id"]: data for (text,) in rows for data in [json.loads(text)]}


def endpoints(folder: Path, **urls: tuple[str, str]) -> Path:
    path = folder / "endpoints.yaml"
    lines = [f"  {n}: {{url: '{url}', secrets: [{SECRET}], start: {start}}}\n" for n, (url, start) in urls.items()]
    path.write_text("endpoints:\n" + "".join(lines))
    return path


def until(condition: Callable[[], bool], what: str, process: Process, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.running and time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}\n{process.tail()}"
        time.sleep(0.05)


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_webhooks_on_kafka_tell_everything_once_and_only_what_is_new_to_who_wants_that(
    fed: Fed, tmp_path: Path
) -> None:
    example = Example(fed, tmp_path)
    example.start()
    with Receiver() as late:
        file = endpoints(tmp_path, everything=(example.url, "beginning"), new=(late.url, "now"))
        words = ("run", "--endpoints", file, "--data", tmp_path / "queue")
        before = {one["id"] for name in ("invoices", "alerts") for one in fed.outputs()[name]}
        first = fed.start("webhooks", "webhooks", *words)
        until(lambda: "ready, 2 endpoints" in first.said, "it is ready", first)
        until(lambda: before <= set(example.outputs()), "what was there is told", first)
        until(lambda: stands_now(tmp_path / "queue" / "webhooks.sqlite", 8), "the end of the topics is noted", first)
        first.kill()
        example.kill()
        said = fed.outputs(fed.live(late=3))
        example.start()
        second = fed.start("webhooks", "webhooks", *words)
        wanted = {one["id"]: one for name in ("invoices", "alerts") for one in said[name]}
        until(lambda: example.outputs().keys() >= wanted.keys(), "everything is told", second)
        assert example.outputs() == wanted
        new = wanted.keys() - before
        until(lambda: len({call.id for call in late.calls}) >= len(new), "what is new is told", second)
        assert {call.content["data"]["id"] for call in late.calls} == new and new
        second.stop()
    queue = tmp_path / "queue"
    done = taximeter("webhooks", "dead", "--data", queue)
    assert (done.returncode, f"everything: {len(wanted):,} delivered, 0 waiting, 0 dead" in done.stdout) == (0, True)
    unsigned = httpx.post(example.url, content=b"{}", headers={"webhook-id": "x"}, timeout=30)
    assert (unsigned.status_code, unsigned.text) == (401, "the header 'webhook-timestamp' is missing")
    example.kill()


@pytest.mark.kafka
@pytest.mark.slow
def test_webhooks_are_ready_before_the_first_worker_and_say_what_is_wrong(kafka_bootstrap: str, tmp_path: Path) -> None:
    file = endpoints(tmp_path, new=("http://127.0.0.1:9/hook", "now"))
    words = ("--endpoints", file, "--data", tmp_path / "queue", "--prefix", f"own-{uuid.uuid4().hex[:8]}.")
    with Processes(tmp_path) as processes:
        run = processes.start("webhooks", "webhooks", "run", *words, "--bootstrap", kafka_bootstrap)
        until(lambda: "ready, 1 endpoints" in run.said, "it is ready", run)
        until(
            lambda: stands_now(tmp_path / "queue" / "webhooks.sqlite", 8), "the ends of the empty topics are noted", run
        )
        run.stop()
    more = ("--partitions", "3", "--bootstrap", kafka_bootstrap)
    done = taximeter("webhooks", "run", *words, *more)
    assert (done.returncode, "has 4 partitions, expected 3" in done.stderr) == (1, True)
    done = taximeter("webhooks", "run", *words, "--bootstrap", "127.0.0.1:1", timeout=90)
    assert (done.returncode, "cannot ask Kafka at 127.0.0.1:1" in done.stderr) == (1, True)


def stands_now(path: Path, count: int) -> bool:
    """Whether the endpoint that wants only news knows where each partition ended."""
    rows = sqlite3.connect(path).execute("SELECT count(*) FROM positions WHERE endpoint = 'new'").fetchone()
    return rows[0] == count


def test_the_receiver_acts_once_and_keeps_the_highest_revision(tmp_path: Path) -> None:
    from examples.webhook_receiver import SCHEMA

    database = sqlite3.connect(tmp_path / "received.sqlite", isolation_level=None)
    database.executescript(SCHEMA)

    def told(revision: int) -> bool:
        data = {"id": "inv_1", "revision": revision, "total": str(revision)}
        body = json.dumps({"type": "invoice.issued", "data": data}).encode()
        return act(database, f"inv_1.{revision}", body)

    assert [told(n) for n in (1, 3, 3, 2, 1)] == [True, True, False, True, False]
    assert database.execute("SELECT revision FROM outputs").fetchall() == [(3,)]
