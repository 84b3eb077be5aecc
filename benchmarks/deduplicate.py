"""Deduplication alone: `python -m benchmarks.deduplicate [--keys 100000,...] [--events N] [--batch N]`

For each number of identities held: events a second through `Deduplicator.check`, bytes on disk and in memory, and the
seconds of a restart. The runs are made directly, from random keys through the same writer, as the stream would have
left them: one for each week that is over, several of the newest one. Duplicates are drawn from all weeks alike, which
is the worst case: real ones are mostly young. At the end what a billion would take, by the slopes measured.

Rates are by CPU time: `stream` is that of the thread that checks, `all` is that of the whole process, so with sealing
and merging in the background, as if there were one core.
"""

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.result import Figure, append, figure
from rating.deduplicate import Deduplicator
from rating.identities.held import IN_MEMORY_MAX, MERGED_AT_ONCE, Place
from rating.identities.run import Rows, starts_of, write_run
from rating.index import Keys
from schemas.times import DAY
from streams.snapshots import Snapshot, SnapshotStore

WEEKS = 6
TODAY = 40 * DAY
SAMPLES = 1_000_000
TARGET = 300_000
Check = Callable[[Keys, NDArray[np.uint32], NDArray[np.int64]], Any]


def main() -> None:
    """Runs each case in a process of its own, and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", default="100000,1000000,10000000,100000000", help="identities held, with commas")
    parser.add_argument("--events", type=int, default=2_000_000, help="events checked in each case")
    parser.add_argument("--batch", type=int, default=16_384, help="events in a batch: a step's packs")
    parser.add_argument("--json", type=Path, help="append the figures to this file")
    parser.add_argument("--folder", help="where the files go (default: a temporary folder)")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        kind, count = options.one.split(":")
        print(json.dumps(CASES[kind](int(count), options)))
        return
    print(HEAD)
    sizes = [int(size) for size in options.keys.split(",")]
    found = [_run("disk", size) for size in sizes]
    compared = min(max(sizes), 10_000_000)
    _run("memory", compared)
    _run("rocksdb", compared)
    _run("filled", compared)
    if len(found) > 1:
        _print_billion(found[-2], found[-1])
    if options.json:
        for case in found:
            append(options.json, _figures(case))


def _figures(case: dict[str, Any]) -> list[Figure]:
    """What the engine keeps on disk, for the record."""
    add = partial(figure, "deduplicate", f"{case['count']:,} identities", checked="how many of each batch were new")
    return [
        add("no duplicates", "events/s", [case["fresh"][1]]),
        add("5 % duplicates", "events/s", [case["mixed"][1]]),
        add("disk of an identity", "bytes", [case["disk"]]),
        add("memory of an identity", "bytes", [case["memory"]]),
        add("restart, of CPU", "s", [case["restart"]]),
    ]


HEAD = (
    "                            events/s, no duplicates    events/s, 5 % of them       bytes an identity\n"
    "identities held               stream          all       stream          all     disk  memory     RSS"
    "   restart: CPU, waited"
)


def _run(kind: str, count: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.deduplicate", "--one", f"{kind}:{count}", *sys.argv[1:]]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, Any] = json.loads(answer)
    if found:
        restart = "" if found["restart"] is None else f"{found['restart']:>8.1f} s, {found['waited']:.1f} s"
        print(
            f"{kind:<8} {count:>13,}  {found['fresh'][0]:>14,.0f} {found['fresh'][1]:>12,.0f}"
            f" {found['mixed'][0]:>12,.0f} {found['mixed'][1]:>12,.0f}"
            f"   {found['disk']:>6.2f}  {found['memory']:>6.2f}  {found['rss']:>6.2f} {restart}",
            flush=True,
        )
    return {"count": count, **found}


# The cases -----------------------------------------------------------------------------------------------------------


def on_disk(count: int, options: argparse.Namespace) -> dict[str, Any]:
    """As the engine keeps them: a restart from local files, then the stream."""
    with TemporaryDirectory(dir=options.folder) as temporary:
        folder = Path(temporary)
        with ProcessPoolExecutor(1, get_context("spawn")) as other:  # so that what it took is not in our memory
            dumped, samples = other.submit(make, folder / "made", count).result()
        before = resident()
        seconds: dict[str, float] = {}
        began, worked = time.perf_counter(), time.process_time()
        local = Deduplicator(35, Place(folder / "made"))
        local.load(dumped)
        seconds["waited"], seconds["restart"] = time.perf_counter() - began, time.process_time() - worked
        held, rss = len(local), resident() - before
        disk, memory = local.file_bytes / held, local.nbytes / held
        rates = measure(local.check, samples, options)
        local.close()
        seconds["fetched"] = restore_elsewhere(folder, dumped)
    return {**rates, "disk": disk, "memory": memory, "rss": rss / held, **seconds}


def in_memory(count: int, options: argparse.Namespace) -> dict[str, Any]:
    """All in one table of memory, as `rate-file` has it."""
    before = resident()
    held = Deduplicator(35)
    samples = fill(held, count, options)
    memory, rss = held.nbytes / len(held), resident() - before
    return {**measure(held.check, samples, options), "disk": 0, "memory": memory, "rss": rss / count, "restart": None}


def filled(count: int, options: argparse.Namespace) -> dict[str, Any]:
    """On disk from the first event on: what the whole way costs, with every seal and merge in it."""
    with TemporaryDirectory(dir=options.folder) as temporary:
        before = resident()
        held = Deduplicator(35, Place(Path(temporary)))
        began, stream = time.process_time(), time.thread_time()
        samples = fill(held, count, options)
        rate = [count / (time.thread_time() - stream), count / (time.process_time() - began)]
        rss, disk, memory = resident() - before, held.file_bytes / count, held.nbytes / count
        rates = measure(held.check, samples, options)
        held.close()
    return {**rates, "fresh": rate, "disk": disk, "memory": memory, "rss": rss / count, "restart": None}


def rocksdb(count: int, options: argparse.Namespace) -> dict[str, Any]:
    """The same job on RocksDB (`pip install rocksdict`), if it is there: batches of 2,000, 10 bits a key."""
    try:
        import rocksdict
    except ImportError:
        return {}
    with TemporaryDirectory(dir=options.folder) as temporary:
        before = resident()
        table = rocksdict.BlockBasedOptions()
        table.set_bloom_filter(10, False)
        settings = rocksdict.Options(raw_mode=True)
        settings.set_block_based_table_factory(table)
        base = rocksdict.Rdict(temporary, settings)

        def check(identity: Keys, content: NDArray[np.uint32], _: NDArray[np.int64]) -> None:
            for begin in range(0, len(identity), 2000):
                raw = identity[begin : begin + 2000].tobytes()
                keys = [raw[i : i + 16] for i in range(0, len(raw), 16)]
                values = content[begin : begin + 2000].astype("<u4").tobytes()
                known = base[keys]
                batch = rocksdict.WriteBatch(raw_mode=True)
                for at, (key, old) in enumerate(zip(keys, known, strict=True)):
                    if old is None:
                        batch.put(key, values[4 * at : 4 * at + 4])
                base.write(batch)

        chance = np.random.default_rng(1)
        samples = np.empty((0, 2), np.uint64)
        for part in parts(count, 100_000):
            keys = random_keys(chance, part)
            check(keys, contents_of(keys), np.empty(0, np.int64))
            samples = keys if len(samples) < SAMPLES else samples
        base.flush()
        disk = sum(path.stat().st_size for path in Path(temporary).rglob("*") if path.is_file()) / count
        rss = resident() - before
        rates = measure(check, samples, options)
        base.close()
    return {**rates, "disk": disk, "memory": rss / count, "rss": rss / count, "restart": None}


CASES = {"disk": on_disk, "memory": in_memory, "filled": filled, "rocksdb": rocksdb}


# What is held --------------------------------------------------------------------------------------------------------


def make(folder: Path, count: int) -> tuple[dict[str, Any], Keys]:
    """Runs of so many identities, what a snapshot would say of them, and some of the identities."""
    chance = np.random.default_rng(1)
    newest = TODAY // (7 * DAY)
    buckets, runs, samples = {}, {}, []
    for number in range(newest - WEEKS + 1, newest + 1):
        in_table = 0 if number < newest else min(IN_MEMORY_MAX // 2, count // WEEKS)
        sizes = tiers(count // WEEKS - in_table) if number == newest else [count // WEEKS]
        keys = random_keys(chance, in_table)
        buckets[str(number)] = [keys.tobytes(), contents_of(keys).tobytes()]
        names = []
        for size in filter(None, sizes):
            leads = np.sort(chance.integers(0, 2**64, size, dtype=np.uint64))
            others = chance.integers(0, 2**64, size, dtype=np.uint64)
            contents = (leads ^ others).astype(np.uint32)
            names.append(write_run(folder, number, starts_of(leads), [Rows(leads, others, contents)]).name)
            some = chance.integers(0, size, max(1, SAMPLES * size // count))
            samples.append(np.stack([leads[some], others[some]], axis=1))
        runs[str(number)] = names
    return {"latest": TODAY, "buckets": buckets, "runs": runs}, chance.permutation(np.concatenate(samples))


def tiers(count: int) -> list[int]:
    """The runs of a bucket that grows, when so many have come: at worst one less than are merged of each kind."""
    sizes = []
    size = IN_MEMORY_MAX
    while count > (MERGED_AT_ONCE - 1) * size:
        sizes += [size] * (MERGED_AT_ONCE - 1)
        count -= (MERGED_AT_ONCE - 1) * size
        size *= MERGED_AT_ONCE
    return [*sizes, *([size] * (count // size)), count % size]


def fill(held: Deduplicator, count: int, options: argparse.Namespace) -> Keys:
    """By the stream itself, over five weeks."""
    chance = np.random.default_rng(1)
    samples = []
    done = 0
    for part in parts(count, options.batch):
        keys = random_keys(chance, part)
        arrived = np.full(part, DAY + 34 * DAY * done // count)
        assert held.check(keys, contents_of(keys), arrived).fresh.all()
        samples.append(keys[:: max(1, count // SAMPLES)].copy())
        done += part
    return chance.permutation(np.concatenate(samples))


def restore_elsewhere(folder: Path, dumped: dict[str, Any]) -> float:
    """Seconds of a start on another machine: its files are brought from a store, copied and verified."""
    store = SnapshotStore(f"file://{folder}/store")
    files = {name: folder / "made" / name for names in dumped["runs"].values() for name in names}
    files = {name: path for name, path in files.items() if path.exists()}
    store.save("rating", 0, Snapshot(1, 0, 1, b"", files))
    fetched = {number: [n for n in names if n in files] for number, names in dumped["runs"].items()}
    began = time.perf_counter()
    held = Deduplicator(35, Place(folder / "elsewhere"))
    held.load({**dumped, "runs": fetched}, lambda name, to: store.fetch("rating", 0, name, to))
    took = time.perf_counter() - began
    held.close()
    return took


# What is measured ----------------------------------------------------------------------------------------------------


def measure(check: Check, samples: Keys, options: argparse.Namespace) -> dict[str, list[float]]:
    """Events a second of CPU, of the thread and of the process: all new, and with 5 % that were there before."""
    return {
        "fresh": _rate(check, samples[:0], options, seed=2),
        "mixed": _rate(check, samples, options, seed=3),
    }


def _rate(check: Check, samples: Keys, options: argparse.Namespace, seed: int) -> list[float]:
    chance = np.random.default_rng(seed)
    stream = everything = 0.0
    at = 0
    for part in parts(options.events, options.batch):
        keys = random_keys(chance, part)
        if len(samples):
            again = np.flatnonzero(chance.random(part) < 0.05)
            keys[again] = samples.take(np.arange(at, at + len(again)) % len(samples), axis=0)
            at += len(again)
        contents, arrived = contents_of(keys), np.full(part, TODAY)
        process, thread = time.process_time(), time.thread_time()
        verdicts = check(keys, contents, arrived)
        stream += time.thread_time() - thread
        everything += time.process_time() - process
        if verdicts is not None:
            fresh = part if not len(samples) else part - len(again)
            assert int(verdicts.fresh.sum()) == fresh, "a wrong result is no result"
            assert not verdicts.conflict.any()
    return [options.events / stream, options.events / everything]


def _print_billion(small: dict[str, Any], large: dict[str, Any]) -> None:
    """By the last two cases: cost grows with the logarithm of what is held (levels of memory, runs), bytes with it."""
    decades = math.log10(large["count"] / small["count"])
    ahead = math.log10(1e9 / large["count"])
    print(f"\na billion, from {small['count']:,} and {large['count']:,}:")
    for name, column in (("no duplicates", "fresh"), ("5 % duplicates", "mixed")):
        costs = [1e6 / case[column][1] for case in (small, large)]
        slope = (costs[1] - costs[0]) / decades
        billion = costs[1] + slope * ahead
        print(
            f"  {name}: {costs[1]:.3f} us an event + {ahead:.1f} decades x {slope:+.3f} us = {billion:.3f} us:"
            f" {1e6 / billion:,.0f} events/s on one core"
        )
    for name, column in (("disk", "disk"), ("memory", "memory")):
        sizes = [case[column] * case["count"] for case in (small, large)]
        slope = (sizes[1] - sizes[0]) / (large["count"] - small["count"])
        constant = sizes[1] - slope * large["count"]
        total = (constant + slope * 1e9) / 1e9
        print(f"  {name}: {constant / 1e6:.0f} MB + {slope:.2f} bytes x 10^9 = {total:.1f} GB")
    print(
        f"  restart: {large['restart'] / large['count'] * 1e9:.0f} s of CPU, on another machine"
        f" {large['fetched'] / large['count'] * 1e9:.0f} s and the network"
        f" (at {large['count']:,}: {large['fetched']:.1f} s)"
    )


# Small things --------------------------------------------------------------------------------------------------------


def random_keys(chance: np.random.Generator, count: int) -> Keys:
    return chance.integers(0, 2**64, (count, 2), dtype=np.uint64)


def contents_of(keys: Keys) -> NDArray[np.uint32]:
    return (keys[:, 0] ^ keys[:, 1]).astype(np.uint32)


def parts(count: int, size: int) -> list[int]:
    return [size] * (count // size) + ([count % size] if count % size else [])


def resident() -> int:
    """Bytes of memory that are the process's own: without files that are mapped, which the system may let go."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    main()
