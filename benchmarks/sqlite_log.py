"""How many durable appends the embedded log takes: `python -m benchmarks.sqlite_log [--folder DIR] [--seconds S]`.

64 callers at once, each waiting for its answer before it sends the next; every answer stands for a synced disk. The
folder's disk is what is measured: a folder in memory says nothing.
"""

import argparse
import asyncio
import os
import random
import tempfile
import time
from pathlib import Path

from schemas.entry import EVENTS, encode_entry
from streams.embedded.log import SqliteLog

CALLERS = 64
CASES = ((300, 1), (60_000, 500))
"""Bytes of an entry, and the events in it."""


async def measure(log: SqliteLog, size: int, events: int, seconds: float) -> None:
    """Prints one line for entries of `size` bytes."""
    value = encode_entry(EVENTS, random.Random(1).randbytes(size - 2))
    latencies: list[float] = []
    stop = time.perf_counter() + seconds

    async def call(number: int) -> None:
        while (begin := time.perf_counter()) < stop:
            await log.append(number % log.partitions, value, events)
            latencies.append(time.perf_counter() - begin)

    begin = time.perf_counter()
    await asyncio.gather(*(call(number) for number in range(CALLERS)))
    took = time.perf_counter() - begin
    latencies.sort()
    p50, p99, worst = (1000 * latencies[int(share * (len(latencies) - 1))] for share in (0.5, 0.99, 1))
    rate = len(latencies) / took
    print(
        f"{size:>6} bytes, {CALLERS} callers, {log.partitions} partitions: {rate:>9,.0f} appends/s, "
        f"{rate * events:>11,.0f} events/s, {rate * size / 1e6:>6.1f} MB/s; "
        f"answered in p50 {p50:.1f} ms, p99 {p99:.1f} ms, max {worst:.1f} ms"
    )


def sync_time(folder: Path) -> float:
    """Milliseconds that this disk takes to sync 4 kB, the median of 50."""
    times = []
    with (folder / "sync").open("wb") as file:
        for _ in range(50):
            file.write(bytes(4096))
            file.flush()
            begin = time.perf_counter()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - begin)
    return 1000 * sorted(times)[25]


def main() -> None:
    """Measures each case with one and with four partitions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where to write; by default the current folder")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each case runs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder or Path.cwd(), prefix="sqlite-log-") as folder:
        print(f"one fsync of 4 kB takes {sync_time(Path(folder)):.2f} ms here")
        for partitions in (1, 4):
            log = SqliteLog(Path(folder) / str(partitions), partitions)
            try:
                for size, events in CASES:
                    asyncio.run(measure(log, size, events, options.seconds))
            finally:
                log.close()


if __name__ == "__main__":
    main()
