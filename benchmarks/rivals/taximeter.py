"""The job in Taximeter as a user runs it: `taximeter ingest` (the door) and one `taximeter rate` (a Faust worker).

Two ways in. `json`: the same messages as the others have, one event each, in `taximeter.events.json`; the worker packs
them and rates the packs, all in its process. `packs`: the events come to the door over HTTP, 1,000 to a request as
NDJSON; the worker rates what the door has packed, and the door's CPU counts too.
"""

import contextlib
import http.client
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from benchmarks.rivals.contenders import environment
from benchmarks.rivals.job import BOOK, Lines, read_line_items
from benchmarks.rivals.watch import Contestant, Taken, WrongResult, fill, watch
from schemas import topics

READY_S: Final = 60.0
A_REQUEST: Final = 1_000
CALLERS: Final = 4


def over_json(bootstrap: str, prefix: str, folder: Path, texts: Sequence[bytes], wanted: Lines) -> Taken:
    """One run of a worker over messages of one event each. Raises: WrongResult."""
    with _door(bootstrap, prefix, folder):
        pass  # it makes the topics and brings the catalogue into force
    fill(bootstrap, prefix + topics.EVENTS_JSON, texts)
    return _rated(bootstrap, prefix, folder, wanted)


def over_packs(bootstrap: str, prefix: str, folder: Path, texts: Sequence[bytes], wanted: Lines) -> tuple[Taken, Taken]:
    """What the door took for these events, and what one run of a worker over its packs did. Raises: WrongResult."""
    with _door(bootstrap, prefix, folder) as (door, url):
        before = door.taken()
        _post(url, texts)
        after = door.taken()
    taken = Taken(after.seconds - before.seconds, after.cpu - before.cpu, after.memory)
    return taken, _rated(bootstrap, prefix, folder, wanted)


def _kafka(bootstrap: str, prefix: str) -> list[str]:
    return ["--bootstrap", bootstrap, "--prefix", prefix, "--partitions", "1"]


@contextlib.contextmanager
def _door(bootstrap: str, prefix: str, folder: Path) -> Iterator[tuple[Contestant, str]]:
    (folder / "book.yaml").write_text(BOOK)
    own = folder / "door"
    own.mkdir()
    more = ["--port", "0", "--max-ahead", "0", "--catalogue", str(folder / "book.yaml")]
    command = [sys.executable, "-m", "taximeter", "ingest", *_kafka(bootstrap, prefix), *more]
    with Contestant(command, environment(), own) as door:
        deadline = time.monotonic() + READY_S
        while ": ready at " not in (said := door.log.read_text()):
            if not door.is_running() or time.monotonic() > deadline:
                raise WrongResult(f"the door did not become ready:\n{door.said()}")
            time.sleep(0.05)
        yield door, said.partition(": ready at ")[2].split()[0]


def _rated(bootstrap: str, prefix: str, folder: Path, wanted: Lines) -> Taken:
    """The clock does not tick: as with the others, nothing closes an hour."""
    own = folder / "rate"
    own.mkdir()
    more = ["--snapshots", str(folder / "snapshots"), "--tick", "0", "--max-ahead", "0"]
    command = [sys.executable, "-m", "taximeter", "rate", *_kafka(bootstrap, prefix), *more]
    with Contestant(command, environment(), own) as worker:
        return watch(worker, bootstrap, prefix + topics.LINE_ITEMS, wanted, read_line_items)


def _post(url: str, texts: Sequence[bytes]) -> None:
    """All of them, by some callers at once. Raises: WrongResult."""
    where = urlsplit(url).netloc
    bodies = [b"\n".join(texts[at : at + A_REQUEST]) for at in range(0, len(texts), A_REQUEST)]

    def call(own: list[bytes]) -> None:
        connection = http.client.HTTPConnection(where, timeout=60)
        for body in own:
            connection.request("POST", "/v1/events", body, {"content-type": "application/x-ndjson"})
            answer = connection.getresponse()
            said = answer.read()
            if answer.status != 200:
                raise WrongResult(f"the door answered {answer.status}: {said[:200]!r}")

    with ThreadPoolExecutor(CALLERS) as callers:
        list(callers.map(call, [bodies[n::CALLERS] for n in range(CALLERS)]))
