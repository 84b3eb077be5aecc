"""The engine with identities on disk says what it says with all of them in memory."""

import random
from pathlib import Path

import msgspec
import pytest

from rating.engine import RatingProcessor, RatingSettings
from rating.work import ByHand
from streams.snapshots import Snapshot, SnapshotStore
from tests.unit.rating.engines import ARRIVED, Log, event, open_engine, plain_dump

BOOK = """
meters: {units: {event: use, aggregate: sum, value: $.n}}
price_books: {book: {currency: USD, charges: {units: {meter: units, price: {model: unit, unit_amount: 1}}}}}
default_subscription: {price_book: book, period: year}
"""
WEEK = 7 * 86400 * 1_000_000


def long_log() -> Log:
    """Ten weeks in which ids come again, some with another content."""
    chance = random.Random(1)
    log = Log().catalogue(BOOK)
    for pack in range(60):
        ids = [chance.randrange(pack * 6 + 1) for _ in range(8)]
        texts = [event(f"e{i}", "2026-11-05T00:00:00Z", f'{{"n": {i % 7 + chance.randrange(2)}}}') for i in ids]
        log.events(texts, arrived=ARRIVED + pack * WEEK // 6)
    return log


@pytest.mark.parametrize(("in_memory", "worked"), [(2, 1), (8, 0), (8, 100), (1000, 1)])
def test_outputs_and_snapshots_are_the_same(tmp_path: Path, in_memory: int, worked: int) -> None:
    memory, worker = open_engine(settings=RatingSettings()), ByHand()
    processor = RatingProcessor(RatingSettings(folder=tmp_path / "held", identities_in_memory=in_memory), worker=worker)
    store = SnapshotStore(tmp_path / "snapshots")
    disk = processor.open(0, None)
    duplicates = conflicts = 0
    for number, entry in enumerate(long_log().entries):
        step = memory.process([entry])
        assert disk.process([entry]) == step
        duplicates, conflicts = duplicates + step.summary.duplicates, conflicts + step.summary.conflicts
        worker.work(worked)
        if number % 11 == 3:
            snapshot = disk.snapshot()
            store.save("rating", 0, Snapshot(number, 0, 1, snapshot, disk.files()))
            disk = processor.open(0, snapshot, lambda name, to: store.fetch("rating", 0, name, to))
    assert min(duplicates, conflicts) > 10
    one, other = plain_dump(memory.snapshot()), plain_dump(disk.snapshot())
    one["identities"] = other["identities"] = None
    assert one == other
    assert len(memory.tenants.identities) == len(disk.tenants.identities)  # type: ignore[attr-defined]


def test_a_partition_that_is_opened_again_has_one_engine(tmp_path: Path) -> None:
    processor = RatingProcessor(RatingSettings(folder=tmp_path))
    entries = long_log().entries
    first = processor.open(0, None)
    first.process(entries[:3])
    second, other = processor.open(0, None), processor.open(1, None)
    with pytest.raises(RuntimeError, match="opened again"):
        first.process(entries[3:4])
    second.process(entries[:4])
    other.process(entries[:4])
    processor.close()
    with pytest.raises(RuntimeError, match="opened again"):
        second.process(entries[4:5])


def test_a_snapshot_does_not_hold_what_is_on_disk(tmp_path: Path) -> None:
    worker = ByHand()
    processor = RatingProcessor(RatingSettings(folder=tmp_path, identities_in_memory=50), worker=worker)
    engine = processor.open(0, None)
    log = Log().catalogue(BOOK)
    for pack in range(20):
        log.events([event(f"e{pack}-{i}", "2026-11-05T00:00:00Z") for i in range(50)])
    for entry in log.entries:
        engine.process([entry])
        worker.work(9)
    dumped = msgspec.msgpack.decode(engine.snapshot())["identities"]
    assert sum(len(keys) // 16 for keys, _ in dumped["buckets"].values()) <= 50
    assert {name for names in dumped["runs"].values() for name in names} == engine.files().keys()
    assert all(path.parent == tmp_path / "00000" for path in engine.files().values())
