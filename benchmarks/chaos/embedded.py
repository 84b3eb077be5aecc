"""The system under test in one process: `taximeter serve` on a folder, its supervisor, and the clients."""

import json
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from benchmarks.chaos import book
from benchmarks.chaos.compare import Found, compare
from benchmarks.chaos.deployment import RECOVERY_MAX_S
from benchmarks.chaos.expected import rate
from benchmarks.chaos.load import Load
from benchmarks.chaos.processes import Fleet, HarnessError, Member, free_port
from benchmarks.chaos.row import Row
from schemas import topics
from streams.embedded.log import SqliteLog

PARTITIONS: Final = 2
SNAPSHOT_EVERY_S: Final = 2
_WAIT_MS: Final = 30_000
_SHOWS_MS: Final = 5_000
_PAGE: Final = 1000


class Embedded:
    """One `serve` on one folder. A context manager."""

    def __init__(
        self,
        folder: Path,
        *,
        data: Path | None = None,
        rate: float = 400.0,
        module: str = "taximeter",
        before: str = "",
    ) -> None:
        """`module` and `before`: run the program through another (see `stepped_clock`)."""
        self.folder, self.data = folder, data or folder / "data"
        self.fleet = Fleet(folder)
        self._rate, self._module, self._before = rate, module, [before] if before else []
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> "Embedded":
        self.fleet.__enter__()
        (self.folder / "book.yaml").write_text(book.BOOK)
        self.load = Load([self.url], rate=self._rate, seed=self._port)
        try:
            self.serve = self.fleet.add("serve", *self._before, *self.arguments(), module=self._module)
            self.fleet.wait_ready(self.serve)
        except BaseException:
            self.fleet.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.load.stop()
        self.fleet.__exit__()

    def arguments(self, port: int | None = None) -> list[object]:
        """What `serve` is started with."""
        where = ["serve", "--port", self._port if port is None else port, "--data", self.data]
        what = ["--partitions", PARTITIONS, "--catalogue", self.folder / "book.yaml", "--max-ahead", 0]
        return [*where, *what, "--tick", "2s", "--snapshot-every", f"{SNAPSHOT_EVERY_S}s"]

    def wait_ack(self, row: Row, since: float, count: bool = True) -> None:
        """Until something sent after a moment (monotonic) is acknowledged and, where that counts as a recovery, is in

        what the queries answer: door, engine and spend store work again."""
        deadline = time.monotonic() + RECOVERY_MAX_S
        while (back := self.load.first_ack(self.url, since)) is None or (count and not self._shows(back.position)):
            if time.monotonic() > deadline:
                row.broken.append(f"nothing went on within {RECOVERY_MAX_S:.0f} s\n{self.serve.tail()}")
                row.recoveries.append(RECOVERY_MAX_S)
                return
            time.sleep(0.02)
        if count:
            row.recoveries.append(time.monotonic() - since)

    def _shows(self, position: str) -> bool:
        """Whether the queries include a position, now or soon."""
        try:
            self._ask("GET", f"/v1/line-items?limit=1&position={position}&wait_ms={_SHOWS_MS}")
        except (OSError, HTTPException, HarnessError):
            return False
        return True

    def kill(self, row: Row) -> float:
        """kill -9, written down; the moment (monotonic)."""
        row.in_flight += self.load.unanswered
        at = time.monotonic()
        if self.serve.kill():
            row.kills += 1
            row.injected += 1
        return at

    def stop(self, row: Row) -> None:
        """SIGTERM; it must end with status 0 and is not started again."""
        self.fleet.until(lambda: self.serve.ready and self.serve.running, "serve is ready", RECOVERY_MAX_S)
        status = self.serve.stop()
        if status != 0:
            row.broken.append(f"serve stopped with status {status}, expected 0\n{self.serve.tail()}")
        self.fleet.until(lambda: self.serve.gone, "serve is gone", 10.0)

    def restart(self) -> None:
        """Lets the supervisor start it again, and waits until it is ready."""
        self.serve.keep = True
        self.fleet.until(lambda: self.serve.running and self.serve.ready, "serve is ready", RECOVERY_MAX_S)

    def check(self, row: Row, change: Callable[[Found], None] | None = None) -> None:
        """Stops the clients, closes the month, and compares the log, and what the queries say, with the pass."""
        self.load.stop()
        self.stop(row)  # requests that were given up are finished by this
        self.restart()
        tick = json.dumps({"time": book.CLOSING_TICK}).encode()
        position = self._ask("POST", "/v1/ticks", tick)["position"]
        answered = {name: self._list(name, position) for name in ("line-items", "invoices")}
        self.stop(row)
        log = SqliteLog(self.data, PARTITIONS)
        try:
            entries = [_read(log, topics.EVENTS, number) for number in range(PARTITIONS)]
            found = Found(
                *(
                    [value for number in range(PARTITIONS) for value in _read(log, name, number)]
                    for name in (topics.LINE_ITEMS, topics.INVOICES, topics.ALERTS)
                )
            )
        finally:
            log.close()
        if change is not None:
            change(found)
        expected = rate(entries)
        row.findings = compare(list(self.load.acknowledged), expected, found)
        self._compare_answers(answered, found, row)
        row.events = len(self.load.acknowledged)
        row.broken += self.load.refused[:3]
        row.stopped_itself += self.serve.stopped_itself
        row.notes.append(
            f"{row.events} acknowledged, {expected.duplicates} duplicates ({expected.conflicts} in conflict), "
            f"{expected.voided} voids, {len(expected.invoices)} invoices, {len(expected.alerts)} alerts"
        )

    def _compare_answers(self, answered: dict[str, list[Any]], found: Found, row: Row) -> None:
        """The spend store has what the topics have: the highest revision of each line, every invoice."""
        for name, values in (("line-items", found.line_items), ("invoices", found.invoices)):
            highest: dict[str, Any] = {}
            for record in map(json.loads, values):
                if record["id"] not in highest or record["revision"] > highest[record["id"]]["revision"]:
                    highest[record["id"]] = record
            said = {record["id"]: record for record in answered[name]}
            nought = {id for id, one in highest.items() if one.get("quantity") == "0" and one.get("amount") == "0"}
            wrong = [id for id in (said.keys() | highest.keys()) - nought if said.get(id) != highest.get(id)]
            if wrong:
                row.broken.append(f"{len(wrong)} {name} of the spend store are not those of the log: {wrong[:3]}")

    def _list(self, name: str, position: str) -> list[Any]:
        records: list[Any] = []
        asked: dict[str, object] = {"limit": _PAGE, "position": position, "wait_ms": _WAIT_MS}
        cursor: str | None = ""
        while cursor is not None:
            query = urlencode(asked | ({"cursor": cursor} if cursor else {}))
            page = self._ask("GET", f"/v1/{name}?{query}")
            records += page[name.replace("-", "_")]
            cursor = page["next_cursor"]
        return records

    def _ask(self, method: str, path: str, body: bytes | None = None) -> Any:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=_WAIT_MS / 1000 + 20)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
            if answer.status != 200:
                raise HarnessError(f"{method} {path} answered {answer.status}: {content[:1000]!r}")
            return json.loads(content)
        finally:
            connection.close()

    def second(self, name: str) -> Member:
        """Another `serve` on the same folder, which is not kept alive."""
        return self.fleet.add(name, *self.arguments(port=0), keep=False)


def _read(log: SqliteLog, topic: str, partition: int) -> list[bytes]:
    values: list[bytes] = []
    position = 0
    while records := log.read_records(topic, partition, position):
        values += (record.value for record in records)
        position = records[-1].end
    return values
