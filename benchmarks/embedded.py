"""`taximeter serve` as a whole, everything in one process: `python -m benchmarks.embedded [--seconds S] [--rate N] …`.

The same load as `benchmarks.pipeline` and the same proof: every line item's amount against what the generator has
worked out; a wrong cent is exit status 1. How far the engine and the spend store are is asked of the server.
The latency is that of probes: from the door's answer to the log's time on the last line item (its commit's
beginning).
"""

import argparse
import json
import sqlite3
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any, Final

from benchmarks.bodies import BOOK
from benchmarks.chaos.processes import Fleet, free_port
from benchmarks.lines import Lines, tell
from benchmarks.metered import Taken, memory_of, per_event, taken
from benchmarks.sender import Load, Sender, Sent
from schemas import topics
from streams.embedded.rows import unpack
from streams.embedded.writer import table_name

_POLL_S: Final = 0.1
_DRAIN_S: Final = 120.0


def main() -> int:
    """Runs it once. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--warm-up", type=float, default=0, help="seconds before: what is sent in them is not timed")
    parser.add_argument("--rate", type=float, help="events a second; without it as fast as it goes")
    parser.add_argument("--partitions", type=int, default=1)
    parser.add_argument("--customers", type=int, default=20_000)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--outstanding", type=int, default=400_000, help="events accepted and not yet rated, at most")
    parser.add_argument("--probes", type=float, default=50, help="a second")
    parser.add_argument("--archive", action="store_true", help="keep the raw events as Parquet, too")
    parser.add_argument("--folder", type=Path, help="where the data go (default: the system's)")
    parser.add_argument("--json", type=Path, help="append the result to this file, as one line")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="taximeter-embedded-", dir=options.folder) as folder:
        return _measure(options, Path(folder))


def _measure(options: argparse.Namespace, folder: Path) -> int:
    (folder / "book.yaml").write_text(BOOK)
    with Fleet(folder) as fleet:
        port, book = free_port(), ("--catalogue", folder / "book.yaml")
        where = ("--data", folder / "data", "--partitions", options.partitions)
        archive = () if options.archive else ("--archive", "none")
        server = fleet.add("serve", "serve", "--port", port, *book, *where, *archive, keep=False)
        fleet.wait_ready(server)
        url = f"http://127.0.0.1:{port}"
        load = Load(
            url,
            options.seconds,
            options.rate,
            options.connections,
            customers=options.customers,
            outstanding=options.outstanding,
            probes=options.probes,
            warm_up=options.warm_up,
        )
        run = _Run(fleet, url, Sender(load), server.pid)
        sent = run.run(options.warm_up + options.seconds)
        status = server.stop()
    lines = _read(folder / "data" / "log.sqlite", options.partitions)
    wrong = [] if status == 0 else [f"serve ended with status {status}"]
    return tell(options, run.figures(sent) | lines.figures(sent), wrong + lines.faults(sent))


class _Run:
    """One run, and what the processes have taken."""

    def __init__(self, fleet: Fleet, url: str, sender: Sender, pid: int) -> None:
        self._fleet, self._url, self._sender = fleet, url, sender
        self._processes = {"serve": pid, "generator": sender.pid}
        self._samples: list[dict[str, Taken]] = []
        self._left = self._steps = 0
        self._rated = self._visible = 0.0

    def run(self, seconds: float) -> Sent:
        """Until everything that was sent is rated, emitted, and in the spend store. Raises: HarnessError."""
        self._sender.start()
        self._samples.append(taken(self._processes))
        middle, sent = time.monotonic() + seconds / 2, None
        while sent is None:
            self._sender.shared.rated.value = self._events()
            sent = self._sender.result(_POLL_S)
            if len(self._samples) == 1 and time.monotonic() > middle:
                self._samples.append(taken(self._processes))
        expected = sent.events
        self._left = expected - self._events()
        self._fleet.until(lambda: self._events() >= expected, f"{expected} events are rated", _DRAIN_S)
        self._rated = time.time()
        self._samples.append(self._samples[-1] | taken({"serve": self._processes["serve"]}))
        self._fleet.until(self._is_visible, "everything is in the spend store", _DRAIN_S)
        self._visible = time.time()
        return sent

    def _status(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self._url}/v1/status") as answer:
            return json.load(answer)  # type: ignore[no-any-return]

    def _events(self) -> int:
        """How many are rated and emitted."""
        partitions = self._status()["partitions"]
        self._steps = sum(one.get("steps", 0) for one in partitions)
        return sum(one.get("totals", {}).get("events", 0) for one in partitions)

    def _is_visible(self) -> bool:
        status = self._status()
        through = status["spend"]["through"]
        return all(through.get(str(one["partition"]), 0) >= one["end"] for one in status["partitions"])

    def figures(self, sent: Sent) -> dict[str, Any]:
        """How fast it was, and what it took."""
        begin, middle, end = self._samples[0], self._samples[-2], self._samples[-1]
        cpu = per_event(begin, end, sent.events)
        return {
            "events": sent.events,
            "seconds": self._rated - sent.began,
            "accepted_per_s": sent.events / (sent.ended - sent.began),
            "rated_per_s": sent.events / (self._rated - sent.began),
            "visible_per_s": sent.events / (self._visible - sent.began),
            "left_at_end": self._left,
            "steps": self._steps,
            "cpu_us_per_event": cpu | {"all": sum(cpu.values())},
            **memory_of((begin, middle, end)),
        }


def _read(path: Path, partitions: int) -> Lines:
    """All line items that the log holds."""
    lines = Lines()
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    (topic,) = connection.execute("SELECT id FROM topics WHERE name = ?", (topics.LINE_ITEMS,)).fetchone()
    for number in range(partitions):
        rows = connection.execute(f"SELECT written, value FROM {table_name(topic, number)} ORDER BY position")
        for written, value in rows:
            for key, item in unpack(value):
                lines.add(key, item, written / 1e6)
    connection.close()
    return lines


if __name__ == "__main__":
    sys.exit(main())
