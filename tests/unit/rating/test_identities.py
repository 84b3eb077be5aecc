"""Identities on disk: the same verdicts as in memory, whatever is written, merged, dropped or restored when."""

import itertools
import logging
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from hashlib import blake2b
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rating.deduplicate import Deduplicator
from rating.identities.held import Place
from rating.work import Background, ByHand, Job
from schemas.times import DAY
from streams.snapshots import Snapshot, SnapshotError, SnapshotStore

Event = tuple[int, int, int]  # identity, content, days since the event before


def key_of(identity: int) -> tuple[int, int]:
    """128 bits for a number: most of them a hash as identities are, some that agree in their first or second half."""
    raw = blake2b(b"%d" % (identity // 4), digest_size=16).digest()
    first, second = int.from_bytes(raw[:8], "little"), int.from_bytes(raw[8:], "little")
    return [(first, second), (first, second ^ 1), (first ^ 1, second), (0, identity // 4)][identity % 4]


class Twin:
    """The same in plain dictionaries, event by event, from the description alone."""

    def __init__(self, window: int | None) -> None:
        self.window = window
        self.latest = 0
        self.buckets: dict[int, dict[int, int]] = {}

    def check(self, events: list[Event]) -> list[str]:
        return [self._one(*event) for event in events]

    def _one(self, identity: int, content: int, arrived: int) -> str:
        self.latest = max(self.latest, arrived)
        number = 0 if self.window is None else self.latest // 7
        if self.window is not None:
            self.buckets = {n: b for n, b in self.buckets.items() if (number - n - 1) * 7 < self.window}
        known = next((bucket[identity] for bucket in self.buckets.values() if identity in bucket), None)
        if known is None:
            self.buckets.setdefault(number, {})[identity] = content
            return "first"
        return "duplicate" if known == content else "conflict"


def check(held: Deduplicator, events: list[Event]) -> list[str]:
    identity = np.array([key_of(i) for i, _, _ in events], dtype=np.uint64).reshape(-1, 2)
    content = np.array([c for _, c, _ in events], dtype=np.uint32)
    arrived = np.array([a for _, _, a in events], dtype=np.int64) * DAY
    fresh, conflict = held.check(identity, content, arrived)
    words = {(True, False): "first", (False, True): "conflict", (False, False): "duplicate"}
    return [words[bool(f), bool(c)] for f, c in zip(fresh, conflict, strict=True)]


class OnDisk:
    """A deduplicator with a folder and a store of snapshots, which may crash, move, and find its disk full."""

    def __init__(self, folder: Path, window: int | None, in_memory_max: int) -> None:
        self.folder, self.window, self.in_memory_max = folder, window, in_memory_max
        self.store = SnapshotStore(folder / "snapshots")
        self.moves = self.saved = 0
        self.open(None)

    def open(self, dumped: bytes | None) -> None:
        self.worker = ByHand()
        place = Place(self.folder / f"identities-{self.moves}", self.in_memory_max, retry_seconds=0)
        self.held = Deduplicator(self.window, place, self.worker)
        if dumped is not None:
            self.held.load(msgspec.msgpack.decode(dumped), partial(self.store.fetch, "rating", 0))

    def save(self) -> bytes:
        """A snapshot, with all that it rests on."""
        self.saved += 1
        dumped = msgspec.msgpack.encode(self.held.dump())
        assert all(path.name == name for name, path in self.held.files().items())
        self.store.save("rating", 0, Snapshot(self.saved, 0, 1, dumped, self.held.files()))
        return dumped

    def restore(self, *, moves: bool) -> None:
        """A crash right after a snapshot; what was under way is left where it is, or all of it is elsewhere."""
        dumped = self.save()
        self.moves += moves
        self.open(dumped)


@contextmanager
def full_disk() -> Iterator[None]:
    """No file may grow: writes fail with an error of the operating system."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


EVENTS = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 1), st.sampled_from([0] * 12 + [1, 3, 7, 20])), min_size=1, max_size=12
)
STEPS = st.lists(
    st.tuples(st.just("check"), EVENTS)
    | st.tuples(st.sampled_from(["work", "work all", "refuse", "snapshot", "crash", "move"]), st.just([])),
    max_size=25,
)


@given(STEPS, st.sampled_from([1, 2, 5, 1000]), st.sampled_from([None, 1, 7, 10, 35]))
@settings(max_examples=100, deadline=None)
def test_verdicts_on_disk_are_those_in_memory_and_those_of_a_twin(
    tmp_path_factory: pytest.TempPathFactory, steps: list, in_memory_max: int, window: int | None
) -> None:
    disk = OnDisk(tmp_path_factory.mktemp("disk"), window, in_memory_max)
    memory, twin = Deduplicator(window), Twin(window)
    today = 0
    for word, events in steps:
        if word == "check":
            days = list(itertools.accumulate((days for _, _, days in events), initial=today))[1:]
            timed = [(i, c, day) for (i, c, _), day in zip(events, days, strict=True)]
            today = days[-1]
            assert check(disk.held, timed) == check(memory, timed) == twin.check(timed)
            assert len(disk.held) == len(memory) == sum(map(len, twin.buckets.values()))
        elif word == "work":
            disk.worker.work()
        elif word == "work all":
            disk.worker.work(100)
        elif word == "refuse":
            with full_disk():
                disk.worker.work(100)
        elif word == "snapshot":
            disk.save()
        else:
            disk.restore(moves=word == "move")


def keys(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, (count, 2), dtype=np.uint64)


def add(held: Deduplicator, identity: np.ndarray, day: int = 1) -> np.ndarray:
    return held.check(identity, identity[:, 1].astype(np.uint32), np.full(len(identity), day * DAY)).fresh


@pytest.mark.parametrize("batch", [100, 1000, 20_000])
def test_many_identities_through_all_stages(tmp_path: Path, batch: int) -> None:
    held = Deduplicator(35, Place(tmp_path, in_memory_max=1000), Background())
    known = [keys(20_000, seed) for seed in range(4)]
    for week, part in enumerate(known):
        for begin in range(0, len(part), batch):
            assert add(held, part[begin : begin + batch], 7 * week + 1).all()
    assert len(held) == 80_000
    for part in reversed(known):
        assert not add(held, part, 28).any()
    assert add(held, keys(20_000, 9), 28).all()
    held.close()


def test_buckets_that_no_longer_grow_end_as_one_run_each(tmp_path: Path) -> None:
    worker = ByHand()
    held = Deduplicator(35, Place(tmp_path, in_memory_max=10), worker)
    for week in range(4):
        for part in range(20):
            add(held, keys(10, 100 * week + part), 7 * week)
    for _ in range(20):
        worker.work(100)
        add(held, keys(1, 9999), 7 * 3)
    assert len(list(tmp_path.glob("*.run"))) <= 3 + 8
    assert sum(1 for run in held._held.runs() if run.bucket < 3) == 3
    assert sum(run.count for run in held._held.runs() if run.bucket < 3) == 600


def test_files_go_with_their_bucket_but_not_before_the_next_snapshot(tmp_path: Path) -> None:
    worker = ByHand()
    held = Deduplicator(7, Place(tmp_path, in_memory_max=10), worker)
    add(held, keys(10, 1), 1)
    worker.work(9)
    add(held, keys(3, 2), 1)
    [[name]] = held.dump()["runs"].values()
    assert held.files() == {name: tmp_path / name}
    add(held, keys(3, 3), 100)
    assert held.file_bytes == 0
    assert (tmp_path / name).exists()
    assert held.files() == {name: tmp_path / name}
    held.dump()
    assert held.files() == {}
    assert list(tmp_path.iterdir()) == []


def test_what_was_merged_since_the_last_snapshot_leaves_nothing_behind(tmp_path: Path) -> None:
    worker = ByHand()
    held = Deduplicator(35, Place(tmp_path, in_memory_max=10), worker)
    for part in range(300):
        add(held, keys(10, part))
        worker.work(100)
    add(held, keys(1, 1000))
    assert {path.name for path in tmp_path.iterdir()} == {run.name for run in held._held.runs()}
    assert len(list(tmp_path.iterdir())) < 24


def test_a_start_removes_what_a_crash_left_and_takes_nothing_that_is_not_ours(tmp_path: Path) -> None:
    disk = OnDisk(tmp_path, 35, 5)
    for part in range(4):
        add(disk.held, keys(5, part))
        disk.worker.work(100)
    dumped = disk.save()
    folder = tmp_path / "identities-0"
    (folder / "17-1.tmp").write_bytes(b"half a run")
    (folder / ("0" * 32 + ".run")).write_bytes(b"a run of a state that never was")
    (folder / "notes.txt").write_text("mine")
    disk.open(dumped)
    assert {path.name for path in folder.iterdir()} == {*disk.held.files(), "notes.txt"}
    assert len(disk.held.files()) >= 3
    for part in range(4):
        assert not add(disk.held, keys(5, part)).any()


def test_a_damaged_file_is_brought_again_and_one_that_cannot_be_is_refused_by_name(tmp_path: Path) -> None:
    disk = OnDisk(tmp_path, 35, 5)
    add(disk.held, keys(5, 1))
    disk.worker.work()
    add(disk.held, keys(1, 2))
    dumped = disk.save()
    [(name, path)] = disk.held.files().items()
    damaged = bytearray(path.read_bytes())
    damaged[-40] ^= 1
    path.unlink()  # the store's file may be the same one
    path.write_bytes(damaged)
    disk.open(dumped)
    assert not add(disk.held, keys(5, 1)).any()
    for copy in [path, tmp_path / "snapshots/rating/00000/files" / name]:
        copy.unlink()
        copy.write_bytes(damaged)
    with pytest.raises(SnapshotError, match=f"{name}.*is damaged.*remove the snapshots"):
        disk.open(dumped)


def test_a_full_disk_keeps_identities_in_memory_and_is_asked_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    worker = ByHand()
    held = Deduplicator(35, Place(tmp_path, in_memory_max=10, retry_seconds=0), worker)
    with full_disk(), caplog.at_level(logging.WARNING):
        for part in range(40):
            assert add(held, keys(10, part)).all()
            worker.work(100)
    assert sum("stay in memory" in message for message in caplog.messages) == 1
    assert list(tmp_path.iterdir()) == []
    assert held.file_bytes == 0
    assert len(worker) <= 1
    for _ in range(4):
        add(held, keys(10, 0))
        worker.work(100)
    assert sum("takes identities again" in message for message in caplog.messages) == 1
    assert sum(run.count for run in held._held.runs()) == 400
    for part in range(40):
        assert not add(held, keys(10, part)).any()


def test_a_disk_that_is_slow_holds_the_stream_back_and_not_the_memory(tmp_path: Path) -> None:
    worker = ByHand()
    held = Deduplicator(35, Place(tmp_path, in_memory_max=10), worker)
    for part in range(100):
        add(held, keys(10, part))
        assert len(worker) <= 5
        assert sum(len(keys) for keys, _ in held._held.in_memory().values()) <= 60


def test_a_state_on_disk_may_be_taken_up_in_memory_and_the_other_way_round(tmp_path: Path) -> None:
    disk = OnDisk(tmp_path, 35, 5)
    for part in range(9):
        add(disk.held, keys(5, part), part)
        disk.worker.work()
    dumped = msgspec.msgpack.decode(disk.save())
    assert dumped["runs"]
    memory = Deduplicator(35)
    memory.load(dumped, partial(disk.store.fetch, "rating", 0))
    assert len(memory) == len(disk.held) == 45
    assert memory.dump()["runs"] == {}
    again = Deduplicator(35, Place(tmp_path / "again", 5), ByHand())
    again.load(memory.dump())
    for part in range(9):
        assert not add(memory, keys(5, part), 8).any()
        assert not add(again, keys(5, part), 8).any()


def test_an_engine_that_was_closed_answers_no_more(tmp_path: Path) -> None:
    held = Deduplicator(35, Place(tmp_path, 5), ByHand())
    add(held, keys(5, 1))
    held.close()
    with pytest.raises(RuntimeError, match="another engine's"):
        add(held, keys(5, 1))
    assert list(tmp_path.iterdir()) == []


def test_a_broken_job_is_no_full_disk(tmp_path: Path) -> None:
    worker = ByHand()
    held = Deduplicator(35, Place(tmp_path, 5), worker)
    add(held, keys(5, 1))
    [job] = worker._jobs

    def broken(_pause: object) -> None:
        raise ZeroDivisionError

    job._make = broken  # type: ignore[assignment]
    worker.work()
    with pytest.raises(ZeroDivisionError):
        add(held, keys(1, 2))


def test_urgent_work_passes_between_the_slices_of_other_work() -> None:
    worker, order = Background(), []

    def urgent(_pause: object) -> None:
        order.append("urgent")

    def slow(pause) -> None:  # type: ignore[no-untyped-def]
        order.append("slow begins")
        worker.submit(quick)
        pause()
        order.append("slow ends")

    quick, patient = Job(urgent, is_urgent=True), Job(slow, is_urgent=False)  # type: ignore[arg-type]
    worker.submit(patient)
    worker.wait(patient)
    assert order == ["slow begins", "urgent", "slow ends"]


def test_a_folder_that_went_is_brought_from_the_snapshots(tmp_path: Path) -> None:
    disk = OnDisk(tmp_path, 35, 5)
    for part in range(9):
        add(disk.held, keys(5, part))
        disk.worker.work(100)
    dumped = disk.save()
    shutil.rmtree(tmp_path / "identities-0")
    disk.open(dumped)
    for part in range(9):
        assert not add(disk.held, keys(5, part)).any()
