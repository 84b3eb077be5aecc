"""A process to kill: the rating engine with almost no room for identities in memory, so that most are in files.

`python -m tests.embedded.rating_worker FOLDER` goes on behind the last entry that the log holds (and sends that one
again), and prints `finished` when all is worked in.
"""

import asyncio
import random
import sys
from pathlib import Path

from rating.engine import RatingProcessor, RatingSettings
from schemas.topics import EVENTS
from streams.embedded.host import EmbeddedHost, HostSettings
from streams.embedded.log import SqliteLog
from streams.snapshots import SnapshotStore
from tests.unit.rating.engines import ARRIVED, Log, event

BOOK = """
meters: {units: {event: use, aggregate: sum, value: $.n}}
price_books: {book: {currency: USD, charges: {units: {meter: units, price: {model: unit, unit_amount: 1}}}}}
default_subscription: {price_book: book, period: year}
"""
PACKS = 160
WEEK = 7 * 86400 * 1_000_000
IN_MEMORY = 5
SETTINGS = HostSettings(step_entries_max=3, snapshot_seconds=0.03, snapshot_offsets=40, tick_seconds=None)


def ids() -> list[list[int]]:
    """Of each pack: two of three ids are new ones, the others came before, some of them long ago."""
    chance = random.Random(35)
    packs: list[list[int]] = []
    new = 0
    for _ in range(PACKS):
        pack = []
        for _ in range(6):
            again = new > 0 and chance.random() < 1 / 3
            pack.append(chance.randrange(new) if again else new)
            new += not again
        packs.append(pack)
    return packs


def plan() -> Log:
    """A catalogue and all packs; over four weeks of arrival, so nothing is forgotten and buckets follow each other."""
    log = Log().catalogue(BOOK)
    for number, pack in enumerate(ids()):
        texts = [event(f"e{i}", "2026-11-05T00:00:00Z", f'{{"n": {i % 10 + 1}}}') for i in pack]
        log.events(texts, arrived=ARRIVED + number * 4 * WEEK // PACKS)
    return log


def expected() -> tuple[int, int]:
    """How many different events there are, and their sum: by the ids alone."""
    different = {i for pack in ids() for i in pack}
    return len(different), sum(i % 10 + 1 for i in different)


async def send(log: SqliteLog) -> None:
    held = position = 0
    while records := log.read_records(EVENTS, 0, position, records_max=50):
        held += len(records)
        position = records[-1].end
    for entry in plan().entries[max(0, held - 1) :]:
        await log.append(0, entry.value, entry.end - entry.offset)
        await asyncio.sleep(0.001)


def main() -> None:
    folder = Path(sys.argv[1])
    log = SqliteLog(folder, 1)
    settings = RatingSettings(folder=folder / "identities", identities_in_memory=IN_MEMORY, rows_in_memory=IN_MEMORY)
    processor = RatingProcessor(settings)
    host = EmbeddedHost(log, processor, SnapshotStore(folder / "snapshots"), SETTINGS)
    host.start()
    print("started", flush=True)
    asyncio.run(send(log))
    if not host.wait_until({0: log.end(EVENTS, 0)}, 60):
        raise SystemExit(f"reached {host.position()}, expected {log.end(EVENTS, 0)}: {host.failures}")
    host.stop()
    processor.close()
    log.close()
    print("finished", flush=True)


if __name__ == "__main__":
    main()
