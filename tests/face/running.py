"""What tests of the face share: the program as a user runs it, and a running `taximeter serve`."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx
from click.testing import CliRunner

from taximeter.cli import main

ROOT = Path(__file__).resolve().parents[2]
TAXIMETER = [sys.executable, "-m", "taximeter"]
_URL = re.compile(r"http://\S+")

BOOK = """
meters:
  tokens: {event: llm.request, aggregate: sum, value: $.tokens, dimensions: {model: $.model}}
  calls: {event: llm.request, aggregate: count}
price_books:
  launch:
    currency: USD
    charges:
      tokens: {meter: tokens, group_by: [model], price: {model: unit, unit_amount: "0.01"}}
      calls: {meter: calls, price: {model: package, package_size: 10, package_amount: 1}}
    thresholds: [{spend: 500}]
customers:
  acme: {subjects: [team-a, team-b]}
default_subscription: {price_book: launch, period: month}
"""


def environment() -> dict[str, str]:
    """The environment of a user who has set nothing."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("TAXIMETER", "KAFKA"))}


def taximeter(*words: str | Path, cwd: Path | None = None, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end."""
    command = [*TAXIMETER, *map(str, words)]
    env = environment() | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command,
        cwd=cwd,
        check=False,
        capture_output=True,
        text=True,
        timeout=timeout,
        env=env,
        stdin=subprocess.DEVNULL,
    )


def in_process(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """The same, sooner, inside this interpreter: for commands that come to an end by themselves."""
    found = CliRunner(env={"COLUMNS": "200"}).invoke(main, [str(word) for word in words])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return subprocess.CompletedProcess(list(words), found.exit_code, found.stdout, found.stderr)


def event(
    id: str, /, time: str = "2026-11-05T00:00:00Z", data: str = '{"tokens": 1, "model": "large"}', **more: Any
) -> str:
    """A CloudEvent's text on one line; `data` is taken letter by letter, `...` takes a name out."""
    envelope = {
        "specversion": "1.0",
        "id": id,
        "source": "gate",
        "type": "llm.request",
        "subject": "team-a",
        "time": time,
    }
    envelope = {name: value for name, value in (envelope | more).items() if value is not ...}
    return json.dumps(envelope)[:-1] + ', "data": ' + data + "}"


class Server:
    """`taximeter serve` in a process of its own. Leaves the process stopped when the block ends."""

    def __init__(self, data: Path, *options: str | Path, catalogue: str | None = BOOK) -> None:
        self.data = data
        words: list[str | Path] = ["serve", "--port", "0", "--data", data, "--tick", "0", "--max-ahead", "0", *options]
        if catalogue is not None:
            book = data.parent / f"{data.name}.yaml"
            book.write_text(catalogue)
            words += ["--catalogue", book]
        self.words = [str(word) for word in words]
        self.ready_line = ""

    def __enter__(self) -> "Server":
        env = environment() | {"PYTHONPATH": str(ROOT)}
        self.stderr = (self.data.parent / f"{self.data.name}.stderr").open("w+")
        self.process = subprocess.Popen(
            [*TAXIMETER, *self.words],
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            text=True,
            env=env,
            cwd=self.data.parent,
        )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if found := _URL.search(line):
                self.ready_line, self.url = line, found[0]
                self.client = httpx.Client(base_url=self.url, timeout=30)
                return self
        self.process.wait(10)
        raise AssertionError(f"the server ended with {self.process.returncode}: {self.complaints()}")

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()
        self.client.close()
        self.process.stdout.close()  # type: ignore[union-attr]
        self.stderr.close()

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait(10)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Asks it to end; (exit status, what it still said)."""
        self.process.send_signal(number)
        rest, _ = self.process.communicate(timeout=30)
        return self.process.returncode, rest

    def complaints(self) -> str:
        """What it wrote on standard error."""
        self.stderr.seek(0)
        return self.stderr.read()

    def post(self, body: str | bytes, content_type: str = "application/x-ndjson", **headers: str) -> httpx.Response:
        """Events, as they are."""
        content = body.encode() if isinstance(body, str) else body
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post("/v1/events", content=content, headers={"content-type": content_type, **named})

    def send(self, events: Iterable[str], batch: int = 10_000) -> str:
        """Events as NDJSON, all of which must be taken; the position after them."""
        lines, position = list(events), ""
        for start in range(0, len(lines), batch):
            answer = self.post("\n".join(lines[start : start + batch]))
            assert answer.status_code == 200, answer.text
            assert answer.json()["rejected"] == 0, answer.text
            position = answer.json()["position"]
        return position

    def tick(self, time: str) -> str:
        """It is now `time`; the position after it."""
        answer = self.client.post("/v1/ticks", json={"time": time})
        assert answer.status_code == 200, answer.text
        return answer.json()["position"]

    def get(self, path: str, position: str = "", **parameters: Any) -> Any:
        """The answer's JSON."""
        wait = {"position": position, "wait_ms": 30_000} if position else {}
        answer = self.client.get(path, params=parameters | wait)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def listing(self, name: str, position: str = "") -> list[Any]:
        """All pages of `line-items` or `invoices`, by id."""
        found: list[Any] = []
        more: dict[str, Any] = {"limit": 1000}
        while True:
            page = self.get(f"/v1/{name}", position, **more)
            found += page[name.replace("-", "_")]
            if not page["next_cursor"]:
                return sorted(found, key=lambda one: one["id"])
            more["cursor"] = page["next_cursor"]
