"""A process to kill: appends known entries, prints what is acknowledged, and runs the host beside it.

`python -m tests.embedded.worker FOLDER`. It goes on behind the last entry that the log holds (and sends that one
again, as a client without an answer would), prints `acknowledged <partition> <number> <end>` for each answer, and
`finished` when all is worked in.
"""

import asyncio
import random
import sys
import threading
from pathlib import Path

from schemas.topics import EVENTS
from streams.embedded.host import EmbeddedHost, HostSettings
from streams.embedded.log import SqliteLog
from streams.snapshots import SnapshotStore
from tests.embedded.adder import Adder, Event, entry_of

PARTITIONS = 2
ENTRIES = 200
SETTINGS = HostSettings(
    step_entries_max=7, snapshot_seconds=0.05, snapshot_offsets=25, tick_seconds=None, writer="worker"
)


def plan(partition: int) -> list[list[Event]]:
    """The events of every entry of a partition: the same each time. Some ids come twice."""
    chance = random.Random(partition)
    return [
        [
            (
                f"{partition}-{chance.randrange(3 * ENTRIES)}",
                f"key-{partition}-{chance.randrange(9)}",
                chance.randrange(-50, 99),
            )
            for _ in range(chance.randrange(1, 5))
        ]
        for _ in range(ENTRIES)
    ]


async def send(log: SqliteLog, partition: int) -> None:
    """Appends the plan from the last entry that the log holds on."""
    held = 0
    position = 0
    while records := log.read_records(EVENTS, partition, position, records_max=50):
        held += len(records)
        position = records[-1].end
    entries = plan(partition)
    for number in range(max(0, min(held, ENTRIES) - 1), ENTRIES):
        end = await log.append(partition, entry_of(entries[number]), len(entries[number]))
        print(f"acknowledged {partition} {number} {end}", flush=True)
        await asyncio.sleep(0.001)


async def send_all(log: SqliteLog) -> None:
    await asyncio.gather(*(send(log, partition) for partition in range(PARTITIONS)))


def main() -> None:
    folder = Path(sys.argv[1])
    log = SqliteLog(folder, PARTITIONS)
    host = EmbeddedHost(log, Adder(), SnapshotStore(folder / "snapshots"), SETTINGS)
    host.start()
    asyncio.run(send_all(log))
    ends = {partition: log.end(EVENTS, partition) for partition in range(PARTITIONS)}
    if not host.wait_until(ends, 30):
        raise SystemExit(f"reached {host.position()}, expected {ends}, threads {threading.enumerate()}")
    host.stop()
    log.close()
    print("finished", flush=True)


if __name__ == "__main__":
    main()
